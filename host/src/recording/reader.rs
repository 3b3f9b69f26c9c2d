//! Reads a trace back.
//!
//! A trace is checked while it is read: whatever is in it, there come events
//! or an error that names the line. [`Reader`] works on the caller's thread;
//! [`Reader::in_background`] moves the work to another, which a replay needs
//! to be as fast as the plugin.

mod background;
mod canonical;
mod declarations;
mod events;
mod header;
mod processes;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

pub use background::Background;
use declarations::Declarations;
use events::{CallHead, CallLine, ProcessEventLine};
use processes::Processes;

use super::encoding::Text;
use super::error::{Problem, TraceError};
use super::format::{Header, VerdictLine, VerdictRecord, arch_named};
use super::lines::{Line, LineError, Lines};
use crate::decode::Arch;
use crate::event::Event;

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
        let input = decompressed(input).map_err(|error| TraceError {
            path: path.to_owned(),
            line: 0,
            problem: Problem::Read(error),
        })?;
        let mut lines = Lines::new(input);
        let header = header::read_header(&mut lines).map_err(|problem| TraceError {
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
                    let line: CallLine = match canonical::call(text, phase) {
                        Some(line) => line,
                        None => parse(text)?,
                    };
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
    serde_json::from_str(text).map_err(|error| {
        let empty = text.trim_ascii().is_empty();
        Problem::Malformed(if empty { "the line is empty".into() } else { explain(&error) })
    })
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

#[derive(Deserialize)]
struct EndLine {
    events: u64,
    dropped: u64,
}
