//! How many events a second `host test-plugin` replays.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::figures::Figure;
use super::programs::{Call, LOOP};
use super::setup::{Setup, output_of, raw_path};

pub(crate) fn measure(setup: &Setup) -> Vec<Figure> {
    let raw = raw_path().display().to_string();
    let plugins = [
        ("replay-raw", "1 plugin, raw path", raw.as_str()),
        ("replay-resolved", "1 plugin, sensitive-files, defaults", "builtin:sensitive-files"),
    ];
    let mut figures: Vec<Figure> = plugins.iter().map(|(key, title, _)| Figure::new(key, title, "events/s")).collect();
    let loops = if setup.quick { 50_000 } else { 300_000 };
    // The loop's warm-up opens too.
    let events = loops + loops / 10;
    eprintln!("replay: recording {events} events");
    let traces = record(setup, "long.jsonl", loops).and_then(|long| Ok((long, record(setup, "short.jsonl", 1)?)));
    let (long, short) = match traces {
        Ok(traces) => traces,
        Err(error) => {
            for figure in &mut figures {
                figure.failure = Some(format!("{error:#}"));
            }
            return figures;
        }
    };
    eprintln!("replay");
    // The first of each plugin fills the code cache: a replay is bounded by
    // fuel, and its code is not that of a live run.
    for (_, _, plugin) in plugins {
        let _ = seconds(setup, plugin, &short);
    }
    for _ in 0..setup.rounds.min(5) {
        for (figure, (_, _, plugin)) in figures.iter_mut().zip(plugins) {
            figure.measure(|| {
                // What remains after start-up: loading the plugin and so on.
                let start_up = seconds(setup, plugin, &short)?;
                Ok(events as f64 / (seconds(setup, plugin, &long)? - start_up))
            });
        }
    }
    figures
}

/// A trace of `openat` entries, recorded live.
fn record(setup: &Setup, name: &str, loops: u64) -> anyhow::Result<PathBuf> {
    let trace = setup.scratch.path().join(name);
    let mut host = setup.host(["run", "--plugin"]);
    host.arg(raw_path()).arg("--record").arg(&trace).arg("--").arg(&setup.itself);
    output_of(host.args([LOOP, Call::Openat.name(), &loops.to_string()]).arg(setup.opened()))?;
    Ok(trace)
}

fn seconds(setup: &Setup, plugin: &str, trace: &Path) -> anyhow::Result<f64> {
    let mut host = setup.host(["test-plugin", plugin]);
    host.arg(trace);
    let since = Instant::now();
    output_of(&mut host)?;
    Ok(since.elapsed().as_secs_f64())
}
