//! How other threads talk to the tracer's thread, which waits in wait4(2).
//!
//! A message is put into a queue, and a signal interrupts the wait. A signal
//! that comes just before the wait begins interrupts nothing, so it is sent
//! again until the queue has been read.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libc::pid_t;

use super::{Coverage, signals, sys};

/// What the tracer may be told.
#[derive(Debug)]
pub(super) enum Message {
    /// Let all tasks go.
    Leave,
    /// These processes have been found.
    Found(Vec<pid_t>),
    /// The turn with this number has lasted long.
    Overdue(u64),
    /// Newborn tasks may have waited in vain.
    Unclaimed,
    /// The handler may have changed.
    Renew,
    /// Somebody wants to know what is traced.
    Cover(Sender<Coverage>),
    /// First threads have not stopped when all are to be let go.
    Late,
}

/// Pause between two signals; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Messages to the tracer.
#[derive(Debug)]
pub(super) struct Inbox {
    messages: Mutex<VecDeque<Message>>,
    changed: Condvar,
    tracer: pid_t,
}

impl Inbox {
    /// An inbox of the calling thread.
    pub(super) fn of_this_thread() -> Arc<Self> {
        let tracer = nix::unistd::gettid().as_raw();
        Arc::new(Self { messages: Mutex::default(), changed: Condvar::new(), tracer })
    }

    fn messages(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in and returns when the tracer has taken it.
    pub(super) fn post(&self, message: Message) {
        self.post_within(message, Duration::MAX);
    }

    /// The same, but returns also when the tracer has not, after `patience`.
    pub(super) fn post_within(&self, message: Message, patience: Duration) {
        let since = Instant::now();
        let mut messages = self.messages();
        messages.push_back(message);
        self.changed.notify_all();
        let mut pause = FIRST_PAUSE;
        while !messages.is_empty() && since.elapsed() < patience {
            // It has a handler, which does nothing.
            sys::signal_thread(std::process::id() as pid_t, self.tracer, signals::wake());
            messages = self.changed.wait_timeout(messages, pause).unwrap_or_else(PoisonError::into_inner).0;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// All messages there are.
    pub(super) fn take(&self) -> VecDeque<Message> {
        let mut messages = self.messages();
        if messages.is_empty() {
            return VecDeque::new();
        }
        self.changed.notify_all();
        std::mem::take(&mut *messages)
    }

    /// Waits for a message; for a tracer that has no task to wait for.
    pub(super) fn wait(&self) -> VecDeque<Message> {
        let waited = self.changed.wait_while(self.messages(), |messages| messages.is_empty());
        let taken = std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        taken
    }
}
