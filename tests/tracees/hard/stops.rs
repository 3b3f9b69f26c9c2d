//! Job control: stop signals, SIGCONT, and what a parent sees of them.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use libc::{c_int, pid_t};

use crate::blockers::{self, Waiting, let_time_pass};
use crate::sys::{
    Program, call, close, exit_all, fork, getpid, gettid, is_stopped, open_something, pause_ms, pipe, put, read_all,
    say, shared, sleepers, state, threads, until, wait, wait_for,
};

fn kill(pid: pid_t, signal: c_int) {
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn wait_stop(pid: pid_t) -> String {
    wait_for(pid, libc::WUNTRACED)
}

fn wait_continue(pid: pid_t) -> String {
    wait_for(pid, libc::WCONTINUED)
}

/// A stop or its end as waitid tells it.
fn waitid(pid: pid_t, options: c_int) -> String {
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let result = call!(SYS_waitid, libc::P_PID, pid, &raw mut info, options, 0);
    let (child, status) = unsafe { (info.si_pid(), info.si_status()) };
    format!("{result:?}, its id {}, code {}, status {status}", child == pid, info.si_code)
}

/// A process with eight threads is stopped and continued, and stands still
/// in between.
pub(crate) fn eight_threads() {
    let counters = shared(3);
    let [ready, runner, opener] = [&counters[0], &counters[1], &counters[2]];
    let child = fork(|| {
        sleepers(5);
        thread::spawn(move || {
            loop {
                runner.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
            }
        });
        thread::spawn(move || {
            loop {
                open_something();
                opener.fetch_add(1, Ordering::SeqCst);
            }
        });
        ready.store(1, Ordering::SeqCst);
        loop {
            unsafe { libc::pause() };
        }
    });
    until("the child is ready", || ready.load(Ordering::SeqCst) == 1);
    let at = || [runner.load(Ordering::SeqCst), opener.load(Ordering::SeqCst)];
    let goes_on = |since: [i64; 2]| {
        until("both threads go on", || at().iter().zip(since).all(|(now, then)| *now > then));
    };
    say!("nothing to tell: {}", wait_for(child, libc::WUNTRACED | libc::WCONTINUED | libc::WNOHANG));
    for round in 0..20 {
        goes_on(at());
        let signal = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU][round % 4];
        kill(child, signal);
        let stopped = if round % 2 == 0 { wait_stop(child) } else { waitid(child, libc::WSTOPPED) };
        until("all threads are stopped", || threads(child).iter().all(|tid| is_stopped(child, *tid)));
        let before = at();
        pause_ms(10);
        let still = at() == before;
        let again = wait_for(child, libc::WUNTRACED | libc::WNOHANG);
        if round % 5 == 1 {
            // Another stop signal while it is stopped changes nothing.
            kill(child, libc::SIGSTOP);
        }
        kill(child, libc::SIGCONT);
        let continued = if round % 2 == 0 { wait_continue(child) } else { waitid(child, libc::WCONTINUED) };
        say!("{signal}: {stopped}; still {still}; again {again}; {continued}");
    }
    goes_on(at());
    kill(child, libc::SIGSTOP);
    say!("the last stop: {}", wait_stop(child));
    kill(child, libc::SIGTERM);
    pause_ms(10);
    say!("a signal waits for its end: {}", wait_for(child, libc::WNOHANG));
    kill(child, libc::SIGKILL);
    say!("killed while stopped: {}", wait(child));
}

/// Children in all kinds of waits are stopped and continued, with `long` for
/// longer than they wanted to wait.
pub(crate) fn in_calls(long: bool, directory: &str) {
    let children: Vec<Waiting> = blockers::all(directory).into_iter().map(|blocker| blocker.start(|| ())).collect();
    children.iter().for_each(Waiting::until_in_call);
    let since = Instant::now();
    for child in &children {
        kill(child.pid, libc::SIGSTOP);
    }
    let stopped: Vec<_> = children.iter().map(|child| wait_stop(child.pid)).collect();
    if long {
        let_time_pass(since);
    }
    for child in &children {
        kill(child.pid, libc::SIGCONT);
    }
    let continued: Vec<_> = children.iter().map(|child| wait_continue(child.pid)).collect();
    for ((child, stopped), continued) in children.into_iter().zip(stopped).zip(continued) {
        say!("{stopped}, {continued}, {}", child.finish());
    }
}

