//! The loop, one method a kind of stop.
//!
//! Here is the life of tasks: born, executing, stopped, gone. What becomes of
//! their calls is in `calls.rs`, how verdicts are kept true in
//! `protection.rs`, `turns.rs` and `programs.rs`, how tasks come under our
//! eyes and out of them in `attaching.rs`.

mod attaching;
mod calls;
mod passing;
mod programs;
mod protection;
mod renewing;
mod turns;

pub(super) use passing::stand_by;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::renewing::Wishes;
use self::turns::{Turns, Waiting};
use libc::{c_int, pid_t};

use super::clock::Clock;
use super::guard::{Echoes, Own};
use super::guardian::Guardian;
use super::inbox::{Inbox, Message};
use super::launch::{self, LaunchError, Launched, Program};
use super::reaper::Reaper;
use super::selection::Selection;
use super::signals::Role;
use super::space::{Shared, Space};
use super::stop::{Moment, Reason, Report, Stopped, Stops};
use super::task::{Origin, Standing, Task, Tasks};
use super::{Handler, Signals, Stopping, Waker, filter, lookup, procfs, scan, signals, sys};
use crate::decode::Arch;
use crate::event::{Event, ExitStatus, Kind, ProcessEvent, ProcessEvents};

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

/// How to trace.
#[derive(Debug, Default)]
pub struct Options {
    /// What becomes of the programs if the host dies.
    pub on_host_death: OnHostDeath,
    /// Takes over then, where they shall go on.
    pub guardian: Option<Guardian>,
    /// Installs the filter in programs that are attached to, so that calls
    /// which nobody wants do not stop.
    pub inject_filter: bool,
    /// The host's own files, which no program may change. None if the host
    /// does not protect itself.
    pub own_files: Option<Vec<PathBuf>>,
}

/// Tasks of a process that have not stopped since we attached to it.
#[derive(Default)]
struct Unsettled {
    count: usize,
    /// When we came.
    since: Option<Instant>,
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
    options: Options,
    handler: &mut dyn Handler,
) -> Result<Ended, TraceError> {
    debug_assert_eq!(signals.role(), Role::Wrapper);
    let program = Program::find(argv)?;
    signals::prepare().map_err(kernel("set up signals"))?;
    signals::leave_keyboard_to_program().map_err(kernel("set up signals"))?;
    let inbox = Inbox::of_this_thread();
    let mut engine = Engine::new(handler, options, &Role::Wrapper.taken(), inbox).map_err(kernel("start a thread"))?;
    let launched = launch::launch(program, &engine.filter, engine.options)?;
    signals::forward_to(launched.pid, engine.echoes.clone()).map_err(kernel("start the signal thread"))?;
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
    options: Options,
    handler: &mut dyn Handler,
) -> Result<(), TraceError> {
    debug_assert_eq!(signals.role(), Role::Guest);
    signals::prepare().map_err(kernel("set up signals"))?;
    let inbox = Inbox::of_this_thread();
    let leave = inbox.clone();
    let mut engine =
        Engine::new(handler, options, &Role::Guest.taken(), inbox.clone()).map_err(kernel("start a thread"))?;
    signals::leave_on_signal(move || leave.post(Message::Leave)).map_err(kernel("start the signal thread"))?;
    engine.reaper = Some(Reaper::start().map_err(kernel("start a thread"))?);
    let tried = engine.attach(selection)?;
    if let Selection::All(filters, interval) = selection {
        engine.scanning = true;
        scan::start(filters.clone(), *interval, tried, inbox).map_err(kernel("start looking for processes"))?;
    }
    engine.run().map_err(kernel("wait for the processes"))?;
    Ok(())
}

/// The call with which a task has just made another: its name and arguments.
/// The code that made it says nothing of its convention: 64-bit code can make
/// calls of i386.
fn making(stop: &Stopped) -> Option<(&'static str, [u64; 6])> {
    let call = stop.registers().ok()?.call_of(stop.convention())?;
    let arch = Arch::from_audit(call.audit, call.nr as u32)?;
    Some((arch.spec(call.nr as u32).name, call.args))
}

