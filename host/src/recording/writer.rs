//! Writes a trace while the traced program runs.
//!
//! The caller's thread only turns events into lines, in memory. A thread of
//! the writer's own compresses and writes them, so that the tracee does not
//! wait for a disk. It takes what is there as soon as that is 64 KiB, or
//! 100 ms after the first line of it came; only if 8 MiB wait does the caller
//! wait too.
//!
//! What is handed to the operating system is always whole lines, and a
//! compressed stream is flushed with each hand-over. A host that is killed
//! therefore leaves a trace that lacks at most the last 100 ms and the end
//! line, and is otherwise readable. (Lines survive the host, not the machine:
//! the writer does not fsync.)
//!
//! This module never looks at a tracee: events must have been captured.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::arguments::ArgumentsRef;
use super::encoding::{BytesListRef, BytesRef, Registers, Signed, Word};
use super::format::{Header, MAX_LINE, MAX_PROCESSES, VerdictRecord, arch_name};
use crate::event::{Answer, Errno, Event, ExitStatus, Kind, Process, ProcessEvent};

/// Lines wait no longer than this.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// Lines wait no longer than until there is so much of them.
const FLUSH_AT: usize = 64 << 10;
/// The caller waits if so much waits to be written.
const FULL_AT: usize = 8 << 20;
/// The writer forgets the processes that it has described if their entries
/// take more than this.
const FORGET_AT: usize = 16 << 20;
/// Most verdicts that wait for their event. One event has one of each plugin.
const MOST_EARLY: usize = 256;
/// zstd's level: the fastest regular one. A trace shrinks to about a twentieth.
const LEVEL: i32 = 1;

/// Whether a trace is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Plain JSON Lines.
    None,
    /// One zstd frame.
    Zstd,
}

impl Compression {
    /// What the name of a trace asks for: zstd if it ends in `.zst`.
    pub fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|extension| extension == "zst") { Self::Zstd } else { Self::None }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events in the trace.
    pub events: u64,
    /// Events that are missing from it.
    pub dropped: u64,
}

/// A trace that is being written.
///
/// Dropping it writes what has been given to it, but no end line: the trace
/// then counts as truncated. Call [`Writer::finish`].
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
    processes: Processes,
    line: Vec<u8>,
    last_seq: u64,
    /// Verdicts on events that have not come yet: number of the event, line.
    early: Vec<(u64, Box<[u8]>)>,
    summary: Summary,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl Writer {
    /// Creates the file, readable for its owner only: a trace holds what
    /// programs were given as arguments, passwords among it. The name's
    /// ending decides about compression.
    ///
    /// # Errors
    /// If the file cannot be created or the header not be written.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        // The mode above counts for a new file only.
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        Self::new(Box::new(file), Compression::of(path), header)
    }

    /// Writes a trace to anything.
    ///
    /// # Errors
    /// If the compressor or the thread cannot be made.
    pub fn new(out: Box<dyn Write + Send>, compression: Compression, header: &Header) -> io::Result<Self> {
        let mut out = Output::new(out, compression)?;
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        out.write(&line)?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("trace-writer".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let written = shared.drain_into(out);
                if let Err(error) = &written {
                    shared.lock().failure = Some((error.kind(), error.to_string()));
                    shared.changed.notify_all();
                }
                written
            }
        })?;
        line.clear();
        Ok(Self {
            shared,
            thread: Some(thread),
            processes: Processes::default(),
            line,
            last_seq: 0,
            early: Vec::new(),
            summary: Summary::default(),
        })
    }

    /// Writes an event, after a description of its process if that is new.
    /// The event must have been captured, and its number be higher than that
    /// of the event before.
    ///
    /// # Errors
    /// If an earlier line could not be written (the disk is full), or the
    /// numbers do not rise.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        if event.seq <= self.last_seq {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("event {} given to the recorder after event {}", event.seq, self.last_seq),
            ));
        }
        self.line.clear();
        let process = self.processes.entry(event, &mut self.line)?;
        let start = self.line.len();
        serde_json::to_writer(&mut self.line, &EventRef { event, process })?;
        self.line.push(b'\n');
        if start > MAX_LINE || self.line.len() - start > MAX_LINE {
            // Cannot happen with what the decoder reads at most; but a reader
            // would refuse the whole trace.
            self.processes = Processes::default();
            self.summary.dropped += 1;
            return Ok(());
        }
        self.last_seq = event.seq;
        self.summary.events += 1;
        if !self.early.is_empty() {
            for (_, verdict) in self.early.extract_if(.., |(seq, _)| *seq <= event.seq) {
                self.line.extend_from_slice(&verdict);
            }
        }
        self.shared.push(&self.line)
    }

    /// Writes what a plugin answered to an event; nothing if the answer says
    /// nothing. A gate's verdict may come before its event, which is captured
    /// when the tracee has what it waits for: then it is kept until the event
    /// comes. Of an answer that is too long for a trace the alerts are left
    /// out, and its `fault` says so.
    ///
    /// # Errors
    /// As [`Writer::event`].
    pub fn verdict(&mut self, verdict: &VerdictRecord) -> io::Result<()> {
        if !verdict.answer.matters() {
            return Ok(());
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, verdict)?;
        if self.line.len() >= MAX_LINE {
            let fault = Some(format!("the verdict takes {} bytes, too many for a trace", self.line.len()));
            let answer = Answer { action: verdict.answer.action, alerts: Vec::new(), fault };
            self.line.clear();
            serde_json::to_writer(&mut self.line, &VerdictRecord { answer, ..verdict.clone() })?;
        }
        self.line.push(b'\n');
        if verdict.seq <= self.last_seq {
            return self.shared.push(&self.line);
        }
        if self.early.len() < MOST_EARLY {
            self.early.push((verdict.seq, self.line.as_slice().into()));
        } else {
            // Events are not recorded at all; the end line shall tell.
            self.summary.dropped += 1;
        }
        Ok(())
    }

    /// Counts events that could not be recorded. The end line tells.
    pub fn dropped(&mut self, events: u64) {
        self.summary.dropped += events;
    }

    /// Writes the end line and waits until all is written.
    ///
    /// # Errors
    /// If anything could not be written.
    pub fn finish(mut self) -> io::Result<Summary> {
        // Their events never came.
        self.summary.dropped += self.early.len() as u64;
        self.line.clear();
        serde_json::to_writer(&mut self.line, &EndRef(self.summary))?;
        self.line.push(b'\n');
        self.shared.push(&self.line)?;
        self.stop()?;
        Ok(self.summary)
    }

    fn stop(&mut self) -> io::Result<()> {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(_)) => Err(io::Error::other("the trace writer's thread failed")),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Who wants to know of an error calls `finish`.
        let _ = self.stop();
    }
}