/// The terminal's stop signals do nothing in an orphaned process group;
/// SIGSTOP does. A stopped group that becomes an orphan is woken.
pub(crate) fn orphans() {
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGSTOP] {
        let [reader, writer] = pipe();
        // Leads a session of its own: nobody in it could continue it.
        let child = fork(|| {
            unsafe { libc::setsid() };
            unsafe { libc::raise(signal) };
            put(writer, b"went on");
            5
        });
        close(writer);
        let first = wait_stop(child);
        let rest = if first.starts_with("stopped") {
            kill(child, libc::SIGCONT);
            wait(child)
        } else {
            String::new()
        };
        say!("orphaned group, {signal}: {first} {rest} {}", read_all(reader));
    }

    let [reader, writer] = pipe();
    let pid = &shared(2)[0];
    let leader = fork(|| {
        unsafe { libc::setsid() };
        let child = fork(|| {
            unsafe { libc::setpgid(0, 0) };
            extern "C" fn hung_up(_: c_int) {
                HUNG_UP.store(1, Ordering::SeqCst);
            }
            unsafe { libc::signal(libc::SIGHUP, hung_up as *const () as libc::sighandler_t) };
            pid.store(getpid().into(), Ordering::SeqCst);
            kill(getpid(), libc::SIGSTOP);
            until("SIGHUP has come", || HUNG_UP.load(Ordering::SeqCst) == 1);
            put(writer, b"hung up and woken");
            0
        });
        wait_stop(child);
        // Dies, and leaves a stopped group behind.
        0
    });
    close(writer);
    say!("the leader {}; its orphan: {}", wait(leader), read_all(reader));
}

static HUNG_UP: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// A stop signal sent to one thread stops the process.
pub(crate) fn by_tgkill() {
    let slots = shared(4);
    let child = fork(|| {
        // The leader does not take it; the other thread does.
        let set = 1u64 << (libc::SIGTSTP - 1);
        call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, 0, 8).unwrap();
        thread::spawn(move || {
            call!(SYS_rt_sigprocmask, libc::SIG_UNBLOCK, &raw const set, 0, 8).unwrap();
            slots[0].store(gettid().into(), Ordering::SeqCst);
            loop {
                slots[1].fetch_add(1, Ordering::SeqCst);
                open_something();
            }
        });
        loop {
            slots[2].fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
        }
    });
    let at = || [slots[1].load(Ordering::SeqCst), slots[2].load(Ordering::SeqCst)];
    until("the child is ready", || at().iter().all(|count| *count > 0));
    let tid = slots[0].load(Ordering::SeqCst) as pid_t;
    for (target, signal) in [(tid, libc::SIGSTOP), (child, libc::SIGSTOP), (tid, libc::SIGTSTP)] {
        call!(SYS_tgkill, child, target, signal).unwrap();
        let stopped = wait_stop(child);
        until("all threads are stopped", || threads(child).iter().all(|tid| is_stopped(child, *tid)));
        let before = at();
        pause_ms(10);
        let still = at() == before;
        kill(child, libc::SIGCONT);
        let continued = wait_continue(child);
        until("both go on", || at().iter().zip(before).all(|(now, then)| *now > then));
        say!("leader {}, {signal}: {stopped}, still {still}, {continued}", target == child);
    }
    kill(child, libc::SIGKILL);
    say!("{}", wait(child));
}

/// Handlers of SIGTSTP and SIGCONT run, as for editors and shells.
pub(crate) fn handlers() {
    let slots = shared(4);
    let child = fork(|| {
        extern "C" fn count(signal: c_int) {
            let slot = unsafe { &*SLOTS.load(Ordering::SeqCst) };
            slot[usize::from(signal == libc::SIGCONT)].fetch_add(1, Ordering::SeqCst);
        }
        SLOTS.store(slots.as_ptr().cast_mut().cast(), Ordering::SeqCst);
        for signal in [libc::SIGTSTP, libc::SIGCONT] {
            unsafe { libc::signal(signal, count as *const () as libc::sighandler_t) };
        }
        slots[2].store(1, Ordering::SeqCst);
        loop {
            slots[3].fetch_add(1, Ordering::SeqCst);
            pause_ms(1);
        }
    });
    let told = |slot: usize| slots[slot].load(Ordering::SeqCst);
    until("the child is ready", || told(2) == 1);
    for round in 1..=10 {
        kill(child, libc::SIGTSTP);
        until("the handler of SIGTSTP has run", || told(0) == round);
        let caught = wait_for(child, libc::WUNTRACED | libc::WNOHANG);
        kill(child, libc::SIGSTOP);
        let stopped = wait_stop(child);
        kill(child, libc::SIGCONT);
        let continued = wait_continue(child);
        until("the handler of SIGCONT has run", || told(1) == round);
        let before = told(3);
        until("it goes on", || told(3) > before);
        say!("caught {caught}, {stopped}, {continued}");
    }
    // Without a stop before it, SIGCONT is an ordinary signal.
    kill(child, libc::SIGCONT);
    until("the handler of SIGCONT has run", || told(1) == 11);
    say!("{}", wait_for(child, libc::WCONTINUED | libc::WNOHANG));
    // What comes in a stop waits for its end; SIGCONT is handled first or
    // last, but once.
    kill(child, libc::SIGSTOP);
    wait_stop(child);
    kill(child, libc::SIGTSTP);
    kill(child, libc::SIGCONT);
    until("the handler of SIGCONT has run", || told(1) == 12);
    kill(child, libc::SIGKILL);
    say!("{}, SIGTSTP before SIGCONT is taken back: {}", wait(child), told(0) == 10);
}

