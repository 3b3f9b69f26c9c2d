//! `host doctor` says what is so: on this machine, with less privilege, under
//! filters that forbid, kill or hang, traced itself, and of one process.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, reason = "filters are installed between fork and exec")]

#[path = "support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value as Json, json};
use support::{HOST, Outcome, run_limited, within};

/// A report as JSON, and the exit status.
struct Report {
    json: Json,
    status: i32,
}

impl Report {
    #[track_caller]
    fn of(command: &mut Command) -> Self {
        let outcome = Outcome::of(&run_limited(command));
        let json = serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:#?}"));
        assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
        Self { json, status: outcome.status }
    }

    #[track_caller]
    fn check(&self, id: &str) -> &Json {
        let checks = self.json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no check {id}: {:#}", self.json))
    }

    #[track_caller]
    fn verdict(&self, id: &str) -> &str {
        self.check(id)["verdict"].as_str().unwrap()
    }

    /// Its verdict is this, and its texts contain those words.
    #[track_caller]
    fn says(&self, id: &str, verdict: &str, words: &[&str]) -> &Self {
        let check = self.check(id);
        assert_eq!(check["verdict"], verdict, "{check:#}");
        let text = check.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is missing: {check:#}");
        }
        self
    }

    /// Whether `run` and `attach` can work.
    fn works(&self) -> (&str, &str) {
        let verdict = |command: &str| self.json["summary"][command]["verdict"].as_str().unwrap();
        (verdict("run"), verdict("attach"))
    }
}

fn doctor() -> Command {
    let mut command = Command::new(HOST);
    command.args(["doctor", "--format", "json"]);
    command
}

#[track_caller]
fn of_pid(pid: u32) -> Report {
    Report::of(doctor().arg("--pid").arg(pid.to_string()))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn json_has_the_documented_shape() {
    let answer = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["verdict", "because"],
        "properties": {
            "verdict": {"enum": ["yes", "limited", "no"]},
            "because": {"type": "array", "items": {"type": "string", "minLength": 1}},
        },
    });
    let text = json!({"type": "string", "minLength": 1});
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["version", "kernel", "arch", "summary", "checks"],
        "properties": {
            "version": text,
            "kernel": text,
            "arch": text,
            "summary": {
                "type": "object",
                "additionalProperties": false,
                "required": ["run", "attach"],
                "properties": {"run": answer, "attach": answer},
            },
            "checks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["id", "title", "verdict", "found", "meaning", "advice"],
                    "properties": {
                        "id": {"type": "string", "pattern": "^[a-z0-9-]+$"},
                        "title": text,
                        "verdict": {"enum": ["ok", "degraded", "missing", "info"]},
                        "found": text,
                        "meaning": {"type": "string"},
                        "advice": {"type": "array", "items": text},
                    },
                },
            },
        },
    });
    let report = Report::of(&mut doctor());
    let problems: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&report.json)
        .map(|problem| format!("{}: {problem}", problem.instance_path()))
        .collect();
    assert!(problems.is_empty(), "{problems:#?}\n{:#}", report.json);
    let ids: Vec<&str> =
        report.json["checks"].as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect();
    let expected = [
        "ptrace-child",
        "ptrace-attach",
        "seccomp-stop",
        "capabilities",
        "no-new-privs",
        "seccomp-filter",
        "seccomp-inherited",
        "syscall-info",
        "memory-read",
        "protected-page",
        "pidfd",
        "kcmp",
        "pagemap",
        "openat2",
        "statx",
        "procfs",
        "pid-namespace",
        "namespaces",
        "container",
        "tracers",
        "processes",
        "kernel",
        "other-abis",
        "limits",
        "plugin-cache",
    ];
    assert_eq!(ids, expected);
    // All other tests trace programs: where they pass, run works.
    for id in ["ptrace-child", "seccomp-stop", "memory-read", "procfs"] {
        assert_eq!(report.verdict(id), "ok", "{:#}", report.check(id));
    }
    assert_ne!(report.works().0, "no");
    assert_eq!(report.status, 0);
    let because = &report.json["summary"]["run"]["because"];
    assert_eq!(report.works().0 == "yes", because.as_array().unwrap().is_empty());
}

#[test]
fn text_is_readable_at_100_columns() {
    let outcome = Outcome::of(&run_limited(Command::new(HOST).arg("doctor")));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let text = &outcome.stdout;
    for line in text.lines() {
        let one_word = line.split_whitespace().count() == 1;
        assert!(line.chars().count() <= 100 || one_word, "too wide: {line}");
        assert!(!line.contains('\x1b') && line.trim_end() == line, "{line:?}");
    }
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("Tracegate ") && lines[0].contains(" on Linux "), "{text}");
    assert!(text.contains("\nok        Tracing a child: a child was seized, stopped and let go\n"), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("host run     yes")), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("host attach  ")), "{text}");
}

