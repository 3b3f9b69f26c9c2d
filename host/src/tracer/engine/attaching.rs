//! How tasks that run already come under our eyes, and how all are let go.
//!
//! A task that is interrupted by us in a blocking call must not notice. The
//! kernel restarts most calls by itself; a few answer `EINTR` instead
//! (signal(7), "Interruption of system calls … by stop signals"), and those
//! are made again here. The same holds for signals that a task ignores: the
//! kernel drops them unless the task is traced.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use bstr::BString;
use libc::{c_int, pid_t};

use super::{Engine, TraceError};
use crate::decode::Arch;
use crate::tracer::inbox::Message;
use crate::tracer::procfs::{self, Status};
use crate::tracer::reaper::Reaper;
use crate::tracer::selection::{self, Selection};
use crate::tracer::space::{Shared, Space};
use crate::tracer::stop::Stopped;
use crate::tracer::task::Task;
use crate::tracer::{Notice, Skipped, attached, guardian, lookup, sys};

/// Longest wait for first threads to be let go: one may wait itself, for the
/// end of its child's vfork(2).
const PARTING: Duration = Duration::from_millis(200);

/// Lists of a process's threads are read until one has nothing new; each pass
/// can only find what others than its seized threads have made.
const MOST_PASSES: usize = 1000;

/// What came of attaching to some processes.
#[derive(Debug, Default)]
struct Taken {
    processes: Vec<pid_t>,
    threads: usize,
    /// Why the first of those that refused did.
    refused: Option<String>,
}

impl Taken {
    fn notice(&self) -> Notice {
        Notice::Attached { processes: self.processes.len(), threads: self.threads }
    }
}

