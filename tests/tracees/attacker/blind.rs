//! Ways to keep the tracer from seeing: `blind WHAT ROOT [NUMBER]`.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use libc::{c_int, c_long, c_void, sock_filter};

use crate::memory::Flipper;
use crate::race::repeat;
use crate::sys::{Child, Saw, Tally, c, check, errno, is_secret, name, open, opened, owned, pages, say_opened, wait};

const READ: c_int = libc::O_RDONLY;

pub fn main(what: &str, root: &str, number: u64) {
    let secret = format!("{root}/s/file");
    let harmless = format!("{root}/h/file");
    match what {
        "listener" => listener(&secret, 0),
        // The kernel takes the flags as 32 bits.
        "listener-upper-half" => listener(&secret, 0xdead_beef << 32),
        "listener-tsync" => listener(&secret, libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH),
        #[cfg(target_arch = "x86_64")]
        "listener-int80" => listener_int80(&secret),
        // The answer of the newest filter is the one that the tracer gets.
        "own-trace" => {
            install(&on(libc::SYS_openat, libc::SECCOMP_RET_TRACE | number as u32));
            say_opened(open(&secret, READ));
        }
        "own-notify-without-listener" => {
            install(&on(libc::SYS_openat, libc::SECCOMP_RET_USER_NOTIF));
            say_opened(open(&secret, READ));
        }
        "own-allow" => {
            install(&on(libc::SYS_openat, libc::SECCOMP_RET_ALLOW));
            say_opened(open(&secret, READ));
        }
        "own-log" => {
            install(&on(libc::SYS_openat, libc::SECCOMP_RET_LOG));
            say_opened(open(&secret, READ));
        }
        // These work as alone.
        "own-errno" => {
            install(&on(libc::SYS_openat, libc::SECCOMP_RET_ERRNO | libc::EXDEV as u32));
            say_opened(open(&harmless, READ));
        }
        "own-kill" => {
            let status = Child::status_of(|| {
                install(&on(libc::SYS_openat, libc::SECCOMP_RET_KILL_PROCESS));
                drop(open(&harmless, READ));
                0
            });
            println!("{status}");
        }
        "own-trap" => {
            extern "C" fn trapped(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
                // SAFETY of the message: written by hand, for a handler.
                let text = if unsafe { (*info).si_code } == 1 { "trapped\n" } else { "odd\n" };
                unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
                unsafe { libc::_exit(0) };
            }
            let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
            action.sa_sigaction = trapped as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            check(unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) }).unwrap();
            install(&on(libc::SYS_openat, libc::SECCOMP_RET_TRAP));
            drop(open(&harmless, READ));
            println!("not trapped");
        }
        "own-in-thread-synced" => {
            // For all threads at once.
            std::thread::spawn(|| {
                no_new_privileges();
                let filter = on(libc::SYS_openat, libc::SECCOMP_RET_ALLOW);
                check(seccomp(libc::SECCOMP_FILTER_FLAG_TSYNC, &filter)).unwrap();
            })
            .join()
            .unwrap();
            say_opened(open(&secret, READ));
        }
        "strict" => {
            let status = Child::status_of(|| {
                if unsafe { libc::prctl(libc::PR_SET_SECCOMP, 1, 0, 0, 0) } != 0 {
                    return errno();
                }
                // Nothing but read, write, exit and sigreturn from here on.
                unsafe { libc::syscall(libc::SYS_exit, 77) };
                0
            });
            println!("{}", if status == 77 { "strict".to_owned() } else { name(status) });
        }
        "strict-then-open" => {
            let status = Child::status_of(|| {
                if unsafe { libc::prctl(libc::PR_SET_SECCOMP, 1, 0, 0, 0) } != 0 {
                    return errno();
                }
                let path = c(&secret);
                let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), READ) };
                unsafe { libc::syscall(libc::SYS_exit, if fd >= 0 { 99 } else { 0 }) };
                0
            });
            println!("{}", if status == 137 { "killed".to_owned() } else { status.to_string() });
        }
        // ---- children out of sight ------------------------------------------
        "untraced-clone" => in_clone(libc::CLONE_UNTRACED as u64, &secret),
        "untraced-clone-upper-half" => in_clone(libc::CLONE_UNTRACED as u64 | 0xdead_beef << 32, &secret),
        "untraced-vfork" => in_clone((libc::CLONE_UNTRACED | libc::CLONE_VFORK) as u64, &secret),
        "untraced-clone3" => in_clone3(libc::CLONE_UNTRACED as u64, &secret),
        "untraced-clone3-race" => clone3_race(&secret, number),
        "clone-parent" => in_clone(libc::CLONE_PARENT as u64, &secret),
        "clone-parent-untraced" => in_clone((libc::CLONE_PARENT | libc::CLONE_UNTRACED) as u64, &secret),
        // A child whose end is told to nobody, or by another signal.
        "clone-without-signal" => in_clone_with(0, 0, &secret),
        "clone-with-other-signal" => in_clone_with(0, libc::SIGURG as u64, &secret),
        "vfork-child" => {
            let status = crate::memory::in_vfork(&mut || say_opened(open(&secret, READ)));
            assert_eq!(status, 0);
        }
        "grandchild-of-the-dead" => {
            // The parent is gone when the child looks.
            let mut pipe = [0; 2];
            check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
            Child::status_of(|| {
                if unsafe { libc::fork() } == 0 {
                    unsafe { libc::setsid() };
                    while unsafe { libc::getppid() } == unsafe { libc::getpgrp() } {}
                    say_opened(open(&secret, READ));
                    unsafe { libc::write(pipe[1], c"x".as_ptr().cast(), 1) };
                }
                0
            });
            let mut byte = 0u8;
            unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) };
        }
        "traceme" => {
            let status = Child::status_of(|| {
                let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
                println!("{}", if traced == 0 { "ok".to_owned() } else { name(errno()) });
                say_opened(open(&secret, READ));
                0
            });
            assert_eq!(status, 0);
        }
        // To become its tracer, and let it run past its stops.
        "attach-to-child" | "seize-child" => {
            let child = Child::forever(|| unsafe {
                libc::pause();
            });
            let request = if what == "seize-child" { libc::PTRACE_SEIZE } else { libc::PTRACE_ATTACH };
            let attached = unsafe { libc::ptrace(request, child.0, 0, 0) };
            println!("{}", if attached == 0 { "ok".to_owned() } else { name(errno()) });
        }
        // ---- floods ---------------------------------------------------------
        "fork-bomb" => {
            let mut leaked = 0;
            let children: Vec<_> = (0..number)
                .map(|_| {
                    let pid = check(unsafe { libc::fork() }).unwrap() as c_int;
                    if pid == 0 {
                        let got = open(&secret, READ).is_ok_and(|fd| is_secret(fd.as_raw_fd()));
                        unsafe { libc::_exit(c_int::from(got)) };
                    }
                    pid
                })
                .collect();
            for child in children {
                leaked += wait(child);
            }
            println!("{leaked} leaked");
        }
        "flood" => {
            // Events from four threads while a fifth tries.
            let mut flooders = Vec::new();
            for _ in 0..4 {
                let harmless = harmless.clone();
                flooders.push(Flipper::start(move |stop| {
                    while !stop.load(Ordering::Relaxed) {
                        drop(open(&harmless, READ));
                    }
                }));
            }
            let mut tally = Tally::default();
            repeat(number, true, &mut tally, &mut || opened(unsafe { libc::open(c(&secret).as_ptr(), READ) }.into()));
            tally.print();
        }
        "alert-storm" => {
            let mut tally = Tally::default();
            let path = c(&secret);
            repeat(number, true, &mut tally, &mut || opened(unsafe { libc::open(path.as_ptr(), READ) }.into()));
            tally.print();
        }
        // A page that is never there: whoever looks waits.
        "stalled" => stalled(&secret),
        _ => panic!("no such blinding: {what}"),
    }
}

