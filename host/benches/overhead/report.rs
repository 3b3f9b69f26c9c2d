//! The tables.

use super::calls::{Table, Variant};
use super::figures::Figure;
use super::placement::Placement;
use super::samples::Samples;
use super::targets::Target;

const WIDTH: usize = 58;

pub(crate) fn calls(variants: &[Variant]) {
    for table in Table::ALL {
        let variants: Vec<&Variant> = variants.iter().filter(|variant| variant.table == table).collect();
        if variants.is_empty() {
            continue;
        }
        println!("\n{:<WIDTH$}{}", table.title(), Placement::ALL.map(|p| format!("{:>28}", p.title())).concat());
        for variant in variants {
            let cells = variant.samples.each_ref().map(|samples| format!("{:>28}", spread(samples)));
            println!("  {:<w$}{}", variant.title, cells.concat(), w = WIDTH - 2);
            failures(variant.samples.iter().map(Samples::failures).sum(), variant.failure.as_deref());
        }
    }
}

pub(crate) fn figures(title: &str, figures: &[Figure]) {
    println!("\n{title}");
    for figure in figures {
        println!("  {:<w$}{:>28} {}", figure.title, spread(&figure.samples), figure.unit, w = WIDTH - 2);
        failures(figure.samples.failures(), figure.failure.as_deref());
    }
}

pub(crate) fn targets(targets: &[Target]) {
    println!(
        "\n{:<WIDTH$}{:>12}{:>30}  {:<5}{:>9}",
        "Targets (median of the rounds' ratios)", "target", "measured", "met?", "if free"
    );
    for target in targets {
        let met = if target.is_met() { "yes" } else { "NO" };
        let free = target.free.as_ref().map_or(String::new(), |free| number(free.median()));
        println!(
            "  {:<w$}{:>12}{:>30}  {met:<5}{free:>9}",
            target.what,
            target.limit(),
            spread(&target.measured),
            w = WIDTH - 2
        );
    }
}

fn failures(count: usize, last: Option<&str>) {
    if let Some(last) = last {
        println!("    {count} samples failed, the last so: {}", shortened(last));
    }
}

/// As much of a message as says what went wrong.
fn shortened(message: &str) -> String {
    let text: String = message.chars().take(300).collect();
    text.replace('\n', "; ")
}

/// `MEDIAN (LEAST..MOST)`
fn spread(samples: &Samples) -> String {
    if samples.is_empty() {
        return "not measured".into();
    }
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
