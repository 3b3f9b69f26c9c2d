//! The report for people: aligned, within [`WIDTH`] columns, without colour.

use std::fmt;

use super::{Answer, Check, Report, Verdict, Work};

/// No line is wider, unless one word is.
const WIDTH: usize = 100;
/// Where what was found begins.
const INDENT: usize = 10;

impl Verdict {
    /// As in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Tracegate {} on Linux {}, {}\n", self.version, self.kernel, self.arch)?;
        for check in &self.checks {
            write!(f, "{check}")?;
        }
        writeln!(f)?;
        answer(f, "host run   ", &self.summary.run)?;
        answer(f, "host attach", &self.summary.attach)
    }
}

impl fmt::Display for Check {
    /// What is well needs no explanation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = format!("{:<INDENT$}", self.verdict.word());
        paragraph(f, &first, INDENT, &format!("{}: {}", self.title, self.found))?;
        let explain = self.verdict != Verdict::Ok && !self.meaning.is_empty();
        if explain {
            paragraph(f, &format!("{:INDENT$}means   ", ""), INDENT + 8, &self.meaning)?;
        }
        for (index, line) in self.advice.iter().enumerate() {
            let head = if index == 0 { "change  " } else { "" };
            paragraph(f, &format!("{:INDENT$}{head:8}", ""), INDENT + 8, line)?;
        }
        Ok(())
    }
}

fn answer(f: &mut fmt::Formatter<'_>, command: &str, answer: &Answer) -> fmt::Result {
    let word = match answer.verdict {
        Work::Yes => "yes",
        Work::Limited => "yes, with limits: ",
        Work::No => "no: ",
    };
    let because = answer.because.join("; ");
    paragraph(f, &format!("{command}  "), command.len() + 2, &format!("{word}{because}"))
}

/// Wraps at spaces; lines after the first are indented.
fn paragraph(f: &mut fmt::Formatter<'_>, first: &str, indent: usize, text: &str) -> fmt::Result {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let space = usize::from(!empty);
        if !empty && line.chars().count() + space + word.chars().count() > WIDTH {
            writeln!(f, "{}", line.trim_end())?;
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    writeln!(f, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_under_their_beginning() {
        let check = Check::new("id", "Title", Verdict::Degraded, "word ".repeat(40), "because ".repeat(20))
            .advise(vec!["this".into(), "or that".into()]);
        let text = check.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("degraded  Title: word"), "{text}");
        assert!(lines[1].starts_with("          word"), "{text}");
        assert!(text.contains("\n          means   because"), "{text}");
        assert!(text.ends_with("\n          change  this\n                  or that\n"), "{text}");
    }
}
