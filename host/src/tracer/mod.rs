//! The ptrace loop: follows a program and all that comes of it, turns stops
//! into [`Event`]s, and carries out what the [`Handler`] decides.
//!
//! Why it is so:
//! * One thread does all ptrace requests, because the kernel binds a tracee to
//!   the thread that attached. The types say so ([`stop::Stopped`]).
//! * Tracees run free (`PTRACE_CONT`) between the calls that the filter
//!   chooses, newborn ones too. Stepping a new child from call to call until
//!   the filter shows costs hundreds of stops a spawn.
//! * A call stops once, at its entry. It stops again at its exit only if
//!   somebody subscribed to its result.
//! * Waiting is one `wait4(-1)`, or with many tasks SIGCHLD and a look-up
//!   ([`wait`]); the kernel's notification of other kinds (pidfd) tells no
//!   stops.
//!
//! What it never does: decide. It asks, and does what it is told; only where
//! a call would take a task out of sight (`CLONE_UNTRACED`, an unknown ABI)
//! it acts by itself.

mod arch;
mod attached;
mod bpf;
mod clock;
mod descriptors;
mod engine;
mod errand;
mod filter;
mod filters;
mod guard;
mod guardian;
mod inbox;
mod initial_stack;
mod launch;
mod links;
mod lookup;
mod mappings;
mod memory;
mod pagemap;
mod pins;
mod procfs;
mod protected;
mod reaper;
mod region;
mod resolve;
mod scan;
mod selection;
mod signals;
mod space;
mod stop;
mod sys;
mod task;
mod traits;
mod trampoline;
mod wait;
mod walk;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

pub use engine::{Ended, OnHostDeath, Options, TraceError, attach, run};
pub use filter::{Comparison, Condition, NoSuchArgument, Predicate, Stopping};
pub use guardian::{Guardian, holds_any};
pub use launch::LaunchError;
pub(crate) use procfs::{container_of, processes as process_ids, threads};
pub use selection::{Filters, Selection, Skipped};
pub use signals::{Role, Signals};

use crate::decode::Arch;
use crate::event::{Errno, Event, ProcessEvents};

/// What is traced, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Processes.
    pub processes: usize,
    /// Their threads.
    pub threads: usize,
    /// Threads with a filter that shows all that is wanted. The others stop at
    /// every call.
    pub filtered: usize,
    /// Processes that were meant, are there, and could not be attached to.
    pub refused: usize,
}

/// Has the tracer ask its handler whether it has changed.
#[derive(Clone, Debug)]
pub struct Waker(Arc<inbox::Inbox>);

impl Waker {
    /// What is traced, if the tracer answers in time.
    pub fn coverage(&self, patience: Duration) -> Option<Coverage> {
        let (sender, receiver) = channel();
        self.0.post_within(inbox::Message::Cover(sender), patience);
        receiver.recv_timeout(patience).ok()
    }

    /// [`Handler::renew`] will have been asked for when this returns, or soon
    /// after.
    pub fn wake(&self) {
        self.0.post(inbox::Message::Renew);
    }
}

/// Who is told of events, and decides.
pub trait Handler {
    /// Tracing begins.
    fn begins(&mut self, waker: Waker) {
        drop(waker);
    }

    /// Asked between two events after [`Waker::wake`]: whether anything is
    /// different now of what [`Handler`] is asked once.
    fn renew(&mut self) -> bool {
        false
    }

    /// The calls that shall stop.
    fn stopping(&self) -> Stopping;

    /// Whether any verdict can deny.
    fn binding(&self) -> bool;

    /// What is wanted of processes' coming and going.
    fn processes(&self) -> ProcessEvents;

    /// Who wants this call. Asked at every stop, before anything is decoded.
    fn interest(&self, arch: Arch, nr: u32, registers: &[u64; 6]) -> Interest;

    /// Decides on a call while its caller waits. An errno denies it.
    fn judge(&mut self, event: &Arc<Event>) -> Option<Errno>;

    /// Takes note of an event, captured; its task has gone on.
    fn observe(&mut self, event: Arc<Event>);

    /// Is told what becomes of the tracing itself.
    fn notice(&mut self, notice: &Notice);
}

/// What becomes of the tracing itself.
#[derive(Clone, Debug)]
pub enum Notice {
    /// These were attached to.
    Attached {
        /// How many processes.
        processes: usize,
        /// How many threads they have together.
        threads: usize,
    },
    /// This was not.
    Skipped {
        /// Process id.
        pid: libc::pid_t,
        /// Its command name; empty if there is no such process.
        name: String,
        /// Why not.
        why: Skipped,
    },
    /// The filter was installed in a running process, or was not.
    Injected {
        /// Process id.
        pid: libc::pid_t,
        /// How many threads have it now, or why none has.
        outcome: Result<usize, String>,
    },
    /// All are being let go.
    Leaving {
        /// How many threads.
        threads: usize,
    },
}

/// Who wants a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent wishes")]
pub struct Interest {
    /// [`Handler::judge`] shall be asked at entry.
    pub judge: bool,
    /// Its answer can deny.
    pub binding: bool,
    /// [`Handler::observe`] shall be told at entry.
    pub observe: bool,
    /// [`Handler::observe`] shall be told at exit.
    pub exit: bool,
}
