//! Events from a recorded trace (`host record`; the format is described in
//! the host's `recording/FORMAT.md`).
//!
//! Reading is lenient: keys that are not known are skipped, and so is what is
//! not an event. What cannot be understood is an error with its line.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value as Json};

use super::event::{Event, Override};
use super::sockaddr;
use crate::bindings::tracegate::plugin::types as wit;
use crate::known;
use wit::{ByteList, ExecInfo, ExitStatus, Field, ForkInfo, Header, Phase, Process, ProcessEvent, StringList, Value};

/// Latest version of the format that is understood.
const VERSION: u64 = 1;

/// Why a trace could not be read.
#[derive(Debug)]
pub struct TraceError {
    /// Line, from 1; 0 if the file could not be opened.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for TraceError {}

/// Reads the events of a trace, `.jsonl` or `.jsonl.zst`.
///
/// # Errors
/// If the file cannot be read, or is no trace of a version known here.
pub fn read_trace(path: impl AsRef<Path>) -> Result<Vec<Event>, TraceError> {
    let path = path.as_ref();
    let failed = |error: std::io::Error| TraceError { line: 0, message: format!("{}: {error}", path.display()) };
    let mut file = BufReader::new(std::fs::File::open(path).map_err(failed)?);
    // zstd's magic number.
    let compressed = file.fill_buf().map_err(failed)?.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let mut text = String::new();
    if compressed {
        zstd::Decoder::with_buffer(file).and_then(|mut file| file.read_to_string(&mut text)).map_err(failed)?;
    } else {
        file.read_to_string(&mut text).map_err(failed)?;
    }
    parse_trace(&text)
}

/// Reads the events of a trace from text.
///
/// # Errors
/// If it is no trace of a version known here.
pub fn parse_trace(text: &str) -> Result<Vec<Event>, TraceError> {
    let mut lines = text.lines().enumerate();
    let fails = |(index, message)| TraceError { line: index + 1, message };
    let header = lines.next().and_then(|(_, line)| serde_json::from_str::<Json>(line).ok());
    match header.as_ref().map(|header| (header["tracegate"].as_str(), header["version"].as_u64())) {
        Some((Some("trace"), Some(1..=VERSION))) => {}
        Some((Some("trace"), version)) => {
            let found = version.map_or_else(|| "?".to_owned(), |version| version.to_string());
            return Err(fails((0, format!("version {found} of the trace format; only {VERSION} is known"))));
        }
        _ => return Err(fails((0, "not a Tracegate trace".to_owned()))),
    }
    let mut processes = HashMap::new();
    let mut events = Vec::new();
    for (index, line) in lines {
        let object: Map<String, Json> =
            serde_json::from_str(line).map_err(|error| fails((index, error.to_string())))?;
        let line = Line(&object);
        line.read(&mut processes, &mut events).map_err(|message| fails((index, message)))?;
    }
    Ok(events)
}

/// An object of the trace.
#[derive(Clone, Copy)]
struct Line<'j>(&'j Map<String, Json>);

type Result1<T> = Result<T, String>;

fn wrong(key: &str) -> String {
    format!("{key:?} is missing or not what it should be")
}

impl<'j> Line<'j> {
    fn read(self, processes: &mut HashMap<u64, Process>, events: &mut Vec<Event>) -> Result1<()> {
        let kind = self.text("type")?;
        match kind {
            "process" => {
                processes.insert(self.number("id")?, self.process()?);
            }
            "entry" | "exit" => {
                let mut event = self.call(processes)?;
                if kind == "exit" {
                    event.phase = Some(Phase::Exit);
                    event.outcome = self.get("result").and_then(signed).ok_or_else(|| wrong("result"))?;
                    event.duration_ns = self.number("duration_ns")?;
                }
                events.push(event);
            }
            "process_fork" => {
                let thread = self.get("thread").and_then(Json::as_bool).unwrap_or(false);
                let child = self.number("child")? as u32;
                events.push(self.change(processes, ProcessEvent::Forked(ForkInfo { child, thread }))?);
            }
            "process_exec" => {
                let previous_exe = self.lossy("previous_exe")?;
                events.push(self.change(processes, ProcessEvent::Executed(ExecInfo { previous_exe }))?);
            }
            "process_exit" => {
                let status = match self.get("signal") {
                    Some(_) => ExitStatus::Signal(self.number("signal")? as u8),
                    None => ExitStatus::Code(self.number("code")? as u8),
                };
                events.push(self.change(processes, ProcessEvent::Exited(status))?);
            }
            // Verdicts of the recording, the end.
            _ => {}
        }
        Ok(())
    }

