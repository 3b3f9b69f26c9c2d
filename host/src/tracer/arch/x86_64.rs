//! x86-64: the number is in `orig_rax`, the result in `rax` (syscall(2)).

use std::io;
use std::mem::offset_of;

use libc::{c_uint, pid_t, user_regs_struct};

use super::super::sys::{self, CallInfo};

mod trampoline;

pub(in crate::tracer) use trampoline::trampoline;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// Code segment of 32-bit programs on a 64-bit kernel (`__USER32_CS`).
const USER32_CS: u64 = 0x23;
/// Length of `syscall`, and of `int 0x80`.
pub(in crate::tracer) const INSTRUCTION: u64 = 2;
/// `orig_rax` outside of a call.
const NO_CALL: u64 = u64::MAX;

fn poke(tid: pid_t, offset: usize, value: u64) -> io::Result<()> {
    sys::ptrace(libc::PTRACE_POKEUSER as c_uint, tid, offset, value as usize).map(drop)
}

/// Makes the kernel skip the call at whose entry `tid` is stopped, and the
/// caller see `result`. Number -1 is "no call" (`seccomp(2)`, `SECCOMP_RET_TRACE`).
pub(in crate::tracer) fn skip(tid: pid_t, result: i64) -> io::Result<()> {
    // In this order: should we die in between, it runs.
    poke(tid, offset_of!(user_regs_struct, rax), result as u64)?;
    poke(tid, offset_of!(user_regs_struct, orig_rax), NO_CALL)
}

/// Replaces the first argument of a 64-bit call at whose entry `tid` is stopped.
pub(in crate::tracer) fn set_first_argument(tid: pid_t, value: u64) -> io::Result<()> {
    poke(tid, offset_of!(user_regs_struct, rdi), value)
}

/// The general registers of a stopped task.
#[derive(Clone, Debug)]
pub(in crate::tracer) struct Registers(user_regs_struct);

impl Registers {
    pub(in crate::tracer) fn of(tid: pid_t) -> io::Result<Self> {
        sys::get_registers(tid).map(Self)
    }

    /// Gives a stopped task these registers. Only those that differ are written:
    /// a task can have segments that the kernel does not take back (`putreg` in
    /// arch/x86/kernel/ptrace.c), and then `PTRACE_SETREGS` fails half-way.
    pub(in crate::tracer) fn set(&self, tid: pid_t) -> io::Result<()> {
        self.set_over(&Self::of(tid)?, tid)
    }

    /// The same for a task that is known to have `now`.
    pub(in crate::tracer) fn set_over(&self, now: &Self, tid: pid_t) -> io::Result<()> {
        let (old, new) = (sys::register_words(now.0), sys::register_words(self.0));
        for (index, (old, new)) in old.into_iter().zip(new).enumerate() {
            if old != new {
                poke(tid, index * size_of::<u64>(), new)?;
            }
        }
        Ok(())
    }

    /// The call at whose entry the task is stopped, for kernels before 5.3. A
    /// 32-bit call made by 64-bit code cannot be told from its registers
    /// there: it is taken for what the code segment says.
    pub(in crate::tracer) fn call(&self) -> CallInfo {
        self.by(self.0.cs == USER32_CS)
    }

    /// The call that the task is in, if it is known to be of a convention that
    /// we know.
    pub(in crate::tracer) fn call_of(&self, audit: Option<u32>) -> Option<CallInfo> {
        match audit? {
            AUDIT_ARCH_I386 => Some(self.by(true)),
            AUDIT_ARCH_X86_64 => Some(self.by(false)),
            _ => None,
        }
    }

