//! Calls about processes: birth, death, signals, tracing, credentials, limits.

use super::declare::{Spec, call, long_flags, flags, address, sized, structs, size, int, signal, fd, uint, vectors, Changes, structure, mode, buffer};

pub(super) static CALLS: &[Spec] = &[
    // Birth and death.
    call("fork", &[]),
    call("vfork", &[]),
    call("clone", &[
        long_flags("flags", &flags::CLONE), address("stack"), address("parent_tid"), address("child_tid"), address("tls"),
    ]),
    call("clone3", &[sized("cl_args", &structs::CLONE_ARGS, 1), size("size")]),
    call("exit", &[int("status")]),
    call("exit_group", &[int("status")]),
    call("wait4", &[int("pid"), address("wstatus"), flags("options", &flags::WAIT), address("rusage")]),
    call("waitid", &[
        flags("idtype", &flags::WAIT_ID), int("id"), address("infop"), flags("options", &flags::WAIT), address("rusage"),
    ]),
    call("setsid", &[]),
    call("setpgid", &[int("pid"), int("pgid")]),
    call("getpgid", &[int("pid")]),
    call("getsid", &[int("pid")]),
    call("getpid", &[]),
    call("getppid", &[]),
    call("gettid", &[]),

    // Signals and other processes.
    call("kill", &[int("pid"), signal("sig")]),
    call("tkill", &[int("tid"), signal("sig")]),
    call("tgkill", &[int("tgid"), int("tid"), signal("sig")]),
    call("rt_sigqueueinfo", &[int("tgid"), signal("sig"), address("info")]),
    call("rt_tgsigqueueinfo", &[int("tgid"), int("tid"), signal("sig"), address("info")]),
    call("rt_sigaction", &[signal("signum"), address("act"), address("oldact"), size("sigsetsize")]),
    call("pidfd_open", &[int("pid"), flags("flags", &flags::PIDFD_OPEN)]),
    call("pidfd_getfd", &[fd("pidfd"), int("targetfd"), uint("flags")]),
    call("pidfd_send_signal", &[fd("pidfd"), signal("sig"), address("info"), flags("flags", &flags::PIDFD_SIGNAL)]),
    call("ptrace", &[flags("request", &flags::PTRACE), int("pid"), address("addr"), address("data")]),
    call("process_vm_readv", &[
        int("pid"), address("local_iov"), size("liovcnt"), address("remote_iov"), size("riovcnt"), size("flags"),
    ]),
    call("process_vm_writev", &[
        int("pid"), vectors("local_iov", 2), size("liovcnt"), address("remote_iov"), size("riovcnt"), size("flags"),
    ]),
    call("process_madvise", &[
        fd("pidfd"), address("iovec"), size("vlen"), flags("advice", &flags::MADVISE), uint("flags"),
    ]),
    call("process_mrelease", &[fd("pidfd"), uint("flags")]),
    call("kcmp", &[int("pid1"), int("pid2"), int("type"), size("idx1"), size("idx2")]),

    // Credentials.
    call("setuid", &[uint("uid")]).changing(Changes::Credentials),
    call("setgid", &[uint("gid")]).changing(Changes::Credentials),
    call("setreuid", &[uint("ruid"), uint("euid")]).changing(Changes::Credentials),
    call("setregid", &[uint("rgid"), uint("egid")]).changing(Changes::Credentials),
    call("setresuid", &[uint("ruid"), uint("euid"), uint("suid")]).changing(Changes::Credentials),
    call("setresgid", &[uint("rgid"), uint("egid"), uint("sgid")]).changing(Changes::Credentials),
    call("setfsuid", &[uint("fsuid")]).changing(Changes::Credentials),
    call("setfsgid", &[uint("fsgid")]).changing(Changes::Credentials),
    call("setgroups", &[int("size"), address("list")]).changing(Changes::Credentials),
    call("capset", &[structure("hdrp", &structs::CAP_HEADER), structure("datap", &structs::CAP_DATA)])
        .changing(Changes::Credentials),
    call("capget", &[structure("hdrp", &structs::CAP_HEADER), address("datap")]),
    call("getuid", &[]),
    call("geteuid", &[]),
    call("getgid", &[]),
    call("getegid", &[]),
    call("umask", &[mode("mask")]),

    // Namespaces and confinement.
    call("unshare", &[long_flags("flags", &flags::NAMESPACES)]).changing(Changes::FileSystem),
    call("setns", &[fd("fd"), flags("nstype", &flags::NAMESPACES)]).changing(Changes::FileSystem),
    call("seccomp", &[flags("operation", &flags::SECCOMP), flags("flags", &flags::SECCOMP_FILTER), address("args")]),
    call("prctl", &[flags("option", &flags::PRCTL), size("arg2"), size("arg3"), size("arg4"), size("arg5")]),
    call("arch_prctl", &[flags("code", &flags::ARCH_PRCTL), address("addr")]),
    call("landlock_create_ruleset", &[
        sized("attr", &structs::LANDLOCK_RULESET, 1).optional(), size("size"), flags("flags", &flags::LANDLOCK_CREATE),
    ]),
    call("landlock_add_rule", &[
        fd("ruleset_fd"), flags("rule_type", &flags::LANDLOCK_RULE), structure("rule_attr", &structs::LANDLOCK_RULE), uint("flags"),
    ]),
    call("landlock_restrict_self", &[fd("ruleset_fd"), flags("flags", &flags::LANDLOCK_RESTRICT)]),

    // Limits and scheduling.
    call("setrlimit", &[flags("resource", &flags::RLIMIT), structure("rlim", &structs::RLIMIT)]),
    call("getrlimit", &[flags("resource", &flags::RLIMIT), address("rlim")]),
    call("prlimit64", &[
        int("pid"), flags("resource", &flags::RLIMIT), structure("new_limit", &structs::RLIMIT64).optional(), address("old_limit"),
    ]),
    call("setpriority", &[flags("which", &flags::PRIORITY), int("who"), int("prio")]),
    call("getpriority", &[flags("which", &flags::PRIORITY), int("who")]),
    call("sched_setaffinity", &[int("pid"), uint("cpusetsize"), buffer("mask", 1)]),
    call("sched_getaffinity", &[int("pid"), uint("cpusetsize"), address("mask")]),
    call("sched_setscheduler", &[int("pid"), flags("policy", &flags::SCHEDULER), structure("param", &structs::SCHED_PARAM)]),
    call("sched_setparam", &[int("pid"), structure("param", &structs::SCHED_PARAM)]),
];

/// clone(2) of architectures with `CONFIG_CLONE_BACKWARDS`, i386 and `AArch64`
/// among them: the last two arguments have changed places.
pub(super) static CLONE_BACKWARDS: &[Spec] = &[call("clone", &[
    long_flags("flags", &flags::CLONE), address("stack"), address("parent_tid"), address("tls"), address("child_tid"),
])];
