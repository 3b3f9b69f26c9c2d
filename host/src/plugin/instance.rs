//! One instance of a plugin: its store, its memory, its hooks.
//!
//! It lives from one fault to the next: a trap or an overrun leaves a Wasm
//! instance in no known state, so it is thrown away, never called again.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::{InstancePre, Resource};

use super::convert;
use super::imports::{Context, Kept};
use super::ledger::Ledger;
use super::limits::{Limiter, Limits};
use super::runtime::{Running, Runtime};
use super::wit::{lifecycle, process_events, syscall_entry, syscall_exit, types};
use crate::event::{Answer, Event, Kind};

/// An event on its way to several plugins: converted once.
pub(super) struct Question<'a> {
    event: &'a Arc<Event>,
    arguments: OnceCell<Vec<types::Value>>,
}

impl<'a> Question<'a> {
    pub(super) fn new(event: &'a Arc<Event>) -> Self {
        Self { event, arguments: OnceCell::new() }
    }

    pub(super) fn event(&self) -> &'a Arc<Event> {
        self.event
    }
}

/// The hooks that a component exports, found once.
pub(super) struct Hooks {
    lifecycle: lifecycle::GuestIndices,
    entry: Option<syscall_entry::GuestIndices>,
    exit: Option<syscall_exit::GuestIndices>,
    processes: Option<process_events::GuestIndices>,
}

impl Hooks {
    /// Probes a component. The error says that it has no `lifecycle` of ours.
    pub(super) fn of(pre: &InstancePre<Context>) -> wasmtime::Result<Self> {
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            entry: syscall_entry::GuestIndices::new(pre).ok(),
            exit: syscall_exit::GuestIndices::new(pre).ok(),
            processes: process_events::GuestIndices::new(pre).ok(),
        })
    }

    pub(super) fn entry(&self) -> bool {
        self.entry.is_some()
    }

    pub(super) fn exit(&self) -> bool {
        self.exit.is_some()
    }

    pub(super) fn processes(&self) -> bool {
        self.processes.is_some()
    }
}

pub(super) struct Instance {
    store: Store<Context>,
    lifecycle: lifecycle::Guest,
    entry: Option<syscall_entry::Guest>,
    exit: Option<syscall_exit::Guest>,
    processes: Option<process_events::Guest>,
}

/// Why a call did not come back with an answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(pub(super) String);

impl Instance {
    pub(super) fn new(
        runtime: &Runtime,
        pre: &InstancePre<Context>,
        hooks: &Hooks,
        name: &str,
        kept: &mut Kept,
        limits: &Limits,
    ) -> Result<Self, Fault> {
        let context = Context::new(name.to_owned(), std::mem::take(kept), Limiter::new(limits.memory));
        let mut store = runtime.store(context);
        let mut make = || -> wasmtime::Result<_> {
            let _armed = runtime.arm(&mut store, limits)?;
            let instance = pre.instantiate(&mut store)?;
            let lifecycle = hooks.lifecycle.load(&mut store, &instance)?;
            let entry = hooks.entry.as_ref().map(|hook| hook.load(&mut store, &instance)).transpose()?;
            let exit = hooks.exit.as_ref().map(|hook| hook.load(&mut store, &instance)).transpose()?;
            let processes = hooks.processes.as_ref().map(|hook| hook.load(&mut store, &instance)).transpose()?;
            Ok((lifecycle, entry, exit, processes))
        };
        match make() {
            Ok((lifecycle, entry, exit, processes)) => Ok(Self { store, lifecycle, entry, exit, processes }),
            Err(error) => {
                let fault = fault(runtime, &store, limits, &error);
                *kept = store.into_data().kept;
                Err(fault)
            }
        }
    }

    /// Gives back what outlives the instance.
    pub(super) fn into_kept(self) -> Kept {
        self.store.into_data().kept
    }

    /// Gives it what a ledger has.
    pub(super) fn remember(&mut self, ledger: Ledger, entries: BTreeMap<String, Vec<u8>>) {
        self.store.data_mut().kept.remember(ledger, entries);
    }

