//! `--inject-filter`: only calls that somebody wants stop, and what the filter
//! leaves behind.

use nix::sys::signal::Signal;

use crate::application::{Application, DENIED, Files};
use crate::process::{field, guardian_of, has_ended, number, of_threads, tracer, wait_for};
use crate::tracer::Tracer;

fn inject(files: &Files) -> Vec<String> {
    [vec!["--inject-filter".to_owned()], files.deny()].concat()
}

/// Attached with the filter in all three processes, of `threads` in all.
#[track_caller]
fn injected(application: &mut Application, files: &Files) -> Tracer {
    let pids = application.pids();
    let counts: Vec<usize> = pids.iter().map(|pid| of_threads(*pid, "Name").len()).collect();
    let mut host = Tracer::attach_to(application.pid, &inject(files));
    let mut missing: Vec<String> = pids
        .iter()
        .zip(&counts)
        .map(|(pid, count)| format!("{pid} ({count} thread{})", if *count == 1 { "" } else { "s" }))
        .collect();
    // Each is told when it makes its next call; some wait in one.
    while !missing.is_empty() {
        let told = host.until("installed the filter in process ");
        let index = missing.iter().position(|wanted| *wanted == told);
        missing.remove(index.unwrap_or_else(|| panic!("{told:?} is not expected, but {missing:?}")));
    }
    for pid in pids {
        assert!(of_threads(pid, "Seccomp").iter().all(|mode| mode == "2"), "{:?}", of_threads(pid, "Seccomp"));
    }
    host
}

/// Stops of a thread: each is a switch of context, voluntary or not.
fn switches(pid: i32) -> i64 {
    number(pid, "voluntary_ctxt_switches") + number(pid, "nonvoluntary_ctxt_switches")
}

/// The end of an application that has the filter, and so of its guardian.
#[track_caller]
fn ends_with_its_guardian(application: Application, guardian: i32) {
    application.ends_well();
    wait_for("the guardian ends", || has_ended(guardian).then_some(()));
}

#[test]
fn denials_and_calls_that_nobody_wants() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let pid = application.pid;
    let stops = |application: &mut Application| {
        let before = number(pid, "voluntary_ctxt_switches");
        let all_before = switches(pid);
        assert_eq!(application.ask("getppid 10000"), "ok");
        (number(pid, "voluntary_ctxt_switches") - before, switches(pid) - all_before)
    };
    let mut host = Tracer::attach_to(pid, &files.deny());
    let (_, plain) = stops(&mut application);
    assert!(plain >= 20_000, "without a filter each call stops twice: {plain} switches");
    host.leave(Signal::SIGTERM);

    let mut host = injected(&mut application, &files);
    // Its own end of a stop may still be to come.
    application.opens(&files.at("secret"), DENIED);
    let (filtered, _) = stops(&mut application);
    assert!(filtered < 100, "no call that is not wanted stops: {filtered} switches");
    application.opens(&files.at("public"), "ok");
    application.opens(&files.at("missing"), "ENOENT");
    assert!(host.alerts().iter().filter(|alert| alert["action"] == "deny").count() >= 54);
    host.leave(Signal::SIGTERM);
    let guardian = guardian_of(pid, host.pid);
    ends_with_its_guardian(application, guardian);
}

/// The host dies: the guardian lets everything pass. A new host takes over,
/// judges, leaves: a guardian again.
#[test]
fn the_host_dies_and_another_comes() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let pids = application.pids();
    let mut host = injected(&mut application, &files);
    application.opens(&files.at("secret"), DENIED);
    host.kill();
    let guardian = guardian_of(application.pid, host.pid);
    for pid in &pids {
        assert_eq!(guardian_of(*pid, host.pid), guardian);
    }
    application.opens(&files.at("secret"), "ok");
    application.opens(&files.at("public"), "ok");

    let mut host = injected(&mut application, &files);
    assert!(pids.iter().all(|pid| tracer(*pid) == host.pid));
    wait_for("the first guardian ends", || has_ended(guardian).then_some(()));
    application.opens(&files.at("secret"), DENIED);
    application.opens(&files.at("public"), "ok");

    host.leave(Signal::SIGTERM);
    let guardian = guardian_of(application.pid, host.pid);
    for pid in &pids {
        assert_eq!(guardian_of(*pid, host.pid), guardian);
    }
    application.opens(&files.at("secret"), "ok");
    application.opens(&files.at("public"), "ok");
    ends_with_its_guardian(application, guardian);
}

