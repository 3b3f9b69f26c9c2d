//! Where a name that a tracee passed leads.
//!
//! Three ways, same answer. The *straight* way asks the kernel whether an
//! absolute name leads through any symbolic link (openat2 with
//! `RESOLVE_NO_SYMLINKS`); most do not, and then the name is the answer. The
//! *fast* way hands the whole name to the kernel
//! (openat2 with `O_PATH`, which opens nothing) and reads back the object's
//! name. The kernel then follows the name as *us*, so it serves only where
//! that makes no difference: the tracee has our root, or an absolute name can
//! be confined to the tracee's root; no magic link is crossed
//! (`RESOLVE_NO_MAGICLINKS`); and the result does not lead through our own
//! `/proc/self`. Everything else goes the *slow* way, `walk.rs`, one
//! component at a time.
//!
//! The result is named from the root of the mount namespace, even for a
//! chrooted tracee, so that `chroot("/etc"); open("/shadow")` is
//! `/etc/shadow`.
//!
//! What this module never does: open a file for reading or writing, follow a
//! name further than the call would, or write anything. It tells where a name
//! leads *now*; that it still leads there when the kernel runs the call is
//! not in its power.

use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{LazyLock, OnceLock};

use bstr::{BStr, BString, ByteSlice};
use libc::{c_int, pid_t};

use super::sys::{self, Identity};
use super::{links, lookup, procfs, walk};
use crate::decode::{Follow, PathRule};
use crate::event::{Call, PathState, Process, ResolvedPath, Value};

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_IN_ROOT: u64 = 0x10;
/// Only what is known without waiting (openat2(2)).
pub(super) const RESOLVE_CACHED: u64 = 0x20;
const NAMING: c_int = libc::O_PATH | libc::O_CLOEXEC;

/// Where a task stands.
pub(super) struct Place<'a> {
    pub(super) ids: Ids,
    /// None if it cannot be looked at.
    pub(super) root: Option<&'a Root>,
    /// Its working directory, opened when needed.
    pub(super) cwd: &'a dyn Fn() -> io::Result<Base<'a>>,
    /// Whether a descriptor's mount has a place in a tree.
    pub(super) attached: &'a dyn Fn(BorrowedFd<'_>) -> bool,
    /// What a name leads through.
    pub(super) crossed: &'a Crossed,
}

/// What names led through that others can change while they stay the same.
#[derive(Debug, Default)]
pub(super) struct Crossed {
    /// A descriptor, working directory or root, by a magic link of procfs.
    magic: AtomicBool,
    /// One of another process.
    others: AtomicBool,
    /// To where a magic link could come to be.
    absent: AtomicBool,
    /// Something that is in no tree, or that nobody tells of in time: they could
    /// lead anywhere.
    lost: AtomicBool,
    /// Why the first that led nowhere does; 0 if none.
    failure: AtomicI32,
}

impl Crossed {
    /// Nothing, as far as is known now.
    pub(super) fn clear(&self) {
        self.magic.store(false, Ordering::Relaxed);
        self.others.store(false, Ordering::Relaxed);
        self.absent.store(false, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
        self.failure.store(0, Ordering::Relaxed);
    }

    /// A magic link was crossed; perhaps one of `others`.
    pub(super) fn note(&self, others: bool) {
        self.magic.store(true, Ordering::Relaxed);
        self.others.fetch_or(others, Ordering::Relaxed);
    }

    /// There is none, but could be one; perhaps of `others`.
    pub(super) fn note_absent(&self, others: bool) {
        self.absent.store(true, Ordering::Relaxed);
        self.others.fetch_or(others, Ordering::Relaxed);
    }

    /// A name leads nowhere: the kernel fails with this errno.
    fn note_failure(&self, errno: c_int) {
        let _first = self.failure.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What task `tid` is told of a name that leads nowhere. Who can see less
    /// than we learns nothing of what it cannot.
    pub(super) fn failure(&self, tid: pid_t) -> c_int {
        match self.failure.load(Ordering::Relaxed) {
            0 => libc::ENOENT,
            errno if procfs::has_no_less_power(tid) => errno,
            _ => libc::ENOENT,
        }
    }

    /// There was none where there could be one.
    pub(super) fn absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    /// An error while a name was looked up: it may say that the name is lost.
    pub(super) fn note_error(&self, error: &io::Error) {
        let lost = is_unplaced(error) || lookup::is_unanswered(error);
        self.lost.fetch_or(lost, Ordering::Relaxed);
    }

    /// A name could lead anywhere.
    pub(super) fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Some magic link was.
    pub(super) fn magic(&self) -> bool {
        self.magic.load(Ordering::Relaxed)
    }

    /// One of another process was.
    pub(super) fn others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }
}

impl<'p> Place<'p> {
    /// What descriptor `fd` refers to: the directory that a relative name
    /// starts from.
    fn base(&self, fd: c_int) -> io::Result<Base<'p>> {
        match fd {
            libc::AT_FDCWD => (self.cwd)(),
            fd if fd < 0 => Err(io::Error::from_raw_os_error(libc::EBADF)),
            fd => {
                let opened = open_descriptor(self.ids.tid, fd)?;
                self.check(opened.as_fd())?;
                Ok(Base::Own(opened))
            }
        }
    }

