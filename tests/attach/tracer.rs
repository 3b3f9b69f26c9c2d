//! A host that attaches.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sys::signal::Signal;
use serde_json::Value as Json;

use crate::application::lines;
use crate::process::{PATIENCE, send, wait_for};
use crate::support::{HOST, Outcome, read_alerts, run_limited};

/// A running `host`, killed when it goes.
pub(crate) struct Tracer {
    child: Child,
    pub(crate) pid: i32,
    said: mpsc::Receiver<String>,
    /// What was said and has been read.
    pub(crate) read: Vec<String>,
    directory: tempfile::TempDir,
}

impl Tracer {
    /// `host attach` with these options, its alerts in a file.
    #[track_caller]
    pub(crate) fn attach(options: &[impl AsRef<str>]) -> Self {
        let mut tracer = Self::start(options);
        tracer.until("attached to ");
        tracer
    }

    /// To processes, with these options besides.
    #[track_caller]
    pub(crate) fn attach_to(pid: i32, options: &[impl AsRef<str>]) -> Self {
        let pid = pid.to_string();
        let options: Vec<&str> = ["--pid", &pid].into_iter().chain(options.iter().map(AsRef::as_ref)).collect();
        Self::attach(&options)
    }

    /// Without waiting for it.
    #[track_caller]
    pub(crate) fn start(options: &[impl AsRef<str>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(HOST);
        command.arg("attach").args(options.iter().map(AsRef::as_ref));
        command.arg("--alerts").arg(directory.path().join("alerts"));
        Self::spawn(&mut command, directory)
    }

    /// `host record`.
    #[track_caller]
    pub(crate) fn record(pid: i32, trace: &Path) -> Self {
        let mut command = Command::new(HOST);
        command.args(["record", "--pid", &pid.to_string(), "-o"]).arg(trace);
        let mut tracer = Self::spawn(&mut command, tempfile::tempdir().unwrap());
        tracer.until("attached to ");
        tracer
    }

    /// Any command that becomes a host.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command, directory: tempfile::TempDir) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = lines(child.stderr.take().unwrap());
        Self { pid: child.id() as i32, child, said, read: Vec::new(), directory }
    }

    /// Waits for a line of the host's that begins so, and gives the rest of it.
    #[track_caller]
    pub(crate) fn until(&mut self, beginning: &str) -> String {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.read.push(line.clone());
                    if let Some(rest) = line.strip_prefix("host: ").and_then(|line| line.strip_prefix(beginning)) {
                        return rest.to_owned();
                    }
                }
                Err(error) => panic!("no line \"host: {beginning}…\" ({error}) in {:?}", self.read),
            }
        }
    }

    /// Asks it to leave; it does, and well.
    #[track_caller]
    pub(crate) fn leave(&mut self, signal: Signal) {
        send(self.pid, signal);
        assert_eq!(self.status(), 0, "{:?}", self.rest());
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit status, once it has ended; 128+N by signal N.
    #[track_caller]
    pub(crate) fn status(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let child = &mut self.child;
        let status = wait_for("the end of the host", || child.try_wait().unwrap());
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// Whether its end has not been seen yet.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// All that it said, to the end of its standard error: nobody else may
    /// hold it open.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> &[String] {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => self.read.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return &self.read,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("the host has ended, but its standard error is held open; it said {:?}", self.read)
                }
            }
        }
    }

    pub(crate) fn alerts(&self) -> Vec<Json> {
        read_alerts(&self.directory.path().join("alerts"))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host that ends by itself.
#[track_caller]
pub(crate) fn host(arguments: &[&str]) -> Outcome {
    Outcome::of(&run_limited(Command::new(HOST).args(arguments)))
}
