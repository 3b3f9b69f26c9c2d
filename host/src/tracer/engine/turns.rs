//! Who may run beside whom.
//!
//! A call whose names were judged runs while other tasks run. If one of them
//! made a name lead elsewhere in between, the kernel would not run what was
//! judged. Calls that can do that are rare: making or moving a symbolic link,
//! moving a directory, mounting, changing a root. Such a call runs alone: it
//! waits until every task that was let go with a judged call has been seen
//! again, and until it is over no judged call is let go. What a single-stop
//! task is doing is not known, so it is interrupted once.
//!
//! Writing to another process's memory is treated alike, because from then on
//! the memory of no task is its own.
//!
//! A name can lead through a descriptor to what has no name of its own: a pipe,
//! a removed file. While such a call runs, the other threads of its process
//! stand still, since each of them could put something else there.
//!
//! A wait has a limit, after which who waited is refused (`EBUSY`): a file
//! system that a traced program serves (FUSE) could need both at once, and
//! would wait for ever. Nobody runs beside whom it must not: a task can be
//! kept from the processor for as long as somebody likes.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use libc::pid_t;

use super::Engine;
use crate::event::{Event, PathState};
use crate::tracer::inbox::Message;
use crate::tracer::space::Shared;
use crate::tracer::stop::{Reason, Stopped};
use crate::tracer::sys::CallInfo;
use crate::tracer::task::Task;
use crate::tracer::traits::{Redirects, Traits};
use crate::tracer::{procfs, resolve};

/// Longest wait for others.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two looks at a call for which others stand still.
const GLANCE: Duration = Duration::from_millis(20);

/// How a call gets along with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It neither trusts names and memory to stay, nor changes any.
    Indifferent,
    /// It was judged by names and memory, which must stay until it has read
    /// them.
    Trusting,
    /// It changes where names lead.
    Redirecting,
    /// It writes to memory of others.
    Intruding,
}

/// A task that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) stop: Stopped,
    pub(super) info: CallInfo,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// Runs alone, or is about to.
    alone: Option<pid_t>,
    /// It waits for these to be seen.
    unseen: HashSet<pid_t>,
    first: Option<Waiting>,
    others: VecDeque<Waiting>,
    /// Counts turns, so that an old limit does not end a new wait.
    number: u64,
    /// Somebody waits, and the turn has a limit.
    limited: bool,
    /// The process whose other threads stand still during the turn, and their
    /// stops.
    still: Option<pid_t>,
    held: Vec<(Stopped, Reason)>,
    since: Instant,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            alone: None,
            unseen: HashSet::new(),
            first: None,
            others: VecDeque::new(),
            number: 0,
            limited: false,
            still: None,
            held: Vec::new(),
            since: Instant::now(),
        }
    }
}

impl Turns {
    /// Who runs alone, or is about to.
    pub(super) fn alone(&self) -> Option<pid_t> {
        self.alone
    }

    /// Whether the others of its process stand still for task `tid`.
    pub(super) fn still_for(&self, tid: pid_t) -> bool {
        self.alone == Some(tid) && self.still.is_some() && self.unseen.is_empty()
    }

    /// Whether task `tid` of process `pid` has to stand still.
    pub(super) fn stills(&self, tid: pid_t, pid: pid_t) -> bool {
        self.still == Some(pid) && self.alone != Some(tid)
    }

    /// The process whose tasks but one have to stand still.
    pub(super) fn still(&self) -> Option<pid_t> {
        self.still
    }

    /// Forgets the stop of a task that is gone.
    pub(super) fn forget(&mut self, tid: pid_t) {
        self.held.retain(|(stop, _)| stop.tid() != tid);
    }
}

