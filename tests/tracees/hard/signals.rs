//! Signals: their order, what comes with them, who handles them, and what
//! they interrupt.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;

use libc::{c_int, c_void, pid_t, siginfo_t};
use nix::errno::Errno;

use crate::blockers;
use crate::sys::{
    call, exit_all, fork, getpid, gettid, is_in, open_something, pause_ms, pipe, put, say, shared, told, until, wait,
    wait_for,
};

/// What handlers saw: signal, value, code, sender, thread.
static LOG: [[AtomicI64; 5]; 4096] = [const { [const { AtomicI64::new(0) }; 5] }; 4096];
/// Entries begun, and entries written.
static LOGGING: AtomicUsize = AtomicUsize::new(0);
static LOGGED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn log(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let index = LOGGING.fetch_add(1, Ordering::SeqCst);
    let (value, code, sender) = unsafe { ((*info).si_value().sival_ptr as i64, (*info).si_code, (*info).si_pid()) };
    if let Some(entry) = LOG.get(index) {
        for (slot, value) in entry.iter().zip([signal.into(), value, code.into(), sender.into(), gettid().into()]) {
            slot.store(value, Ordering::SeqCst);
        }
    }
    LOGGED.fetch_add(1, Ordering::SeqCst);
}

fn forget() {
    LOGGING.store(0, Ordering::SeqCst);
    LOGGED.store(0, Ordering::SeqCst);
}

