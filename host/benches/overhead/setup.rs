//! What all measurements share: where things are, and how a program is run
//! with or without a tracer.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The surroundings of a run of the benchmark.
#[derive(Debug)]
pub(crate) struct Setup {
    /// This executable, which is also the traced program.
    pub(crate) itself: PathBuf,
    /// A directory of our own, with the file that is opened and the cache.
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) rounds: u32,
    /// Fewer calls and rounds: to see that it works, not to measure.
    pub(crate) quick: bool,
}

/// Name of the file that the traced programs open.
pub(crate) const OPENED: &str = "opened";

/// The host's executable.
pub(crate) const HOST: &str = env!("CARGO_BIN_EXE_host");

impl Setup {
    pub(crate) fn new(quick: bool, rounds: Option<u32>) -> anyhow::Result<Self> {
        let scratch = tempfile::tempdir()?;
        std::fs::write(scratch.path().join(OPENED), b"content")?;
        let rounds = rounds.unwrap_or(if quick { 2 } else { 25 });
        Ok(Self { itself: std::env::current_exe()?, scratch, rounds, quick })
    }

    /// That file.
    pub(crate) fn opened(&self) -> PathBuf {
        self.scratch.path().join(OPENED)
    }

    /// How often to repeat, given how often a full run does.
    pub(crate) fn times(&self, full: u64) -> u64 {
        if self.quick { full / 5 } else { full }
    }

    /// A host with a code cache of our own: the user's is neither used nor
    /// changed.
    pub(crate) fn host(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut host = Command::new(HOST);
        host.args(arguments).env("XDG_CACHE_HOME", self.scratch.path().join("cache")).env_remove("TRACEGATE_LOG");
        host
    }
}

/// Options for eight plugins: both embedded ones, four times.
pub(crate) fn eight_plugins() -> Vec<String> {
    let plugins = (0..4)
        .flat_map(|n| [format!("files{n}=builtin:sensitive-files"), format!("monitor{n}=builtin:process-monitor")]);
    plugins.flat_map(|plugin| ["--plugin".to_owned(), plugin]).collect()
}

/// The component of examples/raw-path.
pub(crate) fn raw_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/raw-path/raw-path.wasm")
}

/// Runs a command that must end well; what it printed.
pub(crate) fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", command.get_program().display(), output.status, said.trim_end());
    }
    Ok(String::from_utf8(output.stdout)?)
}
