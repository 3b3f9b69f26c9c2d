//! Calls that wait, each with what ends its wait, for scenarios that disturb
//! it: a stop signal, a handler, a signal that is ignored.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, c_long, pid_t};

use crate::sys::{Result, call, close, fork, is_in, pause_ms, pipe, put, read_all, shared, until, wait};

/// A call that waits.
pub(crate) struct Blocker {
    pub(crate) name: &'static str,
    /// The numbers that /proc may show for it.
    numbers: Vec<c_long>,
    /// Makes the call, in a child.
    enter: Box<dyn FnOnce() -> Result>,
    /// Ends the wait of that child; `None` if time does.
    release: Option<Box<dyn FnOnce(pid_t)>>,
}

/// How long those that time ends wait.
pub(crate) const WAIT: Duration = Duration::from_secs(2);

fn blocker(
    name: &'static str,
    numbers: &[c_long],
    enter: impl FnOnce() -> Result + 'static,
    release: impl FnOnce(pid_t) + 'static,
) -> Blocker {
    Blocker { name, numbers: numbers.to_vec(), enter: Box::new(enter), release: Some(Box::new(release)) }
}

fn timed(name: &'static str, number: c_long, enter: impl FnOnce() -> Result + 'static) -> Blocker {
    Blocker { name, numbers: vec![number], enter: Box::new(enter), release: None }
}

static WAIT_TIME: libc::timespec = libc::timespec { tv_sec: WAIT.as_secs() as i64, tv_nsec: 0 };

fn signal_bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// A signal that nobody sends but who shall wake `sigwaitinfo`.
fn waking() -> c_int {
    libc::SIGRTMIN() + 5
}

/// An unconnected listener with a name of the kernel's choice, and that name.
fn listener() -> (c_int, libc::sockaddr_un, u32) {
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let family = libc::AF_UNIX as u16;
        libc::bind(socket, (&raw const family).cast(), 2);
        assert_eq!(libc::listen(socket, 0), 0);
        let mut name: libc::sockaddr_un = std::mem::zeroed();
        let mut length = size_of_val(&name) as u32;
        libc::getsockname(socket, (&raw mut name).cast(), &raw mut length);
        (socket, name, length)
    }
}

fn connect(name: &libc::sockaddr_un, length: u32) -> Result {
    let socket = call!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)?;
    call!(SYS_connect, socket, std::ptr::from_ref(name), length)
}