fn logged() -> Vec<[i64; 5]> {
    let count = LOGGED.load(Ordering::SeqCst);
    LOG[..count].iter().map(|entry| std::array::from_fn(|at| entry[at].load(Ordering::SeqCst))).collect()
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

pub(crate) fn handle(signal: c_int, handler: Handler, flags: c_int, mask_all: bool) {
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        if mask_all {
            libc::sigfillset(&raw mut action.sa_mask);
        }
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

pub(crate) fn mask(how: c_int, signals: &[c_int]) {
    let set: u64 = signals.iter().map(|signal| 1u64 << (signal - 1)).sum();
    call!(SYS_rt_sigprocmask, how, &raw const set, 0, 8).unwrap();
}

/// Takes one of these signals, waiting at most so long.
fn take(signals: &[c_int], seconds: i64) -> Result<(c_int, siginfo_t), Errno> {
    let set: u64 = signals.iter().map(|signal| 1u64 << (signal - 1)).sum();
    let time = libc::timespec { tv_sec: seconds, tv_nsec: 0 };
    loop {
        let mut info: siginfo_t = unsafe { std::mem::zeroed() };
        match call!(SYS_rt_sigtimedwait, &raw const set, &raw mut info, &raw const time, 8) {
            Ok(signal) => return Ok((signal as c_int, info)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn queue(pid: pid_t, signal: c_int, value: usize) {
    let value = libc::sigval { sival_ptr: value as *mut c_void };
    // The queue can be full (RLIMIT_SIGPENDING).
    until("the signal is queued", || unsafe { libc::sigqueue(pid, signal, value) } == 0);
}

/// 64 of three kinds with values: order and count hold, blocked ones wait.
pub(crate) fn real_time() {
    let first = libc::SIGRTMIN();
    let kinds = [first + 2, first, first + 1];
    for way in ["handled one by one", "handlers interrupt each other", "taken"] {
        forget();
        mask(libc::SIG_BLOCK, &kinds);
        for kind in kinds {
            handle(kind, log, 0, way == "handled one by one");
        }
        let target = getpid();
        let sender = fork(|| {
            for value in 0..64 {
                queue(target, kinds[value % 3], value);
            }
            0
        });
        assert_eq!(wait(sender), "exited 0");
        assert!(open_something());
        let early = LOGGED.load(Ordering::SeqCst);
        let seen: Vec<[i64; 5]> = if way == "taken" {
            (0..64)
                .map(|_| {
                    let (signal, info) = take(&kinds, 20).unwrap();
                    let (value, from) = unsafe { (info.si_value().sival_ptr as i64, info.si_pid()) };
                    [signal.into(), value, info.si_code.into(), from.into(), gettid().into()]
                })
                .collect()
        } else {
            mask(libc::SIG_UNBLOCK, &kinds);
            assert!(open_something());
            logged()
        };
        let shown: Vec<_> = seen
            .iter()
            .map(|[signal, value, code, from, _]| {
                format!("{}:{value}:{code}:{}", signal - i64::from(first), *from == i64::from(sender))
            })
            .collect();
        say!("{way}: {early} early, then {}: {}", seen.len(), shown.join(" "));
    }
}

/// 2,000 to a process with four threads that open files; and to each thread.
pub(crate) fn burst() {
    let signal = libc::SIGRTMIN() + 1;
    handle(signal, log, libc::SA_RESTART, true);
    let tids = shared(5);
    for tid in &tids[..4] {
        thread::spawn(move || {
            tid.store(gettid().into(), Ordering::SeqCst);
            loop {
                assert!(open_something());
            }
        });
    }
    until("all threads run", || tids[..4].iter().all(|tid| tid.load(Ordering::SeqCst) != 0));
    let target = getpid();
    let sender = fork(|| {
        for value in 0..2000 {
            queue(target, signal, value);
        }
        0
    });
    say!("sender {}", wait(sender));
    until("all have come", || LOGGED.load(Ordering::SeqCst) >= 2000);
    let sum: i64 = logged().iter().map(|entry| entry[1]).sum();
    say!("{} came, sum {sum}", LOGGED.load(Ordering::SeqCst));

    forget();
    for tid in &tids[..4] {
        for _ in 0..100 {
            call!(SYS_tgkill, target, tid.load(Ordering::SeqCst), signal).unwrap();
        }
    }
    until("all have come", || LOGGED.load(Ordering::SeqCst) >= 400);
    let seen = logged();
    let own = |entry: &&[i64; 5]| tids[..4].iter().any(|tid| tid.load(Ordering::SeqCst) == entry[4]);
    let per_thread: Vec<_> = tids[..4]
        .iter()
        .map(|tid| seen.iter().filter(|entry| entry[4] == tid.load(Ordering::SeqCst)).count())
        .collect();
    say!("to threads: {per_thread:?}, {} in all, code {}", seen.iter().filter(own).count(), seen[0][2]);
    exit_all(0);
}

/// One event of a child at a time, as a parent that takes SIGCHLD sees it.
pub(crate) fn of_children() {
    mask(libc::SIG_BLOCK, &[libc::SIGCHLD]);
    let next = |child: pid_t| match take(&[libc::SIGCHLD], 20) {
        Ok((_, info)) => {
            let (pid, uid, status) = unsafe { (info.si_pid(), info.si_uid(), info.si_status()) };
            let ours = uid == unsafe { libc::getuid() };
            format!("its id {}, its user {ours}, code {}, status {status}", pid == child, info.si_code)
        }
        Err(errno) => format!("{errno:?}"),
    };
    for life in ["exit", "kill", "abort", "segv", "exec", "thread"] {
        let child = fork(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
            open_something();
            match life {
                "exit" => return 3,
                "kill" => unsafe { libc::kill(getpid(), libc::SIGKILL) },
                "abort" => std::process::abort(),
                "segv" => unsafe { std::ptr::without_provenance::<i32>(8).read_volatile() },
                "exec" => crate::sys::Program::own(&["exit", "6"]).exec() as i32,
                _ => thread::spawn(|| exit_all(8)).join().unwrap(),
            };
            4
        });
        say!("{life}: {}; {}", next(child), wait(child));
    }
    let child = fork(|| {
        loop {
            open_something();
            pause_ms(1);
        }
    });
    for signal in [libc::SIGSTOP, libc::SIGCONT, libc::SIGTSTP, libc::SIGCONT, libc::SIGTTIN, libc::SIGCONT] {
        unsafe { libc::kill(child, signal) };
        let seen = next(child);
        say!("{signal}: {seen}; {}", wait_for(child, libc::WUNTRACED | libc::WCONTINUED));
    }
    unsafe { libc::kill(child, libc::SIGTERM) };
    say!("TERM: {}; {}", next(child), wait(child));
    say!("nothing is left: {:?}", take(&[libc::SIGCHLD], 0).map(|found| found.0));

    // SA_NOCLDSTOP: no signal for a stop; wait tells of it nevertheless.
    handle(libc::SIGCHLD, log, libc::SA_NOCLDSTOP, false);
    let child = fork(|| {
        unsafe { libc::raise(libc::SIGSTOP) };
        9
    });
    say!("NOCLDSTOP: {}", wait_for(child, libc::WUNTRACED));
    say!("no signal: {:?}", take(&[libc::SIGCHLD], 0).map(|found| found.0));
    unsafe { libc::kill(child, libc::SIGCONT) };
    say!("the end: {}; {}", next(child), wait(child));

    // By its own handler, at once.
    handle(libc::SIGCHLD, log, 0, false);
    forget();
    mask(libc::SIG_UNBLOCK, &[libc::SIGCHLD]);
    let mut children = Vec::new();
    for code in 0..5 {
        let child = fork(|| code);
        children.push(child);
        until("the handler has run", || LOGGED.load(Ordering::SeqCst) == code as usize + 1);
        say!("handled, {}", wait(child));
    }
    let right = logged().iter().zip(&children).all(|(entry, child)| entry[3] == i64::from(*child) && entry[2] == 1);
    say!("handlers saw the right children: {right}");

    // Nobody waits for children whose end is ignored.
    for ignore in [true, false] {
        if ignore {
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        } else {
            forget();
            handle(libc::SIGCHLD, log, libc::SA_NOCLDWAIT, false);
        }
        let children: Vec<_> = (0..20).map(|code| fork(|| code)).collect();
        let mut waited = wait_for(-1, 0);
        while waited == "EINTR" {
            waited = wait_for(-1, 0);
        }
        say!("ignored {ignore}: wait {waited}");
        // wait answers before the last of them is gone from /proc.
        let there = |child: &pid_t| std::path::Path::new(&format!("/proc/{child}")).exists();
        until("all are gone", || !children.iter().any(there));
        say!("handler has run {}", LOGGED.load(Ordering::SeqCst) > 0);
        forget();
    }
}

/// Each waiting call is interrupted by each kind of signal.
pub(crate) fn interrupted(kind: &str, directory: &str) {
    let handled = shared(64);
    let prepare = |index: usize| {
        move || {
            extern "C" fn note(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
                let slot = COUNTER.load(Ordering::SeqCst) as *const AtomicI64;
                unsafe { &*slot }.fetch_add(1, Ordering::SeqCst);
            }
            COUNTER.store(std::ptr::from_ref(&handled[index]) as usize, Ordering::SeqCst);
            match kind {
                "restart" => handle(libc::SIGUSR1, note, libc::SA_RESTART, false),
                "interrupt" => handle(libc::SIGUSR1, note, 0, false),
                "ignore" => drop(unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) }),
                "block" => mask(libc::SIG_BLOCK, &[libc::SIGUSR1]),
                // SIGWINCH is ignored without being told.
                "default" => {}
                _ => unreachable!(),
            }
        }
    };
    let signal = if kind == "default" { libc::SIGWINCH } else { libc::SIGUSR1 };
    let children: Vec<_> = blockers::all(directory)
        .into_iter()
        .enumerate()
        .map(|(index, blocker)| blocker.start(prepare(index)))
        .collect();
    children.iter().for_each(blockers::Waiting::until_in_call);
    for child in &children {
        assert_eq!(unsafe { libc::kill(child.pid, signal) }, 0);
    }
    let expected = i64::from(matches!(kind, "restart" | "interrupt"));
    for (index, child) in children.into_iter().enumerate() {
        until("the handler has run", || handled[index].load(Ordering::SeqCst) == expected);
        say!("{kind}, {}", child.finish());
        assert_eq!(handled[index].load(Ordering::SeqCst), expected, "handlers run once");
    }
}

static COUNTER: AtomicUsize = AtomicUsize::new(0);

/// Many signals on one call: it comes to its end all the same.
pub(crate) fn restarted_often() {
    let [reader, writer] = pipe();
    extern "C" fn opens(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
        open_something();
        COUNTER.fetch_add(1, Ordering::SeqCst);
    }
    handle(libc::SIGUSR1, opens, libc::SA_RESTART, false);
    let slots = shared(2);
    let us = getpid();
    thread::spawn(move || {
        let mut byte = 0u8;
        slots[0].store(gettid().into(), Ordering::SeqCst);
        let read = call!(SYS_read, reader, &raw mut byte, 1);
        say!("read: {read:?} {byte}");
        slots[1].store(1, Ordering::SeqCst);
    });
    let tid = || slots[0].load(Ordering::SeqCst) as pid_t;
    for round in 0..200 {
        until("the thread reads", || tid() != 0 && is_in(us, tid(), &[libc::SYS_read]));
        call!(SYS_tgkill, us, tid(), libc::SIGUSR1).unwrap();
        until("the handler has run", || COUNTER.load(Ordering::SeqCst) > round);
    }
    put(writer, b"x");
    until("the read is over", || slots[1].load(Ordering::SeqCst) == 1);
    say!("{} handled", COUNTER.load(Ordering::SeqCst));
}

/// Masks that calls set for their own time are undone, after the handler.
pub(crate) fn masks() {
    forget();
    mask(libc::SIG_BLOCK, &[libc::SIGUSR1]);
    handle(libc::SIGUSR1, log, 0, false);
    let [reader, _writer] = pipe();
    let (us, main) = (getpid(), gettid());
    let none = 0u64;
    let mut good = 0;
    for round in 0..60u32 {
        let sender = thread::spawn(move || {
            mask(libc::SIG_BLOCK, &[libc::SIGUSR1]);
            if round % 2 == 0 {
                let calls = [libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_pwait, libc::SYS_rt_sigsuspend];
                until("the call waits", || is_in(us, main, &calls));
            }
            call!(SYS_tgkill, us, main, libc::SIGUSR1).unwrap();
        });
        let mut poll = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
        let sigset = [&raw const none as usize, 8];
        let epoll = call!(SYS_epoll_create1, libc::EPOLL_CLOEXEC).unwrap();
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let result = match round % 4 {
            0 => call!(SYS_ppoll, &raw mut poll, 1, 0, &raw const none, 8),
            1 => call!(SYS_pselect6, 0, 0, 0, 0, 0, sigset.as_ptr()),
            2 => call!(SYS_epoll_pwait, epoll, &raw mut event, 1, -1isize, &raw const none, 8),
            _ => call!(SYS_rt_sigsuspend, &raw const none, 8),
        };
        sender.join().unwrap();
        crate::sys::close(epoll as c_int);
        let mut now = 0u64;
        call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, &raw mut now, 8).unwrap();
        let blocked = now & 1 << (libc::SIGUSR1 - 1) != 0;
        let handled = LOGGED.load(Ordering::SeqCst) == round as usize + 1;
        if result == Err(Errno::EINTR) && blocked && handled {
            good += 1;
        } else {
            say!("round {round}: {result:?}, blocked again {blocked}, handled {handled}");
        }
    }
    say!("{good} of 60");
}

/// Pending, coalesced, not inherited; deadly when unblocked.
pub(crate) fn pending() {
    forget();
    handle(libc::SIGUSR1, log, 0, false);
    mask(libc::SIG_BLOCK, &[libc::SIGUSR1, libc::SIGTERM]);
    for _ in 0..10 {
        unsafe { libc::kill(getpid(), libc::SIGUSR1) };
    }
    assert!(open_something());
    let waiting = || {
        let mut set = 0u64;
        call!(SYS_rt_sigpending, &raw mut set, 8).unwrap();
        set & 1 << (libc::SIGUSR1 - 1) != 0
    };
    say!("pending {}, handled {}", waiting(), LOGGED.load(Ordering::SeqCst));
    say!("a child inherits the mask, not the signal: {}", wait(fork(|| i32::from(waiting()))));
    let status = wait(fork(|| {
        unsafe { libc::kill(getpid(), libc::SIGUSR1) };
        let program = crate::sys::Program::own(&["tell-pending"]);
        program.exec() as i32
    }));
    say!("execve keeps it: {status}");
    mask(libc::SIG_UNBLOCK, &[libc::SIGUSR1]);
    say!("pending {}, handled {}", waiting(), LOGGED.load(Ordering::SeqCst));
    let status = wait(fork(|| {
        unsafe { libc::kill(getpid(), libc::SIGTERM) };
        open_something();
        mask(libc::SIG_UNBLOCK, &[libc::SIGTERM]);
        1
    }));
    say!("deadly when unblocked: {status}");
    let [reader, writer] = pipe();
    crate::sys::close(reader);
    let status = wait(fork(|| {
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let _ = call!(SYS_write, writer, b"x".as_ptr(), 1);
        1
    }));
    say!("nobody reads the pipe: {status}");
    for signal in [libc::SIGKILL, libc::SIGSTOP] {
        let handler: Handler = log;
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        say!("a handler for {signal}: {result}");
    }
    // Two kinds at once: the handler of the second interrupts the first.
    forget();
    for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM] {
        handle(signal, log, 0, false);
    }
    mask(libc::SIG_BLOCK, &[libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM]);
    for signal in [libc::SIGALRM, libc::SIGUSR2, libc::SIGUSR1] {
        call!(SYS_tgkill, getpid(), gettid(), signal).unwrap();
    }
    mask(libc::SIG_UNBLOCK, &[libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM]);
    let order: Vec<_> = logged().iter().map(|entry| (entry[0], entry[2], entry[3] == i64::from(getpid()))).collect();
    say!("in which order: {order:?}");
    let failed = call!(SYS_kill, getpid(), 65);
    say!("no such signal: {}", told(failed));
}

pub(crate) fn tell_pending() {
    // glibc's posix_spawn leaves its own two ignored in its children.
    const OF_GLIBC: u64 = 1 << 31 | 1 << 32;
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    for name in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let set = u64::from_str_radix(line.split_whitespace().next_back().unwrap(), 16).unwrap();
        say!("{name} {:#x}", set & !OF_GLIBC);
    }
}

