//! What the host tells of processes that it is attached to: alerts, and a
//! recorded trace.

use std::fs;

use nix::sys::signal::Signal;

use crate::application::{Application, DENIED, Files, program};
use crate::process::of_threads;
use crate::support::read_alerts;
use crate::tracer::{Tracer, host};

#[test]
fn alerts_tell_who() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let secret = files.at("secret");
    for options in [files.deny(), [vec!["--inject-filter".to_owned()], files.deny()].concat()] {
        let mut host = Tracer::attach_to(application.pid, &options);
        assert_eq!(application.ask(&format!("open {secret}")), format!("{DENIED} 50"));
        assert_eq!(application.ask(&format!("descendants {secret}")), format!("{DENIED} {DENIED}"));
        let [pid, child, grandchild] = application.pids()[..] else { panic!("three processes") };
        let mut threads: Vec<i64> = of_threads(pid, "Pid").iter().map(|tid| tid.parse().unwrap()).collect();
        host.leave(Signal::SIGTERM);
        let alerts = host.alerts();
        assert_eq!(alerts.len(), 52, "{alerts:#?}");
        for alert in &alerts {
            assert_eq!(alert["exe"], program().canonicalize().unwrap().to_str().unwrap(), "{alert}");
            assert_eq!(
                [&alert["rule"], &alert["plugin"], &alert["action"], &alert["errno"], &alert["syscall"]],
                ["sensitive-read", "sensitive-files", "deny", DENIED, "openat"],
                "{alert}"
            );
            assert_eq!(alert["args"]["pathname"], *secret, "{alert}");
        }
        let of_process = |pid: i32| -> Vec<i64> {
            let own = alerts.iter().filter(|alert| alert["pid"] == pid);
            let mut tids: Vec<_> = own.map(|alert| alert["tid"].as_i64().unwrap()).collect();
            tids.sort_unstable();
            tids
        };
        threads.sort_unstable();
        assert_eq!(of_process(pid), threads);
        assert_eq!(of_process(child), [i64::from(child)]);
        assert_eq!(of_process(grandchild), [i64::from(grandchild)]);
    }
    application.ends_well();
}

