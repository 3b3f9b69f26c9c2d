//! `host record` against `strace -f` on real programs: per process and
//! thread, the ordered list of calls, their decoded arguments and their
//! results must be the same. See `strace/compare.rs` for how each argument is
//! compared, and `strace/normal.rs` for what varies from run to run.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test")]

#[path = "strace/compare.rs"]
mod compare;
#[path = "strace/normal.rs"]
mod normal;
#[path = "strace/ours.rs"]
mod ours;
#[path = "strace/parse.rs"]
mod parse;
#[path = "strace/programs.rs"]
mod programs;
mod support;

use std::process::Command;

use host::decode::Arch;
use programs::{Place, Program, Scope};

/// The frequent calls, which `host record` leaves out if it is not asked for
/// them.
const NOT_RECORDED: [&str; 12] = [
    "read", "write", "pread64", "pwrite64", "readv", "writev", "lseek", "close", "fstat", "recvfrom", "recvmsg",
    "ioctl",
];

/// Most bytes of data that the host shows.
const DATA_MAX: &str = "4096";

#[test]
fn the_same_calls_as_strace() {
    let tools = ["strace", "setarch", "git", "python3", "gcc", "tar", "gzip", "find", "curl"];
    let missing: Vec<&str> = tools.into_iter().filter(|tool| !installed(tool)).collect();
    assert!(
        missing.is_empty(),
        "not in /usr/bin or /bin: {}; on Debian or Ubuntu install strace, util-linux, git, python3, gcc, libc6-dev, tar, gzip, \
         findutils and curl",
        missing.join(", ")
    );

    let place = Place::new();
    let mut differences = Vec::new();
    for program in programs::programs(&place) {
        let (tally, found) = compare_one(&place, &program);
        println!("{:18} {tally}", program.name);
        assert!(tally.calls >= program.at_least, "{}: only {} calls were compared", program.name, tally.calls);
        assert!(tally.values >= program.at_least, "{}: only {} arguments were compared", program.name, tally.values);
        differences.extend(found);
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

fn installed(tool: &str) -> bool {
    ["/usr/bin", "/bin"].iter().any(|directory| std::path::Path::new(directory).join(tool).exists())
}

fn compare_one(place: &Place, program: &Program) -> (compare::Tally, Vec<String>) {
    let traces = place.traces(program.name);
    let trace = traces.join("trace.jsonl");
    let mut host = under_tracer(place, support::HOST);
    host.args(["record", "-o"]).arg(&trace);
    if program.scope == Scope::All {
        host.args(["--syscall", "all"]);
    }
    let ours_ended = run(host, program);

    let mut strace = under_tracer(place, "strace");
    strace.args(["-f", "-ff", "-v", "-a", "1", "-s", DATA_MAX, "-o"]).arg(traces.join("strace"));
    if program.scope == Scope::Default {
        strace.arg(format!("--trace={}", recorded().join(",")));
    }
    let theirs_ended = run(strace, program);

    let (ours, theirs) = (ours::read(&trace), parse::read(&traces, "strace"));
    let (tally, mut differences) = compare::compare(program.name, &ours, &theirs);
    if ours_ended != theirs_ended {
        differences.push(format!("{}, status and output: ours {ours_ended:?}, strace {theirs_ended:?}", program.name));
    }
    (tally, differences)
}

/// `tracer` in a fresh working directory. Addresses are not compared, but how
/// many calls an allocator makes to align its memory depends on them; so they
/// are not chosen at random, where that is permitted (it is not in every
/// container).
fn under_tracer(place: &Place, tracer: &str) -> Command {
    let work = place.fresh_work();
    let permitted =
        place.command("setarch", &work).args(["-R", "true"]).output().is_ok_and(|output| output.status.success());
    if !permitted {
        return place.command(tracer, &work);
    }
    let mut command = place.command("setarch", &work);
    command.args(["-R", tracer]);
    command
}

fn run(mut tracer: Command, program: &Program) -> (i32, String, String) {
    tracer.arg("--").args(&program.command);
    let outcome = support::Outcome::of(&support::run_limited(&mut tracer));
    (outcome.status, outcome.stdout, outcome.stderr)
}

/// What `host record` records, as strace's list of calls. strace does not
/// know all of them; a question mark makes it overlook that.
fn recorded() -> Vec<String> {
    let arch = Arch::NATIVE;
    let declared = arch.all().filter(|number| arch.declares(*number)).map(|number| arch.spec(number).name);
    declared.filter(|name| !NOT_RECORDED.contains(name)).map(|name| format!("?{name}")).collect()
}
