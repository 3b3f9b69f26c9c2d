//! What was judged is what the kernel runs.
//!
//! A task that is alone keeps its memory to itself: it is enough to see that
//! the pages which were read belong to nobody else. For one that is not,
//! names, addresses and structures are copied to memory that only the host can
//! write ([`Region`](crate::tracer::region)), names in the form that was
//! judged, and the registers point there until the call is over.
//!
//! What cannot be protected is refused.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bstr::{BString, ByteSlice as _};
use libc::{c_int, pid_t};

use super::Engine;
use super::turns::Waiting;
use crate::decode::{self, Arch, Kind};
use crate::event::{Call, Event, PathState, Value};
use crate::tracer::arch::Registers;
use crate::tracer::errand::{self, Errand, Install, Own};
use crate::tracer::filters::Permits;
use crate::tracer::inbox::Message;
use crate::tracer::memory::TraceeMemory;
use crate::tracer::pagemap::Settled;
use crate::tracer::pins::{Pin, Snapshot, pins};
use crate::tracer::procfs::Status;
use crate::tracer::protected::Protected;
use crate::tracer::region::Region;
use crate::tracer::resolve::{self, Crossed};
use crate::tracer::space::Space;
use crate::tracer::stop::{Asked, Gone, Moment, Reason, Stopped};
use crate::tracer::sys::{self, CallInfo};
use crate::tracer::traits::Traits;

/// Longest wait for all threads of a process to have stopped once.
const SETTLING: Duration = Duration::from_secs(1);

/// The kernel takes no larger `struct clone_args` (`PAGE_SIZE`).
const CLONE_ARGS_MAX: usize = 4096;

