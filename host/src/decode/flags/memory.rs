//! Flags of calls about memory.

use super::INT;
use crate::decode::spec::{Field, FlagSet};

/// mmap(2), mprotect(2). Zero has a name of its own.
pub(in crate::decode) static PROT: FlagSet = FlagSet {
    fields: &[Field {
        mask: 7,
        values: &[
            (0, "PROT_NONE"), (1, "PROT_READ"), (2, "PROT_WRITE"), (3, "PROT_READ|PROT_WRITE"), (4, "PROT_EXEC"),
            (5, "PROT_READ|PROT_EXEC"), (6, "PROT_WRITE|PROT_EXEC"), (7, "PROT_READ|PROT_WRITE|PROT_EXEC"),
        ],
        last: false,
    }],
    // The second line is of AArch64 alone; x86 has no use for its bits.
    bits: names![
        PROT_SEM = 8, PROT_GROWSDOWN = 0x0100_0000, PROT_GROWSUP = 0x0200_0000,
        PROT_BTI = 0x10, PROT_MTE = 0x20,
    ],
    aarch64: None,
};

sets! {
    /// mmap(2).
    MMAP: [0xf => MAP_FILE = 0, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_SHARED_VALIDATE = 3, MAP_DROPPABLE = 8]
        MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20, MAP_32BIT = 0x40, MAP_ABOVE4G = 0x80, MAP_GROWSDOWN = 0x100,
        MAP_DENYWRITE = 0x800, MAP_EXECUTABLE = 0x1000, MAP_LOCKED = 0x2000, MAP_NORESERVE = 0x4000,
        MAP_POPULATE = 0x8000, MAP_NONBLOCK = 0x1_0000, MAP_STACK = 0x2_0000, MAP_HUGETLB = 0x4_0000,
        MAP_SYNC = 0x8_0000, MAP_FIXED_NOREPLACE = 0x10_0000, MAP_UNINITIALIZED = 0x400_0000;

    /// mremap(2).
    MREMAP: MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2, MREMAP_DONTUNMAP = 4;

    /// madvise(2).
    MADVISE: [INT => MADV_NORMAL = 0, MADV_RANDOM = 1, MADV_SEQUENTIAL = 2, MADV_WILLNEED = 3, MADV_DONTNEED = 4,
        MADV_FREE = 8, MADV_REMOVE = 9, MADV_DONTFORK = 10, MADV_DOFORK = 11, MADV_MERGEABLE = 12,
        MADV_UNMERGEABLE = 13, MADV_HUGEPAGE = 14, MADV_NOHUGEPAGE = 15, MADV_DONTDUMP = 16, MADV_DODUMP = 17,
        MADV_WIPEONFORK = 18, MADV_KEEPONFORK = 19, MADV_COLD = 20, MADV_PAGEOUT = 21, MADV_POPULATE_READ = 22,
        MADV_POPULATE_WRITE = 23, MADV_DONTNEED_LOCKED = 24, MADV_COLLAPSE = 25, MADV_HWPOISON = 100,
        MADV_SOFT_OFFLINE = 101, MADV_GUARD_INSTALL = 102, MADV_GUARD_REMOVE = 103];

    /// msync(2).
    MSYNC: MS_ASYNC = 1, MS_INVALIDATE = 2, MS_SYNC = 4;

    /// mlock2(2).
    MLOCK: MLOCK_ONFAULT = 1;

    /// mlockall(2).
    MLOCKALL: MCL_CURRENT = 1, MCL_FUTURE = 2, MCL_ONFAULT = 4;

    /// `memfd_create(2)`.
    MEMFD: MFD_CLOEXEC = 1, MFD_ALLOW_SEALING = 2, MFD_HUGETLB = 4, MFD_NOEXEC_SEAL = 8, MFD_EXEC = 0x10;

    /// `memfd_secret(2)`, which takes what `FD_CLOEXEC` is not.
    MEMFD_SECRET: FD_CLOEXEC = 1, O_CLOEXEC = 0o2_000_000;

    /// shmat(2).
    SHMAT: SHM_RDONLY = 0o10_000, SHM_RND = 0o20_000, SHM_REMAP = 0o40_000, SHM_EXEC = 0o100_000;

    /// shmget(2); the last nine bits are a mode.
    SHMGET: IPC_CREAT = 0o1000, IPC_EXCL = 0o2000, SHM_HUGETLB = 0o4000, SHM_NORESERVE = 0o10_000;

    /// `pkey_alloc(2)`.
    PKEY: PKEY_DISABLE_ACCESS = 1, PKEY_DISABLE_WRITE = 2, PKEY_DISABLE_EXECUTE = 4;

    /// userfaultfd(2).
    USERFAULTFD: UFFD_USER_MODE_ONLY = 1, O_NONBLOCK = 0o4000, O_CLOEXEC = 0o2_000_000;
}
