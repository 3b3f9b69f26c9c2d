//! Calling conventions: which there are, and how each numbers the system
//! calls.
//!
//! Numbers and names come from the `syscalls` crate and from [`SUPPLEMENT`],
//! the declarations from `table/`. They are joined once per convention, so
//! that [`Arch::spec`] is one look into a vector.
//!
//! This module never decides whether a convention is acceptable; a call of a
//! foreign one is described as carefully as a native one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::spec::{Arg, Changes, Kind, Spec};
use super::table;

/// A calling convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// x86-64 with 32-bit pointers: bit 30 of the number is set.
    X32,
    /// i386, which an x86-64 program reaches with `int 0x80`.
    X86,
    /// `AArch64`.
    Aarch64,
}

/// `__X32_SYSCALL_BIT` (arch/x86/include/uapi/asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

/// First number of the calls that x32 has apart from x86-64.
const X32_OWN: u32 = 512;

/// The calls that x32 has apart from x86-64, from number 512
/// (`arch/x86/entry/syscalls/syscall_64.tbl`). Before Linux 5.4 an x86-64
/// program reached them without bit 30 too, commit 6365b842aae4.
#[rustfmt::skip]
const X32_CALLS: [&str; 36] = [
    "rt_sigaction", "rt_sigreturn", "ioctl", "readv", "writev", "recvfrom", "sendmsg", "recvmsg", "execve", "ptrace",
    "rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "sigaltstack", "timer_create", "mq_notify", "kexec_load",
    "waitid", "set_robust_list", "get_robust_list", "vmsplice", "move_pages", "preadv", "pwritev",
    "rt_tgsigqueueinfo", "recvmmsg", "sendmmsg", "process_vm_readv", "process_vm_writev", "setsockopt", "getsockopt",
    "io_setup", "io_submit", "execveat", "preadv2", "pwritev2",
];

/// Calls newer than the crate's tables, and the last of those, which its
/// iterator leaves out. Since Linux 5.0 a new call has the same number
/// everywhere.
const SUPPLEMENT: [(u32, &str); 3] = [(469, "file_setattr"), (470, "listns"), (471, "rseq_slice_yield")];

/// Names that the crate has from the generic header, where the architecture's
/// own header (and strace, and libseccomp) says otherwise.
const AARCH64_NAMES: [(&str, &str); 2] = [("fstatat", "newfstatat"), ("fadvise64_64", "fadvise64")];

/// Arguments of a call that `table/` does not declare.
pub(super) static UNDECLARED: [Arg; 6] = [word("a0"), word("a1"), word("a2"), word("a3"), word("a4"), word("a5")];

const fn word(name: &'static str) -> Arg {
    Arg { name, kind: Kind::Size, optional: false }
}

/// A number without a name.
static NAMELESS: Spec = Spec { name: "", args: &UNDECLARED, changes: Changes::Nothing };

/// All calls of a convention.
struct Calls {
    /// By number without bit 30; an empty name where there is none.
    specs: Vec<Spec>,
    /// Name → numbers without bit 30, the one to prefer first.
    numbers: HashMap<&'static str, Vec<u32>>,
}

impl Calls {
    fn of(arch: Arch) -> Self {
        let mut names: Vec<(u32, &'static str)> = match arch {
            Arch::X86_64 | Arch::X32 => {
                syscalls::x86_64::Sysno::iter().map(|call| (call.id() as u32, call.name())).collect()
            }
            Arch::X86 => syscalls::x86::Sysno::iter().map(|call| (call.id() as u32, call.name())).collect(),
            Arch::Aarch64 => syscalls::aarch64::Sysno::iter()
                .map(|call| {
                    let name = call.name();
                    let own = AARCH64_NAMES.iter().find(|(generic, _)| *generic == name);
                    (call.id() as u32, own.map_or(name, |(_, own)| own))
                })
                .collect(),
        };
        for (number, name) in SUPPLEMENT {
            if !names.contains(&(number, name)) {
                names.push((number, name));
            }
        }
        if matches!(arch, Arch::X86_64 | Arch::X32) {
            names.extend(X32_CALLS.iter().zip(X32_OWN..).map(|(name, number)| (number, *name)));
        }

        let size = names.iter().map(|(number, _)| *number as usize + 1).max().unwrap_or(0);
        let mut specs = vec![NAMELESS; size];
        let mut numbers: HashMap<&'static str, Vec<u32>> = HashMap::with_capacity(names.len());
        for (number, name) in names {
            specs[number as usize] =
                table::find(arch, name).copied().unwrap_or(Spec { name, args: &UNDECLARED, changes: Changes::Nothing });
            numbers.entry(name).or_default().push(number);
        }
        for numbers in numbers.values_mut() {
            numbers.sort_unstable();
            if arch == Arch::X32 {
                numbers.reverse();
            }
        }
        Self { specs, numbers }
    }
}

impl Arch {
    /// Every convention.
    pub const ALL: [Self; 4] = [Self::X86_64, Self::X32, Self::X86, Self::Aarch64];

