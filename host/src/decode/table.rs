//! The declarations of system calls: what the arguments are called, what they
//! are, how the names among them are followed.
//!
//! Argument names and types are those of the manual's section 2; where that
//! differs from what the kernel looks at, `SYSCALL_DEFINE` in the kernel
//! decides. A call is declared once for all conventions. What a convention has
//! differently, or alone, comes first in [`find`].
//!
//! This module is data: it neither reads arguments nor follows names.

mod declare;
// Laid out by hand, a call in a line or two.
#[rustfmt::skip]
mod files;
#[rustfmt::skip]
mod i386;
#[rustfmt::skip]
mod memory;
#[rustfmt::skip]
mod mounts;
#[rustfmt::skip]
mod names;
#[rustfmt::skip]
mod processes;
#[rustfmt::skip]
mod sockets;
#[rustfmt::skip]
mod system;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::abi::Arch;
use super::spec::Spec;

/// The declarations that all conventions share.
static SHARED: [&[Spec]; 7] =
    [names::CALLS, files::CALLS, processes::CALLS, memory::CALLS, sockets::CALLS, mounts::CALLS, system::CALLS];

/// The declaration of a call of convention `arch`, if there is one.
pub(super) fn find(arch: Arch, name: &str) -> Option<&'static Spec> {
    static BY_NAME: LazyLock<HashMap<&str, &Spec>> =
        LazyLock::new(|| SHARED.iter().copied().flatten().map(|spec| (spec.name, spec)).collect());
    let own: &[Spec] = match arch {
        Arch::X86_64 | Arch::X32 => &[],
        Arch::X86 => i386::CALLS,
        Arch::Aarch64 => processes::CLONE_BACKWARDS,
    };
    own.iter()
        .chain(if arch == Arch::X86 { processes::CLONE_BACKWARDS } else { &[] })
        .find(|spec| spec.name == name)
        .or_else(|| BY_NAME.get(name).copied())
}

#[cfg(test)]
mod tests;
