#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "mmap, fork and their like are what is looked at")]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::ptr;

use libc::c_int;

use super::*;
use crate::tracer::region::Region;

const ANONYMOUS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Pages of this process, unmapped when dropped.
struct Mapped {
    start: *mut u8,
    pages: usize,
}

impl Mapped {
    fn new(pages: usize, flags: c_int, fd: c_int) -> Self {
        let size = pages * page_size() as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let mapped = Self { start: start.cast(), pages };
        // Else a page can stand for many, which are said to be mapped as often.
        mapped.advise(libc::MADV_NOHUGEPAGE);
        // Other tests fork meanwhile.
        mapped.advise(libc::MADV_DONTFORK);
        mapped
    }

    fn advise(&self, advice: c_int) {
        // SAFETY: no advice used here changes what the memory holds. A kernel
        // without huge pages does not know the one against them.
        unsafe { libc::madvise(self.start.cast(), self.pages * page_size() as usize, advice) };
    }

    fn at(&self, page: usize) -> *mut u8 {
        // SAFETY: within the mapping, as the assertion says.
        unsafe {
            assert!(page < self.pages);
            self.start.add(page * page_size() as usize)
        }
    }

    fn write(&self, page: usize) -> &Self {
        // SAFETY: writable memory that nobody has a reference to.
        unsafe { self.at(page).write_volatile(1) };
        self
    }

    fn read(&self, page: usize) -> &Self {
        // SAFETY: as in `write`.
        unsafe { self.at(page).read_volatile() };
        self
    }

    fn is_private(&self, first: usize, pages: usize) -> bool {
        let first = self.at(first).addr() as u64 / page_size();
        own().pages(first, first + pages as u64 - 1) == Pages::Exclusive
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it exists.
        unsafe { libc::munmap(self.start.cast(), self.pages * page_size() as usize) };
    }
}

fn own() -> Pagemap {
    Pagemap::open(std::process::id() as pid_t).unwrap()
}

/// A file that has `pages` pages of content.
fn file(pages: usize) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; pages * page_size() as usize]).unwrap();
    file
}

#[test]
fn anonymous_memory() {
    let memory = Mapped::new(4, ANONYMOUS, -1);
    assert!(!memory.is_private(0, 1), "not present");
    memory.write(0);
    assert!(memory.is_private(0, 1));
    assert!(!memory.is_private(0, 2), "the second page is not present");
    memory.read(1);
    assert!(!memory.is_private(0, 2), "the page of zeros is everybody's");

    let shared = Mapped::new(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
    assert!(!shared.write(0).is_private(0, 1));
}

#[test]
fn memory_shared_with_a_relative_until_written() {
    let memory = Mapped::new(1, ANONYMOUS, -1);
    let file = file(1);
    let copied = Mapped::new(1, libc::MAP_PRIVATE, file.as_raw_fd());
    for mapped in [&memory, &copied] {
        mapped.write(0).advise(libc::MADV_DOFORK);
    }
    // SAFETY: the child makes system calls only.
    let child = unsafe {
        match libc::fork() {
            0 => loop {
                libc::pause();
            },
            child => child,
        }
    };
    assert!(child > 0, "{}", io::Error::last_os_error());
    let theirs = Pagemap::open(child).unwrap();
    let page = memory.at(0).addr() as u64 / page_size();
    let answers = [theirs.pages(page, page), own().pages(page, page)];
    // SAFETY: our own child, not yet waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    assert_eq!(answers, [Pages::AsMapped, Pages::AsMapped]);
    assert_eq!(theirs.pages(page, page), Pages::Other, "an address space that is gone");
    copied.advise(libc::MADV_DONTFORK);
    assert!(copied.write(0).is_private(0, 1), "a copy of its own again");
}

#[test]
fn files() {
    let file = file(3);
    let private = Mapped::new(3, libc::MAP_PRIVATE, file.as_raw_fd());
    assert!(!private.read(0).is_private(0, 1), "still the file's");
    assert!(private.write(1).is_private(1, 1), "copied when written");
    assert!(!private.is_private(0, 2) && !private.is_private(1, 2), "one page of the file among them");
    let shared = Mapped::new(3, libc::MAP_SHARED, file.as_raw_fd());
    assert!(!shared.write(0).is_private(0, 1));

    let region = Region::new().unwrap();
    let slot = region.slot(8).unwrap();
    slot.write(0, 0, b"x");
    let memfd = Mapped::new(1, libc::MAP_PRIVATE, region.descriptor().unwrap().as_raw_fd());
    assert!(!memfd.read(0).is_private(0, 1));
    let memfd = tempfile_in_memory();
    let memfd = Mapped::new(1, libc::MAP_SHARED, memfd.as_raw_fd());
    assert!(!memfd.write(0).is_private(0, 1));

    let literal = "a string literal lies in a page of the program's file";
    let page = literal.as_ptr().addr() as u64 / page_size();
    assert_eq!(own().pages(page, page), Pages::Other);
}

fn tempfile_in_memory() -> File {
    let file = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let file = File::from(file);
    file.set_len(page_size()).unwrap();
    file
}

#[test]
fn ranges() {
    let memory = Mapped::new(MOST + 2, ANONYMOUS, -1);
    for page in 0..memory.pages {
        memory.write(page);
    }
    let (own, start, page) = (own(), memory.at(0).addr() as u64, page_size());
    let tid = std::process::id() as pid_t;
    let (first, most) = (start / page, MOST as u64);
    assert_eq!(own.pages(first, first + most - 1), Pages::Exclusive);
    assert_eq!(own.pages(first, first + most), Pages::Other, "too many pages");
    for (address, length) in
        [(0, 1), (u64::MAX, 1), (u64::MAX, 2), (u64::MAX - page, 2), (start, u64::MAX), (1 << 63, 1)]
    {
        assert_eq!(own.settle(tid, address, length), Settled::Shared, "{length} bytes at {address:#x}");
    }
    assert_eq!(own.settle(tid, 0, 0), Settled::Already, "nothing to write to");
    assert_eq!(own.settle(tid, start + page - 1, 2), Settled::Already);
}
