//! Timers, and what else the kernel does beside a program's back.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::thread;

use libc::{c_int, c_void, siginfo_t};

use crate::signals::handle;
use crate::sys::{call, exit_task, gettid, open_something, say, shared, spawn_raw, stack, told, until};

static TICKS: AtomicI64 = AtomicI64::new(0);
static STRANGERS: AtomicI64 = AtomicI64::new(0);
static EXPECTED: AtomicI64 = AtomicI64::new(0);

extern "C" fn tick(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let (code, value) = unsafe { ((*info).si_code, (*info).si_value().sival_ptr as i64) };
    let right = i64::from(gettid()) == EXPECTED.load(Ordering::SeqCst) && code == libc::SI_TIMER && value == 77;
    STRANGERS.fetch_add(i64::from(!right), Ordering::SeqCst);
    TICKS.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn count(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    TICKS.fetch_add(1, Ordering::SeqCst);
}

/// A timer's signals go to the thread that it names.
pub(crate) fn to_a_thread() {
    let signal = libc::SIGRTMIN() + 4;
    handle(signal, tick, libc::SA_RESTART, false);
    for _ in 0..3 {
        thread::spawn(|| {
            loop {
                open_something();
            }
        });
    }
    let timed = thread::spawn(move || {
        EXPECTED.store(gettid().into(), Ordering::SeqCst);
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_value = libc::sigval { sival_ptr: 77 as *mut c_void };
        event.sigev_notify_thread_id = gettid();
        let mut timer: libc::timer_t = std::ptr::null_mut();
        let created = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        let often = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let when = libc::itimerspec { it_interval: often, it_value: often };
        let set = unsafe { libc::timer_settime(timer, 0, &raw const when, std::ptr::null_mut()) };
        until("the timer has fired 100 times", || TICKS.load(Ordering::SeqCst) >= 100);
        let deleted = unsafe { libc::timer_delete(timer) };
        format!("{created} {set} {deleted}")
    });
    let results = timed.join().unwrap();
    say!("{results}, to another thread or without its value: {}", STRANGERS.load(Ordering::SeqCst));
    std::process::exit(0);
}

/// A signal each millisecond while files are opened: no call fails.
pub(crate) fn during_opens() {
    for flags in [libc::SA_RESTART, 0] {
        TICKS.store(0, Ordering::SeqCst);
        handle(libc::SIGALRM, count, flags, false);
        let often = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let storm = libc::itimerval { it_interval: often, it_value: often };
        let quiet = libc::itimerval { it_interval: never, it_value: never };
        call!(SYS_setitimer, libc::ITIMER_REAL, &raw const storm, 0).unwrap();
        let mut failed = 0;
        let mut opened = 0;
        while opened < 2000 || TICKS.load(Ordering::SeqCst) < 20 {
            failed += i32::from(!open_something());
            opened += 1;
        }
        call!(SYS_setitimer, libc::ITIMER_REAL, &raw const quiet, 0).unwrap();
        say!("restart {}: {failed} failed", flags != 0);
    }
}

/// Restartable sequences: a bare thread registers its own.
pub(crate) fn rseq() {
    /// struct rseq (linux/rseq.h), as large as its first version.
    #[repr(C, align(32))]
    struct Area([AtomicU32; 8]);
    static AREA: Area = Area([const { AtomicU32::new(0) }; 8]);

    unsafe extern "C" fn registers(result: usize) -> ! {
        let result = unsafe { &*(result as *const AtomicI64) };
        // The signature that glibc uses on x86, too.
        let signature = 0x5305_3053;
        let registered = call!(SYS_rseq, &raw const AREA, 32, 0, signature);
        for _ in 0..100 {
            open_something();
        }
        let mut cpu = 0u32;
        let mut same = 0;
        for _ in 0..100 {
            let _ = call!(SYS_getcpu, &raw mut cpu, 0, 0);
            same += i64::from(AREA.0[1].load(Ordering::SeqCst) == cpu);
        }
        let again = call!(SYS_rseq, &raw const AREA, 32, 0, signature);
        let busy = i64::from(again == Err(nix::errno::Errno::EBUSY));
        let gone = call!(SYS_rseq, &raw const AREA, 32, 1, signature);
        let all =
            i64::from(registered.is_ok()) + 10 * i64::from(same > 50) + 100 * busy + 1000 * i64::from(gone.is_ok());
        result.store(all, Ordering::SeqCst);
        exit_task(0)
    }
    let result = &shared(1)[0];
    let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let argument = std::ptr::from_ref(result) as usize;
    let made = spawn_raw(libc::SYS_clone, [flags as usize, stack(), 0, 0, 0], registers, argument);
    until("the thread has ended", || result.load(Ordering::SeqCst) != 0);
    say!("rseq: {}, {}", told(made), result.load(Ordering::SeqCst));

    /// linux/membarrier.h
    const QUERY: usize = 0;
    const EXPEDITED: usize = 8;
    const REGISTER_EXPEDITED: usize = 16;
    let unregistered = call!(SYS_membarrier, EXPEDITED, 0, 0);
    let (query, register) = (call!(SYS_membarrier, QUERY, 0, 0), call!(SYS_membarrier, REGISTER_EXPEDITED, 0, 0));
    say!("membarrier: {unregistered:?} {query:?} {register:?} {:?}", call!(SYS_membarrier, EXPEDITED, 0, 0));
}

/// The legacy page at the top of the address space, if the kernel has it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn vsyscall() {
    use crate::sys::{fork, wait};
    for (name, address) in [
        ("gettimeofday", 0xffff_ffff_ff60_0000usize),
        ("time", 0xffff_ffff_ff60_0400),
        ("getcpu", 0xffff_ffff_ff60_0800),
    ] {
        let status = wait(fork(|| {
            let function: extern "C" fn(*mut u64, *mut u64) -> i64 = unsafe { std::mem::transmute(address) };
            let mut result = [0u64; 2];
            let (first, second) = result.split_at_mut(1);
            let second: *mut u64 = if name == "getcpu" { second.as_mut_ptr() } else { std::ptr::null_mut() };
            // gettimeofday writes two words.
            let mut both = [0u64; 2];
            let first = if name == "gettimeofday" { both.as_mut_ptr() } else { first.as_mut_ptr() };
            let answer = function(first, second);
            match name {
                "time" => i32::from(answer < 1_000_000_000),
                "getcpu" => answer as i32,
                _ => i32::from(answer != 0 || both[0] < 1_000_000_000),
            }
        }));
        say!("{name}: {status}");
    }
}

