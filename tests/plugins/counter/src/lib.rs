//! A plugin that counts calls in its state, each under two keys that must
//! agree: tests of what outlives a run are told by it.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the component uses it"))]

use plugin_sdk::prelude::*;
use plugin_sdk::state;

/// How it counts.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Something to change.
    step: u64,
}

struct Counter(u64);

fn read(key: &str) -> u64 {
    state::get(key).and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()).unwrap_or(0)
}

impl Plugin for Counter {
    const NAME: &str = "counter";
    const SUMMARY: &str = "Counts calls of chmod in its state";
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<(Self, Subscription), Vec<Issue>> {
        Ok((Self(settings.step.max(1)), Subscription::gate().on(entries(["chmod", "fchmodat"]))))
    }

    fn on_entry(&mut self, _: &Entry<'_>) -> Verdict {
        let (count, twin) = (read("count"), read("twin"));
        let kept = state::set("count", (count + self.0).to_string().as_bytes()).is_ok();
        let kept = kept && state::set("twin", (count + self.0).to_string().as_bytes()).is_ok();
        Verdict::allow().alert(
            Alert::new("counted")
                .message(format!("{count}, twin {twin}, kept {kept}"))
                .field("count", count.to_string()),
        )
    }
}

plugin_sdk::export!(Counter);
