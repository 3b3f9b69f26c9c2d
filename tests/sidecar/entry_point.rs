//! The host as the entry point of the application's container. No privilege
//! is needed: a program may always be traced by its parent.

use crate::application::{Application, MANY, SIMPLE};
use crate::podman::{Podman, wait_for};
use crate::{DENY, the_vault_is_closed};

#[test]
fn as_entry_point_with_any_privileges() {
    let podman = Podman::shared();
    for options in [
        &[][..],
        &["--user", "1000:1000"],
        &["--read-only"],
        &["--cap-drop=ALL"],
        &["--cap-drop=ALL", "--cap-add=SYS_PTRACE"],
        &["--security-opt=no-new-privileges"],
        &["--user", "1000:1000", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
    ] {
        eprintln!("{options:?}");
        let wrapper = [&["/host", "run"][..], &DENY, &["--"]].concat();
        let application = Application::start_as(&podman, "wrapped", options, &wrapper, SIMPLE);
        the_vault_is_closed(&application);
        application.lives();
        let alert = wait_for("an alert for each denial", || {
            let mut alerts = application.container.alerts();
            (alerts.len() == 12).then(|| alerts.remove(0))
        });
        assert_eq!(
            (&alert["action"], &alert["fields"]["path"], &alert["exe"]),
            (&"deny".into(), &"/vault/secret".into(), &"/sidecar_app".into()),
            "{alert}"
        );
        // The end of the application is the end of the container.
        assert_eq!(application.container.stop(), 7, "{}", application.container.stderr());
        assert_eq!(application.container.stdout(), "stopped\n");
    }
}

#[test]
fn as_entry_point_of_a_large_application() {
    let podman = Podman::shared();
    let wrapper = [&["/host", "run"][..], &DENY, &["--"]].concat();
    let application = Application::start_as(&podman, "wrapped", &["--user", "1000:1000"], &wrapper, MANY);
    let load = application.load(&["open /public/page", "spawn /vault/secret", "fork /public/page"], &["ok", "EACCES"]);
    the_vault_is_closed(&application);
    application.lives();
    assert!(load.finish() > 0);
    assert_eq!(application.container.stop(), 7, "{}", application.container.stderr());
}

/// As PID 1 the host inherits every process whose parent ended.
#[test]
fn as_entry_point_it_waits_for_orphans() {
    let podman = Podman::shared();
    let application = Application::start_as(&podman, "wrapped", &[], &["/host", "run", "--"], SIMPLE);
    for _ in 0..20 {
        assert_eq!(application.ask("orphan"), "ok");
    }
    wait_for("no zombies are left", || (application.ask("zombies") == "0").then_some(()));
    assert_eq!(application.ask("pid").parse::<u32>().map(|pid| pid > 1), Ok(true), "the host is PID 1");
}

#[test]
fn as_entry_point_its_status_is_the_programs() {
    let podman = Podman::shared();
    let run = |command: &[&str]| {
        let output =
            podman.output(&[&["run", "--rm", "wrapped", "/host", "run"], &DENY[..], &["--"], command].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said, errors) = run(&["/sidecar_app", "open", "/vault/secret"]);
    assert_eq!((status, said.as_str()), (Some(0), "EACCES\n"), "{errors}");
    assert!(errors.contains(r#""rule":"sensitive-read""#), "{errors}");
    assert_eq!(run(&["/busybox", "sh", "-c", "exit 42"]).0, Some(42));
    // The program's own PID is not 1, so that a signal without a handler ends it.
    assert_eq!(run(&["/busybox", "sh", "-c", "kill -TERM $$"]).0, Some(128 + 15));
    let (status, _, errors) = run(&["/no/such/program"]);
    assert_eq!(status, Some(127), "{errors}");
    assert!(errors.contains("/no/such/program"), "{errors}");
}
