//! Memory that the host writes and tracees can only read.
//!
//! What a verdict was about lies in the tracee's memory, where another thread
//! or process can change it before the kernel looks. So it is copied to where
//! only the host can write, and the register is pointed there: a memfd, mapped
//! writable here and then sealed, and mapped read-only in each tracee at the
//! bottom of its address space. Once sealed (`F_SEAL_FUTURE_WRITE`, Linux 5.1,
//! `F_ADD_SEALS` in fcntl(2)) nobody gets a writable shared mapping of it any
//! more, not by mprotect(2) either, and neither write(2) nor a hole punched
//! changes it; ptrace(2) and `/proc/PID/mem` cannot write to a shared mapping
//! that may not be made writable.
//!
//! What is left to a tracee is to unmap the region or to map something else
//! there. [`Region::is_mapped_in`] tells whether it did; to keep it from doing
//! so between that look and the call is the caller's work.
//!
//! A tracee that cannot be given the memfd has a *private* region instead:
//! anonymous memory of its own at the same place, mapped read-only, into which
//! the host writes by ptrace. What protects it is that calls which change
//! mappings there are refused; who can write to `/proc/PID/mem` of the tracee
//! can write to it, so that it is no use once somebody may.
//!
//! A tracee can read all of the region. Room that is given back is cleared, so
//! that it sees no more than the calls under way of those it shares it with.
//!
//! The bytes are never behind a reference: tracees read them at any time.
#![allow(unsafe_code, reason = "memfd_create, mmap, and a mapping that others read")]

use std::cell::RefCell;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use libc::{c_int, c_uint, pid_t};

use super::descriptors;
use super::mappings::{Mapping, Piece, mappings};
use super::sys;

/// Where the region lies in every tracee. It is above what `vm.mmap_min_addr`
/// usually forbids (64 KiB), and [`END`] is below where position-dependent
/// programs start (`0x40_0000`).
pub(super) const BASE: u64 = 0x1_0000;
/// Its size, a multiple of every page size.
pub(super) const SIZE: usize = 2 << 20;
/// First address after it.
pub(super) const END: u64 = BASE + SIZE as u64;

/// What room is given out in: structures need no more alignment, and no two
/// calls share a cache line.
const UNIT: usize = 64;
const UNITS: usize = SIZE / UNIT;

pub(super) const NAME: &CStr = c"tracegate";
const SEALS: c_int = libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// Memory that the host writes and tracees can only read. Used from one
/// thread.
#[derive(Debug)]
pub(super) struct Region {
    backing: Backing,
    room: RefCell<Room>,
}

#[derive(Debug)]
enum Backing {
    Sealed(Sealed),
    /// Memory of each tracee's own.
    Private,
}

#[derive(Debug)]
struct Sealed {
    file: File,
    /// Device numbers and inode, as a list of mappings shows them.
    identity: ((u32, u32), u64),
    /// Where it is mapped here, `SIZE` bytes, writable.
    start: NonNull<u8>,
    _quota: descriptors::Quota,
}

/// What a private region begins with.
const SIGN: [u8; UNIT] = *b"Memory of the tracer, which reads and writes it: leave it alone\0";

impl Region {
    /// A region without content, in a sealed memfd.
    pub(super) fn new() -> io::Result<Rc<Self>> {
        let quota = descriptors::Quota::take(descriptors::Purpose::Regions);
        let quota = quota.ok_or_else(|| io::Error::other("enough descriptors are kept"))?;
        let file = memfd()?;
        file.set_len(SIZE as u64)?;
        let found = file.metadata()?;
        let identity = ((libc::major(found.dev()), libc::minor(found.dev())), found.ino());
        let start = map_writable(&file)?;
        let sealed = Sealed { file, identity, start, _quota: quota };
        seal(&sealed.file)?;
        Ok(Rc::new(Self { backing: Backing::Sealed(sealed), room: RefCell::new(Room::empty()) }))
    }

    /// A private one.
    pub(super) fn private() -> Rc<Self> {
        let mut room = Room::empty();
        room.take(1, 1);
        Rc::new(Self { backing: Backing::Private, room: RefCell::new(room) })
    }

