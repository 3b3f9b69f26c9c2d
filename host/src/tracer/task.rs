//! What the tracer remembers of each task (thread) that it traces.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use bstr::BString;
use libc::pid_t;
use rustc_hash::FxHashMap;

use super::arch::Registers;
use super::attached::{Attached, Place as Attachment};
use super::descriptors::Kept;
use super::errand::Errand;
use super::filters::Permits;
use super::initial_stack::InitialStack;
use super::memory::TraceeMemory;
use super::pagemap::{Pagemap, Settled};
use super::procfs::{self, Container, Known, Program};
use super::protected::Protected;
use super::resolve::{self, Base, Crossed, Ids, Place, Root};
use super::space::Space;
use super::sys;
use crate::decode::{self, Changes, Kind};
use crate::event::{Call, Event, Oracle, Process, ResolvedPath, Strings};

/// Key: thread id.
pub(super) type Tasks = FxHashMap<pid_t, Task>;

/// One task.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each with its own time")]
pub(super) struct Task {
    /// Its process.
    pub(super) pid: pid_t,
    /// The call that it is in, if its exit is wanted.
    pub(super) pending: Option<Pending>,
    /// It has our filter; otherwise it stops at entry and exit of each call.
    pub(super) filtered: bool,
    /// It has the filter of a host before us, and cannot be without a tracer.
    pub(super) needs_tracer: bool,
    /// What its filters let us do with it, if that is known.
    pub(super) permits: Option<Permits>,
    /// Without our filter: it is in a call.
    pub(super) inside: bool,
    /// We have asked it to stop, and it has not yet.
    pub(super) interrupted: bool,
    /// Where it was when we came, if it was there before us.
    pub(super) found_at: Option<u64>,
    /// It has not stopped since we attached to it.
    pub(super) fresh: bool,
    /// It has been in a group-stop, and SIGCONT has not been delivered since.
    pub(super) was_stopped: bool,
    /// What it shares with others.
    pub(super) space: Space,
    /// It may share its working directory with another process, or will when
    /// the rest of its own is gone.
    pub(super) shares_file_system: bool,
    /// A call of it was judged and let go unprotected, and may not have read
    /// its names and its memory yet.
    pub(super) underway: bool,
    /// It is made to run a call that does nothing instead of its own.
    pub(super) faked: Option<Faked>,
    /// The flags of the clone3(2) that it makes, if they could not be changed.
    pub(super) clone3: Option<u64>,
    /// What the call that it is about to make reads. Its registers point there
    /// until the call is carried out or refused.
    pub(super) lent: Option<Rc<Protected>>,
    /// It has registers of the call that made it, which were ours.
    pub(super) borrowed: Option<Rc<Protected>>,
    /// It sets up a container, and is not judged until it executes the
    /// program.
    pub(super) sets_up: bool,
    /// It runs calls of ours.
    pub(super) errand: Option<Errand>,
    /// The program that it was allowed to execute.
    pub(super) executing: Option<Arc<Event>>,
    /// Its executable, if process events are wanted.
    pub(super) exe: BString,
    /// What is known of its process for as long as that lives.
    pub(super) origin: Origin,
    /// Its end has been told.
    pub(super) end_told: bool,
    /// What names of its last event led through.
    pub(super) crossed: Arc<Crossed>,
    view: Arc<View>,
}

/// Where a process comes from. Of a thread that is not its process's first
/// nothing is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// Who made it; it may be gone, and another have taken it over.
    pub(super) parent: Option<pid_t>,
    /// Its start time, in ticks since boot.
    pub(super) start_time: Option<u64>,
    /// Its container, which a process does not change without changing
    /// namespaces: known since it, or who it comes from, executed a program
    /// without having changed any since.
    pub(super) container: Option<Container>,
    /// A user and a group that have the same numbers in the program's eyes as in
    /// ours; known for as long as the container is, and until it changes its own.
    pub(super) ids: Option<(u32, u32)>,
    /// When it last went on.
    pub(super) resumed: Option<u64>,
}

