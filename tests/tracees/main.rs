//! Programs for the end-to-end tests to trace, in one executable: the first
//! argument chooses. Each tries something and prints `ok` or the errno's
//! name, so that a test can tell what the kernel answered.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, reason = "raw system calls are the point")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_char, c_int, c_long};

mod facts;
mod flip;
mod mute;
mod trees;
mod written;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        // A script names itself in between.
        ["facts", script, "of-self"] if script.ends_with("/script") => facts::main(&["of-self", "by a script"]),
        ["facts", ..] => facts::main(&words[1..]),
        ["open", path] => say(open(libc::AT_FDCWD, path, libc::O_RDONLY)),
        ["open-write", path] => say(open(libc::AT_FDCWD, path, libc::O_WRONLY)),
        ["open-from", directory, name] => {
            std::env::set_current_dir(directory).unwrap();
            say(open(libc::AT_FDCWD, name, libc::O_RDONLY));
        }
        ["openat", directory, name] => {
            let directory = open(libc::AT_FDCWD, directory, libc::O_PATH).unwrap();
            say(open(directory.as_raw_fd(), name, libc::O_RDONLY));
        }
        ["openat2", directory, name] => {
            let directory = open(libc::AT_FDCWD, directory, libc::O_PATH).unwrap();
            say(openat2(directory.as_raw_fd(), name, 0));
        }
        ["openat2-in-root", directory, name] => {
            let directory = open(libc::AT_FDCWD, directory, libc::O_PATH).unwrap();
            say(openat2(directory.as_raw_fd(), name, libc::RESOLVE_IN_ROOT));
        }
        ["in-new-mount-namespace", directory, target] => in_new_mount_namespace(directory, target),
        ["flip-environment", times] => flip::main(times.parse().unwrap()),
        ["interpreter-of-an-ended-tree", directory, script] => trees::interpreter(directory, script),
        ["deleted-name", directory] => trees::deleted(directory),
        ["truncate-in-a-detached-tree", directory, name] => trees::detached(directory, name),
        ["written-clone3"] => written::main(),
        ["mute", directory] => mute::main(directory, false),
        ["mute", directory, "answers"] => mute::main(directory, true),
        ["starve-host", path] => {
            let few = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
            let host = unsafe { libc::getppid() };
            // Refused by a host that protects itself.
            unsafe { libc::prlimit(host, libc::RLIMIT_NOFILE, &raw const few, std::ptr::null_mut()) };
            say(open(libc::AT_FDCWD, path, libc::O_RDONLY));
        }
        ["creat", path] => say(file(unsafe { libc::creat(c(path).as_ptr(), 0o600) })),
        ["nofollow", path] => say(open(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_NOFOLLOW)),
        ["open-path-then-reopen", path] => {
            let handle = open(libc::AT_FDCWD, path, libc::O_PATH);
            match handle {
                Ok(fd) => say(open(libc::AT_FDCWD, &format!("/proc/self/fd/{}", fd.as_raw_fd()), libc::O_RDONLY)),
                Err(error) => say(Err(error)),
            }
        }
        ["chroot-open", root, path] => {
            check(unsafe { libc::chroot(c(root).as_ptr()) }.into()).unwrap();
            std::env::set_current_dir("/").unwrap();
            say(open(libc::AT_FDCWD, path, libc::O_RDONLY));
        }
        ["rename", from, to] => say_number(check(unsafe { libc::rename(c(from).as_ptr(), c(to).as_ptr()) }.into())),
        ["link", from, to] => say_number(check(unsafe { libc::link(c(from).as_ptr(), c(to).as_ptr()) }.into())),
        ["unlink", path] => say_number(check(unsafe { libc::unlink(c(path).as_ptr()) }.into())),
        ["truncate", path] => say_number(check(unsafe { libc::truncate(c(path).as_ptr(), 0) }.into())),
        ["open-loop", path, times] => {
            let mut failed = 0;
            for _ in 0..times.parse::<u32>().unwrap() {
                failed += u32::from(open(libc::AT_FDCWD, path, libc::O_RDONLY).is_err());
            }
            println!("{failed} failed");
        }
        ["bad-pointer"] => say_number(openat_raw(libc::AT_FDCWD, 8 as *const c_char)),
        ["unterminated"] => {
            let name = vec![b'a'; 8192];
            say_number(openat_raw(libc::AT_FDCWD, name.as_ptr().cast()));
        }
        ["page-end", path] => page_end(path),
        ["not-utf8", directory] => {
            let name = [directory.as_bytes(), b"/\xff\xfe\0"].concat();
            say_number(openat_raw(libc::AT_FDCWD, name.as_ptr().cast()));
        }
        ["upper-half", path] => {
            // The kernel takes dirfd and flags as 32 bits.
            let name = c(path);
            let rubbish = 0xdead_beef_0000_0000u64 as c_long;
            let dirfd = rubbish | c_long::from(libc::AT_FDCWD as u32);
            say_number(check(unsafe { libc::syscall(libc::SYS_openat, dirfd, name.as_ptr(), rubbish, 0) }));
        }
        ["huge-argv"] => {
            let argument = c(&"x".repeat(100_000));
            let mut argv = vec![argument.as_ptr(); 15];
            argv.push(std::ptr::null());
            say_number(check(
                unsafe { libc::execve(c("/nonexistent").as_ptr(), argv.as_ptr(), std::ptr::null()) }.into(),
            ));
        }
        ["wild-argv"] => {
            say_number(check(unsafe { libc::execve(c("/bin/sh").as_ptr(), 16 as *const _, 24 as *const _) }.into()));
        }
        ["in-thread", path] => {
            let path = path.to_owned();
            std::thread::spawn(move || say(open(libc::AT_FDCWD, &path, libc::O_RDONLY))).join().unwrap();
        }
        ["in-fork", path] => in_child(unsafe { libc::fork() }, path),
        ["in-clone", flags, path] => {
            let flags: c_long = flags.parse().unwrap();
            let none = std::ptr::null::<u8>();
            let child =
                unsafe { libc::syscall(libc::SYS_clone, flags | c_long::from(libc::SIGCHLD), none, none, none, none) };
            in_child(child as c_int, path);
        }
        ["in-clone3", flags, path] => in_child(clone3(flags.parse().unwrap()), path),
        ["vfork-exec", program, ..] => vfork_exec(program, &words[1..]),
        ["exec-in-thread", program, ..] => {
            let argv: Vec<CString> = words[1..].iter().map(|word| c(word)).collect();
            let program = c(program);
            std::thread::spawn(move || exec(&program, &argv)).join().unwrap();
        }
        ["threads", count] => {
            for _ in 0..count.parse::<u32>().unwrap() {
                std::thread::spawn(|| drop(std::fs::read("/proc/self/comm"))).join().unwrap();
            }
            println!("ok");
        }
        ["processes-with-threads", count, path] => processes_with_threads(count.parse().unwrap(), path),
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["kill-self", signal] => {
            unsafe { libc::raise(signal.parse().unwrap()) };
            println!("survived");
        }
        ["exit-loop", times] => {
            for _ in 0..times.parse::<u32>().unwrap() {
                let child = unsafe { libc::fork() };
                if child == 0 {
                    unsafe { libc::_exit(3) };
                }
                let mut status = 0;
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(libc::WEXITSTATUS(status), 3);
            }
            println!("ok");
        }
        ["interrupted-sleep"] => interrupted_sleep(),
        #[cfg(target_arch = "x86_64")]
        ["int80-open", path] => say_number(int80_open(path)),
        #[cfg(target_arch = "x86_64")]
        ["x32-open", path] => {
            let (name, none) = (c(path), c_long::from(libc::O_RDONLY));
            let number = libc::SYS_openat | 0x4000_0000;
            say_number(check(unsafe { libc::syscall(number, libc::AT_FDCWD, name.as_ptr(), none, 0) }));
        }
        ["flood", path, pid_file] => {
            std::fs::write(pid_file, std::process::id().to_string()).unwrap();
            loop {
                let _ = open(libc::AT_FDCWD, path, libc::O_RDONLY);
            }
        }
        _ => panic!("no such tracee: {words:?}"),
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn file(fd: c_int) -> io::Result<OwnedFd> {
    check(fd.into())?;
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn say(result: io::Result<OwnedFd>) {
    say_number(result.map(|_| 0));
}

fn say_number(result: io::Result<c_long>) {
    match result {
        Ok(_) => println!("ok"),
        Err(error) => println!("{:?}", nix::errno::Errno::from_raw(error.raw_os_error().unwrap())),
    }
}

fn openat_raw(directory: c_int, name: *const c_char) -> io::Result<c_long> {
    check(unsafe { libc::syscall(libc::SYS_openat, directory, name, libc::O_RDONLY, 0) })
}

fn open(directory: c_int, name: &str, flags: c_int) -> io::Result<OwnedFd> {
    file(unsafe { libc::openat(directory, c(name).as_ptr(), flags) })
}

fn openat2(directory: c_int, name: &str, resolve: u64) -> io::Result<OwnedFd> {
    let how = [0, 0, resolve];
    let name = c(name);
    let fd = unsafe { libc::syscall(libc::SYS_openat2, directory, name.as_ptr(), how.as_ptr(), size_of_val(&how)) };
    file(fd as c_int)
}

/// Opens a name whose NUL is the last byte of a mapping.
fn page_end(path: &str) {
    let page = 4096;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let base = unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, protection, flags, -1, 0) };
    unsafe { libc::munmap(base.byte_add(page), page) };
    let bytes = c(path).into_bytes_with_nul();
    let start = unsafe { base.cast::<u8>().add(page - bytes.len()) };
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
    say_number(openat_raw(libc::AT_FDCWD, start.cast()));
}

