//! Which mounts have a place in a tree.
//!
//! A descriptor outlives the place of what it refers to: the mount can be
//! taken away (`umount2(2)` with `MNT_DETACH`), its namespace can end, or it
//! was never put anywhere (`fsmount(2)`, `open_tree(2)`). The kernel then names
//! objects from the root of that mount, so that `/srv/volume/secret` is called
//! `/secret`: such a name says nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::sync::{Mutex, PoisonError};

use libc::pid_t;

/// Longest list of mounts that is looked through.
const LONGEST: u64 = 16 << 20;

/// Mounts that were found in the tree of a task or in ours.
#[derive(Debug, Default)]
pub(super) struct Attached(Mutex<BTreeSet<u64>>);

impl Attached {
    /// Whether this mount (`stx_mnt_id` of statx(2)) is in the tree of task
    /// `tid` or in ours. What was found once is taken to stay.
    pub(super) fn has(&self, tid: pid_t, mount: u64) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&mount) {
            return true;
        }
        let found = is_listed(&format!("/proc/{tid}/mountinfo"), mount) || is_listed("/proc/self/mountinfo", mount);
        if found {
            known.insert(mount);
        }
        found
    }
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
    use crate::tracer::sys;

    #[test]
    fn the_root_is_and_a_pipe_is_not() -> std::io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let tid = std::process::id() as pid_t;
        let attached = Attached::default();
        let root = sys::identity(libc::AT_FDCWD, c"/", 0)?;
        assert!(attached.has(tid, root.mount));
        assert!(attached.has(-1, root.mount), "known");
        let (reader, _writer) = std::io::pipe()?;
        let pipe = sys::identity(reader.as_raw_fd(), c"", libc::AT_EMPTY_PATH)?;
        assert!(!attached.has(tid, pipe.mount));
        Ok(())
    }
}
