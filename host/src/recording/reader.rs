//! Reads a trace back.
//!
//! A trace is checked while it is read: whatever is in it, there come events
//! or an error that names the line. [`Reader`] works on the caller's thread;
//! [`Reader::in_background`] moves the work to another, which a replay needs
//! to be as fast as the plugin.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::arguments::Arguments;
use super::encoding::{Bounded, Bytes, Registers, Signed, Text, Word};
use super::error::{Problem, TraceError};
use super::format::{
    Header, HeaderLine, MAX_PROCESS_BYTES, MAX_PROCESSES, VERSION, VerdictLine, VerdictRecord, arch_named,
};
use super::lines::{Line, LineError, Lines};
use crate::decode::{Arch, Changes, Spec};
use crate::event::{Call, Event, ExitStatus, Kind, Outcome, Process, ProcessEvent};

/// First bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Largest window that a compressed trace may ask for: 128 MiB, what
/// `zstd --ultra -22` uses.
const WINDOW_LOG: u32 = 27;

/// One thing that a trace tells.
#[derive(Debug)]
pub enum Record {
    /// Something happened.
    Event(Event),
    /// A plugin answered, live.
    Verdict(VerdictRecord),
    /// The trace is whole.
    End {
        /// Events in it.
        events: u64,
        /// Events that the recorder had to leave out.
        dropped: u64,
    },
}

/// Side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It is about to run.
    Entry,
    /// It has run.
    Exit,
}

/// How far a reader has come; may be asked from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    size: u64,
    bytes: AtomicU64,
    events: AtomicU64,
}

impl Progress {
    /// Size of the file; 0 if that is not known (a pipe).
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the file read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Events read so far, those among them that were skipped.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

type Filter = Box<dyn FnMut(Arch, u32, Phase) -> bool + Send>;

/// A trace that is being read: an iterator of its records. After an error
/// there are no more.
pub struct Reader {
    path: PathBuf,
    lines: Lines<Box<dyn Read + Send>>,
    header: Header,
    processes: Processes,
    declarations: Declarations,
    progress: Arc<Progress>,
    events: u64,
    last_seq: u64,
    filter: Option<Filter>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Reading,
    /// The end line has been read.
    Ended,
    /// Nothing more comes.
    Done,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("line", &self.lines.number()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a trace and reads its header. Whether it is compressed is seen
    /// from its first bytes, whatever its name.
    ///
    /// # Errors
    /// If it cannot be opened or is not a trace that this host can read.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let fail = |problem| TraceError { path: path.to_owned(), line: 0, problem };
        let file = File::open(path).map_err(|error| fail(Problem::Open(error)))?;
        let metadata = file.metadata().map_err(|error| fail(Problem::Open(error)))?;
        if metadata.is_dir() {
            return Err(fail(Problem::Open(std::io::ErrorKind::IsADirectory.into())));
        }
        Self::with_size(path, file, metadata.len())
    }

    /// Reads a trace from anything; `name` stands for it in errors.
    ///
    /// # Errors
    /// If it is not a trace that this host can read.
    pub fn new(name: &Path, input: impl Read + Send + 'static) -> Result<Self, TraceError> {
        Self::with_size(name, input, 0)
    }

    fn with_size(path: &Path, input: impl Read + Send + 'static, size: u64) -> Result<Self, TraceError> {
        let progress = Arc::new(Progress { size, ..Progress::default() });
        let input = Counted { input, progress: Arc::clone(&progress) };
        let input = decompressed(input)
            .map_err(|error| TraceError { path: path.to_owned(), line: 0, problem: Problem::Read(error) })?;
        let mut lines = Lines::new(input);
        let header = read_header(&mut lines).map_err(|problem| TraceError {
            path: path.to_owned(),
            line: u64::from(!matches!(problem, Problem::Empty)),
            problem,
        })?;
        Ok(Self {
            path: path.to_owned(),
            lines,
            header,
            processes: Processes::default(),
            declarations: Declarations::default(),
            progress,
            events: 0,
            last_seq: 0,
            filter: None,
            state: State::Reading,
        })
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// A view of how far this reader has come.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Leaves out system calls that `wanted` refuses. They are still checked
    /// for order and counted, but not decoded, which is several times as
    /// fast. Process events are never left out.
    #[must_use]
    pub fn only(mut self, wanted: impl FnMut(Arch, u32, Phase) -> bool + Send + 'static) -> Self {
        self.filter = Some(Box::new(wanted));
        self
    }

    /// Reads on a thread of its own, some batches ahead.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn in_background(self) -> std::io::Result<Background> {
        let (sender, batches) = sync_channel(BATCHES_AHEAD);
        let progress = self.progress();
        let header = self.header.clone();
        std::thread::Builder::new().name("trace-reader".into()).spawn(move || self.send_batches(&sender))?;
        Ok(Background { batches, batch: Vec::new().into_iter(), progress, header })
    }

