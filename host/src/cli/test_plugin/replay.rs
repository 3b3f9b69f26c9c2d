//! One trace through one plugin.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Judge, TestPlugin};
use crate::decode::{Arch, describe};
use crate::event::{Action, Event, ExitStatus, Kind, ProcessEvent};
use crate::recording::golden::{Difference, TraceVerdicts, Verdict, compare_verdicts, record_type};
use crate::recording::{Background, Phase, Reader, Record, TraceError};

/// Events between two looks at the progress bar.
const PROGRESS_EVERY: u64 = 8192;

/// What came of one trace.
#[derive(Debug, Default)]
pub(super) struct TraceReport {
    /// Its file name.
    pub name: String,
    /// Events in it.
    pub events: u64,
    /// Events that the recorder left out.
    pub dropped: u64,
    /// Events that the plugin was asked about.
    pub asked: u64,
    /// Denials among its answers.
    pub denied: u64,
    /// Alerts in its answers.
    pub alerts: u64,
    /// Events on which it failed.
    pub faults: u64,
    /// Rule → how many alerts.
    pub rules: BTreeMap<String, u64>,
    /// Answers that matter.
    pub verdicts: Vec<Shown>,
    /// What differs from what was expected or recorded.
    pub differences: Vec<Difference>,
    /// The trace was cut off, and that is allowed.
    pub truncated: Option<String>,
    /// It could not be run to its end.
    pub error: Option<String>,
    elapsed: Duration,
}

/// A verdict, and what it is about in readable form.
#[derive(Debug)]
pub(super) struct Shown {
    pub verdict: Verdict,
    /// `openat(AT_FDCWD, "/etc/shadow", O_RDONLY)`
    pub event: String,
}

impl TraceReport {
    /// How fast it went, for standard error.
    pub(super) fn speed(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { self.events as f64 / seconds } else { 0.0 };
        format!("{}: {} events in {seconds:.3} s, {rate:.0} events/s", self.name, self.events)
    }
}

pub(super) fn replay(path: &Path, name: String, judge: &mut dyn Judge, args: &TestPlugin) -> TraceReport {
    let started = Instant::now();
    let mut report = TraceReport { name, ..TraceReport::default() };
    if let Err(error) = run(path, judge, args, &mut report) {
        match error {
            Stop::Trace(error) if error.is_truncated() && args.allow_truncated => {
                report.truncated = Some(error.to_string());
            }
            Stop::Trace(error) => report.error = Some(error.to_string()),
            Stop::Other(error) => report.error = Some(error),
        }
    }
    report.elapsed = started.elapsed();
    report
}

/// Why a replay stopped early.
enum Stop {
    Trace(TraceError),
    Other(String),
}

impl From<TraceError> for Stop {
    fn from(error: TraceError) -> Self {
        Self::Trace(error)
    }
}

fn run(path: &Path, judge: &mut dyn Judge, args: &TestPlugin, report: &mut TraceReport) -> Result<(), Stop> {
    let wanted = Wanted::by(judge);
    let reader = Reader::open(path)?.only(move |arch, nr, phase| wanted.contains(arch, nr, phase));
    if args.against_recorded && !reader.header().plugins.iter().any(|plugin| plugin == judge.name()) {
        return Err(Stop::Other(format!(
            "{}: --against-recorded: plugin {} did not run when this was recorded (its plugins: {})",
            path.display(),
            judge.name(),
            reader.header().plugins.join(", "),
        )));
    }
    let mut records = reader
        .in_background()
        .map_err(|error| Stop::Other(format!("{}: cannot start a thread to read it: {error}", path.display())))?;
    let bar = progress_bar(&records, &report.name);
    let mut recorded = Vec::new();
    let ended = read_all(&mut records, judge, args, report, &mut recorded, &bar);
    bar.finish_and_clear();
    report.events = records.progress().events();
    if args.against_recorded && ended.as_ref().map_or_else(TraceError::is_truncated, |()| true) {
        report.compare_with_recorded(recorded);
    }
    Ok(ended?)
}

/// Gives each wanted event to the plugin, up to the end of the trace.
fn read_all(
    records: &mut Background,
    judge: &mut dyn Judge,
    args: &TestPlugin,
    report: &mut TraceReport,
    recorded: &mut Vec<crate::recording::VerdictRecord>,
    bar: &ProgressBar,
) -> Result<(), TraceError> {
    let mut until_look = PROGRESS_EVERY;
    while let Some(record) = records.next() {
        match record? {
            Record::Event(event) => report.judge(judge, event),
            Record::Verdict(verdict) if args.against_recorded && verdict.plugin == judge.name() => {
                recorded.push(verdict);
            }
            Record::Verdict(_) => {}
            Record::End { dropped, .. } => report.dropped = dropped,
        }
        until_look -= 1;
        if until_look == 0 {
            until_look = PROGRESS_EVERY;
            bar.set_position(records.progress().bytes());
        }
    }
    Ok(())
}

