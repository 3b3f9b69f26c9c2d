//! Reminds the tracer's thread, which waits without limit, that time has
//! passed: one thread, and a list of messages to post.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::inbox::{Inbox, Message};

/// Reminders to come. Ends with its last clone.
#[derive(Clone, Debug)]
pub(super) struct Clock(Sender<(Instant, Message)>);

impl Clock {
    /// Starts the thread.
    pub(super) fn start(inbox: Arc<Inbox>) -> io::Result<Self> {
        let (sender, receiver) = channel::<(Instant, Message)>();
        std::thread::Builder::new().name("clock".into()).spawn(move || {
            let mut due: Vec<(Instant, Message)> = Vec::new();
            loop {
                let next = due.iter().map(|(at, _)| *at).min();
                let received = match next {
                    Some(at) => receiver.recv_timeout(at.saturating_duration_since(Instant::now())),
                    None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match received {
                    Ok(reminder) => due.push(reminder),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                let now = Instant::now();
                for (_, message) in due.extract_if(.., |(at, _)| *at <= now) {
                    inbox.post(message);
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Posts `message` after `pause`.
    pub(super) fn remind(&self, pause: Duration, message: Message) {
        // The thread lives as long as this.
        let _ = self.0.send((Instant::now() + pause, message));
    }
}
