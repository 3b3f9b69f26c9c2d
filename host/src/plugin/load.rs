//! Bytes → a configured [`Plugin`].
//!
//! Everything about a component is checked before a tracee exists: that it is
//! Wasm, that it is of our contract and version, that it imports nothing
//! else, that its settings fit, that its subscription can be.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::InstancePre;

use super::componentize::{self, ComponentizeError};
use super::convert;
use super::imports::{Context, Kept};
use super::instance::{Fault, Hooks, Instance};
use super::ledger::Ledgers;
use super::runtime::Runtime;
use super::subscription::{Lane, Subscription, SubscriptionError};
use super::wit::{self, types};
use super::{Capability, Limits, Mode, OnError, Plugin, Suspension};
use crate::budget::Budget;
use crate::schema::{self, Issue};
use crate::source::MAX_BYTES;
use crate::trust::{Digest, Grounds, Verified};

const PACKAGE: &str = "tracegate:plugin/";
/// Most functions of a plugin: each costs the compiler about 5 KiB and 0.1 ms.
/// Interpreters of Python and JavaScript have some ten thousand.
const MAX_FUNCTIONS: u64 = 50_000;
const INTERFACES: [&str; 4] = ["types", "log", "state", "metrics"];

/// A plugin cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LoadError {
    #[error("plugin {plugin} is {size} bytes long; at most {MAX_BYTES} are taken")]
    TooLarge { plugin: String, size: usize },
    #[error("plugin {plugin} has more than {MAX_FUNCTIONS} functions")]
    TooManyFunctions { plugin: String },
    #[error("plugin {plugin}: {source}")]
    NotAComponent { plugin: String, source: ComponentizeError },
    #[error("plugin {plugin} does not compile: {source:#}")]
    Invalid { plugin: String, source: wasmtime::Error },
    #[error(
        "plugin {plugin} is a component of another world: it exports no {PACKAGE}lifecycle (it exports {found}). \
         Build it with plugin-sdk, or for the world `plugin` of wit/plugin.wit"
    )]
    OtherWorld { plugin: String, found: String },
    #[error(
        "plugin {plugin} speaks version {found} of {PACKAGE}*, this host speaks {}: rebuild the plugin, or use a host of its version",
        wit::VERSION
    )]
    OtherVersion { plugin: String, found: String },
    #[error(
        "plugin {plugin} imports {import}, which no plugin gets: only {PACKAGE}{{types, log, state, metrics}}. \
         Build it without WASI (target wasm32-unknown-unknown)"
    )]
    ForeignImport { plugin: String, import: String },
    #[error("plugin {plugin} does not fit the contract {PACKAGE}*@{}: {message}", wit::VERSION)]
    Contract { plugin: String, message: String },
    #[error("plugin {plugin} failed while it was {doing}: {message}")]
    Failed { plugin: String, doing: &'static str, message: String },
    #[error("the settings of plugin {plugin} are not JSON: {source}")]
    NotJson { plugin: String, source: serde_json::Error },
    #[error("the settings of plugin {plugin} are wrong:{}", Listed(.issues))]
    Settings { plugin: String, issues: Vec<Issue> },
    #[error("plugin {plugin}: what it kept cannot be read: {source}")]
    State { plugin: String, source: std::io::Error },
    #[error(
        "plugin {plugin} asks for {asked}, which is not granted to it: if it should have that, \
         grant it with `grants` in the manifest or --grant {name}={asked}"
    )]
    NotGranted { plugin: String, name: String, asked: String },
    #[error("plugin {plugin}: {source}")]
    Subscription { plugin: String, source: SubscriptionError },
}

/// Issues, one a line.
struct Listed<'a>(&'a [Issue]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Issue { pointer, message } in self.0 {
            let place = if pointer.is_empty() { "(whole)" } else { pointer };
            write!(f, "\n  {place}: {message}")?;
        }
        Ok(())
    }
}

/// How the operator wants a plugin to run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What to call it.
    pub name: String,
    /// Whether its denials are carried out.
    pub mode: Mode,
    /// What becomes of calls that it fails to judge.
    pub on_error: OnError,
    /// Its limits.
    pub limits: Limits,
    /// JSON text.
    pub settings: String,
    /// They are known to fit its schema: the host brings along both.
    pub settings_fit: bool,
    /// What it may ask for.
    pub grants: BTreeSet<Capability>,
    /// Which plugin it is.
    pub identity: Identity,
    /// Where what it keeps outlives the run.
    pub ledgers: Option<Ledgers>,
}

