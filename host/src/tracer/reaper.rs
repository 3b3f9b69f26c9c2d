//! Frees the tracer from a deadlock of the kernel's.
//!
//! While a thread executes a program the kernel makes whoever wants to attach
//! to its process wait; the thread waits until all others of the process are
//! gone; and a traced one is gone when its tracer has waited for it (ptrace(2),
//! "execve(2) under ptrace"). So a tracer that has attached to some threads and
//! attaches to the next would wait for ever. Meanwhile another thread of the
//! tracer may wait for those that ended, which is all that happens here, and
//! only if attaching stands still.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libc::pid_t;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::procfs;
use crate::event::ExitStatus;

/// Attaching to one thread takes some microseconds.
const PATIENCE: Duration = Duration::from_millis(10);

/// Waits for threads that ended, if need be.
#[derive(Debug)]
pub(super) struct Reaper(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The process that is attached to; 0 if none.
    process: AtomicI32,
    /// How often the tracer has gone on.
    steps: AtomicU32,
    reaped: Mutex<Vec<(pid_t, ExitStatus)>>,
}

impl Reaper {
    /// Starts the thread, which lives as long as this.
    pub(super) fn start() -> io::Result<Self> {
        let reaper = Self(Arc::default());
        let state = Arc::downgrade(&reaper.0);
        std::thread::Builder::new().name("reaper".into()).spawn(move || {
            let mut before = 0;
            while let Some(state) = state.upgrade() {
                let (process, steps) = (state.process.load(Ordering::Acquire), state.steps.load(Ordering::Relaxed));
                if process != 0 && steps == before {
                    state.reap(process);
                }
                before = steps;
                drop(state);
                std::thread::sleep(PATIENCE);
            }
        })?;
        Ok(reaper)
    }

    /// The next request is about a thread of this process; 0 when there is
    /// none.
    pub(super) fn step(&self, process: pid_t) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
        self.0.process.store(process, Ordering::Release);
    }

    /// The threads that were waited for here, and how they ended.
    pub(super) fn take(&self) -> Vec<(pid_t, ExitStatus)> {
        std::mem::take(&mut *self.0.reaped.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn reap(&self, process: pid_t) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        for tid in procfs::threads(process) {
            let wait = |flags| waitid(Id::Pid(Pid::from_raw(tid)), flags);
            // A stop would be reported too, whatever is asked for (`wait_task_stopped`
            // of kernel/exit.c), and is the tracer's. An end stays one.
            let status = match wait(flags | WaitPidFlag::WNOWAIT) {
                Ok(WaitStatus::Exited(_, code)) => ExitStatus::Code(code as u8),
                Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::Signal(signal as u8),
                _ => continue,
            };
            if wait(flags).is_err() {
                continue;
            }
            self.reaped.lock().unwrap_or_else(PoisonError::into_inner).push((tid, status));
        }
    }
}
