//! `--all`: who is meant, and who comes later.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::application::{Application, DENIED, Files, program, token};
use crate::process::{has_ended, is_free, tracer, wait_for};
use crate::support::HOST;
use crate::tracer::{Tracer, host};

/// Options that look among the processes with this word in their command line.
fn all(token: &str, selectors: &[&str], files: &Files) -> Vec<String> {
    let mut options: Vec<String> =
        ["--all", "--scan-interval", "50", "--command", &format!("*{token}*")].map(str::to_owned).to_vec();
    options.extend(selectors.iter().map(ToString::to_string));
    options.extend(files.deny());
    options
}

const NOBODY: &[&str] = &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

#[test]
fn selectors() {
    let files = Files::new();
    let token = token();
    // Its executable has a name of its own, of which a command name keeps
    // fifteen bytes.
    let named = files.at("an-application-by-another-name");
    fs::copy(program(), &named).unwrap();
    let start = |wrapper: &[&str]| Application::start_with(wrapper, "one", "none", &token);
    let mut of_root = start(&[]);
    let mut of_nobody = start(NOBODY);
    let mut with_name = {
        let mut command = Command::new(&named);
        command.args(["serve", "one", "none", &token]);
        Application::start_command(&mut command)
    };
    for (selectors, expected) in [
        (&[][..], [true, true, true]),
        (&["--user", "0"], [true, false, true]),
        (&["--user", "root"], [true, false, true]),
        (&["--user", "65534"], [false, true, false]),
        (&["--user", "nobody"], [false, true, false]),
        (&["--user", "64999"], [false, false, false]),
        (&["--name", "attach_app"], [true, true, false]),
        (&["--name", "attach_*"], [true, true, false]),
        (&["--name", "attach_"], [false, false, false]),
        (&["--name", "?ttach_app"], [true, true, false]),
        // The file's name, and the command name.
        (&["--name", "an-application-by-another-name"], [false, false, true]),
        (&["--name", "an-application-"], [false, false, true]),
        (&["--name", "attach_app", "--user", "0"], [true, false, false]),
        (&["--container", "ffffffffffff"], [false, false, false]),
        (&["--container", "ffffffffffff", "--user", "0"], [false, false, false]),
    ] {
        eprintln!("{selectors:?}");
        let mut host = Tracer::attach(&all(&token, selectors, &files));
        let count = 3 * expected.iter().filter(|expected| **expected).count();
        assert_eq!(host.read, [format!("host: attached to {count} processes ({count} threads)")]);
        for (application, expected) in [&mut of_root, &mut of_nobody, &mut with_name].into_iter().zip(expected) {
            application.opens(&files.at("secret"), if expected { DENIED } else { "ok" });
        }
        host.leave(Signal::SIGTERM);
        for application in [&mut of_root, &mut of_nobody, &mut with_name] {
            application.is_left_alone();
            application.opens(&files.at("secret"), "ok");
        }
    }
    [of_root, of_nobody, with_name].into_iter().for_each(Application::ends_well);
}

#[test]
fn a_user_that_does_not_exist() {
    let outcome = host(&["attach", "--all", "--user", "no-such-user", "--command", &token()]);
    assert_eq!(outcome.status, 125, "{outcome:#?}");
    assert_eq!(outcome.stderr, "host: --user: there is no user \"no-such-user\" here; give the number\n");
}

/// Nobody is there at first: the host stays, finds who comes, stays when they
/// go, and finds the next.
#[test]
fn who_comes_later() {
    let files = Files::new();
    let token = token();
    let mut host = Tracer::attach(&all(&token, &[], &files));
    assert_eq!(host.read, ["host: attached to 0 processes (0 threads)"]);
    for round in 0..3 {
        let mut application = Application::start_with(&[], "fifty", "none", &token);
        for pid in application.pids() {
            wait_for("it is found", || (tracer(pid) == host.pid).then_some(()));
        }
        wait_for("all threads are found", || {
            let pids = application.pids();
            pids.iter()
                .all(|pid| crate::process::of_threads(*pid, "TracerPid").iter().all(|t| *t == host.pid.to_string()))
                .then_some(())
        });
        application.opens(&files.at("secret"), DENIED);
        application.opens(&files.at("public"), "ok");
        if round == 1 {
            // Two at a time.
            let mut second = Application::start_with(&[], "one", "none", &token);
            wait_for("it is found", || (tracer(second.pid) == host.pid).then_some(()));
            assert_eq!(second.ask(&format!("open {}", files.at("secret"))), format!("{DENIED} 1"));
            second.ends_well();
            application.opens(&files.at("secret"), DENIED);
        }
        let pids = application.pids();
        application.ends_well();
        wait_for("the host has seen the end of all", || pids.iter().all(|pid| tracer(*pid) == 0).then_some(()));
        assert!(host.lives(), "{:?}", host.rest());
    }
    host.leave(Signal::SIGTERM);
    let said = host.rest();
    assert!(said.last().unwrap().starts_with("host: detaching from 0 threads"), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("skipped")), "{said:?}");
}

