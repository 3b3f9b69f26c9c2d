//! vfork: the parent sleeps, unkindly, until the child executes or ends.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use libc::pid_t;
use nix::errno::Errno;

use crate::sys::{
    Program, Result, call, exit_task, fork, open_something, pipe, put, raw, read_all, say, shared, spawn_raw, stack,
    state, until, wait, wait_for,
};

/// The ways to make such a child.
const WAYS: &[&str] = if cfg!(target_arch = "x86_64") { &["vfork", "clone", "clone3"] } else { &["clone", "clone3"] };

fn spawn(way: &str, child: unsafe extern "C" fn(usize) -> !, argument: usize) -> Result<pid_t> {
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK) as usize;
    match way {
        #[cfg(target_arch = "x86_64")]
        "vfork" => spawn_raw(libc::SYS_vfork, [0; 5], child, argument),
        "clone3" => {
            let top = stack();
            let size = 32 << 10;
            let args = [flags, 0, 0, 0, libc::SIGCHLD as usize, top - size, size, 0];
            let args = [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0];
            match spawn_raw(libc::SYS_clone3, args, child, argument) {
                // The host may say that there is none, and C libraries do this.
                Err(Errno::ENOSYS) => spawn("clone", child, argument),
                made => made,
            }
        }
        _ => spawn_raw(libc::SYS_clone, [flags | libc::SIGCHLD as usize, stack(), 0, 0, 0], child, argument),
    }
}

/// Written by children that share our memory.
static TOUCHED: AtomicI64 = AtomicI64::new(0);

unsafe extern "C" fn exits(_: usize) -> ! {
    open_something();
    TOUCHED.fetch_add(1, Ordering::SeqCst);
    exit_task(7)
}

unsafe extern "C" fn is_killed(_: usize) -> ! {
    TOUCHED.fetch_add(1, Ordering::SeqCst);
    let _ = call!(SYS_kill, call!(SYS_getpid).unwrap(), libc::SIGKILL);
    exit_task(1)
}

unsafe extern "C" fn executes(program: usize) -> ! {
    let program = unsafe { &*(program as *const Program) };
    TOUCHED.fetch_add(1, Ordering::SeqCst);
    program.exec();
    exit_task(127)
}

unsafe extern "C" fn stops(slot: usize) -> ! {
    let us = raw(libc::SYS_getpid, [0; 6]);
    unsafe { &*(slot as *const AtomicI64) }.store(us as i64, Ordering::SeqCst);
    let _ = call!(SYS_kill, us, libc::SIGSTOP);
    exit_task(6)
}

/// Tells its id, then waits to be killed.
unsafe extern "C" fn waits(slot: usize) -> ! {
    unsafe { &*(slot as *const AtomicI64) }.store(raw(libc::SYS_getpid, [0; 6]) as i64, Ordering::SeqCst);
    let long = libc::timespec { tv_sec: 20, tv_nsec: 0 };
    let _ = call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const long, 0);
    exit_task(1)
}

/// Says on a pipe when it is let, and ends.
unsafe extern "C" fn outlives(pipes: usize) -> ! {
    let pipes = unsafe { &*(pipes as *const [i32; 2]) };
    let mut byte = 0u8;
    let _ = call!(SYS_read, pipes[0], &raw mut byte, 1);
    let _ = call!(SYS_write, pipes[1], b"the child lives on".as_ptr(), 18);
    exit_task(0)
}

unsafe extern "C" fn nests(depth: usize) -> ! {
    if depth == 0 {
        exit_task(3);
    }
    let mut status = 0;
    if let Ok(child) = spawn(WAYS[0], nests, depth - 1) {
        let _ = call!(SYS_wait4, child, &raw mut status, libc::__WALL, 0);
    }
    exit_task(libc::WEXITSTATUS(status) + 1)
}