/// Without `--inject-filter` a new host judges all the same.
#[test]
fn a_host_without_a_filter_after_a_guardian() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let mut first = injected(&mut application, &files);
    first.leave(Signal::SIGTERM);
    let guardian = guardian_of(application.pid, first.pid);
    for _ in 0..3 {
        let mut host = Tracer::attach_to(application.pid, &files.deny());
        application.opens(&files.at("secret"), DENIED);
        host.leave(Signal::SIGTERM);
        // The filter is still there: somebody has to hold the programs.
        let guardian = guardian_of(application.pid, host.pid);
        application.opens(&files.at("secret"), "ok");
        assert_ne!(guardian, 0);
    }
    assert!(has_ended(guardian));
    application.ends_well();
}

/// The guardian keeps nothing of the host's open: who waits for the end of
/// the host's output need not wait for the programs' end.
#[test]
fn the_guardian_holds_no_output() {
    let files = Files::new();
    let mut application = Application::start("one");
    let mut host = injected(&mut application, &files);
    host.leave(Signal::SIGTERM);
    let guardian = guardian_of(application.pid, host.pid);
    assert_eq!(host.rest().last().unwrap(), "host: detaching from 3 threads");
    for entry in std::fs::read_dir(format!("/proc/{guardian}/fd")).unwrap() {
        // One may be the guardian's own, and gone.
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else { continue };
        assert!(!target.starts_with(files.path()), "{}", target.display());
    }
    ends_with_its_guardian(application, guardian);
}

/// Filters pile up, but nothing else does.
#[test]
fn many_times() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let mut guardian = 0;
    for _ in 0..12 {
        let mut host = injected(&mut application, &files);
        application.opens(&files.at("secret"), DENIED);
        assert!(guardian == 0 || has_ended(guardian));
        host.leave(Signal::SIGTERM);
        guardian = guardian_of(application.pid, host.pid);
        application.opens(&files.at("secret"), "ok");
    }
    ends_with_its_guardian(application, guardian);
}

/// Without CAP_SYS_ADMIN the kernel wants no_new_privs (seccomp(2)).
#[test]
fn a_process_without_capabilities() {
    let files = Files::new();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut application = Application::start_with(&nobody, "fifty", "none", "");
    let pid = application.pid;
    assert_eq!(field(pid, "NoNewPrivs").as_deref(), Some("0"));
    let mut host = injected(&mut application, &files);
    assert!(of_threads(pid, "NoNewPrivs").iter().all(|set| set == "1"), "{:?}", of_threads(pid, "NoNewPrivs"));
    application.opens(&files.at("secret"), DENIED);
    application.opens(&files.at("public"), "ok");
    host.leave(Signal::SIGTERM);
    let guardian = guardian_of(pid, host.pid);
    application.opens(&files.at("secret"), "ok");
    ends_with_its_guardian(application, guardian);
}

/// With it, privileges are left alone.
#[test]
fn a_process_with_capabilities() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let mut host = injected(&mut application, &files);
    assert!(of_threads(application.pid, "NoNewPrivs").iter().all(|set| set == "0"));
    host.leave(Signal::SIGTERM);
    let guardian = guardian_of(application.pid, host.pid);
    ends_with_its_guardian(application, guardian);
}

