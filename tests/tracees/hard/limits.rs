//! Processes at their limits, and under rules of their own.

use std::thread;

use libc::{c_int, sock_filter};
use nix::errno::Errno;

use crate::signals::handle;
use crate::sys::{
    Program, ask, call, close, exit_all, fork, getpid, open, open_something, put, raw, say, told, wait, wait_for,
};

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// No descriptor is left.
pub(crate) fn descriptors() {
    let status = wait(fork(|| {
        set_limit(libc::RLIMIT_NOFILE, 64);
        let mut opened = Vec::new();
        let failure = loop {
            match open(c"/dev/null") {
                Ok(fd) => opened.push(fd),
                Err(errno) => break errno,
            }
        };
        let highest = opened.last().copied();
        let mut ends = [0; 2];
        let pipe = call!(SYS_pipe2, ends.as_mut_ptr(), 0);
        let socket = call!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0);
        say!("{failure:?} after {highest:?}, {pipe:?}, {socket:?}");
        // Threads and children need none.
        let threads = thread::spawn(|| told(open(c"/dev/null"))).join().unwrap();
        let child = wait(fork(|| open(c"/dev/null").map_or_else(|errno| errno as i32, |_| 0)));
        say!("thread {threads}, child {child}");
        close(opened[0]);
        say!("one free: {}", told(open(c"/proc/self/comm")));
        let program = Program::new(&["/bin/sh", "-c", "exit 8"]);
        program.exec() as i32
    }));
    say!("{status}");
}

