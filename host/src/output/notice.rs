//! What the host says of its own work, on standard error, in plain lines.

use crate::tracer::Notice;

/// Says it.
pub fn tell_notice(notice: &Notice) {
    match notice {
        Notice::Attached { processes, threads } => {
            eprintln!("host: attached to {} ({})", count(*processes, "process", "es"), count(*threads, "thread", "s"));
        }
        Notice::Skipped { pid, name, why } if name.is_empty() => eprintln!("host: skipped PID {pid}: it {why}"),
        Notice::Skipped { pid, name, why } => eprintln!("host: skipped PID {pid} ({name}): it {why}"),
        Notice::Leaving { threads } => eprintln!("host: detaching from {}", count(*threads, "thread", "s")),
    }
}

fn count(number: usize, what: &str, plural: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { plural })
}
