//! Attacks on the page to which the host copies what was judged, and on the
//! room for it: `page WHAT ROOT ATTEMPTS` races the name of an `openat` as
//! `race thread` does, while WHAT happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{c_int, c_long, c_void};

use crate::memory::{self, Flipper};
use crate::race::{Call, repeat};
use crate::sys::{PAGE, Saw, Tally, c, check, errno, open, opened, pages};

/// Where the host maps its page.
const THEIRS: usize = 0x1_0000;

/// Calls on the page that changed it, or took it away.
static HITS: AtomicU64 = AtomicU64::new(0);

pub fn main(what: &str, root: &str, attempts: u64) {
    if what == "occupied" {
        // There first: a mapping of our own, which we can write.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let base = unsafe { libc::mmap(THEIRS as *mut c_void, 16 * PAGE, protection, flags, -1, 0) };
        assert_eq!(base as usize, THEIRS, "{}", crate::sys::name(errno()));
    }
    let mut call = Call::new("openat", root, None);
    // A thread needs a call that the host may have no room for.
    let mover = if what == "occupied" { "shared-anon" } else { "thread" };
    let mut arena = memory::start(mover, root, call.flip, &call.image);
    let base = arena.base;
    let secret = format!("{root}/s/file\0");
    let _second = (what != "occupied").then(|| {
        let (what, secret) = (what.to_owned(), secret.clone());
        Flipper::start(move |stop: &AtomicBool| {
            while !stop.load(Ordering::Relaxed) {
                assail(&what, secret.as_bytes());
            }
        })
    });
    // Room that malloc keeps, for the little that the tally needs.
    drop(vec![1u8; 100_000]);
    if what == "no-room" {
        let none = libc::rlimit { rlim_cur: 1, rlim_max: libc::RLIM_INFINITY };
        check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const none) }).unwrap();
    }
    let mut tally = Tally::default();
    let one_sided = ["no-room", "occupied"].contains(&what);
    repeat(attempts, one_sided, &mut tally, &mut || {
        arena.poke();
        if what == "occupied" {
            assail(what, secret.as_bytes());
        }
        (call.attempt)(base)
    });
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const all) }).unwrap();
    tally.print();
}

