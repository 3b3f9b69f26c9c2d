//! Where we run: procfs, namespaces, container.

use std::collections::HashSet;
use std::fmt::Write as _;

use libc::pid_t;

use super::procfs::{Process, Status, file, link, named, namespace};
use super::{BOTH, Check, Verdict};
use crate::tracer::container_of;

/// The first PID and user namespaces of a machine have these inodes
/// (`include/linux/proc_ns.h`).
const INITIAL_PID: u64 = 0xefff_fffc;
const INITIAL_USER: u64 = 0xefff_fffd;

/// Whether `/proc` is there, is ours, and hides nothing.
pub(super) fn procfs() -> Check {
    let (id, title) = ("procfs", "/proc");
    let own = std::process::id();
    let unusable = |found: String, meaning: &str| {
        Check::new(id, title, Verdict::Missing, found, meaning)
            .advise(vec!["Mount it: mount -t proc proc /proc, in the PID namespace of the programs to trace".into()])
            .prevents(BOTH, "/proc is not usable")
    };
    match std::fs::read_link("/proc/self") {
        Err(error) => {
            return unusable(
                format!("not mounted, or of another PID namespace: {error}"),
                "processes cannot be looked at, nor names followed",
            );
        }
        Ok(target) if target.to_str() != Some(&own.to_string()) => {
            return unusable(
                format!("of another PID namespace: calls us {}, while we are {own}", target.display()),
                "it tells of other processes than those that we trace",
            );
        }
        Ok(_) => {}
    }
    match hidepid(&file("/proc/self/mountinfo").unwrap_or_default()) {
        None => Check::new(id, title, Verdict::Ok, "mounted for our PID namespace", "processes can be looked at"),
        Some(option) => Check::new(
            id,
            title,
            Verdict::Degraded,
            format!("mounted with {option}"),
            "processes that we may not trace are hidden (man 5 proc); the counts below leave them out",
        ),
    }
}

/// The option of `/proc` that hides processes.
fn hidepid(mountinfo: &str) -> Option<String> {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some("/proc"))?;
    let (_, options) = line.split_once(" - ")?;
    let option = options.split([' ', ',']).find(|option| option.starts_with("hidepid="))?;
    (!matches!(option, "hidepid=0" | "hidepid=off")).then(|| option.to_owned())
}

/// Who shares our PID namespace.
pub(super) fn pid_namespace(visible: &[Process]) -> Check {
    let (id, title) = ("pid-namespace", "PID namespace");
    let own = std::process::id() as pid_t;
    let numbers = Status::of("self").and_then(|status| status.text("NSpid").map(str::to_owned)).unwrap_or_default();
    let depth = numbers.split_whitespace().count();
    let which = match namespace(own, "pid") {
        Some(INITIAL_PID) => "the machine's own",
        Some(_) => "a container's",
        None => "unknown",
    };
    let alive = visible.iter().filter(|process| !process.kernel_thread && !process.ended());
    let groups: HashSet<String> =
        alive.clone().filter_map(|process| file(&format!("/proc/{}/cgroup", process.pid))).collect();
    let found = format!(
        "{which} (levels seen from here: {depth}); programs in sight: {}, control groups: {}; PID 1 is {}",
        alive.count(),
        groups.len(),
        if own == 1 { "host itself".into() } else { named(1) },
    );
    let meaning = if own == 1 {
        "as PID 1 host reaps orphans and passes signals on; it sees another container's processes only if that one \
         joins this PID namespace"
    } else if groups.len() > 1 {
        "host attach can see processes of more than one control group: the PID namespace is shared"
    } else {
        "host attach sees the processes of this PID namespace only; another container's must share it"
    };
    Check::new(id, title, Verdict::Info, found, meaning)
}

