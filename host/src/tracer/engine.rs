//! The loop, one method a kind of stop.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bstr::BString;
use libc::{c_int, pid_t};

use super::filter::{self, Comparison, Condition, Predicate, Stopping};
use super::launch::{self, LaunchError, Launched, Program};
use super::memory::TraceeMemory;
use super::stop::{Asked, Gone, Reason, Report, Stopped, Stops};
use super::sys::SeccompInfo;
use super::task::{Pending, Task, Tasks};
use super::{Handler, Interest, Signals, procfs, signals, sys};
use crate::decode::{self, Arch, Changes, Memory, Spec};
use crate::event::{Errno, Event, ExitStatus, Kind, Outcome, ProcessEvent};

/// How the program ended.
pub type Ended = ExitStatus;

/// Tracing failed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The program did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The kernel refused what it must not refuse.
    #[error("cannot {action}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a program and all that comes of it to the end, and says how the
/// program itself ended.
pub fn run(_signals: &Signals, argv: &[impl AsRef<OsStr>], handler: &mut dyn Handler) -> Result<Ended, TraceError> {
    let kernel = |action| move |source| TraceError::Kernel { action, source };
    let program = Program::find(argv)?;
    signals::prepare().map_err(kernel("set up signals"))?;
    let mut stopping = handler.stopping();
    add_own_stops(&mut stopping);
    let processes = handler.processes();
    let launched = launch::launch(program, &filter::compile(&stopping), processes)?;
    signals::forward_to(launched.pid).map_err(kernel("start the signal thread"))?;
    let engine = Engine::new(handler, launched.pid, processes);
    let ended = engine.run().map_err(kernel("wait for the program"))?;
    finish(launched, ended)
}

fn finish(launched: Launched, ended: Option<Ended>) -> Result<Ended, TraceError> {
    match launched.failure() {
        Some(failure) => Err(failure.into()),
        // wait lost our own child: somebody else reaped it.
        None => ended.ok_or_else(|| TraceError::Kernel {
            action: "learn how the program ended",
            source: io::Error::from_raw_os_error(libc::ECHILD),
        }),
    }
}

/// The calls that must stop for our own sake: those that change what we
/// remember of tasks, and those that can make a child which we would not see
/// (SECURITY.md, "`CLONE_UNTRACED`").
fn add_own_stops(stopping: &mut Stopping) {
    if stopping.is_empty() {
        // Nothing will be judged or resolved; only children are followed.
        return;
    }
    let untraced = libc::CLONE_UNTRACED as u64;
    for nr in 0..HIGHEST_NUMBER {
        let spec = Arch::NATIVE.spec(nr);
        let own = match spec.name {
            "clone" => {
                let flag = Condition::new(0, untraced, Comparison::Ne, 0);
                let mut predicate = Predicate::default();
                predicate.or(flag.into_iter().collect());
                predicate
            }
            "clone3" => Predicate::always(),
            _ if spec.changes != Changes::Nothing => Predicate::always(),
            _ => continue,
        };
        stopping.entry(nr).or_default().or_all(&own);
    }
}

/// No architecture numbers its calls higher.
const HIGHEST_NUMBER: u32 = 1024;

struct Engine<'h> {
    handler: &'h mut dyn Handler,
    tasks: Tasks,
    /// The program that was asked for.
    root: pid_t,
    ended: Option<Ended>,
    processes: bool,
    seq: u64,
    /// Calls under way that may change a root or a working directory. While
    /// there is one, nothing is remembered of where tasks stand.
    moving: usize,
}

impl<'h> Engine<'h> {
    fn new(handler: &'h mut dyn Handler, root: pid_t, processes: bool) -> Self {
        let mut task = Task::new(root);
        if processes {
            // The child is our own fork until it executes its program.
            task.exe = procfs::process(std::process::id() as pid_t).exe;
        }
        Self { handler, tasks: Tasks::from([(root, task)]), root, ended: None, processes, seq: 0, moving: 0 }
    }