/// All of them, with fresh pipes, sockets and files in `directory`.
pub(crate) fn all(directory: &str) -> Vec<Blocker> {
    let none = 0usize;
    let mut list = vec![
        timed("clock_nanosleep", libc::SYS_clock_nanosleep, move || {
            call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const WAIT_TIME, none)
        }),
        timed("clock_nanosleep to a time", libc::SYS_clock_nanosleep, move || {
            let mut when = WAIT_TIME;
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut when) };
            when.tv_sec += WAIT.as_secs() as i64;
            call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const when, none)
        }),
        timed("nanosleep", libc::SYS_nanosleep, move || call!(SYS_nanosleep, &raw const WAIT_TIME, none)),
        // These two write to their time what is left of it, and restart only
        // if they can.
        timed("ppoll for a time", libc::SYS_ppoll, move || {
            let mut time = WAIT_TIME;
            call!(SYS_ppoll, none, 0, &raw mut time, none, 0)
        }),
        timed("pselect6 for a time", libc::SYS_pselect6, move || {
            let mut time = WAIT_TIME;
            call!(SYS_pselect6, 0, none, none, none, &raw mut time, none)
        }),
        timed("ppoll for a time that is not written", libc::SYS_ppoll, move || {
            call!(SYS_ppoll, none, 0, &raw const WAIT_TIME, none, 0)
        }),
        timed("epoll_pwait for a time", libc::SYS_epoll_pwait, || {
            let epoll = call!(SYS_epoll_create1, libc::EPOLL_CLOEXEC)?;
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            call!(SYS_epoll_pwait, epoll, &raw mut event, 1, WAIT.as_millis(), 0, 8)
        }),
        timed("futex for a time", libc::SYS_futex, || {
            let word = 0u32;
            call!(SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, &raw const WAIT_TIME)
        }),
        timed("rt_sigtimedwait for a time", libc::SYS_rt_sigtimedwait, || {
            let set = signal_bit(waking());
            call!(SYS_rt_sigtimedwait, &raw const set, 0, &raw const WAIT_TIME, 8)
        }),
        timed("recvfrom with SO_RCVTIMEO", libc::SYS_recvfrom, || {
            let mut pair = [0; 2];
            call!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr())?;
            let time = libc::timeval { tv_sec: WAIT.as_secs() as i64, tv_usec: 0 };
            let size = size_of_val(&time);
            call!(SYS_setsockopt, pair[0], libc::SOL_SOCKET, libc::SO_RCVTIMEO, &raw const time, size)?;
            let mut byte = 0u8;
            call!(SYS_recvfrom, pair[0], &raw mut byte, 1, 0, 0, 0)
        }),
        timed("read of a timerfd", libc::SYS_read, || {
            let timer = call!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0)?;
            let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let when = libc::itimerspec { it_interval: zero, it_value: WAIT_TIME };
            call!(SYS_timerfd_settime, timer, 0, &raw const when, 0)?;
            let mut count = 0u64;
            call!(SYS_read, timer, &raw mut count, 8)
        }),
        timed("semtimedop", libc::SYS_semtimedop, || {
            let set = call!(SYS_semget, libc::IPC_PRIVATE, 1, 0o600)?;
            let down = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
            let result = call!(SYS_semtimedop, set, &raw const down, 1, &raw const WAIT_TIME);
            call!(SYS_semctl, set, 0, libc::IPC_RMID)?;
            result
        }),
    ];
    #[cfg(target_arch = "x86_64")]
    list.extend([
        timed("poll for a time", libc::SYS_poll, || call!(SYS_poll, 0, 0, WAIT.as_millis())),
        timed("select for a time", libc::SYS_select, || {
            let time = libc::timeval { tv_sec: WAIT.as_secs() as i64, tv_usec: 0 };
            call!(SYS_select, 0, 0, 0, 0, &raw const time)
        }),
        timed("epoll_wait for a time", libc::SYS_epoll_wait, || {
            let epoll = call!(SYS_epoll_create1, libc::EPOLL_CLOEXEC)?;
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            call!(SYS_epoll_wait, epoll, &raw mut event, 1, WAIT.as_millis())
        }),
    ]);

    let [reader, writer] = pipe();
    list.push(blocker(
        "read",
        &[libc::SYS_read],
        move || {
            let mut byte = 0u8;
            call!(SYS_read, reader, &raw mut byte, 1)
        },
        move |_| put(writer, b"x"),
    ));
    let [reader, writer] = pipe();
    list.push(blocker(
        "ppoll",
        &[libc::SYS_ppoll],
        move || {
            let mut poll = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
            call!(SYS_ppoll, &raw mut poll, 1, none, none, 0)
        },
        move |_| put(writer, b"x"),
    ));
    #[cfg(target_arch = "x86_64")]
    {
        let [reader, writer] = pipe();
        list.push(blocker(
            "poll",
            &[libc::SYS_poll],
            move || {
                let mut poll = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
                call!(SYS_poll, &raw mut poll, 1, -1isize)
            },
            move |_| put(writer, b"x"),
        ));
    }
    let [reader, writer] = pipe();
    list.push(blocker(
        "epoll_pwait",
        &[libc::SYS_epoll_pwait],
        move || {
            let epoll = call!(SYS_epoll_create1, libc::EPOLL_CLOEXEC)?;
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, reader, &raw mut event)?;
            call!(SYS_epoll_pwait, epoll, &raw mut event, 1, -1isize, 0, 8)
        },
        move |_| put(writer, b"x"),
    ));
    // A pipe that is full.
    let [reader, writer] = pipe();
    let page = vec![0u8; 4096];
    call!(SYS_fcntl, writer, libc::F_SETFL, libc::O_NONBLOCK).unwrap();
    while call!(SYS_write, writer, page.as_ptr(), page.len()).is_ok() {}
    call!(SYS_fcntl, writer, libc::F_SETFL, 0).unwrap();
    list.push(blocker(
        "write",
        &[libc::SYS_write],
        move || call!(SYS_write, writer, b"x".as_ptr(), 1),
        move |_| {
            let mut page = [0u8; 4096];
            call!(SYS_read, reader, page.as_mut_ptr(), page.len()).unwrap();
        },
    ));
    let (socket, name, length) = listener();
    list.push(blocker(
        "accept4",
        &[libc::SYS_accept4],
        move || call!(SYS_accept4, socket, 0, 0, 0).map(|_| 0),
        move |_| {
            connect(&name, length).unwrap();
        },
    ));
    // With a backlog of none one connection fits.
    let (socket, name, length) = listener();
    connect(&name, length).unwrap();
    list.push(blocker(
        "connect",
        &[libc::SYS_connect],
        move || connect(&name, length).map(|_| 0),
        move |_| {
            call!(SYS_accept4, socket, 0, 0, 0).unwrap();
        },
    ));
    let word = &shared(1)[0];
    list.push(blocker(
        "futex",
        &[libc::SYS_futex],
        move || call!(SYS_futex, std::ptr::from_ref(word), libc::FUTEX_WAIT, 0, 0),
        move |_| {
            call!(SYS_futex, std::ptr::from_ref(word), libc::FUTEX_WAKE, 1).unwrap();
        },
    ));
    let [reader, writer] = pipe();
    for (name, number) in [("wait4", libc::SYS_wait4), ("waitid", libc::SYS_waitid)] {
        let [reader, writer] = if name == "wait4" { [reader, writer] } else { pipe() };
        list.push(blocker(
            name,
            &[number],
            move || {
                let child = fork(|| {
                    let mut byte = 0u8;
                    let _ = call!(SYS_read, reader, &raw mut byte, 1);
                    0
                });
                let mut status = 0;
                let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
                let result = if number == libc::SYS_wait4 {
                    call!(SYS_wait4, child, &raw mut status, 0, 0)
                } else {
                    call!(SYS_waitid, libc::P_PID, child, &raw mut info, libc::WEXITED, 0)
                };
                if result.is_err() {
                    unsafe { libc::kill(child, libc::SIGKILL) };
                    wait(child);
                }
                result.map(|_| 0)
            },
            move |_| put(writer, b"x"),
        ));
    }
    list.push(blocker(
        "sigwaitinfo",
        &[libc::SYS_rt_sigtimedwait],
        move || {
            let set = signal_bit(waking());
            call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, 0, 8)?;
            call!(SYS_rt_sigtimedwait, &raw const set, 0, 0, 8)
        },
        |child| {
            call!(SYS_kill, child, waking()).unwrap();
        },
    ));
    list.push(blocker(
        "read of a signalfd",
        &[libc::SYS_read],
        move || {
            let set = signal_bit(waking());
            call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, 0, 8)?;
            let fd = call!(SYS_signalfd4, -1isize, &raw const set, 8, 0)?;
            let mut info = [0u8; 128];
            call!(SYS_read, fd, info.as_mut_ptr(), info.len())
        },
        |child| {
            call!(SYS_kill, child, waking()).unwrap();
        },
    ));
    let semaphore = call!(SYS_semget, libc::IPC_PRIVATE, 1, 0o600).unwrap();
    list.push(blocker(
        "semop",
        &[libc::SYS_semop, libc::SYS_semtimedop],
        move || {
            let down = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
            let result = call!(SYS_semop, semaphore, &raw const down, 1);
            let _ = call!(SYS_semctl, semaphore, 0, libc::IPC_RMID);
            result
        },
        move |_| {
            let up = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: 0 };
            call!(SYS_semop, semaphore, &raw const up, 1).unwrap();
        },
    ));
    let queue = call!(SYS_msgget, libc::IPC_PRIVATE, 0o600).unwrap();
    list.push(blocker(
        "msgrcv",
        &[libc::SYS_msgrcv],
        move || {
            let mut message = [0i64; 2];
            let result = call!(SYS_msgrcv, queue, message.as_mut_ptr(), 8, 0, 0);
            let _ = call!(SYS_msgctl, queue, libc::IPC_RMID, 0);
            result
        },
        move |_| {
            let message = [1i64, 2];
            call!(SYS_msgsnd, queue, message.as_ptr(), 8, 0).unwrap();
        },
    ));
    let file = format!("{directory}/lock");
    std::fs::write(&file, "").unwrap();
    let path = std::ffi::CString::new(file).unwrap();
    let open = |path: &std::ffi::CStr| call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR, 0);
    let held = open(&path).unwrap();
    call!(SYS_flock, held, libc::LOCK_EX).unwrap();
    let same = path.clone();
    list.push(blocker(
        "flock",
        &[libc::SYS_flock],
        move || {
            // Its own copy of the held descriptor would hold the lock too.
            call!(SYS_flock, open(&same)?, libc::LOCK_EX)
        },
        move |_| {
            call!(SYS_flock, held, libc::LOCK_UN).unwrap();
        },
    ));
    let record = open(&path).unwrap();
    let lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    call!(SYS_fcntl, record, libc::F_SETLK, &raw const lock).unwrap();
    list.push(blocker(
        "fcntl F_SETLKW",
        &[libc::SYS_fcntl],
        move || {
            let lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
            call!(SYS_fcntl, open(&path)?, libc::F_SETLKW, &raw const lock)
        },
        move |_| {
            let lock = libc::flock { l_type: libc::F_UNLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
            call!(SYS_fcntl, record, libc::F_SETLK, &raw const lock).unwrap();
        },
    ));
    let fifo = std::ffi::CString::new(format!("{directory}/fifo")).unwrap();
    unsafe {
        libc::unlink(fifo.as_ptr());
        assert_eq!(libc::mkfifo(fifo.as_ptr(), 0o600), 0);
    }
    let same = fifo.clone();
    list.push(blocker(
        "open of a FIFO",
        &[libc::SYS_openat],
        move || call!(SYS_openat, libc::AT_FDCWD, fifo.as_ptr(), libc::O_RDONLY, 0).map(|_| 0),
        move |_| {
            call!(SYS_openat, libc::AT_FDCWD, same.as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK, 0).unwrap();
        },
    ));
    // Not the file with the locks: to close it would give up the record lock.
    let watched = std::ffi::CString::new(format!("{directory}/watched")).unwrap();
    std::fs::write(format!("{directory}/watched"), "").unwrap();
    let events = call!(SYS_inotify_init1, 0).unwrap() as c_int;
    list.push(blocker(
        "read of an inotify",
        &[libc::SYS_read],
        move || {
            let mut buffer = [0u8; 4096];
            call!(SYS_read, events, buffer.as_mut_ptr(), buffer.len())
        },
        move |_| {
            call!(SYS_inotify_add_watch, events, watched.as_ptr(), libc::IN_OPEN).unwrap();
            close(open(&watched).unwrap() as c_int);
        },
    ));
    let counter = call!(SYS_eventfd2, 0, 0).unwrap() as c_int;
    list.push(blocker(
        "read of an eventfd",
        &[libc::SYS_read],
        move || {
            let mut count = 0u64;
            call!(SYS_read, counter, &raw mut count, 8)
        },
        move |_| put(counter, &1u64.to_ne_bytes()),
    ));
    list
}

