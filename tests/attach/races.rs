//! The host comes and goes at any moment, also by SIGKILL, while the
//! application does what makes that hard.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::application::{Application, DENIED, ENDED, Files, program, token};
use crate::process::{of_threads, send, tracer, wait_for};
use crate::tracer::Tracer;

/// Pauses that are the same at every run (xorshift).
struct Pauses(u64);

impl Pauses {
    fn pause(&mut self, most: Duration) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        std::thread::sleep(Duration::from_micros(self.0 % (most.as_micros() as u64)));
    }
}

/// Waits until the threads get this answer, and gives all that came before.
#[track_caller]
fn until_all_say(application: &mut Application, wanted: &[&str]) -> Vec<String> {
    let mut before = Vec::new();
    wait_for(&format!("just {wanted:?}"), || {
        let said = application.opened();
        if said == wanted {
            return Some(());
        }
        before.extend(said);
        None
    });
    before.sort();
    before.dedup();
    before
}

fn openers(files: &Files) -> Application {
    Application::start(&format!("openers:{}", files.path().display()))
}

const FREE: &[&str] = &["public ok", "secret ok"];
const JUDGED: &[&str] = &["public ok", "secret EROFS"];

/// What is neither.
fn odd(said: &[String]) -> Vec<&str> {
    let said = said.iter().map(String::as_str);
    said.filter(|said| !FREE.contains(said) && !JUDGED.contains(said)).collect()
}

#[test]
fn detached_at_any_point() {
    let files = Files::new();
    let mut application = openers(&files);
    let mut pauses = Pauses(0x9e37_79b9_7f4a_7c15);
    for round in 0..40 {
        let mut host = Tracer::start(&[vec!["--pid".into(), application.pid.to_string()], files.deny()].concat());
        if round % 2 == 0 {
            // Before it is there, or just after.
            host.until("attached to ");
        } else {
            pauses.pause(Duration::from_millis(300));
        }
        pauses.pause(Duration::from_millis(20));
        host.leave(if round % 3 == 0 { Signal::SIGINT } else { Signal::SIGTERM });
        application.is_left_alone();
        let before = until_all_say(&mut application, FREE);
        let odd = odd(&before);
        assert!(odd.is_empty(), "round {round}: {odd:?}");
    }
    application.ends_well();
}

/// A host that has judged for a while dies. The public file opens always; the
/// protected one is denied, or open to all again. In the call that was being
/// denied at that moment the host's errno may be missing, but it did not run.
#[test]
fn killed_at_any_point() {
    let files = Files::new();
    let mut application = openers(&files);
    let mut pauses = Pauses(0x2545_f491_4f6c_dd1d);
    let mut cut_short = 0;
    for round in 0..40 {
        let mut host = Tracer::attach_to(application.pid, &files.deny());
        application.is_judged();
        pauses.pause(Duration::from_millis(20));
        host.kill();
        wait_for("it is free", || of_threads(application.pid, "TracerPid").iter().all(|t| t == "0").then_some(()));
        let before = until_all_say(&mut application, FREE);
        application.is_left_alone();
        let odd = odd(&before);
        cut_short += usize::from(!odd.is_empty());
        assert!(odd.iter().all(|said| *said == "secret EBADF"), "round {round}: {odd:?}");
    }
    eprintln!("{cut_short} denials were cut short");
    application.ends_well();
}

/// The same before the host has said that it is there, while it still
/// prepares what protects arguments.
#[test]
fn killed_while_it_attaches() {
    let files = Files::new();
    let mut pauses = Pauses(0xd1b5_4a32_d192_ed03);
    // A fresh application each time: what was prepared in it stays.
    for round in 0..30 {
        let mut application = openers(&files);
        let mut host = Tracer::start(&[vec!["--pid".into(), application.pid.to_string()], files.deny()].concat());
        wait_for("it begins", || (tracer(application.pid) == host.pid).then_some(()));
        pauses.pause(Duration::from_millis(10));
        host.kill();
        wait_for("it is free", || of_threads(application.pid, "TracerPid").iter().all(|t| t == "0").then_some(()));
        let before = until_all_say(&mut application, FREE);
        application.is_left_alone();
        let odd = odd(&before);
        assert!(odd.iter().all(|said| *said == "secret EBADF"), "round {round}: {odd:?}");
        application.ends_well();
    }
}

/// The end of an application that stops when its file is there.
#[track_caller]
fn stops(application: &mut Application, files: &Files) {
    fs::write(files.at("stop"), "").unwrap();
    let words = application.last_words();
    let count: u32 = words.strip_prefix("stopped after ").unwrap_or_else(|| panic!("{words}")).parse().unwrap();
    assert!(count > 0, "{words}");
    assert_eq!(application.status().code(), Some(ENDED));
}

#[test]
fn exec_beside_attach_and_detach() {
    let files = Files::new();
    let mut command = Command::new(program());
    command.args(["exec-for-ever", files.path().to_str().unwrap(), "0"]);
    let mut application = Application::start_command(&mut command);
    let pid = application.pid;
    let mut pauses = Pauses(0x94d0_49bb_1331_11eb);
    for _ in 0..40 {
        let mut host = Tracer::attach_to(pid, &files.deny());
        pauses.pause(Duration::from_millis(20));
        assert!(host.lives(), "{:?}", host.rest());
        host.leave(Signal::SIGTERM);
        assert_eq!(tracer(pid), 0);
        assert!(application.lives(), "{}", application.circumstances());
    }
    stops(&mut application, &files);
}

