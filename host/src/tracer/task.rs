//! What the tracer remembers of each task (thread) that it traces.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bstr::BString;
use libc::pid_t;

use super::procfs;
use super::resolve::{self, Ids, Root};
use crate::decode::Kind;
use crate::event::{Call, Event, Oracle, Process, ResolvedPath};

/// Key: thread id.
pub(super) type Tasks = HashMap<pid_t, Task>;

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    /// Its process.
    pub(super) pid: pid_t,
    /// The call that it is in, if its exit is wanted.
    pub(super) pending: Option<Pending>,
    /// Its executable, if process events are wanted.
    pub(super) exe: BString,
    /// Its end has been told.
    pub(super) end_told: bool,
    view: View,
}

/// A call between entry and exit.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) entry: Arc<Event>,
    pub(super) since: Instant,
    /// Somebody wants the exit event; otherwise only we do.
    pub(super) wanted: bool,
}

/// What was learned of a task's surroundings; dropped when a call may have
/// changed it.
#[derive(Clone, Debug, Default)]
struct View {
    generation: u64,
    root: Arc<OnceLock<Root>>,
    process: Arc<OnceLock<Arc<Process>>>,
}

impl Task {
    pub(super) fn new(pid: pid_t) -> Self {
        Self { pid, pending: None, exe: BString::default(), end_told: false, view: View::default() }
    }

    /// Forgets who it is: its credentials or its program changed.
    pub(super) fn forget_process(&mut self) {
        self.view.process = Arc::default();
    }

    /// Starts with what is known of the file system of the task that made it.
    pub(super) fn inherit(&mut self, parent: &Self) {
        self.view = View { process: Arc::default(), ..parent.view.clone() };
        self.exe = parent.exe.clone();
    }

    /// Somebody who answers questions about this task while it is stopped.
    /// `generation` counts the calls, of any task, that may have changed a
    /// root or a working directory: tasks can share them.
    pub(super) fn oracle(&mut self, tid: pid_t, generation: u64) -> Box<dyn Oracle> {
        if self.view.generation != generation {
            self.view = View { generation, ..View::default() };
        }
        Box::new(TaskOracle { ids: Ids { pid: self.pid, tid }, view: self.view.clone() })
    }
}

#[derive(Debug)]
struct TaskOracle {
    ids: Ids,
    view: View,
}

impl TaskOracle {
    fn root(&self) -> io::Result<Root> {
        if let Some(root) = self.view.root.get() {
            return Ok(root.clone());
        }
        // A failure is not remembered: it can be of the moment.
        let root = Root::of(self.ids.tid)?;
        Ok(self.view.root.get_or_init(|| root).clone())
    }
}

impl Oracle for TaskOracle {
    fn process(&self) -> Arc<Process> {
        self.view.process.get_or_init(|| Arc::new(procfs::process(self.ids.tid))).clone()
    }

    fn path(&self, call: &Call, index: usize) -> Option<ResolvedPath> {
        match &call.spec.args.get(index)?.kind {
            Kind::Path(rule) => Some(resolve::path_argument(self.ids, &self.root(), call, index, rule)),
            _ => None,
        }
    }

    fn descriptor(&self, fd: i32) -> Option<BString> {
        resolve::descriptor(self.ids.tid, fd)
    }
}
