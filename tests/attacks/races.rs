//! Races between the look at a call's arguments and their use.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::Failures;
use crate::place::{Place, attacker};
use crate::support::{Outcome, Run, host, run_limited, test_plugin};

/// So many attempts a run of the host, each of which has a time limit.
const BATCH: u64 = 2_000;

/// Attempts of each race.
fn attempts() -> u64 {
    std::env::var("TRACEGATE_ATTEMPTS").map_or(3000, |text| text.parse().expect("TRACEGATE_ATTEMPTS is a number"))
}

/// What the attempts came to.
#[derive(Debug, Default)]
struct Tally {
    attempts: u64,
    harmless: u64,
    denied: u64,
    leaked: u64,
    other: serde_json::Map<String, Json>,
}

impl Tally {
    fn of(outcome: &Outcome) -> Result<Self, String> {
        let line: Json = serde_json::from_str(outcome.stdout.trim()).map_err(|error| {
            format!("no tally: {error}: status {}, {}{}", outcome.status, outcome.stdout, outcome.stderr)
        })?;
        let number = |key: &str| line[key].as_u64().unwrap();
        Ok(Self {
            attempts: number("attempts"),
            harmless: number("harmless"),
            denied: number("denied"),
            leaked: number("leaked"),
            other: line["other"].as_object().unwrap().clone(),
        })
    }
}

/// How a race may end.
#[derive(Clone, Copy, PartialEq)]
enum Sides {
    /// Both the harmless object was reached and the other refused.
    Both,
    /// One is enough: the host refuses what it cannot protect, or makes the
    /// page the program's own, and the race is over.
    Either,
}

struct Race<'a> {
    /// Arguments of the attacker; `ROOT` and `ATTEMPTS` stand for themselves.
    words: &'a [&'a str],
    sides: Sides,
    /// Errors that the race itself may give, with or without the host.
    errors: &'a [&'a str],
}

impl Race<'_> {
    fn arguments(&self, place: &Place, attempts: u64) -> Vec<String> {
        let word = |word: &&str| match *word {
            "ROOT" => place.at(""),
            "ATTEMPTS" => attempts.to_string(),
            word => word.to_owned(),
        };
        let trimmed = |word: String| word.trim_end_matches('/').to_owned();
        self.words.iter().map(word).map(trimmed).collect()
    }

    /// Runs all attempts under `host`, and says what is wrong with the result.
    fn run(&self, guarded: &dyn Fn(&Place) -> Run) -> Result<String, String> {
        let (mut left, mut total) = (attempts(), Tally::default());
        while left > 0 {
            let now = left.min(BATCH);
            left -= now;
            let place = Place::new();
            let before = place.fingerprint();
            let mut command = vec![attacker().to_str().unwrap().to_owned()];
            command.extend(self.arguments(&place, now));
            let outcome = guarded(&place).run(&command);
            let tally = Tally::of(&outcome)?;
            if tally.attempts == 0 {
                return Err("nothing was tried".into());
            }
            if tally.leaked > 0 {
                return Err(format!("{} of {} attempts got through: {tally:?}", tally.leaked, tally.attempts));
            }
            if before != place.fingerprint() {
                return Err(format!("the protected side changed: {before:#?} {:#?}", place.fingerprint()));
            }
            let denials = outcome.alerts.iter().filter(|alert| alert["action"] != "allow").count();
            if self.sides == Sides::Both && tally.denied > 0 && denials == 0 {
                return Err(format!("denials without an alert: {tally:?}"));
            }
            if self.sides == Sides::Both && (tally.harmless == 0 || tally.denied == 0) {
                return Err(format!("no race, only one side was seen: {tally:?}"));
            }
            if let Some(error) = tally.other.keys().find(|error| !self.errors.contains(&error.as_str())) {
                return Err(format!("{error} came of it: {tally:?}"));
            }
            total.attempts += tally.attempts;
            total.harmless += tally.harmless;
            total.denied += tally.denied;
        }
        Ok(format!("{} attempts, {} harmless, {} denied", total.attempts, total.harmless, total.denied))
    }
}

pub fn no_connect() -> PathBuf {
    test_plugin("no-connect")
}

fn guarding_files(place: &Place) -> Run {
    host().protect(&place.secrets())
}

