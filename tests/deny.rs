//! Denials hold whatever name leads to the file, and spare its neighbours.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;
use support::host;

/// A directory with a secret and a neighbour, and ways to both.
struct Files {
    _directory: tempfile::TempDir,
    root: PathBuf,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("vault/inner")).unwrap();
        fs::create_dir(root.join("elsewhere")).unwrap();
        fs::write(root.join("vault/secret"), "s").unwrap();
        fs::write(root.join("vault/neighbour"), "n").unwrap();
        symlink(root.join("vault/secret"), root.join("elsewhere/to-secret")).unwrap();
        symlink("to-secret", root.join("elsewhere/to-link")).unwrap();
        symlink("../vault", root.join("elsewhere/to-vault")).unwrap();
        symlink("neighbour", root.join("vault/to-neighbour")).unwrap();
        symlink(root.join("vault/new"), root.join("elsewhere/dangling")).unwrap();
        symlink("loop", root.join("elsewhere/loop")).unwrap();
        Self { _directory: directory, root }
    }

    fn at(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    /// What a program says when `vault/secret` is protected.
    #[track_caller]
    fn protected(&self, arguments: &[&str], expected: &str) {
        let outcome = host().protect(&self.root.join("vault/secret")).tracee(arguments);
        outcome.says(expected);
        let denied = outcome.alerts.iter().filter(|alert| alert["action"] == "deny").count();
        assert_eq!(denied > 0, expected == "EACCES", "an alert for each denial, and none without: {outcome:#?}");
    }
}

#[test]
fn by_every_name() {
    let files = Files::new();
    let secret = files.at("vault/secret");
    let vault = files.at("vault");
    let elsewhere = files.at("elsewhere");
    let cases: &[&[&str]] = &[
        &["open", &secret],
        &["open-write", &secret],
        &["open-from", &vault, "secret"],
        &["open-from", &vault, "./inner/..//secret"],
        &["open-from", &elsewhere, "../vault/secret"],
        &["open-from", &elsewhere, "to-secret"],
        &["open-from", &elsewhere, "to-link"],
        &["open-from", &elsewhere, "to-vault/secret"],
        &["openat", &vault, "secret"],
        &["openat", &elsewhere, "../vault/secret"],
        &["openat", &elsewhere, "to-vault/secret"],
        &["openat2", &vault, "secret"],
        &["openat2-in-root", files.root.to_str().unwrap(), "/vault/secret"],
        &["openat2-in-root", &vault, "/../../secret"],
        &["in-new-mount-namespace", &elsewhere, &secret],
        &["starve-host", &files.at("elsewhere/to-secret")],
        &["open", &files.at("vault/inner/../secret")],
        &["open", &format!("/proc/self/root{secret}")],
        &["open", &format!("/proc/thread-self/root{secret}")],
        &["open-from", &vault, "/proc/self/cwd/secret"],
        &["open-path-then-reopen", &files.at("vault/neighbour/../secret")],
        &["creat", &secret],
        &["truncate", &secret],
        &["unlink", &secret],
        &["rename", &secret, &files.at("elsewhere/moved")],
        &["rename", &files.at("vault/neighbour"), &secret],
        &["link", &secret, &files.at("elsewhere/hard")],
        &["upper-half", &secret],
        &["page-end", &secret],
        &["in-thread", &secret],
        &["in-fork", &secret],
        &["in-clone", "0", &secret],
        &["in-clone3", "0", &secret],
    ];
    for case in cases {
        if case[0] == "open-path-then-reopen" {
            // `vault/neighbour/..` is no directory: the kernel says so itself.
            let outcome = host().protect(&files.root.join("vault/secret")).tracee(case);
            assert!(["EACCES", "ENOTDIR"].contains(&outcome.stdout.trim()), "{outcome:#?}");
            continue;
        }
        eprintln!("{case:?}");
        files.protected(case, "EACCES");
    }
    assert_eq!(fs::read(&secret).unwrap(), b"s", "nothing happened to it");
}

#[test]
fn neighbours_are_spared() {
    let files = Files::new();
    let neighbour = files.at("vault/neighbour");
    let vault = files.at("vault");
    let cases: &[&[&str]] = &[
        &["open", &neighbour],
        &["open-from", &vault, "neighbour"],
        &["open-from", &vault, "inner/../neighbour"],
        &["open", &files.at("vault/to-neighbour")],
        &["openat", &vault, "neighbour"],
        &["openat2", &vault, "neighbour"],
        &["open-path-then-reopen", &neighbour],
        &["in-thread", &neighbour],
        &["creat", &files.at("vault/secret2")],
        &["creat", &files.at("elsewhere/dangling")],
    ];
    for case in cases {
        files.protected(case, "ok");
    }
}

