//! Code for calls that are not the task's own, x86-64
//! ([`crate::tracer::trampoline`]).
//!
//! A 64-bit call is made at its first instruction. A task that nobody stops
//! behind it closes what the calls have opened, gives back the page and the
//! signal mask, and goes to its own call with the registers that it had. No
//! instruction touches the stack or the flags. Programs in 32-bit mode leave
//! it with a far jump.
#![allow(unsafe_code, reason = "assembly, read as bytes")]

use std::arch::global_asm;
use std::slice;

use super::{Registers, USER32_CS};
use crate::tracer::trampoline::{SCRATCH_DESCRIPTORS, SCRATCH_SIZE};

global_asm!(
    ".pushsection .rodata.tracegate_trampoline, \"a\"",
    ".balign 8",
    "tracegate_trampoline:",
    "syscall",
    // The scratch page, and the descriptors that lie there.
    "mov rsi, [rip + .Ltracegate_scratch]",
    "mov rcx, rsi",
    "jrcxz 2f",
    "mov edi, [rsi + {first}]",
    "mov eax, {close}",
    "syscall",
    "mov edi, [rsi + {second}]",
    "mov eax, {close}",
    "syscall",
    "mov edi, [rsi + {third}]",
    "mov eax, {close}",
    "syscall",
    "mov rdi, rsi",
    "mov esi, {scratch_size}",
    "mov eax, {munmap}",
    "syscall",
    "2:",
    "mov edi, {set_mask}",
    "lea rsi, [rip + .Ltracegate_mask]",
    "mov edx, 0",
    "mov r10d, 8",
    "mov eax, {sigprocmask}",
    "syscall",
    "mov rax, [rip + .Ltracegate_registers]",
    "mov rdi, [rip + .Ltracegate_registers + 8]",
    "mov rsi, [rip + .Ltracegate_registers + 16]",
    "mov rdx, [rip + .Ltracegate_registers + 24]",
    "mov r10, [rip + .Ltracegate_registers + 32]",
    "mov r8, [rip + .Ltracegate_registers + 40]",
    "mov r9, [rip + .Ltracegate_registers + 48]",
    "mov r11, [rip + .Ltracegate_registers + 56]",
    "mov rcx, [rip + .Ltracegate_narrow]",
    "jrcxz 3f",
    "mov rcx, [rip + .Ltracegate_registers + 64]",
    "jmp fword ptr [rip + .Ltracegate_back]",
    "3:",
    "mov rcx, [rip + .Ltracegate_registers + 64]",
    "jmp qword ptr [rip + .Ltracegate_back]",
    ".balign 8",
    "tracegate_trampoline_data:",
    ".Ltracegate_scratch: .quad 0",
    ".Ltracegate_mask: .quad 0",
    ".Ltracegate_registers: .fill 9, 8, 0",
    ".Ltracegate_narrow: .quad 0",
    ".Ltracegate_back: .quad 0",
    "tracegate_trampoline_end:",
    ".popsection",
    first = const SCRATCH_DESCRIPTORS[0],
    second = const SCRATCH_DESCRIPTORS[1],
    third = const SCRATCH_DESCRIPTORS[2],
    scratch_size = const SCRATCH_SIZE,
    close = const libc::SYS_close,
    munmap = const libc::SYS_munmap,
    sigprocmask = const libc::SYS_rt_sigprocmask,
    set_mask = const libc::SIG_SETMASK,
);

unsafe extern "C" {
    static tracegate_trampoline: u8;
    static tracegate_trampoline_data: u8;
    static tracegate_trampoline_end: u8;
}

fn bytes() -> (&'static [u8], usize) {
    let (start, data, end) =
        (&raw const tracegate_trampoline, &raw const tracegate_trampoline_data, &raw const tracegate_trampoline_end);
    let (data, length) = (data.addr() - start.addr(), end.addr() - start.addr());
    // SAFETY: the assembler has put that many initialised bytes there, which
    // nobody writes to.
    (unsafe { slice::from_raw_parts(start, length) }, data)
}

/// Code that leads back to the call at whose entry a task is with these
/// registers and signal mask, and where in it the scratch page's address is.
pub(in crate::tracer) fn trampoline(registers: &Registers, nr: u64, mask: u64) -> Option<(Vec<u8>, usize)> {
    let (bytes, data) = bytes();
    let r = &registers.0;
    let narrow = r.cs == USER32_CS;
    let back = r.rip.wrapping_sub(super::INSTRUCTION);
    // A far pointer is an offset and a segment.
    let back = if narrow { (back & 0xffff_ffff) | r.cs << 32 } else { back };
    let words = [0, mask, nr, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9, r.r11, r.rcx, u64::from(narrow), back];
    let mut code = bytes[..data].to_vec();
    code.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    (code.len() == bytes.len()).then_some((code, data))
}

impl Registers {
    /// Makes the task, stopped after a call, make the 64-bit call `nr` at
    /// `address` next.
    pub(in crate::tracer) fn call_at(&mut self, address: u64, nr: u64, args: [u64; 6]) {
        self.set_call(nr, args);
        self.0.orig_rax = super::NO_CALL;
        self.return_to(address);
    }

    /// Makes the call at whose entry the task is stopped return to 64-bit code
    /// at `address`.
    pub(in crate::tracer) fn return_to(&mut self, address: u64) {
        /// Code segment of 64-bit programs (`__USER_CS`).
        const USER_CS: u64 = 0x33;
        (self.0.rip, self.0.cs) = (address, USER_CS);
    }
}