// ---- seccomp -----------------------------------------------------------------

const fn ret(value: u32) -> sock_filter {
    sock_filter { code: 0x06, jt: 0, jf: 0, k: value }
}

/// Answers one call so, and all others with "allow".
fn on(number: c_long, answer: u32) -> [sock_filter; 4] {
    [
        sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
        sock_filter { code: 0x15, jt: 0, jf: 1, k: number as u32 },
        ret(answer),
        ret(libc::SECCOMP_RET_ALLOW),
    ]
}

fn no_new_privileges() {
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).unwrap();
}

fn seccomp(flags: u64, filter: &[sock_filter]) -> c_long {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) }
}

fn install(filter: &[sock_filter]) {
    no_new_privileges();
    check(seccomp(0, filter)).unwrap();
}

/// Runs a program for which this call fails with EPERM, as under a container's
/// filter.
pub fn run_without(number: c_long, program: &str, argv: &[String]) -> ! {
    install(&on(number, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    let argv: Vec<_> = argv.iter().map(|word| c(word)).collect();
    let error = nix::unistd::execvp(&c(program), &argv).unwrap_err();
    panic!("{program}: {error}");
}

/// A listener of our own answers "go on" before anybody else is asked.
fn listener(secret: &str, flags: u64) {
    no_new_privileges();
    let filter = on(libc::SYS_openat, libc::SECCOMP_RET_USER_NOTIF);
    // A supervisor that has no filter: it shares our descriptors.
    let listener = seccomp(flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    answered(listener, secret);
}

fn answered(listener: c_long, secret: &str) {
    if listener < 0 {
        println!("refused");
        return say_opened(open(secret, READ));
    }
    let _supervisor = supervise(listener as c_int);
    say_opened(open(secret, READ));
}

/// Answers each notification with `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
fn supervise(listener: c_int) -> Child {
    const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    Child::forever(move || {
        loop {
            // `struct seccomp_notif` and `struct seccomp_notif_resp`.
            let mut notification = [0u64; 10];
            unsafe { libc::ioctl(listener, RECEIVE, notification.as_mut_ptr()) };
            let mut answer = [notification[0], 0, 1 << 32];
            unsafe { libc::ioctl(listener, SEND, answer.as_mut_ptr()) };
        }
    })
}

/// seccomp(2) by the 32-bit gate, for calls of the 64-bit one.
#[cfg(target_arch = "x86_64")]
fn listener_int80(secret: &str) {
    no_new_privileges();
    let page = pages(1);
    let filter = on(libc::SYS_openat, libc::SECCOMP_RET_USER_NOTIF);
    unsafe {
        let program = page.add(1024);
        std::ptr::copy_nonoverlapping(filter.as_ptr(), program.cast(), filter.len());
        // `struct compat_sock_fprog`
        *page.cast::<u32>() = filter.len() as u32;
        *page.add(4).cast::<u32>() = program as u32;
    }
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = crate::abi::int80(354, [u64::from(libc::SECCOMP_SET_MODE_FILTER), flags, page as u64, 0, 0]);
    answered(listener, secret);
}

// ---- clone -------------------------------------------------------------------

fn in_clone(flags: u64, secret: &str) {
    in_clone_with(flags, libc::SIGCHLD as u64, secret);
}

/// The child says what it got; we wait for it by a pipe, for it may be
/// somebody else's child.
fn in_clone_with(flags: u64, signal: u64, secret: &str) {
    let mut pipe = [0; 2];
    check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
    let none = 0usize;
    let child = unsafe { libc::syscall(libc::SYS_clone, flags | signal, none, none, none, none) };
    finish_clone(child, pipe, secret);
}

fn in_clone3(flags: u64, secret: &str) {
    let mut pipe = [0; 2];
    check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
    let mut arguments = [0u64; 8];
    (arguments[0], arguments[4]) = (flags, libc::SIGCHLD as u64);
    let child = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), 64) };
    finish_clone(child, pipe, secret);
}