#[test]
fn the_kernel_answers_what_nobody_can_open() {
    let files = Files::new();
    for (case, expected) in [
        (vec!["open", &files.at("vault/missing")], "ENOENT"),
        (vec!["open", &files.at("missing/secret")], "ENOENT"),
        (vec!["open", &files.at("elsewhere/loop")], "ELOOP"),
        (vec!["nofollow", &files.at("elsewhere/to-secret")], "ELOOP"),
        (vec!["not-utf8", &files.at("vault")], "ENOENT"),
        (vec!["unterminated"], "ENAMETOOLONG"),
        (vec!["bad-pointer"], "EFAULT"),
        (vec!["huge-argv"], "ENOENT"),
        (vec!["wild-argv"], "EFAULT"),
    ]
    .iter()
    .map(|(case, expected)| (case.iter().map(ToString::to_string).collect::<Vec<_>>(), *expected))
    {
        let case: Vec<&str> = case.iter().map(String::as_str).collect();
        let outcome = host().protect(&files.root.join("vault/secret")).tracee(&case);
        // A name that cannot be read is denied: it could be any.
        let closed = ["unterminated", "bad-pointer", "wild-argv", "huge-argv"].contains(&case[0]);
        let said = outcome.stdout.trim();
        assert!(said == expected || (closed && said == "EACCES"), "{case:?} should say {expected}: {outcome:#?}");
    }
}

#[test]
fn in_a_chroot_the_name_is_still_the_real_one() {
    let files = Files::new();
    // The program must find itself and its libraries no more after chroot.
    files.protected(&["chroot-open", &files.at("vault"), "/secret"], "EACCES");
    files.protected(&["chroot-open", &files.at("vault"), "/../../secret"], "EACCES");
    files.protected(&["chroot-open", &files.at("vault"), "/neighbour"], "ok");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn by_another_abi() {
    let files = Files::new();
    files.protected(&["int80-open", &files.at("vault/secret")], "EACCES");
    files.protected(&["int80-open", &files.at("vault/neighbour")], "ok");
    // Where the kernel has no x32 it says so; where it has, we deny.
    let outcome = host().protect(&files.root.join("vault/secret")).tracee(&["x32-open", &files.at("vault/secret")]);
    assert!(["EACCES", "ENOSYS"].contains(&outcome.stdout.trim()), "{outcome:#?}");
}

/// What a clone3 reads stays what it was when it was looked at, whoever writes
/// to its caller's memory.
#[test]
fn a_child_that_another_process_would_hide_is_traced() {
    let files = Files::new();
    host().protect(&files.root.join("vault/secret")).tracee(&["written-clone3"]).says("t; written true");
}

#[test]
fn untraced_children_are_traced() {
    let files = Files::new();
    let untraced = libc::CLONE_UNTRACED.to_string();
    files.protected(&["in-clone", &untraced, &files.at("vault/secret")], "EACCES");
    files.protected(&["in-clone3", &untraced, &files.at("vault/secret")], "EACCES");
}

#[test]
fn directories_globs_errno_and_access() {
    let files = Files::new();
    let run = |settings: serde_json::Value, case: &[&str]| {
        host().sensitive_files(&settings).tracee(case).stdout.trim().to_owned()
    };
    let (secret, vault) = (files.at("vault/secret"), files.at("vault"));
    let write_only = json!({"paths": [vault], "access": "write", "action": "deny", "errno": "EROFS"});
    assert_eq!(run(write_only.clone(), &["open", &secret]), "ok");
    assert_eq!(run(write_only.clone(), &["open-write", &secret]), "EROFS");
    assert_eq!(run(write_only, &["creat", &files.at("vault/new")]), "EROFS");
    let glob = json!([{"paths": [format!("{vault}/sec*")], "access": "read", "action": "deny"}]);
    assert_eq!(run(glob.clone(), &["open", &secret]), "EACCES");
    assert_eq!(run(glob, &["open", &files.at("vault/neighbour")]), "ok");
    let alert = json!({"paths": [vault], "access": "any", "action": "alert"});
    let outcome = host().sensitive_files(&alert).tracee(&["open", &secret]);
    outcome.says("ok");
    assert_eq!(outcome.rules(), ["sensitive-read"]);
    assert_eq!(outcome.alerts[0]["action"], "allow");
}

#[test]
fn monitor_mode_only_tells() {
    let files = Files::new();
    let outcome = host()
        .protect(&files.root.join("vault/secret"))
        .option("--mode", "sensitive-files=monitor")
        .tracee(&["open", &files.at("vault/secret")]);
    outcome.says("ok");
    assert_eq!(outcome.alerts[0]["action"], "would-deny", "{outcome:#?}");
}

/// Tries every way to an address, and to a family of sockets.
const WAYS: &str = r#"
import errno, socket, sys
there, name = ("127.0.0.1", int(sys.argv[1])), "\0" + sys.argv[2]
FASTOPEN, AF_ALG = 0x20000000, 38
def tcp():
    return socket.socket()
def unix(kind):
    return socket.socket(socket.AF_UNIX, kind)
ways = {
    "connect": lambda: tcp().connect(there),
    "sendto": lambda: tcp().sendto(b"x", FASTOPEN, there),
    "sendmsg": lambda: tcp().sendmsg([b"x"], [], FASTOPEN, there),
    "datagram": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", there),
    "abstract": lambda: unix(socket.SOCK_STREAM).connect(name),
    "abstract sendto": lambda: unix(socket.SOCK_DGRAM).sendto(b"x", name + "-datagram"),
    "alg": lambda: socket.socket(AF_ALG, socket.SOCK_SEQPACKET),
}
for way, call in ways.items():
    try:
        call()
        print(way, "ok")
    except OSError as error:
        print(way, errno.errorcode[error.errno])
"#;

#[test]
fn by_every_way_to_an_address() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("tracegate-test-{}", std::process::id());
    let of = |name: &str| SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let (_stream, _datagrams) = (
        UnixListener::bind_addr(&of(&name)).unwrap(),
        UnixDatagram::bind_addr(&of(&format!("{name}-datagram"))).unwrap(),
    );
    let (number, plugin) = (port.to_string(), support::test_plugin("no-connect"));
    let command = ["python3", "-c", WAYS, &number, &name];
    let alone = support::Outcome::of(&support::run_limited(std::process::Command::new(command[0]).args(&command[1..])));
    // Not every kernel has AF_ALG.
    let expected = "connect ok\nsendto ok\nsendmsg ok\ndatagram ok\nabstract ok\nabstract sendto ok\nalg ";
    assert!(alone.stdout.starts_with(expected), "{alone:#?}");
    for (name, denied) in [
        (name.clone(), vec!["connect", "sendto", "sendmsg", "datagram", "abstract", "alg"]),
        (format!("{name}-datagram"), vec!["abstract sendto"]),
    ] {
        let settings =
            json!({"port": if denied.len() > 1 { port } else { 1 }, "unix_abstract": name, "families": [38]});
        let outcome = host()
            .plugin(plugin.to_str().unwrap())
            .option("--settings", format!("no-connect={settings}"))
            .run(&command);
        for line in outcome.stdout.lines() {
            let (way, said) = line.rsplit_once(' ').unwrap();
            assert_eq!(said == "EPERM", denied.contains(&way) || way == "alg", "{line}: {outcome:#?}");
        }
        assert_eq!(outcome.stdout.lines().count(), 7, "{outcome:#?}");
    }
}

