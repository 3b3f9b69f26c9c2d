//! What the host itself must know of a system call, apart from its
//! declaration: whether it can undo what a verdict rests on.
//!
//! Here is the table; what follows from it is in `engine/`.

use std::sync::LazyLock;

use super::filter::{Comparison, Condition, Predicate, Stopping};
use super::region;
use crate::decode::{Arch, Changes};
use crate::event::ProcessEvents;

/// What a call can do to verdicts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// It may make names lead elsewhere.
    pub(super) redirects: Redirects,
    /// Arguments that say where it changes the caller's memory.
    pub(super) remaps: &'static [u8],
    /// After it the kernel, or another process, may write to the caller's
    /// memory while the caller runs on.
    pub(super) exposes: bool,
    /// It writes to another process's memory.
    pub(super) intrudes: bool,
    /// It can make memory on which a reader, we too, waits for another
    /// process.
    pub(super) stalls: Option<Stalls>,
    /// It executes a program: the number of its path argument, plus 1.
    executes: u8,
}

/// How a call asks for page faults to be served by a program
/// (userfaultfd(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalls {
    /// Faults of the kernel too, unless the flag says otherwise.
    WithoutFlag,
    /// By this request of an ioctl on /dev/userfaultfd.
    WithRequest,
}

/// `UFFD_USER_MODE_ONLY` (linux/userfaultfd.h).
pub(super) const USER_MODE_ONLY: u64 = 1;
/// `USERFAULTFD_IOC_NEW` (linux/userfaultfd.h, Linux 6.1).
pub(super) const USERFAULTFD_NEW: u64 = 0xaa00;

/// Whether a call makes names lead elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Redirects {
    #[default]
    Never,
    Always,
    /// If what it moves or links is a directory or a symbolic link.
    UnlessPlain,
    /// If somebody shares the caller's directories.
    IfShared,
}

impl Traits {
    fn of_name(name: &str) -> Self {
        let redirects = |redirects| Self { redirects, ..Self::default() };
        let remaps = |remaps| Self { remaps, ..Self::default() };
        match name {
            "symlink" | "symlinkat" | "mount" | "umount" | "umount2" | "move_mount" | "pivot_root" => {
                redirects(Redirects::Always)
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => redirects(Redirects::UnlessPlain),
            "chdir" | "fchdir" | "chroot" | "unshare" | "setns" => redirects(Redirects::IfShared),
            "munmap" | "mprotect" | "pkey_mprotect" | "madvise" | "mmap" | "mmap2" | "remap_file_pages" => remaps(&[0]),
            // The new address counts only with MREMAP_FIXED; without it, it is
            // refused if it happens to look like the region's.
            "mremap" => remaps(&[0, 4]),
            "shmat" => remaps(&[1]),
            "io_setup" | "io_uring_setup" => Self { exposes: true, ..Self::default() },
            "userfaultfd" => Self { exposes: true, stalls: Some(Stalls::WithoutFlag), ..Self::default() },
            "ioctl" => Self { stalls: Some(Stalls::WithRequest), ..Self::default() },
            "process_vm_writev" => Self { intrudes: true, ..Self::default() },
            "execve" => Self { executes: 1, ..Self::default() },
            "execveat" => Self { executes: 2, ..Self::default() },
            _ => Self::default(),
        }
    }

    /// The traits of a call.
    pub(super) fn of(arch: Arch, nr: u32) -> Self {
        static NATIVE: LazyLock<Vec<Traits>> =
            LazyLock::new(|| (0..HIGHEST_NUMBER).map(|nr| Traits::of_name(Arch::NATIVE.spec(nr).name)).collect());
        if arch == Arch::NATIVE {
            NATIVE.get(nr as usize).copied().unwrap_or_default()
        } else {
            Self::of_name(arch.spec(nr).name)
        }
    }

    /// The index of the path of the program that it executes.
    pub(super) fn executes(self) -> Option<usize> {
        usize::from(self.executes).checked_sub(1)
    }

    /// It must be looked at, whoever subscribed to it.
    pub(super) fn matter(self) -> bool {
        self.redirects != Redirects::Never
            || !self.remaps.is_empty()
            || self.exposes
            || self.intrudes
            || self.stalls.is_some()
    }

    /// When it must stop for that.
    fn predicate(self) -> Option<Predicate> {
        if self.stalls == Some(Stalls::WithRequest) {
            let request = Condition::new(1, u64::from(u32::MAX), Comparison::Eq, USERFAULTFD_NEW);
            let mut predicate = Predicate::default();
            predicate.or(request.into_iter().collect());
            return Some(predicate);
        }
        if self.remaps.is_empty() {
            return self.matter().then(Predicate::always);
        }
        let mut predicate = Predicate::default();
        for argument in self.remaps {
            let given = Condition::new(*argument, u64::MAX, Comparison::Ne, 0);
            let low = Condition::new(*argument, u64::MAX, Comparison::Lt, region::END);
            predicate.or(given.into_iter().chain(low).collect());
        }
        Some(predicate)
    }
}

/// No architecture numbers its calls higher.
const HIGHEST_NUMBER: u32 = 1024;

/// Adds the calls that must stop for our own sake: those that change what we
/// remember of tasks, those that can make a child which we would not see
/// (SECURITY.md, "`CLONE_UNTRACED`"), and, if verdicts are `binding`, those
/// that can undo what one rests on.
pub(super) fn add_own_stops(stopping: &mut Stopping, binding: bool, processes: ProcessEvents) {
    if stopping.is_empty() && !processes.any() {
        return;
    }
    for nr in 0..HIGHEST_NUMBER {
        let spec = Arch::NATIVE.spec(nr);
        if let Some(predicate) = Traits::of(Arch::NATIVE, nr).predicate().filter(|_| binding) {
            stopping.entry(nr).or_default().or_all(&predicate);
        }
        let own = match spec.name {
            "clone" => {
                let flag = Condition::new(0, libc::CLONE_UNTRACED as u64, Comparison::Ne, 0);
                let mut predicate = Predicate::default();
                predicate.or(flag.into_iter().collect());
                predicate
            }
            "clone3" => Predicate::always(),
            _ if spec.changes != Changes::Nothing => Predicate::always(),
            _ => continue,
        };
        stopping.entry(nr).or_default().or_all(&own);
    }
}
