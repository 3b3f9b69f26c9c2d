//! Attacks on the host itself, which is our parent: `host WHAT [MORE…]` tries
//! one and says in a word what came of it.

use std::os::fd::AsRawFd;

use libc::{c_int, c_long, c_void};

use crate::sys::{c, check, open, owned, say};

pub fn main(what: &str, more: &[&str]) {
    let host = unsafe { libc::getppid() };
    let call = |number: c_long, a: &[usize]| {
        let get = |index: usize| a.get(index).copied().unwrap_or_default();
        check(unsafe { libc::syscall(number, get(0), get(1), get(2), get(3), get(4), get(5)) })
    };
    let pid = host as usize;
    let signal: c_int = more.first().and_then(|text| text.parse().ok()).unwrap_or(libc::SIGKILL);
    let pidfd = || call(libc::SYS_pidfd_open, &[pid, 0]).map(|fd| fd as usize);
    let write = |name: &str, text: &str| {
        let path = format!("/proc/{host}/{name}");
        open(&path, libc::O_WRONLY).and_then(|file| {
            check(unsafe { libc::write(file.as_raw_fd(), text.as_ptr().cast(), text.len()) } as c_long)
        })
    };
    match what {
        // ---- signals --------------------------------------------------------
        "kill" => say(check(unsafe { libc::kill(host, signal) })),
        // The kernel takes the id as 32 bits.
        "kill-upper-half" => say(call(libc::SYS_kill, &[0xdead_beef << 32 | pid, signal as usize])),
        "tkill" => say(call(libc::SYS_tkill, &[pid, signal as usize])),
        "tgkill" => say(call(libc::SYS_tgkill, &[pid, pid, signal as usize])),
        "tgkill-other-thread" => {
            let task = other_thread(host);
            say(call(libc::SYS_tgkill, &[pid, task, signal as usize]));
        }
        "kill-by-thread-id" => {
            let task = other_thread(host);
            say(call(libc::SYS_kill, &[task, signal as usize]));
        }
        "pidfd-signal" => say(pidfd().and_then(|fd| call(libc::SYS_pidfd_send_signal, &[fd, signal as usize, 0, 0]))),
        "pidfd-signal-of-proc" => {
            // A directory of /proc is a pidfd as well.
            let fd = open(&format!("/proc/{host}"), libc::O_RDONLY | libc::O_DIRECTORY).unwrap();
            say(call(libc::SYS_pidfd_send_signal, &[fd.as_raw_fd() as usize, signal as usize, 0, 0]));
        }
        // What names the host changes between the look and the call.
        "pidfd-signal-flipped" => {
            let gone = crate::sys::Child::forever(|| {
                unsafe { libc::pause() };
            });
            let dead = call(libc::SYS_pidfd_open, &[gone.0 as usize, 0]).unwrap() as c_int;
            drop(gone);
            let directory = open(&format!("/proc/{host}"), libc::O_RDONLY | libc::O_DIRECTORY).unwrap();
            let fds = [dead, directory.as_raw_fd()];
            unsafe { libc::dup2(fds[0], 50) };
            let _flipper = crate::memory::Flipper::start(move |stop| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for fd in fds {
                        unsafe { libc::dup2(fd, 50) };
                    }
                }
            });
            let sent = (0..20_000).any(|_| call(libc::SYS_pidfd_send_signal, &[50, signal as usize, 0, 0]).is_ok());
            println!("{}", if sent { "sent" } else { "never sent" });
        }
        "owner-flipped" => {
            let mut pipe = [0; 2];
            check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
            // F_SETSIG
            check(unsafe { libc::fcntl(pipe[0], 10, signal) }).unwrap();
            let owner: &'static [std::sync::atomic::AtomicI32; 2] = Box::leak(Box::new([1.into(), host.into()]));
            let own = std::process::id() as c_int;
            let _flipper = crate::memory::Flipper::start(move |stop| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for pid in [own, host] {
                        owner[1].store(pid, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
            let is_host = || {
                let mut now = [0; 2];
                // F_SETOWN_EX, F_GETOWN_EX
                unsafe { libc::fcntl(pipe[0], 15, owner.as_ptr()) };
                unsafe { libc::fcntl(pipe[0], 16, now.as_mut_ptr()) };
                now[1] == host
            };
            println!("{}", if (0..20_000).any(|_| is_host()) { "owned" } else { "never owned" });
        }
        // The same, by another process that shares a page with us.
        "owner-shared" => {
            let mut pipe = [0; 2];
            check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
            check(unsafe { libc::fcntl(pipe[0], 10, signal) }).unwrap();
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let owner = crate::sys::map(1, flags, -1, libc::PROT_READ | libc::PROT_WRITE).cast::<c_int>();
            let (own, page) = (std::process::id() as c_int, owner as usize);
            unsafe { owner.write_volatile(1) };
            let _flipper = crate::sys::Child::forever(move || {
                loop {
                    for pid in [own, host] {
                        unsafe { (page as *mut c_int).add(1).write_volatile(pid) };
                    }
                }
            });
            let is_host = || {
                let mut now = [0; 2];
                unsafe { libc::fcntl(pipe[0], 15, owner) };
                unsafe { libc::fcntl(pipe[0], 16, now.as_mut_ptr()) };
                now[1] == host
            };
            println!("{}", if (0..20_000).any(|_| is_host()) { "owned" } else { "never owned" });
        }
        // FAN_REPORT_FID and FAN_REPORT_PIDFD
        "fanotify-pidfd" => say(check(unsafe { libc::fanotify_init(0x280, 0) })),
        "peer-pidfd" => {
            let mut pair = [0; 2];
            check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) }).unwrap();
            let (mut fd, mut length): (c_int, libc::socklen_t) = (-1, 4);
            say(check(unsafe {
                libc::getsockopt(pair[0], libc::SOL_SOCKET, 77, (&raw mut fd).cast(), &raw mut length)
            }));
        }
        "pass-pidfd" => {
            let mut pair = [0; 2];
            check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) }).unwrap();
            let one: c_int = 1;
            say(check(unsafe { libc::setsockopt(pair[0], libc::SOL_SOCKET, 76, (&raw const one).cast(), 4) }));
        }
        "handle-of-process" => {
            // FD_PIDFS_ROOT, and the handle of inode 1.
            let handle = [8u32, 0xf1, 1, 0];
            say(call(libc::SYS_open_by_handle_at, &[-10002isize as usize, handle.as_ptr() as usize, 0]));
        }
        "sigqueue" | "tgsigqueue" => {
            let mut info = [0u32; 32];
            (info[0], info[2]) = (signal as u32, -1i32 as u32);
            let info = info.as_ptr() as usize;
            say(if what == "sigqueue" {
                call(libc::SYS_rt_sigqueueinfo, &[pid, signal as usize, info])
            } else {
                call(libc::SYS_rt_tgsigqueueinfo, &[pid, pid, signal as usize, info])
            });
        }
        "kill-group" => say(check(unsafe { libc::kill(0, signal) })),
        "kill-group-by-number" => say(check(unsafe { libc::kill(-libc::getpgrp(), signal) })),
        "kill-all" => {
            // Only in a PID namespace that holds nothing but the host and us.
            assert!(host < 10, "not in a namespace of our own");
            say(check(unsafe { libc::kill(-1, signal) }));
        }
        "kill-group-handled" => {
            // Natively we get the signal as well, and are told of success.
            unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
            say(check(unsafe { libc::kill(0, libc::SIGUSR1) }));
        }
        // A descriptor whose news are signals to another.
        "sigio" | "sigio-ex" => {
            let mut pipe = [0; 2];
            check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
            let owner = [0, host];
            let set = if what == "sigio" {
                check(unsafe { libc::fcntl(pipe[0], libc::F_SETOWN, host) })
            } else {
                // F_SETOWN_EX with F_OWNER_TID
                check(unsafe { libc::fcntl(pipe[0], 15, owner.as_ptr()) })
            };
            // F_SETSIG
            let set = set.and_then(|_| check(unsafe { libc::fcntl(pipe[0], 10, signal) }));
            let set = set.and_then(|_| check(unsafe { libc::fcntl(pipe[0], libc::F_SETFL, libc::O_ASYNC) }));
            unsafe { libc::write(pipe[1], c"x".as_ptr().cast(), 1) };
            say(set);
        }
        #[cfg(target_arch = "x86_64")]
        "sigio-ex-int80" => {
            let mut pipe = [0; 2];
            check(unsafe { libc::pipe(pipe.as_mut_ptr()) }).unwrap();
            let owner: *mut c_int = crate::page::pages_below_4g().cast();
            // F_OWNER_PID
            unsafe { owner.write(1) };
            unsafe { owner.add(1).write(host) };
            let owner = crate::abi::RUBBISH | owner as u64;
            // F_SETSIG, and fcntl64 with F_SETOWN_EX
            check(unsafe { libc::fcntl(pipe[0], 10, signal) }).unwrap();
            let set = check(crate::abi::int80(221, [pipe[0] as u64, 15, owner, 0, 0]));
            let set = set.and_then(|_| check(unsafe { libc::fcntl(pipe[0], libc::F_SETFL, libc::O_ASYNC) }));
            unsafe { libc::write(pipe[1], c"x".as_ptr().cast(), 1) };
            say(set);
        }
        "socket-owner" => {
            let mut pair = [0; 2];
            check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) }).unwrap();
            // FIOSETOWN
            let set = check(unsafe { libc::ioctl(pair[0], 0x8901, &raw const host) });
            let set = set.and_then(|_| check(unsafe { libc::fcntl(pair[0], 10, signal) }));
            let set = set.and_then(|_| check(unsafe { libc::fcntl(pair[0], libc::F_SETFL, libc::O_ASYNC) }));
            unsafe { libc::write(pair[1], c"x".as_ptr().cast(), 1) };
            say(set);
        }
        // ---- its memory and its descriptors ---------------------------------
        "ptrace-attach" => say(check(unsafe { libc::ptrace(libc::PTRACE_ATTACH, host, 0, 0) })),
        "ptrace-seize" => say(check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, host, 0, 0) })),
        "vm-writev" | "vm-readv" => {
            let mut byte = 0u8;
            let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
            let remote = libc::iovec { iov_base: writable(host) as *mut c_void, iov_len: 1 };
            let (local, remote) = (&raw const local, &raw const remote);
            say(check(unsafe {
                if what == "vm-writev" {
                    libc::process_vm_writev(host, local, 1, remote, 1, 0)
                } else {
                    libc::process_vm_readv(host, local, 1, remote, 1, 0)
                }
            } as c_long));
        }
        "madvise" => {
            let place = libc::iovec { iov_base: writable(host) as *mut c_void, iov_len: 4096 };
            let advice = libc::MADV_COLD as usize;
            say(pidfd().and_then(|fd| call(libc::SYS_process_madvise, &[fd, &raw const place as usize, 1, advice, 0])));
        }
        "getfd" => say(pidfd().and_then(|fd| call(libc::SYS_pidfd_getfd, &[fd, 2, 0]))),
        "kcmp" => say(call(libc::SYS_kcmp, &[pid, pid, 0, 1, 2])),
        "open-mem" => say(open(&format!("/proc/{host}/mem"), libc::O_RDWR).map(|_| 0)),
        "open-mem-of-thread" => say(open(&format!("/proc/{host}/task/{host}/mem"), libc::O_RDWR).map(|_| 0)),
        "open-mem-by-thread-id" => {
            let task = other_thread(host);
            say(open(&format!("/proc/{task}/mem"), libc::O_RDWR).map(|_| 0));
        }
        "open-fd" => {
            // The file of alerts, by the descriptor that the host has.
            let (fd, _) = descriptor(host, more[0]);
            say(open(&format!("/proc/{host}/fd/{fd}"), libc::O_WRONLY | libc::O_TRUNC).map(|_| 0));
        }
        "open-map-file" => {
            let range = mapping(host, "r-xp");
            say(open(&format!("/proc/{host}/map_files/{range}"), libc::O_RDWR).map(|_| 0));
        }
        // ---- its circumstances ----------------------------------------------
        "prlimit" => {
            let few = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
            say(check(unsafe { libc::prlimit(host, libc::RLIMIT_NOFILE, &raw const few, std::ptr::null_mut()) }));
        }
        "affinity" => {
            let mask = [1u64; 16];
            say(call(libc::SYS_sched_setaffinity, &[pid, 128, mask.as_ptr() as usize]));
        }
        "scheduler" => {
            say(call(libc::SYS_sched_setscheduler, &[pid, libc::SCHED_IDLE as usize, [0u32].as_ptr() as usize]))
        }
        "sched-attr" => {
            // `struct sched_attr` with SCHED_IDLE.
            let attributes = [48u32, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            say(call(libc::SYS_sched_setattr, &[pid, attributes.as_ptr() as usize, 0]));
        }
        "priority" => say(call(libc::SYS_setpriority, &[libc::PRIO_PROCESS as usize, pid, 19])),
        "priority-of-group" => {
            say(call(libc::SYS_setpriority, &[libc::PRIO_PGRP as usize, 0, 5]));
        }
        // IOPRIO_WHO_PROCESS, the idle class.
        "io-priority" => say(call(libc::SYS_ioprio_set, &[1, pid, 3 << 13])),
        "move-pages" => {
            let (place, node, mut status) = (writable(host) & !4095, 0u32, 0u32);
            say(call(
                libc::SYS_move_pages,
                &[pid, 1, &raw const place as usize, &raw const node as usize, &raw mut status as usize, 2],
            ));
        }
        "migrate-pages" => {
            let mask = 1u64;
            say(call(libc::SYS_migrate_pages, &[pid, 2, &raw const mask as usize, &raw const mask as usize]));
        }
        "oom-score" => say(write("oom_score_adj", "1000")),
        "oom-adjust" => say(write("oom_adj", "15")),
        "timer-slack" => say(write("timerslack_ns", "4000000000")),
        "clear-refs" => say(write("clear_refs", "1")),
        "comm" => say(write("comm", "harmless")),
        "core-filter" => say(write("coredump_filter", "0")),
        "oom-score-of-thread" => say(write(&format!("task/{host}/oom_score_adj"), "1000")),
        "oom-score-by-directory" => {
            let directory = open(&format!("/proc/{host}"), libc::O_PATH | libc::O_DIRECTORY).unwrap();
            say(crate::sys::openat(directory.as_raw_fd(), "oom_score_adj", libc::O_WRONLY).map(|_| 0));
        }
        // ---- its files ------------------------------------------------------
        "file" => file(more[0], more[1]),
        _ => panic!("no such attack on the host: {what}"),
    }
}

