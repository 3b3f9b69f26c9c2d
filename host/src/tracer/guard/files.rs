//! Calls that would change our files, by whatever name.
//!
//! A name is judged by what it leads to. Looking that up costs several times
//! the rest (a `statx`, and one to learn whose mount namespace it is in), so
//! names come first: links in a name have been resolved, and a bind mount of a
//! directory leaves the names below it as they are, so that a file of ours is
//! reached only by its own last component. Only a file that has other hard
//! links when we start is looked for under every name; making one later, or
//! binding a file or directory of ours to another name, is refused. Not
//! covered is a name that was bound before we started.
//!
//! Directories that hold ours must keep their names too: whoever can put
//! another directory in the place of one gives us other files.

use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use bstr::{BStr, BString, ByteSlice};
use libc::{c_int, pid_t};

use super::super::filter::{Comparison, Condition, Predicate};
use super::super::resolve::{proc_path, read_link};
use super::super::{lookup, sys};
use super::{Own, is_number, is_our_entry, namespace};
use crate::decode::Kind;
use crate::event::{Call, Event, PathState, Value};

/// What a call does with the files that it names. Numbers are indices of
/// arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// Opens, with these flags.
    Open(u8),
    /// Opens, with the flags of a `struct open_how`.
    OpenHow(u8),
    /// Opens for writing.
    Create,
    /// Changes what is there, or gives it another name, or takes the name
    /// away.
    Change,
    /// Moves a name, with all below it.
    Rename,
    /// mount(2), with these flags.
    Mount(u8),
    /// umount2(2).
    Unmount,
    /// `move_mount(2)`.
    MoveMount,
    /// `pivot_root(2)`.
    PivotRoot,
    /// `open_tree(2)`, with these flags.
    OpenTree(u8),
}

/// Left out: what changes times; what makes directories, nodes and symbolic
/// links, which compiled code is not read from; what takes a descriptor, which
/// somebody had to open.
pub(super) static CALLS: &[(&str, Effect)] = &[
    ("open", Effect::Open(1)),
    ("openat", Effect::Open(2)),
    ("openat2", Effect::OpenHow(2)),
    ("creat", Effect::Create),
    ("truncate", Effect::Change),
    ("truncate64", Effect::Change),
    ("unlink", Effect::Change),
    ("unlinkat", Effect::Change),
    ("rmdir", Effect::Change),
    ("link", Effect::Change),
    ("linkat", Effect::Change),
    ("rename", Effect::Rename),
    ("renameat", Effect::Rename),
    ("renameat2", Effect::Rename),
    ("chmod", Effect::Change),
    ("fchmodat", Effect::Change),
    ("fchmodat2", Effect::Change),
    ("chown", Effect::Change),
    ("lchown", Effect::Change),
    ("chown32", Effect::Change),
    ("lchown32", Effect::Change),
    ("fchownat", Effect::Change),
    ("setxattr", Effect::Change),
    ("lsetxattr", Effect::Change),
    ("setxattrat", Effect::Change),
    ("removexattr", Effect::Change),
    ("lremovexattr", Effect::Change),
    ("removexattrat", Effect::Change),
    ("file_setattr", Effect::Change),
    ("acct", Effect::Change),
    ("swapon", Effect::Change),
    ("mount", Effect::Mount(3)),
    ("umount", Effect::Unmount),
    ("umount2", Effect::Unmount),
    ("move_mount", Effect::MoveMount),
    ("pivot_root", Effect::PivotRoot),
    ("open_tree", Effect::OpenTree(2)),
    ("open_tree_attr", Effect::OpenTree(2)),
];

/// What the kernel shows of a process only to who may trace it
/// (`proc_pid(5)`), apart from names of files.
const SECRETS: [&str; 13] = [
    "auxv",
    "environ",
    "fd",
    "map_files",
    "maps",
    "mem",
    "numa_maps",
    "pagemap",
    "personality",
    "smaps",
    "smaps_rollup",
    "stack",
    "syscall",
];

const OPEN_TREE_CLONE: u64 = 1;

impl Effect {
    /// When a call with this effect stops.
    pub(super) fn stops(self) -> Predicate {
        let Self::Open(flags) = self else { return Predicate::always() };
        let mut stops = Predicate::default();
        for bits in [libc::O_ACCMODE, libc::O_TRUNC] {
            let test = |mask: c_int, op| Condition::new(flags, mask as u64, op, 0);
            // With O_PATH the kernel drops both.
            stops.or([test(bits, Comparison::Ne), test(libc::O_PATH, Comparison::Eq)].into_iter().flatten().collect());
        }
        stops
    }

