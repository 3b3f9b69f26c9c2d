//! Calls of a traced program that are aimed at the host itself (SECURITY.md,
//! "killing or stopping the host", "changing the host").
//!
//! A traced program can name us by process id, by the id of any of our
//! threads, by process group, by user, and by the names of our files. Where a
//! call names us, one of four things becomes of it ([`Verdict`]): it is
//! refused; a signal for us is passed on to the program that we stand for; a
//! signal for a set of processes goes to all of them but us; or the kernel
//! may deliver it, and we know where it came from.
//!
//! What the kernel refuses by itself is left to it: `capset` of another
//! process, `setpgid` of one that has executed, everything that the caller has
//! no permission for. Where a check and the call are two looks at memory or at
//! descriptors, another thread of the program can come between: what is in
//! memory is then copied to where nobody can change it, and what is behind a
//! descriptor is named by its number ([`Verdict::Replace`]).
//!
//! Not covered: reading our memory and files through procfs, unless opens for
//! reading stop anyway (the kernel asks for ptrace permission); writing
//! through a descriptor that the program inherited; handles
//! (`open_by_handle_at`), an overlay over one of our directories; the block
//! device below; control groups; programs in the kernel (`bpf`); a mount propagated from another mount
//! namespace.
//!
//! This module decides; it sends no signal and changes nothing.

pub(super) mod broadcast;
mod files;
mod processes;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bstr::ByteSlice;
use libc::{c_int, pid_t};
use rustc_hash::FxHashMap;

pub(super) use broadcast::Echoes;
use broadcast::{Broadcast, Echo};

use super::filter::Stopping;
use super::sys;
use crate::decode::Arch;
use crate::event::{Errno, Event};

/// What is the host's own, in the ways a tracee can name it.
#[derive(Debug)]
pub(super) struct Own {
    pid: pid_t,
    group: pid_t,
    /// Real and saved user, by which the kernel judges who may signal us.
    users: [u32; 2],
    /// `/proc/self/task`: our threads come and go.
    threads: Option<OwnedFd>,
    /// In how many PID namespaces we are, as far as our procfs tells.
    depth: usize,
    user_namespace: Option<u64>,
    mount_namespace: Option<u64>,
    /// Signals that we take for the program: passed on to it, or ignored
    /// because it gets them too. None if we only look on (`attach`).
    taken: Vec<c_int>,
    files: files::Files,
    /// Name of a call → what it may do to us.
    rules: FxHashMap<&'static str, Rule>,
}

/// What a call may do to us.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Process(processes::Aim),
    File(files::Effect),
}

/// What shall become of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not aimed at us.
    Pass,
    /// It does not run, and its caller sees this errno.
    Refuse(Errno),
    /// It may run. We get the signal too, and must not pass it on: note it
    /// with [`broadcast::Echoes::note`] first.
    Echo(Echo),
    /// It does not run and returns 0; the program gets this signal, which was
    /// sent to us in its place.
    PassOn(c_int),
    /// It does not run and returns 0; [`Broadcast::deliver`] says who gets the
    /// signal.
    Instead(Broadcast),
    /// This call, which does the same, runs in its place: what the caller's
    /// names can be changed by others.
    Replace(&'static str, [u64; 3]),
}

impl Own {
    /// Takes stock of ourselves. `files` are those that nobody else may
    /// change: alert file, trace, plugins, and directories with all below;
    /// what is no regular file, directory or socket is left out. `taken` are
    /// the signals that we take for the program.
    pub(super) fn new(files: &[PathBuf], taken: &[c_int]) -> Self {
        let users = nix::unistd::getresuid().map_or([u32::MAX; 2], |ids| [ids.real.as_raw(), ids.saved.as_raw()]);
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let pid = std::process::id() as pid_t;
        let aims = processes::CALLS.iter().map(|(name, aim)| (*name, Rule::Process(*aim)));
        let effects = files::CALLS.iter().map(|(name, effect)| (*name, Rule::File(*effect)));
        Self {
            pid,
            group: nix::unistd::getpgrp().as_raw(),
            users,
            threads: sys::openat(libc::AT_FDCWD, c"/proc/self/task", flags).ok(),
            depth: depth(pid).unwrap_or(0),
            user_namespace: namespace(pid, "user"),
            mount_namespace: namespace(pid, "mnt"),
            taken: taken.to_vec(),
            files: files::Files::new(files),
            rules: aims.chain(effects).collect(),
        }
    }

