//! What must work as it does alone, while denials are in force:
//! `normal WHAT ROOT` says `ok`, or what was different.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use libc::{c_int, c_void};

use crate::memory::Flipper;
use crate::sys::{PAGE, c, check, name, open, pages, say_opened};

pub fn main(what: &str, root: &str) {
    match what {
        "registers" => registers(root),
        "blocked-open" => blocked_open(root),
        "restarted-open" => restarted_open(root, libc::SA_RESTART),
        "interrupted-open" => restarted_open(root, 0),
        "own-page" => own_page(root),
        "messages" => messages(),
        "read-only-arguments" => {
            // A name in memory that nobody can write, shared or not.
            let idle = idle();
            let page = pages(1);
            let path = c(&format!("{root}/h/file"));
            unsafe { std::ptr::copy_nonoverlapping(path.as_ptr().cast(), page, path.as_bytes_with_nul().len()) };
            check(unsafe { libc::mprotect(page.cast(), PAGE, libc::PROT_READ) }).unwrap();
            let fd = unsafe { libc::open(page.cast(), libc::O_RDONLY) };
            println!("{}", if fd >= 0 { "ok".to_owned() } else { name(crate::sys::errno()) });
            drop(idle);
        }
        "longest-name" => {
            let _idle = idle();
            let room = 4095 - root.len() - "/h/file".len();
            let file = open(&format!("{root}/{}h/file", "/".repeat(room)), libc::O_RDONLY);
            println!("{}", if file.is_ok() { "ok" } else { "not opened" });
        }
        "no-address-space" => {
            let _idle = idle();
            let none = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
            check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const none) }).unwrap();
            let file = open(&format!("{root}/h/file"), libc::O_RDONLY);
            println!("{}", file.map_or_else(|_| name(crate::sys::errno()), |_| "ok".to_owned()));
        }
        #[cfg(target_arch = "x86_64")]
        "dispatched-calls" => dispatched_calls(root),
        "signals-by-descriptor" => signals_by_descriptor(),
        "nameless-opens" => nameless_opens(root),
        "owners" => owners(),
        "bounded-look-ups" => bounded_look_ups(root),
        "failing-look-ups" => failing_look_ups(root),
        "unprivileged-look-ups" => unprivileged_look_ups(root),
        _ => panic!("no such program: {what}"),
    }
}

