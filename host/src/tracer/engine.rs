//! The loop, one method a kind of stop.
//!
//! Here is the life of tasks: born, executing, stopped, gone. What becomes of
//! their calls is in `calls.rs`, how they come under our eyes and out of them
//! in `attaching.rs`.

mod attaching;
mod calls;

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use bstr::BString;
use libc::{c_int, pid_t};

use super::filter::{self, Comparison, Condition, Predicate, Stopping};
use super::inbox::{Inbox, Message};
use super::launch::{self, LaunchError, Launched, Program};
use super::selection::Selection;
use super::signals::Role;
use super::stop::{Reason, Report, Stopped, Stops};
use super::task::{Task, Tasks};
use super::{Handler, Signals, procfs, scan, signals, sys};
use crate::decode::{Arch, Changes};
use crate::event::{Event, ExitStatus, Kind, ProcessEvent};

/// How the program ended.
pub type Ended = ExitStatus;

/// What becomes of the programs if the host dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnHostDeath {
    /// The kernel kills them: nothing runs unjudged (fail closed).
    #[default]
    Kill,
    /// They go on unjudged (fail open).
    Continue,
}

/// Tracing failed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The program did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// None of the processes asked for could be attached to.
    #[error("attached to nothing: {0}")]
    Nothing(String),
    /// The kernel refused what it must not refuse.
    #[error("cannot {action}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn kernel(action: &'static str) -> impl Fn(io::Error) -> TraceError {
    move |source| TraceError::Kernel { action, source }
}

