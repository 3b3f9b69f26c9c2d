//! Calls in exactly the layout that [`Writer`](crate::recording::Writer) gives
//! them, read in one pass without a general JSON parser.
//!
//! It takes about a third of the time. What is not in that layout, or has
//! something in it that is rare (a value with escapes, a structure), gives
//! `None`, and the general parser has its turn: this module never decides that
//! a line is wrong. What it does read it reads as the general parser would,
//! which a test checks.

use bstr::BString;

use super::Phase;
use super::events::CallLine;
use crate::event::{Argument, PathState, ResolvedPath, Strings, Value};
use crate::recording::arguments::{Arguments, MOST_STRINGS};
use crate::recording::encoding::{Registers, Signed, Text, parse_word};

/// Reads a whole `entry` or `exit` line.
pub(super) fn call(line: &str, phase: Phase) -> Option<CallLine<'_>> {
    let mut at = Cursor { text: line, at: 0 };
    at.literal(match phase {
        Phase::Entry => "{\"type\":\"entry\",\"seq\":",
        Phase::Exit => "{\"type\":\"exit\",\"seq\":",
    })?;
    let seq = at.unsigned()?;
    at.literal(",\"time_ns\":")?;
    let time_ns = at.unsigned()?;
    at.literal(",\"pid\":")?;
    let pid = at.signed()?.try_into().ok()?;
    at.literal(",\"tid\":")?;
    let tid = at.signed()?.try_into().ok()?;
    at.literal(",\"process\":")?;
    let process = at.unsigned()?;
    at.literal(",\"arch\":\"")?;
    let arch = at.plain()?;
    at.literal(",\"nr\":")?;
    let nr = at.unsigned()?.try_into().ok()?;
    at.literal(",\"syscall\":\"")?;
    let syscall = at.plain()?;
    at.literal(",\"registers\":[\"")?;
    let mut registers = [0; 6];
    for (index, register) in registers.iter_mut().enumerate() {
        if index > 0 {
            at.literal(",\"")?;
        }
        *register = parse_word(at.plain()?)?;
    }
    at.literal("],\"args\":[")?;
    let args = arguments(&mut at)?;
    let mut line = CallLine {
        seq,
        time_ns,
        pid,
        tid,
        process,
        arch: Text(arch.into()),
        nr,
        syscall: Text(syscall.into()),
        registers: Registers(registers),
        args,
        result: None,
        entry_seq: None,
        duration_ns: None,
    };
    if phase == Phase::Exit {
        at.literal(",\"result\":")?;
        line.result = Some(Signed(at.signed()?));
        if at.literal(",\"errno\":\"").is_some() {
            at.plain()?;
        }
        at.literal(",\"entry_seq\":")?;
        line.entry_seq = Some(at.unsigned()?);
        at.literal(",\"duration_ns\":")?;
        line.duration_ns = Some(at.unsigned()?);
    }
    at.literal("}")?;
    (at.at == at.text.len()).then_some(line)
}

/// From after the list's bracket to after its end.
fn arguments<'a>(at: &mut Cursor<'a>) -> Option<Arguments<'a>> {
    let mut names = [const { None }; 6];
    let mut list = Vec::with_capacity(6);
    if at.literal("]").is_some() {
        return Some(Arguments { names, list });
    }
    loop {
        at.literal("{\"name\":\"")?;
        *names.get_mut(list.len())? = Some(at.plain()?.into());
        list.push(argument(at)?);
        if at.literal("]").is_some() {
            return Some(Arguments { names, list });
        }
        at.literal(",")?;
    }
}

/// From after the name to after the object.
fn argument(at: &mut Cursor<'_>) -> Option<Argument> {
    at.literal(",\"kind\":\"")?;
    let kind = at.plain()?;
    if kind != "absent" {
        at.literal(",\"value\":")?;
    }
    let mut value = match kind {
        "int" => Value::Int(at.signed()?),
        "uint" => Value::Uint(at.unsigned()?),
        "fd" => Value::Fd(at.signed()?.try_into().ok()?),
        "flags" => {
            at.literal("\"")?;
            Value::Flags(parse_word(at.plain()?)?)
        }
        "path" => Value::Path(at.bytes()?),
        "text" => Value::Text(at.bytes()?),
        "bytes" => Value::Bytes { data: at.bytes()?, truncated: false },
        "strings" => Value::Strings(Strings { items: strings(at)?, truncated: false }),
        "absent" => Value::Absent,
        _ => return None,
    };
    if at.literal(",\"truncated\":true").is_some() {
        match &mut value {
            Value::Strings(Strings { truncated, .. }) | Value::Bytes { truncated, .. } => *truncated = true,
            _ => return None,
        }
    }
    at.literal(",\"text\":\"")?;
    at.skip()?;
    let mut path = None;
    if at.literal(",\"path\":{\"path\":").is_some() {
        let name = at.bytes()?;
        at.literal(",\"state\":\"")?;
        let state = match at.plain()? {
            "exists" => PathState::Exists,
            "missing" => PathState::Missing,
            "unresolved" => PathState::Unresolved,
            "unknown" => PathState::Unknown,
            _ => return None,
        };
        at.literal("}")?;
        path = Some(ResolvedPath { path: name, state });
    }
    let mut descriptor = None;
    if at.literal(",\"descriptor\":").is_some() {
        descriptor = Some(at.bytes()?);
    }
    at.literal("}")?;
    Some(Argument::captured(value, path, descriptor))
}