    /// Whether the call would change what is ours.
    pub(super) fn harms(self, own: &Own, event: &Event, call: &Call, lost: &dyn Fn() -> bool) -> bool {
        let look = Look { own, event, call, lost, view: OnceCell::new() };
        match self {
            Self::Open(flags) => look.opened(writes(call.registers[usize::from(flags)])),
            Self::OpenHow(how) => look.opened(open_how_flags(call, how).is_none_or(writes)),
            Self::Create => look.opened(true),
            Self::Change => look.names().any(|index| look.is_own(index)),
            Self::Rename => look.names().any(|index| look.is_own(index) || look.holds_own(index)),
            Self::Mount(flags) => match mounting(call.registers[usize::from(flags)]) {
                Mounting::Nothing => false,
                Mounting::New => look.covers_own(1),
                Mounting::Bound => look.covers_own(1) || look.is_own(0),
                Mounting::Moved => look.covers_own(1) || look.moves_own(0),
            },
            Self::Unmount => look.covers_own(0),
            Self::MoveMount => look.covers_own(3) || look.moves_own(1),
            Self::PivotRoot => look.view().same,
            Self::OpenTree(flags) => call.registers[usize::from(flags)] & OPEN_TREE_CLONE != 0 && look.is_own(1),
        }
    }
}

fn writes(flags: u64) -> bool {
    let flags = flags as c_int;
    flags & libc::O_PATH == 0 && flags & (libc::O_ACCMODE | libc::O_TRUNC) != 0
}

/// None if it cannot be read.
fn open_how_flags(call: &Call, how: u8) -> Option<u64> {
    match &call.arguments.get(usize::from(how))?.value {
        Value::Structure(fields) => fields.iter().find(|field| field.name == "flags").map(|field| field.value),
        _ => None,
    }
}

/// `MS_MGC_MSK` (linux/mount.h)
const MS_MGC_MSK: u64 = 0xffff_0000;

/// What mount(2) does.
enum Mounting {
    /// Changes options or propagation.
    Nothing,
    New,
    Bound,
    Moved,
}

/// In the order in which the kernel looks at the flags (`path_mount`).
fn mounting(flags: u64) -> Mounting {
    // The kernel drops what it takes for a magic number (mount(2), NOTES).
    let flags = if flags & MS_MGC_MSK == libc::MS_MGC_VAL { flags & !MS_MGC_MSK } else { flags };
    let propagation = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;
    if flags & libc::MS_REMOUNT != 0 {
        Mounting::Nothing
    } else if flags & libc::MS_BIND != 0 {
        Mounting::Bound
    } else if flags & propagation != 0 {
        Mounting::Nothing
    } else if flags & libc::MS_MOVE != 0 {
        Mounting::Moved
    } else {
        Mounting::New
    }
}

/// Our files and the directories that hold them.
#[derive(Debug)]
pub(super) struct Files(Vec<Protected>);

#[derive(Debug)]
struct Protected {
    path: BString,
    /// The last component.
    name: BString,
    /// Device and inode.
    identity: sys::Place,
    part: Part,
    /// It had other hard links when we started.
    aliased: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    File,
    /// A directory and all below it.
    Tree,
    /// A directory with something of ours further down.
    Holder,
}

impl Files {
    /// These files, and our executable.
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let mut list: Vec<Protected> = Vec::new();
        let executable = std::env::current_exe().and_then(fs::canonicalize).ok();
        for path in paths.iter().chain(&executable).filter_map(|path| fs::canonicalize(path).ok()) {
            let Ok(found) = fs::metadata(&path) else { continue };
            let kind = found.file_type();
            let part = match kind {
                _ if kind.is_dir() => Part::Tree,
                _ if kind.is_file() || kind.is_socket() => Part::File,
                _ => continue,
            };
            list.push(Protected::new(&path, &found, part));
            for holder in path.ancestors().skip(1) {
                let path = BStr::new(holder.as_os_str().as_bytes());
                if path != "/"
                    && !list.iter().any(|own| own.part == Part::Holder && own.path == path)
                    && let Ok(found) = fs::metadata(holder)
                {
                    list.push(Protected::new(holder, &found, Part::Holder));
                }
            }
        }
        // The kernel lets nobody write to a program that runs (ETXTBSY), by
        // whatever name; only its own name matters.
        for own in &mut list {
            own.aliased &= executable.as_ref().is_none_or(|executable| own.path != executable.as_os_str().as_bytes());
        }
        Self(list)
    }
}

