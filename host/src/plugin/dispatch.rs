//! Asks every plugin about each event, makes one decision of their answers,
//! and passes everything on to the outputs.
//!
//! Order is the operator's; deny wins over allow, and of several denials the
//! first one's errno counts. Every plugin is asked even after a denial, so
//! that each sees what it subscribed to.
//!
//! It never touches a tracee: it answers the tracer's questions.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::instance::Question;
use super::observer::Observer;
use super::subscription::Lane;
use super::{Ledgers, Mode, Plugin};
use crate::decode::Arch;
use crate::event::{Action, Answer, Errno, Event, Kind, ProcessEvents};
use crate::output::{self, Effect, Output, Speaker};
use crate::sight::Sight;
use crate::tracer::{Handler, Interest, Notice, Stopping, Waker};

/// The plugins of a run, and where their answers go.
#[derive(Debug)]
pub struct Dispatcher {
    gate: Vec<Plugin>,
    observer: Option<Observer>,
    /// Recorded with their results although no plugin may want them.
    recorded: Stopping,
    output: Output,
    next: Next,
    sight: Sight,
    ledgers: Option<Ledgers>,
}

/// Plugins that are to take over, in the order in which they are asked.
type Next = Arc<Mutex<Option<Vec<Plugin>>>>;

/// Has other plugins take over in a running [`Dispatcher`].
#[derive(Clone, Debug)]
pub struct Successor {
    next: Next,
    output: Output,
    sight: Sight,
}

impl Successor {
    /// These plugins judge all that comes after the event at hand; together,
    /// or not at all.
    pub fn succeed(&self, plugins: Vec<Plugin>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(plugins);
        if let Some(waker) = self.sight.waker() {
            waker.wake();
        }
    }

    /// Where to show it.
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// Where to tell of it.
    pub fn output(&self) -> &Output {
        &self.output
    }
}

impl Dispatcher {
    /// Takes the plugins in the order in which they are to be asked.
    pub fn new(plugins: Vec<Plugin>, recorded: Stopping, output: Output) -> io::Result<Self> {
        let sight = Sight::default();
        sight.show(plugins.iter());
        let (gate, observe) = lanes(plugins);
        let observer =
            if observe.is_empty() { None } else { Some(Observer::start(observe, output.clone(), sight.clone())?) };
        Ok(Self { gate, observer, recorded, output, next: Next::default(), sight, ledgers: None })
    }

    /// What plugins keep is written here; at the end that is waited for.
    pub fn keep(&mut self, ledgers: Option<Ledgers>) {
        self.ledgers = ledgers;
    }

    /// A way to replace the plugins.
    pub fn successor(&self) -> Successor {
        Successor { next: self.next.clone(), output: self.output.clone(), sight: self.sight.clone() }
    }

    /// What can be seen of it.
    pub fn sight(&self) -> Sight {
        self.sight.clone()
    }

    fn replace(&mut self, plugins: Vec<Plugin>) {
        let mut heirs = plugins;
        super::hand_over(std::mem::take(&mut self.gate), &mut heirs);
        self.sight.show(heirs.iter());
        let (gate, observe) = lanes(heirs);
        self.gate = gate;
        match &mut self.observer {
            Some(observer) => observer.replace(observe),
            None if observe.is_empty() => {}
            None => match Observer::start(observe, self.output.clone(), self.sight.clone()) {
                Ok(observer) => self.observer = Some(observer),
                Err(error) => tracing::error!(%error, "the plugins of the observe lane do not run"),
            },
        }
    }

    /// Waits until all that was observed is judged and written.
    pub fn finish(self) -> io::Result<()> {
        let dropped = self.observer.map_or(0, Observer::finish);
        if let Some(ledgers) = &self.ledgers {
            ledgers.flush();
        }
        self.output.finish(dropped)
    }

    fn subscriptions(&self) -> impl Iterator<Item = &super::Subscription> {
        let observed = self.observer.iter().flat_map(Observer::subscriptions);
        self.gate.iter().map(Plugin::subscription).chain(observed)
    }
}

