//! Follows a name one component at a time, as the tracee's own kernel path
//! walk would: from the tracee's root and directory, `..` confined to its
//! root, `/proc/self` taken as the tracee, magic links of procfs crossed by
//! the kernel.
//!
//! It opens nothing but `O_PATH` descriptors, and stops after the 40 links
//! that the kernel allows (`path_resolution(7)`).

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use bstr::{BStr, BString, ByteSlice};
use libc::c_int;

use super::resolve::{Ids, Place, Root, join, name_of, proc_path, read_link};
use super::sys::{self, Identity};
use crate::event::{PathState, ResolvedPath};

/// `path_resolution(7)`
const MAX_LINKS: u32 = 40;
/// Components that a walk may queue: the name and 40 links, each of 4,096
/// bytes at the most and a component in every two of them.
const MAX_COMPONENTS: usize = 41 * 2048;
/// Inode of the root directory of every procfs (`PROC_ROOT_INO`).
const PROC_ROOT_INODE: u64 = 1;
const NAMING: c_int = libc::O_PATH | libc::O_CLOEXEC;
const S_IFLNK: u16 = libc::S_IFLNK as u16;

/// Follows `name` from `base`, or from `root` if it is absolute.
pub(super) fn walk(
    root: &Root,
    base: Option<OwnedFd>,
    place: &Place<'_>,
    name: &BStr,
    follow: bool,
) -> io::Result<ResolvedPath> {
    let root = match root {
        Root::Ours => sys::openat(libc::AT_FDCWD, c"/", NAMING | libc::O_DIRECTORY)?,
        Root::Theirs(fd) => fd.try_clone()?,
    };
    let here = match base {
        Some(base) => base,
        None => root.try_clone()?,
    };
    let mut walk = Walk { root, here, place, ids: place.ids, left: VecDeque::new(), links: 0 };
    walk.queue(name)?;
    walk.run(follow || name.ends_with(b"/"))
}

struct Walk<'a, 'p> {
    root: OwnedFd,
    here: OwnedFd,
    place: &'a Place<'p>,
    ids: Ids,
    left: VecDeque<BString>,
    links: u32,
}

impl Walk<'_, '_> {
    /// Puts the components of a name before those that are left.
    fn queue(&mut self, name: &[u8]) -> io::Result<()> {
        let components: Vec<&[u8]> = name.split_str("/").filter(|c| !c.is_empty() && *c != b".").collect();
        if self.left.len() + components.len() > MAX_COMPONENTS {
            return Err(io::Error::other("more components than the kernel follows"));
        }
        for component in components.into_iter().rev() {
            self.left.push_front(BString::from(component));
        }
        Ok(())
    }

    fn run(mut self, follow: bool) -> io::Result<ResolvedPath> {
        while let Some(component) = self.left.pop_front() {
            if component == ".." {
                self.up()?;
                continue;
            }
            let last = self.left.is_empty();
            let name = CString::new(component.to_vec()).map_err(|_| io::ErrorKind::InvalidInput)?;
            let found = match sys::openat(self.here.as_raw_fd(), &name, NAMING | libc::O_NOFOLLOW) {
                Err(error) if last && error.raw_os_error() == Some(libc::ENOENT) => {
                    let path = join(&name_of(self.here.as_fd())?, &component);
                    return Ok(ResolvedPath { path, state: PathState::Missing });
                }
                found => found?,
            };
            let identity = sys::identity_of(&found)?;
            if identity.kind == S_IFLNK && (follow || !last) {
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                self.follow_link(&name, &found)?;
            } else {
                self.here = found;
            }
        }
        Ok(ResolvedPath { path: name_of(self.here.as_fd())?, state: PathState::Exists })
    }

    fn up(&mut self) -> io::Result<()> {
        let here = sys::identity_of(&self.here)?;
        let root = sys::identity_of(&self.root)?;
        if here != root {
            self.here = sys::openat(self.here.as_raw_fd(), c"..", NAMING | libc::O_DIRECTORY)?;
        }
        Ok(())
    }

    fn follow_link(&mut self, name: &CString, link: &OwnedFd) -> io::Result<()> {
        if sys::is_procfs(self.here.as_fd()) {
            let directory = sys::identity_of(&self.here)?;
            let at_root = directory.inode == PROC_ROOT_INODE;
            match (at_root, name.as_bytes()) {
                (true, b"self") => {
                    let (pid, _) = self.ids_in_procfs()?;
                    return self.queue(pid.as_bytes());
                }
                (true, b"thread-self") => {
                    let (pid, tid) = self.ids_in_procfs()?;
                    return self.queue(format!("{pid}/task/{tid}").as_bytes());
                }
                (true, _) => {}
                // A magic link, or one that the kernel makes up relative to here.
                (false, _) => {
                    if !self.is_own(directory) {
                        self.place.through_others.store(true, Ordering::Relaxed);
                    }
                    self.here = sys::openat(self.here.as_raw_fd(), name, NAMING)?;
                    return self.place.check(self.here.as_fd());
                }
            }
        }
        let target = read_link(link.as_raw_fd(), c"")?;
        if target.starts_with(b"/") {
            self.here = self.root.try_clone()?;
        }
        self.queue(&target)
    }

    /// Whether the procfs directory at `here` is the task's own. Only our own
    /// procfs numbers processes as we do.
    fn is_own(&self, directory: Identity) -> bool {
        static OURS: LazyLock<Option<Identity>> = LazyLock::new(|| sys::identity(libc::AT_FDCWD, c"/proc", 0).ok());
        let own = format!("/proc/{}/", self.ids.pid);
        OURS.is_some_and(|ours| ours.is_beside(&directory))
            && name_of(self.here.as_fd()).is_ok_and(|mut name| {
                name.push(b'/');
                name.starts_with(own.as_bytes())
            })
    }

    /// The tracee's process and thread id as the procfs at `here` numbers
    /// them: the innermost of its PID namespaces whose number is there.
    fn ids_in_procfs(&self) -> io::Result<(String, String)> {
        let status = std::fs::read_to_string(std::path::Path::new(
            proc_path(self.ids.tid, "status").to_str().map_err(|_| io::ErrorKind::InvalidData)?,
        ))?;
        let numbers = |key: &str| -> Vec<String> {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|rest| rest.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        let (pids, tids) = (numbers("NStgid:"), numbers("NSpid:"));
        let pairs: Vec<_> = pids.into_iter().zip(tids).rev().collect();
        if pairs.is_empty() {
            return Ok((self.ids.pid.to_string(), self.ids.tid.to_string()));
        }
        pairs
            .into_iter()
            .find(|(pid, tid)| {
                CString::new(format!("{pid}/task/{tid}"))
                    .is_ok_and(|path| sys::identity(self.here.as_raw_fd(), &path, 0).is_ok())
            })
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
