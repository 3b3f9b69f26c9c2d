//! What the operator wants: from a manifest and the command line to one
//! [`Config`], in which nothing is wrong any more that can be told without
//! looking at the plugins themselves.
//!
//! All mistakes are told at once, each with its place. This module never
//! fetches anything and never starts anything.

mod manifest;
mod overrides;
mod place;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

pub use manifest::{Entry, Manifest, Network, Profile, Registry, Running, S3, Unsigned};
pub use overrides::Overrides;

use crate::output::Destination;
use crate::plugin::{Capability, Limits, Mode, OnError};
use crate::schema::{self, Issue};
use crate::source::{self, BUILTINS, PluginRef};
use crate::trust::{Digest, Keys};

/// Longest manifest, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// What to run, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The plugins, in the order in which they are asked.
    pub plugins: Vec<PluginConfig>,
    /// What the command line says of plugins by name.
    pub overrides: Overrides,
    /// Where alerts go.
    pub alerts: Vec<Destination>,
    /// Who may sign plugins.
    pub keys: Keys,
    /// What becomes of remote plugins that nobody vouches for.
    pub unsigned: Unsigned,
    /// Between two looks for something new; none if there are none.
    pub every: Option<Duration>,
    /// How to reach stores and registries.
    pub network: Network,
    /// Where the host notes which versions were run.
    pub state: Option<PathBuf>,
    /// Socket of `host status`.
    pub socket: Option<PathBuf>,
    /// Address for Prometheus and health checks.
    pub metrics: Option<SocketAddr>,
    /// Files and directories that it was read from, beside the manifest and
    /// the plugins.
    pub read_from: Vec<PathBuf>,
}

/// One plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// What to call it; what it calls itself if none.
    pub name: Option<String>,
    /// Where it is.
    pub reference: PluginRef,
    /// The only component that is run.
    pub pin: Option<Digest>,
    /// Names of the keys that may have signed it; any if none.
    pub keys: Option<BTreeSet<String>>,
    /// An older version than one seen before may run.
    pub allow_rollback: bool,
    /// What it may use; by its origin if none.
    pub grants: Option<BTreeSet<Capability>>,
    /// JSON text.
    pub settings: String,
    /// Whether its denials are carried out.
    pub mode: Option<Mode>,
    /// What becomes of calls that it fails to judge.
    pub on_error: Option<OnError>,
    /// Its limits.
    pub limits: Limits,
}

impl PluginConfig {
    /// A plugin of which nothing else is said.
    pub fn new(reference: PluginRef) -> Self {
        Self {
            name: None,
            reference,
            pin: None,
            keys: None,
            allow_rollback: false,
            grants: None,
            settings: "{}".to_owned(),
            mode: None,
            on_error: None,
            limits: Limits::default(),
        }
    }
}

/// A manifest that cannot be used, with all that is wrong in it.
#[derive(Debug, thiserror::Error)]
#[error("{origin} cannot be used:{}", Lines(issues))]
pub struct ConfigError {
    /// The manifest.
    pub origin: String,
    /// What is wrong, and where.
    pub issues: Vec<Placed>,
}

/// A mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Placed {
    /// Line, from 1, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Pointer and message.
    #[serde(flatten)]
    pub issue: Issue,
}

struct Lines<'a>(&'a [Placed]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Placed { line, issue } in self.0 {
            f.write_str("\n  ")?;
            if let Some(line) = line {
                write!(f, "line {line}: ")?;
            }
            if !issue.pointer.is_empty() {
                write!(f, "{}: ", issue.pointer)?;
            }
            f.write_str(&issue.message)?;
        }
        Ok(())
    }
}

/// The JSON Schema of the manifest, for editors.
pub fn json_schema() -> Value {
    schemars::schema_for!(Manifest).to_value()
}

/// A manifest's text and where it comes from.
#[derive(Debug)]
pub struct Source<'a> {
    /// What to call it in errors.
    pub origin: &'a str,
    /// TOML, or JSON if it begins with `{`.
    pub text: &'a str,
    /// The directory that relative paths start from; none are taken if it
    /// came over the network.
    pub directory: Option<&'a Path>,
}

