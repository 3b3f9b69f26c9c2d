//! Somebody is killed who shares memory: what the kernel writes then, and what
//! nobody tells any more. `race-death WHAT ROOT ATTEMPTS`.
//!
//! Processes here are made by raw calls and share memory: what they do is
//! system calls and plain loads and stores.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, c_void};

use crate::sys::{self, Saw, Tally, c, check, pages};

const STACK: usize = 64 << 10;

/// What processes that share nothing else tell each other.
#[derive(Default)]
struct Shared {
    /// Opens that came to this.
    harmless: AtomicU64,
    denied: AtomicU64,
    leaked: AtomicU64,
    other: AtomicI32,
    /// Who is to be killed; and that it has begun.
    victim: AtomicI32,
    begun: AtomicBool,
}

impl Shared {
    fn new() -> &'static Self {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let place: *mut Self = sys::map(1, flags, -1, libc::PROT_READ | libc::PROT_WRITE).cast();
        unsafe {
            place.write(Self::default());
            &*place
        }
    }

    fn count(&self, saw: Saw) {
        let count = match saw {
            Saw::Harmless => &self.harmless,
            Saw::Denied => &self.denied,
            Saw::Leaked => &self.leaked,
            Saw::Other(errno) => return self.other.store(errno, Ordering::Relaxed),
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn tally(&self, tally: &mut Tally) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        for (saw, count) in [(Saw::Harmless, &self.harmless), (Saw::Denied, &self.denied), (Saw::Leaked, &self.leaked)]
        {
            (0..take(count)).for_each(|_| tally.add(saw));
        }
        let other = self.other.swap(0, Ordering::Relaxed);
        if other != 0 {
            tally.add(Saw::Other(other));
        }
    }
}

/// Longest time for all attempts, and for the first.
const LIMIT: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_mins(1);

pub fn main(what: &str, root: &str, attempts: u64) {
    // Who loses its parent becomes ours.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).unwrap();
    let shared = Shared::new();
    let (mut tally, since) = (Tally::default(), Instant::now());
    let mut delay = 1u32;
    // A run of none is one until the race is won.
    let done = |tally: &Tally| if attempts == 0 { tally.is_decided() } else { tally.attempts() >= attempts };
    while !done(&tally) && since.elapsed() < if tally.attempts() == 0 || attempts == 0 { FIRST } else { LIMIT } {
        delay = delay.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        match what {
            "maker-in-vfork" => maker_in_vfork(shared, root, delay % 20_000),
            "maker-of-an-orphan" => maker_of_an_orphan(shared, root, delay % 2_000),
            _ => panic!("no such attack: {what}"),
        }
        shared.tally(&mut tally);
    }
    tally.print();
}

fn wait_a_little(rounds: u32) {
    for round in 0..rounds {
        std::hint::black_box(round);
    }
}

/// Runs `body` in a child, and waits for it and all that it leaves.
fn in_child(body: impl FnOnce(), meanwhile: impl FnOnce()) {
    if check(unsafe { libc::fork() }).unwrap() == 0 {
        body();
        unsafe { libc::_exit(0) };
    }
    meanwhile();
    while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
}

/// The end of a stack.
fn stack() -> *mut u8 {
    unsafe { pages(STACK / sys::PAGE).add(STACK) }
}

/// Makes a process that shares our memory.
fn clone(body: extern "C" fn(*mut c_void) -> c_int, top: *mut u8, flags: c_int, argument: *mut c_void) -> c_int {
    unsafe { libc::clone(body, top.cast(), libc::CLONE_VM | flags | libc::SIGCHLD, argument) }
}

