//! The manifest as it is written. Each type is also its own part of the JSON
//! Schema, which editors use and which the reader checks by: what a field may
//! hold is said here and nowhere else.
#![allow(clippy::doc_markdown, reason = "they are texts of the schema")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::{Capability, Limits, Mode, OnError};

/// What a Tracegate host runs: plugins, whom it trusts, where alerts go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// Version of the manifest's format.
    #[schemars(range(min = 1, max = 1))]
    pub format: u32,

    /// The embedded plugins to run, where `plugins` names none.
    pub profile: Option<Profile>,

    /// What holds for each plugin that says nothing else.
    #[serde(default)]
    pub defaults: Running,

    /// The plugins, in the order in which they are asked. Left out: those of
    /// the profile.
    #[serde(default)]
    pub plugins: Vec<Entry>,

    /// Where alerts go: "stderr", "stdout", or a file.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub alerts: Option<Vec<String>>,

    /// Whose plugins are run.
    #[serde(default)]
    pub trust: Trust,

    /// How to look for new plugins and a new manifest.
    pub reload: Option<Reload>,

    /// How to reach stores and registries.
    #[serde(default)]
    pub network: Network,

    /// A directory of the host's own, mode 0700, for what plugins keep and for
    /// the versions that were run. Left out: neither outlives the host.
    pub state: Option<PathBuf>,

    /// How to look into a running host.
    #[serde(default)]
    pub status: Status,
}

/// Which embedded plugins run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// sensitive-files, enforced
    Minimal,
    /// and process-monitor, which reports unexpected programs
    #[default]
    Balanced,
    /// and process-monitor reports every program
    Aggressive,
}

/// How a plugin runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Running {
    /// Carry out its denials (enforce, the default), or only tell of them.
    pub mode: Option<Mode>,

    /// What becomes of a call that it fails to judge. Left out: "deny" in
    /// enforce mode, "allow" in monitor mode.
    pub on_error: Option<OnError>,

    /// Longest time for one judgement, in milliseconds; 10 if left out.
    #[schemars(range(min = 1, max = 60_000))]
    pub deadline_ms: Option<u32>,

    /// Most memory, in MiB; 64 if left out.
    #[schemars(range(min = 1, max = 4096))]
    pub memory_mib: Option<u32>,

    /// Most alerts in one second; 5000 if left out. Others are counted.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub alert_rate: Option<u32>,

    /// Most lines of the log in one second; 100 if left out. Others are counted.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub log_rate: Option<u32>,
}

impl Running {
    /// This, and what it leaves open as `defaults` has it.
    pub(super) fn or(&self, defaults: &Self) -> Self {
        Self {
            mode: self.mode.or(defaults.mode),
            on_error: self.on_error.or(defaults.on_error),
            deadline_ms: self.deadline_ms.or(defaults.deadline_ms),
            memory_mib: self.memory_mib.or(defaults.memory_mib),
            alert_rate: self.alert_rate.or(defaults.alert_rate),
            log_rate: self.log_rate.or(defaults.log_rate),
        }
    }

    /// The limits that it comes to, and what it leaves open.
    pub fn limits(&self, otherwise: Limits) -> Limits {
        Limits {
            deadline: self.deadline_ms.map_or(otherwise.deadline, |ms| Duration::from_millis(ms.into())),
            memory: self.memory_mib.map_or(otherwise.memory, |mib| (mib as usize) << 20),
            alert_rate: self.alert_rate.unwrap_or(otherwise.alert_rate),
            log_rate: self.log_rate.unwrap_or(otherwise.log_rate),
        }
    }
}

/// One plugin.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// What to call it. Left out: what it calls itself.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub name: Option<String>,

    /// Where it is: a file (relative to the manifest), builtin:NAME,
    /// s3://BUCKET/KEY, oci://REGISTRY/REPOSITORY:TAG, or https://…. A
    /// directory stands for all of its *.wasm files, by name; the settings of
    /// each are in a file of the same name that ends in .json.
    pub source: String,

    /// SHA-256 of the component, in hexadecimal: nothing else is run.
    #[schemars(regex(pattern = "^(sha256:)?[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,

    /// Names of those keys in `trust.keys` that may have signed it. Left out:
    /// any of them.
    #[schemars(length(min = 1))]
    pub keys: Option<BTreeSet<String>>,

    /// Accept a version below the highest that was ever run.
    #[serde(default)]
    pub allow_rollback: bool,

    /// What it may use. It is refused if it asks for more. Left out:
    /// everything for files and builtins, nothing for what came over the
    /// network.
    pub grants: Option<BTreeSet<Capability>>,

    /// Its settings.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub settings: Option<serde_json::Value>,

    /// Carry out its denials (enforce), or only tell of them (monitor).
    pub mode: Option<Mode>,

    /// What becomes of a call that it fails to judge.
    pub on_error: Option<OnError>,

    /// Longest time for one judgement, in milliseconds.
    #[schemars(range(min = 1, max = 60_000))]
    pub deadline_ms: Option<u32>,

    /// Most memory, in MiB.
    #[schemars(range(min = 1, max = 4096))]
    pub memory_mib: Option<u32>,

    /// Most alerts in one second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub alert_rate: Option<u32>,

    /// Most lines of the log in one second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub log_rate: Option<u32>,
}

impl Entry {
    /// How it runs, as far as it says so.
    pub(super) fn running(&self) -> Running {
        Running {
            mode: self.mode,
            on_error: self.on_error,
            deadline_ms: self.deadline_ms,
            memory_mib: self.memory_mib,
            alert_rate: self.alert_rate,
            log_rate: self.log_rate,
        }
    }
}

/// Whose plugins are run.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trust {
    /// Public keys by name: minisign's (`RW…`), or PEM of an ECDSA P-256 key
    /// as cosign writes it.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,

    /// What becomes of plugins from the network with neither a pin nor a
    /// signature.
    #[serde(default)]
    pub unsigned: Unsigned,
}

/// What becomes of remote plugins that nobody vouches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Unsigned {
    /// They are not run
    #[default]
    Refuse,
    /// They are run
    Allow,
}

/// How to look for new plugins and a new manifest.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reload {
    /// Seconds between two looks at what is remote; a little more or less, so
    /// that a fleet does not look at once. Files are watched.
    #[schemars(range(min = 1, max = 86_400))]
    pub every_s: u32,
}

/// How to reach stores and registries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// S3 and what speaks like it.
    #[serde(default)]
    pub s3: S3,
    /// OCI registries by host, with port if there is one.
    #[serde(default)]
    pub oci: BTreeMap<String, Registry>,
    /// Hosts, with port if there is one, that are spoken to without TLS.
    /// Those of the machine itself always are.
    #[serde(default)]
    pub plain_http: BTreeSet<String>,
}

/// S3. What is left out is taken from the environment, as by AWS's own tools:
/// `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`
/// (the role of an ECS task) and others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct S3 {
    /// URL of a store that is not AWS's.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
}

/// An account at a registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registry {
    /// User.
    pub username: String,
    /// File that holds the password, and perhaps a newline.
    pub password_file: PathBuf,
}

/// How to look into a running host.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Status {
    /// Path of a socket for `host status`.
    pub socket: Option<PathBuf>,
    /// Loopback address and port for Prometheus and health checks, such as
    /// "127.0.0.1:9464".
    pub metrics: Option<String>,
}
