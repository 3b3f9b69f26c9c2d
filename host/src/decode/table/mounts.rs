//! Calls about mounts, swap and quotas.

use Follow::{Always, If, Unless};

use super::declare::{Follow, Spec, call, path, cwd, text, long_flags, flags, Changes, dirfd, at_flags, sized, structs, size, at, fd, int, structure, address, uint};

pub(super) static CALLS: &[Spec] = &[
    // `source` is a file for a bind mount and most file systems on a device, and any word for the others.
    call("mount", &[
        path("source", cwd(Always)).optional(), path("target", cwd(Always)), text("filesystemtype", 4096).optional(),
        long_flags("mountflags", &flags::MOUNT), text("data", 4096).optional(),
    ]).changing(Changes::FileSystem),
    call("umount2", &[path("target", cwd(Unless(1, 8))), flags("flags", &flags::UMOUNT)]).changing(Changes::FileSystem),
    call("pivot_root", &[path("new_root", cwd(Always)), path("put_old", cwd(Always))]).changing(Changes::FileSystem),
    call("open_tree", &[dirfd("dirfd"), path("pathname", at_flags(0, 2)), flags("flags", &flags::OPEN_TREE)]),
    call("open_tree_attr", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 2)), flags("flags", &flags::OPEN_TREE),
        sized("attr", &structs::MOUNT_ATTRIBUTES, 4).optional(), size("size"),
    ]),
    call("move_mount", &[
        dirfd("from_dirfd"), path("from_pathname", at(0, If(4, 1)).or_empty(4, 4)).optional(),
        dirfd("to_dirfd"), path("to_pathname", at(2, If(4, 0x10)).or_empty(4, 0x40)).optional(),
        flags("flags", &flags::MOVE_MOUNT),
    ]).changing(Changes::FileSystem),
    call("fsopen", &[text("fsname", 4096), flags("flags", &flags::FSOPEN)]).changing(Changes::FileSystem),
    // What `value` is depends on `cmd`: text, a name from descriptor `aux`, or data of `aux` bytes.
    call("fsconfig", &[
        fd("fd"), flags("cmd", &flags::FSCONFIG), text("key", 256).optional(), text("value", 4096).optional(), int("aux"),
    ]),
    call("fsmount", &[fd("fsfd"), flags("flags", &flags::FSMOUNT), flags("attr_flags", &flags::MOUNT_ATTR)]),
    call("fspick", &[dirfd("dirfd"), path("pathname", at(0, Unless(2, 2)).or_empty(2, 8)), flags("flags", &flags::FSPICK)]),
    call("mount_setattr", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 2)), flags("flags", &flags::AT),
        sized("attr", &structs::MOUNT_ATTRIBUTES, 4), size("size"),
    ]),
    call("statmount", &[structure("req", &structs::MNT_ID_REQ), address("buf"), size("bufsize"), uint("flags")]),
    call("listmount", &[structure("req", &structs::MNT_ID_REQ), address("mnt_ids"), size("nr_mnt_ids"), uint("flags")]),
    call("swapon", &[path("path", cwd(Always)), flags("swapflags", &flags::SWAPON)]),
    call("swapoff", &[path("path", cwd(Always))]),
    call("quotactl", &[flags("op", &flags::QUOTA), path("special", cwd(Always)).optional(), uint("id"), address("addr")]),
    call("quotactl_fd", &[fd("fd"), flags("op", &flags::QUOTA), uint("id"), address("addr")]),
];
