//! Reads what `strace -ff -o PREFIX` writes: a file for each thread, a line
//! for each call, such as
//! `openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3`.

use std::collections::HashMap;
use std::path::Path;

use super::compare::{Call, End, Outcome, Run, Thread};

/// The calls whose result is the id of a new task.
const BIRTHS: [&str; 4] = ["fork", "vfork", "clone", "clone3"];

/// Reads all `PREFIX.TID` files in `directory`.
pub fn read(directory: &Path, prefix: &str) -> Run {
    let mut threads = HashMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(tid) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) else { continue };
        threads.insert(tid.parse().unwrap(), thread(&std::fs::read_to_string(&path).unwrap()));
    }
    Run::new(threads)
}

fn thread(text: &str) -> Thread {
    let mut thread = Thread::default();
    for line in text.lines() {
        if let Some(end) = line.strip_prefix("+++ ") {
            thread.end = Some(ending(end));
        } else if !line.starts_with("--- ") {
            let call = call(line).unwrap_or_else(|| panic!("a line of strace that this test cannot read: {line}"));
            if let (true, Outcome::Value(child)) = (BIRTHS.contains(&call.name.as_str()), &call.outcome) {
                thread.children.push(child.parse().unwrap());
            }
            thread.calls.push(call);
        }
    }
    thread
}

/// `exited with 1 +++` or `killed by SIGTERM +++`.
fn ending(text: &str) -> End {
    let word = |index| text.split(' ').nth(index).unwrap_or_default().to_owned();
    match word(0).as_str() {
        "exited" => End::Code(word(2)),
        "killed" => End::Signal(word(2)),
        _ => panic!("an end of strace's that this test cannot read: {text}"),
    }
}

fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, rest) = rest.split_at(closing(rest)?);
    let arguments = split(arguments).into_iter().map(str::to_owned).collect();
    let outcome = outcome(rest.strip_prefix(')')?.trim_start().strip_prefix("= ")?);
    Some(Call { name: name.to_owned(), arguments, outcome })
}

/// `3`, `0x7f00`, `-1 ENOENT (No such file or directory)`,
/// `? ERESTARTSYS (To be restarted …)`, or `?` if the call did not return.
fn outcome(text: &str) -> Outcome {
    let mut words = text.split(' ');
    match (words.next().unwrap_or_default(), words.next()) {
        ("-1" | "?", Some(errno)) => Outcome::Errno(errno.to_owned()),
        ("?", None) => Outcome::None,
        (value, _) => Outcome::Value(value.to_owned()),
    }
}

/// Where the parenthesis is that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    outermost(text).find(|(_, byte)| *byte == b')').map(|(at, _)| at)
}

/// Splits at the commas that stand outside of quotes and brackets.
pub fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, byte) in outermost(text) {
        if byte == b',' {
            parts.push(text[from..at].trim());
            from = at + 1;
        }
    }
    parts.push(text[from..].trim());
    if parts == [""] { Vec::new() } else { parts }
}

/// The bytes of `text` that stand outside of quotes, brackets and comments,
/// with their places; the bracket that closes more than was opened is the
/// last.
fn outermost(text: &str) -> impl Iterator<Item = (usize, u8)> {
    let (mut depth, mut quoted, mut escaped, mut comment, mut done) = (0u32, false, false, false, false);
    let bytes = text.as_bytes();
    (0..bytes.len()).filter_map(move |at| {
        let byte = bytes[at];
        if done {
            return None;
        }
        if comment {
            comment = !bytes[..at].ends_with(b"*") || byte != b'/';
            return None;
        }
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return None;
        }
        match byte {
            b'"' => quoted = true,
            b'/' if bytes[at..].starts_with(b"/*") => comment = true,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => {
                done = true;
                return Some((at, byte));
            }
            b')' | b']' | b'}' => depth -= 1,
            _ if depth == 0 => return Some((at, byte)),
            _ => {}
        }
        None
    })
}

/// `{a=1, b=[2, 3]}` as pairs of names and values.
pub fn fields(text: &str) -> Option<Vec<(&str, &str)>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    split(inner).into_iter().map(|field| field.split_once('=')).collect()
}

/// `[a, b]` as its items.
pub fn items(text: &str) -> Option<Vec<&str>> {
    Some(split(text.strip_prefix('[')?.strip_suffix(']')?))
}

