//! The report for people.

use std::io::{self, Write};

use super::golden_file::Blessed;
use super::replay::{Shown, TraceReport};
use super::{Conclusion, Report};
use crate::event::Action;

pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let comparing = report.expect.is_some() && report.blessed.is_none();
    for trace in &report.traces {
        write_summary(trace, out)?;
        if !comparing {
            for verdict in &trace.verdicts {
                write_verdict(verdict, out)?;
            }
        }
        for difference in &trace.differences {
            write_indented(&difference.describe(&report.expected_file()), out)?;
        }
    }
    for difference in &report.general {
        write_indented(&difference.describe(&report.expected_file()), out)?;
    }
    write_conclusion(report, out)
}

fn write_summary(trace: &TraceReport, out: &mut dyn Write) -> io::Result<()> {
    let TraceReport { name, events, asked, denied, alerts, faults, .. } = trace;
    writeln!(
        out,
        "{}: {events} events, {asked} asked, {denied} denied, {alerts} alerts, {faults} faults",
        printable(name)
    )?;
    if !trace.rules.is_empty() {
        let rules: Vec<_> = trace.rules.iter().map(|(rule, count)| format!("{} {count}", printable(rule))).collect();
        writeln!(out, "  by rule: {}", rules.join(", "))?;
    }
    if trace.dropped > 0 {
        writeln!(out, "  {} events are missing from the trace: the recorder had to drop them", trace.dropped)?;
    }
    if let Some(problem) = &trace.truncated {
        writeln!(out, "  incomplete: {}", printable(problem))?;
    }
    if let Some(problem) = &trace.error {
        writeln!(out, "  cannot be run: {}", printable(problem))?;
    }
    Ok(())
}

fn write_verdict(shown: &Shown, out: &mut dyn Write) -> io::Result<()> {
    let Shown { verdict, event } = shown;
    let action = match verdict.answer.action {
        Action::Allow => String::new(),
        Action::Deny(errno) => format!("  denied {errno}"),
    };
    writeln!(out, "  {}  pid {}  {}{action}", verdict.seq, verdict.pid, printable(event))?;
    if let Some(fault) = &verdict.answer.fault {
        writeln!(out, "      fault: {}", printable(fault))?;
    }
    for alert in &verdict.answer.alerts {
        writeln!(out, "      {} {}: {}", alert.severity, printable(&alert.rule), printable(&alert.message))?;
        for (name, text) in &alert.fields {
            writeln!(out, "        {}: {}", printable(name), printable(text))?;
        }
    }
    Ok(())
}

fn write_conclusion(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let verdicts: usize = report.traces.iter().map(|trace| trace.verdicts.len()).sum();
    let differences = report.general.len() + report.traces.iter().map(|trace| trace.differences.len()).sum::<usize>();
    let file = report.expected_file();
    match (report.blessed, report.result) {
        (Some(Blessed::Written), _) => writeln!(out, "{file}: written, {verdicts} verdicts")?,
        (Some(Blessed::Unchanged), _) => writeln!(out, "{file}: unchanged, {verdicts} verdicts")?,
        (None, Conclusion::Passed) if report.expect.is_some() => {
            writeln!(out, "{file}: all {verdicts} verdicts as expected")?;
        }
        (None, Conclusion::Differs) if report.expect.is_some() => {
            writeln!(out, "{file}: {differences} differences; if the new verdicts are right, add --bless")?;
        }
        (None, Conclusion::Failed) => writeln!(out, "the plugin failed on some events (fault)")?,
        _ => {}
    }
    if report.result == Conclusion::Differs && (report.blessed.is_some() || report.expect.is_none()) {
        writeln!(out, "{differences} differences from what was recorded")?;
    }
    Ok(())
}

fn write_indented(text: &str, out: &mut dyn Write) -> io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "  {}", printable(line)))
}

/// Text that comes from a tracee or a plugin must not steer the terminal.
fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|char| {
                let (escaped, plain) =
                    if char.is_control() { (Some(char.escape_default()), None) } else { (None, Some(char)) };
                escaped.into_iter().flatten().chain(plain)
            })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}
