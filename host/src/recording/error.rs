//! What can be wrong with a trace.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::format::{MAX_LINE, VERSION};

/// A trace that cannot be read, or not further: which, where and why.
#[derive(Debug)]
pub struct TraceError {
    /// The trace, as the caller named it.
    pub path: PathBuf,
    /// Line from 1; 0 if the trouble is with the file as a whole.
    pub line: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl TraceError {
    /// Whether the trace merely stops early: all that came before is whole
    /// and may be used.
    pub fn is_truncated(&self) -> bool {
        matches!(self.problem, Problem::Truncated { .. })
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for TraceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Open(error) | Problem::Read(error) => Some(error),
            _ => None,
        }
    }
}

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no such file, or no permission.
    #[error("cannot open the trace: {0}")]
    Open(#[source] io::Error),
    /// The disk, or damaged compression.
    #[error("cannot read on: {0}; if the file is compressed, it may be damaged (`zstd -t` tells)")]
    Read(#[source] io::Error),
    /// Nothing in it.
    #[error("not a trace: the file is empty; make one with `host record -o TRACE -- CMD`")]
    Empty,
    /// Not JSON.
    #[error("not a trace: the first line is not JSON ({0}); make one with `host record -o TRACE -- CMD`")]
    NotJson(String),
    /// JSON of something else.
    #[error(
        "not a trace: the first line has no \"tracegate\":\"trace\"{0}; make one with `host record -o TRACE -- CMD`"
    )]
    Foreign(&'static str),
    /// The header is ours but broken.
    #[error("the header is wrong: {0}")]
    Header(String),
    /// Made by a later version.
    #[error("the trace has format version {found}, this host reads up to version {VERSION}; use host {host} or later")]
    Future {
        /// Its version.
        found: u64,
        /// The host that wrote it.
        host: String,
    },
    /// It stops early.
    #[error(
        "the trace is cut off: {what}; its first {events} events are whole. \
         The recorder was killed or the copy is incomplete; --allow-truncated goes on with what is there"
    )]
    Truncated {
        /// What is missing.
        what: &'static str,
        /// How many events came before.
        events: u64,
    },
    /// A line beyond all measure.
    #[error("the line is longer than {} MiB, which no recorder writes", MAX_LINE >> 20)]
    TooLong,
    /// Not UTF-8, not JSON, or fields missing or wrong.
    #[error("{0}")]
    Malformed(String),
    /// A record that is not part of the format.
    #[error("unknown record type {0:?}; version {VERSION} has no such record")]
    UnknownType(String),
    /// An architecture that this host does not know.
    #[error("unknown architecture {0:?}")]
    UnknownArch(String),
    /// The number has another name here.
    #[error(
        "system call {nr} of {arch} is recorded as {recorded:?} but is {ours:?} to this host; \
         replay with the host version that recorded it, {host}"
    )]
    Syscall {
        /// Architecture.
        arch: String,
        /// Number.
        nr: u32,
        /// Name in the trace.
        recorded: String,
        /// Name here.
        ours: String,
        /// Version of the recorder.
        host: String,
    },
    /// The call has other arguments here.
    #[error(
        "{syscall} is recorded with the arguments ({recorded}) but has ({ours}) to this host; \
         replay with the host version that recorded it, {host}"
    )]
    Arguments {
        /// Name of the call.
        syscall: String,
        /// In the trace.
        recorded: String,
        /// Here.
        ours: String,
        /// Version of the recorder.
        host: String,
    },
    /// No process entry came before.
    #[error("the event refers to process {0}, which no line before describes")]
    UnknownProcess(u64),
    /// A process id beyond the limit.
    #[error("process entry with id {0}; ids go from 1 to {max}", max = super::format::MAX_PROCESSES)]
    ProcessId(u64),
    /// The process table has grown beyond all measure.
    #[error("the processes described up to here take more than {} MiB", super::format::MAX_PROCESS_BYTES >> 20)]
    ProcessTable,
    /// Events out of order.
    #[error("event {seq} comes after event {last}; numbers must rise from 1")]
    Backwards {
        /// The number found.
        seq: u64,
        /// The number before it.
        last: u64,
    },
    /// A verdict on what has not happened.
    #[error("a verdict on event {seq}, but the last event is {last}")]
    EarlyVerdict {
        /// The number found.
        seq: u64,
        /// The last event's number.
        last: u64,
    },
    /// Events are missing in the middle.
    #[error("the end says {recorded} events but there were {found}; the trace has been edited or damaged")]
    Count {
        /// What the end line says.
        recorded: u64,
        /// What there was.
        found: u64,
    },
    /// Lines after the end.
    #[error("there is more after the end line; traces cannot be joined")]
    AfterEnd,
}
