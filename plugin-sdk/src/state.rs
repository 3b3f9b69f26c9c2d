//! A small key-value store of the plugin's own, which outlives an instance
//! that trapped.
//!
//! Keys up to 256 bytes, values up to 64 KiB, 1 MiB in all. Natively there
//! is one store a thread, so each test begins with an empty one.
//!
//! ```
//! plugin_sdk::state::set("seen/cat", b"1").unwrap();
//! assert_eq!(plugin_sdk::state::get("seen/cat").as_deref(), Some(&b"1"[..]));
//! ```

#[cfg(target_arch = "wasm32")]
use crate::bindings::tracegate::plugin::state as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::host;

pub use crate::bindings::tracegate::plugin::state::StateError;

/// The value of a key.
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::get(key)
}

/// Sets a key's value.
///
/// # Errors
/// If key or value are too long, or the plugin's share is used up.
pub fn set(key: &str, value: &[u8]) -> Result<(), StateError> {
    host::set(key, value)
}

/// Forgets a key; true if it was there.
pub fn delete(key: &str) -> bool {
    host::delete(key)
}

/// Keys with this prefix, in byte order, at most 1,000.
pub fn keys(prefix: &str) -> Vec<String> {
    host::keys(prefix)
}
