//! Executes programs while another thread changes their environment.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::c;

/// `FORBIDDEN=1` in turns with `XORBIDDEN=1`, to `/usr/bin/env`, so many times.
/// Prints how often it ran with the one, did not run, and ran with the other.
pub(crate) fn main(times: u32) {
    let (mut allowed, mut refused, mut wrong) = (0, 0, 0);
    for round in 0..times {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let child = unsafe { libc::fork() };
        if child == 0 {
            unsafe { libc::dup2(writer.as_raw_fd(), 1) };
            execute(round);
        }
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        match text.as_str() {
            "" => refused += 1,
            text if text.contains("FORBIDDEN") => wrong += 1,
            _ => allowed += 1,
        }
    }
    println!("{allowed} {refused} {wrong}");
}

fn execute(round: u32) -> ! {
    let text: &'static [AtomicU8] = b"XORBIDDEN=1\0".iter().map(|byte| AtomicU8::new(*byte)).collect::<Vec<_>>().leak();
    let (program, name) = (c("/usr/bin/env"), c("env"));
    let argv = [name.as_ptr(), std::ptr::null()];
    let envp = [text.as_ptr().cast(), std::ptr::null()];
    std::thread::spawn(|| {
        loop {
            text[0].store(b'F', Ordering::Relaxed);
            text[0].store(b'X', Ordering::Relaxed);
        }
    });
    // So that it is not always the same moment.
    (0..round * 37 % 5000).for_each(|_| std::hint::spin_loop());
    unsafe {
        libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(1)
    }
}
