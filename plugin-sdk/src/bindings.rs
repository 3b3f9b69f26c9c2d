//! What wit-bindgen makes of `wit/plugin.wit`.
//!
//! Builds for every target: on native ones the imports are stubs that nobody
//! calls, because events then come from [`crate::testing`].

#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the items are documented in wit/plugin.wit"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "plugin-with-all-hooks",
    pub_export_macro: true,
    export_macro_name: "export_bindings",
    default_bindings_module: "plugin_sdk::bindings",
    additional_derives: [PartialEq],
    generate_all,
});