    /// Fails for what has a place in no tree: its name would say nothing. What
    /// is called by another name than a path's has none to lose.
    pub(super) fn check(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if (self.attached)(fd) {
            return Ok(());
        }
        let name = name_of(fd)?;
        let nameless = !name.starts_with(b"/") || is_memory(&name);
        if nameless { Ok(()) } else { Err(unplaced()) }
    }
}

/// What has a place in no tree.
pub(super) fn unplaced() -> io::Error {
    io::Error::from_raw_os_error(libc::ESTALE)
}

fn is_unplaced(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESTALE)
}

/// Whether this is the name of a file of `memfd_create(2)`.
fn is_memory(name: &[u8]) -> bool {
    name.starts_with(b"/memfd:") && name.ends_with(DELETED)
}

/// What the kernel puts after the name of an object that has lost it
/// (`proc_pid_fd(5)`).
const DELETED: &[u8] = b" (deleted)";

/// `S_IFMT` bits of what a resolved path of task `tid` names; none if it
/// cannot be told.
pub(super) fn kind_of(tid: pid_t, path: &[u8]) -> Option<u16> {
    let (root, inside) = in_root(tid, path)?;
    let opened = open_inside(&root, &inside).ok()?;
    sys::identity_of(&opened).ok().map(|identity| identity.kind)
}

/// Whether what a resolved path of task `tid` names is on procfs, or cannot be
/// told.
pub(super) fn may_be_procfs(tid: pid_t, resolved: &ResolvedPath) -> bool {
    match resolved.state {
        PathState::Missing | PathState::Unresolved => false,
        PathState::Unknown => true,
        PathState::Exists => {
            let opened = in_root(tid, &resolved.path).and_then(|(root, inside)| open_inside(&root, &inside).ok());
            opened.is_none_or(|opened| lookup::is_procfs(opened.as_fd()))
        }
    }
}

/// Task `tid`'s root, and what a resolved path is called from there.
fn in_root(tid: pid_t, path: &[u8]) -> Option<(OwnedFd, Vec<u8>)> {
    let root = lookup::openat(libc::AT_FDCWD, &proc_path(tid, "root"), NAMING | libc::O_DIRECTORY).ok()?;
    let inside = below(&name_of(root.as_fd()).ok()?, path)?;
    Some((root, inside))
}

/// Opens what a name without links leads to from a root.
fn open_inside(root: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    lookup::openat2(root.as_raw_fd(), &name, NAMING | libc::O_NOFOLLOW, RESOLVE_NO_SYMLINKS | RESOLVE_IN_ROOT)
}

/// An absolute path as it is called from `root`; none if it is not below.
fn below(root: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    if root == b"/" {
        return Some(path.to_vec());
    }
    match path.strip_prefix(root)? {
        [] => Some(b"/".to_vec()),
        inside @ [b'/', ..] => Some(inside.to_vec()),
        _ => None,
    }
}

/// The name by which task `tid` itself can open what was resolved, without
/// any link, working directory or descriptor on the way; none if there is no
/// such name.
pub(super) fn stable_name(tid: pid_t, resolved: &ResolvedPath) -> Option<BString> {
    if !resolved.path.starts_with(b"/") || resolved.state == PathState::Unknown {
        return None;
    }
    let (root, inside) = in_root(tid, &resolved.path)?;
    if resolved.state == PathState::Exists {
        let found = open_inside(&root, &inside).and_then(|fd| name_of(fd.as_fd())).ok()?;
        if found != resolved.path {
            return None;
        }
    }
    Some(inside.into())
}

