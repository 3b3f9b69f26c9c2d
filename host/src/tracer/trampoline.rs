//! Where a task makes calls that are not its own ([`super::errand`]).
//!
//! Not at its own instruction: if we died meanwhile the task would go on behind
//! it, with the result of a call that it never made. So the call is made by code
//! of ours in the padding after the task's vDSO (vdso(7)), memory that every
//! program has, executes and never looks at. Without a tracer the code undoes
//! what was done and leads to the task's own call, which it then makes itself.
//!
//! Only one task of an address space may be here at a time.
//!
//! If the vDSO is missing, has been moved over or has no room, there is no
//! trampoline.

use std::ops::Range;

use libc::pid_t;

use super::arch::{self, Registers};
use super::{procfs, sys};

/// Size of the page in which calls find their structures.
pub(super) const SCRATCH_SIZE: u64 = 4096;
/// Where the descriptors are in it that calls have opened: a socket pair, and
/// what came through. -1 where there is none.
pub(super) const SCRATCH_DESCRIPTORS: [u64; 3] = [0, 4, 336];

/// Code of ours in a task's memory.
#[derive(Debug)]
pub(super) struct Trampoline {
    start: u64,
    size: usize,
    /// Offset of the scratch page's address.
    scratch: usize,
}

/// What ptrace(2) writes at once.
const WORD: usize = size_of::<libc::c_long>();
/// Largest vDSO that is looked at.
const LARGEST: usize = 1 << 20;

fn is_empty(there: &[u8]) -> bool {
    there.iter().all(|byte| *byte == 0)
}

impl Trampoline {
    /// Puts it there, for a task that is stopped, or was just stopped, at the
    /// entry of call `nr` with these registers, and has this signal mask.
    ///
    /// A place is taken if a host died that used it. When all are, one of those
    /// is used of which `is_left` says that nobody is there any more.
    pub(super) fn put(
        tid: pid_t,
        registers: &Registers,
        nr: u64,
        mask: u64,
        is_left: &dyn Fn(&Range<u64>) -> bool,
    ) -> Option<Self> {
        let (code, scratch) = arch::trampoline(registers, nr, mask)?;
        let size = code.len().next_multiple_of(8);
        let vdso = procfs::vdso(tid)?;
        let mut content = vec![0xff; usize::try_from(vdso.end - vdso.start).ok().filter(|size| *size < LARGEST)?];
        if sys::read_memory(tid, vdso.start, &mut content) != content.len() {
            return None;
        }
        // What differs from one to the next is behind the code. A host can have
        // died while it put it there, or took it away, word by word.
        let ours = |there: &[u8]| {
            let words = there[..scratch].chunks(WORD).zip(code[..scratch].chunks(WORD));
            words.into_iter().all(|(there, code)| there == code || is_empty(there))
        };
        let places = || content.rchunks_exact(size).zip(1..).map(|(there, n)| (vdso.end - n * size as u64, there));
        let free = places().take_while(|(_, there)| ours(there)).find(|(_, there)| is_empty(there));
        let reused = || {
            let mut left = places().take_while(|(_, there)| ours(there));
            left.find(|(start, _)| is_left(&(*start..start + size as u64)))
        };
        let (start, _) = free.or_else(reused)?;
        sys::poke_all(tid, start, &code).then_some(Self { start, size, scratch })
    }

    /// Where a call is made.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Where a task goes on that has returned from it, and that we do not lead.
    pub(super) fn way_back(&self) -> u64 {
        self.start + arch::INSTRUCTION
    }

    /// Says where the scratch page is; 0 if there is none.
    pub(super) fn set_scratch(&self, tid: pid_t, address: u64) {
        // If it is gone, wait says so.
        let _ = sys::poke(tid, self.start + self.scratch as u64, address);
    }

    /// Takes it away: there were zeros before.
    pub(super) fn remove(&self, tid: pid_t) {
        sys::poke_all(tid, self.start, &vec![0; self.size]);
    }
}