/// Which plugin it is, whatever the operator calls it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What it calls itself.
    pub own_name: String,
    /// Where it came from.
    pub reference: String,
    /// SHA-256 of its component.
    pub digest: Digest,
    /// Why it may run.
    pub grounds: Grounds,
}

impl Wanted {
    /// A plugin as it runs unless the operator says otherwise.
    pub fn enforcing(verified: &Verified, opened: &Opened) -> Self {
        let own_name = opened.description().name.clone();
        Self {
            name: own_name.clone(),
            mode: Mode::Enforce,
            on_error: Mode::Enforce.default_on_error(),
            limits: Limits::default(),
            settings: "{}".into(),
            settings_fit: false,
            grants: Capability::all(),
            ledgers: None,
            identity: Identity {
                own_name,
                reference: verified.name().to_owned(),
                digest: verified.digest(),
                grounds: verified.grounds().clone(),
            },
        }
    }
}

/// A plugin that has been checked and has said what it is, and now needs to
/// be told how to run.
pub struct Opened {
    runtime: Arc<Runtime>,
    origin: String,
    pre: InstancePre<Context>,
    hooks: Hooks,
    instance: Instance,
    description: types::Description,
    asks: BTreeSet<Capability>,
}

/// The time that a plugin gets to start: more than a judgement, since it is
/// the first that a fresh instance does.
fn start() -> Limits {
    Limits { deadline: Duration::from_secs(1), ..Limits::default() }
}

/// Checks a component and asks it what it is.
pub fn open(runtime: &Arc<Runtime>, verified: &Verified) -> Result<Opened, LoadError> {
    let (bytes, origin) = (verified.bytes(), verified.name());
    let plugin = || origin.to_owned();
    if bytes.len() > MAX_BYTES {
        return Err(LoadError::TooLarge { plugin: plugin(), size: bytes.len() });
    }
    let component =
        componentize::componentize(bytes).map_err(|source| LoadError::NotAComponent { plugin: plugin(), source })?;
    if functions(&component) > MAX_FUNCTIONS {
        return Err(LoadError::TooManyFunctions { plugin: plugin() });
    }
    let digest = match &component {
        Cow::Borrowed(_) => verified.digest(),
        Cow::Owned(made) => Digest::of(made),
    };
    let component =
        runtime.compile(&component, digest).map_err(|source| LoadError::Invalid { plugin: plugin(), source })?;
    check_names(runtime, &component, origin)?;
    let asks = Capability::asked_by(&component, runtime.linker().engine());
    let contract = |error: wasmtime::Error| LoadError::Contract { plugin: plugin(), message: format!("{error:#}") };
    let pre = runtime.linker().instantiate_pre(&component).map_err(contract)?;
    let hooks = Hooks::of(&pre).map_err(contract)?;
    let failed = |doing| move |Fault(message)| LoadError::Failed { plugin: origin.to_owned(), doing, message };
    let mut instance =
        Instance::new(runtime, &pre, &hooks, origin, &mut Kept::default(), &start()).map_err(failed("instantiated"))?;
    let description = instance.describe(runtime, &start()).map_err(failed("asked to describe itself"))?;
    let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if description.name.is_empty() || description.name.len() > 64 || !description.name.chars().all(named) {
        let message = format!("it calls itself {:?}; a name is 1 to 64 letters, digits and hyphens", description.name);
        return Err(LoadError::Contract { plugin: plugin(), message });
    }
    Ok(Opened { runtime: runtime.clone(), origin: plugin(), pre, hooks, instance, description, asks })
}

impl Opened {
    /// What it says of itself.
    pub fn description(&self) -> &types::Description {
        &self.description
    }

    /// What it can use, and so has to be granted.
    pub fn asks(&self) -> &BTreeSet<Capability> {
        &self.asks
    }

