//! Children of the doctor, and the calls that they make.
//!
//! Results of calls are numbers as the kernel returns them: an errno is
//! negative. All `unsafe` of the doctor is in this file.
#![allow(unsafe_code, reason = "fork, and calls that have no safe wrapper")]

use std::ffi::{CStr, c_void};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use libc::{c_int, c_long, pid_t, sock_filter};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::{End, LIMIT, Refusal, Trial};

/// How long a killed child may take to be gone.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Answers that are read at once.
const MOST: usize = 32;

// ---- In the parent ---------------------------------------------------------

/// Runs `body` in a child, and listens to what it says.
///
/// `body` must only make system calls on memory that exists already.
pub(super) fn in_child(body: impl FnOnce(&Voice)) -> Trial {
    let (reader, writer) = match pipe2(OFlag::O_CLOEXEC) {
        Ok(pipe) => pipe,
        Err(errno) => return Trial::not_started(errno as i32),
    };
    let parent = std::process::id() as pid_t;
    // SAFETY: the child ends in `_exit` and, by the contract above, only makes
    // system calls.
    let child = match unsafe { libc::fork() } {
        -1 => return Trial::not_started(Errno::last_raw()),
        0 => {
            settle(parent);
            body(&Voice(writer.as_raw_fd()));
            leave(0)
        }
        pid => pid,
    };
    drop(writer);
    let until = Instant::now() + LIMIT;
    let (said, finished) = listen(&reader, until);
    let status = if finished { reap(child, until) } else { None };
    let end = match status {
        Some(status) if libc::WIFSIGNALED(status) => End::Refused(Refusal::Killed(libc::WTERMSIG(status))),
        Some(_) => End::Left,
        None => {
            end(child);
            End::Refused(Refusal::Hung)
        }
    };
    Trial { said, end }
}

/// What is said until the pipe is closed; false if that takes too long.
fn listen(reader: &OwnedFd, until: Instant) -> (Vec<i64>, bool) {
    let mut bytes = Vec::new();
    let mut part = [0; 8 * MOST];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure of ours, as said.
        let ready = unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as c_int) };
        if ready < 0 && Errno::last() == Errno::EINTR && !left.is_zero() {
            continue;
        }
        let got = if ready > 0 { nix::unistd::read(reader, &mut part).ok() } else { None };
        match got {
            Some(0) => break (answers(&bytes), true),
            Some(length) => bytes.extend_from_slice(&part[..length]),
            None => break (answers(&bytes), false),
        }
    }
}

fn answers(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks().0.iter().map(|chunk| i64::from_ne_bytes(*chunk)).collect()
}

/// The wait status of a child that is about to end; 0 if somebody else reaped
/// it (`SIGCHLD` ignored). None if it is not gone in time.
fn reap(child: pid_t, until: Instant) -> Option<c_int> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one int.
        match unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG | libc::__WALL) } {
            0 if Instant::now() >= until => return None,
            0 => std::thread::sleep(Duration::from_micros(200)),
            -1 if Errno::last() == Errno::EINTR => {}
            -1 => return Some(0),
            _ => return Some(status),
        }
    }
}

/// Kills a child of ours and waits for its end, but not for ever.
fn end(child: pid_t) {
    // SAFETY: kill takes numbers; the child is not reaped yet, so that its id
    // is nobody else's.
    unsafe { libc::kill(child, libc::SIGKILL) };
    let _ = reap(child, Instant::now() + LAST_WAIT);
}

/// A child that waits to be looked at. Killed and reaped with this value.
#[derive(Debug)]
pub(in crate::doctor) struct Bystander {
    pid: pid_t,
    /// Its waiting ends when this is closed.
    _go: OwnedFd,
}

impl Bystander {
    pub(in crate::doctor) fn start() -> Result<Self, Errno> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let parent = std::process::id() as pid_t;
        // SAFETY: the child only makes system calls, and ends in `_exit`.
        match unsafe { libc::fork() } {
            -1 => Err(Errno::last()),
            0 => {
                settle(parent);
                // SAFETY: our copy of the descriptor is not used any more.
                unsafe { libc::close(writer.as_raw_fd()) };
                wait_for_byte(reader.as_raw_fd());
                leave(0)
            }
            pid => Ok(Self { pid, _go: writer }),
        }
    }

    pub(in crate::doctor) fn pid(&self) -> pid_t {
        self.pid
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        end(self.pid);
    }
}