/// A thread that does nothing: with it there is somebody who could.
fn idle() -> Flipper {
    Flipper::start(|stop| {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Whom a descriptor stands for gets the signal, though another thread could
/// change it.
fn signals_by_descriptor() {
    let _idle = idle();
    let call = |number: libc::c_long, a: [usize; 4]| {
        check(unsafe { libc::syscall(number, a[0], a[1], a[2], a[3]) })
            .map_err(|error| name(error.raw_os_error().unwrap()))
    };
    let child = crate::sys::Child::forever(|| {
        unsafe { libc::pause() };
    });
    let fd = call(libc::SYS_pidfd_open, [child.0 as usize, 0, 0, 0]).unwrap() as usize;
    let send =
        |fd: usize, signal: c_int, info: usize| call(libc::SYS_pidfd_send_signal, [fd, signal as usize, info, 0]);
    let mut info = [0u32; 32];
    // SI_QUEUE
    (info[0], info[2]) = (libc::SIGTERM as u32, -1i32 as u32);
    let found = [
        send(fd, 0, 0),
        send(fd, 99, 0),
        send(77, 0, 0),
        send(1, 0, 0),
        send(fd, libc::SIGTERM, info.as_ptr() as usize),
    ];
    let status = crate::sys::wait(child.0);
    std::mem::forget(child);
    let text = format!("{found:?} {status} {:?}", send(fd, 0, 0));
    let expected = "[Ok(0), Err(\"EINVAL\"), Err(\"EBADF\"), Err(\"EBADF\"), Ok(0)] 143 Err(\"ESRCH\")";
    println!("{}", if text == expected { "ok" } else { &text });
}

/// What has no name is opened by its descriptor, while other threads run, sleep
/// and wait, and do not notice.
fn nameless_opens(root: &str) {
    let mut idle_pipe = [0; 2];
    check(unsafe { libc::pipe(idle_pipe.as_mut_ptr()) }).unwrap();
    let epoll = check(unsafe { libc::epoll_create1(0) }).unwrap() as c_int;
    let done: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let (sleeping, busy) = (idle(), std::thread::spawn(|| while !done.load(Ordering::Relaxed) {}));
    let reading = std::thread::spawn(move || {
        let mut byte = 0u8;
        check(unsafe { libc::read(idle_pipe[0], (&raw mut byte).cast(), 1) } as libc::c_long)
            .map_err(|error| error.to_string())
    });
    let polling = std::thread::spawn(move || {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        check(unsafe { libc::epoll_wait(epoll, &raw mut event, 1, 3000) }).map_err(|error| error.to_string())
    });
    let moving = std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            let fd = unsafe { libc::dup(epoll) };
            unsafe { libc::close(fd) };
        }
    });
    let starting = std::thread::spawn(|| {
        for _ in 0..10 {
            assert!(std::process::Command::new("true").status().unwrap().success());
        }
    });
    let mut pipe = [0; 2];
    check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
    let memfd = unsafe { libc::memfd_create(c"memory".as_ptr(), 0) };
    let gone = c(&format!("{root}/h/gone"));
    let deleted = unsafe { libc::open(gone.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600) };
    check(unsafe { libc::unlink(gone.as_ptr()) }).unwrap();
    for round in 0..100 {
        for (fd, flags) in
            [(pipe[0], libc::O_RDONLY), (pipe[1], libc::O_WRONLY), (memfd, libc::O_RDWR), (deleted, libc::O_RDWR)]
        {
            if let Err(error) = open(&format!("/dev/fd/{fd}"), flags) {
                println!("round {round}, {fd}: {error}");
                unsafe { libc::_exit(0) };
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    unsafe { libc::write(idle_pipe[1], c"x".as_ptr().cast(), 1) };
    let told = format!("{:?} {:?}", reading.join().unwrap(), polling.join().unwrap());
    busy.join().unwrap();
    moving.join().unwrap();
    starting.join().unwrap();
    drop(sleeping);
    println!("{}", if told == "Ok(1) Ok(0)" { "ok" } else { &told });
}

/// A descriptor's owner is whom one says, with threads too.
fn owners() {
    let _idle = idle();
    let mut pair = [0; 2];
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) }).unwrap();
    let own = std::process::id() as c_int;
    let mut told = Vec::new();
    // F_SETOWN_EX with F_OWNER_PID, F_OWNER_TID; F_GETOWN_EX
    for kind in [1, 0] {
        let mut owner = [kind, own];
        let set = unsafe { libc::fcntl(pair[0], 15, owner.as_ptr()) };
        unsafe { libc::fcntl(pair[0], 16, owner.as_mut_ptr()) };
        told.push((set, owner == [kind, own]));
    }
    // FIOSETOWN
    let set = unsafe { libc::ioctl(pair[0], 0x8901, &raw const own) };
    told.push((set, unsafe { libc::fcntl(pair[0], libc::F_GETOWN) } == own));
    let bad = unsafe { libc::fcntl(pair[0], 15, 16) };
    told.push((bad, crate::sys::errno() == libc::EFAULT));
    let expected = [(0, true), (0, true), (0, true), (-1, true)];
    println!("{}", if told == expected { "ok".to_owned() } else { format!("{told:?}") });
}

/// What openat2 puts bounds to comes to what the kernel says.
fn bounded_look_ups(root: &str) {
    let _idle = idle();
    let at = |name: &str| format!("{root}/{name}");
    std::os::unix::fs::symlink("file", at("h/link")).unwrap();
    std::os::unix::fs::symlink("/h/file", at("h/absolute")).unwrap();
    let directory = open(&at("h"), libc::O_PATH).unwrap();
    let mut told = Vec::new();
    for (path, resolve) in [
        ("file", libc::RESOLVE_BENEATH),
        ("link", libc::RESOLVE_BENEATH),
        ("../h/file", libc::RESOLVE_BENEATH),
        ("/h/file", libc::RESOLVE_BENEATH),
        ("none/file", libc::RESOLVE_BENEATH),
        ("none", libc::RESOLVE_BENEATH),
        ("link", libc::RESOLVE_NO_SYMLINKS),
        ("file", libc::RESOLVE_NO_SYMLINKS),
        ("/proc/self/exe", libc::RESOLVE_NO_MAGICLINKS),
        ("/proc/self/fdinfo/0", libc::RESOLVE_NO_MAGICLINKS),
        ("/proc/self/fd/0", libc::RESOLVE_NO_MAGICLINKS),
        ("/proc/self/fd/99", libc::RESOLVE_NO_MAGICLINKS),
        ("/file", libc::RESOLVE_IN_ROOT),
        ("../../file", libc::RESOLVE_IN_ROOT),
        ("absolute", libc::RESOLVE_IN_ROOT),
        ("/proc/self/exe", libc::RESOLVE_NO_XDEV),
        ("file", libc::RESOLVE_NO_XDEV),
    ] {
        let mut how = unsafe { std::mem::zeroed::<libc::open_how>() };
        how.resolve = resolve;
        let (path_c, size) = (c(path), size_of_val(&how));
        let fd =
            unsafe { libc::syscall(libc::SYS_openat2, directory.as_raw_fd(), path_c.as_ptr(), &raw const how, size) };
        told.push(if fd < 0 { name(crate::sys::errno()) } else { "opened".to_owned() });
    }
    println!("{}", told.join(" "));
}

