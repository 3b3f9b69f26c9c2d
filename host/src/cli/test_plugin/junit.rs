//! The report as `JUnit` XML, in the form that CI systems agree on
//! (`testsuites` / `testsuite` / `testcase` / `failure` or `error`).
//!
//! A test case is a trace. Differences that belong to no trace that was run
//! make a test case of their own. Times are left out: they are no verdict.

use std::io::{self, Write};

use super::{Conclusion, Report};

pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let file = report.expected_file();
    let mut cases = Vec::new();
    for trace in &report.traces {
        let faults = trace.verdicts.iter().filter_map(|shown| {
            let fault = shown.verdict.answer.fault.as_ref()?;
            Some(format!("event {}: {fault}\n", shown.verdict.seq))
        });
        let outcome = if let Some(error) = &trace.error {
            Outcome::Error(error.clone())
        } else if !trace.differences.is_empty() {
            let text = trace.differences.iter().map(|difference| difference.describe(&file)).collect();
            Outcome::Failure(format!("differences: {}", trace.differences.len()), text)
        } else if report.result == Conclusion::Failed && trace.faults > 0 {
            Outcome::Failure(format!("the plugin failed on {} events", trace.faults), faults.collect())
        } else {
            Outcome::Passed
        };
        cases.push((trace.name.as_str(), outcome));
    }
    if !report.general.is_empty() {
        let text = report.general.iter().map(|difference| difference.describe(&file)).collect();
        let message = format!("differences beyond the traces that were run: {}", report.general.len());
        cases.push(("(expected verdicts)", Outcome::Failure(message, text)));
    }

    let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|(_, outcome)| wanted(outcome)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failure(..)));
    let errors = count(|outcome| matches!(outcome, Outcome::Error(_)));
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\"", cases.len());
    let plugin = escape(&report.plugin);
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"tracegate\" {counts}>")?;
    writeln!(out, "  <testsuite name=\"{plugin}\" {counts}>")?;
    for (name, outcome) in &cases {
        write!(out, "    <testcase classname=\"{plugin}\" name=\"{}\"", escape(name))?;
        match outcome {
            Outcome::Passed => writeln!(out, "/>")?,
            Outcome::Failure(message, text) => writeln!(
                out,
                ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                escape(message),
                escape(text)
            )?,
            Outcome::Error(message) => {
                writeln!(out, ">\n      <error message=\"{}\"/>\n    </testcase>", escape(message))?;
            }
        }
    }
    writeln!(out, "  </testsuite>\n</testsuites>")
}

enum Outcome {
    Passed,
    Failure(String, String),
    Error(String),
}

/// For text and for attributes. What XML 1.0 cannot hold at all (most control
/// characters, section 2.2) becomes U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(char),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(char),
        }
    }
    escaped
}
