//! Calls about the machine and the kernel: modules, BPF, keys, `io_uring`,
//! clocks, ports, reboot.

use Follow::Always;

use super::declare::{Follow, Spec, call, buffer, size, text, fd, flags, address, long_flags, uint, structure, structs, int, path, cwd};

pub(super) static CALLS: &[Spec] = &[
    // Code in the kernel.
    call("init_module", &[buffer("module_image", 1), size("len"), text("param_values", 4096)]),
    call("finit_module", &[fd("fd"), text("param_values", 4096), flags("flags", &flags::MODULE_INIT)]),
    call("delete_module", &[text("name", 56), flags("flags", &flags::DELETE_MODULE)]),
    call("kexec_load", &[address("entry"), size("nr_segments"), address("segments"), long_flags("flags", &flags::KEXEC)]),
    call("kexec_file_load", &[
        fd("kernel_fd"), fd("initrd_fd"), size("cmdline_len"), buffer("cmdline", 2).optional(), long_flags("flags", &flags::KEXEC_FILE),
    ]),
    call("bpf", &[flags("cmd", &flags::BPF), address("attr"), uint("size")]),
    call("perf_event_open", &[
        structure("attr", &structs::PERF_EVENT_ATTR), int("pid"), int("cpu"), fd("group_fd"), long_flags("flags", &flags::PERF),
    ]),

    // Keys.
    call("add_key", &[
        text("type", 32), text("description", 4096).optional(), buffer("payload", 3).optional(), size("plen"), flags("keyring", &flags::KEYRING),
    ]),
    call("request_key", &[
        text("type", 32), text("description", 4096), text("callout_info", 4096).optional(), flags("dest_keyring", &flags::KEYRING),
    ]),
    call("keyctl", &[flags("operation", &flags::KEYCTL), size("arg2"), size("arg3"), size("arg4"), size("arg5")]),

    // io_uring, whose requests are calls that no tracer sees.
    call("io_uring_setup", &[uint("entries"), structure("params", &structs::IO_URING_PARAMS)]),
    call("io_uring_enter", &[
        fd("fd"), uint("to_submit"), uint("min_complete"), flags("flags", &flags::IO_URING_ENTER), address("argp"), size("argsz"),
    ]),
    call("io_uring_register", &[fd("fd"), flags("opcode", &flags::IO_URING_REGISTER), address("arg"), uint("nr_args")]),

    // Clocks.
    call("clock_settime", &[flags("clockid", &flags::CLOCK), structure("tp", &structs::TIMESPEC)]),
    call("clock_gettime", &[flags("clockid", &flags::CLOCK), address("tp")]),
    call("clock_adjtime", &[flags("clockid", &flags::CLOCK), structure("buf", &structs::TIMEX)]),
    call("adjtimex", &[structure("buf", &structs::TIMEX)]),
    call("settimeofday", &[structure("tv", &structs::TIMEVAL).optional(), structure("tz", &structs::TIMEZONE).optional()]),
    call("nanosleep", &[structure("req", &structs::TIMESPEC), address("rem")]),
    call("clock_nanosleep", &[
        flags("clockid", &flags::CLOCK), flags("flags", &flags::TIMER), structure("request", &structs::TIMESPEC), address("remain"),
    ]),

    // The machine.
    call("reboot", &[
        flags("magic", &flags::REBOOT_MAGIC1), flags("magic2", &flags::REBOOT_MAGIC2), flags("op", &flags::REBOOT), address("arg"),
    ]),
    call("sethostname", &[buffer("name", 1), int("len")]),
    call("setdomainname", &[buffer("name", 1), int("len")]),
    call("acct", &[path("filename", cwd(Always)).optional()]),
    call("syslog", &[flags("type", &flags::SYSLOG), address("bufp"), int("len")]),
    call("iopl", &[uint("level")]),
    call("ioperm", &[size("from"), size("num"), int("turn_on")]),
    call("vhangup", &[]),
    call("getrandom", &[address("buf"), size("buflen"), flags("flags", &flags::GETRANDOM)]),
    call("uname", &[address("buf")]),
    call("sync", &[]),
];
