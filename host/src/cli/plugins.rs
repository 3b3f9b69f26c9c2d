//! From a manifest and the options of a command to plugins.
#![allow(clippy::doc_markdown, reason = "they are help texts")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::network::NetworkOptions;
use super::test_plugin::{self, Judge, TestPlugin};
use crate::config::{self, Config, PluginConfig, Profile, Running, Unsigned};
use crate::decode::Arch;
use crate::event::{Answer, Event};
use crate::output::Destination;
use crate::plugin::{self, Cache, Capability, Ledgers, Metering, Plugin, Runtime, Successor, Wanted};
use crate::sight::{self, Sight};
use crate::source::{self, PluginRef, RefError};
use crate::supply::{self, Origin, Supplier};
use crate::trust::{Digest, Keys};

/// Which plugins run, and how.
#[derive(Args, Clone, Debug)]
pub(super) struct PluginOptions {
    /// Manifest of plugins and everything else: a file, s3:// or https://.
    /// Options other than --plugin and --profile add to it and win over it
    #[arg(long, value_name = "REF", conflicts_with_all = ["plugins", "profile"])]
    config: Option<PluginRef>,

    /// SHA-256 that the manifest must have
    #[arg(long, value_name = "SHA256", requires = "config")]
    config_sha256: Option<Digest>,

    /// Plugin to load: a file, a directory with NAME.wasm files and perhaps
    /// NAME.json for their settings, builtin:NAME, s3://BUCKET/KEY,
    /// oci://REGISTRY/REPOSITORY:TAG or https://…. Repeatable; asked in this
    /// order. NAME=REF gives it another name. Without any, the profile's run
    #[arg(long = "plugin", value_name = "[NAME=]REF")]
    plugins: Vec<NamedRef>,

    /// The embedded plugins that run when none is named
    #[arg(long, value_enum, conflicts_with = "plugins")]
    profile: Option<Profile>,

    /// Settings of a plugin, as JSON or from a file
    #[arg(long, value_name = "NAME=JSON|NAME=@FILE", value_parser = pair)]
    settings: Vec<(String, String)>,

    /// Carry out denials of all plugins or of one (enforce, the default), or
    /// only tell of them (monitor)
    #[arg(long, value_name = "[NAME=]enforce|monitor", value_parser = word)]
    mode: Vec<Given<String>>,

    /// What becomes of a call that a plugin, or this one, fails to judge;
    /// default deny in enforce mode, allow in monitor mode. quarantine is deny
    /// until the plugin has failed too often, and allow from then on
    #[arg(long, value_name = "[NAME=]allow|deny|quarantine", value_parser = word)]
    on_error: Vec<Given<String>>,

    /// What a plugin may use: state, descriptors, memory, environment, or none; default
    /// everything for files and builtins, nothing for what came over the
    /// network
    #[arg(long, value_name = "NAME=CAPABILITY,…", value_parser = pair)]
    grant: Vec<(String, String)>,

    /// SHA-256 that a plugin must have
    #[arg(long, value_name = "NAME=SHA256", value_parser = pair)]
    pin: Vec<(String, String)>,

    #[command(flatten)]
    keys: KeyOptions,

    /// Names of those keys that may have signed a plugin; any, if not given.
    /// The plugin's name is that of --plugin NAME=REF or of the manifest
    #[arg(long, value_name = "NAME=KEYNAME,…", value_parser = pair)]
    signed_by: Vec<(String, String)>,

    /// Accept a version of a signed plugin below the highest that was ever run
    #[arg(long, value_name = "NAME")]
    allow_rollback: Vec<String>,

    #[command(flatten)]
    network: NetworkOptions,

    /// What becomes of remote plugins with neither a pin nor a signature
    #[arg(long, value_enum, value_name = "refuse|allow")]
    unsigned: Option<Unsigned>,

    /// Longest time for one judgement, in milliseconds, of all plugins or of
    /// one; 10 if not given
    #[arg(long, value_name = "[NAME=]MS", value_parser = limit::<60_000>)]
    deadline: Vec<Given<u32>>,

    /// Most memory for each plugin, or for one, in MiB; 64 if not given
    #[arg(long, value_name = "[NAME=]MIB", value_parser = limit::<4096>)]
    memory: Vec<Given<u32>>,

    /// Most alerts of each plugin, or of one, in one second; 5000 if not given
    #[arg(long, value_name = "[NAME=]N", value_parser = limit::<1_000_000>)]
    alert_rate: Vec<Given<u32>>,

    /// Most lines of each plugin, or of one, in the log in one second; 100 if
    /// not given
    #[arg(long, value_name = "[NAME=]N", value_parser = limit::<1_000_000>)]
    log_rate: Vec<Given<u32>>,

