//! What the host says of its own work, on standard error, in plain lines.

use std::io::Write as _;

use crate::tracer::Notice;

/// Says it, in one write: a container's log has each as a line of its own.
pub fn tell_notice(notice: &Notice) {
    let text = match notice {
        Notice::Attached { processes, threads } => {
            format!("attached to {} ({})", count(*processes, "process", "es"), count(*threads, "thread", "s"))
        }
        Notice::Skipped { pid, name, why } if name.is_empty() => format!("skipped PID {pid}: it {why}"),
        Notice::Skipped { pid, name, why } => format!("skipped PID {pid} ({name}): it {why}"),
        Notice::Injected { pid, outcome: Ok(threads) } => {
            format!("installed the filter in process {pid} ({})", count(*threads, "thread", "s"))
        }
        Notice::Injected { pid, outcome: Err(why) } => {
            format!("cannot install the filter in process {pid}: {why}; every call of it stops, which is slower")
        }
        Notice::Leaving { threads } => format!("detaching from {}", count(*threads, "thread", "s")),
    };
    // Nobody is left to be told of a failure.
    let _ = std::io::stderr().write_all(format!("host: {text}\n").as_bytes());
}

fn count(number: usize, what: &str, plural: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { plural })
}