    fn send_batches(mut self, sender: &SyncSender<Batch>) {
        while self.state != State::Done {
            let mut batch = Vec::with_capacity(BATCH_RECORDS);
            let mut bytes = 0;
            while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
                let before = self.lines.given();
                let Some(record) = self.next() else { break };
                bytes += self.lines.given() - before;
                batch.push(record);
            }
            // Nobody listens any more: the caller has seen enough.
            if sender.send(batch).is_err() {
                return;
            }
        }
    }

    fn read_record(&mut self) -> Result<Option<Record>, Problem> {
        loop {
            let line = match self.lines.next() {
                Ok(Line::Whole(line)) => line,
                Ok(Line::Last(rest)) => {
                    // An editor may have eaten the very last line end.
                    if self.state == State::Reading && rest.starts_with(b"{\"type\":\"end\",") && rest.ends_with(b"}") {
                        rest
                    } else if self.state == State::Ended && rest.is_empty() {
                        return Ok(None);
                    } else if self.state == State::Ended {
                        return Err(Problem::AfterEnd);
                    } else {
                        let what = if rest.is_empty() { "there is no end line" } else { "this line is not whole" };
                        return Err(Problem::Truncated { what, events: self.events });
                    }
                }
                Ok(Line::Broken) => {
                    return Err(Problem::Truncated {
                        what: "the compressed data stops in the middle",
                        events: self.events,
                    });
                }
                Err(error) => return Err(error.into()),
            };
            if self.state == State::Ended {
                return Err(Problem::AfterEnd);
            }
            let text = std::str::from_utf8(line).map_err(|error| {
                Problem::Malformed(format!("the line is not UTF-8 (from byte {})", error.valid_up_to() + 1))
            })?;
            match &*record_type(text)? {
                name @ ("entry" | "exit") => {
                    let phase = if name == "entry" { Phase::Entry } else { Phase::Exit };
                    if let Some(filter) = &mut self.filter {
                        let head: CallHead = parse(text)?;
                        let arch = arch_of(&head.arch.0)?;
                        if !filter(arch, head.nr, phase) {
                            step(&mut self.last_seq, head.seq)?;
                            self.processes.get(head.process)?;
                            self.events += 1;
                            continue;
                        }
                    }
                    let line: CallLine = parse(text)?;
                    step(&mut self.last_seq, line.seq)?;
                    self.events += 1;
                    let process = self.processes.get(line.process)?;
                    return line.into_event(phase, process, &mut self.declarations, &self.header).map(Some);
                }
                "process" => self.processes.set(parse(text)?, text.len())?,
                name @ ("process_fork" | "process_exec" | "process_exit") => {
                    let line: ProcessEventLine = parse(text)?;
                    step(&mut self.last_seq, line.seq)?;
                    self.events += 1;
                    let process = self.processes.get(line.process)?;
                    return line.into_event(name, process).map(Some);
                }
                "verdict" => {
                    let line: VerdictLine = parse(text)?;
                    if line.seq > self.last_seq || line.seq == 0 {
                        return Err(Problem::EarlyVerdict { seq: line.seq, last: self.last_seq });
                    }
                    let verdict = line.try_into().map_err(|what: &str| Problem::Malformed(what.to_owned()))?;
                    return Ok(Some(Record::Verdict(verdict)));
                }
                "end" => {
                    let line: EndLine = parse(text)?;
                    if line.events != self.events {
                        return Err(Problem::Count { recorded: line.events, found: self.events });
                    }
                    self.state = State::Ended;
                    return Ok(Some(Record::End { events: line.events, dropped: line.dropped }));
                }
                other => return Err(Problem::UnknownType(other.chars().take(64).collect())),
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let record = self.read_record();
        self.progress.events.store(self.events, Ordering::Relaxed);
        match record {
            Ok(Some(record)) => Some(Ok(record)),
            Ok(None) => {
                self.state = State::Done;
                None
            }
            Err(problem) => {
                self.state = State::Done;
                Some(Err(TraceError { path: self.path.clone(), line: self.lines.number(), problem }))
            }
        }
    }
}

type Batch = Vec<Result<Record, TraceError>>;

/// Records that travel together at most.
const BATCH_RECORDS: usize = 512;
/// A batch is also closed when its lines come to this.
const BATCH_BYTES: u64 = 1 << 20;
/// Batches that may wait for the caller.
const BATCHES_AHEAD: usize = 4;

/// A trace that is read on another thread: an iterator of its records.
/// Dropping it ends that thread.
#[derive(Debug)]
pub struct Background {
    batches: Receiver<Batch>,
    batch: std::vec::IntoIter<Result<Record, TraceError>>,
    progress: Arc<Progress>,
    header: Header,
}

impl Background {
    /// How far the reader has come; it is ahead of this iterator.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

impl Iterator for Background {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.batch.next() {
                return Some(record);
            }
            self.batch = self.batches.recv().ok()?.into_iter();
        }
    }
}

/// Counts what is read of the file.
struct Counted<R> {
    input: R,
    progress: Arc<Progress>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(out)?;
        self.progress.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The input itself, or what it holds if it is compressed.
fn decompressed(input: impl Read + Send + 'static) -> std::io::Result<Box<dyn Read + Send>> {
    let mut input = BufReader::with_capacity(128 << 10, input);
    if input.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        let mut decoder = zstd::Decoder::with_buffer(input)?;
        decoder.window_log_max(WINDOW_LOG)?;
        Ok(Box::new(decoder))
    } else {
        Ok(Box::new(input))
    }
}

impl From<LineError> for Problem {
    fn from(error: LineError) -> Self {
        match error {
            LineError::TooLong => Self::TooLong,
            LineError::Read(error) => Self::Read(error),
        }
    }
}

fn read_header<R: Read>(lines: &mut Lines<R>) -> Result<Header, Problem> {
    let (line, whole) = match lines.next()? {
        Line::Last(b"") => return Err(Problem::Empty),
        Line::Whole(line) => (line, true),
        Line::Last(line) => (line, false),
        Line::Broken => {
            return Err(Problem::Truncated { what: "the compressed data stops in the middle", events: 0 });
        }
    };
    #[derive(Deserialize)]
    struct Mark<'a> {
        #[serde(borrow)]
        tracegate: Option<Text<'a>>,
        version: Option<u64>,
        #[serde(borrow)]
        host: Option<Text<'a>>,
    }
    let text = std::str::from_utf8(line).map_err(|_| Problem::NotJson("it is not text".into()))?;
    let mark: Mark = match serde_json::from_str(text) {
        Ok(mark) => mark,
        Err(_) if !whole && text.starts_with("{\"tracegate\":\"trace\"") => {
            return Err(Problem::Truncated { what: "not even the header is whole", events: 0 });
        }
        Err(error) if error.is_data() => return Err(Problem::Foreign("")),
        Err(error) => return Err(Problem::NotJson(explain(&error))),
    };
    match mark.tracegate.as_ref().map(|mark| &*mark.0) {
        Some("trace") => {}
        Some("golden") => return Err(Problem::Foreign(" (it is a file of expected verdicts, for --expect)")),
        _ => return Err(Problem::Foreign("")),
    }
    let version = mark.version.ok_or_else(|| Problem::Header("missing field `version`".into()))?;
    if version > u64::from(VERSION) {
        let host = mark.host.map_or_else(|| "(unknown)".to_owned(), |host| host.0.into_owned());
        return Err(Problem::Future { found: version, host });
    }
    if version == 0 {
        return Err(Problem::Header("there is no version 0".into()));
    }
    let header: HeaderLine = serde_json::from_str(text).map_err(|error| Problem::Header(explain(&error)))?;
    if !whole {
        return Err(Problem::Truncated { what: "there is nothing but the header", events: 0 });
    }
    Ok(header.into())
}