    /// The memfd, for a tracee to map `PROT_READ`, `MAP_SHARED` at [`BASE`];
    /// none if the region is private.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::Sealed(sealed) => Some(sealed.file.as_fd()),
            Backing::Private => None,
        }
    }

    /// Whether it is private.
    pub(super) fn is_private(&self) -> bool {
        matches!(self.backing, Backing::Private)
    }

    /// Marks a private region that task `tid`, which is stopped, has mapped;
    /// whether it could.
    pub(super) fn sign(&self, tid: pid_t) -> bool {
        !self.is_private() || sys::poke_all(tid, BASE, &SIGN)
    }

    /// Whether task `tid` has all of the region at [`BASE`] and nothing else
    /// there, readable and not writable. False if that cannot be told.
    ///
    /// The answer is old as soon as somebody runs who shares its memory.
    pub(super) fn is_mapped_in(&self, tid: pid_t) -> bool {
        let Ok(mappings) = mappings(tid, Piece::Few) else { return false };
        let mut covered = BASE;
        for mapping in mappings {
            let Ok(mapping) = mapping else { return false };
            if mapping.end <= BASE {
                continue;
            }
            // Of one mapping there can be several pieces (madvise(2), mlock(2)).
            if mapping.start != covered || !self.is_piece(&mapping) {
                return false;
            }
            covered = mapping.end;
            if covered >= END {
                return self.is_signed_in(tid);
            }
        }
        false
    }

    fn is_piece(&self, mapping: &Mapping) -> bool {
        let (shared, identity, offset) = match &self.backing {
            Backing::Sealed(sealed) => (true, sealed.identity, mapping.start - BASE),
            Backing::Private => (false, ((0, 0), 0), 0),
        };
        mapping.readable
            && !mapping.writable
            && mapping.shared == shared
            && mapping.offset == offset
            && (mapping.device, mapping.inode) == identity
    }

    fn is_signed_in(&self, tid: pid_t) -> bool {
        let mut sign = [0; UNIT];
        !self.is_private() || (sys::read_memory(tid, BASE, &mut sign) == UNIT && sign == SIGN)
    }

    /// Room for `size` bytes; `None` if there is none.
    ///
    /// Large room is aligned as `O_DIRECT` wants it of a buffer (open(2)), so
    /// that one that was aligned still is when it was moved here.
    pub(super) fn slot(self: &Rc<Self>, size: usize) -> Option<Slot> {
        let alignment = match size {
            4096.. => 4096,
            512.. => 512,
            _ => UNIT,
        };
        let units = size.div_ceil(UNIT).max(1);
        let first = self.room.borrow_mut().take(units, alignment / UNIT)?;
        Some(Slot { region: self.clone(), first, units })
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        // SAFETY: `start` is a mapping of `SIZE` bytes that is ours alone, and
        // no slot is left: each holds the region.
        unsafe { libc::munmap(self.start.as_ptr().cast(), SIZE) };
    }
}

/// Room of the region, cleared and given back when dropped. To be dropped only
/// when the call that reads it is over.
#[derive(Debug)]
pub(super) struct Slot {
    region: Rc<Region>,
    /// In units.
    first: usize,
    units: usize,
}

impl Slot {
    /// Where a tracee sees it.
    pub(super) fn address(&self) -> u64 {
        BASE + (self.first * UNIT) as u64
    }

    /// Bytes that it has room for: what was asked for or up to 63 more.
    pub(super) fn size(&self) -> usize {
        self.units * UNIT
    }

    /// Writes `bytes` at `offset`, for task `tid`, which is stopped, to read;
    /// whether it could. Other tracees have them too, or not.
    ///
    /// # Panics
    /// If they do not fit: the room was asked for by who knows their length.
    pub(super) fn write(&self, tid: pid_t, offset: usize, bytes: &[u8]) -> bool {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.size()), "{} bytes at {offset} of {}", bytes.len(), self.size());
        let Some(start) = self.start() else {
            return sys::poke_all(tid, self.address() + offset as u64, bytes);
        };
        // SAFETY: the bytes go into this slot, as the assertion says, which
        // nobody else here writes to and nobody has a reference to.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start.add(offset), bytes.len()) };
        true
    }

    /// Where it is here, if it is not private.
    fn start(&self) -> Option<*mut u8> {
        let Backing::Sealed(sealed) = &self.region.backing else { return None };
        // SAFETY: `first` is a unit of the region's mapping, which lives as
        // long as the region that we hold.
        Some(unsafe { sealed.start.as_ptr().add(self.first * UNIT) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(start) = self.start() {
            // SAFETY: as in `write`.
            unsafe { ptr::write_bytes(start, 0, self.size()) };
        }
        self.region.room.borrow_mut().give_back(self.first, self.units);
    }
}

/// Which units are in use.
#[derive(Debug)]
struct Room {
    used: Vec<bool>,
    free: usize,
    /// Where to look first: after what was given out last.
    next: usize,
}

impl Room {
    fn empty() -> Self {
        Self { used: vec![false; UNITS], free: UNITS, next: 0 }
    }

    /// Takes `units` adjacent ones; the first is a multiple of `alignment`.
    fn take(&mut self, units: usize, alignment: usize) -> Option<usize> {
        self.free.checked_sub(units)?;
        let first = self.find(self.next, UNITS, units, alignment).or_else(|| {
            let end = (self.next + units).min(UNITS);
            self.find(0, end, units, alignment)
        })?;
        self.used[first..first + units].fill(true);
        self.free -= units;
        self.next = first + units;
        Some(first)
    }

    /// The first free run between `from` and `to`. Looks at no unit more than
    /// twice.
    fn find(&self, from: usize, to: usize, units: usize, alignment: usize) -> Option<usize> {
        let mut first = from.next_multiple_of(alignment);
        while first + units <= to {
            match self.used[first..first + units].iter().rposition(|used| *used) {
                None => return Some(first),
                Some(last) => first = (first + last + 1).next_multiple_of(alignment),
            }
        }
        None
    }

    fn give_back(&mut self, first: usize, units: usize) {
        self.used[first..first + units].fill(false);
        self.free += units;
    }
}

/// Size of a page.
pub(super) fn page_size() -> u64 {
    // SAFETY: the call has no operand in memory.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).expect("the page size is always known")
}

/// An empty memfd that can be sealed.
fn memfd() -> io::Result<File> {
    let create = |flags: c_uint| {
        // SAFETY: the name is NUL-terminated, and a descriptor that the call
        // returns belongs to nobody else.
        unsafe {
            match libc::memfd_create(NAME.as_ptr(), flags) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(File::from_raw_fd(fd)),
            }
        }
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match create(flags | libc::MFD_NOEXEC_SEAL) {
        // Linux before 6.3 does not know it.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(flags),
        created => created,
    }
}

fn map_writable(file: &File) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe {
        libc::mmap(ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(start.cast()).expect("mmap chooses no address 0"))
}

fn seal(file: &File) -> io::Result<()> {
    // SAFETY: the call has no operand in memory.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
