//! From the options of a command to loaded plugins.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::test_plugin::{self, Judge, TestPlugin};
use crate::decode::Arch;
use crate::event::{Answer, Event};
use crate::plugin::{self, Cache, Limits, Metering, Mode, OnError, Plugin, Runtime, Wanted};
use crate::source::{self, BUILTINS, PluginRef};

/// Which plugins run, and how.
#[derive(Args, Clone, Debug)]
pub(super) struct PluginOptions {
    /// Plugin to load: a file, or builtin:NAME. Repeatable; asked in this
    /// order. NAME=REF gives it another name. Without any, the embedded
    /// default set runs
    #[arg(long = "plugin", value_name = "[NAME=]REF")]
    plugins: Vec<NamedRef>,

    /// Settings of a plugin, as JSON or from a file
    #[arg(long, value_name = "NAME=JSON|NAME=@FILE", value_parser = pair)]
    settings: Vec<(String, String)>,

    /// Carry out a plugin's denials (enforce, the default), or only tell of
    /// them (monitor)
    #[arg(long, value_name = "NAME=enforce|monitor", value_parser = pair)]
    mode: Vec<(String, String)>,

    /// What becomes of a call that a plugin fails to judge; default deny in
    /// enforce mode, allow in monitor mode
    #[arg(long, value_name = "NAME=allow|deny", value_parser = pair)]
    on_error: Vec<(String, String)>,

    /// Longest time for one judgement, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    deadline: u64,

    /// Most memory for each plugin, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    memory: u64,
}

/// A reference with the name that the operator gives it.
#[derive(Clone, Debug)]
struct NamedRef {
    name: Option<String>,
    reference: PluginRef,
}

impl FromStr for NamedRef {
    type Err = crate::source::SourceError;

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
        _ => Err("expected NAME=VALUE, with the plugin's name".into()),
    }
}

/// Longest settings, in bytes.
const MAX_SETTINGS: u64 = 1 << 20;

/// A JSON text, or the content of the file after `@`.
pub(super) fn text_or_file(text: &str) -> anyhow::Result<String> {
    match text.strip_prefix('@') {
        Some(file) => {
            let read = || {
                let mut text = String::new();
                source::open_regular(file.as_ref())?.take(MAX_SETTINGS + 1).read_to_string(&mut text)?;
                if text.len() as u64 > MAX_SETTINGS { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
            };
            read().map_err(|error: std::io::Error| anyhow::anyhow!("cannot read settings from {file}: {error}"))
        }
        None => Ok(text.to_owned()),
    }
}

impl PluginOptions {
    /// The plugins' files, and where their compiled code is kept.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let plugins = self.plugins.iter().filter_map(|named| match &named.reference {
            PluginRef::Path(file) => Some(file.clone()),
            PluginRef::Builtin(_) => None,
        });
        plugins.chain(Cache::of_user().map(|cache| cache.directory().to_owned()))
    }

    /// Loads and configures all of them.
    pub(super) fn load(&self) -> anyhow::Result<Vec<Plugin>> {
        let runtime = runtime(Metering::Clock)?;
        let mut per_name = PerName::new(self)?;
        let plugins = if self.plugins.is_empty() {
            let references = BUILTINS.iter().map(|builtin| (None, PluginRef::Builtin(builtin), Some(builtin)));
            references
                .map(|(name, reference, builtin)| {
                    self.load_one(&runtime, name, &reference, &mut per_name, builtin.map(|b| (b.mode, b.settings)))
                })
                .collect::<anyhow::Result<Vec<_>>>()?
        } else {
            let load = |named: &NamedRef| {
                self.load_one(&runtime, named.name.as_deref(), &named.reference, &mut per_name, None)
            };
            self.plugins.iter().map(load).collect::<anyhow::Result<Vec<_>>>()?
        };
        for (index, plugin) in plugins.iter().enumerate() {
            if plugins[..index].iter().any(|other| other.name() == plugin.name()) {
                bail!(
                    "two plugins are called {0}: give one another name, as in --plugin other={0}.wasm",
                    plugin.name()
                );
            }
        }
        per_name.check_all_used(&plugins)?;
        Ok(plugins)
    }

    fn load_one(
        &self,
        runtime: &Arc<Runtime>,
        name: Option<&str>,
        reference: &PluginRef,
        per_name: &mut PerName,
        default: Option<(Mode, &str)>,
    ) -> anyhow::Result<Plugin> {
        let opened = plugin::open(runtime, &reference.read()?, &reference.to_string())?;
        let name = name.unwrap_or(&opened.description().name).to_owned();
        let (mode, settings) = default.unwrap_or((Mode::Enforce, "{}"));
        let mode = per_name.modes.remove(&name).unwrap_or(mode);
        let wanted = Wanted {
            mode,
            on_error: per_name.on_errors.remove(&name).unwrap_or(mode.default_on_error()),
            limits: Limits { deadline: Duration::from_millis(self.deadline), memory: (self.memory << 20) as usize },
            settings: per_name.settings.remove(&name).unwrap_or_else(|| settings.into()),
            name,
        };
        Ok(opened.configure(wanted)?)
    }
}

