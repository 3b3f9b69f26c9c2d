//! The one value that flows from the tracer (or a recorded trace) to the
//! plugins.
//!
//! An [`Event`] made live answers lazily: a path is resolved, a process looked
//! up, only when somebody asks, and then once. [`Event::capture`] works out
//! everything, which is what the observe lane and the recorder need before the
//! tracee goes on; an event read from a trace is born captured. Who holds an
//! event cannot tell which of the three it is.
//!
//! This module never stops, resumes or changes a tracee.

mod address;
mod process;
mod value;
mod verdict;

use std::sync::{Arc, OnceLock};

use bstr::BString;

pub use address::SocketAddress;
pub use process::{ExitStatus, Process, ProcessEvent, ProcessEvents};
pub use value::{Defect, Field, Message, PathState, ResolvedPath, Strings, Value};
pub use verdict::{Action, Alert, Answer, Errno, Severity};

use crate::decode::{Arch, Spec};

/// Something that happened in a tracee.
#[derive(Debug)]
pub struct Event {
    /// Number within the run, from 1.
    pub seq: u64,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Process (thread group) id.
    pub pid: i32,
    /// Thread id.
    pub tid: i32,
    /// What happened.
    pub kind: Kind,
    process: OnceLock<Arc<Process>>,
    oracle: Option<Box<dyn Oracle>>,
}

/// What happened.
#[derive(Debug)]
pub enum Kind {
    /// A system call is about to run.
    Entry(Call),
    /// A system call has run, or was denied.
    Exit(Call, Outcome),
    /// A process or thread came or went.
    Process(ProcessEvent),
}

/// A system call and its decoded arguments.
#[derive(Clone, Debug)]
pub struct Call {
    /// Calling convention.
    pub arch: Arch,
    /// Number in the convention's numbering.
    pub nr: u32,
    /// Argument registers at entry.
    pub registers: [u64; 6],
    /// Declaration: name, argument names and kinds.
    pub spec: &'static Spec,
    /// One per argument of the declaration.
    pub arguments: Vec<Argument>,
}

/// One argument: what the registers and the memory behind them say, and what
/// the file system says of that, if asked.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Decoded value.
    pub value: Value,
    path: OnceLock<Option<ResolvedPath>>,
    descriptor: OnceLock<Option<BString>>,
    environment: OnceLock<Option<Strings>>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Return value; -1 to -4095 is a negative errno.
    pub result: i64,
    /// Number of the entry event of the same call; 0 if it was not seen.
    pub entry_seq: u64,
    /// Time from entry to exit.
    pub duration_ns: u64,
}

impl Outcome {
    /// The errno of a call that failed.
    pub fn errno(&self) -> Option<i32> {
        (-4095..0).contains(&self.result).then_some(-self.result as i32)
    }
}

/// Answers about a live tracee that is stopped at an event.
pub trait Oracle: std::fmt::Debug + Send + Sync {
    /// The process that makes the call.
    fn process(&self) -> Arc<Process>;
    /// The file that path argument `index` leads to.
    fn path(&self, call: &Call, index: usize) -> Option<ResolvedPath>;
    /// What descriptor `fd` refers to.
    fn descriptor(&self, fd: i32) -> Option<BString>;
    /// The environment that the call gives to a program.
    fn environment(&self, call: &Call) -> Option<Strings>;
}

impl Argument {
    /// An argument about which the file system will be asked on demand.
    pub fn new(value: Value) -> Self {
        Self { value, path: OnceLock::new(), descriptor: OnceLock::new(), environment: OnceLock::new() }
    }

    /// An argument of which all is known.
    pub fn captured(value: Value, path: Option<ResolvedPath>, descriptor: Option<BString>) -> Self {
        Self { value, path: path.into(), descriptor: descriptor.into(), environment: OnceLock::new() }
    }

    /// The address of an environment of which all is known.
    pub fn of_environment(address: Value, environment: Option<Strings>) -> Self {
        Self { environment: environment.into(), ..Self::captured(address, None, None) }
    }
}

impl Event {
    /// An event of a live, stopped tracee.
    pub fn live(seq: u64, time_ns: u64, ids: (i32, i32), kind: Kind, oracle: Box<dyn Oracle>) -> Self {
        Self { seq, time_ns, pid: ids.0, tid: ids.1, kind, process: OnceLock::new(), oracle: Some(oracle) }
    }

    /// An event of which all is known.
    pub fn captured(seq: u64, time_ns: u64, ids: (i32, i32), kind: Kind, process: Arc<Process>) -> Self {
        Self { seq, time_ns, pid: ids.0, tid: ids.1, kind, process: process.into(), oracle: None }
    }

    /// The call, if the event is one.
    pub fn call(&self) -> Option<&Call> {
        match &self.kind {
            Kind::Entry(call) | Kind::Exit(call, _) => Some(call),
            Kind::Process(_) => None,
        }
    }

    /// The result, if the event is a call's exit.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.kind {
            Kind::Exit(_, outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The process that it happened in.
    pub fn process(&self) -> &Arc<Process> {
        self.process.get_or_init(|| match &self.oracle {
            Some(oracle) => oracle.process(),
            None => Arc::new(Process::unknown(self.pid)),
        })
    }

    /// The file that argument `index` leads to; `None` if that is not a path.
    pub fn path(&self, index: usize) -> Option<&ResolvedPath> {
        let call = self.call()?;
        let argument = call.arguments.get(index)?;
        argument.path.get_or_init(|| self.oracle.as_ref().and_then(|oracle| oracle.path(call, index))).as_ref()
    }

    /// What descriptor argument `index` refers to.
    pub fn descriptor(&self, index: usize) -> Option<&BString> {
        let argument = self.call()?.arguments.get(index)?;
        let Value::Fd(fd) = argument.value else { return None };
        argument.descriptor.get_or_init(|| self.oracle.as_ref().and_then(|oracle| oracle.descriptor(fd))).as_ref()
    }

    /// The environment that the call gives to the program that it executes.
    /// `None` if it executes none, or it cannot be read.
    pub fn environment(&self) -> Option<&Strings> {
        let call = self.call()?;
        let argument = call.arguments.get(call.spec.environment()?)?;
        argument.environment.get_or_init(|| self.oracle.as_ref().and_then(|oracle| oracle.environment(call))).as_ref()
    }

    /// The same, if somebody has asked for it.
    pub fn asked_environment(&self) -> Option<&Strings> {
        let call = self.call()?;
        call.arguments.get(call.spec.environment()?)?.environment.get()?.as_ref()
    }

    /// Works out all that can be asked, while the tracee is stopped. From then
    /// on no method looks at the tracee.
    pub fn capture(&self) {
        self.process();
        for index in 0..self.call().map_or(0, |call| call.arguments.len()) {
            self.path(index);
            self.descriptor(index);
        }
        self.environment();
    }
}
