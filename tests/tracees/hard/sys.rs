//! The kernel as directly as can be: raw calls that touch neither `errno` nor
//! any other thread-local variable, so that bare clones may use them too; and
//! waiting for conditions, each wait with an end.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use libc::{c_int, c_long, pid_t};
use nix::errno::Errno;

/// What a raw call came to.
pub(crate) type Result<T = isize> = std::result::Result<T, Errno>;

/// One system call; the kernel's own return value.
pub(crate) fn raw(nr: c_long, args: [usize; 6]) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            in("x8") nr,
            options(nostack),
        );
    }
    result
}

pub(crate) fn answer(result: isize) -> Result {
    if (-4095..0).contains(&result) { Err(Errno::from_raw(-result as i32)) } else { Ok(result) }
}

/// `call!(SYS_name, argument…)`: a raw call as a `Result`.
macro_rules! call {
    ($nr:ident $(, $argument:expr)* $(,)?) => {{
        #[allow(unused_mut, unused_assignments)]
        let (mut arguments, mut next) = ([0usize; 6], 0usize);
        $(
            #[allow(unused_assignments)]
            {
                arguments[next] = $argument as usize;
                next += 1;
            }
        )*
        let _ = next;
        $crate::sys::answer($crate::sys::raw(libc::$nr, arguments))
    }};
}
pub(crate) use call;

/// Prints one line with one write, so that lines of many processes stay whole.
macro_rules! say {
    ($($text:tt)*) => { $crate::sys::write_line(&format!($($text)*)) };
}
pub(crate) use say;

pub(crate) fn write_line(text: &str) {
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// `ok` or the errno's name.
pub(crate) fn told<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(errno) => format!("{errno:?}"),
    }
}

/// A system call that makes a task which shall run `child(argument)` and
/// never return: fork, vfork, clone, clone3.
pub(crate) fn spawn_raw(
    nr: c_long,
    args: [usize; 5],
    child: unsafe extern "C" fn(usize) -> !,
    argument: usize,
) -> Result<pid_t> {
    let mut result = nr as isize;
    // With vfork the child runs on our stack, below all that we have there:
    // without `nostack` nothing of ours lies under the stack pointer.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "and rsp, -16",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inout("rax") result,
            in("r12") argument, in("r13") child,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            clobber_abi("C"),
        );
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        let number = result;
        result = args[0] as isize;
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            inout("x0") result,
            in("x20") argument, in("x21") child, in("x8") number,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
            clobber_abi("C"),
        );
    }
    answer(result).map(|pid| pid as pid_t)
}

/// A stack for a clone that shares our memory; never given back.
pub(crate) fn stack() -> usize {
    const SIZE: usize = 64 << 10;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
    let base =
        unsafe { libc::mmap(std::ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) } as usize;
    assert_ne!(base, usize::MAX, "no memory for a stack");
    base + SIZE - 64
}

/// Ends this task alone.
pub(crate) fn exit_task(code: i32) -> ! {
    raw(libc::SYS_exit, [code as usize, 0, 0, 0, 0, 0]);
    std::process::abort()
}

pub(crate) fn exit_all(code: i32) -> ! {
    unsafe { libc::_exit(code) }
}

/// Forks a child that runs `child` and exits with what it returns.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> pid_t {
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        exit_all(catch_unwind(AssertUnwindSafe(child)).unwrap_or(101));
    }
    assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
    pid
}

/// A wait status in words.
pub(crate) fn status(status: c_int) -> String {
    if libc::WIFEXITED(status) {
        format!("exited {}", libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        format!("killed {}", libc::WTERMSIG(status))
    } else if libc::WIFSTOPPED(status) {
        format!("stopped {:#x}", status >> 8)
    } else if libc::WIFCONTINUED(status) {
        "continued".into()
    } else {
        format!("status {status:#x}")
    }
}

/// waitpid in words: the status, `nothing` (WNOHANG), or the errno.
pub(crate) fn wait_for(pid: pid_t, options: c_int) -> String {
    let mut found: c_int = 0;
    match call!(SYS_wait4, pid as isize, &raw mut found, options, 0) {
        Ok(0) => "nothing".into(),
        Ok(_) => status(found),
        Err(errno) => format!("{errno:?}"),
    }
}

pub(crate) fn wait(pid: pid_t) -> String {
    wait_for(pid, libc::__WALL)
}

/// No case waits longer for one condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn pause_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub(crate) fn getpid() -> pid_t {
    raw(libc::SYS_getpid, [0; 6]) as pid_t
}

pub(crate) fn gettid() -> pid_t {
    raw(libc::SYS_gettid, [0; 6]) as pid_t
}

/// Memory that children share with us: `slots()[i]`.
pub(crate) fn shared(length: usize) -> &'static [AtomicI64] {
    let (size, flags) = (length * size_of::<AtomicI64>(), libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    unsafe {
        let base = libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(base, libc::MAP_FAILED);
        std::slice::from_raw_parts(base.cast(), length)
    }
}

fn proc_file(pid: pid_t, tid: pid_t, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}")).unwrap_or_default()
}

/// The letter of a thread's state; `-` if it is gone.
pub(crate) fn state(pid: pid_t, tid: pid_t) -> char {
    let stat = proc_file(pid, tid, "stat");
    stat.rfind(") ").and_then(|at| stat[at + 2..].chars().next()).unwrap_or('-')
}

