//! Golden files: the verdicts that a plugin is expected to give on recorded
//! traces.
//!
//! JSON Lines, made to be read and reviewed in a pull request:
//!
//! ```json
//! {"tracegate":"golden","version":1,"plugin":"sensitive-files"}
//! {"trace":"login.jsonl.zst"}
//! {"seq":57,"event":"entry","syscall":"openat","pid":812,"action":"deny","errno":"EACCES","alerts":[]}
//! ```
//!
//! The first line says what the file is. A `trace` line gives the base name of
//! a trace, and the verdicts up to the next one belong to that trace, in the
//! order of its events. Only verdicts that matter are there: denials, alerts,
//! and failures of the plugin (`fault`). `event` is the record's type in the
//! trace (see [`super::format`]); `syscall` is absent for process events.
//! Keys have a fixed order, and times and speeds are left out, so that equal
//! verdicts make equal files.
//!
//! This module compares values. It never runs a plugin.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Serialize as DeriveSerialize};
use similar::TextDiff;

use super::encoding::Bounded;
use super::format::{AnswerFields, write_answer};
use super::reader::explain;
use crate::event::{Alert, Answer, Errno, Event, Kind, ProcessEvent};

/// Version of the golden format.
const VERSION: u64 = 1;

/// The verdicts of one plugin on some traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Golden {
    /// Name of the plugin.
    pub plugin: String,
    /// The traces, in the order in which they were run.
    pub traces: Vec<TraceVerdicts>,
}

/// The verdicts on one trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceVerdicts {
    /// Base name of the trace.
    pub trace: String,
    /// Those that matter, by rising `seq`.
    pub verdicts: Vec<Verdict>,
    /// Line of the golden file that names the trace; 0 if it is not from one.
    pub line: u64,
}

/// A verdict on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Number of the event.
    pub seq: u64,
    /// Type of its record.
    pub event: Cow<'static, str>,
    /// Name of the system call, if it is one.
    pub syscall: Option<Cow<'static, str>>,
    /// Process.
    pub pid: i32,
    /// What the plugin says.
    pub answer: Answer,
    /// Line in the golden file; 0 if it is not from one.
    pub line: u64,
}

impl Verdict {
    /// The verdict `answer` on `event`.
    pub fn new(event: &Event, answer: Answer) -> Self {
        Self {
            seq: event.seq,
            event: record_type(event).into(),
            syscall: event.call().map(|call| call.arch.syscall_name(call.nr)),
            pid: event.pid,
            answer,
            line: 0,
        }
    }

    /// Whether both say the same, wherever they stand.
    fn says_the_same(&self, other: &Self) -> bool {
        let Self { seq, event, syscall, pid, answer, line: _ } = self;
        *seq == other.seq
            && *event == other.event
            && *syscall == other.syscall
            && *pid == other.pid
            && *answer == other.answer
    }
}

/// The type of an event's record in a trace.
pub fn record_type(event: &Event) -> &'static str {
    match &event.kind {
        Kind::Entry(_) => "entry",
        Kind::Exit(..) => "exit",
        Kind::Process(ProcessEvent::Forked { .. }) => "process_fork",
        Kind::Process(ProcessEvent::Executed { .. }) => "process_exec",
        Kind::Process(ProcessEvent::Exited(_)) => "process_exit",
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("seq", &self.seq)?;
        map.serialize_entry("event", &self.event)?;
        if let Some(syscall) = &self.syscall {
            map.serialize_entry("syscall", syscall)?;
        }
        map.serialize_entry("pid", &self.pid)?;
        write_answer(&mut map, &self.answer)?;
        map.end()
    }
}

#[derive(DeriveSerialize)]
struct Head<'a> {
    tracegate: &'a str,
    version: u64,
    plugin: &'a str,
}

#[derive(DeriveSerialize)]
struct TraceLine<'a> {
    trace: &'a str,
}