    fn run(mut self) -> io::Result<Option<Ended>> {
        let mut stops = Stops::of_this_thread();
        while let Some(report) = stops.next()? {
            match report {
                Report::Stop(stop, reason) => self.stopped(stop, reason),
                Report::Exited(tid, code) => self.gone(tid, ExitStatus::Code(code)),
                Report::Killed(tid, signal) => self.gone(tid, ExitStatus::Signal(signal)),
            }
        }
        Ok(self.ended)
    }

    fn stopped(&mut self, stop: Stopped, reason: Reason) {
        match reason {
            Reason::Seccomp => self.entry(stop),
            Reason::SyscallExit => self.exit(stop),
            Reason::Forked => self.forked(stop),
            Reason::Executed => self.executed(stop),
            Reason::Exiting => self.exiting(stop),
            Reason::Begun => {
                self.task(stop.tid());
                stop.resume(0);
            }
            Reason::GroupStop(signal) => self.group_stop(stop, signal),
            Reason::Signal(signal) => stop.resume(signal),
        }
    }

    /// The task, which may have stopped before its parent told of it.
    fn task(&mut self, tid: pid_t) -> &mut Task {
        self.tasks.entry(tid).or_insert_with(|| Task::new(procfs::thread_group(tid)))
    }

    // ---- System calls ------------------------------------------------------

    fn entry(&mut self, stop: Stopped) {
        let Ok(Some(info)) = stop.call() else { return stop.resume(0) };
        let memory = TraceeMemory(stop.tid());
        let Some(arch) = Arch::from_audit(info.audit, info.nr as u32) else {
            // Numbers of an ABI that we do not know: nothing can be judged.
            let _gone = stop.deny(libc::ENOSYS as u16);
            return stop.resume(0);
        };
        let (nr, args) = decode::demultiplex(arch, info.nr as u32, info.args, &memory);
        let spec = arch.spec(nr);
        match Self::keep_children_traced(&stop, arch, spec, &info) {
            Ok(false) => {}
            Ok(true) | Err(Gone) => return stop.resume(0),
        }
        let interest = self.handler.interest(arch, nr, &args);
        if interest == Interest::default() && spec.changes == Changes::Nothing {
            return stop.resume(0);
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
            stop.resume(0);
            if let Some(refused) = refused {
                self.handler.observe(refused);
            }
        } else if interest.exit || spec.changes != Changes::Nothing {
            if spec.changes == Changes::FileSystem {
                self.moving += 1;
                self.tasks.values_mut().for_each(Task::forget);
            }
            let pending = Pending { entry: event.clone(), since: Instant::now(), wanted: interest.exit };
            if let Some(lost) = self.task(stop.tid()).pending.replace(pending) {
                self.over(stop.tid(), &lost);
            }
            stop.resume_to_exit(0);
        } else {
            stop.resume(0);
        }
    }

    fn exit(&mut self, stop: Stopped) {
        let Some(pending) = self.task(stop.tid()).pending.take() else { return stop.resume(0) };
        self.over(stop.tid(), &pending);
        let Ok(Some(result)) = stop.result() else { return stop.resume(0) };
        if !pending.wanted {
            return stop.resume(0);
        }
        let duration = pending.since.elapsed().as_nanos() as u64;
        let event = self.exit_event(stop.tid(), &pending.entry, result, duration, &TraceeMemory(stop.tid()));
        stop.resume(0);
        self.handler.observe(event);
    }