/// Damages a file of the host.
fn file(how: &str, path: &str) {
    let name = c(path);
    let other = c(&format!("{path}.attacked"));
    let (parent, _) = path.rsplit_once('/').unwrap();
    let here = libc::AT_FDCWD;
    say(match how {
        "write" => open(path, libc::O_WRONLY)
            .and_then(|file| check(unsafe { libc::write(file.as_raw_fd(), c"{}\n".as_ptr().cast(), 3) } as c_long)),
        "append" => open(path, libc::O_WRONLY | libc::O_APPEND).map(|_| 0),
        "open-truncate" => open(path, libc::O_RDONLY | libc::O_TRUNC).map(|_| 0),
        "create" => owned(unsafe { libc::creat(name.as_ptr(), 0o600) }).map(|_| 0),
        "truncate" => check(unsafe { libc::truncate(name.as_ptr(), 0) }),
        "unlink" => check(unsafe { libc::unlink(name.as_ptr()) }),
        "rename" => check(unsafe { libc::rename(name.as_ptr(), other.as_ptr()) }),
        "replace" => {
            std::fs::write(other.to_str().unwrap(), "harmless\n").unwrap();
            check(unsafe { libc::rename(other.as_ptr(), name.as_ptr()) })
        }
        "exchange" => {
            std::fs::write(other.to_str().unwrap(), "harmless\n").unwrap();
            check(unsafe { libc::renameat2(here, other.as_ptr(), here, name.as_ptr(), libc::RENAME_EXCHANGE) })
        }
        "rename-directory" => {
            let moved = c(&format!("{parent}.attacked"));
            check(unsafe { libc::rename(c(parent).as_ptr(), moved.as_ptr()) })
        }
        "link" => check(unsafe { libc::link(name.as_ptr(), other.as_ptr()) }),
        "chmod" => check(unsafe { libc::chmod(name.as_ptr(), 0o777) }),
        "create-inside" => {
            let new = c(&format!("{path}/new"));
            owned(unsafe { libc::creat(new.as_ptr(), 0o600) }).map(|_| 0)
        }
        "symlink" => {
            std::os::unix::fs::symlink(path, other.to_str().unwrap()).unwrap();
            open(other.to_str().unwrap(), libc::O_WRONLY | libc::O_TRUNC).map(|_| 0)
        }
        _ => panic!("no such damage: {how}"),
    });
}

