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
    /// Where it changes the caller's mappings.
    pub(super) remaps: &'static [Remap],
    /// It can discard pages of the caller's, wherever they are.
    pub(super) discards: bool,
    /// After it the kernel, or another process, may write to the caller's
    /// memory while the caller runs on.
    pub(super) exposes: Exposes,
    /// It writes to another process's memory.
    pub(super) intrudes: bool,
    /// It can make memory on which a reader, we too, waits for another
    /// process.
    pub(super) stalls: Option<Stalls>,
    /// It executes a program: the number of its path argument, plus 1.
    executes: u8,
}

/// When a call exposes its caller's memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Exposes {
    #[default]
    Never,
    Always,
    /// If all of one line hold: the lower bits of an argument have a value.
    If(&'static [&'static [(u8, u64, u64)]]),
}

impl Exposes {
    fn is_never(self) -> bool {
        matches!(self, Self::Never)
    }

    /// Whether a call with these arguments does.
    pub(super) fn by(self, args: &[u64; 6]) -> bool {
        let holds = |(argument, mask, value): &(u8, u64, u64)| args[usize::from(*argument)] & mask == *value;
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::If(lines) => lines.iter().any(|line| line.iter().all(holds)),
        }
    }

    /// When it must stop for that, if not always.
    fn conditions(self) -> Vec<Vec<Condition>> {
        let Self::If(lines) = self else { return Vec::new() };
        let condition =
            |(argument, mask, value): &(u8, u64, u64)| Condition::new(*argument, *mask, Comparison::Eq, *value);
        lines.iter().map(|line| line.iter().flat_map(condition).collect()).collect()
    }
}

/// An ioctl by its type and number: the size of its structure and the direction
/// differ from one convention to another.
const fn request(kind: u8, number: u8) -> (u8, u64, u64) {
    (1, 0xffff, (kind as u64) << 8 | number as u64)
}

/// Devices are given memory to write to when they like:
/// `VHOST_SET_OWNER` (linux/vhost.h), `VFIO_IOMMU_MAP_DMA` (linux/vfio.h),
/// `IOMMU_IOAS_MAP` (linux/iommufd.h), `RDMA_VERBS_IOCTL`
/// (`rdma/rdma_user_ioctl.h`), `VIDIOC_QBUF` (linux/videodev2.h).
const DEVICES: Exposes = Exposes::If(&[
    &[request(0xaf, 0x01)],
    &[request(b';', 113)],
    &[request(b';', 0x85)],
    &[request(0x1b, 0x01)],
    &[request(b'V', 15)],
]);

/// `SOL_XDP` and `XDP_UMEM_REG` (`linux/if_xdp.h`): packets are received there.
const PACKETS: Exposes = Exposes::If(&[&[(1, INT, 283), (2, INT, 4)]]);

/// Bits of a C `int`.
const INT: u64 = 0xffff_ffff;

/// A range of addresses whose mappings a call changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remap {
    /// The argument with its beginning.
    start: u8,
    /// The argument with its length; without one it can reach any length, and
    /// 0 stands for no address.
    length: Option<u8>,
    /// Only if one of these bits of an argument is set.
    only: Option<(u8, u64)>,
}

const fn range(start: u8, length: u8) -> Remap {
    Remap { start, length: Some(length), only: None }
}

/// `SHM_REMAP` (linux/shm.h).
const SHM_REMAP: u64 = 0o40000;

const FIRST_RANGE: &[Remap] = &[range(0, 1)];
const FIXED_MAP: &[Remap] = &[Remap { start: 0, length: Some(1), only: Some((3, libc::MAP_FIXED as u64)) }];
const MOVES: &[Remap] = &[range(0, 1), Remap { start: 4, length: Some(2), only: Some((3, libc::MREMAP_FIXED as u64)) }];
const SEGMENT: &[Remap] = &[Remap { start: 1, length: None, only: Some((2, SHM_REMAP)) }];
/// Its end can have been set below the region (`PR_SET_MM` of prctl(2)); what
/// is above goes then.
const BREAK: &[Remap] = &[Remap { start: 0, length: None, only: None }];

/// Bits of an address that the kernel looks at: on `AArch64` the top byte is
/// free, and on x86-64 six bits can be (`ARCH_ENABLE_TAGGED_ADDR`).
const ADDRESS: u64 = if cfg!(target_arch = "aarch64") { u64::MAX >> 8 } else { !(0x3f << 57) };

