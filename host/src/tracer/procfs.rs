//! What procfs says of a process (proc(5)). Files that are gone or forbidden
//! leave their fields empty: a process can end at any time.

use std::cell::LazyCell;
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::sync::LazyLock;

use bstr::{BString, ByteSlice};
use libc::pid_t;

use super::initial_stack::words;
use super::resolve::{self, proc_path};
use super::sys;
use crate::decode::Arch;
use crate::event::Process;

/// As much of a command line as is kept.
const MAX_CMDLINE: u64 = 128 * 1024;
/// Arguments that are kept.
const MAX_ARGV: usize = 1024;

/// A file that the kernel gives out at one go, unlike a list of mappings: there
/// is more of it only if the room was filled.
fn read(tid: pid_t, entry: &str, limit: u64) -> Vec<u8> {
    let Ok(mut file) = fs::File::open(format!("/proc/{tid}/{entry}")) else { return Vec::new() };
    let mut content = vec![0; 4096];
    let got = file.read(&mut content).unwrap_or(0);
    content.truncate(got);
    if got == 4096 {
        // What was read before an error is kept, as for a process that ends.
        let _ = file.take(limit).read_to_end(&mut content);
    }
    content
}

fn link(tid: pid_t, entry: &str) -> BString {
    resolve::read_link(libc::AT_FDCWD, &proc_path(tid, entry)).unwrap_or_default()
}

/// The descriptor that a program was handed at its execution (`AT_EXECFD` of
/// getauxval(3)); `narrow` if it is a 32-bit program.
pub(super) fn given_descriptor(tid: pid_t, narrow: bool) -> Option<i32> {
    const AT_EXECFD: u64 = 2;
    let vector = read(tid, "auxv", 4096);
    let mut words = words(&vector, narrow);
    let mut entries = std::iter::from_fn(|| Some((words.next()?, words.next()?)));
    entries.find(|(key, _)| *key == AT_EXECFD).map(|(_, value)| value as i32)
}

/// The addresses of a task's vDSO (vdso(7)).
pub(super) fn vdso(tid: pid_t) -> Option<Range<u64>> {
    range(fs::read(format!("/proc/{tid}/maps")).ok()?.lines().rfind(|line| line.ends_with(b" [vdso]"))?)
}

/// The addresses of a line of `/proc/TID/maps`.
fn range(line: &[u8]) -> Option<Range<u64>> {
    let (start, end) = line.split_str(" ").next()?.to_str().ok()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

/// What a process runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub(super) exe: BString,
    pub(super) argv: Vec<BString>,
}

impl Program {
    /// What a task runs that has just executed it, if its arguments are known.
    pub(super) fn begun(tid: pid_t, argv: Vec<BString>) -> Self {
        Self { exe: link(tid, "exe"), argv }
    }

    pub(super) fn of(tid: pid_t) -> Self {
        let mut argv: Vec<BString> =
            read(tid, "cmdline", MAX_CMDLINE).split(|byte| *byte == 0).map(BString::from).collect();
        // Every argument ends in a NUL, so that the last piece is empty.
        argv.pop();
        argv.truncate(MAX_ARGV);
        Self { exe: link(tid, "exe"), argv }
    }
}

/// The container that a process is in, if it is in any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container(Option<String>);

impl Container {
    /// As the cgroup of a task tells.
    pub(super) fn of(tid: pid_t) -> Self {
        Self(container_of(tid))
    }
}

/// What is known of a process without asking procfs, each of whose files the
/// kernel makes for the process when it is first opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The process that the thread belongs to.
    pub(super) pid: Option<pid_t>,
    pub(super) parent: Option<pid_t>,
    pub(super) start_time: Option<u64>,
    pub(super) program: Option<Program>,
    pub(super) comm: Option<BString>,
    /// User and group; real, effective, saved and of the file system are one.
    pub(super) ids: Option<(u32, u32)>,
    pub(super) cwd: Option<BString>,
    pub(super) container: Option<Container>,
}

