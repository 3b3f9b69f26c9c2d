//! Calls that name processes, threads, process groups or users.
//!
//! Numbers of threads are as good as the process's own: kill(2) takes them
//! too. Threads of ours can be younger than the filter, so that it stops a
//! call for any number but 0, where the call is rare enough.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use bstr::ByteSlice;
use libc::{c_int, pid_t};

use super::super::filter::{Comparison, Condition, Predicate};
use super::super::resolve::{self, proc_path};
use super::super::sys;
use super::broadcast::{Broadcast, Echo, Sender, Set};
use super::{Own, Verdict, is_our_entry, may_have_power, numbers};
use crate::event::{Call, Errno, Event};

/// How a call names whom it means. Numbers are indices of arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aim {
    /// kill(2).
    Kill,
    /// A signal to one process or thread.
    Signal { task: u8, signal: u8 },
    /// A signal to a thread of a process; both are named.
    ThreadSignal { process: u8, signal: u8 },
    /// `pidfd_send_signal(2)`.
    PidfdSignal,
    /// These name a task, if the condition holds.
    Task { tasks: &'static [u8], when: When, errno: Errno },
    /// Process, process group or user; numbered from this one.
    Priority { first: u32 },
    /// What a process that is given by its descriptor has or is. Which
    /// descriptor is a look of its own: so nobody must get one of us.
    Pidfd,
    /// A handle can stand for a process (pidfs, Linux 6.14).
    Handle,
    /// What gives out descriptors of processes: an `int` argument, its bits and
    /// their value, all of them; the errno of kernels that do not know it.
    GivesOut(&'static [(u8, u32, u32)], Errno),
    /// Who gets the signals of a descriptor, by these commands.
    Owner { by_value: &'static [u32], by_pointer: &'static [u32] },
}

/// Under which condition a call does something to a task.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    /// An `int` argument is one of these.
    OneOf(u8, &'static [u32]),
    /// A pointer is not NULL.
    Given(u8),
}

const F_SETOWN: u32 = libc::F_SETOWN as u32;
const F_SETOWN_EX: u32 = 15;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;
const PR_SCHED_CORE: u32 = 62;
/// asm-generic/socket.h, Linux 6.5.
const SO_PASSPIDFD: u32 = 76;
const SO_PEERPIDFD: u32 = 77;
const SOL_SOCKET: u32 = libc::SOL_SOCKET as u32;
/// linux/fanotify.h, Linux 5.15.
const FAN_REPORT_PIDFD: u32 = 0x80;
/// linux/fcntl.h, Linux 6.17.
const FD_PIDFS_ROOT: c_int = -10002;
/// `CAP_DAC_READ_SEARCH`
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

const fn task(tasks: &'static [u8], when: When) -> Aim {
    Aim::Task { tasks, when, errno: Errno::EPERM }
}

pub(super) static CALLS: &[(&str, Aim)] = &[
    ("kill", Aim::Kill),
    ("tkill", Aim::Signal { task: 0, signal: 1 }),
    ("rt_sigqueueinfo", Aim::Signal { task: 0, signal: 1 }),
    ("tgkill", Aim::ThreadSignal { process: 0, signal: 2 }),
    ("rt_tgsigqueueinfo", Aim::ThreadSignal { process: 0, signal: 2 }),
    ("pidfd_send_signal", Aim::PidfdSignal),
    ("pidfd_open", task(&[0], When::Always)),
    // Sockets of ours have a peer, too.
    ("getsockopt", Aim::GivesOut(&[(1, u32::MAX, SOL_SOCKET), (2, u32::MAX, SO_PEERPIDFD)], Errno::ENOPROTOOPT)),
    ("setsockopt", Aim::GivesOut(&[(1, u32::MAX, SOL_SOCKET), (2, u32::MAX, SO_PASSPIDFD)], Errno::ENOPROTOOPT)),
    // Files of ours are watched, too.
    ("fanotify_init", Aim::GivesOut(&[(0, FAN_REPORT_PIDFD, FAN_REPORT_PIDFD)], Errno::EINVAL)),
    ("open_by_handle_at", Aim::Handle),
    ("pidfd_getfd", Aim::Pidfd),
    ("process_madvise", Aim::Pidfd),
    // The other requests are for tracees only.
    ("ptrace", task(&[1], When::OneOf(0, &[libc::PTRACE_ATTACH, libc::PTRACE_SEIZE]))),
    ("process_vm_readv", task(&[0], When::Always)),
    ("process_vm_writev", task(&[0], When::Always)),
    ("kcmp", task(&[0, 1], When::Always)),
    ("get_robust_list", task(&[0], When::Always)),
    ("perf_event_open", Aim::Task { tasks: &[1], when: When::Always, errno: Errno::EACCES }),
    // Without descriptors or memory we could not look; on a slow processor plugins overrun.
    ("prlimit64", task(&[0], When::Given(2))),
    ("move_pages", task(&[0], When::Always)),
    ("migrate_pages", task(&[0], When::Always)),
    ("sched_setaffinity", task(&[0], When::Always)),
    ("sched_setscheduler", task(&[0], When::Always)),
    ("sched_setparam", task(&[0], When::Always)),
    ("sched_setattr", task(&[0], When::Always)),
    ("prctl", task(&[2], When::OneOf(0, &[PR_SCHED_CORE]))),
    ("setpriority", Aim::Priority { first: 0 }),
    ("ioprio_set", Aim::Priority { first: 1 }),
    // With F_SETSIG any signal, SIGKILL too.
    ("fcntl", Aim::Owner { by_value: &[F_SETOWN], by_pointer: &[F_SETOWN_EX] }),
    ("fcntl64", Aim::Owner { by_value: &[F_SETOWN], by_pointer: &[F_SETOWN_EX] }),
    ("ioctl", Aim::Owner { by_value: &[], by_pointer: &[FIOSETOWN, SIOCSPGRP] }),
];

/// Nothing comes of these by default, and we leave them at that; 0 only asks
/// whether there is such a process.
const HARMLESS: [c_int; 5] = [0, libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];

/// Bits of a C `int`.
const INT: u64 = 0xffff_ffff;

fn condition(argument: u8, mask: u64, op: Comparison, value: u64) -> Condition {
    Condition::new(argument, mask, op, value).expect("the tables here name arguments 0 to 5")
}

/// A `pid_t` that may name another task. What is negative fails anyway.
fn given(argument: u8) -> Condition {
    condition(argument, INT, Comparison::Ne, 0)
}

fn given_out(all_of: &[(u8, u32, u32)]) -> Vec<Condition> {
    let one = |(argument, bits, value): &(u8, u32, u32)| {
        condition(*argument, u64::from(*bits), Comparison::Eq, u64::from(*value))
    };
    all_of.iter().map(one).collect()
}

fn is(argument: u8, value: u32) -> Condition {
    condition(argument, INT, Comparison::Eq, value.into())
}

/// Leaves out what is sent often: Go and `PostgreSQL` use SIGURG among their own.
fn harmful(argument: u8) -> Vec<Condition> {
    [0, libc::SIGURG].iter().map(|signal| condition(argument, INT, Comparison::Ne, *signal as u64)).collect()
}

impl When {
    fn alternatives(self) -> Vec<Vec<Condition>> {
        match self {
            Self::Always => vec![Vec::new()],
            Self::OneOf(argument, values) => values.iter().map(|value| vec![is(argument, *value)]).collect(),
            Self::Given(argument) => vec![vec![condition(argument, u64::MAX, Comparison::Ne, 0)]],
        }
    }

    fn holds(self, call: &Call) -> bool {
        self.alternatives().iter().any(|all_of| all_of.iter().all(|condition| condition.holds(&call.registers)))
    }
}

impl Aim {
    /// When a call with this aim stops.
    pub(super) fn stops(self, own: &Own) -> Predicate {
        let mut stops = Predicate::default();
        match self {
            Self::Kill | Self::PidfdSignal => stops.or(harmful(1)),
            Self::Pidfd | Self::Handle => stops = Predicate::always(),
            Self::GivesOut(all_of, _) => stops.or(given_out(all_of)),
            Self::Signal { task, signal } => stops.or([vec![given(task)], harmful(signal)].concat()),
            Self::ThreadSignal { process, signal } => {
                stops.or([vec![is(process, own.pid as u32)], harmful(signal)].concat());
            }
            Self::Task { tasks, when, .. } => {
                for task in tasks {
                    for all_of in when.alternatives() {
                        stops.or([vec![given(*task)], all_of].concat());
                    }
                }
            }
            Self::Priority { first } => {
                stops.or(vec![is(0, first), given(1)]);
                stops.or(vec![is(0, first + 1)]);
                stops.or(vec![is(0, first + 2)]);
            }
            Self::Owner { by_value, by_pointer } => {
                for command in by_value.iter().chain(by_pointer) {
                    stops.or(vec![is(1, *command)]);
                }
            }
        }
        stops
    }

    /// How many bytes behind the third argument say who is meant.
    pub(super) fn pointed(self, command: u32) -> Option<usize> {
        match self {
            Self::Owner { by_pointer, .. } if by_pointer.contains(&command) => {
                Some(if command == F_SETOWN_EX { 8 } else { 4 })
            }
            _ => None,
        }
    }

    pub(super) fn judge(self, own: &Own, event: &Event, call: &Call, alone: bool) -> Verdict {
        let number = |argument: u8| call.registers[usize::from(argument)] as pid_t;
        let named = |argument: u8| own.is_named(event.tid, number(argument));
        let refuse_if = |named: bool| if named { Verdict::Refuse(Errno::EPERM) } else { Verdict::Pass };
        match self {
            Self::Kill => match target(own, event, number(0)) {
                Some(target) => signalled(own, event, target, number(1)),
                None => Verdict::Pass,
            },
            Self::Signal { task, signal } | Self::ThreadSignal { process: task, signal } if named(task) => {
                signalled(own, event, Target::Us, number(signal))
            }
            Self::Signal { .. } | Self::ThreadSignal { .. } => Verdict::Pass,
            Self::Pidfd => refuse_if(descriptor_target(own, event.tid, number(0), 0).is_some()),
            // Of other file systems the kernel asks for the capability.
            Self::Handle => {
                let may = event.process().capabilities & CAP_DAC_READ_SEARCH != 0;
                refuse_if(!may || number(0) == FD_PIDFS_ROOT || is_on_pidfs(event.tid, number(0)))
            }
            Self::GivesOut(all_of, errno) => {
                let asked = given_out(all_of).iter().all(|condition| condition.holds(&call.registers));
                if asked { Verdict::Refuse(errno) } else { Verdict::Pass }
            }
            Self::PidfdSignal if !alone && number(0) >= 0 => signal_by_number(own, event, call),
            // Of a leader that is gone nobody can tell which group it had.
            Self::PidfdSignal
                if number(3) & PIDFD_SIGNAL_PROCESS_GROUP != 0
                    && Pidfd::of(event.tid, number(0)).is_some_and(|pidfd| pidfd.pid == Some(-1)) =>
            {
                Verdict::Refuse(Errno::EPERM)
            }
            Self::PidfdSignal => match descriptor_target(own, event.tid, number(0), number(3)) {
                Some(target) => signalled(own, event, target, number(1)),
                None => Verdict::Pass,
            },
            Self::Task { tasks, when, errno } => {
                if when.holds(call) && tasks.iter().any(|task| named(*task)) {
                    Verdict::Refuse(errno)
                } else {
                    Verdict::Pass
                }
            }
            Self::Priority { first } => {
                refuse_if(is_in_priority_set(own, event, (number(0) as u32).wrapping_sub(first), number(1)))
            }
            Self::Owner { by_value, by_pointer } => {
                let command = number(1) as u32;
                let owner = if by_value.contains(&command) {
                    Some(number(2))
                } else if by_pointer.contains(&command) {
                    match owner_at(event.tid, call.registers[2], command) {
                        Ok(owner) => owner,
                        // The kernel may be luckier.
                        Err(errno) => return Verdict::Refuse(errno),
                    }
                } else {
                    None
                };
                refuse_if(owner.is_some_and(|owner| {
                    own.is_named(event.tid, owner) || owner < -1 && is_our_group(own, event.tid, owner.wrapping_neg())
                }))
            }
        }
    }
}

/// Whom a signal is for, if for us.
#[derive(Clone, Copy, Debug)]
enum Target {
    Us,
    Set(Set),
}

/// The target of kill(2), if we are it or in it.
fn target(own: &Own, event: &Event, pid: pid_t) -> Option<Target> {
    match pid {
        1.. => own.is_named(event.tid, pid).then_some(Target::Us),
        // The caller's own group, whatever number it has in the caller's PID namespace.
        0 => is_our_group(own, event.tid, 0).then_some(Target::Set(Set::Group(own.group))),
        // Never PID 1.
        -1 => (own.pid != 1 && own.shares_pids(event.tid)).then_some(Target::Set(Set::Everyone)),
        pid_t::MIN => None,
        _ => is_our_group(own, event.tid, -pid).then_some(Target::Set(Set::Group(own.group))),
    }
}

/// Whether `group`, as task `tid` uses it, is ours; 0 stands for its own.
fn is_our_group(own: &Own, tid: pid_t, group: pid_t) -> bool {
    if group == 0 {
        let theirs = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(tid)));
        return theirs.is_ok_and(|theirs| theirs.as_raw() == own.group);
    }
    group == own.group && own.shares_pids(tid)
}

