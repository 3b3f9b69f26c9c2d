//! Looks at file systems that may not answer.
//!
//! The kernel waits for the server of a network file system, and for the program
//! that serves a FUSE or an autofs one. If the tracer waited with it, nothing that
//! is traced would go on meanwhile, that very program perhaps among it. So as
//! soon as such a file system has been seen, the kernel is asked for what it
//! knows already (`RESOLVE_CACHED`, Linux 5.12), and what it does not know a
//! helper thread asks for, which is waited for only so long. Then the answer is
//! `ETIMEDOUT`, and where the name leads is unknown.
//!
//! While no such file system has been seen, these are the bare system calls.
//!
//! What this module never does: wait without end, or take an old answer for a
//! new one.

use std::ffi::{CStr, CString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};
use libc::{c_int, pid_t};

use super::resolve::{self, RESOLVE_CACHED};
use super::sys::{self, Identity};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same while another has not come yet.
const IMPATIENCE: Duration = Duration::from_millis(100);
/// Most helpers that wait for answers which nobody waits for any more.
const MOST_STUCK: usize = 64;

/// Some file system that was seen may make us wait.
static MAY_WAIT: AtomicBool = AtomicBool::new(false);
/// Helpers that have not come back.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// File systems that the kernel itself has all it needs for. Those that lie on
/// others (overlay) wait if those do, and are taken not to: every container has
/// one.
const LOCAL: [&str; 41] = [
    "binfmt_misc",
    "bpf",
    "btrfs",
    "cgroup",
    "cgroup2",
    "configfs",
    "cramfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "mqueue",
    "msdos",
    "nfsd",
    "nsfs",
    "ntfs3",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "vfat",
    "xfs",
];

/// Looks at what is mounted where task `tid` lives.
pub(super) fn notice_mounts(tid: pid_t) {
    if MAY_WAIT.load(Ordering::Relaxed) {
        return;
    }
    let list = std::fs::read(format!("/proc/{tid}/mountinfo")).unwrap_or_default();
    // Of a task that has ended nothing is shown.
    if list.is_empty() || list.lines().any(|line| !is_local(line)) {
        MAY_WAIT.store(true, Ordering::Relaxed);
    }
}

/// A file system of this kind may be mounted, where it may not be shown.
pub(super) fn notice_kind(kind: &BStr) {
    if !is_local_kind(kind) {
        MAY_WAIT.store(true, Ordering::Relaxed);
    }
}

fn is_local_kind(kind: &[u8]) -> bool {
    LOCAL.iter().any(|local| kind == local.as_bytes())
}

/// Whether a line of a list of mounts (`proc_pid_mountinfo(5)`) is a local
/// file system's.
fn is_local(line: &[u8]) -> bool {
    let kind = line.split_str(" - ").nth(1).and_then(|rest| rest.split_str(" ").next());
    kind.is_some_and(is_local_kind)
}

/// Whether a question failed because nobody answered in time.
pub(super) fn is_unanswered(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETIMEDOUT)
}

/// openat2(2).
pub(super) fn openat2(dir: c_int, path: &CStr, flags: c_int, resolve: u64) -> io::Result<OwnedFd> {
    if !MAY_WAIT.load(Ordering::Relaxed) {
        return sys::openat2(dir, path, flags, resolve);
    }
    if sys::kernel() >= (5, 12) {
        let known = sys::openat2(dir, path, flags, resolve | RESOLVE_CACHED);
        if !known.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EAGAIN)) {
            return known;
        }
    }
    ask_at(dir, path, move |dir, path| sys::openat2(dir, path, flags, resolve))
}

/// openat(2).
pub(super) fn openat(dir: c_int, path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    if MAY_WAIT.load(Ordering::Relaxed) { openat2(dir, path, flags, 0) } else { sys::openat(dir, path, flags) }
}

/// What a symbolic link contains.
pub(super) fn read_link(dir: c_int, path: &CStr) -> io::Result<BString> {
    if !MAY_WAIT.load(Ordering::Relaxed) {
        return resolve::read_link(dir, path);
    }
    ask_at(dir, path, resolve::read_link)
}

/// statx(2) of what `dir` and `path` lead to; `flags` are `AT_*`.
pub(super) fn identity(dir: c_int, path: &CStr, flags: c_int) -> io::Result<Identity> {
    if !MAY_WAIT.load(Ordering::Relaxed) {
        return sys::identity(dir, path, flags);
    }
    ask_at(dir, path, move |dir, path| sys::identity(dir, path, flags))
}

