//! Calls raced against a change of what they point at.
//!
//! `race MOVER CALL ROOT ATTEMPTS [PORT]`: below ROOT, `h` is harmless and
//! `s` protected, with the same names in both; the byte that differs flips.

use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_char, c_int, c_void};

use crate::memory::{self, Flip, Mover};
use crate::sys::{Saw, Tally, c, check, identity, identity_of, open, opened, owned, pages, refused, wait};

/// At most so many times as many attempts as asked for, to see both sides.
pub const PATIENCE: u64 = 20;
/// So long at least a race goes on that is not decided: the other may not have
/// had its turn yet.
const LONG_ENOUGH: std::time::Duration = std::time::Duration::from_secs(2);

pub fn main(mover: &str, call: &str, root: &str, attempts: u64, port: Option<u16>) {
    // Where the host freezes the page, or refuses the call, there is one side.
    let frozen = ["none", "private-memfd", "private-file", "userfaultfd"].contains(&mover) || call == "int80-open";
    let mut call = Call::new(call, root, port);
    let mut arena = memory::start(mover, &format!("{root}/h"), call.flip, &call.image);
    let base = arena.base;
    let in_vfork = mover == "vfork";
    let mut body = || {
        let mut tally = Tally::default();
        repeat(attempts, frozen, &mut tally, &mut || {
            arena.poke();
            let saw = (call.attempt)(base);
            arena.settle();
            saw
        });
        tally.print();
    };
    if in_vfork {
        assert_eq!(memory::in_vfork(&mut body), 0);
    } else {
        body();
    }
}

/// Tries until it was often enough and both sides were seen. An attack that
/// cannot be repeated after it won goes on to win.
pub fn repeat(attempts: u64, one_sided: bool, tally: &mut Tally, attempt: &mut dyn FnMut() -> Saw) {
    let since = std::time::Instant::now();
    while tally.attempts() < attempts * PATIENCE || since.elapsed() < LONG_ENOUGH {
        if tally.attempts() >= attempts && (one_sided || tally.is_decided()) {
            break;
        }
        let saw = attempt();
        tally.add(saw);
    }
}

/// A call, the page that it points into, and the byte that flips in it.
pub struct Call {
    pub flip: Flip,
    pub image: Box<dyn Fn(usize) -> Vec<u8>>,
    pub attempt: Box<dyn FnMut(*mut u8) -> Saw>,
}

const HOW: usize = 2048;
const SECOND: usize = 2560;
const MESSAGE: usize = 3072;
const VECTOR: usize = 3584;

impl Call {
    fn on_path(name: &str, root: &str, attempt: impl FnMut(*const c_char) -> Saw + 'static) -> Self {
        let path = format!("{root}/h/{name}").into_bytes();
        let flip = Flip { offset: root.len() + 1, values: *b"hs" };
        let mut attempt = attempt;
        Self {
            flip,
            image: Box::new(move |_| [&path[..], b"\0"].concat()),
            attempt: Box::new(move |base| attempt(base.cast())),
        }
    }

