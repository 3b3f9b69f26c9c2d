//! The guardian's engine: everything passes.

use std::sync::Arc;

use libc::pid_t;

use super::{Engine, OnHostDeath, Options};
use crate::decode::Arch;
use crate::event::{Errno, Event, ProcessEvents};
use crate::tracer::inbox::{Inbox, Message};
use crate::tracer::procfs::Status;
use crate::tracer::reaper::Reaper;
use crate::tracer::{Handler, Interest, Notice, Stopping, selection, signals};

/// Wants nothing, refuses nothing.
struct Pass;

impl Handler for Pass {
    fn stopping(&self) -> Stopping {
        Stopping::new()
    }

    fn binding(&self) -> bool {
        false
    }

    fn processes(&self) -> ProcessEvents {
        ProcessEvents::default()
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
    (engine.passing, engine.reaper) = (true, Reaper::start().ok());
    let Some(pids) = word() else { return };
    // What is known first: each moment counts. Then what it has made, which has
    // its filters. Who is gone needs nobody.
    for pid in &pids {
        let _ = engine.seize(*pid);
    }
    for pid in selection::with_descendants(&pids) {
        if !pids.contains(&pid) && Status::of(pid).is_some_and(|status| status.filtered) {
            let _ = engine.seize(pid);
        }
    }
    if signals::leave_on_signal(move || leave.post(Message::Leave)).is_ok() {
        // Nobody is left to be told.
        let _ = engine.run();
    }
}
