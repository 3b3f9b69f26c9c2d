//! Every combination of what clone may share, with each kind of exit signal,
//! by clone and by clone3; who is told of the child's end, and how.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use libc::{c_int, pid_t};
use nix::errno::Errno;

use crate::sys::{
    Result, call, close, exit_task, fork, open_something, pipe, put, raw, say, shared, spawn_raw, stack, status, until,
    wait,
};

const FLAGS: [(&str, c_int); 9] = [
    ("VM", libc::CLONE_VM),
    ("FILES", libc::CLONE_FILES),
    ("FS", libc::CLONE_FS),
    ("SIGHAND", libc::CLONE_SIGHAND),
    ("THREAD", libc::CLONE_THREAD),
    ("PARENT", libc::CLONE_PARENT),
    ("VFORK", libc::CLONE_VFORK),
    ("UNTRACED", libc::CLONE_UNTRACED),
    ("PTRACE", libc::CLONE_PTRACE),
];

/// What a child finds and leaves, in memory that all share.
const TID: usize = 0;
const PARENT: usize = 1;
const DONE: usize = 2;
const SLOTS: usize = 3;

/// A descriptor that only the child opens.
const MARK: c_int = 900;

/// Changes everything that could be shared, and ends.
unsafe extern "C" fn child(slots: usize) -> ! {
    let slots = unsafe { std::slice::from_raw_parts(slots as *const AtomicI64, SLOTS) };
    slots[TID].store(raw(libc::SYS_gettid, [0; 6]) as i64, Ordering::SeqCst);
    slots[PARENT].store(raw(libc::SYS_getppid, [0; 6]) as i64, Ordering::SeqCst);
    // A parent in vfork must not have gone on meanwhile.
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 300_000 };
    let _ = call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const moment, 0);
    open_something();
    let _ = call!(SYS_chdir, c"/proc".as_ptr());
    let _ = call!(SYS_dup3, 0, MARK, 0);
    let ignore = [libc::SIG_IGN, 0, 0, 0];
    let _ = call!(SYS_rt_sigaction, libc::SIGUSR2, ignore.as_ptr(), 0, 8);
    MEMORY.fetch_add(1, Ordering::SeqCst);
    slots[DONE].store(1, Ordering::SeqCst);
    exit_task(5)
}

static MEMORY: AtomicU32 = AtomicU32::new(0);

fn clone(
    three: bool,
    flags: u64,
    signal: c_int,
    top: usize,
    ctid: *const AtomicU32,
    slots: &[AtomicI64],
) -> Result<pid_t> {
    let argument = slots.as_ptr() as usize;
    let shares_memory = flags & libc::CLONE_VM as u64 != 0;
    if three {
        let size = 32 << 10;
        let (stack, size) = if shares_memory { (top - size, size) } else { (0, 0) };
        let args = [flags as usize, 0, ctid as usize, 0, signal as usize, stack, size, 0];
        spawn_raw(libc::SYS_clone3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0], child, argument)
    } else {
        let stack = if shares_memory { top } else { 0 };
        let last = if cfg!(target_arch = "x86_64") { [ctid as usize, 0] } else { [0, ctid as usize] };
        let args = [flags as usize | signal as usize, stack, 0, last[0], last[1]];
        spawn_raw(libc::SYS_clone, args, child, argument)
    }
}

