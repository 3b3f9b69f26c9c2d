//! Which calls the rules need to see.
//!
//! As few as can be: a call that is not here runs at native speed. As many
//! as must be: one that is missing here is a way around the rules.

use plugin_sdk::constants::{O_ACCMODE, O_CREAT, O_PATH, O_RDONLY, O_TRUNC, O_WRONLY};
use plugin_sdk::prelude::*;
use plugin_sdk::subscription::Calls;

use crate::rules::{READS, Rules, WRITES};

/// The group tells of files by handles (linux/fanotify.h).
const FAN_REPORT_FID: u64 = 0x200;
const FAN_REPORT_DIR_FID: u64 = 0x400;
/// It tells of mounts.
const FAN_REPORT_MNT: u64 = 0x4000;

/// Bits of an ioctl's request that say what it is; the others are the size of
/// its structure, which differs from one architecture to another.
const TYPE_AND_NUMBER: u64 = 0xffff;

/// By which a file system hands out files without their names, or under others:
/// `XFS_IOC_OPEN_BY_HANDLE` (`fs/xfs/libxfs/xfs_fs.h`); `BTRFS_IOC_SNAP_CREATE`
/// and its second version, `BTRFS_IOC_TREE_SEARCH`, `BTRFS_IOC_SEND`, and
/// `BTRFS_IOC_SNAP_DESTROY` and its second version (linux/btrfs.h);
/// `BCH_IOCTL_SUBVOLUME_CREATE` and `_DESTROY` (bcachefs).
const REQUESTS: [u64; 9] = [0x586b, 0x9401, 0x9417, 0x9411, 0x9426, 0x940f, 0x943f, 0xbc10, 0xbc11];
/// `OCFS2_IOC_REFLINK` (`fs/ocfs2/ocfs2_ioctl.h`), which shares its type and
/// number with another of flash memory.
const REFLINK: u64 = 0x4018_6f04;

/// The subscription for these rules.
pub(crate) fn to(rules: &Rules) -> Subscription {
    let reads = rules.any_against(READS.and(Access::READ));
    let writes = rules.any_against(WRITES.and(Access::WRITE));
    let denies = rules.all().iter().any(|rule| rule.deny.is_some());

    let lane = if denies { Subscription::gate() } else { Subscription::observe() };
    let mut subscription = lane
        .on(opens(entry("open"), 1, reads, writes))
        .on(opens(entry("openat"), 2, reads, writes))
        // Its flags are in memory, where no filter looks.
        .on(entry("openat2"))
        // Another name for a file or a tree of them, against reading as well.
        .on(entries(["rename", "renameat", "renameat2", "link", "linkat"]))
        .on(entries(["mount", "open_tree", "open_tree_attr", "move_mount", "pivot_root", "fsconfig"]))
        // Files without names.
        // With `O_PATH` too: the descriptor can be opened anew.
        .on(opens(entry("open_by_handle_at"), 2, reads, writes).when(arg(2).any_of(O_PATH)))
        .on(REQUESTS.iter().fold(entry("ioctl").when(arg(1).int().eq(REFLINK)), |ioctl, request| {
            ioctl.when(arg(1).masked(TYPE_AND_NUMBER).eq(*request))
        }))
        // What only tells which files were used hands out none.
        .on(entry("fanotify_init").when(arg(0).masked(FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_MNT).eq(0)))
        .on(entry("io_uring_setup"))
        .on(entry("swapon"));
    if reads {
        subscription = subscription.on(entries(["execve", "execveat", "uselib"]));
    }
    if writes {
        subscription = subscription
            .on(entries(["creat", "truncate", "truncate64", "acct"]))
            .on(entries([
                "unlink",
                "unlinkat",
                "rmdir",
                "mkdir",
                "mkdirat",
                "mknod",
                "mknodat",
                "symlink",
                "symlinkat",
            ]))
            .on(entries(["chmod", "fchmod", "fchmodat", "fchmodat2"]))
            .on(entries(["chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32"]))
            .on(entries(["setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"]))
            .on(entries(["setxattrat", "removexattrat", "file_setattr"]))
            .on(entries(["utime", "utimes", "futimesat", "utimensat", "utimensat_time64"]))
            .on(entries(["umount", "umount2", "mount_setattr"]));
    }
    subscription
}

/// The opens that matter, told by their flags. With `O_PATH` a descriptor
/// neither reads nor writes, and the kernel ignores `O_CREAT` and `O_TRUNC`.
fn opens(calls: Calls, flags: u8, reads: bool, writes: bool) -> Calls {
    let contents = || arg(flags).masked(O_PATH).eq(0);
    match (reads, writes) {
        (true, true) => calls.when(contents()),
        (true, false) => calls.when(contents().and(arg(flags).masked(O_ACCMODE).ne(O_WRONLY))),
        (false, _) => calls
            .when(contents().and(arg(flags).masked(O_ACCMODE).ne(O_RDONLY)))
            .when(contents().and(arg(flags).any_of(O_CREAT | O_TRUNC))),
    }
}
