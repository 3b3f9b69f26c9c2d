//! The guardian's engine: everything passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::pid_t;

use super::{Engine, OnHostDeath, Options};
use crate::decode::Arch;
use crate::event::{Errno, Event};
use crate::tracer::inbox::{Inbox, Message};
use crate::tracer::{Handler, Interest, Notice, Skipped, Stopping, selection, signals};

/// The dying host lets its tasks go a moment after the guardian is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// Wants nothing, refuses nothing.
struct Pass;

impl Handler for Pass {
    fn stopping(&self) -> Stopping {
        Stopping::new()
    }

    fn binding(&self) -> bool {
        false
    }

    fn processes(&self) -> bool {
        false
    }

    fn interest(&self, _arch: Arch, _nr: u32, _registers: &[u64; 6]) -> Interest {
        Interest::default()
    }

    fn judge(&mut self, _event: &Arc<Event>) -> Option<Errno> {
        None
    }

    fn observe(&mut self, _event: Arc<Event>) {}

    fn notice(&mut self, _notice: &Notice) {}
}

/// Gets ready, waits for the word, then attaches to the processes that it names
/// and to what they have made meanwhile, and lets every call pass until they
/// end or SIGTERM comes.
pub(in crate::tracer) fn stand_by(word: impl FnOnce() -> Option<Vec<pid_t>>) {
    let Ok(_signals) = signals::Signals::take(signals::Role::Guest) else { return };
    if signals::prepare().is_err() {
        return;
    }
    let inbox = Inbox::of_this_thread();
    let leave = inbox.clone();
    let mut handler = Pass;
    let options = Options { on_host_death: OnHostDeath::Continue, ..Options::default() };
    let Ok(mut engine) = Engine::new(&mut handler, options, &[], inbox) else { return };
    engine.passing = true;
    let Some(pids) = word() else { return };
    let since = Instant::now();
    // What is known first: each moment counts. Then what it has made.
    let mut wanted = pids.clone();
    loop {
        let mut refused = false;
        for pid in &wanted {
            refused |= matches!(engine.seize(*pid), Err(Skipped::Traced(..) | Skipped::Forbidden(..)));
        }
        if !refused || since.elapsed() > PATIENCE {
            if wanted.len() > pids.len() || since.elapsed() > PATIENCE {
                break;
            }
            wanted = selection::with_descendants(&pids);
            if wanted.len() <= pids.len() {
                break;
            }
        }
        std::thread::yield_now();
    }
    if signals::leave_on_signal(move || leave.post(Message::Leave)).is_ok() {
        // Nobody is left to be told.
        let _ = engine.run();
    }
}