    /// Look for new plugins and a new manifest, and replace them without
    /// losing an event: remote ones every so many seconds, files when they
    /// change
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    reload: Option<u32>,

    /// Directory of the host's own for what plugins keep, and for the versions
    /// that were run: older ones of signed plugins are refused
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,

    /// Socket to make, on which `host status` finds this host
    #[arg(long, value_name = "PATH")]
    status_socket: Option<PathBuf>,

    /// Loopback address and port to serve Prometheus (/metrics) and health
    /// checks (/healthz, /readyz) on
    #[arg(long, value_name = "ADDRESS", value_parser = config::loopback)]
    metrics: Option<SocketAddr>,
}

/// Whom to trust.
#[derive(Args, Clone, Debug)]
pub(super) struct KeyOptions {
    /// Public key, by a name of yours, that may sign remote plugins and a
    /// remote manifest: minisign's, or the PEM of an ECDSA P-256 key. Files are
    /// asked for signatures only by `keys` of a manifest
    #[arg(long, value_name = "NAME=KEY|NAME=@FILE", value_parser = pair)]
    key: Vec<(String, String)>,
}

impl KeyOptions {
    /// The keys.
    pub(super) fn keys(&self) -> anyhow::Result<Keys> {
        let mut keys = Keys::default();
        self.add_to(&mut keys)?;
        Ok(keys)
    }

    fn add_to(&self, keys: &mut Keys) -> anyhow::Result<()> {
        for (name, text) in per_name(&self.key, text_or_file).context("--key")? {
            let hint = if std::path::Path::new(&text).exists() {
                format!(" (a file is --key {name}=@{text})")
            } else {
                String::new()
            };
            keys.add(&name, &text).with_context(|| format!("--key {name}{hint}"))?;
        }
        Ok(())
    }
}

/// A reference with the name that the operator gives it.
#[derive(Clone, Debug)]
struct NamedRef {
    name: Option<String>,
    reference: PluginRef,
}

impl FromStr for NamedRef {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        match text.split_once('=') {
            Some((name, reference)) if is_name(name) => {
                Ok(Self { name: Some(name.into()), reference: reference.parse()? })
            }
            _ => Ok(Self { name: None, reference: text.parse()? }),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// What is said of all plugins, or of one.
#[derive(Clone, Debug)]
struct Given<T> {
    name: Option<String>,
    value: T,
}

/// `[NAME=]WORD`.
fn word(text: &str) -> Result<Given<String>, String> {
    match text.rsplit_once('=') {
        Some(("", _)) => Err("expected [NAME=]VALUE".into()),
        Some((name, value)) => Ok(Given { name: Some(name.into()), value: value.into() }),
        None => Ok(Given { name: None, value: text.into() }),
    }
}

/// `[NAME=]NUMBER`, from 1 to `MOST`.
fn limit<const MOST: u32>(text: &str) -> Result<Given<u32>, String> {
    let Given { name, value: number } = word(text)?;
    match number.parse() {
        Ok(value) if number.starts_with(|first: char| first.is_ascii_digit()) && (1..=MOST).contains(&value) => {
            Ok(Given { name, value })
        }
        _ => Err(format!("{number} is not a number from 1 to {MOST}")),
    }
}

/// How plugins run, as far as options say: all, and those that are named.
#[derive(Default)]
struct Said {
    all: Running,
    named: BTreeMap<String, Running>,
}

impl Said {
    fn take<T>(
        &mut self,
        option: &str,
        given: impl IntoIterator<Item = Given<T>>,
        field: fn(&mut Running) -> &mut Option<T>,
    ) -> anyhow::Result<()> {
        for Given { name, value } in given {
            let whose = name.clone().unwrap_or_else(|| "all plugins".into());
            let running = name.map_or(&mut self.all, |name| self.named.entry(name).or_default());
            if field(running).replace(value).is_some() {
                bail!("{option}: given twice for {whose}");
            }
        }
        Ok(())
    }
}

/// Words that the manifest takes, too.
fn choices<T: serde::de::DeserializeOwned>(
    given: &[Given<String>],
    help: &'static str,
) -> anyhow::Result<Vec<Given<T>>> {
    given
        .iter()
        .map(|Given { name, value }| Ok(Given { name: name.clone(), value: choice(value).context(help)? }))
        .collect()
}

/// A text, or the content of the file after `@`.
pub(super) fn text_or_file(text: &str) -> anyhow::Result<String> {
    match text.strip_prefix('@') {
        Some(file) => source::read_text(file.as_ref()).map_err(|error| anyhow::anyhow!("cannot read {file}: {error}")),
        None => Ok(text.to_owned()),
    }
}

impl PluginOptions {
    /// What these options and the manifest say together.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let mut config = self.bootstrap()?;
        if let Some(reference) = &self.config {
            config = supply::manifest(reference, &config, self.config_sha256)?;
            self.apply(&mut config)?;
        }
        supply::expand(&mut config)?;
        self.restrict_signers(&mut config)?;
        Ok(config)
    }

