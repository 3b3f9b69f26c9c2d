//! Write Tracegate plugins in Rust.
//!
//! A plugin is a WebAssembly component that the host asks, system call by
//! system call, what a traced program may do. It says which calls it wants
//! to see ([`Subscription`]), is shown each of them decoded ([`Entry`],
//! [`Exit`], [`ProcessEvent`]), and answers with a [`Verdict`] and
//! [`Alert`]s. It has no files, no network, no clock and no randomness: the
//! same events give the same answers, always.
//!
//! ```
//! use plugin_sdk::constants::{O_ACCMODE, O_RDONLY};
//! use plugin_sdk::prelude::*;
//!
//! /// Keeps programs from writing below a directory.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields, default)]
//! struct Settings {
//!     /// Directory in which nothing may be written.
//!     directory: String,
//! }
//!
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Settings { directory: "/etc".to_owned() }
//!     }
//! }
//!
//! struct ReadOnly {
//!     directory: String,
//! }
//!
//! impl Plugin for ReadOnly {
//!     const NAME: &str = "read-only";
//!     const SUMMARY: &str = "Keeps programs from writing below a directory";
//!     type Settings = Settings;
//!
//!     fn configure(settings: Settings) -> Result<(Self, Subscription), Vec<Issue>> {
//!         if !settings.directory.starts_with('/') {
//!             return Err(vec![Issue::at("/directory", "must be absolute")]);
//!         }
//!         let subscription = Subscription::gate()
//!             .on(entry("openat").when(arg(2).masked(O_ACCMODE).ne(O_RDONLY)));
//!         Ok((ReadOnly { directory: settings.directory + "/" }, subscription))
//!     }
//!
//!     fn on_entry(&mut self, event: &Entry) -> Verdict {
//!         let Some(open) = event.open() else { return Verdict::allow() };
//!         let path = open.path();
//!         if !path.as_str().starts_with(&self.directory) {
//!             return Verdict::allow();
//!         }
//!         let alert = Alert::new("write-refused")
//!             .severity(Severity::High)
//!             .message(format!("{} may not write {path}", event.caller()))
//!             .field("path", path);
//!         Verdict::deny(Errno::EROFS).alert(alert)
//!     }
//! }
//!
//! plugin_sdk::export!(ReadOnly);
//!
//! // The same logic, tested natively:
//! use plugin_sdk::testing::{Event, PluginUnderTest};
//! use plugin_sdk::constants::O_RDWR;
//!
//! let mut plugin = PluginUnderTest::<ReadOnly>::new(serde_json::json!({}));
//! let write = Event::openat("../etc/passwd").cwd("/tmp").flags(O_RDWR);
//! assert_eq!(plugin.check(&write).errno(), Some(Errno::EROFS));
//! assert!(!plugin.asks(&Event::openat("/etc/passwd").flags(O_RDONLY)));
//! ```
//!
//! # Where things are
//! - [`Plugin`] and [`export!`]: what to implement, and the line that makes
//!   it a component.
//! - [`Subscription`], [`entry`], [`exit`], [`arg`]: which calls to see.
//! - [`Call::open`], [`Call::exec`], [`Call::connect`], …: arguments by
//!   meaning; [`Call::paths`]: every file that a call names, whatever the call.
//! - [`glob`]: path patterns, and sets of them that match fast.
//! - [`state`], [`log`], [`metrics`]: what a plugin may keep and say.
//! - [`testing`]: events written in code or read from a recorded trace.
//!
//! # What it costs
//! A hook call costs about half a microsecond. Each question to the host
//! (`path()`, `process()`, `name()`; the documentation says "asks the host")
//! adds about 0.2 µs; numbers, flags and raw names are there already. What a
//! subscription excludes costs almost nothing.

mod access;
mod answer;
#[doc(hidden)]
pub mod bindings;
pub mod call;
pub mod constants;
mod errno;
mod event;
pub mod glob;
mod known;
pub mod log;
pub mod metrics;
mod paths;
#[doc(hidden)]
pub mod plugin;
mod settings;
mod source;
pub mod state;
pub mod subscription;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use access::Access;
pub use answer::Caller;
/// What happened to a process or thread.
pub use bindings::tracegate::plugin::types::ProcessEvent as ProcessChange;
pub use bindings::tracegate::plugin::types::{
    Action, Alert, ByteList, Defect, ExecInfo, ExitStatus, Field, ForkInfo, Header, Issue, Lane, Message, PathState,
    Phase, Process, ProcessEventKind, ResolvedPath, Severity, SocketAddress, StringList, Value, Verdict,
};
pub use errno::{Errno, UnknownErrno};
pub use event::{Call, Entry, Exit, ProcessEvent};
pub use paths::PathArgument;
pub use plugin::Plugin;
pub use settings::{NoSettings, OneOrMany};
pub use subscription::{Subscription, arg, entries, entry, exit, exits};

/// All that a plugin usually needs.
pub mod prelude {
    pub use crate::{
        Access, Alert, Call, Entry, Errno, Exit, Issue, Plugin, ProcessChange, ProcessEvent, Severity, Subscription,
        Verdict, arg, entries, entry, exit, exits,
    };
    pub use schemars::JsonSchema;
    pub use serde::Deserialize;
}

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
