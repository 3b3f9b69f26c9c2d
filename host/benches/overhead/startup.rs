//! From the start of `host run` to the first action of the program.

use std::process::Command;

use anyhow::Context;

use super::figures::Figure;
use super::programs::{FIRST, monotonic_ns};
use super::setup::{Setup, output_of};

pub(crate) fn measure(setup: &Setup) -> Vec<Figure> {
    let mut native = Figure::new("startup-native", "the program alone", "ms");
    let mut warm = Figure::new("startup-warm", "host, embedded default plugins, code cached", "ms");
    let mut cold = Figure::new("startup-cold", "host, embedded default plugins, nothing cached", "ms");
    // Fills the cache; what is wrong here shows again below.
    let _ = until_first(setup.host(["run", "--"]).arg(&setup.itself));
    eprintln!("start-up");
    for _ in 0..setup.rounds.min(9) {
        native.measure(|| until_first(&mut Command::new(&setup.itself)));
        warm.measure(|| until_first(setup.host(["run", "--"]).arg(&setup.itself)));
        cold.measure(|| {
            let empty = tempfile::tempdir()?;
            until_first(setup.host(["run", "--"]).arg(&setup.itself).env("XDG_CACHE_HOME", empty.path()))
        });
    }
    vec![native, warm, cold]
}

/// Milliseconds.
fn until_first(command: &mut Command) -> anyhow::Result<f64> {
    let started = monotonic_ns();
    let printed = output_of(command.arg(FIRST))?;
    let first: u64 = printed.trim().parse().with_context(|| format!("the program printed {printed:?}"))?;
    Ok(first.saturating_sub(started) as f64 / 1e6)
}
