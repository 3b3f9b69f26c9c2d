//! Calls that the tracer makes good use of, each with its purpose.

use super::Trial;
use super::child::{self, Mapping, Subject, Voice, in_child, subject};

/// A trial with a child of its own that waits.
pub(super) fn with_subject(body: impl FnOnce(&Voice, &Subject)) -> Trial {
    in_child(|voice| match subject(voice, || ()) {
        Ok(subject) => {
            body(voice, &subject);
            subject.end();
        }
        Err(errno) => _ = voice.say(errno),
    })
}

/// `pidfd_open` of a child, and `pidfd_getfd` of a descriptor of its.
pub(in crate::doctor) fn pidfd() -> Trial {
    with_subject(|voice, subject| {
        let pidfd = voice.say(child::pidfd_open(subject.pid));
        if pidfd >= 0 {
            voice.say(child::pidfd_getfd(pidfd, subject.held));
        }
    })
}

/// `kcmp` of our address space with a child's.
pub(in crate::doctor) fn kcmp() -> Trial {
    with_subject(|voice, subject| {
        voice.say(child::kcmp_memory(subject.pid));
    })
}

/// Steps of [`filters`].
pub(in crate::doctor) mod filtering {
    /// The kernel knows `SECCOMP_RET_TRACE`.
    pub(in crate::doctor) const TRACE: usize = 0;
    /// A filter without `no_new_privs`.
    pub(in crate::doctor) const PRIVILEGED: usize = 1;
    /// A filter with `no_new_privs`.
    pub(in crate::doctor) const UNPRIVILEGED: usize = 2;
    /// One with `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
    pub(in crate::doctor) const SPEC_ALLOW: usize = 3;
    /// One with `SECCOMP_FILTER_FLAG_TSYNC`.
    pub(in crate::doctor) const TSYNC: usize = 4;
}

/// Installs filters that let everything run.
pub(in crate::doctor) fn filters() -> Trial {
    in_child(|voice| {
        let install = |flags| child::install_filter(libc::SECCOMP_RET_ALLOW, flags);
        voice.say(child::seccomp_action(libc::SECCOMP_RET_TRACE));
        voice.say(install(0));
        child::set_no_new_privs();
        voice.say(install(0));
        voice.say(install(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW));
        voice.say(install(libc::SECCOMP_FILTER_FLAG_TSYNC));
    })
}

/// `openat2` with `RESOLVE_NO_SYMLINKS`, then `RESOLVE_IN_ROOT`; last that
/// links are refused when asked for.
pub(in crate::doctor) fn openat2() -> Trial {
    const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    const RESOLVE_IN_ROOT: u64 = 0x10;
    in_child(|voice| {
        let without_links = voice.say(child::openat2(c"/", RESOLVE_NO_SYMLINKS));
        if without_links >= 0 && voice.say(child::openat2(c"/", RESOLVE_IN_ROOT)) >= 0 {
            let through_link = child::openat2(c"/proc/self", RESOLVE_NO_SYMLINKS);
            voice.say(if through_link >= 0 { -i64::from(libc::EIO) } else { 0 });
        }
    })
}

/// `statx`; then whether it told a mount id.
pub(in crate::doctor) fn statx() -> Trial {
    in_child(|voice| {
        let told = voice.say(child::statx(c"/", libc::STATX_MNT_ID));
        if told >= 0 {
            voice.say(if told == 0 { -i64::from(libc::EOPNOTSUPP) } else { 0 });
        }
    })
}

/// Steps of [`sealed_page`].
pub(in crate::doctor) mod sealing {
    pub(in crate::doctor) const MEMFD: usize = 0;
    pub(in crate::doctor) const SEAL: usize = 2;
    /// Mapped at 0x10000, for reading.
    pub(in crate::doctor) const MAP: usize = 3;
    /// What is written through the first mapping shows, and the second cannot
    /// be made writable.
    pub(in crate::doctor) const PROTECTED: usize = 4;
    /// What each step is called.
    pub(in crate::doctor) const NAMES: [&str; 5] = [
        "memfd_create",
        "mapping it for writing",
        "sealing it with F_SEAL_FUTURE_WRITE",
        "mapping it at 0x10000 for reading",
        "its protection",
    ];
}

/// Where judged arguments are kept in a tracee, and how much room they have.
const PROTECTED_PAGE: usize = 0x10000;
const SIZE: usize = 2 << 20;

/// Memory that one mapping writes and another can only read: how judged
/// arguments are kept from change.
pub(in crate::doctor) fn sealed_page() -> Trial {
    in_child(|voice| {
        let memfd = voice.say(child::memfd(SIZE));
        if memfd < 0 {
            return;
        }
        let map = |address, protection| {
            let mapping = Mapping::of(memfd, SIZE, address, protection);
            voice.say(mapping.as_ref().err().copied().unwrap_or(0));
            mapping
        };
        let Ok(written) = map(0, libc::PROT_READ | libc::PROT_WRITE) else { return };
        if voice.say(child::seal(memfd, libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)) < 0 {
            return;
        }
        let Ok(read) = map(PROTECTED_PAGE, libc::PROT_READ) else { return };
        written.write(42);
        let protected = read.read() == 42 && read.make_writable() < 0;
        voice.say(if protected { 0 } else { -i64::from(libc::EIO) });
    })
}

/// Steps of [`other_abis`].
#[cfg(target_arch = "x86_64")]
pub(in crate::doctor) mod abis {
    pub(in crate::doctor) const X32: usize = 0;
    pub(in crate::doctor) const I386: usize = 1;
}

/// getpid by the numbers of x32, then of i386.
#[cfg(target_arch = "x86_64")]
pub(in crate::doctor) fn other_abis() -> Trial {
    in_child(|voice| {
        voice.say(child::getpid_x32());
        voice.say(child::getpid_i386());
    })
}