fn all(rows: &[(&[&str], Sides, &[&str])], guarded: &dyn Fn(&Place) -> Run) {
    let mut failures = Failures::default();
    for (words, sides, errors) in rows {
        let race = Race { words, sides: *sides, errors };
        let name =
            words.iter().filter(|word| !["ROOT", "ATTEMPTS"].contains(word)).copied().collect::<Vec<_>>().join(" ");
        match race.run(guarded) {
            Ok(total) => eprintln!("{name}: {total}"),
            Err(what) => failures.add(&name, what),
        }
    }
    failures.end();
}

/// Whoever changes the name of an `openat`. Prevented.
#[test]
fn memory_changed_by_anybody() {
    let movers = [
        "thread",
        "vfork",
        "clone-vm",
        "shared-anon",
        "sysv-shm",
        "memfd-mapped",
        "memfd-written",
        "vm-writev",
        "proc-mem",
        "proc-mem-bound",
        "proc-mem-inherited",
        "aio",
    ];
    // The page is frozen at the first look, or nobody waits for it.
    let frozen = ["private-memfd", "private-file", "userfaultfd"];
    let words = |mover| ["race", mover, "openat", "ROOT", "ATTEMPTS"];
    let (movers, frozen) = (movers.map(words), frozen.map(words));
    let rows = movers.iter().map(|words| (&words[..], Sides::Both, &[][..]));
    let rows: Vec<_> = rows.chain(frozen.iter().map(|words| (&words[..], Sides::Either, &[][..]))).collect();
    all(&rows, &guarding_files);
}

/// By a child made through the 32-bit gate, or by a structure that the kernel
/// overwrites; also where the host may not ask the kernel what two processes
/// share (kcmp(2)). Prevented.
#[test]
#[cfg(target_arch = "x86_64")]
fn memory_changed_by_a_child_of_clone3() {
    let rows = ["clone3-vm-int80", "clone3-vm-pidfd"].map(|mover| ["race", mover, "openat", "ROOT", "ATTEMPTS"]);
    let rows: Vec<(&[&str], _, _)> = rows.iter().map(|words| (&words[..], Sides::Both, &[][..])).collect();
    all(&rows, &guarding_files);
    let (attacker, kcmp) = (attacker(), libc::SYS_kcmp.to_string());
    let without = [attacker.to_str().unwrap(), "without", &kcmp];
    all(&rows, &|place| guarding_files(place).through(&without));
}

/// By the kernel when somebody is killed, and by somebody of whom nobody could
/// tell. Prevented.
#[test]
fn memory_changed_by_a_death() {
    let rows = ["maker-in-vfork", "maker-of-an-orphan"].map(|what| ["race-death", what, "ROOT", "ATTEMPTS"]);
    let rows: Vec<(&[&str], _, _)> = rows.iter().map(|words| (&words[..], Sides::Either, &["ENOENT"][..])).collect();
    all(&rows, &guarding_files);
}

/// Whatever the call whose name changes. Prevented.
#[test]
fn memory_changed_under_any_call() {
    let mut calls = vec![
        "openat2",
        "openat2-flags",
        "openat2-resolve",
        "creat",
        "truncate",
        "chmod",
        "unlink",
        "rename-from",
        "rename-to",
        "link",
        "execve",
        "execveat",
    ];
    if cfg!(target_arch = "x86_64") {
        calls.push("open");
    }
    let rows: Vec<_> = calls.iter().map(|call| ["race", "thread", call, "ROOT", "ATTEMPTS"]).collect();
    let mut rows: Vec<_> = rows.iter().map(|words| (&words[..], Sides::Both, &[][..])).collect();
    rows.push((&["race-exec-in-thread", "ROOT", "ATTEMPTS"], Sides::Both, &[]));
    if cfg!(target_arch = "x86_64") {
        // What cannot be protected is refused.
        rows.push((&["race", "thread", "int80-open", "ROOT", "ATTEMPTS"], Sides::Either, &[]));
    }
    all(&rows, &guarding_files);
}

/// An address, as well as a name. Prevented.
#[test]
fn addresses_changed_after_the_check() {
    let calls = ["connect", "connect-unix", "sendto", "sendmsg", "sendmsg-name", "sendmmsg"];
    let plugin = no_connect();
    let plugin = plugin.to_str().unwrap();
    for call in calls {
        let port = free_port().to_string();
        let guarded = |place: &Place| {
            let settings = json!({"port": port.parse::<u16>().unwrap(), "unix": place.at("s/socket")});
            host().plugin(plugin).option("--settings", format!("no-connect={settings}"))
        };
        for mover in ["thread", "shared-anon"] {
            let race =
                Race { words: &["race", mover, call, "ROOT", "ATTEMPTS", &port], sides: Sides::Both, errors: &[] };
            let mut failures = Failures::default();
            match race.run(&guarded) {
                Ok(total) => eprintln!("{call} {mover}: {total}"),
                Err(what) => failures.add(call, what),
            }
            failures.end();
        }
    }
}