/// The child kills the maker that waits for it, and the kernel clears a word of
/// the memory that they share (`set_tid_address(2)`): it cuts the name short.
fn maker_in_vfork(shared: &'static Shared, root: &str, delay: u32) {
    struct Work {
        shared: &'static Shared,
        name: *mut u8,
        secret: (u64, u64),
        maker: c_int,
        delay: u32,
    }
    extern "C" fn body(work: *mut c_void) -> c_int {
        let work = unsafe { &*work.cast::<Work>() };
        unsafe { libc::kill(work.maker, libc::SIGKILL) };
        wait_a_little(work.delay);
        let fd = unsafe { libc::open(work.name.cast(), libc::O_RDONLY) };
        work.shared.count(if fd < 0 {
            sys::refused()
        } else {
            let mut found = unsafe { std::mem::zeroed::<libc::stat>() };
            unsafe { libc::fstat(fd, &raw mut found) };
            if (found.st_dev, found.st_ino) == work.secret { Saw::Leaked } else { Saw::Harmless }
        });
        unsafe { libc::_exit(0) }
    }
    let _exists = std::fs::create_dir(format!("{root}/sXXXX"));
    let (device, inode, ..) = sys::identity(&format!("{root}/s")).unwrap();
    in_child(
        || {
            let (name, text) = (pages(1), c(&format!("{root}/sXXXX")));
            let maker = unsafe { libc::getpid() };
            let mut work = Work { shared, name, secret: (device, inode), maker, delay };
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.count_bytes());
                libc::syscall(libc::SYS_set_tid_address, name.add(text.count_bytes() - 4));
            }
            clone(body, stack(), libc::CLONE_VFORK, (&raw mut work).cast());
        },
        || (),
    );
}

/// A process is killed that has just made another, before a tracer can hear of
/// it; the other changes the name.
fn maker_of_an_orphan(shared: &'static Shared, root: &str, delay: u32) {
    struct Work {
        shared: &'static Shared,
        stack: *mut u8,
        side: *mut u8,
        lives: AtomicBool,
        over: AtomicBool,
    }
    extern "C" fn flips(work: *mut c_void) -> c_int {
        let work = unsafe { &*work.cast::<Work>() };
        work.lives.store(true, Ordering::Relaxed);
        while !work.over.load(Ordering::Relaxed) {
            for side in *b"sh" {
                unsafe { work.side.write_volatile(side) };
                wait_a_little(200);
            }
        }
        unsafe { libc::_exit(0) }
    }
    extern "C" fn makes(work: *mut c_void) -> c_int {
        let Work { shared, stack, .. } = unsafe { &*work.cast::<Work>() };
        shared.begun.store(true, Ordering::Relaxed);
        clone(flips, *stack, 0, work);
        unsafe { libc::_exit(0) }
    }
    shared.begun.store(false, Ordering::Relaxed);
    shared.victim.store(0, Ordering::Relaxed);
    in_child(
        || {
            let (name, text) = (pages(1), c(&format!("{root}/h/file")));
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.count_bytes()) };
            let side = unsafe { name.add(root.len() + 1) };
            let (lives, over) = (AtomicBool::new(false), AtomicBool::new(false));
            let mut work = Work { shared, stack: stack(), side, lives, over };
            let victim = clone(makes, stack(), 0, (&raw mut work).cast());
            shared.victim.store(victim, Ordering::Relaxed);
            let mut status = 0;
            unsafe { libc::waitpid(victim, &raw mut status, 0) };
            std::thread::sleep(Duration::from_millis(2));
            if libc::WIFSIGNALED(status) && work.lives.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    shared.count(sys::opened(unsafe { libc::open(name.cast(), libc::O_RDONLY) }.into()));
                }
            }
            work.over.store(true, Ordering::Relaxed);
        },
        || {
            let since = Instant::now();
            while !shared.begun.load(Ordering::Relaxed) && since.elapsed() < LIMIT {
                std::hint::spin_loop();
            }
            wait_a_little(delay);
            let victim = shared.victim.load(Ordering::Relaxed);
            if victim > 0 {
                unsafe { libc::kill(victim, libc::SIGKILL) };
            }
        },
    );
}
