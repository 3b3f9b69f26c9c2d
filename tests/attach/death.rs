//! `--on-host-death`: what becomes of the programs when the host is killed.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::application::{Application, DENIED, Files, program, token};
use crate::process::{guardian_of, guardians, has_ended, send, tracer, wait_for};
use crate::support::HOST;
use crate::tracer::Tracer;

#[test]
fn attached_and_killed() {
    let files = Files::new();
    for (choice, lives) in
        [(&[][..], true), (&["--on-host-death", "continue"], true), (&["--on-host-death", "kill"], false)]
    {
        let mut application = Application::start("fifty");
        let pids = application.pids();
        let options = [&choice.iter().map(ToString::to_string).collect::<Vec<_>>()[..], &files.deny()].concat();
        let mut host = Tracer::attach_to(application.pid, &options);
        application.opens(&files.at("secret"), DENIED);
        host.kill();
        if lives {
            wait_for("it is free", || pids.iter().all(|pid| tracer(*pid) == 0).then_some(()));
            application.is_left_alone();
            application.opens(&files.at("secret"), "ok");
            application.ends_well();
        } else {
            wait_for("the kernel kills all of them", || pids.iter().all(|pid| has_ended(*pid)).then_some(()));
            use std::os::unix::process::ExitStatusExt as _;
            assert_eq!(application.status().signal(), Some(9));
        }
    }
}

/// SIGTERM is no death: whatever was chosen, the application goes on.
#[test]
fn attached_with_kill_and_left() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let options = [&["--on-host-death", "kill"].map(str::to_owned)[..], &files.deny()].concat();
    let mut host = Tracer::attach_to(application.pid, &options);
    application.opens(&files.at("secret"), DENIED);
    host.leave(Signal::SIGTERM);
    application.is_left_alone();
    application.opens(&files.at("secret"), "ok");
    application.ends_well();
}

/// An application under `host run`; its host's process is the child's.
fn run(files: &Files, options: &[&str], shape: &str, token: &str) -> Application {
    let alerts = files.at("alerts");
    let wrapper: Vec<String> = [HOST, "run", "--alerts", &alerts]
        .iter()
        .chain(options)
        .map(ToString::to_string)
        .chain(files.deny())
        .chain(["--".to_owned()])
        .collect();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    Application::start_with(&wrapper, shape, "none", token)
}

#[test]
fn run_and_killed() {
    let files = Files::new();
    for options in [&[][..], &["--on-host-death", "kill"]] {
        let mut application = run(&files, options, "fifty", &token());
        application.opens(&files.at("secret"), DENIED);
        let pids = application.pids();
        send(application.child(), Signal::SIGKILL);
        wait_for("the kernel kills all of them", || pids.iter().all(|pid| has_ended(*pid)).then_some(()));
    }
}

#[test]
fn run_and_survived_by_the_program() {
    let files = Files::new();
    let token = token();
    let mut application = run(&files, &["--on-host-death", "continue"], "fifty", &token);
    application.opens(&files.at("secret"), DENIED);
    let (host, pids) = (application.child(), application.pids());
    assert!(pids.iter().all(|pid| tracer(*pid) == host));
    send(host, Signal::SIGKILL);
    application.status();
    let guardian = guardian_of(application.pid, host);
    for pid in &pids[1..] {
        assert_eq!(guardian_of(*pid, host), guardian);
    }
    // Everything passes.
    application.opens(&files.at("secret"), "ok");
    application.opens(&files.at("public"), "ok");
    application.opens(&files.at("missing"), "ENOENT");
    assert_eq!(application.pids(), pids);
    // The guardian is nobody's but the programs': it ends with them.
    application.end_input();
    wait_for("the programs end", || pids.iter().all(|pid| has_ended(*pid)).then_some(()));
    wait_for("the guardian ends", || has_ended(guardian).then_some(()));
    wait_for("no guardian is left", || guardians(&token).is_empty().then_some(()));
}

/// Four threads open files while the host dies. What the filter chooses
/// between the host's end and the guardian's arrival fails with ENOSYS, as
/// seccomp(2) has it, and nothing else is different.
#[test]
fn run_and_survived_at_work() {
    let files = Files::new();
    for _ in 0..10 {
        let shape = format!("openers:{}", files.path().display());
        let mut application = run(&files, &["--on-host-death", "continue"], &shape, "");
        let host = application.child();
        application.is_judged();
        send(host, Signal::SIGKILL);
        application.status();
        guardian_of(application.pid, host);
        let said = application.opened();
        let known = ["public ok", "secret ok", "secret EROFS", "public ENOSYS", "secret ENOSYS"];
        assert!(said.iter().all(|answer| known.contains(&answer.as_str())), "{said:?}");
        wait_for("all goes on", || (application.opened() == ["public ok", "secret ok"]).then_some(()));
        let pid = application.pid;
        application.end_input();
        wait_for("it ends", || has_ended(pid).then_some(()));
    }
}