/// Effective user and group of a task, to whom its directory belongs
/// (`proc_pid(5)`).
pub(super) fn owner(tid: pid_t) -> Option<(u32, u32)> {
    fs::metadata(format!("/proc/{tid}")).ok().map(|found| (found.uid(), found.gid()))
}

/// Whether a user or a group is the one that stands for all that a user
/// namespace does not know (`user_namespaces(7)`).
pub(super) fn may_stand_for_others(ids: (u32, u32)) -> bool {
    static OTHERS: LazyLock<(u32, u32)> = LazyLock::new(|| {
        let number = |name: &str| {
            let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
            text.and_then(|text| text.trim_ascii().parse().ok()).unwrap_or(65534)
        };
        (number("overflowuid"), number("overflowgid"))
    });
    ids.0 == OTHERS.0 || ids.1 == OTHERS.1
}

/// The process that thread `tid` belongs to, with that thread's credentials.
pub(super) fn process(tid: pid_t) -> Process {
    process_of(tid, Known::default())
}

/// The same, as far as it is not known.
pub(super) fn process_of(tid: pid_t, known: Known) -> Process {
    let status = LazyCell::new(|| read(tid, "status", 64 * 1024));
    let field = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key.as_bytes()))
            .map(|rest| rest.trim_ascii().to_str_lossy().into_owned())
    };
    let number = |key| field(key).and_then(|text| text.parse::<i32>().ok());
    let four = |key| {
        let mut ids = [u32::MAX; 4];
        let text = field(key).unwrap_or_default();
        for (slot, word) in ids.iter_mut().zip(text.split_whitespace()) {
            *slot = word.parse().unwrap_or(u32::MAX);
        }
        ids
    };
    let stat = LazyCell::new(|| read(tid, "stat", 4096));
    let program = known.program.unwrap_or_else(|| Program::of(tid));
    let (uids, gids) = match known.ids {
        Some((user, group)) => ([user; 4], [group; 4]),
        None => (four("Uid:"), four("Gid:")),
    };
    Process {
        pid: known.pid.or_else(|| number("Tgid:")).unwrap_or(tid),
        parent: known.parent.or_else(|| number("PPid:")).unwrap_or(0),
        start_time: known.start_time.unwrap_or_else(|| start_time(&stat)),
        exe: program.exe,
        comm: known.comm.unwrap_or_else(|| command(&stat).into()),
        argv: program.argv,
        cwd: known.cwd.unwrap_or_else(|| link(tid, "cwd")),
        uids,
        gids,
        capabilities: sys::effective_capabilities(tid)
            .ok()
            .or_else(|| field("CapEff:").and_then(|text| u64::from_str_radix(&text, 16).ok()))
            .unwrap_or(0),
        container: known.container.unwrap_or_else(|| Container::of(tid)).0,
    }
}

/// What decides whether and how a task can be traced (`proc_pid_status(5)`).
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// Its process.
    pub(super) pid: pid_t,
    pub(super) parent: pid_t,
    pub(super) name: String,
    /// Its tracer's process; 0 if none.
    pub(super) tracer: pid_t,
    /// Effective user.
    pub(super) user: u32,
    /// It has a seccomp filter.
    pub(super) filtered: bool,
    /// How many it has (Linux 5.9).
    pub(super) filters: Option<u32>,
    ignored: u64,
    caught: u64,
    blocked: u64,
    /// Sent to it, or to its process.
    pending: u64,
    state: u8,
    kernel: bool,
}

