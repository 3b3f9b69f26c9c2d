//! The host's memory while it traces with the embedded default plugins.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::figures::Figure;
use super::programs::WAIT;
use super::setup::{Setup, eight_plugins};

/// Key, title, file of procfs, line in it.
const FIGURES: [(&str, &str, &str, &str); 6] = [
    ("rss", "resident (VmRSS)", "status", "VmRSS:"),
    ("rss-peak", "resident at its peak (VmHWM)", "status", "VmHWM:"),
    ("rss-anon", "of which our own data (RssAnon)", "status", "RssAnon:"),
    ("rss-file", "of which the executable and libraries (RssFile)", "status", "RssFile:"),
    ("pss", "shared pages counted in part (Pss)", "smaps_rollup", "Pss:"),
    ("private", "written and shared with nobody (Private_Dirty)", "smaps_rollup", "Private_Dirty:"),
];

pub(crate) fn measure(setup: &Setup) -> Vec<Figure> {
    let mut figures: Vec<Figure> = FIGURES.iter().map(|(key, title, ..)| Figure::new(key, title, "MiB")).collect();
    let mut cold = Figure::new("rss-cold", "resident at its peak, nothing cached (VmHWM)", "MiB");
    let mut eight = Figure::new("rss-eight", "resident with eight plugins (VmRSS)", "MiB");
    eprintln!("memory");
    // The first fills the code cache.
    let _ = while_tracing(&mut setup.host(["run", "--"]), setup);
    for _ in 0..setup.rounds.min(3) {
        match while_tracing(&mut setup.host(["run", "--"]), setup) {
            Ok(found) => figures.iter_mut().zip(found).for_each(|(figure, mib)| figure.measure(|| Ok(mib))),
            Err(error) => figures[0].measure(|| Err(error)),
        }
        cold.measure(|| {
            let empty = tempfile::tempdir()?;
            let found = while_tracing(setup.host(["run", "--"]).env("XDG_CACHE_HOME", empty.path()), setup)?;
            Ok(found[1])
        });
    }
    for _ in 0..setup.rounds.min(3) {
        eight.measure(|| Ok(while_tracing(setup.host(["run"]).args(eight_plugins()).arg("--"), setup)?[0]));
    }
    figures.extend([cold, eight]);
    figures
}

/// MiB, in the order of [`FIGURES`].
fn while_tracing(host: &mut Command, setup: &Setup) -> anyhow::Result<Vec<f64>> {
    let mut host = host
        .arg(&setup.itself)
        .arg(WAIT)
        .arg(setup.opened())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(host.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
    let found = FIGURES.iter().map(|(_, _, file, key)| {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", host.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.with_context(|| format!("no {key} in /proc/PID/{file}"))? / 1024.0)
    });
    let found: anyhow::Result<Vec<f64>> = found.collect();
    // The program ends with its input.
    drop(host.stdin.take());
    let status = host.wait()?;
    ensure!(line == "ready\n" && status.success(), "host ended with {status}");
    found
}