impl fmt::Display for Golden {
    /// The golden file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |value: &str| writeln!(f, "{value}");
        line(&json(&Head { tracegate: "golden", version: VERSION, plugin: &self.plugin }))?;
        for trace in &self.traces {
            line(&json(&TraceLine { trace: &trace.trace }))?;
            for verdict in &trace.verdicts {
                line(&json(verdict))?;
            }
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers can be written as JSON")
}

/// A golden file that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct GoldenError {
    /// Line from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

#[derive(Deserialize)]
struct AnyLine {
    tracegate: Option<String>,
    version: Option<u64>,
    plugin: Option<String>,
    trace: Option<String>,
    seq: Option<u64>,
    event: Option<String>,
    syscall: Option<String>,
    pid: Option<i32>,
    action: Option<super::format::ActionName>,
    errno: Option<Errno>,
    #[serde(default)]
    alerts: Bounded<Alert, 65_536>,
    fault: Option<String>,
}

impl Golden {
    /// Reads a golden file.
    ///
    /// # Errors
    /// Names the first line that is not as it should be.
    pub fn parse(text: &str) -> Result<Self, GoldenError> {
        let mut golden = None;
        for (line, number) in text.lines().zip(1..) {
            let fail = |what: String| GoldenError { line: number, what };
            let missing = |name: &str| fail(format!("missing field `{name}`"));
            let any: AnyLine = serde_json::from_str(line).map_err(|error| match golden {
                None => fail(format!("not a file of expected verdicts: {}", explain(&error))),
                Some(_) => fail(explain(&error)),
            })?;
            let Some(golden) = &mut golden else {
                if any.tracegate.as_deref() != Some("golden") {
                    return Err(fail("not a file of expected verdicts: no \"tracegate\":\"golden\" here".into()));
                }
                match any.version.ok_or_else(|| missing("version"))? {
                    VERSION => {}
                    later => return Err(fail(format!("version {later}; this host reads version {VERSION}"))),
                }
                golden = Some(Self { plugin: any.plugin.ok_or_else(|| missing("plugin"))?, traces: Vec::new() });
                continue;
            };
            if let Some(trace) = any.trace {
                if golden.traces.iter().any(|known| known.trace == trace) {
                    return Err(fail(format!("trace {trace:?} was already there")));
                }
                golden.traces.push(TraceVerdicts { trace, verdicts: Vec::new(), line: number });
                continue;
            }
            let trace = golden.traces.last_mut().ok_or_else(|| fail("a verdict before any trace".into()))?;
            let answer = AnswerFields {
                action: any.action.ok_or_else(|| missing("action"))?,
                errno: any.errno,
                alerts: any.alerts,
                fault: any.fault,
            };
            let verdict = Verdict {
                seq: any.seq.ok_or_else(|| missing("seq"))?,
                event: any.event.ok_or_else(|| missing("event"))?.into(),
                syscall: any.syscall.map(Cow::Owned),
                pid: any.pid.ok_or_else(|| missing("pid"))?,
                answer: answer.try_into().map_err(|what: &str| fail(what.to_owned()))?,
                line: number,
            };
            if let Some(last) = trace.verdicts.last()
                && last.seq >= verdict.seq
            {
                return Err(fail(format!("verdict on event {} after that on event {}", verdict.seq, last.seq)));
            }
            trace.verdicts.push(verdict);
        }
        golden.ok_or_else(|| GoldenError { line: 1, what: "not a file of expected verdicts: it is empty".into() })
    }

