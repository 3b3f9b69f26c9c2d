//! The kernel interfaces that nix does not wrap, each as a safe function with
//! owned results. All `unsafe` of the tracer is in this file and in
//! `launch.rs`.
//!
//! Nothing here decides anything.
#![allow(unsafe_code, reason = "ptrace, wait4, process_vm_readv and openat2 have no safe wrapper")]

use std::ffi::{CStr, c_void};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, c_uint, pid_t};

use super::stop::Moment;
use crate::decode::Arch;

/// `PTRACE_O_*` and requests that libc has under other types.
pub(super) const PTRACE_EVENT_STOP: c_int = libc::PTRACE_EVENT_STOP;

fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// One ptrace(2) request whose address and data are plain numbers.
pub(super) fn ptrace(request: c_uint, tid: pid_t, address: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: every request passed here takes its two operands by value, so
    // that the kernel writes to no memory of ours.
    check(unsafe { libc::ptrace(request, tid, address as *mut c_void, data as *mut c_void) })
}

/// `PTRACE_GETEVENTMSG`.
pub(super) fn event_message(tid: pid_t) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long to `message`.
    check(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, 0usize, &raw mut message) })?;
    Ok(message)
}

/// `PTRACE_GET_SYSCALL_INFO` (Linux 5.3).
pub(super) fn syscall_info(tid: pid_t) -> io::Result<libc::ptrace_syscall_info> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    // SAFETY: the kernel writes at most the given size to `info`, for which
    // all bit patterns are valid.
    unsafe {
        check(libc::ptrace(
            libc::PTRACE_GET_SYSCALL_INFO,
            tid,
            size_of::<libc::ptrace_syscall_info>(),
            info.as_mut_ptr(),
        ))?;
        Ok(info.assume_init())
    }
}

/// A call that has not run.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallInfo {
    pub(super) audit: u32,
    pub(super) nr: u64,
    pub(super) args: [u64; 6],
    /// What the filter said that stopped it (`SECCOMP_RET_DATA`).
    pub(super) mark: Option<u32>,
}

/// What `info` says of a call; `None` at a stop of another kind.
pub(super) fn moment(info: &libc::ptrace_syscall_info) -> Option<Moment> {
    let call = |nr, args: [u64; 6], mark| {
        // The kernel shows whole registers, and takes their lower halves.
        let args = if info.arch == Arch::X86.audit() { args.map(|arg| arg & 0xffff_ffff) } else { args };
        Some(Moment::Entry(CallInfo { audit: info.arch, nr, args, mark }))
    };
    // SAFETY: `op` says which member of the union the kernel filled.
    unsafe {
        match info.op {
            libc::PTRACE_SYSCALL_INFO_SECCOMP => {
                call(info.u.seccomp.nr, info.u.seccomp.args, Some(info.u.seccomp.ret_data))
            }
            libc::PTRACE_SYSCALL_INFO_ENTRY => call(info.u.entry.nr, info.u.entry.args, None),
            libc::PTRACE_SYSCALL_INFO_EXIT => Some(Moment::Exit(info.u.exit.sval)),
            _ => None,
        }
    }
}

/// Reads the general registers (`PTRACE_GETREGS`, which has them as we have
/// them; `PTRACE_GETREGSET` has those of a 32-bit program in its own layout).
#[cfg(target_arch = "x86_64")]
pub(super) fn get_registers(tid: pid_t) -> io::Result<libc::user_regs_struct> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    // SAFETY: the kernel writes one structure of integers.
    unsafe {
        check(libc::ptrace(libc::PTRACE_GETREGS, tid, 0, registers.as_mut_ptr()))?;
        Ok(registers.assume_init())
    }
}

/// Words of `struct user_regs_struct`.
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: usize = 27;

/// Its words in order, which is that of `PTRACE_POKEUSER`'s offsets.
#[cfg(target_arch = "x86_64")]
pub(super) fn register_words(registers: libc::user_regs_struct) -> [u64; REGISTERS] {
    // SAFETY: the structure is as many unsigned longs and nothing else; that
    // the sizes are the same is checked here.
    unsafe { std::mem::transmute(registers) }
}

/// Registers with these words.
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) fn registers_of(words: [u64; REGISTERS]) -> libc::user_regs_struct {
    // SAFETY: as for `register_words`.
    unsafe { std::mem::transmute(words) }
}

