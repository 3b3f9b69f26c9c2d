//! Quota for the host's own file descriptors. The program starts with the
//! limit that we were started with.
//!
//! Where there is no room a name cannot be followed, and is `unknown`.
#![allow(unsafe_code, reason = "setrlimit, also after fork")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

static INHERITED: OnceLock<libc::rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub(super) fn make_room() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills the structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 && INHERITED.set(limit).is_ok() {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: the call reads the structure. If it fails we keep what we have.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
    }
}

/// Gives the program the limit that we were started with. Between fork and
/// exec: only a system call.
///
/// # Safety
/// To be called in a forked child only.
pub(super) unsafe fn restore_in_child() {
    if let Some(limit) = INHERITED.get() {
        // SAFETY: the call reads the structure.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) };
    }
}

/// What descriptors are kept for. Each may take a part of what there is room
/// for, so that there is always some to look with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Where tasks stand; with a thousand threads not each has its own.
    Directories,
    /// Two a task.
    Pagemaps,
    /// Memory for what is judged, one an address space.
    Regions,
}

/// How many are kept for each purpose, however much room there is.
const MOST_KEPT: [usize; 3] = [256, 128, 1 << 20];
static KEPT: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

impl Purpose {
    /// One part in so many of all descriptors is for it.
    fn part(self) -> u64 {
        match self {
            Self::Directories | Self::Regions => 4,
            Self::Pagemaps => 8,
        }
    }

    fn most(self) -> usize {
        static LIMIT: OnceLock<u64> = OnceLock::new();
        let limit = LIMIT.get_or_init(|| INHERITED.get().map_or(256, |inherited| inherited.rlim_max));
        MOST_KEPT[self as usize].min(usize::try_from(limit / self.part()).unwrap_or(usize::MAX))
    }
}

/// Quota for what is kept, given back in the end.
#[derive(Debug)]
pub(super) struct Quota(Purpose);

impl Quota {
    /// Takes room; none if enough is kept.
    pub(super) fn take(purpose: Purpose) -> Option<Self> {
        let quota = Self(purpose);
        (KEPT[purpose as usize].fetch_add(1, Ordering::Relaxed) < purpose.most()).then_some(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        KEPT[self.0 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A descriptor of a directory that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    fd: OwnedFd,
    _quota: Quota,
}

impl Kept {
    /// Keeps `fd`, or gives it back if enough are kept.
    pub(super) fn keep(fd: OwnedFd) -> Result<Self, OwnedFd> {
        match Quota::take(Purpose::Directories) {
            Some(quota) => Ok(Self { fd, _quota: quota }),
            None => Err(fd),
        }
    }
}

impl AsFd for Kept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let most = Purpose::Pagemaps.most();
        assert!((1..=128).contains(&most));
        for _ in 0..2 {
            let taken: Vec<Quota> = std::iter::from_fn(|| Quota::take(Purpose::Pagemaps)).collect();
            assert_eq!(taken.len(), most);
            assert!(Quota::take(Purpose::Regions).is_some(), "it is another's");
        }
    }
}