impl Origin {
    /// It is in other namespaces now, or may be.
    pub(super) fn forget_namespaces(&mut self) {
        (self.container, self.ids) = (None, None);
    }

    /// Of a child that `parent` has just made with these flags (clone(2)).
    pub(super) fn of_child(&self, parent: pid_t, flags: u64) -> Self {
        /// `CLONE_NEW*`, and `CLONE_INTO_CGROUP` of clone3.
        const MOVES: u64 = 1 << 33
            | 1 << 7
            | (libc::CLONE_NEWNS
                | libc::CLONE_NEWCGROUP
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUSER
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET) as u32 as u64;
        let now = sys::boot_ticks();
        Self {
            parent: (flags & libc::CLONE_PARENT as u64 == 0).then_some(parent),
            // It was made since its parent went on.
            start_time: now.filter(|_| now == self.resumed),
            container: self.container.clone().filter(|_| flags & MOVES == 0),
            ids: self.ids.filter(|_| flags & MOVES == 0),
            resumed: None,
        }
    }
}

/// A call in whose place another runs.
#[derive(Debug)]
pub(super) struct Faked {
    /// Registers at entry.
    pub(super) registers: Registers,
    /// What it answers; none if what runs in its place answers for it.
    pub(super) result: Option<i64>,
}

/// A call between entry and exit.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) entry: Arc<Event>,
    pub(super) since: Instant,
    /// Somebody wants the exit event; otherwise only we do.
    pub(super) wanted: bool,
    /// Registers to put back, and the memory that they pointed to meanwhile.
    pub(super) protected: Option<Rc<Protected>>,
    /// No call whose names were judged may run beside it.
    pub(super) exclusive: bool,
}

impl Pending {
    /// Nothing is left to do at the exit.
    pub(super) fn is_idle(&self) -> bool {
        !self.wanted && self.protected.is_none() && !self.exclusive && self.changes() == Changes::Nothing
    }

    /// What the call may have changed.
    pub(super) fn changes(&self) -> Changes {
        self.entry.call().map_or(Changes::Nothing, |call| call.spec.changes)
    }
}

/// What was learned of a task's surroundings; thrown away when a call may
/// have changed it. Owned by the task alone: an event that waits in a queue
/// must not keep directories open, for a file system could then not be
/// unmounted.
#[derive(Debug, Default)]
struct View {
    root: OnceLock<Root>,
    cwd: OnceLock<Arc<Kept>>,
    /// Kept from the time of its execution, when the program was compared with
    /// what was allowed.
    known: OnceLock<Known>,
    process: OnceLock<Arc<Process>>,
    attached: Attached,
}

impl View {
    /// Task `tid`'s working directory, opened; kept, if there is room.
    fn cwd(&self, tid: pid_t) -> io::Result<Base<'_>> {
        if let Some(kept) = self.cwd.get() {
            return Ok(Base::Kept(kept.as_fd()));
        }
        let opened = resolve::open_cwd(tid)?;
        match self.attached.place(tid, opened.as_fd()) {
            Attachment::Nowhere => return Err(resolve::unplaced()),
            Attachment::Now => return Ok(Base::Own(opened)),
            Attachment::Stays => {}
        }
        Ok(match Kept::keep(opened) {
            Ok(fd) => Base::Kept(self.cwd.get_or_init(|| Arc::new(fd)).as_fd()),
            Err(fd) => Base::Own(fd),
        })
    }
}

/// Where a task stands, as far as a child that it makes stands there too.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    our_root: bool,
    cwd: Option<Arc<Kept>>,
}

impl Task {
    pub(super) fn new(pid: pid_t) -> Self {
        Self {
            pid,
            pending: None,
            filtered: false,
            needs_tracer: false,
            permits: None,
            inside: false,
            interrupted: false,
            found_at: None,
            fresh: false,
            was_stopped: false,
            space: Space::unknown(),
            shares_file_system: false,
            underway: false,
            errand: None,
            faked: None,
            clone3: None,
            lent: None,
            borrowed: None,
            sets_up: false,
            executing: None,
            exe: BString::default(),
            origin: Origin::default(),
            end_told: false,
            crossed: Arc::default(),
            view: Arc::default(),
        }
    }

