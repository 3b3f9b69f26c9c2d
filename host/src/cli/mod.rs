//! The command line: one module a subcommand.
//!
//! Standard output belongs to the traced program (or to a command's result);
//! our own diagnostics go to standard error through `tracing`. No error is
//! shown as a panic or a back-trace.

mod attach;
mod build;
pub mod build_plugin;
mod check_config;
mod doctor;
mod inspect;
mod keys;
mod network;
mod plugins;
mod record;
mod registry;
mod run;
mod status;
pub mod test_plugin;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Exit status when none of the processes named could be attached to.
const NOTHING_ATTACHED: u8 = 1;
/// Exit status when the host itself fails, as of env(1) and docker-run(1).
const HOST_FAILED: u8 = 125;
/// Exit status when the program was found but did not start.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status when the program was not found.
const NOT_FOUND: u8 = 127;

/// Traces programs with ptrace and asks WebAssembly plugins to allow, deny or
/// alert on each system call
#[derive(Debug, Parser)]
#[command(
    name = "host",
    version,
    about,
    after_help = "\
Examples:
  host run -- cat /etc/shadow            refused by the embedded plugins, with one alert line
  host run --plugin ./mine.wasm -- make  judged by a plugin of your own
  host attach --pid 4711                 the same for a program that runs already
  host record -o make.jsonl -- make      record what a program does
  host test-plugin ./mine.wasm make.jsonl
  host doctor                            can it work here, and if not, what to change

Exit status of `run` and `record`:
  the program's own, or 128+N if signal N ended it
  125  the host itself failed
  126  the program cannot be executed
  127  there is no such program
  2    wrong command line
Log level: TRACEGATE_LOG=debug."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Attach(attach::Attach),
    Record(record::Record),
    TestPlugin(test_plugin::TestPlugin),
    BuildPlugin(build::BuildPlugin),
    InspectPlugin(inspect::InspectPlugin),
    NewKey(keys::NewKey),
    SignPlugin(keys::SignPlugin),
    VerifyPlugin(keys::VerifyPlugin),
    PushPlugin(registry::PushPlugin),
    PullPlugin(registry::PullPlugin),
    CheckConfig(check_config::CheckConfig),
    Status(status::Status),
    Doctor(doctor::Doctor),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("TRACEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Attach(args) => attach::run(&args),
        Command::Record(args) => record::run(&args),
        Command::TestPlugin(args) => plugins::test(&args),
        Command::BuildPlugin(args) => done(build::run(&args)),
        Command::InspectPlugin(args) => done(inspect::run(&args)),
        Command::NewKey(args) => done(keys::new_key(&args)),
        Command::SignPlugin(args) => done(keys::sign(&args)),
        Command::VerifyPlugin(args) => done(keys::verify(&args)),
        Command::PushPlugin(args) => done(registry::push(&args)),
        Command::PullPlugin(args) => done(registry::pull(&args)),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// How a command shows its result.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Prints a command's result. A reader that has gone has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says what went wrong, in one go and without a back-trace.
fn fail(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("host: {}", told(error));
    ExitCode::from(status)
}

/// An error with its causes, except those that its text has already.
fn told(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
