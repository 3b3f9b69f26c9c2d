//! A program under `host run` behaves as alone: exit status, signals, output;
//! and what goes wrong before it starts is said clearly.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use support::{HOST, Outcome, host, read_alerts, run_limited, tracee};

#[test]
fn the_default_plugins_keep_the_shadow_file() {
    let outcome = host().run(&["cat", "/etc/shadow"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("/etc/shadow: Permission denied"), "{outcome:#?}");
    assert_eq!(outcome.alerts.len(), 1, "one alert line: {outcome:#?}");
    let alert = &outcome.alerts[0];
    for key in ["time", "rule", "severity", "message", "plugin", "action", "pid", "tid", "exe", "syscall", "args"] {
        assert!(!alert[key].is_null(), "{key} is missing: {alert}");
    }
    assert_eq!(alert["plugin"], "sensitive-files");
    assert_eq!(alert["action"], "deny");
    assert_eq!(alert["syscall"], "openat");
    assert_eq!(alert["args"]["pathname"], "/etc/shadow");
}

#[test]
fn exit_status_is_the_programs() {
    for code in [0, 1, 42, 255] {
        assert_eq!(host().tracee(&["exit", &code.to_string()]).status, code);
    }
}

#[test]
fn a_command_needs_no_dashes_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let alerts = directory.path().join("alerts");
    let run = |words: &[&str]| {
        let mut command = Command::new(HOST);
        Outcome::of(&run_limited(command.args(["run", "--alerts"]).arg(&alerts).args(words)))
    };
    for words in
        [["sh", "-c", "echo $1; exit 3", "sh", "--plugin"].as_slice(), &["--", "sh", "-c", "echo --plugin; exit 3"]]
    {
        let outcome = run(words);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (3, "--plugin\n"), "{outcome:#?}");
    }
    let outcome = run(&["--plugins", "sh"]);
    assert_eq!(outcome.status, 2, "{outcome:#?}");
    assert!(outcome.stderr.contains("unexpected argument '--plugins'"), "{outcome:#?}");
}

#[test]
fn a_deadly_signal_is_told_as_128_and_its_number() {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGABRT, libc::SIGRTMIN() + 3] {
        assert_eq!(host().tracee(&["kill-self", &signal.to_string()]).status, 128 + signal);
    }
}

#[test]
fn a_restarted_sleep_sleeps_to_its_end() {
    host().tracee(&["interrupted-sleep"]).says("ok");
}

#[test]
fn children_of_all_kinds_are_followed() {
    let tracee = tracee();
    let tracee = tracee.to_str().unwrap();
    host().tracee(&["exit-loop", "200"]).says("ok");
    host().tracee(&["threads", "200"]).says("ok");
    host().tracee(&["vfork-exec", tracee, "exit", "7"]).says("child 7");
    let outcome = host().tracee(&["exec-in-thread", tracee, "exit", "9"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (9, ""), "{outcome:#?}");
    let outcome = host().run(&["sh", "-c", "echo a | cat | (cat; echo b) && exit 5"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, "a\nb\n"));
}

#[test]
fn sigterm_goes_to_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let script = format!("trap 'echo got it; exit 3' TERM; : > {}; while :; do sleep 0.01; done", ready.display());
    let mut command = Command::new(HOST);
    command.args(["run", "--", "sh", "-c", &script]).stdout(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for(&ready);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"got it\n".as_slice()));
}

fn wait_for(path: &Path) {
    for _ in 0..2000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{} did not appear within 10 s", path.display());
}

#[test]
fn alerts_go_to_each_destination() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["a", "b"].map(|name| directory.path().join(name));
    let mut host = Command::new(HOST);
    host.arg("run").arg("--alerts").arg(&files[0]).arg("--alerts").arg(&files[1]);
    let outcome = Outcome::of(&run_limited(host.args(["--", "cat", "/etc/shadow"])));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""), "{outcome:#?}");
    let alerts = files.map(|file| read_alerts(&file));
    assert!(alerts[0].iter().any(|alert| alert["rule"] == "sensitive-read"), "{alerts:#?}");
    assert_eq!(alerts[0], alerts[1]);
}

