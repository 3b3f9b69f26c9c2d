//! What i386 has differently or alone: 16-bit ids, 64-bit numbers in two
//! registers, calls with their arguments in memory.
//!
//! Where its own table (`arch/x86/entry/syscalls/syscall_32.tbl`) leads to the
//! same function as on x86-64 there is nothing to say here.

use Follow::{Always, Never, Unless};

use super::declare::{Follow, Spec, call, path, cwd, ushort, fd, uint, Changes, int, address, dirfd, at_flags, flags, size, structure, structs, buffer, at, long_flags, long};

pub(super) static CALLS: &[Spec] = &[
    // 16-bit ids, and the same calls with 32 bits.
    call("chown", &[path("pathname", cwd(Always)), ushort("owner"), ushort("group")]),
    call("lchown", &[path("pathname", cwd(Never)), ushort("owner"), ushort("group")]),
    call("fchown", &[fd("fd"), ushort("owner"), ushort("group")]),
    call("chown32", &[path("pathname", cwd(Always)), uint("owner"), uint("group")]),
    call("lchown32", &[path("pathname", cwd(Never)), uint("owner"), uint("group")]),
    call("fchown32", &[fd("fd"), uint("owner"), uint("group")]),
    call("setuid", &[ushort("uid")]).changing(Changes::Credentials),
    call("setgid", &[ushort("gid")]).changing(Changes::Credentials),
    call("setreuid", &[ushort("ruid"), ushort("euid")]).changing(Changes::Credentials),
    call("setregid", &[ushort("rgid"), ushort("egid")]).changing(Changes::Credentials),
    call("setresuid", &[ushort("ruid"), ushort("euid"), ushort("suid")]).changing(Changes::Credentials),
    call("setresgid", &[ushort("rgid"), ushort("egid"), ushort("sgid")]).changing(Changes::Credentials),
    call("setfsuid", &[ushort("fsuid")]).changing(Changes::Credentials),
    call("setfsgid", &[ushort("fsgid")]).changing(Changes::Credentials),
    call("setuid32", &[uint("uid")]).changing(Changes::Credentials),
    call("setgid32", &[uint("gid")]).changing(Changes::Credentials),
    call("setreuid32", &[uint("ruid"), uint("euid")]).changing(Changes::Credentials),
    call("setregid32", &[uint("rgid"), uint("egid")]).changing(Changes::Credentials),
    call("setresuid32", &[uint("ruid"), uint("euid"), uint("suid")]).changing(Changes::Credentials),
    call("setresgid32", &[uint("rgid"), uint("egid"), uint("sgid")]).changing(Changes::Credentials),
    call("setfsuid32", &[uint("fsuid")]).changing(Changes::Credentials),
    call("setfsgid32", &[uint("fsgid")]).changing(Changes::Credentials),
    call("setgroups32", &[int("size"), address("list")]).changing(Changes::Credentials),

    // Other structures behind the same arguments.
    call("oldstat", &[path("pathname", cwd(Always)), address("statbuf")]),
    call("oldlstat", &[path("pathname", cwd(Never)), address("statbuf")]),
    call("oldfstat", &[fd("fd"), address("statbuf")]),
    call("stat64", &[path("pathname", cwd(Always)), address("statbuf")]),
    call("lstat64", &[path("pathname", cwd(Never)), address("statbuf")]),
    call("fstat64", &[fd("fd"), address("statbuf")]),
    call("fstatat64", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 3)).optional(), address("statbuf"), flags("flags", &flags::AT),
    ]),
    call("statfs64", &[path("path", cwd(Always)), size("sz"), address("buf")]),
    call("fstatfs64", &[fd("fd"), size("sz"), address("buf")]),
    call("fcntl64", &[fd("fd"), flags("cmd", &flags::FCNTL), size("arg")]),
    call("umount", &[path("target", cwd(Always))]).changing(Changes::FileSystem),
    call("waitpid", &[int("pid"), address("wstatus"), flags("options", &flags::WAIT)]),
    call("ugetrlimit", &[flags("resource", &flags::RLIMIT), address("rlim")]),
    call("stime", &[address("t")]),
    call("sendfile64", &[fd("out_fd"), fd("in_fd"), structure("offset", &structs::OFFSET).optional(), size("count")]),

    // 64-bit numbers in two registers, the low half first.
    call("truncate64", &[path("path", cwd(Always)), uint("length_lo"), uint("length_hi")]),
    call("ftruncate64", &[fd("fd"), uint("length_lo"), uint("length_hi")]),
    call("pread64", &[fd("fd"), address("buf"), size("count"), uint("offset_lo"), uint("offset_hi")]),
    call("pwrite64", &[fd("fd"), buffer("buf", 2), size("count"), uint("offset_lo"), uint("offset_hi")]),
    call("fallocate", &[
        fd("fd"), flags("mode", &flags::FALLOCATE), uint("offset_lo"), uint("offset_hi"), uint("len_lo"), uint("len_hi"),
    ]),
    call("_llseek", &[fd("fd"), uint("offset_hi"), uint("offset_lo"), address("result"), flags("whence", &flags::SEEK)]),
    call("fanotify_mark", &[
        fd("fanotify_fd"), flags("flags", &flags::FANOTIFY_MARK), flags("mask_lo", &flags::FANOTIFY_EVENT),
        uint("mask_hi"), dirfd("dirfd"), path("pathname", at(4, Unless(1, 4))).optional(),
    ]),

    // Arguments in memory; their number depends on the call.
    call("mmap", &[structure("args", &structs::MMAP_ARGS)]),
    call("mmap2", &[
        address("addr"), size("length"), long_flags("prot", &flags::PROT), long_flags("flags", &flags::MMAP), fd("fd"), size("pgoffset"),
    ]),
    call("socketcall", &[flags("call", &flags::SOCKETCALL), address("args")]),
    call("ipc", &[uint("call"), int("first"), size("second"), size("third"), address("ptr"), long("fifth")]),

    // 64-bit time.
    call("clock_settime64", &[flags("clockid", &flags::CLOCK), structure("tp", &structs::TIMESPEC64)]),
    call("clock_adjtime64", &[flags("clockid", &flags::CLOCK), structure("buf", &structs::TIMEX)]),
    call("clock_nanosleep_time64", &[
        flags("clockid", &flags::CLOCK), flags("flags", &flags::TIMER), structure("request", &structs::TIMESPEC64), address("remain"),
    ]),
    call("utimensat_time64", &[
        dirfd("dirfd"), path("pathname", at_flags(0, 3)).optional(),
        structure("times", &structs::TIMESPECS64).optional(), flags("flags", &flags::AT),
    ]),
    call("recvmmsg_time64", &[
        fd("sockfd"), address("msgvec"), uint("vlen"), flags("flags", &flags::MSG), structure("timeout", &structs::TIMESPEC64).optional(),
    ]),
];
