//! The alerts.

use plugin_sdk::Process;
use plugin_sdk::call::Exec;
use plugin_sdk::prelude::*;

/// Longest command line in an alert, in bytes. Whoever needs more records a
/// trace; an argv may have megabytes.
const LONGEST: usize = 4096;

/// Every program that is run.
pub(crate) fn exec(event: &ProcessEvent<'_>) -> Alert {
    let process = event.process();
    let message = format!("{} runs as {}", command(&process.argv, &process.exe), name(&process.exe));
    describe(Alert::new("exec").severity(Severity::Info).message(message), process)
        .field("previous_exe", event.previous_exe().unwrap_or_default())
}

/// A program that was not expected.
pub(crate) fn unexpected(event: &ProcessEvent<'_>) -> Alert {
    let process = event.process();
    let why = reason(&process.exe);
    let alert = Alert::new("unexpected-program").severity(severity(&process.exe));
    describe(alert.message(format!("{} runs: {why}", name(&process.exe))), process)
        .field("reason", why)
        .field("previous_exe", event.previous_exe().unwrap_or_default())
}

/// The same, before it runs. `exe` is what would be run.
pub(crate) fn refused(event: &Entry<'_>, exec: Exec<'_>, exe: &str) -> Alert {
    let process = event.process();
    let why = reason(exe);
    Alert::new("unexpected-program")
        .severity(severity(exe))
        .message(format!("{} asks to run {}: {why}", event.caller(), name(exe)))
        .field("exe", exe)
        .field("argv", command(exec.argv(), exe))
        .field("raw_path", exec.raw_path().unwrap_or_default())
        .field("reason", why)
        .field("caller", &process.exe)
        .field("parent", process.parent)
        .field("uid", process.uid)
        .field("cwd", &process.cwd)
}

fn describe(alert: Alert, process: &Process) -> Alert {
    let alert = alert
        .field("exe", &process.exe)
        .field("argv", command(&process.argv, &process.exe))
        .field("parent", process.parent)
        .field("uid", process.uid)
        .field("euid", process.euid)
        .field("cwd", &process.cwd);
    match &process.container {
        Some(container) => alert.field("container", container),
        None => alert,
    }
}

/// True if the program's file has been unlinked, or never had a name.
pub(crate) fn is_deleted(exe: &str) -> bool {
    exe.ends_with(" (deleted)") || exe.starts_with("/memfd:")
}

fn reason(exe: &str) -> &'static str {
    match exe {
        "" => "its file is not known",
        exe if exe.starts_with("/memfd:") => "it exists in memory only",
        exe if is_deleted(exe) => "its file has been deleted",
        _ => "it is not in the allow-list",
    }
}

/// Programs without a file are how intruders hide theirs.
fn severity(exe: &str) -> Severity {
    if is_deleted(exe) { Severity::High } else { Severity::Medium }
}

fn name(exe: &str) -> &str {
    if exe.is_empty() { "an unknown program" } else { exe }
}

/// argv as one would type it into a shell.
fn command(argv: &[String], exe: &str) -> String {
    let mut line = String::new();
    for argument in argv {
        if !line.is_empty() {
            line.push(' ');
        }
        quote(argument, &mut line);
        if line.len() > LONGEST {
            line.truncate(line.floor_char_boundary(LONGEST));
            line.push('…');
            break;
        }
    }
    if line.is_empty() { exe.to_owned() } else { line }
}

fn quote(argument: &str, line: &mut String) {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,+@%".contains(c);
    // What is beyond the limit is cut off anyway.
    let argument = &argument[..argument.floor_char_boundary(LONGEST + 4)];
    if !argument.is_empty() && argument.chars().all(plain) {
        line.push_str(argument);
    } else {
        line.push('\'');
        line.push_str(&argument.replace('\'', r"'\''"));
        line.push('\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_and_bounded() {
        let argv = ["sh", "-c", "echo 'a b'", ""].map(String::from);
        assert_eq!(command(&argv, "/bin/sh"), r"sh -c 'echo '\''a b'\''' ''");
        assert_eq!(command(&[], "/bin/sh"), "/bin/sh");
        let long = command(&["é".repeat(100_000)], "x");
        assert!(long.len() <= LONGEST + 3 && long.ends_with('…'), "{}", long.len());
    }
}