    /// Which keys count for which plugin must be known before it is fetched, so
    /// that what it calls itself comes too late.
    fn restrict_signers(&self, config: &mut Config) -> anyhow::Result<()> {
        for (name, keys) in per_name(&self.signed_by, |text| Ok(names(text))).context("--signed-by")? {
            anyhow::ensure!(!keys.is_empty(), "--signed-by: for {name}: give the name of a --key");
            if let Some(unknown) = keys.iter().find(|key| !config.keys.iter().any(|(known, _)| known == *key)) {
                bail!("--signed-by: for {name}: there is no --key {unknown}=…, nor one in the manifest");
            }
            let is_named = |plugin: &PluginConfig| match &plugin.reference {
                PluginRef::Builtin(builtin) => plugin.name.as_deref().unwrap_or(builtin.name) == name,
                _ => plugin.name.as_ref() == Some(&name),
            };
            let plugin = config.plugins.iter_mut().find(|plugin| is_named(plugin));
            if plugin.as_ref().is_some_and(|plugin| matches!(plugin.reference, PluginRef::Builtin(_))) {
                bail!("--signed-by: {name} is embedded in the host, and nobody signs it");
            }
            let plugin =
                plugin.with_context(|| format!("--signed-by: no plugin is named {name}; give --plugin {name}=REF"))?;
            plugin.keys = Some(keys);
        }
        Ok(())
    }

    /// What these options say alone.
    fn bootstrap(&self) -> anyhow::Result<Config> {
        let mut config = match self.plugins.as_slice() {
            [] => Config::of_profile(self.profile.unwrap_or_default()),
            plugins => Config::running(plugins.iter().map(NamedRef::config).collect()),
        };
        self.apply(&mut config)?;
        Ok(config)
    }

    fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        let Said { all, named } = self.said()?;
        for plugin in &mut config.plugins {
            plugin.limits = all.limits(plugin.limits);
            plugin.mode = all.mode.or(plugin.mode);
            plugin.on_error = all.on_error.or(plugin.on_error);
        }
        let overrides = &mut config.overrides;
        overrides.settings = per_name(&self.settings, text_or_file).context("--settings")?;
        config.read_from.extend(self.settings.iter().filter_map(|(_, text)| text.strip_prefix('@').map(PathBuf::from)));
        overrides.running = named;
        overrides.rollbacks = self.allow_rollback.iter().cloned().collect();
        overrides.grants = per_name(&self.grant, grants).context("--grant")?;
        overrides.pins = per_name(&self.pin, |text| Ok(text.parse::<Digest>()?)).context("--pin")?;
        self.keys.add_to(&mut config.keys)?;
        self.network.apply(&mut config.network)?;
        config.unsigned = self.unsigned.unwrap_or(config.unsigned);
        config.every = self.reload.map(|seconds| Duration::from_secs(seconds.into())).or(config.every);
        config.socket = self.status_socket.clone().or(config.socket.take());
        config.metrics = self.metrics.or(config.metrics);
        config.state = self.state.clone().or(config.state.take());
        Ok(())
    }

    /// How plugins run, as far as it is said here.
    fn said(&self) -> anyhow::Result<Said> {
        let mut said = Said::default();
        said.take("--deadline", self.deadline.clone(), |running| &mut running.deadline_ms)?;
        said.take("--memory", self.memory.clone(), |running| &mut running.memory_mib)?;
        said.take("--alert-rate", self.alert_rate.clone(), |running| &mut running.alert_rate)?;
        said.take("--log-rate", self.log_rate.clone(), |running| &mut running.log_rate)?;
        let modes = choices(&self.mode, "--mode: give enforce or monitor")?;
        said.take("--mode", modes, |running| &mut running.mode)?;
        let policies = choices(&self.on_error, "--on-error: give allow, deny or quarantine")?;
        said.take("--on-error", policies, |running| &mut running.on_error)?;
        Ok(said)
    }

    /// The manifest's file, if it is one.
    fn manifest(&self) -> Option<PathBuf> {
        match &self.config {
            Some(PluginRef::Path(file)) => Some(file.clone()),
            _ => None,
        }
    }

