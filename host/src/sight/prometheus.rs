//! A report as Prometheus reads it (text format 0.0.4).

use std::fmt::Write as _;

use super::report::{PluginReport, Report};
use super::stats::{BOUNDS_US, Counts, Durations};

/// The content type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A family of samples: name, help, and the value of one plugin.
type Family = (&'static str, &'static str, fn(&Counts) -> u64);

const FAMILIES: [Family; 7] = [
    ("calls_total", "Events that the plugin was asked about.", |counts| counts.calls),
    ("denied_total", "Calls that it denied.", |counts| counts.denied),
    ("would_deny_total", "Calls that it would have denied.", |counts| counts.would_deny),
    ("alerts_total", "Alerts that it raised.", |counts| counts.alerts),
    ("alerts_dropped_total", "Alerts that were too much for its rate.", |counts| counts.alerts_dropped),
    ("faults_total", "Times that it failed to answer.", |counts| counts.faults),
    ("suspended_total", "Events that its failure policy answered.", |counts| counts.suspended),
];

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        let _ = writeln!(text, "# HELP tracegate_{name} {help}\n# TYPE tracegate_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "tracegate_{name}{labels} {value}");
        }
    };
    let one = |value: f64| [(String::new(), value)];
    family("up", "gauge", "Whether the loop answers.", &one(f64::from(u8::from(report.live))));
    family("uptime_seconds", "gauge", "Seconds since the start.", &one(report.uptime_s as f64));
    if let Some(coverage) = &report.coverage {
        family("traced_processes", "gauge", "Processes under our eyes.", &one(coverage.processes as f64));
        family("traced_threads", "gauge", "Threads under our eyes.", &one(coverage.threads as f64));
        let help = "Threads of which only calls that are wanted stop.";
        family("filtered_threads", "gauge", help, &one(coverage.filtered as f64));
        let help = "Processes that were meant and could not be attached to.";
        family("refused_processes", "gauge", help, &one(coverage.refused as f64));
    }
    family("reloads_total", "counter", "Sets of plugins that took over.", &one(report.reloads.succeeded as f64));
    let help = "Looks for new plugins that failed.";
    family("reload_failures_total", "counter", help, &one(report.reloads.failed as f64));
    let help = "Events that the observe lane could not take.";
    family("events_dropped_total", "counter", help, &one(report.events_dropped as f64));
    let info: Vec<_> = report.plugins.iter().map(|plugin| (labels(plugin, &plugin.labels()), 1.0)).collect();
    family("plugin_info", "gauge", "A plugin that runs.", &info);
    for (name, help, value) in FAMILIES {
        let samples: Vec<_> =
            report.plugins.iter().map(|plugin| (labels(plugin, &[]), value(&plugin.counts) as f64)).collect();
        family(&format!("plugin_{name}"), "counter", help, &samples);
    }
    let numbers: Vec<_> = report
        .plugins
        .iter()
        .flat_map(|plugin| plugin.metrics().map(|(name, value)| (labels(plugin, &[("name", name)]), value)))
        .collect();
    family("plugin_metric", "untyped", "A number of the plugin's own.", &numbers);
    let _ = writeln!(text, "# HELP tracegate_plugin_answer_seconds Time of an answer.");
    let _ = writeln!(text, "# TYPE tracegate_plugin_answer_seconds histogram");
    for plugin in &report.plugins {
        histogram(&mut text, plugin);
    }
    text
}

fn histogram(text: &mut String, plugin: &PluginReport) {
    let Durations { counts, sum_ns } = plugin.durations;
    let mut seen = 0;
    for (index, count) in counts.iter().enumerate() {
        seen += count;
        let bound = BOUNDS_US.get(index).map_or_else(|| "+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
        let labels = labels(plugin, &[("le", &bound)]);
        let _ = writeln!(text, "tracegate_plugin_answer_seconds_bucket{labels} {seen}");
    }
    let labels = labels(plugin, &[]);
    let _ = writeln!(text, "tracegate_plugin_answer_seconds_sum{labels} {}", sum_ns as f64 / 1e9);
    let _ = writeln!(text, "tracegate_plugin_answer_seconds_count{labels} {seen}");
}

/// The plugin's name and these, in braces.
fn labels(plugin: &PluginReport, more: &[(&str, &str)]) -> String {
    let all = [("plugin", plugin.name())];
    let all = all.iter().chain(more).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    format!("{{{}}}", all.collect::<Vec<_>>().join(","))
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
