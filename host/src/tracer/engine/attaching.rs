//! How tasks that run already come under our eyes, and how all are let go.
//!
//! A task that is interrupted by us in a blocking call must not notice. The
//! kernel restarts most calls by itself; a few answer `EINTR` instead
//! (signal(7), "Interruption of system calls … by stop signals"), and those
//! are made again here.

use libc::pid_t;

use super::{Engine, TraceError};
use crate::tracer::procfs::{self, Status};
use crate::tracer::selection::{self, Selection};
use crate::tracer::stop::Stopped;
use crate::tracer::task::Task;
use crate::tracer::{Notice, Skipped, sys};

/// Lists of a process's threads are read until one has nothing new; each pass
/// can only find what others than its seized threads have made.
const MOST_PASSES: usize = 1000;

impl Engine<'_> {
    /// Attaches to all that `selection` names, and says so.
    pub(super) fn attach(&mut self, selection: &Selection) -> Result<(), TraceError> {
        let (wanted, must) = match selection {
            Selection::Pids(pids) => (selection::with_descendants(pids), true),
            Selection::All(filters, _) => (selection::all(filters), false),
        };
        let (mut processes, mut threads, mut last) = (0, 0, None);
        for pid in wanted {
            match self.seize(pid) {
                Ok(0) => {}
                Ok(count) => (processes, threads) = (processes + 1, threads + count),
                // A descendant that is the host was not asked for.
                Err(Skipped::Ourselves) if !selection.names(pid) => {}
                Err(why) => {
                    last = Some(format!("process {pid} {why}"));
                    self.skipped(pid, why);
                }
            }
        }
        if must && processes == 0 {
            return Err(TraceError::Nothing(last.unwrap_or_else(|| "no process was named".into())));
        }
        self.handler.notice(&Notice::Attached { processes, threads });
        Ok(())
    }

    /// Attaches to processes that a scan has found.
    pub(super) fn attach_found(&mut self, pids: &[pid_t]) {
        if self.leaving {
            return;
        }
        let (mut processes, mut threads) = (0, 0);
        for pid in pids {
            match self.seize(*pid) {
                Ok(0) | Err(Skipped::Vanished) => {}
                Ok(count) => (processes, threads) = (processes + 1, threads + count),
                Err(why) => self.skipped(*pid, why),
            }
        }
        if processes > 0 {
            self.handler.notice(&Notice::Attached { processes, threads });
        }
    }

    fn skipped(&mut self, pid: pid_t, why: Skipped) {
        let name = Status::of(pid).map(|status| status.name).unwrap_or_default();
        self.handler.notice(&Notice::Skipped { pid, name, why });
    }

    /// Attaches to every thread of a process. The number of those that were
    /// not ours before.
    fn seize(&mut self, pid: pid_t) -> Result<usize, Skipped> {
        selection::attachable(pid)?;
        let (mut seized, mut refused) = (0, None);
        for _ in 0..MOST_PASSES {
            let new: Vec<pid_t> =
                procfs::threads(pid).into_iter().filter(|tid| !self.tasks.contains_key(tid)).collect();
            let mut progress = false;
            for tid in new {
                match sys::ptrace(libc::PTRACE_SEIZE, tid, 0, self.options as usize) {
                    Ok(_) => {
                        let mut task = Task::new(pid);
                        task.interrupted = true;
                        if let Some(sibling) = self.tasks.values().find(|other| other.pid == pid) {
                            task.space = sibling.space.clone();
                        }
                        if self.processes {
                            task.exe = procfs::process(pid).exe;
                        }
                        self.tasks.insert(tid, task);
                        // If it is gone already, wait says so.
                        let _ = sys::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0);
                        (seized, progress) = (seized + 1, true);
                    }
                    Err(error) => {
                        let status = Status::of(tid);
                        if status.as_ref().is_some_and(|status| status.tracer == std::process::id() as pid_t) {
                            // Made by a thread that we had seized.
                            self.task(tid);
                        } else if let Some(status) = status.filter(|status| !status.ended()) {
                            refused = Some(Skipped::why(&status, error));
                        }
                    }
                }
            }
            if !progress {
                break;
            }
        }
        match refused {
            Some(why) if seized == 0 => Err(why),
            _ => Ok(seized),
        }
    }

    /// Begins to let all tasks go: each is asked to stop, and detached when it
    /// does.
    pub(super) fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        if let Some(tid) = self.turns.alone() {
            self.end_turn(tid);
        }
        self.handler.notice(&Notice::Leaving { threads: self.tasks.len() });
        for (tid, task) in &mut self.tasks {
            task.interrupted = true;
            // If it is gone already, wait says so.
            let _ = sys::ptrace(libc::PTRACE_INTERRUPT, *tid, 0, 0);
        }
        for (_, born) in std::mem::take(&mut self.newborn) {
            born.detach(0);
        }
    }

    /// A filter was installed in all threads of a process, or was not.
    pub(super) fn installed(&mut self, pid: pid_t, result: i64) {
        if result == 0 {
            self.tasks.values_mut().filter(|task| task.pid == pid).for_each(|task| task.filtered = true);
        }
    }

    /// Lets a task that we interrupted make the call again that answered
    /// `EINTR` for our sake alone.
    pub(super) fn mend(&mut self, stop: &Stopped) {
        if !self.task(stop.tid()).interrupted {
            return;
        }
        let Ok(mut registers) = stop.registers() else { return };
        let Some(nr) = registers.number() else { return };
        // close(2) has closed its descriptor, whatever it answers.
        if registers.result() != -i64::from(libc::EINTR) || nr == libc::SYS_close as u64 {
            return;
        }
        if Status::of(stop.tid()).is_some_and(|status| !status.signal_awaits) {
            registers.call_again(nr);
            // If it is gone, wait says so.
            let _ = stop.set_registers(&registers);
        }
    }
}
