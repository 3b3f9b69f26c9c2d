//! `host attach` from a sidecar: another mount namespace, often another user,
//! no right but `SYS_PTRACE`.

use std::os::unix::fs::symlink;

use crate::application::{Application, MANY, SIMPLE};
use crate::podman::{Podman, wait_for};
use crate::tracer::{self, Pod, shares_with};
use crate::{DENY, the_vault_is_closed, the_vault_is_open};

/// What the host is told to attach to, and the vault's rule.
fn deny<'a>(target: &[&'a str]) -> Vec<&'a str> {
    [target, &DENY, &["--alerts", "stderr"]].concat()
}

#[test]
fn attach_alert_deny_detach() {
    let podman = Podman::shared();
    for options in [
        &[][..],
        &["--user", "1000:1000"],
        &["--user", "1000:1000", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
    ] {
        eprintln!("{options:?}");
        let application = Application::start(&podman, options, SIMPLE);
        the_vault_is_open(&application);
        let sidecar = tracer::attach(&podman, &shares_with(&application.container), &deny(&["--pid", "1"]));
        the_vault_is_closed(&application);
        application.lives();
        let alert = wait_for("an alert for each denial", || {
            let mut alerts = sidecar.alerts();
            (alerts.len() == 12).then(|| alerts.remove(0))
        });
        assert_eq!(
            (&alert["action"], &alert["fields"]["path"], &alert["exe"], &alert["pid"]),
            (&"deny".into(), &"/vault/secret".into(), &"/sidecar_app".into(), &1.into()),
            "{alert}"
        );
        assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
        application.is_as_before();
        the_vault_is_open(&application);
        assert_eq!(application.container.stop(), 7, "{}", application.container.stderr());
    }
}

#[test]
fn a_large_application_at_work() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let application = Application::start(&podman, &[&pod.option(), "--user", "1000:1000"], MANY);
    let load =
        application.load(&["open /public/page", "spawn /public/page", "thread /vault/secret"], &["ok", "EACCES"]);
    for _ in 0..5 {
        let sidecar = tracer::attach(&podman, &pod.option(), &deny(&["--all"]));
        the_vault_is_closed(&application);
        application.lives();
        assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
        application.is_as_before();
        the_vault_is_open(&application);
    }
    assert!(load.finish() > 0);
}

/// A link that every mount namespace has to itself, under the same name.
#[test]
fn names_are_those_of_the_application() {
    let podman = Podman::shared();
    let application = Application::start(&podman, &[], SIMPLE);
    // The sidecar's image has another file by this name, and its volume has
    // a link that leads elsewhere.
    symlink("/vault/secret", application.container.shared("link")).unwrap();
    let sidecar = podman.start(
        "tracegate-shell",
        &[&shares_with(&application.container), "--cap-drop=ALL", "--cap-add=SYS_PTRACE"],
        &[&["/host", "attach"], &deny(&["--pid", "1"])[..]].concat(),
    );
    symlink("/alias/secret", sidecar.shared("link")).unwrap();
    tracer::wait_until_attached(&sidecar);
    for way in ["open", "fork", "spawn"] {
        for path in ["/shared/link", "/alias/secret", "/proc/self/root/vault/secret", "/shared/../alias/secret"] {
            assert_eq!(application.ask(&format!("{way} {path}")), "EACCES", "{way} {path}");
        }
    }
}

#[test]
fn two_containers_and_one_sidecar() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let first = Application::start(&podman, &[&pod.option()], SIMPLE);
    let second = Application::start(&podman, &[&pod.option(), "--user", "1000:1000"], MANY);
    let sidecar = tracer::attach(&podman, &pod.option(), &deny(&["--all"]));
    the_vault_is_closed(&first);
    the_vault_is_closed(&second);
    // The end of one is nothing to the other.
    assert_eq!(first.container.stop(), 7, "{}", first.container.stderr());
    the_vault_is_closed(&second);
    second.lives();
    assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
    second.is_as_before();
    the_vault_is_open(&second);
}

#[test]
fn only_what_was_asked_for() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let first = Application::start(&podman, &[&pod.option()], SIMPLE);
    let second = Application::start(&podman, &[&pod.option(), "--user", "1000:1000"], SIMPLE);
    let first_id = podman.done(&["inspect", "--format", "{{.Id}}", first.container.name()]);
    let second_pid = second.ask("pid");
    for (selection, closes_first, closes_second) in [
        (&["--all", "--user", "1000"][..], false, true),
        (&["--all", "--user", "0"], true, false),
        (&["--all", "--container", &first_id[..12]], true, false),
        (&["--all", "--name", "sidecar_*"], true, true),
        (&["--all", "--name", "nothing*"], false, false),
        (&["--pid", &second_pid], false, true),
    ] {
        eprintln!("{selection:?}");
        let sidecar = tracer::attach(&podman, &pod.option(), &deny(selection));
        for (application, closed) in [(&first, closes_first), (&second, closes_second)] {
            if closed {
                the_vault_is_closed(application);
            } else {
                the_vault_is_open(application);
            }
        }
        assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
        first.is_as_before();
        second.is_as_before();
    }
}

