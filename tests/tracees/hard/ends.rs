//! How processes end, whom they leave, and who is told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use libc::{c_int, pid_t};

use crate::sys::{
    ask, call, close, exit_all, fork, getpid, open_something, pipe, put, read_all, say, shared, sleepers, state, until,
    wait, wait_for,
};

/// `exit_group`, a signal and SIGKILL end a process with 50 threads in calls.
pub(crate) fn all_at_once() {
    for end in ["leader", "thread", "signal", "kill", "abort"] {
        for _ in 0..4 {
            let ready = &shared(1)[0];
            let child = fork(|| {
                sleepers(45);
                for _ in 0..5 {
                    thread::spawn(|| {
                        loop {
                            open_something();
                        }
                    });
                }
                ready.store(1, Ordering::SeqCst);
                match end {
                    "leader" => exit_all(33),
                    "thread" => drop(thread::spawn(|| exit_all(34)).join()),
                    "signal" => drop(unsafe { libc::raise(libc::SIGUSR1) }),
                    "abort" => {
                        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
                        std::process::abort();
                    }
                    _ => crate::sys::pause_ms(60_000),
                }
                1
            });
            if end == "kill" {
                until("all threads run", || ready.load(Ordering::SeqCst) == 1);
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            say!("{end}: {}", wait(child));
        }
    }
}

/// A double fork: the parent sees its child only; the daemon gets another
/// parent.
pub(crate) fn daemon() {
    let [reader, writer] = pipe();
    let us = getpid();
    let above = unsafe { libc::getppid() };
    let child = fork(|| {
        unsafe { libc::setsid() };
        let middle = getpid();
        fork(|| {
            until("the parent is gone", || unsafe { libc::getppid() } != middle);
            let parent = unsafe { libc::getppid() };
            let opened = open_something();
            // Alone the new parent is init, or whoever reaps for it.
            put(writer, format!("opened {opened}, adopted by its grandparent {}", parent == us).as_bytes());
            0
        });
        7
    });
    close(writer);
    say!("child {}, then {}", wait(child), wait_for(-1, libc::__WALL));
    say!("{}; our parent is the same {}", read_all(reader), above == unsafe { libc::getppid() });
}

/// Who asked for it gets the orphans, with their statuses.
pub(crate) fn subreaper() {
    call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).unwrap();
    let us = getpid();
    for round in 0..10 {
        let orphan = &shared(1)[0];
        let child = fork(|| {
            let middle = getpid();
            let made = fork(|| {
                until("the parent is gone", || unsafe { libc::getppid() } != middle);
                open_something();
                if unsafe { libc::getppid() } == us { 20 + round } else { 255 }
            });
            orphan.store(made.into(), Ordering::SeqCst);
            0
        });
        let first = wait(child);
        say!("child {first}, orphan {}", wait(orphan.load(Ordering::SeqCst) as pid_t));
    }
    say!("{}", wait_for(-1, libc::__WALL));
}

/// `PR_SET_PDEATHSIG`: the child of a process that is killed, and of a thread
/// that ends.
pub(crate) fn death_signal() {
    for end in ["process", "thread"] {
        let [reader, writer] = pipe();
        let parent = fork(|| {
            let ready = &shared(1)[0];
            let begin = move || {
                fork(|| {
                    crate::signals::mask(libc::SIG_BLOCK, &[libc::SIGUSR2]);
                    call!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGUSR2, 0, 0, 0).unwrap();
                    ready.store(1, Ordering::SeqCst);
                    let set = 1u64 << (libc::SIGUSR2 - 1);
                    let limit = libc::timespec { tv_sec: 20, tv_nsec: 0 };
                    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
                    let got = call!(SYS_rt_sigtimedwait, &raw const set, &raw mut info, &raw const limit, 8);
                    put(writer, format!("got {got:?}, code {}", info.si_code).as_bytes());
                    0
                });
                until("the child is ready", || ready.load(Ordering::SeqCst) == 1);
            };
            if end == "process" {
                begin();
                unsafe { libc::kill(getpid(), libc::SIGKILL) };
            } else {
                thread::spawn(begin).join().unwrap();
                // The process lives on: it is the thread's end that counts.
                wait_for(-1, 0);
            }
            3
        });
        close(writer);
        say!("{end}: {}; parent {}", read_all(reader), wait(parent));
    }
}

