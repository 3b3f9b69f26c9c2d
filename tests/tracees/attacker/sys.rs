//! System calls, and what came of them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use libc::{c_int, c_long, pid_t};

/// What one attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    /// The call ran on the harmless object.
    Harmless,
    /// The call was refused, or the program killed before it ran.
    Denied,
    /// The call ran on the protected object.
    Leaked,
    /// The call failed in another way.
    Other(i32),
}

/// What all attempts came to.
#[derive(Default)]
pub struct Tally {
    attempts: u64,
    harmless: u64,
    denied: u64,
    leaked: u64,
    other: BTreeMap<String, u64>,
}

impl Tally {
    pub fn add(&mut self, saw: Saw) {
        self.attempts += 1;
        match saw {
            Saw::Harmless => self.harmless += 1,
            Saw::Denied => self.denied += 1,
            Saw::Leaked => self.leaked += 1,
            Saw::Other(errno) => *self.other.entry(name(errno)).or_default() += 1,
        }
    }

    /// True if the race was seen from both sides, or lost.
    pub fn is_decided(&self) -> bool {
        self.leaked > 0 || (self.harmless > 0 && self.denied > 0)
    }

    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    pub fn print(&self) {
        let tally = serde_json::json!({
            "attempts": self.attempts,
            "harmless": self.harmless,
            "denied": self.denied,
            "leaked": self.leaked,
            "other": self.other,
        });
        println!("{tally}");
    }
}

/// An errno's name.
pub fn name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

pub fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

pub fn check(result: impl Into<c_long>) -> io::Result<c_long> {
    let result = result.into();
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn owned(fd: c_int) -> io::Result<OwnedFd> {
    check(fd)?;
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn open(path: &str, flags: c_int) -> io::Result<OwnedFd> {
    owned(unsafe { libc::open(c(path).as_ptr(), flags | libc::O_CLOEXEC, 0o600) })
}

pub fn openat(directory: c_int, path: &str, flags: c_int) -> io::Result<OwnedFd> {
    owned(unsafe { libc::openat(directory, c(path).as_ptr(), flags | libc::O_CLOEXEC, 0o600) })
}

/// What a failed call says.
pub fn refused() -> Saw {
    match errno() {
        libc::EACCES | libc::EPERM => Saw::Denied,
        errno => Saw::Other(errno),
    }
}

/// Looks into what was opened, and closes it.
pub fn opened(fd: c_long) -> Saw {
    if fd < 0 {
        return refused();
    }
    let saw = if is_secret(fd as c_int) { Saw::Leaked } else { Saw::Harmless };
    unsafe { libc::close(fd as c_int) };
    saw
}

/// Reads the file: nothing else counts as having it.
pub fn is_secret(fd: c_int) -> bool {
    let mut bytes = [0u8; 6];
    let read = unsafe { libc::pread(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    read == 6 && &bytes == b"secret"
}

/// Which file a name leads to, how long it is, and its mode.
pub fn identity(path: &str) -> Option<(u64, u64, i64, u32)> {
    let mut stat = unsafe { std::mem::zeroed::<libc::stat>() };
    let found = unsafe { libc::stat(c(path).as_ptr(), &raw mut stat) } == 0;
    found.then_some((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mode))
}

pub fn identity_of(fd: c_int) -> (u64, u64) {
    let mut stat = unsafe { std::mem::zeroed::<libc::stat>() };
    check(unsafe { libc::fstat(fd, &raw mut stat) }).unwrap();
    (stat.st_dev, stat.st_ino)
}

/// A child process that ends when its guard does, or with us.
pub struct Child(pub pid_t);

impl Child {
    /// Runs `body` in a child, for ever.
    pub fn forever(body: impl FnOnce()) -> Self {
        let parent = unsafe { libc::getpid() };
        match check(unsafe { libc::fork() }).unwrap() {
            0 => {
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                if unsafe { libc::getppid() } == parent {
                    body();
                }
                unsafe { libc::_exit(0) }
            }
            pid => Self(pid as pid_t),
        }
    }

    /// Runs `body` in a child to its end, and says how that was.
    pub fn status_of(body: impl FnOnce() -> c_int) -> c_int {
        match check(unsafe { libc::fork() }).unwrap() {
            0 => unsafe { libc::_exit(body()) },
            pid => wait(pid as pid_t),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        wait(self.0);
    }
}

/// Waits for a child of whatever kind; exit status, or 128 and the signal.
pub fn wait(pid: pid_t) -> c_int {
    let mut status = 0;
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == -1 {
        assert_eq!(errno(), libc::EINTR);
    }
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

pub const PAGE: usize = 4096;

/// Fresh memory of our own, where the 32-bit gate can point to as well.
pub fn pages(count: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    let low = libc::MAP_32BIT;
    #[cfg(not(target_arch = "x86_64"))]
    let low = 0;
    map(count, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | low, -1, libc::PROT_READ | libc::PROT_WRITE)
}

pub fn map(count: usize, flags: c_int, fd: c_int, protection: c_int) -> *mut u8 {
    let base = unsafe { libc::mmap(std::ptr::null_mut(), count * PAGE, protection, flags, fd, 0) };
    assert_ne!(base, libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
    base.cast()
}

/// What a single try came to, said in one word.
pub fn say(result: io::Result<c_long>) {
    match result {
        Ok(_) => println!("ok"),
        Err(error) => println!("{}", name(error.raw_os_error().unwrap())),
    }
}

/// What an opened file came to, said in one word: `leaked` if it holds the secret.
pub fn say_opened(result: io::Result<OwnedFd>) {
    use std::os::fd::AsRawFd;
    match result {
        Ok(fd) if is_secret(fd.as_raw_fd()) => println!("leaked"),
        other => say(other.map(|_| 0)),
    }
}
