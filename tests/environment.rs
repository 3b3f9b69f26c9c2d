//! What plugins are told of the environment of programs: the one that they
//! come to have, by whichever way they come to run.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use support::{HOST, Outcome, host, run_limited, test_plugin};

/// Refuses /usr/bin/env with FORBIDDEN in its environment.
fn plugin() -> String {
    test_plugin("no-preload").to_str().unwrap().to_owned()
}

const DIRECTLY: &str = "FORBIDDEN=1 /usr/bin/env >/dev/null 2>&1; echo $?; /usr/bin/env >/dev/null; echo $?";

#[test]
fn of_a_program_that_is_named() {
    let outcome = host().plugin(&plugin()).run(&["sh", "-c", DIRECTLY]);
    assert_eq!(outcome.stdout, "126\n0\n", "{outcome:#?}");
    assert_eq!(outcome.rules(), ["forbidden"]);
}

/// What was judged at the call was another program; the environment that this
/// one has is in its own memory.
#[test]
fn of_the_interpreter_of_a_script() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    std::fs::write(&script, "#!/usr/bin/env true\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let both = format!("FORBIDDEN=1 {script}; echo $?; {script}; echo $?");
    let outcome = host().plugin(&plugin()).run(&["sh", "-c", &both]);
    assert_eq!(outcome.stdout, "137\n0\n", "{outcome:#?}");
    assert_eq!(outcome.rules(), ["forbidden"]);
}

/// A thread changes a variable's name to and fro while its process executes the
/// program: that never runs with the wrong one.
#[test]
fn that_another_thread_changes() {
    let outcome = host().plugin(&plugin()).tracee(&["flip-environment", "400"]);
    let counts: Vec<u32> = outcome.stdout.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [allowed, refused, wrong] = counts[..] else { panic!("{outcome:#?}") };
    assert_eq!((allowed + refused + wrong, wrong), (400, 0), "{outcome:#?}");
    assert!(allowed > 0 && refused > 0, "both were tried: {outcome:#?}");
}

#[test]
fn in_a_replay() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let trace = trace.to_str().unwrap();
    host().plugin(&plugin()).option("--record", trace).run(&["sh", "-c", DIRECTLY]);
    assert!(std::fs::read_to_string(trace).unwrap().contains("FORBIDDEN=1"));
    let replay = |trace: &str| {
        let mut command = Command::new(HOST);
        let output = run_limited(command.args(["test-plugin", &plugin(), trace, "--against-recorded"]));
        Outcome::of(&output)
    };
    let outcome = replay(trace);
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    // Another environment is another answer.
    let harmless = std::fs::read_to_string(trace).unwrap().replace("FORBIDDEN=1", "PERMITTED=1");
    let other = directory.path().join("other.jsonl");
    std::fs::write(&other, harmless).unwrap();
    let outcome = replay(other.to_str().unwrap());
    assert_eq!(outcome.status, 1, "{outcome:#?}");
}

#[test]
fn only_for_those_to_whom_it_is_granted() {
    let outcome = host().plugin(&plugin()).option("--grant", "no-preload=descriptors").run(&["true"]);
    assert_eq!(outcome.status, 125, "{outcome:#?}");
    assert!(outcome.stderr.contains("asks for environment, which is not granted to it"), "{outcome:#?}");
    let inspect = |plugin: &Path| {
        let said = run_limited(Command::new(HOST).arg("inspect-plugin").arg(plugin).args(["--format", "json"]));
        serde_json::from_slice::<serde_json::Value>(&said.stdout).unwrap()["asks"].clone()
    };
    assert_eq!(inspect(&test_plugin("no-preload")), serde_json::json!(["environment"]));
}