impl Status {
    /// The status of a task; none if there is no such task.
    pub(super) fn of(tid: pid_t) -> Option<Self> {
        let text = read(tid, "status", 64 * 1024);
        let field = |key: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(key.as_bytes()))?;
            rest.trim_ascii().to_str().ok()
        };
        let number = |key: &str| field(key).and_then(|text| text.parse().ok());
        let signals = |key: &str| field(key).and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
        Some(Self {
            pid: number("Tgid:")?,
            parent: number("PPid:")?,
            name: field("Name:").unwrap_or_default().to_owned(),
            tracer: number("TracerPid:").unwrap_or(0),
            user: field("Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()).unwrap_or(u32::MAX),
            filtered: field("Seccomp:") == Some("2"),
            filters: number("Seccomp_filters:").and_then(|count: pid_t| count.try_into().ok()),
            ignored: signals("SigIgn:"),
            caught: signals("SigCgt:"),
            blocked: signals("SigBlk:"),
            pending: signals("SigPnd:") | signals("ShdPnd:"),
            state: field("State:").and_then(|state| state.bytes().next()).unwrap_or(b'?'),
            // "Kthread" is there since Linux 6.8; before, only what lives in
            // the kernel has no memory of its own.
            kernel: field("Kthread:").map_or_else(|| field("VmSize:").is_none(), |kernel| kernel == "1"),
        })
    }

    /// It ignores a signal: by choice, or by default (signal(7)).
    pub(super) fn ignores(&self, signal: libc::c_int) -> bool {
        let bit = 1u64.checked_shl((signal - 1) as u32).unwrap_or(0);
        let by_default = matches!(signal, libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT);
        self.ignored & bit != 0 || (by_default && self.caught & bit == 0)
    }

    /// A signal is pending that it neither blocks nor ignores.
    pub(super) fn is_signalled(&self) -> bool {
        let deliverable = self.pending & !self.blocked;
        (1..=64).any(|signal| deliverable & (1 << (signal - 1)) != 0 && !self.ignores(signal))
    }

    /// It has ended, and perhaps waits for its parent.
    pub(super) fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// It never leaves the kernel.
    pub(super) fn is_kernel_thread(&self) -> bool {
        self.kernel && !self.ended()
    }
}

/// The process that thread `tid` belongs to; `tid` itself if it is gone.
pub(super) fn thread_group(tid: pid_t) -> pid_t {
    Status::of(tid).map_or(tid, |status| status.pid)
}

/// Whether a task is gone, or waits for its parent.
pub(super) fn has_ended(tid: pid_t) -> bool {
    Status::of(tid).is_none_or(|status| status.ended())
}

/// Whether a task waits for something that a signal could end.
pub(super) fn sleeps(tid: pid_t) -> bool {
    Status::of(tid).is_some_and(|status| status.state == b'S')
}

/// Whether a task is in a call that makes a process, as one that waits for the
/// end of its child's vfork(2).
pub(super) fn makes_a_process(tid: pid_t) -> bool {
    let text = read(tid, "syscall", 256);
    let number = text.split_str(" ").next().and_then(|number| number.to_str().ok()?.parse::<u32>().ok());
    number.is_some_and(|nr| ["vfork", "clone", "clone3"].contains(&Arch::NATIVE.spec(nr).name))
}

/// Whether a process has a descriptor of this name, as far as we may look.
pub(super) fn holds(pid: pid_t, name: &str) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    descriptors
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == name))
}

/// The process that made `pid`, or has taken it over; 0 if none is seen.
pub(super) fn parent(pid: pid_t) -> pid_t {
    Status::of(pid).map_or(0, |status| status.parent)
}

/// The process that made task `tid`, as far as it still has it as its parent;
/// a thread's own process.
pub(super) fn maker(tid: pid_t) -> pid_t {
    Status::of(tid).map_or(0, |status| if status.pid == tid { status.parent } else { status.pid })
}

/// Names in a directory that are numbers.
fn numbers(directory: &str) -> Vec<pid_t> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<pid_t> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    found.sort_unstable();
    found
}

/// All processes, by number.
pub(crate) fn processes() -> Vec<pid_t> {
    numbers("/proc")
}

/// The threads of a process, by number; none if it is gone.
pub(crate) fn threads(pid: pid_t) -> Vec<pid_t> {
    numbers(&format!("/proc/{pid}/task"))
}

/// Whether task `tid` can reach no file that we cannot: it has our user
/// namespace and our file-system user, and no capability that we lack.
pub(super) fn has_no_more_power(tid: pid_t) -> bool {
    is_our_equal(tid, |theirs, ours| theirs & !ours == 0)
}

/// `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH`: either searches every
/// directory.
pub(super) const SEARCHES_EVERYWHERE: u64 = 0b110;

