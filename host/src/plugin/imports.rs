//! What a plugin can call: questions about the event at hand, log, state and
//! metrics. Every import is bounded and none of them waits.
//!
//! There is no clock, no randomness and no WASI here, and there will not be:
//! a plugin's answers are a function of its events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::component::Resource;

use super::convert;
use super::ledger::Ledger;
use super::limits::{Limiter, Limits};
use super::runtime::Overtime;
use super::wit::{log, metrics, state, types};
use crate::budget::Budget;
use crate::decode;
use crate::event::Event;

/// The type behind the plugin's `event` handle. There is one event at a time,
/// so that the handle holds nothing.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct EventHandle;

const MAX_LOG_BYTES: usize = 4096;
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 64 * 1024;
pub(super) const MAX_STATE: usize = 1024 * 1024;
const MAX_KEYS_LISTED: usize = 1000;
const MAX_METRICS: usize = 100;
const MAX_METRIC_NAME: usize = 64;

/// What the plugin keeps beyond its own memory: it outlives an instance that
/// trapped.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    state: BTreeMap<String, Vec<u8>>,
    /// Bytes of all keys and values.
    used: usize,
    /// Where changes of the state are noted.
    ledger: Option<Ledger>,
    /// Keys that the call under way has changed.
    changed: BTreeSet<String>,
    /// Counters and gauges by name.
    pub metrics: Metrics,
    /// Lines that it may still log.
    pub log: Budget,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            state: BTreeMap::new(),
            used: 0,
            ledger: None,
            changed: BTreeSet::new(),
            metrics: Metrics::default(),
            log: Budget::a_second(Limits::default().log_rate),
        }
    }
}

impl Kept {
    /// Goes on with what a ledger has, and notes changes there.
    pub(super) fn remember(&mut self, ledger: Ledger, entries: BTreeMap<String, Vec<u8>>) {
        self.used = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        (self.ledger, self.state) = (Some(ledger), entries);
    }

    /// What is written now is on trial.
    pub(super) fn forget_ledger(&mut self) {
        self.ledger = None;
    }

    /// A call is over: what it has changed is noted, together.
    pub(super) fn commit(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        if let Some(ledger) = &self.ledger {
            ledger.note(changed.into_iter().map(|key| (self.state.get(&key).cloned(), key)));
        }
    }

    /// Adds what another kept, as far as there is room.
    pub(super) fn inherit(&mut self, other: Self) {
        if let Some(ledger) = other.ledger {
            // Nobody has noted yet what was written on trial.
            ledger.note(self.state.iter().map(|(key, value)| (Some(value.clone()), key.clone())));
            self.ledger = Some(ledger);
        }
        for (key, value) in other.state {
            let size = key.len() + value.len();
            if self.used + size <= MAX_STATE && !self.state.contains_key(&key) {
                self.used += size;
                self.state.insert(key, value);
            }
        }
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, metric) in std::mem::take(&mut *other.metrics.lock().unwrap_or_else(PoisonError::into_inner)) {
            let room = metrics.len() < MAX_METRICS;
            match (metrics.get_mut(&name), metric) {
                (Some(Metric::Counter(ours)), Metric::Counter(theirs)) => *ours = ours.saturating_add(theirs),
                (None, metric) if room => drop(metrics.insert(name, metric)),
                _ => {}
            }
        }
    }
}

/// Numbers by name; read by others while the plugin runs.
pub(super) type Metrics = Arc<Mutex<BTreeMap<String, Metric>>>;

/// A number of the plugin's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Only grows.
    Counter(u64),
    /// Goes where it is set.
    Gauge(f64),
}

/// The data of a plugin's store.
#[derive(Debug)]
pub(super) struct Context {
    /// The operator's name for the plugin.
    pub name: String,
    /// The event that the plugin is asked about.
    pub event: Option<Arc<Event>>,
    pub(super) kept: Kept,
    pub(super) limiter: Limiter,
    pub(super) overtime: Overtime,
}

impl Context {
    pub(super) fn new(name: String, kept: Kept, limiter: Limiter) -> Self {
        Self { name, event: None, kept, limiter, overtime: Overtime::new(Duration::ZERO) }
    }
}

impl types::Host for Context {}

impl types::HostEvent for Context {
    fn syscall(&mut self, _: Resource<EventHandle>) -> String {
        let call = self.event.as_ref().and_then(|event| event.call());
        call.map(|call| call.arch.syscall_name(call.nr).into_owned()).unwrap_or_default()
    }

    fn argument_name(&mut self, _: Resource<EventHandle>, argument: u8) -> Option<String> {
        let spec = self.event.as_ref()?.call()?.spec;
        spec.args.get(usize::from(argument)).map(|arg| arg.name.to_owned())
    }

    fn describe(&mut self, _: Resource<EventHandle>, argument: u8) -> String {
        match self.event.as_ref().and_then(|event| event.call()) {
            Some(call) if usize::from(argument) < call.arguments.len() => decode::describe(call, usize::from(argument)),
            _ => String::new(),
        }
    }

    fn process(&mut self, _: Resource<EventHandle>) -> types::Process {
        match &self.event {
            Some(event) => convert::process(event.process()),
            None => convert::process(&crate::event::Process::unknown(0)),
        }
    }

