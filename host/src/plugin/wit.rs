//! The contract of `wit/plugin.wit` in Rust, generated.
#![allow(missing_docs, unsafe_code, clippy::pedantic, unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin-with-all-hooks",
    with: {
        "tracegate:plugin/types.event": super::imports::EventHandle,
    },
});

pub use self::exports::tracegate::plugin::{lifecycle, process_events, syscall_entry, syscall_exit};
pub use self::tracegate::plugin::{log, metrics, state, types};

/// The version of the contract that this host speaks.
pub const VERSION: &str = "0.1.0";
