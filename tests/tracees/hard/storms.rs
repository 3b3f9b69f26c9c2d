//! Many threads, many processes, and a killer among them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use libc::pid_t;

use crate::sys::{
    Program, call, close, fork, getpid, open_something, own_path, pipe, put, read_all, say, shared, threads, until,
    wait, wait_for,
};

fn small<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(64 << 10).spawn(body).unwrap()
}

/// 1,000 threads made and ended, 50 at a time; then 300 at once.
pub(crate) fn of_threads() {
    let opened = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let batch: Vec<_> = (0..50)
            .map(|_| {
                let opened = opened.clone();
                small(move || opened.fetch_add(usize::from(open_something()), Ordering::SeqCst))
            })
            .collect();
        for thread in batch {
            thread.join().unwrap();
        }
    }
    say!("{} of 1000 opened", opened.load(Ordering::SeqCst));
    opened.store(0, Ordering::SeqCst);
    let barrier = Arc::new(Barrier::new(301));
    let alive: Vec<_> = (0..300)
        .map(|_| {
            let (opened, barrier) = (opened.clone(), barrier.clone());
            small(move || {
                barrier.wait();
                for _ in 0..5 {
                    opened.fetch_add(usize::from(open_something()), Ordering::SeqCst);
                }
                barrier.wait();
            })
        })
        .collect();
    barrier.wait();
    barrier.wait();
    say!("{} of 1500 opened", opened.load(Ordering::SeqCst));
    for thread in alive {
        thread.join().unwrap();
    }
    until("all threads are gone", || threads(getpid()).len() == 1);
    say!("alone again");
}

/// 2,000 children of four parents; each one's status is its own.
pub(crate) fn of_forks() {
    let parents: Vec<_> = (0..4)
        .map(|parent| {
            fork(|| {
                let mut right = 0;
                for batch in 0..20 {
                    let children: Vec<_> = (0..25)
                        .map(|index| {
                            let number = (batch * 25 + index + parent) % 200;
                            let child = fork(|| {
                                if number % 10 == 9 {
                                    unsafe { libc::kill(getpid(), libc::SIGKILL) };
                                }
                                if number % 3 == 0 && !open_something() { 255 } else { number }
                            });
                            (child, number)
                        })
                        .collect();
                    for (child, number) in children {
                        let expected = if number % 10 == 9 { "killed 9".into() } else { format!("exited {number}") };
                        let status = wait(child);
                        if status == expected {
                            right += 1;
                        } else {
                            say!("{status}, not {expected}");
                        }
                    }
                }
                i32::from(right != 500)
            })
        })
        .collect();
    for parent in parents {
        say!("parent: {}", wait(parent));
    }
    say!("no child is left: {}", wait_for(-1, libc::__WALL));
}

/// Each process has two children, down to a depth; counted by their bytes.
pub(crate) fn tree(depth: u32) {
    fn grow(depth: u32, writer: i32) -> i32 {
        put(writer, b"x");
        if depth == 0 {
            return 1;
        }
        let children = [fork(|| grow(depth - 1, writer)), fork(|| grow(depth - 1, writer))];
        let right = children.into_iter().all(|child| wait(child) == "exited 1");
        i32::from(right)
    }
    let [reader, writer] = pipe();
    let root = fork(|| {
        close(reader);
        grow(depth, writer)
    });
    close(writer);
    let count = read_all(reader).len();
    say!("{count} processes, {}", wait(root));
}

/// Twelve new processes, or threads, open files without end; an older one
/// opens a few, and ends them.
pub(crate) fn busy_children() {
    let started = &shared(1)[0];
    let middle = fork(|| {
        let children: Vec<_> = (0..12)
            .map(|_| {
                fork(|| {
                    started.fetch_add(1, Ordering::SeqCst);
                    loop {
                        open_something();
                    }
                })
            })
            .collect();
        while started.load(Ordering::SeqCst) < 12 {
            thread::yield_now();
        }
        let opened = (0..50).filter(|_| open_something()).count();
        for child in children {
            unsafe { libc::kill(child, libc::SIGKILL) };
            wait(child);
        }
        opened as i32
    });
    say!("among processes: {}", wait(middle));
    let middle = fork(|| {
        for _ in 0..12 {
            small(|| {
                started.fetch_add(1, Ordering::SeqCst);
                loop {
                    open_something();
                }
            });
        }
        while started.load(Ordering::SeqCst) < 24 {
            thread::yield_now();
        }
        (0..50).filter(|_| open_something()).count() as i32
    });
    say!("among threads: {}", wait(middle));
}

/// Random enough, and the same at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What is killed: works in one way for ever, or until it is tired.
pub(crate) fn victim(work: u64, left: u32) -> i32 {
    match work {
        0 => loop {
            open_something();
        },
        1 => loop {
            let _ = thread::Builder::new().stack_size(64 << 10).spawn(open_something).map(thread::JoinHandle::join);
        },
        2 => {
            if left == 0 {
                return 9;
            }
            Program::new(&[&own_path(), "victim", "2", &(left - 1).to_string()]).exec() as i32
        }
        3 => loop {
            let _ = wait(fork(|| i32::from(!open_something())));
        },
        4 => {
            for _ in 0..4 {
                small(|| {
                    loop {
                        open_something();
                    }
                });
            }
            let program = Program::new(&[&own_path(), "victim", "4", "0"]);
            small(move || program.exec() as i32).join().unwrap()
        }
        5 => loop {
            let exit = Program::new(&["/bin/true"]);
            let _ = wait(fork(|| exit.exec() as i32));
        },
        6 => {
            // Ends by itself while it is being killed.
            for _ in 0..3 {
                small(open_something);
            }
            9
        }
        _ => loop {
            unsafe { libc::raise(libc::SIGSTOP) };
        },
    }
}

/// A killer kills processes at whatever they are just doing, 500 times.
pub(crate) fn killer() {
    call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).unwrap();
    let mut dice = Dice(42);
    let mut born = 0;
    let mut spawn = || {
        let work = born % 8;
        born += 1;
        fork(|| {
            // So that the killer gets its turn among so many.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 15) };
            victim(work, 1000)
        })
    };
    let mut alive: Vec<pid_t> = (0..8).map(|_| spawn()).collect();
    let mut good = 0;
    for _ in 0..500 {
        let target = dice.roll(alive.len() as u64) as usize;
        thread::sleep(Duration::from_micros(dice.roll(3000)));
        let pid = alive.swap_remove(target);
        unsafe { libc::kill(pid, libc::SIGKILL) };
        match wait(pid).as_str() {
            "killed 9" | "exited 9" => good += 1,
            other => say!("its end: {other}"),
        }
        alive.push(spawn());
    }
    for pid in alive {
        unsafe { libc::kill(pid, libc::SIGKILL) };
        wait(pid);
    }
    say!("{good} of 500 ended well");
    // Children of the killed are ours now, and end by themselves.
    let mut last = String::new();
    until("no child is left", || {
        last = wait_for(-1, libc::__WALL | libc::WNOHANG);
        last == "ECHILD"
    });
    let zombies = std::fs::read_to_string(format!("/proc/self/task/{}/children", getpid())).unwrap();
    say!("left: {last} {zombies:?}");
}
