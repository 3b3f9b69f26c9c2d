//! Numbers for the operator, under the plugin's name.
//!
//! At most 100 names a plugin, each of at most 64 letters, digits and `_`;
//! further names are ignored. Natively,
//! [`testing::metric`](crate::testing::metric) reads them.

/// Adds to a counter, which starts at 0.
pub fn add(name: &str, amount: u64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::tracegate::plugin::metrics::add(name, amount);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::host::add(name, amount);
}

/// Sets a gauge.
pub fn set(name: &str, value: f64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::tracegate::plugin::metrics::set(name, value);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::host::gauge(name, value);
}