    pub fn new(call: &str, root: &str, port: Option<u16>) -> Self {
        let at = |name: &str| c(&format!("{root}/{name}"));
        match call {
            "openat" => Self::on_path("file", root, |path| {
                opened(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY, 0) })
            }),
            #[cfg(target_arch = "x86_64")]
            "open" => Self::on_path("file", root, |path| {
                opened(unsafe { libc::syscall(libc::SYS_open, path, libc::O_RDONLY, 0) })
            }),
            #[cfg(target_arch = "x86_64")]
            "int80-open" => Self::on_path("file", root, |path| opened(crate::abi::int80(5, [path as u64, 0, 0, 0, 0]))),
            "openat2" => Self::on_path("file", root, |path| {
                let how = [0u64; 3];
                opened(unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path, how.as_ptr(), 24) })
            }),
            "openat2-flags" => {
                open_how(format!("{root}/s/file"), libc::AT_FDCWD, Flip { offset: HOW + 2, values: [0, 0x20] })
            }
            "openat2-resolve" => {
                // `/s/file` leads to the secret from the real root only if
                // the name is absolute; within `h` there is another.
                let inside = open(&format!("{root}/h"), libc::O_PATH).unwrap();
                let flip = Flip { offset: HOW + 16, values: [0, libc::RESOLVE_IN_ROOT as u8] };
                let call = open_how(format!("{root}/s/file"), inside.as_raw_fd(), flip);
                std::mem::forget(inside);
                call
            }
            "creat" => {
                let secret = identity(&format!("{root}/s/file")).unwrap();
                Self::on_path("file", root, move |path| {
                    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
                    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, 0o600) };
                    if fd < 0 {
                        return refused();
                    }
                    let same = identity_of(fd as c_int) == (secret.0, secret.1);
                    unsafe { libc::close(fd as c_int) };
                    if same { Saw::Leaked } else { Saw::Harmless }
                })
            }
            "truncate" => {
                let name = format!("{root}/s/file");
                let secret = identity(&name).unwrap();
                Self::on_path("file", root, move |path| {
                    if unsafe { libc::syscall(libc::SYS_truncate, path, 3) } != 0 {
                        return refused();
                    }
                    if identity(&name) == Some(secret) { Saw::Harmless } else { Saw::Leaked }
                })
            }
            "chmod" => {
                let name = format!("{root}/s/file");
                let secret = identity(&name).unwrap();
                Self::on_path("file", root, move |path| {
                    if unsafe { libc::syscall(libc::SYS_fchmodat, libc::AT_FDCWD, path, 0o777) } != 0 {
                        return refused();
                    }
                    if identity(&name) == Some(secret) { Saw::Harmless } else { Saw::Leaked }
                })
            }
            "unlink" => {
                let (name, harmless) = (format!("{root}/s/victim"), at("h/victim"));
                Self::on_path("victim", root, move |path| {
                    unsafe { libc::mknod(harmless.as_ptr(), libc::S_IFREG | 0o600, 0) };
                    if unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) } != 0 {
                        return refused();
                    }
                    if identity(&name).is_some() { Saw::Harmless } else { Saw::Leaked }
                })
            }
            "rename-from" => {
                let (name, moved, back) = (format!("{root}/s/victim"), at("moved"), at("h/victim"));
                unsafe { libc::mknod(back.as_ptr(), libc::S_IFREG | 0o600, 0) };
                Self::on_path("victim", root, move |path| {
                    if unsafe {
                        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, path, libc::AT_FDCWD, moved.as_ptr(), 0)
                    } != 0
                    {
                        return refused();
                    }
                    unsafe { libc::rename(moved.as_ptr(), back.as_ptr()) };
                    if identity(&name).is_some() { Saw::Harmless } else { Saw::Leaked }
                })
            }
            "rename-to" => {
                let (name, from) = (format!("{root}/s/victim"), at("from"));
                let victim = identity(&name);
                Self::on_path("victim", root, move |path| {
                    unsafe { libc::mknod(from.as_ptr(), libc::S_IFREG | 0o600, 0) };
                    if unsafe {
                        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, path, 0)
                    } != 0
                    {
                        return refused();
                    }
                    if identity(&name) == victim { Saw::Harmless } else { Saw::Leaked }
                })
            }
            "link" => {
                let (name, new) = (format!("{root}/linked"), at("linked"));
                Self::on_path("file", root, move |path| {
                    if unsafe { libc::syscall(libc::SYS_linkat, libc::AT_FDCWD, path, libc::AT_FDCWD, new.as_ptr(), 0) }
                        != 0
                    {
                        return refused();
                    }
                    let saw = opened(unsafe { libc::openat(libc::AT_FDCWD, c(&name).as_ptr(), libc::O_RDONLY) }.into());
                    unsafe { libc::unlink(new.as_ptr()) };
                    saw
                })
            }
            "execve" => Self::on_path("program", root, |path| executed(path, false)),
            "execveat" => Self::on_path("program", root, |path| executed(path, true)),
            "connect" => connect(port.unwrap()),
            "sendto" => send(port.unwrap(), Sending::To),
            "sendmsg" => send(port.unwrap(), Sending::Message),
            "sendmsg-name" => send(port.unwrap(), Sending::MessageName),
            "sendmmsg" => send(port.unwrap(), Sending::Messages),
            "connect-unix" => connect_unix(root),
            _ => panic!("no such call: {call}"),
        }
    }
}

/// `openat2` of a fixed name, whose `struct open_how` flips.
fn open_how(path: String, directory: c_int, flip: Flip) -> Call {
    let image = move |_| {
        let mut image = [path.as_bytes(), b"\0"].concat();
        image.resize(HOW + 24, 0);
        image[flip.offset] = flip.values[1];
        image
    };
    let attempt = move |base: *mut u8| {
        let how = base as usize + HOW;
        opened(unsafe { libc::syscall(libc::SYS_openat2, directory, base, how, 24) })
    };
    Call { flip, image: Box::new(image), attempt: Box::new(attempt) }
}

