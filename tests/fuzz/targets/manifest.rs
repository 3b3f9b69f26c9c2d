//! Any text at all as a manifest: it is read, or what is wrong is said.
#![no_main]

use std::path::Path;

use host::config::{Config, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let known = Config::running(Vec::new());
    for directory in [None, Some(Path::new("/etc/tracegate"))] {
        match (Source { origin: "fuzz", text, directory }).read(&known) {
            Ok(config) => assert!(config.plugins.len() <= text.len() + 2, "more plugins than anybody named"),
            Err(error) => assert!(!error.issues.is_empty(), "refused without a reason"),
        }
    }
});
