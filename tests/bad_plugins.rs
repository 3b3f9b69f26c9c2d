//! Plugins that are none, that do not fit, or that misbehave: each is told
//! clearly, and none takes the host or the program with it.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use support::{HOST, Outcome, Run, host, run_limited, test_plugin};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

fn misbehaving() -> PathBuf {
    test_plugin("misbehaving")
}

fn doing(settings: serde_json::Value) -> Run {
    host().plugin(misbehaving().to_str().unwrap()).option("--settings", format!("misbehaving={settings}"))
}

/// A component for another world: its functions trap.
fn dummy(wit: &str, world: &str) -> tempfile::NamedTempFile {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let component = ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap();
    file(&component)
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

/// The host refuses this plugin before anything runs.
#[track_caller]
fn refused(plugin: &Path, parts: &[&str]) {
    let output = run_limited(Command::new(HOST).args(["run", "--plugin"]).arg(plugin).args(["--", "echo", "ran"]));
    let outcome = Outcome::of(&output);
    // 2 for a reference that can be seen to be wrong, 125 for all else.
    assert!([2, 125].contains(&outcome.status) && outcome.stdout.is_empty(), "{outcome:#?}");
    for part in parts {
        assert!(outcome.stderr.contains(part), "{part:?} is not in {outcome:#?}");
    }
    assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
}

#[test]
fn files_that_are_no_plugin() {
    refused(Path::new("/no/such/plugin.wasm"), &["cannot read /no/such/plugin.wasm", "No such file"]);
    refused(Path::new("/etc"), &["the directory /etc has no plugin"]);
    refused(file(b"#!/bin/sh\n").path(), &["not"]);
    refused(file(b"").path(), &["not"]);
    refused(file(b"\0asm\x0d\0\x01\0rubbish").path(), &["does not compile"]);
    refused(file(b"\0asm\x01\0\0\0").path(), &["plugin"]);
    refused(Path::new("builtin:nothing"), &["sensitive-files, process-monitor"]);
    refused(Path::new("ftp://bucket/plugin.wasm"), &["ftp:// is not supported"]);
}

#[test]
fn components_of_another_world_or_version() {
    let other = dummy("package a:b; world w { export run: func(); }", "w");
    refused(other.path(), &["another world", "exports no tracegate:plugin/lifecycle"]);
    let contract = include_str!("../wit/plugin.wit");
    let future = dummy(&contract.replace("tracegate:plugin@0.1.0", "tracegate:plugin@0.9.0"), "plugin");
    refused(future.path(), &["speaks version 0.9.0", "this host speaks 0.1.0"]);
    let changed = dummy(&contract.replace("summary: string,", "summary: u32,"), "plugin");
    refused(changed.path(), &["broke the contract", "expected `string` found `u32`"]);
    let wasi =
        contract.replace("world plugin {", "interface clock { now: func() -> u64; } world plugin { import clock;");
    refused(dummy(&wasi, "plugin").path(), &["imports tracegate:plugin/clock@0.1.0, which no plugin gets"]);
    // Right in form, and traps when it is asked who it is.
    refused(dummy(contract, "plugin").path(), &["failed while it was asked to describe itself", "unreachable"]);
}

#[test]
fn settings_that_do_not_fit() {
    let refused = |settings: &str, parts: &[&str]| {
        let outcome = host().plugin(misbehaving().to_str().unwrap()).option("--settings", settings).run(&["true"]);
        assert_eq!(outcome.status, 125, "{outcome:#?}");
        for part in parts {
            assert!(outcome.stderr.contains(part), "{part:?} is not in {outcome:#?}");
        }
    };
    refused("misbehaving={", &["are not JSON", "line 1"]);
    refused(
        r#"misbehaving={"does": "dance", "only": 7, "level": 9, "more": 1}"#,
        &["/does: ", "/only: ", "/level: ", "more"],
    );
    let outcome = host().sensitive_files(&json!({"paths": [], "errno": "EZZ", "action": "no", "q": 1})).run(&["true"]);
    for part in ["/paths: ", "/errno: ", "/action: ", "'q'"] {
        assert!(outcome.stderr.contains(part), "{part:?} is not in {outcome:#?}");
    }
    refused(r#"misbehaving={"only": "refused"}"#, &["/only: must not be `refused`", "(whole): nor anything else"]);
    refused(r#"misbehaving={"also": ["opnat"]}"#, &["\"opnat\", which is no system call"]);
    refused("other={}", &["names plugin \"other\"", "misbehaving"]);
    refused("misbehaving=@/no/such/file", &["--settings: for misbehaving: cannot read /no/such/file"]);
}

/// Runs a program whose one open is answered by a misdeed.
fn open_under(does: &str, more: &[(&str, &str)]) -> Outcome {
    let file = tempfile::NamedTempFile::with_prefix("target-file").unwrap();
    let mut run = doing(json!({"does": does, "only": "target-file"}));
    for (option, value) in more {
        run = run.option(option, *value);
    }
    run.tracee(&["open", file.path().to_str().unwrap()])
}

#[test]
fn faults_fail_closed_in_enforce_mode() {
    for (does, reason) in [
        ("trap", "it trapped: wasm `unreachable` instruction executed"),
        ("loop", "it did not answer within 10 ms"),
        ("eat-memory", "it asked for more than its 64 MiB of memory"),
        ("recurse", "it trapped: call stack exhausted"),
        ("deny-zero", "it answered deny(0), which is no errno"),
        ("deny-huge", "it answered deny(4096), which is no errno"),
    ] {
        // Only the loop shall meet the deadline, on a busy machine too.
        let more: &[_] = if does == "loop" { &[] } else { &[("--deadline", "10000")] };
        let outcome = open_under(does, more);
        outcome.says("EPERM");
        assert_eq!(outcome.rules(), ["plugin-fault"], "{does}: {outcome:#?}");
        let message = outcome.alerts[0]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{does}: {message}");
        assert_eq!(outcome.alerts[0]["action"], "deny");
    }
}

#[test]
fn faults_follow_the_failure_policy() {
    let outcome = open_under("trap", &[("--on-error", "misbehaving=allow")]);
    outcome.says("ok");
    assert_eq!(outcome.alerts[0]["action"], "allow");
    for monitor in ["misbehaving=monitor", "monitor"] {
        let outcome = open_under("trap", &[("--mode", monitor)]);
        outcome.says("ok");
        assert_eq!(outcome.rules(), ["plugin-fault"]);
    }
    // What is said of one wins over what is said of all.
    let outcome = open_under("trap", &[("--on-error", "deny"), ("--on-error", "misbehaving=allow")]);
    outcome.says("ok");
    let outcome = open_under("trap", &[("--mode", "enforced")]);
    assert!(outcome.stderr.contains("--mode: give enforce or monitor"), "{outcome:#?}");
}

#[test]
fn limits_are_the_operators() {
    let outcome = open_under("loop", &[("--deadline", "300")]);
    assert!(outcome.alerts[0]["message"].as_str().unwrap().contains("within 300 ms"), "{outcome:#?}");
    let outcome = open_under("eat-memory", &[("--memory", "8"), ("--deadline", "10000")]);
    assert!(outcome.alerts[0]["message"].as_str().unwrap().contains("its 8 MiB"), "{outcome:#?}");
    // What is said of one wins over what is said of all.
    let outcome = open_under("loop", &[("--deadline", "misbehaving=300"), ("--deadline", "60000")]);
    assert!(outcome.alerts[0]["message"].as_str().unwrap().contains("within 300 ms"), "{outcome:#?}");
    for (value, said) in [
        ("misbehaving=0", "0 is not a number from 1 to 60000"),
        ("misbehaving=", "is not a number"),
        ("=5", "expected [NAME=]VALUE"),
        ("other=5", "names plugin \"other\""),
    ] {
        let outcome = open_under("loop", &[("--deadline", value)]);
        assert!(outcome.stderr.contains(said), "{value}: {outcome:#?}");
    }
    let outcome = open_under("loop", &[("--deadline", "7"), ("--deadline", "8")]);
    assert!(outcome.stderr.contains("--deadline: given twice for all plugins"), "{outcome:#?}");
}

#[test]
fn a_denial_without_a_word_is_told() {
    let outcome = open_under("deny-silently", &[]);
    outcome.says("EXDEV");
    assert_eq!(outcome.rules(), ["denied"]);
}

#[test]
fn floods_are_cut() {
    let outcome = open_under("flood", &[]);
    outcome.says("ok");
    assert_eq!(outcome.alerts.len(), 64, "at most so many alerts of one answer");
    assert!(outcome.alerts[0]["message"].as_str().unwrap().len() <= 16 * 1024);
    let outcome = open_under("log-flood", &[]);
    outcome.says("ok");
    assert_eq!(outcome.stderr.matches("WARN more").count(), 100, "{outcome:#?}");
    let outcome = open_under("log-flood", &[("--log-rate", "7")]);
    assert_eq!(outcome.stderr.matches("WARN more").count(), 7, "{outcome:#?}");
    let outcome = open_under("flood", &[("--alert-rate", "3")]);
    assert_eq!(outcome.rules(), ["flood", "flood", "flood", "alerts-dropped"], "{outcome:#?}");
}

#[test]
fn state_outlives_a_trap_and_the_plugin_comes_back() {
    let file = tempfile::NamedTempFile::with_prefix("target-file").unwrap();
    let outcome = doing(json!({"does": "count-and-trap", "only": "target-file"})).tracee(&[
        "open-loop",
        file.path().to_str().unwrap(),
        "5",
    ]);
    outcome.says("1 failed");
    let told: Vec<_> = outcome.alerts.iter().map(|alert| alert["message"].as_str().unwrap()).collect();
    assert_eq!((told[0], told[1], told[3], told[4]), ("1", "2", "4", "5"), "{outcome:#?}");
    assert_eq!(outcome.rules()[2], "plugin-fault");
}

#[test]
fn a_plugin_that_always_fails_is_suspended_and_the_program_ends() {
    let file = tempfile::NamedTempFile::with_prefix("target-file").unwrap();
    let outcome = doing(json!({"does": "loop", "only": "target-file"})).tracee(&[
        "open-loop",
        file.path().to_str().unwrap(),
        "200",
    ]);
    outcome.says("200 failed");
    assert!(outcome.rules().contains(&"plugin-suspended"), "{:?}", outcome.rules());
}

#[test]
fn one_plugins_fault_leaves_anothers_verdict() {
    let file = tempfile::NamedTempFile::with_prefix("target-file").unwrap();
    let path = file.path().to_str().unwrap();
    let outcome = doing(json!({"does": "trap", "only": "target-file"}))
        .option("--on-error", "misbehaving=allow")
        .protect(file.path())
        .tracee(&["open", path]);
    outcome.says("EACCES");
    assert_eq!(outcome.rules(), ["plugin-fault", "sensitive-read"]);
}

#[test]
fn two_plugins_of_one_name_are_refused() {
    let outcome = host().plugin("builtin:sensitive-files").plugin("builtin:sensitive-files").run(&["true"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.contains("two plugins are called sensitive-files"), "{outcome:#?}");
    let outcome = host().plugin("builtin:sensitive-files").plugin("second=builtin:sensitive-files").run(&["true"]);
    assert_eq!(outcome.status, 0, "{outcome:#?}");
}
