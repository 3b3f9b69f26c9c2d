//! The tables.

use super::calls::Variant;
use super::figures::Figure;
use super::placement::Placement;
use super::programs::Call;
use super::samples::Samples;
use super::targets::Target;

const WIDTH: usize = 58;

pub(crate) fn calls(variants: &[Variant]) {
    let sections =
        [(Call::Openat, "An openat of an existing file, and its close (ns)"), (Call::Getppid, "A getppid (ns)")];
    for (call, title) in sections {
        println!("\n{title:<WIDTH$}{}", Placement::ALL.map(|p| format!("{:>28}", p.title())).concat());
        for variant in variants.iter().filter(|variant| variant.call == call) {
            match &variant.failure {
                Some(failure) => println!("  {:<w$}  not measured: {failure}", variant.title, w = WIDTH - 2),
                None => {
                    let cells = variant.samples.each_ref().map(|samples| format!("{:>28}", spread(samples)));
                    println!("  {:<w$}{}", variant.title, cells.concat(), w = WIDTH - 2);
                }
            }
        }
    }
}

pub(crate) fn figures(title: &str, figures: &[Figure]) {
    println!("\n{title}");
    for figure in figures {
        match &figure.failure {
            Some(failure) => println!("  {:<w$}  not measured: {failure}", figure.title, w = WIDTH - 2),
            None if figure.samples.is_empty() => {}
            None => {
                println!("  {:<w$}{:>28} {}", figure.title, spread(&figure.samples), figure.unit, w = WIDTH - 2);
            }
        }
    }
}

pub(crate) fn targets(targets: &[Target]) {
    println!(
        "\n{:<WIDTH$}{:>12}{:>24}  {:<5}{:>14}",
        "Targets (median of the rounds' ratios)", "target", "measured", "met?", "if free"
    );
    for target in targets {
        let met = if target.is_met() { "yes" } else { "NO" };
        let free = target.free.as_ref().map_or(String::new(), |free| number(free.median()));
        println!(
            "  {:<w$}{:>12}{:>24}  {met:<5}{free:>14}",
            target.what,
            target.limit(),
            spread(&target.measured),
            w = WIDTH - 2
        );
    }
}

/// `MEDIAN (LEAST..MOST)`
fn spread(samples: &Samples) -> String {
    format!("{} ({}..{})", number(samples.median()), number(samples.least()), number(samples.most()))
}

/// Three digits that matter, or all before the point, in groups.
pub(crate) fn number(value: f64) -> String {
    let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    let mut text = format!("{value:.digits$}");
    let first = usize::from(text.starts_with('-'));
    let mut group = if digits == 0 { text.len() } else { 0 };
    while group > first + 3 {
        group -= 3;
        text.insert(group, ',');
    }
    text
}