impl Engine<'_> {
    /// Attaches to all that `selection` names, and says so. Those that were
    /// tried.
    pub(super) fn attach(&mut self, selection: &Selection) -> Result<Vec<pid_t>, TraceError> {
        let (wanted, must) = (selection.processes(), matches!(selection, Selection::Pids(_)));
        // A descendant that is the host, or the kernel's, was not asked for.
        let expected =
            |pid, why: &Skipped| matches!(why, Skipped::Ourselves | Skipped::Kernel) && !selection.names(pid);
        let taken = self.seize_all(&wanted, expected);
        if let Selection::Pids(pids) = selection {
            self.named.clone_from(pids);
            let ancestors = selection::ancestors();
            for pid in pids
                .iter()
                .filter(|pid| self.own.is_some() && **pid != std::process::id() as pid_t && ancestors.contains(pid))
            {
                tracing::warn!("process {pid} has started this host: neither it nor its children can end the host now");
            }
        }
        if must && taken.processes.is_empty() {
            return Err(TraceError::Nothing(taken.refused.unwrap_or_else(|| "no process was named".into())));
        }
        self.handler.notice(&taken.notice());
        Ok(wanted)
    }

    /// Attaches to processes that a scan has found.
    pub(super) fn attach_found(&mut self, pids: &[pid_t]) {
        if self.leaving {
            return;
        }
        let taken = self.seize_all(pids, |_, why| matches!(why, Skipped::Vanished | Skipped::Ended));
        for pid in &taken.processes {
            self.spare_set_up(*pid);
        }
        if !taken.processes.is_empty() {
            self.handler.notice(&taken.notice());
        }
    }

    /// Attaches to these, and tells of those that refuse unless that was
    /// `expected`.
    fn seize_all(&mut self, pids: &[pid_t], expected: impl Fn(pid_t, &Skipped) -> bool) -> Taken {
        let mut taken = Taken::default();
        for pid in pids.iter().copied() {
            match self.seize(pid) {
                Ok(0) => {}
                Ok(count) => {
                    self.refused.remove(&pid);
                    attached::trust_root_of(pid);
                    lookup::notice_mounts(pid);
                    taken.processes.push(pid);
                    taken.threads += count;
                }
                Err(why) if expected(pid, &why) => {}
                Err(why) => {
                    taken.refused.get_or_insert_with(|| format!("process {pid} {why}"));
                    self.skipped(pid, why);
                }
            }
        }
        taken
    }

    /// A container's first process, found while a runtime still sets the
    /// container up, is not judged before it executes the program.
    fn spare_set_up(&mut self, pid: pid_t) {
        let sets_up = Status::of(pid).is_some_and(|status| status.parent == 0 && status.name.starts_with("runc:["));
        if sets_up {
            self.tasks.values_mut().filter(|task| task.pid == pid).for_each(|task| task.sets_up = true);
        }
    }

    fn skipped(&mut self, pid: pid_t, why: Skipped) {
        let name = Status::of(pid).map(|status| status.name).unwrap_or_default();
        self.refused.insert(pid);
        self.handler.notice(&Notice::Skipped { pid, name, why });
    }

    /// Attaches to every thread of a process, and sees to its filter. The
    /// number of those that were not ours before.
    pub(super) fn seize(&mut self, pid: pid_t) -> Result<usize, Skipped> {
        attachable(pid)?;
        let exe = if self.processes.execs { procfs::Program::of(pid).exe } else { BString::default() };
        let sibling = self.tasks.values().find(|other| other.pid == pid);
        let mut model = Task::new(pid);
        model.space = sibling.map_or_else(Space::unknown, |sibling| sibling.space.clone());
        model.shares_file_system = sibling.is_none_or(|sibling| sibling.shares_file_system);
        (model.filtered, model.exe) = (self.passing || sibling.is_some_and(|sibling| sibling.filtered), exe);
        let (mut seized, mut refused, mut former) = (0, None, Former::new(self.passing));
        let mut passes = 0;
        while passes < MOST_PASSES {
            let mut new = procfs::threads(pid);
            new.retain(|tid| !self.tasks.contains_key(tid));
            // In one order, so that of two hosts one has all of them. The first
            // thread comes last: from then on signals that the process ignores
            // wake threads, and those must be ours then.
            new.sort_unstable_by_key(|tid| (*tid == pid, *tid));
            let (mut progress, mut again) = (false, false);
            for tid in new {
                if let Some(reaper) = &self.reaper {
                    reaper.step(pid);
                }
                match sys::ptrace(libc::PTRACE_SEIZE, tid, 0, self.options as usize) {
                    Ok(_) => {
                        let mut task = model.alike();
                        task.fresh = true;
                        task.interrupt(tid);
                        self.tasks.insert(tid, task);
                        let unsettled = self.unsettled.entry(pid).or_default();
                        unsettled.count += 1;
                        unsettled.since.get_or_insert_with(Instant::now);
                        (seized, progress) = (seized + 1, true);
                    }
                    Err(error) => match former.judge(tid, error) {
                        Refusal::Ended => {}
                        // Made by a thread that we had seized.
                        Refusal::Ours => drop(self.task(tid)),
                        Refusal::Passes => again = true,
                        Refusal::Stays(why) => {
                            refused = Some(why);
                            if seized == 0 {
                                break;
                            }
                        }
                    },
                }
            }
            if again {
                std::thread::yield_now();
            } else if progress {
                passes += 1;
            } else {
                break;
            }
        }
        for (tid, status) in self.reaper.as_ref().inspect(|reaper| reaper.step(0)).map(Reaper::take).unwrap_or_default()
        {
            self.gone(tid, status);
        }
        if let Some(why) = refused.filter(|_| seized == 0) {
            return Err(why);
        }
        if let Some(task) = self.tasks.get_mut(&pid).filter(|_| seized == 1 && !self.passing)
            && is_alone(pid)
        {
            (task.space, task.shares_file_system) = (Space::fresh(), false);
        }
        if former.was_guarded() {
            self.tasks.values_mut().filter(|task| task.pid == pid).for_each(|task| task.needs_tracer = true);
        }
        if self.inject && seized > 0 && !model.filtered {
            self.to_filter.insert(pid);
        }
        self.guarded(pid);
        Ok(seized)
    }

    /// A task has stopped for the first time since we attached to it, or is
    /// gone. What it was making when we came is there now, and perhaps not ours:
    /// when all tasks of a process have stopped it is looked at again.
    pub(super) fn settled(&mut self, pid: pid_t) {
        let Some(unsettled) = self.unsettled.get_mut(&pid) else { return };
        unsettled.count -= 1;
        if unsettled.count > 0 {
            return;
        }
        self.unsettled.remove(&pid);
        if self.leaving {
            return;
        }
        // If it is gone, so are its threads.
        let _ = self.seize(pid);
        if self.unsettled.is_empty() && !self.named.is_empty() {
            let mut new = selection::with_descendants(&self.named);
            new.retain(|pid| !self.tasks.contains_key(pid));
            // They were not asked for: why one is refused was told before.
            self.seize_all(&new, |_, _| true);
        }
    }

    /// Begins to let all tasks go: each is asked to stop, and detached when it
    /// does.
    pub(super) fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.handler.notice(&Notice::Leaving { threads: self.tasks.len() });
        if let Some(tid) = self.turns.alone() {
            self.end_turn(tid);
        }
        for (tid, task) in &mut self.tasks {
            task.interrupt(*tid);
        }
        for (_, born) in std::mem::take(&mut self.newborn) {
            born.stop.detach(0);
        }
        self.clock.remind(PARTING, Message::Late);
    }

    /// Lets a stopped task go for good. The first thread of a process goes
    /// first: while that is traced, a signal that the process ignores wakes
    /// threads all the same, and nobody would mend the calls of those that are
    /// not ours any more.
    pub(super) fn part(&mut self, stop: Stopped, signal: c_int) {
        let tid = stop.tid();
        let pid = self.task(tid).pid;
        if pid != tid && !self.late && self.tasks.contains_key(&pid) {
            return self.parting.push((stop, signal));
        }
        self.let_go(stop, signal);
        if pid == tid {
            self.part_all(|other| other == pid);
        }
    }

    fn let_go(&mut self, stop: Stopped, signal: c_int) {
        self.remove(stop.tid());
        stop.detach(signal);
    }

    /// Lets those go that have waited for the first threads of these processes.
    pub(super) fn part_all(&mut self, of: impl Fn(pid_t) -> bool) {
        for (stop, signal) in std::mem::take(&mut self.parting) {
            if of(self.task(stop.tid()).pid) {
                self.let_go(stop, signal);
            } else {
                self.parting.push((stop, signal));
            }
        }
    }

    /// First threads have had time enough.
    pub(super) fn late(&mut self) {
        self.late = true;
        self.part_all(|_| true);
    }

    /// A filter was installed in all threads of a process, which had as many as
    /// this `before`, or was not: then the process stops at every call, as
    /// before.
    pub(super) fn installed(&mut self, pid: pid_t, result: i64, before: Option<u32>) {
        let threads = procfs::threads(pid);
        // A filter of the program's own can answer for the kernel.
        let has = |status: Status| status.filtered && before.is_none_or(|before| status.filters == Some(before + 1));
        let outcome = match result {
            0 if !threads.iter().all(|tid| Status::of(*tid).is_none_or(has)) => {
                Err("not all of its threads have it".to_owned())
            }
            0 => Ok(threads.len()),
            tid @ 1.. => Err(format!("its thread {tid} has filters of its own")),
            errno => Err(io::Error::from_raw_os_error(-errno as i32).to_string()),
        };
        if outcome.is_ok() {
            self.tasks.values_mut().filter(|task| task.pid == pid).for_each(|task| task.filtered = true);
            // Others of its threads may have been let go without.
            self.abandons |= self.leaving;
            self.guarded(pid);
        }
        self.handler.notice(&Notice::Injected { pid, outcome });
    }

    /// Lets a task that we interrupted go on as if nothing had been.
    pub(super) fn mend(&mut self, stop: &Stopped) {
        if self.task(stop.tid()).interrupted {
            restart(stop);
        }
    }

    /// The same at the exit of a call with this result. A signal that another
    /// thread has taken, or that is ignored, would not have woken this one
    /// without a tracer.
    pub(super) fn mend_call(&mut self, stop: &Stopped, result: i64) {
        let tid = stop.tid();
        let interrupted = std::mem::take(&mut self.task(tid).interrupted);
        if result != -i64::from(libc::EINTR) || !was_interrupted(stop) {
            return;
        }
        if !interrupted {
            if Status::of(tid).is_none_or(|status| status.is_signalled()) {
                return;
            }
            // So that the kernel looks at the result.
            self.task(tid).interrupt(tid);
        }
        restart(stop);
    }

    /// A signal is about to be delivered. One that is ignored would not have
    /// woken a task without a tracer.
    pub(super) fn signalled(&mut self, stop: Stopped, signal: c_int) {
        // The one that ends a stop has woken it: so has the stop.
        if signal == libc::SIGCONT && std::mem::take(&mut self.task(stop.tid()).was_stopped) {
            return self.go_on(stop, signal);
        }
        if was_interrupted(&stop) && Status::of(stop.tid()).is_some_and(|status| status.ignores(signal)) {
            restart(&stop);
        }
        self.go_on(stop, signal);
    }
}

