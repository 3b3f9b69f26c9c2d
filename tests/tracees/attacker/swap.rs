//! Objects that change between check and use, while nothing in memory does:
//! `swap WHAT WHO USE ROOT ATTEMPTS`.
//!
//! WHAT is changed, by a `thread` or by another `process`; USE is the call
//! that is raced. The name always leads to `h` or to `s` (see `race`).

use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::memory::{Flipper, Mover};
use crate::race::{executed, repeat};
use crate::sys::{self, Child, Saw, Tally, c, check, errno, identity, identity_of, open, opened, refused};

pub fn main(what: &str, who: &str, using: &str, root: &str, attempts: u64) {
    let target = if using == "execute" { "program" } else { "file" };
    let Swap { path, mut turn } = Swap::new(what, root, target);
    let _mover = match who {
        "thread" => Mover::Thread(Flipper::start(move |stop: &AtomicBool| {
            while !stop.load(Ordering::Relaxed) {
                turn();
            }
        })),
        "process" => Mover::Process(Child::forever(move || {
            loop {
                turn();
            }
        })),
        _ => panic!("nobody: {who}"),
    };
    let mut attempt = attempt(using, path, root);
    let mut tally = Tally::default();
    repeat(attempts, false, &mut tally, &mut attempt);
    tally.print();
}

/// A name, and what turns it from one object to the other and back.
struct Swap {
    path: String,
    turn: Box<dyn FnMut() + Send>,
}

impl Swap {
    fn new(what: &str, root: &str, target: &str) -> Self {
        let at = |name: &str| format!("{root}/{name}");
        let rename = |from: &str, to: &str, flags| {
            let (from, to) = (c(from), c(to));
            unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) }
        };
        let file = format!("{root}/h/{target}");
        let secret = format!("{root}/s/{target}");
        let boxed = |path: String, turn: Box<dyn FnMut() + Send>| Self { path, turn };
        match what {
            // A new link is renamed over the old one: the name is never gone.
            "symlink" | "middle" => {
                let (link, fresh) = (at("link"), at("fresh"));
                let (sides, path) = if what == "middle" {
                    ([at("h"), at("s")], at(&format!("link/{target}")))
                } else {
                    ([file, secret], link.clone())
                };
                symlink(&sides[0], &link).unwrap();
                let turn = move || {
                    for side in &sides {
                        // The name may be left from a refused rename.
                        let _ = symlink(side, &fresh);
                        rename(&fresh, &link, 0);
                    }
                };
                boxed(path, Box::new(turn))
            }
            // A directory with a file, and one with a link of the same name.
            "exchange" | "dotdot" => {
                let (one, other) = (at("one"), at("other"));
                for directory in [&one, &other] {
                    std::fs::create_dir_all(format!("{directory}/inner")).unwrap();
                }
                std::fs::copy(&file, format!("{one}/{target}")).unwrap();
                symlink(&secret, format!("{other}/{target}")).unwrap();
                if what == "dotdot" {
                    std::env::set_current_dir(at("one/inner")).unwrap();
                    // The parent of where we stand is another each time.
                    let (inner, there) = (at("one/inner"), at("other/inner"));
                    let turn = move || {
                        rename(&inner, &there, libc::RENAME_EXCHANGE);
                    };
                    boxed(format!("../{target}"), Box::new(turn))
                } else {
                    let turn = move || {
                        rename(&one, &other, libc::RENAME_EXCHANGE);
                    };
                    boxed(at(&format!("one/{target}")), Box::new(turn))
                }
            }
            // A directory with the link, now and then under another that has a file.
            "mount" => {
                check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).unwrap();
                let none = std::ptr::null();
                let private = libc::MS_REC | libc::MS_PRIVATE;
                check(unsafe { libc::mount(none, c"/".as_ptr(), none, private, none.cast()) }).unwrap();
                let (under, over) = (at("under"), at("over"));
                std::fs::create_dir(&under).unwrap();
                std::fs::create_dir(&over).unwrap();
                symlink(&secret, format!("{under}/{target}")).unwrap();
                std::fs::copy(&file, format!("{over}/{target}")).unwrap();
                let path = format!("{under}/{target}");
                let (under, over) = (c(&under), c(&over));
                let turn = move || {
                    let none = std::ptr::null();
                    unsafe { libc::mount(over.as_ptr(), under.as_ptr(), none, libc::MS_BIND, none.cast()) };
                    // So that it is in place about as long as it is not.
                    for _ in 0..20_000 {
                        std::hint::spin_loop();
                    }
                    unsafe { libc::umount2(under.as_ptr(), libc::MNT_DETACH) };
                };
                boxed(path, Box::new(turn))
            }
            _ => panic!("no such swap: {what}"),
        }
    }
}

