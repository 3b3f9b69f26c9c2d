//! Real programs behave under `host run` as alone: each case (`agree/`) is run
//! twice, in the same place with the same files, and has to come to the same
//! exit status, output and files, and to tell of the same signals. The default
//! plugins judge it.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test")]
#![allow(clippy::needless_raw_string_hashes, reason = "programs in other languages look alike, with quotes or without")]

#[path = "agree/build.rs"]
mod build;
#[path = "agree/case.rs"]
mod case;
#[path = "agree/debuggers.rs"]
mod debuggers;
#[path = "agree/files.rs"]
mod files;
#[path = "agree/git.rs"]
mod git;
#[path = "agree/jobs.rs"]
mod jobs;
#[path = "agree/node.rs"]
mod node;
#[path = "agree/normal.rs"]
mod normal;
#[path = "agree/python.rs"]
mod python;
#[path = "agree/run.rs"]
mod run;
#[path = "agree/servers.rs"]
mod servers;
#[path = "agree/shells.rs"]
mod shells;
#[path = "agree/signals.rs"]
mod signals;
mod support;
#[path = "agree/terminal.rs"]
mod terminal;
#[path = "agree/tools.rs"]
mod tools;
#[path = "agree/view.rs"]
mod view;

use std::sync::LazyLock;
use std::time::Instant;

use case::Case;

/// What became of a group of cases.
#[derive(Default)]
struct Results {
    ran: usize,
    failures: Vec<String>,
}

/// A group is run once, by the test of its own or by the one that counts.
type Group = LazyLock<Results>;

static SHELLS: Group = LazyLock::new(|| run_all(shells::cases()));
static JOBS: Group = LazyLock::new(|| run_all(jobs::cases()));
static SIGNALS: Group = LazyLock::new(|| run_all(signals::cases()));
static TOOLS: Group = LazyLock::new(|| run_all(tools::cases()));
static BUILD: Group = LazyLock::new(|| run_all(build::cases()));
static GIT: Group = LazyLock::new(|| run_all(git::cases()));
static PYTHON: Group = LazyLock::new(|| run_all(python::cases()));
static VIEW: Group = LazyLock::new(|| run_all(view::cases()));
static SERVERS: Group = LazyLock::new(|| run_all(servers::cases()));
static DEBUGGERS: Group = LazyLock::new(|| run_all(debuggers::cases()));

/// Runs one case after the other. `AGREE_ONLY` has a part of the names of
/// those to be run, for whoever looks for the cause of a disagreement.
fn run_all(cases: Vec<Case>) -> Results {
    let only = std::env::var("AGREE_ONLY").unwrap_or_default();
    let mut results = Results::default();
    for case in cases.iter().filter(|case| case.name.contains(&only)) {
        let missing: Vec<_> = case.needs.iter().filter(|program| !installed(program)).copied().collect();
        let since = Instant::now();
        let failure = if missing.is_empty() {
            run::compare(case).err()
        } else {
            Some(format!("not installed: {}; tests/run has the packages", missing.join(", ")))
        };
        println!("{:6.1?} {} {}", since.elapsed(), if failure.is_none() { "agrees" } else { "FAILED" }, case.name);
        results.ran += 1;
        results.failures.extend(failure.map(|failure| format!("=== {}\n{failure}", case.name)));
    }
    results
}

fn installed(program: &str) -> bool {
    run::found(program).is_some()
}

#[track_caller]
fn all_agree(results: &Results) {
    assert!(
        results.failures.is_empty(),
        "{} of {} do not agree:\n{}",
        results.failures.len(),
        results.ran,
        results.failures.join("\n")
    );
}

#[test]
fn shells() {
    all_agree(&SHELLS);
}

#[test]
fn jobs_at_a_terminal() {
    all_agree(&JOBS);
}

#[test]
fn signals() {
    all_agree(&SIGNALS);
}

#[test]
fn tools() {
    all_agree(&TOOLS);
}

#[test]
fn make_and_compilers() {
    all_agree(&BUILD);
}

#[test]
fn git() {
    all_agree(&GIT);
}

#[test]
fn python() {
    all_agree(&PYTHON);
}

#[test]
fn what_a_program_sees_of_itself() {
    all_agree(&VIEW);
}

#[test]
fn servers_under_load() {
    all_agree(&SERVERS);
}

#[test]
fn programs_about_debugging() {
    all_agree(&DEBUGGERS);
}

#[test]
fn gdb_works_beside_the_host() {
    debuggers::beside();
}

#[test]
fn strace_under_the_host_attaches_to_another_program() {
    debuggers::attached_to_another();
}

#[test]
fn gdb_and_strace_are_refused_a_traced_program() {
    debuggers::refused();
}

/// Not everybody has these: that they were not tried is said.
#[test]
fn node_and_java_if_present() {
    for (program, cases) in [("node", node::node as fn() -> Vec<Case>), ("javac", node::java)] {
        if installed(program) {
            all_agree(&run_all(cases()));
        } else {
            println!("{program} is not installed: its cases did not run");
        }
    }
}

#[test]
fn at_least_sixty_cases_ran() {
    let groups = [&SHELLS, &JOBS, &SIGNALS, &TOOLS, &BUILD, &GIT, &PYTHON, &VIEW, &SERVERS, &DEBUGGERS];
    let ran: usize = groups.iter().map(|group| group.ran).sum();
    println!("{ran} cases ran");
    assert!(ran >= 60 || std::env::var_os("AGREE_ONLY").is_some(), "only {ran} cases ran");
}