/// What a look-up that openat2's `resolve` puts bounds to leads to, as the
/// kernel sees it from the directory that task `tid` names; none if there are
/// no bounds, or nobody can tell.
pub(super) fn bounded(
    tid: pid_t,
    call: &Call,
    rule: &PathRule,
    name: &BStr,
    resolved: &ResolvedPath,
) -> Option<io::Result<BString>> {
    let bounds = resolve_flags(call, rule).filter(|flags| flags & !RESOLVE_CACHED != 0)? & !RESOLVE_CACHED;
    let directory = match rule.dirfd.and_then(|dirfd| call.arguments.get(usize::from(dirfd))).map(|arg| &arg.value) {
        Some(Value::Fd(fd)) if *fd >= 0 => open_descriptor(tid, *fd),
        _ => open_cwd(tid),
    };
    let directory = match directory {
        Ok(directory) => directory,
        Err(error) => return Some(Err(error)),
    };
    let open = |name: &[u8], flags| {
        let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
        lookup::openat2(directory.as_raw_fd(), &name, NAMING | flags, bounds).and_then(|found| name_of(found.as_fd()))
    };
    let nofollow = if follows(call, rule.follow) { 0 } else { libc::O_NOFOLLOW };
    match resolved.state {
        PathState::Exists | PathState::Unresolved => Some(open(name, nofollow)),
        PathState::Missing => {
            let (parent, last) = split_last(name);
            Some(open(parent, libc::O_DIRECTORY).map(|found| join(&found, last)))
        }
        PathState::Unknown => None,
    }
}

/// Whether a process may search all directories above what was resolved, so
/// that it can call it by the whole name. In doubt it may not: lists of groups
/// and of rights are not looked at.
pub(super) fn may_search(tid: pid_t, process: &Process, path: &[u8]) -> bool {
    let user = process.uids[3];
    let searches = |directory: &[u8]| {
        let Some((root, inside)) = in_root(tid, directory) else { return false };
        let found = open_inside(&root, &inside).and_then(lookup::metadata);
        found.is_ok_and(|found| found.mode() & 0o001 != 0 || found.uid() == user && found.mode() & 0o100 != 0)
    };
    process.capabilities & procfs::SEARCHES_EVERYWHERE != 0
        || path.rfind_iter(b"/").all(|slash| searches(if slash == 0 { b"/" } else { &path[..slash] }))
}

/// Opens what a task's descriptor refers to, to start from.
fn open_descriptor(tid: pid_t, fd: c_int) -> io::Result<OwnedFd> {
    let opened = lookup::openat(libc::AT_FDCWD, &proc_path(tid, &format!("fd/{fd}")), NAMING);
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => io::Error::from_raw_os_error(libc::EBADF),
        _ => error,
    })
}

/// What a link of `/proc/TID` leads to, as a name that says which file it is.
pub(super) fn linked(entry: &str, place: &Place<'_>) -> ResolvedPath {
    let opened = lookup::openat(libc::AT_FDCWD, &proc_path(place.ids.tid, entry), NAMING);
    let named = opened.and_then(|found| place.check(found.as_fd()).and_then(|()| name_of(found.as_fd())));
    named.map_or_else(|_| unknown(), |path| ResolvedPath { path, state: PathState::Exists })
}

/// What is mapped under a name in task `tid`, if that name leads to it there.
pub(super) fn mapped(tid: pid_t, name: &BStr, inode: u64) -> ResolvedPath {
    /// `OVERLAYFS_SUPER_MAGIC` (linux/magic.h): numbers of inodes are those of a
    /// layer there, or not.
    const OVERLAY: i64 = 0x794c_7630;
    let found = in_root(tid, name).and_then(|(root, inside)| open_inside(&root, &inside).ok());
    let is_it = found.is_some_and(|found| {
        sys::identity_of(&found).is_ok_and(|identity| identity.inode == inode)
            || sys::file_system_of(found.as_fd()) == Some(OVERLAY)
    });
    if is_it { ResolvedPath { path: name.into(), state: PathState::Exists } } else { unknown() }
}

