//! Blinding the tracer, and what a program may do with seccomp all the same.

use std::process::Command;

use serde_json::Value as Json;

use crate::Failures;
use crate::place::{Place, attacker};
use crate::support::{Outcome, host, run_limited};

/// Attack; what it comes to alone, if it is run alone; what under the host.
type Row = (&'static str, &'static str, Option<&'static str>, &'static [&'static str]);

const FILTERS: &[Row] = &[
    ("listener", "0", Some("leaked"), &["refused EACCES"]),
    ("listener-upper-half", "0", Some("leaked"), &["refused EACCES"]),
    ("listener-tsync", "0", Some("leaked"), &["refused EACCES"]),
    #[cfg(target_arch = "x86_64")]
    ("listener-int80", "0", Some("leaked"), &["refused EACCES"]),
    // Alone nobody answers, and the kernel says ENOSYS; so may the host.
    ("own-trace", "0", Some("ENOSYS"), &["EACCES", "ENOSYS"]),
    ("own-trace", "1", Some("ENOSYS"), &["EACCES", "ENOSYS"]),
    ("own-trace", "65535", Some("ENOSYS"), &["EACCES", "ENOSYS"]),
    ("own-notify-without-listener", "0", Some("ENOSYS"), &["ENOSYS", "EACCES"]),
    ("own-allow", "0", Some("leaked"), &["EACCES"]),
    ("own-log", "0", Some("leaked"), &["EACCES"]),
    ("own-in-thread-synced", "0", Some("leaked"), &["EACCES"]),
    // The program's own filters do for it what they do alone.
    ("own-errno", "0", Some("EXDEV"), &["EXDEV"]),
    ("own-kill", "0", Some("159"), &["159"]),
    ("own-trap", "0", Some("trapped"), &["trapped"]),
    // A task that has a filter cannot go strict (kernel/seccomp.c,
    // `seccomp_may_assign_mode`): EINVAL, 22.
    ("strict", "0", Some("strict"), &["EINVAL"]),
    ("strict-then-open", "0", Some("killed"), &["22"]),
];

const CHILDREN: &[Row] = &[
    ("untraced-clone", "0", Some("leaked"), &["EACCES"]),
    ("untraced-clone-upper-half", "0", Some("leaked"), &["EACCES"]),
    ("untraced-vfork", "0", Some("leaked"), &["EACCES"]),
    ("untraced-clone3", "0", Some("leaked"), &["ENOSYS", "EACCES"]),
    ("clone-parent", "0", Some("leaked"), &["EACCES"]),
    ("clone-parent-untraced", "0", Some("leaked"), &["EACCES"]),
    ("clone-without-signal", "0", Some("leaked"), &["EACCES"]),
    ("clone-with-other-signal", "0", Some("leaked"), &["EACCES"]),
    ("vfork-child", "0", Some("leaked"), &["EACCES"]),
    ("grandchild-of-the-dead", "0", Some("leaked"), &["EACCES"]),
    ("traceme", "0", None, &["EPERM EACCES"]),
    ("attach-to-child", "0", Some("ok"), &["EPERM"]),
    ("seize-child", "0", Some("ok"), &["EPERM"]),
];

fn said(outcome: &Outcome) -> String {
    outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn words(name: &str, place: &Place, number: &str) -> Vec<String> {
    let root = place.root.to_str().unwrap();
    [attacker().to_str().unwrap(), "blind", name, root, number].map(str::to_owned).to_vec()
}

fn all(rows: &[Row]) {
    let mut failures = Failures::default();
    for (name, number, alone, accepted) in rows {
        let place = Place::new();
        let command = words(name, &place, number);
        if let Some(alone) = alone {
            let outcome = Outcome::of(&run_limited(Command::new(&command[0]).args(&command[1..])));
            if said(&outcome) != *alone {
                failures.add(name, format!("alone it should come to {alone:?}: {outcome:#?}"));
            }
        }
        let outcome = host().protect(&place.secrets()).run(&command);
        if !accepted.contains(&said(&outcome).as_str()) || outcome.status != 0 {
            failures.add(name, format!("should come to {accepted:?}: {outcome:#?}"));
        }
    }
    failures.end();
}

/// Prevented; harmless filters work.
#[test]
fn by_a_filter_of_its_own() {
    all(FILTERS);
}

/// Prevented.
#[test]
fn by_children_out_of_sight() {
    all(CHILDREN);
}

/// What a race says.
fn tally(outcome: &Outcome) -> Json {
    serde_json::from_str(outcome.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {outcome:#?}"))
}

/// Flags of `clone3` that change after the check. Prevented.
#[test]
fn by_flags_that_change() {
    let place = Place::new();
    let attempts = std::env::var("TRACEGATE_ATTEMPTS").map_or(1000, |text| text.parse::<u64>().unwrap().min(20_000));
    let command = words("untraced-clone3-race", &place, &attempts.to_string());
    let alone = Outcome::of(&run_limited(Command::new(&command[0]).args(&command[1..5])));
    assert_ne!(tally(&alone)["leaked"], 0, "{alone:#?}");
    let outcome = host().protect(&place.secrets()).run(&command);
    assert_eq!(tally(&outcome)["leaked"], 0, "{outcome:#?}");
}

/// A call put in the place of those that the host has a program make. It is
/// judged like any other. Only there is it seen at all.
#[cfg(target_arch = "x86_64")]
#[test]
fn by_a_call_in_the_hosts_place() {
    let place = Place::new();
    let root = place.root.to_str().unwrap();
    let command = [attacker().to_str().unwrap(), "errand", root, "300"].map(str::to_owned);
    let outcome = host().protect(&place.secrets()).run(&command);
    assert_eq!(said(&outcome), "0 leaked, led astray", "{outcome:#?}");
}

/// Every one of 500 children at once is judged.
#[test]
fn by_many_children() {
    let place = Place::new();
    let outcome = host().protect(&place.secrets()).run(&words("fork-bomb", &place, "500"));
    outcome.says("0 leaked");
    let denied = outcome.alerts.iter().filter(|alert| alert["action"] == "deny").count();
    assert_eq!(denied, 500, "{}", outcome.stderr);
}

/// Events of four busy threads hide nothing of a fifth.
#[test]
fn by_a_flood_of_events() {
    let place = Place::new();
    let outcome = host().protect(&place.secrets()).run(&words("flood", &place, "2000"));
    assert_eq!(tally(&outcome)["denied"], 2000, "{outcome:#?}");
    assert_eq!(outcome.alerts.iter().filter(|alert| alert["action"] == "deny").count(), 2000);
}

/// More alerts than are written: the calls are refused, and the gap is told.
#[test]
fn by_a_storm_of_alerts() {
    let place = Place::new();
    let outcome = host().protect(&place.secrets()).run(&words("alert-storm", &place, "40000"));
    assert_eq!(tally(&outcome)["denied"], 40_000, "{}", outcome.stderr);
    let written = outcome.alerts.iter().filter(|alert| alert["rule"] == "sensitive-read").count();
    let told = outcome.alerts.iter().any(|alert| alert["rule"] == "alerts-dropped") || outcome.stderr.contains("drop");
    assert!(written == 40_000 || told, "{written} of 40000 alerts, and no word of the rest: {}", outcome.stderr);
}

/// A page that is never there stops who looks, and nobody else.
#[test]
fn by_a_page_that_never_comes() {
    let place = Place::new();
    let outcome = host().protect(&place.secrets()).run(&words("stalled", &place, "0"));
    outcome.says("EACCES");
}
