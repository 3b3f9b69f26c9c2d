//! What is hard for a tracer goes on as if there were none: each program in
//! `tests/tracees/hard` runs alone first, and what it reports then is what it
//! must report under the host, whichever plugins run and however many calls
//! stop.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use support::{HOST, tracee};

/// No program runs longer, alone or traced.
const LIMIT: Duration = Duration::from_secs(30);

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Without a tracer.
    Alone,
    /// With the embedded default plugins, which stop calls that name files.
    Default,
    /// Only processes are followed; no call stops.
    ProcessMonitor,
    /// Every call stops, twice.
    EveryCall,
    /// Alone, until the host attaches.
    Attached,
}

/// All modes but the first, which is what they are held against.
const TRACED: [Mode; 4] = [Mode::Default, Mode::ProcessMonitor, Mode::EveryCall, Mode::Attached];

fn hard() -> PathBuf {
    let path = tracee().with_file_name("hard");
    assert!(path.exists(), "{} is missing: run `cargo build --release --package host --examples`", path.display());
    path
}

/// A running program, ended with all of its process group when dropped.
struct Running {
    child: Child,
    /// The host that attached to it.
    host: Option<Child>,
    lines: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
    begun: Instant,
    directory: tempfile::TempDir,
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: String,
    report: Vec<String>,
}

