//! The first-party plugins, rebuilt from source, say of the recorded traces
//! what the embedded ones say, and what is expected of them.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{HOST, Outcome, host, run_limited};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn traces() -> Vec<PathBuf> {
    let mut traces: Vec<_> =
        std::fs::read_dir(repository().join("examples/traces")).unwrap().map(|entry| entry.unwrap().path()).collect();
    traces.retain(|path| path.is_file());
    traces.sort();
    assert!(traces.len() >= 3, "{traces:?}");
    traces
}

fn replay(plugin: &str, name: &str) -> Outcome {
    let expected = repository().join("examples/traces/expected").join(name).with_extension("jsonl");
    let mut command = Command::new(HOST);
    command.args(["test-plugin", plugin]).args(traces()).arg("--expect").arg(expected);
    Outcome::of(&run_limited(&mut command))
}

/// Builds a plugin next to the host; the tests of this file do so in turn,
/// since they share cargo's target directory.
fn rebuilt(name: &str) -> String {
    let component = Path::new(HOST).with_file_name(format!("rebuilt-{name}.wasm"));
    let mut build = Command::new(HOST);
    build.arg("build-plugin").arg(repository().join("plugins").join(name)).arg("-o").arg(&component);
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    component.to_str().unwrap().to_owned()
}

#[test]
fn embedded_and_rebuilt_plugins_say_what_is_expected() {
    for name in ["sensitive-files", "process-monitor"] {
        for plugin in [format!("builtin:{name}"), rebuilt(name)] {
            let outcome = replay(&plugin, name);
            assert_eq!(outcome.status, 0, "{plugin}: {outcome:#?}");
        }
    }
}

#[test]
fn a_rebuilt_plugin_denies() {
    let outcome = host().plugin(&rebuilt("sensitive-files")).run(&["cat", "/etc/shadow"]);
    assert_eq!(outcome.status, 1, "{outcome:#?}");
    assert_eq!(outcome.alerts.len(), 1, "{outcome:#?}");
}

#[test]
fn inspect_shows_name_version_and_schema() {
    let output =
        Command::new(HOST).args(["inspect-plugin", "builtin:sensitive-files", "--format", "json"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["name"], "sensitive-files");
    assert!(document["settings_schema"].is_object(), "{document:#}");
    let text = Command::new(HOST).args(["inspect-plugin", "builtin:process-monitor"]).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).starts_with("process-monitor 0.1.0\n"));
}