/// What becomes of a signal that we are to get.
fn signalled(own: &Own, event: &Event, target: Target, signal: c_int) -> Verdict {
    if HARMLESS.contains(&signal) || !(1..=64).contains(&signal) {
        return Verdict::Pass;
    }
    let sender = Sender::of(event.process(), own.shares_users(event.tid));
    if !sender.may_signal(own.users) && !may_have_power(event) {
        // The kernel fails the call, or leaves us out.
        return Verdict::Pass;
    }
    let taken = own.taken.contains(&signal);
    match target {
        // The kernel spares PID 1.
        Target::Us if own.pid == 1 && matches!(signal, libc::SIGKILL | libc::SIGSTOP) => Verdict::Pass,
        // We stand where the program would: `kill -QUIT 1` in a container.
        Target::Us if taken || own.pid == 1 && !own.taken.is_empty() => Verdict::PassOn(signal),
        Target::Us => Verdict::Refuse(Errno::EPERM),
        Target::Set(_) if taken => Verdict::Echo(Echo { signal, sender: innermost(event) }),
        Target::Set(to) => Verdict::Instead(Broadcast { signal, to, sender }),
    }
}

/// The caller's process id as its own PID namespace has it, which is what the
/// kernel writes into `si_pid`.
fn innermost(event: &Event) -> pid_t {
    numbers(event.tid, "NStgid:").and_then(|numbers| numbers.last().copied()).unwrap_or(event.pid)
}

