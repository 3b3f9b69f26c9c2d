//! An alert as one line of JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bstr::{BString, ByteSlice};
use serde_json::{Map, Value as Json, json};

use crate::decode;
use crate::event::{Alert, Call, Errno, Event, Kind, ProcessEvent, Value};

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call runs.
    Allowed,
    /// The call does not run.
    Denied(Errno),
    /// The plugin would deny it, but is in monitor mode, or too late.
    WouldDeny(Errno),
}

impl Effect {
    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::Denied(_) => "deny",
            Self::WouldDeny(_) => "would-deny",
        }
    }
}

/// The line, without its end.
pub(super) fn line(event: &Event, plugin: &str, alert: &Alert, effect: Effect) -> String {
    let mut line = head(event.time_ns, alert, plugin, effect.name());
    if let Effect::Denied(errno) | Effect::WouldDeny(errno) = effect {
        line.insert("errno".into(), json!(errno.to_string()));
    }
    line.insert("pid".into(), json!(event.pid));
    line.insert("tid".into(), json!(event.tid));
    line.insert("exe".into(), text(&event.process().exe));
    match &event.kind {
        Kind::Entry(call) | Kind::Exit(call, _) => {
            line.insert("syscall".into(), json!(call.arch.syscall_name(call.nr)));
            line.insert("args".into(), arguments(call));
        }
        Kind::Process(what) => {
            let name = match what {
                ProcessEvent::Forked { .. } => "fork",
                ProcessEvent::Executed { .. } => "exec",
                ProcessEvent::Exited(_) => "exit",
            };
            line.insert("event".into(), json!(name));
            line.insert("syscall".into(), Json::Null);
            line.insert("args".into(), json!(event.process().argv.iter().map(text).collect::<Vec<_>>()));
        }
    }
    line.insert("seq".into(), json!(event.seq));
    line.insert("fields".into(), Json::Object(alert.fields.iter().map(|(k, v)| (k.clone(), json!(v))).collect()));
    Json::Object(line).to_string()
}

/// A line of the host's own, about no event.
pub(super) fn own_line(alert: &Alert) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Json::Object(head(now.as_nanos() as u64, alert, "host", "allow")).to_string()
}

fn head(time_ns: u64, alert: &Alert, plugin: &str, action: &str) -> Map<String, Json> {
    let time = humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(time_ns)).to_string();
    let mut line = Map::new();
    line.insert("time".into(), json!(time));
    line.insert("rule".into(), json!(alert.rule));
    line.insert("severity".into(), json!(alert.severity));
    line.insert("message".into(), json!(alert.message));
    line.insert("plugin".into(), json!(plugin));
    line.insert("action".into(), json!(action));
    line
}

fn text(bytes: &BString) -> Json {
    json!(bytes.to_str_lossy())
}

/// Arguments by name: names and texts as they are, numbers as numbers, all
/// else as people write it.
fn arguments(call: &Call) -> Json {
    let value = |index: usize, value: &Value| match value {
        Value::Int(number) => json!(number),
        Value::Uint(number) => json!(number),
        Value::Path(bytes) | Value::Text(bytes) => text(bytes),
        Value::Strings(strings) => json!(strings.items.iter().map(text).collect::<Vec<_>>()),
        Value::Absent => Json::Null,
        _ => json!(decode::describe(call, index)),
    };
    let named = call.spec.args.iter().zip(&call.arguments).enumerate();
    Json::Object(named.map(|(index, (arg, argument))| (arg.name.to_owned(), value(index, &argument.value))).collect())
}
