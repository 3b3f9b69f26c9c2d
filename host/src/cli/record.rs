//! `host record`: what a program does, without judging it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::run::{OnHostDeath, dispatcher, signals, trace};
use super::{HOST_FAILED, attach, fail};
use crate::decode::{self, Arch};
use crate::output::Destination;
use crate::tracer::{self, Predicate, Role, Selection, Stopping};

/// Record a program's system calls, with arguments and results
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host record -o make.jsonl.zst -- make
  host record -o web.jsonl.zst --pid 4711
  host record -o net.jsonl --syscall connect,bind,sendto -- curl http://localhost/
  jq -r 'select(.syscall==\"openat\" and .type==\"entry\") | .args[1].path.path' make.jsonl")]
pub(super) struct Record {
    /// The trace to write, as JSON Lines; .zst compresses
    #[arg(short, long, value_name = "TRACE")]
    output: PathBuf,

    /// Calls to record, separated by commas: names, or `all` for every call.
    /// Without it, every call that the host decodes by its declaration except
    /// the frequent ones on open descriptors (read, write, close, lseek, …)
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    syscall: Vec<String>,

    /// Record running processes and their descendants instead, until SIGTERM
    /// or SIGINT
    #[arg(long, value_name = "PID", value_delimiter = ',', conflicts_with = "command",
          value_parser = clap::value_parser!(i32).range(1..))]
    pid: Vec<i32>,

    /// Program and arguments
    #[arg(required_unless_present = "pid", last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Record) -> ExitCode {
    let (role, on_host_death) =
        if args.pid.is_empty() { (Role::Wrapper, OnHostDeath::Kill) } else { (Role::Guest, OnHostDeath::Continue) };
    let selection = Selection::Pids(args.pid.clone());
    let prepared = signals(role).and_then(|signals| {
        let options = on_host_death.options(tracer::holds_any(&selection))?;
        let recorded = recorded(&args.syscall)?;
        let output = Some(args.output.as_path());
        let dispatcher = dispatcher(Vec::new(), recorded, &[Destination::Stderr], output, &args.command)?;
        Ok((signals, dispatcher, options))
    });
    match prepared {
        Ok((signals, dispatcher, options)) if role == Role::Guest => {
            attach::trace(&signals, &selection, dispatcher, options)
        }
        Ok((signals, dispatcher, options)) => trace(&signals, dispatcher, &args.command, options),
        Err(error) => fail(&error, HOST_FAILED),
    }
}

/// Calls that make up most of a trace and say least: they work on descriptors
/// whose opening is recorded.
const FREQUENT: [&str; 12] = [
    "read", "write", "pread64", "pwrite64", "readv", "writev", "lseek", "close", "fstat", "recvfrom", "recvmsg",
    "ioctl",
];

/// The calls that `names` chooses.
fn recorded(names: &[String]) -> anyhow::Result<Stopping> {
    let native = Arch::NATIVE;
    let mut recorded = Stopping::new();
    let mut add = |nr: u32| drop(recorded.insert(nr, Predicate::always()));
    if names.is_empty() {
        let frequent = |nr: u32| FREQUENT.contains(&native.spec(nr).name);
        native.all().filter(|nr| native.declares(*nr) && !frequent(*nr)).for_each(&mut add);
    }
    for name in names {
        if name == "all" {
            native.all().for_each(&mut add);
        } else if let Some(nr) = native.number(name) {
            add(nr);
        } else if !decode::known_name(name) {
            bail!("--syscall: {name:?} is no system call of any supported architecture");
        }
    }
    Ok(recorded)
}