#[test]
fn exec_beside_the_death_of_the_host() {
    let files = Files::new();
    let mut command = Command::new(program());
    command.args(["exec-for-ever", files.path().to_str().unwrap(), "0"]);
    let mut application = Application::start_command(&mut command);
    let pid = application.pid;
    let mut pauses = Pauses(0xbf58_476d_1ce4_e5b9);
    for _ in 0..40 {
        let mut host = Tracer::attach_to(pid, &files.deny());
        pauses.pause(Duration::from_millis(20));
        host.kill();
        wait_for("it is free", || (tracer(pid) == 0).then_some(()));
        assert!(application.lives(), "{}", application.circumstances());
    }
    stops(&mut application, &files);
}

/// Processes that end while the host looks at them, or has just attached.
#[test]
fn short_lives() {
    let files = Files::new();
    let mut command = Command::new(program());
    command.args(["fork-for-ever", files.path().to_str().unwrap()]);
    let mut application = Application::start_command(&mut command);
    let mut pauses = Pauses(0x8546_6fd3_aa1c_22bd);
    for _ in 0..30 {
        let mut host = Tracer::attach_to(application.pid, &files.deny());
        pauses.pause(Duration::from_millis(20));
        host.leave(Signal::SIGTERM);
        // A child that ended meanwhile is no matter to tell of.
        let said = host.rest();
        assert!(said.iter().all(|line| !line.contains("cannot be traced")), "{said:?}");
        assert_eq!(tracer(application.pid), 0);
    }
    stops(&mut application, &files);
}

/// Children are found one by one, by looking: their parent is not meant.
#[test]
fn short_lives_found_by_looking() {
    let files = Files::new();
    let mut command = Command::new(program());
    command.args(["fork-for-ever", files.path().to_str().unwrap()]);
    let mut application = Application::start_command(&mut command);
    // Only those that have executed have this command line.
    let pattern = format!("attach_app short {}", files.path().display());
    let options = ["--all", "--scan-interval", "10", "--command", &pattern].map(str::to_owned);
    let mut host = Tracer::attach(&[&options[..], &files.deny()].concat());
    // At least one is caught alive.
    host.until("attached to ");
    assert_eq!(tracer(application.pid), 0);
    for _ in 0..10 {
        let mut other = Tracer::attach(&[&options[..], &files.deny()].concat());
        std::thread::sleep(Duration::from_millis(50));
        other.leave(Signal::SIGTERM);
    }
    host.leave(Signal::SIGTERM);
    stops(&mut application, &files);
}

/// The target is killed while the host attaches to it.
#[test]
fn killed_targets() {
    let files = Files::new();
    let mut pauses = Pauses(0x2127_599b_f432_5c37);
    for round in 0..30 {
        let token = token();
        let mut application = Application::start_with(&[], "fifty", "none", &token);
        let mut host = Tracer::start(&[vec!["--pid".into(), application.pid.to_string()], files.deny()].concat());
        if round % 3 > 0 {
            wait_for("it begins", || (tracer(application.pid) == host.pid || !host.lives()).then_some(()));
        }
        pauses.pause(Duration::from_millis(10));
        send(application.pid, Signal::SIGKILL);
        // All processes are gone soon, and so is the host: it had nobody to
        // attach to, or has nobody left.
        let status = host.status();
        assert!([0, 1].contains(&status), "round {round}: {status}: {:?}", host.rest());
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(application.status().signal(), Some(9));
    }
}

/// Two hosts want the same process: one has it, the other is told, and none
/// harms it.
#[test]
fn two_hosts_at_once() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    for _ in 0..15 {
        let options = [vec!["--pid".into(), application.pid.to_string()], files.deny()].concat();
        let mut hosts = [Tracer::start(&options), Tracer::start(&options)];
        wait_for("one has it", || (tracer(application.pid) != 0).then_some(()));
        for host in &mut hosts {
            // Whoever has none of it ends with 1 by itself; one has at least
            // the leader.
            if tracer(application.pid) == host.pid {
                host.until("attached to ");
            }
        }
        application.opens(&files.at("public"), "ok");
        let mut left = 0;
        for host in &mut hosts {
            if host.lives() {
                // It may end by itself meanwhile.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(host.pid), Signal::SIGTERM);
            }
            let status = host.status();
            assert!([0, 1].contains(&status), "{status}: {:?}", host.rest());
            left += usize::from(status == 0);
        }
        assert!(left >= 1);
        application.is_left_alone();
        application.opens(&files.at("secret"), "ok");
    }
    application.ends_well();
}

/// A crowd of threads comes and goes while the host does.
#[test]
fn new_threads_and_processes_beside_attach_and_detach() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let (public, secret) = (files.at("public"), files.at("secret"));
    let mut pauses = Pauses(0x6c62_272e_07bb_0142);
    for _ in 0..30 {
        let mut host = Tracer::start(&[vec!["--pid".into(), application.pid.to_string()], files.deny()].concat());
        for request in ["thread", "fork", "spawn"] {
            assert_eq!(application.ask(&format!("{request} {public}")), "ok");
            let answer = application.ask(&format!("{request} {secret}"));
            assert!([DENIED, "ok"].contains(&answer.as_str()), "{request}: {answer}");
            pauses.pause(Duration::from_millis(5));
        }
        host.until("attached to ");
        send(host.pid, Signal::SIGTERM);
        for request in ["thread", "fork", "spawn"] {
            assert_eq!(application.ask(&format!("{request} {public}")), "ok");
        }
        assert_eq!(host.status(), 0, "{:?}", host.rest());
        application.is_left_alone();
    }
    application.opens(&secret, "ok");
    application.ends_well();
}