    fn get(self, key: &str) -> Option<&'j Json> {
        self.0.get(key)
    }

    fn text(self, key: &str) -> Result1<&'j str> {
        self.get(key).and_then(Json::as_str).ok_or_else(|| wrong(key))
    }

    fn number(self, key: &str) -> Result1<u64> {
        self.get(key).and_then(unsigned).ok_or_else(|| wrong(key))
    }

    fn lossy(self, key: &str) -> Result1<String> {
        self.get(key).and_then(bytes).map(text).ok_or_else(|| wrong(key))
    }

    fn process(self) -> Result1<Process> {
        let ids = |key: &str| -> Result1<[u32; 4]> {
            let list = self.get(key).and_then(Json::as_array).ok_or_else(|| wrong(key))?;
            let ids: Option<Vec<u32>> = list.iter().map(|id| unsigned(id).map(|id| id as u32)).collect();
            ids.and_then(|ids| ids.try_into().ok()).ok_or_else(|| wrong(key))
        };
        let [uid, euid, suid, fsuid] = ids("uids")?;
        let [gid, egid, sgid, fsgid] = ids("gids")?;
        Ok(Process {
            pid: self.number("pid")? as u32,
            parent: self.number("parent")? as u32,
            start_time: self.number("start_time")?,
            exe: self.lossy("exe")?,
            comm: self.lossy("comm")?,
            argv: self.get("argv").and_then(list).ok_or_else(|| wrong("argv"))?,
            cwd: self.lossy("cwd")?,
            uid,
            euid,
            suid,
            fsuid,
            gid,
            egid,
            sgid,
            fsgid,
            capabilities: self.number("capabilities")?,
            container: self.get("container").and_then(Json::as_str).map(String::from),
        })
    }

    /// What all events have.
    fn base(self, processes: &HashMap<u64, Process>, mut event: Event) -> Result1<Event> {
        let id = self.number("process")?;
        event.process = processes.get(&id).cloned().ok_or_else(|| format!("there is no process {id} before it"))?;
        event.header = Header {
            seq: self.number("seq")?,
            time_ns: self.number("time_ns")?,
            pid: self.number("pid")? as u32,
            tid: self.number("tid")? as u32,
            ..event.header
        };
        event.recorded = true;
        Ok(event)
    }

    fn change(self, processes: &HashMap<u64, Process>, change: ProcessEvent) -> Result1<Event> {
        self.base(processes, Event::change(change))
    }

    fn call(self, processes: &HashMap<u64, Process>) -> Result1<Event> {
        let mut event = self.base(processes, Event::call(self.text("syscall")?, []))?;
        let registers = self.get("registers").and_then(Json::as_array).ok_or_else(|| wrong("registers"))?;
        let registers: Option<Vec<u64>> = registers.iter().map(unsigned).collect();
        let registers: Option<[u64; 6]> = registers.and_then(|registers| registers.try_into().ok());
        let [a0, a1, a2, a3, a4, a5] = registers.ok_or_else(|| wrong("registers"))?;
        let arch = arch(self.text("arch")?)?;
        event.header = Header { nr: self.number("nr")? as u32, arch, a0, a1, a2, a3, a4, a5, ..event.header };
        let arguments = self.get("args").and_then(Json::as_array).ok_or_else(|| wrong("args"))?;
        for (index, argument) in arguments.iter().enumerate() {
            let argument = argument.as_object().ok_or_else(|| wrong("args"))?;
            Line(argument).argument(index as u8, &mut event).map_err(|error| format!("argument {index}: {error}"))?;
        }
        Ok(event)
    }

    fn argument(self, index: u8, event: &mut Event) -> Result1<()> {
        event.names.push(self.get("name").and_then(Json::as_str).unwrap_or_default().to_owned());
        event.texts.push(self.get("text").and_then(Json::as_str).unwrap_or_default().to_owned());
        let value = self.value()?;
        if let (Value::RawPath(_) | Value::Text(_) | Value::Address(_), Some(raw)) = (&value, self.get("value")) {
            event.raw.extend(bytes(raw).map(|raw| (index, raw)));
        }
        if let Some(path) = self.get("path").and_then(Json::as_object).map(Line) {
            let exact = path.get("path").and_then(bytes).ok_or_else(|| wrong("path"))?;
            let state = match path.text("state")? {
                "exists" => wit::PathState::Exists,
                "missing" => wit::PathState::Missing,
                "unresolved" => wit::PathState::Unresolved,
                "unknown" => wit::PathState::Unknown,
                _ => return Err(wrong("state")),
            };
            event.bytes.insert(index, exact.clone());
            event.paths.insert(index, Override { path: Some(text(exact)), state: Some(state) });
        }
        if let (Some(target), Value::Fd(fd)) = (self.get("descriptor").and_then(bytes), &value) {
            event.descriptors.insert(*fd, text(target));
        }
        if event.names[usize::from(index)] != "envp" {
            event.arguments.push(value);
            return Ok(());
        }
        // In a trace an environment is the value of its argument.
        event.environment = match value {
            Value::Strings(environment) => Some(environment),
            Value::Absent => Some(StringList { items: Vec::new(), truncated: false }),
            _ => None,
        };
        let Header { a2, a3, .. } = event.header;
        let address = if index == 2 { a2 } else { a3 };
        event.texts[usize::from(index)] = if address == 0 { "NULL".to_owned() } else { format!("{address:#x}") };
        event.arguments.push(if address == 0 { Value::Absent } else { Value::Uint(address) });
        Ok(())
    }

    fn value(self) -> Result1<Value> {
        let kind = self.text("kind")?;
        if kind == "absent" {
            return Ok(Value::Absent);
        }
        let value = self.get("value").ok_or_else(|| wrong("value"))?;
        let truncated = self.get("truncated").and_then(Json::as_bool).unwrap_or(false);
        let read = match kind {
            "int" => signed(value).map(Value::Int),
            "uint" => unsigned(value).map(Value::Uint),
            "flags" => unsigned(value).map(Value::Flags),
            "fd" => signed(value).map(|fd| Value::Fd(fd as i32)),
            "path" => bytes(value).map(|bytes| Value::RawPath(text(bytes))),
            "text" => bytes(value).map(|bytes| Value::Text(text(bytes))),
            "strings" => list(value).map(|items| Value::Strings(StringList { items, truncated })),
            "bytes" => bytes(value).map(|data| Value::Bytes(ByteList { data, truncated })),
            "address" => bytes(value).map(|data| Value::Address(sockaddr::parse(&data))),
            "messages" => messages(value).map(Value::Messages),
            "structure" => value.as_object().and_then(|fields| {
                let field =
                    |(name, value): (&String, &Json)| Some(Field { name: name.clone(), value: unsigned(value)? });
                fields.iter().map(field).collect::<Option<_>>().map(Value::Structure)
            }),
            "unreadable" => match value.as_str() {
                Some("fault") => Some(Value::Unreadable(wit::Defect::Fault)),
                Some("unterminated") => Some(Value::Unreadable(wit::Defect::Unterminated)),
                Some("malformed") => Some(Value::Unreadable(wit::Defect::Malformed)),
                _ => None,
            },
            "other" => value.as_str().map(|text| Value::Other(text.to_owned())),
            _ => return Err(format!("unknown kind of argument {kind:?}")),
        };
        read.ok_or_else(|| wrong("value"))
    }
}