/// Whether it sleeps in one of these calls, or in its continuation.
pub(crate) fn is_in(pid: pid_t, tid: pid_t, numbers: &[c_long]) -> bool {
    let Some(number) = proc_file(pid, tid, "syscall").split(' ').next().and_then(|word| word.parse::<c_long>().ok())
    else {
        return false;
    };
    (numbers.contains(&number) || number == libc::SYS_restart_syscall) && state(pid, tid) == 'S'
}

/// Stopped by job control; a traced task shows `t`.
pub(crate) fn is_stopped(pid: pid_t, tid: pid_t) -> bool {
    matches!(state(pid, tid), 'T' | 't')
}

/// The thread ids of a process.
pub(crate) fn threads(pid: pid_t) -> Vec<pid_t> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"));
    let mut tids: Vec<pid_t> =
        entries.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    tids.sort_unstable();
    tids
}

/// Starts `count` threads and returns once each sleeps in a call, a different
/// one in turn.
pub(crate) fn sleepers(count: usize) {
    let tids = shared(count);
    let numbers = [
        libc::SYS_read,
        libc::SYS_clock_nanosleep,
        libc::SYS_futex,
        libc::SYS_ppoll,
        libc::SYS_epoll_pwait,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_accept4,
    ];
    for (index, tid) in tids.iter().enumerate() {
        std::thread::spawn(move || sleep_in(index % numbers.len(), tid));
    }
    for (index, tid) in tids.iter().enumerate() {
        until("all threads sleep in their calls", || {
            let tid = tid.load(std::sync::atomic::Ordering::SeqCst) as pid_t;
            tid != 0 && is_in(getpid(), tid, &[numbers[index % numbers.len()]])
        });
    }
}

fn sleep_in(kind: usize, tid: &AtomicI64) {
    let long = libc::timespec { tv_sec: 1000, tv_nsec: 0 };
    let mut pipe = [0; 2];
    unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) };
    let word = 0u32;
    let mut byte = 0u8;
    let poll = libc::pollfd { fd: pipe[0], events: libc::POLLIN, revents: 0 };
    let none = 0usize;
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let set = 1u64 << (libc::SIGRTMAX() - 1);
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    // Autobind gives it a name (man 7 unix).
    let family = libc::AF_UNIX as u16;
    unsafe { libc::bind(socket, (&raw const family).cast(), 2) };
    unsafe { libc::listen(socket, 1) };
    tid.store(gettid().into(), std::sync::atomic::Ordering::SeqCst);
    let woken = match kind {
        0 => call!(SYS_read, pipe[0], &raw mut byte, 1),
        1 => call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const long, none),
        2 => call!(SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, none),
        3 => call!(SYS_ppoll, &raw const poll, 1, none, none, 0),
        4 => call!(SYS_epoll_pwait, epoll, &raw mut event, 1, -1isize, none, 8),
        5 => call!(SYS_rt_sigtimedwait, &raw const set, none, &raw const long, 8),
        _ => call!(SYS_accept4, socket, none, none, 0),
    };
    // A stop and its end may wake some of them.
    let _ = woken;
    loop {
        pause_ms(1000);
    }
}

/// Strings for execve, made before a child that must not allocate.
pub(crate) struct Program {
    _strings: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

unsafe impl Sync for Program {}
unsafe impl Send for Program {}

impl Program {
    pub(crate) fn new(words: &[&str]) -> Self {
        let strings: Vec<_> = words.iter().map(|word| std::ffi::CString::new(*word).unwrap()).collect();
        let pointers = strings.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _strings: strings, pointers }
    }

    /// This executable with these words.
    pub(crate) fn own(words: &[&str]) -> Self {
        let own = own_path();
        Self::new(&[&[own.as_str()], words].concat())
    }

    /// Executes it; only a failure returns. The environment stays.
    pub(crate) fn exec(&self) -> Errno {
        unsafe extern "C" {
            static environ: *const *const libc::c_char;
        }
        let environment = unsafe { environ };
        call!(SYS_execve, self.pointers[0], self.pointers.as_ptr(), environment).unwrap_err()
    }
}

pub(crate) fn own_path() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

/// A pipe whose ends close at exec.
pub(crate) fn pipe() -> [c_int; 2] {
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    ends
}

pub(crate) fn close(fd: c_int) {
    unsafe { libc::close(fd) };
}

pub(crate) fn put(fd: c_int, bytes: &[u8]) {
    assert_eq!(call!(SYS_write, fd, bytes.as_ptr(), bytes.len()), Ok(bytes.len() as isize));
}

/// Reads to the end; whoever holds the other end has gone then.
pub(crate) fn read_all(fd: c_int) -> String {
    use std::io::Read as _;
    use std::os::fd::FromRawFd as _;
    let mut text = String::new();
    unsafe { std::fs::File::from_raw_fd(fd) }.read_to_string(&mut text).unwrap();
    text
}

/// Runs `child` in a forked child with the writing end of a pipe, and returns
/// what it wrote, and how it ended.
pub(crate) fn ask(child: impl FnOnce(c_int) -> i32) -> (String, String) {
    let [reader, writer] = pipe();
    let pid = fork(|| {
        close(reader);
        child(writer)
    });
    close(writer);
    let text = read_all(reader);
    (text, wait(pid))
}

/// Whether a path can be opened.
pub(crate) fn open(path: &std::ffi::CStr) -> Result<c_int> {
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0).map(|fd| fd as c_int)
}

/// Opens and closes a harmless file, a call that the host judges.
pub(crate) fn open_something() -> bool {
    open(c"/dev/null").is_ok_and(|fd| {
        close(fd);
        true
    })
}
