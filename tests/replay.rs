//! What is recorded can be replayed, and says the same again.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use support::{HOST, Outcome, host, run_limited};

fn test_plugin(arguments: &[&str]) -> Outcome {
    Outcome::of(&run_limited(Command::new(HOST).arg("test-plugin").args(arguments)))
}

/// A run that reads, writes, executes and is refused things.
const SCRIPT: &str =
    "cat /etc/shadow /etc/hostname; cd /etc; cat shadow; echo > /root/.ssh/authorized_keys; ls / | head -2; /bin/true";

fn recorded(directory: &Path, name: &str) -> String {
    let trace = directory.join(name).to_str().unwrap().to_owned();
    let outcome = host()
        .plugin("builtin:sensitive-files")
        .plugin("builtin:process-monitor")
        .option("--record", &trace)
        .run(&["sh", "-c", SCRIPT]);
    assert!(outcome.alerts.iter().any(|alert| alert["action"] == "deny"), "{outcome:#?}");
    trace
}

#[test]
fn a_replay_answers_as_the_live_run_did() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["trace.jsonl", "trace.jsonl.zst"] {
        let trace = recorded(directory.path(), name);
        for plugin in ["builtin:sensitive-files", "builtin:process-monitor"] {
            let outcome = test_plugin(&[plugin, &trace, "--against-recorded"]);
            assert_eq!(outcome.status, 0, "{plugin}: {outcome:#?}");
        }
    }
}

#[test]
fn two_replays_agree_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let trace = recorded(directory.path(), "trace.jsonl");
    let golden = directory.path().join("golden.jsonl");
    let golden = golden.to_str().unwrap();
    let first = test_plugin(&["builtin:sensitive-files", &trace, "--expect", golden, "--bless"]);
    assert_eq!(first.status, 0, "{first:#?}");
    let blessed = std::fs::read(golden).unwrap();
    assert!(String::from_utf8_lossy(&blessed).contains("EACCES"));
    let second = test_plugin(&["builtin:sensitive-files", &trace, "--expect", golden]);
    assert_eq!(second.status, 0, "{second:#?}");
    test_plugin(&["builtin:sensitive-files", &trace, "--expect", golden, "--bless"]);
    assert_eq!(std::fs::read(golden).unwrap(), blessed);
    let json = |_| test_plugin(&["builtin:sensitive-files", &trace, "--format", "json"]).stdout;
    assert_eq!(json(1), json(2));
}

#[test]
fn other_settings_differ_and_the_difference_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let trace = recorded(directory.path(), "trace.jsonl");
    let golden = directory.path().join("golden.jsonl");
    let golden = golden.to_str().unwrap();
    test_plugin(&["builtin:sensitive-files", &trace, "--expect", golden, "--bless"]);
    let settings = r#"{"paths": ["/etc/hostname"], "access": "read", "action": "deny"}"#;
    let outcome = test_plugin(&["builtin:sensitive-files", &trace, "--expect", golden, "--settings", settings]);
    assert_eq!(outcome.status, 1, "{outcome:#?}");
    assert!(outcome.stdout.contains("shadow") && outcome.stdout.contains("hostname"), "{outcome:#?}");
}

#[test]
fn bad_traces_are_named_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let trace = recorded(directory.path(), "trace.jsonl");
    let text = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refused = |path: &str, parts: &[&str]| {
        let outcome = test_plugin(&["builtin:sensitive-files", path]);
        assert_eq!(outcome.status, 2, "{outcome:#?}");
        for part in parts {
            assert!(outcome.stderr.contains(part), "{part:?} is not in {outcome:#?}");
        }
    };
    refused(&write("cut", &text[..text.len() / 2]), &["cut:"]);
    refused(&write("no-end", &(lines[..lines.len() - 1].join("\n") + "\n")), &["no-end:", "end"]);
    refused(&write("foreign", "{\"hello\": 1}\n"), &["foreign:1: not a trace"]);
    refused(&write("text", "hello\n"), &["text:1: "]);
    refused(&write("empty", ""), &["empty"]);
    refused(&write("future", &text.replacen("\"version\":1", "\"version\":99", 1)), &["future:1: ", "99"]);
    let broken = lines.iter().enumerate().map(|(i, line)| if i == 4 { "{\"type\":" } else { line }).collect::<Vec<_>>();
    refused(&write("broken", &broken.join("\n")), &["broken:5: "]);
    refused("/no/such/trace.jsonl", &["/no/such/trace.jsonl"]);
}
