//! A small process that takes over if the host dies.
//!
//! A program under our filter needs a tracer: without one the calls that the
//! filter chose fail with `ENOSYS` (seccomp(2), `SECCOMP_RET_TRACE`). Where it
//! shall go on without the host, the guardian waits for the host's end,
//! attaches to all that the host traced, and lets every call pass, until the
//! programs end or a new host comes (`SIGTERM` makes it leave). The same when
//! the host leaves programs in which it has installed the filter. Calls that the
//! filter chooses between the host's death and the guardian's arrival fail all
//! the same; nothing in the kernel prevents that.
//!
//! It is made before any thread and any plugin, so that it shares nothing with
//! what can fail, and it judges nothing.
#![allow(unsafe_code, reason = "fork, and memory shared with a child")]

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use libc::pid_t;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, fork, pipe2, setsid};

use super::procfs::Status;
use super::{Selection, engine};

/// Its command name, by which a new host knows it.
const NAME: &CStr = c"tracegate-guard";
/// Highest process id that Linux gives out (`PID_MAX_LIMIT`).
const MOST_PIDS: usize = 1 << 22;
/// What the host writes when it ends in order.
const DISMISSED: u8 = b'.';

/// The host's side.
#[derive(Debug)]
pub struct Guardian {
    traced: Traced,
    alive: File,
    pid: pid_t,
}

impl Guardian {
    /// Starts one. To be called before any thread is started.
    ///
    /// # Errors
    /// If the kernel refuses a process, a pipe or memory.
    pub fn start() -> io::Result<Self> {
        let traced = Traced::new()?;
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        let host = std::process::id() as pid_t;
        // SAFETY: no other thread exists, so that the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                drop(theirs);
                Ok(Self { traced, alive: ours.into(), pid: child.as_raw() })
            }
            ForkResult::Child => {
                drop(ours);
                watch(theirs, &traced, host);
                // SAFETY: ends this process without what the host registered.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// A process has come under our eyes.
    pub(super) fn add(&self, pid: pid_t) {
        self.traced.set(pid, true);
    }

    /// It is gone, or let go.
    pub(super) fn remove(&self, pid: pid_t) {
        self.traced.set(pid, false);
    }

    /// The host ends, and nothing is left to guard.
    pub(super) fn dismiss(mut self) {
        // If it is gone there is nobody to tell.
        let _ = self.alive.write_all(&[DISMISSED]);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid), None);
    }
}

/// Whether a process is a guardian, as far as its name tells.
pub(super) fn is_guardian(pid: pid_t) -> bool {
    Status::of(pid).is_some_and(|status| status.name.as_bytes() == NAME.to_bytes())
}

/// Whether one holds any process that is meant.
#[must_use]
pub fn holds_any(selection: &Selection) -> bool {
    let pids = selection.processes();
    let tracers = pids.into_iter().filter_map(|pid| Some(Status::of(pid)?.tracer));
    let tracers: HashSet<pid_t> = tracers.filter(|tracer| *tracer != 0).collect();
    tracers.into_iter().any(is_guardian)
}

fn watch(alive: OwnedFd, traced: &Traced, host: pid_t) {
    extern "C" fn nothing(_: libc::c_int) {}
    let _ = setsid();
    // The pipe closes when the host's last thread is gone; its tracer lets the
    // tasks go earlier, and this signal comes then (`PR_SET_PDEATHSIG`).
    let signal = libc::SIGUSR1;
    // SAFETY: a handler that does nothing, a mask, numbers, and a string with
    // NUL.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut mask, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        // Each moment counts then. Where it may not, it does not.
        libc::setpriority(libc::PRIO_PROCESS, 0, -20);
    }
    // The host's input and output are not kept open.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for fd in 0..=2 {
            // SAFETY: system calls on numbers.
            unsafe { libc::dup2(null.as_raw_fd(), fd) };
        }
    }
    engine::stand_by(|| {
        let (mut alive, mut word) = (File::from(alive), [0]);
        // An end without a word is a death.
        while nix::unistd::getppid().as_raw() == host {
            match alive.read(&mut word) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
        Some(traced.all())
    });
}

/// The processes that the host traces, a bit each, in memory that outlives it.
#[derive(Debug)]
struct Traced(NonNull<AtomicU8>);

impl Traced {
    fn new() -> io::Result<Self> {
        // SAFETY: fresh anonymous memory; pages never touched cost nothing.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MOST_PIDS / 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(memory.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: that many bytes were mapped and are never unmapped.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), MOST_PIDS / 8) }
    }

    fn set(&self, pid: pid_t, present: bool) {
        let Some(byte) = usize::try_from(pid).ok().and_then(|pid| self.bytes().get(pid / 8)) else { return };
        let bit = 1 << (pid % 8);
        if present {
            byte.fetch_or(bit, Ordering::Relaxed);
        } else {
            byte.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn all(&self) -> Vec<pid_t> {
        let present = |(index, byte): (usize, &AtomicU8)| {
            let bits = byte.load(Ordering::Relaxed);
            (0..8).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| (index * 8 + bit) as pid_t)
        };
        self.bytes()
            .iter()
            .enumerate()
            .filter(|(_, byte)| byte.load(Ordering::Relaxed) != 0)
            .flat_map(present)
            .collect()
    }
}