#[test]
fn wrong_process_ids_are_refused_at_once() {
    for wrong in ["0", "-1", "x", "99999999999"] {
        let outcome = Outcome::of(&run_limited(Command::new(HOST).args(["doctor", &format!("--pid={wrong}")])));
        assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""), "{outcome:#?}");
    }
}

// ---- Less privilege --------------------------------------------------------

fn setpriv(options: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(options);
    command
}

#[test]
fn no_new_privs_is_noticed() {
    let report = Report::of(setpriv(&["--no-new-privs", HOST]).args(["doctor", "--format", "json"]));
    report.says("no-new-privs", "info", &["already set", "allowPrivilegeEscalation: true"]);
    report.says("seccomp-filter", "ok", &["no_new_privs being set already"]);
    assert_eq!(report.status, 0);
}

/// `host doctor` as nobody without capabilities; as ourselves, if we are not
/// root and have none. The executable may lie where nobody cannot reach it:
/// it is executed through a descriptor.
fn unprivileged(options: &[&str], cache: &Path) -> (Command, File) {
    let host = File::open(HOST).unwrap();
    fcntl(&host, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let path = format!("/proc/self/fd/{}", host.as_raw_fd());
    let mut command = setpriv(&["--bounding-set=-sys_ptrace,-sys_admin", "--inh-caps=-all"]);
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    } else {
        command = setpriv(&["--inh-caps=-all"]);
    }
    command.args(options).arg(path).args(["doctor", "--format", "json"]).env("XDG_CACHE_HOME", cache);
    (command, host)
}

#[test]
fn without_capabilities_the_limits_are_told() {
    // Only its owner can enter it.
    let directory = tempfile::tempdir().unwrap();
    let (mut command, _host) = unprivileged(&[], directory.path());
    let report = Report::of(&mut command);
    let user = if is_root() { 65534 } else { nix::unistd::geteuid().as_raw() };
    report
        .says(
            "capabilities",
            "degraded",
            &[&format!("user {user};"), "--cap-add=SYS_PTRACE", "securityContext", "linuxParameters"],
        )
        .says("seccomp-filter", "degraded", &["only with no_new_privs (without: EACCES)"])
        .says("ptrace-child", "ok", &[])
        .says("seccomp-stop", "ok", &[]);
    assert_eq!((report.works().0, report.status), ("limited", 0), "{:#}", report.json["summary"]);
    assert_ne!(report.works().1, "yes", "{:#}", report.json["summary"]);
    let because = report.json["summary"]["run"]["because"].to_string();
    assert!(because.contains("set-user-ID"), "{because}");
    if is_root() {
        report.says("plugin-cache", "degraded", &["Permission denied", "XDG_CACHE_HOME", "compiled at each start"]);
    }

    let (mut command, _host) = unprivileged(&["--no-new-privs"], directory.path());
    Report::of(&mut command).says("seccomp-filter", "ok", &[]).says("no-new-privs", "info", &[]);
}

#[test]
fn a_process_of_another_user_is_out_of_reach() {
    let directory = tempfile::tempdir().unwrap();
    let sleep = is_root().then(Sleeper::start);
    // Who is not root has PID 1 for another user's process.
    let pid = sleep.as_ref().map_or(1, |sleep| sleep.0.id());
    let (mut command, _host) = unprivileged(&[], directory.path());
    let report = Report::of(command.args(["--pid", &pid.to_string()]));
    report.says("target", "missing", &["out of reach (EACCES)", "another user", "no CAP_SYS_PTRACE"]);
    assert_eq!(report.works().1, "no");
    assert_eq!(report.json["summary"]["attach"]["because"], json!([format!("process {pid} is out of reach")]));
}

#[test]
fn a_cache_open_to_others_is_not_used_and_none_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("a/b");
    let report = Report::of(doctor().env("XDG_CACHE_HOME", &cache));
    report.says("plugin-cache", "ok", &[cache.to_str().unwrap(), "can be made"]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    let open = cache.join("tracegate");
    fs::create_dir_all(&open).unwrap();
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let report = Report::of(doctor().env("XDG_CACHE_HOME", &cache));
    report.says("plugin-cache", "degraded", &["mode 0755", "tmpfs"]);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}

// ---- Filters, as containers have them --------------------------------------