/// Whether task `tid` may search every directory that we may.
pub(super) fn has_no_less_power(tid: pid_t) -> bool {
    is_our_equal(tid, |theirs, ours| ours & SEARCHES_EVERYWHERE & !theirs == 0)
}

/// Whether task `tid` has our user namespace and our file-system user, and
/// `enough` of capabilities, its own and ours.
fn is_our_equal(tid: pid_t, enough: impl Fn(u64, u64) -> bool) -> bool {
    let own = std::process::id() as pid_t;
    let (theirs, ours) = (process(tid), process(own));
    let namespace = |tid| link(tid, "ns/user");
    let same_namespace = !namespace(own).is_empty() && namespace(tid) == namespace(own);
    same_namespace
        && theirs.uids[3] == ours.uids[3]
        && theirs.gids[3] == ours.gids[3]
        && enough(theirs.capabilities, ours.capabilities)
}

/// Whether `tid` is a thread of process `pid`.
pub(super) fn is_thread_of(tid: pid_t, pid: pid_t) -> bool {
    sys::identity(libc::AT_FDCWD, &proc_path(pid, &format!("task/{tid}")), 0).is_ok()
}

/// Field 2 of `proc_pid_stat(5)`, which may hold spaces and parentheses.
fn command(stat: &[u8]) -> &[u8] {
    match (stat.find_byte(b'('), stat.rfind_byte(b')')) {
        (Some(start), Some(end)) => &stat[start + 1..end],
        _ => &[],
    }
}

/// Field 22 of `proc_pid_stat(5)`, counted from the end of the command name.
fn start_time(stat: &[u8]) -> u64 {
    stat.rfind_byte(b')')
        .and_then(|end| stat[end + 1..].to_str().ok())
        .and_then(|rest| rest.split_whitespace().nth(22 - 3))
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// The container that a process is in, as its cgroup tells.
pub(crate) fn container_of(pid: pid_t) -> Option<String> {
    container(&read(pid, "cgroup", 64 * 1024))
}

/// The container's id in a cgroup path: 64 hexadecimal digits (Docker,
/// containerd, podman), or an ECS task's `HEX32-DIGITS`.
fn container(cgroup: &[u8]) -> Option<String> {
    let is_id = |word: &str| {
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match word.split_once('-') {
            None => word.len() == 64 && hex(word),
            Some((task, index)) => task.len() == 32 && hex(task) && index.bytes().all(|byte| byte.is_ascii_digit()),
        }
    };
    let text = cgroup.to_str().ok()?;
    text.lines()
        .flat_map(|line| line.rsplit('/'))
        .flat_map(|part| [part, part.strip_suffix(".scope").unwrap_or(part).rsplit('-').next().unwrap_or(part)])
        .find(|word| is_id(word))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let process = process(std::process::id() as pid_t);
        assert_eq!(process.exe, std::env::current_exe().expect("own executable").to_str().expect("UTF-8"));
        assert_eq!(process.parent, std::os::unix::process::parent_id() as i32);
        assert_eq!(process.argv.len(), std::env::args().count());
        assert!(process.start_time > 0);
    }

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let stat = b"7 (a) (b c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!((command(stat), start_time(stat)), (&b"a) (b c"[..], 4242));
        assert_eq!((command(b""), start_time(b"")), (&b""[..], 0));
    }

    #[test]
    fn containers_are_found_by_their_id() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let ecs = "0123456789abcdef0123456789abcdef-1234567890";
        for (line, expected) in [
            (format!("0::/system.slice/docker-{id}.scope"), Some(id)),
            (format!("0::/kubepods.slice/pod1/cri-containerd-{id}.scope/app"), Some(id)),
            (format!("12:cpu:/docker/{id}"), Some(id)),
            (format!("0::/ecs/0123456789abcdef0123456789abcdef/{ecs}"), Some(ecs)),
            ("0::/user.slice/session-1.scope".into(), None),
        ] {
            assert_eq!(container(line.as_bytes()).as_deref(), expected, "{line}");
        }
    }
}
