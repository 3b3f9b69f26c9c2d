//! What procfs says of processes (proc(5)), as far as it lets us look.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use libc::pid_t;

use crate::tracer;

/// `PF_KTHREAD` in field 9 of `/proc/PID/stat` (`include/linux/sched.h`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// One process or thread.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: pid_t,
    /// The process that this thread belongs to.
    pub(super) thread_group: pid_t,
    pub(super) parent: pid_t,
    pub(super) name: String,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, …
    pub(super) state: char,
    pub(super) kernel_thread: bool,
    /// 0 if it has none that we can see.
    pub(super) tracer: pid_t,
    status: Status,
}

/// The lines of `/proc/PID/status`.
#[derive(Clone, Debug, Default)]
pub(super) struct Status(HashMap<String, String>);

impl Status {
    pub(super) fn of(task: &str) -> Option<Self> {
        let text = String::from_utf8_lossy(&fs::read(format!("/proc/{task}/status")).ok()?).into_owned();
        Some(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.split_whitespace().next()?.parse().ok()
    }

    pub(super) fn mask(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(self.text(key)?, 16).ok()
    }

    /// Real, effective, saved and file-system user.
    pub(super) fn users(&self) -> Vec<u32> {
        self.text("Uid").unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }
}

impl Process {
    pub(super) fn of(pid: pid_t) -> Option<Self> {
        let status = Status::of(&pid.to_string())?;
        let number = |key| status.number(key).and_then(|number| pid_t::try_from(number).ok());
        let flags = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|stat| flags(&stat));
        Some(Self {
            pid,
            thread_group: number("Tgid")?,
            parent: number("PPid")?,
            name: status.text("Name").unwrap_or_default().to_owned(),
            state: status.text("State").and_then(|text| text.chars().next()).unwrap_or('?'),
            kernel_thread: flags.is_some_and(|flags| flags & KERNEL_THREAD != 0),
            tracer: number("TracerPid").unwrap_or(0),
            status,
        })
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Whether it does nothing but keep a pod's namespaces.
    pub(super) fn is_pause(&self) -> bool {
        self.name == "pause" && link(self.pid, "exe").is_none_or(|exe| exe.ends_with("/pause"))
    }
}

/// Field 9 of `proc_pid_stat(5)`. The name before it may hold spaces and
/// parentheses, so count from the last one.
fn flags(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    text.rsplit_once(')')?.1.split_whitespace().nth(9 - 3)?.parse().ok()
}

/// `NAME[PID]`, as in our alerts.
pub(super) fn named(pid: pid_t) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    if name.is_empty() { format!("process {pid}") } else { format!("{}[{pid}]", printable(name.trim_end())) }
}

/// A name as a person may see it: a process chooses its own.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The processes that this procfs shows.
pub(super) fn processes() -> Vec<Process> {
    tracer::process_ids().into_iter().filter_map(Process::of).collect()
}

/// A link in `/proc/PID`. None where `PTRACE_MODE_READ` is refused.
pub(super) fn link(pid: pid_t, entry: &str) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/{entry}")).ok()?;
    Some(printable(&target.to_string_lossy()))
}

/// A namespace, by its inode.
pub(super) fn namespace(pid: pid_t, kind: &str) -> Option<u64> {
    link(pid, &format!("ns/{kind}"))?.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok()
}

/// The user who owns `/proc/PID`: its effective user, or root if it is not
/// dumpable.
pub(super) fn owner(pid: pid_t) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid())
}

/// A short file's text.
pub(super) fn file(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let own = Process::of(std::process::id() as pid_t).expect("we are here");
        assert_eq!(own.parent, std::os::unix::process::parent_id() as pid_t);
        assert_eq!(own.thread_group, own.pid);
        assert!(!own.kernel_thread && !own.ended());
        assert_eq!(own.status().users()[1], nix::unistd::geteuid().as_raw());
        assert!(namespace(own.pid, "pid").is_some());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(flags(b"7 (a) (b c) S 1 7 7 0 -1 4194560 1 2"), Some(4_194_560));
        assert_eq!(flags(b"7 (a"), None);
    }
}