const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
/// Its caller waits until somebody answers, which nobody does.
const HANG: u32 = libc::SECCOMP_RET_USER_NOTIF;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// `host doctor` under a filter with these answers to calls.
#[track_caller]
fn under(answers: &[(libc::c_long, u32)]) -> Report {
    let step = |code: u32, jt, k| libc::sock_filter { code: code as u16, jt, jf: 1 - jt, k };
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 1, 0)];
    for &(number, action) in answers {
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, number as u32));
        filter.push(step(libc::BPF_RET | libc::BPF_K, 1, action));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, 1, libc::SECCOMP_RET_ALLOW));
    let listen = answers.iter().any(|(_, action)| *action == HANG);
    let flags = if listen { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    let mut command = doctor();
    // SAFETY: only system calls, on memory made before the fork.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let fd = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            if listen {
                // Without a listener calls would fail with ENOSYS.
                libc::fcntl(fd as i32, libc::F_SETFD, 0);
            }
            Ok(())
        });
    }
    Report::of(&mut command)
}

#[test]
fn a_profile_that_forbids_ptrace_is_told_from_other_causes() {
    for (action, words) in [
        (errno(libc::EPERM), ["ptrace as such: EPERM", "a seccomp profile forbids it"]),
        (errno(libc::ENOSYS), ["ptrace as such: ENOSYS", "seccomp profile or a sandbox"]),
        (KILL, ["ptrace as such: killed by SIGSYS", "a seccomp profile kills callers of ptrace"]),
        (HANG, ["ptrace as such: no answer within 2 s, killed", "does not behave as the kernel's"]),
    ] {
        let report = under(&[(libc::SYS_ptrace, action)]);
        report.says("ptrace-child", "missing", &words).says("ptrace-attach", "missing", &words);
        report.says("seccomp-stop", "missing", &["cannot be seized"]);
        assert_eq!((report.works(), report.status), (("no", "no"), 1), "{:#}", report.json["summary"]);
    }
}

#[test]
fn a_profile_that_forbids_filters_prevents_run() {
    for (action, word) in [(errno(libc::EPERM), "EPERM"), (errno(libc::ENOSYS), "ENOSYS"), (KILL, "SIGSYS")] {
        let report = under(&[(libc::SYS_seccomp, action)]);
        report.says("seccomp-filter", "missing", &[word]).says("ptrace-child", "ok", &[]);
        assert_eq!((report.works().0, report.status), ("no", 1), "{:#}", report.json["summary"]);
        assert_ne!(report.works().1, "no", "attach needs no filter: {:#}", report.json["summary"]);
    }
}

#[test]
fn fallbacks_are_told() {
    let refused = "refused in enforce mode";
    for (call, action, id, verdict, words) in [
        (libc::SYS_openat2, errno(libc::ENOSYS), "openat2", "degraded", ["ENOSYS", "component by component"]),
        (libc::SYS_kcmp, errno(libc::EPERM), "kcmp", "degraded", ["EPERM", "counts as sharing"]),
        (libc::SYS_kcmp, KILL, "kcmp", "degraded", ["SIGSYS", "counts as sharing"]),
        (libc::SYS_kcmp, HANG, "kcmp", "degraded", ["no answer within 2 s", "counts as sharing"]),
        (libc::SYS_pidfd_open, errno(libc::ENOSYS), "pidfd", "degraded", ["pidfd_open: ENOSYS", refused]),
        (libc::SYS_pidfd_getfd, errno(libc::EPERM), "pidfd", "degraded", ["pidfd_getfd: EPERM", refused]),
        (libc::SYS_memfd_create, errno(libc::EPERM), "protected-page", "degraded", ["memfd_create: EPERM", refused]),
        // The C library makes up for a statx that is not there.
        (libc::SYS_statx, errno(libc::ENOSYS), "statx", "degraded", ["no mount id", "device and inode only"]),
        (libc::SYS_statx, errno(libc::EPERM), "statx", "missing", ["EPERM", "names are unknown"]),
        (libc::SYS_process_vm_readv, errno(libc::EPERM), "memory-read", "missing", ["EPERM", "unreadable"]),
    ] {
        let report = under(&[(call, action)]);
        report.says(id, verdict, &words).says("ptrace-child", "ok", &[]).says("seccomp-stop", "ok", &[]);
        report.says("seccomp-inherited", "info", &["1 filter"]);
        assert_ne!((report.works().0, report.status), ("no", 1), "{:#}", report.json["summary"]);
        if verdict == "missing" || ["pidfd", "protected-page"].contains(&id) {
            assert_eq!(report.works().0, "limited", "{:#}", report.json["summary"]);
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    // What hangs is killed, and with it what it started.
    let _ = under(&[(libc::SYS_kcmp, HANG), (libc::SYS_pidfd_getfd, HANG)]);
    let mut child = doctor().stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(stdout.read_to_end(&mut Vec::new()).unwrap()));
    assert!(child.wait().unwrap().success());
    // Children share its standard output: it ends with the last of them.
    assert!(ended.recv_timeout(Duration::from_secs(20)).is_ok_and(|length| length > 0), "a child lives on");
}

// ---- Traced itself ---------------------------------------------------------

#[test]
fn under_strace_the_other_tracer_is_named() {
    let strace = |options: &[&str]| {
        let mut command = Command::new("strace");
        command.args(options).args(["-o", "/dev/null", HOST, "doctor", "--format", "json"]);
        Report::of(&mut command)
    };
    let report = strace(&["-f"]);
    report
        .says(
            "ptrace-child",
            "missing",
            &["PTRACE_SEIZE: EPERM", "strace[", "one tracer only", "outside the other tracer"],
        )
        .says("ptrace-attach", "missing", &["EPERM"])
        .says("tracers", "degraded", &["host itself is traced by strace["]);
    assert_eq!((report.works(), report.status), (("no", "no"), 1));

    // It has us alone: what we start can be ours.
    let report = strace(&[]);
    report.says("ptrace-child", "ok", &[]).says("tracers", "degraded", &["host itself is traced by strace["]);
    assert_eq!(report.status, 0);
}

// ---- One process -----------------------------------------------------------

/// A program that does nothing; ended with this value.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("300").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn field(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim_start_matches(':').trim().to_owned()
}