impl Source<'_> {
    /// Reads and checks the manifest. `known` is what was said beside it, as by
    /// options: whoever vouches there vouches here, too.
    pub fn read(&self, known: &Config) -> Result<Config, ConfigError> {
        let json = self.text.trim_start().starts_with('{');
        let value = if json { self.json() } else { self.toml() }?;
        let mut issues = schema::issues(&json_schema(), &value).unwrap_or_else(|error| vec![Issue::at("", error)]);
        // What does not fit the schema may still be read, and then all else is looked at, too.
        match serde_json::from_value::<Manifest>(value) {
            Ok(manifest) => match Config::of(manifest, self.directory, known) {
                Ok(config) if issues.is_empty() => return Ok(config),
                Ok(_) => {}
                Err(mut found) => {
                    found.retain(|found| !issues.iter().any(|issue| issue.pointer == found.pointer));
                    issues.append(&mut found);
                }
            },
            Err(error) if issues.is_empty() => issues.push(Issue::at("", error.to_string())),
            Err(_) => {}
        }
        let place =
            |issue: Issue| Placed { line: if json { None } else { place::line(self.text, &issue.pointer) }, issue };
        let mut placed: Vec<Placed> = issues.into_iter().map(place).collect();
        placed.sort_by_key(|placed| placed.line);
        Err(self.error(placed))
    }

    fn error(&self, issues: Vec<Placed>) -> ConfigError {
        ConfigError { origin: self.origin.to_owned(), issues }
    }

    fn json(&self) -> Result<Value, ConfigError> {
        serde_json::from_str(self.text).map_err(|error| {
            let issue = Issue::at("", format!("not JSON: {error}"));
            self.error(vec![Placed { line: Some(error.line()), issue }])
        })
    }

    fn toml(&self) -> Result<Value, ConfigError> {
        toml::from_str(self.text).map_err(|error| {
            let line = error.span().and_then(|span| Some(self.text.get(..span.start)?.matches('\n').count() + 1));
            self.error(vec![Placed { line, issue: Issue::at("", format!("not TOML: {}", error.message())) }])
        })
    }
}

impl Config {
    /// The embedded plugins of a profile, and nothing else.
    pub fn of_profile(name: Profile) -> Self {
        Self::running(profile(name, &Running::default()))
    }

    /// These plugins, and nothing else.
    pub fn running(plugins: Vec<PluginConfig>) -> Self {
        Self {
            plugins,
            overrides: Overrides::default(),
            alerts: vec![Destination::Stderr],
            keys: Keys::default(),
            unsigned: Unsigned::default(),
            every: None,
            network: Network::default(),
            state: None,
            socket: None,
            metrics: None,
            read_from: Vec::new(),
        }
    }

    fn of(manifest: Manifest, directory: Option<&Path>, known: &Self) -> Result<Self, Vec<Issue>> {
        let mut issues = Vec::new();
        let mut keys = Keys::default();
        for (name, text) in &manifest.trust.keys {
            if let Err(error) = keys.add(name, text) {
                issues.push(Issue::at(format!("/trust/keys/{}", escaped(name)), error.to_string()));
            }
        }
        let metrics = manifest.status.metrics.as_deref().and_then(|text| match loopback(text) {
            Ok(address) => Some(address),
            Err(message) => {
                issues.push(Issue::at("/status/metrics", message));
                None
            }
        });
        let reader = Reader { manifest: &manifest, directory, known };
        let mut plugins: Vec<PluginConfig> = Vec::new();
        for (index, entry) in manifest.plugins.iter().enumerate() {
            let plugin = reader.plugin(&format!("/plugins/{index}"), entry, &mut issues);
            if let Some(name) = &entry.name
                && manifest.plugins[..index].iter().any(|other| other.name.as_ref() == Some(name))
            {
                issues.push(Issue::at(
                    format!("/plugins/{index}/name"),
                    format!("another plugin is called {name:?}, too"),
                ));
            }
            plugins.extend(plugin);
        }
        if manifest.plugins.is_empty() {
            plugins = profile(manifest.profile.unwrap_or_default(), &manifest.defaults);
        } else if manifest.profile.is_some() {
            issues.push(Issue::at("/profile", "a profile has plugins of its own: give it, or `plugins`"));
        }
        let alerts = manifest.alerts.iter().flatten().map(|text| destination(text, directory)).collect::<Vec<_>>();
        if !issues.is_empty() {
            return Err(issues);
        }
        Ok(Self {
            plugins,
            overrides: Overrides::default(),
            alerts: if alerts.is_empty() { vec![Destination::Stderr] } else { alerts },
            keys,
            unsigned: manifest.trust.unsigned,
            every: manifest.reload.map(|reload| Duration::from_secs(reload.every_s.into())),
            network: manifest.network,
            state: manifest.state.map(|path| from(directory, path)),
            socket: manifest.status.socket.map(|path| from(directory, path)),
            metrics,
            read_from: Vec::new(),
        })
    }

    /// The plugins' files.
    pub fn plugin_files(&self) -> impl Iterator<Item = PathBuf> {
        self.plugins.iter().filter_map(|plugin| match &plugin.reference {
            PluginRef::Path(file) => Some(file.clone()),
            _ => None,
        })
    }