// ---- In a child ------------------------------------------------------------

/// The way from a trial's child to its parent.
pub(super) struct Voice(c_int);

impl Voice {
    /// Tells the parent a step's answer, and returns it.
    pub(super) fn say(&self, answer: i64) -> i64 {
        let bytes = answer.to_ne_bytes();
        // SAFETY: the kernel reads eight bytes of `bytes`.
        unsafe { libc::write(self.0, bytes.as_ptr().cast(), bytes.len()) };
        answer
    }
}

/// The errno of a call that failed, negative; else its result.
fn answer(result: c_long) -> i64 {
    if result == -1 { -i64::from(Errno::last_raw()) } else { result }
}

/// A system call by number, its arguments passed as they are.
///
/// # Safety
/// Pointers among the arguments must be good for what the call does.
unsafe fn call(number: c_long, arguments: [usize; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller vouches for the pointers.
    answer(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

pub(super) fn leave(status: c_int) -> ! {
    // SAFETY: ends this process; nothing of ours is to be run first.
    unsafe { libc::_exit(status) }
}

/// A new child dies with its parent, and can wait for children of its own.
fn settle(parent: pid_t) {
    // SAFETY: numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        if libc::getppid() != parent {
            leave(0);
        }
    }
}

/// False at the end of file.
pub(super) fn wait_for_byte(fd: c_int) -> bool {
    let mut byte = 0u8;
    // SAFETY: the kernel writes one byte.
    unsafe { libc::read(fd, (&raw mut byte).cast(), 1) == 1 }
}

/// A child of a trial's child.
pub(super) struct Subject {
    pub(super) pid: pid_t,
    /// What it waits on, in its own numbering, and the other end.
    pub(super) held: c_int,
    go: c_int,
}

/// Forks a subject that waits for a byte, then runs `body`.
pub(super) fn subject(voice: &Voice, body: impl FnOnce()) -> Result<Subject, i64> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two ints; the child only makes system calls
    // and ends in `_exit`.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) == -1 {
            return Err(answer(-1));
        }
        let parent = libc::getpid();
        match libc::fork() {
            -1 => Err(answer(-1)),
            0 => {
                settle(parent);
                libc::close(ends[1]);
                libc::close(voice.0);
                if wait_for_byte(ends[0]) {
                    body();
                }
                leave(0)
            }
            pid => Ok(Subject { pid, held: ends[0], go: ends[1] }),
        }
    }
}

impl Subject {
    pub(super) fn go(&self) {
        // SAFETY: the kernel reads one byte.
        unsafe { libc::write(self.go, [1u8].as_ptr().cast(), 1) };
    }

    /// Waits for its next stop or end: the wait status, or an errno.
    pub(super) fn wait(&self) -> i64 {
        next_stop(self.pid)
    }

    pub(super) fn end(self) {
        // SAFETY: numbers only; it is our child and not reaped.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        loop {
            let status = self.wait();
            if status < 0 || libc::WIFEXITED(status as c_int) || libc::WIFSIGNALED(status as c_int) {
                return;
            }
        }
    }
}

// ---- ptrace ----------------------------------------------------------------

pub(super) fn own_pid() -> pid_t {
    // SAFETY: no operands. Not `std::process::id`, which might keep the number
    // of before the fork.
    unsafe { libc::getpid() }
}

/// A ptrace request whose operands are plain numbers.
pub(super) fn ptrace(request: u32, pid: pid_t, data: usize) -> i64 {
    // SAFETY: the requests made through here take operands by value.
    answer(unsafe { libc::ptrace(request, pid, 0usize, data) })
}

