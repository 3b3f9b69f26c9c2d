//! What becomes of a call: entry, verdict, exit.

use std::sync::Arc;
use std::time::Instant;

use libc::pid_t;

use super::Engine;
use crate::decode::{self, Arch, Changes, Memory, Spec};
use crate::event::{Errno, Event, Kind, Outcome};
use crate::tracer::Interest;
use crate::tracer::memory::TraceeMemory;
use crate::tracer::stop::{Asked, Gone, Moment, Stopped};
use crate::tracer::sys::CallInfo;
use crate::tracer::task::{Pending, Task};

impl Engine<'_> {
    /// A call that the filter chose.
    pub(super) fn filtered_call(&mut self, stop: Stopped) {
        // Whoever it came from has our filter: it tells nobody else.
        self.task(stop.tid()).filtered = true;
        match stop.moment(false) {
            Ok(Some(Moment::Entry(info))) => self.entry(stop, info),
            _ => self.go_on(stop, 0),
        }
    }

    /// Entry or exit of a call of a task that stops at each, or exit of one
    /// that was waited for.
    pub(super) fn plain_call(&mut self, stop: Stopped) {
        let task = self.task(stop.tid());
        let inside = task.inside || task.pending.is_some();
        match stop.moment(inside) {
            Ok(Some(Moment::Entry(info))) => {
                self.task(stop.tid()).inside = true;
                self.entry(stop, info);
            }
            Ok(Some(Moment::Exit(result))) => {
                self.task(stop.tid()).inside = false;
                self.mend(&stop);
                self.exit(stop, result);
            }
            _ => self.go_on(stop, 0),
        }
    }

    fn entry(&mut self, stop: Stopped, info: CallInfo) {
        let memory = TraceeMemory(stop.tid());
        let Some(arch) = Arch::from_audit(info.audit, info.nr as u32) else {
            // Numbers of an ABI that we do not know: nothing can be judged.
            let _gone = stop.deny(libc::ENOSYS as u16);
            return self.go_on(stop, 0);
        };
        let (nr, args) = decode::demultiplex(arch, info.nr as u32, info.args, &memory);
        let spec = arch.spec(nr);
        match Self::keep_children_traced(&stop, arch, spec, &info) {
            Ok(false) => {}
            Ok(true) | Err(Gone) => return self.go_on(stop, 0),
        }
        let interest = self.handler.interest(arch, nr, &args);
        if interest == Interest::default() && spec.changes == Changes::Nothing {
            return self.go_on(stop, 0);
        }
        let call = decode::decode(arch, nr, args, &memory);
        let event = Arc::new(self.event(stop.tid(), Kind::Entry(call)));
        let denied = if interest.judge { self.handler.judge(&event) } else { None };
        if interest.observe || interest.exit {
            event.capture();
        }
        self.carry_out(stop, &event, denied, interest, spec);
        if interest.observe {
            self.handler.observe(event);
        }
    }

    fn carry_out(&mut self, stop: Stopped, event: &Arc<Event>, denied: Option<Errno>, interest: Interest, spec: &Spec) {
        if let Some(errno) = denied {
            let _gone = stop.deny(errno.raw());
            let refused =
                interest.exit.then(|| self.exit_event(stop.tid(), event, -i64::from(errno.raw()), 0, &NoMemory));
            self.go_on(stop, 0);
            if let Some(refused) = refused {
                self.handler.observe(refused);
            }
            return;
        }
        if interest.exit || spec.changes != Changes::Nothing {
            if spec.changes == Changes::FileSystem {
                self.moving += 1;
                self.tasks.values_mut().for_each(Task::forget);
            }
            let pending = Pending { entry: event.clone(), since: Instant::now(), wanted: interest.exit };
            if let Some(lost) = self.task(stop.tid()).pending.replace(pending) {
                self.over(stop.tid(), &lost);
            }
        }
        self.go_on(stop, 0);
    }

    fn exit(&mut self, stop: Stopped, result: i64) {
        let Some(pending) = self.task(stop.tid()).pending.take() else { return self.go_on(stop, 0) };
        self.over(stop.tid(), &pending);
        if !pending.wanted {
            return self.go_on(stop, 0);
        }
        let duration = pending.since.elapsed().as_nanos() as u64;
        let event = self.exit_event(stop.tid(), &pending.entry, result, duration, &TraceeMemory(stop.tid()));
        self.go_on(stop, 0);
        self.handler.observe(event);
    }

    /// A call that we waited for is over, or its task is: what it may have
    /// changed is to be learned anew. Roots and working directories can be
    /// shared (`CLONE_FS`), also with a task that is gone.
    pub(super) fn over(&mut self, tid: pid_t, pending: &Pending) {
        match pending.changes() {
            Changes::Nothing => {}
            Changes::Credentials => {
                if let Some(task) = self.tasks.get_mut(&tid) {
                    task.forget();
                }
            }
            Changes::FileSystem => {
                self.moving = self.moving.saturating_sub(1);
                self.tasks.values_mut().for_each(Task::forget);
            }
        }
    }

    /// The captured event of the exit of the call whose entry was `entry`.
    fn exit_event(
        &mut self,
        tid: pid_t,
        entry: &Event,
        result: i64,
        duration_ns: u64,
        memory: &dyn Memory,
    ) -> Arc<Event> {
        let call = entry.call().expect("an entry event is a call");
        let outcome = Outcome { result, entry_seq: entry.seq, duration_ns };
        let call = decode::complete(call, result, memory);
        let event = self.event(tid, Kind::Exit(call, outcome));
        event.capture();
        Arc::new(event)
    }

    /// Sees to it that a new child is traced. True if the call was denied.
    fn keep_children_traced(stop: &Stopped, arch: Arch, spec: &Spec, info: &CallInfo) -> Asked<bool> {
        let untraced = libc::CLONE_UNTRACED as u64;
        match spec.name {
            "clone" if info.args[0] & untraced != 0 => {
                if arch == Arch::NATIVE {
                    stop.set_first_argument(info.args[0] & !untraced)?;
                    return Ok(false);
                }
                stop.deny(libc::EPERM as u16)?;
                Ok(true)
            }
            "clone3" => {
                let mut flags = [0; 8];
                TraceeMemory(stop.tid()).read(info.args[0], &mut flags);
                if u64::from_le_bytes(flags) & untraced == 0 {
                    return Ok(false);
                }
                // C libraries fall back to clone, whose flag can be cleared.
                stop.deny(libc::ENOSYS as u16)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// For a call that did not run, whose results are nowhere.
struct NoMemory;

impl Memory for NoMemory {
    fn read(&self, _address: u64, _buffer: &mut [u8]) -> usize {
        0
    }
}
