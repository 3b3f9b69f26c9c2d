//! Who else could write to a page of a tracee: nobody outside its address
//! space, if the page is private.
//!
//! `/proc/PID/pagemap` has a word for each page
//! (Documentation/admin-guide/mm/pagemap.rst). A page that is present,
//! anonymous and mapped exactly once is one that its address space had to
//! itself since it was last written: a private mapping of a file shows the
//! file's page until then.
//!
//! One that is mapped more than once is shared with a relative since fork(2),
//! copied before anybody writes to it; but pages that the kernel has no record
//! of look the same, among them those of a file on a DAX device, which are
//! shared in earnest (`vm_normal_page` in mm/memory.c answers none, so
//! `pagemap` does not say "file"). Then the list of mappings decides.
//!
//! What this does not tell: whether the address space itself has other
//! writers. Those are threads, a vfork(2) parent, `process_vm_writev(2)`,
//! ptrace(2), `/proc/PID/mem`, and requests of its own that the kernel still
//! works on (`io_uring`, `io_submit(2)`).

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bstr::BString;
use libc::pid_t;

use super::mappings::Maps;
use super::region::page_size;
use super::sys;

/// Bytes of a page's word.
const WORD: usize = 8;
/// Most pages that are looked at.
const MOST: usize = 64;

/// In memory.
const PRESENT: u64 = 1 << 63;
/// In swap. It would have to be fetched first.
const SWAPPED: u64 = 1 << 62;
/// Of a file, or shared anonymous memory.
const FILE: u64 = 1 << 61;
/// Mapped once, by nobody else (Linux 4.2).
const EXCLUSIVE: u64 = 1 << 56;

/// The address space that a task had when this was opened. After an execve(2)
/// it has another: open it anew.
#[derive(Debug)]
pub(super) struct Pagemap {
    words: File,
    /// None if it cannot be opened.
    maps: OnceCell<Option<Maps>>,
}

/// What [`Pagemap::settle`] came to, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Settled {
    /// The pages were the address space's own.
    Already,
    /// They are now. What was read before may have changed.
    Copied,
    /// They are not.
    Shared,
}

/// What the words of some pages say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    /// Anonymous, and mapped by nobody else.
    Exclusive,
    /// Anonymous, and mapped by relatives too, or special.
    AsMapped,
    /// Not in memory, or of a file.
    Other,
}

impl Pagemap {
    /// Of the address space of task `tid`, which the caller must be allowed to
    /// trace.
    pub(super) fn open(tid: pid_t) -> io::Result<Self> {
        Ok(Self { words: File::open(format!("/proc/{tid}/pagemap"))?, maps: OnceCell::new() })
    }

    fn maps(&self, tid: pid_t) -> Option<&Maps> {
        self.maps.get_or_init(|| Maps::open(tid).ok()).as_ref()
    }

    /// The file that is mapped at `address`, and its inode; `tid` lives there.
    pub(super) fn file_at(&self, tid: pid_t, address: u64) -> Option<(BString, u64)> {
        let mapped = self.maps(tid)?.at(address, true).ok()??;
        mapped.file.map(|file| (file, mapped.inode))
    }

    /// Sees to it that all pages of the `length` bytes at `address` are the
    /// address space's own: those that it still shares with a relative or,
    /// mapped privately, with a file are copied, by writing a word of theirs
    /// back. Task `tid` is stopped, and nobody else who runs lives in the address
    /// space.
    pub(super) fn settle(&self, tid: pid_t, address: u64, length: u64) -> Settled {
        let Some(last) = length.checked_sub(1) else { return Settled::Already };
        let Some(last) = address.checked_add(last) else { return Settled::Shared };
        let (first_page, last_page) = (address / page_size(), last / page_size());
        let pages = self.pages(first_page, last_page);
        if pages == Pages::Exclusive {
            return Settled::Already;
        }
        if pages == Pages::Other && !self.is_mapped_privately(tid, address, last) {
            return Settled::Shared;
        }
        let alone = first_page == last_page;
        for page in (first_page..=last_page).take(MOST) {
            let word = address.max(page * page_size()) & !7;
            let mut bytes = [0; 8];
            let read = sys::read_memory(tid, word, &mut bytes) == bytes.len();
            if (alone || self.pages(page, page) != Pages::Exclusive)
                && !(read && sys::poke(tid, word, u64::from_ne_bytes(bytes)).is_ok())
            {
                return Settled::Shared;
            }
        }
        match self.pages(first_page, last_page) {
            Pages::Exclusive => Settled::Copied,
            _ => Settled::Shared,
        }
    }

    /// Whether everything from `first` to `last` is mapped privately.
    fn is_mapped_privately(&self, tid: pid_t, first: u64, last: u64) -> bool {
        let Some(maps) = self.maps(tid) else { return false };
        let mut next = first;
        // Each mapping has a page, at least.
        for _ in 0..MOST {
            match maps.at(next, false) {
                Ok(Some(mapped)) if !mapped.shared && mapped.end > last => return true,
                Ok(Some(mapped)) if !mapped.shared => next = mapped.end,
                _ => return false,
            }
        }
        false
    }

    /// One read, whatever their number.
    fn pages(&self, first: u64, last: u64) -> Pages {
        let mut words = [0; MOST * WORD];
        let count = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
        let Some(words) = words.get_mut(..count.saturating_mul(WORD)) else { return Pages::Other };
        if self.words.read_exact_at(words, first * WORD as u64).is_err() {
            return Pages::Other;
        }
        let mut answer = Pages::Exclusive;
        for word in words.as_chunks::<WORD>().0 {
            let word = u64::from_ne_bytes(*word);
            if word & (PRESENT | SWAPPED | FILE) != PRESENT {
                return Pages::Other;
            }
            if word & EXCLUSIVE == 0 {
                answer = Pages::AsMapped;
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests;
