//! Plugins: from bytes to answers.
//!
//! `load` checks a component against the contract and its settings against
//! its schema; a [`Plugin`] is what comes of it. It answers events under its
//! limits, and when it cannot, its failure policy answers for it.
//! [`Dispatcher`] asks all plugins about each event and makes one decision.
//!
//! Who owns what: a [`Runtime`] is shared by all plugins of a process and
//! lives as long; a `Plugin` owns its instance, and with it the store and the
//! memory; an instance lives until its first fault.
//!
//! What this module never does: touch a tracee, or give a plugin a clock,
//! randomness, files or the network.

mod cache;
mod capability;
pub mod componentize;
mod convert;
mod dispatch;
mod imports;
mod instance;
mod ledger;
mod limits;
mod load;
mod observer;
mod subscription;
pub mod toolchain;
mod wit;

mod runtime;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use cache::Cache;
pub use capability::{Capability, listed};
pub use dispatch::{Dispatcher, Successor};
pub use imports::Metric;
pub use ledger::Ledgers;
pub use limits::Limits;
pub use load::{Identity, LoadError, Opened, Wanted, open};
pub use runtime::{Metering, Runtime};
pub use subscription::{Lane, Subscription, SubscriptionError};
pub use wit::types::Description;

use crate::budget::Budget;
use crate::decode::{self, Arch, NoMemory};
use crate::event::{Action, Alert, Answer, Errno, Event, Kind, Process, Severity};
use crate::sight::Stats;
use imports::{Context, Kept};
use instance::{Fault, Hooks, Instance, Question};

pub use crate::recording::Mode;

/// Plugins of the same names hand over to each other what they kept.
fn hand_over(mut before: Vec<Plugin>, heirs: &mut [Plugin]) {
    for heir in heirs {
        if let Some(index) = before.iter().position(|plugin| plugin.name == heir.name) {
            heir.inherit(before.swap_remove(index));
        }
    }
}

/// What becomes of a call when a plugin fails to judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It runs.
    Allow,
    /// It fails with `EPERM`.
    Deny,
    /// It fails with `EPERM`, until the plugin has failed too often: then the
    /// plugin is set aside, and calls pass without it.
    Quarantine,
}

impl Mode {
    /// What a plugin's failure means unless the operator says otherwise.
    pub fn default_on_error(self) -> OnError {
        match self {
            Self::Enforce => OnError::Deny,
            Self::Monitor => OnError::Allow,
        }
    }
}

/// A loaded and configured plugin.
pub struct Plugin {
    name: String,
    version: String,
    identity: Identity,
    mode: Mode,
    on_error: OnError,
    limits: Limits,
    settings: String,
    subscription: Subscription,
    runtime: Arc<Runtime>,
    pre: wasmtime::component::InstancePre<Context>,
    hooks: Hooks,
    /// None after a fault, until it is made anew.
    instance: Option<Instance>,
    /// What outlives instances; in the store while there is one.
    kept: Kept,
    suspension: Suspension,
    /// Alerts that it may still raise.
    alerts: Budget,
    stats: Arc<Stats>,
    /// Its metrics, which are in what it keeps.
    shown: imports::Metrics,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// How long a plugin that failed is left alone: not at all the first time,
/// then doubling from 10 ms to 10 s; forgiven after 10 s without a fault.
#[derive(Debug, Default)]
struct Suspension {
    faults: u32,
    last: Option<Instant>,
    until: Option<Instant>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Faults, none of them forgiven, after which a plugin is set aside until it is
/// replaced.
const MOST_FAULTS: u32 = 10;

impl Suspension {
    fn fault(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now - last > LONGEST_PAUSE) {
            self.faults = 0;
        }
        self.faults += 1;
        self.last = Some(now);
        let pause = FIRST_PAUSE * 2u32.pow(self.faults.saturating_sub(2).min(10));
        self.until = (self.faults > 1).then(|| now + pause.min(LONGEST_PAUSE));
    }

    fn is_over(&self, now: Instant) -> bool {
        !self.is_quarantined() && self.until.is_none_or(|until| now >= until)
    }

    /// It has failed so often that it is not asked any more.
    fn is_quarantined(&self) -> bool {
        self.faults >= MOST_FAULTS
    }
}

impl Plugin {
    /// What the operator calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that it gives itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Which plugin it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether its denials are carried out.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it wants to see.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// What it has done; counted on while it runs.
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Its counters and gauges, as they are whenever somebody looks.
    pub fn metrics(&self) -> Arc<Mutex<BTreeMap<String, Metric>>> {
        self.shown.clone()
    }

    /// Takes over what another kept: it goes on where that one stops. What it
    /// has written itself stays.
    fn inherit(&mut self, mut other: Self) {
        let theirs = match other.instance.take() {
            Some(instance) => instance.into_kept(),
            None => std::mem::take(&mut other.kept),
        };
        let ours = match &mut self.instance {
            Some(instance) => instance.kept_mut(),
            None => &mut self.kept,
        };
        ours.inherit(theirs);
    }

