//! Attacks on the host: its life, its memory, its circumstances, its files.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::Failures;
use crate::place::{Place, attacker};
use crate::races::no_connect;
use crate::support::{HOST, Outcome, read_alerts, run_limited};

/// A run of the host with files that are worth an attack.
struct Target {
    place: Place,
    alerts: PathBuf,
    trace: PathBuf,
    cache: PathBuf,
    plugin: PathBuf,
}

impl Target {
    fn new() -> Self {
        let place = Place::new();
        let own = place.root.join("own");
        std::fs::create_dir(&own).unwrap();
        let plugin = own.join("plugin.wasm");
        std::fs::copy(no_connect(), &plugin).unwrap();
        Self { alerts: own.join("alerts"), trace: own.join("trace.jsonl"), cache: own.join("cache"), plugin, place }
    }

    /// In a process group of its own: what is sent to all of it hits no test.
    fn run(&self, before: &[&str], command: &[&str]) -> Output {
        let settings = json!({"paths": [self.place.secrets()], "access": "any", "action": "deny"});
        let words = before.iter().copied().chain([HOST]).collect::<Vec<_>>();
        let mut host = Command::new(words[0]);
        host.args(&words[1..]).arg("run").arg("--plugin").arg("builtin:sensitive-files");
        host.arg("--settings").arg(format!("sensitive-files={settings}")).arg("--plugin").arg(&self.plugin);
        host.arg("--alerts").arg(&self.alerts).arg("--record").arg(&self.trace).arg("--").args(command);
        host.env("XDG_CACHE_HOME", &self.cache).process_group(0);
        run_limited(&mut host)
    }
}

/// Attack; what the program is told.
type Row = (&'static [&'static str], &'static [&'static str]);

const SIGNALS: &[Row] = &[
    (&["kill"], &["EPERM"]),
    (&["kill", "19"], &["EPERM"]),
    (&["kill", "11"], &["EPERM"]),
    (&["kill-upper-half"], &["EPERM"]),
    (&["kill-by-thread-id"], &["EPERM"]),
    (&["tkill"], &["EPERM"]),
    (&["tgkill"], &["EPERM"]),
    (&["tgkill", "19"], &["EPERM"]),
    (&["tgkill-other-thread"], &["EPERM"]),
    (&["pidfd-signal"], &["EPERM"]),
    (&["pidfd-signal", "19"], &["EPERM"]),
    (&["pidfd-signal-of-proc"], &["EPERM"]),
    (&["sigqueue"], &["EPERM"]),
    (&["tgsigqueue"], &["EPERM"]),
    (&["sigio"], &["EPERM"]),
    (&["sigio-ex"], &["EPERM"]),
    #[cfg(target_arch = "x86_64")]
    (&["sigio-ex-int80"], &["EPERM"]),
    (&["socket-owner"], &["EPERM"]),
    (&["pidfd-signal-flipped"], &["never sent"]),
    (&["owner-flipped"], &["never owned"]),
    (&["owner-shared"], &["never owned"]),
];

/// A program that asks whether the host is there learns it.
const QUESTIONS: &[Row] = &[(&["kill", "0"], &["ok", "EPERM"])];

const MEMORY: &[Row] = &[
    (&["ptrace-attach"], &["EPERM"]),
    (&["ptrace-seize"], &["EPERM"]),
    (&["vm-writev"], &["EPERM"]),
    (&["madvise"], &["EPERM"]),
    (&["getfd"], &["EPERM"]),
    (&["peer-pidfd"], &["ENOPROTOOPT"]),
    (&["pass-pidfd"], &["ENOPROTOOPT"]),
    (&["fanotify-pidfd"], &["EINVAL"]),
    (&["handle-of-process"], &["EACCES", "EPERM"]),
    (&["kcmp"], &["EPERM"]),
    (&["open-mem"], &["EACCES"]),
    (&["open-mem-of-thread"], &["EACCES"]),
    (&["open-mem-by-thread-id"], &["EACCES"]),
    (&["open-map-file"], &["EACCES", "EPERM", "ETXTBSY"]),
];

const CIRCUMSTANCES: &[Row] = &[
    (&["prlimit"], &["EPERM"]),
    (&["affinity"], &["EPERM"]),
    (&["scheduler"], &["EPERM"]),
    (&["sched-attr"], &["EPERM"]),
    (&["priority"], &["EPERM"]),
    (&["io-priority"], &["EPERM"]),
    (&["move-pages"], &["EPERM"]),
    (&["migrate-pages"], &["EPERM"]),
    (&["oom-score"], &["EACCES"]),
    (&["oom-adjust"], &["EACCES"]),
    (&["oom-score-of-thread"], &["EACCES"]),
    (&["oom-score-by-directory"], &["EACCES"]),
    (&["timer-slack"], &["EACCES"]),
    (&["clear-refs"], &["EACCES"]),
    // The kernel lets nobody but its own threads.
    (&["comm"], &["EACCES", "EINVAL"]),
    (&["core-filter"], &["EACCES"]),
];

