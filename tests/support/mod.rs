//! What the end-to-end tests share: a test reads as
//! `host().protect(path).run(["tracee", …])` and looks at the outcome.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// The host's executable.
pub const HOST: &str = env!("CARGO_BIN_EXE_host");

/// The executable with the programs to trace (`tests/tracees`).
pub fn tracee() -> PathBuf {
    let path = Path::new(HOST).with_file_name("examples").join("tracee");
    assert!(
        path.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test NAME` does not: run `cargo build --release --example tracee`",
        path.display()
    );
    path
}

/// The component of a plugin in `tests/plugins`, built once a test binary.
pub fn test_plugin(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let build = || {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plugins").join(name);
        let component = Path::new(HOST).with_file_name(name).with_extension("wasm");
        let output = Command::new(HOST).arg("build-plugin").arg(directory).arg("-o").arg(&component).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        component
    };
    built.entry(name.to_owned()).or_insert_with(build).clone()
}

/// A run of the host under construction.
pub struct Run {
    through: Vec<String>,
    options: Vec<String>,
    verb: &'static str,
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// `host run`, its alerts going to a file of its own.
pub fn host() -> Run {
    Run {
        through: Vec::new(),
        options: Vec::new(),
        verb: "run",
        directory: tempfile::tempdir().unwrap(),
        environment: Vec::new(),
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status of the host; 128+N if a signal ended the host itself.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub alerts: Vec<Json>,
}

/// No test's program runs longer.
const LIMIT: Duration = Duration::from_mins(1);

impl Run {
    pub fn option(mut self, name: &str, value: impl Into<String>) -> Self {
        self.options.extend([name.to_owned(), value.into()]);
        self
    }

    /// Started by this command, which gets the host's command line after its
    /// own arguments.
    pub fn through(mut self, command: &[&str]) -> Self {
        self.through = command.iter().map(ToString::to_string).collect();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn plugin(self, reference: &str) -> Self {
        self.option("--plugin", reference)
    }

    /// sensitive-files alone, with these settings.
    pub fn sensitive_files(self, settings: &Json) -> Self {
        self.plugin("builtin:sensitive-files").option("--settings", format!("sensitive-files={settings}"))
    }

    /// sensitive-files alone, denying any access to `path`.
    pub fn protect(self, path: &Path) -> Self {
        let settings = serde_json::json!({"paths": [path], "access": "any", "action": "deny"});
        self.sensitive_files(&settings)
    }

    /// Runs one of the programs in `tests/tracees`.
    pub fn tracee(self, arguments: &[&str]) -> Outcome {
        let program = tracee();
        let command: Vec<&OsStr> =
            std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsStr::new)).collect();
        self.run(&command)
    }

    pub fn run(self, command: &[impl AsRef<OsStr>]) -> Outcome {
        let alerts = self.directory.path().join("alerts");
        let words: Vec<&str> = self.through.iter().map(String::as_str).chain([HOST]).collect();
        let mut host = Command::new(words[0]);
        host.args(&words[1..]).arg(self.verb).args(&self.options).arg("--alerts").arg(&alerts).arg("--").args(command);
        host.envs(self.environment.iter().map(|(k, v)| (k, v)));
        let output = run_limited(&mut host);
        Outcome { alerts: read_alerts(&alerts), ..Outcome::of(&output) }
    }
}

impl Outcome {
    pub fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            alerts: Vec::new(),
        }
    }

    /// The program printed just this line, and ended well.
    #[track_caller]
    pub fn says(&self, line: &str) -> &Self {
        assert_eq!((self.stdout.trim_end(), self.status), (line, 0), "{self:#?}");
        self
    }

    /// The rules of all alerts, in order.
    pub fn rules(&self) -> Vec<&str> {
        self.alerts.iter().map(|alert| alert["rule"].as_str().unwrap()).collect()
    }
}

/// What `find` finds, asked again and again until it does. Fails after `limit`.
pub fn within<T>(limit: Duration, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(since.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Who commits, and when: the same in each run.
pub const GIT_IDENTITY: [(&str, &str); 6] = [
    ("GIT_AUTHOR_NAME", "A"),
    ("GIT_AUTHOR_EMAIL", "a@example.org"),
    ("GIT_AUTHOR_DATE", "1700000000 +0000"),
    ("GIT_COMMITTER_NAME", "A"),
    ("GIT_COMMITTER_EMAIL", "a@example.org"),
    ("GIT_COMMITTER_DATE", "1700000000 +0000"),
];

/// Every line must be an object by itself.
pub fn read_alerts(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "the last alert is cut: {text:?}");
    parse_alerts(&text)
}

/// The same while the host still writes: without a line that is not whole yet.
pub fn alerts_so_far(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    parse_alerts(whole)
}

fn parse_alerts(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Runs a command with no input; kills it, and fails, after the limit.
pub fn run_limited(command: &mut Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |mut pipe: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let err = read(Box::new(child.stderr.take().unwrap()));
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}