#[test]
fn killing_the_host_kills_the_program_and_cuts_no_alert() {
    let directory = tempfile::tempdir().unwrap();
    let (alerts, pid_file) = (directory.path().join("alerts"), directory.path().join("pid"));
    let mut child = Command::new(HOST)
        .args(["run", "--plugin", "builtin:sensitive-files", "--alerts"])
        .arg(&alerts)
        .arg("--")
        .arg(tracee())
        .args(["flood", "/etc/shadow"])
        .arg(&pid_file)
        .spawn()
        .unwrap();
    wait_for(&pid_file);
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let gone = || !Path::new("/proc").join(&pid).exists() || stat_of(&pid).contains(") Z ");
    for _ in 0..1000 {
        if gone() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(gone(), "process {pid} lives on without anybody who judges it");
    assert!(!read_alerts(&alerts).is_empty());
}

fn stat_of(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

#[test]
fn killing_the_program_cuts_no_alert() {
    let script = format!("{} flood /etc/shadow /dev/null & sleep 0.2; kill -9 $!", tracee().display());
    let outcome = host().run(&["sh", "-c", &script]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(!outcome.alerts.is_empty());
}

fn host_says(arguments: &[&str]) -> Outcome {
    Outcome::of(&run_limited(Command::new(HOST).args(arguments)))
}

#[test]
fn what_cannot_be_run_is_said() {
    let outcome = host_says(&["run", "--", "no-such-program"]);
    assert_eq!(outcome.status, 127);
    assert_eq!(
        outcome.stderr,
        "host: cannot run \"no-such-program\": no such program; give its path, or a name that is in PATH\n"
    );
    let outcome = host_says(&["run", "--", "/no/such/program"]);
    assert_eq!(outcome.status, 127);
    let outcome = host_says(&["run", "--", "/etc/passwd"]);
    assert_eq!(outcome.status, 126);
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:#?}");
    let outcome = host_says(&["run", "--alerts", "/no/such/directory/alerts", "--", "true"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.contains("cannot write alerts to /no/such/directory/alerts"), "{outcome:#?}");
    let outcome = host_says(&["run", "--record", "/no/such/directory/trace", "--", "true"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.contains("cannot write the trace to /no/such/directory/trace"), "{outcome:#?}");
    let outcome = host_says(&["record", "-o", "/dev/null", "--syscall", "opnat", "--", "true"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.contains("\"opnat\" is no system call"), "{outcome:#?}");
}

#[test]
fn a_pipe_without_a_reader_is_no_reason_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = pipe.to_str().unwrap();
    for arguments in [
        ["run", "--alerts", pipe, "--", "true"],
        ["run", "--plugin", pipe, "--", "true"],
        ["run", "--settings", &format!("sensitive-files=@{pipe}"), "--", "true"],
    ] {
        let outcome = host_says(&arguments);
        assert_eq!(outcome.status, 125, "{outcome:#?}");
        assert!(outcome.stderr.contains(pipe), "{outcome:#?}");
    }
}

#[test]
fn process_monitor_tells_of_every_program() {
    let outcome = host().plugin("builtin:process-monitor").run(&["sh", "-c", "/bin/true; /bin/echo x"]);
    let exes: Vec<_> =
        outcome.alerts.iter().filter(|a| a["rule"] == "exec").map(|a| a["exe"].as_str().unwrap()).collect();
    assert_eq!(exes.len(), 3, "{outcome:#?}");
    assert!(exes[1].ends_with("/true") && exes[2].ends_with("/echo"), "{exes:?}");
    assert_eq!(outcome.stdout, "x\n");
}

/// Memory for what is judged costs a descriptor of ours a process; without one
/// it is made in the process.
#[test]
fn more_processes_than_we_may_have_descriptors() {
    let few = ["sh", "-c", r#"ulimit -n 64 && exec "$@""#, "sh"];
    let outcome = host().through(&few).tracee(&["processes-with-threads", "100", "/etc/passwd"]);
    outcome.says("0 failed");
}
