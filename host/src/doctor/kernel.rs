//! What the kernel offers, and its limits.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use super::advice::{self, Advice};
use super::trial::{self, Bystander, Refusal, sealing};
use super::{BOTH, Check, Verdict, procfs};

/// As uname(2) says.
pub(super) fn release() -> String {
    procfs::file("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into())
}

fn setting(name: &str) -> String {
    procfs::file(&format!("/proc/sys/{name}")).unwrap_or_else(|| "unknown".into())
}

/// Docker's profile lets these pass with `CAP_SYS_PTRACE`.
fn profile(calls: &str) -> Advice {
    let mut advice = advice::sys_ptrace();
    advice.extend(advice::seccomp_profile(calls));
    advice
}

const REFUSED: &str = "calls of multi-threaded programs whose arguments lie in memory are refused in enforce mode";

/// A page that holds judged arguments.
pub(super) fn sealed_page() -> Check {
    let (id, title) = ("protected-page", "A sealed page for judged arguments");
    match trial::sealed_page().through(sealing::PROTECTED) {
        Ok(()) => Check::new(
            id,
            title,
            Verdict::Ok,
            "a memfd sealed with F_SEAL_FUTURE_WRITE was mapped at 0x10000, and cannot be made writable",
            "other threads cannot change arguments between verdict and call",
        ),
        Err((step, refusal)) => {
            let advice = match (step, refusal) {
                (sealing::MAP, Refusal::Errno(libc::EPERM | libc::EACCES)) => {
                    vec!["On the machine itself: sysctl -w vm.mmap_min_addr=65536".into()]
                }
                (sealing::MEMFD, Refusal::Errno(libc::EACCES)) => {
                    vec!["A security module (SELinux) forbids it: allow it for host's domain".into()]
                }
                (sealing::MEMFD, Refusal::Errno(_) | Refusal::Killed(_)) => advice::seccomp_profile("memfd_create"),
                _ => Vec::new(),
            };
            let what = sealing::NAMES.get(step).copied().unwrap_or("a step");
            let needs = match step {
                sealing::SEAL => "; the seal came with Linux 5.1",
                _ => "",
            };
            Check::new(
                id,
                title,
                Verdict::Degraded,
                format!("{what}: {refusal} (vm.mmap_min_addr {})", setting("vm/mmap_min_addr")),
                format!("judged arguments cannot be kept from change: {REFUSED}{needs}"),
            )
            .advise(advice)
            .limits(BOTH, REFUSED)
        }
    }
}

/// `pidfd_open`, `pidfd_getfd`.
pub(super) fn pidfd() -> Check {
    let (id, title) = ("pidfd", "pidfd_open, pidfd_getfd");
    let trial = trial::pidfd();
    match trial.through(1) {
        Ok(()) => Check::new(
            id,
            title,
            Verdict::Ok,
            "a child's descriptor was fetched",
            "a tracee can be given the sealed page",
        ),
        Err((step, refusal)) => {
            let what = ["pidfd_open", "pidfd_getfd"].get(step).copied().unwrap_or("a step");
            Check::new(
                id,
                title,
                Verdict::Degraded,
                format!("{what}: {refusal}"),
                format!("a tracee cannot be given the sealed page: {REFUSED}; Linux 5.3 and 5.6 brought the calls"),
            )
            .advise(profile("pidfd_open and pidfd_getfd"))
            .limits(BOTH, REFUSED)
        }
    }
}

const ALL_SHARE: &str = "every forked child counts as sharing its parent's memory: its arguments are copied to the \
                         sealed page, and its judged calls stop twice";

const NO_PAGE_ALONE: &str = "every page counts as shared: arguments of all programs are copied to the sealed page, and \
                             judged calls stop twice";

/// `kcmp`.
pub(super) fn kcmp() -> Check {
    let (id, title) = ("kcmp", "kcmp");
    match trial::kcmp().step(0) {
        // 0 would mean that a forked child shares our memory.
        Ok(order @ 1..) => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("tells a child's memory from ours (order {order})"),
            "who shares memory is known",
        ),
        Ok(_) => Check::new(id, title, Verdict::Degraded, "takes a child's memory for ours", ALL_SHARE),
        Err(refusal) => {
            Check::new(id, title, Verdict::Degraded, refusal.to_string(), ALL_SHARE).advise(profile("kcmp"))
        }
    }
}

/// `/proc/PID/pagemap`.
pub(super) fn pagemap(bystander: Result<&Bystander, &Errno>) -> Check {
    let (id, title) = ("pagemap", "/proc/PID/pagemap");
    // A page of our stack, which a forked child has a copy of.
    let here = 0u8;
    let index = (&raw const here) as u64 / trial::page_size();
    let read = |bystander: &Bystander| {
        let mut entry = [0; 8];
        File::open(format!("/proc/{}/pagemap", bystander.pid()))?.read_exact_at(&mut entry, index * 8)?;
        Ok::<u64, std::io::Error>(u64::from_ne_bytes(entry))
    };
    let degraded = |found: String| Check::new(id, title, Verdict::Degraded, found, NO_PAGE_ALONE);
    match bystander.map(read) {
        Ok(Ok(entry)) => {
            let present = if entry >> 63 == 1 { "present" } else { "not present" };
            let frame = if entry & ((1 << 55) - 1) == 0 { "hidden (needs SYS_ADMIN)" } else { "shown" };
            Check::new(
                id,
                title,
                Verdict::Ok,
                format!("readable for a child: its stack's page is {present}, frame numbers are {frame}"),
                "which pages are shared is known",
            )
        }
        Ok(Err(error)) => degraded(error.to_string()),
        Err(errno) => degraded(format!("no process to try it on: {errno:?}")),
    }
}

