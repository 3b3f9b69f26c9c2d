//! What a call does to the files that its arguments name.
//!
//! One table ([`of`]) says for each call which arguments are names of files
//! and what the call does there. File plugins decide by it and so cover every
//! call that reaches a file by name, not only `open`. It never looks at the
//! file: what counts is what the call asks for.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::constants as c;
use crate::known::{AARCH64, Known};
use crate::{Call, Value};

/// Ways in which a call touches a file; a set.
///
/// ```
/// use plugin_sdk::Access;
///
/// let access = Access::READ | Access::WRITE;
/// assert!(access.any(Access::WRITE | Access::DELETE));
/// assert!(!access.any(Access::STATUS));
/// assert_eq!(access.to_string(), "read,write");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access(u16);

impl Access {
    /// Its contents can be read, or the directory listed.
    pub const READ: Self = Self(1);
    /// Its contents can be changed or cut.
    pub const WRITE: Self = Self(1 << 1);
    /// The name is made, if there is none.
    pub const CREATE: Self = Self(1 << 2);
    /// The name is removed, or what it leads to is replaced.
    pub const DELETE: Self = Self(1 << 3);
    /// Mode, owner, times, extended attributes or mount options change.
    pub const ATTRIBUTES: Self = Self(1 << 4);
    /// It is looked at without its contents: stat, access, readlink, watches.
    pub const STATUS: Self = Self(1 << 5);
    /// It is run as a program.
    pub const EXECUTE: Self = Self(1 << 6);
    /// It, and all beneath it, becomes reachable by another name: the old
    /// name of a rename or hard link, the source of a bind mount, a handle.
    pub const ALIAS: Self = Self(1 << 7);
    /// Something is mounted over it or unmounted from it.
    pub const COVER: Self = Self(1 << 8);
    /// It is taken as a directory to start from, or opened with `O_PATH`.
    pub const SEARCH: Self = Self(1 << 9);