#[test]
fn an_idle_host_leaves_on_either_signal() {
    let files = Files::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut host = Tracer::attach(&all(&token(), &[], &files));
        host.leave(signal);
        assert_eq!(host.rest(), ["host: attached to 0 processes (0 threads)", "host: detaching from 0 threads"]);
    }
}

/// The word is in the command lines of the host and of a shell that started
/// it: neither is meant.
#[test]
fn the_host_and_its_ancestors_are_never_meant() {
    let files = Files::new();
    let token = token();
    let mut application = Application::start_with(&[], "one", "none", &token);
    let quoted: Vec<String> = all(&token, &[], &files).iter().map(|word| format!("'{word}'")).collect();
    // Two shells: an ancestor need not be the parent.
    let alerts = files.at("alerts");
    let inner = format!("\"{HOST}\" attach {} --alerts '{alerts}' & echo $! >&2; wait $!; exit $?", quoted.join(" "));
    let script = files.at("inner.sh");
    fs::write(&script, inner).unwrap();
    let outer = format!("sh '{script}' '{token}'; s=$?; : {token}; exit $s");
    let mut command = Command::new("sh");
    command.args(["-c", &outer]);
    let mut shells = Tracer::spawn(&mut command, tempfile::tempdir().unwrap());
    let processes = shells.until("attached to ");
    let pid: i32 = shells.read[0].parse().unwrap();
    let _ended = Ended(pid);
    // The application's three only, whatever the number of looks.
    assert_eq!(processes, "3 processes (3 threads)");
    let inner = crate::process::number(pid, "PPid") as i32;
    assert!(fs::read_to_string(format!("/proc/{inner}/cmdline")).unwrap().contains(&token));
    let mut later = Application::start_with(&[], "one", "none", &token);
    wait_for("a look has been taken", || (tracer(later.pid) == pid).then_some(()));
    for ancestor in [shells.pid, inner, pid] {
        is_free(ancestor);
    }
    application.opens(&files.at("secret"), DENIED);
    crate::process::send(pid, Signal::SIGTERM);
    assert_eq!(shells.status(), 0, "{:?}", shells.rest());
    assert!(has_ended(pid));
    assert!(!shells.rest().iter().any(|line| line.contains("skipped")), "{:?}", shells.read);
    later.is_left_alone();
    application.is_left_alone();
    application.ends_well();
    later.ends_well();
}

/// Kills a process that is not our child when the test is over.
struct Ended(i32);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

/// A process with the word in it only after exec is found then.
#[test]
fn a_process_that_becomes_one_that_is_meant() {
    let files = Files::new();
    let token = token();
    let mut host = Tracer::attach(&all(&token, &["--name", "attach_app"], &files));
    // The shell has the word in its command line too, but another name.
    let gate = files.at("gate");
    let program = program();
    let script = format!(
        "echo ready; while [ ! -e {gate} ]; do sleep 0.02; done; exec {} serve one none {token}",
        program.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let mut application = Application::start_command(&mut command);
    // Long enough for some looks.
    std::thread::sleep(std::time::Duration::from_millis(300));
    is_free(application.pid);
    fs::write(&gate, "").unwrap();
    application.is_ready();
    assert_eq!(application.pids()[0], application.pid);
    wait_for("it is found after its exec", || (tracer(application.pid) == host.pid).then_some(()));
    assert_eq!(application.ask(&format!("open {}", files.at("secret"))), format!("{DENIED} 1"));
    application.goes_on_without(&mut host, &files.at("secret"));
}
