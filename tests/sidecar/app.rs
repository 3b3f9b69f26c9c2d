//! The application that the sidecar tests trace: it serves requests on a Unix
//! socket, with several processes and threads, and every thread has a
//! heartbeat. A request opens a file somehow; the answer is `ok` or the
//! errno's name, so that a denial is visible from outside.
//!
//! A call that ends early, or any other surprise, ends the application with
//! status 70: being attached to and left again must not show.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, reason = "raw system calls are the point")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;

/// What SIGTERM makes of the application.
const STOPPED: i32 = 7;

/// What a surprise makes of it.
const SURPRISED: i32 = 70;

static STOP: AtomicBool = AtomicBool::new(false);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", directory, processes, threads] => {
            serve(directory, processes.parse().unwrap(), threads.parse().unwrap());
        }
        ["open", path] => println!("{}", open(path)),
        [] => pause(),
        _ => panic!("no such application: {words:?}"),
    }
}

/// What the first process of a pod does: it waits, for orphans too.
fn pause() -> ! {
    assert!(std::env::current_exe().unwrap().ends_with("pause"), "an application needs arguments");
    extern "C" fn end(_: c_int) {
        unsafe { libc::_exit(0) };
    }
    unsafe { libc::signal(libc::SIGTERM, end as *const () as libc::sighandler_t) };
    loop {
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } == -1 {
            let moment = libc::timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            unsafe { libc::nanosleep(&raw const moment, std::ptr::null_mut()) };
        }
    }
}

/// Serves `directory/socket`; the heartbeats are in `directory/beats`, eight
/// bytes a thread.
fn serve(directory: &str, processes: usize, threads: usize) {
    extern "C" fn stop(_: c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    std::panic::set_hook(Box::new(|panic| surprise(&panic.to_string())));
    // Once for all processes: a listener is inherited.
    let listener = Arc::new(UnixListener::bind(format!("{directory}/socket")).unwrap());
    listener.set_nonblocking(true).unwrap();
    open_to_all(&format!("{directory}/socket"));
    let mut options = File::options();
    let beats = options.read(true).write(true).create(true).truncate(true).open(format!("{directory}/beats"));
    let beats = Arc::new(beats.unwrap());
    unsafe { libc::signal(libc::SIGTERM, stop as *const () as libc::sighandler_t) };
    let mut children = Vec::new();
    for process in 1..processes {
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", io::Error::last_os_error()),
            0 => work(&listener, &beats, process, threads),
            child => children.push(child),
        }
    }
    work_until_stopped(&listener, &beats, 0, threads);
    for child in children {
        unsafe { libc::kill(child, libc::SIGTERM) };
        let mut status = 0;
        while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {}
        assert_eq!(libc::WEXITSTATUS(status), STOPPED, "status of process {child}");
    }
    println!("stopped");
    std::process::exit(STOPPED);
}

/// A further process. Its threads start after the first one's: by then the
/// two address spaces may differ in what a tracer has put there.
fn work(listener: &Arc<UnixListener>, beats: &Arc<File>, process: usize, threads: usize) -> ! {
    let mut first = [0; 8];
    while beats.read_exact_at(&mut first, 8).is_err() || first == [0; 8] {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    work_until_stopped(listener, beats, process, threads);
    std::process::exit(STOPPED);
}

/// One process: `threads` workers, and its first thread, which only beats.
fn work_until_stopped(listener: &Arc<UnixListener>, beats: &Arc<File>, process: usize, threads: usize) {
    let first = process * (threads + 1);
    let workers: Vec<_> = (1..=threads)
        .map(|thread| {
            let (listener, beats) = (Arc::clone(listener), Arc::clone(beats));
            std::thread::spawn(move || {
                beat_until_stopped(&beats, first + thread, || {
                    if ready(&listener) {
                        // Another worker may have been quicker.
                        match listener.accept() {
                            Ok((stream, _)) => answer(stream),
                            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "accept: {error}"),
                        }
                    }
                });
            })
        })
        .collect();
    beat_until_stopped(beats, first, || {
        let pause = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        uninterrupted("nanosleep", unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) });
    });
    for worker in workers {
        worker.join().unwrap();
    }
}

fn beat_until_stopped(beats: &File, slot: usize, mut step: impl FnMut()) {
    let mut count = 0u64;
    while !STOP.load(Ordering::Relaxed) {
        step();
        count += 1;
        beats.write_all_at(&count.to_ne_bytes(), slot as u64 * 8).unwrap();
    }
}

/// Waits a little for a connection.
fn ready(listener: &UnixListener) -> bool {
    let mut waited = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    uninterrupted("poll", unsafe { libc::poll(&raw mut waited, 1, 10) }) > 0
}

/// The result of a call that nothing may cut short but our own end.
fn uninterrupted(call: &str, result: c_int) -> c_int {
    if result == -1 && !STOP.load(Ordering::Relaxed) {
        surprise(&format!("{call}: {}", io::Error::last_os_error()));
    }
    result
}

fn surprise(what: &str) -> ! {
    eprintln!("application: {what}");
    unsafe { libc::_exit(SURPRISED) }
}

/// One line each way.
fn answer(stream: UnixStream) {
    stream.set_nonblocking(false).unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let answer = match words[..] {
        ["open", path] => open(path),
        ["thread", path] => {
            let path = path.to_owned();
            std::thread::spawn(move || open(&path)).join().unwrap()
        }
        ["fork", path] => in_child(path),
        ["spawn", path] => {
            let output = Command::new("/proc/self/exe").args(["open", path]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
        }
        ["orphan"] => orphan(),
        ["zombies"] => zombies().to_string(),
        ["pid"] => std::process::id().to_string(),
        _ => format!("no such request: {words:?}"),
    };
    // A client that went away is its own affair.
    match writeln!(&stream, "{answer}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => panic!("answering: {error}"),
        _ => {}
    }
}

fn open(path: &str) -> String {
    let path = CString::new(path).unwrap();
    match unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) } {
        -1 => format!("{:?}", nix::errno::Errno::last()),
        fd => {
            unsafe { libc::close(fd) };
            "ok".to_owned()
        }
    }
}

/// Opens in a forked child. Between fork and `_exit` nothing is allocated:
/// another thread may hold the allocator's lock.
fn in_child(path: &str) -> String {
    let path = CString::new(path).unwrap();
    let child = unsafe { libc::fork() };
    if child == 0 {
        let fd = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY) };
        unsafe { libc::_exit(if fd == -1 { nix::errno::Errno::last_raw() } else { 0 }) };
    }
    let mut status = 0;
    assert_eq!(uninterrupted("waitpid", unsafe { libc::waitpid(child, &raw mut status, 0) }), child);
    match libc::WEXITSTATUS(status) {
        _ if !libc::WIFEXITED(status) => format!("wait status {status:#x}"),
        0 => "ok".to_owned(),
        errno => format!("{:?}", nix::errno::Errno::from_raw(errno)),
    }
}

/// Leaves a process to whoever is PID 1; answers once it has no parent here.
fn orphan() -> String {
    let child = unsafe { libc::fork() };
    if child == 0 {
        if unsafe { libc::fork() } == 0 {
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
        }
        unsafe { libc::_exit(0) };
    }
    uninterrupted("waitpid", unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) });
    "ok".to_owned()
}

/// Processes of this PID namespace that nobody has waited for.
fn zombies() -> usize {
    let is_zombie = |entry: io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    std::fs::read_dir("/proc").unwrap().map(is_zombie).filter(|zombie| *zombie).count()
}

/// A client of another user may connect.
fn open_to_all(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}