    /// A call that we waited for is over, or its task is: what it may have
    /// changed is to be learned anew. Roots and working directories can be
    /// shared (`CLONE_FS`), also with a task that is gone.
    fn over(&mut self, tid: pid_t, pending: &Pending) {
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

    /// Forgets a task that is gone.
    fn remove(&mut self, tid: pid_t) -> Option<Task> {
        let mut task = self.tasks.remove(&tid)?;
        if let Some(pending) = task.pending.take() {
            self.over(tid, &pending);
        }
        Some(task)
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
    fn keep_children_traced(stop: &Stopped, arch: Arch, spec: &Spec, info: &SeccompInfo) -> Asked<bool> {
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

    // ---- Processes ---------------------------------------------------------

    fn forked(&mut self, stop: Stopped) {
        let (tid, Ok(message)) = (stop.tid(), stop.message()) else { return stop.resume(0) };
        let child = message as pid_t;
        let pid = self.task(tid).pid;
        let thread = procfs::is_thread_of(child, pid);
        let mut task = self.tasks.remove(&child).unwrap_or_else(|| Task::new(if thread { pid } else { child }));
        task.exe = self.task(tid).exe.clone();
        self.tasks.insert(child, task);
        self.tell(stop, ProcessEvent::Forked { child, thread });
    }

    fn executed(&mut self, stop: Stopped) {
        let tid = stop.tid();
        let former = stop.message().map_or(tid, |message| message as pid_t);
        if former != tid
            && let Some(task) = self.tasks.remove(&former)
        {
            // Another thread than the leader executed; it takes over its id.
            self.remove(tid);
            self.tasks.insert(tid, task);
        }
        let task = self.task(tid);
        task.pid = tid;
        task.forget();
        let previous_exe = std::mem::take(&mut task.exe);
        if self.processes {
            let exe = self.now_running(tid);
            self.task(tid).exe = exe;
        }
        self.tell(stop, ProcessEvent::Executed { previous_exe });
    }

    fn now_running(&mut self, tid: pid_t) -> BString {
        self.task(tid).oracle(tid, true).process().exe.clone()
    }

    fn exiting(&mut self, stop: Stopped) {
        let status = stop.message().map_or(0, |message| message as c_int);
        let status = if libc::WIFSIGNALED(status) {
            ExitStatus::Signal(libc::WTERMSIG(status) as u8)
        } else {
            ExitStatus::Code(libc::WEXITSTATUS(status) as u8)
        };
        self.task(stop.tid()).end_told = true;
        self.tell(stop, ProcessEvent::Exited(status));
    }

    /// Lets a task that stopped for `what` go on, and tells of it if wanted.
    fn tell(&mut self, stop: Stopped, what: ProcessEvent) {
        let event = self.processes.then(|| {
            let event = self.event(stop.tid(), Kind::Process(what));
            event.capture();
            Arc::new(event)
        });
        if self.task(stop.tid()).pending.is_some() {
            stop.resume_to_exit(0);
        } else {
            stop.resume(0);
        }
        if let Some(event) = event {
            self.handler.observe(event);
        }
    }

    fn group_stop(&mut self, stop: Stopped, signal: c_int) {
        self.task(stop.tid());
        let from_terminal = matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
        let with_us = stop.tid() == self.root
            && nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(self.root))) == Ok(nix::unistd::getpgrp());
        stop.listen();
        if from_terminal && with_us {
            signals::stop_self();
        }
    }

    fn gone(&mut self, tid: pid_t, status: ExitStatus) {
        if tid == self.root {
            self.ended = Some(status);
        }
        if self.processes && self.tasks.get(&tid).is_some_and(|task| !task.end_told) {
            let event = self.event(tid, Kind::Process(ProcessEvent::Exited(status)));
            event.capture();
            self.handler.observe(Arc::new(event));
        }
        self.remove(tid);
    }

    fn event(&mut self, tid: pid_t, kind: Kind) -> Event {
        self.seq += 1;
        let (seq, keep) = (self.seq, self.moving == 0);
        let task = self.task(tid);
        let oracle = task.oracle(tid, keep);
        Event::live(seq, sys::now_ns(), (task.pid, tid), kind, oracle)
    }
}

/// For a call that did not run, whose results are nowhere.
struct NoMemory;

impl Memory for NoMemory {
    fn read(&self, _address: u64, _buffer: &mut [u8]) -> usize {
        0
    }
}