/// Lines on their way from the caller to the writing thread.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    closed: bool,
    /// Why the thread has given up.
    failure: Option<(io::ErrorKind, String)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds whole lines; waits while there are too many.
    fn push(&self, lines: &[u8]) -> io::Result<()> {
        let mut queue = self.lock();
        while queue.lines.len() >= FULL_AT && queue.failure.is_none() {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some((kind, message)) = &queue.failure {
            return Err(io::Error::new(*kind, message.clone()));
        }
        let before = queue.lines.len();
        queue.lines.extend_from_slice(lines);
        // The thread sleeps in two ways only: until there is something, and
        // until there is much.
        let wake = before == 0 || (before < FLUSH_AT && queue.lines.len() >= FLUSH_AT);
        drop(queue);
        if wake {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The writing thread.
    fn drain_into(&self, mut out: Output) -> io::Result<()> {
        let mut lines = Vec::new();
        loop {
            let mut queue = self.lock();
            while queue.lines.is_empty() && !queue.closed {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let due = Instant::now() + FLUSH_AFTER;
            while queue.lines.len() < FLUSH_AT && !queue.closed {
                let Some(left) = due.checked_duration_since(Instant::now()) else { break };
                queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut queue.lines, &mut lines);
            let closed = queue.closed;
            drop(queue);
            self.changed.notify_all();
            out.write(&lines)?;
            lines.clear();
            lines.shrink_to(2 * FLUSH_AT);
            if closed {
                return out.finish();
            }
        }
    }
}

enum Output {
    Plain(Box<dyn Write + Send>),
    Zstd(Box<zstd::Encoder<'static, Box<dyn Write + Send>>>),
}

impl Output {
    fn new(out: Box<dyn Write + Send>, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(out),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    /// Whole lines, all the way to the operating system.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let out: &mut dyn Write = match self {
            Self::Plain(out) => out,
            Self::Zstd(encoder) => encoder,
        };
        out.write_all(lines)?;
        out.flush()
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut out) => out.flush(),
            Self::Zstd(encoder) => encoder.finish()?.flush(),
        }
    }
}

/// Which processes the trace has described, and under which ids.
#[derive(Default)]
struct Processes {
    /// Thread → what it was last known as, and the id of that entry.
    of_thread: HashMap<i32, (Arc<Process>, u32)>,
    /// Entry (without its id) → id. Threads of one process, and a process
    /// that changes to and fro, share entries.
    by_entry: HashMap<Box<[u8]>, u32>,
    bytes: usize,
}

impl Processes {
    /// The id of the event's process. Writes an entry if there is none yet.
    fn entry(&mut self, event: &Event, out: &mut Vec<u8>) -> io::Result<u32> {
        let process = event.process();
        if let Some((known, id)) = self.of_thread.get_mut(&event.tid) {
            if Arc::ptr_eq(known, process) {
                return Ok(*id);
            }
            if known == process {
                *known = Arc::clone(process);
                return Ok(*id);
            }
        }
        let entry = serde_json::to_vec(&ProcessRef(process))?;
        if self.bytes > FORGET_AT || self.of_thread.len() >= MAX_PROCESSES as usize {
            *self = Self::default();
        }
        let id = if let Some(id) = self.by_entry.get(&*entry) {
            *id
        } else {
            if self.by_entry.len() >= MAX_PROCESSES as usize {
                *self = Self::default();
            }
            let id = self.by_entry.len() as u32 + 1;
            write!(out, "{{\"type\":\"process\",\"id\":{id},")?;
            out.extend_from_slice(&entry[1..]);
            out.push(b'\n');
            self.bytes += entry.len();
            self.by_entry.insert(entry.into(), id);
            id
        };
        if matches!(event.kind, Kind::Process(ProcessEvent::Exited(_))) {
            self.of_thread.remove(&event.tid);
        } else {
            self.of_thread.insert(event.tid, (Arc::clone(process), id));
        }
        Ok(id)
    }
}

struct ProcessRef<'a>(&'a Process);

