//! What a running host shows: over its socket, to Prometheus, to health checks.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;
use support::{HOST, Outcome, run_limited, within};

/// A host with a program that opens a closed file, again and again, in two
/// threads, until its input ends.
const PROGRAM: &str = r#"
import os, sys, threading
done = threading.Event()
def work():
    while not done.wait(0.01):
        try:
            os.open("/etc/shadow", os.O_RDONLY)
        except OSError:
            pass
thread = threading.Thread(target=work)
thread.start()
sys.stdin.read()
done.set()
thread.join()
"#;

struct Running {
    directory: tempfile::TempDir,
    port: u16,
    host: Child,
}

impl Running {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut host = Command::new(HOST);
        host.args(["run", "--status-socket"]).arg(directory.path().join("socket"));
        host.args(["--metrics", &format!("127.0.0.1:{port}"), "--alerts"]).arg(directory.path().join("alerts"));
        let host = host.args(["--", "python3", "-c", PROGRAM]).stdin(Stdio::piped()).spawn().unwrap();
        let running = Self { directory, port, host };
        within(Duration::from_secs(20), "it is ready", || {
            (running.status(&["--check", "ready"]).status == 0).then_some(())
        });
        running
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn status(&self, options: &[&str]) -> Outcome {
        Outcome::of(&run_limited(Command::new(HOST).arg("status").arg("--socket").arg(self.socket()).args(options)))
    }

    fn json(&self) -> Json {
        serde_json::from_str(&self.status(&["--format", "json"]).stdout).unwrap()
    }

    /// Status line and body.
    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.host.stdin.take());
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

#[test]
fn what_runs_and_what_it_answered() {
    let running = Running::start();
    let denied = |report: &Json| report["plugins"][0]["denied"].as_u64().unwrap();
    within(Duration::from_secs(20), "denials are counted", || (denied(&running.json()) > 5).then_some(()));
    let report = running.json();
    assert_eq!((&report["live"], &report["ready"]), (&Json::Bool(true), &Json::Bool(true)));
    assert_eq!(report["coverage"], serde_json::json!({"processes": 1, "threads": 2, "filtered": 2, "refused": 0}));
    let [files, monitor] = report["plugins"].as_array().unwrap().as_slice() else { panic!("{report:#}") };
    assert_eq!(
        (&files["name"], &files["mode"], &files["lane"]),
        (&"sensitive-files".into(), &"enforce".into(), &"gate".into())
    );
    assert_eq!(
        (&monitor["mode"], &monitor["lane"], &monitor["grounds"]),
        (&"monitor".into(), &"observe".into(), &"builtin".into())
    );
    assert!(files["calls"].as_u64().unwrap() > denied(&report), "{report:#}");
    assert_eq!(files["alerts"].as_u64(), files["denied"].as_u64());
    assert!(files["latency_us"]["p50"].as_u64().is_some_and(|bound| bound > 0), "{report:#}");
    assert_eq!(files["sha256"].as_str().unwrap().len(), 64);
    let text = running.status(&[]).stdout;
    for said in [
        "ready, up",
        "traces 1 processes with 2 threads, 2 of them filtered",
        "sensitive-files 0.1.0: builtin:sensitive-files, builtin, enforce, gate lane",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
}

#[test]
fn prometheus_and_health_checks() {
    let running = Running::start();
    let denials = "tracegate_plugin_denied_total{plugin=\"sensitive-files\"} ";
    let metrics = within(Duration::from_secs(20), "denials are counted", || {
        let (status, text) = running.get("/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let value = text.lines().find_map(|line| line.strip_prefix(denials))?.parse::<u64>().unwrap();
        (value > 5).then_some(text)
    });
    // Each sample is of a family that was introduced, and has a number.
    let mut family = "";
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(family), "{line} is not of {family}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(metrics.contains("tracegate_traced_threads 2\n"), "{metrics}");
    assert!(
        metrics.contains("tracegate_plugin_answer_seconds_bucket{plugin=\"sensitive-files\",le=\"+Inf\"}"),
        "{metrics}"
    );
    for path in ["/healthz", "/readyz"] {
        assert_eq!(running.get(path), ("HTTP/1.1 200 OK".into(), "ok\n".into()));
    }
    assert_eq!(running.get("/elsewhere").0, "HTTP/1.1 404 Not Found");
    assert_eq!(running.status(&["--check", "live"]).status, 0);
}

#[test]
fn only_the_owner_may_ask_and_only_this_machine() {
    let running = Running::start();
    let mode = std::fs::metadata(running.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Outcome::of(&run_limited(
        Command::new(HOST).args(["run", "--status-socket"]).arg(running.socket()).args(["--", "true"]),
    ));
    assert_eq!(second.status, 125, "the socket is another host's: {second:#?}");
    assert!(second.stderr.contains("cannot listen on the status socket"), "{second:#?}");
    let open = Outcome::of(&run_limited(Command::new(HOST).args(["run", "--metrics", "0.0.0.0:9464", "--", "true"])));
    assert_eq!(open.status, 2, "{open:#?}");
    let nobody = Outcome::of(&run_limited(Command::new(HOST).args(["status", "--socket", "/nowhere"])));
    assert_eq!(nobody.status, 125, "{nobody:#?}");
    assert!(nobody.stderr.contains("no host answers on /nowhere"), "{nobody:#?}");
}

/// The socket of a host that died is taken over.
#[test]
fn after_a_host_that_died() {
    let mut running = Running::start();
    running.host.kill().unwrap();
    running.host.wait().unwrap();
    assert_eq!(running.status(&["--check", "live"]).status, 125);
    let again = Outcome::of(&run_limited(
        Command::new(HOST).args(["run", "--status-socket"]).arg(running.socket()).args(["--", "true"]),
    ));
    assert_eq!(again.status, 0, "{again:#?}");
}