/// Opens a task's working directory, to start from.
pub(super) fn open_cwd(tid: pid_t) -> io::Result<OwnedFd> {
    lookup::openat(libc::AT_FDCWD, &proc_path(tid, "cwd"), NAMING)
}

/// A task's root directory.
#[derive(Debug)]
pub(super) enum Root {
    /// The same as the host's.
    Ours,
    /// Another one.
    Theirs(OwnedFd),
}

/// Ids by which a task sees itself in procfs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) pid: pid_t,
    pub(super) tid: pid_t,
}

impl Root {
    /// The root of task `tid`.
    pub(super) fn of(tid: pid_t) -> io::Result<Self> {
        static OURS: OnceLock<Option<Identity>> = OnceLock::new();
        let ours = OURS.get_or_init(|| sys::identity(libc::AT_FDCWD, c"/", 0).ok());
        let path = proc_path(tid, "root");
        let theirs = lookup::identity(libc::AT_FDCWD, &path, 0)?;
        if ours.as_ref() == Some(&theirs) {
            return Ok(Self::Ours);
        }
        lookup::openat(libc::AT_FDCWD, &path, NAMING | libc::O_DIRECTORY).map(Self::Theirs)
    }
}

/// `/proc/TID/ENTRY`.
pub(super) fn proc_path(tid: pid_t, entry: &str) -> CString {
    let mut text = Vec::with_capacity(32);
    write!(text, "/proc/{tid}/{entry}").expect("a vector takes all that is written");
    CString::new(text).expect("digits and a literal without NUL")
}

/// The name of what a descriptor of our own refers to, from the root of its
/// mount namespace.
pub(super) fn name_of(fd: BorrowedFd<'_>) -> io::Result<BString> {
    let name = bare_name_of(fd)?;
    // So is a file called that was opened by its handle, if the kernel does not
    // know its name (open_by_handle_at(2)).
    if name == "/" && sys::identity_of(fd)?.kind != libc::S_IFDIR as u16 {
        return Err(io::Error::other("its name is not known"));
    }
    if name.ends_with(DELETED) { last_name(fd, name) } else { Ok(name) }
}

/// The same, with what the kernel puts after the name of an object that has
/// lost it.
pub(super) fn bare_name_of(fd: BorrowedFd<'_>) -> io::Result<BString> {
    // Kept open: looking up three directories anew costs as much as the rest.
    static OWN: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let open = || sys::openat(libc::AT_FDCWD, c"/proc/self/fd", NAMING | libc::O_DIRECTORY).ok();
    let own = OWN.get_or_init(open).as_ref().ok_or(io::ErrorKind::NotFound)?;
    let mut digits = [0; 16];
    write!(&mut digits[..15], "{}", fd.as_raw_fd()).expect("a descriptor has at most ten digits");
    let name = CStr::from_bytes_until_nul(&digits).expect("the last byte is NUL");
    // Not the kernel's error for the name that was followed: it followed it.
    // A name longer than `PATH_MAX` has ENAMETOOLONG here.
    read_link(own.as_raw_fd(), name).map_err(|error| io::Error::other(format!("no name: {error}")))
}

