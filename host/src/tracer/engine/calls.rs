//! What becomes of a call: entry, verdict, exit.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bstr::{BStr, ByteSlice as _};
use libc::{c_int, pid_t};

use super::Engine;
use super::protection::Unguarded;
use super::turns::Manner;
use crate::decode::{self, Arch, Arg, Changes, Memory, NoMemory, Spec};
use crate::event::{Argument, Call, Defect, Errno, Event, Kind, Outcome, Value};
use crate::tracer::Interest;
use crate::tracer::arch::Registers;
use crate::tracer::filter::MARK;
use crate::tracer::filters::{self, Filter};
use crate::tracer::guard::{self, Verdict};
use crate::tracer::lookup;
use crate::tracer::memory::TraceeMemory;
use crate::tracer::pagemap::Settled;
use crate::tracer::pins::Snapshot;
use crate::tracer::protected::Protected;
use crate::tracer::stop::{Gone, Moment, Stopped};
use crate::tracer::sys::{self, CallInfo};
use crate::tracer::task::{Faked, Pending, Task};
use crate::tracer::traits::{HARMLESS_ADVICE, Stalls, Traits, USER_MODE_ONLY, USERFAULTFD_NEW};

/// Looks at which file system a call is about to bring.
fn notice_kind(call: &Call) {
    let kind = match call.spec.name {
        "mount" => 2,
        "fsopen" => 0,
        _ => return,
    };
    match call.arguments.get(kind).map(|argument| &argument.value) {
        Some(Value::Absent) | None => {}
        Some(Value::Text(kind)) => lookup::notice_kind(kind.as_bstr()),
        // It could be any.
        Some(_) => lookup::notice_kind(BStr::new(b"")),
    }
}

/// Whether an argument is a name in memory that cannot be read.
fn is_unreadable_name((argument, declared): (&Argument, &Arg)) -> bool {
    matches!((&argument.value, &declared.kind), (Value::Unreadable(Defect::Fault), decode::Kind::Path(_)))
}

/// Sizes of `struct clone_args` (`CLONE_ARGS_SIZE_VER0` to `PAGE_SIZE`).
const CLONE_ARGS: RangeInclusive<u64> = 64..=65536;

