//! What tracing costs: every figure that the project promises, measured in
//! one run. benches/README.md says how to read the output.
//!
//! `cargo bench -p host [-- [--quick] [--rounds N] [SECTION…]]`; sections are
//! calls, tasks, attached, work, attach-time, start-up, memory, reload and
//! replay.
//!
//! Why no framework: most rows are whole processes that measure themselves,
//! and rows are compared with each other, so that rounds must alternate
//! between them; frameworks measure one row to its end and then the next.

#![allow(clippy::cast_precision_loss, reason = "times are far below 2^53 nanoseconds")]

mod attach;
mod calls;
mod figures;
mod floor;
mod machine;
mod memory;
#[path = "../../../tests/hostile/module.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with tests")]
mod module;
mod placement;
mod programs;
mod reload;
mod replay;
mod report;
mod samples;
mod setup;
mod startup;
#[path = "../../../tests/load/swaps.rs"]
#[allow(unreachable_pub, reason = "shared with a test")]
mod swaps;
mod targets;
mod work;

use std::process::ExitCode;

use anyhow::{Context, bail};
use calls::Table;
use setup::Setup;

const SECTIONS: [&str; 9] =
    ["calls", "tasks", "attached", "work", "attach-time", "start-up", "memory", "reload", "replay"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overhead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(result) = programs::run(&words).or_else(|| floor::run(&words)).or_else(|| reload::run(&words)) {
        return result;
    }
    bench(&Options::parse(&words)?)
}

#[derive(Debug)]
struct Options<'a> {
    quick: bool,
    rounds: Option<u32>,
    filters: Vec<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> anyhow::Result<Self> {
        // cargo passes --bench; without it, this is a test of the benchmark.
        let mut options = Self { quick: !words.contains(&"--bench"), rounds: None, filters: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--bench" => {}
                "--quick" => options.quick = true,
                "--rounds" => {
                    let count = words.next().and_then(|count| count.parse().ok()).filter(|count| *count > 0);
                    options.rounds = Some(count.context("--rounds takes a number from 1")?);
                }
                filter if SECTIONS.iter().any(|section| section.contains(filter)) => options.filters.push(filter),
                other => bail!("{other:?} is no section; there are {}", SECTIONS.join(", ")),
            }
        }
        Ok(options)
    }

    fn wants(&self, section: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| section.contains(filter))
    }
}

fn bench(options: &Options<'_>) -> anyhow::Result<()> {
    let setup = Setup::new(options.quick, options.rounds)?;
    let load = machine::load();
    for (name, fact) in machine::facts() {
        println!("{name}: {fact}");
    }
    println!("rounds: {}{}", setup.rounds, if setup.quick { " (quick: not for comparisons)" } else { "" });
    let tables: Vec<Table> = Table::ALL.into_iter().filter(|table| options.wants(table.section())).collect();
    let variants = if tables.is_empty() { Vec::new() } else { calls::measure(&setup, &tables) };
    report::calls(&variants);
    let mut all_figures = Vec::new();
    type Measure = fn(&Setup) -> Vec<figures::Figure>;
    let sections: [(&str, &str, Measure); 7] = [
        ("work", "A shell that starts 200 programs, one after the other", work::spawning),
        ("work", "A build of 21 small C files by make -j2", work::building),
        (
            "attach-time",
            "From the start of the tracer until it is attached to a program, and to leave it",
            attach::measure,
        ),
        ("start-up", "Start-up, to the first action of the program", startup::measure),
        ("memory", "The host's memory while it traces, embedded default plugins", memory::measure),
        ("reload", "Two plugins replaced again and again under load", reload::measure),
        ("replay", "Replay of openat events by host test-plugin", replay::measure),
    ];
    for (section, title, measure) in sections {
        if options.wants(section) {
            let found = measure(&setup);
            report::figures(title, &found);
            all_figures.extend(found);
        }
    }
    report::targets(&targets::check(&variants, &all_figures));
    println!("\nload at the start: {load:.2}{}", if load > 0.5 { ": other work disturbed this run" } else { "" });
    Ok(())
}