/// The file is appended to by one host after the other; standard error is the
/// default.
#[test]
fn alerts_go_where_they_are_wanted() {
    let files = Files::new();
    let mut application = Application::start("one");
    let (secret, alerts) = (files.at("secret"), files.at("alerts"));
    for round in 1..=2 {
        let options = [files.deny(), vec!["--record".into(), files.at(&format!("trace-{round}.jsonl"))]].concat();
        let mut command = std::process::Command::new(crate::support::HOST);
        command.args(["attach", "--pid", &application.pid.to_string(), "--alerts", &alerts]).args(options);
        let mut host = Tracer::spawn(&mut command, tempfile::tempdir().unwrap());
        host.until("attached to ");
        assert_eq!(application.ask(&format!("open {secret}")), format!("{DENIED} 1"));
        host.leave(Signal::SIGTERM);
        assert_eq!(read_alerts(alerts.as_ref()).len(), round);
        assert_eq!(host.rest(), ["host: attached to 3 processes (3 threads)", "host: detaching from 3 threads"]);
    }
    let mut command = std::process::Command::new(crate::support::HOST);
    command.args(["attach", "--pid", &application.pid.to_string()]).args(files.deny());
    let mut host = Tracer::spawn(&mut command, tempfile::tempdir().unwrap());
    host.until("attached to ");
    assert_eq!(application.ask(&format!("open {secret}")), format!("{DENIED} 1"));
    host.leave(Signal::SIGTERM);
    let said = host.rest();
    assert_eq!(said.len(), 3, "{said:?}");
    let alert: serde_json::Value =
        serde_json::from_str(said.iter().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert_eq!(alert["pid"], application.pid);
    application.ends_well();
}

/// What cannot be written is said before anybody is attached to.
#[test]
fn outputs_that_cannot_be_opened() {
    let mut application = Application::start("one");
    let pid = application.pid.to_string();
    for (arguments, says) in [
        (["attach", "--alerts", "/no/such/directory/alerts"], "cannot write alerts to /no/such/directory/alerts"),
        (["attach", "--record", "/no/such/directory/trace"], "cannot write the trace to /no/such/directory/trace"),
        (["record", "-o", "/no/such/directory/trace"], "cannot write the trace to /no/such/directory/trace"),
    ] {
        let outcome = host(&[&arguments[..], &["--pid", &pid]].concat());
        assert_eq!(outcome.status, 125, "{outcome:#?}");
        assert!(outcome.stderr.starts_with(&format!("host: {says}")), "{outcome:#?}");
        application.is_left_alone();
    }
    application.ends_well();
}

/// A trace that ends with SIGTERM is whole.
#[test]
fn a_recorded_process() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    for (file, signal) in [("trace.jsonl", Signal::SIGTERM), ("trace.jsonl.zst", Signal::SIGINT)] {
        let trace = files.at(file);
        let mut host = Tracer::record(application.pid, trace.as_ref());
        assert_eq!(host.read, ["host: attached to 3 processes (52 threads)"]);
        application.opens(&files.at("public"), "ok");
        application.opens(&files.at("secret"), "ok");
        application.opens(&files.at("missing"), "ENOENT");
        host.leave(signal);
        application.is_left_alone();
        assert_eq!(host.rest(), ["host: attached to 3 processes (52 threads)", "host: detaching from 52 threads"]);
        // Two plugins read it to its end.
        let settings = serde_json::json!({"paths": [files.at("secret")], "access": "any", "action": "deny"});
        let settings = settings.to_string();
        let test = ["test-plugin", "--format", "json", "--settings", &settings, "builtin:sensitive-files", &trace];
        let outcome = crate::tracer::host(&test);
        assert_eq!(outcome.status, 0, "{outcome:#?}");
        // Each thread, a new one, and four processes.
        let denials = outcome.stdout.matches("sensitive-read").count();
        assert!(denials >= 55, "{denials}: {outcome:#?}");
        let outcome = crate::tracer::host(&["test-plugin", "builtin:process-monitor", &trace]);
        assert_eq!(outcome.status, 0, "{outcome:#?}");
        if file.ends_with(".jsonl") {
            let text = fs::read_to_string(&trace).unwrap();
            let pid = format!("\"tid\":{}", application.pids()[2]);
            assert!(text.ends_with('\n') && text.contains(&pid), "the grandchild's calls are there");
        }
    }
    application.ends_well();
}

/// A recording that ends with its process is whole, too.
#[test]
fn a_recorded_process_that_ends() {
    let files = Files::new();
    let application = Application::start("fifty");
    let trace = files.at("trace.jsonl");
    let mut host = Tracer::record(application.pid, trace.as_ref());
    application.ends_well();
    assert_eq!(host.status(), 0, "{:?}", host.rest());
    let outcome = crate::tracer::host(&["test-plugin", "builtin:process-monitor", &trace]);
    assert_eq!(outcome.status, 0, "{outcome:#?}");
}

/// The exec and the exit of what was attached to are told.
#[test]
fn programs_of_an_attached_process() {
    let files = Files::new();
    let mut application = Application::start("one");
    let mut host = Tracer::attach_to(application.pid, &["--plugin", "builtin:process-monitor"]);
    assert_eq!(application.ask(&format!("spawn {}", files.at("public"))), "ok");
    host.leave(Signal::SIGTERM);
    let alerts = host.alerts();
    let execs: Vec<_> = alerts.iter().filter(|alert| alert["rule"] == "exec").collect();
    assert_eq!(execs.len(), 1, "{alerts:#?}");
    let exe = program().canonicalize().unwrap();
    assert_eq!(execs[0]["exe"], exe.to_str().unwrap(), "{alerts:#?}");
    assert_ne!(execs[0]["pid"], application.pid);
    application.ends_well();
}