/// The kernel marks the robust futexes of whoever dies with them.
pub(crate) fn robust() {
    let page = shared(16);
    let mutex = page.as_ptr() as *mut libc::pthread_mutex_t;
    let held = &page[12];
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&raw mut attributes);
        libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        assert_eq!(libc::pthread_mutex_init(mutex, &raw const attributes), 0);
    }
    let address = mutex as usize;
    for end in ["killed", "exits", "thread ends", "executes"] {
        held.store(0, Ordering::SeqCst);
        let owner = fork(|| {
            let lock = move || {
                unsafe { libc::pthread_mutex_lock(address as *mut _) };
                held.store(1, Ordering::SeqCst);
                open_something();
            };
            match end {
                "thread ends" => {
                    thread::spawn(lock).join().unwrap();
                    until("the mutex is free", || held.load(Ordering::SeqCst) == 2);
                }
                "executes" => {
                    lock();
                    return crate::sys::Program::own(&["exit", "0"]).exec() as i32;
                }
                "killed" => {
                    lock();
                    crate::sys::pause_ms(60_000);
                }
                _ => lock(),
            }
            0
        });
        until("the mutex is held", || held.load(Ordering::SeqCst) == 1);
        if end == "killed" {
            unsafe { libc::kill(owner, libc::SIGKILL) };
        }
        let locked = unsafe { libc::pthread_mutex_lock(mutex) };
        held.store(2, Ordering::SeqCst);
        let consistent = unsafe { libc::pthread_mutex_consistent(mutex) };
        let unlocked = unsafe { libc::pthread_mutex_unlock(mutex) };
        say!("{end}: owner dead {}, {consistent} {unlocked}, {}", locked == libc::EOWNERDEAD, wait(owner));
    }
}

/// Two hundred orphans, reaped by whoever is init. Prints how many zombies
/// are left under it.
pub(crate) fn many_orphans() {
    let [reader, writer] = pipe();
    for _ in 0..20 {
        let children: Vec<_> = (0..10)
            .map(|_| {
                fork(|| {
                    fork(|| {
                        put(writer, b"x");
                        0
                    });
                    0
                })
            })
            .collect();
        for child in children {
            assert_eq!(wait(child), "exited 0");
        }
    }
    close(writer);
    say!("{} orphans", read_all(reader).len());
    let zombies = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<pid_t>().ok())
            .filter(|pid| state(*pid, *pid) == 'Z')
            .count()
    };
    until("no zombie is left", || zombies() == 0);
    say!("no zombie is left");
}

/// Ends, and leaves a process that would go on for long.
pub(crate) fn leave_a_daemon() -> ! {
    fork(|| {
        unsafe { libc::setsid() };
        crate::sys::pause_ms(600_000);
        0
    });
    say!("leaving");
    exit_all(6)
}

/// Says which signals come, until SIGTERM.
pub(crate) fn tell_signals() -> ! {
    static CAUGHT: AtomicI64 = AtomicI64::new(0);
    extern "C" fn catch(signal: c_int) {
        CAUGHT.store(signal.into(), Ordering::SeqCst);
    }
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH] {
        unsafe { libc::signal(signal, catch as *const () as libc::sighandler_t) };
    }
    say!("ready");
    loop {
        until("a signal comes", || CAUGHT.load(Ordering::SeqCst) != 0);
        let signal = CAUGHT.swap(0, Ordering::SeqCst);
        say!("caught {signal}");
        if signal == i64::from(libc::SIGTERM) {
            exit_all(3);
        }
    }
}

/// What a child of a process says when that closes everything first.
pub(crate) fn everything_closed() {
    let (text, status) = ask(|writer| {
        call!(SYS_dup3, writer, 700, 0).unwrap();
        call!(SYS_close_range, 0, 699, 0).unwrap();
        let first = crate::sys::open(c"/dev/null");
        let second = crate::sys::open(c"/proc/self/comm");
        put(700, format!("{first:?} {second:?}").as_bytes());
        call!(SYS_close_range, 0, u32::MAX, 0).unwrap();
        let first = crate::sys::open(c"/dev/null");
        60 + first.unwrap_or(9)
    });
    say!("{text}, {status}");
}
