//! `host doctor`: whether this environment is fit, and how to mend it.

use std::process::ExitCode;

use clap::Args;

use super::{Format, fail};
use crate::doctor::{self, Work};

/// Tell what this environment allows (ptrace, seccomp, capabilities,
/// namespaces), and what to change
#[derive(Args, Debug)]
#[command(after_help = "\
Everything is tried on processes of its own; nothing is attached to, nothing is changed.

Examples:
  host doctor
  host doctor --pid 7                    could `host attach` have process 7?
  host doctor --format json | jq '.checks[] | select(.verdict == \"missing\")'

Exit status:
  0  `host run` can work here, perhaps with limits; with --pid, `host attach` to that process can
  1  it cannot
JSON: one object with version, kernel, arch, summary and checks.")]
pub(super) struct Doctor {
    /// Look closely at one process that is to be attached to
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &Doctor) -> ExitCode {
    let report = doctor::examine(args.pid);
    let printed = match args.format {
        Format::Text => super::print(report.to_string().trim_end()),
        Format::Json => serde_json::to_string_pretty(&report).map_err(Into::into).and_then(|text| super::print(&text)),
    };
    if let Err(error) = printed {
        return fail(&error, 1);
    }
    let asked = if args.pid.is_some() { &report.summary.attach } else { &report.summary.run };
    ExitCode::from(u8::from(asked.verdict == Work::No))
}
