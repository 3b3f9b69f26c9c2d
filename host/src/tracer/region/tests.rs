#![allow(clippy::unwrap_used)]

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;

/// A child that prepares its memory and then stops.
struct Child(Pid);

impl Child {
    /// A child that stops once `prepare` has succeeded, and exits with 0 if
    /// `then` is true when it is continued. Both are to make system calls only.
    fn new(prepare: impl FnOnce() -> bool, then: impl FnOnce() -> bool) -> Self {
        // SAFETY: the child makes system calls only, then exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe {
                if !prepare() {
                    libc::_exit(2);
                }
                libc::raise(libc::SIGSTOP);
                libc::_exit(i32::from(!then()));
            }
        }
        assert!(pid > 0, "{}", io::Error::last_os_error());
        let pid = Pid::from_raw(pid);
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP), "the child could not prepare its memory");
        Self(pid)
    }

    fn with(prepare: impl FnOnce() -> bool) -> Self {
        Self::new(prepare, || true)
    }
}

impl Child {
    /// Lets it go on, and says whether it was content.
    fn finish(self) -> bool {
        kill(self.0, Signal::SIGCONT).unwrap();
        let ended = waitpid(self.0, None).unwrap();
        let content = ended == WaitStatus::Exited(self.0, 0);
        // Its number is no longer its own.
        std::mem::forget(self);
        content
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// mmap(2) at a fixed address.
fn map(at: u64, size: usize, protection: c_int, flags: c_int, fd: c_int, offset: u64) -> bool {
    let at = at as usize as *mut c_void;
    // SAFETY: only called by children, which use none of what they replace.
    let mapped = unsafe { libc::mmap(at, size, protection, flags, fd, offset as libc::off_t) };
    mapped == at
}

/// As a tracee maps it.
fn map_region(fd: c_int) -> bool {
    map(BASE, SIZE, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE, fd, 0)
}

const ANONYMOUS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;

fn file(region: &Region) -> &File {
    match &region.backing {
        Backing::Sealed(sealed) => &sealed.file,
        Backing::Private => panic!("it has no file"),
    }
}

#[test]
fn lies_between_forbidden_addresses_and_programs() {
    const { assert!(BASE >= 0x1_0000 && END <= 0x40_0000) };
    // 64 KiB is the largest page.
    assert_eq!((BASE % 0x1_0000, SIZE % 0x1_0000), (0, 0));
    assert_eq!(page_size() % 4096, 0);
}

#[test]
fn nobody_else_can_write() {
    let region = Region::new().unwrap();
    let slot = region.slot(8).unwrap();
    slot.write(0, 0, b"judged");
    let fd = region.descriptor().unwrap().as_raw_fd();
    let failure = |done: bool| (!done).then(|| io::Error::last_os_error().raw_os_error().unwrap());

    // SAFETY: new mappings of our own, read through raw pointers.
    unsafe {
        let mmap = |protection| libc::mmap(ptr::null_mut(), SIZE, protection, libc::MAP_SHARED, fd, 0);
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        assert_eq!(failure(mmap(writable) != libc::MAP_FAILED), Some(libc::EPERM), "mmap");
        let seen = mmap(libc::PROT_READ);
        assert_ne!(seen, libc::MAP_FAILED);
        assert_eq!(failure(libc::mprotect(seen, SIZE, writable) == 0), Some(libc::EACCES), "mprotect");
        assert_eq!(failure(libc::madvise(seen, SIZE, libc::MADV_REMOVE) == 0), Some(libc::EACCES), "madvise");
        let first = seen.cast::<u8>().add((slot.address() - BASE) as usize);
        assert_eq!(first.read_volatile(), b'j');
        slot.write(0, 0, b"later");
        assert_eq!(first.read_volatile(), b'l', "what the host writes shows at once");
        libc::munmap(seen, SIZE);
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        assert_eq!(failure(libc::fallocate(fd, punch, 0, 4096) == 0), Some(libc::EPERM), "fallocate");
        assert_eq!(failure(libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE) != -1), Some(libc::EPERM), "seal");
        assert_eq!(libc::fcntl(fd, libc::F_GETFD), libc::FD_CLOEXEC);
        assert_eq!(libc::fcntl(fd, libc::F_GET_SEALS) & SEALS, SEALS);
    }
    let written = file(&region).write(b"x").unwrap_err();
    assert_eq!(written.raw_os_error(), Some(libc::EPERM), "write");
    let anew = OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}"));
    let anew = anew.and_then(|file| file.write_at(b"x", 0)).unwrap_err();
    assert!(matches!(anew.raw_os_error(), Some(libc::EPERM | libc::EACCES)), "opened anew: {anew}");
    for size in [0, 2 * SIZE as u64] {
        assert_eq!(file(&region).set_len(size).unwrap_err().raw_os_error(), Some(libc::EPERM), "ftruncate");
    }
}

#[test]
fn a_tracee_reads_what_is_written_later() {
    let region = Region::new().unwrap();
    let slot = region.slot(100).unwrap();
    slot.write(0, 0, b"before");
    let (fd, address) = (region.descriptor().unwrap().as_raw_fd(), slot.address());
    let child = Child::new(
        || map_region(fd),
        move || {
            let at = address as usize as *const u8;
            // SAFETY: within what was mapped.
            b"after".iter().enumerate().all(|(offset, byte)| unsafe { at.add(64 + offset).read_volatile() } == *byte)
        },
    );
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", child.0)).unwrap();
    let mut seen = [0; 6];
    memory.read_exact_at(&mut seen, address).unwrap();
    assert_eq!(&seen, b"before");
    assert_eq!(memory.write_at(b"x", address).unwrap_err().raw_os_error(), Some(libc::EIO), "/proc/PID/mem");

    slot.write(0, 64, b"after");
    assert!(child.finish(), "the child saw something else");
}

