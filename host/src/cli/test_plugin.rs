//! `host test-plugin`: runs a plugin over recorded traces.
//!
//! The plugin is given what it would have been given live and its verdicts
//! are shown, compared with a golden file ([`recording::golden`]), or with
//! what it said when the trace was recorded. Same plugin, same trace, same
//! output, byte for byte; what depends on the machine (speed, progress) goes
//! to standard error.
//!
//! This module never starts or touches a process, and does not know how a
//! plugin is run: that is a [`Judge`]'s business.
//!
//! [`recording::golden`]: crate::recording::golden

mod golden_file;
mod json;
mod junit;
mod replay;
mod text;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::decode::Arch;
use crate::event::{Answer, Event};
use replay::TraceReport;

/// A plugin, made ready with its settings.
pub trait Judge {
    /// The name that the plugin gives itself.
    fn name(&self) -> &str;

    /// Whether any rule is about call `nr` of `arch`, at exit or at entry.
    /// Asked in advance, to leave out what nobody wants without decoding it;
    /// may say yes too often, never no.
    fn wants(&self, arch: Arch, nr: u32, exit: bool) -> bool;

    /// Whether the subscription has this event, conditions included.
    fn wants_event(&mut self, event: &Event) -> bool;

    /// The plugin's answer. The event is shared, because a plugin's store
    /// keeps it as a resource while it runs.
    fn judge(&mut self, event: &Arc<Event>) -> Answer;
}

/// Makes a plugin ready; called once for each trace, so that no trace sees
/// what a plugin remembers of another. Gets the settings as JSON, if there
/// are any.
pub type Build<'a> = dyn FnMut(Option<&str>) -> anyhow::Result<Box<dyn Judge>> + 'a;

