//! What the figures shall be, and whether they are.
//!
//! Ratios only of figures of one run, taken round by round. Nothing fails
//! when a target is missed: time is not a matter of right and wrong.

use super::calls::Variant;
use super::figures::Figure;
use super::placement::Placement;
use super::report::number;
use super::samples::Samples;

/// Which side of the limit is good.
#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A target with what was measured, first in the placement that counts.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    limit: Limit,
    pub(crate) unit: &'static str,
    pub(crate) measured: Samples,
    /// The same with the scheduler's placement, for ratios of calls.
    pub(crate) free: Option<Samples>,
}

impl Target {
    pub(crate) fn limit(&self) -> String {
        match self.limit {
            Limit::AtMost(limit) => format!("≤ {}{}", plain(limit), self.unit),
            Limit::AtLeast(limit) => format!("≥ {}{}", plain(limit), self.unit),
        }
    }

    pub(crate) fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.measured.median() <= limit,
            Limit::AtLeast(limit) => self.measured.median() >= limit,
        }
    }
}

/// 1.5 as it is, 300000 as 300,000.
fn plain(limit: f64) -> String {
    if limit < 1000.0 { limit.to_string() } else { number(limit) }
}

/// What, variant, base, limit: time of a call over time of the base.
const RATIOS: [(&str, &str, &str, f64); 9] = [
    ("1 plugin on the raw path / floor", "raw", "floor", 1.5),
    ("sensitive-files, 10 paths, on the resolved path / floor", "resolved", "floor", 1.8),
    ("sensitive-files, defaults / floor", "defaults", "floor", 1.8),
    ("5 plugins on the raw path / floor", "five-raw", "floor", 2.2),
    ("5 plugins, one on the resolved path / floor", "five", "floor", 2.2),
    ("a stop beside 99 threads / beside none", "tasks-100", "tasks-1", 1.5),
    ("a stop beside 999 threads / beside none", "tasks-1000", "tasks-1", 1.5),
    ("unsubscribed call / under a filter that allows all", "unsubscribed", "other-filter", 1.1),
    ("excluded by a predicate / under a filter that allows all", "excluded", "filter", 1.1),
];

/// What, variant: time added to a call over time that strace adds.
const ADDED: [(&str, &str); 3] = [
    ("time added, raw path / strace", "raw"),
    ("time added, sensitive-files, 10 paths / strace", "resolved"),
    ("time added, sensitive-files, defaults / strace", "defaults"),
];

/// What, figure, base, limit: time of the work over time without a tracer.
const WORK: [(&str, &str, &str, f64); 2] = [
    ("a shell that starts programs / no tracer", "spawn-host", "spawn-native", 1.4),
    ("a build by make -j2 / no tracer", "build-host", "build-native", 1.3),
];

/// What, key, limit, unit.
const FIGURES: [(&str, &str, Limit, &str); 10] = [
    ("start-up with code cached", "startup-warm", Limit::AtMost(50.0), " ms"),
    ("start-up with eight plugins, code cached", "startup-eight-warm", Limit::AtMost(60.0), " ms"),
    ("resident with eight plugins", "rss-eight", Limit::AtMost(64.0), " MiB"),
    ("calls delayed over 10 ms by swaps", "slow", Limit::AtMost(0.0), ""),
    ("judged calls beside swaps", "rate", Limit::AtLeast(20_000.0), "/s"),
    ("attach to 500 threads", "attach", Limit::AtMost(100.0), " ms"),
    ("resident with the default plugins", "rss", Limit::AtMost(40.0), " MiB"),
    ("resident, at its peak", "rss-peak", Limit::AtMost(40.0), " MiB"),
    ("replay, raw path", "replay-raw", Limit::AtLeast(300_000.0), "/s"),
    ("replay, sensitive-files", "replay-resolved", Limit::AtLeast(300_000.0), "/s"),
];

/// The targets for which there are figures.
pub(crate) fn check(variants: &[Variant], figures: &[Figure]) -> Vec<Target> {
    let find = |key: &str| variants.iter().find(|variant| variant.key == key);
    let ratio = |what, key, base, limit, compare: &dyn Fn(usize, &Variant, &Variant) -> Samples| {
        let (variant, base) = (find(key)?, find(base)?);
        let [measured, free] = [0, 1].map(|placement| compare(placement, variant, base));
        Some(Target { what, limit: Limit::AtMost(limit), unit: "", measured, free: Some(free) })
    };
    let over =
        |placement: usize, variant: &Variant, base: &Variant| variant.samples[placement].over(&base.samples[placement]);
    let native = find("native");
    let added = |placement: usize, variant: &Variant, base: &Variant| {
        let native = native.map(|native| native.samples[placement].clone()).unwrap_or_default();
        variant.samples[placement].minus(&native).over(&base.samples[placement].minus(&native))
    };
    debug_assert_eq!(Placement::ALL[0], Placement::Together);
    let of_calls = RATIOS.iter().filter_map(|(what, key, base, limit)| ratio(what, key, base, *limit, &over));
    let of_added = ADDED.iter().filter_map(|(what, key)| ratio(what, key, "strace", 0.6, &added));
    let figure = |key: &str| figures.iter().find(|figure| figure.key == key);
    let of_work = WORK.iter().filter_map(|(what, key, base, limit)| {
        let measured = figure(key)?.samples.over(&figure(base)?.samples);
        Some(Target { what, limit: Limit::AtMost(*limit), unit: "", measured, free: None })
    });
    let of_figures = FIGURES.iter().filter_map(|(what, key, limit, unit)| {
        let figure = figure(key)?;
        Some(Target { what, limit: *limit, unit, measured: figure.samples.clone(), free: None })
    });
    of_calls.chain(of_added).chain(of_work).chain(of_figures).filter(|target| !target.measured.is_empty()).collect()
}
