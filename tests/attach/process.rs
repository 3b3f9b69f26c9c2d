//! What procfs says of processes (proc(5)), and waiting for it.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The longest that anything here may take, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `find` finds something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, find: impl FnMut() -> Option<T>) -> T {
    crate::support::within(PATIENCE, what, find)
}

/// A field of `/proc/PID/status` (or of a thread, by `PID/task/TID`).
pub(crate) fn field(process: impl ToString, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.to_string())).ok()?;
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
    status.lines().find_map(value)
}

/// The same as a number; 0 if there is none.
pub(crate) fn number(process: impl ToString, name: &str) -> i64 {
    field(process, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// One field of every thread of a process.
pub(crate) fn of_threads(pid: i32, name: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    // A thread can end at any moment.
    threads.filter_map(|thread| field(format!("{pid}/task/{}", thread.file_name().to_str()?), name)).collect()
}

/// The process that traces it; 0 for none.
pub(crate) fn tracer(pid: i32) -> i32 {
    number(pid, "TracerPid") as i32
}

/// Whether every thread is in a stop by a signal, traced or not.
pub(crate) fn is_stopped(pid: i32) -> bool {
    let states = of_threads(pid, "State");
    !states.is_empty() && states.iter().all(|state| state.to_lowercase().starts_with('t'))
}

/// Nobody traces it, and no thread of it is stopped.
#[track_caller]
pub(crate) fn is_free(pid: i32) {
    let (tracers, states) = (of_threads(pid, "TracerPid"), of_threads(pid, "State"));
    assert!(!tracers.is_empty(), "process {pid} is gone");
    assert!(tracers.iter().all(|tracer| tracer == "0"), "tracers of {pid}: {tracers:?}");
    assert!(!states.iter().any(|state| state.to_lowercase().starts_with('t')), "states of {pid}: {states:?}");
}

/// No process has this number, or only its parent has not heard of its end.
pub(crate) fn has_ended(pid: i32) -> bool {
    field(pid, "State").is_none_or(|state| state.starts_with('Z') || state.starts_with('X'))
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The guardian that has taken a process over, once it has.
#[track_caller]
pub(crate) fn guardian_of(pid: i32, host: i32) -> i32 {
    let since = Instant::now();
    loop {
        let tracers = of_threads(pid, "TracerPid");
        let first: i32 = tracers.first().and_then(|tracer| tracer.parse().ok()).unwrap_or(0);
        if first != 0 && first != host && tracers.iter().all(|tracer| *tracer == tracers[0]) {
            assert_eq!(field(first, "Name").as_deref(), Some("tracegate-guard"));
            return first;
        }
        let states = of_threads(pid, "State");
        assert!(since.elapsed() < PATIENCE, "no guardian of {pid} has every thread: {tracers:?}, {states:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Guardians that some host left behind: those that hold what `marked` names
/// in their command line, which is the host's.
pub(crate) fn guardians(marked: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_one = |pid: &i32| {
        field(pid, "Name").as_deref() == Some("tracegate-guard")
            && fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(marked))
    };
    pids.filter(is_one).collect()
}
