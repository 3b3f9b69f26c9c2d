//! A process with fifty threads, blocked in all kinds of calls, and its
//! descendants.

use nix::sys::signal::Signal;

use crate::application::{Application, DENIED, Files};
use crate::process::{is_free, is_stopped, of_threads, send, tracer, wait_for};
use crate::tracer::Tracer;

#[test]
fn every_thread_is_traced_and_none_is_interrupted() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    application.opens(&files.at("secret"), "ok");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut host = Tracer::attach_to(application.pid, &files.deny());
        // The application, its child and its grandchild.
        assert_eq!(host.read, ["host: attached to 3 processes (52 threads)"]);
        for pid in application.pids() {
            assert!(of_threads(pid, "TracerPid").iter().all(|tracer| *tracer == host.pid.to_string()));
        }
        application.opens(&files.at("secret"), DENIED);
        application.opens(&files.at("public"), "ok");
        host.leave(signal);
        assert_eq!(host.rest(), ["host: attached to 3 processes (52 threads)", "host: detaching from 52 threads"]);
        application.is_left_alone();
        application.opens(&files.at("secret"), "ok");
    }
    application.ends_well();
}

/// Nothing is asked of it while the host is there: whoever is blocked in a
/// call when the host comes is in the same call when it goes.
#[test]
fn calls_go_on_through_attach_and_detach() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    for _ in 0..10 {
        let mut host = Tracer::attach_to(application.pid, &files.deny());
        host.leave(Signal::SIGTERM);
        application.is_left_alone();
    }
    application.opens(&files.at("public"), "ok");
    application.opens(&files.at("secret"), "ok");
    application.ends_well();
}

/// Whether a process is stopped when the host comes, in between, and when it
/// goes.
#[test]
fn a_stopped_process_stays_stopped() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    assert_eq!(application.ask("stops-are-expected"), "ok");
    let pid = application.pid;
    let stop = || {
        send(pid, Signal::SIGSTOP);
        wait_for("it stops", || is_stopped(pid).then_some(()));
    };
    for [before, meanwhile, at_the_end] in [
        [true, false, false],
        [true, true, true],
        [false, true, false],
        [false, true, true],
        [true, true, false],
        [true, false, true],
    ] {
        eprintln!("stopped before {before}, meanwhile {meanwhile}, at the end {at_the_end}");
        if before {
            stop();
        }
        let mut host = Tracer::attach_to(pid, &files.deny());
        if before {
            wait_for("it is stopped again", || is_stopped(pid).then_some(()));
            if !meanwhile {
                send(pid, Signal::SIGCONT);
                application.opens(&files.at("secret"), DENIED);
            }
        }
        if meanwhile {
            stop();
        }
        if !at_the_end && meanwhile {
            send(pid, Signal::SIGCONT);
            application.opens(&files.at("secret"), DENIED);
        }
        if at_the_end && !meanwhile {
            stop();
        }
        host.leave(Signal::SIGTERM);
        assert!(of_threads(pid, "TracerPid").iter().all(|tracer| tracer == "0"));
        if at_the_end {
            wait_for("it is stopped without a tracer", || is_stopped(pid).then_some(()));
            // Not only for a moment.
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(is_stopped(pid), "{:?}", of_threads(pid, "State"));
            send(pid, Signal::SIGCONT);
        }
        application.opens(&files.at("secret"), "ok");
        application.is_left_alone();
    }
    application.ends_well();
}

/// The stop arrives while the host is coming or going.
#[test]
fn stops_beside_attach_and_detach() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    assert_eq!(application.ask("stops-are-expected"), "ok");
    let pid = application.pid;
    for round in 0..20u64 {
        let mut host = Tracer::start(&[vec!["--pid".into(), pid.to_string()], files.deny()].concat());
        let pause = || std::thread::sleep(std::time::Duration::from_millis(round % 7));
        pause();
        send(pid, Signal::SIGSTOP);
        if round % 2 == 0 {
            pause();
            send(pid, Signal::SIGCONT);
        }
        host.until("attached to ");
        send(host.pid, Signal::SIGTERM);
        pause();
        send(pid, if round % 2 == 0 { Signal::SIGSTOP } else { Signal::SIGCONT });
        assert_eq!(host.status(), 0, "{:?}", host.rest());
        assert_eq!(tracer(pid), 0);
        if round % 2 == 0 {
            wait_for("it is stopped", || is_stopped(pid).then_some(()));
            send(pid, Signal::SIGCONT);
        }
        application.opens(&files.at("secret"), "ok");
        application.is_left_alone();
    }
    application.ends_well();
}

/// The only one that is named is the grandchild: its parents are not traced.
#[test]
fn ancestors_are_not_attached_to() {
    let files = Files::new();
    let mut application = Application::start("one");
    let pids = application.pids();
    let mut host = Tracer::attach_to(pids[1], &files.deny());
    assert_eq!(host.read, ["host: attached to 2 processes (2 threads)"]);
    is_free(pids[0]);
    let secret = files.at("secret");
    assert_eq!(application.ask(&format!("open {secret}")), "ok 1");
    assert_eq!(application.ask(&format!("descendants {secret}")), format!("{DENIED} {DENIED}"));
    host.leave(Signal::SIGTERM);
    application.opens(&secret, "ok");
    application.ends_well();
}

/// With the last process the host has nothing left to do.
#[test]
fn the_end_of_the_application_is_the_end() {
    let files = Files::new();
    let application = Application::start("fifty");
    let mut host = Tracer::attach_to(application.pid, &files.deny());
    application.ends_well();
    assert_eq!(host.status(), 0);
    assert_eq!(host.rest(), ["host: attached to 3 processes (52 threads)"]);
}

/// Several processes at once, named in both ways; one twice.
#[test]
fn several_processes() {
    let files = Files::new();
    let mut applications: Vec<_> = (0..4).map(|_| Application::start("one")).collect();
    let pids: Vec<String> = applications.iter().map(|application| application.pid.to_string()).collect();
    let options = ["--pid", &pids[..3].join(","), "--pid", &pids[3], "--pid", &pids[0]].map(str::to_owned);
    let mut host = Tracer::attach(&[&options[..], &files.deny()].concat());
    assert_eq!(host.read, ["host: attached to 12 processes (12 threads)"]);
    applications.iter_mut().for_each(|application| application.opens(&files.at("secret"), DENIED));
    // The end of one is nothing to the others.
    applications.pop().unwrap().ends_well();
    applications.iter_mut().for_each(|application| application.opens(&files.at("secret"), DENIED));
    host.leave(Signal::SIGINT);
    for mut application in applications {
        application.opens(&files.at("secret"), "ok");
        application.is_left_alone();
        application.ends_well();
    }
}
