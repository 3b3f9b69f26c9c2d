//! What cannot be attached to, and what is said of it.

use std::fs;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::application::{Application, DENIED, Files};
use crate::process::{field, number, of_threads, tracer, wait_for};
use crate::support::{HOST, Outcome, run_limited};
use crate::tracer::{Tracer, host};

/// `host attach --pid PID` ends at once, and says just this.
#[track_caller]
fn refuses(pid: impl ToString, skipped: &str, because: &str) {
    let pid = pid.to_string();
    let outcome = host(&["attach", "--pid", &pid]);
    assert_eq!(outcome.status, 1, "{outcome:#?}");
    let expected =
        format!("host: skipped PID {pid}{skipped}: it {because}\nhost: attached to nothing: process {pid} {because}\n");
    assert_eq!(outcome.stderr, expected);
    assert_eq!(outcome.stdout, "");
}

/// A child that is killed when it goes.
struct Own(Child);

impl Own {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A number that no process has: that of one that has ended, so that it is
/// not given out again soon.
fn nobody() -> i32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id() as i32
}

#[test]
fn a_process_that_does_not_exist() {
    refuses(nobody(), "", "does not exist");
    refuses(i32::MAX, "", "does not exist");
}

#[test]
fn a_thread() {
    let mut application = Application::start("fifty");
    let pid = application.pid;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tid = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap()).max_by_key(String::len).unwrap();
    let tid = if tid == pid.to_string() { (pid + 10).to_string() } else { tid };
    let tid = of_threads(pid, "Pid").into_iter().find(|other| *other != pid.to_string()).unwrap_or(tid);
    refuses(&tid, " (attach_app)", &format!("is a thread of process {pid}: give --pid {pid}"));
    application.is_left_alone();
    application.ends_well();
}

#[test]
fn the_host_itself() {
    let outcome =
        Outcome::of(&run_limited(Command::new("sh").args(["-c", "echo $$; exec \"$0\" attach --pid $$", HOST])));
    assert_eq!(outcome.status, 1, "{outcome:#?}");
    let pid = outcome.stdout.trim();
    assert_eq!(
        outcome.stderr,
        format!(
            "host: skipped PID {pid} (host): it is the host itself\nhost: attached to nothing: process {pid} is the host itself\n"
        )
    );
}

/// What it comes from is not beneath it, and can be named.
#[test]
fn the_shell_that_started_it() {
    let files = Files::new();
    let script = format!("\"{HOST}\" attach --pid $$ --alerts {} & wait $!; exit $?", files.at("alerts"));
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let mut shell = Tracer::spawn(&mut command, tempfile::tempdir().unwrap());
    assert_eq!(shell.until("attached to "), "1 process (1 thread)");
    let pid = tracer(shell.pid);
    assert_eq!(number(pid, "PPid") as i32, shell.pid);
    crate::process::send(pid, Signal::SIGTERM);
    assert_eq!(shell.status(), 0, "{:?}", shell.rest());
    assert!(shell.rest()[0].contains("has started this host"), "{:?}", shell.read);
    assert_eq!(shell.rest().len(), 3, "{:?}", shell.read);
}

#[test]
fn a_zombie() {
    let zombie = Own::start(&mut Command::new("true"));
    wait_for("it ends", || field(zombie.pid(), "State").filter(|state| state.starts_with('Z')));
    refuses(zombie.pid(), " (true)", "has ended and waits for its parent");
}

/// In a container there are none to be seen.
#[test]
fn a_kernel_thread() {
    let kthreadd = field(2, "Name").as_deref() == Some("kthreadd");
    let of_kernel = |pid: &i32| kthreadd && number(pid, "PPid") == 2;
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    match pids.into_iter().find(of_kernel) {
        Some(pid) => {
            let name = field(pid, "Name").unwrap();
            refuses(pid, &format!(" ({name})"), "is a kernel thread");
            // Of its descendants, which nobody named, nothing is said.
            refuses(2, " (kthreadd)", "is a kernel thread");
        }
        None => assert!(!kthreadd, "kthreadd is visible, but no thread of it"),
    }
}

#[test]
fn a_process_that_strace_traces() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let pid = application.pid;
    // strace does not hide itself as well.
    assert_eq!(application.ask("stops-are-expected"), "ok");
    let log = files.at("strace.log");
    let pids = application.pids();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", &log]).args(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
    let mut strace = Own::start(&mut strace);
    let by = strace.pid();
    let traced = |pid: &i32| of_threads(*pid, "TracerPid").iter().all(|tracer| *tracer == by.to_string());
    wait_for("strace traces every thread", || pids.iter().all(traced).then_some(()));
    // One without descendants.
    let last = pids[2];
    refuses(last, " (attach_app)", &format!("is already traced by process {by} (strace): end that tracer first"));
    let outcome = host(&["attach", "--pid", &pid.to_string()]);
    assert_eq!((outcome.status, outcome.stderr.matches("is already traced by").count()), (1, 4), "{outcome:#?}");
    assert!(pids.iter().all(traced));
    application.opens(&files.at("public"), "ok");
    crate::process::send(strace.pid(), Signal::SIGTERM);
    strace.0.wait().unwrap();
    application.opens(&files.at("public"), "ok");
    application.is_left_alone();
    application.ends_well();
}

