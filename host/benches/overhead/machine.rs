//! What a reader needs to know of the machine to judge the figures.

use std::fs::read_to_string;
use std::process::Command;

use super::setup::{HOST, output_of};

/// One fact a line.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map_or("unknown".into(), |(_, value)| value.trim().to_owned())
    };
    let virtual_machine =
        if field("flags").split(' ').any(|flag| flag == "hypervisor") { ", virtual machine" } else { "" };
    let cpus = std::thread::available_parallelism().map_or("unknown".into(), |count| count.to_string());
    vec![
        ("kernel", file("/proc/sys/kernel/osrelease")),
        ("processor", format!("{}, {cpus} CPUs{virtual_machine}", field("model name"))),
        ("frequency governor", file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("host", first_line(Command::new(HOST).arg("--version"))),
        ("strace", first_line(Command::new("strace").arg("--version"))),
    ]
}

/// The run queue's mean length over the last minute: other work disturbs.
pub(crate) fn load() -> f64 {
    read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
}

fn file(path: &str) -> String {
    read_to_string(path).map_or("unknown".into(), |text| text.trim().to_owned())
}

fn first_line(command: &mut Command) -> String {
    match output_of(command) {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(error) => format!("none ({error:#})"),
    }
}