    /// Another thread of its process, of which as much is known.
    pub(super) fn alike(&self) -> Self {
        let mut task = Self::new(self.pid);
        (task.filtered, task.needs_tracer, task.space) = (self.filtered, self.needs_tracer, self.space.clone());
        task.shares_file_system = self.shares_file_system;
        task.exe.clone_from(&self.exe);
        task
    }

    /// Asks it to stop.
    pub(super) fn interrupt(&mut self, tid: pid_t) {
        self.interrupted = true;
        // If it is gone already, wait says so.
        let _ = sys::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0);
    }

    /// Forgets its surroundings: they changed, or are about to.
    pub(super) fn forget(&mut self) {
        self.view = Arc::default();
    }

    /// Sees to it that what was read from its memory is its alone.
    pub(super) fn settle(&self, tid: pid_t, ranges: &[(u64, u64)]) -> Settled {
        let settle =
            |pagemap: &Pagemap| ranges.iter().map(|(start, length)| pagemap.settle(tid, *start, *length)).max();
        self.space.with_pagemap(tid, settle).map_or(Settled::Shared, |settled| settled.unwrap_or(Settled::Already))
    }

    /// The file that is mapped where `address` is, and its inode.
    pub(super) fn file_at(&self, tid: pid_t, address: u64) -> Option<(BString, u64)> {
        self.space.with_pagemap(tid, |pagemap| pagemap.file_at(tid, address))?
    }

    /// What a link of `/proc/TID` leads to, as a name that says which file it is:
    /// `exe`, or a descriptor.
    pub(super) fn linked(&self, tid: pid_t, entry: &str) -> ResolvedPath {
        let attached = |fd: BorrowedFd<'_>| self.view.attached.has(tid, fd);
        let cwd = || self.view.cwd(tid);
        let ids = Ids { pid: self.pid, tid };
        resolve::linked(entry, &Place { ids, crossed: &self.crossed, attached: &attached, root: None, cwd: &cwd })
    }

    /// It stands where its maker stands, as far as that is known.
    pub(super) fn stand_with(&self, maker: &Standing) {
        if maker.our_root {
            let _known = self.view.root.set(Root::Ours);
        }
        if let Some(cwd) = &maker.cwd {
            let _known = self.view.cwd.set(cwd.clone());
        }
    }

    /// Where it stands, as far as that is known.
    pub(super) fn standing(&self) -> Standing {
        Standing { our_root: matches!(self.view.root.get(), Some(Root::Ours)), cwd: self.view.cwd.get().cloned() }
    }

    /// Nobody else can change where it stands.
    pub(super) fn stands_alone(&self) -> bool {
        self.space.is_alone() && !self.shares_file_system && !self.sets_up
    }

    /// Sees to it that its working directory is known, for its children to be
    /// told of theirs.
    pub(super) fn learn_cwd(&self, tid: pid_t) {
        let _unknown = self.view.cwd(tid);
    }

    /// It has executed a program: its memory is new, and where it stands is
    /// not.
    pub(super) fn renew(&mut self) {
        let view = Arc::try_unwrap(std::mem::take(&mut self.view)).unwrap_or_default();
        self.view = Arc::new(View { known: OnceLock::new(), process: OnceLock::new(), ..view });
        self.found_at = None;
        self.space = Space::fresh();
        if self.shares_file_system {
            self.space.expose();
        }
    }

    /// What it runs now, having just executed it; remembered, with what else
    /// stays true. What does not is only if the process is `asked` for now.
    pub(super) fn now_running(&mut self, tid: pid_t, registers: &Registers, asked: bool) -> Program {
        let (pointer, narrow) = registers.stack();
        let stack = InitialStack::read(&TraceeMemory(tid), pointer, narrow);
        let ids = stack.as_ref().and_then(|stack| stack.user.zip(stack.group));
        // They are the program's own numbers, which can be others here.
        let same = |ids: &(u32, u32)| {
            self.origin.ids == Some(*ids) || !procfs::may_stand_for_others(*ids) && procfs::owner(tid) == Some(*ids)
        };
        self.origin.ids = ids.filter(same);
        let comm = stack.as_ref().filter(|_| asked).and_then(InitialStack::comm);
        let program = match stack {
            Some(stack) => Program::begun(tid, stack.argv),
            None => Program::of(tid),
        };
        let container = self.origin.container.get_or_insert_with(|| Container::of(tid)).clone();
        let known = Known {
            pid: Some(self.pid),
            // One that ends gives up its memory before its children.
            parent: self.origin.parent.filter(|parent| asked && sys::has_memory(*parent)),
            start_time: self.origin.start_time,
            program: Some(program.clone()),
            comm,
            ids: self.origin.ids,
            cwd: None,
            container: Some(container),
        };
        let _known = self.view.known.set(known);
        program
    }

    /// Somebody who answers questions about this task while it is stopped.
    /// Without `keep` nothing of the answers is remembered.
    pub(super) fn oracle(&self, tid: pid_t, keep: bool) -> Box<dyn Oracle> {
        let view = if keep { Arc::downgrade(&self.view) } else { Weak::new() };
        Box::new(TaskOracle { ids: Ids { pid: self.pid, tid }, view, crossed: self.crossed.clone() })
    }
}