/// The options that name a plugin, until one takes them.
struct PerName {
    settings: BTreeMap<String, String>,
    modes: BTreeMap<String, Mode>,
    on_errors: BTreeMap<String, OnError>,
}

impl PerName {
    fn new(options: &PluginOptions) -> anyhow::Result<Self> {
        let mode = |text: &str| match text {
            "enforce" => Ok(Mode::Enforce),
            "monitor" => Ok(Mode::Monitor),
            _ => bail!("{text:?} is no mode: give enforce or monitor"),
        };
        let on_error = |text: &str| match text {
            "allow" => Ok(OnError::Allow),
            "deny" => Ok(OnError::Deny),
            _ => bail!("{text:?} is no failure policy: give allow or deny"),
        };
        Ok(Self {
            settings: per_name(&options.settings, text_or_file).context("--settings")?,
            modes: per_name(&options.mode, mode).context("--mode")?,
            on_errors: per_name(&options.on_error, on_error).context("--on-error")?,
        })
    }

    fn check_all_used(&self, plugins: &[Plugin]) -> anyhow::Result<()> {
        let left = self.settings.keys().chain(self.modes.keys()).chain(self.on_errors.keys()).next();
        if let Some(name) = left {
            let known: Vec<_> = plugins.iter().map(Plugin::name).collect();
            bail!("an option names plugin {name:?}, but the plugins of this run are {}", known.join(", "));
        }
        Ok(())
    }
}

fn per_name<T>(
    pairs: &[(String, String)],
    parse: impl Fn(&str) -> anyhow::Result<T>,
) -> anyhow::Result<BTreeMap<String, T>> {
    let mut map = BTreeMap::new();
    for (name, text) in pairs {
        if map.insert(name.clone(), parse(text).with_context(|| format!("for plugin {name}"))?).is_some() {
            bail!("given twice for plugin {name}");
        }
    }
    Ok(map)
}

/// A runtime with the user's code cache.
pub(super) fn runtime(metering: Metering) -> anyhow::Result<Arc<Runtime>> {
    let runtime = Runtime::new(metering, Cache::of_user());
    Ok(Arc::new(runtime.map_err(|error| anyhow::anyhow!("cannot start the Wasm engine: {error:#}"))?))
}

/// `host test-plugin`.
pub(super) fn test(args: &TestPlugin) -> ExitCode {
    test_plugin::run(args, &mut |settings| {
        let reference: PluginRef = args.plugin.parse()?;
        let runtime = runtime(Metering::Fuel)?;
        let opened = plugin::open(&runtime, &reference.read()?, &reference.to_string())?;
        let name = opened.description().name.clone();
        let settings = settings.unwrap_or("{}").to_owned();
        let plugin = opened.configure(Wanted { settings, ..Wanted::enforcing(&name) })?;
        Ok(Box::new(Replayed(plugin)))
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