/// A handler that does not return to the call that it interrupted.
#[cfg(target_arch = "x86_64")]
pub(crate) fn jump_out() {
    /// Where to go on: rsp, rbp, rbx, rip, r12 to r15.
    static PLACE: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

    extern "C" fn jump(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
        open_something();
        // siglongjmp restores the mask.
        mask(libc::SIG_UNBLOCK, &[libc::SIGUSR1]);
        unsafe {
            std::arch::asm!(
                "mov rsp, [rdi]", "mov rbp, [rdi + 8]", "mov rbx, [rdi + 16]",
                "mov r12, [rdi + 32]", "mov r13, [rdi + 40]", "mov r14, [rdi + 48]", "mov r15, [rdi + 56]",
                "jmp [rdi + 24]",
                in("rdi") PLACE.as_ptr(),
                options(noreturn),
            );
        }
    }

    /// The call's result, or -9999 if the handler jumped.
    #[inline(never)]
    fn interruptible(number: i64, arguments: [usize; 4]) -> i64 {
        let mut result = number;
        unsafe {
            std::arch::asm!(
                "mov [r9], rsp", "mov [r9 + 8], rbp", "mov [r9 + 16], rbx",
                "lea rcx, [rip + 2f]", "mov [r9 + 24], rcx",
                "mov [r9 + 32], r12", "mov [r9 + 40], r13", "mov [r9 + 48], r14", "mov [r9 + 56], r15",
                "syscall",
                "jmp 3f",
                "2:", "mov rax, -9999",
                "3:",
                inout("rax") result,
                in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2], in("r10") arguments[3],
                in("r9") PLACE.as_ptr(),
                clobber_abi("C"),
            );
        }
        result
    }

    handle(libc::SIGUSR1, jump, libc::SA_RESTART, false);
    let [reader, _writer] = pipe();
    let (us, main) = (getpid(), gettid());
    let mut jumps = 0;
    for round in 0..60 {
        let sender = thread::spawn(move || {
            until("the call waits", || is_in(us, main, &[libc::SYS_read, libc::SYS_clock_nanosleep, libc::SYS_ppoll]));
            call!(SYS_tgkill, us, main, libc::SIGUSR1).unwrap();
        });
        let mut byte = 0u8;
        let long = libc::timespec { tv_sec: 60, tv_nsec: 0 };
        let time = &raw const long as usize;
        let result = match round % 3 {
            0 => interruptible(libc::SYS_read, [reader as usize, &raw mut byte as usize, 1, 0]),
            1 => interruptible(libc::SYS_clock_nanosleep, [libc::CLOCK_MONOTONIC as usize, 0, time, 0]),
            _ => interruptible(libc::SYS_ppoll, [0, 0, time, 0]),
        };
        sender.join().unwrap();
        assert!(open_something());
        jumps += i32::from(result == -9999);
    }
    say!("jumped {jumps} times");
}