/// A process that may not make socket pairs cannot be given the host's memory.
/// It gets memory of its own.
#[test]
fn a_process_that_refuses_socket_pairs() {
    let files = Files::new();
    let mut application = Application::start_with(&[], "fifty", "refuse-socketpair", "");
    assert_eq!(application.ask("socketpair"), "EPERM");
    let pid = application.pid;
    let mut host = injected(&mut application, &files);
    application.opens(&files.at("secret"), DENIED);
    application.opens(&files.at("public"), "ok");
    assert_eq!(application.ask("socketpair"), "EPERM");
    host.leave(Signal::SIGTERM);
    let guardian = guardian_of(pid, host.pid);
    application.opens(&files.at("secret"), "ok");
    ends_with_its_guardian(application, guardian);
}

/// The same without `--inject-filter`.
#[test]
fn a_process_that_refuses_socket_pairs_at_plain_stops() {
    let files = Files::new();
    let mut application = Application::start_with(&[], "fifty", "refuse-socketpair", "");
    let mut host = Tracer::attach_to(application.pid, &files.deny());
    application.opens(&files.at("secret"), DENIED);
    application.opens(&files.at("public"), "ok");
    host.leave(Signal::SIGTERM);
    application.is_left_alone();
    application.opens(&files.at("secret"), "ok");
    application.ends_well();
}

/// A process that dies of a call must not be made to make it.
#[test]
fn a_process_that_dies_of_socket_pairs() {
    let files = Files::new();
    for filter in [false, true] {
        let mut application = Application::start_with(&[], "fifty", "kill-socketpair", "");
        let mut host =
            if filter { injected(&mut application, &files) } else { Tracer::attach_to(application.pid, &files.deny()) };
        application.opens(&files.at("public"), "ok");
        application.opens(&files.at("secret"), DENIED);
        host.leave(Signal::SIGTERM);
        if filter {
            guardian_of(application.pid, host.pid);
        }
        application.opens(&files.at("secret"), "ok");
        application.ends_well();
    }
}

/// Four threads open files all the time. When the host goes, the filter's
/// calls have no tracer for a moment (ENOSYS), but nothing else happens.
#[test]
fn at_work() {
    let files = Files::new();
    let mut application = Application::start(&format!("openers:{}", files.path().display()));
    let mut guardian = 0;
    for round in 0..20 {
        let mut host = Tracer::attach_to(application.pid, &inject(&files));
        application.is_judged();
        if round % 2 == 0 {
            host.leave(Signal::SIGTERM);
        } else {
            host.kill();
        }
        eprintln!("round {round}");
        guardian = guardian_of(application.pid, host.pid);
        wait_for("all goes on", || {
            let said = application.opened();
            // EBADF is what a denial comes to whose host dies, where a filter is there already.
            let known = ["public ok", "secret ok", "secret EROFS", "secret EBADF", "public ENOSYS", "secret ENOSYS"];
            assert!(said.iter().all(|answer| known.contains(&answer.as_str())), "round {round}: {said:?}");
            (said == ["public ok", "secret ok"]).then_some(())
        });
    }
    ends_with_its_guardian(application, guardian);
}

/// The host is asked to leave while it installs.
#[test]
fn left_at_any_point() {
    let files = Files::new();
    for round in 0..20u64 {
        let mut application = Application::start("fifty");
        let mut host = Tracer::attach_to(application.pid, &inject(&files));
        std::thread::sleep(std::time::Duration::from_millis(round % 10));
        host.leave(Signal::SIGTERM);
        for pid in application.pids() {
            // Who has the filter has a guardian, too, and who has not is free.
            wait_for("it is held or free", || {
                let filtered = of_threads(pid, "Seccomp").iter().all(|mode| mode == "2");
                let held = of_threads(pid, "TracerPid").iter().all(|tracer| tracer != "0");
                (filtered == held).then_some(())
            });
        }
        application.opens(&files.at("secret"), "ok");
        application.opens(&files.at("public"), "ok");
        application.ends_well();
    }
}
