//! execve in company: from another thread than the leader, by two threads at
//! once, while threads are made; and execve that fails.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::sys::{
    Program, call, exit_task, fork, getpid, gettid, open_something, own_path, say, sleepers, threads, until, wait,
};

/// Executes itself from a second thread while others sleep in calls and one
/// opens files, `left` times.
pub(crate) fn from_thread(pid: i32, left: u32) {
    assert_eq!((getpid(), gettid()), (pid, pid), "the thread that executes takes the leader's id");
    assert_eq!(threads(pid), [pid], "and is alone afterwards");
    if left == 0 {
        say!("all rounds kept the process id");
        return;
    }
    sleepers(7);
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = opened.clone();
    thread::spawn(move || {
        loop {
            open_something();
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    until("files are being opened", || opened.load(Ordering::SeqCst) > 3);
    let next = Program::own(&["exec-from-thread", &pid.to_string(), &(left - 1).to_string()]);
    let failure = thread::spawn(move || next.exec()).join().unwrap();
    panic!("execve: {failure:?}");
}

/// Two threads execute at the same moment: one program runs, whole.
pub(crate) fn two_at_once() {
    for leader_too in [false, true] {
        let mut good = 0;
        for _ in 0..40 {
            let status = wait(fork(|| {
                let programs = [Program::own(&["exit", "11"]), Program::own(&["exit", "12"])];
                let [first, second] = programs;
                let barrier = Arc::new(Barrier::new(2));
                let others = barrier.clone();
                let other = thread::spawn(move || {
                    others.wait();
                    first.exec()
                });
                let last = if leader_too {
                    barrier.wait();
                    second.exec()
                } else {
                    thread::spawn(move || {
                        barrier.wait();
                        second.exec()
                    })
                    .join()
                    .unwrap()
                };
                panic!("execve: {last:?}, {:?}", other.join());
            }));
            match status.as_str() {
                "exited 11" | "exited 12" => good += 1,
                other => say!("one of the two should have run, but: {other}"),
            }
        }
        say!("leader too {leader_too}: {good} ran one of the two");
    }
}

/// execve while other threads make threads and processes.
pub(crate) fn while_cloning() {
    for leader in [true, false] {
        for round in 0..25 {
            let status = wait(fork(|| {
                let made = Arc::new(AtomicUsize::new(0));
                for kind in 0..4 {
                    let made = made.clone();
                    thread::spawn(move || {
                        loop {
                            if kind == 0 {
                                // Its parent may be gone before it is.
                                let child = fork(|| 0);
                                let _ = wait(child);
                            } else {
                                let _ = thread::Builder::new()
                                    .stack_size(64 << 10)
                                    .spawn(|| ())
                                    .map(thread::JoinHandle::join);
                            }
                            made.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
                let program = Program::own(&["exit", "13"]);
                until("threads are being made", || made.load(Ordering::SeqCst) > 10 + round);
                if leader {
                    program.exec()
                } else {
                    thread::spawn(move || program.exec()).join().unwrap()
                };
                14
            }));
            if status != "exited 13" {
                say!("leader {leader}: {status}");
            }
        }
    }
    say!("all programs ran");
}

/// The leader ends first; another thread executes, or ends, later.
pub(crate) fn after_the_leader(and_then: &str) {
    let pid = getpid();
    let own = own_path();
    let and_then = and_then.to_owned();
    thread::spawn(move || {
        until("the leader is a zombie", || crate::sys::state(pid, pid) == 'Z');
        assert!(open_something());
        match and_then.as_str() {
            "exec" => panic!("{:?}", Program::new(&[&own, "tell-ids", &pid.to_string()]).exec()),
            "exit" => exit_task(44),
            "exit-all" => crate::sys::exit_all(45),
            "signal" => drop(call!(SYS_tgkill, pid, gettid(), libc::SIGTERM)),
            _ => unreachable!(),
        }
    });
    exit_task(3);
}

pub(crate) fn tell_ids(pid: i32) {
    say!("same id {}, leader {}, {} thread", getpid() == pid, gettid() == pid, threads(pid).len());
    std::process::exit(46);
}

pub(crate) fn leader_first() {
    let own = own_path();
    for and_then in ["exec", "exit", "exit-all", "signal"] {
        let status = wait(fork(|| {
            Program::new(&[&own, "after-the-leader", and_then]).exec();
            99
        }));
        say!("{and_then}: {status}");
    }
}

static TICKS: AtomicI64 = AtomicI64::new(0);

/// Every way to fail leaves the caller as it was.
pub(crate) fn failures(directory: &str) {
    let path = |name: &str| format!("{directory}/{name}");
    let write = |name: &str, content: &[u8], mode: u32| {
        std::fs::write(path(name), content).unwrap();
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("rubbish", b"\x01\x02\x03\x04 rubbish", 0o755);
    write("plain", b"#!/bin/sh\n", 0o644);
    write("bad-interpreter", b"#!/no/such/interpreter\n", 0o755);
    write("cut", &std::fs::read(own_path()).unwrap()[..100], 0o755);
    write("busy", &std::fs::read("/bin/true").unwrap(), 0o755);
    std::os::unix::fs::symlink("loop", path("loop")).unwrap();
    let busy = std::fs::OpenOptions::new().append(true).open(path("busy")).unwrap();

    thread::spawn(|| {
        loop {
            TICKS.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
        }
    });
    let names = ["missing", "plain", "rubbish", "bad-interpreter", "cut", "busy", "loop", "plain/x", ""];
    for in_thread in [false, true] {
        for name in names {
            let program = Program::new(&[&path(name), "argument"]);
            let errno = if in_thread { thread::spawn(move || program.exec()).join().unwrap() } else { program.exec() };
            say!("in thread {in_thread}, {name:?}: {errno:?}");
        }
        say!("100 MiB of arguments and environment: {}", too_large());
        let before = TICKS.load(Ordering::SeqCst);
        until("the other thread goes on", || TICKS.load(Ordering::SeqCst) > before + 100);
        assert!(open_something());
    }
    drop(busy);
    // Not busy any more, and large but not too large.
    let program = Program::new(&[&path("busy")]);
    say!("no longer busy: {}", wait(fork(|| program.exec() as i32)));
    let word = "w".repeat(100_000);
    let words: Vec<&str> = ["count-words"].into_iter().chain([word.as_str(); 12]).collect();
    let program = Program::own(&words);
    say!("1.2 MB of arguments: {}", wait(fork(|| program.exec() as i32)));
}

/// Names and arguments that cannot be read.
pub(crate) fn unreadable() {
    let long = CString::new("x".repeat(5000)).unwrap();
    let own = CString::new(own_path()).unwrap();
    say!("a long name: {:?}", call!(SYS_execve, long.as_ptr(), 0, 0));
    say!("a wild name: {:?}", call!(SYS_execve, 16, 0, 0));
    say!("wild arguments: {:?}", call!(SYS_execve, own.as_ptr(), 16, 0));
}

/// 100 MiB in words of 128 KiB less one byte, the longest that there may be.
fn too_large() -> String {
    let word = CString::new("x".repeat((128 << 10) - 2)).unwrap();
    let mut pointers = vec![word.as_ptr(); 400];
    pointers.push(std::ptr::null());
    let own = CString::new(own_path()).unwrap();
    format!("{:?}", call!(SYS_execve, own.as_ptr(), pointers.as_ptr(), pointers.as_ptr()).unwrap_err())
}