/// Owner, mode and the like of what a descriptor refers to.
pub(super) fn metadata(fd: OwnedFd) -> io::Result<Metadata> {
    let question = move || File::from(fd).metadata();
    if MAY_WAIT.load(Ordering::Relaxed) { ask(question) } else { question() }
}

/// Whether a descriptor is on procfs, or there is no telling.
pub(super) fn is_procfs(fd: BorrowedFd<'_>) -> bool {
    if !MAY_WAIT.load(Ordering::Relaxed) {
        return sys::is_procfs(fd);
    }
    let asked = fd.try_clone_to_owned().and_then(|fd| ask(move || Ok(sys::is_procfs(fd.as_fd()))));
    asked.unwrap_or(true)
}

/// Has a helper do what a name and a directory are needed for.
fn ask_at<T: Send + 'static>(
    dir: c_int,
    path: &CStr,
    question: impl FnOnce(c_int, &CStr) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = CString::from(path);
    if dir == libc::AT_FDCWD {
        return ask(move || question(libc::AT_FDCWD, &path));
    }
    let dir = sys::duplicate(dir)?;
    ask(move || question(dir.as_raw_fd(), &path))
}

type Job = Box<dyn FnOnce() + Send>;

/// What becomes of an answer: whoever is first decides.
#[derive(Debug, Default)]
struct Decided(AtomicBool);

impl Decided {
    fn first(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }
}

/// Has a helper ask, and waits for the answer within bounds.
fn ask<T: Send + 'static>(question: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    static HELPER: Mutex<Option<Sender<Job>>> = Mutex::new(None);
    let stuck = STUCK.load(Ordering::SeqCst);
    if stuck >= MOST_STUCK {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    let decided = Arc::new(Decided::default());
    let (sender, answers) = mpsc::channel();
    let of_helper = decided.clone();
    let job: Job = Box::new(move || {
        let answer = question();
        if of_helper.first() {
            let _nobody = sender.send(answer);
        } else {
            STUCK.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let mut helper = HELPER.lock().unwrap_or_else(PoisonError::into_inner);
    let jobs = match helper.take() {
        Some(jobs) => jobs,
        None => start()?,
    };
    jobs.send(job).map_err(|_| io::Error::other("the thread that looks at file systems has ended"))?;
    let patience = if stuck == 0 { PATIENCE } else { IMPATIENCE };
    if let Ok(answer) = answers.recv_timeout(patience) {
        *helper = Some(jobs);
        return answer;
    }
    if !decided.first() {
        // It came at the last moment.
        *helper = Some(jobs);
        return answers.recv().map_err(|_| io::Error::from_raw_os_error(libc::ETIMEDOUT))?;
    }
    // It ends when it comes back: nobody has another job for it.
    if STUCK.fetch_add(1, Ordering::SeqCst) == 0 {
        tracing::warn!(
            "a file system has not answered within {} s: where names on it lead is unknown to plugins until it does",
            PATIENCE.as_secs()
        );
    }
    Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
}

fn start() -> io::Result<Sender<Job>> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    thread::Builder::new().name("lookups".into()).spawn(move || waiting.into_iter().for_each(|job| job()))?;
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn which_file_systems_are_local() {
        assert!(is_local(b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"));
        assert!(is_local(b"25 30 0:23 / /proc rw,nosuid shared:12 - proc proc rw"));
        assert!(!is_local(b"99 30 0:50 / /data rw - nfs4 server:/ rw,hard"));
        assert!(!is_local(b"99 30 0:50 / /data rw - fuse.sshfs a:/ rw"));
        assert!(!is_local(b"99 30 0:50 / /net rw - autofs systemd-1 rw"));
        assert!(!is_local(b"rubbish"));
        assert!(LOCAL.is_sorted());
    }

    /// Who does not come back is waited for once, then hardly; and when it has
    /// come back all is as before.
    #[test]
    fn nobody_is_waited_for_without_end() -> io::Result<()> {
        assert_eq!(ask(|| Ok(7))?, 7);
        let (release, released) = mpsc::channel::<()>();
        let late = ask(move || Ok(released.recv().is_ok()));
        assert_eq!(late.map_err(|error| error.raw_os_error()), Err(Some(libc::ETIMEDOUT)));
        assert_eq!(STUCK.load(Ordering::SeqCst), 1);
        release.send(()).expect("it waits for this");
        let since = Instant::now();
        while STUCK.load(Ordering::SeqCst) > 0 {
            assert!(since.elapsed() < Duration::from_mins(1));
            thread::yield_now();
        }
        assert_eq!(ask(|| Ok(9))?, 9);
        Ok(())
    }
}
