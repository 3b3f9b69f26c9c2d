//! Namespaces: processes whose ids, users and files are others inside than
//! outside.

use std::sync::atomic::Ordering;
use std::thread;

use crate::sys::{
    Program, ask, call, exit_all, fork, getpid, gettid, open, open_something, own_path, put, say, shared, told, until,
    wait, wait_for,
};

fn unshare(flags: i32) {
    assert_eq!(unsafe { libc::unshare(flags) }, 0, "unshare: {}", std::io::Error::last_os_error());
}

/// Init of a PID namespace, with children, orphans, threads and programs.
pub(crate) fn pids() {
    let (text, status) = ask(|writer| {
        unshare(libc::CLONE_NEWPID);
        let init = fork(|| {
            let us = getpid();
            let child = fork(|| {
                // Its child is an orphan at once.
                fork(|| 5)
            });
            let statuses = [wait_for(-1, 0), wait_for(-1, 0)];
            let mut sorted = statuses.clone();
            sorted.sort();
            let tid = thread::spawn(gettid).join().unwrap();
            put(writer, format!("init {us}, child {child}, {sorted:?}, thread {tid}; ").as_bytes());
            let executed = fork(|| {
                call!(SYS_dup3, writer, 1, 0).unwrap();
                let program = Program::new(&[&own_path(), "tell-own-id"]);
                thread::spawn(move || program.exec()).join().unwrap() as i32
            });
            put(writer, format!("executed {executed}, {}; ", wait(executed)).as_bytes());
            // A signal without a handler does nothing to init.
            unsafe { libc::kill(getpid(), libc::SIGTERM) };
            // These die with it.
            for _ in 0..5 {
                fork(|| {
                    crate::sys::pause_ms(60_000);
                    1
                });
            }
            put(writer, format!("survived; open {}; ", told(open(c"/dev/null"))).as_bytes());
            17
        });
        put(writer, format!("outside {}", wait(init)).as_bytes());
        0
    });
    say!("{text}; {status}");
    // Two levels down.
    let (text, status) = ask(|writer| {
        unshare(libc::CLONE_NEWPID);
        let outer = fork(|| {
            unshare(libc::CLONE_NEWPID);
            let inner = fork(|| {
                let child = fork(|| getpid() + 10);
                put(writer, format!("inner {}, child {child} {}; ", getpid(), wait(child)).as_bytes());
                open(c"/dev/null").map_or(1, |_| 18)
            });
            // After it has ended: both write to the same pipe.
            let ended = wait(inner);
            put(writer, format!("its id outside {inner}; {ended}").as_bytes());
            19
        });
        put(writer, format!("; outermost {}", wait(outer)).as_bytes());
        0
    });
    say!("{text}; {status}");
    // Init is killed: all are.
    let ready = &shared(1)[0];
    unshare(libc::CLONE_NEWPID);
    let init = fork(|| {
        for _ in 0..10 {
            fork(|| {
                ready.fetch_add(1, Ordering::SeqCst);
                loop {
                    open_something();
                }
            });
        }
        crate::sys::pause_ms(60_000);
        1
    });
    until("all children run", || ready.load(Ordering::SeqCst) == 10);
    unsafe { libc::kill(init, libc::SIGKILL) };
    say!("init and ten children: {}", wait(init));
}

pub(crate) fn tell_own_id() {
    say!("as a program {}, leader {}; ", getpid(), gettid() == getpid());
    exit_all(6);
}

/// A user namespace: root inside, with files and programs.
pub(crate) fn users() {
    let (text, status) = ask(|writer| {
        call!(SYS_setresgid, 65_534, 65_534, 65_534).unwrap();
        call!(SYS_setresuid, 65_534, 65_534, 65_534).unwrap();
        // Else its files in /proc are root's.
        call!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0).unwrap();
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS);
        std::fs::write("/proc/self/setgroups", "deny").unwrap();
        std::fs::write("/proc/self/uid_map", "0 65534 1").unwrap();
        std::fs::write("/proc/self/gid_map", "0 65534 1").unwrap();
        let ids = unsafe { (libc::getuid(), libc::getgid()) };
        let child = fork(|| {
            call!(SYS_dup3, writer, 1, 0).unwrap();
            Program::new(&["/bin/sh", "-c", "read line </proc/sys/kernel/ostype; echo $line $$ $(id -u); exit 9"])
                .exec() as i32
        });
        let status = wait(child);
        put(writer, format!("{ids:?}, child {status}, open {}", told(open(c"/dev/null"))).as_bytes());
        0
    });
    say!("{text}; {status}");
}

/// A mount namespace: a program that nobody else has.
pub(crate) fn mounts(directory: &str) {
    let (text, status) = ask(|writer| {
        unshare(libc::CLONE_NEWNS);
        let (place, tmpfs) = (std::ffi::CString::new(directory).unwrap(), c"tmpfs");
        let none = std::ptr::null();
        unsafe {
            libc::mount(c"".as_ptr(), c"/".as_ptr(), c"".as_ptr(), libc::MS_REC | libc::MS_PRIVATE, none);
            assert_eq!(libc::mount(tmpfs.as_ptr(), place.as_ptr(), tmpfs.as_ptr(), 0, none.cast()), 0);
        }
        let program = format!("{directory}/only-here");
        std::fs::copy(own_path(), &program).unwrap();
        let inside = wait(fork(|| Program::new(&[&program, "exit", "21"]).exec() as i32));
        let read = std::fs::read(&program).is_ok();
        put(writer, format!("inside {inside}, read {read}").as_bytes());
        0
    });
    let outside = wait(fork(|| Program::new(&[&format!("{directory}/only-here"), "exit", "21"]).exec() as i32));
    say!("{text}, {status}; outside {outside}");
}
