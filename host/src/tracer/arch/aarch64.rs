//! AArch64: the number is in `x8` and, for a tracer, in the register set
//! `NT_ARM_SYSTEM_CALL`; arguments and result start at `x0`.
#![allow(unsafe_code, reason = "PTRACE_SETREGSET takes a pointer")]

use std::io;
use std::mem::size_of;

use libc::{c_int, pid_t, user_regs_struct};

use super::super::sys::{self, CallInfo};

const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
/// `include/uapi/linux/elf.h`
const NT_ARM_SYSTEM_CALL: c_int = 0x404;
/// Length of `svc`.
pub(in crate::tracer) const INSTRUCTION: u64 = 4;

fn set_number(tid: pid_t, number: c_int) -> io::Result<()> {
    let mut iov = libc::iovec { iov_base: (&raw const number).cast_mut().cast(), iov_len: size_of::<c_int>() };
    // SAFETY: the kernel only reads one int through `iov`.
    match unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &raw mut iov) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes the kernel skip the call at whose entry `tid` is stopped, and the
/// caller see `result`. Number -1 is "no call" (`seccomp(2)`, `SECCOMP_RET_TRACE`).
pub(in crate::tracer) fn skip(tid: pid_t, result: i64) -> io::Result<()> {
    set_number(tid, -1)?;
    set_first_argument(tid, result as u64)
}

/// Replaces the first argument of the call at whose entry `tid` is stopped.
pub(in crate::tracer) fn set_first_argument(tid: pid_t, value: u64) -> io::Result<()> {
    let mut registers = sys::get_registers(tid)?;
    registers.regs[0] = value;
    sys::set_registers(tid, &registers)
}

/// Code for calls that are not the task's own. There is none: without a tracer
/// the task would need a register to come back with, and none is free.
pub(in crate::tracer) fn trampoline(_registers: &Registers, _nr: u64, _mask: u64) -> Option<(Vec<u8>, usize)> {
    None
}

/// The general registers of a stopped task.
#[derive(Clone, Debug)]
pub(in crate::tracer) struct Registers {
    general: user_regs_struct,
    /// The call to make instead of the one at whose entry the task is.
    number: Option<c_int>,
}

impl Registers {
    pub(in crate::tracer) fn of(tid: pid_t) -> io::Result<Self> {
        Ok(Self { general: sys::get_registers(tid)?, number: None })
    }

    pub(in crate::tracer) fn set(&self, tid: pid_t) -> io::Result<()> {
        sys::set_registers(tid, &self.general)?;
        self.number.map_or(Ok(()), |number| set_number(tid, number))
    }

    /// The same for a task that is known to have other ones: all are written.
    pub(in crate::tracer) fn set_over(&self, _now: &Self, tid: pid_t) -> io::Result<()> {
        self.set(tid)
    }

    /// The call at whose entry the task is stopped, for kernels before 5.3.
    pub(in crate::tracer) fn call(&self) -> CallInfo {
        let r = &self.general.regs;
        CallInfo { audit: AUDIT_ARCH_AARCH64, nr: r[8], args: [r[0], r[1], r[2], r[3], r[4], r[5]], mark: None }
    }

    /// The call that the task is in. Whose convention is not known has this one.
    pub(in crate::tracer) fn call_of(&self, audit: Option<u32>) -> Option<CallInfo> {
        (audit.unwrap_or(AUDIT_ARCH_AARCH64) == AUDIT_ARCH_AARCH64).then(|| self.call())
    }

    /// The result of the call at whose exit the task is stopped.
    pub(in crate::tracer) fn result(&self) -> i64 {
        self.general.regs[0] as i64
    }

    /// Where it goes on.
    pub(in crate::tracer) fn instruction(&self) -> u64 {
        self.general.pc
    }

    /// The stack pointer, and whether the program is a 32-bit one: of those
    /// there are no registers here.
    pub(in crate::tracer) fn stack(&self) -> (u64, bool) {
        (self.general.sp, false)
    }

    /// Gives it another result.
    pub(in crate::tracer) fn set_result(&mut self, result: i64) {
        self.general.regs[0] = result as u64;
    }

    /// The number of the call that the task is in or has just left.
    pub(in crate::tracer) fn number(&self) -> Option<u64> {
        Some(self.general.regs[8])
    }

    /// Makes the task, stopped after a call, make call `nr` next, from the
    /// same instruction.
    pub(in crate::tracer) fn call_again(&mut self, nr: u64) {
        self.general.pc = self.general.pc.wrapping_sub(INSTRUCTION);
        self.general.regs[8] = nr;
    }

    /// Makes the call at whose entry the task is stopped return to `address`.
    pub(in crate::tracer) fn return_to(&mut self, address: u64) {
        self.general.pc = address;
    }

    /// Makes the task, stopped after a call, make call `nr` at `address` next.
    pub(in crate::tracer) fn call_at(&mut self, address: u64, nr: u64, args: [u64; 6]) {
        self.set_call(nr, args);
        self.general.pc = address;
    }

    /// Makes the call at whose entry the task is stopped another one, with the
    /// same arguments.
    pub(in crate::tracer) fn set_number(&mut self, nr: u64) {
        self.number = Some(nr as c_int);
    }

    /// Makes the call at whose entry the task is stopped, or that it is about
    /// to make, another one.
    pub(in crate::tracer) fn set_call(&mut self, nr: u64, args: [u64; 6]) {
        self.general.regs[8] = nr;
        self.general.regs[..6].copy_from_slice(&args);
        self.number = Some(nr as c_int);
    }

    /// Argument `index` of the call; no other convention has registers here.
    pub(in crate::tracer) fn argument(&mut self, index: u8, _compat: bool) -> u64 {
        self.general.regs[usize::from(index)]
    }

    /// Replaces it.
    pub(in crate::tracer) fn set_argument(&mut self, index: u8, _compat: bool, value: u64) {
        self.general.regs[usize::from(index)] = value;
    }
}
