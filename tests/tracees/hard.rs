//! Programs that are hard to trace, in one executable: the first words choose.
//! Each prints a report that is the same at every run, alone or traced, so
//! that the run alone says what the traced one must print.
//!
//! `hard gated SCENARIO…` begins when a byte comes on standard input, so that
//! a tracer can attach before.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::unwrap_used, reason = "raw system calls are the point")]

#[path = "hard/blockers.rs"]
mod blockers;
#[path = "hard/clones.rs"]
mod clones;
#[path = "hard/ends.rs"]
mod ends;
#[path = "hard/exec.rs"]
mod exec;
#[path = "hard/limits.rs"]
mod limits;
#[path = "hard/signals.rs"]
mod signals;
#[path = "hard/spaces.rs"]
mod spaces;
#[path = "hard/stops.rs"]
mod stops;
#[path = "hard/storms.rs"]
mod storms;
#[path = "hard/sys.rs"]
mod sys;
#[path = "hard/timers.rs"]
mod timers;
#[path = "hard/traps.rs"]
mod traps;
#[path = "hard/vfork.rs"]
mod vfork;

use std::io::Read as _;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words.first() == Some(&"gated") {
        words.remove(0);
        std::io::stdin().read_exact(&mut [0]).unwrap();
    }
    let number = |word: &str| word.parse().unwrap();
    match words[..] {
        // What scenarios execute.
        ["exit", code] => std::process::exit(number(code)),
        ["count-words", ref rest @ ..] => std::process::exit(rest.len() as i32),
        ["tell-ids", pid] => exec::tell_ids(number(pid)),
        ["tell-pending"] => signals::tell_pending(),

        ["exec-from-thread", rounds] => exec::from_thread(sys::getpid(), number(rounds) as u32),
        ["exec-from-thread", pid, rounds] => exec::from_thread(number(pid), number(rounds) as u32),
        ["exec-two-at-once"] => exec::two_at_once(),
        ["exec-while-cloning"] => exec::while_cloning(),
        ["exec-failures", directory] => exec::failures(directory),
        ["exec-unreadable"] => exec::unreadable(),
        ["after-the-leader", and_then] => exec::after_the_leader(and_then),
        ["leader-first"] => exec::leader_first(),

        ["vfork"] => vfork::all(),
        ["clones"] => clones::all(),
        ["clone-ids"] => clones::ids(),
        #[cfg(target_arch = "x86_64")]
        ["untraced"] => clones::untraced(),

        ["stop-eight-threads"] => stops::eight_threads(),
        ["stop-in-calls", how, directory] => stops::in_calls(how == "long", directory),
        ["stop-orphans"] => stops::orphans(),
        ["stop-by-tgkill"] => stops::by_tgkill(),
        ["stop-handlers"] => stops::handlers(),
        ["stop-storm"] => stops::storm(),
        ["stop-without-leader"] => stops::without_leader(),

        ["real-time-signals"] => signals::real_time(),
        ["signal-burst"] => signals::burst(),
        ["sigchld"] => signals::of_children(),
        ["interrupted", kind, directory] => signals::interrupted(kind, directory),
        ["restarted-often"] => signals::restarted_often(),
        ["masks"] => signals::masks(),
        ["pending"] => signals::pending(),
        #[cfg(target_arch = "x86_64")]
        ["jump-out"] => signals::jump_out(),
        ["other-stack"] => signals::other_stack(),

        ["faults"] => traps::faults(),
        #[cfg(target_arch = "x86_64")]
        ["instructions"] => traps::instructions(),
        ["look-alikes"] => traps::look_alikes(),
        ["nested-ptrace"] => traps::nested(),

        ["thread-storm"] => storms::of_threads(),
        ["fork-storm"] => storms::of_forks(),
        ["fork-tree", depth] => storms::tree(number(depth) as u32),
        ["busy-children"] => storms::busy_children(),
        ["killer"] => storms::killer(),
        ["victim", work, left] => std::process::exit(storms::victim(number(work) as u64, number(left) as u32)),

        ["all-at-once"] => ends::all_at_once(),
        ["daemon"] => ends::daemon(),
        ["subreaper"] => ends::subreaper(),
        ["death-signal"] => ends::death_signal(),
        ["robust"] => ends::robust(),
        ["many-orphans"] => ends::many_orphans(),
        ["leave-a-daemon"] => ends::leave_a_daemon(),
        ["tell-signals"] => ends::tell_signals(),
        ["everything-closed"] => ends::everything_closed(),

        ["descriptors"] => limits::descriptors(),
        ["processes"] => limits::processes(),
        ["own-filters"] => limits::own_filters(),
        ["own-trace-filter"] => limits::own_trace_filter(),
        ["own-notifications"] => limits::own_notifications(),
        ["getppid"] => limits::getppid(),
        ["strict"] => limits::strict(),
        ["not-dumpable"] => limits::not_dumpable(),
        ["itself"] => limits::itself(),
        ["tell-place"] => limits::tell_place(),

        ["pids"] => spaces::pids(),
        ["tell-own-id"] => spaces::tell_own_id(),
        ["users"] => spaces::users(),
        ["mounts", directory] => spaces::mounts(directory),

        ["timer-to-a-thread"] => timers::to_a_thread(),
        ["timer-during-opens"] => timers::during_opens(),
        ["rseq"] => timers::rseq(),
        #[cfg(target_arch = "x86_64")]
        ["vsyscall"] => timers::vsyscall(),
        #[cfg(target_arch = "x86_64")]
        ["int80"] => timers::int80(),
        _ => panic!("no such program: {words:?}"),
    }
}