#[derive(Debug)]
struct TaskOracle {
    ids: Ids,
    view: Weak<View>,
    crossed: Arc<Crossed>,
}

impl TaskOracle {
    /// The task's view; an empty one if it has been thrown away meanwhile.
    fn view(&self) -> Arc<View> {
        self.view.upgrade().unwrap_or_default()
    }
}

impl Oracle for TaskOracle {
    fn process(&self) -> Arc<Process> {
        let view = self.view();
        let make = || {
            let cwd = view.cwd.get().and_then(|cwd| resolve::bare_name_of(cwd.as_fd()).ok());
            let known = view.known.get().cloned().unwrap_or_default();
            Arc::new(procfs::process_of(self.ids.tid, Known { cwd, ..known }))
        };
        view.process.get_or_init(make).clone()
    }

    fn path(&self, call: &Call, index: usize) -> Option<ResolvedPath> {
        let Kind::Path(rule) = &call.spec.args.get(index)?.kind else { return None };
        let view = self.view();
        let attached = |fd: BorrowedFd<'_>| view.attached.has(self.ids.tid, fd);
        let find_root = || match Root::of(self.ids.tid)? {
            Root::Ours => Ok((Root::Ours, Attachment::Stays)),
            Root::Theirs(fd) => match view.attached.place(self.ids.tid, fd.as_fd()) {
                Attachment::Nowhere => Err(resolve::unplaced()),
                place => Ok((Root::Theirs(fd), place)),
            },
        };
        let cwd = || view.cwd(self.ids.tid);
        let of_the_moment;
        let root = match view.root.get() {
            Some(root) => Some(root),
            None => match find_root() {
                Ok((root, Attachment::Stays)) => Some(view.root.get_or_init(|| root)),
                Ok((root, _)) => {
                    of_the_moment = root;
                    Some(&of_the_moment)
                }
                // A failure is not kept: it can be of the moment.
                Err(error) => {
                    self.crossed.note_error(&error);
                    None
                }
            },
        };
        let place = Place { ids: self.ids, crossed: &self.crossed, attached: &attached, root, cwd: &cwd };
        Some(resolve::path_argument(&place, call, index, rule))
    }

    fn descriptor(&self, fd: i32) -> Option<BString> {
        resolve::descriptor(self.ids.tid, fd)
    }

    fn environment(&self, call: &Call) -> Option<Strings> {
        decode::environment(call, &TraceeMemory(self.ids.tid))
    }
}