impl Protected {
    fn new(path: &Path, found: &fs::Metadata, part: Part) -> Self {
        Self {
            path: path.as_os_str().as_bytes().into(),
            name: last(path.as_os_str().as_bytes()).into(),
            identity: ((libc::major(found.dev()), libc::minor(found.dev())), found.ino()),
            part,
            aliased: part == Part::File && found.nlink() > 1,
        }
    }
}

fn last(path: &[u8]) -> &[u8] {
    path.rfind_byte(b'/').map_or(path, |slash| &path[slash + 1..])
}

/// How we see the names of a task.
struct View {
    /// It has our mount namespace, as far as we can tell.
    same: bool,
    /// What leads from our root to the root of its mount namespace.
    prefix: BString,
}

impl View {
    fn of(own: &Own, tid: pid_t) -> Self {
        let theirs = namespace(tid, "mnt");
        if theirs.is_none() || theirs == own.mount_namespace {
            return Self { same: true, prefix: BString::default() };
        }
        // The task's root directory, and up from there: `..` is held up by our root, not by its.
        let root = proc_path(tid, "root");
        let below = read_link(libc::AT_FDCWD, &root).map_or(0, |root| components(&root).count());
        let mut prefix = BString::from(root.into_bytes());
        (0..below).for_each(|_| prefix.extend_from_slice(b"/.."));
        Self { same: false, prefix }
    }

    fn path(&self, path: &[u8]) -> BString {
        [&self.prefix, path].concat().into()
    }

    /// Device and inode of what a name without links leads to.
    fn identity(&self, path: &[u8]) -> io::Result<sys::Place> {
        let path = CString::new(Vec::from(self.path(path)))?;
        lookup::identity(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW).map(|found| found.place())
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

/// A call, and how we look at the names in it.
struct Look<'a> {
    own: &'a Own,
    event: &'a Event,
    call: &'a Call,
    /// Whether a name that was not followed could lead anywhere.
    lost: &'a dyn Fn() -> bool,
    view: OnceCell<View>,
}

impl Look<'_> {
    fn view(&self) -> &View {
        self.view.get_or_init(|| View::of(self.own, self.event.tid))
    }

    fn files(&self) -> &[Protected] {
        &self.own.files.0
    }

    /// The arguments that are names.
    fn names(&self) -> impl Iterator<Item = usize> {
        let args = self.call.spec.args.iter().enumerate();
        args.filter(|(_, arg)| matches!(arg.kind, Kind::Path(_))).map(|(index, _)| index)
    }

    /// Where a name leads, if that can be told.
    fn path(&self, index: usize) -> Option<&BStr> {
        let found = self.event.path(index)?;
        (found.state != PathState::Unknown && found.path.starts_with(b"/")).then_some(found.path.as_bstr())
    }

    /// Whether an open is none that we allow.
    fn opened(&self, writes: bool) -> bool {
        self.names().any(|index| {
            // Through a link to a descriptor the resolved name is that of what we have open.
            let raw = match &self.call.arguments[index].value {
                Value::Path(raw) if raw.starts_with(b"/") => self.is_secret(raw, &["fd", "map_files"]),
                _ => false,
            };
            raw || writes && self.is_own(index)
                || self.path(index).is_some_and(|path| {
                    if writes { self.is_ours_in_procfs(path) } else { self.is_secret(path, &SECRETS) }
                })
        })
    }

    /// Whether a name leads to something of ours.
    fn is_own(&self, index: usize) -> bool {
        match self.path(index) {
            Some(path) => ends(path).any(|end| {
                let (path, whole) = (&path[..end], end == path.len());
                let name = last(path);
                self.is_any(path, |own| match own.part {
                    Part::File => whole && (own.aliased || own.name == name),
                    Part::Tree => own.name == name,
                    Part::Holder => false,
                })
            }),
            None if (self.lost)() => true,
            // Where we cannot follow, names are all that is left to compare.
            None => match &self.call.arguments[index].value {
                Value::Path(raw) => components(raw)
                    .any(|name| self.files().iter().any(|own| own.part != Part::Holder && own.name == name)),
                _ => false,
            },
        }
    }

    /// Whether a name leads to a directory with something of ours further
    /// down.
    fn holds_own(&self, index: usize) -> bool {
        let Some(path) = self.path(index) else { return (self.lost)() };
        let name = last(path);
        self.is_any(path, |own| own.part == Part::Holder && own.name == name)
    }

    /// Whether `path` is one of our files, of those that `may_be` picks.
    fn is_any(&self, path: &[u8], may_be: impl Fn(&Protected) -> bool) -> bool {
        let identity = OnceCell::new();
        self.files().iter().filter(|own| may_be(own)).any(|own| {
            own.path == path && self.view().same
                || match identity.get_or_init(|| self.view().identity(path)) {
                    Ok(found) => *found == own.identity,
                    // It could be anything.
                    Err(error) => lookup::is_unanswered(error),
                }
        })
    }