/// Run a plugin over recorded traces and check its verdicts
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  See what a plugin says of a trace:
    host test-plugin my_plugin.wasm traces/login.jsonl.zst

  Write its verdicts down as what is expected, then check them ever after:
    host test-plugin my_plugin.wasm traces/*.zst --expect golden.jsonl --bless
    host test-plugin my_plugin.wasm traces/*.zst --expect golden.jsonl

  With settings, and a report for a CI system:
    host test-plugin builtin:sensitive-files t.jsonl --settings @settings.json \\
        --expect golden.jsonl --format junit > report.xml

Exit status: 0 if all is as expected, 1 if verdicts differ (or, without
--expect, if the plugin failed on an event), 2 if it could not be run.")]
pub struct TestPlugin {
    /// The plugin: a .wasm file or builtin:NAME
    #[arg(value_name = "PLUGIN")]
    pub plugin: String,

    /// Traces made with `host record` or `host run --record`
    #[arg(value_name = "TRACE", required = true)]
    pub traces: Vec<PathBuf>,

    /// Settings of the plugin, as JSON or as the name of a file with JSON
    #[arg(long, value_name = "JSON|@FILE")]
    pub settings: Option<String>,

    /// Compare the verdicts with those in this file
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,

    /// Write the verdicts to the --expect file instead of comparing
    #[arg(long, requires = "expect")]
    pub bless: bool,

    /// Compare with what the plugin said when the trace was recorded
    #[arg(long)]
    pub against_recorded: bool,

    /// Go on with what is there of a trace that is cut off
    #[arg(long)]
    pub allow_truncated: bool,

    /// How to report
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// How to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// `JUnit` XML, a test case for each trace
    Junit,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conclusion {
    /// All is as expected.
    Passed,
    /// Verdicts differ from what was expected.
    Differs,
    /// Nothing was expected, and the plugin failed on an event.
    Failed,
    /// A trace could not be read.
    CannotRun,
}

impl Conclusion {
    fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Differs | Self::Failed => 1,
            Self::CannotRun => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Differs => "differs",
            Self::Failed => "failed",
            Self::CannotRun => "cannot-run",
        }
    }
}

/// All that a report tells.
struct Report<'a> {
    plugin: String,
    traces: Vec<TraceReport>,
    expect: Option<&'a Path>,
    /// Differences that belong to no trace that was run.
    general: Vec<crate::recording::golden::Difference>,
    blessed: Option<golden_file::Blessed>,
    result: Conclusion,
}

/// Runs the command. All errors have been reported when it returns.
pub fn run(args: &TestPlugin, build: &mut Build<'_>) -> ExitCode {
    let stdout = io::stdout();
    let mut out = io::BufWriter::new(stdout.lock());
    ExitCode::from(run_with(args, build, &mut out, &mut io::stderr()))
}

/// As [`run`], but says where to.
fn run_with(args: &TestPlugin, build: &mut Build<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let result = try_run(args, build, out, err).and_then(|code| {
        out.flush().context("cannot write the report")?;
        Ok(code)
    });
    result.unwrap_or_else(|error| {
        let broken_pipe = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
        // Who reads our output has seen enough; there is nobody to complain to.
        if !broken_pipe {
            let _ = writeln!(err, "host test-plugin: {error:#}");
        }
        2
    })
}

fn try_run(args: &TestPlugin, build: &mut Build<'_>, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<u8> {
    let settings = args.settings.as_deref().map(read_settings).transpose()?;
    let expected = match &args.expect {
        Some(path) if !args.bless => Some(golden_file::read(path)?),
        _ => None,
    };
    let names = base_names(&args.traces)?;

    let mut plugin = String::new();
    let mut traces = Vec::new();
    for (path, name) in args.traces.iter().zip(names) {
        let mut judge =
            build(settings.as_deref()).with_context(|| format!("plugin {} cannot be made ready", args.plugin))?;
        judge.name().clone_into(&mut plugin);
        let report = replay::replay(path, name, &mut *judge, args);
        if let Some(problem) = report.error.as_ref().or(report.truncated.as_ref()) {
            writeln!(err, "host test-plugin: {problem}")?;
        }
        writeln!(err, "{}", report.speed())?;
        traces.push(report);
    }

    let mut report = Report {
        plugin,
        traces,
        expect: args.expect.as_deref(),
        general: Vec::new(),
        blessed: None,
        result: Conclusion::Passed,
    };
    if let Some(expected) = &expected {
        report.compare(expected);
    }
    report.result = report.conclude();
    if args.bless
        && report.result != Conclusion::CannotRun
        && let Some(path) = &args.expect
    {
        report.blessed = Some(golden_file::bless(path, &report.golden())?);
    }
    match args.format {
        Format::Text => text::write(&report, out)?,
        Format::Json => json::write(&report, out)?,
        Format::Junit => junit::write(&report, out)?,
    }
    if args.bless && report.result == Conclusion::CannotRun {
        writeln!(err, "host test-plugin: nothing was blessed, because not all traces could be read")?;
    }
    Ok(report.result.code())
}

impl Report<'_> {
    fn conclude(&self) -> Conclusion {
        if self.traces.iter().any(|trace| trace.error.is_some()) {
            Conclusion::CannotRun
        } else if !self.general.is_empty() || self.traces.iter().any(|trace| !trace.differences.is_empty()) {
            Conclusion::Differs
        } else if self.expect.is_none() && self.traces.iter().any(|trace| trace.faults > 0) {
            Conclusion::Failed
        } else {
            Conclusion::Passed
        }
    }
}

/// Settings from the command line or a file, checked to be JSON, so that the
/// complaint can say where.
fn read_settings(given: &str) -> anyhow::Result<String> {
    let (text, from) = match given.strip_prefix('@') {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--settings: cannot read {file}"))?;
            (text, file)
        }
        None => (given.to_owned(), "the text given"),
    };
    serde_json::from_str::<serde::de::IgnoredAny>(&text).with_context(|| format!("--settings: {from} is not JSON"))?;
    Ok(text)
}

/// The name of each trace in reports and golden files: its file name, so that
/// those do not depend on where the traces lie.
fn base_names(paths: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::with_capacity(paths.len());
    for path in paths {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        if names.contains(&name) {
            anyhow::bail!(
                "two traces are named {name}; verdicts are told apart by the traces' file names, so rename one"
            );
        }
        names.push(name);
    }
    Ok(names)
}
