//! Diagnostics for the operator, in the host's own log under the plugin's
//! name.
//!
//! At most 4 KiB a message; above 100 messages a second they are counted and
//! dropped. What people should act on is an [`Alert`](crate::Alert), not a
//! log line. Natively, messages go to [`testing::logged`](crate::testing::logged).

pub use crate::bindings::tracegate::plugin::log::Level;

/// Writes a message.
pub fn write(level: Level, message: impl AsRef<str>) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::tracegate::plugin::log::write(level, message.as_ref());
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::host::log(level, message.as_ref());
}

/// Writes at level error.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message);
}

/// Writes at level warn.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message);
}

/// Writes at level info.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message);
}

/// Writes at level debug.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message);
}
