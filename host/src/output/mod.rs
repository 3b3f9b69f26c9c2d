//! Where answers go: alert lines, and the recording if there is one.
//!
//! Everything here can be called from any thread and never makes a tracee
//! wait for a slow reader.

mod alert;
mod notice;
mod sink;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use alert::Effect;
pub use notice::tell_notice;
pub use sink::{Destination, Sink};

use crate::budget::Budget;
use crate::event::{Alert, Answer, Event, Severity};
use crate::recording::{Mode, VerdictRecord, Writer};

/// The outputs of a run. Clones share them.
#[derive(Clone, Debug)]
pub struct Output {
    sinks: Vec<Sink>,
    recording: Option<Arc<Recording>>,
}

/// A plugin that answered.
#[derive(Debug)]
pub struct Speaker<'a> {
    /// Its name.
    pub plugin: &'a str,
    /// Whether its denials are carried out.
    pub mode: Mode,
    /// Alerts that it may still raise.
    pub budget: &'a mut Budget,
}

#[derive(Debug)]
struct Recording {
    writer: Mutex<Option<Writer>>,
    /// A write failed; it was told, and nothing more is written.
    failed: AtomicBool,
}

impl Output {
    /// Alerts go to all of `sinks`, events and verdicts to `recording`.
    pub fn new(sinks: Vec<Sink>, recording: Option<Writer>) -> Self {
        let recording = recording
            .map(|writer| Arc::new(Recording { writer: Mutex::new(Some(writer)), failed: AtomicBool::new(false) }));
        Self { sinks, recording }
    }

    /// Whether events are recorded.
    pub fn records(&self) -> bool {
        self.recording.is_some()
    }

    /// Records a captured event.
    pub fn record(&self, event: &Event) {
        self.write(|writer| writer.event(event));
    }

    /// Tells what a plugin answered; how many alerts were too much for its
    /// budget. An answer that denies without an alert, or that is a fault,
    /// gets an alert of the host's own.
    pub fn tell(&self, event: &Event, speaker: Speaker<'_>, answer: &Answer, effect: Effect) -> u64 {
        let Speaker { plugin, mode, budget } = speaker;
        let own = match &answer.fault {
            Some(fault) => {
                Some(own("plugin-fault", Severity::High, format!("plugin {plugin} failed to judge: {fault}")))
            }
            None if answer.alerts.is_empty() => {
                Some(own("denied", Severity::Medium, format!("plugin {plugin} denied the call")))
            }
            None => None,
        };
        let mut dropped = 0;
        for alert in answer.alerts.iter().chain(&own) {
            if budget.take().is_some() {
                self.emit(&alert::line(event, plugin, alert, effect));
            } else {
                dropped += 1;
                self.sinks.iter().for_each(Sink::dropped);
            }
        }
        if self.records() {
            let verdict = VerdictRecord { seq: event.seq, plugin: plugin.to_owned(), mode, answer: answer.clone() };
            self.write(|writer| writer.verdict(&verdict));
        }
        dropped
    }

    fn emit(&self, line: &str) {
        self.sinks.iter().for_each(|sink| sink.emit(line.to_owned()));
    }

    /// Tells what the host itself has to say.
    pub fn emit_own(&self, alert: &Alert) {
        self.sinks.iter().for_each(|sink| sink.emit_own(alert));
    }

    /// Tells that the observe lane lost events.
    pub fn tell_dropped(&self, count: u64) {
        let message = format!("{count} events were dropped: the observe lane could not keep up");
        tracing::warn!(count, "{message}");
        self.emit_own(&own("events-dropped", Severity::Medium, message));
    }

    /// Writes what is left. `dropped` events were lost in all.
    pub fn finish(self, dropped: u64) -> io::Result<()> {
        let writer =
            self.recording.and_then(|recording| recording.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let recorded = writer.map_or(Ok(()), |mut writer| {
            writer.dropped(dropped);
            writer.finish().map(drop)
        });
        self.sinks.iter().for_each(Sink::finish);
        recorded
    }

    fn write(&self, write: impl FnOnce(&mut Writer) -> io::Result<()>) {
        let Some(recording) = &self.recording else { return };
        if recording.failed.load(Ordering::Relaxed) {
            return;
        }
        let mut writer = recording.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = writer.as_mut().map(write) {
            recording.failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the trace cannot be written any further; it ends here");
            self.emit_own(&own("recording-failed", Severity::High, format!("the trace ends early: {error}")));
        }
    }
}

fn own(rule: &str, severity: Severity, message: String) -> Alert {
    Alert { rule: rule.to_owned(), severity, message, fields: Vec::new() }
}