/// `AUDIT_ARCH_*` of a convention's name (linux/audit.h).
fn arch(name: &str) -> Result1<u32> {
    Ok(match name {
        "x86_64" | "x32" => known::X86_64,
        "x86" => 0x4000_0003,
        "aarch64" => known::AARCH64,
        _ => return Err(wrong("arch")),
    })
}

fn unsigned(json: &Json) -> Option<u64> {
    match json {
        Json::String(text) => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        json => json.as_u64(),
    }
}

fn signed(json: &Json) -> Option<i64> {
    match json {
        Json::String(_) => unsigned(json).map(|word| word as i64),
        json => json.as_i64(),
    }
}

fn bytes(json: &Json) -> Option<Vec<u8>> {
    match json {
        Json::String(text) => Some(text.clone().into_bytes()),
        Json::Object(object) => BASE64_STANDARD.decode(object.get("base64")?.as_str()?).ok(),
        _ => None,
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn list(json: &Json) -> Option<Vec<String>> {
    json.as_array()?.iter().map(|item| bytes(item).map(text)).collect()
}

fn messages(json: &Json) -> Option<Vec<wit::Message>> {
    let message = |json: &Json| {
        let line = Line(json.as_object()?);
        let descriptors = line.get("descriptors").and_then(Json::as_array)?;
        Some(wit::Message {
            address: line.get("address").and_then(bytes).map(|data| sockaddr::parse(&data)),
            data: ByteList {
                data: bytes(line.get("data")?)?,
                truncated: line.get("truncated").and_then(Json::as_bool).unwrap_or(false),
            },
            descriptors: descriptors.iter().map(|fd| fd.as_i64().map(|fd| fd as i32)).collect::<Option<_>>()?,
        })
    };
    json.as_array()?.iter().map(message).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"tracegate":"trace","version":1,"host":"0.1.0","arch":"x86_64","started":1}"#;
    const PROCESS: &str = r#"{"type":"process","id":1,"pid":7,"parent":1,"start_time":5,"exe":"/bin/cat","comm":"cat","argv":["cat",{"base64":"/w=="}],"cwd":"/","uids":[1,1,1,1],"gids":[2,2,2,2],"capabilities":"0x0"}"#;
    const ENTRY: &str = r#"{"type":"entry","seq":3,"time_ns":1700000000000000001,"pid":7,"tid":7,"process":1,"arch":"x86_64","nr":257,"syscall":"openat","registers":["0xffffff9c","0x7f","0x0","0x0","0x0","0x0"],"args":[{"name":"dirfd","kind":"fd","value":-100,"text":"AT_FDCWD","descriptor":"/"},{"name":"pathname","kind":"path","value":"x","text":"\"x\"","path":{"path":"/etc/shadow","state":"exists"}},{"name":"flags","kind":"flags","value":"0x0","text":"O_RDONLY"},{"name":"mode","kind":"uint","value":0,"text":"0"}]}"#;

    #[test]
    fn an_entry_answers_as_it_did_live() {
        let events = parse_trace(&[HEADER, PROCESS, ENTRY].join("\n")).unwrap();
        assert_eq!((events.len(), events[0].seq()), (1, 3));
        events[0].as_entry(|event| {
            let open = event.open().unwrap();
            assert_eq!((open.raw_path(), open.path().as_str()), (Some("x"), "/etc/shadow"));
            assert_eq!(open.argument().name().as_deref(), Some("pathname"));
            assert_eq!(event.process().argv, ["cat", "\u{fffd}"]);
            assert_eq!(event.describe(2), "O_RDONLY");
        });
    }

    #[test]
    fn exits_and_process_events() {
        let exit = ENTRY.replace(r#""type":"entry""#, r#""type":"exit","result":-13,"duration_ns":9,"entry_seq":1"#);
        let fork =
            r#"{"type":"process_fork","seq":4,"time_ns":1,"pid":7,"tid":7,"process":1,"child":8,"thread":false}"#;
        let exit_event = r#"{"type":"process_exit","seq":5,"time_ns":1,"pid":7,"tid":7,"process":1,"signal":9}"#;
        let events = parse_trace(&[HEADER, PROCESS, &exit, fork, exit_event].join("\n")).unwrap();
        events[0].as_exit(|exit| assert_eq!((exit.errno(), exit.duration_ns()), (Some(crate::Errno::EACCES), 9)));
        events[1].as_process(|event| assert_eq!(event.new_process(), Some(8)));
        events[2].as_process(|event| assert_eq!(*event.change(), ProcessEvent::Exited(ExitStatus::Signal(9))));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = |lines: &[&str]| parse_trace(&lines.join("\n")).unwrap_err().to_string();
        assert_eq!(error(&["{}"]), "line 1: not a Tracegate trace");
        assert!(error(&[&HEADER.replace("n\":1", "n\":2")]).starts_with("line 1: version 2"));
        assert_eq!(error(&[HEADER, ENTRY]), "line 2: there is no process 1 before it");
        assert!(error(&[HEADER, PROCESS, &ENTRY[..40]]).starts_with("line 3: "));
    }

    #[test]
    fn addresses() {
        let shown = |data: &[u8]| sockaddr::parse(data).to_string();
        assert_eq!(shown(&[2, 0, 0, 53, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]), "192.0.2.1:53");
        assert_eq!(shown(b"\x01\0/run/x\0junk"), "unix:/run/x");
        assert_eq!(shown(b"\x01\0\0name"), "unix:@name");
        assert_eq!(shown(&[2, 0, 0]), "family 2, 3 bytes");
        let mut v6 = [0; 28];
        (v6[0], v6[3], v6[23]) = (10, 80, 1);
        assert_eq!(shown(&v6), "[::1]:80");
    }
}
