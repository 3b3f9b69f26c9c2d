//! `host doctor`: what the environment allows, and what to change.
//!
//! Whether ptrace, seccomp and their like work depends on the kernel, its
//! security modules, the container's seccomp profile and capabilities, and on
//! how the container is joined to others. Version numbers tell little of it.
//! So each check does the thing itself, where that is harmless, on short-lived
//! children of its own (`trial`), and reports what the kernel answered.
//!
//! What it never does: attach to a process that is not its own, change a
//! setting, wait for long (a trial that hangs is killed after two seconds), or
//! leave anything behind.
//!
//! # The report as JSON
//!
//! [`Report`] serializes to one object; keys are added, never renamed or
//! removed, within a major version:
//!
//! | key | value |
//! |---|---|
//! | `version` | version of Tracegate |
//! | `kernel` | kernel release |
//! | `arch` | `x86_64`, `aarch64` |
//! | `summary.run`, `summary.attach` | `{"verdict": "yes" \| "limited" \| "no", "because": [string]}`: can `host run` and `host attach` work; with `--pid`, can `host attach` to that process |
//! | `checks` | list of the objects below, always in the same order |
//! | `checks[].id` | stable name of the check |
//! | `checks[].title` | the same for people |
//! | `checks[].verdict` | `ok`; `degraded`: works with limits or by a fallback; `missing`: does not work; `info`: a fact, neither good nor bad |
//! | `checks[].found` | what was tried and found |
//! | `checks[].meaning` | what that means for Tracegate |
//! | `checks[].advice` | list of settings to choose from; empty if nothing needs changing |

mod advice;
mod cache;
mod kernel;
mod privileges;
mod processes;
mod procfs;
mod ptrace;
mod seccomp;
mod summary;
mod surroundings;
mod target;
mod text;
mod trial;

use serde::Serialize;

use advice::Advice;
pub use summary::{Answer, Summary, Work};

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of Tracegate.
    pub version: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's architecture.
    pub arch: &'static str,
    /// What works.
    pub summary: Summary,
    /// Each check, in a fixed order.
    pub checks: Vec<Check>,
}

/// How a check turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Works.
    Ok,
    /// Works with limits, or something else is done instead.
    Degraded,
    /// Does not work.
    Missing,
    /// A fact, neither good nor bad.
    Info,
}

/// One question and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Stable name.
    pub id: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// How it turned out.
    pub verdict: Verdict,
    /// What was tried and found.
    pub found: String,
    /// What it means for Tracegate.
    pub meaning: String,
    /// Settings to choose from; empty if nothing needs changing.
    pub advice: Vec<String>,
    #[serde(skip)]
    effects: Vec<Effect>,
}

/// What a check's result does to a command.
#[derive(Clone, Debug)]
struct Effect {
    on: Command,
    prevents: bool,
    because: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Run,
    Attach,
}

impl Check {
    fn new(
        id: &'static str,
        title: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        let (found, meaning) = (found.into(), meaning.into());
        Self { id, title, verdict, found, meaning, advice: Vec::new(), effects: Vec::new() }
    }

    fn advise(mut self, advice: Advice) -> Self {
        self.advice.extend(advice);
        self
    }

    fn prevents(mut self, on: &[Command], because: &str) -> Self {
        self.effects.extend(on.iter().map(|&on| Effect { on, prevents: true, because: because.into() }));
        self
    }

    fn limits(mut self, on: &[Command], because: &str) -> Self {
        self.effects.extend(on.iter().map(|&on| Effect { on, prevents: false, because: because.into() }));
        self
    }
}

/// Both commands.
const BOTH: &[Command] = &[Command::Run, Command::Attach];

/// Tries everything. `target` is a process to look at more closely.
pub fn examine(target: Option<i32>) -> Report {
    let own = privileges::Own::read();
    // Before there are children of ours.
    let visible = procfs::processes();
    let bystander = trial::Bystander::start();
    let stop = trial::stop_at_call();

    let mut checks = vec![
        ptrace::child(&own),
        ptrace::attach(&own, bystander.as_ref()),
        ptrace::call_stop(&stop),
        privileges::capabilities(&own, target.is_none()),
        privileges::no_new_privs(&own),
    ];
    checks.extend(seccomp::checks(&own));
    checks.extend([
        ptrace::syscall_info(&stop),
        ptrace::memory(),
        kernel::sealed_page(),
        kernel::pidfd(),
        kernel::kcmp(),
        kernel::pagemap(bystander.as_ref()),
        kernel::openat2(),
        kernel::statx(),
        surroundings::procfs(),
        surroundings::pid_namespace(&visible),
        surroundings::namespaces(target),
        surroundings::container(),
        processes::tracers(&own, &visible),
        processes::reach(&own, &visible, target.is_none()),
    ]);
    checks.extend(target.map(|pid| target::check(&own, pid)));
    checks.extend([kernel::machine(), kernel::abis(), kernel::limits(), cache::check()]);

    let summary = Summary::of(&checks);
    Report {
        version: env!("CARGO_PKG_VERSION"),
        kernel: kernel::release(),
        arch: std::env::consts::ARCH,
        summary,
        checks,
    }
}
