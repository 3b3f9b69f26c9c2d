//! Calls about memory: mappings, protection, anonymous files, shared segments.

use super::declare::{Spec, call, address, size, long_flags, flags, fd, int, text};

pub(super) static CALLS: &[Spec] = &[
    call("mmap", &[
        address("addr"), size("length"), long_flags("prot", &flags::PROT), long_flags("flags", &flags::MMAP), fd("fd"), size("offset"),
    ]),
    call("munmap", &[address("addr"), size("length")]),
    call("mprotect", &[address("addr"), size("len"), long_flags("prot", &flags::PROT)]),
    call("pkey_mprotect", &[address("addr"), size("len"), long_flags("prot", &flags::PROT), int("pkey")]),
    call("pkey_alloc", &[size("flags"), long_flags("access_rights", &flags::PKEY)]),
    call("pkey_free", &[int("pkey")]),
    call("mremap", &[
        address("old_address"), size("old_size"), size("new_size"), long_flags("flags", &flags::MREMAP), address("new_address"),
    ]),
    call("remap_file_pages", &[
        address("addr"), size("size"), long_flags("prot", &flags::PROT), size("pgoff"), long_flags("flags", &flags::MMAP),
    ]),
    call("madvise", &[address("addr"), size("length"), flags("advice", &flags::MADVISE)]),
    call("msync", &[address("addr"), size("length"), flags("flags", &flags::MSYNC)]),
    call("mlock", &[address("addr"), size("len")]),
    call("mlock2", &[address("addr"), size("len"), flags("flags", &flags::MLOCK)]),
    call("munlock", &[address("addr"), size("len")]),
    call("mlockall", &[flags("flags", &flags::MLOCKALL)]),
    call("munlockall", &[]),
    call("mseal", &[address("addr"), size("len"), size("flags")]),
    call("brk", &[address("addr")]),
    call("memfd_create", &[text("name", 250), flags("flags", &flags::MEMFD)]),
    call("memfd_secret", &[flags("flags", &flags::MEMFD_SECRET)]),
    call("shmat", &[int("shmid"), address("shmaddr"), flags("shmflg", &flags::SHMAT)]),
    call("shmdt", &[address("shmaddr")]),
    call("shmget", &[int("key"), size("size"), flags("shmflg", &flags::SHMGET)]),
    call("userfaultfd", &[flags("flags", &flags::USERFAULTFD)]),
];
