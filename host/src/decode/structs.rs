//! Structures that calls take: their numbers, at the offsets that they have
//! on 64-bit architectures.
//!
//! A structure that has pointers or differs on i386 in more than the width of
//! `long` is not here; its argument is shown as an address.

use super::flags;
use super::spec::{FlagSet, Show, StructField, StructSpec};

const fn number(name: &'static str, offset: u16, size: u8) -> StructField {
    StructField { name, offset, size, show: Show::Unsigned }
}
const fn signed(name: &'static str, offset: u16, size: u8) -> StructField {
    StructField { name, offset, size, show: Show::Signed }
}
const fn hex(name: &'static str, offset: u16, size: u8) -> StructField {
    StructField { name, offset, size, show: Show::Hex }
}
const fn octal(name: &'static str, offset: u16, size: u8) -> StructField {
    StructField { name, offset, size, show: Show::Octal }
}
const fn named(name: &'static str, offset: u16, size: u8, set: &'static FlagSet) -> StructField {
    StructField { name, offset, size, show: Show::Flags(set) }
}

macro_rules! structs {
    ($($(#[$doc:meta])* $spec:ident: $name:literal, $longs:literal, [$($field:expr),* $(,)?];)*) => {
        $(
            $(#[$doc])*
            pub(super) static $spec: StructSpec = StructSpec { name: $name, fields: &[$($field),*], longs: $longs };
        )*
    };
}

structs! {
    /// openat2(2).
    OPEN_HOW: "open_how", false, [
        named("flags", 0, 8, &flags::OPEN), octal("mode", 8, 8), named("resolve", 16, 8, &flags::RESOLVE),
    ];

    /// clone3(2).
    CLONE_ARGS: "clone_args", false, [
        named("flags", 0, 8, &flags::CLONE3), hex("pidfd", 8, 8), hex("child_tid", 16, 8), hex("parent_tid", 24, 8),
        named("exit_signal", 32, 8, &flags::SIGNAL), hex("stack", 40, 8), hex("stack_size", 48, 8),
        hex("tls", 56, 8), hex("set_tid", 64, 8), number("set_tid_size", 72, 8), number("cgroup", 80, 8),
    ];

    /// `mount_setattr(2)`.
    MOUNT_ATTRIBUTES: "mount_attr", false, [
        named("attr_set", 0, 8, &flags::MOUNT_ATTR), named("attr_clr", 8, 8, &flags::MOUNT_ATTR),
        named("propagation", 16, 8, &flags::PROPAGATION), number("userns_fd", 24, 8),
    ];

    /// statmount(2), listmount(2).
    MNT_ID_REQ: "mnt_id_req", false, [
        number("size", 0, 4), signed("mnt_ns_fd", 4, 4), hex("mnt_id", 8, 8), hex("param", 16, 8),
    ];

    /// setxattrat(2), getxattrat(2).
    XATTR_ARGS: "xattr_args", false, [
        hex("value", 0, 8), number("size", 8, 4), named("flags", 12, 4, &flags::XATTR),
    ];

    /// `file_setattr(2)`.
    FILE_ATTR: "file_attr", false, [
        hex("fa_xflags", 0, 8), number("fa_extsize", 8, 4), number("fa_nextents", 12, 4),
        number("fa_projid", 16, 4), number("fa_cowextsize", 20, 4),
    ];

    /// Time of the 64-bit architectures and of i386's newer calls.
    TIMESPEC64: "timespec", false, [signed("tv_sec", 0, 8), signed("tv_nsec", 8, 8)];

    /// A time.
    TIMESPEC: "timespec", true, [signed("tv_sec", 0, 8), signed("tv_nsec", 8, 8)];

    /// utimensat(2): access and modification.
    TIMESPECS: "timespec[2]", true, [
        signed("atime.tv_sec", 0, 8), signed("atime.tv_nsec", 8, 8),
        signed("mtime.tv_sec", 16, 8), signed("mtime.tv_nsec", 24, 8),
    ];

    /// `utimensat_time64(2)` of i386.
    TIMESPECS64: "timespec[2]", false, [
        signed("atime.tv_sec", 0, 8), signed("atime.tv_nsec", 8, 8),
        signed("mtime.tv_sec", 16, 8), signed("mtime.tv_nsec", 24, 8),
    ];

    /// settimeofday(2).
    TIMEVAL: "timeval", true, [signed("tv_sec", 0, 8), signed("tv_usec", 8, 8)];

    /// utimes(2).
    TIMEVALS: "timeval[2]", true, [
        signed("atime.tv_sec", 0, 8), signed("atime.tv_usec", 8, 8),
        signed("mtime.tv_sec", 16, 8), signed("mtime.tv_usec", 24, 8),
    ];

    /// utime(2).
    UTIMBUF: "utimbuf", true, [signed("actime", 0, 8), signed("modtime", 8, 8)];

    /// settimeofday(2).
    TIMEZONE: "timezone", false, [signed("tz_minuteswest", 0, 4), signed("tz_dsttime", 4, 4)];

    /// adjtimex(2): what is to be done. The rest is `long`s and differs on
    /// i386.
    TIMEX: "timex", false, [named("modes", 0, 4, &flags::ADJTIMEX)];

    /// setrlimit(2).
    RLIMIT: "rlimit", true, [number("rlim_cur", 0, 8), number("rlim_max", 8, 8)];

    /// prlimit64(2).
    RLIMIT64: "rlimit64", false, [number("rlim_cur", 0, 8), number("rlim_max", 8, 8)];

    /// capset(2), capget(2).
    CAP_HEADER: "__user_cap_header_struct", false, [
        named("version", 0, 4, &flags::CAPABILITY_VERSION), signed("pid", 4, 4),
    ];

    /// capset(2), in the layout of versions 2 and 3.
    CAP_DATA: "__user_cap_data_struct[2]", false, [
        named("effective", 0, 4, &flags::CAPABILITIES), named("permitted", 4, 4, &flags::CAPABILITIES),
        named("inheritable", 8, 4, &flags::CAPABILITIES), named("effective_high", 12, 4, &flags::CAPABILITIES_HIGH),
        named("permitted_high", 16, 4, &flags::CAPABILITIES_HIGH),
        named("inheritable_high", 20, 4, &flags::CAPABILITIES_HIGH),
    ];

    /// `landlock_create_ruleset(2)`.
    LANDLOCK_RULESET: "landlock_ruleset_attr", false, [
        named("handled_access_fs", 0, 8, &flags::LANDLOCK_FS), named("handled_access_net", 8, 8, &flags::LANDLOCK_NET),
        named("scoped", 16, 8, &flags::LANDLOCK_SCOPE),
    ];

    /// `landlock_add_rule(2)`. For a rule on a port `parent_fd` is that port.
    LANDLOCK_RULE: "landlock_path_beneath_attr", false, [hex("allowed_access", 0, 8), signed("parent_fd", 8, 4)];

    /// `io_uring_setup(2)`.
    IO_URING_PARAMS: "io_uring_params", false, [
        number("sq_entries", 0, 4), number("cq_entries", 4, 4), named("flags", 8, 4, &flags::IO_URING_SETUP),
        number("sq_thread_cpu", 12, 4), number("sq_thread_idle", 16, 4), hex("features", 20, 4), number("wq_fd", 24, 4),
    ];

    /// `perf_event_open(2)`: what is to be counted.
    PERF_EVENT_ATTR: "perf_event_attr", false, [
        named("type", 0, 4, &flags::PERF_TYPE), number("size", 4, 4), hex("config", 8, 8),
        number("sample_period", 16, 8), hex("sample_type", 24, 8), hex("read_format", 32, 8),
    ];

    /// `sched_setscheduler(2)`.
    SCHED_PARAM: "sched_param", false, [signed("sched_priority", 0, 4)];

    /// `open_by_handle_at(2)`, without the handle itself.
    FILE_HANDLE: "file_handle", false, [number("handle_bytes", 0, 4), signed("handle_type", 4, 4)];

    /// i386's first mmap(2), which takes its arguments in memory.
    MMAP_ARGS: "mmap_arg_struct", false, [
        hex("addr", 0, 4), number("len", 4, 4), named("prot", 8, 4, &flags::PROT), named("flags", 12, 4, &flags::MMAP),
        signed("fd", 16, 4), number("offset", 20, 4),
    ];

    /// splice(2), `copy_file_range(2)`: 64 bits everywhere.
    OFFSET: "loff_t", false, [signed("offset", 0, 8)];
}
