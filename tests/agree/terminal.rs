//! Sessions for programs, with a pseudo-terminal and without.
#![allow(unsafe_code, reason = "the calls that make a terminal and a session")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Makes `command` start in a session of its own without a terminal. (Not by
/// `posix_spawn`, then, with which glibc leaves its own two signals ignored.)
pub fn detach(command: &mut Command) {
    // SAFETY: it makes system calls only, allowed between fork and exec.
    unsafe { command.pre_exec(session) };
}

/// A new session, whose programs leave no cores unless they ask for them.
fn session() -> io::Result<()> {
    let mut cores = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: system calls on numbers and live memory.
    let done = unsafe {
        let read = libc::getrlimit(libc::RLIMIT_CORE, &raw mut cores);
        cores.rlim_cur = 0;
        read == 0 && libc::setrlimit(libc::RLIMIT_CORE, &raw const cores) == 0 && libc::setsid() >= 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `command` start in a session of its own at a new terminal; gives the
/// other side of it. Nothing here is inherited by the programs of cases that
/// are started at the same time.
pub fn attach(command: &mut Command) -> io::Result<File> {
    // SAFETY: a new descriptor that belongs to nobody else.
    let outer = unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    let mut name = [0; 64];
    // SAFETY: live memory of the length given.
    let made = unsafe {
        libc::grantpt(outer.as_raw_fd()) == 0
            && libc::unlockpt(outer.as_raw_fd()) == 0
            && libc::ptsname_r(outer.as_raw_fd(), name.as_mut_ptr(), name.len()) == 0
    };
    if !made {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: ptsname_r ends it with NUL.
    let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_str().map_err(io::Error::other)?;
    let inner = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name)?;
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: reads the structure.
    unsafe { libc::ioctl(inner.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    command.stdin(inner.try_clone()?).stdout(inner.try_clone()?).stderr(inner);
    let at_terminal = || {
        session()?;
        // SAFETY: a system call on numbers.
        if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: system calls only, allowed between fork and exec.
    unsafe { command.pre_exec(at_terminal) };
    Ok(outer)
}