/// Whether a process with one thread shares nothing with any other that we can
/// see. Clones of it that we cannot see are in another PID namespace above.
fn is_alone(pid: pid_t) -> bool {
    let others = procfs::processes().into_iter().filter(|other| *other != pid);
    procfs::threads(pid).len() == 1
        && !writes_later(pid)
        && others
            .into_iter()
            .all(|other| Shared::by(pid, other).is_some_and(|shared| !shared.anything()) || is_gone(other))
}

/// Whether the kernel may write to its memory while it runs on: it has rings of
/// `io_uring(7)`, or the area of `io_setup(2)`.
fn writes_later(pid: pid_t) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
    procfs::holds(pid, "anon_inode:[io_uring]") || maps.is_ok_and(|maps| maps.contains("/[aio]"))
}

fn is_gone(pid: pid_t) -> bool {
    Status::of(pid).is_none_or(|status| status.ended() || status.is_kernel_thread())
}

/// Whether a process can be attached to, as far as procfs tells. While another
/// thread than the first executes a program it looks as if it had ended.
fn attachable(pid: pid_t) -> Result<(), Skipped> {
    let since = Instant::now();
    loop {
        match selection::attachable(pid) {
            Err(Skipped::Ended) if since.elapsed() < TRANSITION => std::thread::yield_now(),
            answer => return answer,
        }
    }
}

