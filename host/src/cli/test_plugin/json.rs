//! The report as one JSON document:
//!
//! ```json
//! {"tracegate":"test-plugin","version":1,"plugin":"…","result":"passed|differs|failed|cannot-run",
//!  "traces":[{"trace":"…","events":0,"dropped":0,"asked":0,"denied":0,"alerts":0,"faults":0,"rules":{},
//!             "truncated":"…","error":"…","verdicts":[…],"differences":[…]}],
//!  "differences":[…]}
//! ```
//!
//! `verdicts` are those of a golden file; a difference has `trace`, `event`
//! (number), `line` (of the golden file), `what` and, where there are such,
//! `expected` and `got`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::Report;
use crate::recording::golden::{Difference, Verdict, What};

#[derive(Serialize)]
struct Document<'a> {
    tracegate: &'static str,
    version: u32,
    plugin: &'a str,
    result: &'static str,
    traces: Vec<Trace<'a>>,
    differences: Vec<Differing<'a>>,
}

#[derive(Serialize)]
struct Trace<'a> {
    trace: &'a str,
    events: u64,
    dropped: u64,
    asked: u64,
    denied: u64,
    alerts: u64,
    faults: u64,
    rules: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    verdicts: Vec<&'a Verdict>,
    differences: Vec<Differing<'a>>,
}

#[derive(Serialize)]
struct Differing<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    trace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Side<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<Side<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Side<'a> {
    Verdict(&'a Verdict),
    Plugin(&'a str),
    Count(usize),
}

impl<'a> From<&'a Difference> for Differing<'a> {
    fn from(difference: &'a Difference) -> Self {
        let (what, expected, got) = match &difference.what {
            What::Plugin { expected, got } => ("plugin", Some(Side::Plugin(expected)), Some(Side::Plugin(got))),
            What::TraceNotRun { verdicts } => ("trace-not-run", Some(Side::Count(*verdicts)), None),
            What::TraceNotExpected { verdicts } => ("trace-not-expected", None, Some(Side::Count(*verdicts))),
            What::Missing(verdict) => ("missing", Some(Side::Verdict(verdict)), None),
            What::Unexpected(verdict) => ("unexpected", None, Some(Side::Verdict(verdict))),
            What::Changed { expected, got } => ("changed", Some(Side::Verdict(expected)), Some(Side::Verdict(got))),
        };
        Self {
            trace: &difference.trace,
            event: difference.seq(),
            line: (difference.line > 0).then_some(difference.line),
            what,
            expected,
            got,
        }
    }
}

pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let traces = report.traces.iter().map(|trace| Trace {
        trace: &trace.name,
        events: trace.events,
        dropped: trace.dropped,
        asked: trace.asked,
        denied: trace.denied,
        alerts: trace.alerts,
        faults: trace.faults,
        rules: &trace.rules,
        truncated: trace.truncated.as_deref(),
        error: trace.error.as_deref(),
        verdicts: trace.verdicts.iter().map(|shown| &shown.verdict).collect(),
        differences: trace.differences.iter().map(Differing::from).collect(),
    });
    let document = Document {
        tracegate: "test-plugin",
        version: 1,
        plugin: &report.plugin,
        result: report.result.name(),
        traces: traces.collect(),
        differences: report.general.iter().map(Differing::from).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}