fn in_child(child: c_int, path: &str) {
    match child {
        -1 => say_number(Err(io::Error::last_os_error())),
        0 => {
            say(open(libc::AT_FDCWD, path, libc::O_RDONLY));
            std::process::exit(0);
        }
        child => {
            let mut status = 0;
            unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) };
        }
    }
}

/// In a child made in a mount namespace of its own, opens a link that only
/// that namespace has.
fn in_new_mount_namespace(directory: &str, target: &str) {
    let none = std::ptr::null::<u8>();
    // So that the host has looked at our root before.
    drop(open(libc::AT_FDCWD, "/etc/passwd", libc::O_RDONLY));
    let flags = c_long::from(libc::CLONE_NEWNS | libc::SIGCHLD);
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    if child == 0 {
        let (place, tmpfs) = (c(directory), c"tmpfs");
        unsafe {
            libc::mount(c"".as_ptr(), c"/".as_ptr(), c"".as_ptr(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
            check(libc::mount(tmpfs.as_ptr(), place.as_ptr(), tmpfs.as_ptr(), 0, std::ptr::null()).into()).unwrap();
        }
        std::os::unix::fs::symlink(target, format!("{directory}/link")).unwrap();
    }
    in_child(child as c_int, &format!("{directory}/link"));
}

fn clone3(flags: u64) -> c_int {
    let mut arguments = [0u64; 8];
    (arguments[0], arguments[4]) = (flags, libc::SIGCHLD as u64);
    unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) as c_int }
}

