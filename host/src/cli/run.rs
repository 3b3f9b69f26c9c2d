//! `host run`: a program under the plugins' eyes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::plugins::{self, Loaded, PluginOptions};
use super::{HOST_FAILED, NOT_EXECUTABLE, NOT_FOUND, fail};
use crate::event::ExitStatus;
use crate::output::{Destination, Output, Sink};
use crate::plugin::{Dispatcher, Plugin};
use crate::recording::{Header, Writer};
use crate::tracer::{self, Guardian, LaunchError, Options, Role, Signals, Stopping, TraceError};

/// Run a program and let plugins judge its system calls
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host run -- cat /etc/shadow
  host run --settings 'sensitive-files={\"paths\":[\"/srv/secret\"],\"access\":\"any\"}' -- ./server
  host run --plugin builtin:process-monitor --alerts /var/log/alerts.jsonl -- make
  host run --plugin ./mine.wasm --mode mine=monitor --record trace.jsonl.zst -- ./server")]
pub(super) struct Run {
    #[command(flatten)]
    plugins: PluginOptions,

    #[command(flatten)]
    output: OutputOptions,

    /// What becomes of the program if the host dies: the kernel kills it
    /// (nothing runs unjudged), or it goes on unjudged
    #[arg(long, value_enum, value_name = "kill|continue", default_value = "kill")]
    on_host_death: OnHostDeath,

    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Where a run's outputs go.
#[derive(Args, Debug)]
pub(super) struct OutputOptions {
    /// Where alerts go, as JSON Lines: stderr (the default), stdout, or a file
    /// to append to. Repeatable: each gets all of them
    #[arg(long, value_name = "stderr|stdout|FILE")]
    alerts: Vec<Destination>,

    /// Record the events that plugins saw, and what they answered; .zst
    /// compresses
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

impl OutputOptions {
    /// The files that are written.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.alerts.iter().filter_map(|alerts| match alerts {
            Destination::File(file) => Some(file.clone()),
            _ => None,
        });
        files.chain(self.record.clone())
    }

    /// The plugins of a configuration with these outputs.
    pub(super) fn dispatcher(&self, mut loaded: Loaded, command: &[OsString]) -> anyhow::Result<Dispatcher> {
        let alerts = plugins::destinations(&self.alerts, &loaded.config);
        let plugins = std::mem::take(&mut loaded.plugins);
        let digests = plugins.iter().map(|plugin| plugin.identity().digest).collect();
        let mut dispatcher = dispatcher(plugins, Stopping::new(), &alerts, self.record.as_deref(), command)?;
        dispatcher.keep(loaded.ledgers());
        loaded.show(&dispatcher.sight())?;
        loaded.keep_new(digests, dispatcher.successor())?;
        Ok(dispatcher)
    }
}

/// What becomes of the programs if the host dies.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OnHostDeath {
    /// The kernel kills them
    Kill,
    /// They go on unjudged
    Continue,
}

impl From<OnHostDeath> for tracer::OnHostDeath {
    fn from(choice: OnHostDeath) -> Self {
        match choice {
            OnHostDeath::Kill => Self::Kill,
            OnHostDeath::Continue => Self::Continue,
        }
    }
}

impl OnHostDeath {
    /// How to trace. A guardian is started where programs `need` a tracer when
    /// the host is gone. To be called before any thread is started.
    pub(super) fn options(self, need: bool) -> anyhow::Result<Options> {
        // With the first process of a PID namespace the others end.
        let guarded = need && std::process::id() != 1;
        let guardian = guarded.then(Guardian::start).transpose().context("cannot start the guardian")?;
        Ok(Options { on_host_death: self.into(), guardian, ..Options::default() })
    }
}

pub(super) fn run(args: &Run) -> ExitCode {
    let prepared = signals(Role::Wrapper).and_then(|signals| {
        let on_host_death = args.on_host_death;
        let mut options = on_host_death.options(matches!(on_host_death, OnHostDeath::Continue))?;
        let loaded = args.plugins.load()?;
        let files = args.output.files().chain(args.plugins.files()).chain(loaded.config.files());
        options.own_files = Some(files.collect());
        let dispatcher = args.output.dispatcher(loaded, &args.command)?;
        Ok((signals, options, dispatcher))
    });
    match prepared {
        Ok((signals, options, dispatcher)) => trace(&signals, dispatcher, &args.command, options),
        Err(error) => fail(&error, HOST_FAILED),
    }
}

/// The plugins with their outputs open: what can go wrong goes wrong before
/// the program starts.
pub(super) fn dispatcher(
    plugins: Vec<Plugin>,
    recorded: Stopping,
    alerts: &[Destination],
    record: Option<&Path>,
    command: &[OsString],
) -> anyhow::Result<Dispatcher> {
    let open = |to: &Destination| Sink::open(to).with_context(|| format!("cannot write alerts to {to}"));
    let sinks = alerts.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let open = |path: &Path| {
        let command = command.iter().map(|arg| arg.clone().into_vec().into()).collect();
        let names = plugins.iter().map(|plugin| plugin.name().to_owned()).collect();
        Writer::create(path, &Header::now(command, names))
            .with_context(|| format!("cannot write the trace to {}", path.display()))
    };
    let writer = record.map(open).transpose()?;
    Ok(Dispatcher::new(plugins, recorded, Output::new(sinks, writer))?)
}

/// To be taken first: before any thread is started.
pub(super) fn signals(role: Role) -> anyhow::Result<Signals> {
    Signals::take(role).context("cannot set up signals")
}

/// Runs the program to its end; the exit status is the program's.
pub(super) fn trace(signals: &Signals, mut dispatcher: Dispatcher, command: &[OsString], options: Options) -> ExitCode {
    let ended = tracer::run(signals, command, options, &mut dispatcher);
    let finished = dispatcher.finish().context("the trace is not complete");
    match (ended, finished) {
        (Err(error), _) => {
            let status = match &error {
                TraceError::Launch(LaunchError::NotFound(_)) => NOT_FOUND,
                TraceError::Launch(LaunchError::NotExecutable { .. }) => NOT_EXECUTABLE,
                _ => HOST_FAILED,
            };
            fail(&error.into(), status)
        }
        (Ok(_), Err(error)) => fail(&error, HOST_FAILED),
        (Ok(ExitStatus::Code(code)), Ok(())) => ExitCode::from(code),
        (Ok(ExitStatus::Signal(signal)), Ok(())) => ExitCode::from(128 + signal),
    }
}
