//! The processes that a trace has described so far.

use std::sync::Arc;

use serde::Deserialize;

use crate::event::Process;
use crate::recording::encoding::{Bounded, Bytes, Word};
use crate::recording::error::Problem;
use crate::recording::format::{MAX_PROCESS_BYTES, MAX_PROCESSES};

/// A process entry.
#[derive(Deserialize)]
pub(super) struct ProcessLine {
    id: u64,
    pid: i32,
    parent: i32,
    start_time: u64,
    exe: Bytes,
    comm: Bytes,
    argv: Bounded<Bytes, 65_536>,
    cwd: Bytes,
    uids: [u32; 4],
    gids: [u32; 4],
    capabilities: Word,
    container: Option<String>,
}

/// Processes that the trace has described.
#[derive(Default)]
pub(super) struct Processes {
    /// Id → process and size of its line. Ids are small by the format.
    entries: Vec<Option<(Arc<Process>, usize)>>,
    bytes: usize,
}

impl Processes {
    pub(super) fn get(&self, id: u64) -> Result<Arc<Process>, Problem> {
        let entry = usize::try_from(id).ok().and_then(|id| self.entries.get(id)?.as_ref());
        entry.map(|(process, _)| Arc::clone(process)).ok_or(Problem::UnknownProcess(id))
    }

    pub(super) fn set(&mut self, line: ProcessLine, size: usize) -> Result<(), Problem> {
        if line.id == 0 || line.id > u64::from(MAX_PROCESSES) {
            return Err(Problem::ProcessId(line.id));
        }
        let id = line.id as usize;
        if self.entries.len() <= id {
            self.entries.resize(id + 1, None);
        }
        let process = Process {
            pid: line.pid,
            parent: line.parent,
            start_time: line.start_time,
            exe: line.exe.0,
            comm: line.comm.0,
            argv: line.argv.0.into_iter().map(|bytes| bytes.0).collect(),
            cwd: line.cwd.0,
            uids: line.uids,
            gids: line.gids,
            capabilities: line.capabilities.0,
            container: line.container,
        };
        let before = self.entries[id].replace((Arc::new(process), size)).map_or(0, |(_, size)| size);
        self.bytes = self.bytes + size - before;
        if self.bytes > MAX_PROCESS_BYTES {
            return Err(Problem::ProcessTable);
        }
        Ok(())
    }
}
