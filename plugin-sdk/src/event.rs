//! What a plugin's hooks are given.
//!
//! Nothing here is worked out before it is asked for: a [`Call`] is the
//! registers, the decoded arguments and a handle to the host.

use std::cell::OnceCell;
use std::ops::Deref;

use crate::bindings::tracegate::plugin::types::{Header, Process, Value};
use crate::known::{Known, Lookup, lookup};
use crate::source::Asked;
use crate::{ForkInfo, ProcessChange};

/// A system call: registers, decoded arguments, and what can be asked of it.
///
/// The typed views ([`open`](Call::open), [`exec`](Call::exec),
/// [`connect`](Call::connect), …) and [`paths`](Call::paths) are the way to
/// its arguments.
pub struct Call<'e> {
    header: Header,
    arguments: &'e [Value],
    source: &'e Asked,
    known: Option<Known>,
    name: OnceCell<String>,
    process: OnceCell<Process>,
}

impl<'e> Call<'e> {
    pub(crate) fn new(header: Header, arguments: &'e [Value], source: &'e Asked) -> Self {
        let mut call = Self { header, arguments, source, known: None, name: OnceCell::new(), process: OnceCell::new() };
        call.known = match lookup(header.arch, header.nr) {
            Lookup::Known(known) => Some(known),
            Lookup::Unknown => None,
            Lookup::AskByName => Known::named(call.syscall()),
        };
        call
    }

    /// Name of the system call, such as `openat`.
    pub fn syscall(&self) -> &str {
        match self.known {
            Some(known) => known.name(),
            None => self.name.get_or_init(|| self.source.syscall()),
        }
    }

    pub(crate) fn known(&self) -> Option<Known> {
        self.known
    }

    /// Registers, ids, number and time.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Process (thread group) id.
    pub fn pid(&self) -> u32 {
        self.header.pid
    }

    /// Thread id.
    pub fn tid(&self) -> u32 {
        self.header.tid
    }

    /// Wall-clock time in nanoseconds since the Unix epoch.
    pub fn time_ns(&self) -> u64 {
        self.header.time_ns
    }

    /// The process that makes the call. The host is asked once an event.
    pub fn process(&self) -> &Process {
        self.process.get_or_init(|| self.source.process())
    }

    /// All decoded arguments, in the order of the manual page. Prefer a view.
    pub fn arguments(&self) -> &'e [Value] {
        self.arguments
    }

    /// The decoded argument of this name, such as `dirfd`, for calls that
    /// have no view. Asks the host for names until one fits.
    pub fn argument(&self, name: &str) -> Option<&'e Value> {
        let index =
            (0..self.arguments.len() as u8).find(|&index| self.source.argument_name(index).as_deref() == Some(name))?;
        self.arguments.get(usize::from(index))
    }

    /// An argument as people read it, such as `O_RDWR|O_CLOEXEC`; empty if
    /// there is none of this number (from 0).
    pub fn describe(&self, argument: u8) -> String {
        self.source.describe(argument)
    }

    pub(crate) fn source(&self) -> &'e Asked {
        self.source
    }

    /// An argument register, all 64 bits; 0 beyond the sixth.
    pub fn register(&self, argument: u8) -> u64 {
        register(&self.header, argument)
    }

    pub(crate) fn value(&self, argument: u8) -> Option<&'e Value> {
        self.arguments.get(usize::from(argument))
    }

    /// A scalar: as decoded, else what the register holds.
    pub(crate) fn number(&self, argument: u8) -> u64 {
        match self.value(argument) {
            Some(Value::Int(number)) => *number as u64,
            Some(Value::Uint(number) | Value::Flags(number)) => *number,
            Some(Value::Fd(fd)) => i64::from(*fd) as u64,
            _ => self.register(argument),
        }
    }

    /// A scalar of the C types `int`, `pid_t` and the like.
    pub(crate) fn int(&self, argument: u8) -> i32 {
        self.number(argument) as i32
    }

    pub(crate) fn text(&self, argument: u8) -> Option<&'e str> {
        match self.value(argument)? {
            Value::Text(text) | Value::RawPath(text) | Value::Other(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn strings(&self, argument: u8) -> &'e [String] {
        match self.value(argument) {
            Some(Value::Strings(list)) => &list.items,
            _ => &[],
        }
    }

    /// A field of a structure argument.
    pub(crate) fn field(&self, argument: u8, name: &str) -> Option<u64> {
        match self.value(argument)? {
            Value::Structure(fields) => fields.iter().find(|field| field.name == name).map(|field| field.value),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("header", &self.header).field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

pub(crate) fn register(header: &Header, argument: u8) -> u64 {
    match argument {
        0 => header.a0,
        1 => header.a1,
        2 => header.a2,
        3 => header.a3,
        4 => header.a4,
        5 => header.a5,
        _ => 0,
    }
}

/// A call that is about to run.
#[derive(Debug)]
pub struct Entry<'e>(pub(crate) Call<'e>);

impl<'e> Deref for Entry<'e> {
    type Target = Call<'e>;

    fn deref(&self) -> &Call<'e> {
        &self.0
    }
}

/// A call that has run, or was denied.
#[derive(Debug)]
pub struct Exit<'e> {
    pub(crate) call: Call<'e>,
    pub(crate) outcome: i64,
}

impl<'e> Deref for Exit<'e> {
    type Target = Call<'e>;

    fn deref(&self) -> &Call<'e> {
        &self.call
    }
}

impl Exit<'_> {
    /// The return value; -1 to -4095 is a negative errno.
    pub fn outcome(&self) -> i64 {
        self.outcome
    }

    /// The errno of a call that failed.
    pub fn errno(&self) -> Option<crate::Errno> {
        (-4095..0).contains(&self.outcome).then(|| crate::Errno(-self.outcome as u16))
    }

    /// True if the call did not fail.
    pub fn succeeded(&self) -> bool {
        self.errno().is_none()
    }

    /// Time from entry to exit, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.call.source().duration_ns()
    }
}

/// A process or thread that came, changed its program, or went.
pub struct ProcessEvent<'e> {
    pub(crate) seq: u64,
    pub(crate) time_ns: u64,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) change: ProcessChange,
    pub(crate) source: &'e Asked,
    pub(crate) process: OnceCell<Process>,
}

impl ProcessEvent<'_> {
    /// Number of the event within its run or trace.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Wall-clock time in nanoseconds since the Unix epoch.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// Process (thread group) id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Thread id.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// What happened.
    pub fn change(&self) -> &ProcessChange {
        &self.change
    }

    /// The child, if this is a fork that made a process and not a thread.
    pub fn new_process(&self) -> Option<u32> {
        match self.change {
            ProcessChange::Forked(ForkInfo { child, thread: false }) => Some(child),
            _ => None,
        }
    }

    /// Executable before, if this is an exec.
    pub fn previous_exe(&self) -> Option<&str> {
        match &self.change {
            ProcessChange::Executed(info) => Some(&info.previous_exe),
            _ => None,
        }
    }

    /// The process: after an exec the new program, after an exit what was
    /// last known. The host is asked once an event.
    pub fn process(&self) -> &Process {
        self.process.get_or_init(|| self.source.process())
    }
}

impl std::fmt::Debug for ProcessEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessEvent")
            .field("seq", &self.seq)
            .field("pid", &self.pid)
            .field("change", &self.change)
            .finish_non_exhaustive()
    }
}