impl Engine<'_> {
    /// Whether a call would change mappings where the region lies, or may lie
    /// before it is over: others of the space can need one while it runs.
    pub(super) fn touches_region(&mut self, tid: pid_t, traits: Traits, call: (Arch, u32), args: &[u64; 6]) -> bool {
        if !self.binding || !traits.remaps_region(call.0, call.1, args) {
            return false;
        }
        let space = &self.task(tid).space;
        space.expects_region() || !space.is_alone()
    }

    /// Whether a judged call of the task needs the region, judging by the task
    /// alone.
    pub(super) fn needs_region(&mut self, tid: pid_t) -> bool {
        // Who waits for the end of its child's vfork(2) is no exception: if it is
        // killed, the kernel writes to its memory (`clear_child_tid`, robust lists).
        self.intruded || !self.task(tid).space.is_alone()
    }

    /// Whether others than we can write to a region: to one of private memory,
    /// in a space that is not safe from them.
    fn writable_by_others(&self, region: &Region, space: &Space) -> bool {
        region.is_private() && (self.intruded || space.is_served())
    }

    /// Whether others can write to the region that the task has.
    pub(super) fn region_is_open(&mut self, tid: pid_t) -> bool {
        let space = self.task(tid).space.clone();
        space.region().is_none_or(|region| self.writable_by_others(&region, &space))
    }

    /// Whether the task has the region.
    pub(super) fn has_region(&mut self, tid: pid_t) -> bool {
        self.task(tid).space.region().is_some()
    }

    /// Sees to it that what was read for a call of a task that is alone cannot
    /// be changed by others. Of a call that executes a program only its name
    /// counts: the rest is verified afterwards.
    pub(super) fn settle(&mut self, tid: pid_t, snapshot: &Snapshot<'_>, program: Option<u64>) -> Settled {
        let mut ranges = snapshot.ranges();
        if let Some(name) = program {
            ranges.retain(|(address, _)| *address == name);
        }
        self.task(tid).settle(tid, &ranges)
    }

    /// Keeps what an allowed call reads from change, if that can be.
    pub(super) fn guard(
        &mut self,
        stop: &Stopped,
        event: &Event,
        snapshot: &Snapshot<'_>,
    ) -> Asked<Result<Rc<Protected>, Unguarded>> {
        let tid = stop.tid();
        let impossible = Ok(Err(Unguarded::Impossible));
        let Some(call) = event.call() else { return impossible };
        let space = self.task(tid).space.clone();
        let Some(region) = space.region().filter(|region| !self.writable_by_others(region, &space)) else {
            return impossible;
        };
        // i386's socketcall has its arguments in memory: no register can
        // point elsewhere.
        let native = call.arch == Arch::NATIVE;
        let now = stop.registers()?;
        let mut registers = now.clone();
        if !native && call.arch == Arch::X86 && registers.number() != Some(u64::from(call.nr)) {
            return impossible;
        }
        if native && call.spec.name == "sendmmsg" {
            return Ok(Self::guard_first(stop, call, &region, &now)?.ok_or(Unguarded::Impossible));
        }
        let crossed = self.task(tid).crossed.clone();
        let stays = self.task(tid).space.is_alone() || self.turns.still_for(tid);
        let mut names = Vec::with_capacity(call.arguments.len());
        for index in 0..call.arguments.len() {
            match passed(tid, event, call, index, &crossed) {
                Passed::Stable(name) => names.push(Some(name)),
                Passed::Fails(errno) => return Ok(Err(Unguarded::Fails(errno))),
                Passed::Changeable if crossed.others() => return impossible,
                Passed::Changeable if !stays && (crossed.magic() || starts_at_descriptor(call, index)) => {
                    return Ok(Err(Unguarded::Changeable));
                }
                Passed::Own | Passed::Changeable => names.push(None),
            }
        }
        let free = unconfined(call, &names);
        let name = |index: usize| names.get(index).cloned().flatten();
        let pins = pins(free.as_ref().unwrap_or(call), snapshot, &name).ok();
        let protected =
            pins.and_then(|pins| Protected::put(&region, tid, pins, &mut registers, call.arch == Arch::X86));
        Ok(Self::point_there(stop, &now, &registers, protected)?.ok_or(Unguarded::Impossible))
    }

    /// Lets the call at whose entry the task is, with registers `now`, read from
    /// there, if there was room.
    fn point_there(
        stop: &Stopped,
        now: &Registers,
        registers: &Registers,
        protected: Option<Protected>,
    ) -> Asked<Option<Rc<Protected>>> {
        protected.map(|protected| stop.change_registers(now, registers).map(|()| Rc::new(protected))).transpose()
    }

    /// Lets a sendmmsg send its first message, if that is still what was
    /// judged.
    fn guard_first(stop: &Stopped, many: &Call, region: &Rc<Region>, now: &Registers) -> Asked<Option<Rc<Protected>>> {
        let mut registers = now.clone();
        let memory = TraceeMemory(stop.tid());
        let snapshot = Snapshot::new(&memory);
        let [fd, messages, _, flags, ..] = many.registers;
        let one = decode::decode(many.arch, libc::SYS_sendmsg as u32, [fd, messages, flags, 0, 0, 0], &snapshot);
        let unchanged = match (&many.arguments[1].value, &one.arguments[1].value) {
            (Value::Messages(judged), Value::Messages(now)) => judged.first() == now.first(),
            _ => false,
        };
        let pins = pins(&one, &snapshot, &|_| None).ok().filter(|_| unchanged);
        let mut protected = pins.and_then(|pins| Protected::put(region, stop.tid(), pins, &mut registers, false));
        if let Some(protected) = &mut protected {
            protected.send_first(&mut registers, flags);
        }
        Self::point_there(stop, now, &registers, protected)
    }

    /// Puts the structure of a clone3 where only the host can write, without
    /// the flag that would hide the child; with the flags that are left.
    pub(super) fn guard_clone(&mut self, stop: &Stopped, info: &CallInfo) -> Asked<Option<(Rc<Protected>, u64)>> {
        let mut bytes = vec![0; usize::try_from(info.args[1]).unwrap_or(usize::MAX).min(CLONE_ARGS_MAX)];
        if sys::read_memory(stop.tid(), info.args[0], &mut bytes) != bytes.len() {
            return Ok(None);
        }
        let Some(first) = bytes.first_chunk_mut::<8>() else { return Ok(None) };
        let flags = u64::from_le_bytes(*first) & !(libc::CLONE_UNTRACED as u64);
        *first = flags.to_le_bytes();
        Ok(self.lend(stop, 0, bytes, false)?.map(|protected| (protected, flags)))
    }

    /// Puts `bytes` where only the host can write, and points the register of
    /// an argument there.
    pub(super) fn lend(
        &mut self,
        stop: &Stopped,
        register: u8,
        bytes: Vec<u8>,
        compat: bool,
    ) -> Asked<Option<Rc<Protected>>> {
        let space = self.task(stop.tid()).space.clone();
        let Some(region) = space.region().filter(|region| !self.writable_by_others(region, &space)) else {
            return Ok(None);
        };
        let now = stop.registers()?;
        let mut registers = now.clone();
        let pin = Pin { register, bytes, inner: Vec::new() };
        let protected = Protected::put(&region, stop.tid(), vec![pin], &mut registers, compat);
        Self::point_there(stop, &now, &registers, protected)
    }

    /// Gives a task whose protected call is over its registers back. The
    /// call's result.
    pub(super) fn unguard(stop: &Stopped, protected: &Protected) -> Option<i64> {
        let mut registers = stop.registers().ok()?;
        let result = protected.restore(stop.tid(), &mut registers);
        // If it is gone, wait says so.
        let _ = stop.set_registers(&registers);
        Some(result)
    }

    /// Sends a task that is at the entry of a call to map the region. It comes
    /// back to the same call.
    pub(super) fn send_for_region(&mut self, stop: Stopped, arch: Arch, info: CallInfo) {
        let tid = stop.tid();
        let space = self.task(tid).space.clone();
        if space.is_busy() || self.may_be_read_there(tid) {
            return self.for_errand.push_back(Waiting { stop, info });
        }
        if space.look(tid) {
            return self.entry(stop, info);
        }
        let permits = self.permits(tid);
        match space.region_to_map(permits).map(|region| self.begin(&stop, arch, region, None)) {
            Some(Ok(true)) => stop.resume_to_call(0),
            // If it is gone, this is nothing.
            None | Some(Ok(false) | Err(Gone)) => self.refuse_unprotected(stop),
        }
    }

    /// Sends a task that is at the entry of a call to install our filter in
    /// all threads of its process.
    pub(super) fn send_to_install(&mut self, stop: Stopped, info: CallInfo) {
        let tid = stop.tid();
        let task = self.task(tid);
        let (pid, space) = (task.pid, task.space.clone());
        if space.is_busy() {
            return self.entry(stop, info);
        }
        if self.may_be_read_there(tid) {
            return self.for_errand.push_back(Waiting { stop, info });
        }
        self.to_filter.remove(&pid);
        let before = Status::of(tid).and_then(|status| status.filters);
        let permits = self.permits(tid);
        let region =
            space.region_to_map(permits).filter(|region| permits.filter && !self.writable_by_others(region, &space));
        let arch = Arch::from_audit(info.audit, info.nr as u32);
        let begun = region
            .zip(arch)
            .map(|(region, arch)| self.begin(&stop, arch, region, Some(Install::new(&self.filter, before))));
        if let Some(Ok(true)) = begun {
            stop.resume_to_call(0);
        } else {
            self.installed(pid, -i64::from(libc::EOPNOTSUPP), before);
            self.entry(stop, info);
        }
    }

    /// Whether a call may still be under way for which a host that died has put
    /// something into a region of its own, which lies in task `tid`'s memory:
    /// it must not be replaced yet. A thread that has stopped since we came is past
    /// that; one that waits for the end of its child's vfork(2) does not stop,
    /// and is waited for no longer than [`SETTLING`].
    fn may_be_read_there(&mut self, tid: pid_t) -> bool {
        // Who shares the memory can be of another process.
        let soon =
            self.unsettled.values().any(|unsettled| unsettled.since.is_some_and(|since| since.elapsed() < SETTLING));
        let waits = soon && errand::is_leftover(tid);
        if waits {
            // It is looked again whenever something comes.
            self.clock.remind(SETTLING, Message::Unclaimed);
        }
        waits
    }

    /// What the filters of a stopped task let us do with it.
    pub(super) fn permits(&mut self, tid: pid_t) -> Permits {
        *self.task(tid).permits.get_or_insert_with(|| Permits::of_task(tid))
    }

    /// A task is about to have a filter of its own, and perhaps all threads of
    /// its process.
    pub(super) fn restrict(&mut self, tid: pid_t, permits: Permits) {
        let pid = self.task(tid).pid;
        for (_, task) in self.tasks.iter_mut().filter(|(_, task)| task.pid == pid) {
            task.permits = task.permits.map(|before| before.and(permits));
        }
    }

    /// Those that waited for another's errand go on to judgement when it is
    /// over.
    pub(super) fn after_errands(&mut self) {
        // One at a time: the others are seen to wait.
        for _ in 0..self.for_errand.len() {
            let Some(waiting) = self.for_errand.pop_front() else { return };
            let tid = waiting.stop.tid();
            let stills = self.tasks.get(&tid).is_some_and(|task| self.turns.stills(tid, task.pid));
            if stills || self.task(tid).space.is_busy() || self.may_be_read_there(tid) {
                self.for_errand.push_back(waiting);
            } else if self.tasks.get(&tid).is_some_and(|task| self.to_filter.contains(&task.pid)) {
                self.send_to_install(waiting.stop, waiting.info);
            } else {
                self.entry(waiting.stop, waiting.info);
            }
        }
    }

    /// Begins an errand at the entry of a call: to map `region`, and perhaps to
    /// install a filter. The call itself does not run. Whether there is a place
    /// to make calls.
    fn begin(&mut self, stop: &Stopped, arch: Arch, region: Rc<Region>, install: Option<Install>) -> Asked<bool> {
        let tid = stop.tid();
        // Calls from the vDSO would be signals to it, and those are blocked.
        if sys::dispatches_calls(tid) {
            return Ok(false);
        }
        let task = self.task(tid);
        let (ids, busy) = ((task.pid, tid), task.space.occupy());
        let registers = stop.registers()?;
        let mask = sys::signal_mask(tid).map_err(|_| Gone)?;
        let (Some(nr), Some(mut harmless)) = (registers.number(), self.harmless(stop)) else { return Err(Gone) };
        let own = Own { ids, registers, nr, arch, mask };
        // Who was in a place of a host before us was there when we came: nobody
        // leads anybody there but us.
        let space = self.task(tid).space.clone();
        let is_left = |place: &Range<u64>| {
            let dwellers = self.tasks.values().filter(|task| task.space.is_same(&space));
            !dwellers.filter_map(|task| task.found_at).any(|address| place.contains(&address))
        };
        let Some(errand) = Errand::new(own, region, install, busy, &is_left) else { return Ok(false) };
        errand.leads_back(&mut harmless);
        // In this order: should we die in between, the trampoline sees to it.
        stop.set_registers(&harmless)?;
        sys::set_signal_mask(tid, u64::MAX).map_err(|_| Gone)?;
        self.task(tid).errand = Some(errand);
        Ok(true)
    }

    /// A stop of a task that runs an errand.
    pub(super) fn on_errand(&mut self, stop: Stopped, reason: Reason, mut errand: Errand) {
        let tid = stop.tid();
        match reason {
            Reason::Call | Reason::Seccomp => match stop.moment(self.task(tid).inside) {
                Ok(Some(Moment::Exit(result))) => {
                    self.task(tid).inside = false;
                    let Some(registers) = errand.next(result) else { return self.come_back(stop, &errand) };
                    let _gone = stop.set_registers(&registers);
                }
                Ok(Some(Moment::Entry(call))) => {
                    self.task(tid).inside = true;
                    if !errand.makes(&call) {
                        // Somebody has led it astray: it is a call of its own.
                        errand.end();
                        self.task(tid).space.failed();
                        drop(errand);
                        return self.stopped(stop, reason);
                    }
                }
                _ => {}
            },
            // All that can be blocked is blocked.
            Reason::Signal(signal) => {
                self.task(tid).errand = Some(errand);
                return stop.resume_to_call(signal);
            }
            Reason::GroupStop(_) if !self.leaving => {
                self.task(tid).errand = Some(errand);
                return stop.listen();
            }
            _ => {}
        }
        self.task(tid).errand = Some(errand);
        stop.resume_to_call(0);
    }

    /// An errand is done: the task makes its own call.
    fn come_back(&mut self, stop: Stopped, errand: &Errand) {
        let tid = stop.tid();
        // Should we die before its registers are its own, the trampoline leads
        // it on.
        errand.give_mask_back();
        let mut registers: Registers = errand.own.registers.clone();
        registers.call_again(errand.own.nr);
        let _gone = stop.set_registers(&registers);
        errand.end();
        let pid = self.task(tid).pid;
        if let Some(install) = &errand.install {
            self.installed(pid, install.result, install.before);
        }
        let space = self.task(tid).space.clone();
        if space.region().is_none() && !space.look(tid) {
            space.failed();
        }
        self.go_on(stop, 0);
    }

    /// Refuses a judged call that cannot be protected.
    pub(super) fn refuse_unprotected(&mut self, stop: Stopped) {
        // It can have been killed, which is why.
        if stop.registers().is_ok() && !std::mem::replace(&mut self.told_unprotected, true) {
            tracing::warn!(
                "thread {}: what its call reads can be changed by others and cannot be protected, so that the call is refused; further cases are not told",
                stop.tid()
            );
        }
        self.refuse(stop, libc::EPERM);
    }
}

