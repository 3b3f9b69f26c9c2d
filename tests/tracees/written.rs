//! Another process writes `CLONE_UNTRACED` into the structure of a clone3(2),
//! while who makes the call is kept from its processor: the call has been
//! looked at, and has not read the structure yet.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::check;

/// `struct clone_args` up to the first size of it.
type Arguments = [u64; 8];

/// Longest time for anything here.
const LIMIT: Duration = Duration::from_secs(40);
/// The same for a child.
const ROUND: Duration = Duration::from_millis(30);

/// From now on on the first processor that it may have.
fn stay() {
    unsafe {
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of_val(&all), &raw mut all).into()).unwrap();
        let first = (0..libc::CPU_SETSIZE as usize).find(|cpu| libc::CPU_ISSET(*cpu, &all)).unwrap();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(first, &mut one);
        check(libc::sched_setaffinity(0, size_of_val(&one), &raw const one).into()).unwrap();
    }
}

/// Makes a child as often as it is told to; each says whether it is traced.
fn make(arguments: &Arguments, mut go: impl Read, tell: &mut impl Write) -> ! {
    stay();
    let idle = libc::sched_param { sched_priority: 0 };
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle) }.into()).unwrap();
    while go.read_exact(&mut [0]).is_ok() {
        let child = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of::<Arguments>()) };
        if child == 0 {
            // Without a tracer this fails, or says so.
            let status = std::fs::read_to_string("/proc/self/status");
            let traced = status.is_ok_and(|status| !status.contains("TracerPid:\t0"));
            tell.write_all(if traced { b"t" } else { b"u" }).unwrap();
            unsafe { libc::_exit(0) };
        }
        if child < 0 {
            tell.write_all(b"e").unwrap();
        }
        unsafe { libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), libc::__WALL) };
    }
    unsafe { libc::_exit(0) };
}

/// Writes at the right moment, once: from then on nobody's memory is taken to be
/// its own. Prints what the child said that was being made.
pub(crate) fn main() {
    let arguments: &mut Arguments = Box::leak(Box::new([0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0]));
    let (go, mut start) = std::io::pipe().unwrap();
    let (mut answer, mut tell) = std::io::pipe().unwrap();
    let fork = |child: &mut dyn FnMut()| {
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child();
            unsafe { libc::_exit(0) };
        }
        pid
    };
    let since = Instant::now();
    let busy = fork(&mut || {
        stay();
        while since.elapsed() < LIMIT {}
    });
    // Keeps the host busy, so that its looks take their time.
    let spammer = fork(&mut || {
        while since.elapsed() < LIMIT {
            let _file = File::open("/etc/passwd");
        }
    });
    let maker = unsafe { libc::fork() };
    if maker == 0 {
        drop(start);
        // Its own copy of the page.
        arguments[4] = std::hint::black_box(libc::SIGCHLD as u64);
        make(arguments, go, &mut tell);
    }
    drop((go, tell));
    let stat = File::open(format!("/proc/{maker}/stat")).unwrap();
    let state = || {
        let mut text = [0; 64];
        let length = stat.read_at(&mut text, 0).unwrap_or(0);
        let after = text[..length].iter().rposition(|byte| *byte == b')').unwrap_or(0);
        text.get(after + 2).copied().unwrap_or(0)
    };
    let mut said = [0];
    let mut written = false;
    while !written && since.elapsed() < LIMIT {
        start.write_all(b".").unwrap();
        let (asked, mut stopped) = (Instant::now(), false);
        while !written && asked.elapsed() < ROUND {
            match state() {
                b't' => stopped = true,
                b'R' if stopped => {
                    let untraced = [libc::CLONE_UNTRACED as u64];
                    let local = libc::iovec { iov_base: untraced.as_ptr().cast_mut().cast(), iov_len: 8 };
                    let remote = libc::iovec { iov_base: arguments.as_mut_ptr().cast(), iov_len: 8 };
                    unsafe { libc::process_vm_writev(maker, &raw const local, 1, &raw const remote, 1, 0) };
                    written = true;
                }
                _ => {}
            }
        }
        answer.read_exact(&mut said).unwrap();
    }
    for child in [busy, spammer] {
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    drop(start);
    for child in [maker, busy, spammer] {
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
    println!("{}; written {written}", char::from(said[0]));
}
