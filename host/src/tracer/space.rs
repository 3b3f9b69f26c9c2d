//! What tasks share: an address space, descriptors, a working directory.
//!
//! Whoever shares one of these with a task can change what the task's call
//! means after it was judged. A task that is alone is judged and let go in one
//! stop; for one that is not, what was judged is kept from change
//! (`engine/protection.rs`). In doubt a task is not alone.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use libc::{c_int, pid_t};

use super::descriptors::{Purpose, Quota};
use super::filters::Permits;
use super::pagemap::Pagemap;
use super::region::Region;
use super::sys;

/// One address space, and who lives in it. Clones live in the same.
#[derive(Clone, Debug)]
pub(super) struct Space(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    exposed: Cell<bool>,
    /// More than one process has lived in it.
    of_processes: Cell<bool>,
    /// A program may serve its page faults (userfaultfd(2)): it can fill pages
    /// that nobody else can write to.
    served: Cell<bool>,
    region: RefCell<Option<Rc<Region>>>,
    pagemap: RefCell<Option<(Pagemap, Quota)>>,
    /// The region has been seen where it belongs.
    mapped: Cell<bool>,
    /// How often mapping it came to nothing.
    failures: Cell<u32>,
    /// A task of it runs an errand.
    busy: RefCell<Weak<()>>,
}

/// Held while a task runs an errand.
pub(super) type Busy = Rc<()>;

/// Attempts to map the region, after which calls that need it are refused.
const MOST_FAILURES: u32 = 3;

impl Space {
    fn make(exposed: bool, served: bool, region: Option<Rc<Region>>) -> Self {
        Self(Rc::new(Inner {
            exposed: Cell::new(exposed),
            of_processes: Cell::new(false),
            served: Cell::new(served),
            region: RefCell::new(region),
            pagemap: RefCell::default(),
            mapped: Cell::new(false),
            failures: Cell::new(0),
            busy: RefCell::default(),
        }))
    }

    /// The space of a program that has just been executed.
    pub(super) fn fresh() -> Self {
        Self::make(false, false, None)
    }

    /// A space of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self::make(true, false, None)
    }

    /// The space of a process that was forked from this one. What is mapped
    /// here now may not have been when it was copied. Whoever serves page
    /// faults here can do so there, and fill pages (`UFFD_FEATURE_EVENT_FORK`).
    pub(super) fn forked(&self) -> Self {
        let served = self.0.served.get();
        Self::make(served, served, self.0.region.borrow().clone())
    }

    /// Nobody but its one task can change what a call of it means.
    pub(super) fn is_alone(&self) -> bool {
        !self.0.exposed.get() && Rc::strong_count(&self.0) == 1
    }

    /// Asks its pagemap, opened for task `tid` of it if it is not open; it stays
    /// so if there is room.
    pub(super) fn with_pagemap<T>(&self, tid: pid_t, ask: impl FnOnce(&Pagemap) -> T) -> Option<T> {
        let mut kept = self.0.pagemap.borrow_mut();
        if let Some((pagemap, _)) = &*kept {
            return Some(ask(pagemap));
        }
        let pagemap = Pagemap::open(tid).ok()?;
        let answer = ask(&pagemap);
        *kept = Quota::take(Purpose::Pagemaps).map(|quota| (pagemap, quota));
        Some(answer)
    }

    /// Whether both are one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Others than its tasks may write to it, or share what else counts.
    pub(super) fn is_exposed(&self) -> bool {
        self.0.exposed.get()
    }

    /// From now on others than its tasks may write to it, or share what else
    /// counts.
    pub(super) fn expose(&self) {
        self.0.exposed.set(true);
    }

    /// Another process lives in it, too.
    pub(super) fn note_processes(&self) {
        self.0.of_processes.set(true);
    }

    /// Whether more than one process has lived in it.
    pub(super) fn is_shared_by_processes(&self) -> bool {
        self.0.of_processes.get()
    }

    /// No region is to be mapped.
    pub(super) fn forbid_region(&self) {
        self.0.failures.set(MOST_FAILURES);
    }

    /// From now on a program may serve its page faults.
    pub(super) fn serve(&self) {
        self.0.served.set(true);
    }

    /// Whether a program may serve its page faults.
    pub(super) fn is_served(&self) -> bool {
        self.0.served.get()
    }

    /// Whether there is a region for it, mapped or not.
    pub(super) fn expects_region(&self) -> bool {
        self.0.region.borrow().is_some()
    }

    /// The region, if it has been seen mapped.
    pub(super) fn region(&self) -> Option<Rc<Region>> {
        if self.0.mapped.get() { self.0.region.borrow().clone() } else { None }
    }

    /// The region to map, made if there is none of the kind that `permits`
    /// asks for; none after too many failures.
    pub(super) fn region_to_map(&self, permits: Permits) -> Option<Rc<Region>> {
        let failures = self.0.failures.get();
        // What could not be handed over may be made there.
        let private = !permits.sockets || failures > 0;
        if failures >= MOST_FAILURES || (private && !permits.memory) {
            return None;
        }
        let mut region = self.0.region.borrow_mut();
        if region.as_ref().is_none_or(|region| private && !region.is_private()) {
            // So may what we have no descriptor left for.
            let made = if private { Ok(Region::private()) } else { Region::new() };
            let made = made.or_else(|error| permits.memory.then(Region::private).ok_or(error));
            *region = Some(made.inspect_err(|error| tracing::warn!("cannot make memory for arguments: {error}")).ok()?);
        }
        region.clone()
    }

    /// Looks whether the region is mapped in task `tid`, which lives here.
    pub(super) fn look(&self, tid: pid_t) -> bool {
        let mapped = self.0.region.borrow().as_ref().is_some_and(|region| region.is_mapped_in(tid));
        self.0.mapped.set(mapped);
        mapped
    }

    /// Whether a task of it runs an errand.
    pub(super) fn is_busy(&self) -> bool {
        self.0.busy.borrow().strong_count() > 0
    }

    /// A task of it begins an errand, which lasts as long as what is returned.
    pub(super) fn occupy(&self) -> Busy {
        let busy = Busy::default();
        self.0.busy.replace(Rc::downgrade(&busy));
        busy
    }

    /// A task has tried to map the region, and has not.
    pub(super) fn failed(&self) {
        self.0.failures.set(self.0.failures.get() + 1);
    }
}