/// Whether PID 1, and the target, live in our mount and user namespaces.
pub(super) fn namespaces(target: Option<i32>) -> Check {
    let own = std::process::id() as pid_t;
    let compare = |pid: pid_t| {
        let kinds = ["mnt", "user"].map(|kind| match (namespace(own, kind), namespace(pid, kind)) {
            (Some(ours), Some(theirs)) if ours == theirs => format!("{kind} the same"),
            (Some(_), Some(_)) => format!("{kind} another"),
            _ => format!("{kind} unknown (no permission)"),
        });
        kinds.join(", ")
    };
    let initial = namespace(own, "user") == Some(INITIAL_USER);
    let user = if initial {
        "our user namespace is the machine's own".to_owned()
    } else {
        let map = file("/proc/self/uid_map").unwrap_or_default();
        let ranges: Vec<String> =
            map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        format!("our user namespace maps users {} (inside, outside, count)", ranges.join(", "))
    };
    let mut found = format!("{user}; of PID 1: {}", if own == 1 { "it is us".into() } else { compare(1) });
    if let Some(pid) = target.filter(|pid| ![1, own].contains(pid)) {
        let _ = write!(found, "; of PID {pid}: {}", compare(pid));
    }
    let meaning = if initial {
        "names of programs in another mount namespace are followed through /proc/PID/root"
    } else {
        "capabilities reach no further than our user namespace: programs outside it cannot be attached to"
    };
    Check::new("namespaces", "Mount and user namespaces", Verdict::Info, found, meaning)
}

/// Which kind of container this is.
pub(super) fn container() -> Check {
    let set = |name: &str| std::env::var_os(name).is_some();
    let ecs = set("ECS_CONTAINER_METADATA_URI_V4");
    let fargate = std::env::var("AWS_EXECUTION_ENV").is_ok_and(|value| value == "AWS_ECS_FARGATE");
    let exists = |path: &str| std::path::Path::new(path).exists();
    let signs = [
        (ecs && fargate, "ECS on Fargate (AWS_EXECUTION_ENV)"),
        (ecs && !fargate, "ECS (ECS_CONTAINER_METADATA_URI_V4 is set)"),
        (set("KUBERNETES_SERVICE_HOST"), "Kubernetes (KUBERNETES_SERVICE_HOST is set)"),
        (exists("/.dockerenv"), "Docker (/.dockerenv)"),
        (exists("/run/.containerenv"), "podman (/run/.containerenv)"),
    ];
    let mut found: Vec<String> =
        signs.into_iter().filter(|(there, _)| *there).map(|(_, sign)| sign.to_owned()).collect();
    let own = std::process::id() as pid_t;
    found.extend(container_of(own).map(|id| format!("container {id}")));
    let module = file("/proc/self/attr/current").unwrap_or_default();
    let module = module.trim_end_matches('\0').trim();
    if !module.is_empty() {
        found.push(format!("security module's label {}", super::procfs::printable(module)));
    }
    if found.is_empty() {
        found.push("no sign of a container".into());
    }
    let root = link(own, "root").unwrap_or_else(|| "/".into());
    if root != "/" {
        found.push(format!("root directory {root}"));
    }
    let meaning = if ecs {
        "on Fargate SYS_PTRACE and \"pidMode\": \"task\" can be had from platform version 1.4.0 on"
    } else {
        ""
    };
    Check::new("container", "Container", Verdict::Info, found.join(", "), meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_processes_are_noticed() {
        let mount = |options: &str| format!("22 1 0:20 / /proc rw,nosuid - proc proc {options}\n");
        assert_eq!(hidepid(&mount("rw,hidepid=invisible")).as_deref(), Some("hidepid=invisible"));
        assert_eq!(hidepid(&mount("rw,hidepid=2,gid=5")).as_deref(), Some("hidepid=2"));
        assert_eq!(hidepid(&mount("rw,hidepid=off")), None);
        assert_eq!(hidepid(&mount("rw")), None);
        assert_eq!(hidepid(""), None);
    }
}