    /// Whether this is the number of our process or of one of our threads.
    fn is_thread(&self, number: pid_t) -> bool {
        if number <= 0 {
            return false;
        }
        let listed = |threads: &OwnedFd| {
            std::ffi::CString::new(number.to_string())
                .is_ok_and(|name| sys::identity(threads.as_raw_fd(), &name, 0).is_ok())
        };
        number == self.pid || self.threads.as_ref().is_some_and(listed)
    }

    /// Whether `number`, as task `tid` uses it, names us.
    fn is_named(&self, tid: pid_t, number: pid_t) -> bool {
        self.is_thread(number) && self.shares_pids(tid)
    }

    /// Whether task `tid` numbers processes as we do. What we trace is in our
    /// PID namespace or below it, so that the depth tells. If nobody can tell,
    /// it does.
    fn shares_pids(&self, tid: pid_t) -> bool {
        depth(tid).is_none_or(|depth| depth == self.depth)
    }

    /// Whether the capabilities of task `tid` are known to count against us.
    fn shares_users(&self, tid: pid_t) -> bool {
        self.user_namespace.is_some() && namespace(tid, "user") == self.user_namespace
    }
}

/// Whether a caller may have a power over us that we cannot see: what has more
/// power than we can hide who it is.
fn may_have_power(event: &Event) -> bool {
    let (user, capabilities) = (event.process().uids[1], event.process().capabilities);
    user == u32::MAX || capabilities != 0 && namespace(event.tid, "user").is_none()
}

impl Own {
    /// Whether [`judge`] has to be asked about a call of this name.
    pub(super) fn concerns(&self, name: &str) -> bool {
        self.rules.contains_key(name)
    }

    /// How many bytes say whom a call of this name with these arguments means,
    /// if they are behind its third argument.
    pub(super) fn pointed(&self, name: &str, args: &[u64; 6]) -> Option<usize> {
        match self.rules.get(name) {
            Some(Rule::Process(aim)) => aim.pointed(args[1] as u32),
            _ => None,
        }
    }

    /// Likewise, because of files that it names.
    pub(super) fn concerns_files(&self, name: &str) -> bool {
        matches!(self.rules.get(name), Some(Rule::File(_)))
    }
}

/// The calls that must stop so that [`judge`] can be asked.
pub(super) fn stopping(own: &Own) -> Stopping {
    let mut stopping = Stopping::new();
    for (name, rule) in &own.rules {
        let predicate = match rule {
            Rule::Process(aim) => aim.stops(own),
            Rule::File(effect) => effect.stops(),
        };
        for nr in Arch::NATIVE.numbers(name) {
            stopping.entry(nr).or_default().or_all(&predicate);
        }
    }
    stopping
}

/// What shall become of the call whose entry `event` is. Its caller waits; it
/// is `alone` if nobody else can change its descriptors meanwhile; a name of it
/// that cannot be followed is `lost` if it could lead anywhere.
pub(super) fn judge(own: &Own, event: &Event, alone: bool, lost: &dyn Fn() -> bool) -> Verdict {
    let Some(call) = event.call() else { return Verdict::Pass };
    match own.rules.get(call.spec.name) {
        Some(Rule::Process(aim)) => aim.judge(own, event, call, alone),
        Some(Rule::File(effect)) if effect.harms(own, event, call, lost) => Verdict::Refuse(Errno::EACCES),
        Some(Rule::File(_)) | None => Verdict::Pass,
    }
}

/// In how many PID namespaces a task is.
fn depth(tid: pid_t) -> Option<usize> {
    numbers(tid, "NSpid:").map(|numbers| numbers.len())
}

/// A task's numbers from `/proc/TID/status`, one a PID namespace, the
/// innermost last.
fn numbers(tid: pid_t, key: &str) -> Option<Vec<pid_t>> {
    let status = fs::read(format!("/proc/{tid}/status")).ok()?;
    let rest = status.lines().find_map(|line| line.strip_prefix(key.as_bytes()))?;
    rest.to_str().ok()?.split_whitespace().map(|number| number.parse().ok()).collect()
}

/// The inode that stands for a task's namespace.
fn namespace(tid: pid_t, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{tid}/ns/{kind}")).ok().map(|found| found.ino())
}

/// Whether entry `name` of the directory `procfs` is our process or one of our
/// threads, whichever PID namespace that procfs belongs to: its `self` is us,
/// since it is we who ask.
fn is_our_entry(procfs: BorrowedFd<'_>, name: &[u8]) -> bool {
    let path = std::ffi::CString::new([b"self/task/", name].concat());
    is_number(name)
        && sys::is_procfs(procfs)
        && path.is_ok_and(|path| sys::identity(procfs.as_raw_fd(), &path, 0).is_ok())
}

fn is_number(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}
