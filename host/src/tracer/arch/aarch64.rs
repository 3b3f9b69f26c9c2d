//! AArch64: the number is in `x8` and, for a tracer, in the register set
//! `NT_ARM_SYSTEM_CALL`; arguments and result start at `x0`.
#![allow(unsafe_code, reason = "PTRACE_SETREGSET takes a pointer")]

use std::io;
use std::mem::size_of;

use libc::{c_int, pid_t};

use super::super::sys::{self, SeccompInfo};

const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
/// `include/uapi/linux/elf.h`
const NT_ARM_SYSTEM_CALL: c_int = 0x404;

fn set_number(tid: pid_t, number: c_int) -> io::Result<()> {
    let mut iov = libc::iovec { iov_base: (&raw const number).cast_mut().cast(), iov_len: size_of::<c_int>() };
    // SAFETY: the kernel only reads one int through `iov`.
    match unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &raw mut iov) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes the kernel skip the call at whose entry `tid` is stopped, and the
/// caller see `-errno`. Number -1 is "no call" (`seccomp(2)`, `SECCOMP_RET_TRACE`).
pub(in crate::tracer) fn deny(tid: pid_t, errno: u16) -> io::Result<()> {
    set_number(tid, -1)?;
    set_first_argument(tid, -i64::from(errno) as u64)
}

/// Replaces the first argument of the call at whose entry `tid` is stopped.
pub(in crate::tracer) fn set_first_argument(tid: pid_t, value: u64) -> io::Result<()> {
    let mut registers = sys::get_registers(tid)?;
    registers.regs[0] = value;
    sys::set_registers(tid, &registers)
}

/// The call at whose entry `tid` is stopped, for kernels before 5.3.
pub(in crate::tracer) fn entry_from_registers(tid: pid_t) -> io::Result<SeccompInfo> {
    let r = sys::get_registers(tid)?.regs;
    Ok(SeccompInfo { audit: AUDIT_ARCH_AARCH64, nr: r[8], args: [r[0], r[1], r[2], r[3], r[4], r[5]] })
}

/// The result of the call at whose exit `tid` is stopped, likewise.
pub(in crate::tracer) fn result_from_registers(tid: pid_t) -> io::Result<i64> {
    sys::get_registers(tid).map(|r| r.regs[0] as i64)
}