/// Its flags, if they are in a register.
fn clone_flags(making: (&str, [u64; 6])) -> Option<u64> {
    match making {
        ("fork", _) => Some(0),
        ("vfork", _) => Some((libc::CLONE_VM | libc::CLONE_VFORK) as u64),
        ("clone", [flags, ..]) => Some(flags),
        _ => None,
    }
}

/// How a task is traced, without what the configuration adds.
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC;

/// A task whose parent has yet to tell of it.
struct Newborn {
    maker: pid_t,
    since: Instant,
    stop: Stopped,
}

/// Longest wait for the parent's word: it is in the middle of telling, unless
/// it has been killed.
const UNCLAIMED: Duration = Duration::from_millis(100);

/// Most tasks of which nobody has told that are remembered: those whose maker
/// was killed stay.
const MOST_ENDED_EARLY: usize = 4096;

#[allow(clippy::struct_excessive_bools, reason = "independent facts, each with its own time")]
struct Engine<'h> {
    handler: &'h mut dyn Handler,
    tasks: Tasks,
    inbox: Arc<Inbox>,
    clock: Clock,
    /// `PTRACE_O_*` of every task.
    options: c_int,
    /// Our filter.
    filter: Vec<libc::sock_filter>,
    /// What it shows.
    shown: Stopping,
    /// It is not the first: tasks may have another.
    widened: bool,
    /// Processes in which it is to be installed.
    to_filter: HashSet<pid_t>,
    inject: bool,
    guardian: Option<Guardian>,
    /// There when we attach to processes.
    reaper: Option<Reaper>,
    /// What is ours, if we protect it.
    own: Option<Own>,
    echoes: Arc<Echoes>,
    /// Tasks were let go that cannot be without a tracer: the guardian stays.
    abandons: bool,
    /// We stand in for a host that is dead: all tasks have its filter.
    passing: bool,
    /// The program that was asked for, if we started one.
    root: Option<pid_t>,
    ended: Option<Ended>,
    /// What is wanted of processes' coming and going.
    processes: ProcessEvents,
    /// More processes may be found.
    scanning: bool,
    /// Processes that were named; their descendants are traced, too.
    named: Vec<pid_t>,
    /// Processes that were meant and could not be attached to.
    refused: HashSet<pid_t>,
    /// Processes that we have attached to, and how many tasks of each have not
    /// stopped since.
    unsettled: HashMap<pid_t, Unsettled>,
    /// All tasks are being let go.
    leaving: bool,
    /// They have had time to go in order.
    late: bool,
    /// Verdicts can deny.
    binding: bool,
    /// Somebody may write to memory of others: none is its task's own.
    intruded: bool,
    /// A call could not be protected, and that was told.
    told_unprotected: bool,
    turns: Turns,
    /// They wait for an errand of another task.
    for_errand: VecDeque<Waiting>,
    /// They are let go after the first threads of their processes.
    parting: Vec<(Stopped, c_int)>,
    /// Tasks that had come and gone before anybody told of them, and how they
    /// ended.
    ended_early: HashMap<pid_t, ExitStatus>,
    /// Tasks of which no parent has told yet.
    newborn: HashMap<pid_t, Newborn>,
    seq: u64,
    /// Calls under way that may change a root or a working directory. While
    /// there is one, nothing is remembered of where tasks stand.
    moving: usize,
}

impl<'h> Engine<'h> {
    fn new(handler: &'h mut dyn Handler, options: Options, taken: &[c_int], inbox: Arc<Inbox>) -> io::Result<Self> {
        let own = options.own_files.map(|files| Own::new(&files, taken));
        lookup::notice_mounts(std::process::id() as pid_t);
        handler.begins(Waker(inbox.clone()));
        // What came before nobody was woken for.
        let _changed = handler.renew();
        let Wishes { stopping, binding, processes } = Wishes::of(handler, own.as_ref());
        let exits = if processes.exits { libc::PTRACE_O_TRACEEXIT } else { 0 };
        let death = if options.on_host_death == OnHostDeath::Kill { libc::PTRACE_O_EXITKILL } else { 0 };
        Ok(Self {
            handler,
            tasks: Tasks::default(),
            clock: Clock::start(inbox.clone())?,
            inbox,
            options: OPTIONS | exits | death,
            filter: filter::compile(&stopping),
            shown: stopping,
            widened: false,
            to_filter: HashSet::new(),
            inject: options.inject_filter,
            guardian: options.guardian,
            reaper: None,
            own,
            echoes: Arc::default(),
            abandons: false,
            passing: false,
            root: None,
            ended: None,
            processes,
            scanning: false,
            named: Vec::new(),
            refused: HashSet::new(),
            unsettled: HashMap::new(),
            leaving: false,
            late: false,
            binding,
            intruded: false,
            told_unprotected: false,
            turns: Turns::default(),
            for_errand: VecDeque::new(),
            parting: Vec::new(),
            ended_early: HashMap::new(),
            newborn: HashMap::new(),
            seq: 0,
            moving: 0,
        })
    }