impl Handler for Dispatcher {
    fn begins(&mut self, waker: Waker) {
        self.sight.begins(waker);
    }

    fn renew(&mut self) -> bool {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        next.map(|plugins| self.replace(plugins)).is_some()
    }

    fn stopping(&self) -> Stopping {
        let mut stopping = self.recorded.clone();
        for subscription in self.subscriptions() {
            subscription.add_to(&mut stopping);
        }
        stopping
    }

    fn binding(&self) -> bool {
        self.gate.iter().any(|plugin| plugin.mode == Mode::Enforce)
    }

    fn processes(&self) -> ProcessEvents {
        let recorded = if self.output.records() { ProcessEvents::ALL } else { ProcessEvents::default() };
        self.subscriptions().fold(recorded, |wanted, subscription| wanted | subscription.processes)
    }

    fn interest(&self, arch: Arch, nr: u32, registers: &[u64; 6]) -> Interest {
        let wants = |subscription: &super::Subscription, exit| subscription.wants_call(arch, nr, registers, exit);
        let recorded = arch == Arch::NATIVE && self.recorded.contains_key(&nr);
        let mut judges = self.gate.iter().filter(|plugin| wants(&plugin.subscription, false)).peekable();
        let judge = judges.peek().is_some();
        let binding = judges.any(|plugin| plugin.mode == Mode::Enforce);
        let observed = self.observer.as_ref().is_some_and(|o| o.subscriptions().any(|s| wants(s, false)));
        let exit = recorded || self.subscriptions().any(|subscription| wants(subscription, true));
        Interest { judge, binding, observe: observed || recorded || (self.output.records() && (judge || exit)), exit }
    }

    fn judge(&mut self, event: &Arc<Event>) -> Option<Errno> {
        ask_all(&mut self.gate, event, &self.output)
    }

    fn observe(&mut self, event: Arc<Event>) {
        self.output.record(&event);
        if !matches!(event.kind, Kind::Entry(_)) {
            ask_all(&mut self.gate, &event, &self.output);
        }
        if let Some(observer) = &mut self.observer {
            observer.take(event);
        }
    }

    fn notice(&mut self, notice: &Notice) {
        output::tell_notice(notice);
    }
}

/// Those that are waited for, and those that are not.
fn lanes(plugins: Vec<Plugin>) -> (Vec<Plugin>, Vec<Plugin>) {
    plugins.into_iter().partition(|plugin| plugin.subscription().lane == Lane::Gate)
}

/// Asks those of `plugins` that want the event, and tells what they answer.
/// The errno of the first denial that counts.
pub(super) fn ask_all(plugins: &mut [Plugin], event: &Arc<Event>, output: &Output) -> Option<Errno> {
    let question = Question::new(event);
    let mut denied = None;
    for plugin in plugins {
        if !plugin.subscription.wants(event) {
            continue;
        }
        let answer = plugin.answer(&question);
        if !answer.matters() {
            continue;
        }
        let effect = effect(plugin, event, &answer);
        match effect {
            Effect::Denied(errno) => {
                plugin.stats.denied.fetch_add(1, Ordering::Relaxed);
                denied.get_or_insert(errno);
            }
            Effect::WouldDeny(_) => drop(plugin.stats.would_deny.fetch_add(1, Ordering::Relaxed)),
            Effect::Allowed => {}
        }
        let speaker = Speaker { plugin: &plugin.name, mode: plugin.mode, budget: &mut plugin.alerts };
        let dropped = output.tell(event, speaker, &answer, effect);
        plugin.stats.alerts_dropped.fetch_add(dropped, Ordering::Relaxed);
    }
    denied
}

/// What an answer comes to.
fn effect(plugin: &Plugin, event: &Event, answer: &Answer) -> Effect {
    match answer.action {
        Action::Allow => Effect::Allowed,
        Action::Deny(errno) => {
            let can = plugin.mode == Mode::Enforce
                && plugin.subscription.lane == Lane::Gate
                && matches!(event.kind, Kind::Entry(_));
            if can { Effect::Denied(errno) } else { Effect::WouldDeny(errno) }
        }
    }
}