/// The type of a record, from its first bytes if it stands first there.
fn record_type(text: &str) -> Result<Cow<'_, str>, Problem> {
    if let Some(rest) = text.strip_prefix("{\"type\":\"")
        && let Some((name, _)) = rest.split_once('"')
        && !name.contains('\\')
    {
        return Ok(name.into());
    }
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        name: Text<'a>,
    }
    Ok(parse::<Typed>(text)?.name.0)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| Problem::Malformed(explain(&error)))
}

/// A JSON error without its line, which is always the first.
pub(super) fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) if error.column() > 0 => format!("{what}, in column {}", error.column()),
        Some(what) => what.to_owned(),
        None => text,
    }
}

fn arch_of(name: &str) -> Result<Arch, Problem> {
    arch_named(name).ok_or_else(|| Problem::UnknownArch(name.chars().take(64).collect()))
}

fn step(last: &mut u64, seq: u64) -> Result<(), Problem> {
    if seq <= *last {
        return Err(Problem::Backwards { seq, last: *last });
    }
    *last = seq;
    Ok(())
}

/// What decides whether a call is wanted, and what is checked all the same.
#[derive(Deserialize)]
struct CallHead<'a> {
    seq: u64,
    process: u64,
    #[serde(borrow)]
    arch: Text<'a>,
    nr: u32,
}

