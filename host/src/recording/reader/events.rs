//! Lines that are events.

use std::sync::Arc;

use serde::Deserialize;

use super::declarations::Declarations;
use super::{Phase, Record, arch_of};
use crate::event::{Argument, Call, Event, ExitStatus, Kind, Outcome, Process, ProcessEvent, Strings, Value};
use crate::recording::Header;
use crate::recording::arguments::Arguments;
use crate::recording::encoding::{Bytes, Registers, Signed, Text};
use crate::recording::error::Problem;

/// What decides whether a call is wanted, and what is checked all the same.
#[derive(Deserialize)]
pub(super) struct CallHead<'a> {
    pub(super) seq: u64,
    pub(super) process: u64,
    #[serde(borrow)]
    pub(super) arch: Text<'a>,
    pub(super) nr: u32,
}

/// A call.
#[derive(Debug, Deserialize)]
pub(super) struct CallLine<'a> {
    pub(super) seq: u64,
    pub(super) time_ns: u64,
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) process: u64,
    #[serde(borrow)]
    pub(super) arch: Text<'a>,
    pub(super) nr: u32,
    #[serde(borrow)]
    pub(super) syscall: Text<'a>,
    pub(super) registers: Registers,
    #[serde(borrow)]
    pub(super) args: Arguments<'a>,
    pub(super) result: Option<Signed>,
    pub(super) entry_seq: Option<u64>,
    pub(super) duration_ns: Option<u64>,
}

impl CallLine<'_> {
    pub(super) fn into_event(
        self,
        phase: Phase,
        process: Arc<Process>,
        declarations: &mut Declarations,
        header: &Header,
    ) -> Result<Record, Problem> {
        let arch = arch_of(&self.arch.0)?;
        let spec = declarations.find(arch, self.nr, &self.syscall.0, &self.args, header)?;
        let registers = self.registers.0;
        let mut arguments = self.args.list;
        if let Some(index) = spec.environment()
            && let Some(argument) = arguments.get_mut(index)
        {
            // In a trace an environment is the value of its argument.
            let environment = match &mut argument.value {
                Value::Strings(environment) => Some(std::mem::take(environment)),
                Value::Absent => Some(Strings::default()),
                _ => None,
            };
            let address = if registers[index] == 0 { Value::Absent } else { Value::Uint(registers[index]) };
            *argument = Argument::of_environment(address, environment);
        }
        let call = Call { arch, nr: self.nr, registers, spec, arguments };
        let kind = match phase {
            Phase::Entry => Kind::Entry(call),
            Phase::Exit => {
                let missing = |name: &str| Problem::Malformed(format!("missing field `{name}`"));
                let outcome = Outcome {
                    result: self.result.ok_or_else(|| missing("result"))?.0,
                    entry_seq: self.entry_seq.ok_or_else(|| missing("entry_seq"))?,
                    duration_ns: self.duration_ns.ok_or_else(|| missing("duration_ns"))?,
                };
                if outcome.entry_seq >= self.seq {
                    return Err(Problem::Malformed(format!(
                        "exit {} says that it was entered at {}, which is not before it",
                        self.seq, outcome.entry_seq
                    )));
                }
                Kind::Exit(call, outcome)
            }
        };
        Ok(Record::Event(Event::captured(self.seq, self.time_ns, (self.pid, self.tid), kind, process)))
    }
}

/// A process or thread coming or going.
#[derive(Deserialize)]
pub(super) struct ProcessEventLine {
    pub(super) seq: u64,
    pub(super) time_ns: u64,
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) process: u64,
    pub(super) child: Option<i32>,
    pub(super) thread: Option<bool>,
    pub(super) previous_exe: Option<Bytes>,
    pub(super) code: Option<u8>,
    pub(super) signal: Option<u8>,
}

impl ProcessEventLine {
    pub(super) fn into_event(self, name: &str, process: Arc<Process>) -> Result<Record, Problem> {
        let missing = |name: &str| Problem::Malformed(format!("missing field `{name}`"));
        let what = match name {
            "process_fork" => ProcessEvent::Forked {
                child: self.child.ok_or_else(|| missing("child"))?,
                thread: self.thread.ok_or_else(|| missing("thread"))?,
            },
            "process_exec" => {
                ProcessEvent::Executed { previous_exe: self.previous_exe.ok_or_else(|| missing("previous_exe"))?.0 }
            }
            _ => ProcessEvent::Exited(match (self.code, self.signal) {
                (Some(code), None) => ExitStatus::Code(code),
                (None, Some(signal)) => ExitStatus::Signal(signal),
                (Some(_), Some(_)) => {
                    return Err(Problem::Malformed("an exit has a `code` or a `signal`, not both".into()));
                }
                (None, None) => return Err(missing("code")),
            }),
        };
        let ids = (self.pid, self.tid);
        Ok(Record::Event(Event::captured(self.seq, self.time_ns, ids, Kind::Process(what), process)))
    }
}