/// Reads a register set (`PTRACE_GETREGSET` with `NT_PRSTATUS`).
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn get_registers(tid: pid_t) -> io::Result<libc::user_regs_struct> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    let mut iov = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of::<libc::user_regs_struct>() };
    // SAFETY: the kernel writes at most `iov_len` bytes to `registers`, a
    // structure of integers.
    unsafe {
        check(libc::ptrace(libc::PTRACE_GETREGSET, tid, libc::NT_PRSTATUS, &raw mut iov))?;
        Ok(registers.assume_init())
    }
}

/// Writes a register set.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn set_registers(tid: pid_t, registers: &libc::user_regs_struct) -> io::Result<()> {
    let mut iov = libc::iovec {
        iov_base: std::ptr::from_ref(registers).cast_mut().cast(),
        iov_len: size_of::<libc::user_regs_struct>(),
    };
    // SAFETY: the kernel only reads `registers`.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid, libc::NT_PRSTATUS, &raw mut iov) })?;
    Ok(())
}

/// Whom wait4(2) is to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    /// Any child or tracee, and to wait until one has something to report.
    Block,
    /// Any, without waiting.
    Any,
    /// This one, without waiting.
    Id(pid_t),
}

/// What wait4(2) came to.
#[derive(Debug)]
pub(super) enum Waited {
    /// A task and its status.
    Status(pid_t, c_int),
    /// Without waiting: nobody has anything to report.
    Nothing,
    /// A signal handler ran.
    Interrupted,
    /// There is nobody to wait for.
    NoChild,
}

/// wait4(2).
pub(super) fn wait(whom: Whom) -> io::Result<Waited> {
    let (id, flags) = match whom {
        Whom::Block => (-1, libc::__WALL),
        Whom::Any => (-1, libc::__WALL | libc::WNOHANG),
        Whom::Id(tid) => (tid, libc::__WALL | libc::WNOHANG),
    };
    let mut status = 0;
    // SAFETY: the kernel writes one int to `status`.
    match unsafe { libc::wait4(id, &raw mut status, flags, std::ptr::null_mut()) } {
        0 => return Ok(Waited::Nothing),
        tid if tid > 0 => return Ok(Waited::Status(tid, status)),
        _ => {}
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ECHILD) => Ok(Waited::NoChild),
        error if error.kind() == io::ErrorKind::Interrupted => Ok(Waited::Interrupted),
        error => Err(error),
    }
}

/// What waiting for a signal came to.
#[derive(Debug)]
pub(super) enum Told {
    /// SIGCHLD: this task has something to report, if it was not forged.
    Child(pid_t),
    /// SIGALRM.
    Alarm,
    /// A signal handler ran.
    Interrupted,
}

/// Waits for SIGCHLD or SIGALRM, which all threads block.
pub(super) fn wait_for_signal() -> io::Result<Told> {
    // The kernel's own sigset_t: C libraries' are larger, and musl's wrapper
    // does not return when a handler ran.
    let set: u64 = 1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGALRM - 1);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: the kernel reads `set`, of the size given, and writes one
    // siginfo_t; `si_pid` is filled for SIGCHLD, and zero or an integer
    // otherwise.
    unsafe {
        match libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), forever, size_of::<u64>()) {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(Told::Interrupted),
                error => Err(error),
            },
            number if number == c_long::from(libc::SIGALRM) => Ok(Told::Alarm),
            _ => Ok(Told::Child(info.assume_init().si_pid())),
        }
    }
}

/// Sends us SIGALRM after `pause`, once, instead of when it was to come.
pub(super) fn set_alarm(pause: std::time::Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: pause.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(pause.subsec_micros()),
    };
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: never, it_value: value };
    // SAFETY: the kernel only reads `timer`.
    check(c_long::from(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }))?;
    Ok(())
}

