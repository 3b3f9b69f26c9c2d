//! What one plugin has done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the buckets, in microseconds.
pub(super) const BOUNDS_US: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Counters of one plugin, since it was loaded.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events that it was asked about.
    pub calls: AtomicU64,
    /// Of these, calls that it denied in enforce mode.
    pub denied: AtomicU64,
    /// Calls that it would have denied.
    pub would_deny: AtomicU64,
    /// Alerts that it raised.
    pub alerts: AtomicU64,
    /// Of these, and of those about its faults and denials, what was too much
    /// for its alert rate.
    pub alerts_dropped: AtomicU64,
    /// Times that it failed to answer.
    pub faults: AtomicU64,
    /// Events that its failure policy answered, because it was suspended.
    pub suspended: AtomicU64,
    /// How long its answers took.
    pub latency: Latency,
}

/// Numbers of [`Stats`] at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "they are those of Stats")]
pub struct Counts {
    pub calls: u64,
    pub denied: u64,
    pub would_deny: u64,
    pub alerts: u64,
    pub alerts_dropped: u64,
    pub faults: u64,
    pub suspended: u64,
}

impl Stats {
    /// The numbers now.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            calls: read(&self.calls),
            denied: read(&self.denied),
            would_deny: read(&self.would_deny),
            alerts: read(&self.alerts),
            alerts_dropped: read(&self.alerts_dropped),
            faults: read(&self.faults),
            suspended: read(&self.suspended),
        }
    }
}

/// Durations, counted in buckets.
#[derive(Debug, Default)]
pub struct Latency {
    /// One more than there are bounds: the last is for all that is longer.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// A [`Latency`] at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durations {
    /// By bucket.
    pub(super) counts: [u64; BOUNDS_US.len() + 1],
    pub(super) sum_ns: u64,
}

impl Latency {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        let ns = duration.as_nanos() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1000 < ns);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// As they are now.
    pub(super) fn snapshot(&self) -> Durations {
        let counts = std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed));
        Durations { counts, sum_ns: self.sum_ns.load(Ordering::Relaxed) }
    }

    /// A bound in microseconds that so many of a thousand did not exceed; none
    /// if there are none, or it is beyond the last bound.
    pub fn quantile(&self, of_thousand: u64) -> Option<u64> {
        let Durations { counts, .. } = self.snapshot();
        let all: u64 = counts.iter().sum();
        let wanted = (all * of_thousand).div_ceil(1000);
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        BOUNDS_US.get(bucket).copied().filter(|_| all > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(500), None);
        for _ in 0..990 {
            latency.record(Duration::from_nanos(1500));
        }
        for _ in 0..10 {
            latency.record(Duration::from_millis(3));
        }
        assert_eq!((latency.quantile(500), latency.quantile(990)), (Some(2), Some(2)));
        assert_eq!((latency.quantile(991), latency.quantile(1000)), (Some(5000), Some(5000)));
        latency.record(Duration::from_secs(1));
        assert_eq!(latency.quantile(1000), None, "longer than the last bound");
    }

    #[test]
    fn a_bound_is_in_its_bucket() {
        let latency = Latency::default();
        latency.record(Duration::from_micros(1));
        latency.record(Duration::from_nanos(1001));
        let Durations { counts, sum_ns } = latency.snapshot();
        assert_eq!((counts[0], counts[1], sum_ns), (1, 1, 2001));
    }
}