/// Exit statuses of the two programs; see `tests/attacks/place.rs`.
pub const HARMLESS: c_int = 10;
pub const FORBIDDEN: c_int = 20;

/// Executes a program in a child that shares our memory.
pub fn executed(path: *const c_char, at: bool) -> Saw {
    struct Work {
        path: *const c_char,
        at: bool,
    }
    extern "C" fn run(work: *mut c_void) -> c_int {
        let work = unsafe { &*work.cast::<Work>() };
        let argv = [c"program".as_ptr(), std::ptr::null()];
        let none = [std::ptr::null::<c_char>()];
        unsafe {
            if work.at {
                libc::syscall(libc::SYS_execveat, libc::AT_FDCWD, work.path, argv.as_ptr(), none.as_ptr(), 0);
            } else {
                libc::syscall(libc::SYS_execve, work.path, argv.as_ptr(), none.as_ptr());
            }
        }
        crate::sys::errno()
    }
    let stack = unsafe { pages(16).add(16 * 4096) };
    let mut work = Work { path, at };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let child = unsafe { libc::clone(run, stack.cast(), flags, (&raw mut work).cast()) };
    let status = wait(check(child).unwrap() as i32);
    unsafe { libc::munmap(stack.sub(16 * 4096).cast(), 16 * 4096) };
    ran(status)
}

/// What the exit status of a program's process says.
pub fn ran(status: c_int) -> Saw {
    match status {
        HARMLESS => Saw::Harmless,
        FORBIDDEN => Saw::Leaked,
        // Killed before its first instruction.
        137 | libc::EACCES | libc::EPERM => Saw::Denied,
        other => Saw::Other(other),
    }
}

fn ipv4(last: u8, port: u16) -> libc::sockaddr_in {
    let mut address = unsafe { std::mem::zeroed::<libc::sockaddr_in>() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, last]);
    address
}

fn bytes<T>(value: &T) -> &[u8] {
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

fn datagram(domain: c_int) -> OwnedFd {
    owned(unsafe { libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0) }).unwrap()
}

/// A datagram socket can be connected again and again.
fn connect(port: u16) -> Call {
    let socket = datagram(libc::AF_INET);
    let attempt = move |base: *mut u8| {
        if unsafe { libc::syscall(libc::SYS_connect, socket.as_raw_fd(), base, 16) } != 0 {
            return refused();
        }
        let mut peer = ipv4(0, 0);
        let mut length = 16;
        check(unsafe { libc::getpeername(socket.as_raw_fd(), (&raw mut peer).cast(), &raw mut length) }).unwrap();
        if peer.sin_addr.s_addr.to_ne_bytes()[3] == 1 { Saw::Leaked } else { Saw::Harmless }
    };
    let image = move |_| bytes(&ipv4(2, port)).to_vec();
    // 127.0.0.1 is forbidden at this port, 127.0.0.2 is not.
    Call { flip: Flip { offset: 7, values: [2, 1] }, image: Box::new(image), attempt: Box::new(attempt) }
}

#[derive(Clone, Copy, PartialEq)]
enum Sending {
    To,
    Message,
    /// The pointer to the address flips, not the address.
    MessageName,
    Messages,
}

