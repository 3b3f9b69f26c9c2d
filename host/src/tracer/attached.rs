//! Which mounts have a place in a tree.
//!
//! A descriptor outlives the place of what it refers to: the mount can be
//! taken away (`umount2(2)` with `MNT_DETACH`), its namespace can end, or it
//! was never put anywhere (`fsmount(2)`, `open_tree(2)`). The kernel then names
//! objects from the root of that mount, so that `/srv/volume/secret` is called
//! `/secret`: such a name says nothing.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{LazyLock, Mutex, PoisonError};

use libc::pid_t;

use super::lookup;
use super::resolve::proc_path;
use super::sys::{self, Place as Mounted};

/// Longest list of mounts that is looked through.
const LONGEST: u64 = 16 << 20;
/// Directories on the way to the top of a tree, at most.
const DEEPEST: usize = 256;

/// Roots that trees are known by: ours, and those that processes had when they
/// were attached to.
static ROOTS: LazyLock<Mutex<HashSet<Mounted>>> = LazyLock::new(|| {
    let ours = sys::identity(libc::AT_FDCWD, c"/", 0).map(|found| found.place());
    Mutex::new(ours.into_iter().collect())
});

/// The root of a process that was attached to is taken for one.
pub(super) fn trust_root_of(pid: pid_t) {
    if let Ok(found) = lookup::identity(libc::AT_FDCWD, &proc_path(pid, "root"), 0) {
        ROOTS.lock().unwrap_or_else(PoisonError::into_inner).insert(found.place());
    }
}

/// Mounts that were found in a tree that lasts as long as its task, or as we.
#[derive(Debug, Default)]
pub(super) struct Attached(Mutex<BTreeSet<u64>>);

/// Whether a mount has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    /// Now: in a namespace that ends when others do.
    Now,
    /// As long as nobody takes it away.
    Stays,
}

impl Attached {
    /// Where the mount of `fd` is: in the tree of task `tid` or in ours, or in
    /// one of the same root, since a task that has changed its root is shown
    /// only what is below.
    pub(super) fn place(&self, tid: pid_t, fd: BorrowedFd<'_>) -> Place {
        let Ok(found) = sys::identity_of(fd) else { return Place::Nowhere };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&found.mount) {
            return Place::Stays;
        }
        let lists = [format!("/proc/{tid}/mountinfo"), "/proc/self/mountinfo".to_owned()];
        if lists.iter().any(|list| is_listed(list, found.mount)) {
            known.insert(found.mount);
            Place::Stays
        } else if has_known_top(fd) {
            Place::Now
        } else {
            Place::Nowhere
        }
    }

    /// Whether it is anywhere.
    pub(super) fn has(&self, tid: pid_t, fd: BorrowedFd<'_>) -> bool {
        self.place(tid, fd) != Place::Nowhere
    }
}

/// Whether steps up from a directory lead to a root that is known. The root of
/// a tree is its own parent; our own root is the only one that stops us before.
fn has_known_top(fd: BorrowedFd<'_>) -> bool {
    let up = |fd: BorrowedFd<'_>| {
        lookup::openat(fd.as_raw_fd(), c"..", libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY).ok()
    };
    let Some(mut here) = up(fd) else { return false };
    for _ in 0..DEEPEST {
        let Some(above) = up(here.as_fd()) else { return false };
        let (Ok(this), Ok(parent)) = (sys::identity_of(&here), sys::identity_of(&above)) else { return false };
        if this == parent {
            return ROOTS.lock().unwrap_or_else(PoisonError::into_inner).contains(&this.place());
        }
        here = above;
    }
    false
}

/// Whether a list of mounts (`proc_pid_mountinfo(5)`) has this one.
fn is_listed(list: &str, mount: u64) -> bool {
    let Ok(file) = File::open(list) else { return false };
    let mut lines = BufReader::new(file.take(LONGEST));
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        let id = line.split(|byte| *byte == b' ').next().and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        if id == Some(mount) {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_and_a_pipe_is_not() -> std::io::Result<()> {
        let tid = std::process::id() as pid_t;
        let attached = Attached::default();
        let root = File::open("/")?;
        assert!(attached.has(tid, root.as_fd()));
        assert!(attached.has(-1, root.as_fd()), "known");
        let (reader, _writer) = std::io::pipe()?;
        assert!(!attached.has(tid, reader.as_fd()));
        Ok(())
    }

    #[test]
    fn steps_up_end_at_our_root() -> std::io::Result<()> {
        assert!(has_known_top(File::open(env!("CARGO_MANIFEST_DIR"))?.as_fd()));
        assert!(has_known_top(File::open("/")?.as_fd()));
        assert!(!has_known_top(File::open("/proc/self/status")?.as_fd()), "no directory");
        Ok(())
    }
}
