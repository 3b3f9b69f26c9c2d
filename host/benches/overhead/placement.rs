//! On which CPUs a measurement runs.
//!
//! Tracer and tracee take turns, so that what a stop costs depends on where
//! they are: on one CPU a turn is a context switch, on two it is also a
//! wake-up of an idle CPU, which under a hypervisor can cost ten times more.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Where the measured programs may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Tracer and tracee on one CPU.
    Together,
    /// Wherever the scheduler puts them.
    Free,
}

impl Placement {
    pub(crate) const ALL: [Self; 2] = [Self::Together, Self::Free];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::Free => "free",
        }
    }

    /// Runs `f`, whose child processes inherit the placement.
    pub(crate) fn during<T>(self, f: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        if self == Self::Free {
            return f();
        }
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let mut one = CpuSet::new();
        one.set(last_cpu(&before))?;
        sched_setaffinity(this, &one)?;
        let result = f();
        sched_setaffinity(this, &before)?;
        result
    }
}

/// The last CPU that we may use: interrupts prefer the first.
fn last_cpu(allowed: &CpuSet) -> usize {
    (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu) == Ok(true)).unwrap_or(0)
}
