//! The other ways into the kernel of x86-64.

#[cfg(target_arch = "x86_64")]
use libc::c_long;

/// What the kernel does not look at in an argument of the 32-bit gate.
#[cfg(target_arch = "x86_64")]
pub const RUBBISH: u64 = 0xdead_beef << 32;

/// What a child begins with, with its argument; it does not return.
#[cfg(target_arch = "x86_64")]
pub type Body = extern "C" fn(usize) -> !;

/// Gives a child a stack that ends at `top`, on which its body is.
#[cfg(target_arch = "x86_64")]
unsafe fn prepare(arguments: *mut u64, (body, argument): (Body, usize), top: *mut u64) {
    unsafe {
        let stack = top.sub(2);
        stack.write(argument as u64);
        stack.add(1).write(body as usize as u64);
        // `stack` and `stack_size` of `struct clone_args`.
        arguments.add(5).write(stack as u64 - 4096);
        arguments.add(6).write(4096);
    }
}

/// `clone3`; a negative errno if it fails.
#[cfg(target_arch = "x86_64")]
pub fn clone3(arguments: *mut u64, body: (Body, usize), top: *mut u64) -> i32 {
    let mut result = libc::SYS_clone3;
    unsafe {
        prepare(arguments, body, top);
        std::arch::asm!(
            "syscall", "test eax, eax", "jnz 2f", "pop rdi", "pop rax", "call rax", "2:",
            inout("rax") result, in("rdi") arguments, in("rsi") 64, out("rcx") _, out("r11") _,
        );
    }
    result as i32
}

/// The same by the 32-bit gate, its arguments below 4 GiB.
#[cfg(target_arch = "x86_64")]
pub fn clone3_int80(arguments: *mut u64, body: (Body, usize), top: *mut u64) -> i32 {
    let mut result = 435;
    unsafe {
        prepare(arguments, body, top);
        std::arch::asm!(
            "push rbx", "mov rbx, {arguments}", "int 0x80", "test eax, eax", "jnz 2f", "pop rdi", "pop rax", "call rax",
            "2:", "pop rbx",
            arguments = in(reg) RUBBISH | arguments as u64, inout("rax") result, in("rcx") 64,
            // Where the arguments of a 64-bit call are: no flags.
            in("rdi") top.sub(256),
            out("rdx") _, out("rsi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

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
