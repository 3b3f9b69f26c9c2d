//! The whole way of a set of plugins: fetched, verified, compiled, checked,
//! configured. All of them, or none.
//!
//! This happens before a program runs and, for a new set, beside the loop: it
//! may wait for the network and for the compiler. It never touches the set
//! that is in use.

mod directory;
mod reload;
mod store;
mod versions;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

pub use self::directory::expand;
pub use self::reload::{Origin, start as keep_new};
use self::store::Store;
use self::versions::Versions;
use crate::config::{self, Config, PluginConfig, Unsigned};
use crate::plugin::{self, Identity, Ledgers, LoadError, Mode, Plugin, Runtime, Wanted};
use crate::source::{FetchError, Fetched, Fetcher, PluginRef, Tag, Wants};
use crate::trust::{Candidate, Demand, Digest, Grounds, TrustError, Verified};

/// Plugins that belong together.
#[derive(Debug)]
pub struct Set {
    /// In the order in which they are asked.
    pub plugins: Vec<Plugin>,
    /// Where they were found.
    obtained: Vec<Obtained>,
}

/// A set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SupplyError {
    /// Bytes that cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Bytes that may not be run.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Bytes that are no plugin, or do not take their settings.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An old version.
    #[error(
        "plugin {name} from {reference}: {objection}. If that is meant: pin its sha256, or give --allow-rollback {name} (`allow-rollback` of a manifest)"
    )]
    Rollback {
        /// Which.
        name: String,
        /// From where.
        reference: String,
        /// What is wrong.
        objection: String,
    },
    /// Several plugins, each with what is wrong.
    #[error("{} plugins cannot be used:{}", .0.len(), .0.iter().fold(String::new(), |text, error| text + "\n  " + &error.to_string()))]
    Several(Vec<SupplyError>),
    /// Two of one name.
    #[error("two plugins are called {0}: give one another name, as in --plugin other=REF or `name`")]
    SameName(String),
    /// An option for nobody.
    #[error("an option names plugin {name:?}, but the plugins of this run are {}", .plugins.join(", "))]
    UnknownName {
        /// The name.
        name: String,
        /// Those that there are.
        plugins: Vec<String>,
    },
}

impl SupplyError {
    /// Nothing is wrong but that sources do not answer.
    fn is_away(&self) -> bool {
        match self {
            Self::Fetch(_) => true,
            Self::Several(errors) => errors.iter().all(Self::is_away),
            _ => false,
        }
    }
}

/// Makes sets.
#[derive(Debug)]
pub struct Supplier {
    runtime: Arc<Runtime>,
    fetcher: Fetcher,
    store: Option<Store>,
    versions: Versions,
    ledgers: Option<Ledgers>,
    /// Names of the plugins that run: who takes over from one inherits from it.
    running: BTreeSet<String>,
}

/// Bytes with where they were found.
#[derive(Debug)]
struct Obtained {
    candidate: Candidate,
    tag: Option<Tag>,
    /// They are not in the store yet.
    fresh: bool,
}

impl Supplier {
    /// For what a configuration names.
    ///
    /// # Errors
    /// If the state directory is of no use, or the kernel refuses.
    pub fn new(runtime: Arc<Runtime>, config: &Config) -> io::Result<Self> {
        let remote = config.every.is_some() || config.plugins.iter().any(|plugin| plugin.reference.is_remote());
        let store = if remote { Store::of_user() } else { None };
        let fetcher = Fetcher::new(config.network.clone());
        let versions = Versions::of(config.state.as_deref())?;
        let ledgers = config.state.as_deref().map(Ledgers::open).transpose()?;
        Ok(Self { runtime, fetcher, store, versions, ledgers, running: BTreeSet::new() })
    }

    /// What plugins keep, if it outlives the run.
    pub fn ledgers(&self) -> Option<Ledgers> {
        self.ledgers.clone()
    }

    /// Makes the set that `config` describes.
    ///
    /// # Errors
    /// If any of its plugins cannot be run. Then none is.
    pub fn load(&mut self, config: &Config) -> Result<Set, SupplyError> {
        let set = self.assemble(config, self.obtain_all(config, true)?)?;
        self.accept(config, &set);
        Ok(set)
    }

