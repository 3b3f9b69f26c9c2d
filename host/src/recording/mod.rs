//! Recorded traces: written live, read back for replays and reports.
//!
//! A trace holds all that every getter of an event would have answered, so
//! that a plugin cannot tell a replay from life. The format is described in
//! [`format`]. [`golden`] keeps the verdicts that a replay is expected to
//! give.
//!
//! This module never looks at a tracee or at the machine's files other than
//! the trace itself, and never judges. A trace to be read may come from
//! anywhere: whatever is in it, reading gives events or an error, within
//! bounded memory.

mod arguments;
mod encoding;
mod error;
pub mod format;
pub mod golden;
mod lines;
mod reader;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{Problem, TraceError};
pub use format::{Header, Mode, VerdictRecord};
pub use reader::{Background, Phase, Progress, Reader, Record};
pub use writer::{Compression, Summary, Writer};