/// Sends to a socket of our own at the forbidden address: what arrives there leaked.
fn send(port: u16, how: Sending) -> Call {
    let forbidden = datagram(libc::AF_INET);
    let address = ipv4(1, port);
    check(unsafe { libc::bind(forbidden.as_raw_fd(), (&raw const address).cast(), 16) }).unwrap();
    let sender = datagram(libc::AF_INET);
    let image = move |base: usize| {
        let mut image = bytes(&ipv4(2, port)).to_vec();
        image.extend(bytes(&ipv4(1, port)));
        image.resize(4096, 0);
        let vector = libc::iovec { iov_base: (base + SECOND) as *mut c_void, iov_len: 1 };
        image[VECTOR..VECTOR + 16].copy_from_slice(bytes(&vector));
        let mut message = unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        message.msg_hdr.msg_name = base as *mut c_void;
        message.msg_hdr.msg_namelen = 16;
        message.msg_hdr.msg_iov = (base + VECTOR) as *mut libc::iovec;
        message.msg_hdr.msg_iovlen = 1;
        image[MESSAGE..MESSAGE + size_of_val(&message)].copy_from_slice(bytes(&message));
        image
    };
    let attempt = move |base: *mut u8| {
        let (fd, message) = (sender.as_raw_fd(), base as usize + MESSAGE);
        let sent = unsafe {
            match how {
                Sending::To => libc::syscall(libc::SYS_sendto, fd, base as usize + SECOND, 1, 0, base, 16),
                Sending::Message | Sending::MessageName => libc::syscall(libc::SYS_sendmsg, fd, message, 0),
                Sending::Messages => libc::syscall(libc::SYS_sendmmsg, fd, message, 1, 0),
            }
        };
        if sent < 0 {
            return refused();
        }
        let mut byte = 0u8;
        let got = unsafe { libc::recv(forbidden.as_raw_fd(), (&raw mut byte).cast(), 1, 0) };
        if got >= 0 { Saw::Leaked } else { Saw::Harmless }
    };
    let flip = if how == Sending::MessageName {
        Flip { offset: MESSAGE, values: [0, 16] }
    } else {
        Flip { offset: 7, values: [2, 1] }
    };
    Call { flip, image: Box::new(image), attempt: Box::new(attempt) }
}

fn unix(path: &str) -> libc::sockaddr_un {
    let mut address = unsafe { std::mem::zeroed::<libc::sockaddr_un>() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from as c_char;
    }
    address
}

fn connect_unix(root: &str) -> Call {
    let length = size_of::<libc::sockaddr_un>() as u32;
    let places = ["h", "s"].map(|side| {
        let socket = datagram(libc::AF_UNIX);
        let address = unix(&format!("{root}/{side}/socket"));
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }).unwrap();
        socket
    });
    let socket = datagram(libc::AF_UNIX);
    let at = root.len() + 1;
    let attempt = move |base: *mut u8| {
        let _keep = &places;
        if unsafe { libc::syscall(libc::SYS_connect, socket.as_raw_fd(), base, length) } != 0 {
            return refused();
        }
        let mut peer = unix("");
        let mut length = length;
        check(unsafe { libc::getpeername(socket.as_raw_fd(), (&raw mut peer).cast(), &raw mut length) }).unwrap();
        if peer.sun_path[at] as u8 == b's' { Saw::Leaked } else { Saw::Harmless }
    };
    let harmless = unix(&format!("{root}/h/socket"));
    let image = move |_| bytes(&harmless).to_vec();
    Call { flip: Flip { offset: 2 + at, values: *b"hs" }, image: Box::new(image), attempt: Box::new(attempt) }
}