    /// Whether a mount at a name, or the end of one, hides what is ours, or
    /// the procfs that we look at.
    fn covers_own(&self, index: usize) -> bool {
        let Some(path) = self.path(index) else { return (self.lost)() };
        let hides = |own: &Protected| path == "/" || path == own.path || is_below(&own.path, path);
        self.view().same && (path == "/" || path == "/proc" || self.files().iter().any(hides)) || self.is_own(index)
    }

    /// Whether moving the mount at a name takes away what is ours. The root
    /// of a mount that is nowhere attached is called `/`, and the real one
    /// cannot be moved.
    fn moves_own(&self, index: usize) -> bool {
        self.path(index).is_some_and(|path| path != "/") && self.covers_own(index)
    }

    /// Whether a name is that of an entry of our process, or of a thread of
    /// ours, in any procfs.
    fn is_ours_in_procfs(&self, path: &[u8]) -> bool {
        self.in_our_process(path).is_some()
    }

    /// The same, for certain entries.
    fn is_secret(&self, path: &[u8], secrets: &[&str]) -> bool {
        let Some(rest) = self.in_our_process(path) else { return false };
        let rest = if let [b"task", _, rest @ ..] = &rest[..] { rest } else { &rest[..] };
        let entry = match rest {
            // The directory of links itself is not what they lead to.
            [b"fd" | b"map_files"] | [] => return false,
            [entry, ..] => entry,
        };
        secrets.iter().any(|secret| secret.as_bytes() == *entry)
    }

    /// What follows our process id, or a thread's, in a name in a procfs.
    fn in_our_process<'p>(&self, path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
        ends(path).filter(|end| is_number(last(&path[..*end]))).find_map(|end| {
            let number = last(&path[..end]);
            let parent = match &path[..end - number.len()] {
                b"/" => return None,
                parent => parent,
            };
            let parent = CString::new(Vec::from(self.view().path(parent))).ok()?;
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            let ours = match lookup::openat(libc::AT_FDCWD, &parent, flags) {
                Ok(parent) => is_our_entry(parent.as_fd(), number),
                Err(error) => lookup::is_unanswered(&error),
            };
            ours.then(|| components(&path[end..]).collect())
        })
    }
}

/// Where the components of an absolute name end.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    slashes.map(|(index, _)| index).chain([path.len()])
}

/// Whether `path` is further down than `directory`.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_at_their_components() {
        let pieces = |path: &'static str| -> Vec<&str> { ends(path.as_bytes()).map(|end| &path[..end]).collect() };
        assert_eq!(pieces("/a/bc/d"), ["/a", "/a/bc", "/a/bc/d"]);
        assert_eq!(pieces("/"), ["/"]);
        assert!(is_below(b"/a/b", b"/a"));
        assert!(!is_below(b"/ab", b"/a"));
        assert!(!is_below(b"/a", b"/a"));
    }

    #[test]
    fn only_mounts_that_hide_something_count() {
        assert!(matches!(mounting(0), Mounting::New));
        assert!(matches!(mounting(libc::MS_RDONLY), Mounting::New));
        assert!(matches!(mounting(libc::MS_BIND | libc::MS_REC), Mounting::Bound));
        assert!(matches!(mounting(libc::MS_BIND | libc::MS_REMOUNT), Mounting::Nothing));
        assert!(matches!(mounting(libc::MS_PRIVATE | libc::MS_REC), Mounting::Nothing));
        assert!(matches!(mounting(libc::MS_PRIVATE | libc::MS_BIND), Mounting::Bound));
        assert!(matches!(mounting(libc::MS_MOVE), Mounting::Moved));
    }

    #[test]
    fn opens_that_write_are_told_by_their_flags() {
        for (flags, expected) in [
            (libc::O_RDONLY, false),
            (libc::O_WRONLY, true),
            (libc::O_RDWR, true),
            (libc::O_RDONLY | libc::O_TRUNC, true),
            (libc::O_RDONLY | libc::O_CREAT, false),
            (libc::O_RDWR | libc::O_PATH, false),
            (3, true),
        ] {
            let registers = [0, 0, flags as u64 | 7 << 32, 0, 0, 0];
            assert_eq!(writes(registers[2]), expected, "{flags:#o}");
            assert_eq!(Effect::Open(2).stops().holds(&registers), expected, "{flags:#o}");
        }
    }
}