    /// Configures it.
    pub fn configure(mut self, wanted: Wanted) -> Result<Plugin, LoadError> {
        let plugin = || self.origin.clone();
        let denied: BTreeSet<_> = self.asks.difference(&wanted.grants).copied().collect();
        if !denied.is_empty() {
            return Err(LoadError::NotGranted { plugin: plugin(), name: wanted.name, asked: super::listed(&denied) });
        }
        if !wanted.settings_fit {
            check_settings(&self.description, &wanted.settings, &self.origin)?;
        }
        if let Some(ledgers) = wanted.ledgers {
            let (ledger, entries) =
                ledgers.of(&wanted.name).map_err(|source| LoadError::State { plugin: plugin(), source })?;
            self.instance.remember(ledger, entries);
        }
        let subscription = self
            .instance
            .configure(&self.runtime, &start(), &wanted.settings)
            .map_err(|Fault(message)| LoadError::Failed { plugin: plugin(), doing: "configured", message })?
            .map_err(|issues| LoadError::Settings { plugin: plugin(), issues: convert::issues(issues) })?;
        self.instance.kept_mut().commit();
        check_hooks(&self.hooks, &subscription, &self.origin)?;
        let subscription =
            Subscription::new(subscription).map_err(|source| LoadError::Subscription { plugin: plugin(), source })?;
        if subscription.lane == Lane::Observe && wanted.mode == Mode::Enforce {
            tracing::debug!(plugin = wanted.name, "runs in the observe lane: it can alert, not deny");
        }
        self.instance.rename(&wanted.name);
        self.instance.limit_memory(wanted.limits.memory);
        self.instance.kept_mut().log = Budget::a_second(wanted.limits.log_rate);
        let shown = self.instance.kept().metrics.clone();
        Ok(Plugin {
            shown,
            stats: Arc::default(),
            name: wanted.name,
            version: self.description.version,
            identity: wanted.identity,
            mode: wanted.mode,
            on_error: wanted.on_error,
            limits: wanted.limits,
            settings: wanted.settings,
            subscription,
            runtime: self.runtime,
            pre: self.pre,
            hooks: self.hooks,
            instance: Some(self.instance),
            kept: Kept::default(),
            suspension: Suspension::default(),
            alerts: Budget::a_second(wanted.limits.alert_rate),
        })
    }
}

/// Functions of all modules within a component, as far as it can be read: what
/// cannot is told by the compiler.
fn functions(component: &[u8]) -> u64 {
    let sections = wasmparser::Parser::new(0).parse_all(component).map_while(Result::ok);
    let counts = sections.map(|section| match section {
        wasmparser::Payload::FunctionSection(functions) => u64::from(functions.count()),
        _ => 0,
    });
    counts.sum()
}

/// Checks what a component imports and exports, by name, so that the error
/// says which.
fn check_names(runtime: &Runtime, component: &wasmtime::component::Component, origin: &str) -> Result<(), LoadError> {
    let ty = component.component_type();
    let engine = runtime.linker().engine();
    let plugin = || origin.to_owned();
    let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let Some(lifecycle) = exports.iter().find_map(|name| name.strip_prefix("tracegate:plugin/lifecycle@")) else {
        let found = if exports.is_empty() { "nothing".into() } else { exports.join(", ") };
        return Err(LoadError::OtherWorld { plugin: plugin(), found });
    };
    // Before 1.0 a minor version is a contract of its own (semver.org, 4).
    let line = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    if line(lifecycle) != line(wit::VERSION) {
        return Err(LoadError::OtherVersion { plugin: plugin(), found: lifecycle.to_owned() });
    }
    for (import, _) in ty.imports(engine) {
        let interface = import.strip_prefix(PACKAGE).and_then(|rest| rest.split('@').next());
        if !interface.is_some_and(|name| INTERFACES.contains(&name)) {
            return Err(LoadError::ForeignImport { plugin: plugin(), import: import.to_owned() });
        }
    }
    Ok(())
}

/// A subscription to a hook that is not there would be silence.
fn check_hooks(hooks: &Hooks, subscription: &types::Subscription, origin: &str) -> Result<(), LoadError> {
    let phases = |phase| subscription.rules.iter().any(|rule| rule.phase == phase);
    let wanted = [
        (phases(types::Phase::Entry), hooks.entry(), "syscall-entry"),
        (phases(types::Phase::Exit), hooks.exit(), "syscall-exit"),
        (!subscription.processes.is_empty(), hooks.processes(), "process-events"),
    ];
    match wanted.into_iter().find(|(wants, has, _)| *wants && !has) {
        Some((_, _, hook)) => Err(LoadError::Contract {
            plugin: origin.to_owned(),
            message: format!("it subscribes to events of {PACKAGE}{hook}, which it does not export"),
        }),
        None => Ok(()),
    }
}

fn check_settings(description: &types::Description, settings: &str, origin: &str) -> Result<(), LoadError> {
    let plugin = || origin.to_owned();
    let settings: serde_json::Value =
        serde_json::from_str(settings).map_err(|source| LoadError::NotJson { plugin: plugin(), source })?;
    let broken =
        |message: String| LoadError::Failed { plugin: plugin(), doing: "asked for its settings schema", message };
    let schema = serde_json::from_str(&description.settings_schema)
        .map_err(|error| broken(format!("it is not JSON: {error}")))?;
    let issues =
        schema::issues(&schema, &settings).map_err(|error| broken(format!("it is no JSON Schema: {error}")))?;
    if issues.is_empty() { Ok(()) } else { Err(LoadError::Settings { plugin: plugin(), issues }) }
}
