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

use libc::pid_t;

use super::arch::{self, Registers};
use super::{procfs, sys};

/// Size of the page in which calls find their structures.
pub(super) const SCRATCH_SIZE: u64 = 4096;
/// Where the descriptors are in it that calls have opened: a socket pair, and
/// what came through. -1 where there is none.
pub(super) const SCRATCH_DESCRIPTORS: [u64; 3] = [0, 4, 336];

/// Places that are tried.
const MOST_PLACES: usize = 4;

/// Code of ours in a task's memory.
#[derive(Debug)]
pub(super) struct Trampoline {
    start: u64,
    size: usize,
    /// Offset of the scratch page's address.
    scratch: usize,
}

impl Trampoline {
    /// Puts it there, for a task that is stopped, or was just stopped, at the
    /// entry of call `nr` with these registers, and has this signal mask.
    pub(super) fn put(tid: pid_t, registers: &Registers, nr: u64, mask: u64) -> Option<Self> {
        let (code, scratch) = arch::trampoline(registers, nr, mask)?;
        let size = code.len().next_multiple_of(8);
        let padding = procfs::vdso(tid)?;
        // The last place is taken if a host died that used it.
        for start in padding.rev().step_by(size).map(|last| last + 1 - size as u64).take(MOST_PLACES) {
            let mut there = vec![0xff; size];
            if sys::read_memory(tid, start, &mut there) == size && there.iter().all(|byte| *byte == 0) {
                return sys::poke_all(tid, start, &code).then_some(Self { start, size, scratch });
            }
        }
        None
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
