#![doc = include_str!("FORMAT.md")]

use std::time::{SystemTime, UNIX_EPOCH};

use bstr::BString;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Serialize as DeriveSerialize};

use super::encoding::{Bounded, Bytes, BytesListRef};
use crate::decode::Arch;
use crate::event::{Action, Alert, Answer, Errno};

/// Version of the format that this host writes, and the latest that it reads.
pub const VERSION: u32 = 1;
/// Longest line in bytes.
pub const MAX_LINE: usize = 16 << 20;
/// Highest id of a process entry.
pub const MAX_PROCESSES: u32 = 65_535;
/// What a reader's process table may take, measured in bytes of trace.
pub const MAX_PROCESS_BYTES: usize = 64 << 20;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the host that recorded.
    pub host: String,
    /// Architecture of the machine. Each event names its own, which differs
    /// for 32-bit programs.
    pub arch: String,
    /// Nanoseconds since the Unix epoch.
    pub started: u64,
    /// The program that was run; empty if the host attached.
    pub command: Vec<BString>,
    /// Names of the plugins that ran live. Their verdicts are in the trace.
    pub plugins: Vec<String>,
}

impl Header {
    /// The header of a recording that begins now on this machine.
    pub fn now(command: Vec<BString>, plugins: Vec<String>) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self {
            host: env!("CARGO_PKG_VERSION").to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            started,
            command,
            plugins,
        }
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("tracegate", "trace")?;
        map.serialize_entry("version", &VERSION)?;
        map.serialize_entry("host", &self.host)?;
        map.serialize_entry("arch", &self.arch)?;
        map.serialize_entry("started", &self.started)?;
        if !self.command.is_empty() {
            map.serialize_entry("command", &BytesListRef(&self.command))?;
        }
        if !self.plugins.is_empty() {
            map.serialize_entry("plugins", &self.plugins)?;
        }
        map.end()
    }
}

/// The header's fields beyond those that say whether it is one of ours.
#[derive(Deserialize)]
pub(super) struct HeaderLine {
    host: String,
    arch: String,
    started: u64,
    #[serde(default)]
    command: Bounded<Bytes, 65_536>,
    #[serde(default)]
    plugins: Bounded<String, 1024>,
}

impl From<HeaderLine> for Header {
    fn from(line: HeaderLine) -> Self {
        Self {
            host: line.host,
            arch: line.arch,
            started: line.started,
            command: line.command.0.into_iter().map(|bytes| bytes.0).collect(),
            plugins: line.plugins.0,
        }
    }
}

/// How much a plugin's denial counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeriveSerialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The call was denied.
    #[default]
    Enforce,
    /// The call ran; the denial was only reported.
    Monitor,
}

impl Mode {
    /// As operators write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }
}

/// What a plugin answered live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRecord {
    /// The event that it is about.
    pub seq: u64,
    /// Name of the plugin.
    pub plugin: String,
    /// Its mode.
    pub mode: Mode,
    /// Its answer.
    pub answer: Answer,
}

/// `"action":"deny","errno":"EACCES"`, `"alerts"` and `"fault"`: the part that
/// traces and golden files have in common.
pub(super) fn write_answer<M: SerializeMap>(map: &mut M, answer: &Answer) -> Result<(), M::Error> {
    match answer.action {
        Action::Allow => map.serialize_entry("action", "allow")?,
        Action::Deny(errno) => {
            map.serialize_entry("action", "deny")?;
            map.serialize_entry("errno", &errno)?;
        }
    }
    map.serialize_entry("alerts", &answer.alerts)?;
    if let Some(fault) = &answer.fault {
        map.serialize_entry("fault", fault)?;
    }
    Ok(())
}

/// The fields that [`write_answer`] writes, as read.
pub(super) struct AnswerFields {
    pub action: ActionName,
    pub errno: Option<Errno>,
    pub alerts: Bounded<Alert, 65_536>,
    pub fault: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ActionName {
    Allow,
    Deny,
}

impl TryFrom<AnswerFields> for Answer {
    type Error = &'static str;

    fn try_from(fields: AnswerFields) -> Result<Self, &'static str> {
        let action = match (fields.action, fields.errno) {
            (ActionName::Allow, None) => Action::Allow,
            (ActionName::Deny, Some(errno)) => Action::Deny(errno),
            (ActionName::Allow, Some(_)) => return Err("an errno, but the action is \"allow\""),
            (ActionName::Deny, None) => return Err("the action is \"deny\", but there is no errno"),
        };
        Ok(Self { action, alerts: fields.alerts.0, fault: fields.fault })
    }
}

impl Serialize for VerdictRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "verdict")?;
        map.serialize_entry("seq", &self.seq)?;
        map.serialize_entry("plugin", &self.plugin)?;
        map.serialize_entry("mode", &self.mode)?;
        write_answer(&mut map, &self.answer)?;
        map.end()
    }
}

/// A verdict line as read.
#[derive(Deserialize)]
pub(super) struct VerdictLine {
    pub seq: u64,
    plugin: String,
    mode: Mode,
    action: ActionName,
    errno: Option<Errno>,
    #[serde(default)]
    alerts: Bounded<Alert, 65_536>,
    fault: Option<String>,
}

impl TryFrom<VerdictLine> for VerdictRecord {
    type Error = &'static str;

    fn try_from(line: VerdictLine) -> Result<Self, &'static str> {
        let VerdictLine { seq, plugin, mode, action, errno, alerts, fault } = line;
        Ok(Self { seq, plugin, mode, answer: AnswerFields { action, errno, alerts, fault }.try_into()? })
    }
}

/// Name of a calling convention in a trace, as in `decode`'s own serialization.
pub(super) const fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64",
        Arch::X32 => "x32",
        Arch::X86 => "x86",
        Arch::Aarch64 => "aarch64",
    }
}

/// The calling convention of this name.
pub(super) fn arch_named(name: &str) -> Option<Arch> {
    Arch::ALL.into_iter().find(|arch| arch_name(*arch) == name)
}