/// A port that nobody has.
pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a descriptor, a working directory or a root stands for. Prevented.
#[test]
fn places_changed_after_the_check() {
    // Between two of another process's descriptors there is none at times.
    let rows: [(&str, &[&str]); 17] = [
        ("dirfd", &[]),
        ("dirfd-clone-files", &[]),
        ("own-fd", &[]),
        ("cwd", &[]),
        ("cwd-clone-fs", &[]),
        ("root", &[]),
        ("other-cwd", &["ENOENT"]),
        ("other-root", &["ENOENT"]),
        ("other-fd", &["ENOENT"]),
        ("other-fd-directory", &["ENOENT"]),
        ("execveat-empty", &[]),
        ("beneath", &[]),
        ("no-xdev", &[]),
        ("in-root", &[]),
        ("no-symlinks", &[]),
        ("symlink-in", &[]),
        ("mount-from", &[]),
    ];
    let rows: Vec<_> = rows.iter().map(|(what, errors)| (["race-place", what, "ROOT", "ATTEMPTS"], *errors)).collect();
    let mut rows: Vec<_> = rows.iter().map(|(words, errors)| (&words[..], Sides::Both, *errors)).collect();
    // For what has no other name the rest of the process stands still.
    let nameless = ["nameless-pipe", "nameless-memfd", "nameless-deleted"];
    let nameless = nameless.map(|what| ["race-place", what, "ROOT", "ATTEMPTS"]);
    rows.extend(nameless.iter().map(|words| (&words[..], Sides::Both, &[][..])));
    // What is not there at the check is not there.
    let absent = ["absent", "absent-directory", "absent-of-another", "nameless-by-relative"];
    let absent = absent.map(|what| ["race-place", what, "ROOT", "ATTEMPTS"]);
    rows.extend(absent.iter().map(|words| (&words[..], Sides::Either, &["ENOENT"][..])));
    // What led nowhere was judged as a text, and that must not lead anywhere.
    let nowhere = ["no-directory", "no-directory-of-another", "other-cwd-elsewhere"];
    let nowhere = nowhere.map(|what| ["race-place", what, "ROOT", "ATTEMPTS"]);
    rows.extend(nowhere.iter().map(|words| (&words[..], Sides::Either, &["ENOENT", "ENOTDIR"][..])));
    // Shared with another process, by other threads than those that show it.
    let descriptors = ["descriptors-of-a-thread", "descriptors-of-an-orphan", "descriptors-of-the-leader"];
    let descriptors = descriptors.map(|what| ["race-shared", what, "ROOT", "ATTEMPTS"]);
    rows.extend(descriptors.iter().map(|words| (&words[..], Sides::Either, &[][..])));
    rows.push((&["race-shared", "directory-by-exec", "ROOT", "ATTEMPTS"], Sides::Both, &[]));
    all(&rows, &guarding_files);
    // What a child inherits is known where somebody wants to know of programs.
    let fork: (&[&str], _, _) = (&["race-shared", "directory-by-fork", "ROOT", "ATTEMPTS"], Sides::Both, &[][..]);
    all(&[fork], &|place| guarding_files(place).plugin("builtin:process-monitor"));
}

/// The object behind a name changes, the name does not. Prevented.
#[test]
fn objects_swapped() {
    let mut rows = Vec::new();
    for what in ["symlink", "middle", "exchange", "dotdot", "mount"] {
        for who in ["thread", "process"] {
            rows.push(["swap", what, who, "open", "ROOT", "ATTEMPTS"]);
        }
    }
    for using in ["openat2", "reopen", "truncate", "chmod", "link", "execute"] {
        rows.push(["swap", "symlink", "process", using, "ROOT", "ATTEMPTS"]);
    }
    rows.push(["swap", "exchange", "process", "truncate", "ROOT", "ATTEMPTS"]);
    rows.push(["swap", "middle", "thread", "execute", "ROOT", "ATTEMPTS"]);
    let rows: Vec<_> = rows.iter().map(|words| (&words[..], Sides::Both, &[][..])).collect();
    all(&rows, &guarding_files);
}

