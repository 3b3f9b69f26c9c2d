//! Arguments in the notation of strace(1), for people.
//!
//! A value is shown by what it is; the declaration only adds names. So a value
//! of a recorded trace that does not fit its declaration is still shown.
//!
//! This module never reads a tracee's memory and never fails.

use std::fmt::Write as _;

use super::abi::{Arch, UNDECLARED};
use super::address::Parsed;
use super::argument;
use super::flags;
use super::spec::{Kind, Show, StructSpec};
use crate::event::{Call, Field, Message, Strings, Value};

/// Shows argument `index` as strace does; empty if there is none.
pub fn describe(call: &Call, index: usize) -> String {
    let Some(argument) = call.arguments.get(index) else { return String::new() };
    let register = argument::register(call.arch, &call.registers, index);
    let Some(declared) = call.spec.args.get(index) else { return value(&argument.value, None, call.arch, register) };
    if std::ptr::eq(call.spec.args, UNDECLARED.as_slice()) {
        return value(&argument.value, Some(&Kind::Address), call.arch, register);
    }
    if let (Kind::SocketOption(level), Value::Flags(option)) = (&declared.kind, &argument.value) {
        let level = argument::register(call.arch, &call.registers, (*level).into());
        return flags::socket_option(level & 0xffff_ffff, *option);
    }
    value(&argument.value, Some(&declared.kind), call.arch, register)
}

/// A vector of strings, likewise.
pub fn strings(vector: &Strings) -> String {
    list(vector.items.iter().map(|item| quote(item)).chain(vector.truncated.then(|| "...".into())))
}

fn value(value: &Value, kind: Option<&Kind>, arch: Arch, register: u64) -> String {
    match value {
        Value::Int(number) => match kind {
            Some(Kind::Signal) => flags::signal(*number),
            Some(Kind::Length) => format!("[{number}]"),
            _ => number.to_string(),
        },
        Value::Uint(number) => match kind {
            Some(Kind::Mode) => octal(*number),
            Some(Kind::NodeMode) => node_mode(*number),
            // The user or group id that chown(2) and its kin leave as it is.
            Some(Kind::Uint) if *number == u64::from(u32::MAX) => "-1".into(),
            Some(Kind::Uint | Kind::Ushort | Kind::Size) | None => number.to_string(),
            _ if *number == 0 => "NULL".into(),
            _ => format!("{number:#x}"),
        },
        Value::Flags(number) => match kind {
            Some(Kind::Flags(set) | Kind::LongFlags(set)) => set.on(arch).describe(*number),
            _ => format!("{number:#x}"),
        },
        Value::Fd(libc::AT_FDCWD) => "AT_FDCWD".into(),
        Value::Fd(fd) => fd.to_string(),
        Value::Path(text) | Value::Text(text) => quote(text),
        Value::Strings(vector) => strings(vector),
        Value::Bytes { data, truncated } => bytes(data, *truncated),
        Value::Address(address) => Parsed::of(address).describe(),
        Value::Messages(messages) => match kind {
            Some(Kind::Message | Kind::MessageOut) => messages.iter().map(message).collect::<Vec<_>>().join(", "),
            _ => list(messages.iter().map(message)),
        },
        Value::Structure(fields) => match kind {
            Some(Kind::FdsOut(_)) => list(fields.iter().map(|field| (field.value as i32).to_string())),
            Some(Kind::Struct(spec) | Kind::SizedStruct(spec, _)) => structure(fields, Some(spec), arch),
            _ => structure(fields, None, arch),
        },
        Value::Absent => "NULL".into(),
        Value::Unreadable(_) if register == 0 => "NULL".into(),
        Value::Unreadable(_) => format!("{register:#x}"),
        Value::Other(text) => text.clone(),
    }
}

fn structure(fields: &[Field], spec: Option<&'static StructSpec>, arch: Arch) -> String {
    let fields = fields.iter().map(|field| {
        let name = &field.name;
        match spec.and_then(|spec| spec.field(name)).map(|field| &field.show) {
            Some(Show::Signed) => format!("{name}={}", field.value as i64),
            Some(Show::Unsigned) | None => format!("{name}={}", field.value),
            Some(Show::Hex) => format!("{name}={:#x}", field.value),
            Some(Show::Octal) => format!("{name}={}", octal(field.value)),
            Some(Show::Flags(set)) => format!("{name}={}", set.on(arch).describe(field.value)),
        }
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

fn message(message: &Message) -> String {
    let name = message.address.as_ref().map_or_else(|| "NULL".into(), |address| Parsed::of(address).describe());
    let mut text = format!("{{msg_name={name}, msg_data={}", bytes(&message.data, message.truncated));
    if !message.descriptors.is_empty() {
        let _ = write!(text, ", scm_rights={}", list(message.descriptors.iter().map(i32::to_string)));
    }
    text + "}"
}

fn node_mode(number: u64) -> String {
    let kind = match number & 0o170_000 {
        0o140_000 => "S_IFSOCK|",
        0o120_000 => "S_IFLNK|",
        0o100_000 => "S_IFREG|",
        0o060_000 => "S_IFBLK|",
        0o040_000 => "S_IFDIR|",
        0o020_000 => "S_IFCHR|",
        0o010_000 => "S_IFIFO|",
        _ => return octal(number),
    };
    format!("{kind}{}", octal(number & !0o170_000))
}

/// With three digits at least, as modes of files are written.
fn octal(number: u64) -> String {
    if number < 0o100 { format!("{number:03o}") } else { format!("0{number:o}") }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn bytes(data: &[u8], truncated: bool) -> String {
    let mut text = quote(data);
    if truncated {
        text.push_str("...");
    }
    text
}

/// Bytes in C notation, as strace quotes them: printable ASCII as it is, an
/// escape where C has one, the shortest octal number that reads back
/// otherwise.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            0x0b => text.push_str("\\v"),
            0x0c => text.push_str("\\f"),
            b'\r' => text.push_str("\\r"),
            b' '..=b'~' => text.push(byte as char),
            _ if bytes.get(index + 1).is_some_and(u8::is_ascii_digit) => {
                let _ = write!(text, "\\{byte:03o}");
            }
            _ => {
                let _ = write!(text, "\\{byte:o}");
            }
        }
    }
    text.push('"');
    text
}