static SLOTS: std::sync::atomic::AtomicPtr<[std::sync::atomic::AtomicI64; 4]> =
    std::sync::atomic::AtomicPtr::new(std::ptr::null_mut());

/// Stops and ends of stops without waiting, while threads open files, make
/// threads and processes; the last one is SIGCONT.
pub(crate) fn storm() {
    let progress = &shared(1)[0];
    let child = fork(|| {
        for kind in 0..4 {
            thread::spawn(move || {
                loop {
                    match kind {
                        0 | 1 => drop(open_something()),
                        2 => drop(thread::spawn(open_something).join()),
                        _ => drop(wait(fork(|| i32::from(!open_something())))),
                    }
                    progress.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        loop {
            unsafe { libc::pause() };
        }
    });
    let now = || progress.load(Ordering::SeqCst);
    for round in 0..150 {
        if round % 10 == 0 {
            let before = now();
            until("the child goes on", || now() > before + 3);
        }
        kill(child, libc::SIGSTOP);
        if round % 3 == 0 {
            thread::yield_now();
        }
        kill(child, libc::SIGCONT);
    }
    let before = now();
    until("the child goes on after the storm", || now() > before + 20);
    kill(child, libc::SIGKILL);
    // Which of the stops it has noticed is a matter of luck.
    let mut last = wait_for(child, 0);
    while last == "EINTR" {
        last = wait_for(child, 0);
    }
    say!("{last}");

    // A stop in the middle of execve.
    let mut good = 0;
    for round in 0..30 {
        let child = fork(|| {
            sleepers(3);
            thread::spawn(|| Program::own(&["exit", "17"]).exec()).join().unwrap() as i32
        });
        for _ in 0..round {
            thread::yield_now();
        }
        for _ in 0..5 {
            kill(child, libc::SIGSTOP);
            thread::yield_now();
            kill(child, libc::SIGCONT);
        }
        let ended = wait(child);
        if ended == "exited 17" {
            good += 1;
        } else {
            say!("round {round}: {ended}");
        }
    }
    say!("{good} executed in spite of stops");
}

/// A process whose leader has ended is stopped and continued.
pub(crate) fn without_leader() {
    let counter = &shared(1)[0];
    let child = fork(|| {
        thread::spawn(move || {
            loop {
                counter.fetch_add(1, Ordering::SeqCst);
                open_something();
                if HUNG_UP.load(Ordering::SeqCst) == 1 {
                    exit_all(31);
                }
            }
        });
        extern "C" fn hung_up(_: c_int) {
            HUNG_UP.store(1, Ordering::SeqCst);
        }
        unsafe { libc::signal(libc::SIGHUP, hung_up as *const () as libc::sighandler_t) };
        crate::sys::exit_task(0)
    });
    until("the leader is a zombie", || state(child, child) == 'Z' && counter.load(Ordering::SeqCst) > 0);
    kill(child, libc::SIGSTOP);
    let told = wait_stop(child);
    let others = || threads(child).into_iter().filter(|tid| *tid != child).collect::<Vec<_>>();
    until("the other thread is stopped", || others().iter().all(|tid| is_stopped(child, *tid)));
    let before = counter.load(Ordering::SeqCst);
    pause_ms(10);
    let still = counter.load(Ordering::SeqCst) == before;
    kill(child, libc::SIGCONT);
    let continued = wait_continue(child);
    until("it goes on", || counter.load(Ordering::SeqCst) > before);
    kill(child, libc::SIGHUP);
    say!("{told}, still {still}, {continued}, {}", wait(child));
}