    /// The manifest and the cache: files of the host's that no program may
    /// change.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.manifest().into_iter().chain(Cache::of_user().map(|cache| cache.directory().to_owned()))
    }
}

impl NamedRef {
    fn config(&self) -> PluginConfig {
        PluginConfig { name: self.name.clone(), ..PluginConfig::new(self.reference.clone()) }
    }
}

/// A configuration's plugins, and what can make others.
pub(super) struct Loaded {
    pub(super) plugins: Vec<Plugin>,
    pub(super) config: Config,
    supplier: Supplier,
    origin: Origin,
}

impl PluginOptions {
    /// Loads and configures all plugins.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        let config = self.config()?;
        let mut supplier = Supplier::new(runtime(Metering::Clock)?, &config).context("cannot prepare for plugins")?;
        let plugins = supplier.load(&config)?.plugins;
        let options = self.clone();
        let origin = Origin { read: Box::new(move || options.config()), file: self.manifest() };
        Ok(Loaded { plugins, config, supplier, origin })
    }
}

impl Loaded {
    /// What plugins keep, if it outlives the run.
    pub(super) fn ledgers(&self) -> Option<Ledgers> {
        self.supplier.ledgers()
    }

    /// Lets others see what goes on, as far as that is wanted.
    pub(super) fn show(&self, sight: &Sight) -> anyhow::Result<()> {
        if let Some(path) = &self.config.socket {
            let served = sight::serve_socket(path, sight.clone());
            served.with_context(|| format!("cannot listen on the status socket {}", path.display()))?;
        }
        if let Some(address) = self.config.metrics {
            let served = sight::serve_http(address, sight.clone());
            served.with_context(|| format!("cannot serve metrics on {address}"))?;
        }
        Ok(())
    }

    /// Replaces the plugins of a dispatcher as new ones appear, if that is
    /// wanted.
    pub(super) fn keep_new(self, digests: Vec<Digest>, successor: Successor) -> anyhow::Result<()> {
        if self.config.every.is_none() {
            return Ok(());
        }
        supply::keep_new(self.supplier, self.origin, self.config, digests, successor).context("cannot start a thread")
    }
}

/// A word that the manifest takes, too.
fn choice<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_json::from_value(text.into()).with_context(|| format!("{text:?} is none of them"))
}

/// Names with commas between them.
fn names(text: &str) -> BTreeSet<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn grants(text: &str) -> anyhow::Result<BTreeSet<Capability>> {
    match text {
        "none" => Ok(BTreeSet::new()),
        _ => names(text)
            .iter()
            .map(|name| choice(name))
            .collect::<anyhow::Result<_>>()
            .context("give state, descriptors, memory, environment, or none"),
    }
}

fn per_name<T>(
    pairs: &[(String, String)],
    parse: impl Fn(&str) -> anyhow::Result<T>,
) -> anyhow::Result<BTreeMap<String, T>> {
    let mut map = BTreeMap::new();
    for (name, text) in pairs {
        if map.insert(name.clone(), parse(text).with_context(|| format!("for {name}"))?).is_some() {
            bail!("given twice for {name}");
        }
    }
    Ok(map)
}

/// The alert destinations: the option's, or else the configuration's.
pub(super) fn destinations(option: &[Destination], config: &Config) -> Vec<Destination> {
    if option.is_empty() { config.alerts.clone() } else { option.to_vec() }
}

/// A runtime with the user's code cache.
pub(super) fn runtime(metering: Metering) -> anyhow::Result<Arc<Runtime>> {
    let runtime = Runtime::new(metering, Cache::of_user());
    Ok(Arc::new(runtime.map_err(|error| anyhow::anyhow!("cannot start the Wasm engine: {error:#}"))?))
}

/// `host test-plugin`.
pub(super) fn test(args: &TestPlugin) -> ExitCode {
    test_plugin::run(args, &mut |settings| {
        let verified = supply::for_tool(&args.plugin.parse()?)?;
        let opened = plugin::open(&runtime(Metering::Fuel)?, &verified)?;
        let settings = settings.unwrap_or("{}").to_owned();
        let wanted = Wanted { settings, ..Wanted::enforcing(&verified, &opened) };
        Ok(Box::new(Replayed(opened.configure(wanted)?)))
    })
}

struct Replayed(Plugin);

impl Judge for Replayed {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn wants(&self, arch: Arch, nr: u32, exit: bool) -> bool {
        self.0.subscription().may_want(arch, nr, exit)
    }

    fn wants_event(&mut self, event: &Event) -> bool {
        self.0.subscription().wants(event)
    }

    fn judge(&mut self, event: &Arc<Event>) -> Answer {
        self.0.ask(event)
    }
}