    const NAMES: [&'static str; 10] =
        ["read", "write", "create", "delete", "attributes", "status", "execute", "alias", "cover", "search"];

    /// No access.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// True if this is no access.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if the two have something in common.
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What the two have in common.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Both together; `|` in constants.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Access {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.or(other)
    }
}

impl BitOrAssign for Access {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.or(other);
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (bit, name) in Self::NAMES.iter().enumerate() {
            if self.0 >> bit & 1 == 1 {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

/// Where a call's flags are, from which its access follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// Whatever the flags.
    Always(Access),
    /// `open`'s flags in this argument.
    Open(u8),
    /// `struct open_how` in this argument.
    OpenHow(u8),
    /// `renameat2`'s flags in this argument; the first access without, the
    /// second with `RENAME_EXCHANGE`.
    Rename(u8, Access),
    /// `open_tree`'s flags in this argument.
    OpenTree(u8),
    /// The source of `mount`, whose flags are in this argument.
    MountSource(u8),
    /// The target of `mount`.
    MountTarget(u8),
}

/// One argument that leads to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) argument: u8,
    /// An open descriptor, not a name.
    pub(crate) descriptor: bool,
    pub(crate) rule: Rule,
}

const fn at(argument: u8, access: Access) -> Place {
    Place { argument, descriptor: false, rule: Rule::Always(access) }
}

const fn by(argument: u8, rule: Rule) -> Place {
    Place { argument, descriptor: false, rule }
}

const fn fd(argument: u8, access: Access) -> Place {
    Place { argument, descriptor: true, rule: Rule::Always(access) }
}

const READ: Access = Access::READ;
const WRITE: Access = Access::WRITE;
const CREATE: Access = Access::CREATE;
const DELETE: Access = Access::DELETE;
const ATTRIBUTES: Access = Access::ATTRIBUTES;
const STATUS: Access = Access::STATUS;
const EXECUTE: Access = Access::EXECUTE;
const ALIAS: Access = Access::ALIAS;
const COVER: Access = Access::COVER;
const SEARCH: Access = Access::SEARCH;
/// The old name of a rename: it goes, and the file gets another.
const MOVED: Access = ALIAS.or(DELETE);
/// The new name of a rename: it comes, or what it named is lost.
const REPLACED: Access = CREATE.or(DELETE);

/// The arguments of a call that lead to files.
#[allow(clippy::match_same_arms, reason = "a table, in groups of what the calls do")]
pub(crate) fn of(call: Known) -> &'static [Place] {
    use Known as K;
    match call {
        K::Open => &const { [by(0, Rule::Open(1))] },
        K::Openat => &const { [by(1, Rule::Open(2))] },
        K::Openat2 => &const { [by(1, Rule::OpenHow(2))] },
        K::Creat => &const { [at(0, WRITE.or(CREATE))] },
        K::Truncate | K::Truncate64 | K::Acct => &const { [at(0, WRITE)] },
        K::Ftruncate | K::Ftruncate64 => &const { [fd(0, WRITE)] },
        K::Swapon => &const { [at(0, READ.or(WRITE))] },
        K::Uselib => &const { [at(0, READ.or(EXECUTE))] },
        K::Execve => &const { [at(0, EXECUTE)] },
        K::Execveat => &const { [at(1, EXECUTE)] },

        K::Unlink | K::Rmdir => &const { [at(0, DELETE)] },
        K::Unlinkat => &const { [at(1, DELETE)] },
        K::Rename => &const { [at(0, MOVED), at(1, REPLACED)] },
        K::Renameat => &const { [at(1, MOVED), at(3, REPLACED)] },
        K::Renameat2 => &const { [by(1, Rule::Rename(4, MOVED)), by(3, Rule::Rename(4, REPLACED))] },
        K::Link => &const { [at(0, ALIAS), at(1, CREATE)] },
        K::Linkat => &const { [at(1, ALIAS), at(3, CREATE)] },
        // The first argument of these two is text that nobody follows yet.
        K::Symlink => &const { [at(1, CREATE)] },
        K::Symlinkat => &const { [at(2, CREATE)] },
        K::Mkdir | K::Mknod => &const { [at(0, CREATE)] },
        K::Mkdirat | K::Mknodat => &const { [at(1, CREATE)] },

        K::Chmod | K::Chown | K::Lchown | K::Chown32 | K::Lchown32 | K::Utime | K::Utimes => {
            &const { [at(0, ATTRIBUTES)] }
        }
        K::Setxattr | K::Lsetxattr | K::Removexattr | K::Lremovexattr => &const { [at(0, ATTRIBUTES)] },
        K::Fchmod | K::Fchown | K::Fchown32 | K::Fsetxattr | K::Fremovexattr => &const { [fd(0, ATTRIBUTES)] },
        K::Fchmodat | K::Fchmodat2 | K::Fchownat | K::Setxattrat | K::Removexattrat => &const { [at(1, ATTRIBUTES)] },
        K::FileSetattr | K::MountSetattr => &const { [at(1, ATTRIBUTES)] },
        // Without a name (NULL) these work on the descriptor.
        K::Utimensat | K::UtimensatTime64 | K::Futimesat => &const { [at(1, ATTRIBUTES), fd(0, ATTRIBUTES)] },

        K::Stat | K::Lstat | K::Stat64 | K::Lstat64 | K::Statfs | K::Statfs64 | K::Access | K::Readlink => {
            &const { [at(0, STATUS)] }
        }
        K::Getxattr | K::Lgetxattr | K::Listxattr | K::Llistxattr | K::Swapoff => &const { [at(0, STATUS)] },
        K::Newfstatat | K::Fstatat64 | K::Statx | K::Faccessat | K::Faccessat2 | K::Readlinkat => {
            &const { [at(1, STATUS)] }
        }
        K::Getxattrat | K::Listxattrat | K::FileGetattr | K::InotifyAddWatch => &const { [at(1, STATUS)] },
        K::FanotifyMark => &const { [at(4, STATUS)] },
        K::Chdir | K::Chroot => &const { [at(0, SEARCH)] },
        K::Fspick => &const { [at(1, SEARCH)] },
        K::NameToHandleAt => &const { [at(1, ALIAS)] },

        K::Mount => &const { [by(0, Rule::MountSource(3)), by(1, Rule::MountTarget(3))] },
        K::Umount | K::Umount2 => &const { [at(0, COVER)] },
        K::OpenTree | K::OpenTreeAttr => &const { [by(1, Rule::OpenTree(2))] },
        K::MoveMount => &const { [at(1, ALIAS), at(3, COVER)] },
        K::PivotRoot => &const { [at(0, ALIAS), at(1, COVER)] },
        _ => &[],
    }
}

impl Rule {
    #[allow(clippy::match_same_arms, reason = "guards come before the plain case")]
    pub(crate) fn access(self, call: &Call<'_>) -> Access {
        match self {
            Self::Always(access) => access,
            Self::Open(flags) => open(call, call.number(flags)),
            Self::OpenHow(how) => match call.field(how, "flags") {
                Some(flags) => open(call, flags),
                // What cannot be read may say anything.
                None => READ | WRITE | CREATE,
            },
            Self::Rename(flags, _) if call.number(flags) & c::RENAME_EXCHANGE != 0 => MOVED | REPLACED,
            Self::Rename(_, access) => access,
            Self::OpenTree(flags) if call.number(flags) & c::OPEN_TREE_CLONE != 0 => ALIAS,
            Self::OpenTree(_) => SEARCH,
            Self::MountSource(flags) => match mount_flags(call.number(flags)) {
                flags if remount(flags) => Access::empty(),
                flags if flags & (c::MS_BIND | c::MS_MOVE) != 0 => ALIAS,
                // A block device, or a directory that a stacked file system
                // (ecryptfs) shows elsewhere. A mere word is neither.
                _ => match call.value(0) {
                    Some(Value::RawPath(name)) if !name.starts_with('/') => READ,
                    _ => READ | ALIAS,
                },
            },
            Self::MountTarget(flags) => match mount_flags(call.number(flags)) {
                flags if remount(flags) => ATTRIBUTES,
                _ => COVER,
            },
        }
    }
}

/// The flags of mount(2) as the kernel reads them: without what it takes for a
/// magic number (`MS_MGC_VAL`), which has bits of others.
pub(crate) fn mount_flags(flags: u64) -> u64 {
    const MASK: u64 = 0xffff_0000;
    const MAGIC: u64 = 0xc0ed_0000;
    if flags & MASK == MAGIC { flags & !MASK } else { flags }
}

/// Changes options or propagation, and mounts nothing. The kernel looks at
/// these flags in this order (`path_mount` in fs/namespace.c).
pub(crate) fn remount(flags: u64) -> bool {
    flags & c::MS_REMOUNT != 0
        || flags & c::MS_BIND == 0 && flags & (c::MS_SHARED | c::MS_PRIVATE | c::MS_SLAVE | c::MS_UNBINDABLE) != 0
}

fn open(call: &Call<'_>, flags: u64) -> Access {
    let arch = call.header().arch;
    if flags & c::O_PATH != 0 {
        return SEARCH;
    }
    let mut access = match flags & c::O_ACCMODE {
        c::O_RDONLY => READ,
        c::O_WRONLY => WRITE,
        // 3 asks for the permissions of both and gives neither (open(2)).
        _ => READ | WRITE,
    };
    if flags & c::O_TRUNC != 0 {
        access |= WRITE;
    }
    // O_TMPFILE makes a file without a name: nothing happens to the directory.
    if flags & c::O_CREAT != 0 && flags & tmpfile(arch) != tmpfile(arch) {
        access |= CREATE;
    }
    access
}

const fn tmpfile(arch: u32) -> u64 {
    if arch == AARCH64 { 0o20_040_000 } else { c::O_TMPFILE }
}
