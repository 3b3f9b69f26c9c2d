//! Host values → the contract's values, and a plugin's answers back.
//!
//! Bytes become text here, with U+FFFD for what is not UTF-8; `raw` and
//! `path-bytes` keep them.

use bstr::{BString, ByteSlice};

use super::wit::{lifecycle, types};
use crate::decode::Parsed;
use crate::event::{self, Action, Answer, Call, Errno, Event, ExitStatus, PathState, ProcessEvent, Strings, Value};
use crate::schema::Issue;

fn text(bytes: &BString) -> String {
    bytes.to_str_lossy().into_owned()
}

/// As much of `text` as fits into `limit` bytes, ending between characters.
pub(super) fn shortened(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

pub(super) fn header(event: &Event, call: &Call) -> types::Header {
    let [a0, a1, a2, a3, a4, a5] = call.registers;
    types::Header {
        seq: event.seq,
        time_ns: event.time_ns,
        nr: call.nr,
        arch: call.arch.audit(),
        pid: event.pid as u32,
        tid: event.tid as u32,
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
    }
}

pub(super) fn arguments(call: &Call) -> Vec<types::Value> {
    call.arguments.iter().map(|argument| value(&argument.value)).collect()
}

fn value(value: &Value) -> types::Value {
    use types::Value as W;
    match value {
        Value::Int(number) => W::Int(*number),
        Value::Uint(number) => W::Uint(*number),
        Value::Flags(flags) => W::Flags(*flags),
        Value::Fd(fd) => W::Fd(*fd),
        Value::Path(path) => W::RawPath(text(path)),
        Value::Text(other) => W::Text(text(other)),
        Value::Strings(strings) => W::Strings(string_list(strings)),
        Value::Bytes { data, truncated } => W::Bytes(bytes(data, *truncated)),
        Value::Address(address) => W::Address(self::address(address)),
        Value::Messages(messages) => W::Messages(
            messages
                .iter()
                .map(|message| types::Message {
                    address: message.address.as_ref().map(address),
                    data: bytes(&message.data, message.truncated),
                    descriptors: message.descriptors.clone(),
                })
                .collect(),
        ),
        Value::Structure(fields) => W::Structure(
            fields
                .iter()
                .map(|field| types::Field { name: field.name.clone().into_owned(), value: field.value })
                .collect(),
        ),
        Value::Absent => W::Absent,
        Value::Unreadable(defect) => W::Unreadable(match defect {
            event::Defect::Fault => types::Defect::Fault,
            event::Defect::Unterminated => types::Defect::Unterminated,
            event::Defect::Malformed => types::Defect::Malformed,
        }),
        Value::Other(other) => W::Other(other.clone()),
    }
}

pub(super) fn string_list(strings: &Strings) -> types::StringList {
    types::StringList { items: strings.items.iter().map(text).collect(), truncated: strings.truncated }
}

fn bytes(data: &BString, truncated: bool) -> types::ByteList {
    types::ByteList { data: data.to_vec(), truncated }
}

fn address(address: &event::SocketAddress) -> types::SocketAddress {
    use types::SocketAddress as W;
    match Parsed::of(address) {
        Parsed::Ipv4 { address, port } => {
            let [a, b, c, d] = address;
            W::Ipv4(types::Ipv4Address { address: (a, b, c, d), port })
        }
        Parsed::Ipv6 { address, port, flow_info, scope_id } => {
            let [a, b, c, d, e, f, g, h] = address;
            W::Ipv6(types::Ipv6Address { address: (a, b, c, d, e, f, g, h), port, flow_info, scope_id })
        }
        Parsed::UnixPath(path) => W::UnixPath(text(&path)),
        Parsed::UnixAbstract(name) => W::UnixAbstract(text(&name)),
        Parsed::UnixUnnamed => W::UnixUnnamed,
        Parsed::Netlink { port_id, groups } => W::Netlink(types::NetlinkAddress { port_id, groups }),
        Parsed::Packet { protocol, interface_index, hardware } => {
            W::Packet(types::PacketAddress { protocol, interface_index, hardware: hardware.clone() })
        }
        Parsed::Vsock { cid, port } => W::Vsock(types::VsockAddress { cid, port }),
        Parsed::Alg { kind, name } => W::Alg(types::AlgAddress { kind: text(&kind), name: text(&name) }),
        Parsed::Unspecified => W::Unspecified,
        Parsed::Other { family, text, data } => W::Other(types::OtherAddress { family, text, data: data.clone() }),
    }
}

/// The exact bytes behind a pointer argument.
pub(super) fn raw(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Path(bytes) | Value::Text(bytes) | Value::Bytes { data: bytes, .. } => Some(bytes.to_vec()),
        Value::Address(address) => Some(address.data.to_vec()),
        _ => None,
    }
}