impl Serialize for ProcessRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let process = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("pid", &process.pid)?;
        map.serialize_entry("parent", &process.parent)?;
        map.serialize_entry("start_time", &process.start_time)?;
        map.serialize_entry("exe", &BytesRef(&process.exe))?;
        map.serialize_entry("comm", &BytesRef(&process.comm))?;
        map.serialize_entry("argv", &BytesListRef(&process.argv))?;
        map.serialize_entry("cwd", &BytesRef(&process.cwd))?;
        map.serialize_entry("uids", &process.uids)?;
        map.serialize_entry("gids", &process.gids)?;
        map.serialize_entry("capabilities", &Word(process.capabilities))?;
        if let Some(container) = &process.container {
            map.serialize_entry("container", container)?;
        }
        map.end()
    }
}

struct EventRef<'a> {
    event: &'a Event,
    process: u32,
}

impl Serialize for EventRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(
            "type",
            match &event.kind {
                Kind::Entry(_) => "entry",
                Kind::Exit(..) => "exit",
                Kind::Process(ProcessEvent::Forked { .. }) => "process_fork",
                Kind::Process(ProcessEvent::Executed { .. }) => "process_exec",
                Kind::Process(ProcessEvent::Exited(_)) => "process_exit",
            },
        )?;
        map.serialize_entry("seq", &event.seq)?;
        map.serialize_entry("time_ns", &event.time_ns)?;
        map.serialize_entry("pid", &event.pid)?;
        map.serialize_entry("tid", &event.tid)?;
        map.serialize_entry("process", &self.process)?;
        if let Some(call) = event.call() {
            map.serialize_entry("arch", arch_name(call.arch))?;
            map.serialize_entry("nr", &call.nr)?;
            map.serialize_entry("syscall", &call.arch.syscall_name(call.nr))?;
            map.serialize_entry("registers", &Registers(call.registers))?;
            map.serialize_entry("args", &ArgumentsRef { event, call })?;
        }
        match &event.kind {
            Kind::Entry(_) => {}
            Kind::Exit(_, outcome) => {
                map.serialize_entry("result", &Signed(outcome.result))?;
                if let Some(name) = outcome.errno().and_then(Errno::name_of) {
                    map.serialize_entry("errno", name)?;
                }
                map.serialize_entry("entry_seq", &outcome.entry_seq)?;
                map.serialize_entry("duration_ns", &outcome.duration_ns)?;
            }
            Kind::Process(ProcessEvent::Forked { child, thread }) => {
                map.serialize_entry("child", child)?;
                map.serialize_entry("thread", thread)?;
            }
            Kind::Process(ProcessEvent::Executed { previous_exe }) => {
                map.serialize_entry("previous_exe", &BytesRef(previous_exe))?;
            }
            Kind::Process(ProcessEvent::Exited(ExitStatus::Code(code))) => map.serialize_entry("code", code)?,
            Kind::Process(ProcessEvent::Exited(ExitStatus::Signal(signal))) => {
                map.serialize_entry("signal", signal)?;
            }
        }
        map.end()
    }
}

struct EndRef(Summary);

impl Serialize for EndRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "end")?;
        map.serialize_entry("events", &self.0.events)?;
        map.serialize_entry("dropped", &self.0.dropped)?;
        map.end()
    }
}
