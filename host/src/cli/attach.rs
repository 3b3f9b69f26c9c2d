//! `host attach`: programs that run already, under the plugins' eyes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};

use super::plugins::PluginOptions;
use super::run::{OnHostDeath, OutputOptions, signals};
use super::{HOST_FAILED, NOTHING_ATTACHED, fail};
use crate::plugin::Dispatcher;
use crate::tracer::{self, Filters, Options, Role, Selection, Signals, TraceError};

/// Attach to running programs and let plugins judge their system calls
///
/// SIGTERM or SIGINT lets every program go and leaves it running.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host attach --pid 4711
  host attach --all --alerts /var/log/alerts.jsonl       every process in sight, as a sidecar
  host attach --all --name 'nginx*' --user www-data
  host attach --all --container 3f4e --plugin ./mine.wasm

Exit status:
  0    the programs were let go, or have ended
  1    none of those named could be attached to
  125  the host itself failed
  2    wrong command line")]
pub(super) struct Attach {
    #[command(flatten)]
    targets: Targets,

    #[command(flatten)]
    plugins: PluginOptions,

    #[command(flatten)]
    output: OutputOptions,

    /// Install a seccomp filter in the programs, so that only calls which
    /// plugins want stop. It cannot be removed: without a tracer those calls
    /// fail with ENOSYS, so a guardian process takes over if the host dies,
    /// and stays when the host leaves
    #[arg(long)]
    inject_filter: bool,

    /// What becomes of the programs if the host dies: they go on unjudged, or
    /// the kernel kills them
    #[arg(long, value_enum, value_name = "kill|continue", default_value = "continue")]
    on_host_death: OnHostDeath,
}

/// Which programs.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("target").required(true).args(["pid", "all"])))]
pub(super) struct Targets {
    /// Processes to attach to, with their descendants; separated by commas,
    /// or repeated
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(1..))]
    pid: Vec<i32>,

    /// Attach to every process in sight, also to those that appear later;
    /// never to the host, those it comes from, kernel threads and the pause
    /// process of a pod
    #[arg(long)]
    all: bool,

    /// With --all: only processes whose executable or command has this name;
    /// * and ? match
    #[arg(long, value_name = "GLOB", requires = "all", conflicts_with = "pid")]
    name: Option<String>,

    /// With --all: only processes of this effective user
    #[arg(long, value_name = "NAME|UID", requires = "all", conflicts_with = "pid")]
    user: Option<String>,

    /// With --all: only processes of the container whose id begins so
    #[arg(long, value_name = "ID", requires = "all", conflicts_with = "pid")]
    container: Option<String>,

    /// With --all: only processes whose arguments, joined by spaces, match
    #[arg(long, value_name = "GLOB", requires = "all", conflicts_with = "pid")]
    command: Option<String>,

    /// With --all: milliseconds between two looks for new processes
    #[arg(long, value_name = "MS", default_value_t = 500, conflicts_with = "pid",
          value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    scan_interval: u64,
}

impl Targets {
    pub(super) fn selection(&self) -> anyhow::Result<Selection> {
        if !self.all {
            return Ok(Selection::Pids(self.pid.clone()));
        }
        let filters = Filters {
            name: self.name.clone(),
            user: self.user.as_deref().map(user).transpose()?,
            container: self.container.clone(),
            command: self.command.clone(),
        };
        Ok(Selection::All(filters, Duration::from_millis(self.scan_interval)))
    }
}

/// A user's number. Names are looked up where the host runs, which can be
/// another container than the program's.
fn user(text: &str) -> anyhow::Result<u32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match nix::unistd::User::from_name(text).context("cannot look up users")? {
        Some(user) => Ok(user.uid.as_raw()),
        None => bail!("--user: there is no user {text:?} here; give the number"),
    }
}

pub(super) fn run(args: &Attach) -> ExitCode {
    let prepared = signals(Role::Guest).and_then(|signals| {
        let selection = args.targets.selection()?;
        // Left, programs with a filter need a tracer, whatever was chosen.
        let mut options = args.on_host_death.options(args.inject_filter || tracer::holds_any(&selection))?;
        let loaded = args.plugins.load()?;
        let files = args.output.files().chain(args.plugins.files()).chain(loaded.config.files()).collect();
        let dispatcher = args.output.dispatcher(loaded, &[])?;
        options.inject_filter = args.inject_filter;
        options.own_files = Some(files);
        Ok((signals, selection, options, dispatcher))
    });
    match prepared {
        Ok((signals, selection, options, dispatcher)) => trace(&signals, &selection, dispatcher, options),
        Err(error) => fail(&error, HOST_FAILED),
    }
}

/// Traces them until they end or we are asked to leave.
pub(super) fn trace(
    signals: &Signals,
    selection: &Selection,
    mut dispatcher: Dispatcher,
    options: Options,
) -> ExitCode {
    let traced = tracer::attach(signals, selection, options, &mut dispatcher);
    let finished = dispatcher.finish().context("the trace is not complete");
    match (traced, finished) {
        (Err(error @ TraceError::Nothing(_)), _) => fail(&error.into(), NOTHING_ATTACHED),
        (Err(error), _) => fail(&error.into(), HOST_FAILED),
        (Ok(()), Err(error)) => fail(&error, HOST_FAILED),
        (Ok(()), Ok(())) => ExitCode::SUCCESS,
    }
}