/// The sidecar is there first, and stays when the application ends.
#[test]
fn applications_come_and_go() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let sidecar = tracer::attach(&podman, &pod.option(), &deny(&["--all", "--scan-interval", "20"]));
    for stop in ["TERM", "KILL", "TERM"] {
        let application = Application::start(&podman, &[&pod.option()], MANY);
        wait_for("the application is found", || (application.ask("open /vault/secret") == "EACCES").then_some(()));
        // One process is found before another.
        wait_for("each of its threads is found", || {
            (0..30).all(|_| application.ask("open /vault/secret") == "EACCES").then_some(())
        });
        application.container.kill(stop);
        let expected = if stop == "KILL" { 137 } else { 7 };
        assert_eq!(application.container.status(), expected, "{}", application.container.stderr());
    }
    assert!(sidecar.lives(), "{}", sidecar.stderr());
    assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
}

/// Who was told to watch one process has nothing to do after its end.
#[test]
fn the_end_of_the_only_target_is_the_end() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let application = Application::start(&podman, &[&pod.option()], SIMPLE);
    let pid = application.ask("pid");
    let sidecar = tracer::attach(&podman, &pod.option(), &deny(&["--pid", &pid]));
    assert_eq!(application.container.stop(), 7);
    assert_eq!(sidecar.status(), 0, "{}", sidecar.stderr());
}

/// Where the application is PID 1, the kernel ends the namespace with it.
#[test]
fn the_end_of_the_namespace() {
    let podman = Podman::shared();
    let application = Application::start(&podman, &[], MANY);
    let sidecar = tracer::attach(&podman, &shares_with(&application.container), &deny(&["--all"]));
    the_vault_is_closed(&application);
    assert_eq!(application.container.stop(), 7, "{}", application.container.stderr());
    // It is killed, or its targets were gone a moment before.
    let status = sidecar.status();
    assert!([0, 137].contains(&status), "{status}: {}", sidecar.stderr());
}

#[test]
fn without_the_right_to_trace() {
    let podman = Podman::shared();
    let application = Application::start(&podman, &["--user", "1000:1000"], MANY);
    let start = |target| {
        let options = [&shares_with(&application.container), "--cap-drop=ALL"];
        podman.start("tracegate", &options, &[&["attach"], &deny(target)[..]].concat())
    };
    let sidecar = start(&["--pid", "1"]);
    assert_eq!(sidecar.status(), 1, "{}", sidecar.stderr());
    let said = sidecar.stderr();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("host: attached to nothing: ") && last.contains("SYS_PTRACE"), "{said}");
    application.is_as_before();

    // Others may come that it can trace.
    let sidecar = start(&["--all"]);
    tracer::wait_until_attached(&sidecar);
    let said = sidecar.stderr();
    assert!(said.contains("host: skipped PID 1 (sidecar_app): ") && said.contains("SYS_PTRACE"), "{said}");
    application.is_as_before();
    assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
    application.is_as_before();
    the_vault_is_open(&application);
}

/// podman gives an added capability to any user; others only to root.
#[test]
fn with_the_right_to_trace_and_no_other() {
    let podman = Podman::shared();
    let application = Application::start(&podman, &[], SIMPLE);
    let options =
        [&shares_with(&application.container), "--cap-drop=ALL", "--cap-add=SYS_PTRACE", "--user", "1001:1001"];
    let sidecar = podman.start("tracegate", &options, &[&["attach"], &deny(&["--pid", "1"])[..]].concat());
    tracer::wait_until_attached(&sidecar);
    the_vault_is_closed(&application);
    sidecar.kill("INT");
    assert_eq!(sidecar.status(), 0, "{}", sidecar.stderr());
    application.is_as_before();
    the_vault_is_open(&application);
}

#[test]
fn what_is_not_there_is_said() {
    let podman = Podman::shared();
    let application = Application::start(&podman, &[], SIMPLE);
    let sidecar = tracer::start(&podman, &shares_with(&application.container), &deny(&["--pid", "4000000"]));
    assert_eq!(sidecar.status(), 1, "{}", sidecar.stderr());
    assert!(sidecar.stderr().contains("4000000"), "{}", sidecar.stderr());
    application.is_as_before();
}

/// A process has one tracer: the second sidecar does without, says so, and
/// takes nothing from the first.
#[test]
fn a_second_sidecar_is_told() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let application = Application::start(&podman, &[&pod.option()], MANY);
    let first = tracer::attach(&podman, &pod.option(), &deny(&["--all", "--name", "sidecar_*"]));
    let second = tracer::attach(&podman, &pod.option(), &["--all", "--name", "sidecar_*", "--alerts", "stderr"]);
    let pid = application.ask("pid");
    let skipped = format!("host: skipped PID {pid} (sidecar_app)");
    assert!(second.stderr().contains(&skipped), "{skipped:?} is missing: {}", second.stderr());
    the_vault_is_closed(&application);
    assert_eq!(second.stop(), 0, "{}", second.stderr());
    the_vault_is_closed(&application);
    assert_eq!(first.stop(), 0, "{}", first.stderr());
    application.is_as_before();
}