/// Tries to write to the page, to take it away, or to put another there.
fn assail(what: &str, secret: &[u8]) {
    let there = THEIRS as *mut c_void;
    let read_write = libc::PROT_READ | libc::PROT_WRITE;
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let done = |result: c_long| {
        if result >= 0 {
            HITS.fetch_add(1, Ordering::Relaxed);
        }
    };
    let call = |number: c_long, a: [usize; 6]| unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    unsafe {
        match what {
            "unmap" => done(libc::munmap(there, PAGE).into()),
            "unmap-around" => done(libc::munmap(PAGE as *mut c_void, 2 * THEIRS).into()),
            "unmap-from-zero" => done(libc::munmap(std::ptr::null_mut(), 64 * THEIRS).into()),
            "map-over-from-zero" => {
                // As far as the lowest address that a program may have.
                let flags = anonymous | libc::MAP_FIXED | libc::MAP_NORESERVE;
                let base = libc::mmap(std::ptr::null_mut(), 2 * THEIRS, read_write, flags, -1, 0);
                done(if base == libc::MAP_FAILED { -1 } else { 0 });
            }
            "remap-over-from-zero" => {
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                let page = pages(1);
                let base = libc::mremap(page.cast(), PAGE, 2 * THEIRS, flags, std::ptr::null_mut::<c_void>());
                if base == libc::MAP_FAILED {
                    libc::munmap(page.cast(), PAGE);
                } else {
                    done(0);
                }
            }
            // Where the arguments are not in registers, or not all.
            #[cfg(target_arch = "x86_64")]
            "map-over-by-structure" => {
                let low = pages_below_4g();
                let words = [THEIRS, PAGE, 3, 0x32, usize::MAX, 0].map(|word| word as u32);
                std::ptr::copy_nonoverlapping(words.as_ptr(), low.cast(), words.len());
                done(crate::abi::int80(90, [low as u64, 0, 0, 0, 0]));
                libc::munmap(low.cast(), PAGE);
            }
            #[cfg(target_arch = "x86_64")]
            "attach-over-by-ipc" => {
                let low = pages_below_4g();
                let id = libc::shmget(libc::IPC_PRIVATE, PAGE, 0o600);
                done(crate::abi::int80(117, [21, id as u64, libc::SHM_REMAP as u64, low as u64, THEIRS as u64]));
                libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
                libc::munmap(low.cast(), PAGE);
            }
            #[cfg(target_arch = "x86_64")]
            "unmap-upper-half" => {
                done(crate::abi::int80(91, [crate::abi::RUBBISH | THEIRS as u64, PAGE as u64, 0, 0, 0]))
            }
            #[cfg(target_arch = "x86_64")]
            "map-over-upper-half" => {
                let place = crate::abi::RUBBISH | THEIRS as u64;
                let base = crate::abi::int80(192, [place, PAGE as u64, 3, 0x32, u64::MAX]);
                done(base);
                if base as usize == THEIRS {
                    std::ptr::copy_nonoverlapping(secret.as_ptr(), THEIRS as *mut u8, secret.len());
                }
            }
            "advise-by-descriptor" => {
                let fd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as usize;
                let place = libc::iovec { iov_base: there, iov_len: PAGE };
                let advice = libc::MADV_DONTNEED as usize;
                done(call(libc::SYS_process_madvise, [fd, &raw const place as usize, 1, advice, 0, 0]));
                libc::close(fd as c_int);
            }
            "protect" => {
                done(libc::mprotect(there, PAGE, read_write).into());
                done(libc::mprotect(there, 16 * PAGE, libc::PROT_NONE).into());
            }
            "protect-pkey" => done(libc::syscall(libc::SYS_pkey_mprotect, there, PAGE, libc::PROT_NONE, -1)),
            "map-over" => {
                let base = libc::mmap(there, PAGE, read_write, anonymous | libc::MAP_FIXED, -1, 0);
                if base as usize == THEIRS {
                    done(0);
                    std::ptr::copy_nonoverlapping(secret.as_ptr(), base.cast(), secret.len());
                }
            }
            // From below it, into it.
            "map-across" => {
                let base = libc::mmap(0xf000 as *mut c_void, 2 * PAGE, read_write, anonymous | libc::MAP_FIXED, -1, 0);
                done(if base == libc::MAP_FAILED { -1 } else { 0 });
            }
            "remap-away" => {
                let base = libc::mremap(there, PAGE, 2 * PAGE, libc::MREMAP_MAYMOVE);
                done(if base == libc::MAP_FAILED { -1 } else { 0 });
            }
            "remap-over" => {
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                let page = pages(1);
                std::ptr::copy_nonoverlapping(secret.as_ptr(), page, secret.len());
                let base = libc::mremap(page.cast(), PAGE, PAGE, flags, there);
                if base == libc::MAP_FAILED {
                    libc::munmap(page.cast(), PAGE);
                } else {
                    done(0);
                }
            }
            "remap-duplicate" => {
                // A second mapping of the same pages, elsewhere.
                let base = libc::mremap(there, 0, PAGE, libc::MREMAP_MAYMOVE);
                if base != libc::MAP_FAILED {
                    done(libc::mprotect(base, PAGE, read_write).into());
                    libc::munmap(base, PAGE);
                }
            }
            "discard" => {
                for advice in
                    [libc::MADV_DONTNEED, libc::MADV_REMOVE, libc::MADV_FREE, 22 /* MADV_POPULATE_READ */]
                {
                    libc::madvise(there, PAGE, advice);
                }
            }
            "file-pages" => done(call(libc::SYS_remap_file_pages, [THEIRS, PAGE, 0, 1, 0, 0])),
            "attach-over" => {
                let id = libc::shmget(libc::IPC_PRIVATE, PAGE, 0o600);
                let base = libc::shmat(id, there, libc::SHM_REMAP);
                libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
                if base as usize == THEIRS {
                    done(0);
                    std::ptr::copy_nonoverlapping(secret.as_ptr(), base.cast(), secret.len());
                }
            }
            // All of it writes as the kernel does, past the protection.
            "write-by-mem" => {
                if let Ok(memory) = open("/proc/self/mem", libc::O_RDWR) {
                    use std::os::fd::AsRawFd;
                    let fd = memory.as_raw_fd();
                    done(libc::pwrite(fd, secret.as_ptr().cast(), secret.len(), THEIRS as i64) as c_long);
                }
            }
            "write-by-vm" => {
                let local = libc::iovec { iov_base: secret.as_ptr().cast_mut().cast(), iov_len: secret.len() };
                let remote = libc::iovec { iov_base: there, iov_len: secret.len() };
                done(libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) as c_long);
            }
            // The kernel writes a result there.
            "write-by-kernel" => {
                let mut pipe = [0; 2];
                libc::pipe(pipe.as_mut_ptr());
                libc::write(pipe[1], secret.as_ptr().cast(), secret.len());
                done(libc::read(pipe[0], there, secret.len()) as c_long);
                libc::close(pipe[0]);
                libc::close(pipe[1]);
            }
            "map-files" => map_files(secret),
            "occupied" => std::ptr::copy_nonoverlapping(secret.as_ptr(), there.cast(), secret.len()),
            "no-room" => {
                std::hint::spin_loop();
            }
            "remap-stack" => {
                // Grows a mapping down towards it.
                let flags = anonymous | libc::MAP_GROWSDOWN | libc::MAP_FIXED_NOREPLACE;
                let base = libc::mmap((THEIRS + PAGE) as *mut c_void, PAGE, read_write, flags, -1, 0);
                if base != libc::MAP_FAILED {
                    libc::munmap(base, PAGE);
                }
            }
            _ => panic!("no such assault: {what}"),
        }
    }
}