/// Flags of `pidfd_send_signal(2)`: to the thread, to its process, to the
/// process group of that number.
const PIDFD_SIGNAL_THREAD: u64 = 1;
const PIDFD_SIGNAL_THREAD_GROUP: u64 = 2;
const PIDFD_SIGNAL_PROCESS_GROUP: c_int = 4;
/// Of a descriptor of a thread (`PIDFD_THREAD`).
const O_EXCL: u64 = libc::O_EXCL as u64;

/// What becomes of a signal to a descriptor that others can replace: it goes
/// to the number that the descriptor has now.
fn signal_by_number(own: &Own, event: &Event, call: &Call) -> Verdict {
    let [fd, signal, info, flags, ..] = call.registers;
    let Some(pidfd) = Pidfd::of(event.tid, fd as c_int) else { return Verdict::Refuse(Errno::EBADF) };
    let Some(pid) = pidfd.pid else { return Verdict::Refuse(Errno::EINVAL) };
    if pid == -1 {
        return Verdict::Refuse(Errno::ESRCH);
    }
    if own.is_thread(pid) {
        return signalled(own, event, Target::Us, signal as c_int);
    }
    // In the caller's PID namespace, which is ours or below it.
    let below = super::depth(event.tid).unwrap_or(own.depth).saturating_sub(own.depth);
    let number = pidfd.numbers.get(below).copied().filter(|number| *number > 0);
    let thread = flags == PIDFD_SIGNAL_THREAD || flags == 0 && pidfd.flags & O_EXCL != 0;
    let known = [0, PIDFD_SIGNAL_THREAD, PIDFD_SIGNAL_THREAD_GROUP].contains(&flags);
    match (number.filter(|_| known), thread, info) {
        (Some(number), false, 0) => Verdict::Replace("kill", [number as u64, signal, 0]),
        (Some(number), true, 0) => Verdict::Replace("tkill", [number as u64, signal, 0]),
        (Some(number), false, info) => Verdict::Replace("rt_sigqueueinfo", [number as u64, signal, info]),
        _ => Verdict::Refuse(Errno::EPERM),
    }
}