/// What a refusal to be traced comes to.
enum Refusal {
    /// The task is gone.
    Ended,
    Ours,
    /// It will be over in a moment.
    Passes,
    Stays(Skipped),
}

/// Who traced a process before us.
struct Former {
    since: Instant,
    /// A host that dies, whose guardian we are.
    dying: bool,
    /// Guardians that have been asked to leave.
    asked: HashSet<pid_t>,
}

/// Longest wait for a guardian or a host to leave.
const HANDOVER: Duration = Duration::from_secs(2);
/// Longest wait for a thread whose process executes a program, which the
/// kernel does not let be traced for a moment.
const TRANSITION: Duration = Duration::from_millis(50);

impl Former {
    fn new(dying: bool) -> Self {
        Self { since: Instant::now(), dying, asked: HashSet::new() }
    }

    /// What `PTRACE_SEIZE` means by `error`. A guardian is asked to leave.
    fn judge(&mut self, tid: pid_t, error: io::Error) -> Refusal {
        let Some(status) = Status::of(tid).filter(|status| !status.ended()) else { return Refusal::Ended };
        let waited = self.since.elapsed();
        match status.tracer {
            0 if waited < TRANSITION && File::open(format!("/proc/{tid}/mem")).is_ok() => Refusal::Passes,
            0 => Refusal::Stays(Skipped::why(&status, error)),
            tracer if tracer == std::process::id() as pid_t => Refusal::Ours,
            tracer if waited < HANDOVER && (self.dying || self.relieves(tracer)) => Refusal::Passes,
            _ => Refusal::Stays(Skipped::why(&status, error)),
        }
    }

    fn relieves(&mut self, tracer: pid_t) -> bool {
        if self.asked.contains(&tracer) {
            return true;
        }
        let guards = guardian::is_guardian(tracer);
        if guards {
            self.asked.insert(tracer);
            sys::signal_process(tracer, libc::SIGTERM);
        }
        guards
    }

    fn was_guarded(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// Whether a call answers `EINTR` by itself when something has woken it, where
/// others are restarted by the kernel if no handler runs (signal(7); the
/// sources have `-EINTR` where others have `-ERESTARTNOHAND`). Not so close(2),
/// which has closed its descriptor whatever it answers.
fn is_frail(nr: u64) -> bool {
    let waits = ["epoll_wait", "epoll_pwait", "epoll_pwait2", "rt_sigtimedwait", "semop", "semtimedop"];
    let polls = ["io_getevents", "io_pgetevents", "io_uring_enter", "ppoll", "pselect6", "futex", "read"];
    let sockets = ["accept", "accept4", "connect", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg"];
    let name = Arch::NATIVE.spec(nr as u32).name;
    [&waits[..], &polls, &sockets].concat().contains(&name)
}

/// `include/linux/errno.h`: what a call answers that is to be made again
/// unless a handler runs, who sees `EINTR` then. Never seen by a program.
const ERESTARTNOHAND: i64 = 514;

/// Whether it has just come out of one of those calls with `EINTR`.
fn was_interrupted(stop: &Stopped) -> bool {
    stop.registers().is_ok_and(|registers| {
        registers.result() == -i64::from(libc::EINTR) && registers.number().is_some_and(is_frail)
    })
}

/// Makes the kernel restart such a call. A signal is pending or was, so that
/// it looks at the result before it goes back to the program.
fn restart(stop: &Stopped) {
    if was_interrupted(stop)
        && let Ok(mut registers) = stop.registers()
    {
        registers.set_result(-ERESTARTNOHAND);
        // If it is gone, wait says so.
        let _ = stop.set_registers(&registers);
    }
}