/// All pending signals of these two kinds, taken.
fn signals(child: pid_t) -> String {
    let set = 1u64 << (libc::SIGCHLD - 1) | 1u64 << (libc::SIGUSR1 - 1);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut told = String::new();
    loop {
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        match call!(SYS_rt_sigtimedwait, &raw const set, &raw mut info, &raw const now, 8) {
            Ok(number) => {
                let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
                write!(told, " {number} (code {}, status {status}, its id {})", info.si_code, pid == child).unwrap();
            }
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    if told.is_empty() { " none".into() } else { told }
}

/// How the real parent learns of the child's end.
fn reap(child: pid_t) -> String {
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let plain = crate::sys::told(call!(SYS_waitid, libc::P_PID, child, &raw mut info, options, 0));
    let ended = wait(child);
    format!("wait without __WALL {plain}, {ended}, signals{}", signals(child))
}

fn block_signals() {
    let set = 1u64 << (libc::SIGCHLD - 1) | 1u64 << (libc::SIGUSR1 - 1);
    call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, 0, 8).unwrap();
}

/// The grandparent, who gets the children made with `CLONE_PARENT`.
pub(crate) fn all() {
    block_signals();
    let ([asked, asker], [answered, answerer]) = (pipe(), pipe());
    let parent = fork(|| {
        close(asked);
        close(answerer);
        every_combination(asker, answered);
        0
    });
    close(asker);
    close(answered);
    let mut child: pid_t = 0;
    while call!(SYS_read, asked, &raw mut child, size_of::<pid_t>()) == Ok(size_of::<pid_t>() as isize) {
        let mut answer = reap(child).into_bytes();
        answer.resize(256, b' ');
        put(answerer, &answer);
    }
    say!("the parent {}", reap(parent));
}

fn every_combination(asker: c_int, answered: c_int) {
    std::env::set_current_dir("/").unwrap();
    let (slots, top) = (shared(SLOTS), stack());
    let ctid = AtomicU32::new(0);
    let mut tried = 0;
    for three in [false, true] {
        for bits in 0..1u32 << FLAGS.len() {
            let chosen = || FLAGS.iter().enumerate().filter(|(index, _)| bits & 1 << index != 0).map(|(_, flag)| *flag);
            let flags: c_int = chosen().map(|(_, value)| value).sum();
            let has = |flag| flags & flag != 0;
            for signal in [0, libc::SIGCHLD, libc::SIGUSR1] {
                let names: Vec<_> = chosen().map(|(name, _)| name).collect();
                let what = format!("clone{} {}, signal {signal}", if three { "3" } else { "" }, names.join("|"));
                for slot in slots {
                    slot.store(0, Ordering::SeqCst);
                }
                ctid.store(1, Ordering::SeqCst);
                MEMORY.store(0, Ordering::SeqCst);
                let all = flags as u64 | libc::CLONE_CHILD_CLEARTID as u64;
                let mut made = clone(three, all, signal, top, &raw const ctid, slots);
                if three && made == Err(Errno::ENOSYS) {
                    // As C libraries do where there is no clone3, which
                    // forbids what clone overlooks.
                    let forbidden = has(libc::CLONE_THREAD | libc::CLONE_PARENT) && signal != 0;
                    let again = || clone(false, all, signal, top, &raw const ctid, slots);
                    made = if forbidden { Err(Errno::EINVAL) } else { again() };
                }
                let tid = match made {
                    Ok(tid) => tid,
                    Err(errno) => {
                        say!("{what}: {errno:?}");
                        continue;
                    }
                };
                tried += 1;
                let waited = !has(libc::CLONE_VFORK) || slots[DONE].load(Ordering::SeqCst) == 1;
                let ended = if has(libc::CLONE_THREAD) {
                    until("the thread has ended", || ctid.load(Ordering::SeqCst) == 0);
                    format!("a thread, signals{}", signals(tid))
                } else if has(libc::CLONE_PARENT) {
                    put(asker, &tid.to_ne_bytes());
                    let mut answer = [0u8; 256];
                    assert_eq!(call!(SYS_read, answered, answer.as_mut_ptr(), answer.len()), Ok(256));
                    let ours = wait(tid);
                    format!("grandparent: {}, parent: {ours}", String::from_utf8_lossy(&answer).trim())
                } else {
                    reap(tid)
                };
                let parent = slots[PARENT].load(Ordering::SeqCst) as pid_t;
                let parent = if parent == unsafe { libc::getpid() } {
                    "us"
                } else if parent == unsafe { libc::getppid() } {
                    "our parent"
                } else {
                    "somebody else"
                };
                let marked = call!(SYS_fcntl, MARK, libc::F_GETFD).is_ok();
                let moved = std::env::current_dir().unwrap().to_str() != Some("/");
                let mut action = [0usize; 4];
                call!(SYS_rt_sigaction, libc::SIGUSR2, 0, action.as_mut_ptr(), 8).unwrap();
                say!(
                    "{what}: {ended}; its id {}, its parent {parent}; shared: memory {}, files {marked}, place {moved}, handlers {}; waited {waited}",
                    slots[TID].load(Ordering::SeqCst) as pid_t == tid,
                    MEMORY.load(Ordering::SeqCst),
                    action[0] == libc::SIG_IGN
                );
                close(MARK);
                std::env::set_current_dir("/").unwrap();
                let default = [0usize; 4];
                call!(SYS_rt_sigaction, libc::SIGUSR2, default.as_ptr(), 0, 8).unwrap();
            }
        }
    }
    say!("{tried} children");
}

/// A child that a tracer is not to see executes a program, and makes a call
/// of another ABI.
#[cfg(target_arch = "x86_64")]
pub(crate) fn untraced() {
    unsafe extern "C" fn gate(_: usize) -> ! {
        let mut result = 20i64;
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        exit_task(if result as i32 == raw(libc::SYS_getpid, [0; 6]) as i32 { 12 } else { 13 })
    }
    unsafe extern "C" fn executes(program: usize) -> ! {
        unsafe { &*(program as *const crate::sys::Program) }.exec();
        exit_task(127)
    }
    let flags = (libc::CLONE_UNTRACED | libc::SIGCHLD) as usize;
    let program = crate::sys::Program::new(&["/bin/true"]);
    let child = spawn_raw(libc::SYS_clone, [flags, 0, 0, 0, 0], executes, &raw const program as usize);
    say!("executes: {}", wait(child.unwrap()));
    let child = spawn_raw(libc::SYS_clone, [flags, 0, 0, 0, 0], gate, 0);
    say!("by the 32-bit gate: {}", wait(child.unwrap()));
}

/// `CLONE_PARENT_SETTID`, `CLONE_CHILD_SETTID`, `CLONE_PIDFD`.
pub(crate) fn ids() {
    let ids: &[AtomicI64] = shared(2);
    let address = |index: usize| std::ptr::from_ref(&ids[index]) as usize;
    for three in [false, true] {
        for (name, flags) in [
            ("PARENT_SETTID", libc::CLONE_PARENT_SETTID),
            ("CHILD_SETTID", libc::CLONE_CHILD_SETTID),
            ("PIDFD", libc::CLONE_PIDFD),
            ("both", libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_SETTID),
        ] {
            for id in ids {
                id.store(0, Ordering::SeqCst);
            }
            let mut pidfd: c_int = -1;
            let mut child = Err(Errno::ENOSYS);
            if three {
                let args =
                    [flags as usize, &raw mut pidfd as usize, address(1), address(0), libc::SIGCHLD as usize, 0, 0, 0];
                child = spawn_raw(libc::SYS_clone3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0], ends, 0);
            }
            // The host may say that there is no clone3, and C libraries do this.
            if child == Err(Errno::ENOSYS) {
                let parent = if flags == libc::CLONE_PIDFD { &raw mut pidfd as usize } else { address(0) };
                let last = if cfg!(target_arch = "x86_64") { [address(1), 0] } else { [0, address(1)] };
                let flags = (flags | libc::SIGCHLD) as usize;
                child = spawn_raw(libc::SYS_clone, [flags, 0, parent, last[0], last[1]], ends, 0);
            }
            let child = child.unwrap();
            let told = if flags == libc::CLONE_PIDFD {
                let mut poll = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
                let limit = libc::timespec { tv_sec: 20, tv_nsec: 0 };
                let readable = call!(SYS_ppoll, &raw mut poll, 1, &raw const limit, 0, 0);
                let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
                let waited = call!(SYS_waitid, libc::P_PIDFD, pidfd, &raw mut info, libc::WEXITED, 0);
                let status = unsafe { info.si_status() };
                close(pidfd);
                format!(
                    "poll {readable:?} {:#x}, waitid {waited:?} code {} status {status}",
                    poll.revents, info.si_code
                )
            } else {
                wait(child)
            };
            let is = |index: usize| ids[index].load(Ordering::SeqCst) as pid_t == child;
            say!("clone3 {three} {name}: {told}; parent's copy {}, child's {}", is(0), is(1));
        }
    }
    let (text, ended) = crate::sys::ask(|writer| {
        let made = fork(|| {
            put(writer, b"from the child of a child");
            4
        });
        wait(made);
        0
    });
    say!("{text}: {ended}");
    let mut status_of_none = 0;
    let none = call!(SYS_wait4, -1isize, &raw mut status_of_none, libc::__WALL, 0);
    say!("no child is left: {none:?} {}", status(status_of_none));
}

unsafe extern "C" fn ends(_: usize) -> ! {
    open_something();
    exit_task(5)
}