    /// All, or what is wrong with each that is not.
    fn all<T>(results: impl Iterator<Item = Result<T, SupplyError>>) -> Result<Vec<T>, SupplyError> {
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(one) => all.push(one),
                Err(error) => errors.push(error),
            }
        }
        match (errors.pop(), errors.is_empty()) {
            (None, _) => Ok(all),
            (Some(only), true) => Err(only),
            (Some(last), false) => {
                errors.push(last);
                Err(SupplyError::Several(errors))
            }
        }
    }

    /// The bytes of all plugins. With `stored` those of the last time will do
    /// where a source has nothing to give.
    fn obtain_all(&self, config: &Config, stored: bool) -> Result<Vec<Obtained>, SupplyError> {
        Self::all(config.plugins.iter().map(|wanted| Ok(self.obtain(wanted, wants(config, wanted), stored)?)))
    }

    fn assemble(&self, config: &Config, obtained: Vec<Obtained>) -> Result<Set, SupplyError> {
        let pairs = config.plugins.iter().zip(&obtained);
        let plugins = Self::all(pairs.map(|(wanted, obtained)| self.make(config, wanted, obtained)))?;
        for (index, plugin) in plugins.iter().enumerate() {
            if plugins[..index].iter().any(|other| other.name() == plugin.name()) {
                return Err(SupplyError::SameName(plugin.name().to_owned()));
            }
        }
        let names: BTreeSet<&str> = plugins.iter().map(Plugin::name).collect();
        if let Some(name) = config.overrides.unused(&names) {
            let plugins = plugins.iter().map(|plugin| plugin.name().to_owned()).collect();
            return Err(SupplyError::UnknownName { name: name.to_owned(), plugins });
        }
        Ok(Set { plugins, obtained })
    }

    /// A set is about to run: it is what a restart may fall back to, and
    /// nothing older.
    fn accept(&mut self, config: &Config, set: &Set) {
        if let Some(store) = &self.store {
            for (wanted, obtained) in config.plugins.iter().zip(&set.obtained).filter(|(_, obtained)| obtained.fresh) {
                store.put(&wanted.reference, &obtained.candidate, obtained.tag.as_ref());
            }
        }
        let signed = set.plugins.iter().filter(|plugin| matches!(plugin.identity().grounds, Grounds::Signed { .. }));
        self.running = set.plugins.iter().map(|plugin| plugin.name().to_owned()).collect();
        self.versions.run(signed.map(|plugin| (plugin.identity().own_name.as_str(), plugin.version())));
    }

    /// A plugin's bytes: from its source, or, if that has nothing newer or
    /// nothing at all now, those of the last time.
    fn obtain(&self, wanted: &PluginConfig, wants: Wants, fall_back: bool) -> Result<Obtained, FetchError> {
        let reference = &wanted.reference;
        let stored = self.store.as_ref().filter(|_| reference.is_remote()).and_then(|store| store.get(reference));
        let known = stored.as_ref().and_then(|(_, tag)| tag.as_ref());
        match (self.fetcher.fetch(reference, known, wants), stored) {
            (Ok(Fetched::New(candidate, tag)), _) => {
                let fresh = reference.is_remote();
                Ok(Obtained { candidate, tag, fresh })
            }
            (Ok(Fetched::Unchanged), Some((candidate, tag))) => Ok(Obtained { candidate, tag, fresh: false }),
            (Ok(Fetched::Unchanged), None) => Err(FetchError::nothing_known(reference)),
            (Err(error), Some((candidate, tag))) if fall_back => {
                tracing::warn!("{error}; the one of the last time is run");
                Ok(Obtained { candidate, tag, fresh: false })
            }
            (Err(error), _) => Err(error),
        }
    }

    fn make(&self, config: &Config, wanted: &PluginConfig, obtained: &Obtained) -> Result<Plugin, SupplyError> {
        // Pins by name count before anything is compiled, if the name is the
        // operator's; a plugin's own name is known only then.
        // Until then any of the pins will do.
        let pins = &config.overrides.pins;
        let named = match &wanted.name {
            Some(name) => pins.get(name),
            None if pins.is_empty() => None,
            None => {
                let digest = Digest::of(&obtained.candidate.bytes);
                pins.values().find(|pin| **pin == digest)
            }
        };
        let demand = Demand {
            pin: named.copied().or(wanted.pin),
            keys: &config.keys,
            only: wanted.keys.as_ref(),
            unsigned: config.unsigned,
        };
        let verified = Verified::check(obtained.candidate.clone(), demand)?;
        let opened = plugin::open(&self.runtime, &verified)?;
        let own_name = opened.description().name.clone();
        let name = wanted.name.clone().unwrap_or_else(|| own_name.clone());
        let overrides = &config.overrides;
        if let Some(pinned) = overrides.pins.get(&name).copied()
            && pinned != verified.digest()
        {
            return Err(TrustError::Pin { name: verified.name().to_owned(), found: verified.digest(), pinned }.into());
        }
        let pinned = wanted.pin.is_some() || overrides.pins.contains_key(&name);
        if matches!(verified.grounds(), Grounds::Signed { .. })
            && !wanted.allow_rollback
            && !overrides.rollbacks.contains(&name)
            && !pinned
            && let Some(objection) = self.versions.objection(&own_name, &opened.description().version)
        {
            return Err(SupplyError::Rollback { name, reference: wanted.reference.to_string(), objection });
        }
        let running = overrides.running.get(&name).cloned().unwrap_or_default();
        let mode = running.mode.or(wanted.mode).unwrap_or(Mode::Enforce);
        let on_error = running.on_error.or(wanted.on_error);
        let grants = overrides.grants.get(&name).or(wanted.grants.as_ref()).cloned();
        let by_origin = if wanted.reference.is_remote() { BTreeSet::new() } else { plugin::Capability::all() };
        let settings = overrides.settings.get(&name).unwrap_or(&wanted.settings).clone();
        for (link, real) in links(&settings) {
            tracing::warn!(
                "settings of {name} name {link}, which is {} here: plugins are asked about real names",
                real.display()
            );
        }
        let plugin = opened.configure(Wanted {
            mode,
            on_error: on_error.unwrap_or(mode.default_on_error()),
            limits: running.limits(wanted.limits),
            settings_fit: matches!(wanted.reference, PluginRef::Builtin(builtin) if builtin.brings(&settings)),
            settings,
            grants: grants.unwrap_or(by_origin),
            ledgers: self.ledgers.clone().filter(|_| !self.running.contains(&name)),
            identity: Identity {
                own_name,
                reference: wanted.reference.to_string(),
                digest: verified.digest(),
                grounds: verified.grounds().clone(),
            },
            name,
        })?;
        Ok(plugin)
    }
}

