//! The application under test: asked for what it does, and looked at from
//! outside.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use nix::sys::signal::Signal;

use crate::process::{self, PATIENCE, is_free, wait_for};
use crate::support;
use crate::tracer::Tracer;

/// Its status when its input ends.
pub(crate) const ENDED: i32 = 7;

/// The errno that the tests' plugin denies with: no other call gives it here.
pub(crate) const DENIED: &str = "EROFS";

/// The application's executable.
pub(crate) fn program() -> PathBuf {
    let path = support::tracee().with_file_name("attach_app");
    assert!(path.exists(), "{} is missing: run `cargo build --release --package host --examples`", path.display());
    path
}

/// A word that is in no other process's command line.
pub(crate) fn token() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("tracegate-attach-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A directory with a file that is protected and one that is not, which any
/// user may read.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // The application wants to find the first letter of the name.
        fs::write(directory.path().join("public"), "p").unwrap();
        fs::write(directory.path().join("secret"), "s").unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Options that deny the secret, with an errno of our own.
    pub(crate) fn deny(&self) -> Vec<String> {
        let settings = serde_json::json!({
            "paths": [self.at("secret")], "access": "any", "action": "deny", "errno": DENIED,
        });
        ["--plugin", "builtin:sensitive-files", "--settings", &format!("sensitive-files={settings}")]
            .map(str::to_owned)
            .to_vec()
    }
}

/// A running application. Its input ends, and so does it, when this goes.
pub(crate) struct Application {
    child: Child,
    /// The application's own process: the child may be what started it.
    pub(crate) pid: i32,
    requests: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
    errors: mpsc::Receiver<String>,
}

impl Application {
    /// An application of this shape (see `app.rs`).
    #[track_caller]
    pub(crate) fn start(shape: &str) -> Self {
        Self::start_with(&[], shape, "none", "")
    }

    /// With a wrapper's words before it, a filter of its own, and a word by
    /// which to know it.
    #[track_caller]
    pub(crate) fn start_with(wrapper: &[&str], shape: &str, filter: &str, token: &str) -> Self {
        let program = program();
        let command = [wrapper, &[program.to_str().unwrap(), "serve", shape, filter, token]].concat();
        let mut command_line = Command::new(command[0]);
        command_line.args(&command[1..]);
        let mut application = Self::start_command(&mut command_line);
        let pids = application.ask("pids");
        application.pid = pids.split(' ').next().unwrap().parse().unwrap();
        application
    }

    /// Any command that prints `ready` first.
    #[track_caller]
    pub(crate) fn start_command(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut application = Self {
            pid: child.id() as i32,
            requests: child.stdin.take(),
            answers: lines(child.stdout.take().unwrap()),
            errors: lines(child.stderr.take().unwrap()),
            child,
        };
        application.is_ready();
        application
    }

    /// Waits until it says so.
    #[track_caller]
    pub(crate) fn is_ready(&mut self) {
        let first = self.answer("its start");
        assert_eq!(first, "ready", "{}", self.said());
    }

    /// Waits for what it says at its end.
    #[track_caller]
    pub(crate) fn last_words(&mut self) -> String {
        self.answer("its end")
    }

    /// The answer to a request.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &str) -> String {
        // If it is gone there is no answer, which is told below.
        let _ = writeln!(self.requests.as_mut().unwrap(), "{request}");
        self.answer(request)
    }

    #[track_caller]
    fn answer(&mut self, request: &str) -> String {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(error) => panic!("no answer to {request:?}: {error}; {}", self.circumstances()),
        }
    }

    /// How it is, for whoever looks for the cause of a failure.
    pub(crate) fn circumstances(&mut self) -> String {
        // Its threads are gone a moment after its output is.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let [states, tracers, blocked] =
            ["State", "TracerPid", "SigBlk"].map(|name| process::of_threads(self.pid, name));
        let status = self.child.try_wait().unwrap();
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid)).unwrap_or_default();
        format!(
            "status {status:?}, threads {states:?}, tracers {tracers:?}, blocked signals {blocked:?}, in {call:?}, said {:?}",
            self.said()
        )
    }

    /// What it said on standard error.
    fn said(&self) -> String {
        self.errors.try_iter().collect::<Vec<_>>().join("\n")
    }

    /// All three of its processes: itself, a child and that one's child.
    #[track_caller]
    pub(crate) fn pids(&mut self) -> Vec<i32> {
        self.ask("pids").split(' ').map(|pid| pid.parse().unwrap()).collect()
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        process::of_threads(self.pid, "Name").len()
    }

    /// Nobody traces any thread of its processes, and none is stopped.
    #[track_caller]
    pub(crate) fn is_left_alone(&mut self) {
        for pid in self.pids() {
            is_free(pid);
        }
    }

    /// Every thread and every way to open gives this answer.
    #[track_caller]
    pub(crate) fn opens(&mut self, path: &str, answer: &str) {
        let threads = self.threads();
        assert_eq!(self.ask(&format!("open {path}")), format!("{answer} {threads}"));
        assert_eq!(self.ask(&format!("thread {path}")), answer, "in a new thread");
        assert_eq!(self.ask(&format!("fork {path}")), answer, "in a new process");
        assert_eq!(self.ask(&format!("spawn {path}")), answer, "in a new program");
        assert_eq!(self.ask(&format!("descendants {path}")), format!("{answer} {answer}"), "in older children");
    }

    /// What the four threads that open files came to since this was asked
    /// last: kinds of answers, as `public ok`.
    #[track_caller]
    pub(crate) fn opened(&mut self) -> Vec<String> {
        let said = self.ask("opened");
        said.split(", ").filter_map(|answer| Some(answer.rsplit_once(' ')?.0.to_owned())).collect()
    }

    /// Waits until each of the four has been judged for a while: what protects
    /// their arguments is there.
    #[track_caller]
    pub(crate) fn is_judged(&mut self) {
        let wanted = ["public ok".to_owned(), format!("secret {DENIED}")];
        wait_for("each thread is judged", || {
            self.opened();
            wait_for("each thread opens files", || {
                let least: u64 = self.ask("opened-by-each").parse().unwrap();
                (least >= 20).then_some(())
            });
            (self.opened() == wanted).then_some(())
        });
    }

    /// The end of its input is its end, with a status of its own.
    #[track_caller]
    pub(crate) fn ends_well(mut self) {
        drop(self.requests.take());
        let status = self.status();
        assert_eq!(status.code(), Some(ENDED), "{status}: {}", self.said());
        assert_eq!(self.said(), "");
    }

    /// Its host leaves; it goes on, may open what was denied, and ends well.
    #[track_caller]
    pub(crate) fn goes_on_without(mut self, host: &mut Tracer, secret: &str) {
        host.leave(Signal::SIGTERM);
        self.opens(secret, "ok");
        self.is_left_alone();
        self.ends_well();
    }

    /// Ends its input, and so itself: for one whose parent is no more.
    pub(crate) fn end_input(&mut self) {
        drop(self.requests.take());
    }

    /// Its status, once it has ended.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the end of the application", || child.try_wait().unwrap())
    }

    /// The process that was started: the application's, or its wrapper's.
    pub(crate) fn child(&self) -> i32 {
        self.child.id() as i32
    }

    /// Whether its end has not been seen yet.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() && self.pid != self.child.id() as i32 && !process::has_ended(self.pid) {
            // Its input has ended; if it is held by a tracer it cannot know.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// The lines that come out of a pipe, until its end.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