/// Runs a program and all that comes of it to the end, and says how the
/// program itself ended.
///
/// # Errors
/// If the program does not start, or the kernel does not let us trace.
pub fn run(
    signals: &Signals,
    argv: &[impl AsRef<OsStr>],
    on_host_death: OnHostDeath,
    handler: &mut dyn Handler,
) -> Result<Ended, TraceError> {
    debug_assert_eq!(signals.role(), Role::Wrapper);
    let program = Program::find(argv)?;
    signals::prepare().map_err(kernel("set up signals"))?;
    signals::leave_keyboard_to_program().map_err(kernel("set up signals"))?;
    let inbox = Inbox::of_this_thread();
    let mut engine = Engine::new(handler, on_host_death, inbox);
    let launched = launch::launch(program, &filter::compile(&engine.stopping), engine.options)?;
    signals::forward_to(launched.pid).map_err(kernel("start the signal thread"))?;
    engine.adopt_launched(launched.pid);
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

/// Attaches to processes that run already, and traces them and all that comes
/// of them until they end or a signal asks us to leave. Then lets them go.
///
/// # Errors
/// If none of the processes that were named could be attached to, or the
/// kernel does not let us trace.
pub fn attach(
    signals: &Signals,
    selection: &Selection,
    on_host_death: OnHostDeath,
    handler: &mut dyn Handler,
) -> Result<(), TraceError> {
    debug_assert_eq!(signals.role(), Role::Guest);
    signals::prepare().map_err(kernel("set up signals"))?;
    let inbox = Inbox::of_this_thread();
    let leave = inbox.clone();
    let mut engine = Engine::new(handler, on_host_death, inbox.clone());
    signals::leave_on_signal(move || leave.post(Message::Leave)).map_err(kernel("start the signal thread"))?;
    engine.attach(selection)?;
    if let Selection::All(filters, interval) = selection {
        engine.scanning = true;
        scan::start(filters.clone(), *interval, inbox).map_err(kernel("start looking for processes"))?;
    }
    engine.run().map_err(kernel("wait for the processes"))?;
    Ok(())
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

/// How a task is traced, without what the configuration adds.
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC;

struct Engine<'h> {
    handler: &'h mut dyn Handler,
    tasks: Tasks,
    inbox: Arc<Inbox>,
    /// `PTRACE_O_*` of every task.
    options: c_int,
    /// The calls that our filter stops.
    stopping: Stopping,
    /// The program that was asked for, if we started one.
    root: Option<pid_t>,
    ended: Option<Ended>,
    processes: bool,
    /// More processes may be found.
    scanning: bool,
    /// All tasks are being let go.
    leaving: bool,
    seq: u64,
    /// Calls under way that may change a root or a working directory. While
    /// there is one, nothing is remembered of where tasks stand.
    moving: usize,
}

impl<'h> Engine<'h> {
    fn new(handler: &'h mut dyn Handler, on_host_death: OnHostDeath, inbox: Arc<Inbox>) -> Self {
        let processes = handler.processes();
        let mut stopping = handler.stopping();
        add_own_stops(&mut stopping);
        let exits = if processes { libc::PTRACE_O_TRACEEXIT } else { 0 };
        let death = if on_host_death == OnHostDeath::Kill { libc::PTRACE_O_EXITKILL } else { 0 };
        Self {
            handler,
            tasks: Tasks::new(),
            inbox,
            options: OPTIONS | exits | death,
            stopping,
            root: None,
            ended: None,
            processes,
            scanning: false,
            leaving: false,
            seq: 0,
            moving: 0,
        }
    }

    /// Takes on our own child, which has our filter and is about to execute
    /// its program.
    fn adopt_launched(&mut self, pid: pid_t) {
        let mut task = Task::new(pid);
        task.filtered = true;
        if self.processes {
            task.exe = procfs::process(std::process::id() as pid_t).exe;
        }
        self.tasks.insert(pid, task);
        self.root = Some(pid);
    }

    fn run(mut self) -> io::Result<Option<Ended>> {
        // Without the first process of a PID namespace the others are killed:
        // so it is for a container's program that ends, with us or without.
        let first = std::process::id() == 1;
        let mut stops = Stops::of_this_thread();
        loop {
            stops.expect(self.tasks.len());
            match stops.next()? {
                Some(Report::Stop(stop, reason)) => self.stopped(stop, reason),
                Some(Report::Exited(tid, code)) => self.gone(tid, ExitStatus::Code(code)),
                Some(Report::Killed(tid, signal)) => self.gone(tid, ExitStatus::Signal(signal)),
                Some(Report::Interrupted) => {}
                None if self.scanning && !self.leaving => self.read(self.inbox.wait()),
                None => return Ok(self.ended),
            }
            self.read(self.inbox.take());
            if first && self.ended.is_some() {
                return Ok(self.ended);
            }
        }
    }

    fn read(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            match message {
                Message::Leave => self.leave(),
                Message::Found(pids) => self.attach_found(&pids),
            }
        }
    }

    fn stopped(&mut self, stop: Stopped, reason: Reason) {
        match reason {
            Reason::Seccomp => self.filtered_call(stop),
            Reason::Call => self.plain_call(stop),
            Reason::Forked => self.forked(stop),
            Reason::Executed => self.executed(stop),
            Reason::Exiting => self.exiting(stop),
            Reason::Begun => self.begun(stop),
            Reason::GroupStop(signal) => self.group_stop(stop, signal),
            Reason::Signal(signal) => self.go_on(stop, signal),
        }
    }

    /// The task, which may have stopped before its parent told of it.
    fn task(&mut self, tid: pid_t) -> &mut Task {
        if !self.tasks.contains_key(&tid) {
            let pid = procfs::thread_group(tid);
            let mut task = Task::new(pid);
            task.filtered = self.is_born_filtered(tid, pid);
            self.tasks.insert(tid, task);
        }
        self.tasks.get_mut(&tid).expect("it has just been put in")
    }

    /// Whether a task that nobody told of has our filter: as its process or
    /// its parent. A wrong "no" is set right at its first stop.
    fn is_born_filtered(&self, tid: pid_t, pid: pid_t) -> bool {
        let kin = if tid == pid { procfs::parent(tid) } else { pid };
        self.root.is_some() || self.tasks.get(&kin).is_some_and(|task| task.filtered)
    }

    /// Lets a stopped task go on, with a signal to deliver or 0: to its next
    /// stop, or for good if we are leaving.
    fn go_on(&mut self, stop: Stopped, signal: c_int) {
        let (tid, leaving) = (stop.tid(), self.leaving);
        let task = self.task(tid);
        if leaving {
            self.remove(tid);
            stop.detach(signal);
        } else if task.pending.is_some() || !task.filtered {
            stop.resume_to_call(signal);
        } else {
            stop.resume(signal);
        }
    }

    fn begun(&mut self, stop: Stopped) {
        self.mend(&stop);
        self.task(stop.tid()).interrupted = false;
        self.go_on(stop, 0);
    }

    fn forked(&mut self, stop: Stopped) {
        let (tid, Ok(message)) = (stop.tid(), stop.message()) else { return self.go_on(stop, 0) };
        let child = message as pid_t;
        let parent = self.task(tid);
        let (pid, filtered, exe) = (parent.pid, parent.filtered, parent.exe.clone());
        let thread = procfs::is_thread_of(child, pid);
        let mut task = self.tasks.remove(&child).unwrap_or_else(|| Task::new(if thread { pid } else { child }));
        (task.filtered, task.exe) = (filtered, exe);
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
        self.go_on(stop, 0);
        if let Some(event) = event {
            self.handler.observe(event);
        }
    }

    fn group_stop(&mut self, stop: Stopped, signal: c_int) {
        if self.leaving {
            return self.go_on(stop, 0);
        }
        self.mend(&stop);
        self.task(stop.tid()).interrupted = false;
        let from_terminal = matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
        let with_us = self.root == Some(stop.tid())
            && nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(stop.tid()))) == Ok(nix::unistd::getpgrp());
        stop.listen();
        if from_terminal && with_us {
            signals::stop_self();
        }
    }

    fn gone(&mut self, tid: pid_t, status: ExitStatus) {
        if self.root == Some(tid) {
            self.ended = Some(status);
        }
        if self.processes && self.tasks.get(&tid).is_some_and(|task| !task.end_told) {
            let event = self.event(tid, Kind::Process(ProcessEvent::Exited(status)));
            event.capture();
            self.handler.observe(Arc::new(event));
        }
        self.remove(tid);
    }

    /// Forgets a task that is gone.
    fn remove(&mut self, tid: pid_t) -> Option<Task> {
        let mut task = self.tasks.remove(&tid)?;
        if let Some(pending) = task.pending.take() {
            self.over(tid, &pending);
        }
        Some(task)
    }

    fn event(&mut self, tid: pid_t, kind: Kind) -> Event {
        self.seq += 1;
        let (seq, keep) = (self.seq, self.moving == 0);
        let task = self.task(tid);
        let oracle = task.oracle(tid, keep);
        Event::live(seq, sys::now_ns(), (task.pid, tid), kind, oracle)
    }
}