impl Engine<'_> {
    /// A call that the filter chose.
    pub(super) fn filtered_call(&mut self, stop: Stopped) {
        // If something newer has stopped it, wait says so.
        let Ok(Some(Moment::Entry(info))) = stop.moment(false) else { return };
        let mark = info.mark.or_else(|| stop.message().ok().map(|message| message as u32));
        if mark != Some(u32::from(MARK)) {
            // A filter of the program's own asked for a tracer. Alone it has
            // none, and the call fails (seccomp(2), `SECCOMP_RET_TRACE`).
            let _gone = stop.skip(-i64::from(libc::ENOSYS));
            return self.go_on(stop, 0);
        }
        let task = self.task(stop.tid());
        if task.filtered {
            return self.entry(stop, info);
        }
        // The filter of a host before us.
        task.needs_tracer = true;
        if task.inside {
            // It was judged at the plain stop before.
            return self.go_on(stop, 0);
        }
        self.entry(stop, info);
    }

    /// Entry or exit of a call of a task that stops at each, or exit of one
    /// that was waited for.
    pub(super) fn plain_call(&mut self, stop: Stopped) {
        let task = self.task(stop.tid());
        let inside = task.inside || task.pending.is_some();
        match stop.moment(inside) {
            Ok(Some(Moment::Entry(info))) => {
                let task = self.task(stop.tid());
                task.inside = true;
                let (filtered, pid) = (task.filtered, task.pid);
                if filtered {
                    // The filter has yet to say whether it is wanted.
                    self.go_on(stop, 0);
                } else if self.to_filter.contains(&pid) {
                    self.send_to_install(stop, info);
                } else {
                    self.entry(stop, info);
                }
            }
            Ok(Some(Moment::Exit(result))) => {
                let task = self.task(stop.tid());
                task.inside = false;
                if let Some(mut faked) = task.faked.take() {
                    faked.registers.set_result(faked.result.unwrap_or(result));
                    let _gone = stop.set_registers(&faked.registers);
                    if faked.result.is_some() {
                        return self.go_on(stop, 0);
                    }
                }
                self.mend_call(&stop, result);
                self.exit(stop, result);
            }
            // Something newer has stopped it: wait says so.
            _ => {}
        }
    }

    /// A call that has not run. May be asked again about the same call.
    pub(super) fn entry(&mut self, stop: Stopped, info: CallInfo) {
        let tid = stop.tid();
        if self.task(tid).sets_up {
            return self.go_on(stop, 0);
        }
        // What it reads is where only we can write since it was asked before, if
        // that is still so.
        let again = self.task(tid).lent.is_some() && !self.region_is_open(tid);
        if !again {
            self.take_back(&stop);
            self.task(tid).clone3 = None;
        }
        let memory = TraceeMemory(tid);
        let snapshot = Snapshot::new(&memory);
        let Some(arch) = Arch::from_audit(info.audit, info.nr as u32) else {
            // Numbers of an ABI that we do not know: nothing can be judged.
            return self.refuse(stop, libc::ENOSYS);
        };
        let (nr, mut args) = decode::demultiplex(arch, info.nr as u32, info.args, &snapshot);
        let (spec, traits) = (arch.spec(nr), Traits::of(arch, nr));
        let prepared = if again {
            Some(stop)
        } else {
            let stop = self.keep_children_traced(stop, arch, spec, info);
            stop.and_then(|stop| self.keep_owner(stop, arch, spec, info, &args))
        };
        let Some(stop) = prepared else { return };
        if self.touches_region(tid, traits, (arch, nr), &args) {
            return self.refuse(stop, libc::EPERM);
        }
        if self.binding && traits.discards && !HARMLESS_ADVICE.contains(&args[3]) {
            return self.refuse(stop, libc::EINVAL);
        }
        // It was checked by what is in memory, which must stay until it is read.
        let checked = self.binding
            && (spec.name == "clone3" || self.own.as_ref().is_some_and(|own| own.pointed(spec.name, &args).is_some()));
        let lent = self.task(tid).lent.clone();
        if let Some((register, address)) = lent.as_ref().and_then(|lent| lent.place()) {
            // That is what the kernel will read.
            args[usize::from(register)] = address;
        }
        let mut interest = self.handler.interest(arch, nr, &args);
        let aimed = self.own.as_ref().is_some_and(|own| own.concerns(spec.name));
        let filter = self.binding && matches!(spec.name, "seccomp" | "prctl");
        // Names of our files must stay what they are, as any that are judged.
        interest.binding |= aimed && self.binding && self.own.as_ref().is_some_and(|own| own.concerns_files(spec.name));
        if interest == Interest::default()
            && !aimed
            && !filter
            && !checked
            && lent.is_none()
            && spec.changes == Changes::Nothing
            && !(self.binding && traits.matter())
        {
            self.end_turn(tid);
            return self.go_on(stop, 0);
        }
        if traits.exposes.by(&args) {
            self.task(tid).space.expose();
        }
        if traits.stalls == Some(Stalls::WithoutFlag) {
            self.task(tid).space.serve();
        }
        match traits.stalls.filter(|_| self.binding) {
            Some(Stalls::WithoutFlag) if arch == Arch::NATIVE => {
                let _gone = stop.set_first_argument(info.args[0] | USER_MODE_ONLY);
            }
            Some(Stalls::WithRequest) if args[1] as u32 == USERFAULTFD_NEW as u32 => {
                return self.refuse(stop, libc::EPERM);
            }
            Some(Stalls::WithoutFlag) => return self.refuse(stop, libc::EPERM),
            _ => {}
        }
        let mut needs_region = interest.binding && self.needs_region(tid);
        if needs_region && !self.has_region(tid) {
            return self.send_for_region(stop, arch, info);
        }
        let call = decode::decode(arch, nr, args, &snapshot);
        notice_kind(&call);
        if interest.binding && !needs_region {
            match self.settle(tid, &snapshot, traits.executes().map(|index| args[index])) {
                Settled::Already => {}
                Settled::Copied if snapshot.holds() => {}
                // It changed before it was copied.
                Settled::Copied => return self.entry(stop, info),
                Settled::Shared if self.has_region(tid) => needs_region = true,
                Settled::Shared => return self.send_for_region(stop, arch, info),
            }
        }
        self.task(tid).crossed.clear();
        let event = Arc::new(self.event(tid, Kind::Entry(call)));
        let manner = if self.binding {
            self.manner(tid, &event, traits, interest.binding || checked)
        } else {
            Manner::Indifferent
        };
        let Some(stop) = self.take_turn(stop, info, manner) else { return };
        if manner == Manner::Intruding {
            self.intruded = true;
        }
        if filter && let Some(call) = event.call() {
            match filters::judge(call, &snapshot).0 {
                Filter::Refused(errno) => return self.refuse(stop, c_int::from(errno.raw())),
                Filter::Harmless(permits) => self.restrict(tid, permits),
                Filter::Absent => {}
            }
        }
        let denied = if interest.judge { self.handler.judge(&event) } else { None };
        let stop = if aimed && denied.is_none() {
            match self.fend_off(stop, &event) {
                Some(stop) => stop,
                None => return,
            }
        } else {
            stop
        };
        // Whoever writes to a file that is mapped there could make a name of it
        // before the kernel looks.
        let unreadable = |call: &Call| call.arguments.iter().zip(call.spec.args).any(is_unreadable_name);
        if interest.binding && denied.is_none() && event.call().is_some_and(unreadable) {
            return self.refuse(stop, libc::EFAULT);
        }
        if interest.observe || interest.exit {
            event.capture();
        }
        let mut protected = lent;
        let others = interest.binding && self.task(tid).crossed.others();
        if denied.is_none() && protected.is_none() && (needs_region || others) {
            if !self.has_region(tid) {
                self.end_turn(tid);
                return self.send_for_region(stop, arch, info);
            }
            match self.guard(&stop, &event, &snapshot) {
                Ok(Ok(guarded)) => protected = Some(guarded),
                // If it is gone, this is nothing.
                Ok(Err(Unguarded::Impossible)) | Err(Gone) => return self.refuse_unprotected(stop),
                Ok(Err(Unguarded::Fails(errno))) => return self.refuse(stop, errno),
                Ok(Err(Unguarded::Changeable)) => return self.stand_still(stop, info),
            }
        }
        if denied.is_none() && interest.binding && traits.executes().is_some_and(|index| event.path(index).is_some()) {
            self.task(tid).executing = Some(event.clone());
        }
        self.task(tid).lent = None;
        self.carry_out(stop, &event, denied, interest, spec, protected);
        if interest.observe {
            self.handler.observe(event);
        }
    }

    /// Keeps a call away from the host itself. The stop, if the call may run.
    fn fend_off(&mut self, stop: Stopped, event: &Event) -> Option<Stopped> {
        let own = self.own.as_ref()?;
        let task = self.tasks.get(&stop.tid());
        let alone = task.is_some_and(|task| task.space.is_alone());
        let lost = || task.is_some_and(|task| task.crossed.lost());
        match guard::judge(own, event, alone, &lost) {
            Verdict::Pass => return Some(stop),
            Verdict::Echo(echo) => {
                self.echoes.note(echo);
                return Some(stop);
            }
            Verdict::Replace(name, arguments) => return self.replace(stop, event, name, arguments),
            Verdict::Refuse(errno) => self.refuse(stop, c_int::from(errno.raw())),
            Verdict::PassOn(signal) => {
                if let Some(root) = self.root {
                    sys::signal_process(root, signal);
                }
                self.refuse(stop, 0);
            }
            Verdict::Instead(broadcast) => {
                broadcast.deliver(|pid| sys::signal_process(pid, broadcast.signal()));
                self.refuse(stop, 0);
            }
        }
        None
    }

    /// Has another call run in place of the one at whose entry the task is. The
    /// stop, unless the call has been decided on.
    fn replace(&mut self, stop: Stopped, event: &Event, name: &str, arguments: [u64; 3]) -> Option<Stopped> {
        let arch = event.call().map_or(Arch::NATIVE, |call| call.arch);
        let (Some(nr), Ok(registers)) = (arch.number(name), stop.registers()) else {
            self.refuse(stop, libc::EPERM);
            return None;
        };
        let mut replaced = registers.clone();
        replaced.set_number(nr.into());
        for (index, argument) in arguments.into_iter().enumerate() {
            replaced.set_argument(index as u8, arch == Arch::X86, argument);
        }
        let _gone = stop.set_registers(&replaced);
        self.task(stop.tid()).faked = Some(Faked { registers, result: None });
        Some(stop)
    }

    /// Makes a call fail, whatever anybody says.
    pub(super) fn refuse(&mut self, stop: Stopped, errno: c_int) {
        self.take_back(&stop);
        self.deny(&stop, errno);
        self.end_turn(stop.tid());
        self.go_on(stop, 0);
    }

    /// Gives a task the registers back that it lost to a call which does not
    /// run, or not as we had prepared it.
    pub(super) fn take_back(&mut self, stop: &Stopped) {
        if let Some(lent) = self.task(stop.tid()).lent.take() {
            Self::unguard(stop, &lent);
        }
    }

    /// Makes a call fail, unrun.
    fn deny(&mut self, stop: &Stopped, errno: c_int) {
        let result = -i64::from(errno);
        if self.may_skip(stop.tid()) {
            let _gone = stop.skip(result);
        } else if let (Some(harmless), Ok(registers)) = (self.harmless(stop), stop.registers()) {
            let _gone = stop.set_registers(&harmless);
            self.task(stop.tid()).faked = Some(Faked { registers, result: Some(result) });
        }
    }

    /// Whether a call of the task can be replaced by number -1. Where our filter
    /// stopped it the kernel skips it then. At a plain stop it asks other
    /// filters first, which may not know that number, and may kill.
    fn may_skip(&mut self, tid: pid_t) -> bool {
        self.task(tid).filtered || self.permits(tid).nothing
    }

    /// Registers that keep a call from running. If it cannot be skipped, a call
    /// is put in its place that every filter allows (`seccomp(2)`, strict mode)
    /// and that fails at once.
    pub(super) fn harmless(&mut self, stop: &Stopped) -> Option<Registers> {
        let Ok(Some(Moment::Entry(info))) = stop.moment(false) else { return None };
        let mut replaced = stop.registers().ok()?;
        if self.may_skip(stop.tid()) {
            replaced.set_number(u64::MAX);
        } else {
            let arch = Arch::from_audit(info.audit, info.nr as u32);
            replaced.set_number(u64::from(arch.unwrap_or(Arch::NATIVE).number("read")?));
            replaced.set_argument(0, arch == Some(Arch::X86), u64::MAX);
        }
        Some(replaced)
    }

    fn carry_out(
        &mut self,
        stop: Stopped,
        event: &Arc<Event>,
        denied: Option<Errno>,
        interest: Interest,
        spec: &Spec,
        protected: Option<Rc<Protected>>,
    ) {
        let tid = stop.tid();
        if let Some(errno) = denied {
            if let Some(protected) = protected {
                Self::unguard(&stop, &protected);
            }
            self.deny(&stop, c_int::from(errno.raw()));
            let refused = interest.exit.then(|| self.exit_event(tid, event, -i64::from(errno.raw()), 0, &NoMemory));
            self.task(tid).underway = false;
            self.end_turn(tid);
            self.go_on(stop, 0);
            if let Some(refused) = refused {
                self.handler.observe(refused);
            }
            return;
        }
        let exclusive = self.has_turn(tid);
        if interest.exit || spec.changes != Changes::Nothing || protected.is_some() || exclusive {
            if spec.changes == Changes::FileSystem {
                self.moving += 1;
                self.tasks.values_mut().for_each(Task::forget);
            }
            let wanted = interest.exit;
            let pending = Pending { entry: event.clone(), since: Instant::now(), wanted, protected, exclusive };
            if let Some(lost) = self.task(tid).pending.replace(pending) {
                self.over(tid, &lost);
            }
        }
        self.go_on(stop, 0);
    }

    fn exit(&mut self, stop: Stopped, mut result: i64) {
        let Some(pending) = self.task(stop.tid()).pending.take() else { return self.go_on(stop, 0) };
        if let Some(protected) = &pending.protected {
            result = Self::unguard(&stop, protected).unwrap_or(result);
        }
        self.task(stop.tid()).executing = None;
        self.over(stop.tid(), &pending);
        if !pending.wanted {
            return self.go_on(stop, 0);
        }
        let duration = pending.since.elapsed().as_nanos() as u64;
        let event = self.exit_event(stop.tid(), &pending.entry, result, duration, &TraceeMemory(stop.tid()));
        self.go_on(stop, 0);
        self.handler.observe(event);
    }

    /// A call that we waited for is over, or its task is: what it may have
    /// changed is to be learned anew. Roots and working directories can be
    /// shared (`CLONE_FS`), also with a task that is gone.
    pub(super) fn over(&mut self, tid: pid_t, pending: &Pending) {
        if pending.exclusive {
            self.end_turn(tid);
        }
        match pending.changes() {
            Changes::Nothing => {}
            Changes::Credentials => {
                if let Some(task) = self.tasks.get_mut(&tid) {
                    task.forget();
                    task.origin.ids = None;
                }
            }
            Changes::FileSystem => {
                let name = pending.entry.call().map_or("", |call| call.spec.name);
                if matches!(name, "mount" | "move_mount" | "setns") {
                    lookup::notice_mounts(tid);
                }
                if matches!(name, "unshare" | "setns")
                    && let Some(pid) = self.tasks.get(&tid).map(|task| task.pid)
                {
                    let threads = self.tasks.values_mut().filter(|task| task.pid == pid);
                    threads.for_each(|task| task.origin.forget_namespaces());
                }
                self.moving = self.moving.saturating_sub(1);
                self.tasks.values_mut().for_each(Task::forget);
            }
        }
    }

    /// The captured event of the exit of the call whose entry was `entry`.
    fn exit_event(
        &mut self,
        tid: pid_t,
        entry: &Event,
        result: i64,
        duration_ns: u64,
        memory: &dyn Memory,
    ) -> Arc<Event> {
        let call = entry.call().expect("an entry event is a call");
        let outcome = Outcome { result, entry_seq: entry.seq, duration_ns };
        let call = decode::complete(call, result, memory);
        let event = self.event(tid, Kind::Exit(call, outcome));
        event.capture();
        Arc::new(event)
    }

    /// Puts what says who shall own a descriptor's signals where only we can
    /// write, if others could change it. The stop, unless the call has been
    /// decided on.
    fn keep_owner(
        &mut self,
        stop: Stopped,
        arch: Arch,
        spec: &Spec,
        info: CallInfo,
        args: &[u64; 6],
    ) -> Option<Stopped> {
        let tid = stop.tid();
        let pointed = self.own.as_ref().and_then(|own| own.pointed(spec.name, args));
        let Some(size) = pointed.filter(|_| self.binding) else { return Some(stop) };
        let memory = TraceeMemory(tid);
        let snapshot = Snapshot::new(&memory);
        if snapshot.read(args[2], &mut vec![0; size]) != size {
            // We could not tell who is meant; the kernel may.
            self.refuse(stop, libc::EFAULT);
            return None;
        }
        if !self.needs_region(tid) && self.settle(tid, &snapshot, None) != Settled::Shared {
            return Some(stop);
        }
        if !self.has_region(tid) {
            self.send_for_region(stop, arch, info);
            return None;
        }
        let mut bytes = vec![0; size];
        if sys::read_memory(tid, args[2], &mut bytes) != size {
            self.refuse(stop, libc::EFAULT);
            return None;
        }
        if let Ok(Some(lent)) = self.lend(&stop, 2, bytes, arch == Arch::X86) {
            self.task(tid).lent = Some(lent);
            return Some(stop);
        }
        self.refuse_unprotected(stop);
        None
    }

    /// Sees to it that a new child is traced. The stop, unless the call has
    /// been decided on.
    fn keep_children_traced(&mut self, stop: Stopped, arch: Arch, spec: &Spec, info: CallInfo) -> Option<Stopped> {
        let untraced = libc::CLONE_UNTRACED as u64;
        let tid = stop.tid();
        match spec.name {
            "clone" if info.args[0] & untraced != 0 => {
                if arch == Arch::NATIVE {
                    let _gone = stop.set_first_argument(info.args[0] & !untraced);
                    return Some(stop);
                }
                self.refuse(stop, libc::EPERM);
                None
            }
            // Other sizes the kernel refuses before it looks at anything.
            "clone3" if CLONE_ARGS.contains(&info.args[1]) => {
                let memory = TraceeMemory(tid);
                let snapshot = Snapshot::new(&memory);
                let mut flags = [0; 8];
                let read = |flags: &mut [u8; 8]| snapshot.read(info.args[0], flags) == flags.len();
                if !read(&mut flags) {
                    self.refuse(stop, libc::EFAULT);
                    return None;
                }
                // Where verdicts bind, the flags must stay what they are.
                let stays =
                    !self.binding || !self.needs_region(tid) && self.settle(tid, &snapshot, None) != Settled::Shared;
                if stays && read(&mut flags) {
                    let flags = u64::from_le_bytes(flags);
                    if flags & untraced == 0 {
                        self.task(tid).clone3 = self.binding.then_some(flags);
                        return Some(stop);
                    }
                }
                if self.binding && arch == Arch::NATIVE {
                    if !self.has_region(tid) {
                        self.send_for_region(stop, arch, info);
                        return None;
                    }
                    if let Ok(Some((protected, flags))) = self.guard_clone(&stop, &info) {
                        let task = self.task(tid);
                        (task.lent, task.clone3) = (Some(protected), Some(flags));
                        return Some(stop);
                    }
                }
                // C libraries fall back to clone, whose flags are in a register.
                self.refuse(stop, libc::ENOSYS);
                None
            }
            _ => Some(stop),
        }
    }
}