impl Remap {
    /// Whether it reaches what is below `end` and not below `base`.
    fn reaches(self, args: &[u64; 6], base: u64, end: u64) -> bool {
        let start = args[usize::from(self.start)] & ADDRESS;
        let far = match self.length {
            Some(length) => start.saturating_add(args[usize::from(length)].max(1)) > base,
            None => start != 0,
        };
        start < end && far && self.only.is_none_or(|(argument, bits)| args[usize::from(argument)] & bits != 0)
    }

    /// When it stops: the beginning is low.
    fn conditions(self) -> Vec<Condition> {
        let low = Condition::new(self.start, ADDRESS, Comparison::Lt, region::END);
        let given = self.length.is_none().then(|| Condition::new(self.start, ADDRESS, Comparison::Ne, 0));
        let only = self.only.map(|(argument, bits)| Condition::new(argument, bits, Comparison::Ne, 0));
        [Some(low), given, only].into_iter().flatten().flatten().collect()
    }
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

/// `SHMAT` of i386's ipc(2).
const IPC_SHMAT: u64 = 21;

/// Advices of `process_madvise(2)` that leave what is in memory as it is:
/// `MADV_WILLNEED`, `MADV_COLD`, `MADV_PAGEOUT`, `MADV_COLLAPSE`. Others it
/// takes for the caller's own memory, since Linux 6.13.
pub(super) const HARMLESS_ADVICE: [u64; 4] = [3, 20, 21, 25];

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
            "munmap" | "mprotect" | "pkey_mprotect" | "madvise" | "remap_file_pages" => remaps(FIRST_RANGE),
            "mmap" | "mmap2" => remaps(FIXED_MAP),
            "mremap" => remaps(MOVES),
            "shmat" => remaps(SEGMENT),
            "brk" => remaps(BREAK),
            "process_madvise" => Self { discards: true, ..Self::default() },
            // A ring can be another process's: it came by fork or SCM_RIGHTS.
            "io_setup" | "io_uring_setup" | "io_uring_enter" => Self { exposes: Exposes::Always, ..Self::default() },
            "setsockopt" => Self { exposes: PACKETS, ..Self::default() },
            "userfaultfd" => Self { exposes: Exposes::Always, stalls: Some(Stalls::WithoutFlag), ..Self::default() },
            "ioctl" => Self { exposes: DEVICES, stalls: Some(Stalls::WithRequest), ..Self::default() },
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
            || self.discards
            || !self.exposes.is_never()
            || self.intrudes
            || self.stalls.is_some()
    }

    /// Whether a call of an architecture changes mappings where the region
    /// lies.
    pub(super) fn remaps_region(self, arch: Arch, nr: u32, args: &[u64; 6]) -> bool {
        match (arch, arch.spec(nr).name) {
            // Its arguments are in memory, where others can change them.
            (Arch::X86, "mmap") => true,
            (Arch::X86, "ipc") => args[0] & 0xffff == IPC_SHMAT && (1..region::END).contains(&args[4]),
            _ => self.remaps.iter().any(|remap| remap.reaches(args, region::BASE, region::END)),
        }
    }

    /// When it must stop for that.
    fn predicate(self) -> Option<Predicate> {
        if let Exposes::If(_) = self.exposes {
            let served = self.stalls == Some(Stalls::WithRequest);
            let served = served.then(|| Condition::new(1, INT, Comparison::Eq, USERFAULTFD_NEW).into_iter().collect());
            let mut predicate = Predicate::default();
            self.exposes.conditions().into_iter().chain(served).for_each(|all_of| predicate.or(all_of));
            return Some(predicate);
        }
        if self.remaps.is_empty() {
            return self.matter().then(Predicate::always);
        }
        let mut predicate = Predicate::default();
        for remap in self.remaps {
            predicate.or(remap.conditions());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn remaps(arch: Arch, name: &str, args: [u64; 6]) -> bool {
        let nr = arch.number(name).expect("a call of every architecture");
        let traits = Traits::of(arch, nr);
        let reaches = traits.remaps_region(arch, nr, &args);
        if arch == Arch::NATIVE && reaches {
            assert!(traits.predicate().is_some_and(|stops| stops.holds(&args)), "{name} {args:x?} must stop");
        }
        reaches
    }

    /// Each of them stops, and tells itself from its harmless relatives.
    #[test]
    fn who_is_given_memory() {
        for (name, args, expected) in [
            ("io_uring_setup", [8, 0, 0, 0, 0, 0], true),
            ("setsockopt", [3, 283, 4, 0x1000, 32, 0], true),
            ("setsockopt", [3, 0xdead_beef_0000_011b, 0xffff_ffff_0000_0004, 0x1000, 32, 0], true),
            ("setsockopt", [3, 283, 5, 0x1000, 4, 0], false),
            ("setsockopt", [3, 1, 4, 0x1000, 4, 0], false),
            ("ioctl", [3, 0xaf01, 0, 0, 0, 0], true),
            ("ioctl", [3, 0xc018_1b01, 0x1000, 0, 0, 0], true),
            ("ioctl", [3, 0xc058_560f, 0x1000, 0, 0, 0], true),
            ("ioctl", [0, 0x5401, 0x1000, 0, 0, 0], false),
        ] {
            let nr = Arch::NATIVE.number(name).expect("a call of every architecture");
            let traits = Traits::of(Arch::NATIVE, nr);
            assert_eq!(traits.exposes.by(&args), expected, "{name} {args:x?}");
            assert_eq!(traits.predicate().is_some_and(|stops| stops.holds(&args)), expected, "{name} {args:x?}");
        }
        let nr = Arch::NATIVE.number("ioctl").expect("a call of every architecture");
        let serves = [3, USERFAULTFD_NEW, 0, 0, 0, 0];
        assert!(Traits::of(Arch::NATIVE, nr).predicate().is_some_and(|stops| stops.holds(&serves)));
    }

    /// Every way to change what is mapped at the bottom of memory, and what only
    /// looks like one.
    #[test]
    fn who_reaches_the_region() {
        const M: u64 = 1 << 20;
        let (base, fixed) = (region::BASE, libc::MAP_FIXED as u64);
        for (name, args, expected) in [
            ("munmap", [base, 4096, 0, 0, 0, 0], true),
            ("munmap", [0, 64 * M, 0, 0, 0, 0], true),
            ("munmap", [0, u64::MAX, 0, 0, 0, 0], true),
            ("munmap", [0, base, 0, 0, 0, 0], false),
            ("munmap", [region::END, M, 0, 0, 0, 0], false),
            ("mprotect", [region::END - 1, 1, 0, 0, 0, 0], true),
            ("madvise", [0, base + 1, 4, 0, 0, 0], true),
            ("mmap", [0, M, 3, 0x22, u64::MAX, 0], false),
            ("mmap", [0, M, 3, 0x22 | fixed, u64::MAX, 0], true),
            ("mmap", [base, M, 3, 0x22, u64::MAX, 0], false),
            ("mmap", [0x40_0000, M, 3, 0x22 | fixed, u64::MAX, 0], false),
            ("mremap", [base, 0, M, 1, 0, 0], true),
            ("mremap", [64 * M, M, M, 3, 0, 0], true),
            ("mremap", [64 * M, M, M, 1, 0, 0], false),
            ("shmat", [1, base, SHM_REMAP, 0, 0, 0], true),
            ("shmat", [1, 0, SHM_REMAP, 0, 0, 0], false),
            ("brk", [0, 0, 0, 0, 0, 0], false),
            ("brk", [base, 0, 0, 0, 0, 0], true),
            ("brk", [64 * M, 0, 0, 0, 0, 0], false),
        ] {
            assert_eq!(remaps(Arch::NATIVE, name, args), expected, "{name} {args:x?}");
        }
        // What the kernel does not look at.
        let tag = if cfg!(target_arch = "aarch64") { 0xff << 56 } else { 0x3f << 57 };
        assert!(remaps(Arch::NATIVE, "munmap", [base | tag, 4096, 0, 0, 0, 0]));
        assert!(remaps(Arch::X86, "mmap", [0x5000_0000, 0, 0, 0, 0, 0]), "its arguments are elsewhere");
        assert!(remaps(Arch::X86, "ipc", [21, 1, SHM_REMAP, 0x5000_0000, base, 0]));
        assert!(!remaps(Arch::X86, "ipc", [2, 1, 0, 0, base, 0]));
        assert!(!remaps(Arch::X86, "mmap2", [0, M, 3, 0x22, 0xffff_ffff, 0]));
    }
}