/// Calls by the 32-bit gate: their numbers are others.
#[cfg(target_arch = "x86_64")]
pub(crate) fn int80() {
    use crate::sys::{fork, getpid, is_in, wait};

    fn gate(number: i64, first: usize, second: usize, third: usize) -> i32 {
        let mut result = number;
        unsafe {
            std::arch::asm!(
                "push rbx", "mov rbx, {first}", "int 0x80", "pop rbx",
                first = in(reg) first, inout("rax") result, in("rcx") second, in("rdx") third,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        result as i32
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let low = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    let place = low as usize;
    let put_text = |text: &std::ffi::CStr| unsafe {
        std::ptr::copy_nonoverlapping(text.to_bytes_with_nul().as_ptr(), low.cast(), text.count_bytes() + 1);
    };
    say!("getpid {}", gate(20, 0, 0, 0) == getpid());
    put_text(c"/dev/null");
    let fd = gate(5, place, 0, 0);
    say!("open {}, close {}, again {}", fd >= 0, gate(6, fd as usize, 0, 0), gate(6, fd as usize, 0, 0));
    put_text(c"/no/such/file");
    say!("open {}, no such call {}", gate(5, place, 0, 0), gate(999, 0, 0, 0));
    let mut status = 0;
    let child = gate(2, 0, 0, 0);
    if child == 0 {
        gate(1, 23, 0, 0);
    }
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    say!("fork and exit: {}", crate::sys::status(status));
    put_text(c"/proc/self/comm");
    let child = fork(|| {
        // execve of what is no program.
        -gate(11, place, 0, 0)
    });
    say!("execve: {}", wait(child));
    // A sleep that is stopped goes on with restart_syscall, whose number
    // here is 0.
    let time = low.cast::<[i32; 2]>();
    unsafe { *time = [1, 0] };
    let child = fork(|| gate(162, place, 0, 0));
    // /proc shows the 32-bit number.
    until("the child sleeps", || is_in(child, child, &[162]));
    unsafe { libc::kill(child, libc::SIGSTOP) };
    let stopped = crate::sys::wait_for(child, libc::WUNTRACED);
    unsafe { libc::kill(child, libc::SIGCONT) };
    say!("nanosleep: {stopped}, {}", wait(child));
}
