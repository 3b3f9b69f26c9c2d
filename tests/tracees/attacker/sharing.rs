//! What is shared with another process, but not by the threads that show it:
//! `race-shared WHAT ROOT ATTEMPTS`.

use std::os::fd::AsRawFd;
use std::process::exit;

use libc::{c_int, c_long};

use crate::race::{nameless, repeat};
use crate::sys::{Child, Saw, Tally, c, check, open, opened};

const FD: c_int = 100;

pub fn main(what: &str, root: &str, attempts: u64) {
    match what {
        "directory-by-exec" => by_exec(root, attempts),
        "directory-by-fork" => by_fork(root, attempts),
        // Opens in the directory that somebody else moves.
        "opener" => {
            let mut tally = Tally::default();
            repeat(attempts, false, &mut tally, &mut || open_here("file"));
            tally.print();
        }
        "mover" => {
            let sides = ["h", "s"].map(|side| open(&format!("{root}/{side}"), libc::O_PATH).unwrap());
            let parent = std::os::unix::process::parent_id();
            while std::os::unix::process::parent_id() == parent {
                for _ in 0..100 {
                    for side in &sides {
                        unsafe { libc::fchdir(side.as_raw_fd()) };
                    }
                }
            }
        }
        _ => descriptors(what, root, attempts),
    }
}

fn open_here(name: &str) -> Saw {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    opened(unsafe { libc::openat(libc::AT_FDCWD, c(name).as_ptr(), flags) }.into())
}

/// A child has the directory that its maker had when it was begun to be made,
/// which takes a while; another thread goes elsewhere meanwhile.
fn by_fork(root: &str, attempts: u64) {
    const MEMORY: usize = 16 << 20;
    let memory = vec![1u8; MEMORY];
    let sides = ["h", "s"].map(|side| open(&format!("{root}/{side}"), libc::O_PATH).unwrap());
    check(unsafe { libc::fchdir(sides[0].as_raw_fd()) }).unwrap();
    let _mover = crate::memory::Flipper::start(move |stop| {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            for side in &sides {
                unsafe { libc::fchdir(side.as_raw_fd()) };
            }
        }
    });
    let mut tally = Tally::default();
    repeat(attempts, false, &mut tally, &mut || {
        let status = Child::status_of(|| match open_here("file") {
            Saw::Harmless => 0,
            Saw::Denied => 1,
            Saw::Leaked => 2,
            Saw::Other(errno) => 10 + errno,
        });
        [Saw::Harmless, Saw::Denied, Saw::Leaked].get(status as usize).copied().unwrap_or(Saw::Other(status - 10))
    });
    std::hint::black_box(memory);
    tally.print();
}

/// A process made by a raw clone(2) with nothing else said.
fn process(flags: c_int) -> c_long {
    check(unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) }).unwrap()
}

/// A table that a thread of another process changes, whose first thread has
/// another table or is gone; or in which the thread that opens has no part.
fn descriptors(what: &str, root: &str, attempts: u64) {
    let harmless = nameless("nameless-pipe", root);
    let secret = open(&format!("{root}/s/file"), libc::O_PATH).unwrap();
    let fds = [harmless.as_raw_fd(), secret.as_raw_fd()];
    check(unsafe { libc::dup2(fds[0], FD) }).unwrap();
    let child = process(libc::CLONE_FILES);
    if child == 0 {
        std::thread::spawn(move || {
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            loop {
                for fd in fds {
                    unsafe { libc::dup2(fd, FD) };
                }
            }
        });
        match what {
            "descriptors-of-a-thread" => drop(unsafe { libc::unshare(libc::CLONE_FILES) }),
            "descriptors-of-an-orphan" => drop(unsafe { libc::syscall(libc::SYS_exit, 0) }),
            _ => {}
        }
        loop {
            std::thread::park();
        }
    }
    let _mover = Child(child as i32);
    let mut tally = Tally::default();
    let name = format!("/proc/self/fd/{FD}");
    let mut run = || repeat(attempts, false, &mut tally, &mut || open_here(&name));
    if what == "descriptors-of-the-leader" {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                check(unsafe { libc::unshare(libc::CLONE_FILES) }).unwrap();
                run();
            });
        });
    } else {
        run();
    }
    tally.print();
}

/// Two programs that share a directory, each executed by a thread that has not
/// made the other process.
fn by_exec(root: &str, attempts: u64) {
    check(unsafe { libc::chdir(c(&format!("{root}/h")).as_ptr()) }).unwrap();
    let role = if process(libc::CLONE_FS) == 0 { "mover" } else { "opener" };
    let words = ["attacker", "race-shared", role, root, &attempts.to_string()].map(c);
    let exe = c(std::env::current_exe().unwrap().to_str().unwrap());
    std::thread::spawn(move || {
        let mut argv = words.each_ref().map(|word| word.as_ptr()).to_vec();
        argv.push(std::ptr::null());
        unsafe { libc::execv(exe.as_ptr(), argv.as_ptr()) };
        exit(crate::sys::errno());
    });
    loop {
        std::thread::park();
    }
}
