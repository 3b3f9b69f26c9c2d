//! From the start of `host run` to the first action of the program.

use std::process::Command;

use anyhow::Context;

use super::figures::Figure;
use super::programs::{FIRST, monotonic_ns};
use super::setup::{Setup, eight_plugins, output_of};

pub(crate) fn measure(setup: &Setup) -> Vec<Figure> {
    let mut native = Figure::new("startup-native", "the program alone", "ms");
    let mut warm = Figure::new("startup-warm", "host, embedded default plugins, code cached", "ms");
    let mut cold = Figure::new("startup-cold", "host, embedded default plugins, nothing cached", "ms");
    let mut warm_eight = Figure::new("startup-eight-warm", "host, eight plugins, code cached", "ms");
    let mut cold_eight = Figure::new("startup-eight-cold", "host, eight plugins, nothing cached", "ms");
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
        let eight = || -> Command {
            let mut host = setup.host(["run"]);
            host.args(eight_plugins()).arg("--").arg(&setup.itself);
            host
        };
        warm_eight.measure(|| until_first(&mut eight()));
        cold_eight.measure(|| {
            let empty = tempfile::tempdir()?;
            until_first(eight().env("XDG_CACHE_HOME", empty.path()))
        });
    }
    vec![native, warm, cold, warm_eight, cold_eight]
}

/// Milliseconds.
fn until_first(command: &mut Command) -> anyhow::Result<f64> {
    let started = monotonic_ns();
    let printed = output_of(command.arg(FIRST))?;
    let first: u64 = printed.trim().parse().with_context(|| format!("the program printed {printed:?}"))?;
    Ok(first.saturating_sub(started) as f64 / 1e6)
}