    /// Asks it about calls such as it subscribes to, with nothing behind their
    /// pointers, and forgets that it was asked.
    ///
    /// # Errors
    /// What went wrong, if it does not answer.
    pub fn try_out(&mut self) -> Result<(), String> {
        let Some(instance) = &mut self.instance else { return Err("it has no instance".into()) };
        let kept = instance.kept().clone();
        let metrics = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        instance.kept_mut().forget_ledger();
        for nr in self.subscription.entries() {
            let call = decode::decode(Arch::NATIVE, nr, [0; 6], &NoMemory);
            let event = Event::captured(1, 0, (1, 1), Kind::Entry(call), Arc::new(Process::unknown(1)));
            if self.subscription.wants(&event) {
                let event = Arc::new(event);
                let answer = instance.ask(&self.runtime, &self.limits, &Question::new(&event));
                answer
                    .map_err(|Fault(fault)| format!("asked on trial about {}: {fault}", Arch::NATIVE.spec(nr).name))?;
            }
        }
        *instance.kept_mut() = kept;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
        if let Some(instance) = self.instance.take() {
            self.kept = instance.into_kept();
        }
        self.revive().map_err(|Fault(fault)| fault)
    }

    /// Asks about one event. Whatever the plugin does, there is an answer.
    pub fn ask(&mut self, event: &Arc<Event>) -> Answer {
        self.answer(&Question::new(event))
    }

    fn answer(&mut self, question: &Question<'_>) -> Answer {
        let since = Instant::now();
        let answer = self.try_answer(question);
        self.stats.latency.record(since.elapsed());
        match &mut self.instance {
            Some(instance) => instance.kept_mut().commit(),
            None => self.kept.commit(),
        }
        let count = |counter: &AtomicU64, amount: u64| {
            if amount > 0 {
                counter.fetch_add(amount, Ordering::Relaxed);
            }
        };
        count(&self.stats.calls, 1);
        count(&self.stats.alerts, answer.alerts.len() as u64);
        count(&self.stats.faults, u64::from(answer.fault.is_some()));
        answer
    }

    fn try_answer(&mut self, question: &Question<'_>) -> Answer {
        if self.instance.is_none() {
            // In a replay nothing depends on the time.
            if self.runtime.metering() == Metering::Clock && !self.suspension.is_over(Instant::now()) {
                return self.suspended(question);
            }
            if let Err(fault) = self.revive() {
                return self.failed(question, fault);
            }
        }
        let Some(instance) = &mut self.instance else { return self.suspended(question) };
        match instance.ask(&self.runtime, &self.limits, question) {
            Ok(answer) => answer,
            Err(fault) => self.failed(question, fault),
        }
    }

    fn revive(&mut self) -> Result<(), Fault> {
        let mut instance =
            Instance::new(&self.runtime, &self.pre, &self.hooks, &self.name, &mut self.kept, &self.limits)?;
        match instance.configure(&self.runtime, &self.limits, &self.settings) {
            Ok(Ok(_)) => {
                self.instance = Some(instance);
                Ok(())
            }
            Ok(Err(_)) => {
                self.kept = instance.into_kept();
                Err(Fault("it refused the settings that it had accepted before".into()))
            }
            Err(fault) => {
                self.kept = instance.into_kept();
                Err(fault)
            }
        }
    }

    fn failed(&mut self, question: &Question<'_>, fault: Fault) -> Answer {
        if let Some(instance) = self.instance.take() {
            self.kept = instance.into_kept();
        }
        self.suspension.fault(Instant::now());
        let Fault(mut fault) = fault;
        if self.suspension.is_quarantined() {
            let then = match self.policy(question) {
                Action::Allow => "its calls pass",
                Action::Deny(_) => "its calls are denied",
            };
            fault = format!("{fault}; after {MOST_FAULTS} faults it is not asked any more, and {then}");
        }
        Answer { action: self.policy(question), alerts: Vec::new(), fault: Some(fault) }
    }

    fn suspended(&self, question: &Question<'_>) -> Answer {
        self.stats.suspended.fetch_add(1, Ordering::Relaxed);
        let action = self.policy(question);
        let alerts = match action {
            Action::Allow => Vec::new(),
            Action::Deny(_) => vec![Alert {
                rule: "plugin-suspended".into(),
                severity: Severity::High,
                message: "denied because the plugin that should judge it is suspended after faults".into(),
                fields: Vec::new(),
            }],
        };
        Answer { action, alerts, fault: None }
    }

    /// What the failure policy says of this event: only a call that has not
    /// run can be denied.
    fn policy(&self, question: &Question<'_>) -> Action {
        match (self.on_error, &question.event().kind) {
            (OnError::Deny, Kind::Entry(_)) => Action::Deny(Errno::EPERM),
            (OnError::Quarantine, Kind::Entry(_)) if !self.suspension.is_quarantined() => Action::Deny(Errno::EPERM),
            _ => Action::Allow,
        }
    }
}
