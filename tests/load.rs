//! Plugins are replaced two hundred times under load: every call is judged,
//! and none by plugins of two sets. Without libtest, whose threads would be
//! there before the tracer.
#![allow(missing_docs, unreachable_pub, reason = "a test")]

#[path = "hostile/module.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests of hostile plugins")]
mod module;
#[path = "load/swaps.rs"]
mod swaps;

const SWAPS: usize = 200;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, stop, result] = arguments.as_slice()
        && word == "program"
    {
        swaps::program(stop.as_ref(), result.as_ref());
        return Ok(());
    }
    let swaps::Outcome { tally, loading_ms, taking_over_ms } = swaps::run(&["program"], SWAPS)?;
    println!("running 1 test");
    println!("{tally:?}, {:.0} calls a second", tally.calls as f64 / tally.seconds);
    assert_eq!((loading_ms.len(), taking_over_ms.len()), (SWAPS, SWAPS));
    assert_eq!((tally.unjudged, tally.other), (0, 0), "unjudged, or judged by two sets: {tally:?}");
    assert_eq!(tally.judged.iter().sum::<u64>(), tally.calls, "{tally:?}");
    assert!(tally.judged.iter().all(|calls| *calls > 50 * SWAPS as u64 / 2), "not each set has judged: {tally:?}");
    println!("test every_call_is_judged_by_one_set ... ok");
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
    Ok(())
}