    /// All that differs between what was expected and what came.
    pub fn compare(expected: &Self, got: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        if expected.plugin != got.plugin {
            differences.push(Difference {
                trace: String::new(),
                line: 1,
                what: What::Plugin { expected: expected.plugin.clone(), got: got.plugin.clone() },
            });
        }
        for wanted in &expected.traces {
            match got.traces.iter().find(|trace| trace.trace == wanted.trace) {
                Some(trace) => compare_verdicts(wanted, trace, &mut differences),
                None => differences.push(Difference {
                    trace: wanted.trace.clone(),
                    line: wanted.line,
                    what: What::TraceNotRun { verdicts: wanted.verdicts.len() },
                }),
            }
        }
        for trace in &got.traces {
            if !expected.traces.iter().any(|wanted| wanted.trace == trace.trace) {
                differences.push(Difference {
                    trace: trace.trace.clone(),
                    line: 0,
                    what: What::TraceNotExpected { verdicts: trace.verdicts.len() },
                });
            }
        }
        differences
    }
}

/// Compares two lists of verdicts on one trace, by the events' numbers.
pub fn compare_verdicts(expected: &TraceVerdicts, got: &TraceVerdicts, differences: &mut Vec<Difference>) {
    let mut push = |line, what| differences.push(Difference { trace: expected.trace.clone(), line, what });
    let mut wanted = expected.verdicts.iter().peekable();
    let mut came = got.verdicts.iter().peekable();
    loop {
        match (wanted.peek(), came.peek()) {
            (Some(a), Some(b)) if a.seq == b.seq => {
                if !a.says_the_same(b) {
                    push(a.line, What::Changed { expected: (*a).clone(), got: (*b).clone() });
                }
                wanted.next();
                came.next();
            }
            (Some(a), b) if b.is_none_or(|b| a.seq < b.seq) => {
                push(a.line, What::Missing((*a).clone()));
                wanted.next();
            }
            (_, Some(b)) => {
                push(0, What::Unexpected((*b).clone()));
                came.next();
            }
            (_, None) => return,
        }
    }
}

/// One thing in which expected and actual verdicts differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Base name of the trace; empty if it is about the file as a whole.
    pub trace: String,
    /// Line of the golden file; 0 if nothing there corresponds.
    pub line: u64,
    /// What differs.
    pub what: What,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The file belongs to another plugin.
    Plugin {
        /// Named in the file.
        expected: String,
        /// The one that ran.
        got: String,
    },
    /// The file has a trace that was not run.
    TraceNotRun {
        /// How many verdicts it has on it.
        verdicts: usize,
    },
    /// A trace was run that the file does not have.
    TraceNotExpected {
        /// How many verdicts came.
        verdicts: usize,
    },
    /// An expected verdict did not come.
    Missing(Verdict),
    /// A verdict came that is not expected.
    Unexpected(Verdict),
    /// There is one, but not this.
    Changed {
        /// In the file.
        expected: Verdict,
        /// Given by the plugin.
        got: Verdict,
    },
}

impl Difference {
    /// Number of the event that it is about.
    pub fn seq(&self) -> Option<u64> {
        match &self.what {
            What::Missing(verdict) | What::Unexpected(verdict) | What::Changed { expected: verdict, .. } => {
                Some(verdict.seq)
            }
            What::Plugin { .. } | What::TraceNotRun { .. } | What::TraceNotExpected { .. } => None,
        }
    }

