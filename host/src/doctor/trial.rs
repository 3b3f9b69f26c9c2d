//! Trials: what the kernel answers when a thing is really done, in a forked
//! child of its own.
//!
//! A child, because a seccomp profile may answer a call by killing its caller,
//! because ptrace can wait for ever, and because a filter never comes off.
//! The child *says* each answer into a pipe as it gets it, so that a trial
//! that dies or hangs half-way still tells how far it came. It has [`LIMIT`];
//! then it is killed. Whatever it forked dies with it (`PR_SET_PDEATHSIG`,
//! `PTRACE_O_EXITKILL`).
//!
//! Other threads of ours may hold locks while we fork: between fork and
//! `_exit` a child makes system calls and allocates nothing. `child` has the
//! machinery and each system call as a safe function, the others what is
//! tried.

mod calls;
mod child;
mod tracing;

use std::time::Duration;

use nix::errno::Errno;

#[cfg(target_arch = "x86_64")]
pub(super) use calls::{abis, other_abis};
pub(super) use calls::{filtering, filters, kcmp, openat2, pidfd, sealed_page, sealing, statx};
pub(super) use child::{Bystander, page_size};
pub(super) use tracing::{read_memory, seize, seize_child, seizing, stop_at_call, stopping};

/// No trial takes longer.
const LIMIT: Duration = Duration::from_secs(2);

/// What a trial came to.
#[derive(Debug)]
pub(super) struct Trial {
    said: Vec<i64>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Left,
    Refused(Refusal),
}

/// Why a step has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The kernel said so.
    Errno(i32),
    /// The step ended its caller with this signal.
    Killed(i32),
    /// The step did not come back.
    Hung,
    /// An earlier step failed.
    NotTried,
    /// There is no child to try it in.
    NoChild(i32),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Errno(errno) => write!(f, "{:?}", Errno::from_raw(errno)),
            Self::Killed(signal) => match nix::sys::signal::Signal::try_from(signal) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Self::Hung => write!(f, "no answer within {} s, killed", LIMIT.as_secs()),
            Self::NotTried => f.write_str("not tried"),
            Self::NoChild(errno) => write!(f, "no child to try it in: {:?}", Errno::from_raw(errno)),
        }
    }
}

impl Trial {
    fn not_started(errno: i32) -> Self {
        Self { said: Vec::new(), end: End::Refused(Refusal::NoChild(errno)) }
    }

    /// What step `index` answered; an errno if it said one.
    pub(super) fn step(&self, index: usize) -> Result<i64, Refusal> {
        match (self.said.get(index), self.end) {
            (Some(&answer), _) if answer < 0 => Err(Refusal::Errno(-answer as i32)),
            (Some(&answer), _) => Ok(answer),
            (None, End::Refused(refusal)) if index == self.said.len() => Err(refusal),
            (None, _) => Err(Refusal::NotTried),
        }
    }

    /// Steps up to this one all succeeded; else the first that did not, and
    /// why.
    pub(super) fn through(&self, last: usize) -> Result<(), (usize, Refusal)> {
        (0..=last).try_for_each(|index| self.step(index).map(drop).map_err(|refusal| (index, refusal)))
    }

    /// What ended its child before the last step, if something did.
    pub(super) fn cut_short(&self) -> Option<Refusal> {
        match self.end {
            End::Left => None,
            End::Refused(refusal) => Some(refusal),
        }
    }

    /// A trial whose child said this and left.
    #[cfg(test)]
    pub(super) fn of(said: &[i64]) -> Self {
        Self { said: said.to_vec(), end: End::Left }
    }
}