fn strings(at: &mut Cursor<'_>) -> Option<Vec<BString>> {
    at.literal("[")?;
    let mut items = Vec::new();
    if at.literal("]").is_some() {
        return Some(items);
    }
    loop {
        if items.len() == MOST_STRINGS {
            return None;
        }
        items.push(at.bytes()?);
        if at.literal("]").is_some() {
            return Some(items);
        }
        at.literal(",")?;
    }
}

/// A place in a line.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Steps over this text; stays if it does not stand here.
    #[inline]
    fn literal(&mut self, literal: &str) -> Option<()> {
        if !self.rest().starts_with(literal.as_bytes()) {
            return None;
        }
        self.at += literal.len();
        Some(())
    }

    /// A text without escapes, from after its first quote to after its last.
    #[inline]
    fn plain(&mut self) -> Option<&'a str> {
        let length = self.rest().iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        let text = self.text.get(self.at..self.at + length)?;
        self.at += length;
        self.literal("\"")?;
        Some(text)
    }

    /// As [`Self::plain`], but from before the first quote, and kept.
    #[inline]
    fn bytes(&mut self) -> Option<BString> {
        self.literal("\"")?;
        self.plain().map(BString::from)
    }

    /// Steps over a text with simple escapes, from after its first quote.
    fn skip(&mut self) -> Option<()> {
        let mut bytes = self.rest().iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => {
                    self.at = self.text.len() - bytes.len();
                    return Some(());
                }
                b'\\' => match bytes.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    _ => return None,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
        None
    }

    /// A JSON number without sign, fraction or exponent.
    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0u64;
        let mut digits = 0;
        for byte in self.rest() {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'.' | b'e' | b'E' => return None,
                _ => break,
            };
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
            digits += 1;
        }
        // JSON has no leading zeros.
        if digits == 0 || (digits > 1 && self.rest()[0] == b'0') {
            return None;
        }
        self.at += digits;
        Some(number)
    }

    fn signed(&mut self) -> Option<i64> {
        if self.literal("-").is_some() {
            let number = self.unsigned()?;
            // "-0" is a floating-point number to the general parser.
            return if number == 0 { None } else { 0i64.checked_sub_unsigned(number) };
        }
        self.unsigned()?.try_into().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::samples::{call as sample_call, connect, exit, openat, process};
    use crate::recording::{Compression, Header, Writer};

    /// The line of an exit.
    fn line(call: crate::event::Call) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        assert_eq!(Compression::of(&path), Compression::None);
        let mut writer = Writer::create(&path, &Header::now(vec![], vec![])).unwrap();
        writer.event(&exit(2, &process(7), call, -13)).unwrap();
        writer.finish().unwrap();
        std::fs::read_to_string(path).unwrap().lines().nth(2).unwrap().to_owned()
    }

    /// What it reads, the general parser reads too, and the same.
    fn agrees(line: &str) -> bool {
        let Some(quick) = call(line, Phase::Exit) else { return false };
        let general: CallLine = serde_json::from_str(line).unwrap();
        assert_eq!(format!("{quick:?}"), format!("{general:?}"));
        true
    }

    #[test]
    fn usual_calls_are_read_here() {
        assert!(agrees(&line(openat("/etc/shadow"))));
        let argv = ["sh", "-c", "é"].map(BString::from).to_vec();
        assert!(agrees(&line(sample_call(
            "execve",
            vec![
                Argument::captured(Value::Path("/bin/sh".into()), None, None),
                Argument::captured(Value::Strings(Strings { items: argv, truncated: true }), None, None),
                Argument::captured(Value::Strings(Strings::default()), None, None),
            ],
        ))));
        assert!(agrees(&line(sample_call(
            "write",
            vec![
                Argument::captured(Value::Fd(1), None, Some("pipe:[1]".into())),
                Argument::captured(Value::Bytes { data: "x".into(), truncated: false }, None, None),
                Argument::captured(Value::Uint(1), None, None),
            ],
        ))));
    }

    #[test]
    fn rare_calls_are_left_to_the_general_parser() {
        assert!(!agrees(&line(connect())));
        assert!(!agrees(&line(openat("/a\"b"))));
    }

    proptest! {
        #[test]
        fn never_reads_what_the_general_parser_does_not(
            place in 0..1000usize,
            put in "[\\\\\"0-9a-z.eE+{}\\[\\]:,\u{1}-]{0,2}",
            remove in 0..3usize,
        ) {
            let mut line = line(openat("/etc/shadow"));
            let place = place % line.len();
            line.replace_range(place..(place + remove).min(line.len()), &put);
            if line.starts_with("{\"type\":\"exit\",") {
                agrees(&line);
            }
        }
    }
}
