//! Follows a name one component at a time, as the tracee's own kernel path
//! walk would: from the tracee's root and directory, `..` confined to its
//! root, `/proc/self` taken as the tracee, magic links of procfs crossed by
//! the kernel.
//!
//! It opens nothing but `O_PATH` descriptors, and stops after the 40 links
//! that the kernel allows (`path_resolution(7)`).

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use bstr::{BStr, BString, ByteSlice};
use libc::c_int;

use super::lookup;
use super::resolve::{Ids, Place, Root, join, name_of, proc_path};
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
const S_IFDIR: u16 = libc::S_IFDIR as u16;

/// Follows `name` from `base`, or from `root` if it is absolute.
pub(super) fn walk(
    root: &Root,
    base: Option<OwnedFd>,
    place: &Place<'_>,
    name: &BStr,
    follow: bool,
) -> io::Result<ResolvedPath> {
    let root = match root {
        Root::Ours => lookup::openat(libc::AT_FDCWD, c"/", NAMING | libc::O_DIRECTORY)?,
        Root::Theirs(fd) => fd.try_clone()?,
    };
    let here = match base {
        Some(base) => base,
        None => root.try_clone()?,
    };
    let mut walk =
        Walk { root, here, place, ids: place.ids, left: VecDeque::new(), links: 0, directory: false, through: None };
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
    /// A link has said that its name is a directory's.
    directory: bool,
    /// The root of the procfs whose `self` was followed last, and the number
    /// that it led to.
    through: Option<(OwnedFd, String)>,
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
            let found = lookup::openat(self.here.as_raw_fd(), &name, NAMING | libc::O_NOFOLLOW);
            if found.is_err() {
                self.note_absent(&component);
            }
            let found = match found {
                Err(error) if last && !self.directory && error.raw_os_error() == Some(libc::ENOENT) => {
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
        if self.directory && sys::identity_of(&self.here)?.kind != S_IFDIR {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        Ok(ResolvedPath { path: name_of(self.here.as_fd())?, state: PathState::Exists })
    }

    /// What is not there, in procfs, can come to be there while no name changes:
    /// with a process, with a descriptor.
    fn note_absent(&self, component: &[u8]) {
        const MAGIC: [&[u8]; 6] = [b"cwd", b"root", b"exe", b"fd", b"map_files", b"ns"];
        if !lookup::is_procfs(self.here.as_fd()) {
            return;
        }
        let here = name_of(self.here.as_fd()).unwrap_or_default();
        let directory = here.rsplit_str("/").next().unwrap_or_default();
        let mut names = [directory, component].into_iter().chain(self.left.iter().map(|name| &name[..]));
        if names.any(|name| MAGIC.contains(&name)) {
            let own = sys::identity_of(&self.here).is_ok_and(|here| self.is_own(here));
            self.place.crossed.note_absent(!own);
        }
    }

    fn up(&mut self) -> io::Result<()> {
        let here = sys::identity_of(&self.here)?;
        let root = sys::identity_of(&self.root)?;
        if here != root {
            self.here = lookup::openat(self.here.as_raw_fd(), c"..", NAMING | libc::O_DIRECTORY)?;
        }
        Ok(())
    }

    fn follow_link(&mut self, name: &CString, link: &OwnedFd) -> io::Result<()> {
        if lookup::is_procfs(self.here.as_fd()) {
            let directory = sys::identity_of(&self.here)?;
            let at_root = directory.inode == PROC_ROOT_INODE;
            match (at_root, name.as_bytes()) {
                (true, which @ (b"self" | b"thread-self")) => {
                    let (pid, tid) = self.ids_in_procfs()?;
                    let target = if which == b"self" { pid.clone() } else { format!("{pid}/task/{tid}") };
                    self.through = Some((self.here.try_clone()?, pid));
                    return self.queue(target.as_bytes());
                }
                (true, _) => {}
                // A magic link, or one that the kernel makes up relative to here.
                (false, _) => {
                    let others = !self.is_own(directory);
                    self.place.crossed.note(others);
                    let target = lookup::openat(self.here.as_raw_fd(), name, NAMING);
                    // It was there a moment ago.
                    self.here = target.inspect_err(|_| self.place.crossed.note_absent(others))?;
                    return self.place.check(self.here.as_fd());
                }
            }
        }
        let target = lookup::read_link(link.as_raw_fd(), c"")?;
        let names_directory = target.ends_with(b"/") || target.ends_with(b"/.");
        self.directory |= self.left.is_empty() && names_directory;
        if target.starts_with(b"/") {
            self.here = self.root.try_clone()?;
        }
        self.queue(&target)
    }

    /// Whether a procfs directory is of the task's own process, wherever that
    /// procfs is mounted: by the number that we know, or by the one to which
    /// its `self` has led.
    fn is_own(&self, directory: Identity) -> bool {
        let Ok(name) = name_of(self.here.as_fd()) else { return false };
        let is_below = |root: c_int, prefix: &str, pid: &str| {
            // From the number on its name is the same in any mount.
            let components: Vec<&[u8]> = name.split_str("/").collect();
            let Some(at) = components.iter().rposition(|component| *component == pid.as_bytes()) else { return false };
            let below = [prefix.as_bytes(), &bstr::join("/", &components[at..])].concat();
            let own = CString::new(below)
                .ok()
                .and_then(|below| lookup::identity(root, &below, libc::AT_SYMLINK_NOFOLLOW).ok());
            own.is_some_and(|own| own.place() == directory.place())
        };
        OURS.is_some_and(|own| own.shares_device(&directory))
            && is_below(libc::AT_FDCWD, "/proc/", &self.ids.pid.to_string())
            || self.through.as_ref().is_some_and(|(root, pid)| is_below(root.as_raw_fd(), "", pid))
    }

    /// The tracee's process and thread id as the procfs at `here` numbers
    /// them. Each PID namespace has its own numbers; in our own procfs, wherever
    /// it is mounted, they are those that we know, in another one those by
    /// which it shows the tracee.
    fn ids_in_procfs(&self) -> io::Result<(String, String)> {
        let here = sys::identity_of(&self.here)?;
        if OURS.is_some_and(|ours| ours.shares_device(&here)) {
            return Ok((self.ids.pid.to_string(), self.ids.tid.to_string()));
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.ids.tid))?;
        let (pids, tids) = (numbers(&status, "NStgid:"), numbers(&status, "NSpid:"));
        let namespace = lookup::identity(libc::AT_FDCWD, &proc_path(self.ids.tid, "ns/pid"), 0)?.inode;
        let is_theirs = |pid: &str, tid: &str| {
            let entry = |name: &str| CString::new(format!("{pid}/task/{tid}/{name}")).ok();
            let in_namespace = entry("ns/pid")
                .and_then(|link| lookup::identity(self.here.as_raw_fd(), &link, 0).ok())
                .is_some_and(|found| found.inode == namespace);
            // Its innermost number names it within its own namespace.
            let number = entry("status").and_then(|name| read_at(self.here.as_fd(), &name).ok());
            in_namespace && number.is_some_and(|status| numbers(&status, "NSpid:").last() == tids.last())
        };
        let found = pids.iter().zip(&tids).rev().find(|(pid, tid)| is_theirs(pid, tid));
        // Perhaps it is not there; perhaps we may not look.
        let (pid, tid) = found.ok_or_else(|| io::Error::other("a process that its procfs does not show us"))?;
        Ok((pid.clone(), tid.clone()))
    }
}

/// The root of our own procfs.
static OURS: LazyLock<Option<Identity>> = LazyLock::new(|| sys::identity(libc::AT_FDCWD, c"/proc", 0).ok());

/// A task's numbers in a `status` file, one a PID namespace, the innermost
/// last.
fn numbers(status: &str, key: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.map(|rest| rest.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

/// The content of a file below a directory.
fn read_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<String> {
    let file = lookup::openat(directory.as_raw_fd(), name, libc::O_RDONLY | libc::O_CLOEXEC)?;
    io::read_to_string(std::fs::File::from(file))
}
