//! What legitimately differs from run to run, made equal.

/// Process ids: those that a shell or gdb gives, and numbers of four digits or
/// more.
pub fn ids(text: &str) -> String {
    text.lines().map(ids_of_line).collect::<Vec<_>>().join("\n")
}

fn ids_of_line(line: &str) -> String {
    let mut normal = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, digits) = rest.split_at(start);
        let length = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
        normal.push_str(before);
        // "[1] 4711" of a shell, "[Inferior 1 (process 4711) exited" of gdb.
        let is_id = length > 3 || before.ends_with("] ") || before.ends_with("process ");
        normal.push_str(if is_id { "NUMBER" } else { &digits[..length] });
        rest = &digits[length..];
    }
    normal + rest
}

/// Lines that tell of things which come in any order.
pub fn lines_in_order(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// How long a transfer took, and its speed.
pub fn speeds(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once(" copied,").map_or(line, |(before, _)| before));
    lines.collect::<Vec<_>>().join("\n")
}

/// Addresses, which are chosen at random.
pub fn addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        normal.push_str("ADDRESS");
        normal.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_hexdigit()));
    }
    normal
}

/// gcc's files between its stages.
pub fn names_of_temporary_objects(text: &str) -> String {
    let mut parts = text.split("/tmp/cc");
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        normal.push_str("/tmp/cc");
        normal.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric()));
    }
    normal
}

/// A dialogue without a shell's notices of what became of a job: it gives
/// them before the next prompt or the one after, as chance has it.
pub fn without_notices(text: &str) -> String {
    let notice = |line: &str| line.is_empty() || line.contains("  Stopped  ") || line.contains("wait_for_job");
    text.lines().map(str::trim_end).filter(|line| !notice(line)).collect::<Vec<_>>().join("\n")
}