    /// The files of the operator's that it names.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let alerts = self.alerts.iter().filter_map(|alerts| match alerts {
            Destination::File(file) => Some(file.clone()),
            _ => None,
        });
        self.plugin_files()
            .chain(self.read_from.iter().cloned())
            .chain(alerts)
            .chain(self.state.clone())
            .chain(self.socket.clone())
    }
}

/// The embedded plugins of a profile.
fn profile(profile: Profile, defaults: &Running) -> Vec<PluginConfig> {
    let members = BUILTINS.iter().filter_map(|builtin| {
        let settings = builtin.settings_in(profile)?;
        Some(PluginConfig {
            settings: settings.to_owned(),
            mode: Some(defaults.mode.unwrap_or(builtin.mode)),
            on_error: defaults.on_error,
            limits: defaults.limits(Limits::default()),
            ..PluginConfig::new(PluginRef::Builtin(builtin))
        })
    });
    members.collect()
}

/// What entries are read with.
struct Reader<'a> {
    manifest: &'a Manifest,
    directory: Option<&'a Path>,
    known: &'a Config,
}

impl Reader<'_> {
    /// Whether there is a key of this name.
    fn has_key(&self, name: &str) -> bool {
        self.manifest.trust.keys.contains_key(name) || self.known.keys.iter().any(|(known, _)| known == name)
    }

    /// Whether somebody may vouch for a plugin. What it calls itself is not
    /// known here, so any pin by name could be meant for one without a name.
    fn may_be_vouched(&self, entry: &Entry) -> bool {
        let pins = &self.known.overrides.pins;
        let pinned = entry.name.as_ref().map_or(!pins.is_empty(), |name| pins.contains_key(name));
        let keys = !self.manifest.trust.keys.is_empty() || !self.known.keys.is_empty();
        let open = [self.manifest.trust.unsigned, self.known.unsigned].contains(&Unsigned::Allow);
        entry.sha256.is_some() || pinned || keys || open
    }

    /// One plugin; none if something is wrong with it.
    fn plugin(&self, at: &str, entry: &Entry, issues: &mut Vec<Issue>) -> Option<PluginConfig> {
        let before = issues.len();
        let mut wrong = |field: &str, message: String| issues.push(Issue::at(format!("{at}/{field}"), message));
        let reference = match entry.source.parse::<PluginRef>() {
            Ok(PluginRef::Path(path)) if path.is_relative() && self.directory.is_none() => {
                wrong(
                    "source",
                    format!("{} is relative to nothing: the manifest came over the network", path.display()),
                );
                None
            }
            Ok(PluginRef::Path(path)) => Some(PluginRef::Path(from(self.directory, path))),
            Ok(reference) => Some(reference),
            Err(error) => {
                wrong("source", error.to_string());
                None
            }
        };
        let pin = entry.sha256.as_deref().and_then(|text| match text.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(error) => {
                wrong("sha256", error.to_string());
                None
            }
        });
        for name in entry.keys.iter().flatten().filter(|name| !self.has_key(name)) {
            wrong("keys", format!("neither `trust.keys` nor --key has a key {name:?}"));
        }
        if let Some(reference) = &reference
            && reference.is_remote()
            && !self.may_be_vouched(entry)
        {
            wrong("source", source::UNVOUCHED.to_owned());
        }
        if issues.len() > before {
            return None;
        }
        let running = entry.running().or(&self.manifest.defaults);
        Some(PluginConfig {
            name: entry.name.clone(),
            reference: reference?,
            pin,
            keys: entry.keys.clone(),
            allow_rollback: entry.allow_rollback,
            grants: entry.grants.clone(),
            settings: entry.settings.as_ref().map_or_else(|| "{}".to_owned(), Value::to_string),
            mode: running.mode,
            on_error: running.on_error,
            limits: running.limits(Limits::default()),
        })
    }
}

/// A path, from the manifest's directory if it is relative.
fn from(directory: Option<&Path>, path: PathBuf) -> PathBuf {
    match directory {
        Some(directory) => directory.join(path),
        None => path,
    }
}

fn destination(text: &str, directory: Option<&Path>) -> Destination {
    match text.parse::<Destination>() {
        Ok(Destination::File(file)) => Destination::File(from(directory, file)),
        Ok(other) => other,
        Err(never) => match never {},
    }
}

/// An address that only this machine (or its network namespace) reaches.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| format!("{text:?} is no address with a port, such as 127.0.0.1:9464"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{text} can be reached from outside; give a loopback address, such as 127.0.0.1:9464"))
    }
}

/// A step of a JSON pointer.
fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