    fn path(&mut self, _: Resource<EventHandle>, argument: u8) -> Option<types::ResolvedPath> {
        self.event.as_ref()?.path(usize::from(argument)).map(convert::path)
    }

    fn path_bytes(&mut self, _: Resource<EventHandle>, argument: u8) -> Option<Vec<u8>> {
        self.event.as_ref()?.path(usize::from(argument)).map(|path| path.path.to_vec())
    }

    fn raw(&mut self, _: Resource<EventHandle>, argument: u8) -> Option<Vec<u8>> {
        convert::raw(&self.event.as_ref()?.call()?.arguments.get(usize::from(argument))?.value)
    }

    fn descriptor(&mut self, _: Resource<EventHandle>, argument: u8) -> Option<String> {
        self.event.as_ref()?.descriptor(usize::from(argument)).map(std::string::ToString::to_string)
    }

    fn environment(&mut self, _: Resource<EventHandle>) -> Option<types::StringList> {
        self.event.as_ref()?.environment().map(convert::string_list)
    }

    fn duration_ns(&mut self, _: Resource<EventHandle>) -> u64 {
        self.event.as_ref().and_then(|event| event.outcome()).map_or(0, |outcome| outcome.duration_ns)
    }

    fn drop(&mut self, _: Resource<EventHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl log::Host for Context {
    fn write(&mut self, level: log::Level, message: String) {
        let Some(dropped) = self.kept.log.take() else { return };
        let plugin = &self.name;
        if dropped > 0 {
            tracing::warn!(plugin, dropped, "log lines of the plugin were dropped: more than its log rate");
        }
        let message = convert::shortened(&message, MAX_LOG_BYTES);
        match level {
            log::Level::Trace => tracing::trace!(plugin, "{message}"),
            log::Level::Debug => tracing::debug!(plugin, "{message}"),
            log::Level::Info => tracing::info!(plugin, "{message}"),
            log::Level::Warn => tracing::warn!(plugin, "{message}"),
            log::Level::Error => tracing::error!(plugin, "{message}"),
        }
    }
}

impl state::Host for Context {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.kept.state.get(&key).cloned()
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), state::StateError> {
        if key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(state::StateError::TooLarge);
        }
        let before = self.kept.state.get(&key).map_or(0, |old| key.len() + old.len());
        let used = self.kept.used - before + key.len() + value.len();
        if used > MAX_STATE {
            return Err(state::StateError::Full);
        }
        self.kept.used = used;
        self.kept.changed.insert(key.clone());
        self.kept.state.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, key: String) -> bool {
        match self.kept.state.remove(&key) {
            Some(value) => {
                self.kept.used -= key.len() + value.len();
                self.kept.changed.insert(key);
                true
            }
            None => false,
        }
    }

    fn keys(&mut self, prefix: String) -> Vec<String> {
        let from = self.kept.state.range(prefix.clone()..);
        from.map(|(key, _)| key).take_while(|key| key.starts_with(&prefix)).take(MAX_KEYS_LISTED).cloned().collect()
    }
}

impl metrics::Host for Context {
    fn add(&mut self, name: String, amount: u64) {
        self.change(&name, |old| match old {
            Some(Metric::Counter(value)) => Metric::Counter(value.saturating_add(amount)),
            _ => Metric::Counter(amount),
        });
    }

    fn set(&mut self, name: String, value: f64) {
        self.change(&name, |_| Metric::Gauge(value));
    }
}

impl Context {
    /// Changes a number; new names only as long as there is room.
    fn change(&self, name: &str, change: impl FnOnce(Option<Metric>) -> Metric) {
        let valid = !name.is_empty()
            && name.len() <= MAX_METRIC_NAME
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let mut metrics = self.kept.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = metrics.get_mut(name) {
            *metric = change(Some(*metric));
        } else if valid && metrics.len() < MAX_METRICS {
            metrics.insert(name.to_owned(), change(None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::new("test".into(), Kept::default(), Limiter::new(1 << 20))
    }

    #[test]
    fn state_is_bounded_and_forgets_what_is_deleted() {
        let mut context = context();
        let value = vec![0; MAX_VALUE];
        let mut written = 0;
        while state::Host::set(&mut context, format!("key{written}"), value.clone()).is_ok() {
            written += 1;
        }
        assert_eq!(written, MAX_STATE / (MAX_VALUE + 5));
        assert!(state::Host::delete(&mut context, "key0".into()));
        assert!(!state::Host::delete(&mut context, "key0".into()));
        assert!(state::Host::set(&mut context, "again".into(), value).is_ok());
        let too_long = state::Host::set(&mut context, "k".repeat(MAX_KEY + 1), Vec::new());
        assert!(matches!(too_long, Err(state::StateError::TooLarge)));
        assert_eq!(state::Host::keys(&mut context, "ag".into()), ["again"]);
    }

    #[test]
    fn metrics_are_bounded() {
        let mut context = context();
        for index in 0..2 * MAX_METRICS {
            metrics::Host::add(&mut context, format!("m{index}"), 2);
        }
        metrics::Host::add(&mut context, "m0".into(), 3);
        metrics::Host::add(&mut context, "no spaces".into(), 3);
        let metrics = context.kept.metrics.lock().expect("no other thread");
        assert_eq!(metrics.len(), MAX_METRICS);
        assert_eq!(metrics["m0"], Metric::Counter(5));
    }
}
