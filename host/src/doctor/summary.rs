//! From checks to two answers: can `host run` work, can `host attach`?

use serde::Serialize;

use super::{Check, Command};

/// Whether the commands can work.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `host run` (and `host record`).
    pub run: Answer,
    /// `host attach`; of one process, if one was named.
    pub attach: Answer,
}

/// Whether a command can work, and why not, or not fully.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// In one word.
    pub verdict: Work,
    /// What stands in the way; empty if nothing does.
    pub because: Vec<String>,
}

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// It does.
    Yes,
    /// It does, but not all of it.
    Limited,
    /// It does not.
    No,
}

impl Summary {
    pub(super) fn of(checks: &[Check]) -> Self {
        Self { run: Answer::of(checks, Command::Run), attach: Answer::of(checks, Command::Attach) }
    }
}

impl Answer {
    fn of(checks: &[Check], command: Command) -> Self {
        let because = |prevents: bool| {
            let mut reasons: Vec<String> = Vec::new();
            for effect in checks.iter().flat_map(|check| &check.effects) {
                if effect.on == command && effect.prevents == prevents && !reasons.contains(&effect.because) {
                    reasons.push(effect.because.clone());
                }
            }
            reasons
        };
        let (obstacles, limits) = (because(true), because(false));
        match (obstacles.is_empty(), limits.is_empty()) {
            (false, _) => Self { verdict: Work::No, because: obstacles },
            (true, false) => Self { verdict: Work::Limited, because: limits },
            (true, true) => Self { verdict: Work::Yes, because: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BOTH, Verdict};
    use super::*;

    fn check() -> Check {
        Check::new("id", "Title", Verdict::Ok, "", "")
    }

    #[test]
    fn an_obstacle_outweighs_limits() {
        let checks = [check().limits(BOTH, "a"), check().prevents(&[Command::Attach], "b"), check().limits(BOTH, "a")];
        let summary = Summary::of(&checks);
        assert_eq!((summary.run.verdict, summary.run.because), (Work::Limited, vec!["a".to_owned()]));
        assert_eq!((summary.attach.verdict, summary.attach.because), (Work::No, vec!["b".to_owned()]));
        assert_eq!(Summary::of(&[check()]).run.verdict, Work::Yes);
    }
}
