//! The application that the attach tests trace. It takes requests on standard
//! input and answers each with a line; at the input's end it ends with a
//! status of its own.
//!
//! A call that ends early, or any other surprise, ends it with another status:
//! being attached to and left again must not show.
#![allow(clippy::needless_for_each, clippy::manual_is_multiple_of, reason = "small loops")]
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, reason = "raw system calls are the point")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::BufRead as _;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use libc::{c_int, c_long, c_void};
use nix::errno::Errno;

/// What the end of its input makes of it.
const ENDED: i32 = 7;
/// What a surprise makes of it.
const SURPRISED: i32 = 70;

fn main() {
    std::panic::set_hook(Box::new(|panic| surprise(&panic.to_string())));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    // A last word may be there for the tests, to know their own processes.
    match words[..] {
        ["serve", shape, filter, ..] => serve(shape, filter),
        ["open", path, ..] => {
            println!("{}", name(open(path)));
            // Its end is awaited.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        ["exec-for-ever", directory, count, ..] => exec_for_ever(directory, count.parse().unwrap()),
        ["fork-for-ever", directory, ..] => fork_for_ever(directory),
        ["short", directory, ..] => std::process::exit(short(&format!("{directory}/public"))),
        _ => panic!("no such application: {words:?}"),
    }
}

fn surprise(what: &str) -> ! {
    eprintln!("application: {what}");
    unsafe { libc::_exit(SURPRISED) }
}

/// Requests of this shape:
/// `one`: no other thread; `fifty`: as many, blocked in all kinds of calls;
/// `openers:DIRECTORY`: four that open its files.
fn serve(shape: &str, filter: &str) -> ! {
    match filter {
        "none" => {}
        "refuse-socketpair" => forbid_socketpair(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        "kill-socketpair" => forbid_socketpair(libc::SECCOMP_RET_KILL_PROCESS),
        _ => panic!("no such filter: {filter}"),
    }
    let descendants = Descendants::start();
    let workers = match shape {
        "one" => Vec::new(),
        "fifty" => fifty(),
        _ => {
            let directory = shape.strip_prefix("openers:").unwrap();
            (0..OPENERS).for_each(|thread| open_for_ever(directory, thread));
            Vec::new()
        }
    };
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["pids"] => format!("{} {} {}", std::process::id(), descendants.pids[0], descendants.pids[1]),
            ["open", path] => open_in_all(&workers, path),
            ["thread", path] => {
                let path = path.to_owned();
                std::thread::spawn(move || name(open(&path))).join().unwrap()
            }
            ["fork", path] => in_child(path),
            ["spawn", path] => {
                // It does not end before spawn has returned (see `in_child`).
                let mut command = Command::new("/proc/self/exe");
                command.args(["open", path]).stdin(Stdio::piped()).stdout(Stdio::piped());
                let output = command.spawn().unwrap().wait_with_output().unwrap();
                assert!(output.status.success(), "{output:?}");
                String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
            }
            ["descendants", path] => descendants.open(path),
            ["opened"] => opened(),
            ["opened-by-each"] => {
                OPENED.lock().unwrap().iter().map(|own| own.values().sum::<u64>()).min().unwrap().to_string()
            }
            ["stops-are-expected"] => {
                STOPS.store(true, Ordering::Relaxed);
                "ok".to_owned()
            }
            ["getppid", times] => {
                for _ in 0..times.parse::<u32>().unwrap() {
                    std::hint::black_box(unsafe { libc::getppid() });
                }
                "ok".to_owned()
            }
            ["socketpair"] => match UnixStream::pair() {
                Ok(_) => "ok".to_owned(),
                Err(error) => name(error.raw_os_error().unwrap()),
            },
            _ => format!("no such request: {words:?}"),
        };
        println!("{answer}");
    }
    std::process::exit(ENDED);
}

/// The errno of opening a file, or 0. What was opened must be what was asked
/// for.
fn open(path: &str) -> c_int {
    open_quietly(&CString::new(path).unwrap())
}

/// Another file was opened, or none, although the call did not fail.
const WRONG: c_int = libc::EUCLEAN;

/// Without allocating: a forked child may do it.
fn open_quietly(path: &CString) -> c_int {
    let fd = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd == -1 {
        return Errno::last_raw();
    }
    if fd <= libc::STDERR_FILENO {
        // Of no file that was opened. What it is belongs to others.
        return WRONG;
    }
    // Each file of the tests holds its own name's first letter.
    let expected = path.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap()[0];
    let mut byte = 0u8;
    let read = unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
    unsafe { libc::close(fd) };
    if read == 1 && byte == expected { 0 } else { WRONG }
}

