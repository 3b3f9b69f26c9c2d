//! Signals that the host gets while it stands between a terminal or a
//! supervisor and the program.
//!
//! The keyboard's signals reach the program by themselves, since it is in our
//! process group: we ignore them. SIGTERM, SIGHUP and the user signals are
//! sent to us alone by a supervisor: a thread passes them on, through a pidfd
//! so that a recycled process id is never hit. The program itself starts with
//! the dispositions and the mask that we were started with. Attached to
//! programs that are not ours, the same signals mean that we shall leave.
#![allow(unsafe_code, reason = "signal dispositions, and raw calls after fork")]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::guard::Echoes;
use super::sys;
use libc::{c_int, pid_t, sigset_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};

/// From the keyboard: the program gets them too.
const IGNORED: [Signal; 5] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
/// From a supervisor: passed on.
const FORWARDED: [Signal; 5] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

/// Attached: let everything go.
const LEAVING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// The tracer's thread waits for them ([`super::wait`]); no other may take
/// them.
const WAITED_FOR: [Signal; 2] = [Signal::SIGCHLD, Signal::SIGALRM];

/// What the host's signals are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A program of ours, which gets them.
    Wrapper,
    /// Us: we are attached to programs of others.
    Guest,
}

impl Role {
    /// Signals that we take for the program: passed on, or ignored because it
    /// gets them too.
    pub(super) fn taken(self) -> Vec<c_int> {
        match self {
            Self::Wrapper => IGNORED.iter().chain(&FORWARDED).map(|signal| *signal as c_int).collect(),
            Self::Guest => Vec::new(),
        }
    }

    fn signals(self) -> SigSet {
        match self {
            Self::Wrapper => FORWARDED.into_iter().collect(),
            Self::Guest => LEAVING.into_iter().collect(),
        }
    }
}

/// The host's signals, taken in hand. There is no other way to
/// [`run`](super::run) or [`attach`](super::attach) to a program, and this
/// comes before any thread is started: a thread made earlier would be killed
/// by what is to be passed on.
#[derive(Debug)]
pub struct Signals(Role);

impl Signals {
    /// Keeps what a supervisor sends.
    ///
    /// # Errors
    /// If the kernel refuses to tell or change what signals do.
    pub fn take(role: Role) -> io::Result<Self> {
        // SAFETY: plain integers, filled by the call.
        let mut mask: sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: reads the mask into `mask`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask) };
        let _ = INHERITED_MASK.set(mask);
        remember_dispositions()?;
        let mut blocked = role.signals();
        blocked.extend(WAITED_FOR);
        blocked.thread_block()?;
        super::descriptors::make_room();
        Ok(Self(role))
    }

    /// What they are for.
    pub(super) fn role(&self) -> Role {
        self.0
    }
}

static INHERITED_MASK: OnceLock<sigset_t> = OnceLock::new();

struct Inherited {
    dispositions: Vec<(c_int, libc::sigaction)>,
}

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// Sent to the tracer's thread to end its waiting ([`super::inbox`]).
pub(super) fn wake() -> c_int {
    libc::SIGRTMAX()
}

/// Lets [`wake`] interrupt a wait, and nothing else happen; and has a SIGCHLD
/// for each report of a task, stops too ([`super::wait`]).
pub(super) fn prepare() -> io::Result<()> {
    extern "C" fn nothing(_: c_int) {}
    // SAFETY: plain integers and a function pointer; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        if libc::sigaction(wake(), &raw const action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // Ignored, it would make the kernel reap our tracees.
    let told = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default runs no code of ours.
    unsafe { sigaction(Signal::SIGCHLD, &told) }?;
    Ok(())
}

/// From now on the keyboard's signals are the program's alone.
pub(super) fn leave_keyboard_to_program() -> io::Result<()> {
    for ignored in IGNORED {
        // SAFETY: ignoring runs no code of ours.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Remembers the dispositions that we were started with, of the signals whose
/// disposition we change.
fn remember_dispositions() -> io::Result<()> {
    let mut inherited = Vec::new();
    for number in IGNORED.iter().map(|signal| *signal as c_int).chain([libc::SIGCHLD, libc::SIGPIPE, wake()]) {
        // SAFETY: sigaction fills the structure, integers and a function
        // pointer that is only passed back.
        let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
        if unsafe { libc::sigaction(number, std::ptr::null(), &raw mut old) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if number == libc::SIGPIPE && !PIPE_IGNORED.load(Ordering::Relaxed) {
            // Rust's runtime ignores it.
            old.sa_sigaction = libc::SIG_DFL;
        }
        inherited.push((number, old));
    }
    let _ = INHERITED.set(Inherited { dispositions: inherited });
    Ok(())
}

/// SIGPIPE was ignored when we were started.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's runtime, which ignores SIGPIPE and does not say what was
/// before.
// SAFETY: the section holds pointers to functions like this one, which the C
// library calls before main (System V ABI, "Initialization and Termination
// Functions"). It makes one system call and stores a flag.
#[unsafe(link_section = ".init_array")]
#[used]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn look() {
        // SAFETY: sigaction fills the structure.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut old);
            PIPE_IGNORED.store(old.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
        }
    }
    look
};

/// Calls `leave` for each signal that asks us to leave.
pub(super) fn leave_on_signal(leave: impl Fn() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while Role::Guest.signals().wait().is_ok() {
            leave();
        }
    })?;
    Ok(())
}

/// Gives the program what we were started with. Between fork and exec: only
/// system calls.
///
/// # Safety
/// To be called in a forked child only.
pub(super) unsafe fn restore_in_child() {
    let (Some(inherited), Some(mask)) = (INHERITED.get(), INHERITED_MASK.get()) else { return };
    // SAFETY: restores what `take` read.
    unsafe {
        for (number, old) in &inherited.dispositions {
            libc::sigaction(*number, old, std::ptr::null_mut());
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut());
    }
}

/// Passes supervisor's signals on to `pid` for as long as it lives. Not those
/// that the program has sent to a group in which we are: it has them.
pub(super) fn forward_to(pid: pid_t, echoes: Arc<Echoes>) -> io::Result<()> {
    let pidfd = sys::open_process(pid, 0);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Some((number, code, sender)) = next_signal(Role::Wrapper) {
            if echoes.is_echo(number, code, sender) {
                continue;
            }
            match &pidfd {
                // SAFETY: a system call on numbers and a null pointer.
                Ok(pidfd) => unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, std::ptr::null::<u8>(), 0);
                },
                // Before Linux 5.3 there is no pidfd.
                Err(_) => sys::signal_process(pid, number),
            }
        }
    })?;
    Ok(())
}

/// Waits for a signal: its number, how it was sent (`si_code`), and by whom.
/// None if the kernel does not let us wait.
fn next_signal(role: Role) -> Option<(c_int, c_int, pid_t)> {
    let signals = role.signals();
    loop {
        // SAFETY: the kernel fills the structure, integers only; `si_pid` is
        // read as such whatever the signal.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            match libc::sigwaitinfo(signals.as_ref(), &raw mut info) {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return None,
                number => return Some((number, info.si_code, info.si_pid())),
            }
        }
    }
}

/// Stops this process as a terminal's stop signal would have, so that a shell
/// sees the job stopped. Returns when it is continued.
pub(super) fn stop_self() {
    // SAFETY: SIGSTOP runs no code of ours.
    unsafe { libc::raise(libc::SIGSTOP) };
}