    /// The difference as people read it; `file` is the golden file's name.
    pub fn describe(&self, file: &str) -> String {
        let mut out = String::new();
        if self.line > 0 {
            let _ = write!(out, "{file}:{}: ", self.line);
        } else {
            let _ = write!(out, "{file}: ");
        }
        if !self.trace.is_empty() {
            let _ = write!(out, "{}: ", self.trace);
        }
        if let Some(seq) = self.seq() {
            let _ = write!(out, "event {seq}: ");
        }
        let _ = match &self.what {
            What::Plugin { expected, got } => {
                writeln!(out, "the file is for plugin {expected:?}, this is {got:?}")
            }
            What::TraceNotRun { verdicts } => {
                writeln!(out, "{verdicts} verdicts are expected on this trace, but it was not run")
            }
            What::TraceNotExpected { verdicts } => {
                writeln!(out, "the file has nothing on this trace; {verdicts} verdicts came")
            }
            What::Missing(verdict) => writeln!(out, "the expected verdict did not come\n- {}", json(verdict)),
            What::Unexpected(verdict) => writeln!(out, "a verdict that is not expected\n+ {}", json(verdict)),
            What::Changed { expected, got } => {
                let pretty = |verdict| {
                    let text = serde_json::to_string_pretty(verdict).expect("texts and numbers can be written as JSON");
                    text + "\n"
                };
                let (expected, got) = (pretty(expected), pretty(got));
                let diff = TextDiff::from_lines(&expected, &got);
                let mut lines = diff.unified_diff();
                lines.context_radius(1);
                out.push_str("the verdict differs\n");
                for hunk in lines.iter_hunks() {
                    for change in hunk.iter_changes() {
                        let _ = write!(out, "{}{}", change.tag(), change.value());
                    }
                }
                Ok(())
            }
        };
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::{Action, Severity};

    fn verdict(seq: u64, errno: u16) -> Verdict {
        Verdict {
            seq,
            event: "entry".into(),
            syscall: Some("openat".into()),
            pid: 812,
            answer: Answer {
                action: Action::Deny(Errno::new(errno).unwrap()),
                alerts: vec![Alert {
                    rule: "sensitive-read".into(),
                    severity: Severity::High,
                    message: "reads \"/etc/shadow\"".into(),
                    fields: vec![("path".into(), "/etc/shadow".into())],
                }],
                fault: None,
            },
            line: 0,
        }
    }

    fn golden(verdicts: Vec<Verdict>) -> Golden {
        let trace = TraceVerdicts { trace: "login.jsonl".into(), verdicts, line: 0 };
        Golden { plugin: "sensitive-files".into(), traces: vec![trace] }
    }

    #[test]
    fn file_is_readable_and_stable() {
        let text = golden(vec![verdict(57, 13)]).to_string();
        assert_eq!(
            text,
            "{\"tracegate\":\"golden\",\"version\":1,\"plugin\":\"sensitive-files\"}\n\
             {\"trace\":\"login.jsonl\"}\n\
             {\"seq\":57,\"event\":\"entry\",\"syscall\":\"openat\",\"pid\":812,\"action\":\"deny\",\"errno\":\"EACCES\",\
             \"alerts\":[{\"rule\":\"sensitive-read\",\"severity\":\"high\",\"message\":\"reads \\\"/etc/shadow\\\"\",\
             \"fields\":{\"path\":\"/etc/shadow\"}}]}\n"
        );
        let parsed = Golden::parse(&text).unwrap();
        assert_eq!(parsed.to_string(), text);
        assert_eq!(parsed.traces[0].verdicts[0].line, 3);
        assert_eq!(Golden::compare(&parsed, &golden(vec![verdict(57, 13)])), []);
    }

    #[test]
    fn differences_name_line_and_event() {
        let expected = golden(vec![verdict(1, 13), verdict(5, 13), verdict(9, 13)]).to_string();
        let expected = Golden::parse(&expected).unwrap();
        let got = golden(vec![verdict(5, 1), verdict(7, 13), verdict(9, 13)]);
        let differences = Golden::compare(&expected, &got);
        let shown: Vec<_> = differences.iter().map(|difference| difference.describe("g.jsonl")).collect();
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(
            shown[0].starts_with("g.jsonl:3: login.jsonl: event 1: the expected verdict did not come\n- {\"seq\":1,")
        );
        assert_eq!(
            shown[1],
            "g.jsonl:4: login.jsonl: event 5: the verdict differs\n\
             \x20  \"action\": \"deny\",\n-  \"errno\": \"EACCES\",\n+  \"errno\": \"EPERM\",\n\x20  \"alerts\": [\n"
        );
        assert!(shown[2].starts_with("g.jsonl: login.jsonl: event 7: a verdict that is not expected\n+ {\"seq\":7,"));
    }

    #[test]
    fn traces_on_one_side_only() {
        let mut other = golden(vec![verdict(1, 13)]);
        other.traces[0].trace = "other.jsonl".into();
        other.plugin = "x".into();
        let shown: Vec<_> =
            Golden::compare(&golden(vec![]), &other).iter().map(|difference| difference.describe("g")).collect();
        assert_eq!(
            shown,
            [
                "g:1: the file is for plugin \"sensitive-files\", this is \"x\"\n",
                "g: login.jsonl: 0 verdicts are expected on this trace, but it was not run\n",
                "g: other.jsonl: the file has nothing on this trace; 1 verdicts came\n",
            ]
        );
    }

    #[test]
    fn broken_files_are_refused_with_their_line() {
        let head = "{\"tracegate\":\"golden\",\"version\":1,\"plugin\":\"p\"}\n";
        for (text, line, what) in [
            (String::new(), 1, "it is empty"),
            ("x\n".into(), 1, "not a file of expected verdicts"),
            ("{\"tracegate\":\"trace\"}\n".into(), 1, "not a file of expected verdicts"),
            ("{\"tracegate\":\"golden\",\"version\":2,\"plugin\":\"p\"}\n".into(), 1, "version 2"),
            (format!("{head}{{\"seq\":1}}\n"), 2, "before any trace"),
            (format!("{head}{{\"trace\":\"t\"}}\n{{\"trace\":\"t\"}}\n"), 3, "already there"),
            (format!("{head}{{\"trace\":\"t\"}}\n{{\"seq\":1}}\n"), 3, "missing field `action`"),
            (
                format!("{head}{{\"trace\":\"t\"}}\n{{\"seq\":1,\"event\":\"entry\",\"pid\":1,\"action\":\"deny\"}}\n"),
                3,
                "no errno",
            ),
            (format!("{head}{{\"trace\":\"t\"}}\n{{\"errno\":\"EFOO\"}}\n"), 3, "\"EFOO\" is no errno"),
        ] {
            let error = Golden::parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.what.contains(what), "{error}");
        }
    }
}