fn attempt(using: &str, path: String, root: &str) -> Box<dyn FnMut() -> Saw> {
    let name = c(&path);
    let secret = format!("{root}/s/file");
    let before = identity(&secret).unwrap();
    let unchanged = move || if identity(&secret) == Some(before) { Saw::Harmless } else { Saw::Leaked };
    match using {
        "open" => {
            Box::new(move || opened(unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), libc::O_RDONLY) }.into()))
        }
        "openat2" => Box::new(move || {
            let how = [0u64; 3];
            opened(unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, name.as_ptr(), how.as_ptr(), 24) })
        }),
        // Looked up twice: as a mere place first, then by its descriptor.
        "reopen" => Box::new(move || {
            let fd = unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), libc::O_PATH) };
            if fd < 0 {
                return refused();
            }
            let again = c(&format!("/proc/self/fd/{fd}"));
            let saw = opened(unsafe { libc::openat(libc::AT_FDCWD, again.as_ptr(), libc::O_RDONLY) }.into());
            unsafe { libc::close(fd) };
            saw
        }),
        "truncate" => Box::new(move || {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
            let fd = unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), flags, 0o600) };
            if fd < 0 {
                // It does its damage before any look at what was opened.
                return if unchanged() == Saw::Leaked { Saw::Leaked } else { refused_with(errno()) };
            }
            let same = identity_of(fd) == (before.0, before.1);
            unsafe { libc::close(fd) };
            if same { Saw::Leaked } else { unchanged() }
        }),
        "chmod" => Box::new(move || {
            if unsafe { libc::chmod(name.as_ptr(), 0o640) } != 0 {
                return refused();
            }
            unchanged()
        }),
        "link" => {
            let new = format!("{root}/linked");
            Box::new(move || {
                let to = c(&new);
                let flags = libc::AT_SYMLINK_FOLLOW;
                if unsafe { libc::linkat(libc::AT_FDCWD, name.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) } != 0 {
                    return refused();
                }
                let saw = opened(unsafe { libc::openat(libc::AT_FDCWD, to.as_ptr(), libc::O_RDONLY) }.into());
                // Identity, too: its name might be refused by now.
                let saw = if identity(&new).map(|new| new.1) == Some(before.1) { Saw::Leaked } else { saw };
                unsafe { libc::unlink(to.as_ptr()) };
                saw
            })
        }
        "execute" => Box::new(move || executed(name.as_ptr(), false)),
        _ => panic!("no such use: {using}"),
    }
}

fn refused_with(errno: i32) -> Saw {
    match errno {
        libc::EACCES | libc::EPERM => Saw::Denied,
        errno => Saw::Other(errno),
    }
}

/// Busy processes that keep the opener from its processor.
const HOGS: usize = 8;

/// A link is moved while the process whose open of it was allowed gets no time
/// to make the call: whoever waits for it must not go on without it.
pub fn starve(root: &str, seconds: u64) {
    let since = Instant::now();
    let over = || since.elapsed() > Duration::from_secs(seconds);
    let at = |name: &str| format!("{root}/{name}");
    let link = |target: &str| {
        let _ = std::fs::remove_file(at("next"));
        symlink(at(target), at("next")).unwrap();
    };
    link("h/file");
    std::fs::rename(at("next"), at("link")).unwrap();
    let shared = sys::map(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, libc::PROT_READ | libc::PROT_WRITE);
    let counter = |index: usize| unsafe { AtomicU32::from_ptr(shared.cast::<u32>().add(index)) };
    let (asked, begun, done) = (counter(0), counter(1), counter(2));
    let (first, last) = processors();
    let hog = || {
        pin(last);
        while !over() {}
    };
    let _hogs: Vec<Child> = (0..HOGS).map(|_| Child::forever(hog)).collect();
    let _mover = Child::forever(|| {
        pin(first);
        while !over() {
            link("h/file");
            let _ = std::fs::rename(at("next"), at("link"));
            link("s/file");
            asked.fetch_add(1, Ordering::SeqCst);
            while !over() && begun.load(Ordering::SeqCst) < asked.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_micros(100));
            }
            std::thread::sleep(Duration::from_millis(20));
            let _ = std::fs::rename(at("next"), at("link"));
            while !over() && done.load(Ordering::SeqCst) < asked.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    pin(last);
    idle(true);
    let mut leaked = false;
    while !over() && !leaked {
        let round = asked.load(Ordering::SeqCst);
        if round == done.load(Ordering::SeqCst) {
            continue;
        }
        // Its share of the processor is used up soon after.
        let own = Instant::now();
        while own.elapsed() < Duration::from_millis(2) {}
        begun.store(round, Ordering::SeqCst);
        leaked = open(&at("link"), libc::O_RDONLY).is_ok_and(|fd| sys::is_secret(fd.as_raw_fd()));
        done.store(round, Ordering::SeqCst);
    }
    idle(false);
    println!("{}", if leaked { "leaked" } else { "nothing" });
}

/// The first and the last processor that this process may use.
fn processors() -> (usize, usize) {
    let mut set = unsafe { std::mem::zeroed::<libc::cpu_set_t>() };
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) }).unwrap();
    let mut usable = (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) });
    let first = usable.next().unwrap();
    (first, usable.next_back().unwrap_or(first))
}

fn pin(cpu: usize) {
    let mut set = unsafe { std::mem::zeroed::<libc::cpu_set_t>() };
    unsafe { libc::CPU_SET(cpu, &mut set) };
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).unwrap();
}

fn idle(on: bool) {
    let none = unsafe { std::mem::zeroed::<libc::sched_param>() };
    let policy = if on { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    check(unsafe { libc::sched_setscheduler(0, policy, &raw const none) }).unwrap();
}
