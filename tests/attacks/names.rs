//! Other names, other calls: what a single try comes to.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::Failures;
use crate::place::{Place, attacker};
use crate::support::{Outcome, host, run_limited};

/// How far the promise reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reach {
    /// The call is refused, or the program killed, and an alert tells of it.
    Prevented,
    /// It is harmless already: the kernel refuses it, or nothing is reached.
    Harmless,
    /// It succeeds: SECURITY.md says so.
    OutOfScope,
}
use Reach::{Harmless, OutOfScope, Prevented};

/// Attack; what it comes to alone; what under the host; how far that reaches.
type Row = (&'static str, &'static str, &'static [&'static str], Reach);

const NAMES: &[Row] = &[
    ("plain", "leaked", &["EACCES"], Prevented),
    ("dotdot", "leaked", &["EACCES"], Prevented),
    ("symlink", "leaked", &["EACCES"], Prevented),
    ("symlink-chain", "leaked", &["EACCES"], Prevented),
    ("symlink-not-utf8", "leaked", &["EACCES"], Prevented),
    ("name-not-utf8", "leaked", &["EACCES"], Prevented),
    ("dirfd", "leaked", &["EACCES"], Prevented),
    ("dirfd-dotdot", "leaked", &["EACCES"], Prevented),
    ("dirfd-of-absolute", "leaked", &["EACCES"], Prevented),
    ("hard-link", "ok leaked", &["EACCES"], Prevented),
    ("hard-link-of-descriptor", "ok", &["EACCES"], Prevented),
    ("hard-link-by-proc", "ok", &["EACCES"], Prevented),
    ("proc-self-root", "leaked", &["EACCES"], Prevented),
    ("proc-pid-root", "leaked", &["EACCES"], Prevented),
    ("proc-parent-root", "leaked", &["EACCES"], Prevented),
    ("proc-self-cwd", "leaked", &["EACCES"], Prevented),
    ("proc-task-cwd", "leaked", &["EACCES"], Prevented),
    ("proc-self-fd", "leaked", &["EACCES"], Prevented),
    ("proc-self-of-namespace", "leaked", &["EACCES"], Prevented),
    ("proc-self-cwd-of-namespace", "leaked", &["EACCES"], Prevented),
    ("dev-fd", "leaked", &["EACCES"], Prevented),
    ("o-path-reopened", "leaked", &["EACCES"], Prevented),
    ("o-path-reopened-dev-fd", "leaked", &["EACCES"], Prevented),
    ("handle", "leaked", &["EACCES"], Prevented),
    ("handle-of-path", "ok leaked", &["EACCES"], Prevented),
    ("long-name", "ENAMETOOLONG", &["ENAMETOOLONG", "EACCES"], Harmless),
    ("longest-name", "leaked", &["EACCES"], Prevented),
    ("beyond-path-max", "leaked", &["EACCES"], Prevented),
    ("chroot", "leaked", &["EACCES"], Prevented),
    ("chroot-into", "leaked", &["EACCES"], Prevented),
    ("chroot-escaped", "leaked", &["EACCES"], Prevented),
    ("user-namespace", "leaked", &["EACCES"], Prevented),
    ("mount-namespace-chroot", "leaked", &["EACCES"], Prevented),
    ("other-user", "leaked", &["EACCES"], Prevented),
    ("undumpable", "leaked", &["EACCES"], Prevented),
    ("flags-upper-half", "leaked", &["EACCES"], Prevented),
    #[cfg(target_arch = "x86_64")]
    ("number-upper-half", "leaked", &["EACCES"], Prevented),
    #[cfg(target_arch = "x86_64")]
    ("number-upper-half-beside-a-thread", "leaked", &["EACCES"], Prevented),
    #[cfg(target_arch = "x86_64")]
    ("segment-beside-a-thread", "ok ok leaked", &["ok ok EACCES"], Prevented),
    ("unreadable-page", "EFAULT", &["EACCES"], Prevented),
    ("half-readable", "EFAULT", &["EACCES"], Prevented),
];

const MOUNTS: &[Row] = &[
    ("bind-mount", "leaked", &["EACCES"], Prevented),
    ("bind-mount-file", "leaked", &["EACCES"], Prevented),
    ("bind-mount-parent", "leaked", &["EACCES"], Prevented),
    ("bind-mount-root", "leaked", &["EACCES"], Prevented),
    ("bind-mount-by-proc", "leaked", &["EACCES"], Prevented),
    ("mount-over", "ENOENT", &["EACCES"], Prevented),
    ("mount-over-by-magic", "ENOENT", &["EACCES"], Prevented),
    ("overlay-by-magic", "leaked", &["EACCES"], Prevented),
    ("mount-move", "ok", &["EACCES"], Prevented),
    ("overlay", "leaked", &["EACCES"], Prevented),
    // The layers are text to the plugin: a link among them is not followed.
    ("overlay-by-link", "leaked", &["leaked"], OutOfScope),
    ("overlay-by-cwd", "leaked", &["EACCES"], Prevented),
    ("overlay-new-api", "leaked", &["EACCES"], Prevented),
    ("overlay-by-descriptor", "leaked", &["EACCES"], Prevented),
    ("open-tree", "leaked", &["EACCES"], Prevented),
    ("open-tree-of-descriptor", "leaked", &["EACCES"], Prevented),
    ("open-tree-parent", "leaked", &["EACCES"], Prevented),
    ("pivot-root", "leaked", &["EPERM"], Prevented),
];

