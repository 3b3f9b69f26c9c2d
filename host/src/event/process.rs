//! Processes: who they are, and how they come and go.

use std::ops::BitOr;

use bstr::BString;

/// A process as it was at an event. The fields are those of `process` in
/// `wit/plugin.wit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is documented in wit/plugin.wit")]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub start_time: u64,
    pub exe: BString,
    pub comm: BString,
    pub argv: Vec<BString>,
    pub cwd: BString,
    /// Real, effective, saved, file-system.
    pub uids: [u32; 4],
    /// Real, effective, saved, file-system.
    pub gids: [u32; 4],
    pub capabilities: u64,
    pub container: Option<String>,
}

impl Process {
    /// A process of which nothing but the id is known: it was gone before it
    /// could be looked at.
    pub fn unknown(pid: i32) -> Self {
        Self { pid, uids: [u32::MAX; 4], gids: [u32::MAX; 4], ..Self::default() }
    }
}

/// What happened to a process or thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It made a child.
    Forked {
        /// Id of the new process or thread.
        child: i32,
        /// It is a thread of the same process.
        thread: bool,
    },
    /// It runs a new program.
    Executed {
        /// Executable before.
        previous_exe: BString,
    },
    /// It is gone.
    Exited(ExitStatus),
}

/// Kinds of [`ProcessEvent`] that are wanted. Those that nobody wants cost no
/// stop and no look at the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEvents {
    /// [`ProcessEvent::Forked`].
    pub forks: bool,
    /// [`ProcessEvent::Executed`].
    pub execs: bool,
    /// [`ProcessEvent::Exited`].
    pub exits: bool,
}

impl ProcessEvents {
    /// Every kind.
    pub const ALL: Self = Self { forks: true, execs: true, exits: true };

    /// Whether this event is wanted.
    pub fn want(self, event: &ProcessEvent) -> bool {
        match event {
            ProcessEvent::Forked { .. } => self.forks,
            ProcessEvent::Executed { .. } => self.execs,
            ProcessEvent::Exited(_) => self.exits,
        }
    }

    /// Whether any is.
    pub fn any(self) -> bool {
        self.forks || self.execs || self.exits
    }
}

impl BitOr for ProcessEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { forks: self.forks || other.forks, execs: self.execs || other.execs, exits: self.exits || other.exits }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// By exit(2).
    Code(u8),
    /// By a signal.
    Signal(u8),
}