/// Whatever is done to the page with the copies. Prevented.
#[test]
fn the_page_of_copies() {
    let mut whats = vec![
        "unmap",
        "unmap-around",
        "unmap-from-zero",
        "map-over-from-zero",
        "remap-over-from-zero",
        "advise-by-descriptor",
        "protect",
        "protect-pkey",
        "map-over",
        "map-across",
        "remap-away",
        "remap-over",
        "remap-duplicate",
        "discard",
        "file-pages",
        "attach-over",
        "write-by-mem",
        "write-by-vm",
        "write-by-kernel",
        "map-files",
        "remap-stack",
    ];
    if cfg!(target_arch = "x86_64") {
        whats.extend(["map-over-by-structure", "attach-over-by-ipc", "unmap-upper-half", "map-over-upper-half"]);
    }
    let rows: Vec<_> = whats.iter().map(|what| ["page", *what, "ROOT", "ATTEMPTS"]).collect();
    let mut rows: Vec<_> = rows.iter().map(|words| (&words[..], Sides::Both, &[][..])).collect();
    // Nothing can be mapped any more: no copy, no call.
    rows.push((&["page", "occupied", "ROOT", "ATTEMPTS"], Sides::Either, &[]));
    rows.push((&["page", "no-room", "ROOT", "ATTEMPTS"], Sides::Either, &["ENOMEM"]));
    rows.push((&["unreadable", "protect", "ROOT", "ATTEMPTS"], Sides::Either, &[]));
    rows.push((&["unreadable", "remap", "ROOT", "ATTEMPTS"], Sides::Either, &[]));
    all(&rows, &guarding_files);
}

/// Without the host the races are won: the scenarios can fail.
#[test]
fn alone_every_race_is_won() {
    let mut failures = Failures::default();
    let port = free_port().to_string();
    let rows: &[&[&str]] = &[
        &["race", "thread", "openat", "ROOT", "1000"],
        &["race", "aio", "openat", "ROOT", "1000"],
        &["race", "userfaultfd", "openat", "ROOT", "200000"],
        &["race", "thread", "execve", "ROOT", "1000"],
        &["race", "thread", "sendmmsg", "ROOT", "1000", &port],
        &["race-place", "dirfd", "ROOT", "1000"],
        &["race-place", "nameless-pipe", "ROOT", "1000"],
        &["race-place", "beneath", "ROOT", "1000"],
        &["race-place", "absent-of-another", "ROOT", "1000"],
        &["race-place", "nameless-by-relative", "ROOT", "1000"],
        &["race-place", "symlink-in", "ROOT", "1000"],
        &["race-place", "no-directory", "ROOT", "1000"],
        &["race-place", "no-directory-of-another", "ROOT", "1000"],
        &["race-place", "other-cwd-elsewhere", "ROOT", "1000"],
        &["race-shared", "descriptors-of-a-thread", "ROOT", "1000"],
        &["race-shared", "descriptors-of-an-orphan", "ROOT", "1000"],
        &["race-shared", "descriptors-of-the-leader", "ROOT", "1000"],
        &["race-shared", "directory-by-exec", "ROOT", "1000"],
        &["race-shared", "directory-by-fork", "ROOT", "1000"],
        &["race-death", "maker-in-vfork", "ROOT", "1000"],
        &["race-death", "maker-of-an-orphan", "ROOT", "1000"],
        &["race-place", "mount-from", "ROOT", "1000"],
        &["swap", "mount", "process", "open", "ROOT", "1000"],
    ];
    for words in rows {
        let place = Place::new();
        let race = Race { words, sides: Sides::Both, errors: &[] };
        let output = run_limited(Command::new(attacker()).args(race.arguments(&place, 0)));
        match Tally::of(&Outcome::of(&output)) {
            Ok(tally) if tally.leaked > 0 => {}
            Ok(tally) => failures.add(&words.join(" "), format!("{tally:?}")),
            Err(error) => failures.add(&words.join(" "), error),
        }
    }
    failures.end();
}

/// Who waits for a call that was judged and gets no processor time goes on
/// waiting, and is refused in the end. Prevented.
#[test]
fn a_link_moved_while_its_opener_starves() {
    let place = Place::new();
    let words = [attacker().to_str().unwrap().to_owned(), "starve".into(), place.root.to_str().unwrap().to_owned()];
    let outcome = host().protect(&place.secrets()).run(&[&words[..], &["20".into()]].concat());
    assert_eq!(outcome.stdout.trim(), "nothing", "{outcome:#?}");
}
