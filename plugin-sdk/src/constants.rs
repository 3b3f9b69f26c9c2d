//! Linux flags that plugins compare with, as `u64` because registers are.
//!
//! Values are those of x86-64. The ones that differ on `AArch64` are
//! `O_DIRECTORY` (`0o40000`), `O_NOFOLLOW` (`0o100000`), `O_DIRECT`
//! (`0o200000`), `O_LARGEFILE` (`0o400000`) and, with `O_DIRECTORY` in it,
//! `O_TMPFILE` (`0o20040000`); [`crate::call::Open`] knows which to use.

#![allow(missing_docs, reason = "the manual page named above each group documents them")]

macro_rules! constants {
    ($($name:ident = $value:expr;)*) => { $(pub const $name: u64 = $value;)* };
}

// open(2)
constants! {
    O_ACCMODE = 0o3; O_RDONLY = 0; O_WRONLY = 1; O_RDWR = 2;
    O_CREAT = 0o100; O_EXCL = 0o200; O_NOCTTY = 0o400; O_TRUNC = 0o1000; O_APPEND = 0o2000;
    O_NONBLOCK = 0o4000; O_DSYNC = 0o10000; O_DIRECT = 0o40000; O_LARGEFILE = 0o100_000;
    O_DIRECTORY = 0o200_000; O_NOFOLLOW = 0o400_000; O_NOATIME = 0o1_000_000; O_CLOEXEC = 0o2_000_000;
    O_SYNC = 0o4_010_000; O_PATH = 0o10_000_000; O_TMPFILE = 0o20_200_000;
}
// openat2(2)
constants! {
    RESOLVE_NO_XDEV = 0x01; RESOLVE_NO_MAGICLINKS = 0x02; RESOLVE_NO_SYMLINKS = 0x04;
    RESOLVE_BENEATH = 0x08; RESOLVE_IN_ROOT = 0x10; RESOLVE_CACHED = 0x20;
}
// The *at calls. AT_FDCWD is a number, not a flag.
constants! {
    AT_SYMLINK_NOFOLLOW = 0x100; AT_EACCESS = 0x200; AT_REMOVEDIR = 0x200; AT_SYMLINK_FOLLOW = 0x400;
    AT_NO_AUTOMOUNT = 0x800; AT_EMPTY_PATH = 0x1000; AT_RECURSIVE = 0x8000;
}
/// Stands for the working directory where a descriptor is asked for.
pub const AT_FDCWD: i32 = -100;
// renameat2(2)
constants! { RENAME_NOREPLACE = 1; RENAME_EXCHANGE = 2; RENAME_WHITEOUT = 4; }
// mknod(2), inode(7)
constants! {
    S_IFMT = 0o170_000; S_IFSOCK = 0o140_000; S_IFREG = 0o100_000; S_IFBLK = 0o060_000; S_IFCHR = 0o020_000; S_IFIFO = 0o010_000;
    S_ISUID = 0o4000; S_ISGID = 0o2000; S_ISVTX = 0o1000;
}
// mmap(2), mprotect(2)
constants! {
    PROT_NONE = 0; PROT_READ = 1; PROT_WRITE = 2; PROT_EXEC = 4;
    MAP_SHARED = 0x01; MAP_PRIVATE = 0x02; MAP_SHARED_VALIDATE = 0x03; MAP_TYPE = 0x0f; MAP_FIXED = 0x10;
    MAP_ANONYMOUS = 0x20; MAP_GROWSDOWN = 0x100; MAP_LOCKED = 0x2000; MAP_HUGETLB = 0x4_0000;
    MAP_FIXED_NOREPLACE = 0x10_0000;
    MFD_CLOEXEC = 1; MFD_ALLOW_SEALING = 2; MFD_HUGETLB = 4; MFD_NOEXEC_SEAL = 8; MFD_EXEC = 0x10;
}
// clone(2), unshare(2), setns(2)
constants! {
    CLONE_NEWTIME = 0x80; CLONE_VM = 0x100; CLONE_FS = 0x200; CLONE_FILES = 0x400; CLONE_SIGHAND = 0x800;
    CLONE_PIDFD = 0x1000; CLONE_PTRACE = 0x2000; CLONE_VFORK = 0x4000; CLONE_PARENT = 0x8000;
    CLONE_THREAD = 0x1_0000; CLONE_NEWNS = 0x2_0000; CLONE_SYSVSEM = 0x4_0000; CLONE_SETTLS = 0x8_0000;
    CLONE_UNTRACED = 0x80_0000; CLONE_NEWCGROUP = 0x200_0000; CLONE_NEWUTS = 0x400_0000;
    CLONE_NEWIPC = 0x800_0000; CLONE_NEWUSER = 0x1000_0000; CLONE_NEWPID = 0x2000_0000;
    CLONE_NEWNET = 0x4000_0000; CLONE_IO = 0x8000_0000; CLONE_INTO_CGROUP = 0x2_0000_0000;
}
// ptrace(2)
constants! {
    PTRACE_TRACEME = 0; PTRACE_PEEKTEXT = 1; PTRACE_PEEKDATA = 2; PTRACE_POKETEXT = 4; PTRACE_POKEDATA = 5;
    PTRACE_CONT = 7; PTRACE_KILL = 8; PTRACE_ATTACH = 16; PTRACE_DETACH = 17; PTRACE_SEIZE = 0x4206;
}
// socket(2), address_families(7)
constants! {
    AF_UNSPEC = 0; AF_UNIX = 1; AF_INET = 2; AF_INET6 = 10; AF_NETLINK = 16; AF_PACKET = 17; AF_ALG = 38; AF_VSOCK = 40;
    SOCK_STREAM = 1; SOCK_DGRAM = 2; SOCK_RAW = 3; SOCK_SEQPACKET = 5; SOCK_TYPE_MASK = 0xf;
    SOCK_NONBLOCK = 0o4000; SOCK_CLOEXEC = 0o2_000_000;
    MSG_OOB = 1; MSG_PEEK = 2; MSG_DONTROUTE = 4; MSG_DONTWAIT = 0x40; MSG_NOSIGNAL = 0x4000; MSG_FASTOPEN = 0x2000_0000;
}
// mount(2), open_tree(2), fsconfig(2)
constants! {
    MS_RDONLY = 1; MS_NOSUID = 2; MS_NODEV = 4; MS_NOEXEC = 8; MS_REMOUNT = 32; MS_BIND = 4096; MS_MOVE = 8192;
    MS_REC = 16384; MS_UNBINDABLE = 1 << 17; MS_PRIVATE = 1 << 18; MS_SLAVE = 1 << 19; MS_SHARED = 1 << 20;
    OPEN_TREE_CLONE = 1;
}
// capabilities(7): bit numbers of `process.capabilities`.
constants! {
    CAP_CHOWN = 0; CAP_DAC_OVERRIDE = 1; CAP_DAC_READ_SEARCH = 2; CAP_FOWNER = 3; CAP_KILL = 5; CAP_SETGID = 6;
    CAP_SETUID = 7; CAP_NET_BIND_SERVICE = 10; CAP_NET_ADMIN = 12; CAP_NET_RAW = 13; CAP_SYS_MODULE = 16;
    CAP_SYS_RAWIO = 17; CAP_SYS_CHROOT = 18; CAP_SYS_PTRACE = 19; CAP_SYS_ADMIN = 21; CAP_SYS_BOOT = 22;
    CAP_SYS_TIME = 25; CAP_MKNOD = 27; CAP_PERFMON = 38; CAP_BPF = 39;
}
// signal(7)
constants! {
    SIGHUP = 1; SIGINT = 2; SIGQUIT = 3; SIGABRT = 6; SIGKILL = 9; SIGUSR1 = 10; SIGSEGV = 11; SIGUSR2 = 12;
    SIGPIPE = 13; SIGALRM = 14; SIGTERM = 15; SIGCHLD = 17; SIGCONT = 18; SIGSTOP = 19;
}