/// Why a call would not run on what was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unguarded {
    /// The kernel would answer this.
    Fails(c_int),
    /// Other threads of its process could put something else behind a
    /// descriptor.
    Changeable,
    Impossible,
}

/// How a judged path argument is passed to the kernel.
enum Passed {
    /// In the caller's own words: they are seen by more than the kernel's
    /// look-up, or lead nowhere whatever happens.
    Own,
    /// By this name, which leads there by itself.
    Stable(BString),
    /// There is no such name.
    Changeable,
    /// The kernel does not follow it.
    Fails(c_int),
}

/// Bits of openat2's `resolve` that keep a look-up within a directory or a
/// mount.
const CONFINING: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_XDEV;

/// What is passed to the kernel in place of a path argument.
fn passed(tid: pid_t, event: &Event, call: &Call, index: usize, crossed: &Crossed) -> Passed {
    let (Some(Value::Path(name)), Some(Kind::Path(rule))) =
        (call.arguments.get(index).map(|argument| &argument.value), call.spec.args.get(index).map(|arg| &arg.kind))
    else {
        return Passed::Own;
    };
    let last = name.rsplit_str("/").next().unwrap_or_default();
    let creates_or_removes = |name: &str| {
        ["mkdir", "rmdir", "unlink", "rename", "link", "mknod"].iter().any(|begin| name.starts_with(begin))
    };
    let own = match call.spec.name {
        // The program's command name; which one ran is looked at afterwards.
        "execve" | "execveat" => true,
        // A source's name is shown in lists of mounts, unless it is a directory's.
        "mount" if index == 0 => call.registers[3] & (libc::MS_BIND | libc::MS_MOVE) == 0,
        // These never succeed.
        call => (last == b"." || last == b"..") && creates_or_removes(call),
    };
    if own {
        return Passed::Own;
    }
    let Some(path) = event.path(index) else { return Passed::Changeable };
    if path.path.starts_with(b"/proc/") && resolve::resolve_flags(call, rule) != Some(0) {
        // There the kernel shows each process something else.
        return Passed::Changeable;
    }
    if crossed.absent() && matches!(path.state, PathState::Missing | PathState::Unresolved) {
        return Passed::Fails(crossed.failure(tid));
    }
    match resolve::bounded(tid, call, rule, name.as_bstr(), path) {
        Some(Ok(found)) if found != path.path => return Passed::Changeable,
        Some(Err(error)) => return Passed::Fails(error.raw_os_error().unwrap_or(libc::EPERM)),
        _ => {}
    }
    // What led nowhere was judged as a text. It could lead somewhere by now,
    // through a descriptor that was a pipe and is a directory; and a text
    // without its `..` does lead elsewhere.
    let goes_up = || name.split_str("/").any(|component| component == b"..");
    if path.state == PathState::Unresolved && (crossed.magic() || goes_up()) {
        return Passed::Fails(crossed.failure(tid));
    }
    let Some(mut stable) = resolve::stable_name(tid, path) else { return Passed::Changeable };
    if !name.starts_with(b"/") && !resolve::may_search(tid, event.process(), &path.path) {
        return Passed::Changeable;
    }
    // "name/" and "name/." must be directories.
    if last.is_empty() && !name.is_empty() && !stable.ends_with(b"/") {
        stable.push(b'/');
    } else if last == b"." {
        stable.extend_from_slice(b"/.");
    }
    Passed::Stable(stable)
}

/// Whether a path argument starts at a descriptor, which others can replace.
fn starts_at_descriptor(call: &Call, index: usize) -> bool {
    let absolute = matches!(&call.arguments[index].value, Value::Path(name) if name.starts_with(b"/"));
    let Some(Kind::Path(rule)) = call.spec.args.get(index).map(|arg| &arg.kind) else { return false };
    let fd = rule.dirfd.and_then(|dirfd| call.arguments.get(usize::from(dirfd))).map(|argument| &argument.value);
    !absolute && !matches!(fd, None | Some(Value::Fd(libc::AT_FDCWD)))
}

/// The call without what would keep an absolute name from being followed, if
/// one is passed and something would: that it stays within has been seen.
fn unconfined(call: &Call, names: &[Option<BString>]) -> Option<Call> {
    let how = call.arguments.iter().position(|argument| matches!(&argument.value, Value::Structure(_)))?;
    if call.spec.name != "openat2" || !names.iter().any(Option::is_some) {
        return None;
    }
    let mut free = call.clone();
    if let Value::Structure(fields) = &mut free.arguments[how].value {
        fields.iter_mut().filter(|field| field.name == "resolve").for_each(|field| field.value &= !CONFINING);
    }
    Some(free)
}