/// A child in its call.
pub(crate) struct Waiting {
    pub(crate) name: &'static str,
    pub(crate) pid: pid_t,
    numbers: Vec<c_long>,
    release: Option<Box<dyn FnOnce(pid_t)>>,
    report: c_int,
    /// `OVER` once its call is over, `DISMISSED` once it may end.
    over: &'static AtomicI64,
}

const OVER: i64 = 1;
const DISMISSED: i64 = 2;

impl Blocker {
    /// Starts a child that prepares itself, and then makes the call.
    pub(crate) fn start(self, prepare: impl FnOnce()) -> Waiting {
        let [report, writer] = pipe();
        let over = &shared(1)[0];
        let timed = self.release.is_none();
        let enter = self.enter;
        let pid = fork(|| {
            prepare();
            let since = Instant::now();
            let result = enter();
            let elapsed = since.elapsed();
            over.store(OVER, Ordering::SeqCst);
            let time = match () {
                () if !timed || matches!(result, Err(nix::errno::Errno::EINTR)) => "",
                () if elapsed < WAIT => ", too early",
                () if elapsed > WAIT * 2 => ", begun anew",
                () => ", in time",
            };
            put(writer, format!("{result:?}{time}").as_bytes());
            close(writer);
            // Whether its stop or its end is told first is not to depend on luck.
            until("the child may end", || over.load(Ordering::SeqCst) == DISMISSED);
            0
        });
        close(writer);
        Waiting { name: self.name, pid, numbers: self.numbers, release: self.release, report, over }
    }
}