/// The name that an object had before it lost it; `name` itself if that is
/// what it is called. An object with other names, in a tree that is not ours,
/// could be either.
fn last_name(fd: BorrowedFd<'_>, mut name: BString) -> io::Result<BString> {
    if is_memory(&name) {
        return Ok(name);
    }
    let path = CString::new(name.to_vec()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let named = lookup::identity(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW);
    if named.is_ok_and(|named| sys::identity_of(fd).is_ok_and(|own| own == named)) {
        return Ok(name);
    }
    if sys::links_of(fd)? > 0 {
        return Err(io::Error::other("whether it has lost its name is not known"));
    }
    let length = name.len() - DELETED.len();
    name.truncate(length);
    Ok(name)
}

/// The content of a link. Most are short, so that a whole page need not be
/// cleared for each.
pub(super) fn read_link(directory: c_int, name: &CStr) -> io::Result<BString> {
    let mut short = [0; 256];
    let found = sys::readlinkat(directory, name, &mut short)?;
    if found.len() < 256 {
        return Ok(found.into());
    }
    let mut long = [0; libc::PATH_MAX as usize];
    sys::readlinkat(directory, name, &mut long).map(BString::from)
}

/// What descriptor `fd` of task `tid` refers to, as `/proc/TID/fd` names it;
/// none if it is not open, empty if we may not look.
pub(super) fn descriptor(tid: pid_t, fd: c_int) -> Option<BString> {
    let path = match fd {
        libc::AT_FDCWD => proc_path(tid, "cwd"),
        fd if fd < 0 => return None,
        fd => proc_path(tid, &format!("fd/{fd}")),
    };
    match read_link(libc::AT_FDCWD, &path) {
        Ok(name) => Some(name),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
        Err(_) => Some(BString::default()),
    }
}

/// Where path argument `index` of `call` leads.
pub(super) fn path_argument(place: &Place<'_>, call: &Call, index: usize, rule: &PathRule) -> ResolvedPath {
    let directory = match rule.dirfd.and_then(|dirfd| call.arguments.get(usize::from(dirfd))) {
        Some(argument) => match argument.value {
            Value::Fd(fd) => fd,
            _ => libc::AT_FDCWD,
        },
        None => libc::AT_FDCWD,
    };
    let name = match call.arguments.get(index).map(|argument| &argument.value) {
        Some(Value::Path(name)) => name.as_bstr(),
        // Only where the manual says so does NULL stand for the descriptor (utimensat).
        Some(Value::Absent) if rule.dirfd.is_some() => b"".as_bstr(),
        _ => return unresolved(BString::default()),
    };
    if name.is_empty() {
        let means_directory = matches!(call.arguments[index].value, Value::Absent)
            || rule.empty.is_some_and(|(argument, bit)| bit == 0 || scalar(call, argument) & bit != 0);
        if !means_directory {
            return unresolved(BString::default());
        }
        return match place.base(directory).and_then(|base| name_of(base.as_fd())) {
            Ok(path) => ResolvedPath { path, state: PathState::Exists },
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOENT)) => {
                unresolved(BString::default())
            }
            Err(error) => {
                place.crossed.note_error(&error);
                unknown()
            }
        };
    }
    let request = Request { place, directory, name, follow: follows(call, rule.follow) };
    match resolve_flags(call, rule) {
        Some(flags) if flags & RESOLVE_IN_ROOT != 0 => request.resolve_in_directory(),
        Some(_) => request.resolve(),
        None => unknown(),
    }
}

/// `resolve` of openat2's `struct open_how`; no flags for other calls, none
/// if the structure cannot be read. To where a name leads, only
/// `RESOLVE_IN_ROOT` makes a difference; the others make the call fail.
pub(super) fn resolve_flags(call: &Call, rule: &PathRule) -> Option<u64> {
    let Follow::OpenHow(argument) = rule.follow else { return Some(0) };
    open_how(call, argument, "resolve")
}

/// A field of the `struct open_how` in this argument; none if it cannot be
/// read.
fn open_how(call: &Call, argument: u8, name: &str) -> Option<u64> {
    match &call.arguments.get(usize::from(argument))?.value {
        Value::Structure(fields) => fields.iter().find(|field| field.name == name).map(|field| field.value),
        _ => None,
    }
}

fn scalar(call: &Call, argument: u8) -> u64 {
    call.registers[usize::from(argument)]
}

fn follows(call: &Call, follow: Follow) -> bool {
    let open = |flags: u64| {
        let flags = flags as c_int;
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        // With O_PATH the kernel drops all flags but a few (open(2)).
        flags & libc::O_NOFOLLOW == 0 && (flags & libc::O_PATH != 0 || flags & exclusive != exclusive)
    };
    match follow {
        Follow::Always => true,
        Follow::Never => false,
        Follow::Unless(argument, bit) => scalar(call, argument) & bit == 0,
        Follow::If(argument, bit) => scalar(call, argument) & bit != 0,
        Follow::Open(argument) => open(scalar(call, argument)),
        Follow::OpenHow(argument) => open_how(call, argument, "flags").is_none_or(open),
    }
}

/// It may lead anywhere: the kernel can follow it, and we cannot.
fn unknown() -> ResolvedPath {
    ResolvedPath { path: BString::default(), state: PathState::Unknown }
}

fn unresolved(path: BString) -> ResolvedPath {
    ResolvedPath { path, state: PathState::Unresolved }
}