/// A stack of the handler's own.
pub(crate) fn other_stack() {
    static WITHIN: AtomicUsize = AtomicUsize::new(0);
    static BOUNDS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    extern "C" fn where_am_i(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
        let here = &raw const WITHIN as usize;
        let local = std::hint::black_box(here);
        let address = &raw const local as usize;
        let inside = (BOUNDS[0].load(Ordering::SeqCst)..BOUNDS[1].load(Ordering::SeqCst)).contains(&address);
        WITHIN.fetch_add(usize::from(inside), Ordering::SeqCst);
        open_something();
    }
    extern "C" fn overflowed(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
        exit_all(55);
    }
    let memory = vec![0u8; 64 << 10].leak();
    let start = memory.as_ptr() as usize;
    BOUNDS[0].store(start, Ordering::SeqCst);
    BOUNDS[1].store(start + memory.len(), Ordering::SeqCst);
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
    assert_eq!(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }, 0);
    handle(libc::SIGUSR1, where_am_i, libc::SA_ONSTACK, false);
    for _ in 0..20 {
        unsafe { libc::raise(libc::SIGUSR1) };
    }
    say!("on the other stack {} times", WITHIN.load(Ordering::SeqCst));
    let status = wait(fork(|| {
        #[inline(never)]
        fn forever(depth: u64) -> u64 {
            let page = std::hint::black_box([depth; 512]);
            if depth == u64::MAX { 0 } else { forever(depth + 1) + page[7] }
        }
        handle(libc::SIGSEGV, overflowed, libc::SA_ONSTACK, false);
        forever(0) as i32
    }));
    say!("overflow: {status}");
}
