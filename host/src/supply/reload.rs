//! Looks for new plugins and a new manifest beside the loop, and has a new set
//! take over when all of it is right.
//!
//! A set that is wrong in any part changes nothing: the one that runs goes on,
//! and the operator is told, once for each thing that is wrong.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Set, Supplier, SupplyError};
use crate::config::Config;
use crate::event::{Alert, Severity};
use crate::plugin::Successor;
use crate::source::told;
use crate::trust::Digest;

/// Pause between two looks at files.
const GLANCE: Duration = Duration::from_secs(1);
/// After failures remote sources are looked at more rarely, up to so many
/// times the interval.
const MOST_PATIENCE: u32 = 8;

/// What a configuration was made from, to be read again.
pub struct Origin {
    /// Reads it.
    pub read: Box<dyn FnMut() -> anyhow::Result<Config> + Send>,
    /// Its file, if it is one.
    pub file: Option<PathBuf>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What can be told of a file without reading it; none if it is not there.
type Look = Option<(u64, u64, u64, i64, i64)>;

fn look(path: &Path) -> Look {
    let found = std::fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime() * 1_000_000_000 + found.mtime_nsec(),
        found.ctime_nsec(),
    ))
}

#[derive(Debug)]
struct Reloader {
    supplier: Supplier,
    origin: Origin,
    config: Config,
    successor: Successor,
    /// Digests of the plugins that run.
    running: Vec<Digest>,
    /// What was told last.
    told: Option<String>,
    failures: u32,
}

/// Starts looking every `config.every`, and at files when they change.
///
/// # Errors
/// If the kernel refuses a thread.
pub fn start(
    supplier: Supplier,
    origin: Origin,
    config: Config,
    running: Vec<Digest>,
    successor: Successor,
) -> io::Result<()> {
    let reloader = Reloader { supplier, origin, config, successor, running, told: None, failures: 0 };
    thread::Builder::new().name("reload".into()).spawn(move || reloader.run()).map(drop)
}

impl Reloader {
    fn run(mut self) {
        let mut seen = self.files();
        let mut next = Instant::now() + self.interval();
        loop {
            thread::sleep(GLANCE);
            let files = self.files();
            // What is still being written changes until the next look.
            let changed = files != seen && {
                thread::sleep(GLANCE / 4);
                self.files() == files
            };
            if !changed && Instant::now() < next {
                continue;
            }
            if changed {
                seen = files;
            }
            match self.renew() {
                Ok(()) => (self.failures, self.told) = (0, None),
                Err(error) => self.failed(&error),
            }
            next = Instant::now() + self.interval();
        }
    }

    /// The files that the configuration names, and what they look like.
    fn files(&self) -> Vec<(PathBuf, Look)> {
        let manifest = self.origin.file.iter().cloned();
        let others = self.config.plugin_files().chain(self.config.read_from.iter().cloned());
        manifest.chain(others).map(|path| (path.clone(), look(&path))).collect()
    }

    /// Until the next look at remote sources: a quarter more or less, so that a
    /// fleet does not look at once; longer after failures.
    fn interval(&self) -> Duration {
        let every = self.config.every.unwrap_or(Duration::from_hours(1));
        let patience = (self.failures + 1).min(MOST_PATIENCE);
        let random = RandomState::new().hash_one(Instant::now()) % 1000;
        every * patience * (750 + random as u32 / 2) / 1000
    }

    /// Has a new set take over, if there is one.
    fn renew(&mut self) -> anyhow::Result<()> {
        let mut config = (self.origin.read)()?;
        // What is decided when the host starts stays.
        config.state.clone_from(&self.config.state);
        let obtained = self.supplier.obtain_all(&config, false)?;
        let found: Vec<Digest> = obtained.iter().map(|obtained| Digest::of(&obtained.candidate.bytes)).collect();
        if config == self.config && found == self.running {
            self.successor.sight().looked();
            return Ok(());
        }
        let mut set = self.supplier.assemble(&config, obtained)?;
        for plugin in &mut set.plugins {
            let name = plugin.name().to_owned();
            plugin.try_out().map_err(|fault| anyhow::anyhow!("plugin {name}: {fault}"))?;
        }
        self.supplier.accept(&config, &set);
        let Set { plugins, .. } = set;
        let names: Vec<String> =
            plugins.iter().map(|plugin| format!("{} {}", plugin.name(), plugin.version())).collect();
        self.successor.succeed(plugins);
        self.successor.sight().reloaded();
        (self.running, self.config) = (found, config);
        let message = format!("plugins were replaced: {}", names.join(", "));
        tracing::info!("{message}");
        self.tell("plugins-replaced", Severity::Info, message);
        Ok(())
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.failures = self.failures.saturating_add(1);
        // A source that is away is no bad set.
        let away = error.downcast_ref::<SupplyError>().is_some_and(SupplyError::is_away);
        let message = format!("the plugins that run go on: {}", told(error.as_ref()));
        self.successor.sight().not_reloaded(&message);
        if self.told.as_ref() == Some(&message) {
            return;
        }
        tracing::warn!("{message}");
        self.tell("plugins-not-replaced", if away { Severity::Low } else { Severity::High }, message.clone());
        self.told = Some(message);
    }

    fn tell(&self, rule: &str, severity: Severity, message: String) {
        let alert = Alert { rule: rule.to_owned(), severity, message, fields: Vec::new() };
        self.successor.output().emit_own(&alert);
    }
}