#[test]
fn a_process_that_another_host_traces() {
    let files = Files::new();
    let mut application = Application::start("fifty");
    let mut first = Tracer::attach_to(application.pid, &files.deny());
    let because = format!("is already traced by process {} (host): end that tracer first", first.pid);
    let outcome = host(&["attach", "--pid", &application.pid.to_string()]);
    assert_eq!(outcome.status, 1, "{outcome:#?}");
    let [pid, child, grandchild] = application.pids()[..] else { panic!("three processes") };
    let mut expected: String =
        [pid, child, grandchild].map(|pid| format!("host: skipped PID {pid} (attach_app): it {because}\n")).concat();
    // The one that was asked for.
    expected += &format!("host: attached to nothing: process {pid} {because}\n");
    assert_eq!(outcome.stderr, expected);
    application.opens(&files.at("secret"), DENIED);
    first.leave(Signal::SIGTERM);
    application.opens(&files.at("secret"), "ok");
    application.ends_well();
}

/// Who is nobody may not trace root's processes, and is told what it needs.
#[test]
fn a_process_of_another_user() {
    let files = Files::new();
    let mut application = Application::start("one");
    let pid = application.pid.to_string();
    let attach = |bounding: &str| {
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", bounding];
        let mut command = Command::new("setpriv");
        command.args(user).args([HOST, "attach", "--pid", &pid]).args(files.deny());
        // Compiled plugins are kept in the user's own cache.
        command.env("XDG_CACHE_HOME", "/nonexistent");
        Outcome::of(&run_limited(&mut command))
    };
    for bounding in ["--bounding-set=-all", "--inh-caps=-all"] {
        let outcome = attach(bounding);
        assert_eq!(outcome.status, 1, "{outcome:#?}");
        let because = |pid: i32| {
            format!(
                "cannot be traced: Operation not permitted (os error 1); it needs the same user and Yama's consent \
                 (/proc/sys/kernel/yama/ptrace_scope), or capability SYS_PTRACE in its user namespace. `host doctor \
                 --pid {pid}` says more"
            )
        };
        let pids = application.pids();
        let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("host: ")).collect();
        let mut expected: Vec<_> =
            pids.iter().map(|pid| format!("host: skipped PID {pid} (attach_app): it {}", because(*pid))).collect();
        expected.push(format!("host: attached to nothing: process {pid} {}", because(pids[0])));
        assert_eq!(lines, expected);
        application.is_left_alone();
    }
    application.ends_well();
}

/// The same user's process needs no capability.
#[test]
fn nobody_attaches_to_its_own() {
    let files = Files::new();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all"];
    let mut application = Application::start_with(&nobody, "fifty", "none", "");
    let alerts = tempfile::tempdir().unwrap();
    let alert_file = alerts.path().join("alerts");
    fs::write(&alert_file, "").unwrap();
    for path in [alerts.path(), &alert_file] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut command = Command::new(nobody[0]);
    command.args(&nobody[1..]).args([HOST, "attach", "--pid", &application.pid.to_string()]).args(files.deny());
    command.arg("--alerts").arg(&alert_file).env("XDG_CACHE_HOME", "/nonexistent");
    let mut host = Tracer::spawn(&mut command, alerts);
    assert_eq!(host.until("attached to "), "3 processes (52 threads)");
    application.opens(&files.at("secret"), DENIED);
    application.opens(&files.at("public"), "ok");
    application.goes_on_without(&mut host, &files.at("secret"));
}

#[test]
fn a_process_in_another_user_namespace() {
    let files = Files::new();
    let wrapper =
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "unshare", "--user", "--map-root-user"];
    let mut application = Application::start_with(&wrapper, "fifty", "none", "");
    assert_ne!(
        fs::read_link(format!("/proc/{}/ns/user", application.pid)).unwrap(),
        fs::read_link("/proc/self/ns/user").unwrap()
    );
    let mut host = Tracer::attach_to(application.pid, &files.deny());
    assert_eq!(host.read, ["host: attached to 3 processes (52 threads)"]);
    application.opens(&files.at("secret"), DENIED);
    application.opens(&files.at("public"), "ok");
    application.goes_on_without(&mut host, &files.at("secret"));
}

/// The good ones are attached to, whatever their place in the list.
#[test]
fn good_and_bad_ones() {
    let files = Files::new();
    let mut application = Application::start("one");
    let zombie = Own::start(&mut Command::new("true"));
    wait_for("it ends", || field(zombie.pid(), "State").filter(|state| state.starts_with('Z')));
    let gone = nobody();
    let pids = format!("{gone},{},{}", application.pid, zombie.pid());
    let mut host = Tracer::attach(&[vec!["--pid".to_owned(), pids], files.deny()].concat());
    assert_eq!(
        host.read,
        [
            format!("host: skipped PID {gone}: it does not exist"),
            format!("host: skipped PID {} (true): it has ended and waits for its parent", zombie.pid()),
            "host: attached to 3 processes (3 threads)".to_owned(),
        ]
    );
    application.opens(&files.at("secret"), DENIED);
    application.goes_on_without(&mut host, &files.at("secret"));
}

