//! What programs with threads do all day works under denials as it does alone.

use std::process::Command;

use serde_json::json;

use crate::Failures;
use crate::place::{Place, attacker};
use crate::races::no_connect;
use crate::support::{Outcome, Run, host, run_limited};

/// Every plugin here denies something, so that all defences are up.
fn guarded(place: &Place) -> Run {
    let settings = json!({"port": 9, "unix": place.at("s/socket")});
    host()
        .protect(&place.secrets())
        .plugin(no_connect().to_str().unwrap())
        .option("--settings", format!("no-connect={settings}"))
}

#[test]
fn threads_at_their_usual_work() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/attacks/normal.py");
    let place = Place::new();
    let command = ["python3", script, &place.at("m")].map(str::to_owned);
    let alone = Outcome::of(&run_limited(Command::new(&command[0]).args(&command[1..])));
    assert_eq!(alone.status, 0, "{alone:#?}");
    let place = Place::new();
    let command = ["python3", script, &place.at("m")];
    let outcome = guarded(&place).run(&command);
    assert_eq!((outcome.status, &outcome.stdout, &outcome.stderr), (0, &alone.stdout, &alone.stderr));
    assert!(outcome.alerts.is_empty(), "{outcome:#?}");
}

/// What a program does; what it says alone; what under the host.
const ROWS: &[(&str, &str, &str)] = &[
    ("blocked-open", "ok", "ok"),
    // A call that starts again is judged again.
    ("restarted-open", "leaked", "EACCES"),
    ("interrupted-open", "EINTR", "EINTR"),
    ("own-page", "ok", "ok"),
    ("messages", "ok", "ok"),
    ("read-only-arguments", "ok", "ok"),
    ("longest-name", "ok", "ok"),
    ("signals-by-descriptor", "ok", "ok"),
    ("owners", "ok", "ok"),
    ("nameless-opens", "ok", "ok"),
    ("bounded-look-ups", BOUNDED, BOUNDED),
    ("failing-look-ups", FAILING, FAILING),
    ("unprivileged-look-ups", "ok", "ok"),
    // There is no room for the page, or no way to map it: refused, and told.
    ("no-address-space", "ok", "EPERM"),
    #[cfg(target_arch = "x86_64")]
    ("dispatched-calls", "ok", "EPERM"),
    // Alone nobody refuses the secret.
    ("registers", "s/file: 0", "ok"),
];

const BOUNDED: &str =
    "opened opened EXDEV EXDEV ENOENT ENOENT ELOOP opened ELOOP opened ELOOP ENOENT opened opened ENOENT EXDEV opened";

const FAILING: &str = "ENOENT ENOTDIR ENOTDIR ENOTDIR ENOENT ENOENT ENOTDIR ENOTDIR ENOTDIR EISDIR ENOENT EBADF EBADF \
     ENOENT ENOTDIR opened ENOENT ENOTDIR ENOENT EBADF false 9";

/// In a mount namespace of its own, too, a process's descriptors are its own.
#[test]
fn standard_input_in_another_namespace() {
    for through in [
        &["unshare", "--mount"][..],
        &["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"],
    ] {
        let script = "echo word | cat /dev/stdin; echo word | python3 -c '
import threading
threading.Thread(target=lambda: threading.Event().wait(9), daemon=True).start()
print(open(\"/dev/stdin\").read().strip())'";
        let words = [through, &["sh", "-c", script]].concat();
        let outcome = guarded(&Place::new()).run(&words);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "word\nword\n"), "{outcome:#?}");
    }
}

#[test]
fn calls_behave_as_alone() {
    let mut failures = Failures::default();
    for &(what, alone, expected) in ROWS {
        let words = |place: &Place| {
            [attacker().to_str().unwrap(), "normal", what, place.root.to_str().unwrap()].map(str::to_owned).to_vec()
        };
        let place = Place::new();
        let command = words(&place);
        let outcome = Outcome::of(&run_limited(Command::new(&command[0]).args(&command[1..])));
        if outcome.stdout.trim() != alone {
            failures.add(what, format!("alone it should say {alone:?}: {outcome:#?}"));
        }
        let place = Place::new();
        let outcome = guarded(&place).run(&words(&place));
        if outcome.stdout.trim() != expected || outcome.status != 0 {
            failures.add(what, format!("should say {expected:?}: {outcome:#?}"));
        }
    }
    failures.end();
}