    /// Takes on our own child, which has our filter and is about to execute
    /// its program.
    fn adopt_launched(&mut self, pid: pid_t) {
        let mut task = Task::new(pid);
        task.filtered = true;
        task.space = Space::fresh();
        if self.processes.execs {
            task.exe = procfs::Program::of(std::process::id() as pid_t).exe;
        }
        self.tasks.insert(pid, task);
        self.guarded(pid);
        self.root = Some(pid);
    }

    /// The guardian, if there is one, learns of a process.
    fn guarded(&self, pid: pid_t) {
        if let Some(guardian) = &self.guardian {
            guardian.add(pid);
        }
    }

    fn run(mut self) -> io::Result<Option<Ended>> {
        let ended = self.follow();
        if let Some(guardian) = self.guardian.take().filter(|_| !self.abandons) {
            guardian.dismiss();
        }
        ended
    }

    fn follow(&mut self) -> io::Result<Option<Ended>> {
        // Without the first process of a PID namespace the others are killed:
        // so it is for a container's program that ends, with us or without.
        let first = std::process::id() == 1;
        let mut stops = Stops::of_this_thread();
        loop {
            stops.expect(self.tasks.len());
            // The guardian is a child, too, and lives on.
            let alone = self.guardian.is_some() && self.tasks.is_empty() && !self.scanning;
            if alone && stops.is_idle()? {
                return Ok(self.ended);
            }
            match stops.next()? {
                Some(Report::Stop(stop, reason)) => self.stopped(stop, reason),
                Some(Report::Exited(tid, code)) => self.gone(tid, ExitStatus::Code(code)),
                Some(Report::Killed(tid, signal)) => self.gone(tid, ExitStatus::Signal(signal)),
                Some(Report::Interrupted) => {}
                None if self.scanning && !self.leaving => self.read(self.inbox.wait()),
                None => return Ok(self.ended),
            }
            self.after_errands();
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
                Message::Overdue(number) => self.overdue(number),
                Message::Unclaimed => self.unclaimed(),
                Message::Late => self.late(),
                Message::Renew => self.renew(),
                Message::Cover(asked) => {
                    let _gone = asked.send(self.coverage());
                }
            }
        }
    }

    fn stopped(&mut self, stop: Stopped, reason: Reason) {
        let task = self.tasks.get_mut(&stop.tid());
        let fresh = task.and_then(|task| {
            let fresh = std::mem::take(&mut task.fresh).then_some(task.pid);
            if fresh.is_some() {
                task.found_at = stop.registers().ok().map(|registers| registers.instruction());
            }
            fresh
        });
        self.handle(stop, reason);
        if let Some(pid) = fresh {
            self.settled(pid);
        }
    }

    fn handle(&mut self, stop: Stopped, reason: Reason) {
        let Some(stop) = self.hold(stop, reason) else { return };
        let tid = stop.tid();
        if let Some(task) = self.tasks.get_mut(&tid) {
            if let Some(errand) = task.errand.take() {
                // Another thread has executed a program in this one's place,
                // or it ends: nothing is left of the errand.
                if !matches!(reason, Reason::Executed | Reason::Exiting) {
                    return self.on_errand(stop, reason, errand);
                }
            }
            if task.underway {
                self.seen(tid);
            }
        } else if reason == Reason::Begun && !self.leaving {
            let maker = procfs::maker(tid);
            // Its parent is about to tell of it. One made with CLONE_PARENT
            // may have a parent that we do not know.
            if self.tasks.values().any(|task| task.pid == maker) {
                if self.newborn.is_empty() {
                    self.clock.remind(UNCLAIMED, Message::Unclaimed);
                }
                self.newborn.insert(tid, Newborn { maker, since: Instant::now(), stop });
                return;
            }
        }
        match reason {
            Reason::Seccomp => self.filtered_call(stop),
            Reason::Call => self.plain_call(stop),
            Reason::Forked => self.forked(stop),
            Reason::Executed => self.executed(stop),
            Reason::Exiting => self.exiting(stop),
            Reason::Begun => self.begun(stop),
            Reason::GroupStop(signal) => self.group_stop(stop, signal),
            Reason::Signal(signal) => self.signalled(stop, signal),
        }
    }

    /// The task; one of which nobody has told if it is not known.
    fn task(&mut self, tid: pid_t) -> &mut Task {
        let launched = (self.root.is_some() && !self.widened) || self.passing;
        self.tasks.entry(tid).or_insert_with(|| {
            let mut task = Task::new(procfs::thread_group(tid));
            (task.filtered, task.shares_file_system) = (launched, true);
            task
        })
    }

    /// Lets a stopped task go on, with a signal to deliver or 0: to its next
    /// stop, or for good if we are leaving.
    fn go_on(&mut self, stop: Stopped, signal: c_int) {
        self.take_back(&stop);
        let (tid, leaving) = (stop.tid(), self.leaving);
        let tells_execs = self.processes.execs;
        let task = self.task(tid);
        if tells_execs {
            task.origin.resumed = sys::boot_ticks();
        }
        let protected = task.pending.as_ref().is_some_and(|pending| pending.protected.is_some());
        // Interrupted by us, a call that it enters would fail: that is mended
        // at the call's exit.
        let enters = task.interrupted && matches!(stop.moment(task.inside), Ok(Some(Moment::Entry(_))));
        if leaving && !protected && task.faked.is_none() && !enters {
            self.part(stop, signal);
        } else if enters || task.pending.is_some() || task.faked.is_some() || !task.filtered {
            stop.resume_to_call(signal);
        } else {
            stop.resume(signal);
        }
    }

    fn begun(&mut self, stop: Stopped) {
        if !self.tasks.contains_key(&stop.tid()) {
            self.welcome(stop.tid());
        }
        self.mend(&stop);
        let task = self.task(stop.tid());
        task.interrupted = false;
        if let Some(borrowed) = task.borrowed.take() {
            // It was made by a call whose registers are ours.
            Self::unguard(&stop, &borrowed);
        }
        self.go_on(stop, 0);
    }

    /// Takes on a task of which nobody has told, or not enough: who made it was
    /// killed before it could. Whoever shares something with it is not alone, as
    /// far as the kernel says who that is; it says no more than
    /// [`Engine::may_leave_behind`] has taken for granted.
    fn welcome(&mut self, tid: pid_t) {
        if !self.binding || procfs::has_ended(tid) {
            return;
        }
        let (mut space, mut blind) = (None, false);
        for (other, task) in self.tasks.iter_mut().filter(|(other, _)| **other != tid) {
            let Some(shared) = Shared::by(tid, *other) else {
                blind |= !procfs::has_ended(*other);
                continue;
            };
            if shared.anything() {
                task.space.expose();
            }
            task.shares_file_system |= shared.file_system;
            if shared.memory {
                task.space.note_processes();
                space = Some(task.space.clone());
            }
        }
        match space {
            Some(space) => self.task(tid).space = space,
            // What it maps could take the place of another's region.
            None if blind => self.task(tid).space.forbid_region(),
            None => {}
        }
    }

    fn forked(&mut self, stop: Stopped) {
        let (tid, Ok(message)) = (stop.tid(), stop.message()) else { return self.go_on(stop, 0) };
        let child = message as pid_t;
        let pid = self.task(tid).pid;
        let making = making(&stop);
        // In memory they may be others by now: the kernel itself has written what
        // the child is called wherever it was told to.
        let judged = self.task(tid).clone3.take().filter(|_| making.is_some_and(|(name, _)| name == "clone3"));
        let flags = making.and_then(clone_flags).or(judged);
        let has = |flags: u64, flag: c_int| flags & flag as u64 != 0;
        let thread = flags.map_or_else(|| procfs::is_thread_of(child, pid), |flags| has(flags, libc::CLONE_THREAD));
        // One that is killed shares nothing any more: what the kernel says of it
        // counts only if it is still there afterwards.
        let asked = || Shared::by(tid, child).filter(|_| stop.registers().is_ok());
        let told = if thread { None } else { flags.map(Shared::of_flags).or_else(asked) };
        let untold = !thread && told.is_none();
        let shared = (!thread).then(|| told.unwrap_or(Shared::UNKNOWN));
        let same_tree = self.moving == 0 && flags.is_some_and(|flags| !has(flags, libc::CLONE_NEWNS));
        let tells_execs = self.processes.execs;
        let parent = self.task(tid);
        // Nobody else can have moved it since its child was made.
        if same_tree && tells_execs && !thread && parent.stands_alone() {
            parent.learn_cwd(tid);
        }
        let origin = if thread {
            Origin { container: parent.origin.container.clone(), ids: parent.origin.ids, ..Origin::default() }
        } else {
            flags.map(|flags| parent.origin.of_child(pid, flags)).unwrap_or_default()
        };
        if shared.is_some_and(|shared| shared.memory) {
            parent.space.note_processes();
        }
        let space = match shared {
            None | Some(Shared { memory: true, .. }) => parent.space.clone(),
            Some(shared) => {
                let space = parent.space.forked();
                if shared.anything() {
                    parent.space.expose();
                    space.expose();
                }
                space
            }
        };
        // A thread may share them with whomever its maker does.
        let shares_file_system = shared.map_or(parent.shares_file_system, |shared| shared.file_system);
        let (filtered, needs_tracer) = (parent.filtered, parent.needs_tracer);
        let (permits, exe) = (parent.permits, parent.exe.clone());
        let standing = if same_tree && !parent.sets_up { parent.standing() } else { Standing::default() };
        let protected = parent.pending.as_ref().and_then(|pending| pending.protected.clone());
        // It may be on its way already, if it came before its parent told: then it
        // may have made others since, and is known by what was thought of it.
        let runs = self.tasks.contains_key(&child);
        let task = self.tasks.entry(child).or_insert_with(|| {
            let mut task = Task::new(child);
            (task.filtered, task.borrowed) = (filtered, protected);
            task
        });
        (task.needs_tracer, task.permits) = (needs_tracer, permits);
        task.pid = if thread { pid } else { child };
        task.exe = exe;
        if !runs || shared.is_none_or(|shared| shared.memory) {
            task.space = space;
        }
        if !runs {
            task.shares_file_system = shares_file_system;
            task.stand_with(&standing);
            task.origin = origin;
        }
        if shared.is_some_and(|shared| shared.file_system) {
            // Nobody knows which of the threads have the same.
            self.tasks.values_mut().filter(|task| task.pid == pid).for_each(|task| task.shares_file_system = true);
        }
        if untold {
            self.welcome(child);
        }
        if !thread {
            self.guarded(child);
        }
        let ended = self.ended_early.remove(&child).filter(|_| !runs && sys::is_gone(child));
        self.tell(stop, ProcessEvent::Forked { child, thread });
        if let Some(status) = ended {
            self.gone(child, status);
        }
        if let Some(born) = self.newborn.remove(&child) {
            self.begun(born.stop);
        }
    }

    fn executed(&mut self, stop: Stopped) {
        let tid = stop.tid();
        let former = stop.message().map_or(tid, |message| message as pid_t);
        if former != tid
            && let Some(task) = self.tasks.remove(&former)
        {
            // Another thread than the leader executed; it takes over its id.
            if let Some(leader) = self.remove(tid) {
                self.may_leave_behind(&leader, false);
            }
            self.tasks.insert(tid, task);
        }
        let task = self.task(tid);
        task.pid = tid;
        if std::mem::take(&mut task.sets_up) {
            // Nobody has looked where it went.
            task.forget();
            task.origin.forget_namespaces();
        }
        task.renew();
        task.pending.take_if(|pending| {
            // The registers are the new program's.
            pending.protected = None;
            pending.is_idle()
        });
        let judged = task.executing.take();
        let previous_exe = std::mem::take(&mut task.exe);
        self.deliver(tid);
        if (self.processes.execs || judged.is_some())
            && let Ok(registers) = stop.registers()
        {
            let tells = self.processes.execs;
            let task = self.task(tid);
            let program = task.now_running(tid, &registers, tells);
            if tells {
                task.exe.clone_from(&program.exe);
            }
            if let Some(judged) = judged {
                self.verify_program(tid, &registers, program, &judged);
            }
        }
        self.tell(stop, ProcessEvent::Executed { previous_exe });
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
        let event = self.processes.want(&what).then(|| {
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
        let task = self.task(stop.tid());
        (task.interrupted, task.was_stopped) = (false, true);
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
        if self.processes.exits && self.tasks.get(&tid).is_some_and(|task| !task.end_told) {
            let event = self.event(tid, Kind::Process(ProcessEvent::Exited(status)));
            event.capture();
            self.handler.observe(Arc::new(event));
        }
        let Some(task) = self.remove(tid) else {
            if self.ended_early.len() < MOST_ENDED_EARLY {
                self.ended_early.insert(tid, status);
            }
            return;
        };
        self.may_leave_behind(&task, matches!(status, ExitStatus::Code(_)));
        let pid = task.pid;
        if pid == tid {
            self.part_all(|other| other == pid);
        }
        if pid == tid && self.processes.execs {
            let children = self.tasks.values_mut().filter(|task| task.origin.parent == Some(pid));
            children.for_each(|task| task.origin.parent = None);
        }
        let guest = self.reaper.is_some();
        if (guest || !self.newborn.is_empty()) && !self.tasks.values().any(|other| other.pid == pid) {
            self.deliver(pid);
            // A thread that was not ours yet may have executed a program, which
            // ended all that were.
            if guest && !self.leaving && procfs::threads(pid).iter().any(|tid| !procfs::has_ended(*tid)) {
                let _ = self.seize(pid);
            }
        }
    }

    /// A task that is gone may have been making another, of which nobody tells:
    /// it comes later, into memory that other processes share. Not so a process of
    /// one thread that has ended `by_itself`.
    fn may_leave_behind(&self, gone: &Task, by_itself: bool) {
        let any = |test: &dyn Fn(&Task) -> bool| self.tasks.values().any(test);
        let neighbours = || any(&|other| other.pid != gone.pid && other.space.is_same(&gone.space));
        let threads = || any(&|other| other.pid == gone.pid);
        if gone.space.is_shared_by_processes() && neighbours() && (!by_itself || threads()) {
            gone.space.expose();
        }
    }

    /// A process can no longer tell of children that it has just made: they go
    /// on without.
    fn deliver(&mut self, maker: pid_t) {
        self.release(|born| born.maker == maker);
    }

    fn release(&mut self, which: impl Fn(&Newborn) -> bool) {
        let found: Vec<Newborn> = self.newborn.extract_if(|_, born| which(born)).map(|(_, born)| born).collect();
        for born in found {
            self.begun(born.stop);
        }
    }

    /// Newborns that have waited long enough go on.
    fn unclaimed(&mut self) {
        // Those of a process that stands still come when it goes on.
        let still = self.turns.still();
        self.release(|born| born.since.elapsed() >= UNCLAIMED && still != Some(born.maker));
        if !self.newborn.is_empty() {
            self.clock.remind(UNCLAIMED, Message::Unclaimed);
        }
    }

    /// Forgets a task that is gone.
    fn remove(&mut self, tid: pid_t) -> Option<Task> {
        self.newborn.remove(&tid);
        self.for_errand.retain(|waiting| waiting.stop.tid() != tid);
        self.parting.retain(|(stop, _)| stop.tid() != tid);
        self.turns.forget(tid);
        let mut task = self.tasks.remove(&tid)?;
        let abandoned = self.leaving && (task.filtered || task.needs_tracer);
        self.abandons |= abandoned;
        if let Some(guardian) = self.guardian.as_ref().filter(|_| task.pid == tid && !abandoned) {
            guardian.remove(tid);
        }
        if let Some(pending) = task.pending.take() {
            self.over(tid, &pending);
        }
        if task.fresh {
            self.settled(task.pid);
        }
        self.seen(tid);
        self.end_turn(tid);
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