pub(crate) fn all() {
    let missing = Program::new(&["/no/such/program"]);
    let exit = Program::own(&["exit", "9"]);
    for way in WAYS {
        let touched = TOUCHED.swap(0, Ordering::SeqCst);
        assert_eq!(touched, 0);
        let run = |child, argument| spawn(way, child, argument).map_or_else(|errno| format!("{errno:?}"), wait);
        say!("{way}: exits: {}", run(exits, 0));
        say!("{way}: is killed: {}", run(is_killed, 0));
        say!("{way}: executes: {}", run(executes, &raw const exit as usize));
        say!("{way}: executes what is not there: {}", run(executes, &raw const missing as usize));
        say!("{way}: memory was shared {} times", TOUCHED.swap(0, Ordering::SeqCst));
        say!("{way}: killed from outside: {}", killed_by_thread(way));
        say!("{way}: stopped and continued: {}", stopped(way));
        say!("{way}: the parent is killed: {}", parent_killed(way));
        say!("{way}: another thread executes: {}", parent_executes(way));
    }
    say!("nested: {}", spawn(WAYS[0], nests, 4).map_or_else(|errno| format!("{errno:?}"), wait));
    at_once();
}

fn killed_by_thread(way: &str) -> String {
    let slot = &shared(1)[0];
    let killer = thread::spawn(move || {
        until("the child has told its id", || slot.load(Ordering::SeqCst) != 0);
        unsafe { libc::kill(slot.load(Ordering::SeqCst) as pid_t, libc::SIGKILL) }
    });
    let child = spawn(way, waits, std::ptr::from_ref(slot) as usize).unwrap();
    killer.join().unwrap();
    wait(child)
}

fn stopped(way: &str) -> String {
    let slot = &shared(1)[0];
    let helper = thread::spawn(move || {
        until("the child has told its id", || slot.load(Ordering::SeqCst) != 0);
        let child = slot.load(Ordering::SeqCst) as pid_t;
        let told = wait_for(child, libc::WUNTRACED);
        unsafe { libc::kill(child, libc::SIGCONT) };
        told
    });
    let child = spawn(way, stops, std::ptr::from_ref(slot) as usize).unwrap();
    format!("{}, {}", helper.join().unwrap(), wait(child))
}

/// The parent is killed in its vfork; the child goes on by itself.
fn parent_killed(way: &str) -> String {
    let ([go_reader, go_writer], [reader, writer]) = (pipe(), pipe());
    let pipes = [go_reader, writer];
    let parent = fork(|| {
        let _ = spawn(way, outlives, &raw const pipes as usize);
        1
    });
    crate::sys::close(writer);
    until("the parent sleeps in its vfork", || state(parent, parent) == 'D');
    unsafe { libc::kill(parent, libc::SIGKILL) };
    let status = wait(parent);
    put(go_writer, b"g");
    format!("{status}, {}", read_all(reader))
}

/// execve ends the thread that sleeps in its vfork; the child goes on.
fn parent_executes(way: &str) -> String {
    let ([go_reader, go_writer], [reader, writer]) = (pipe(), pipe());
    let pipes = [go_reader, writer];
    let name = way.to_owned();
    let parent = fork(|| {
        let tid = &shared(1)[0];
        thread::spawn(move || {
            tid.store(crate::sys::gettid().into(), Ordering::SeqCst);
            let _ = spawn(&name, outlives, &raw const pipes as usize);
        });
        until("the thread sleeps in its vfork", || {
            let tid = tid.load(Ordering::SeqCst) as pid_t;
            tid != 0 && state(crate::sys::getpid(), tid) == 'D'
        });
        Program::own(&["exit", "21"]).exec() as i32
    });
    crate::sys::close(writer);
    let status = wait(parent);
    put(go_writer, b"g");
    format!("{status}, {}", read_all(reader))
}

/// Eight threads, all in vfork at once.
fn at_once() {
    let threads: Vec<_> = (0..8usize)
        .map(|index| {
            thread::spawn(move || {
                let program = Program::own(&["exit", &(100 + index).to_string()]);
                let mut good = 0;
                for round in 0..12 {
                    let way = WAYS[round % WAYS.len()];
                    let (child, expected) = match round % 4 {
                        0 => (spawn(way, exits, 0), "exited 7".to_owned()),
                        1 => (spawn(way, is_killed, 0), "killed 9".to_owned()),
                        _ => (spawn(way, executes, &raw const program as usize), format!("exited {}", 100 + index)),
                    };
                    let status = wait(child.unwrap());
                    if status == expected {
                        good += 1;
                    } else {
                        say!("thread {index}, round {round}, {way}: {status}, not {expected}");
                    }
                }
                good
            })
        })
        .collect();
    let good: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    say!("at once: {good} of 96 right");
}
