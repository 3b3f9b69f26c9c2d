//! The other ways into the kernel of x86-64.

#[cfg(target_arch = "x86_64")]
use libc::c_long;

/// A call by the 32-bit gate; like `libc::syscall`, with errno set.
#[cfg(target_arch = "x86_64")]
pub fn int80(number: i64, arguments: [u64; 5]) -> c_long {
    let mut result = number;
    unsafe {
        std::arch::asm!(
            "push rbx", "mov rbx, {first}", "int 0x80", "pop rbx",
            first = in(reg) arguments[0], inout("rax") result, in("rcx") arguments[1], in("rdx") arguments[2],
            in("rsi") arguments[3], in("rdi") arguments[4],
            // A 32-bit entry clears these (Linux before 4.17 kept them).
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let result = result as i32;
    if result < 0 {
        unsafe { *libc::__errno_location() = -result };
        return -1;
    }
    result.into()
}