#[derive(Deserialize)]
struct CallLine<'a> {
    seq: u64,
    time_ns: u64,
    pid: i32,
    tid: i32,
    process: u64,
    #[serde(borrow)]
    arch: Text<'a>,
    nr: u32,
    #[serde(borrow)]
    syscall: Text<'a>,
    registers: Registers,
    #[serde(borrow)]
    args: Arguments<'a>,
    result: Option<Signed>,
    entry_seq: Option<u64>,
    duration_ns: Option<u64>,
}

impl CallLine<'_> {
    fn into_event(
        self,
        phase: Phase,
        process: Arc<Process>,
        declarations: &mut Declarations,
        header: &Header,
    ) -> Result<Record, Problem> {
        let arch = arch_of(&self.arch.0)?;
        let spec = declarations.find(arch, self.nr, &self.syscall.0, &self.args, header)?;
        let call = Call { arch, nr: self.nr, registers: self.registers.0, spec, arguments: self.args.list };
        let kind = match phase {
            Phase::Entry => Kind::Entry(call),
            Phase::Exit => {
                let missing = |name: &str| Problem::Malformed(format!("missing field `{name}`"));
                let outcome = Outcome {
                    result: self.result.ok_or_else(|| missing("result"))?.0,
                    entry_seq: self.entry_seq.ok_or_else(|| missing("entry_seq"))?,
                    duration_ns: self.duration_ns.ok_or_else(|| missing("duration_ns"))?,
                };
                if outcome.entry_seq >= self.seq {
                    return Err(Problem::Malformed(format!(
                        "exit {} says that it was entered at {}, which is not before it",
                        self.seq, outcome.entry_seq
                    )));
                }
                Kind::Exit(call, outcome)
            }
        };
        Ok(Record::Event(Event::captured(self.seq, self.time_ns, (self.pid, self.tid), kind, process)))
    }
}

/// Finds the declaration under which a call was recorded.
#[derive(Default)]
struct Declarations {
    /// Calls that this host declares but the recorder did not, with words for
    /// arguments: name → that declaration.
    undeclared: HashMap<&'static str, &'static Spec>,
}

