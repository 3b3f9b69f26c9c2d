//! Looks for processes that appear later, in a thread of its own.
//!
//! It only reads procfs and sends what it finds to the tracer's thread, which
//! alone may attach. A process that could not be attached to is told once.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use libc::pid_t;

use super::inbox::{Inbox, Message};
use super::selection::{self, Filters};

/// Starts looking every `interval`. Those in `tried` have been tried already.
pub(super) fn start(filters: Filters, interval: Duration, tried: Vec<pid_t>, inbox: Arc<Inbox>) -> io::Result<()> {
    std::thread::Builder::new().name("scan".into()).spawn(move || {
        let mut tried: HashSet<pid_t> = tried.into_iter().collect();
        loop {
            std::thread::sleep(interval);
            let now: HashSet<pid_t> = selection::all(&filters).into_iter().collect();
            let new: Vec<pid_t> = now.difference(&tried).copied().collect();
            tried.retain(|pid| now.contains(pid));
            if !new.is_empty() {
                tried.extend(&new);
                inbox.post(Message::Found(new));
            }
        }
    })?;
    Ok(())
}