/// A descendant that somebody else traces is left to them.
#[test]
fn a_descendant_that_is_traced_already() {
    let files = Files::new();
    let mut application = Application::start("one");
    let pids = application.pids();
    let mut first = Tracer::attach_to(pids[2], &files.deny());
    let mut second = Tracer::attach_to(pids[0], &files.deny());
    let (skipped, by) = (pids[2], first.pid);
    assert_eq!(
        second.read,
        [
            format!(
                "host: skipped PID {skipped} (attach_app): it is already traced by process {by} (host): end that tracer first"
            ),
            "host: attached to 2 processes (2 threads)".to_owned()
        ]
    );
    assert_eq!(pids.iter().map(|pid| tracer(*pid)).collect::<Vec<_>>(), [second.pid, second.pid, first.pid]);
    application.opens(&files.at("secret"), DENIED);
    second.leave(Signal::SIGTERM);
    assert_eq!(application.ask(&format!("descendants {}", files.at("secret"))), format!("ok {DENIED}"));
    first.leave(Signal::SIGTERM);
    application.opens(&files.at("secret"), "ok");
    application.ends_well();
}

/// The numbers here belong to nobody, so that a command line which is taken
/// all the same does no harm.
#[test]
fn command_lines_that_make_no_sense() {
    let range =
        |value: &str| format!("error: invalid value '{value}' for '--pid <PID>': {value} is not in 1..=2147483647");
    for (arguments, says) in [
        (&["--pid", "0"][..], range("0")),
        (&["--pid=-5"], range("-5")),
        (&["--pid", "4294967296"], range("4294967296")),
        (&["--pid", "nginx"], "error: invalid value 'nginx' for '--pid <PID>': invalid digit found in string".into()),
        (&["--pid", ""], "error: invalid value '' for '--pid <PID>': cannot parse integer from empty string".into()),
        (
            &["--pid", "2147483647,x"],
            "error: invalid value 'x' for '--pid <PID>': invalid digit found in string".into(),
        ),
        (&[], "error: the following required arguments were not provided:\n  <--pid <PID>|--all>".into()),
        (&["--pid", "2147483647", "--all"], "error: the argument '--pid <PID>' cannot be used with '--all'".into()),
        (&["--name", "x"], "error: the following required arguments were not provided:\n  <--pid <PID>|--all>".into()),
        (&["--pid", "2147483647", "--name", "x"], "error: the argument '--pid <PID>' cannot be used with".into()),
        (&["--pid", "2147483647", "--user", "x"], "error: the argument '--pid <PID>' cannot be used with".into()),
        (&["--pid", "2147483647", "--container", "x"], "error: the argument '--pid <PID>' cannot be used with".into()),
        (&["--pid", "2147483647", "--command", "x"], "error: the argument '--pid <PID>' cannot be used with".into()),
        (
            &["--pid", "2147483647", "--scan-interval", "50"],
            "error: the argument '--pid <PID>' cannot be used with".into(),
        ),
        (
            &["--all", "--scan-interval", "9"],
            "error: invalid value '9' for '--scan-interval <MS>': 9 is not in 10..=3600000".into(),
        ),
        (
            &["--pid", "2147483647", "--on-host-death", "pray"],
            "error: invalid value 'pray' for '--on-host-death <kill|continue>'".into(),
        ),
    ] {
        let outcome = host(&[&["attach"], arguments].concat());
        assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""), "{arguments:?}: {outcome:#?}");
        assert!(outcome.stderr.starts_with(&says), "{arguments:?} should say {says:?}: {outcome:#?}");
    }
    let outcome = host(&["record", "-o", "/dev/null", "--pid", "0"]);
    assert_eq!(outcome.status, 2, "{outcome:#?}");
    assert!(outcome.stderr.starts_with(&range("0")), "{outcome:#?}");
    let outcome = host(&["record", "-o", "/dev/null", "--pid", "2147483647", "--", "true"]);
    assert_eq!(outcome.status, 2, "{outcome:#?}");
}

/// Whoever reads the memory of such a process can be kept waiting.
#[test]
fn a_process_that_serves_its_page_faults() {
    let script = "import ctypes, os, sys; call = ctypes.CDLL(None, use_errno=True).syscall\n\
                  fd = call(282 if os.uname().machine == 'aarch64' else 323, 0)\n\
                  print(fd if fd >= 0 else os.strerror(ctypes.get_errno()), flush=True); sys.stdin.read()";
    let mut python = Command::new("python3");
    let mut python = Own(python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(python.0.stdout.take().unwrap()), &mut line).unwrap();
    assert!(line.trim().parse::<i32>().is_ok(), "userfaultfd: {line}");
    refuses(
        python.pid(),
        " (python3)",
        "has a descriptor of userfaultfd(2): reading its memory could wait for ever; started by `host run` it may have one",
    );
}
