//! What the handler wants, at first and when it has changed its mind.
//!
//! A filter cannot be taken back, and shows what it was made for. What it does
//! not show is seen by plain stops at every call, from the moment when each
//! task has stopped once; where we may, another filter is then installed
//! beside the first, and calls that nobody wants are fast again.

use std::collections::HashSet;

use libc::pid_t;

use super::Engine;
use crate::event::ProcessEvents;
use crate::tracer::guard::{self, Own};
use crate::tracer::{Coverage, Handler, Stopping, filter, filters, selection, traits};

/// What the handler wants, and what we need for it.
pub(super) struct Wishes {
    pub(super) stopping: Stopping,
    pub(super) binding: bool,
    pub(super) processes: ProcessEvents,
}

impl Wishes {
    pub(super) fn of(handler: &dyn Handler, own: Option<&Own>) -> Self {
        let processes = handler.processes();
        let mut stopping = handler.stopping();
        let binding = handler.binding();
        for guarded in own.map(guard::stopping).into_iter().chain(binding.then(filters::stopping)) {
            for (nr, predicate) in guarded {
                stopping.entry(nr).or_default().or_all(&predicate);
            }
        }
        traits::add_own_stops(&mut stopping, binding, processes);
        Self { stopping, binding, processes }
    }
}

impl Engine<'_> {
    /// The handler may have changed: between two events, so that each is judged
    /// as it was before or as it is from now on.
    pub(super) fn renew(&mut self) {
        if self.leaving || !self.handler.renew() {
            return;
        }
        let Wishes { stopping, binding, processes } = Wishes::of(self.handler, self.own.as_ref());
        if binding && !self.binding {
            // Nobody has watched what tasks share and whose memory was written to.
            self.intruded = true;
            self.tasks.values().for_each(|task| task.space.expose());
        }
        (self.binding, self.processes) = (binding, processes);
        if filter::covers(&self.shown, &stopping) {
            return;
        }
        self.filter = filter::compile(&stopping);
        self.shown = stopping;
        self.widen();
    }

    /// What is traced, and how.
    pub(super) fn coverage(&self) -> Coverage {
        Coverage {
            processes: self.tasks.values().map(|task| task.pid).collect::<HashSet<_>>().len(),
            threads: self.tasks.len(),
            filtered: self.tasks.values().filter(|task| task.filtered).count(),
            refused: self.refused.iter().filter(|pid| selection::attachable(**pid).is_ok()).count(),
        }
    }

    /// Filters do not show all that is wanted now: every call stops.
    fn widen(&mut self) {
        self.widened = true;
        let mut blind: HashSet<pid_t> = HashSet::new();
        for (tid, task) in self.tasks.iter_mut().filter(|(_, task)| task.filtered) {
            (task.filtered, task.needs_tracer) = (false, true);
            task.interrupt(*tid);
            blind.insert(task.pid);
        }
        if self.root.is_some() || self.inject {
            self.to_filter.extend(blind);
        }
    }
}