/// What two tasks share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    pub(super) memory: bool,
    pub(super) descriptors: bool,
    pub(super) file_system: bool,
}

impl Shared {
    /// As the kernel says (kcmp(2)); none if it does not. Containers may not
    /// ask without `CAP_SYS_PTRACE`.
    pub(super) fn by(one: pid_t, other: pid_t) -> Option<Self> {
        /// `enum kcmp_type` (linux/kcmp.h).
        const VM: c_int = 1;
        const FILES: c_int = 2;
        const FS: c_int = 3;
        // Before, it waits for who executes a program, and that can wait for us.
        if sys::kernel() < (5, 7) {
            return None;
        }
        let same = |kind| sys::kcmp(one, other, kind).ok();
        Some(Self { memory: same(VM)?, descriptors: same(FILES)?, file_system: same(FS)? })
    }

    /// A child made with these flags, and its maker (clone(2)).
    pub(super) fn of_flags(flags: u64) -> Self {
        let has = |flag: c_int| flags & flag as u64 != 0;
        Self { memory: has(libc::CLONE_VM), descriptors: has(libc::CLONE_FILES), file_system: has(libc::CLONE_FS) }
    }

    /// Nobody knows. Each has a region of its own, and none is alone.
    pub(super) const UNKNOWN: Self = Self { memory: false, descriptors: true, file_system: true };

    pub(super) fn anything(self) -> bool {
        self.memory || self.descriptors || self.file_system
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever serves a parent's page faults can serve its child's.
    #[test]
    fn children_of_those_that_are_served_are_not_alone() {
        let space = Space::fresh();
        assert!(space.forked().is_alone());
        space.serve();
        let child = space.forked();
        assert!(child.is_served() && !child.is_alone() && child.forked().is_exposed());
    }

    /// A region can come into being between the copy and the word of it.
    #[test]
    fn what_was_copied_is_looked_at() -> std::io::Result<()> {
        let space = Space::fresh();
        space.0.region.replace(Some(Region::new()?));
        space.0.mapped.set(true);
        assert!(space.region().is_some());
        let child = space.forked();
        assert!(child.region().is_none() && child.expects_region());
        Ok(())
    }
}