fn name(errno: c_int) -> String {
    if errno == 0 { "ok".to_owned() } else { format!("{:?}", Errno::from_raw(errno)) }
}

/// The child does not end before fork has returned: meanwhile the C library
/// blocks SIGCHLD here, and a blocked signal is not dropped, even if it is
/// ignored, but wakes another thread, whose call ends with `EINTR`. That has
/// nothing to do with a tracer.
fn in_child(path: &str) -> String {
    let path = CString::new(path).unwrap();
    let (wait_for, parent) = pipe();
    let child = unsafe { libc::fork() };
    if child == 0 {
        let errno = open_quietly(&path);
        unsafe {
            libc::close(parent.as_raw_fd());
            libc::read(wait_for.as_raw_fd(), [0u8].as_mut_ptr().cast(), 1);
            libc::_exit(errno);
        }
    }
    drop(parent);
    name(wait(child))
}

/// The status with which a child exits.
fn wait(child: c_int) -> c_int {
    let mut status = 0;
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "waitpid: {}", Errno::last());
    assert!(libc::WIFEXITED(status), "a child ended with wait status {status:#x}");
    libc::WEXITSTATUS(status)
}

// --- a child and its child -------------------------------------------------

/// A child and a grandchild, there from the beginning; they open what they are
/// told to.
struct Descendants {
    pids: [c_int; 2],
    requests: [OwnedFd; 2],
    answers: [OwnedFd; 2],
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) }
}

impl Descendants {
    fn start() -> Self {
        let [(child_in, child_requests), (grandchild_in, grandchild_requests)] = [pipe(), pipe()];
        let [(child_answers, child_out), (grandchild_answers, grandchild_out)] = [pipe(), pipe()];
        let (told, tell) = pipe();
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop((child_requests, grandchild_requests));
            let grandchild = unsafe { libc::fork() };
            if grandchild == 0 {
                // As after a fork of a shell's: not the same program.
                drop(child_out);
                obey(&grandchild_in, &grandchild_out);
            }
            write_all(&tell, &grandchild.to_ne_bytes());
            obey(&child_in, &child_out);
        }
        let mut grandchild = [0; 4];
        assert_eq!(read(&told, &mut grandchild), 4);
        Self {
            pids: [child, c_int::from_ne_bytes(grandchild)],
            requests: [child_requests, grandchild_requests],
            answers: [child_answers, grandchild_answers],
        }
    }

    fn open(&self, path: &str) -> String {
        let answer = |index: usize| {
            write_all(&self.requests[index], path.as_bytes());
            let mut errno = [0; 4];
            assert_eq!(read(&self.answers[index], &mut errno), 4);
            name(c_int::from_ne_bytes(errno))
        };
        format!("{} {}", answer(0), answer(1))
    }
}

/// Opens what comes until nothing comes.
fn obey(requests: &OwnedFd, answers: &OwnedFd) -> ! {
    loop {
        let mut path = [0; 4096];
        let length = read(requests, &mut path);
        if length == 0 {
            unsafe { libc::_exit(0) };
        }
        let errno = open(std::str::from_utf8(&path[..length]).unwrap());
        write_all(answers, &errno.to_ne_bytes());
    }
}

/// A read(2) that nothing may interrupt.
fn read(fd: &OwnedFd, bytes: &mut [u8]) -> usize {
    let length = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    uninterrupted("read", length as c_long) as usize
}

fn write_all(fd: &OwnedFd, bytes: &[u8]) {
    let length = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(uninterrupted("write", length as c_long) as usize, bytes.len());
}

/// The result of a call that must not fail.
fn uninterrupted(call: &str, result: c_long) -> c_long {
    if result == -1 {
        surprise(&format!("{call}: {}", Errno::last()));
    }
    result
}

// --- fifty threads ---------------------------------------------------------

/// SIGSTOP and SIGCONT are expected, after which some calls answer `EINTR`
/// without any tracer (signal(7)).
static STOPS: AtomicBool = AtomicBool::new(false);

/// How a thread waits, and what wakes it.
enum Wait {
    Epoll { epoll: OwnedFd, event: OwnedFd },
    Read { reader: OwnedFd, writer: OwnedFd },
    Futex(AtomicU32),
    Sleep,
    Signal,
    Accept { listener: UnixListener, address: SocketAddr },
    Loop,
}

struct Worker {
    wait: Wait,
    tid: AtomicI32,
    /// Requests told, and answered.
    told: AtomicU32,
    answered: AtomicU32,
    path: Mutex<String>,
    errno: AtomicI32,
}