/// What `/proc/PID/fdinfo` says of a descriptor (proc(5)).
struct Pidfd {
    /// The process, as our procfs numbers it: -1 if it is gone; none if this is
    /// no descriptor of a process.
    pid: Option<pid_t>,
    /// The same and those of the PID namespaces below.
    numbers: Vec<pid_t>,
    flags: u64,
}

impl Pidfd {
    fn of(tid: pid_t, fd: c_int) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let numbers = field("NSpid:").map(|rest| rest.split_whitespace().filter_map(|n| n.parse().ok()).collect());
        Some(Self {
            pid: field("Pid:").and_then(|pid| pid.parse().ok()),
            numbers: numbers.unwrap_or_default(),
            flags: field("flags:").and_then(|flags| u64::from_str_radix(flags, 8).ok()).unwrap_or(0),
        })
    }
}

/// Whom descriptor `fd` of task `tid` stands for, if for us.
fn descriptor_target(own: &Own, tid: pid_t, fd: c_int, flags: c_int) -> Option<Target> {
    if fd < 0 {
        // The caller itself.
        return None;
    }
    // That procfs is ours, and so are its numbers.
    let pid = Pidfd::of(tid, fd)?.pid;
    if flags & PIDFD_SIGNAL_PROCESS_GROUP != 0 && pid == Some(own.group) {
        return Some(Target::Set(Set::Group(own.group)));
    }
    let named = pid.map_or_else(|| is_our_directory(tid, fd), |pid| own.is_thread(pid));
    named.then_some(Target::Us)
}

