//! Signals to many processes, of which we are one.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libc::{c_int, pid_t};

use super::super::procfs;
use crate::event::Process;

/// A signal that all processes of a set get but us.
///
/// The kernel does this in one go, we one process after the other: children
/// that are born meanwhile are looked for again. The receivers see us as the
/// sender (`si_pid`), and Landlock's scope for signals, of which nothing can be
/// learned from outside, does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Broadcast {
    pub(super) signal: c_int,
    pub(super) to: Set,
    pub(super) sender: Sender,
}

/// Processes that kill(2) can name together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// A process group.
    Group(pid_t),
    /// All but the sender's own process and PID 1.
    Everyone,
}

/// By whose permission.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) pid: pid_t,
    /// Real and effective.
    pub(super) users: [u32; 2],
    /// It has `CAP_KILL` over our user namespace.
    pub(super) may_signal_all: bool,
}

const CAP_KILL: u32 = 5;

impl Sender {
    pub(super) fn of(process: &Process, shares_users: bool) -> Self {
        Self {
            pid: process.pid,
            users: [process.uids[0], process.uids[1]],
            may_signal_all: shares_users && process.capabilities & (1 << CAP_KILL) != 0,
        }
    }

    /// Whether it may signal a process with this real and saved user
    /// (`kill_ok_by_cred`).
    pub(super) fn may_signal(&self, users: [u32; 2]) -> bool {
        // What procfs cannot tell, and users that have no number here, are -1.
        let same = |user: &u32| *user != u32::MAX && users.contains(user);
        self.may_signal_all || self.users.iter().any(same)
    }
}

impl Broadcast {
    /// How often new members are looked for.
    const ROUNDS: usize = 16;

    /// The signal.
    pub(in super::super) fn signal(&self) -> c_int {
        self.signal
    }

    /// Has `send` called once for every process that shall get the signal, the
    /// sender's own last.
    pub(in super::super) fn deliver(&self, mut send: impl FnMut(pid_t)) {
        let mut sent = Vec::new();
        for _ in 0..Self::ROUNDS {
            let new: Vec<pid_t> = self.members().filter(|pid| !sent.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                send(pid);
                sent.push(pid);
            }
        }
        if matches!(self.to, Set::Group(_)) && in_group(self.sender.pid, self.to) {
            send(self.sender.pid);
        }
    }

    /// Who is in the set now, without us and the sender, and may be signalled.
    fn members(&self) -> impl Iterator<Item = pid_t> {
        let own = std::process::id() as pid_t;
        let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
        listed
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(move |pid| *pid != own && *pid != self.sender.pid && in_group(*pid, self.to))
            .filter(|pid| {
                let [real, _, saved, _] = procfs::process(*pid).uids;
                self.sender.may_signal([real, saved])
            })
    }
}

fn in_group(pid: pid_t, set: Set) -> bool {
    match set {
        Set::Group(group) => {
            nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))).is_ok_and(|found| found.as_raw() == group)
        }
        Set::Everyone => pid > 1,
    }
}

/// A signal that reaches us beside the program, because a traced program sent
/// it to a set of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Echo {
    pub(super) signal: c_int,
    /// `si_pid`: the sender as its own PID namespace numbers it.
    pub(super) sender: pid_t,
}

/// Echoes that are to come. Shared by the engine, which notes them, and the
/// thread that takes signals.
#[derive(Debug, Default)]
pub(in super::super) struct Echoes(Mutex<HashMap<Echo, Instant>>);

impl Echoes {
    /// A signal is delivered before kill(2) returns, and taken soon. Later the
    /// sender's number may be another's.
    const FRESH: Duration = Duration::from_secs(10);

    /// To be called before the call runs.
    pub(in super::super) fn note(&self, echo: Echo) {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expected.retain(|_, since| since.elapsed() < Self::FRESH);
        expected.insert(echo, Instant::now());
    }

    /// Whether a signal that we took (`siginfo_t`) is an echo: the program has
    /// got it already. Several may be merged into one, so that none is used up.
    pub(in super::super) fn is_echo(&self, signal: c_int, code: c_int, sender: pid_t) -> bool {
        let expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        code == libc::SI_USER
            && expected.get(&Echo { signal, sender }).is_some_and(|since| since.elapsed() < Self::FRESH)
    }
}
