//! `host status`: what a running host does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::{Format, fail, print};
use crate::sight::{self, Question};

/// Exit status when a host answers a health check with no.
const NOT_WELL: u8 = 1;
/// Exit status when no host answers.
const NOBODY: u8 = 125;

/// Show what a running host has loaded, what its plugins answered, and what it
/// traces
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host run --status-socket /run/tracegate.sock -- ./server
  host status --socket /run/tracegate.sock
  host status --socket /run/tracegate.sock --check ready      as a container's health check
  host status --socket /run/tracegate.sock --format json | jq '.plugins[].sha256'

Exit status:
  0    the host answers; with --check, it is well
  1    with --check, it is not
  125  no host answers")]
pub(super) struct Status {
    /// The socket that the host was given with --status-socket
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// Say nothing but yes or no, by the exit status
    #[arg(long, value_enum)]
    check: Option<Question>,

    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &Status) -> ExitCode {
    let asked = sight::ask(&args.socket).with_context(|| format!("no host answers on {}", args.socket.display()));
    let report = match asked {
        Ok(report) => report,
        Err(error) => return fail(&error, NOBODY),
    };
    if let Some(question) = args.check {
        let field = match question {
            Question::Live => "live",
            Question::Ready => "ready",
        };
        return if report["report"][field] == true { ExitCode::SUCCESS } else { ExitCode::from(NOT_WELL) };
    }
    super::done(match args.format {
        Format::Json => print(&format!("{:#}", report["report"])),
        Format::Text => print(report["text"].as_str().unwrap_or_default()),
    })
}
