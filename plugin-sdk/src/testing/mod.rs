//! Runs a plugin natively, against events written in code or read from a
//! recorded trace.
//!
//! ```
//! use plugin_sdk::prelude::*;
//! use plugin_sdk::testing::{Event, PluginUnderTest};
//! # use plugin_sdk::NoSettings;
//! # struct NoShell;
//! # impl Plugin for NoShell {
//! #     const NAME: &str = "no-shell";
//! #     const SUMMARY: &str = "";
//! #     type Settings = NoSettings;
//! #     fn configure(_: NoSettings) -> Result<(Self, Subscription), Vec<Issue>> {
//! #         Ok((NoShell, Subscription::gate().on(entry("execve"))))
//! #     }
//! #     fn on_entry(&mut self, event: &Entry) -> Verdict {
//! #         let shell = event.exec().is_some_and(|exec| exec.path().as_str() == "/usr/bin/dash");
//! #         if shell { Verdict::deny(Errno::EPERM) } else { Verdict::allow() }
//! #     }
//! # }
//!
//! let mut plugin = PluginUnderTest::<NoShell>::new(serde_json::json!({}));
//! let event = Event::execve("/bin/sh", ["sh"]).uid(1000).resolved("/usr/bin/dash");
//! assert!(plugin.check(&event).is_deny());
//! ```
//!
//! Nothing here is compiled into a component. What a plugin is asked goes
//! through its subscription first, as the host does it.

mod calls;
mod event;
pub(crate) mod host;
mod sockaddr;
mod trace;
mod under_test;

pub use event::Event;
pub use host::{logged, metric, reset};
pub use trace::{TraceError, parse_trace, read_trace};
pub use under_test::PluginUnderTest;