impl Declarations {
    fn find(
        &mut self,
        arch: Arch,
        nr: u32,
        name: &str,
        args: &Arguments<'_>,
        header: &Header,
    ) -> Result<&'static Spec, Problem> {
        let spec = arch.spec(nr);
        let same_name = if spec.name.is_empty() { arch.syscall_name(nr) == name } else { spec.name == name };
        if !same_name {
            return Err(Problem::Syscall {
                arch: super::format::arch_name(arch).into(),
                nr,
                recorded: name.chars().take(64).collect(),
                ours: arch.syscall_name(nr).into_owned(),
                host: header.host.clone(),
            });
        }
        let recorded_as = |spec: &Spec| {
            args.list.len() == spec.args.len()
                && spec.args.iter().zip(&args.names).all(|(arg, name)| name.as_deref() == Some(arg.name))
        };
        if recorded_as(spec) {
            return Ok(spec);
        }
        // A number that no kernel has gets the declaration of the undeclared.
        let words = arch.spec(u32::MAX).args;
        if recorded_as(&Spec { name: spec.name, args: words, changes: Changes::Nothing }) {
            return Ok(self.undeclared(spec.name, words));
        }
        let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
        Err(Problem::Arguments {
            syscall: name.to_owned(),
            recorded: names(&mut args.names.iter().take(args.list.len()).map(|name| name.as_deref().unwrap_or("?")))
                .chars()
                .take(256)
                .collect(),
            ours: names(&mut spec.args.iter().map(|arg| arg.name)),
            host: header.host.clone(),
        })
    }

    /// A declaration that lives as long as the program, as [`Call`] wants it.
    /// There are never more than names of system calls.
    fn undeclared(&mut self, name: &'static str, args: &'static [crate::decode::Arg]) -> &'static Spec {
        static KEPT: Mutex<Vec<&'static Spec>> = Mutex::new(Vec::new());
        self.undeclared.entry(name).or_insert_with(|| {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(spec) = kept.iter().find(|spec| spec.name == name) {
                return spec;
            }
            let spec: &'static Spec = Box::leak(Box::new(Spec { name, args, changes: Changes::Nothing }));
            kept.push(spec);
            spec
        })
    }
}

#[derive(Deserialize)]
struct ProcessEventLine {
    seq: u64,
    time_ns: u64,
    pid: i32,
    tid: i32,
    process: u64,
    child: Option<i32>,
    thread: Option<bool>,
    previous_exe: Option<Bytes>,
    code: Option<u8>,
    signal: Option<u8>,
}

impl ProcessEventLine {
    fn into_event(self, name: &str, process: Arc<Process>) -> Result<Record, Problem> {
        let missing = |name: &str| Problem::Malformed(format!("missing field `{name}`"));
        let what = match name {
            "process_fork" => ProcessEvent::Forked {
                child: self.child.ok_or_else(|| missing("child"))?,
                thread: self.thread.ok_or_else(|| missing("thread"))?,
            },
            "process_exec" => ProcessEvent::Executed {
                previous_exe: self.previous_exe.ok_or_else(|| missing("previous_exe"))?.0,
            },
            _ => ProcessEvent::Exited(match (self.code, self.signal) {
                (Some(code), None) => ExitStatus::Code(code),
                (None, Some(signal)) => ExitStatus::Signal(signal),
                (Some(_), Some(_)) => {
                    return Err(Problem::Malformed("an exit has a `code` or a `signal`, not both".into()));
                }
                (None, None) => return Err(missing("code")),
            }),
        };
        let ids = (self.pid, self.tid);
        Ok(Record::Event(Event::captured(self.seq, self.time_ns, ids, Kind::Process(what), process)))
    }
}

#[derive(Deserialize)]
struct EndLine {
    events: u64,
    dropped: u64,
}

#[derive(Deserialize)]
struct ProcessLine {
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
struct Processes {
    /// Id → process and size of its line. Ids are small by the format.
    entries: Vec<Option<(Arc<Process>, usize)>>,
    bytes: usize,
}

impl Processes {
    fn get(&self, id: u64) -> Result<Arc<Process>, Problem> {
        let entry = usize::try_from(id).ok().and_then(|id| self.entries.get(id)?.as_ref());
        entry.map(|(process, _)| Arc::clone(process)).ok_or(Problem::UnknownProcess(id))
    }

    fn set(&mut self, line: ProcessLine, size: usize) -> Result<(), Problem> {
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