    fn by(&self, compat: bool) -> CallInfo {
        let r = &self.0;
        if compat {
            CallInfo {
                audit: AUDIT_ARCH_I386,
                nr: r.orig_rax,
                args: [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp].map(|arg| arg & 0xffff_ffff),
                mark: None,
            }
        } else {
            CallInfo {
                audit: AUDIT_ARCH_X86_64,
                nr: r.orig_rax,
                args: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9],
                mark: None,
            }
        }
    }

    /// The result of the call at whose exit the task is stopped.
    pub(in crate::tracer) fn result(&self) -> i64 {
        self.0.rax as i64
    }

    /// Where it goes on.
    pub(in crate::tracer) fn instruction(&self) -> u64 {
        self.0.rip
    }

    /// The stack pointer, and whether the program is a 32-bit one.
    pub(in crate::tracer) fn stack(&self) -> (u64, bool) {
        (self.0.rsp, self.0.cs == USER32_CS)
    }

    /// Gives it another result.
    pub(in crate::tracer) fn set_result(&mut self, result: i64) {
        self.0.rax = result as u64;
    }

    /// The number of the call that the task is in or has just left; `None`
    /// if it came into the kernel otherwise. The kernel takes it for an `int`,
    /// whatever the upper half holds.
    pub(in crate::tracer) fn number(&self) -> Option<u64> {
        let number = self.0.orig_rax as i32;
        (number >= 0).then_some(number as u64)
    }

    /// Makes the task, stopped after a call, make call `nr` next, from the
    /// same instruction.
    pub(in crate::tracer) fn call_again(&mut self, nr: u64) {
        self.0.rip = self.0.rip.wrapping_sub(INSTRUCTION);
        self.0.rax = nr;
        self.0.orig_rax = NO_CALL;
    }

    /// Makes the call at whose entry the task is stopped another one, with the
    /// same arguments.
    pub(in crate::tracer) fn set_number(&mut self, nr: u64) {
        self.0.orig_rax = nr;
    }

    /// Makes the 64-bit call at whose entry the task is stopped, or that it is
    /// about to make, another one.
    pub(in crate::tracer) fn set_call(&mut self, nr: u64, args: [u64; 6]) {
        self.0.orig_rax = nr;
        self.0.rax = nr;
        (self.0.rdi, self.0.rsi, self.0.rdx) = (args[0], args[1], args[2]);
        (self.0.r10, self.0.r8, self.0.r9) = (args[3], args[4], args[5]);
    }

    #[allow(clippy::match_same_arms, reason = "two tables, each in order")]
    fn place(&mut self, index: u8, compat: bool) -> &mut u64 {
        let r = &mut self.0;
        match (compat, index) {
            (false, 0) => &mut r.rdi,
            (false, 1) => &mut r.rsi,
            (false, 2) => &mut r.rdx,
            (false, 3) => &mut r.r10,
            (false, 4) => &mut r.r8,
            (false, _) => &mut r.r9,
            (true, 0) => &mut r.rbx,
            (true, 1) => &mut r.rcx,
            (true, 2) => &mut r.rdx,
            (true, 3) => &mut r.rsi,
            (true, 4) => &mut r.rdi,
            (true, _) => &mut r.rbp,
        }
    }

    /// Argument `index` of the call, in i386's convention if `compat`.
    pub(in crate::tracer) fn argument(&mut self, index: u8, compat: bool) -> u64 {
        *self.place(index, compat)
    }

    /// Replaces it.
    pub(in crate::tracer) fn set_argument(&mut self, index: u8, compat: bool, value: u64) {
        *self.place(index, compat) = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The upper half of the number's register is nobody's.
    #[test]
    fn a_number_is_an_int() {
        let number = |orig_rax| {
            let mut words = [0; sys::REGISTERS];
            words[offset_of!(user_regs_struct, orig_rax) / size_of::<u64>()] = orig_rax;
            Registers(sys::registers_of(words)).number()
        };
        assert_eq!(number(257), Some(257));
        assert_eq!(number(1 << 63 | 0x101), Some(257));
        assert_eq!(number(0xffff_ffff_0000_0000), Some(0));
        assert_eq!((number(u64::MAX), number(0xffff_ffff)), (None, None));
    }
}