fn finish_clone(child: c_long, pipe: [c_int; 2], secret: &str) {
    match child {
        -1 => println!("{}", name(errno())),
        0 => {
            say_opened(open(secret, READ));
            unsafe { libc::_exit(0) };
        }
        child => {
            unsafe { libc::close(pipe[1]) };
            let mut byte = 0u8;
            // Ends when the child does.
            unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) };
            unsafe { libc::waitpid(child as c_int, std::ptr::null_mut(), libc::__WALL) };
        }
    }
}

/// The flag comes and goes while the call is looked at.
fn clone3_race(secret: &str, attempts: u64) {
    let page = pages(1) as usize;
    unsafe { *(page as *mut u64).add(4) = libc::SIGCHLD as u64 };
    // The third byte of the flags.
    let untraced = (libc::CLONE_UNTRACED >> 16) as u8;
    let _flipper = Flipper::start(move |stop: &AtomicBool| {
        let byte = unsafe { &*((page + 2) as *const AtomicU8) };
        while !stop.load(Ordering::Relaxed) {
            byte.store(0, Ordering::Relaxed);
            (0..50).for_each(|_| std::hint::spin_loop());
            byte.store(untraced, Ordering::Relaxed);
            (0..50).for_each(|_| std::hint::spin_loop());
        }
    });
    let path = c(secret);
    let mut tally = Tally::default();
    repeat(attempts, true, &mut tally, &mut || {
        let child = unsafe { libc::syscall(libc::SYS_clone3, page, 64) };
        match child {
            -1 => match errno() {
                libc::ENOSYS => Saw::Denied,
                errno => Saw::Other(errno),
            },
            0 => unsafe {
                let fd = libc::open(path.as_ptr(), READ);
                libc::_exit(c_int::from(fd >= 0 && is_secret(fd)))
            },
            child => match wait(child as c_int) {
                0 => Saw::Harmless,
                _ => Saw::Leaked,
            },
        }
    });
    tally.print();
}

/// While one thread's call waits for a page that never comes, another tries.
fn stalled(secret: &str) {
    const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
    const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
    let fd = owned(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) } as c_int).unwrap();
    let mut api = [0xaa_u64, 0, 0];
    check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) }).unwrap();
    let page = pages(1) as usize;
    let mut register = [page as u64, 4096, 1, 0];
    check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) }).unwrap();
    let waiting = Child::forever(|| {
        // The child's page is an ordinary one; only the parent's is missing.
        unsafe { libc::pause() };
    });
    std::thread::spawn(move || unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, page, READ) });
    // Long enough for that call to have come to its wait.
    std::thread::sleep(std::time::Duration::from_millis(200));
    say_opened(open(secret, READ));
    drop(waiting);
    std::process::exit(0);
}