/// `process_vm_readv(2)` of one range; the number of leading bytes read.
pub(super) fn read_memory(tid: pid_t, address: u64, buffer: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as usize as *mut c_void, iov_len: buffer.len() };
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`;
    // `remote` is an address in another process that it checks itself.
    let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}

/// Whether a task still has an address space, which goes early in its end.
pub(super) fn has_memory(tid: pid_t) -> bool {
    let mut byte = 0u8;
    let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: the kernel writes one byte at most, to `byte`; the other address is
    // in another process.
    let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const nowhere, 1, 0) };
    read >= 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// `process_vm_writev(2)` of one range; whether all of it was written.
pub(super) fn write_memory(tid: pid_t, address: u64, bytes: &[u8]) -> bool {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as usize as *mut c_void, iov_len: bytes.len() };
    // SAFETY: the kernel only reads `bytes`; `remote` is an address in another
    // process that it checks itself.
    let written = unsafe { libc::process_vm_writev(tid, &raw const local, 1, &raw const remote, 1, 0) };
    written == bytes.len() as isize
}

/// Writes a word of a stopped tracee's memory (`PTRACE_POKEDATA`), also where
/// the tracee itself may only read.
pub(super) fn poke(tid: pid_t, address: u64, word: u64) -> io::Result<()> {
    ptrace(libc::PTRACE_POKEDATA, tid, address as usize, word as usize).map(drop)
}

/// Writes to a stopped tracee's memory in words; whether all was written. The
/// last word is filled up with zeros.
pub(super) fn poke_all(tid: pid_t, address: u64, bytes: &[u8]) -> bool {
    bytes.chunks(size_of::<u64>()).zip((address..).step_by(size_of::<u64>())).all(|(chunk, address)| {
        let mut word = [0; size_of::<u64>()];
        word[..chunk.len()].copy_from_slice(chunk);
        poke(tid, address, u64::from_ne_bytes(word)).is_ok()
    })
}

/// Asks an open `/proc/TID/maps` for the mapping at an address
/// (`PROCMAP_QUERY`, Linux 6.11): its end, whether it is shared, its inode, and
/// how many bytes of its name, with NUL, were written to `name`.
pub(super) fn query_mapping(
    maps: BorrowedFd<'_>,
    address: u64,
    name: &mut [u8],
) -> io::Result<(u64, bool, u64, usize)> {
    /// `struct procmap_query` (linux/fs.h).
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        size: u64,
        query_flags: u64,
        query_addr: u64,
        vma_start: u64,
        vma_end: u64,
        vma_flags: u64,
        vma_page_size: u64,
        vma_offset: u64,
        inode: u64,
        dev_major: u32,
        dev_minor: u32,
        vma_name_size: u32,
        build_id_size: u32,
        vma_name_addr: u64,
        build_id_addr: u64,
    }
    /// `_IOWR('f', 17, struct procmap_query)`
    const PROCMAP_QUERY: u64 = 3 << 30 | (size_of::<Query>() as u64) << 16 | (b'f' as u64) << 8 | 0x11;
    /// `PROCMAP_QUERY_VMA_SHARED`
    const SHARED: u64 = 8;
    let mut query = Query {
        size: size_of::<Query>() as u64,
        query_addr: address,
        vma_name_size: name.len() as u32,
        vma_name_addr: if name.is_empty() { 0 } else { name.as_mut_ptr().addr() as u64 },
        ..Query::default()
    };
    // SAFETY: the kernel writes to the structure, which has the size that it
    // is told of, and to `name` no more than its length.
    check(unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY as _, &raw mut query) }.into())?;
    let length = (query.vma_name_size as usize).min(name.len());
    Ok((query.vma_end, query.vma_flags & SHARED != 0, query.inode, length))
}

/// The kernel's version, its first two numbers.
pub(super) fn kernel() -> (u32, u32) {
    static VERSION: std::sync::OnceLock<(u32, u32)> = std::sync::OnceLock::new();
    *VERSION.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    })
}

/// kcmp(2) of two tasks: whether they share the resource `kind`.
pub(super) fn kcmp(one: pid_t, other: pid_t, kind: c_int) -> io::Result<bool> {
    // SAFETY: a system call on numbers.
    check(unsafe { libc::syscall(libc::SYS_kcmp, one, other, kind, 0, 0) }).map(|order| order == 0)
}

/// The signals that a stopped tracee blocks (`PTRACE_GETSIGMASK`).
pub(super) fn signal_mask(tid: pid_t) -> io::Result<u64> {
    let mut mask = 0u64;
    // SAFETY: the kernel writes the eight bytes that it is told of.
    check(unsafe { libc::ptrace(PTRACE_GETSIGMASK, tid, size_of::<u64>(), &raw mut mask) })?;
    Ok(mask)
}

/// Sets them (`PTRACE_SETSIGMASK`).
pub(super) fn set_signal_mask(tid: pid_t, mask: u64) -> io::Result<()> {
    // SAFETY: the kernel reads the eight bytes that it is told of.
    check(unsafe { libc::ptrace(PTRACE_SETSIGMASK, tid, size_of::<u64>(), &raw const mask) }).map(drop)
}

/// Whether calls that a stopped tracee makes outside of a range of its own are
/// turned into SIGSYS (Syscall User Dispatch,
/// Documentation/admin-guide/syscall-user-dispatch.rst); false before Linux
/// 6.4, which does not tell.
pub(super) fn dispatches_calls(tid: pid_t) -> bool {
    // `struct ptrace_sud_config`: mode, selector, offset, length.
    let mut config = [0u64; 4];
    // SAFETY: the kernel writes the bytes that it is told of.
    let told = unsafe {
        libc::ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, size_of_val(&config), config.as_mut_ptr())
    };
    told == 0 && config[0] != 0
}

/// include/uapi/linux/ptrace.h (Linux 6.4).
const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: c_uint = 0x4211;

/// include/uapi/linux/ptrace.h (Linux 3.11).
const PTRACE_GETSIGMASK: c_uint = 0x420a;
const PTRACE_SETSIGMASK: c_uint = 0x420b;

/// A copy of a descriptor of process and thread `ids` (`pidfd_getfd(2)`, Linux
/// 5.6). A process whose first thread has ended is asked through another
/// (`PIDFD_THREAD`, Linux 6.9).
pub(super) fn take_descriptor(ids: (pid_t, pid_t), fd: c_int) -> io::Result<OwnedFd> {
    let process = open_process(ids.1, libc::O_EXCL).or_else(|_| open_process(ids.0, 0))?;
    // SAFETY: a system call on numbers; the descriptor returned belongs to
    // nobody else.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0))? as c_int))
    }
}

/// `pidfd_open(2)` (Linux 5.3).
pub(super) fn open_process(pid: pid_t, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: as for `take_descriptor`.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::syscall(libc::SYS_pidfd_open, pid, flags))? as c_int)) }
}

/// Instructions of a stopped tracee's filter number `index`, the newest first
/// (`PTRACE_SECCOMP_GET_FILTER`); `ENOENT` if there are not so many.
pub(super) fn seccomp_filter(tid: pid_t, index: usize) -> io::Result<Vec<libc::sock_filter>> {
    /// include/uapi/linux/ptrace.h (Linux 4.4).
    const PTRACE_SECCOMP_GET_FILTER: c_uint = 0x420c;
    let length = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, 0)? as usize;
    let mut filter = vec![libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; length];
    // SAFETY: the kernel writes as many instructions as it has just said; the
    // tracee is stopped, and its filters are never changed.
    check(unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, filter.as_mut_ptr()) })?;
    Ok(filter)
}

/// Sends a signal to a process (kill(2)).
pub(super) fn signal_process(pid: pid_t, signal: c_int) {
    // SAFETY: a system call on numbers. If the process is gone there is
    // nothing to do.
    unsafe { libc::kill(pid, signal) };
}

/// Sends a signal to one thread of a process (tgkill(2)).
pub(super) fn signal_thread(pid: pid_t, tid: pid_t, signal: c_int) {
    // SAFETY: a system call on numbers. If the thread is gone there is nothing
    // to do.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
}

/// Whether there is no such thread, not even one that has ended and waits to be
/// told of.
pub(super) fn is_gone(tid: pid_t) -> bool {
    // SAFETY: a system call on numbers; 0 is no signal (tkill(2)).
    let asked = unsafe { libc::syscall(libc::SYS_tkill, tid, 0) };
    asked != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// `struct open_how` of openat2(2).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2) (Linux 5.6).
pub(super) fn openat2(dir: c_int, path: &CStr, flags: c_int, resolve: u64) -> io::Result<OwnedFd> {
    let how = OpenHow { flags: flags as u64, mode: 0, resolve };
    // SAFETY: `path` is NUL-terminated, `how` is as large as said, and a
    // descriptor that the call returns belongs to nobody else.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &raw const how, size_of::<OpenHow>()))?;
        Ok(OwnedFd::from_raw_fd(fd as c_int))
    }
}

/// openat(2).
pub(super) fn openat(dir: c_int, path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: as for `openat2`.
    unsafe {
        let fd = check(c_long::from(libc::openat(dir, path.as_ptr(), flags)))?;
        Ok(OwnedFd::from_raw_fd(fd as c_int))
    }
}

/// Another descriptor for the same (`F_DUPFD_CLOEXEC` of fcntl(2)).
pub(super) fn duplicate(fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: a descriptor that the call returns belongs to nobody else.
    unsafe {
        let copy = check(c_long::from(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0)))?;
        Ok(OwnedFd::from_raw_fd(copy as c_int))
    }
}

/// readlinkat(2) into `buffer`; what was read.
pub(super) fn readlinkat<'a>(dir: c_int, path: &CStr, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let length =
        check(unsafe { libc::readlinkat(dir, path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) as c_long })?;
    Ok(&buffer[..length as usize])
}

/// What makes two descriptors the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: (u32, u32),
    pub(super) inode: u64,
    pub(super) mount: u64,
    /// `S_IFMT` bits.
    pub(super) kind: u16,
}

/// An object, wherever it is mounted: device and inode.
pub(super) type Place = ((u32, u32), u64);

impl Identity {
    /// Which object it is.
    pub(super) fn place(&self) -> Place {
        (self.device, self.inode)
    }

    /// Whether both are of one file system, wherever it is mounted.
    pub(super) fn shares_device(&self, other: &Self) -> bool {
        self.device == other.device
    }
}

/// statx(2) of what `dir` and `path` lead to; `flags` are `AT_*`.
pub(super) fn identity(dir: c_int, path: &CStr, flags: c_int) -> io::Result<Identity> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_TYPE | libc::STATX_INO | libc::STATX_MNT_ID;
    // SAFETY: the kernel writes one `struct statx`, integers only.
    let found = unsafe {
        check(c_long::from(libc::statx(dir, path.as_ptr(), flags, mask, found.as_mut_ptr())))?;
        found.assume_init()
    };
    Ok(Identity {
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        mount: found.stx_mnt_id,
        kind: found.stx_mode & libc::S_IFMT as u16,
    })
}

/// [`identity`] of what a descriptor refers to. No file system is asked for it:
/// it stays what it is.
pub(super) fn identity_of(fd: impl AsFd) -> io::Result<Identity> {
    identity(fd.as_fd().as_raw_fd(), c"", libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC)
}

/// The type of the file system that a descriptor is on (statfs(2)).
pub(super) fn file_system_of(fd: BorrowedFd<'_>) -> Option<i64> {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel writes one `struct statfs`, integers only.
    unsafe { (libc::fstatfs(fd.as_raw_fd(), found.as_mut_ptr()) == 0).then(|| found.assume_init().f_type) }
}

/// Whether a descriptor is on procfs.
pub(super) fn is_procfs(fd: BorrowedFd<'_>) -> bool {
    file_system_of(fd) == Some(libc::PROC_SUPER_MAGIC)
}

/// How many names the object has that a descriptor refers to.
pub(super) fn links_of(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the kernel writes one `struct statx`, integers only.
    unsafe {
        let asked = libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_NLINK, found.as_mut_ptr());
        check(c_long::from(asked))?;
        Ok(found.assume_init().stx_nlink)
    }
}

/// The effective capabilities of a task (capget(2)), bit N for number N.
pub(super) fn effective_capabilities(tid: pid_t) -> io::Result<u64> {
    /// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, tid as u32];
    // `struct __user_cap_data_struct[2]`: effective, permitted, inheritable.
    let mut data = [[0u32; 3]; 2];
    // SAFETY: the kernel reads the header, and writes the two structures of
    // that version.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    Ok(u64::from(data[1][0]) << 32 | u64::from(data[0][0]))
}

/// When it is now, on the clock by which processes' start times are told
/// (`proc_pid_stat(5)`, field 22): ticks since boot.
pub(super) fn boot_ticks() -> Option<u64> {
    use nix::time::{ClockId, clock_gettime};
    /// `USER_HZ` (asm/param.h).
    const PER_SECOND: u64 = 100;
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    Some(now.tv_sec() as u64 * PER_SECOND + now.tv_nsec() as u64 / (1_000_000_000 / PER_SECOND))
}

/// Current wall-clock time in nanoseconds (through the vDSO).
pub(super) fn now_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