pub(super) fn path(path: &event::ResolvedPath) -> types::ResolvedPath {
    types::ResolvedPath {
        path: text(&path.path),
        state: match path.state {
            PathState::Exists => types::PathState::Exists,
            PathState::Missing => types::PathState::Missing,
            PathState::Unresolved => types::PathState::Unresolved,
            PathState::Unknown => types::PathState::Unknown,
        },
    }
}

pub(super) fn process(process: &event::Process) -> types::Process {
    let [uid, euid, suid, fsuid] = process.uids;
    let [gid, egid, sgid, fsgid] = process.gids;
    types::Process {
        pid: process.pid as u32,
        parent: process.parent as u32,
        start_time: process.start_time,
        exe: text(&process.exe),
        comm: text(&process.comm),
        argv: process.argv.iter().map(text).collect(),
        cwd: text(&process.cwd),
        uid,
        euid,
        suid,
        fsuid,
        gid,
        egid,
        sgid,
        fsgid,
        capabilities: process.capabilities,
        container: process.container.clone(),
    }
}

pub(super) fn process_event(what: &ProcessEvent) -> types::ProcessEvent {
    match what {
        ProcessEvent::Forked { child, thread } => {
            types::ProcessEvent::Forked(types::ForkInfo { child: *child as u32, thread: *thread })
        }
        ProcessEvent::Executed { previous_exe } => {
            types::ProcessEvent::Executed(types::ExecInfo { previous_exe: text(previous_exe) })
        }
        ProcessEvent::Exited(status) => types::ProcessEvent::Exited(match status {
            ExitStatus::Code(code) => types::ExitStatus::Code(*code),
            ExitStatus::Signal(signal) => types::ExitStatus::Signal(*signal),
        }),
    }
}

/// Most alerts taken from one answer, most fields of one alert, and most bytes
/// of a text in it: an alert is for people.
const MAX_ALERTS: usize = 64;
const MAX_FIELDS: usize = 64;
const MAX_TEXT: usize = 16 * 1024;

/// A plugin's verdict; an errno that cannot be is a fault.
pub(super) fn verdict(verdict: types::Verdict) -> Result<Answer, String> {
    let action = match verdict.action {
        types::Action::Allow => Action::Allow,
        types::Action::Deny(number) => Action::Deny(
            Errno::new(number)
                .ok_or_else(|| format!("it answered deny({number}), which is no errno: deny takes 1 to 133"))?,
        ),
    };
    Ok(Answer { action, alerts: alerts(verdict.alerts), fault: None })
}

pub(super) fn alerts(alerts: Vec<types::Alert>) -> Vec<event::Alert> {
    let short = |text: String| if text.len() > MAX_TEXT { shortened(&text, MAX_TEXT).to_owned() } else { text };
    alerts
        .into_iter()
        .take(MAX_ALERTS)
        .map(|alert| event::Alert {
            rule: short(alert.rule),
            severity: match alert.severity {
                types::Severity::Info => event::Severity::Info,
                types::Severity::Low => event::Severity::Low,
                types::Severity::Medium => event::Severity::Medium,
                types::Severity::High => event::Severity::High,
                types::Severity::Critical => event::Severity::Critical,
            },
            message: short(alert.message),
            fields: alert
                .fields
                .into_iter()
                .take(MAX_FIELDS)
                .map(|(name, value)| (short(name), short(value)))
                .collect(),
        })
        .collect()
}

/// Lists problems as `POINTER: MESSAGE`.
pub(super) fn issues(issues: Vec<lifecycle::Issue>) -> Vec<Issue> {
    issues.into_iter().map(|issue| Issue { pointer: issue.pointer, message: issue.message }).collect()
}