/// What a descriptor, a working directory or a root stands for changes, not
/// the name: `race-place WHAT ROOT ATTEMPTS`.
pub fn place(what: &str, root: &str, attempts: u64) {
    const FD: c_int = 100;
    if what == "mount-from" {
        // What is mounted from elsewhere has to be in the same namespace.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).unwrap();
        let (private, none) = (libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
        check(unsafe { libc::mount(none, c"/".as_ptr(), none, private, none.cast()) }).unwrap();
    }
    let sides = ["h", "s"].map(|side| open(&format!("{root}/{side}"), libc::O_PATH | libc::O_DIRECTORY).unwrap());
    let [h, s] = [sides[0].as_raw_fd(), sides[1].as_raw_fd()];
    let turn = move |step: fn(c_int)| {
        step(h);
        step(s);
    };
    let dup = |fd| {
        unsafe { libc::dup2(fd, FD) };
    };
    let chdir = |fd| {
        unsafe { libc::fchdir(fd) };
    };
    let chroot = |fd| {
        unsafe { libc::fchdir(fd) };
        unsafe { libc::chroot(c".".as_ptr()) };
    };
    let by_thread = |step: fn(c_int)| {
        step(h);
        Mover::Thread(memory::Flipper::start(move |stop| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                turn(step);
            }
        }))
    };
    let by_process = |step: fn(c_int)| {
        crate::sys::Child::forever(move || {
            loop {
                turn(step);
            }
        })
    };
    let path_of = |name: &str| -> Box<dyn FnMut() -> Saw> {
        let name = c(name);
        Box::new(move || opened(unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), libc::O_RDONLY) }.into()))
    };
    let files = ["h", "s"].map(|side| open(&format!("{root}/{side}/file"), libc::O_PATH).unwrap());
    let (_mover, mut attempt): (Mover, Box<dyn FnMut() -> Saw>) = match what {
        "dirfd" => {
            (by_thread(dup), Box::new(|| opened(unsafe { libc::openat(FD, c"file".as_ptr(), libc::O_RDONLY) }.into())))
        }
        // Somebody with whom we share the table, and who is no thread.
        "dirfd-clone-files" => {
            extern "C" fn run(sides: *mut c_void) -> c_int {
                let [h, s] = unsafe { *sides.cast::<[c_int; 2]>() };
                loop {
                    unsafe { libc::dup2(h, FD) };
                    unsafe { libc::dup2(s, FD) };
                }
            }
            dup(h);
            let sides = Box::into_raw(Box::new([h, s]));
            let top = unsafe { pages(16).add(16 * 4096) };
            let pid = unsafe { libc::clone(run, top.cast(), libc::CLONE_FILES | libc::SIGCHLD, sides.cast()) };
            let mover = Mover::Process(crate::sys::Child(check(pid).unwrap() as i32));
            (mover, Box::new(|| opened(unsafe { libc::openat(FD, c"file".as_ptr(), libc::O_RDONLY) }.into())))
        }
        "own-fd" => (by_thread(dup), path_of(&format!("/proc/self/fd/{FD}/file"))),
        "cwd" => (by_thread(chdir), path_of("file")),
        "root" => (by_thread(chroot), path_of("/file")),
        // By a process with whom we share root and working directory alone.
        "cwd-clone-fs" => {
            extern "C" fn run(sides: *mut c_void) -> c_int {
                let [h, s] = unsafe { *sides.cast::<[c_int; 2]>() };
                loop {
                    unsafe { libc::fchdir(h) };
                    unsafe { libc::fchdir(s) };
                }
            }
            chdir(h);
            let sides = Box::into_raw(Box::new([h, s]));
            let top = unsafe { pages(16).add(16 * 4096) };
            let pid = unsafe { libc::clone(run, top.cast(), libc::CLONE_FS | libc::SIGCHLD, sides.cast()) };
            (Mover::Process(crate::sys::Child(check(pid).unwrap() as i32)), path_of("file"))
        }
        "other-cwd" => {
            let child = by_process(chdir);
            let path = format!("/proc/{}/cwd/file", child.0);
            (Mover::Process(child), path_of(&path))
        }
        "other-root" => {
            let child = by_process(chroot);
            let path = format!("/proc/{}/root/file", child.0);
            (Mover::Process(child), path_of(&path))
        }
        "other-fd-directory" => {
            dup(h);
            let child = by_process(dup);
            let path = format!("/proc/{}/fd/{FD}/file", child.0);
            (Mover::Process(child), path_of(&path))
        }
        "other-fd" => {
            let [h, s] = [files[0].as_raw_fd(), files[1].as_raw_fd()];
            dup(h);
            let child = crate::sys::Child::forever(move || {
                loop {
                    unsafe { libc::dup2(h, FD) };
                    unsafe { libc::dup2(s, FD) };
                }
            });
            let path = format!("/proc/{}/fd/{FD}", child.0);
            (Mover::Process(child), path_of(&path))
        }
        // What the descriptor stands for has no name by which it could be called instead.
        "nameless-pipe" | "nameless-memfd" | "nameless-deleted" => {
            let harmless = nameless(what, root);
            let secret = open(&format!("{root}/s/file"), libc::O_PATH).unwrap();
            let (fds, path) = ([harmless, secret], format!("/proc/self/fd/{FD}"));
            dup(fds[0].as_raw_fd());
            let numbers = [fds[0].as_raw_fd(), fds[1].as_raw_fd()];
            std::mem::forget(fds);
            let mover = Mover::Thread(memory::Flipper::start(move |stop| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for fd in numbers {
                        dup(fd);
                    }
                }
            }));
            let name = c(&path);
            let flags = libc::O_RDONLY | libc::O_NONBLOCK;
            (mover, Box::new(move || opened(unsafe { libc::openat(libc::AT_FDCWD, name.as_ptr(), flags) }.into())))
        }
        // The descriptor is there now and then; the directory stands for what is in it.
        "absent" | "absent-directory" | "absent-of-another" => {
            let secret =
                open(&format!("{root}/s{}", if what == "absent-directory" { "" } else { "/file" }), libc::O_PATH);
            let fd = std::os::fd::IntoRawFd::into_raw_fd(secret.unwrap());
            let come_and_go = move || {
                unsafe { libc::dup2(fd, FD) };
                unsafe { libc::close(FD) };
            };
            let (mover, pid) = if what == "absent-of-another" {
                let child = crate::sys::Child::forever(move || {
                    loop {
                        come_and_go();
                    }
                });
                let pid = child.0;
                (Mover::Process(child), pid)
            } else {
                let flip = move |stop: &std::sync::atomic::AtomicBool| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        come_and_go();
                    }
                };
                (Mover::Thread(memory::Flipper::start(flip)), std::process::id() as i32)
            };
            let file = if what == "absent-directory" { "/file" } else { "" };
            (mover, path_of(&format!("/proc/{pid}/fd/{FD}{file}")))
        }
        // Through what is no directory now and then, so that the name leads nowhere.
        "no-directory" | "no-directory-of-another" => {
            use std::os::fd::IntoRawFd;
            let fds = [nameless("nameless-pipe", root).into_raw_fd(), s];
            dup(fds[0]);
            let (mover, pid) = if what == "no-directory" {
                let flip = move |stop: &std::sync::atomic::AtomicBool| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        fds.into_iter().for_each(dup);
                    }
                };
                (Mover::Thread(memory::Flipper::start(flip)), std::process::id() as i32)
            } else {
                let child = crate::sys::Child::forever(move || {
                    loop {
                        fds.into_iter().for_each(dup);
                    }
                });
                let pid = child.0;
                (Mover::Process(child), pid)
            };
            (mover, path_of(&format!("/proc/{pid}/fd/{FD}/file")))
        }
        "other-cwd-elsewhere" => {
            let up = open(root, libc::O_PATH).unwrap();
            let child = crate::sys::Child::forever(move || {
                loop {
                    chdir(up.as_raw_fd());
                    chdir(h);
                }
            });
            let path = format!("/proc/{}/cwd/s/file", child.0);
            (Mover::Process(child), path_of(&path))
        }
        // Somebody with whom we share memory and descriptors, and who is no thread.
        "nameless-by-relative" => {
            extern "C" fn run(fds: *mut c_void) -> c_int {
                let [harmless, secret] = unsafe { *fds.cast::<[c_int; 2]>() };
                loop {
                    unsafe { libc::dup2(harmless, FD) };
                    unsafe { libc::dup2(secret, FD) };
                }
            }
            use std::os::fd::IntoRawFd;
            let harmless = nameless("nameless-memfd", root).into_raw_fd();
            dup(harmless);
            let secret = open(&format!("{root}/s/file"), libc::O_PATH).unwrap().into_raw_fd();
            let fds = Box::into_raw(Box::new([harmless, secret]));
            let top = unsafe { pages(16).add(16 * 4096) };
            let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::SIGCHLD;
            let pid = unsafe { libc::clone(run, top.cast(), flags, fds.cast()) };
            (Mover::Process(crate::sys::Child(check(pid).unwrap() as i32)), path_of(&format!("/proc/self/fd/{FD}")))
        }
        "beneath" | "no-xdev" | "in-root" | "no-symlinks" => {
            let resolve = match what {
                "beneath" => libc::RESOLVE_BENEATH,
                "no-xdev" => libc::RESOLVE_NO_XDEV,
                "in-root" => libc::RESOLVE_IN_ROOT,
                _ => libc::RESOLVE_NO_SYMLINKS,
            };
            let mut how = unsafe { std::mem::zeroed::<libc::open_how>() };
            how.resolve = resolve;
            let attempt = move || {
                let (name, size) = (c"file".as_ptr(), size_of_val(&how));
                opened(unsafe { libc::syscall(libc::SYS_openat2, FD, name, &raw const how, size) })
            };
            (by_thread(dup), Box::new(attempt))
        }
        // By calls that show the caller's own words elsewhere.
        "symlink-in" => {
            let link = c(&format!("/proc/self/fd/{FD}/new"));
            let (s, h) = (c(&format!("{root}/s/new")), c(&format!("{root}/h/new")));
            let attempt = move || {
                if unsafe { libc::symlink(c"nowhere".as_ptr(), link.as_ptr()) } != 0 {
                    return refused();
                }
                let leaked = unsafe { libc::unlink(s.as_ptr()) } == 0;
                unsafe { libc::unlink(h.as_ptr()) };
                if leaked { Saw::Leaked } else { Saw::Harmless }
            };
            (by_thread(dup), Box::new(attempt))
        }
        "mount-from" => {
            let (source, target) = (c(&format!("/proc/self/fd/{FD}")), c(&format!("{root}/m")));
            let file = c(&format!("{root}/m/file"));
            let attempt = move || {
                let none = std::ptr::null();
                if unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, libc::MS_BIND, none.cast()) } != 0 {
                    return refused();
                }
                let saw = opened(unsafe { libc::openat(libc::AT_FDCWD, file.as_ptr(), libc::O_RDONLY) }.into());
                check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).unwrap();
                saw
            };
            (by_thread(dup), Box::new(attempt))
        }
        // An empty name stands for the descriptor itself.
        "execveat-empty" => {
            let programs = ["h", "s"].map(|side| open(&format!("{root}/{side}/program"), libc::O_PATH).unwrap());
            let [h, s] = [programs[0].as_raw_fd(), programs[1].as_raw_fd()];
            std::mem::forget(programs);
            unsafe { libc::dup2(h, FD) };
            let mover = Mover::Thread(memory::Flipper::start(move |stop| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    unsafe { libc::dup2(h, FD) };
                    unsafe { libc::dup2(s, FD) };
                }
            }));
            (mover, Box::new(|| execveat_empty(FD)))
        }
        _ => panic!("no such place: {what}"),
    };
    let mut tally = Tally::default();
    if what.starts_with("no-directory") || what == "other-cwd-elsewhere" {
        // These have no harmless side.
        let since = std::time::Instant::now();
        while !tally.is_decided() && (tally.attempts() < attempts || since.elapsed() < LONG_ENOUGH) {
            tally.add(attempt());
        }
    } else {
        repeat(attempts, false, &mut tally, &mut attempt);
    }
    tally.print();
}