/// Eight of each kind that sleeps, and one that runs: with the first thread
/// they are fifty.
fn fifty() -> Vec<&'static Worker> {
    unsafe {
        // Waited for with sigtimedwait.
        let mut signals = std::mem::zeroed();
        libc::sigaddset(&raw mut signals, libc::SIGUSR1);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
    }
    let mut waits = vec![Wait::Loop];
    for index in 0..8 {
        let (reader, writer) = pipe();
        let address =
            SocketAddr::from_abstract_name(format!("tracegate-attach-{}-{index}", std::process::id())).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        waits.extend([
            epoll(),
            Wait::Read { reader, writer },
            Wait::Futex(AtomicU32::new(0)),
            Wait::Sleep,
            Wait::Signal,
            Wait::Accept { listener, address },
        ]);
    }
    let start = |wait| {
        let worker: &'static Worker = Box::leak(Box::new(Worker {
            wait,
            tid: AtomicI32::new(0),
            told: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            path: Mutex::default(),
            errno: AtomicI32::new(0),
        }));
        std::thread::spawn(|| worker.work());
        while worker.tid.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        worker
    };
    waits.into_iter().map(start).collect()
}

fn epoll() -> Wait {
    let (epoll, event) = unsafe {
        (
            OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)),
            OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)),
        )
    };
    let mut wanted = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, event.as_raw_fd(), &raw mut wanted) };
    assert_eq!(added, 0);
    Wait::Epoll { epoll, event }
}

impl Worker {
    fn work(&self) -> ! {
        self.tid.store(unsafe { libc::gettid() }, Ordering::Release);
        loop {
            let told = self.told.load(Ordering::Acquire);
            if told == self.answered.load(Ordering::Relaxed) {
                self.wait();
                continue;
            }
            let path = self.path.lock().unwrap().clone();
            self.errno.store(open(&path), Ordering::Relaxed);
            self.answered.store(told, Ordering::Release);
        }
    }

    /// Waits once, until it is told something or a little longer.
    fn wait(&self) {
        match &self.wait {
            Wait::Epoll { epoll, event } => {
                let mut got = libc::epoll_event { events: 0, u64: 0 };
                let count = Self::calls("epoll_wait", || unsafe {
                    libc::epoll_wait(epoll.as_raw_fd(), &raw mut got, 1, -1).into()
                });
                assert_eq!(count, 1, "epoll_wait without limit");
                read(event, &mut [0; 8]);
            }
            Wait::Read { reader, .. } => assert_eq!(read(reader, &mut [0]), 1),
            Wait::Futex(word) => {
                let (address, wait) = (word.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG);
                let none = std::ptr::null::<libc::timespec>();
                while word.load(Ordering::Acquire) == 0 {
                    let result = unsafe { libc::syscall(libc::SYS_futex, address, wait, 0, none) };
                    if result == -1 && Errno::last() != Errno::EAGAIN {
                        uninterrupted("futex", result);
                    }
                }
                word.store(0, Ordering::Relaxed);
            }
            Wait::Sleep => {
                let pause = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                uninterrupted("nanosleep", unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) }.into());
            }
            Wait::Signal => {
                let signal = Self::calls("sigtimedwait", || unsafe {
                    let mut signals = std::mem::zeroed();
                    libc::sigaddset(&raw mut signals, libc::SIGUSR1);
                    libc::sigtimedwait(&raw const signals, std::ptr::null_mut(), std::ptr::null()).into()
                });
                assert_eq!(signal, libc::SIGUSR1.into());
            }
            Wait::Accept { listener, .. } => {
                let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
                let fd = unsafe { libc::accept4(listener.as_raw_fd(), address, length, libc::SOCK_CLOEXEC) };
                drop(unsafe { OwnedFd::from_raw_fd(uninterrupted("accept4", fd.into()) as c_int) });
            }
            Wait::Loop => {
                for _ in 0..1000 {
                    std::hint::black_box(unsafe { libc::getppid() });
                    for number in 0..10_000 {
                        std::hint::black_box(number);
                    }
                    if self.told.load(Ordering::Relaxed) != self.answered.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }
    }

    /// A call that a stop, but nothing else, may end with `EINTR`.
    fn calls(name: &str, mut call: impl FnMut() -> c_long) -> c_long {
        loop {
            let result = call();
            if result != -1 || Errno::last() != Errno::EINTR || !STOPS.load(Ordering::Relaxed) {
                return uninterrupted(name, result);
            }
        }
    }