/// Another user's processes are full.
pub(crate) fn processes() {
    // Hopefully nobody's number.
    const USER: usize = 61_234;
    let (text, status) = ask(|writer| {
        set_limit(libc::RLIMIT_NPROC, 6);
        call!(SYS_setresgid, USER, USER, USER).unwrap();
        call!(SYS_setresuid, USER, USER, USER).unwrap();
        let mut children = Vec::new();
        let failure = loop {
            let child = unsafe { libc::fork() };
            match child {
                -1 => break Errno::last(),
                0 => {
                    crate::sys::pause_ms(60_000);
                    exit_all(1);
                }
                child => children.push(child),
            }
        };
        let thread = thread::Builder::new().spawn(|| ()).map_err(|error| error.raw_os_error());
        put(writer, format!("{failure:?} after {}, thread {:?}", children.len(), thread.err()).as_bytes());
        for child in &children {
            unsafe { libc::kill(*child, libc::SIGKILL) };
            wait(*child);
        }
        put(writer, format!(", afterwards {}", wait(fork(|| i32::from(!open_something())))).as_bytes());
        0
    });
    say!("{text}; {status}");
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// A filter that answers `action` to the call `number`, and lets all others.
fn install(number: i64, action: u32, flags: usize) -> crate::sys::Result {
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        sock_filter { code: equal as u16, jt: 0, jf: 1, k: number as u32 },
        statement(libc::BPF_RET | libc::BPF_K, action),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    call!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
    call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
}

/// Filters of the program's own beside the host's, for a call that the host
/// does not look at and for one that it does.
pub(crate) fn own_filters() {
    extern "C" fn trapped(_: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // After three numbers, padding and si_call_addr: si_syscall (man 2
        // sigaction).
        let number = unsafe { *info.cast::<c_int>().add(6) };
        let code = unsafe { (*info).si_code };
        say!(
            "trapped {}, code {code}",
            i64::from(number) == libc::SYS_getppid || i64::from(number) == libc::SYS_openat
        );
    }
    for (name, number) in [("getppid", libc::SYS_getppid), ("openat", libc::SYS_openat)] {
        let try_it = move || {
            if number == libc::SYS_getppid { told(call!(SYS_getppid)) } else { told(open(c"/dev/null")) }
        };
        let actions = [
            ("ERRNO", libc::SECCOMP_RET_ERRNO | libc::EXFULL as u32),
            ("TRAP", libc::SECCOMP_RET_TRAP),
            ("KILL_THREAD", libc::SECCOMP_RET_KILL_THREAD),
            ("KILL_PROCESS", libc::SECCOMP_RET_KILL_PROCESS),
            ("LOG", libc::SECCOMP_RET_LOG),
            ("ALLOW", libc::SECCOMP_RET_ALLOW),
        ];
        for (action, value) in actions {
            let status = wait(fork(|| {
                handle(libc::SIGSYS, trapped, 0, false);
                say!("{name} {action}: installed {}", told(install(number, value, 0)));
                let answer = try_it();
                if action != "TRAP" {
                    say!("{name} {action}: {answer}");
                }
                let thread = thread::spawn(try_it).join();
                if action != "TRAP" {
                    say!("{name} {action}: in a thread {thread:?}");
                }
                4
            }));
            say!("{name} {action}: {status}");
        }
    }
    let status = wait(fork(|| {
        let other = thread::spawn(|| {
            crate::sys::until("the filter is there", || call!(SYS_getppid) == Err(Errno::EXFULL));
        });
        let errno = libc::SECCOMP_RET_ERRNO | libc::EXFULL as u32;
        let installed = install(libc::SYS_getppid, errno, libc::SECCOMP_FILTER_FLAG_TSYNC as usize);
        other.join().unwrap();
        say!("for all threads: {}", told(installed));
        5
    }));
    say!("TSYNC: {status}");
    // A program that the filter outlives.
    let status = wait(fork(|| {
        install(libc::SYS_getppid, libc::SECCOMP_RET_ERRNO | libc::EXFULL as u32, 0).unwrap();
        Program::own(&["getppid"]).exec() as i32
    }));
    say!("over execve: {status}");
}

pub(crate) fn getppid() -> ! {
    say!("getppid: {}", told(call!(SYS_getppid)));
    exit_all(2)
}

/// `RET_TRACE` of the program's own: without a tracer that asked for it the
/// call fails with ENOSYS.
pub(crate) fn own_trace_filter() {
    for (name, number) in [("getppid", libc::SYS_getppid), ("openat", libc::SYS_openat)] {
        let status = wait(fork(|| {
            install(number, libc::SECCOMP_RET_TRACE | 0x77, 0).unwrap();
            let answer = if number == libc::SYS_getppid { told(call!(SYS_getppid)) } else { told(open(c"/dev/null")) };
            say!("{name}: {answer}");
            0
        }));
        say!("{name}: {status}");
    }
}

/// A supervisor of the program's own answers a call that the host does not
/// look at.
pub(crate) fn own_notifications() {
    let status = wait(fork(|| {
        let listener =
            install(libc::SYS_getppid, libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as usize);
        let Ok(listener) = listener else {
            say!("listener: {listener:?}");
            return 1;
        };
        let supervisor = thread::spawn(move || {
            let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            let received = call!(SYS_ioctl, listener, NOTIF_RECV, &raw mut asked);
            let answer = libc::seccomp_notif_resp { id: asked.id, val: 4711, error: 0, flags: 0 };
            let sent = call!(SYS_ioctl, listener, NOTIF_SEND, &raw const answer);
            say!(
                "received {}, sent {}, call {}",
                told(received),
                told(sent),
                i64::from(asked.data.nr) == libc::SYS_getppid
            );
        });
        let answer = raw(libc::SYS_getppid, [0; 6]);
        supervisor.join().unwrap();
        say!("answered {answer}");
        0
    }));
    say!("{status}");
}

/// `SECCOMP_IOCTL_NOTIF_RECV` and `…_SEND` (linux/seccomp.h).
const NOTIF_RECV: usize = 0xc050_2100;
const NOTIF_SEND: usize = 0xc018_2101;

/// Strict mode: read, write and exit only.
pub(crate) fn strict() {
    let (text, status) = ask(|writer| {
        let set = call!(SYS_prctl, libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT, 0, 0, 0);
        let text: &[u8] = if set.is_ok() { b"strict" } else { b"refused" };
        let _ = call!(SYS_write, writer, text.as_ptr(), text.len());
        let _ = call!(SYS_getppid);
        raw(libc::SYS_exit, [5, 0, 0, 0, 0, 0]) as i32
    });
    say!("{text}: {status}");
}

/// A process that nobody may look into.
pub(crate) fn not_dumpable() {
    for other_user in [false, true] {
        let (text, status) = ask(|writer| {
            if other_user {
                call!(SYS_setresuid, 65_534, 65_534, 65_534).unwrap();
            }
            call!(SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0).unwrap();
            let opened = (0..50).filter(|_| open_something()).count();
            let thread = thread::spawn(|| told(open(c"/dev/null"))).join().unwrap();
            let child = wait(fork(|| if open_something() { 6 } else { 7 }));
            let executed = wait(fork(|| Program::new(&["/bin/sh", "-c", ": </dev/null; exit 4"]).exec() as i32));
            let dumpable = call!(SYS_prctl, libc::PR_GET_DUMPABLE, 0, 0, 0, 0);
            put(writer, format!("{opened} opened, {thread}, {child}, {executed}, {dumpable:?}").as_bytes());
            3
        });
        say!("other user {other_user}: {text}; {status}");
    }
}

/// Limits and personality that a process changes for itself.
pub(crate) fn itself() {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = libc::rlimit { rlim_cur: 50, rlim_max: 60 };
    let us = getpid();
    let set = call!(SYS_prlimit64, us, libc::RLIMIT_NOFILE, &raw const new, 0);
    let got = call!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, &raw mut old);
    say!("prlimit {set:?} {got:?} {} {}", old.rlim_cur, old.rlim_max);
    let child = wait(fork(|| {
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        let _ = call!(SYS_prlimit64, 0, libc::RLIMIT_CPU, &raw const limit, 0);
        loop {
            std::hint::spin_loop();
        }
    }));
    say!("a second of processor time: {child}");
    let places: Vec<_> = (0..2)
        .map(|_| {
            ask(|writer| {
                call!(SYS_personality, libc::ADDR_NO_RANDOMIZE).unwrap();
                call!(SYS_dup3, writer, 1, 0).unwrap();
                Program::own(&["tell-place"]).exec() as i32
            })
        })
        .collect();
    say!("not randomized: same place {}, {}", places[0] == places[1], places[0].1);
    say!("shown: {}", places[0].0.lines().next().unwrap_or_default());
    // Through /proc/self/mem as through a pointer.
    let number = std::hint::black_box(41u64);
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(&raw const number as u64)).unwrap();
    std::io::Write::write_all(&mut file, &42u64.to_ne_bytes()).unwrap();
    say!("written through /proc/self/mem: {}", unsafe { (&raw const number).read_volatile() });
    say!("nothing left: {}", wait_for(-1, libc::__WALL));
}

pub(crate) fn tell_place() {
    let here = 0u8;
    say!("personality {:#x}", call!(SYS_personality, 0xffff_ffffu32).unwrap());
    say!("{:p} {:p}", &raw const here, tell_place as *const ());
}