/// Waits for the next stop or end of a child or tracee: the wait status.
pub(super) fn next_stop(pid: pid_t) -> i64 {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        match answer(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }.into()) {
            failed if failed == -i64::from(libc::EINTR) => {}
            failed if failed < 0 => return failed,
            _ => return i64::from(status),
        }
    }
}

/// The number of the call at whose seccomp stop `pid` is, by
/// `PTRACE_GET_SYSCALL_INFO`.
pub(super) fn number_by_info(pid: pid_t) -> i64 {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` bytes to `info`, for which all
    // bit patterns are valid; `op` says which member of the union it filled.
    unsafe {
        match answer(libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, info.as_mut_ptr())) {
            failed if failed < 0 => failed,
            _ => match info.assume_init() {
                info if info.op == libc::PTRACE_SYSCALL_INFO_SECCOMP => info.u.seccomp.nr as i64,
                _ => -i64::from(libc::EIO),
            },
        }
    }
}

/// Reads or writes the general registers.
fn registers(request: u32, pid: pid_t, set: &mut libc::user_regs_struct) -> i64 {
    let length = size_of::<libc::user_regs_struct>();
    let mut iov = libc::iovec { iov_base: std::ptr::from_mut(set).cast::<c_void>(), iov_len: length };
    // SAFETY: the kernel reads or writes at most `iov_len` bytes of `set`, a
    // structure of integers.
    answer(unsafe { libc::ptrace(request, pid, libc::NT_PRSTATUS, &raw mut iov) })
}

fn get_registers(pid: pid_t) -> Result<libc::user_regs_struct, i64> {
    // SAFETY: integers only.
    let mut set: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    match registers(libc::PTRACE_GETREGSET, pid, &mut set) {
        failed if failed < 0 => Err(failed),
        _ => Ok(set),
    }
}

/// The number of the call at whose entry `pid` is stopped, by its registers.
pub(super) fn number_by_registers(pid: pid_t) -> i64 {
    match get_registers(pid) {
        #[cfg(target_arch = "x86_64")]
        Ok(set) => set.orig_rax as i64,
        #[cfg(target_arch = "aarch64")]
        Ok(set) => set.regs[8] as i64,
        Err(failed) => failed,
    }
}

/// Skips the call at whose entry `pid` is stopped; its caller sees `EPERM`.
/// Number -1 is "no call" (man 2 seccomp, `SECCOMP_RET_TRACE`).
pub(super) fn deny(pid: pid_t) -> i64 {
    let mut set = match get_registers(pid) {
        Ok(set) => set,
        Err(failed) => return failed,
    };
    #[cfg(target_arch = "x86_64")]
    {
        set.orig_rax = u64::MAX;
        set.rax = -i64::from(libc::EPERM) as u64;
    }
    #[cfg(target_arch = "aarch64")]
    {
        /// `include/uapi/linux/elf.h`
        const NT_ARM_SYSTEM_CALL: c_int = 0x404;
        let mut number: c_int = -1;
        let mut iov = libc::iovec { iov_base: (&raw mut number).cast(), iov_len: size_of::<c_int>() };
        // SAFETY: the kernel reads one int through `iov`.
        let skipped = answer(unsafe { libc::ptrace(libc::PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &raw mut iov) });
        if skipped < 0 {
            return skipped;
        }
        set.regs[0] = -i64::from(libc::EPERM) as u64;
    }
    registers(libc::PTRACE_SETREGSET, pid, &mut set)
}

/// getppid(2), which does nothing but can be refused.
pub(super) fn harmless_call() -> i64 {
    // SAFETY: no operands.
    unsafe { call(HARMLESS, [0; 6]) }
}

/// Its number.
pub(super) const HARMLESS: c_long = libc::SYS_getppid;

// ---- Other processes' memory, descriptors and address spaces ---------------

/// Lies at the same address in every child.
static MARK: [u8; 16] = *b"tracegate doctor";

/// Reads the mark in another process: the number of bytes, if they are right.
pub(super) fn read_mark(pid: pid_t) -> i64 {
    let mut copy = [0u8; MARK.len()];
    let local = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: copy.len() };
    let remote = libc::iovec { iov_base: MARK.as_ptr().cast_mut().cast(), iov_len: copy.len() };
    // SAFETY: the kernel writes at most `copy.len()` bytes to `copy`; what
    // `remote` says is an address in another process.
    let read = answer(unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) } as c_long);
    if read < 0 || copy == MARK { read } else { -i64::from(libc::EIO) }
}

pub(super) fn pidfd_open(pid: pid_t) -> i64 {
    // SAFETY: numbers only.
    unsafe { call(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0]) }
}

pub(super) fn pidfd_getfd(pidfd: i64, fd: c_int) -> i64 {
    // SAFETY: numbers only.
    unsafe { call(libc::SYS_pidfd_getfd, [pidfd as usize, fd as usize, 0, 0, 0, 0]) }
}

/// kcmp(2) of our address space with another's.
pub(super) fn kcmp_memory(pid: pid_t) -> i64 {
    const KCMP_VM: usize = 1;
    // SAFETY: numbers only.
    unsafe { call(libc::SYS_kcmp, [own_pid() as usize, pid as usize, KCMP_VM, 0, 0, 0]) }
}

// ---- seccomp ---------------------------------------------------------------

/// Whether the kernel knows an action.
pub(super) fn seccomp_action(action: u32) -> i64 {
    let operation = libc::SECCOMP_GET_ACTION_AVAIL as usize;
    // SAFETY: the kernel reads one word of `action`.
    unsafe { call(libc::SYS_seccomp, [operation, 0, (&raw const action) as usize, 0, 0, 0]) }
}

/// Installs a filter that answers [`HARMLESS`] so, and lets the rest run.
pub(super) fn install_filter(action: u32, flags: u64) -> i64 {
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // `nr` is the first word of `struct seccomp_data`.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, HARMLESS as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, action),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let operation = libc::SECCOMP_SET_MODE_FILTER as usize;
    // SAFETY: the kernel reads the program, as long as said.
    unsafe { call(libc::SYS_seccomp, [operation, flags as usize, (&raw const program) as usize, 0, 0, 0]) }
}

pub(super) fn set_no_new_privs() -> i64 {
    // SAFETY: numbers only.
    answer(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

// ---- Files and pages -------------------------------------------------------

/// openat2(2) of a path, with `O_PATH`.
pub(super) fn openat2(path: &CStr, resolve: u64) -> i64 {
    // `struct open_how`: flags, mode, resolve.
    let how = [(libc::O_PATH | libc::O_CLOEXEC) as u64, 0, resolve];
    let (path, how, size) = (path.as_ptr() as usize, (&raw const how) as usize, size_of_val(&how));
    // SAFETY: a C string, and a structure as large as said.
    unsafe { call(libc::SYS_openat2, [libc::AT_FDCWD as usize, path, how, size, 0, 0]) }
}

/// statx(2) of a path: which of the fields in `mask` the kernel told.
pub(super) fn statx(path: &CStr, mask: u32) -> i64 {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the kernel writes one `struct statx`, integers only.
    unsafe {
        match answer(libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, mask, found.as_mut_ptr()).into()) {
            failed if failed < 0 => failed,
            _ => i64::from(found.assume_init().stx_mask & mask),
        }
    }
}

pub(in crate::doctor) fn page_size() -> u64 {
    // SAFETY: a number in, a number out.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A sealable memfd of `size` bytes.
pub(super) fn memfd(size: usize) -> i64 {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: a C string and numbers.
    let create = |flags| answer(unsafe { libc::memfd_create(c"tracegate".as_ptr(), flags) }.into());
    let memfd = match create(flags | libc::MFD_NOEXEC_SEAL) {
        // Linux before 6.3 does not know it.
        unknown if unknown == -i64::from(libc::EINVAL) => create(flags),
        other => other,
    };
    // SAFETY: numbers only.
    if memfd >= 0 && unsafe { libc::ftruncate(memfd as c_int, size as libc::off_t) } != 0 { answer(-1) } else { memfd }
}

pub(super) fn seal(memfd: i64, seals: c_int) -> i64 {
    // SAFETY: numbers only.
    answer(unsafe { libc::fcntl(memfd as c_int, libc::F_ADD_SEALS, seals) }.into())
}

/// A mapping that lives as long as the process.
pub(super) struct Mapping {
    start: *mut u8,
    size: usize,
}

impl Mapping {
    /// Maps a descriptor, shared; at `address` if that is not 0.
    pub(super) fn of(fd: i64, size: usize, address: usize, protection: c_int) -> Result<Self, i64> {
        let fixed = if address == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
        let (address, flags) = (address as *mut c_void, libc::MAP_SHARED | fixed);
        // SAFETY: a new mapping where nothing is yet, or an error.
        let start = unsafe { libc::mmap(address, size, protection, flags, fd as c_int, 0) };
        if start == libc::MAP_FAILED {
            Err(answer(-1))
        } else if fixed != 0 && start != address {
            // Before Linux 4.17 the flag is taken for a hint.
            Err(-i64::from(libc::EEXIST))
        } else {
            Ok(Self { start: start.cast(), size })
        }
    }

    /// Writes the first byte. To be called on a writable mapping.
    pub(super) fn write(&self, byte: u8) {
        // SAFETY: mapped, and never unmapped.
        unsafe { self.start.write_volatile(byte) }
    }

    pub(super) fn read(&self) -> u8 {
        // SAFETY: mapped, and never unmapped.
        unsafe { self.start.read_volatile() }
    }

    pub(super) fn make_writable(&self) -> i64 {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: our own mapping, to which no reference exists.
        answer(unsafe { libc::mprotect(self.start.cast(), self.size, protection) }.into())
    }
}

// ---- Other ABIs ------------------------------------------------------------

/// getpid by its x32 number.
#[cfg(target_arch = "x86_64")]
pub(super) fn getpid_x32() -> i64 {
    /// `__X32_SYSCALL_BIT`
    const X32: c_long = 0x4000_0000;
    // SAFETY: no operands, in any ABI.
    unsafe { call(libc::SYS_getpid | X32, [0; 6]) }
}

/// getpid by its i386 number. Without i386 emulation the process ends.
#[cfg(target_arch = "x86_64")]
pub(super) fn getpid_i386() -> i64 {
    extern "C" fn refused(_signal: c_int) {
        leave(0);
    }
    let mut result: i64 = 20;
    // SAFETY: no operands; where the instruction raises SIGSEGV the handler
    // leaves, so that no fault is logged.
    unsafe {
        libc::signal(libc::SIGSEGV, refused as *const () as libc::sighandler_t);
        std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    i64::from(result as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_dies_tells_how_far_it_came() {
        let trial = in_child(|voice| {
            voice.say(7);
            voice.say(-i64::from(libc::EPERM));
            // SAFETY: numbers only.
            unsafe { libc::raise(libc::SIGKILL) };
        });
        assert_eq!(trial.step(0), Ok(7));
        assert_eq!(trial.step(1), Err(Refusal::Errno(libc::EPERM)));
        assert_eq!(trial.step(2), Err(Refusal::Killed(libc::SIGKILL)));
        assert_eq!(trial.step(3), Err(Refusal::NotTried));
        assert_eq!(trial.through(2), Err((1, Refusal::Errno(libc::EPERM))));
    }

    #[test]
    fn a_trial_that_hangs_is_killed_with_its_subject() {
        let trial = in_child(|voice| {
            if let Ok(subject) = subject(voice, || ()) {
                voice.say(subject.pid.into());
                // Until the parent loses patience.
                wait_for_byte(subject.held);
            }
        });
        let subject = trial.step(0).expect("the subject's id");
        assert_eq!(trial.step(1), Err(Refusal::Hung));
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{subject}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        for _ in 0..1000 {
            if !alive() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{subject} lives on");
    }

    #[test]
    fn a_bystander_ends_with_its_value() {
        let bystander = Bystander::start().expect("a child");
        let proc = format!("/proc/{}", bystander.pid());
        assert!(std::path::Path::new(&proc).exists());
        drop(bystander);
        assert!(!std::path::Path::new(&proc).exists());
    }
}