/// What fails beside a thread fails as it does alone, and changes nothing.
fn failing_look_ups(root: &str) {
    let _idle = idle();
    std::env::set_current_dir(format!("{root}/h")).unwrap();
    std::os::unix::fs::symlink("file/", "to-file").unwrap();
    std::os::unix::fs::symlink("none/", "to-none").unwrap();
    let mut told = Vec::new();
    let mut tell = |result: i64| {
        told.push(if result < 0 { name(crate::sys::errno()) } else { "opened".to_owned() });
    };
    let create = libc::O_RDWR | libc::O_CREAT;
    let (cwd, absolute) = (libc::AT_FDCWD, format!("{root}/h/file/."));
    for (directory, path, flags) in [
        (cwd, "none/x", create),
        (cwd, "file/x", libc::O_RDONLY),
        (cwd, "file/.", libc::O_RDONLY),
        (cwd, "file/..", libc::O_RDONLY),
        (cwd, "none/..", libc::O_RDONLY),
        (cwd, "none/.", create),
        (cwd, "file/", libc::O_RDONLY),
        (cwd, absolute.as_str(), libc::O_RDONLY),
        (cwd, "to-file", libc::O_RDONLY),
        (cwd, "to-none", create),
        (cwd, "to-none", libc::O_RDONLY),
        (99, "file", libc::O_RDONLY),
        (99, "none/x", create),
        (cwd, "/proc/self/fd/99/x", libc::O_RDONLY),
        (cwd, "/proc/self/exe/x", libc::O_RDONLY),
        (cwd, "./.", libc::O_RDONLY),
        (cwd, "", libc::O_RDONLY),
    ] {
        tell(unsafe { libc::openat(directory, c(path).as_ptr(), flags, 0o600) }.into());
    }
    tell(unsafe { libc::truncate(c("file/.").as_ptr(), 0) }.into());
    tell(unsafe { libc::rename(c("none/x/y").as_ptr(), c("file/y").as_ptr()) }.into());
    tell(unsafe { libc::mkdirat(99, c("none").as_ptr(), 0o700) }.into());
    let length = std::fs::metadata("file").unwrap().len();
    println!("{} {} {length}", told.join(" "), std::path::Path::new("none").exists());
}

/// Who may not search a directory learns nothing of what is in it.
fn unprivileged_look_ups(root: &str) {
    use std::os::unix::fs::PermissionsExt;
    let closed = format!("{root}/h/closed");
    std::fs::create_dir_all(format!("{closed}/directory")).unwrap();
    std::fs::write(format!("{closed}/file"), "").unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::env::set_current_dir(&closed).unwrap();
    let _idle = idle();
    check(unsafe { libc::setresuid(65534, 65534, 65534) }).unwrap();
    let told = ["file/x/y", "none/x/y", "directory/x/y"].map(|inside| {
        ["", "/proc/self/cwd/", &format!("{closed}/")].map(|before| {
            let fd = unsafe { libc::open(c(&format!("{before}{inside}")).as_ptr(), libc::O_RDONLY) };
            if fd < 0 { name(crate::sys::errno()) } else { "opened".to_owned() }
        })
    });
    println!("{}", if told.iter().all(|one| *one == told[0]) { "ok".to_owned() } else { format!("{told:?}") });
}

/// A call leaves its argument registers alone.
#[cfg(target_arch = "x86_64")]
fn registers(root: &str) {
    let _idle = idle();
    for (name, expected) in [("h/file", 0), ("s/file", libc::EACCES), ("missing", libc::ENOENT)] {
        let path = c(&format!("{root}/{name}"));
        let here = libc::AT_FDCWD as i64;
        let before = [here, path.as_ptr() as i64, 0, 0, 0x1234_5678_9abc, -77];
        let mut after = before;
        let mut result = libc::SYS_openat;
        unsafe {
            std::arch::asm!(
                "syscall", inout("rax") result, inout("rdi") after[0], inout("rsi") after[1], inout("rdx") after[2],
                inout("r10") after[3], inout("r8") after[4], inout("r9") after[5], out("rcx") _, out("r11") _,
            );
        }
        if after != before {
            return println!("{name}: {before:x?} became {after:x?}");
        }
        if result.min(0) != -i64::from(expected) {
            return println!("{name}: {}", result.min(0));
        }
    }
    println!("ok");
}