/// Something harmless that can be opened anew by its descriptor alone.
pub fn nameless(what: &str, root: &str) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    let fd = match what {
        "nameless-pipe" => {
            let mut pipe = [0; 2];
            check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
            pipe[0]
        }
        "nameless-memfd" => unsafe { libc::memfd_create(c"harmless".as_ptr(), 0) },
        _ => {
            let path = c(&format!("{root}/h/gone"));
            let fd = unsafe { libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600) };
            check(unsafe { libc::unlink(path.as_ptr()) }).unwrap();
            fd
        }
    };
    check(fd).unwrap();
    unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }
}

/// Executes what a descriptor stands for, in a child that shares the table.
fn execveat_empty(fd: c_int) -> Saw {
    extern "C" fn run(fd: *mut c_void) -> c_int {
        let argv = [c"program".as_ptr(), std::ptr::null()];
        let none = [std::ptr::null::<c_char>()];
        let empty = c"".as_ptr();
        unsafe {
            libc::syscall(libc::SYS_execveat, fd as c_int, empty, argv.as_ptr(), none.as_ptr(), libc::AT_EMPTY_PATH);
        }
        crate::sys::errno()
    }
    let stack = unsafe { pages(16).add(16 * 4096) };
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK | libc::SIGCHLD;
    let child = unsafe { libc::clone(run, stack.cast(), flags, fd as usize as *mut c_void) };
    let status = wait(check(child).unwrap() as i32);
    unsafe { libc::munmap(stack.sub(16 * 4096).cast(), 16 * 4096) };
    ran(status)
}

/// A program executed by another thread than the leader, of a process of its
/// own, while the leader flips its name: `race-exec-in-thread ROOT ATTEMPTS`.
pub fn exec_in_thread(root: &str, attempts: u64) {
    let Call { flip, image, .. } = Call::new("execve", root, None);
    let mut tally = Tally::default();
    repeat(attempts, false, &mut tally, &mut || {
        let status = crate::sys::Child::status_of(|| {
            let base = pages(1);
            let bytes = image(base as usize);
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), base, bytes.len()) };
            let address = base as usize;
            let executing = std::thread::spawn(move || {
                let argv = [c"program".as_ptr(), std::ptr::null()];
                unsafe { libc::execv(address as *const c_char, argv.as_ptr()) };
                unsafe { libc::_exit(crate::sys::errno()) }
            });
            loop {
                for value in flip.values {
                    unsafe { base.add(flip.offset).write_volatile(value) };
                }
                if executing.is_finished() {
                    return 1;
                }
            }
        });
        ran(status)
    });
    tally.print();
}