    /// The convention of the host itself.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The convention of the host itself.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    /// `AUDIT_ARCH_*` (linux/audit.h). x32 shares that of x86-64.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// The convention of a call with this `AUDIT_ARCH_*` and number; `None`
    /// for an architecture that this host does not know.
    pub const fn from_audit(audit: u32, nr: u32) -> Option<Self> {
        match audit {
            0xc000_003e if nr & X32_BIT != 0 => Some(Self::X32),
            0xc000_003e => Some(Self::X86_64),
            0x4000_0003 => Some(Self::X86),
            0xc000_00b7 => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Size of a pointer in a program of this convention, in bytes.
    pub const fn pointer_size(self) -> usize {
        match self {
            Self::X86_64 | Self::Aarch64 => 8,
            Self::X32 | Self::X86 => 4,
        }
    }

    /// Whether call `nr` reads vectors of pointers, `struct iovec` and
    /// `struct msghdr` in their 32-bit layout. For x32 these are just the
    /// calls that it has apart from x86-64; the others it shares with it,
    /// layout included.
    pub(super) const fn has_compat_layout(self, nr: u32) -> bool {
        match self {
            Self::X86 => true,
            Self::X86_64 | Self::X32 => {
                let own = nr & !X32_BIT;
                own >= X32_OWN && own < X32_OWN + X32_CALLS.len() as u32
            }
            Self::Aarch64 => false,
        }
    }

    /// The declaration of call `nr`. A call that is not declared has its name
    /// and six words; a number without a name has an empty name.
    pub fn spec(self, nr: u32) -> &'static Spec {
        self.calls().specs.get((nr & !self.bit()) as usize).unwrap_or(&NAMELESS)
    }

    /// The numbers of all calls that have a name.
    pub fn all(self) -> impl Iterator<Item = u32> {
        let named = (0u32..).zip(&self.calls().specs).filter(|(_, spec)| !spec.name.is_empty());
        named.map(move |(number, _)| number | self.bit())
    }

    /// Whether the arguments of call `nr` are declared.
    pub fn declares(self, nr: u32) -> bool {
        !std::ptr::eq(self.spec(nr).args, UNDECLARED.as_slice())
    }

    /// The number of the call with this name. Of several numbers it is the one
    /// that current kernels serve.
    pub fn number(self, name: &str) -> Option<u32> {
        self.numbers(name).next()
    }

    /// All numbers by which some kernel serves the call with this name. Before
    /// Linux 5.4 x86-64 and x32 served each other's.
    pub fn numbers(self, name: &str) -> impl Iterator<Item = u32> + use<> {
        self.calls().numbers.get(name).into_iter().flatten().map(move |number| number | self.bit())
    }

    /// The name of call `nr`, `syscall_NR` if it has none.
    pub fn syscall_name(self, nr: u32) -> Cow<'static, str> {
        match self.spec(nr).name {
            "" => format!("syscall_{nr}").into(),
            name => name.into(),
        }
    }

    /// Bit that all numbers of the convention have.
    const fn bit(self) -> u32 {
        match self {
            Self::X32 => X32_BIT,
            _ => 0,
        }
    }

    fn calls(self) -> &'static Calls {
        static X86_64: LazyLock<Calls> = LazyLock::new(|| Calls::of(Arch::X86_64));
        static X32: LazyLock<Calls> = LazyLock::new(|| Calls::of(Arch::X32));
        static X86: LazyLock<Calls> = LazyLock::new(|| Calls::of(Arch::X86));
        static AARCH64: LazyLock<Calls> = LazyLock::new(|| Calls::of(Arch::Aarch64));
        match self {
            Self::X86_64 => &X86_64,
            Self::X32 => &X32,
            Self::X86 => &X86,
            Self::Aarch64 => &AARCH64,
        }
    }
}

/// Whether any convention has a call of this name.
pub fn known_name(name: &str) -> bool {
    Arch::ALL.iter().any(|arch| arch.number(name).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::decimal_bitwise_operands)]

    use super::*;

    #[test]
    fn conventions_have_their_own_numbers() {
        assert_eq!(Arch::X86_64.number("openat"), Some(257));
        assert_eq!(Arch::X32.number("openat"), Some(257 | X32_BIT));
        assert_eq!(Arch::X86.number("openat"), Some(295));
        assert_eq!(Arch::Aarch64.number("openat"), Some(56));
        assert_eq!(Arch::Aarch64.number("open"), None);
        assert_eq!(Arch::Aarch64.number("newfstatat"), Some(79));
        assert_eq!(Arch::X86_64.number("listns"), Some(470));
    }

    #[test]
    fn x32_prefers_its_own_calls() {
        assert_eq!(Arch::X32.numbers("execve").collect::<Vec<_>>(), [520 | X32_BIT, 59 | X32_BIT]);
        assert_eq!(Arch::X86_64.numbers("execve").collect::<Vec<_>>(), [59, 520]);
        assert_eq!(Arch::X32.spec(547 | X32_BIT).name, "pwritev2");
        assert!(Arch::X32.has_compat_layout(520 | X32_BIT));
        assert!(!Arch::X32.has_compat_layout(59 | X32_BIT));
    }

    #[test]
    fn audit_value_and_bit_30_name_the_convention() {
        for arch in Arch::ALL {
            let nr = arch.number("read").unwrap();
            assert_eq!(Arch::from_audit(arch.audit(), nr), Some(arch));
        }
        assert_eq!(Arch::from_audit(0x4000_0028, 0), None, "AArch32");
    }

    #[test]
    fn unknown_numbers_have_a_name_made_of_them() {
        for arch in Arch::ALL {
            for nr in [9_999, 0x4000_ffff, u32::MAX] {
                assert_eq!(arch.syscall_name(nr), format!("syscall_{nr}"));
                assert_eq!(arch.spec(nr).args.len(), 6);
            }
        }
        assert!(known_name("openat2"));
        assert!(known_name("socketcall"), "of i386 only");
        assert!(!known_name("open_at"));
        assert!(!known_name(""));
    }

    #[test]
    fn undeclared_calls_keep_their_name() {
        let spec = Arch::X86_64.spec(Arch::X86_64.number("sched_yield").unwrap());
        assert_eq!((spec.name, spec.args[5].name), ("sched_yield", "a5"));
    }

    #[test]
    fn names_in_traces_are_stable() {
        let names = serde_json::to_string(&Arch::ALL).unwrap();
        assert_eq!(names, r#"["x86_64","x32","x86","aarch64"]"#);
    }
}
