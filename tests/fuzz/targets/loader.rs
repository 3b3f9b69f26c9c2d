//! Any bytes at all as a plugin: it is loaded, asked what it is and configured,
//! or it is said what is wrong. Its code runs with fuel, and so to its end.
#![no_main]

use std::sync::{Arc, LazyLock};

use host::config::Unsigned;
use host::plugin::{Metering, Runtime, Wanted, open};
use host::trust::{Candidate, Demand, Keys, Origin, Signatures, Verified};
use libfuzzer_sys::fuzz_target;

static RUNTIME: LazyLock<Arc<Runtime>> =
    LazyLock::new(|| Arc::new(Runtime::new(Metering::Fuel, None).expect("the engine starts")));

fuzz_target!(|data: &[u8]| {
    let candidate = Candidate {
        bytes: data.to_vec().into(),
        origin: Origin::Local,
        name: "fuzz".into(),
        signatures: Signatures::default(),
    };
    let keys = Keys::default();
    let demand = Demand { pin: None, keys: &keys, only: None, unsigned: Unsigned::Allow };
    let Ok(verified) = Verified::check(candidate, demand) else { return };
    match open(&RUNTIME, &verified) {
        Ok(opened) => {
            let wanted = Wanted::enforcing(&verified, &opened);
            if let Ok(mut plugin) = opened.configure(wanted) {
                let _ = plugin.try_out();
            }
        }
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a reason"),
    }
});