impl TraceReport {
    fn judge(&mut self, judge: &mut dyn Judge, event: Event) {
        if !judge.wants_event(&event) {
            return;
        }
        self.asked += 1;
        let event = Arc::new(event);
        let answer = judge.judge(&event);
        if !answer.matters() {
            return;
        }
        self.denied += u64::from(answer.action != Action::Allow);
        self.faults += u64::from(answer.fault.is_some());
        self.alerts += answer.alerts.len() as u64;
        for alert in &answer.alerts {
            match self.rules.get_mut(&alert.rule) {
                Some(count) => *count += 1,
                None => {
                    self.rules.insert(alert.rule.clone(), 1);
                }
            }
        }
        self.verdicts.push(Shown { verdict: Verdict::new(&event, answer), event: show(&event) });
    }

    /// Recorded verdicts come in the order in which they were given, which
    /// for a plugin in the observe lane is later than their events.
    fn compare_with_recorded(&mut self, mut recorded: Vec<crate::recording::VerdictRecord>) {
        recorded.sort_by_key(|verdict| verdict.seq);
        let got = TraceVerdicts {
            trace: self.name.clone(),
            verdicts: self.verdicts.iter().map(|shown| shown.verdict.clone()).collect(),
            line: 0,
        };
        // A recorded verdict names its event only by number: take the rest
        // from ours, if there is one.
        let verdicts = recorded.into_iter().map(|record| {
            let ours = got.verdicts.binary_search_by_key(&record.seq, |verdict| verdict.seq);
            let (event, syscall, pid) = match ours.map(|index| &got.verdicts[index]) {
                Ok(ours) => (ours.event.clone(), ours.syscall.clone(), ours.pid),
                Err(_) => ("unknown".into(), None, 0),
            };
            Verdict { seq: record.seq, event, syscall, pid, answer: record.answer, line: 0 }
        });
        let expected = TraceVerdicts { trace: self.name.clone(), verdicts: verdicts.collect(), line: 0 };
        compare_verdicts(&expected, &got, &mut self.differences);
    }
}

/// An event in the notation of strace(1).
fn show(event: &Event) -> String {
    match &event.kind {
        Kind::Entry(call) | Kind::Exit(call, _) => {
            let arguments: Vec<_> = (0..call.arguments.len()).map(|index| describe(call, index)).collect();
            let call = format!("{}({})", call.arch.syscall_name(call.nr), arguments.join(", "));
            match event.outcome() {
                Some(outcome) => match outcome.errno().and_then(crate::event::Errno::name_of) {
                    Some(name) => format!("{call} = -1 {name}"),
                    None => format!("{call} = {}", outcome.result),
                },
                None => call,
            }
        }
        Kind::Process(ProcessEvent::Forked { child, thread: false }) => format!("{} {child}", record_type(event)),
        Kind::Process(ProcessEvent::Forked { child, thread: true }) => {
            format!("{} thread {child}", record_type(event))
        }
        Kind::Process(ProcessEvent::Executed { .. }) => format!("{} {}", record_type(event), event.process().exe),
        Kind::Process(ProcessEvent::Exited(ExitStatus::Code(code))) => format!("{} code {code}", record_type(event)),
        Kind::Process(ProcessEvent::Exited(ExitStatus::Signal(signal))) => {
            format!("{} signal {signal}", record_type(event))
        }
    }
}

/// A bar if standard error is a terminal, nothing otherwise.
fn progress_bar(records: &Background, name: &str) -> ProgressBar {
    let bar = ProgressBar::new(records.progress().size()).with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} % {eta:>4}") {
        bar.set_style(style);
    }
    bar
}

/// Which calls a plugin wants to see, worked out once: the reader asks on
/// another thread, and the plugin stays on this one.
struct Wanted {
    /// (architecture, phase, number) → wanted, for numbers below [`Self::NUMBERS`].
    calls: Vec<bool>,
}

impl Wanted {
    /// Above all numbers in use. What lies beyond is always wanted.
    const NUMBERS: u32 = 1024;
    /// Numbers of x32 have this bit (`__X32_SYSCALL_BIT`).
    const X32_BIT: u32 = 0x4000_0000;

    fn by(judge: &dyn Judge) -> Self {
        let mut calls = Vec::new();
        for arch in Arch::ALL {
            let bit = if arch == Arch::X32 { Self::X32_BIT } else { 0 };
            for exit in [false, true] {
                calls.extend((0..Self::NUMBERS).map(|nr| judge.wants(arch, nr | bit, exit)));
            }
        }
        Self { calls }
    }

    fn contains(&self, arch: Arch, nr: u32, phase: Phase) -> bool {
        let nr = if arch == Arch::X32 { nr & !Self::X32_BIT } else { nr };
        if nr >= Self::NUMBERS {
            return true;
        }
        let arch = Arch::ALL.iter().position(|known| *known == arch).unwrap_or_default();
        let table = arch * 2 + usize::from(phase == Phase::Exit);
        self.calls[table * Self::NUMBERS as usize + nr as usize]
    }
}