/// A directory to start from.
pub(super) enum Base<'a> {
    Kept(BorrowedFd<'a>),
    Own(OwnedFd),
}

impl Base<'_> {
    fn take(self) -> io::Result<OwnedFd> {
        match self {
            Self::Kept(fd) => fd.try_clone_to_owned(),
            Self::Own(fd) => Ok(fd),
        }
    }
}

impl AsFd for Base<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kept(fd) => *fd,
            Self::Own(fd) => fd.as_fd(),
        }
    }
}

/// One name to follow.
struct Request<'a, 'p> {
    place: &'a Place<'p>,
    directory: c_int,
    name: &'a BStr,
    follow: bool,
}

impl Request<'_, '_> {
    fn resolve(&self) -> ResolvedPath {
        // Both tell the truth: which is asked first is a matter of time.
        let found = if links::begins_with_one(self.name) {
            self.fast().or_else(|| self.straight())
        } else {
            self.straight().or_else(|| self.fast())
        };
        if let Some(path) = found {
            return path;
        }
        let walked = self.place.root.ok_or(io::ErrorKind::NotFound.into()).and_then(|root| {
            let base = if self.name.starts_with(b"/") { None } else { Some(self.place.base(self.directory)?.take()?) };
            walk::walk(root, base, self.place, self.name, self.follow)
        });
        walked.unwrap_or_else(|error| self.failed(&error))
    }

    /// With `RESOLVE_IN_ROOT` the directory is the root of the whole name.
    fn resolve_in_directory(&self) -> ResolvedPath {
        let walked = self.place.base(self.directory).and_then(Base::take).and_then(|base| {
            let root = Root::Theirs(base.try_clone()?);
            walk::walk(&root, Some(base), self.place, self.name, self.follow)
        });
        walked.unwrap_or_else(|error| self.failed(&error))
    }

    /// What a failure means: that the kernel will fail as well, or that only
    /// we cannot look.
    fn failed(&self, error: &io::Error) -> ResolvedPath {
        self.place.crossed.note_error(error);
        let too = error.raw_os_error().filter(|errno| match *errno {
            libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::EBADF => true,
            libc::EACCES | libc::EPERM => procfs::has_no_more_power(self.place.ids.tid),
            _ => false,
        });
        let Some(errno) = too else { return unknown() };
        self.place.crossed.note_failure(errno);
        unresolved(self.as_text())
    }

    /// The name itself, if it leads through no link. Without links `..` is
    /// what it looks like, and an object that is missing is not a link to
    /// elsewhere.
    fn straight(&self) -> Option<ResolvedPath> {
        if !matches!(self.place.root, Some(Root::Ours)) || !self.name.starts_with(b"/") {
            return None;
        }
        let nofollow = if self.follow { 0 } else { libc::O_NOFOLLOW };
        let open = |name: &[u8], flags| {
            let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
            lookup::openat2(libc::AT_FDCWD, &name, NAMING | flags, RESOLVE_NO_SYMLINKS)
        };
        let state = match open(self.name, nofollow) {
            Ok(_) => PathState::Exists,
            // What is missing in procfs has to be looked at step by step.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !names_a_process(self.name) => {
                match open(split_last(self.name).0, libc::O_DIRECTORY) {
                    Ok(_) => PathState::Missing,
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => PathState::Unresolved,
                    Err(_) => return None,
                }
            }
            Err(error) => {
                if error.raw_os_error() == Some(libc::ELOOP) {
                    links::note(self.name);
                }
                return None;
            }
        };
        Some(ResolvedPath { path: normalized(self.name), state })
    }

    /// The kernel's own answer, if the kernel would follow the name for us as
    /// it does for the tracee.
    fn fast(&self) -> Option<ResolvedPath> {
        let absolute = self.name.starts_with(b"/");
        let base;
        let (start, resolve) = match (self.place.root?, absolute) {
            (Root::Ours, true) => (libc::AT_FDCWD, RESOLVE_NO_MAGICLINKS),
            (Root::Ours, false) => {
                base = self.place.base(self.directory).ok()?;
                (base.as_fd().as_raw_fd(), RESOLVE_NO_MAGICLINKS)
            }
            (Root::Theirs(root), true) => (root.as_raw_fd(), RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT),
            (Root::Theirs(_), false) => return None,
        };
        let nofollow = if self.follow { 0 } else { libc::O_NOFOLLOW };
        let name = CString::new(self.name.as_bytes()).ok()?;
        match lookup::openat2(start, &name, NAMING | nofollow, resolve) {
            Ok(found) => independent_name(&found).map(|path| ResolvedPath { path, state: PathState::Exists }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !names_a_number(self.name) => {
                self.fast_missing(start, resolve)
            }
            Err(_) => None,
        }
    }

    /// A name whose directory exists and whose last component does not.
    fn fast_missing(&self, start: c_int, resolve: u64) -> Option<ResolvedPath> {
        let (parent, last) = split_last(self.name);
        let parent = lookup::openat2(start, &CString::new(parent).ok()?, NAMING | libc::O_DIRECTORY, resolve).ok()?;
        // A dangling link is there: where it points needs the slow way.
        let last_name = CString::new(last).ok()?;
        match lookup::openat(parent.as_raw_fd(), &last_name, NAMING | libc::O_NOFOLLOW) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            _ => return None,
        }
        let path = join(&independent_name(&parent)?, last);
        Some(ResolvedPath { path, state: PathState::Missing })
    }

    /// The name made absolute and cleared of dots, as text.
    fn as_text(&self) -> BString {
        if self.name.starts_with(b"/") {
            return normalized(self.name);
        }
        match descriptor(self.place.ids.tid, self.directory) {
            Some(base) if base.starts_with(b"/") => normalized(&join(&base, self.name)),
            _ => BString::default(),
        }
    }
}

