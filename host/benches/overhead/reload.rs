//! Plugins that are replaced under load: what it costs the calls that are made
//! meanwhile.

use anyhow::Context as _;
use serde_json::Value;

use super::figures::Figure;
use super::setup::Setup;
use crate::setup::output_of;
use crate::swaps;

/// Traces a program and replaces its plugins; the program.
const RUN: &str = "reload-run";
const PROGRAM: &str = "reload-program";

/// Runs the part that the arguments name; none if they name none.
pub(crate) fn run(arguments: &[&str]) -> Option<anyhow::Result<()>> {
    Some(match arguments {
        [RUN, swaps] => swaps.parse().context("SWAPS is no number").and_then(trace),
        [PROGRAM, stop, result] => {
            swaps::program(stop.as_ref(), result.as_ref());
            Ok(())
        }
        _ => return None,
    })
}

fn trace(count: usize) -> anyhow::Result<()> {
    let swaps::Outcome { tally, mut loading_ms, mut taking_over_ms } = swaps::run(&[PROGRAM], count)?;
    let median = |samples: &mut Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let found = serde_json::json!({
        "loading": median(&mut loading_ms),
        "taking-over": median(&mut taking_over_ms),
        "slowest": tally.slowest_ms,
        "slow": tally.slow,
        "rate": tally.calls as f64 / tally.seconds,
    });
    println!("{found}");
    Ok(())
}

pub(crate) fn measure(setup: &Setup) -> Vec<Figure> {
    let mut figures = [
        ("loading", "to load and configure two small plugins", "ms"),
        ("taking-over", "until 50 calls were judged by a new set", "ms"),
        ("slowest", "the longest call beside 200 swaps", "ms"),
        ("slow", "calls that took longer than 10 ms", "calls"),
        ("rate", "judged calls beside 200 swaps", "/s"),
    ]
    .map(|(key, title, unit)| Figure::new(key, title, unit));
    eprintln!("reload");
    for _ in 0..setup.rounds.min(3) {
        let said = output_of(std::process::Command::new(&setup.itself).args([RUN, &setup.times(200).to_string()]));
        let found = said.and_then(|said| Ok(serde_json::from_str::<Value>(&said)?));
        for figure in &mut figures {
            let key = figure.key;
            figure.measure(|| match &found {
                Ok(found) => found[key].as_f64().with_context(|| format!("no {key} in {found}")),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            });
        }
    }
    figures.into()
}
