//! Programs that run already when the tracer comes: how long it takes to attach
//! to many threads, and to let them go.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::figures::Figure;
use super::programs::{BESIDE, FIRST, HELD, HOLDING};
use super::setup::Setup;

/// Threads of the program.
const MANY: usize = 500;

/// A program of ours that waits until it is told to begin.
#[derive(Debug)]
pub(crate) struct Held {
    program: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Held {
    /// Starts it, besides so many threads that do nothing.
    pub(crate) fn start(setup: &Setup, threads: usize, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(&setup.itself);
        command.args([BESIDE, &threads.to_string(), HELD]).args(arguments).current_dir(setup.scratch.path());
        let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = program.stdin.take().context("stdin is piped")?;
        let mut output = BufReader::new(program.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line == HOLDING, "the program printed {line:?}");
        Ok(Self { program, input, output })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.id()
    }

    /// Lets it begin; what it printed, when it has ended.
    pub(crate) fn go(mut self) -> anyhow::Result<String> {
        self.input.write_all(b"!")?;
        let mut printed = String::new();
        self.output.read_to_string(&mut printed)?;
        let status = self.program.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(printed)
    }
}

/// A tracer that has said that it is attached.
#[derive(Debug)]
pub(crate) struct Attached {
    tracer: Child,
    /// Open until the tracer has ended: it may have more to say.
    messages: BufReader<ChildStderr>,
}

impl Attached {
    /// Starts a tracer and waits until it says so.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut tracer = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut messages = BufReader::new(tracer.stderr.take().context("stderr is piped")?);
        let mut said = String::new();
        while !said.contains("attached") {
            let length = said.len();
            if messages.read_line(&mut said)? == 0 && said.len() == length {
                ensure!(false, "it ended with {}: {}", tracer.wait()?, said.trim_end());
            }
        }
        Ok(Self { tracer, messages })
    }

    /// Makes it let go, or end after its program.
    pub(crate) fn leave(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.tracer.id() as i32), Signal::SIGTERM)?;
        self.messages.read_to_string(&mut String::new())?;
        self.tracer.wait()?;
        Ok(())
    }
}

/// `host attach` with these options.
pub(crate) fn host(setup: &Setup, options: &[String], pid: u32) -> Command {
    let mut host = setup.host(["attach"]);
    host.args(options).arg("--pid").arg(pid.to_string());
    host
}

/// What can attach with strace: without its filter, which goes in at the start
/// of a program only.
pub(crate) fn strace(pid: u32) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=openat", "-o", "/dev/null", "-p", &pid.to_string()]);
    strace
}

/// Whether the host has an option for `attach`.
pub(crate) fn host_knows(setup: &Setup, option: &str) -> bool {
    super::setup::output_of(setup.host(["attach"]).arg("--help")).is_ok_and(|help| help.contains(option))
}

pub(crate) fn measure(setup: &Setup) -> Vec<Figure> {
    let mut one = Figure::new("attach-one", "host attach, 1 thread", "ms");
    let mut many = Figure::new("attach", &format!("host attach, {MANY} threads"), "ms");
    let mut seizing = Figure::new("attach-seize", "of which to seize all but the first (difference)", "ms");
    let mut leaving = Figure::new("detach", &format!("host, to let {MANY} threads go, and end"), "ms");
    let mut strace_many = Figure::new("attach-strace", &format!("strace -f -p, {MANY} threads"), "ms");
    let mut strace_leaving = Figure::new("detach-strace", &format!("strace, to let {MANY} threads go, and end"), "ms");
    eprintln!("attach");
    // Fills the cache; what is wrong here shows again below.
    let _ = times(setup, 1, |pid| host(setup, &[], pid));
    for _ in 0..setup.rounds.min(9) {
        let host = |pid| host(setup, &[], pid);
        one.measure(|| Ok(times(setup, 1, host)?.0));
        both(&mut many, &mut leaving, times(setup, MANY, host));
        both(&mut strace_many, &mut strace_leaving, times(setup, MANY, strace));
    }
    seizing.samples = many.samples.minus(&one.samples);
    vec![one, many, seizing, leaving, strace_many, strace_leaving]
}

fn both(first: &mut Figure, second: &mut Figure, sample: anyhow::Result<(f64, f64)>) {
    match sample {
        Ok((one, other)) => {
            first.measure(|| Ok(one));
            second.measure(|| Ok(other));
        }
        Err(error) => {
            second.samples.push_failure();
            first.measure(|| Err(error));
        }
    }
}

/// Milliseconds from the start of the tracer until it has attached to all
/// threads of a program, and from SIGTERM to its end.
fn times(setup: &Setup, threads: usize, tracer: impl Fn(u32) -> Command) -> anyhow::Result<(f64, f64)> {
    let program = Held::start(setup, threads - 1, &[FIRST])?;
    let since = Instant::now();
    let attached = Attached::start(&mut tracer(program.pid()))?;
    let attaching = since.elapsed();
    let since = Instant::now();
    attached.leave()?;
    let leaving = since.elapsed();
    program.go()?;
    Ok((attaching.as_secs_f64() * 1e3, leaving.as_secs_f64() * 1e3))
}