/// A page that a 32-bit call can name.
#[cfg(target_arch = "x86_64")]
pub fn pages_below_4g() -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let base = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    base.cast()
}

/// Reopens what is mapped there for writing.
fn map_files(secret: &[u8]) {
    use std::os::fd::AsRawFd;
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Some(range) = maps
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(range, _)| range)
        .find(|range| range.starts_with("00010000") || range.starts_with("10000-"))
    else {
        return;
    };
    let file = open(&format!("/proc/self/map_files/{}", range.trim_start_matches('0')), libc::O_RDWR);
    if let Ok(file) = file {
        HITS.fetch_add(1, Ordering::Relaxed);
        unsafe { libc::pwrite(file.as_raw_fd(), secret.as_ptr().cast(), secret.len(), 0) };
    }
}

/// A page that can be read now and then: `unreadable WHAT ROOT ATTEMPTS`.
/// What it holds is the secret's name, always.
pub fn unreadable(what: &str, root: &str, attempts: u64) {
    let path = format!("{root}/s/file");
    let page = pages(1) as usize;
    let fill = move || {
        let path = c(&path);
        let bytes = path.as_bytes_with_nul();
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), page as *mut u8, bytes.len()) };
    };
    fill();
    let protect = move |protection: c_int| unsafe { libc::mprotect(page as *mut c_void, PAGE, protection) };
    let what = what.to_owned();
    let _mover = Flipper::start(move |stop: &AtomicBool| {
        let here = page as *mut c_void;
        let scratch = pages(1);
        let read_write = libc::PROT_READ | libc::PROT_WRITE;
        while !stop.load(Ordering::Relaxed) {
            unsafe {
                match what.as_str() {
                    "protect" => {
                        libc::mprotect(here, PAGE, libc::PROT_NONE);
                        libc::mprotect(here, PAGE, read_write);
                    }
                    "remap" => {
                        // Away and back again, with its contents.
                        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                        libc::mremap(here, PAGE, PAGE, flags, scratch);
                        libc::mremap(scratch.cast(), PAGE, PAGE, flags, here);
                    }
                    _ => panic!("no such page: {what}"),
                }
            }
        }
        protect(read_write);
    });
    let mut tally = Tally::default();
    repeat(attempts, true, &mut tally, &mut || match opened(unsafe {
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, page, libc::O_RDONLY, 0)
    }) {
        Saw::Other(libc::EFAULT) => Saw::Denied,
        saw => saw,
    });
    tally.print();
}