fn attack(target: &Target, before: &[&str], words: &[&str]) -> Output {
    let program = attacker();
    let mut command = vec![program.to_str().unwrap(), "host"];
    command.extend(words);
    target.run(before, &command)
}

fn all(rows: &[Row]) {
    let mut failures = Failures::default();
    for (words, accepted) in rows {
        let name = words.join(" ");
        // A host that is stopped does not end.
        let Ok(output) = std::panic::catch_unwind(|| attack(&Target::new(), &[], words)) else {
            failures.add(&name, "the host hangs");
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if let Some(signal) = output.status.signal() {
            failures.add(&name, format!("the host died of signal {signal}"));
        } else if !accepted.contains(&said.as_str()) || output.status.code() != Some(0) {
            failures.add(&name, format!("should come to {accepted:?}: {:#?}", Outcome::of(&output)));
        }
    }
    failures.end();
}

/// Prevented.
#[test]
fn its_life() {
    all(SIGNALS);
    all(QUESTIONS);
}

/// Prevented.
#[test]
fn its_memory() {
    all(MEMORY);
}

/// Prevented.
#[test]
fn its_circumstances() {
    all(CIRCUMSTANCES);
}

/// What is sent to all of a group does not reach the host, and the program
/// gets what it would get alone.
#[test]
fn its_life_within_a_group() {
    let mut failures = Failures::default();
    for attacked in ["kill-group", "kill-group-by-number"] {
        for signal in ["9", "15", "10"] {
            let output = attack(&Target::new(), &[], &[attacked, signal]);
            let died = 128 + signal.parse::<i32>().unwrap();
            if output.status.code() != Some(died) {
                let outcome = Outcome::of(&output);
                failures.add(&format!("{attacked} {signal}"), format!("{:?} {outcome:#?}", output.status));
            }
        }
    }
    let output = attack(&Target::new(), &[], &["kill-group-handled"]);
    if (output.status.code(), &output.stdout[..]) != (Some(0), b"ok\n") {
        failures.add("kill-group-handled", format!("{:?} {:#?}", output.status, Outcome::of(&output)));
    }
    failures.end();
}

/// The same for all processes that there are: here, those of a PID namespace.
#[test]
fn its_life_among_all() {
    // The shell is the namespace's init, which such a signal spares; without
    // `:` it would become the host.
    let inside =
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "\"$0\" \"$@\"; echo \"status $?\""];
    for signal in ["9", "15"] {
        let output = attack(&Target::new(), &inside, &["kill-all", signal]);
        let said = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            ["ok status 0", "EPERM status 0", "ESRCH status 0"].contains(&said.as_str()),
            "{:#?}",
            Outcome::of(&output)
        );
    }
}

/// Ways to damage a file.
const DAMAGES: [&str; 13] = [
    "write",
    "append",
    "open-truncate",
    "create",
    "truncate",
    "unlink",
    "rename",
    "replace",
    "exchange",
    "rename-directory",
    "link",
    "chmod",
    "symlink",
];

/// Damages `file`, then reaches for the secret: the alert must be there.
fn damage(target: &Target, how: &str, file: &Path, failures: &mut Failures) {
    let (program, file) = (attacker(), file.to_str().unwrap());
    let program = program.to_str().unwrap();
    let root = target.place.root.to_str().unwrap();
    let script = "\"$0\" host file \"$1\" \"$2\"; \"$0\" name plain \"$3\"";
    let output = target.run(&[], &["sh", "-c", script, program, how, file, root]);
    let said = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let name = format!("{how} {}", file.rsplit('/').next().unwrap());
    if said != "EACCES EACCES" {
        failures.add(&name, format!("should come to EACCES twice: {:#?}", Outcome::of(&output)));
    }
    if !target.alerts.exists() {
        return failures.add(&name, "the file of alerts is gone");
    }
    let alerts = std::panic::catch_unwind(|| read_alerts(&target.alerts));
    let told = alerts.is_ok_and(|alerts| alerts.iter().any(|alert| alert["rule"] == "sensitive-read"));
    if !told {
        failures.add(&name, "the alert is lost");
    }
}

/// Prevented.
#[test]
fn its_alerts() {
    let mut failures = Failures::default();
    for how in DAMAGES {
        let target = Target::new();
        damage(&target, how, &target.alerts, &mut failures);
    }
    let target = Target::new();
    let output = attack(&target, &[], &["open-fd", target.alerts.to_str().unwrap()]);
    if String::from_utf8_lossy(&output.stdout).trim() != "EACCES" {
        failures.add("open-fd", format!("{:#?}", Outcome::of(&output)));
    }
    failures.end();
}

/// Prevented.
#[test]
fn its_trace_cache_and_plugins() {
    let mut failures = Failures::default();
    for how in ["write", "truncate", "unlink", "rename", "replace"] {
        let target = Target::new();
        damage(&target, how, &target.trace, &mut failures);
        let target = Target::new();
        damage(&target, how, &target.plugin, &mut failures);
    }
    for how in ["create-inside", "rename", "exchange"] {
        let target = Target::new();
        damage(&target, how, &target.cache.join("tracegate"), &mut failures);
    }
    failures.end();
}
