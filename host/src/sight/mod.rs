//! What can be seen of a running host: plugins and what they answer, how
//! long that takes, what is traced and how.
//!
//! Numbers are counted by whoever makes them, without a lock, and read by
//! whoever asks. Nobody who asks can change anything, or hold up the loop for
//! longer than it takes to count its tasks.

mod prometheus;
mod report;
mod serve;
mod stats;

pub use report::{PluginReport, Report, Sight};
pub use serve::{Question, ask, serve_http, serve_socket};
pub use stats::{Latency, Stats};