/// Whether a descriptor is on the file system of processes, as those of
/// `pidfd_open(2)` are since Linux 6.9 (`PID_FS_MAGIC`).
fn is_on_pidfs(tid: pid_t, fd: c_int) -> bool {
    nix::sys::statfs::statfs(proc_path(tid, &format!("fd/{fd}")).as_c_str())
        .is_ok_and(|found| found.filesystem_type().0 as u32 == 0x5049_4446)
}

/// Whether a descriptor is our directory in procfs, which
/// `pidfd_send_signal(2)` takes too.
fn is_our_directory(tid: pid_t, fd: c_int) -> bool {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let Ok(directory) = sys::openat(libc::AT_FDCWD, &proc_path(tid, &format!("fd/{fd}")), flags) else { return false };
    if !sys::is_procfs(directory.as_fd()) {
        return false;
    }
    let (Ok(name), Ok(parent)) =
        (resolve::name_of(directory.as_fd()), sys::openat(directory.as_raw_fd(), c"..", flags))
    else {
        return false;
    };
    name.rsplit_str("/").next().is_some_and(|name| is_our_entry(parent.as_fd(), name))
}

/// Whether the set of setpriority(2) or `ioprio_set(2)` has us in it. Processes,
/// process groups and users are numbered in this order.
fn is_in_priority_set(own: &Own, event: &Event, which: u32, who: c_int) -> bool {
    match which {
        0 => own.is_named(event.tid, who),
        1 => is_our_group(own, event.tid, who),
        2 if who == 0 => event.process().uids[0] == own.users[0],
        2 => who as u32 == own.users[0] && own.shares_users(event.tid),
        _ => false,
    }
}

/// The owner that `F_SETOWN_EX` or an ioctl is to set: a process, or a
/// negative process group.
fn owner_at(tid: pid_t, address: u64, command: u32) -> Result<Option<pid_t>, Errno> {
    let word = |offset: u64| {
        let mut bytes = [0; 4];
        let read = sys::read_memory(tid, address.wrapping_add(offset), &mut bytes);
        if read == bytes.len() { Ok(pid_t::from_ne_bytes(bytes)) } else { Err(Errno::EFAULT) }
    };
    if command != F_SETOWN_EX {
        return word(0).map(Some);
    }
    // struct f_owner_ex: F_OWNER_TID, F_OWNER_PID or F_OWNER_PGRP, and whom.
    Ok(match (word(0)?, word(4)?) {
        (0 | 1, pid) => Some(pid),
        (2, group) => group.checked_neg(),
        _ => None,
    })
}