#[cfg(target_arch = "aarch64")]
fn registers(root: &str) {
    let _idle = idle();
    for (name, expected) in [("h/file", 0), ("s/file", libc::EACCES), ("missing", libc::ENOENT)] {
        let path = c(&format!("{root}/{name}"));
        let before = [path.as_ptr() as i64, 0, 0, 0x1234_5678_9abc, -77];
        let mut after = before;
        let mut result = i64::from(libc::AT_FDCWD);
        unsafe {
            std::arch::asm!(
                "svc 0", in("x8") libc::SYS_openat, inout("x0") result, inout("x1") after[0], inout("x2") after[1],
                inout("x3") after[2], inout("x4") after[3], inout("x5") after[4],
            );
        }
        if after != before {
            return println!("{name}: {before:x?} became {after:x?}");
        }
        if result.min(0) != -i64::from(expected) {
            return println!("{name}: {}", result.min(0));
        }
    }
    println!("ok");
}

/// While one thread waits for the other end of a FIFO, names are changed,
/// and then the other end comes.
fn blocked_open(root: &str) {
    let at = |name: &str| format!("{root}/{name}");
    let fifo = at("fifo");
    check(unsafe { libc::mkfifo(c(&fifo).as_ptr(), 0o600) }).unwrap();
    let reader = {
        let fifo = fifo.clone();
        let thread = AtomicUsize::new(0);
        let thread: &'static AtomicUsize = Box::leak(Box::new(thread));
        let handle = std::thread::spawn(move || {
            thread.store(unsafe { libc::gettid() } as usize, Ordering::Relaxed);
            open(&fifo, libc::O_RDONLY).map(drop)
        });
        wait_until_blocked(thread);
        handle
    };
    let steps: [(&str, &dyn Fn() -> std::io::Result<()>); 7] = [
        ("symlink", &|| std::os::unix::fs::symlink(at("h"), at("link"))),
        ("rename of a link", &|| std::fs::rename(at("link"), at("link2"))),
        ("mkdir", &|| std::fs::create_dir(at("directory"))),
        ("rename of a directory", &|| std::fs::rename(at("directory"), at("directory2"))),
        ("chdir", &|| std::env::set_current_dir(at("directory2"))),
        ("link", &|| std::fs::hard_link(at("h/file"), at("hard"))),
        ("open", &|| std::fs::read(at("link2/file")).map(drop)),
    ];
    for (step, run) in steps {
        if let Err(error) = run() {
            return println!("{step}: {error}");
        }
    }
    let writer = open(&fifo, libc::O_WRONLY);
    match (writer, reader.join().unwrap()) {
        (Ok(_), Ok(())) => println!("ok"),
        other => println!("{other:?}"),
    }
}

/// Until a thread of ours sleeps in a call.
fn wait_until_blocked(thread: &AtomicUsize) {
    for _ in 0..5000 {
        let id = thread.load(Ordering::Relaxed);
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap_or_default();
        // A tracer's stop is `t`.
        if stat.contains(") S ") {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the thread did not come to its wait");
}

static BUFFER: AtomicUsize = AtomicUsize::new(0);
static SECRET: AtomicUsize = AtomicUsize::new(0);
static CHANGED: AtomicBool = AtomicBool::new(false);

/// In the handler: the interrupted call's registers are the program's, and
/// the name is another now.
extern "C" fn interrupt(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let (buffer, secret) = (BUFFER.load(Ordering::Relaxed), SECRET.load(Ordering::Relaxed));
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    let argument = context.uc_mcontext.gregs[libc::REG_RSI as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    let argument = context.uc_mcontext.regs[1] as usize;
    CHANGED.store(argument != buffer, Ordering::Relaxed);
    unsafe { libc::strcpy(buffer as *mut libc::c_char, secret as *const libc::c_char) };
}

/// A call that a signal interrupts is asked about anew when it starts again.
fn restarted_open(root: &str, flags: c_int) {
    let _idle = idle();
    let fifo = format!("{root}/fifo");
    check(unsafe { libc::mkfifo(c(&fifo).as_ptr(), 0o600) }).unwrap();
    let buffer = pages(1);
    let path = c(&fifo);
    unsafe { std::ptr::copy_nonoverlapping(path.as_ptr().cast(), buffer, path.as_bytes_with_nul().len()) };
    BUFFER.store(buffer as usize, Ordering::Relaxed);
    SECRET.store(CString::into_raw(c(&format!("{root}/s/file"))) as usize, Ordering::Relaxed);
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = interrupt as *const () as usize;
    action.sa_flags = flags | libc::SA_SIGINFO;
    check(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }).unwrap();
    let thread: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(unsafe { libc::gettid() } as usize)));
    let process = unsafe { libc::getpid() };
    let other = std::thread::spawn(move || {
        wait_until_blocked(thread);
        let target = thread.load(Ordering::Relaxed);
        unsafe { libc::syscall(libc::SYS_tgkill, process, target, libc::SIGUSR1) };
    });
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, buffer, libc::O_RDONLY, 0) };
    if CHANGED.load(Ordering::Relaxed) {
        println!("registers");
    }
    say_opened(crate::sys::owned(fd as c_int));
    other.join().unwrap();
}