impl Running {
    /// Starts a command; its standard input stays open until it is begun.
    fn start(mode: Mode, program: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = match mode {
            Mode::Alone | Mode::Attached => {
                let mut command = Command::new(program[0]);
                command.args(&program[1..]);
                command
            }
            Mode::Default | Mode::ProcessMonitor | Mode::EveryCall => {
                let mut command = Command::new(HOST);
                match mode {
                    Mode::EveryCall => {
                        command.args(["record", "--syscall", "all", "-o"]).arg(directory.path().join("trace.jsonl"));
                    }
                    _ => {
                        command.arg("run").arg("--alerts").arg(directory.path().join("alerts"));
                    }
                }
                if mode == Mode::ProcessMonitor {
                    command.args(["--plugin", "builtin:process-monitor"]);
                }
                command.arg("--").args(program);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        let mut running = Self { child, host: None, lines, stderr, begun: Instant::now(), directory };
        if mode == Mode::Attached {
            running.attach();
        }
        running
    }

    /// Attaches the host, and returns once it has every thread.
    fn attach(&mut self) {
        let mut command = Command::new(HOST);
        command.args(["attach", "--pid", &self.child.id().to_string(), "--alerts"]);
        command.arg(self.directory.path().join("alerts"));
        let mut host = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = lines_of(host.stderr.take().unwrap());
        self.host = Some(host);
        let mut before = Vec::new();
        loop {
            match said.recv_timeout(LIMIT) {
                Ok(line) if line.starts_with("host: attached to") => return,
                Ok(line) => before.push(line),
                Err(error) => panic!("the host did not attach ({error}), and said {before:?}"),
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Lets a gated program begin.
    fn begin(&mut self) {
        // It may have ended already, which the report will show.
        let _ = self.child.stdin.take().unwrap().write_all(b"g");
    }

    /// The next line of its report.
    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("no line: {error}; {}", self.surroundings()))
    }

    /// Its end, or what there was when the time was over.
    fn end(mut self) -> Result<Seen, String> {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.begun.elapsed() > LIMIT {
                return Err(format!("did not end within {LIMIT:?}\n{}", self.surroundings()));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut report = Vec::new();
        loop {
            let left = (LIMIT + Duration::from_secs(2)).saturating_sub(self.begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => report.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!("ended ({status}), but somebody holds its output\n{}", self.surroundings()));
                }
            }
        }
        // What goes wrong in a tracee is said on standard error.
        for line in &self.stderr {
            report.push(format!("stderr: {line}"));
        }
        if let Some(mut host) = self.host.take() {
            let ended = wait_limited(&mut host);
            if ended.as_ref().is_none_or(|status| !status.success()) {
                return Err(format!("the attached host did not end well: {ended:?}"));
            }
        }
        Ok(Seen { status: told(status), report })
    }

    /// What its processes are doing: for whoever looks for the cause.
    fn surroundings(&self) -> String {
        let mut text = String::new();
        let group = self.child.id();
        let numbers = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        for pid in numbers {
            let read = |tid: &Path, name: &str| std::fs::read_to_string(tid.join(name)).unwrap_or_default();
            let process = PathBuf::from(format!("/proc/{pid}"));
            let stat = read(&process, "stat");
            let after = stat.rfind(") ").map_or("", |at| &stat[at + 2..]);
            if after.split(' ').nth(2) != Some(&group.to_string()) {
                continue;
            }
            let threads = std::fs::read_dir(process.join("task"));
            for thread in threads.into_iter().flatten().flatten() {
                let thread = thread.path();
                let status = read(&thread, "status");
                let kept =
                    |line: &&str| ["Name", "State", "PPid", "TracerPid"].contains(&line.split(':').next().unwrap());
                let status: Vec<_> = status.lines().filter(kept).map(|line| line.replace('\t', " ")).collect();
                let (call, place) = (read(&thread, "syscall"), read(&thread, "wchan"));
                writeln!(text, "  {}: {} | in {} | at {place}", thread.display(), status.join(", "), call.trim())
                    .unwrap();
            }
        }
        let said: Vec<_> = self.lines.try_iter().chain(self.stderr.try_iter()).collect();
        format!("its processes:\n{text}it said:\n  {}", said.join("\n  "))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(host) = &mut self.host {
            let _ = host.kill();
            let _ = host.wait();
        }
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn wait_limited(child: &mut Child) -> Option<ExitStatus> {
    let since = Instant::now();
    while since.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// 128+N for a signal, as the host and shells tell it.
fn told(status: ExitStatus) -> String {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)).to_string()
}

fn lines_of(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Runs any command, without a gate.
fn run_command(mode: Mode, command: &[&str]) -> Result<Seen, String> {
    let mut running = Running::start(mode, command);
    running.begin();
    running.end()
}

/// A command does the same in every mode, as far as `keep` keeps its lines.
#[track_caller]
fn command_alike(command: &[&str], keep: impl Fn(&str) -> bool) -> Seen {
    let seen = |mode| {
        let mut seen = run_command(mode, command).unwrap_or_else(|error| panic!("{mode:?}: {command:?} {error}"));
        seen.report.retain(|line| keep(line));
        seen
    };
    let alone = seen(Mode::Alone);
    for mode in TRACED.into_iter().filter(|mode| *mode != Mode::Attached) {
        let traced = seen(mode);
        assert!(traced == alone, "{mode:?}: {command:?} is not as alone\n{}", difference(&alone, &traced));
    }
    alone
}

/// Runs a scenario, and talks with it while it runs. The word `DIRECTORY` is
/// replaced by an empty one of its own.
fn run_with(mode: Mode, scenario: &[&str], talk: impl FnOnce(&Running, &mut Vec<String>)) -> Result<Seen, String> {
    let program = hard();
    let directory = tempfile::tempdir().unwrap();
    let own = |word: &&str| {
        if *word == "DIRECTORY" { directory.path().to_str().unwrap().to_owned() } else { (*word).to_owned() }
    };
    let words = [&[program.to_str().unwrap(), "gated"], scenario].concat();
    let words: Vec<String> = words.iter().map(own).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut running = Running::start(mode, &words);
    running.begin();
    let mut first = Vec::new();
    talk(&running, &mut first);
    let mut seen = running.end()?;
    first.append(&mut seen.report);
    Ok(Seen { report: first, ..seen })
}

fn run(mode: Mode, scenario: &[&str]) -> Result<Seen, String> {
    run_with(mode, scenario, |_, _| ())
}

/// The lines in which two reports differ, `-` alone, `+` traced.
fn difference(alone: &Seen, traced: &Seen) -> String {
    let mut text = String::new();
    if alone.status != traced.status {
        writeln!(text, "  - status {}\n  + status {}", alone.status, traced.status).unwrap();
    }
    let (left, right) = (alone.report.join("\n"), traced.report.join("\n"));
    let changes = similar::TextDiff::from_lines(&left, &right);
    let changes = changes.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal);
    for change in changes.take(60) {
        writeln!(text, "  {} {}", change.tag(), change.to_string_lossy().trim_end()).unwrap();
    }
    text
}

/// The scenario does alone what `expected` says (status, and text that must
/// be in the report), and the same in every other mode.
#[track_caller]
fn alike(scenario: &[&str], status: i32, expected: &[&str]) {
    let alone = run(Mode::Alone, scenario).unwrap_or_else(|error| panic!("alone it {error}"));
    assert_eq!(alone.status, status.to_string(), "alone: {alone:#?}");
    let report = alone.report.join("\n");
    for text in expected {
        let last = alone.report[alone.report.len().saturating_sub(60)..].join("\n");
        assert!(report.contains(text), "alone it should say {text:?}, but ends with:\n{last}");
    }
    let mut wrong = String::new();
    for mode in TRACED {
        match run(mode, scenario) {
            Ok(traced) if traced == alone => {}
            Ok(traced) => writeln!(wrong, "{mode:?}: another report\n{}", difference(&alone, &traced)).unwrap(),
            Err(error) => writeln!(wrong, "{mode:?}: {error}").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{scenario:?} is not as alone\n{wrong}");
}

// ---- execve ----------------------------------------------------------------

#[test]
fn exec_from_another_thread_than_the_leader() {
    alike(&["exec-from-thread", "50"], 0, &["all rounds kept the process id"]);
}

#[test]
fn two_threads_execute_at_once() {
    alike(&["exec-two-at-once"], 0, &["leader too false: 40 ran", "leader too true: 40 ran"]);
}

#[test]
fn exec_while_threads_are_made() {
    alike(&["exec-while-cloning"], 0, &["all programs ran"]);
}

#[test]
fn exec_that_fails_leaves_the_caller_unharmed() {
    let expected = [
        "\"missing\": ENOENT",
        "\"plain\": EACCES",
        "\"rubbish\": ENOEXEC",
        "\"busy\": ETXTBSY",
        "\"loop\": ELOOP",
        "environment: E2BIG",
        "1.2 MB of arguments: exited 12",
    ];
    alike(&["exec-failures", "DIRECTORY"], 0, &expected);
}

/// A plugin that denies files denies a name that nobody can read, too
/// (SECURITY.md): the caller may see its errno in place of the kernel's.
#[test]
fn exec_of_what_cannot_be_read() {
    let alone = run(Mode::Alone, &["exec-unreadable"]).unwrap();
    let kernels = ["a long name: Err(ENAMETOOLONG)", "a wild name: Err(EFAULT)", "wild arguments: Err(EFAULT)"];
    assert_eq!(alone.report, kernels);
    for mode in TRACED {
        let traced = run(mode, &["exec-unreadable"]).unwrap();
        let judged = matches!(mode, Mode::Default | Mode::Attached);
        for (said, kernels) in traced.report.iter().zip(kernels) {
            assert!(said == kernels || (judged && said.ends_with("Err(EACCES)")), "{mode:?}: {said}, not {kernels}");
        }
    }
}

#[test]
fn the_leader_ends_before_the_others() {
    alike(&["leader-first"], 0, &["exec: exited 46", "exit: exited 44", "exit-all: exited 45", "signal: killed 15"]);
    // As the program itself, whose status is the host's.
    alike(&["after-the-leader", "exec"], 46, &["same id true, leader true, 1 thread"]);
    alike(&["after-the-leader", "exit"], 44, &[]);
    alike(&["after-the-leader", "exit-all"], 45, &[]);
    alike(&["after-the-leader", "signal"], 128 + libc::SIGTERM, &[]);
}

// ---- Children --------------------------------------------------------------

#[test]
fn vfork_in_all_its_ways() {
    alike(&["vfork"], 0, &["clone: exits: exited 7", "nested: exited 7", "at once: 96 of 96 right"]);
}

#[test]
fn clone_with_every_combination_of_flags() {
    alike(&["clones"], 0, &["1216 children"]);
}

/// `CLONE_UNTRACED` hides nothing, and breaks nothing.
#[cfg(target_arch = "x86_64")]
#[test]
fn children_that_ask_not_to_be_traced() {
    alike(&["untraced"], 0, &["executes: exited 0", "by the 32-bit gate: exited 12"]);
    let outcome = support::host().plugin("builtin:process-monitor").run(&[hard().to_str().unwrap(), "untraced"]);
    let ran = |alert: &serde_json::Value| alert["rule"] == "exec" && alert["exe"].as_str().unwrap().ends_with("/true");
    assert!(outcome.alerts.iter().any(ran), "the program of an untraced child was not told: {outcome:#?}");
}

#[test]
fn clone_tells_ids_and_pidfds() {
    alike(&["clone-ids"], 0, &["parent's copy true, child's true", "poll Ok(1) 0x1"]);
}

// ---- Job control -----------------------------------------------------------

#[test]
fn a_process_with_eight_threads_stops_and_goes_on() {
    alike(
        &["stop-eight-threads"],
        0,
        &["stopped 0x13; still true; again nothing; continued", "while stopped: killed 9"],
    );
}

#[test]
fn stops_in_calls_shorter_than_their_wait() {
    alike(&["stop-in-calls", "short", "DIRECTORY"], 0, &["nanosleep: timed, Ok(0), in time"]);
}

#[test]
fn stops_in_calls_longer_than_their_wait() {
    alike(&["stop-in-calls", "long", "DIRECTORY"], 0, &["nanosleep: timed, Ok(0), in time"]);
}

#[test]
fn stop_signals_in_orphaned_groups() {
    alike(&["stop-orphans"], 0, &["orphaned group, 20: exited 5", "hung up and woken"]);
}

#[test]
fn a_stop_signal_to_one_thread() {
    alike(&["stop-by-tgkill"], 0, &["leader false, 20: stopped 0x14, still true, continued"]);
}

#[test]
fn handlers_of_stop_signals() {
    alike(&["stop-handlers"], 0, &["caught nothing, stopped 0x13, continued"]);
}

#[test]
fn a_storm_of_stops() {
    alike(&["stop-storm"], 0, &["killed 9", "30 executed in spite of stops"]);
}

#[test]
fn a_process_without_its_leader_stops() {
    alike(&["stop-without-leader"], 0, &["still true", "exited 31"]);
}

// ---- Signals ---------------------------------------------------------------

#[test]
fn real_time_signals_keep_order_count_and_value() {
    alike(&["real-time-signals"], 0, &["handled one by one: 0 early, then 64: 0:1:-1:true 0:4:-1:true"]);
}

#[test]
fn no_signal_of_a_burst_is_lost() {
    alike(&["signal-burst"], 0, &["2000 came, sum 1999000", "[100, 100, 100, 100]"]);
}

#[test]
fn parents_learn_of_their_children() {
    let expected = ["exit: its id true, its user true, code 1, status 3; exited 3", "wait ECHILD"];
    alike(&["sigchld"], 0, &expected);
}

#[test]
fn calls_that_restart_after_a_handler() {
    alike(
        &["interrupted", "restart", "DIRECTORY"],
        0,
        &["restart, read: went on, Ok(1)", "ppoll: disturbed, Err(EINTR)"],
    );
}

#[test]
fn calls_that_a_handler_interrupts() {
    alike(&["interrupted", "interrupt", "DIRECTORY"], 0, &["interrupt, read: disturbed, Err(EINTR)"]);
}

#[test]
fn blocked_signals_interrupt_nothing() {
    alike(&["interrupted", "block", "DIRECTORY"], 0, &["block, epoll_pwait: went on, Ok(1)"]);
}

#[test]
fn ignored_signals_interrupt_nothing() {
    alike(&["interrupted", "ignore", "DIRECTORY"], 0, &["ignore, epoll_pwait: went on, Ok(1)"]);
}

#[test]
fn signals_ignored_by_default_interrupt_nothing() {
    alike(&["interrupted", "default", "DIRECTORY"], 0, &["default, epoll_pwait: went on, Ok(1)"]);
}

#[test]
fn a_call_restarted_two_hundred_times() {
    alike(&["restarted-often"], 0, &["read: Ok(1) 120", "200 handled"]);
}

#[test]
fn masks_for_the_time_of_a_call() {
    alike(&["masks"], 0, &["60 of 60"]);
}

#[test]
fn pending_signals() {
    alike(&["pending"], 0, &["pending true, handled 0", "pending false, handled 1", "unblocked: killed 15"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_handler_that_jumps_out_of_a_call() {
    alike(&["jump-out"], 0, &["jumped 60 times"]);
}

#[test]
fn a_stack_of_the_handlers_own() {
    alike(&["other-stack"], 0, &["on the other stack 20 times", "overflow: exited 55"]);
}

// ---- Traps and ptrace ------------------------------------------------------

#[test]
fn faults_are_handled_and_mended() {
    let expected = ["nothing there: signal 11, code 1, 20 of 20 mended", "right place true", "killed 5", "killed 31"];
    alike(&["faults"], 0, &expected);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn instructions_that_trap() {
    alike(&["instructions"], 0, &["int3: signal 5, code 128, 50 times", "int3 by default: killed 5"]);
}

#[test]
fn nothing_looks_like_a_stop_of_the_tracers() {
    alike(&["look-alikes"], 0, &["event 4, 0x85: ok, signal 5, code 1157, 12 times", "killed by it: killed 5"]);
}

/// A task has one tracer at most: here the two runs must differ.
#[test]
fn ptrace_by_the_program_itself() {
    let alone = run(Mode::Alone, &["nested-ptrace"]).unwrap();
    let others = ["process_vm_readv Ok(8) 42, maps true, pidfd_getfd ok; exited 0", "a request to a stranger: ESRCH"];
    assert_eq!(
        alone.report[..3],
        ["TRACEME: exited 0", "request 0x10: ok; its child exited 12", "request 0x4206: ok; its child exited 12"]
    );
    assert_eq!(alone.report[3..], others);
    for mode in TRACED {
        let traced = run(mode, &["nested-ptrace"]).unwrap();
        let refused = [
            format!("TRACEME: exited {}", libc::EPERM),
            "request 0x10: EPERM; its child exited 12".into(),
            "request 0x4206: EPERM; its child exited 12".into(),
        ];
        assert_eq!(traced.report[..3], refused, "{mode:?}");
        assert_eq!(traced.report[3..], others, "{mode:?}");
        assert_eq!(traced.status, "0");
    }
}

#[test]
fn strace_inside_says_that_it_may_not() {
    let alone = run_command(Mode::Alone, &["strace", "-f", "-o", "/dev/null", "true"]).unwrap();
    assert_eq!(alone.status, "0", "strace is missing, or may not trace: {alone:#?}");
    for mode in TRACED.into_iter().filter(|mode| *mode != Mode::Attached) {
        let traced = run_command(mode, &["strace", "-f", "-o", "/dev/null", "true"]).unwrap();
        assert_eq!(traced.status, "1", "{traced:#?}");
        let said = traced.report.join("\n");
        assert!(said.contains("Operation not permitted"), "{mode:?}: {said}");
    }
}

// ---- Storms ----------------------------------------------------------------

#[test]
fn a_storm_of_threads() {
    alike(&["thread-storm"], 0, &["1000 of 1000 opened", "1500 of 1500 opened", "alone again"]);
}

#[test]
fn a_storm_of_forks() {
    alike(&["fork-storm"], 0, &["parent: exited 0", "no child is left: ECHILD"]);
}

#[test]
fn a_tree_of_forks() {
    alike(&["fork-tree", "8"], 0, &["511 processes, exited 1"]);
}

/// wait(2) tells of the newest tracee first.
#[test]
fn old_tasks_get_their_turn_among_busy_new_ones() {
    alike(&["busy-children"], 0, &["among processes: exited 50", "among threads: exited 50"]);
}

#[test]
fn a_killer_among_them() {
    alike(&["killer"], 0, &["500 of 500 ended well", "left: ECHILD \"\""]);
}

// ---- Ends ------------------------------------------------------------------

#[test]
fn fifty_threads_end_at_once() {
    let expected = ["leader: exited 33", "thread: exited 34", "signal: killed 10", "kill: killed 9", "abort: killed 6"];
    alike(&["all-at-once"], 0, &expected);
}

#[test]
fn daemons_leave_their_parents() {
    alike(&["daemon"], 0, &["child exited 7, then ECHILD", "adopted by its grandparent false"]);
}

#[test]
fn subreapers_get_orphans() {
    alike(&["subreaper"], 0, &["child exited 0, orphan exited 29"]);
}

#[test]
fn parents_death_signal() {
    alike(&["death-signal"], 0, &["process: got Ok(12), code 0; parent killed 9", "thread: got Ok(12)"]);
}

#[test]
fn robust_mutexes_of_the_dead() {
    alike(&["robust"], 0, &["killed: owner dead true", "executes: owner dead true, 0 0, exited 0"]);
}

#[test]
fn signals_of_a_supervisor_reach_the_program() {
    let signals = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH, Signal::SIGTERM];
    for mode in [Mode::Alone].into_iter().chain(TRACED) {
        let seen = run_with(mode, &["tell-signals"], |running, report| {
            assert_eq!(running.line(), "ready", "{mode:?}");
            for signal in signals {
                kill(running.pid(), signal).unwrap();
                report.push(running.line());
            }
        });
        let seen = seen.unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        let expected: Vec<_> = signals.iter().map(|signal| format!("caught {}", *signal as i32)).collect();
        assert_eq!((seen.report, seen.status.as_str()), (expected, "3"), "{mode:?}");
    }
}

// ---- The host as init ------------------------------------------------------

/// `host run` as process 1 of a PID namespace, as an entry point of a
/// container is. Needs root.
fn as_init(scenario: &[&str]) -> Running {
    let (program, alerts) = (hard(), "/dev/null");
    let unshare = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", HOST, "run", "--alerts", alerts, "--"];
    let gated = [program.to_str().unwrap(), "gated"];
    let mut running = Running::start(Mode::Alone, &[&unshare[..], &gated, scenario].concat());
    running.begin();
    running
}

/// The only child of a process.
fn child_of(pid: Pid) -> Pid {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap_or_else(|_| panic!("{pid} should have one child: {children:?}")))
}

#[test]
fn init_reaps_orphans() {
    let seen = as_init(&["many-orphans"]).end().unwrap();
    assert_eq!(
        (seen.status.as_str(), seen.report),
        ("0", vec!["200 orphans".to_owned(), "no zombie is left".to_owned()])
    );
}

#[test]
fn init_passes_signals_on_and_ends_as_the_program_does() {
    let running = as_init(&["tell-signals"]);
    assert_eq!(running.line(), "ready");
    let host = child_of(running.pid());
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTERM] {
        kill(host, signal).unwrap();
        assert_eq!(running.line(), format!("caught {}", signal as i32));
    }
    let seen = running.end().unwrap();
    assert_eq!((seen.status.as_str(), seen.report.len()), ("3", 0), "{seen:#?}");
    // A deadly signal, told as by a shell.
    let seen = as_init(&["after-the-leader", "signal"]).end().unwrap();
    assert_eq!(seen.status, (128 + libc::SIGTERM).to_string());
}

/// Init cannot be left by its namespace: with the program it ends, and with
/// it all that the program left.
#[test]
fn init_ends_with_the_program_although_daemons_are_left() {
    let seen = as_init(&["leave-a-daemon"]).end().unwrap();
    assert_eq!((seen.status.as_str(), seen.report), ("6", vec!["leaving".to_owned()]));
}

// ---- What a program is born with -------------------------------------------

#[test]
fn a_program_is_born_with_what_it_would_have_alone() {
    let files = ["status", "limits", "cgroup", "oom_score_adj", "timerslack_ns", "coredump_filter", "personality"];
    let files: Vec<_> = files.iter().map(|name| format!("/proc/self/{name}")).collect();
    let command: Vec<_> = std::iter::once("cat").chain(files.iter().map(String::as_str)).collect();
    // What is of the moment, and what a filter and a tracer are seen by.
    let moment = [
        "Pid",
        "Tgid",
        "Ngid",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
        "PPid",
        "TracerPid",
        "Seccomp",
        "Vm",
        "Rss",
        "Hugetlb",
    ];
    let counts = [
        "Seccomp_filters",
        "voluntary_ctxt",
        "nonvoluntary_ctxt",
        "SigQ",
        "FDSize",
        "x86_Thread",
        "untag_mask",
        "SigIgn",
    ];
    let keep = |line: &str| !moment.iter().chain(&counts).any(|name| line.starts_with(name));
    let alone = command_alike(&command, keep);
    assert!(alone.report.iter().any(|line| line.starts_with("NoNewPrivs:")), "{alone:#?}");
    command_alike(&["ls", "/proc/self/fd"], |_| true);
    command_alike(&["env"], |_| true);
    command_alike(&["nice"], |_| true);
}

/// What is ignored and blocked comes through the host, whose own life depends
/// on some of it (SIGCHLD).
#[test]
fn ignored_and_blocked_signals_are_inherited() {
    let names = ["INT", "QUIT", "TSTP", "TTIN", "TTOU", "CHLD", "HUP", "PIPE", "TERM"];
    let (ignore, block) = (format!("--ignore-signal={}", names.join(",")), "--block-signal=USR1,CHLD,WINCH");
    let env = ["env", &ignore, block];
    let program = ["cat", "/proc/self/status"];
    let host = [HOST, "run", "--alerts", "/dev/null", "--"];
    // glibc's posix_spawn leaves its signals 32 and 33 ignored in its child.
    let set = |line: &String| u64::from_str_radix(line[7..].trim(), 16).unwrap() & !(3 << 31);
    let told = |line: &&String| line.starts_with("SigBlk") || line.starts_with("SigIgn");
    let sets = |command: &[&str]| -> Vec<u64> {
        run_command(Mode::Alone, command).unwrap().report.iter().filter(told).map(set).collect()
    };
    let bits = |signals: &[Signal]| -> u64 { signals.iter().map(|signal| 1 << (*signal as i32 - 1)).sum() };
    let alone = sets(&[&env[..], &program].concat());
    let ignored: Vec<Signal> = names.iter().map(|name| format!("SIG{name}").parse().unwrap()).collect();
    assert_eq!(alone, [bits(&[Signal::SIGUSR1, Signal::SIGCHLD, Signal::SIGWINCH]), bits(&ignored)]);
    assert_eq!(sets(&[&env[..], &host, &program].concat()), alone);
}

/// With `CAP_SYS_PTRACE` in the host, which root has, set-user-ID programs get
/// their owner's rights (man 2 execve, `LSM_UNSAFE_PTRACE`).
#[test]
fn set_user_id_programs_keep_their_rights() {
    let directory = tempfile::tempdir().unwrap();
    let id = directory.path().join("id");
    std::fs::copy("/usr/bin/id", &id).unwrap();
    std::os::unix::fs::chown(&id, Some(65534), None).unwrap();
    std::fs::set_permissions(&id, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let seen = command_alike(&[id.to_str().unwrap()], |_| true);
    assert!(seen.report[0].contains("euid=65534"), "needs root and a file system without nosuid: {seen:#?}");
}

#[test]
fn root_of_a_user_namespace() {
    let seen = command_alike(&["unshare", "-Ur", "sh", "-c", "id -u; cat /proc/self/uid_map </dev/null"], |_| true);
    assert_eq!((seen.report[0].as_str(), seen.status.as_str()), ("0", "0"), "{seen:#?}");
}

// ---- Limits and rules of the program's own ---------------------------------

#[test]
fn everything_closed() {
    alike(&["everything-closed"], 0, &["Ok(0) Ok(1), exited 60"]);
}

#[test]
fn no_descriptor_left() {
    alike(&["descriptors"], 0, &["EMFILE after Some(63)", "thread EMFILE, child exited 24", "exited 8"]);
}

#[test]
fn no_process_left() {
    alike(&["processes"], 0, &["EAGAIN after 5", "afterwards exited 0; exited 0"]);
}

#[test]
fn filters_of_the_programs_own() {
    let expected = ["openat ERRNO: EXFULL", "getppid KILL_PROCESS: killed 31", "over execve: exited 2"];
    alike(&["own-filters"], 0, &expected);
}

#[test]
fn a_filter_that_asks_for_a_tracer() {
    alike(&["own-trace-filter"], 0, &["getppid: ENOSYS", "openat: ENOSYS"]);
}

#[test]
fn a_supervisor_of_the_programs_own() {
    alike(&["own-notifications"], 0, &["received ok, sent ok, call true", "answered 4711"]);
}

/// The kernel does not let a task with a filter enter strict mode (man 2
/// seccomp: `EINVAL`), so that a program under `host run` sees it refused.
#[test]
fn strict_mode() {
    let alone = run(Mode::Alone, &["strict"]).unwrap();
    assert_eq!(alone.report, ["strict: killed 9"]);
    for mode in TRACED {
        let traced = run(mode, &["strict"]).unwrap();
        let filtered = mode != Mode::Attached;
        assert_eq!(traced.report, [if filtered { "refused: exited 5" } else { "strict: killed 9" }], "{mode:?}");
    }
}

#[test]
fn processes_that_nobody_may_look_into() {
    let expected =
        ["other user false: 50 opened, ok, exited 6, exited 4, Ok(0); exited 3", "other user true: 50 opened"];
    alike(&["not-dumpable"], 0, &expected);
}

#[test]
fn what_a_process_changes_for_itself() {
    alike(&["itself"], 0, &["prlimit Ok(0) Ok(0) 50 60", "same place true", "personality 0x40000", "mem: 42"]);
}

// ---- Namespaces ------------------------------------------------------------

#[test]
fn pid_namespaces() {
    alike(&["pids"], 0, &["init 1, child 2", "as a program 5, leader true", "outside exited 17", "inner 1, child 2"]);
}

#[test]
fn user_namespaces() {
    alike(&["users"], 0, &["Linux 1 0", "(0, 0), child exited 9, open ok; exited 0"]);
}

#[test]
fn mount_namespaces() {
    alike(&["mounts", "DIRECTORY"], 0, &["inside exited 21, read true, exited 0; outside exited 2"]);
}

// ---- Timers and the rest ---------------------------------------------------

#[test]
fn timers_of_one_thread() {
    alike(&["timer-to-a-thread"], 0, &["0 0 0, to another thread or without its value: 0"]);
}

#[test]
fn a_storm_of_timer_signals_during_opens() {
    alike(&["timer-during-opens"], 0, &["restart true: 0 failed", "restart false: 0 failed"]);
}

#[test]
fn restartable_sequences_and_barriers() {
    alike(&["rseq"], 0, &["rseq: ok, 1111"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_vsyscall_page() {
    alike(&["vsyscall"], 0, &["gettimeofday: "]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_the_32_bit_gate() {
    let expected =
        ["getpid true", "fork and exit: exited 23", "execve: exited 13", "nanosleep: stopped 0x13, exited 0"];
    alike(&["int80"], 0, &expected);
}