/// A new host takes the program over from the guardian, and judges again.
#[test]
fn a_new_host_after_the_guardian() {
    let files = Files::new();
    let mut application = run(&files, &["--on-host-death", "continue"], "fifty", "");
    let host = application.child();
    send(host, Signal::SIGKILL);
    application.status();
    let pids = application.pids();
    let mut guardian = guardian_of(application.pid, host);
    pids.iter().for_each(|pid| assert_eq!(guardian_of(*pid, host), guardian));
    application.opens(&files.at("secret"), "ok");
    for _ in 0..3 {
        let mut host = Tracer::attach_to(application.pid, &[files.deny(), vec!["--inject-filter".into()]].concat());
        assert_eq!(host.read.last().unwrap(), "host: attached to 3 processes (52 threads)");
        application.opens(&files.at("secret"), DENIED);
        application.opens(&files.at("public"), "ok");
        wait_for("the old guardian ends", || has_ended(guardian).then_some(()));
        host.leave(Signal::SIGTERM);
        guardian = guardian_of(application.pid, host.pid);
        pids.iter().for_each(|pid| assert_eq!(guardian_of(*pid, host.pid), guardian));
        application.opens(&files.at("secret"), "ok");
        application.opens(&files.at("public"), "ok");
    }
    application.end_input();
    wait_for("the programs end", || pids.iter().all(|pid| has_ended(*pid)).then_some(()));
    wait_for("the guardian ends", || has_ended(guardian).then_some(()));
}

/// After an end in order nobody is left to guard, and nobody does.
#[test]
fn no_guardian_stays_without_need() {
    let files = Files::new();
    let token = token();
    let (alerts, program) = (files.at("alerts"), program());
    for command in [
        vec!["true"],
        vec!["sh", "-c", "exit 3"],
        vec!["/no/such/program"],
        vec![program.to_str().unwrap(), "short", files.path().to_str().unwrap()],
    ] {
        // The guardian has its host's command line.
        let name = format!("again={token}");
        let status = Command::new(HOST)
            .args(["run", "--on-host-death", "continue", "--alerts", &alerts])
            .args(files.deny())
            .args(["--plugin", &format!("{name}:builtin")])
            .arg("--")
            .args(&command)
            .status()
            .unwrap();
        // No such plugin: the host fails after it has made its guardian.
        assert_eq!(status.code(), Some(125), "{command:?}");
        wait_for("no guardian is left", || guardians(&token).is_empty().then_some(()));
        let status = Command::new(HOST)
            .args(["run", "--on-host-death", "continue", "--alerts", &format!("{alerts}-{token}")])
            .args(files.deny())
            .arg("--")
            .args(&command)
            .status()
            .unwrap();
        assert!([0, 3, 127].contains(&status.code().unwrap()), "{command:?}: {status}");
        wait_for("no guardian is left", || guardians(&token).is_empty().then_some(()));
    }
    for options in [&["--on-host-death", "continue"][..], &[], &["--on-host-death", "kill", "--inject-filter"]] {
        let mut application = Application::start("one");
        let mut options: Vec<String> = options.iter().map(ToString::to_string).collect();
        options.extend(files.deny());
        options.extend(["--record".to_owned(), files.at(&format!("{token}.jsonl"))]);
        let mut host = Tracer::attach_to(application.pid, &options);
        application.opens(&files.at("secret"), DENIED);
        // Its end is the host's.
        application.ends_well();
        assert_eq!(host.status(), 0, "{:?}", host.rest());
        wait_for("no guardian is left", || guardians(&token).is_empty().then_some(()));
        fs::remove_file(files.at(&format!("{token}.jsonl"))).unwrap();
    }
    // Left, without a filter in them: they need nobody.
    let application = Application::start("one");
    let record = ["--record".to_owned(), files.at(&format!("{token}.jsonl"))];
    let mut host = Tracer::attach_to(application.pid, &[&record[..], &files.deny()].concat());
    host.leave(Signal::SIGTERM);
    wait_for("no guardian is left", || guardians(&token).is_empty().then_some(()));
    application.ends_well();
}
