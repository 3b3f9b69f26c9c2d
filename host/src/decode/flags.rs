//! Names of flags and constants, as strace prints them.
//!
//! Numbers without an `=` are those of the `libc` crate and the same on x86
//! and `AArch64`; the few that differ are given for both ([`OPEN`]), so that a
//! trace reads the same wherever it is replayed. i386 and x32 share x86-64's.
//!
//! This module is data. It never says what a flag means.

/// `NAME` or `NAME = number`, as pairs of number and name.
macro_rules! names {
    ($($name:ident $(= $number:expr)?),* $(,)?) => { &[$((names!(@ $name $($number)?), stringify!($name))),*] };
    (@ $name:ident) => { libc::$name as u64 };
    (@ $name:ident $number:expr) => { $number };
}

/// `/// doc SET: [mask => values of a field]… bits;`
macro_rules! sets {
    ($($(#[$doc:meta])* $set:ident: $([$mask:expr => $($value:ident $(= $number:expr)?),* $(,)?])* $($bit:ident $(= $position:expr)?),* $(,)?;)*) => {
        $(
            $(#[$doc])*
            pub(in crate::decode) static $set: FlagSet = FlagSet {
                fields: &[$(Field { mask: $mask, values: names![$($value $(= $number)?),*], last: false }),*],
                bits: names![$($bit $(= $position)?),*],
                aarch64: None,
            };
        )*
    };
}

// Laid out by hand: one line per number would be two thousand of them.
#[rustfmt::skip]
mod files;
#[rustfmt::skip]
mod memory;
#[rustfmt::skip]
mod mounts;
#[rustfmt::skip]
mod processes;
#[rustfmt::skip]
mod sockets;
#[rustfmt::skip]
mod system;

pub(super) use files::*;
pub(super) use memory::*;
pub(super) use mounts::*;
pub(super) use processes::*;
pub(super) use sockets::*;
pub(super) use system::*;

/// A whole `int` that is one of several constants.
const INT: u64 = 0xffff_ffff;

/// Name of a signal, or its number.
pub(super) fn signal(number: i64) -> String {
    let name =
        SIGNALS.iter().find(|(value, _)| *value as i64 == number && number != 0).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| match number {
        33..=64 => format!("SIGRT_{}", number - 32),
        _ => number.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Arch;

    #[test]
    fn as_strace_prints_them() {
        assert_eq!(OPEN.describe(0), "O_RDONLY");
        assert_eq!(OPEN.describe(0o2_000_000), "O_RDONLY|O_CLOEXEC");
        assert_eq!(OPEN.describe(0o102 | 0o1000), "O_RDWR|O_CREAT|O_TRUNC");
        assert_eq!(OPEN.describe(0o4_010_001), "O_WRONLY|O_SYNC");
        assert_eq!(ACCESS.describe(0), "F_OK");
        assert_eq!(ACCESS.describe(6), "R_OK|W_OK");
        assert_eq!(PROT.describe(0), "PROT_NONE");
        assert_eq!(PROT.describe(3), "PROT_READ|PROT_WRITE");
        assert_eq!(PROT.describe(0x0100_0007), "PROT_READ|PROT_WRITE|PROT_EXEC|PROT_GROWSDOWN");
        assert_eq!(MMAP.describe(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(OPEN.describe(0o2_604_003), "O_ACCMODE|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY");
        assert_eq!(SOCKET_TYPE.describe(0o2_000_001), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(SOCKET_TYPE.describe(0o2_004_001), "SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK");
        assert_eq!(STATX_AT.describe(0x100), "AT_STATX_SYNC_AS_STAT|AT_SYMLINK_NOFOLLOW");
        assert_eq!(socket_option(1, 2), "SO_REUSEADDR");
        assert_eq!(socket_option(6, 1), "TCP_NODELAY");
        assert_eq!(socket_option(262, 1), "0x1", "the options of X.25 have no names here");
        assert_eq!(CLONE.describe(0x0120_0011), "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD");
        assert_eq!(MOUNT.describe(0x1000), "MS_BIND");
        assert_eq!(FAMILY.describe(2), "AF_INET");
        assert_eq!(FAMILY.describe(0), "AF_UNSPEC");
        assert_eq!(CLOCK.describe(1), "CLOCK_MONOTONIC");
        assert_eq!(AT.describe(0), "0");
        assert_eq!(AT.describe(0x1100), "AT_SYMLINK_NOFOLLOW|AT_EMPTY_PATH");
    }

    #[test]
    fn what_has_no_name_is_hexadecimal() {
        assert_eq!(OPEN.describe(0x8000_0001), "O_WRONLY|0x80000000");
        assert_eq!(AT.describe(0x8_0000), "0x80000");
        assert_eq!(FCNTL.describe(77), "0x4d");
        assert_eq!(FAMILY.describe(200), "0xc8");
    }

    #[test]
    fn aarch64_numbers_some_open_flags_otherwise() {
        assert_eq!(OPEN.on(Arch::X86_64).describe(0o200_000), "O_RDONLY|O_DIRECTORY");
        assert_eq!(OPEN.on(Arch::X86).describe(0o400_000), "O_RDONLY|O_NOFOLLOW");
        assert_eq!(OPEN.on(Arch::Aarch64).describe(0o200_000), "O_RDONLY|O_DIRECT");
        assert_eq!(OPEN.on(Arch::Aarch64).describe(0o140_000), "O_RDONLY|O_NOFOLLOW|O_DIRECTORY");
        let native = OPEN.on(Arch::NATIVE);
        for (flag, name) in [
            (libc::O_DIRECTORY, "O_DIRECTORY"),
            (libc::O_NOFOLLOW, "O_NOFOLLOW"),
            (libc::O_DIRECT, "O_DIRECT"),
            (libc::O_TMPFILE, "O_TMPFILE"),
        ] {
            assert_eq!(native.describe(flag as u64), format!("O_RDONLY|{name}"));
        }
    }

    #[test]
    fn signals() {
        assert_eq!(signal(9), "SIGKILL");
        assert_eq!(signal(0), "0");
        assert_eq!(signal(34), "SIGRT_2");
        assert_eq!(signal(-1), "-1");
    }
}