/// The host waits neither for a file system that does not answer nor for one
/// whose server waits for the host: what a name on it leads to is unknown, and
/// refused where something is denied.
#[test]
fn on_a_file_system_that_does_not_answer() {
    for server in [&["answers"][..], &[]] {
        let files = Files::new();
        let place = files.at("elsewhere");
        let secret = files.root.join("vault/secret");
        let outcome = host().protect(&secret).tracee(&[&["mute", &place], server].concat());
        outcome.says("EACCES; opened true");
        assert!(outcome.stderr.contains("has not answered"), "{}", outcome.stderr);
    }
}

/// What an interpreter is called in a tree that has ended says nothing: it is
/// judged as what it is, unknown.
#[test]
fn as_the_interpreter_of_a_script_in_a_tree_that_has_ended() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();
    let (place, script) = (files.at("vault/inner"), files.at("elsewhere/script"));
    fs::write(&script, "#!./secret\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // Of a mount of its own the name is told from that mount's root.
    let prepare =
        format!("mount --make-rprivate / && mount -t tmpfs t {place} && cp /bin/true {place}/secret && exec \"$@\"");
    let outcome = host()
        .through(&["unshare", "-m", "sh", "-c", &prepare, "sh"])
        .protect(&files.root.join("vault/inner/secret"))
        .tracee(&["interpreter-of-an-ended-tree", &place, &script]);
    outcome.says("9");
}

#[test]
fn by_a_name_that_ends_like_a_lost_one() {
    let files = Files::new();
    let name = files.at("elsewhere/x (deleted)");
    let settings = json!({"paths": [name], "access": "read", "action": "deny"});
    host().sensitive_files(&settings).tracee(&["deleted-name", &files.at("elsewhere")]).says("EACCES");
}

/// The host's own files are kept where nobody can tell what a name leads to.
#[test]
fn to_alerts_by_a_detached_tree() {
    let files = Files::new();
    let alerts = files.at("elsewhere/alerts.jsonl");
    let outcome = host().plugin("builtin:process-monitor").option("--alerts", &alerts).tracee(&[
        "truncate-in-a-detached-tree",
        &files.at("elsewhere"),
        "alerts.jsonl",
    ]);
    outcome.says("EACCES");
    assert!(fs::metadata(&alerts).unwrap().len() > 0);
}