/// What the kernel found, of `found => written`.
pub fn before_arrow(text: &str) -> &str {
    let arrow = outermost(text).find(|(at, _)| text[*at..].starts_with("=> "));
    arrow.map_or(text, |(at, _)| text[..at].trim())
}

/// Without `/* comments */`.
pub fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some((before, after)) = rest.split_once("/*") {
        kept.push_str(before.trim_end());
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    kept + rest
}

/// The bytes that a quoted text stands for; `None` if it is none, or cut.
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < inner.len() {
        if inner[at] != b'\\' {
            bytes.push(inner[at]);
            at += 1;
            continue;
        }
        let digits = inner[at + 1..].iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        if digits > 0 {
            let octal =
                inner[at + 1..=at + digits].iter().fold(0u32, |number, digit| number * 8 + u32::from(digit - b'0'));
            bytes.push(octal as u8);
            at += 1 + digits;
        } else {
            let plain = [(b'n', b'\n'), (b't', b'\t'), (b'r', b'\r'), (b'v', 0x0b), (b'f', 0x0c)];
            let escape = *inner.get(at + 1)?;
            bytes.push(plain.iter().find(|(name, _)| *name == escape).map_or(escape, |(_, byte)| *byte));
            at += 2;
        }
    }
    Some(bytes)
}

/// A number as strace writes them: decimal, hexadecimal, octal, products, and
/// the names that it has for numbers which the host shows as such.
pub fn number(text: &str) -> Option<i128> {
    /// For fcntl's third argument, limits, and socket's protocol.
    const NAMES: [(&str, i128); 13] = [
        ("NULL", 0),
        ("FD_CLOEXEC", 1),
        ("O_RDONLY", 0),
        ("O_WRONLY", 1),
        ("O_RDWR", 2),
        ("O_APPEND", 0o2000),
        ("O_NONBLOCK", 0o4000),
        ("O_LARGEFILE", 0o100_000),
        ("IPPROTO_IP", 0),
        ("IPPROTO_TCP", 6),
        ("NETLINK_ROUTE", 0),
        ("RLIM_INFINITY", u64::MAX as i128),
        ("RLIM64_INFINITY", u64::MAX as i128),
    ];
    if let Some((first, rest)) = text.split_once('*') {
        return Some(number(first)? * number(rest)?);
    }
    if let Some((first, rest)) = text.split_once('|') {
        return Some(number(first)? | number(rest)?);
    }
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == text) {
        return Some(*number);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return i128::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => i128::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

#[test]
fn lines() {
    let parsed = call(r#"open("a, \")\\", O_RDONLY /* (, */) = -1 ENOENT (No such file)"#).unwrap();
    assert_eq!(parsed.arguments, [r#""a, \")\\""#, "O_RDONLY /* (, */"]);
    assert_eq!(parsed.outcome, Outcome::Errno("ENOENT".into()));
    let parsed = call("clone3({flags=A|B, tls=0x1} => {parent_tid=[8]}, 88) = 8").unwrap();
    assert_eq!(parsed.arguments.len(), 2);
    assert_eq!(before_arrow(&parsed.arguments[0]), "{flags=A|B, tls=0x1}");
    assert_eq!(parsed.outcome, Outcome::Value("8".into()));
    assert_eq!(call("exit_group(0) = ?").unwrap().outcome, Outcome::None);
    assert_eq!(call("getpid() = 7").unwrap().arguments, [""; 0]);
}

#[test]
fn values() {
    assert_eq!(fields("{a=1, b={c=2, d=3}}").unwrap(), [("a", "1"), ("b", "{c=2, d=3}")]);
    assert_eq!(number("8192*1024"), Some(8 << 20));
    assert_eq!((number("022"), number("0x1f"), number("-1"), number("0")), (Some(18), Some(31), Some(-1), Some(0)));
    assert_eq!(number("O_RDWR|O_NONBLOCK"), Some(0o4002));
    assert_eq!(unquote(r#""\1\0a\n\377\"""#).unwrap(), b"\x01\0a\n\xff\"");
    assert_eq!(without_comments("{tv_sec=5} /* 1970 */"), "{tv_sec=5}");
}