fn exec(program: &CString, argv: &[CString]) {
    let pointers: Vec<*const c_char> = argv.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
    say_number(Err(io::Error::last_os_error()));
}

fn vfork_exec(program: &str, argv: &[&str]) {
    let argv: Vec<CString> = argv.iter().map(|word| c(word)).collect();
    let pointers: Vec<*const c_char> = argv.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    let program = c(program);
    // posix_spawn is clone(CLONE_VM|CLONE_VFORK) in glibc.
    let mut child = 0;
    let environment = [std::ptr::null_mut()];
    let failed = unsafe {
        libc::posix_spawn(
            &raw mut child,
            program.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            pointers.as_ptr().cast(),
            environment.as_ptr(),
        )
    };
    if failed != 0 {
        return say_number(Err(io::Error::from_raw_os_error(failed)));
    }
    let mut status = 0;
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    println!("child {}", libc::WEXITSTATUS(status));
}

/// Sleeps through a signal with a handler that asks for a restart.
fn interrupted_sleep() {
    extern "C" fn nothing(_: c_int) {}
    unsafe {
        libc::signal(libc::SIGALRM, nothing as *const () as libc::sighandler_t);
        libc::alarm(1);
    }
    let since = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    println!("{}", if since.elapsed().as_millis() >= 1500 { "ok" } else { "short" });
}

/// open(2) by the 32-bit gate. The name must lie below 4 GiB.
/// As many processes at once, each with another thread, and each opens `path`.
fn processes_with_threads(count: u32, path: &str) {
    let (mut all_there, mut opened) = ([0; 2], [0; 2]);
    for pipe in [&mut all_there, &mut opened] {
        check(unsafe { libc::pipe(pipe.as_mut_ptr()) }.into()).unwrap();
    }
    let children: Vec<c_int> = (0..count)
        .map(|_| {
            let child = unsafe { libc::fork() };
            if child == 0 {
                std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_mins(1)));
                let failed = open(libc::AT_FDCWD, path, libc::O_RDONLY).is_err();
                unsafe {
                    libc::close(all_there[1]);
                    libc::write(opened[1], c"x".as_ptr().cast(), 1);
                    libc::read(all_there[0], (&raw mut all_there).cast(), 1);
                    libc::_exit(failed.into());
                }
            }
            child
        })
        .collect();
    // They are all there before any goes on.
    let mut byte = 0u8;
    for _ in &children {
        unsafe { libc::read(opened[0], (&raw mut byte).cast(), 1) };
    }
    unsafe { libc::close(all_there[1]) };
    let failed = children.iter().filter(|child| {
        let mut status = 0;
        unsafe { libc::waitpid(**child, &raw mut status, 0) };
        status != 0
    });
    println!("{} failed", failed.count());
}

/// open(2) by the 32-bit gate. The name must lie below 4 GiB.
#[cfg(target_arch = "x86_64")]
fn int80_open(path: &str) -> io::Result<c_long> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let low = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    let bytes = c(path).into_bytes_with_nul();
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), low.cast(), bytes.len()) };
    let mut result: i64 = 5;
    unsafe {
        std::arch::asm!(
            "push rbx", "mov rbx, {name}", "int 0x80", "pop rbx",
            name = in(reg) low, inout("rax") result, in("rcx") 0, in("rdx") 0,
        );
    }
    let result = result as i32;
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result.into()) }
}
