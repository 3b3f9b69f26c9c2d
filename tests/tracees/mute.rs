//! A FUSE file system whose server does not answer, or does what is judged
//! before it does (linux/fuse.h).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use libc::{MS_PRIVATE, MS_REC};

use crate::{c, check, open};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// What the kernel asks.
struct Request {
    operation: u32,
    unique: u64,
}

fn next(fuse: &mut File) -> Request {
    let mut bytes = vec![0; 1 << 18];
    let length = fuse.read(&mut bytes).unwrap();
    assert!(length >= 40, "a header has 40 bytes");
    Request {
        operation: u32::from_ne_bytes(bytes[4..8].try_into().unwrap()),
        unique: u64::from_ne_bytes(bytes[8..16].try_into().unwrap()),
    }
}

fn answer(fuse: &mut File, request: &Request, error: i32, body: &[u8]) {
    let length = 16 + body.len() as u32;
    let header = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &request.unique.to_ne_bytes()].concat();
    // Who asked may be gone.
    let _ = fuse.write(&[&header, body].concat());
}

/// Mounts one at `directory`, in a mount namespace of its own.
fn mount(directory: &str) -> File {
    let none = std::ptr::null::<libc::c_void>();
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into()).unwrap();
    check(unsafe { libc::mount(none.cast(), c"/".as_ptr(), none.cast(), MS_REC | MS_PRIVATE, none) }.into()).unwrap();
    let mut fuse = File::options().read(true).write(true).open("/dev/fuse").expect("a kernel with FUSE");
    let options = c(&format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd()));
    let (place, kind) = (c(directory), c"fuse".as_ptr());
    check(unsafe { libc::mount(kind, place.as_ptr(), kind, 0, options.as_ptr().cast()) }.into()).unwrap();
    let request = next(&mut fuse);
    assert_eq!(request.operation, INIT);
    // Version 7.31; what is read ahead, and the largest write.
    let mut body = [0; 64];
    for (place, value) in [(0, 7_u32), (4, 31), (8, 1 << 16), (20, 1 << 16), (24, 1)] {
        body[place..place + 4].copy_from_slice(&value.to_ne_bytes());
    }
    answer(&mut fuse, &request, 0, &body);
    fuse
}

/// A child opens a name on it. The server meanwhile opens files and answers
/// nothing, or opens one for each answer.
pub(crate) fn main(directory: &str, answers: bool) {
    let mut fuse = mount(directory);
    let child = unsafe { libc::fork() };
    if child == 0 {
        let opened = open(libc::AT_FDCWD, &format!("{directory}/name"), libc::O_RDONLY);
        let errno = opened.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        unsafe { libc::_exit(errno) };
    }
    let mut opened = 0;
    let mut open_one = || opened += u32::from(open(libc::AT_FDCWD, "/etc/passwd", libc::O_RDONLY).is_ok());
    let mut status = 0;
    let mut ended = |flags| unsafe { libc::waitpid(child, &raw mut status, flags) } == child;
    if answers {
        while !ended(libc::WNOHANG) {
            let mut asked = libc::pollfd { fd: fuse.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            if unsafe { libc::poll(&raw mut asked, 1, 10) } < 1 {
                continue;
            }
            let request = next(&mut fuse);
            match request.operation {
                FORGET | BATCH_FORGET | INTERRUPT => {}
                operation => {
                    if operation == LOOKUP {
                        open_one();
                    }
                    answer(&mut fuse, &request, -libc::ENOENT, &[]);
                }
            }
        }
    } else {
        (0..50).for_each(|_| open_one());
        ended(0);
    }
    println!("{:?}; opened {}", nix::errno::Errno::from_raw(libc::WEXITSTATUS(status)), opened > 0);
}
