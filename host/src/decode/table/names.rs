//! Calls that take the name of a file.
//!
//! Calls that make or remove a name look at the name itself: a symbolic link
//! in the last place is not followed.

use Follow::{Always, If, Never, Open, OpenHow, Unless};

use super::declare::{Follow, Spec, call, path, cwd, flags, mode, dirfd, at, sized, structs, size, node_mode, uint, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, structure, address, text, long, at_flags, buffer, text_out, int, fd, long_flags, Changes, strings, environment};

/// Longest name of an extended attribute, its NUL included.
const XATTR_NAME: usize = 256;

pub(super) static CALLS: &[Spec] = &[
    // Open, create.
    call("open", &[path("pathname", cwd(Open(1))), flags("flags", &flags::OPEN), mode("mode")]),
    call("openat", &[dirfd("dirfd"), path("pathname", at(0, Open(2))), flags("flags", &flags::OPEN), mode("mode")]),
    call("openat2", &[dirfd("dirfd"), path("pathname", at(0, OpenHow(2))), sized("how", &structs::OPEN_HOW, 3), size("size")]),
    call("creat", &[path("pathname", cwd(Always)), mode("mode")]),
    call("mknod", &[path("pathname", cwd(Never)), node_mode("mode"), uint("dev")]),
    call("mknodat", &[dirfd("dirfd"), path("pathname", at(0, Never)), node_mode("mode"), uint("dev")]),
    call("mkdir", &[path("pathname", cwd(Never)), mode("mode")]),
    call("mkdirat", &[dirfd("dirfd"), path("pathname", at(0, Never)), mode("mode")]),
    call("name_to_handle_at", &[
        dirfd("dirfd"), path("pathname", at(0, If(4, AT_SYMLINK_FOLLOW)).or_empty(4, AT_EMPTY_PATH)),
        structure("handle", &structs::FILE_HANDLE), address("mount_id"), flags("flags", &flags::HANDLE_AT),
    ]),
    call("open_by_handle_at", &[dirfd("mount_fd"), structure("handle", &structs::FILE_HANDLE), flags("flags", &flags::OPEN)]),
    call("uselib", &[path("library", cwd(Always))]),

    // Link, rename, delete. What a symbolic link holds is not looked up.
    call("link", &[path("oldpath", cwd(Never)), path("newpath", cwd(Never))]),
    call("linkat", &[
        dirfd("olddirfd"), path("oldpath", at(0, If(4, AT_SYMLINK_FOLLOW)).or_empty(4, AT_EMPTY_PATH)),
        dirfd("newdirfd"), path("newpath", at(2, Never)), flags("flags", &flags::AT),
    ]),
    call("symlink", &[text("target", 4096), path("linkpath", cwd(Never))]),
    call("symlinkat", &[text("target", 4096), dirfd("newdirfd"), path("linkpath", at(1, Never))]),
    call("rename", &[path("oldpath", cwd(Never)), path("newpath", cwd(Never))]),
    call("renameat", &[
        dirfd("olddirfd"), path("oldpath", at(0, Never)), dirfd("newdirfd"), path("newpath", at(2, Never)),
    ]),
    call("renameat2", &[
        dirfd("olddirfd"), path("oldpath", at(0, Never)), dirfd("newdirfd"), path("newpath", at(2, Never)),
        flags("flags", &flags::RENAME),
    ]),
    call("unlink", &[path("pathname", cwd(Never))]),
    call("unlinkat", &[dirfd("dirfd"), path("pathname", at(0, Never)), flags("flags", &flags::UNLINK_AT)]),
    call("rmdir", &[path("pathname", cwd(Never))]),
    call("truncate", &[path("path", cwd(Always)), long("length")]),

    // Mode, owner, times. fchmodat(2) and faccessat(2) have no flags: their C library functions do.
    call("chmod", &[path("pathname", cwd(Always)), mode("mode")]),
    call("fchmodat", &[dirfd("dirfd"), path("pathname", at(0, Always)), mode("mode")]),
    call("fchmodat2", &[dirfd("dirfd"), path("pathname", at_flags(0, 3)), mode("mode"), flags("flags", &flags::AT)]),
    call("chown", &[path("pathname", cwd(Always)), uint("owner"), uint("group")]),
    call("lchown", &[path("pathname", cwd(Never)), uint("owner"), uint("group")]),
    call("fchownat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 4)), uint("owner"), uint("group"), flags("flags", &flags::AT),
    ]),
    call("utime", &[path("filename", cwd(Always)), structure("times", &structs::UTIMBUF).optional()]),
    call("utimes", &[path("filename", cwd(Always)), structure("times", &structs::TIMEVALS).optional()]),
    call("futimesat", &[
        dirfd("dirfd"), path("pathname", at(0, Always)).optional(), structure("times", &structs::TIMEVALS).optional(),
    ]),
    call("utimensat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 3)).optional(),
        structure("times", &structs::TIMESPECS).optional(), flags("flags", &flags::AT),
    ]),

    // Extended attributes and others.
    call("setxattr", &[
        path("path", cwd(Always)), text("name", XATTR_NAME), buffer("value", 3).optional(), size("size"), flags("flags", &flags::XATTR),
    ]),
    call("lsetxattr", &[
        path("path", cwd(Never)), text("name", XATTR_NAME), buffer("value", 3).optional(), size("size"), flags("flags", &flags::XATTR),
    ]),
    call("setxattrat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 2)).optional(), flags("at_flags", &flags::AT),
        text("name", XATTR_NAME), sized("uargs", &structs::XATTR_ARGS, 5), size("usize"),
    ]),
    call("getxattr", &[path("path", cwd(Always)), text("name", XATTR_NAME), address("value"), size("size")]),
    call("lgetxattr", &[path("path", cwd(Never)), text("name", XATTR_NAME), address("value"), size("size")]),
    call("getxattrat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 2)).optional(), flags("at_flags", &flags::AT),
        text("name", XATTR_NAME), sized("uargs", &structs::XATTR_ARGS, 5), size("usize"),
    ]),
    call("listxattr", &[path("path", cwd(Always)), address("list"), size("size")]),
    call("llistxattr", &[path("path", cwd(Never)), address("list"), size("size")]),
    call("listxattrat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 2)).optional(), flags("at_flags", &flags::AT),
        address("list"), size("size"),
    ]),
    call("removexattr", &[path("path", cwd(Always)), text("name", XATTR_NAME)]),
    call("lremovexattr", &[path("path", cwd(Never)), text("name", XATTR_NAME)]),
    call("removexattrat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 2)).optional(), flags("at_flags", &flags::AT), text("name", XATTR_NAME),
    ]),
    call("file_getattr", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 4)).optional(), address("ufattr"), size("usize"), flags("at_flags", &flags::AT),
    ]),
    call("file_setattr", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 4)).optional(), sized("ufattr", &structs::FILE_ATTR, 3),
        size("usize"), flags("at_flags", &flags::AT),
    ]),

    // Look. readlinkat(2) takes an empty name without a flag.
    call("stat", &[path("pathname", cwd(Always)), address("statbuf")]),
    call("lstat", &[path("pathname", cwd(Never)), address("statbuf")]),
    call("newfstatat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 3)).optional(), address("statbuf"), flags("flags", &flags::AT),
    ]),
    call("statx", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 2)).optional(), flags("flags", &flags::STATX_AT),
        flags("mask", &flags::STATX), address("statxbuf"),
    ]),
    call("access", &[path("pathname", cwd(Always)), flags("mode", &flags::ACCESS)]),
    call("faccessat", &[dirfd("dirfd"), path("pathname", at(0, Always)), flags("mode", &flags::ACCESS)]),
    call("faccessat2", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 3)), flags("mode", &flags::ACCESS), flags("flags", &flags::ACCESS_AT),
    ]),
    call("readlink", &[path("pathname", cwd(Never)), text_out("buf"), int("bufsiz")]),
    call("readlinkat", &[
        dirfd("dirfd"), path("pathname", at(0, Never).or_empty(1, 0)), text_out("buf"), int("bufsiz"),
    ]),
    call("statfs", &[path("path", cwd(Always)), address("buf")]),
    call("inotify_add_watch", &[fd("fd"), path("pathname", cwd(Unless(2, 0x0200_0000))), flags("mask", &flags::INOTIFY)]),
    call("fanotify_mark", &[
        fd("fanotify_fd"), flags("flags", &flags::FANOTIFY_MARK), long_flags("mask", &flags::FANOTIFY_EVENT),
        dirfd("dirfd"), path("pathname", at(3, Unless(1, 4))).optional(),
    ]),

    // Working directory and root.
    call("chdir", &[path("path", cwd(Always))]).changing(Changes::FileSystem),
    call("fchdir", &[fd("fd")]).changing(Changes::FileSystem),
    call("chroot", &[path("path", cwd(Always))]).changing(Changes::FileSystem),
    call("getcwd", &[text_out("buf"), size("size")]),

    // Run a program.
    call("execve", &[path("pathname", cwd(Always)), strings("argv").optional(), environment("envp").optional()]),
    call("execveat", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 4)), strings("argv").optional(), environment("envp").optional(),
        flags("flags", &flags::EXEC_AT),
    ]),
];