/// Absolute names in settings that lead through a symbolic link as this host
/// sees them, and where to. A rule about one matches nothing.
fn links(settings: &str) -> Vec<(String, PathBuf)> {
    fn texts(value: serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) if text.starts_with('/') => found.push(text),
            serde_json::Value::Array(items) => items.into_iter().for_each(|item| texts(item, found)),
            serde_json::Value::Object(fields) => fields.into_values().for_each(|field| texts(field, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    // What is no JSON the plugin refuses.
    texts(serde_json::from_str(settings).unwrap_or_default(), &mut found);
    let real = |name: String| {
        let real = std::fs::canonicalize(&name).ok()?;
        (real != Path::new(&name)).then_some((name, real))
    };
    found.into_iter().filter_map(real).collect()
}

/// Which signatures a plugin's keys can check.
fn wants(config: &Config, plugin: &PluginConfig) -> Wants {
    if !plugin.reference.is_remote() && plugin.keys.is_none() {
        return Wants::default();
    }
    Wants::of(&config.keys, plugin.keys.as_ref())
}

/// A plugin for a tool, which looks at it or replays with it: the operator has
/// named it, and nothing is enforced.
///
/// # Errors
/// If it cannot be had.
pub fn for_tool(reference: &PluginRef) -> anyhow::Result<Verified> {
    let fetcher = Fetcher::new(crate::config::Network::default());
    let candidate = fetcher.get(reference, Wants::default())?;
    let keys = crate::trust::Keys::default();
    let demand = Demand { pin: None, keys: &keys, only: None, unsigned: Unsigned::Allow };
    Ok(Verified::check(candidate, demand)?)
}

/// Reads a manifest. `bootstrap` is what is known before: who may sign it, and
/// how to reach it.
///
/// # Errors
/// If it cannot be had, may not be trusted, or has mistakes.
pub fn manifest(reference: &PluginRef, bootstrap: &Config, pin: Option<Digest>) -> anyhow::Result<Config> {
    anyhow::ensure!(
        !matches!(reference, PluginRef::Builtin(_) | PluginRef::Oci(_)),
        "{reference}: a manifest is a file, s3:// or https://"
    );
    let fetcher = Fetcher::new(bootstrap.network.clone());
    let wants = if reference.is_remote() { Wants::of(&bootstrap.keys, None) } else { Wants::default() };
    let candidate = fetcher.get(reference, wants)?;
    let demand = Demand { pin, keys: &bootstrap.keys, only: None, unsigned: bootstrap.unsigned };
    let verified = Verified::check(candidate, demand)?;
    let text = std::str::from_utf8(verified.bytes()).with_context(|| format!("{reference} is not UTF-8"))?;
    let directory = match reference {
        PluginRef::Path(file) => Some(std::path::absolute(file)?).and_then(|file| file.parent().map(PathBuf::from)),
        _ => None,
    };
    let source = config::Source { origin: verified.name(), text, directory: directory.as_deref() };
    Ok(source.read(bootstrap)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Profile;
    use crate::plugin::Metering;
    use crate::source::BUILTINS;

    /// They are not held against the schema at each start.
    #[test]
    fn settings_that_the_host_brings_along_fit() {
        let runtime = Arc::new(Runtime::new(Metering::Fuel, None).unwrap());
        for builtin in BUILTINS {
            let profiles = [Profile::Minimal, Profile::Balanced, Profile::Aggressive];
            for settings in profiles.into_iter().filter_map(|profile| builtin.settings_in(profile)) {
                assert!(builtin.brings(settings));
                let verified = Verified::local(builtin.component, builtin.name);
                let opened = plugin::open(&runtime, &verified).unwrap();
                let wanted = Wanted::enforcing(&verified, &opened);
                opened.configure(Wanted { settings: settings.into(), ..wanted }).unwrap();
            }
            assert!(!builtin.brings(r#"{"of": "the operator's"}"#));
        }
    }

    #[test]
    fn names_that_lead_through_links() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(at("real")).unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        std::fs::write(at("real/file"), "").unwrap();
        let settings = serde_json::json!({
            "rules": [{"paths": [at("link/file"), at("real/file"), at("real/"), at("absent"), "link", "/etc/*"]}],
        });
        let found = links(&settings.to_string());
        assert_eq!(found, [(at("link/file"), root.join("real/file"))]);
        assert_eq!(links("no JSON"), []);
    }
}