impl Engine<'_> {
    /// How the call at whose entry `tid` is gets along with others.
    pub(super) fn manner(&mut self, tid: pid_t, event: &Event, traits: Traits, binding: bool) -> Manner {
        let redirects = match traits.redirects {
            Redirects::Never => false,
            Redirects::Always => true,
            Redirects::UnlessPlain => {
                // A regular file in a new place leads nowhere else.
                let count = event.call().map_or(0, |call| call.arguments.len());
                let mut paths = (0..count).filter_map(|index| event.path(index));
                paths.any(|path| path.state == PathState::Exists && !is_plain(tid, &path.path))
            }
            Redirects::IfShared => !self.task(tid).space.is_alone(),
        };
        if traits.intrudes || opens_memory(tid, event) {
            Manner::Intruding
        } else if redirects {
            Manner::Redirecting
        } else if binding {
            Manner::Trusting
        } else {
            Manner::Indifferent
        }
    }

    /// Lets a call go on to judgement, or keeps it until it may: then
    /// [`Engine::entry`] is called with it again.
    pub(super) fn take_turn(&mut self, stop: Stopped, info: CallInfo, manner: Manner) -> Option<Stopped> {
        let tid = stop.tid();
        if self.leaving {
            return Some(stop);
        }
        if self.turns.alone == Some(tid) && self.turns.unseen.is_empty() {
            if matches!(manner, Manner::Redirecting | Manner::Intruding) || self.turns.still.is_some() {
                return Some(stop);
            }
            // It is another call now: its memory has changed.
            self.end_turn(tid);
        }
        let waiting = Waiting { stop, info };
        match manner {
            Manner::Indifferent => return Some(waiting.stop),
            Manner::Trusting if self.turns.alone.is_none() => {
                self.task(tid).underway = true;
                return Some(waiting.stop);
            }
            Manner::Redirecting | Manner::Intruding if self.turns.alone.is_none() => {
                self.turns.alone = Some(tid);
                self.turns.number += 1;
                let unseen = self.tasks.iter().filter(|(other, task)| task.underway && **other != tid);
                self.turns.unseen = unseen.map(|(other, _)| *other).collect();
                self.turns.limited = false;
                if self.turns.unseen.is_empty() {
                    return Some(waiting.stop);
                }
                for other in &self.turns.unseen {
                    if let Some(task) = self.tasks.get_mut(other) {
                        task.interrupt(*other);
                    }
                }
                self.turns.first = Some(waiting);
                self.limit_turn();
            }
            _ => {
                self.turns.others.push_back(waiting);
                self.limit_turn();
            }
        }
        None
    }

    /// Makes a call whose meaning hangs on a descriptor wait until all others of
    /// its process stand still; then [`Engine::entry`] is called with it again.
    pub(super) fn stand_still(&mut self, stop: Stopped, info: CallInfo) {
        let (tid, pid) = (stop.tid(), self.task(stop.tid()).pid);
        if self.leaving {
            return self.go_on(stop, 0);
        }
        if self.shares_descriptors_beyond(tid, pid) {
            return self.refuse_unprotected(stop);
        }
        self.task(tid).underway = false;
        if self.turns.alone.is_some_and(|alone| alone != tid) {
            self.turns.others.push_back(Waiting { stop, info });
            return self.limit_turn();
        }
        // Those who wait stand still already.
        let waiting: HashSet<pid_t> =
            self.turns.others.iter().chain(&self.for_errand).map(|waiting| waiting.stop.tid()).collect();
        // Those in a call that we wait for stop when it is over.
        let runs = |task: &Task| task.pid == pid && task.pending.is_none();
        let others = self.tasks.iter().filter(|(other, task)| runs(task) && **other != tid);
        (self.turns.alone, self.turns.still) = (Some(tid), Some(pid));
        let others: Vec<pid_t> = others.map(|(other, _)| *other).filter(|other| !waiting.contains(other)).collect();
        for other in &others {
            if let Some(task) = self.tasks.get_mut(other) {
                task.interrupt(*other);
            }
        }
        // It stops before it makes anything else, but not before its child goes on.
        self.turns.unseen = others.into_iter().filter(|other| !procfs::makes_a_process(*other)).collect();
        self.turns.number += 1;
        (self.turns.limited, self.turns.since) = (true, Instant::now());
        self.clock.remind(GLANCE, Message::Overdue(self.turns.number));
        if self.turns.unseen.is_empty() {
            return self.entry(stop, info);
        }
        self.turns.first = Some(Waiting { stop, info });
    }

    /// Whether somebody of another process may share the descriptors of `tid`
    /// or of another thread of its process. Each thread is asked for: it can
    /// have a table of its own (unshare(2)).
    fn shares_descriptors_beyond(&mut self, tid: pid_t, pid: pid_t) -> bool {
        let space = self.task(tid).space.clone();
        let may_share = |task: &Task| task.pid != pid && (space.is_exposed() || task.space.is_same(&space));
        let (own, others): (Vec<_>, Vec<_>) = self
            .tasks
            .iter()
            .filter(|(_, task)| task.pid == pid || may_share(task))
            .partition(|(_, task)| task.pid == pid);
        others.iter().any(|(other, _)| {
            own.iter().any(|(own, _)| Shared::by(**own, **other).is_none_or(|shared| shared.descriptors))
        })
    }

    /// Keeps a stop of a task that has to stand still, until it may go on.
    pub(super) fn hold(&mut self, stop: Stopped, reason: Reason) -> Option<Stopped> {
        let tid = stop.tid();
        if !self.tasks.get(&tid).is_some_and(|task| self.turns.stills(tid, task.pid)) {
            return Some(stop);
        }
        self.turns.held.push((stop, reason));
        self.seen(tid);
        None
    }

    /// Those who stood still go on.
    fn thaw(&mut self) {
        self.turns.still = None;
        for (stop, reason) in std::mem::take(&mut self.turns.held) {
            self.stopped(stop, reason);
        }
    }

    /// A task has stopped, or is gone: what it was let go with is over, or
    /// will be judged again.
    pub(super) fn seen(&mut self, tid: pid_t) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.underway = false;
        }
        if self.turns.unseen.remove(&tid) && self.turns.unseen.is_empty() {
            self.proceed();
        }
    }

    fn proceed(&mut self) {
        if let Some(Waiting { stop, info }) = self.turns.first.take() {
            self.entry(stop, info);
        }
    }

    /// The call of `tid` that ran alone is over, or its task is.
    pub(super) fn end_turn(&mut self, tid: pid_t) {
        if self.turns.alone != Some(tid) {
            self.turns.others.retain(|waiting| waiting.stop.tid() != tid);
            return;
        }
        self.turns.alone = None;
        self.turns.unseen.clear();
        let first = self.turns.first.take().filter(|waiting| waiting.stop.tid() != tid || self.leaving);
        self.thaw();
        if let Some(Waiting { stop, info }) = first {
            self.entry(stop, info);
        }
        // One at a time: the others are seen to wait.
        for _ in 0..self.turns.others.len() {
            if let Some(Waiting { stop, info }) = self.turns.others.pop_front() {
                self.entry(stop, info);
            }
        }
    }

    /// Whether the turn of `tid` has come, or is about to.
    pub(super) fn has_turn(&self, tid: pid_t) -> bool {
        self.turns.alone == Some(tid)
    }

    fn limit_turn(&mut self) {
        if std::mem::replace(&mut self.turns.limited, true) {
            return;
        }
        self.clock.remind(PATIENCE, Message::Overdue(self.turns.number));
    }

    /// The turn with this number has lasted too long.
    pub(super) fn overdue(&mut self, number: u64) {
        let Some(tid) = self.turns.alone.filter(|_| self.turns.number == number) else { return };
        if self.turns.still.is_some() {
            if self.turns.first.is_none() && procfs::sleeps(tid) {
                // It has found what it opens, and waits for something else.
                return self.end_turn(tid);
            }
            self.turns.unseen.retain(|other| !procfs::makes_a_process(*other));
            if self.turns.first.is_some() && self.turns.unseen.is_empty() {
                self.clock.remind(GLANCE, Message::Overdue(number));
                return self.proceed();
            }
            if self.turns.since.elapsed() < PATIENCE {
                return self.clock.remind(GLANCE, Message::Overdue(number));
            }
        }
        let waiting = match self.turns.first.take() {
            Some(first) => {
                // It has not begun, so the others go on.
                self.turns.unseen.clear();
                vec![first]
            }
            // It runs. When it is over, whoever comes then goes on.
            None => Vec::from(std::mem::take(&mut self.turns.others)),
        };
        tracing::warn!(
            "thread {tid} changes names, and it or others have waited for {} s: {} calls are refused",
            PATIENCE.as_secs(),
            waiting.len()
        );
        self.turns.limited = false;
        if self.turns.still.is_some() && self.turns.first.is_none() {
            // Those who stand still go on standing as long as it runs.
            (self.turns.limited, self.turns.since) = (true, Instant::now());
            self.clock.remind(GLANCE, Message::Overdue(number));
        }
        for Waiting { stop, .. } in waiting {
            self.refuse(stop, libc::EBUSY);
        }
    }
}

/// Neither a directory nor a symbolic link.
fn is_plain(tid: pid_t, path: &[u8]) -> bool {
    resolve::kind_of(tid, path).is_some_and(|kind| {
        let kind = u32::from(kind);
        kind != libc::S_IFDIR && kind != libc::S_IFLNK
    })
}

/// Whether a call opens `/proc/PID/mem` for more than reading, under whatever
/// name: it can be mounted anywhere.
fn opens_memory(tid: pid_t, event: &Event) -> bool {
    let Some(call) = event.call() else { return false };
    let writes =
        match call.spec.name {
            "open" | "openat" => call.spec.args.iter().zip(call.registers).any(|(arg, register)| {
                arg.name == "flags" && register as libc::c_int & libc::O_ACCMODE != libc::O_RDONLY
            }),
            "openat2" | "creat" => true,
            _ => false,
        };
    if !writes {
        return false;
    }
    (0..call.arguments.len()).filter_map(|index| event.path(index)).any(|path| {
        // In its usual place the name tells.
        path.path.ends_with(b"/mem") || (!path.path.starts_with(b"/proc/") && resolve::may_be_procfs(tid, path))
    })
}