/// `openat2`.
pub(super) fn openat2() -> Check {
    let (id, title) = ("openat2", "openat2");
    match trial::openat2().through(2) {
        Ok(()) => Check::new(
            id,
            title,
            Verdict::Ok,
            "works with RESOLVE_NO_SYMLINKS and RESOLVE_IN_ROOT",
            "names are resolved by the kernel, in two calls",
        ),
        Err((_, refusal)) => Check::new(
            id,
            title,
            Verdict::Degraded,
            refusal.to_string(),
            "names are followed component by component: slower, same answers; the call came with Linux 5.6",
        )
        .advise(match refusal {
            Refusal::Errno(libc::EPERM) | Refusal::Killed(_) => advice::seccomp_profile("openat2"),
            _ => Vec::new(),
        }),
    }
}

/// `statx` with mount ids.
pub(super) fn statx() -> Check {
    let (id, title) = ("statx", "statx with mount ids");
    match trial::statx().through(1) {
        Ok(()) => Check::new(
            id,
            title,
            Verdict::Ok,
            "tells mount ids",
            "a root is told from the same directory mounted elsewhere",
        ),
        Err((0, refusal)) => Check::new(
            id,
            title,
            Verdict::Missing,
            refusal.to_string(),
            "no place can be told from another: names are unknown, and denied under rules that deny",
        )
        .advise(advice::seccomp_profile("statx"))
        .limits(BOTH, "names cannot be followed"),
        Err(_) => Check::new(
            id,
            title,
            Verdict::Degraded,
            "tells no mount id",
            "places are told apart by device and inode only: a root is taken for the same directory mounted \
             elsewhere; mount ids came with Linux 5.8",
        ),
    }
}

/// Facts of the machine.
pub(super) fn machine() -> Check {
    Check::new(
        "kernel",
        "Kernel",
        Verdict::Info,
        format!(
            "Linux {}, {}, pages of {} bytes, vm.mmap_min_addr {}",
            release(),
            std::env::consts::ARCH,
            trial::page_size(),
            setting("vm/mmap_min_addr"),
        ),
        "",
    )
}

/// Other ABIs that programs can call the kernel by.
#[cfg(target_arch = "x86_64")]
pub(super) fn abis() -> Check {
    use super::trial::abis;
    let trial = trial::other_abis();
    let word = |step| if trial.step(step).is_ok() { "works" } else { "does not work" };
    Check::new(
        "other-abis",
        "Other ABIs",
        Verdict::Info,
        format!("i386 (int 0x80) {}, x32 {}", word(abis::I386), word(abis::X32)),
        "calls by another ABI always stop, and are decoded by its own numbers",
    )
}

/// Other ABIs that programs can call the kernel by.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn abis() -> Check {
    Check::new(
        "other-abis",
        "Other ABIs",
        Verdict::Info,
        "not tried on this architecture",
        "calls by another ABI always stop, and are refused with ENOSYS",
    )
}

/// Descriptors that the host may need for tasks' roots and directories.
const ENOUGH_DESCRIPTORS: u64 = 1024;

/// Limits on descriptors and processes.
pub(super) fn limits() -> Check {
    let (id, title) = ("limits", "Limits");
    let limits = procfs::file("/proc/self/limits").unwrap_or_default();
    let [soft, hard] = limit(&limits, "Max open files").unwrap_or(["unknown", "unknown"]);
    let found = format!(
        "descriptors {soft}, at most {hard}; processes of our user {}; kernel.pid_max {}, kernel.threads-max {}",
        limit(&limits, "Max processes").map_or("unknown", |[soft, _]| soft),
        setting("kernel/pid_max"),
        setting("kernel/threads-max"),
    );
    if hard.parse().is_ok_and(|hard: u64| hard < ENOUGH_DESCRIPTORS) {
        let meaning = "the host keeps descriptors for the tasks that it follows; where none is left a name is \
                       unknown, and denied under rules that deny";
        return Check::new(id, title, Verdict::Degraded, found, meaning)
            .advise(vec![
                "Docker, podman: --ulimit nofile=4096:4096".into(),
                r#"ECS, Fargate: "ulimits": [{"name": "nofile", "softLimit": 4096, "hardLimit": 4096}]"#.into(),
            ])
            .limits(BOTH, "few descriptors");
    }
    Check::new(id, title, Verdict::Ok, found, "the host raises its own limit on descriptors to the highest allowed")
}

/// The soft and hard limit of a line of `/proc/PID/limits`.
fn limit<'a>(limits: &'a str, name: &str) -> Option<[&'a str; 2]> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    Some([words.next()?, words.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(limit(text, "Max open files"), Some(["1024", "524288"]));
        assert_eq!(limit(text, "Max processes"), None);
    }
}
