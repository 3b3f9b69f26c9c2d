//! x86-64: the number is in `orig_rax`, the result in `rax` (syscall(2)).

use std::io;
use std::mem::offset_of;

use libc::{c_uint, pid_t, user_regs_struct};

use super::super::sys::{self, SeccompInfo};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// Code segment of 32-bit programs on a 64-bit kernel (`__USER32_CS`).
const USER32_CS: u64 = 0x23;

fn poke(tid: pid_t, offset: usize, value: u64) -> io::Result<()> {
    sys::ptrace(libc::PTRACE_POKEUSER as c_uint, tid, offset, value as usize).map(drop)
}

/// Makes the kernel skip the call at whose entry `tid` is stopped, and the
/// caller see `-errno`. Number -1 is "no call" (`seccomp(2)`, `SECCOMP_RET_TRACE`).
pub(in crate::tracer) fn deny(tid: pid_t, errno: u16) -> io::Result<()> {
    poke(tid, offset_of!(user_regs_struct, orig_rax), u64::MAX)?;
    poke(tid, offset_of!(user_regs_struct, rax), -i64::from(errno) as u64)
}

/// Replaces the first argument of a 64-bit call at whose entry `tid` is stopped.
pub(in crate::tracer) fn set_first_argument(tid: pid_t, value: u64) -> io::Result<()> {
    poke(tid, offset_of!(user_regs_struct, rdi), value)
}

/// The call at whose entry `tid` is stopped, for kernels before 5.3. A 32-bit
/// call made by 64-bit code cannot be told from its registers there: it is
/// taken for what the code segment says.
pub(in crate::tracer) fn entry_from_registers(tid: pid_t) -> io::Result<SeccompInfo> {
    let r = sys::get_registers(tid)?;
    Ok(if r.cs == USER32_CS {
        SeccompInfo { audit: AUDIT_ARCH_I386, nr: r.orig_rax, args: [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp] }
    } else {
        SeccompInfo { audit: AUDIT_ARCH_X86_64, nr: r.orig_rax, args: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] }
    })
}

/// The result of the call at whose exit `tid` is stopped, likewise.
pub(in crate::tracer) fn result_from_registers(tid: pid_t) -> io::Result<i64> {
    sys::get_registers(tid).map(|r| r.rax as i64)
}