#[track_caller]
fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(20), what, condition)
}

fn all_pids() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect()
}

#[test]
fn a_process_that_is_not_there() {
    // Ids are lower than this.
    let pid_max: u32 = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    let report = of_pid(pid_max);
    report.says(
        "target",
        "missing",
        &[&format!("no process {pid_max} is visible"), "pidMode", "shareProcessNamespace"],
    );
    assert_eq!((report.works().1, report.status), ("no", 1), "the status is that of attaching to it");
}

#[test]
fn a_thread_is_no_process() {
    let (thread, process) = (nix::unistd::gettid().as_raw() as u32, std::process::id());
    assert_ne!(thread, process, "tests run in threads of their own");
    let report = of_pid(thread);
    report.says("target", "missing", &["is a thread of"]);
    assert_eq!(report.check("target")["advice"], json!([format!("--pid {process}")]));
    assert_eq!(report.works().1, "no");
}

#[test]
fn a_kernel_thread_cannot_be_traced() {
    // In a container's PID namespace there are none.
    let Some(thread) =
        all_pids().into_iter().find(|&pid| field(pid, "Name") == "kthreadd" && field(pid, "PPid") == "0")
    else {
        return;
    };
    let report = of_pid(thread);
    report.says("target", "missing", &["kthreadd[", "is a kernel thread"]);
    assert_eq!(report.works().1, "no");
}

#[test]
fn a_process_that_has_ended() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    wait_for("the end of a process", || field(pid, "State").starts_with('Z').then_some(()));
    let report = of_pid(pid);
    child.wait().unwrap();
    report.says("target", "missing", &["has ended"]);
    assert_eq!(report.works().1, "no");
}

#[test]
fn a_process_that_strace_has() {
    let mut strace = Command::new("strace").args(["-o", "/dev/null", "sleep", "300"]).spawn().unwrap();
    let tracer = strace.id().to_string();
    let traced = wait_for("strace's program", || {
        all_pids().into_iter().find(|&pid| field(pid, "TracerPid") == tracer && field(pid, "Name") == "sleep")
    });
    let report = of_pid(traced);
    // strace ends with its program.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(traced as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    strace.wait().unwrap();
    let by = format!("by strace[{tracer}]");
    report.says("target", "missing", &[&format!("sleep[{traced}] is already traced"), &by, "one tracer only"]);
    report.says("tracers", "info", &[&format!("sleep[{traced}] is traced {by}")]);
    assert_eq!(report.works().1, "no");
}

#[test]
fn a_process_that_can_be_attached_to_is_described_and_left_alone() {
    let sleep = Sleeper::start();
    let pid = sleep.0.id();
    wait_for("the program", || (field(pid, "Name") == "sleep").then_some(()));
    let report = of_pid(pid);
    // Yama lets none but descendants be traced, unless we are privileged.
    let allowed = report.verdict("ptrace-attach") == "ok";
    let expected = if allowed { "ok" } else { "missing" };
    let user = format!("user {}", nix::unistd::geteuid());
    report.says("target", expected, &[&format!("sleep[{pid}]"), "1 thread", "seccomp filter", &user, "/sleep"]);
    assert_eq!(report.works().1 == "no", !allowed, "{:#}", report.json["summary"]);
    assert_eq!(field(pid, "TracerPid"), "0");
    assert!(field(pid, "State").starts_with('S'));
}
