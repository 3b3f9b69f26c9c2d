//! What a traced program may try to get around a denial, one row an attack,
//! and what must come of it (SECURITY.md has the classes).
//!
//! Every attack is run alone first, where it has to win: a scenario that
//! cannot fail proves nothing. `TRACEGATE_ATTEMPTS` is the number of attempts
//! of each race; the default of 3,000 is for CI, a full run takes 100,000.
#![allow(clippy::unnecessary_debug_formatting, clippy::needless_for_each, reason = "tests' prose and small loops")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test")]

#[path = "attacks/blind.rs"]
mod blind;
#[path = "attacks/host.rs"]
mod host;
#[path = "attacks/names.rs"]
mod names;
#[path = "attacks/normal.rs"]
mod normal;
#[path = "attacks/place.rs"]
mod place;
#[path = "attacks/races.rs"]
mod races;
mod support;

use std::fmt::Write;

/// Collects what went wrong, so that a run tells of every row.
#[derive(Default)]
pub struct Failures(String);

impl Failures {
    pub fn add(&mut self, row: &str, what: impl std::fmt::Display) {
        writeln!(self.0, "{row}: {what}").unwrap();
    }

    #[track_caller]
    pub fn end(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}