/// Another thread of the host.
fn other_thread(host: c_int) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{host}/task")).unwrap();
    let mut ids = threads.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<usize>().unwrap());
    ids.find(|id| *id != host as usize).expect("the host has more than one thread")
}

/// The range of one of the host's mappings, as in map_files.
fn mapping(host: c_int, protection: &str) -> String {
    // Where the list cannot be read, a guess will do: the attempt counts.
    let maps = std::fs::read_to_string(format!("/proc/{host}/maps")).unwrap_or_default();
    let line = maps.lines().find(|line| line.contains(protection) && line.contains('/'));
    line.and_then(|line| line.split_once(' ')).map_or("400000-401000", |(range, _)| range).to_owned()
}

/// An address in the host at which it can write.
fn writable(host: c_int) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{host}/maps")).unwrap_or_default();
    let line = maps.lines().find(|line| line.contains("[heap]")).or(maps.lines().find(|line| line.contains("rw-p")));
    let start = line.and_then(|line| line.split_once('-')).map_or("400000", |(start, _)| start);
    usize::from_str_radix(start, 16).unwrap()
}

/// The host's descriptor of a file.
fn descriptor(host: c_int, path: &str) -> (c_int, String) {
    let entries = std::fs::read_dir(format!("/proc/{host}/fd")).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        if std::fs::read_link(entry.path()).is_ok_and(|target| target.to_str() == Some(path)) {
            return (entry.file_name().to_str().unwrap().parse().unwrap(), path.to_owned());
        }
    }
    panic!("the host has no descriptor of {path}");
}
