//! What plugins are told of a program that has just been executed is what procfs
//! says of it, however it came to be.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::collections::HashMap;

use serde_json::Value as Json;
use support::{host, tracee};

/// What was recorded of each program that was executed, the last of a process.
fn recorded(trace: &str) -> HashMap<u64, Json> {
    let (mut processes, mut executed) = (HashMap::new(), HashMap::new());
    for line in trace.lines().skip(1) {
        let mut line: Json = serde_json::from_str(line).unwrap();
        match line["type"].as_str().unwrap() {
            "process" => {
                let id = line["id"].as_u64().unwrap();
                let object = line.as_object_mut().unwrap();
                object.retain(|key, _| key != "id" && key != "type" && key != "container");
                processes.insert(id, line);
            }
            "process_exec" => {
                let process = processes[&line["process"].as_u64().unwrap()].clone();
                executed.insert(line["pid"].as_u64().unwrap(), process);
            }
            _ => {}
        }
    }
    executed
}

#[test]
fn of_each_way_to_execute_a_program() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    // Without another plugin, and with one that protects what it judges.
    for plugins in [&["builtin:process-monitor"][..], &["builtin:sensitive-files", "builtin:process-monitor"]] {
        let (place, trace) = (root.join("place"), root.join("trace.jsonl"));
        std::fs::create_dir(&place).unwrap();
        let run = plugins.iter().fold(host(), |run, plugin| run.plugin(plugin));
        let outcome =
            run.option("--record", trace.to_str().unwrap()).tracee(&["facts", "all", place.to_str().unwrap()]);
        let recorded = recorded(&std::fs::read_to_string(&trace).unwrap());
        let said: Vec<Json> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(said.len(), 15, "{outcome:#?}");
        for said in said {
            let facts = &said["facts"];
            let found = recorded.get(&facts["pid"].as_u64().unwrap());
            assert_eq!(found, Some(facts), "{} with {plugins:?}, by {:?}", said["way"], tracee());
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
}