const CALLS: &[Row] = &[
    ("openat2", "leaked", &["EACCES"], Prevented),
    ("openat2-beneath", "leaked", &["EACCES"], Prevented),
    ("openat2-in-root", "leaked", &["EACCES"], Prevented),
    ("openat2-no-symlinks", "leaked", &["EACCES"], Prevented),
    ("creat", "ok", &["EACCES"], Prevented),
    ("open-for-both", "leaked", &["EACCES"], Prevented),
    ("open-and-truncate", "ok", &["EACCES"], Prevented),
    ("temporary-file", "ok", &["EACCES"], Prevented),
    ("list", "ok", &["EACCES"], Prevented),
    ("truncate", "ok", &["EACCES"], Prevented),
    ("rename-away", "ok", &["EACCES"], Prevented),
    ("rename-onto", "ok", &["EACCES"], Prevented),
    ("rename-exchange", "ok", &["EACCES"], Prevented),
    ("rename-directory", "ok leaked", &["EACCES"], Prevented),
    ("rename-parent", "ok", &["EACCES"], Prevented),
    ("unlink", "ok", &["EACCES"], Prevented),
    ("unlinkat", "ok", &["EACCES"], Prevented),
    ("rmdir", "ok", &["EACCES"], Prevented),
    ("mkdir", "ok", &["EACCES"], Prevented),
    ("mknod", "ok", &["EACCES"], Prevented),
    ("symlink-in", "ok", &["EACCES"], Prevented),
    ("link-in", "ok", &["EACCES"], Prevented),
    ("chmod", "ok", &["EACCES"], Prevented),
    // Linux 6.6.
    ("chmod-of-descriptor", "ok", &["EACCES"], Prevented),
    ("chmod-by-proc", "ok", &["EACCES"], Prevented),
    ("chown", "ok", &["EACCES"], Prevented),
    ("chown-of-descriptor", "ok", &["EACCES"], Prevented),
    ("utimes", "ok", &["EACCES"], Prevented),
    ("setxattr", "ok", &["EACCES"], Prevented),
    ("sendfile", "leaked", &["EACCES"], Prevented),
    ("splice", "leaked", &["EACCES"], Prevented),
    ("copy-file-range", "leaked", &["EACCES"], Prevented),
    ("passed-descriptor", "leaked", &["EACCES"], Prevented),
    ("fetched-descriptor", "leaked", &["EACCES"], Prevented),
    ("io-uring", "leaked", &["EPERM"], Prevented),
    ("fanotify", "leaked", &["EPERM"], Prevented),
];

/// On a volume, which is guarded against reading alone.
const LOST: &[Row] = &[
    ("deleted", "leaked", &["EACCES"], Prevented),
    ("overwritten", "leaked", &["EACCES"], Prevented),
    ("volume-detached", "leaked", &["EACCES"], Prevented),
    ("volume-detached-by-proc", "leaked", &["EACCES"], Prevented),
    ("volume-detached-cwd", "leaked", &["EACCES"], Prevented),
    ("volume-detached-root", "leaked", &["EACCES"], Prevented),
    ("namespace-ended", "leaked", &["EACCES"], Prevented),
    ("namespace-ended-cwd", "leaked", &["EACCES"], Prevented),
    ("namespace-ending", "leaked", &["EACCES"], Prevented),
];

const PROGRAMS: &[Row] = &[
    ("execute", "leaked", &["EACCES"], Prevented),
    ("execute-by-link", "leaked", &["EACCES"], Prevented),
    ("execveat-empty", "leaked", &["EACCES"], Prevented),
    ("execute-by-proc-fd", "leaked", &["EACCES"], Prevented),
    // It opens the program as any file.
    ("loader", "leaked", &["not loaded"], Prevented),
    // No call names what the kernel opens by itself.
    ("script", "leaked", &["EACCES", "killed by 9"], Prevented),
    ("script-of-script", "leaked", &["EACCES", "killed by 9"], Prevented),
    ("elf-interpreter", "leaked", &["EACCES", "killed by 9"], Prevented),
    ("execute-copy", "leaked", &["EACCES"], Prevented),
    ("gigabyte-argv", "E2BIG", &["EACCES", "E2BIG"], Prevented),
];