/// Whether a component is a number, as those of processes and descriptors in
/// procfs.
fn names_a_number(name: &[u8]) -> bool {
    name.split_str("/").any(|component| !component.is_empty() && component.iter().all(u8::is_ascii_digit))
}

/// Whether a component of an absolute name that leads through no link is a
/// number in a procfs, or may be.
fn names_a_process(name: &[u8]) -> bool {
    let in_procfs = |directory: &[u8]| {
        let Ok(directory) = CString::new(directory) else { return true };
        match lookup::openat2(libc::AT_FDCWD, &directory, NAMING | libc::O_DIRECTORY, RESOLVE_NO_SYMLINKS) {
            Ok(found) => lookup::is_procfs(found.as_fd()),
            Err(error) => error.raw_os_error() != Some(libc::ENOENT),
        }
    };
    let mut start = 0;
    name.split_str("/").any(|component| {
        let directory = &name[..start];
        start += component.len() + 1;
        names_a_number(component) && in_procfs(directory)
    })
}

/// The name of `fd`, unless it leads through our own process directory: then
/// the kernel followed `/proc/self` as us.
fn independent_name(fd: &OwnedFd) -> Option<BString> {
    let name = name_of(fd.as_fd()).ok()?;
    static OURS: LazyLock<String> = LazyLock::new(|| std::process::id().to_string());
    let crossed = name.split_str("/").any(|component| component == OURS.as_bytes());
    (name.starts_with(b"/") && !crossed).then_some(name)
}

/// The directory and the last component of a name.
fn split_last(name: &[u8]) -> (&[u8], &[u8]) {
    let name = trim_slashes(name);
    match name.rfind_byte(b'/') {
        Some(0) => (b"/", &name[1..]),
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (b".", name),
    }
}

fn trim_slashes(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    &name[..end.min(name.len())]
}

/// `directory/name`.
pub(super) fn join(directory: &[u8], name: &[u8]) -> BString {
    let mut path = BString::from(directory);
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// `path` without empty, `.` and `..` components.
fn normalized(path: &[u8]) -> BString {
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split_str("/") {
        match component {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let mut text = BString::from("/");
    text.extend_from_slice(&bstr::join("/", kept));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_normalized() {
        for (from, to) in [("/a/./b//../c/", "/a/c"), ("/../..", "/"), ("/", "/"), ("//x", "/x")] {
            assert_eq!(normalized(from.as_bytes()), to, "{from}");
        }
    }

    #[test]
    fn trailing_slashes_go_but_the_root_stays() {
        for (from, to) in [("a//", "a"), ("/", "/"), ("///", "/"), ("/a/b", "/a/b")] {
            assert_eq!(trim_slashes(from.as_bytes()), to.as_bytes(), "{from}");
        }
    }
}
