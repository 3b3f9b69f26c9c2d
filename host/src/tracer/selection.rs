//! Which processes to attach to.
//!
//! A process is described by what procfs says of it (proc(5)). Never chosen:
//! the host itself, kernel threads, and, where all processes are meant, those
//! that the host comes from and the pause process of a pod.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bstr::ByteSlice as _;
use libc::pid_t;
use wildmatch::WildMatch;

use super::procfs::{self, Status};

/// What to attach to.
#[derive(Clone, Debug)]
pub enum Selection {
    /// These processes and their descendants.
    Pids(Vec<pid_t>),
    /// All processes that fulfil the filters, also later ones: procfs is
    /// looked through again after each interval.
    All(Filters, Duration),
}

impl Selection {
    /// The processes that are meant now.
    pub(super) fn processes(&self) -> Vec<pid_t> {
        match self {
            Self::Pids(pids) => with_descendants(pids),
            Self::All(filters, _) => all(filters),
        }
    }

    /// Whether a process is named by its number.
    pub(super) fn names(&self, pid: pid_t) -> bool {
        matches!(self, Self::Pids(pids) if pids.contains(&pid))
    }
}

/// What a process must be; without any, all are meant.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Name of its executable's file, or its command name; `*` and `?` match.
    pub name: Option<String>,
    /// Effective user.
    pub user: Option<u32>,
    /// Beginning of its container's id.
    pub container: Option<String>,
    /// Its arguments, joined by spaces; `*` and `?` match.
    pub command: Option<String>,
}

/// Why a process was not attached to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Skipped {
    /// There is none.
    #[error("does not exist")]
    Vanished,
    /// It has ended.
    #[error("has ended and waits for its parent")]
    Ended,
    /// The number is a thread's.
    #[error("is a thread of process {0}: give --pid {0}")]
    Thread(pid_t),
    /// It is the host.
    #[error("is the host itself")]
    Ourselves,
    /// It never leaves the kernel.
    #[error("is a kernel thread")]
    Kernel,
    /// Who reads its memory can be kept waiting.
    #[error(
        "has a descriptor of userfaultfd(2): reading its memory could wait for ever; started by `host run` it may have one"
    )]
    ServesFaults,
    /// A task has one tracer at most.
    #[error("is already traced by process {0} ({1}): end that tracer first")]
    Traced(pid_t, String),
    /// The kernel does not let us.
    #[error(
        "cannot be traced: {0}; it needs the same user and Yama's consent (/proc/sys/kernel/yama/ptrace_scope), or capability SYS_PTRACE in its user namespace. `host doctor --pid {1}` says more"
    )]
    Forbidden(String, pid_t),
}

impl Skipped {
    /// Why `PTRACE_SEIZE` answered `error`.
    pub(super) fn why(status: &Status, error: std::io::Error) -> Self {
        match status.tracer {
            0 => Self::Forbidden(error.to_string(), status.pid),
            tracer => {
                let name = Status::of(tracer).map_or_else(|| "of another namespace".into(), |tracer| tracer.name);
                Self::Traced(tracer, name)
            }
        }
    }
}

/// Whether `pid` is a process that can be attached to, as far as procfs tells.
pub(super) fn attachable(pid: pid_t) -> Result<(), Skipped> {
    let status = Status::of(pid).ok_or(Skipped::Vanished)?;
    if status.pid == std::process::id() as pid_t {
        Err(Skipped::Ourselves)
    } else if status.pid != pid {
        Err(Skipped::Thread(status.pid))
    } else if status.is_kernel_thread() {
        Err(Skipped::Kernel)
    } else if status.ended() && procfs::threads(pid).len() < 2 {
        Err(Skipped::Ended)
    } else if procfs::holds(pid, "anon_inode:[userfaultfd]") {
        Err(Skipped::ServesFaults)
    } else {
        Ok(())
    }
}

/// These processes and all that descend from them, as procfs has them now.
pub(super) fn with_descendants(pids: &[pid_t]) -> Vec<pid_t> {
    let mut children: HashMap<pid_t, Vec<pid_t>> = HashMap::new();
    for pid in procfs::processes() {
        children.entry(procfs::parent(pid)).or_default().push(pid);
    }
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut queue: Vec<pid_t> = pids.iter().rev().copied().collect();
    while let Some(pid) = queue.pop() {
        if seen.insert(pid) {
            found.push(pid);
            queue.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// All processes that fulfil `filters`.
pub(super) fn all(filters: &Filters) -> Vec<pid_t> {
    let ancestors = ancestors();
    let mut chosen = procfs::processes();
    chosen.retain(|pid| !ancestors.contains(pid) && filters.choose(*pid));
    chosen
}

/// This process and those that it comes from.
pub(super) fn ancestors() -> HashSet<pid_t> {
    let mut found = HashSet::new();
    let mut pid = std::process::id() as pid_t;
    while pid != 0 && found.insert(pid) {
        pid = procfs::parent(pid);
    }
    found
}

/// The process that holds a pod's namespaces and does nothing else.
const PAUSE: [&str; 3] = ["pause", "ecs-pause", "catatonit"];

impl Filters {
    /// Whether a process is meant. One that cannot be told is not.
    pub(super) fn choose(&self, pid: pid_t) -> bool {
        let Some(status) = Status::of(pid) else { return false };
        if status.ended() || status.is_kernel_thread() || status.tracer == std::process::id() as pid_t {
            return false;
        }
        if self.user.is_some_and(|user| user != status.user) {
            return false;
        }
        let process = procfs::process(pid);
        let base = process.exe.rsplit_str("/").next().unwrap_or_default().to_str_lossy().into_owned();
        if PAUSE.contains(&base.as_str()) && PAUSE.contains(&status.name.as_str()) {
            return false;
        }
        let matches = |pattern: &Option<String>, texts: &[&str]| {
            pattern.as_ref().is_none_or(|pattern| texts.iter().any(|text| WildMatch::new(pattern).matches(text)))
        };
        let command = bstr::join(" ", &process.argv).to_str_lossy().into_owned();
        matches(&self.name, &[&base, &status.name])
            && matches(&self.command, &[&command])
            && self
                .container
                .as_ref()
                .is_none_or(|id| process.container.as_ref().is_some_and(|container| container.starts_with(id.as_str())))
    }
}
