//! Reads a trace of `host record` into the same shape as strace's files.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use super::compare::{Call, End, Outcome, Run, Thread};

/// Reads a trace.
pub fn read(path: &Path) -> Run {
    let mut threads: HashMap<i32, Thread> = HashMap::new();
    // Number of an entry → its place in its thread's list.
    let mut entries = HashMap::new();
    let text = std::fs::read_to_string(path).unwrap();
    for line in text.lines() {
        let line: Json = serde_json::from_str(line).unwrap();
        let Some(tid) = line["tid"].as_i64() else {
            if line["type"] == "end" {
                assert_eq!(line["dropped"], 0, "the recorder dropped events");
            }
            continue;
        };
        let thread = threads.entry(tid as i32).or_default();
        match line["type"].as_str().unwrap() {
            "entry" => {
                entries.insert(line["seq"].as_u64().unwrap(), thread.calls.len());
                thread.calls.push(call(&line, Outcome::None));
            }
            "exit" => thread.calls[entries[&line["entry_seq"].as_u64().unwrap()]] = call(&line, outcome(&line)),
            "process_fork" => thread.children.push(line["child"].as_i64().unwrap() as i32),
            "process_exit" => thread.end = Some(end(&line)),
            _ => {}
        }
    }
    Run::new(threads)
}

fn call(line: &Json, outcome: Outcome) -> Call {
    let text = |argument: &Json| argument["text"].as_str().unwrap().to_owned();
    Call {
        name: line["syscall"].as_str().unwrap().to_owned(),
        arguments: line["args"].as_array().unwrap().iter().map(text).collect(),
        outcome,
    }
}

fn outcome(line: &Json) -> Outcome {
    /// Answers of the kernel to itself (include/linux/errno.h). A program
    /// never sees them, a tracer does; the host has no names for them.
    const RESTARTS: [(i64, &str); 4] =
        [(-512, "ERESTARTSYS"), (-513, "ERESTARTNOINTR"), (-514, "ERESTARTNOHAND"), (-516, "ERESTART_RESTARTBLOCK")];
    if let Some(errno) = line["errno"].as_str() {
        return Outcome::Errno(errno.to_owned());
    }
    match line["result"].as_i64() {
        // A number of more than 53 bits is a word.
        None => Outcome::Value(line["result"].as_str().unwrap().to_owned()),
        Some(result) => match RESTARTS.iter().find(|(number, _)| *number == result) {
            Some((_, name)) => Outcome::Errno((*name).to_owned()),
            None => Outcome::Value(result.to_string()),
        },
    }
}

fn end(line: &Json) -> End {
    match line["code"].as_i64() {
        Some(code) => End::Code(code.to_string()),
        None => End::Signal(super::compare::signal_name(line["signal"].as_i64().unwrap())),
    }
}
