//! Names in trees that have ended, or were never put anywhere: they say nothing
//! of which file it is.

use std::fs::File;
use std::os::unix::fs::symlink;

use libc::{CLONE_FILES, CLONE_NEWNS, MS_PRIVATE, MS_REC, SIGCHLD, c_int, c_long};

use crate::{c, check, exec, open, say};

/// A child in a mount namespace of its own runs this.
fn in_new_namespace(flags: c_int, child: impl FnOnce()) {
    let none = std::ptr::null::<u8>();
    let pid = unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags | SIGCHLD), none, none, none, none) };
    if pid == 0 {
        check(unsafe { libc::unshare(CLONE_NEWNS) }.into()).unwrap();
        let root = c"/".as_ptr();
        check(unsafe { libc::mount(root, root, root, MS_REC | MS_PRIVATE, none.cast()) }.into()).unwrap();
        child();
        unsafe { libc::_exit(0) };
    }
    unsafe { libc::waitpid(pid as c_int, std::ptr::null_mut(), 0) };
}

/// A program whose interpreter has a relative name, from a directory of a mount
/// namespace that has ended. Prints which signal ended it.
pub(crate) fn interpreter(directory: &str, script: &str) {
    const KEPT: c_int = 100;
    in_new_namespace(CLONE_FILES, || {
        let opened = File::open(directory).unwrap();
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&opened), KEPT) };
    });
    check(unsafe { libc::fchdir(KEPT) }.into()).unwrap();
    let mut status = 0;
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        exec(&c(script), &[c(script)]);
        unsafe { libc::_exit(1) };
    }
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    println!("{}", libc::WTERMSIG(status));
}

/// A file whose name ends as the kernel marks those that have lost theirs.
pub(crate) fn deleted(directory: &str) {
    in_new_namespace(0, || {
        let (place, tmpfs) = (c(directory), c"tmpfs".as_ptr());
        check(unsafe { libc::mount(tmpfs, place.as_ptr(), tmpfs, 0, std::ptr::null()) }.into()).unwrap();
        let name = format!("{directory}/x (deleted)");
        File::create(&name).unwrap();
        say(open(libc::AT_FDCWD, &name, libc::O_RDONLY));
    });
}

/// Truncates a file by a link in a copy of its directory that is nowhere.
pub(crate) fn detached(directory: &str, name: &str) {
    symlink(name, format!("{directory}/link")).unwrap();
    let place = c(directory);
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, place.as_ptr(), 1) };
    say(open(check(tree).unwrap() as c_int, "link", libc::O_WRONLY | libc::O_TRUNC));
}