    /// Takes the name that the operator knows the plugin by.
    pub(super) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.store.data_mut().name);
    }

    /// Sets the most memory that it may have from now on.
    pub(super) fn limit_memory(&mut self, bytes: usize) {
        self.store.data_mut().limiter = Limiter::new(bytes);
    }

    pub(super) fn kept_mut(&mut self) -> &mut Kept {
        &mut self.store.data_mut().kept
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.store.data().kept
    }

    pub(super) fn describe(&mut self, runtime: &Runtime, limits: &Limits) -> Result<lifecycle::Description, Fault> {
        let _armed = self.start(runtime, limits)?;
        let answer = self.lifecycle.call_describe(&mut self.store);
        answer.map_err(|error| fault(runtime, &self.store, limits, &error))
    }

    pub(super) fn configure(
        &mut self,
        runtime: &Runtime,
        limits: &Limits,
        settings: &str,
    ) -> Result<Result<types::Subscription, Vec<lifecycle::Issue>>, Fault> {
        let _armed = self.start(runtime, limits)?;
        let answer = self.lifecycle.call_configure(&mut self.store, settings);
        answer.map_err(|error| fault(runtime, &self.store, limits, &error))
    }

    /// Calls the hook that the event belongs to. A component without that
    /// hook answers nothing.
    pub(super) fn ask(&mut self, runtime: &Runtime, limits: &Limits, question: &Question<'_>) -> Result<Answer, Fault> {
        let _armed = self.start(runtime, limits)?;
        let event = question.event;
        self.store.data_mut().event = Some(event.clone());
        let answer = self.call(question);
        let context = self.store.data_mut();
        context.event = None;
        match answer {
            Ok(answer) => answer.map_err(Fault),
            Err(error) => Err(fault(runtime, &self.store, limits, &error)),
        }
    }

    fn call(&mut self, question: &Question<'_>) -> wasmtime::Result<Result<Answer, String>> {
        let (event, store) = (question.event, &mut self.store);
        let handle = Resource::new_borrow(0);
        let alerts = match &event.kind {
            Kind::Entry(call) => {
                let Some(hook) = &self.entry else { return Ok(Ok(Answer::allow())) };
                let arguments = question.arguments.get_or_init(|| convert::arguments(call));
                let verdict = hook.call_check(store, convert::header(event, call), arguments, handle)?;
                return Ok(convert::verdict(verdict));
            }
            Kind::Exit(call, outcome) => {
                let Some(hook) = &self.exit else { return Ok(Ok(Answer::allow())) };
                let arguments = question.arguments.get_or_init(|| convert::arguments(call));
                hook.call_observe(store, convert::header(event, call), arguments, outcome.result, handle)?
            }
            Kind::Process(what) => {
                let Some(hook) = &self.processes else { return Ok(Ok(Answer::allow())) };
                let (pid, tid) = (event.pid as u32, event.tid as u32);
                let what = convert::process_event(what);
                hook.call_observe(store, event.seq, event.time_ns, pid, tid, &what, handle)?
            }
        };
        Ok(Ok(Answer { alerts: convert::alerts(alerts), ..Answer::allow() }))
    }

    fn start<'r>(&mut self, runtime: &'r Runtime, limits: &Limits) -> Result<Option<Running<'r>>, Fault> {
        runtime.arm(&mut self.store, limits).map_err(|error| Fault(error.to_string()))
    }
}

/// Names what went wrong, for a person.
fn fault(runtime: &Runtime, store: &Store<Context>, limits: &Limits, error: &wasmtime::Error) -> Fault {
    use wasmtime::Trap;
    if store.data().limiter.refused {
        return Fault(format!("it asked for more than its {} MiB of memory", limits.memory >> 20));
    }
    Fault(match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt | Trap::OutOfFuel) => runtime.overrun(limits),
        Some(trap) => format!("it trapped: {}", trap.to_string().trim_start_matches("wasm trap: ")),
        None => format!("it broke the contract: {}", error.root_cause()),
    })
}
