//! What is told to whoever asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::stats::{Counts, Durations, Stats};
use crate::plugin::{Lane, Metric, Plugin};
use crate::tracer::{Coverage, Waker};

/// Longest wait for the loop.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be seen. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sight(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    plugins: Mutex<Vec<Known>>,
    waker: OnceLock<Waker>,
    reloads: Mutex<Reloads>,
    /// Events that the observe lane could not take.
    dropped: AtomicU64,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            plugins: Mutex::default(),
            waker: OnceLock::new(),
            reloads: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }
}

/// A plugin that runs.
#[derive(Clone, Debug)]
struct Known {
    fixed: Fixed,
    stats: Arc<Stats>,
    metrics: Arc<Mutex<BTreeMap<String, Metric>>>,
}

/// What does not change while a plugin runs.
#[derive(Clone, Debug, Serialize)]
struct Fixed {
    name: String,
    version: String,
    source: String,
    sha256: String,
    grounds: String,
    mode: &'static str,
    lane: &'static str,
}

/// What became of looking for new plugins.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Reloads {
    /// Sets that took over.
    pub(super) succeeded: u64,
    /// Looks that failed.
    pub(super) failed: u64,
    /// Seconds since the Unix epoch of the last take-over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<u64>,
    /// Why the last look failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// One plugin in a report.
#[derive(Clone, Debug, Serialize)]
pub struct PluginReport {
    #[serde(flatten)]
    fixed: Fixed,
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Upper bounds in microseconds.
    latency_us: Quantiles,
    #[serde(skip)]
    pub(super) durations: Durations,
    metrics: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Quantiles {
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

/// A running host, as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    version: &'static str,
    pid: u32,
    /// Seconds since the start.
    pub(super) uptime_s: u64,
    /// The loop answers.
    pub live: bool,
    /// And programs are traced under all plugins.
    pub ready: bool,
    /// What is traced, and how.
    pub coverage: Option<Coverage>,
    pub(super) plugins: Vec<PluginReport>,
    pub(super) reloads: Reloads,
    /// Events that the observe lane could not take.
    pub(super) events_dropped: u64,
}

impl Sight {
    /// These plugins run now.
    pub fn show<'a>(&self, plugins: impl Iterator<Item = &'a Plugin>) {
        let known = plugins.map(|plugin| {
            let identity = plugin.identity();
            let fixed = Fixed {
                name: plugin.name().to_owned(),
                version: plugin.version().to_owned(),
                source: identity.reference.clone(),
                sha256: identity.digest.to_string(),
                grounds: identity.grounds.to_string(),
                mode: plugin.mode().word(),
                lane: match plugin.subscription().lane {
                    Lane::Gate => "gate",
                    Lane::Observe => "observe",
                },
            };
            Known { fixed, stats: plugin.stats(), metrics: plugin.metrics() }
        });
        *self.0.plugins.lock().unwrap_or_else(PoisonError::into_inner) = known.collect();
    }

    /// Tracing begins.
    pub fn begins(&self, waker: Waker) {
        let _first = self.0.waker.set(waker);
    }

    /// The way to the tracer, once it has begun.
    pub fn waker(&self) -> Option<&Waker> {
        self.0.waker.get()
    }

    /// A new set has taken over.
    pub fn reloaded(&self) {
        let mut reloads = self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        *reloads = Reloads { succeeded: reloads.succeeded + 1, last: Some(now), error: None, ..*reloads };
    }

    /// What runs is what should.
    pub fn looked(&self) {
        self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner).error = None;
    }

    /// A look for a new set has failed.
    pub fn not_reloaded(&self, error: &str) {
        let mut reloads = self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.failed += 1;
        reloads.error = Some(error.to_owned());
    }

    /// The observe lane could not take so many events.
    pub fn dropped(&self, count: u64) {
        self.0.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Everything, as it is now.
    pub fn report(&self) -> Report {
        let coverage = self.waker().and_then(|waker| waker.coverage(PATIENCE));
        let known = self.0.plugins.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let begun = self.waker().is_some();
        Report {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_s: self.0.started.elapsed().as_secs(),
            // Before it begins there is no loop that could hang.
            live: !begun || coverage.is_some(),
            ready: coverage.is_some(),
            coverage,
            plugins: known.into_iter().map(PluginReport::of).collect(),
            reloads: self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            events_dropped: self.0.dropped.load(Ordering::Relaxed),
        }
    }
}

impl PluginReport {
    fn of(known: Known) -> Self {
        let Known { fixed, stats, metrics } = known;
        let quantile = |of_thousand| stats.latency.quantile(of_thousand);
        let metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |metric: &Metric| match metric {
            Metric::Counter(value) => *value as f64,
            Metric::Gauge(value) => *value,
        };
        Self {
            fixed,
            counts: stats.counts(),
            latency_us: Quantiles { p50: quantile(500), p90: quantile(900), p99: quantile(990), max: quantile(1000) },
            metrics: metrics.iter().map(|(name, metric)| (name.clone(), number(metric))).collect(),
            durations: stats.latency.snapshot(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.fixed.name
    }

    /// Labels that identify what runs.
    pub(super) fn labels(&self) -> [(&'static str, &str); 5] {
        let Fixed { version, source, sha256, mode, lane, .. } = &self.fixed;
        [("version", version), ("source", source), ("sha256", sha256), ("mode", mode), ("lane", lane)]
    }

    pub(super) fn metrics(&self) -> impl Iterator<Item = (&str, f64)> {
        self.metrics.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match (self.live, self.ready) {
            (_, true) => "ready",
            (true, false) => "starting",
            (false, false) => "not answering",
        };
        writeln!(f, "host {} (PID {}), {state}, up {} s", self.version, self.pid, self.uptime_s)?;
        if let Some(coverage) = &self.coverage {
            let Coverage { processes, threads, filtered, refused } = coverage;
            let others = if filtered < threads { ", the others stop at every call" } else { "" };
            writeln!(f, "traces {processes} processes with {threads} threads, {filtered} of them filtered{others}")?;
            if *refused > 0 {
                writeln!(f, "coverage is partial: {refused} processes that were meant could not be attached to")?;
            }
        }
        for plugin in &self.plugins {
            let Fixed { name, version, source, sha256, grounds, mode, lane } = &plugin.fixed;
            writeln!(f, "\n{name} {version}: {source}, {grounds}, {mode}, {lane} lane\n  sha256 {sha256}")?;
            let Counts { calls, denied, would_deny, alerts, alerts_dropped, faults, suspended } = plugin.counts;
            writeln!(
                f,
                "  {calls} calls, {denied} denied, {would_deny} would be, {alerts} alerts ({alerts_dropped} dropped), \
                 {faults} faults, {suspended} while suspended"
            )?;
            let bound = |bound: Option<u64>| bound.map_or_else(|| "-".into(), |us| format!("≤ {us} µs"));
            let Quantiles { p50, p99, max, .. } = plugin.latency_us;
            writeln!(f, "  an answer takes {} (median), {} (99 %), {} (all)", bound(p50), bound(p99), bound(max))?;
        }
        let Reloads { succeeded, failed, error, .. } = &self.reloads;
        write!(f, "\nreplaced {succeeded} times, {failed} looks failed; {} events dropped", self.events_dropped)?;
        match error {
            Some(error) => write!(f, "\nthe last look failed: {error}"),
            None => Ok(()),
        }
    }
}