impl Waiting {
    pub(crate) fn until_in_call(&self) {
        until(&format!("{} waits", self.name), || is_in(self.pid, self.pid, &self.numbers));
    }

    /// Whether the call has ended by itself, once that is certain.
    fn is_over(&self) -> bool {
        let mut steady = 0;
        let mut over = false;
        until(&format!("{} waits again or is over", self.name), || {
            over = self.over.load(Ordering::SeqCst) == OVER;
            steady = if is_in(self.pid, self.pid, &self.numbers) { steady + 1 } else { 0 };
            over || steady == 8
        });
        over
    }

    /// What became of the call: ended by the disturbance, or by what it
    /// waited for.
    pub(crate) fn finish(self) -> String {
        let released = match self.release {
            _ if self.release.is_some() && self.is_over() => "disturbed",
            Some(release) => {
                release(self.pid);
                "went on"
            }
            None => "timed",
        };
        let text = read_all(self.report);
        self.over.store(DISMISSED, Ordering::SeqCst);
        format!("{}: {released}, {text}; {}", self.name, wait(self.pid))
    }
}

/// Gives those that time ends time to pass their end.
pub(crate) fn let_time_pass(since: Instant) {
    while since.elapsed() < WAIT + Duration::from_millis(200) {
        pause_ms(10);
    }
}