/// Runs each attack alone, where it wins, and then under the host.
fn all(rows: &[Row]) {
    let mut failures = Failures::default();
    for (name, alone, accepted, reach) in rows {
        let words = |place: &Place| {
            let mut words = vec![attacker().to_str().unwrap().to_owned()];
            words.extend(["name", name, place.root.to_str().unwrap()].map(str::to_owned));
            words
        };
        let said = |outcome: &Outcome| outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let place = Place::new();
        place.furnish();
        let command = words(&place);
        let outcome = Outcome::of(&run_limited(Command::new(&command[0]).args(&command[1..])));
        if said(&outcome) != *alone {
            failures.add(name, format!("alone it should come to {alone:?}: {outcome:#?}"));
        }
        let place = Place::new();
        place.furnish();
        let before = place.fingerprint();
        let outcome = host().protect(&place.secrets()).run(&words(&place));
        if !accepted.contains(&said(&outcome).as_str()) {
            failures.add(name, format!("should come to {accepted:?}: {outcome:#?}"));
        }
        let denied = outcome.alerts.iter().any(|alert| alert["action"] != "allow");
        if *reach == Prevented && !denied {
            failures.add(name, format!("nobody was told: {outcome:#?}"));
        }
        if *reach != OutOfScope && before != place.fingerprint() {
            failures.add(name, format!("the protected side changed: {before:#?} {:#?}", place.fingerprint()));
        }
    }
    failures.end();
}

/// What has lost its name, or the place that its name was in.
#[test]
fn by_a_name_that_is_lost() {
    let volume = r#"mount -t tmpfs none "$0/s" && echo secret > "$0/s/file" && exec "$@""#;
    let mut failures = Failures::default();
    for (name, alone, accepted, _) in LOST {
        let place = Place::new();
        let root = place.root.to_str().unwrap().to_owned();
        // Both sides on one file system, so that one can replace the other.
        let script = if *name == "overwritten" { r#"exec "$@""# } else { volume };
        let through = ["unshare", "--mount", "sh", "-c", script, &root];
        let attack = [attacker().to_str().unwrap().to_owned(), "name".into(), (*name).to_owned(), root.clone()];
        let outcome = Outcome::of(&run_limited(Command::new(through[0]).args(&through[1..]).args(&attack)));
        if outcome.stdout.trim() != *alone {
            failures.add(name, format!("alone it should come to {alone:?}: {outcome:#?}"));
        }
        let place = Place::new();
        let root = place.root.to_str().unwrap().to_owned();
        let through = ["unshare", "--mount", "sh", "-c", script, &root];
        let attack = [&attack[..3], std::slice::from_ref(&root)].concat();
        let reading = serde_json::json!({"paths": [place.secrets()], "access": "read"});
        let outcome = host().through(&through).sensitive_files(&reading).run(&attack);
        if !accepted.contains(&outcome.stdout.trim()) {
            failures.add(name, format!("should come to {accepted:?}: {outcome:#?}"));
        }
        if !outcome.alerts.iter().any(|alert| alert["action"] != "allow") {
            failures.add(name, format!("nobody was told: {outcome:#?}"));
        }
    }
    failures.end();
}

#[test]
fn by_another_name() {
    all(NAMES);
}

#[test]
fn by_a_mount() {
    all(MOUNTS);
}

#[test]
fn by_another_call() {
    all(CALLS);
}

/// The interpreter of a script is a guarded file, and has one of its own, which
/// is handed the file open (flag `O` of `binfmt_misc`; of a user namespace's own
/// since Linux 6.7).
#[test]
fn by_an_interpreter_that_is_handed_the_file() {
    let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 7) {
        eprintln!("not tried: on Linux {release} this would change the whole machine");
        return;
    }
    let place = Place::new();
    let (program, script) = (place.at("s/handed"), place.at("h/script"));
    std::fs::write(&program, "secret\n").unwrap();
    std::fs::write(&script, format!("#!{program}\n")).unwrap();
    for file in [&program, &script] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let register = format!(
        "mount -t binfmt_misc none {0} && echo ':handed:M::secret::{1}:O' > {0}/register && exec {script}",
        place.at("m"),
        attacker().display()
    );
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &register];
    let alone = Outcome::of(&run_limited(Command::new(words[0]).args(&words[1..])));
    assert_eq!(alone.stdout.trim(), "leaked", "{alone:#?}");
    let guarded = host().protect(&place.secrets()).run(&words);
    assert_eq!(guarded.stdout, "", "{guarded:#?}");
    assert!(guarded.alerts.iter().any(|alert| alert["action"] == "deny"), "{guarded:#?}");
}

#[test]
fn as_a_program() {
    all(PROGRAMS);
}