/// The addresses that the host may use are the program's to use.
fn own_page(root: &str) {
    let _idle = idle();
    let file = format!("{root}/h/file");
    open(&file, libc::O_RDONLY).unwrap();
    // What mmap finds by itself works, and is readable where it says so.
    let mut seen = Vec::new();
    for _ in 0..100 {
        let page = pages(1);
        unsafe { *page = 1 };
        seen.push(page);
        open(&file, libc::O_RDONLY).unwrap();
    }
    for page in seen {
        check(unsafe { libc::munmap(page.cast(), PAGE) }).unwrap();
    }
    println!("ok");
}

/// What `getaddrinfo` does in threads: several messages in one call.
fn messages() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 100;
    let barrier = Barrier::new(THREADS);
    let received = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let mut address = unsafe { std::mem::zeroed::<libc::sockaddr_in>() };
                address.sin_family = libc::AF_INET as u16;
                address.sin_port = receiver.local_addr().unwrap().port().to_be();
                address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
                barrier.wait();
                for round in 0..ROUNDS {
                    let mut words = [round as u32, !(round as u32)];
                    let mut vectors: Vec<_> = words
                        .iter_mut()
                        .map(|word| libc::iovec { iov_base: std::ptr::from_mut(word).cast(), iov_len: 4 })
                        .collect();
                    let mut list = [unsafe { std::mem::zeroed::<libc::mmsghdr>() }; 2];
                    for (message, vector) in list.iter_mut().zip(&mut vectors) {
                        message.msg_hdr.msg_name = (&raw mut address).cast();
                        message.msg_hdr.msg_namelen = 16;
                        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (vector, 1);
                    }
                    // It may send fewer than asked for (sendmmsg(2)).
                    let mut sent = 0;
                    while sent < 2 {
                        let rest = &mut list[sent..];
                        let now =
                            unsafe { libc::sendmmsg(sender.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
                        sent += check(now).unwrap() as usize;
                    }
                    assert_eq!([list[0].msg_len, list[1].msg_len], [4, 4], "the kernel writes the lengths back");
                    assert_eq!(list[0].msg_hdr.msg_name, (&raw mut address).cast(), "the structure is the program's");
                    for word in words {
                        let mut bytes = [0; 8];
                        assert_eq!(receiver.recv(&mut bytes).unwrap(), 4);
                        assert_eq!(bytes[..4], word.to_ne_bytes());
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(received.into_inner(), THREADS * ROUNDS * 2);
    println!("ok");
}

/// A program that dispatches its calls to itself (Documentation/admin-guide/
/// syscall-user-dispatch.rst), but for those below the vDSO, which are all.
#[cfg(target_arch = "x86_64")]
fn dispatched_calls(root: &str) {
    use std::sync::atomic::{AtomicU8, Ordering};
    static SELECTOR: AtomicU8 = AtomicU8::new(0);
    const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
    let _idle = idle();
    let path = c(&format!("{root}/h/file"));
    let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    check(unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, vdso, SELECTOR.as_ptr()) }).unwrap();
    SELECTOR.store(1, Ordering::Relaxed);
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    let errno = crate::sys::errno();
    SELECTOR.store(0, Ordering::Relaxed);
    println!("{}", if fd >= 0 { "ok".to_owned() } else { name(errno) });
}
