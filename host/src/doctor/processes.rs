//! The processes that we see: who traces them, and which are in our reach.

use std::collections::HashMap;
use std::fmt::Write as _;

use libc::pid_t;

use super::privileges::Own;
use super::procfs::{self, Process, named, printable};
use super::{Check, Command, Verdict, advice};

/// Processes that are listed by name.
const LISTED: usize = 10;

/// Who is traced already, and by whom.
pub(super) fn tracers(own: &Own, visible: &[Process]) -> Check {
    let (id, title) = ("tracers", "Other tracers");
    let traced: Vec<&Process> =
        visible.iter().filter(|process| process.tracer != 0 && process.pid != own.pid).collect();
    let mut list: Vec<String> = traced
        .iter()
        .take(LISTED)
        .map(|process| format!("{}[{}] is traced by {}", printable(&process.name), process.pid, named(process.tracer)))
        .collect();
    if traced.len() > LISTED {
        list.push(format!("and {} more", traced.len() - LISTED));
    }
    if own.tracer != 0 {
        list.insert(0, format!("host itself is traced by {}", named(own.tracer)));
        return Check::new(
            id,
            title,
            Verdict::Degraded,
            list.join(", "),
            "a process can have one tracer only: if that one follows our children, none of them can be ours",
        )
        .advise(vec!["Start host outside the other tracer".into()]);
    }
    if list.is_empty() {
        return Check::new(id, title, Verdict::Ok, "no visible process is traced", "nobody stands in our way");
    }
    Check::new(
        id,
        title,
        Verdict::Info,
        list.join(", "),
        "a process can have one tracer only: host attach cannot have these until the other tracer lets them go",
    )
}

/// What stands between us and each visible process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ours,
    KernelThread,
    Ended,
    Pause,
    Traced,
    InReach,
    OutOfReach,
}

impl Place {
    fn of(process: &Process) -> Self {
        if process.kernel_thread {
            Self::KernelThread
        } else if process.ended() {
            Self::Ended
        } else if process.is_pause() {
            Self::Pause
        } else if process.tracer != 0 {
            Self::Traced
        } else if procfs::link(process.pid, "ns/pid").is_some() {
            // PTRACE_MODE_READ (man 2 ptrace): without Yama the same as for
            // attaching, and nobody is disturbed.
            Self::InReach
        } else {
            Self::OutOfReach
        }
    }
}

/// How many processes could be attached to; `any` says that no one process is
/// meant.
pub(super) fn reach(own: &Own, visible: &[Process], any: bool) -> Check {
    let (id, title) = ("processes", "Processes in reach");
    let parents: HashMap<pid_t, pid_t> = visible.iter().map(|process| (process.pid, process.parent)).collect();
    let place = |process| if is_descendant(&parents, process, own.pid) { Some(Place::Ours) } else { None };
    let places: Vec<(Place, &Process)> =
        visible.iter().map(|process| (place(process.pid).unwrap_or_else(|| Place::of(process)), process)).collect();
    let count = |wanted| places.iter().filter(|(place, _)| *place == wanted).count();
    let (in_reach, out_of_reach) = (count(Place::InReach), count(Place::OutOfReach));

    let mut found = format!("could be attached to: {in_reach} (estimated by whether their /proc/PID/ns can be read)");
    let names = || {
        let out = places.iter().filter(|(place, _)| *place == Place::OutOfReach);
        let mut names: Vec<String> =
            out.take(LISTED_OUT).map(|(_, process)| format!("{}[{}]", printable(&process.name), process.pid)).collect();
        if out_of_reach > LISTED_OUT {
            names.push("…".into());
        }
        names.join(", ")
    };
    if out_of_reach > 0 {
        let _ = write!(found, "; out of reach: {out_of_reach} ({})", names());
    }
    for (what, place) in [
        ("traced already", Place::Traced),
        ("ended, not reaped", Place::Ended),
        ("pause", Place::Pause),
        ("kernel threads", Place::KernelThread),
        ("our own", Place::Ours),
    ] {
        if count(place) > 0 {
            let _ = write!(found, "; {what}: {}", count(place));
        }
    }

    let limit = |check: Check, because: &str| if any { check.limits(&[Command::Attach], because) } else { check };
    if out_of_reach > 0 {
        let meaning = "those out of reach belong to other users, are not dumpable, have capabilities that we lack, or \
                       live in another user namespace";
        let check = Check::new(id, title, Verdict::Degraded, found, meaning);
        let check = if own.may_trace_others() { check } else { check.advise(own.advice_for_sys_ptrace()) };
        limit(check, &format!("out of reach: {}", names()))
    } else if in_reach == 0 {
        let meaning = "there is nothing to attach to: the application is not running, or in another PID namespace";
        let check = Check::new(id, title, Verdict::Degraded, found, meaning).advise(advice::shared_pid_namespace());
        limit(check, "no other process is visible")
    } else {
        Check::new(id, title, Verdict::Ok, found, "nothing that is visible is out of reach")
    }
}

/// Processes out of reach that are named.
const LISTED_OUT: usize = 3;

/// Whether `pid` is `ancestor` or descends from it. Bounded: ids are read one
/// after the other, and may be used again in the meantime.
fn is_descendant(parents: &HashMap<pid_t, pid_t>, pid: pid_t, ancestor: pid_t) -> bool {
    std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).take(parents.len() + 1).any(|pid| pid == ancestor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_ends_even_in_a_circle() {
        let parents = HashMap::from([(2, 1), (3, 2), (8, 9), (9, 8)]);
        assert!(is_descendant(&parents, 3, 1) && is_descendant(&parents, 3, 3));
        assert!(!is_descendant(&parents, 2, 3) && !is_descendant(&parents, 8, 1));
    }
}