    fn tell(&self, path: &str) {
        path.clone_into(&mut self.path.lock().unwrap());
        self.told.fetch_add(1, Ordering::Release);
        match &self.wait {
            Wait::Epoll { event, .. } => write_all(event, &1u64.to_ne_bytes()),
            Wait::Read { writer, .. } => write_all(writer, b"."),
            Wait::Futex(word) => {
                word.store(1, Ordering::Release);
                let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
                unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wake, 1) };
            }
            Wait::Sleep | Wait::Loop => {}
            Wait::Signal => {
                let tid = self.tid.load(Ordering::Relaxed);
                let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, libc::SIGUSR1) };
                uninterrupted("tgkill", sent);
            }
            Wait::Accept { address, .. } => drop(UnixStream::connect_addr(address).unwrap()),
        }
    }
}

/// Opens a file in every thread: each answer, and how many gave it.
fn open_in_all(workers: &[&Worker], path: &str) -> String {
    let mut answers = BTreeMap::new();
    workers.iter().for_each(|worker| worker.tell(path));
    *answers.entry(name(open(path))).or_insert(0) += 1;
    for worker in workers {
        while worker.answered.load(Ordering::Acquire) != worker.told.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        *answers.entry(name(worker.errno.load(Ordering::Relaxed))).or_insert(0) += 1;
    }
    answers.iter().map(|(answer, count)| format!("{answer} {count}")).collect::<Vec<_>>().join(" ")
}

// --- those that open for ever ----------------------------------------------

const OPENERS: usize = 4;

/// Answers of each thread, and how many of each.
static OPENED: Mutex<[BTreeMap<String, u64>; OPENERS]> = Mutex::new([const { BTreeMap::new() }; OPENERS]);

/// A thread that opens `public` and `secret` in turn.
fn open_for_ever(directory: &str, thread: usize) {
    let paths = ["public", "secret"].map(|file| (file, CString::new(format!("{directory}/{file}")).unwrap()));
    std::thread::spawn(move || {
        loop {
            for (file, path) in &paths {
                let answer = name(open_quietly(path));
                *OPENED.lock().unwrap()[thread].entry(format!("{file} {answer}")).or_insert(0) += 1;
            }
        }
    });
}

/// What came of it since it was last asked.
fn opened() -> String {
    let mut all = BTreeMap::new();
    for own in std::mem::take(&mut *OPENED.lock().unwrap()) {
        own.into_iter().for_each(|(answer, count)| *all.entry(answer).or_insert(0) += count);
    }
    all.iter().map(|(answer, count)| format!("{answer} {count}")).collect::<Vec<_>>().join(", ")
}

/// Executes itself again and again, from the first thread or another, with
/// and without others beside it, until a file `stop` is there.
fn exec_for_ever(directory: &str, count: u32) {
    if Path::new(directory).join("stop").exists() {
        println!("stopped after {count}");
        std::process::exit(ENDED);
    }
    let errno = open(&format!("{directory}/public"));
    assert_eq!(errno, 0, "public: {}", name(errno));
    if count == 0 {
        println!("ready");
    }
    if count % 5 == 0 {
        (0..3).for_each(|_| drop(std::thread::spawn(|| unsafe { libc::pause() })));
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["exec-for-ever", directory, &(count + 1).to_string()]).args(std::env::args().skip(4));
    let mut exec = move || panic!("exec: {}", command.exec());
    if count % 3 == 0 { std::thread::spawn(exec).join().unwrap() } else { exec() }
}

/// Makes short-lived children until a file `stop` is there.
fn fork_for_ever(directory: &str) {
    let (public, itself) = (CString::new(format!("{directory}/public")).unwrap(), c"/proc/self/exe");
    let argv = ["attach_app", "short", directory].map(|word| CString::new(word).unwrap());
    let argv = [argv[0].as_ptr(), argv[1].as_ptr(), argv[2].as_ptr(), std::ptr::null()];
    let mut count = 0;
    println!("ready");
    while !Path::new(directory).join("stop").exists() {
        let child = unsafe { libc::fork() };
        if child == 0 {
            unsafe {
                match count % 3 {
                    0 => drop(libc::execv(itself.as_ptr(), argv.as_ptr())),
                    1 => libc::_exit(if open_quietly(&public) == 0 { 3 } else { SURPRISED }),
                    _ => libc::_exit(3),
                }
                libc::_exit(SURPRISED);
            }
        }
        assert_eq!(wait(child), 3, "status of child {count}");
        count += 1;
    }
    println!("stopped after {count}");
    std::process::exit(ENDED);
}

/// A program that is soon over.
fn short(path: &str) -> i32 {
    let path = path.to_owned();
    std::thread::spawn(move || if open(&path) == 0 { 3 } else { SURPRISED }).join().unwrap()
}

// --- a filter of its own ---------------------------------------------------

fn forbid_socketpair(action: u32) {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut program = [
        // `nr` of struct seccomp_data.
        instruction(load, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_socketpair as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let program: *const c_void = (&raw const program).cast();
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, program), 0, "{}", Errno::last());
    }
}
