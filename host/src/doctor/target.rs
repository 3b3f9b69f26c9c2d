//! One process that somebody wants to attach to.
//!
//! Nothing is attached. Opening `/proc/PID/mem` makes the kernel ask the
//! question that it asks when a tracer attaches (`PTRACE_MODE_ATTACH`,
//! man 2 ptrace, "Ptrace access mode checking"; proc(5)), Yama and other
//! security modules included.

use std::fs::File;
use std::io;

use libc::pid_t;

use super::privileges::Own;
use super::procfs::{self, Process, named, namespace, printable};
use super::{Check, Command, Verdict, advice};
use crate::tracer::{container_of, threads};

const ID: &str = "target";
const TITLE: &str = "The process to attach to";

/// What would become of `host attach --pid PID`.
pub(super) fn check(own: &Own, pid: pid_t) -> Check {
    let Some(process) = Process::of(pid) else {
        return obstacle(
            format!("no process {pid} is visible"),
            "it has ended, or lives in a PID namespace that we do not share",
            &format!("there is no process {pid}"),
        )
        .advise(advice::shared_pid_namespace());
    };
    let name = format!("{}[{pid}]", printable(&process.name));
    if process.thread_group != pid {
        let group = process.thread_group;
        return obstacle(
            format!("{name} is a thread of {}", named(group)),
            "processes are attached to as a whole",
            &format!("{pid} is a thread, not a process"),
        )
        .advise(vec![format!("--pid {group}")]);
    }
    if process.kernel_thread {
        let meaning = "kernel threads make no system calls and cannot be traced";
        return obstacle(format!("{name} is a kernel thread"), meaning, &format!("{pid} is a kernel thread"));
    }
    // The main thread may have ended and others go on.
    if process.ended() && threads(pid).len() < 2 {
        let found = format!("{name} has ended; its parent {} has not taken note yet", named(process.parent));
        return obstacle(found, "there is nothing left to trace", &format!("process {pid} has ended"));
    }
    if pid == own.pid {
        return obstacle(
            format!("{name} is this very process"),
            "nobody can trace himself",
            &format!("process {pid} is host"),
        );
    }
    let facts = facts(&process);
    if let Some(traced) = traced_thread(&process) {
        return obstacle(
            format!("{name} is already traced: {traced}; {facts}"),
            "a process can have one tracer only",
            &format!("process {pid} is already traced"),
        )
        .advise(vec!["End the other tracer, or let it detach".into()]);
    }
    match File::open(format!("/proc/{pid}/mem")) {
        Ok(_) => reachable(&process, format!("{name} can be attached to; {facts}")),
        Err(error) => {
            let meaning = why_not(own, &process);
            let check = obstacle(
                format!("{name} is out of reach ({}); {facts}", plain(&error)),
                &meaning,
                &format!("process {pid} is out of reach"),
            );
            if own.may_trace_others() { check } else { check.advise(own.advice_for_sys_ptrace()) }
        }
    }
}

fn obstacle(found: String, meaning: &str, because: &str) -> Check {
    Check::new(ID, TITLE, Verdict::Missing, found, meaning).prevents(&[Command::Attach], because)
}

fn reachable(process: &Process, found: String) -> Check {
    if process.state == 'D' {
        let meaning = "it waits in the kernel and cannot be stopped (state D): attaching waits until it goes on";
        return Check::new(ID, TITLE, Verdict::Degraded, found, meaning)
            .limits(&[Command::Attach], "the process waits in the kernel");
    }
    Check::new(ID, TITLE, Verdict::Ok, found, "the kernel's checks let us attach; nothing was attached now")
}

fn plain(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |errno| format!("{:?}", nix::errno::Errno::from_raw(errno)))
}

/// What helps a person to recognize the process, and to see what is special.
fn facts(process: &Process) -> String {
    let pid = process.pid;
    let status = process.status();
    let own = std::process::id() as pid_t;
    let mut facts = Vec::new();
    facts.extend(procfs::link(pid, "exe").map(|exe| format!("program {exe}")));
    facts.push(format!("state {}", process.state));
    let users = status.users();
    facts.push(match users.first() {
        Some(first) if users.iter().all(|user| user == first) => format!("user {first}"),
        _ => format!("users {users:?} (real, effective, saved, file system)"),
    });
    facts.push(match threads(pid).len() {
        1 => "1 thread".into(),
        count => format!("{count} threads"),
    });
    facts.push(match status.number("Seccomp") {
        Some(0) => "no seccomp filter".into(),
        Some(1) => "strict seccomp".into(),
        _ => format!("seccomp filters: {}", status.text("Seccomp_filters").unwrap_or("some")),
    });
    if status.number("NoNewPrivs").is_some_and(|set| set != 0) {
        facts.push("no_new_privs".into());
    }
    match (namespace(own, "user"), namespace(pid, "user")) {
        (Some(ours), Some(theirs)) if ours != theirs => facts.push("another user namespace".into()),
        (_, None) => facts.push("its namespaces may not be read".into()),
        _ => {}
    }
    if status.text("NSpid").is_some_and(|numbers| numbers.split_whitespace().count() > 1) {
        facts.push("a PID namespace below ours".into());
    }
    facts.push(match dumpable(process) {
        Some(true) => "dumpable".into(),
        Some(false) => "not dumpable".into(),
        None => "dumpable or not cannot be told of root's processes".into(),
    });
    facts.extend(container_of(pid).map(|id| format!("container {id}")));
    facts.join(", ")
}

/// `/proc/PID` belongs to root if the process is not dumpable (proc(5)), which
/// tells nothing of a process that is root's anyway.
fn dumpable(process: &Process) -> Option<bool> {
    let effective = *process.status().users().get(1)?;
    if effective == 0 { None } else { Some(procfs::owner(process.pid)? == effective) }
}

/// A thread with a tracer, and who that is.
fn traced_thread(process: &Process) -> Option<String> {
    if process.tracer != 0 {
        return Some(format!("by {}", named(process.tracer)));
    }
    let thread = threads(process.pid).into_iter().filter_map(Process::of).find(|thread| thread.tracer != 0)?;
    Some(format!("its thread {} by {}", thread.pid, named(thread.tracer)))
}

fn why_not(own: &Own, process: &Process) -> String {
    let other_user = process.status().users().iter().any(|&user| user != own.user);
    let cause = if namespace(process.pid, "user").is_some_and(|theirs| namespace(own.pid, "user") != Some(theirs)) {
        "it lives in another user namespace, where our capabilities do not count"
    } else if own.may_trace_others() {
        "a security module forbids it, or it lives in a user namespace above ours"
    } else if other_user {
        "it belongs to another user, and we have no CAP_SYS_PTRACE"
    } else if dumpable(process) == Some(false) {
        "it is not dumpable, and we have no CAP_SYS_PTRACE"
    } else if own.yama.is_some_and(|scope| scope > 0) {
        "Yama forbids attaching to processes that are no descendants, and we have no CAP_SYS_PTRACE"
    } else {
        "it has capabilities that we lack, is not dumpable, or a security module forbids it"
    };
    cause.into()
}
