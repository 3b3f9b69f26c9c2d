//! Room for the host's own file descriptors. The program starts with the
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

/// Descriptors kept for tasks; with a thousand threads not each has its own.
const MOST_KEPT: usize = 256;
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// A descriptor that counts as kept.
#[derive(Debug)]
pub(super) struct Kept(OwnedFd);

impl Kept {
    /// Keeps `fd`, or gives it back if enough are kept.
    pub(super) fn keep(fd: OwnedFd) -> Result<Self, OwnedFd> {
        if KEPT.fetch_add(1, Ordering::Relaxed) < MOST_KEPT {
            Ok(Self(fd))
        } else {
            KEPT.fetch_sub(1, Ordering::Relaxed);
            Err(fd)
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for Kept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