#[test]
fn mapped_is_all_of_it_and_nothing_else() {
    let region = Region::new().unwrap();
    let other = Region::new().unwrap();
    let page = page_size();
    let fd = region.descriptor().unwrap().as_raw_fd();
    let is_mapped = |prepare: &dyn Fn() -> bool| region.is_mapped_in(Child::with(prepare).0.as_raw());
    // SAFETY: only called by children, which use none of what they change.
    let advise = |offset, size, advice| unsafe { libc::madvise((BASE + offset) as *mut c_void, size, advice) == 0 };

    assert!(is_mapped(&|| map_region(fd)));
    assert!(is_mapped(&|| map_region(fd) && advise(3 * page, page as usize, libc::MADV_DONTFORK)), "in pieces");
    assert!(is_mapped(&|| map_region(fd) && map(END, page as usize, libc::PROT_NONE, ANONYMOUS, -1, 0)), "more after");
    assert!(is_mapped(
        &|| map_region(fd) && map(END, page as usize, 1, libc::MAP_SHARED | libc::MAP_FIXED, fd, SIZE as u64)
    ));

    assert!(!is_mapped(&|| true), "nothing");
    assert!(!is_mapped(&|| map_region(other.descriptor().unwrap().as_raw_fd())), "another file");
    for offset in [0, 5 * page, SIZE as u64 - page] {
        let at = BASE + offset;
        let over = |protection| map_region(fd) && map(at, page as usize, protection, ANONYMOUS, -1, 0);
        assert!(!is_mapped(&|| over(libc::PROT_READ)), "page {offset:#x} replaced");
        // SAFETY: as above.
        assert!(!is_mapped(&|| map_region(fd) && unsafe { libc::munmap(at as *mut c_void, page as usize) == 0 }));
        // SAFETY: as above.
        let hide =
            || map_region(fd) && unsafe { libc::mprotect(at as *mut c_void, page as usize, libc::PROT_NONE) == 0 };
        assert!(!is_mapped(&hide), "page {offset:#x} hidden");
        let elsewhere = (offset + page) % SIZE as u64;
        let swapped = || {
            map_region(fd) && map(at, page as usize, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_FIXED, fd, elsewhere)
        };
        assert!(!is_mapped(&swapped), "page {offset:#x} is another of the region");
    }
    let fixed = libc::MAP_FIXED_NOREPLACE;
    assert!(!is_mapped(&|| map(BASE, SIZE, libc::PROT_READ, libc::MAP_SHARED | fixed, fd, page)), "offset");
    assert!(!is_mapped(&|| map(BASE + page, SIZE, libc::PROT_READ, libc::MAP_SHARED | fixed, fd, 0)), "address");
    assert!(!is_mapped(&|| map(BASE, SIZE, libc::PROT_READ, libc::MAP_PRIVATE | fixed, fd, 0)), "private");
    assert!(!is_mapped(&|| map(BASE, SIZE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | fixed, fd, 0)));
    assert!(!region.is_mapped_in(-1), "no such task");
}

/// The units of slots, which must not overlap.
fn disjoint(slots: &[Slot]) -> bool {
    let mut ranges: Vec<_> = slots.iter().map(|slot| slot.address()..slot.address() + slot.size() as u64).collect();
    ranges.sort_by_key(|range| range.start);
    ranges.first().is_none_or(|first| first.start >= BASE)
        && ranges.last().is_none_or(|last| last.end <= END)
        && ranges.is_sorted_by(|one, two| one.end <= two.start)
}

#[test]
fn room_is_given_out_once_and_comes_back() {
    let region = Region::new().unwrap();
    let mut slots = Vec::new();
    for size in [0, 1, 64, 65, 100, 511, 512, 513, 4095, 4096, 4097, 5000] {
        let slot = region.slot(size).unwrap();
        assert!(slot.size() >= size && slot.size() < size + 64 + usize::from(size == 0), "{size}");
        let alignment = if size >= 4096 {
            4096
        } else if size >= 512 {
            512
        } else {
            64
        };
        assert_eq!(slot.address() % alignment, 0, "{size}");
        slots.push(slot);
    }
    assert!(disjoint(&slots));

    while let Some(slot) = region.slot(4096) {
        slots.push(slot);
    }
    while let Some(slot) = region.slot(64) {
        slots.push(slot);
    }
    assert!(disjoint(&slots));
    assert_eq!(slots.iter().map(Slot::size).sum::<usize>(), SIZE, "none is lost");
    assert!(region.slot(1).is_none());

    let middle = slots.len() / 2;
    let address = slots.remove(middle).address();
    assert_eq!(region.slot(1).unwrap().address(), address, "only there is room, and it comes back");
    slots.clear();
    for size in [SIZE + 1, usize::MAX] {
        assert!(region.slot(size).is_none());
    }
    assert_eq!(region.slot(SIZE).unwrap().address(), BASE);
}

#[test]
fn what_is_given_back_is_cleared() {
    let region = Region::new().unwrap();
    let slot = region.slot(100).unwrap();
    slot.write(0, 28, &[7; 100]);
    let mut content = [0; 128];
    let offset = slot.address() - BASE;
    file(&region).read_exact_at(&mut content, offset).unwrap();
    assert_eq!((content[27], content[28], content[127]), (0, 7, 7));
    drop(slot);
    file(&region).read_exact_at(&mut content, offset).unwrap();
    assert_eq!(content, [0; 128]);
}

#[test]
#[should_panic(expected = "65 bytes at 0 of 64")]
fn nothing_is_written_beyond_a_slot() {
    Region::new().unwrap().slot(64).unwrap().write(0, 0, &[0; 65]);
}
