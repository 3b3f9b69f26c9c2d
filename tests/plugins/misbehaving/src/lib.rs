//! A plugin that does what no plugin should: its settings choose what. The
//! end-to-end tests see that the host contains each.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the component uses it"))]

use plugin_sdk::Action;
use plugin_sdk::prelude::*;

/// What to do wrong, and when.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// What to do at each `openat`.
    does: Deed,
    /// Only for names that contain this.
    only: String,
    /// Calls to subscribe to besides.
    also: Vec<String>,
    /// A number between 1 and 3, to have a schema to break.
    level: Level,
}

/// A number with bounds.
#[derive(Deserialize, JsonSchema)]
struct Level(#[schemars(range(min = 1, max = 3))] u8);

impl Default for Level {
    fn default() -> Self {
        Self(1)
    }
}

/// Misdeeds.
#[derive(Clone, Copy, Deserialize, JsonSchema, Default, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    /// Allows.
    #[default]
    Nothing,
    /// Executes `unreachable`.
    Trap,
    /// Never returns.
    Loop,
    /// Allocates for ever.
    EatMemory,
    /// Calls itself for ever.
    Recurse,
    /// Denies with 0.
    DenyZero,
    /// Denies with a number that no errno has.
    DenyHuge,
    /// Answers with very many, very long alerts.
    Flood,
    /// Writes to the log without end.
    LogFlood,
    /// Denies, without saying why.
    DenySilently,
    /// Counts calls in the key-value store, and traps at each third.
    CountAndTrap,
}

struct Misbehaving {
    settings: Settings,
    hoard: Vec<Vec<u8>>,
}

impl Plugin for Misbehaving {
    const NAME: &str = "misbehaving";
    const SUMMARY: &str = "Does what no plugin should";
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<(Self, Subscription), Vec<Issue>> {
        if settings.only == "refused" {
            return Err(vec![Issue::at("/only", "must not be `refused`"), Issue::at("", "nor anything else")]);
        }
        let mut subscription = Subscription::gate().on(entry("openat"));
        for name in &settings.also {
            subscription = subscription.on(entry(name));
        }
        Ok((Self { settings, hoard: Vec::new() }, subscription))
    }

    fn on_entry(&mut self, event: &Entry<'_>) -> Verdict {
        let name = event.open().and_then(|open| open.raw_path().map(str::to_owned)).unwrap_or_default();
        if !name.contains(&self.settings.only) {
            return Verdict::allow();
        }
        match self.settings.does {
            Deed::Nothing => Verdict::allow(),
            #[cfg(target_arch = "wasm32")]
            Deed::Trap => core::arch::wasm32::unreachable(),
            #[cfg(not(target_arch = "wasm32"))]
            Deed::Trap => std::process::abort(),
            Deed::Loop => loop {
                std::hint::black_box(&mut self.hoard);
            },
            Deed::EatMemory => loop {
                self.hoard.push(vec![1; 1 << 20]);
            },
            Deed::Recurse => Verdict { action: Action::Deny(deeper(1, &name)), alerts: Vec::new() },
            Deed::DenyZero => Verdict { action: Action::Deny(0), alerts: Vec::new() },
            Deed::DenyHuge => Verdict { action: Action::Deny(4096), alerts: Vec::new() },
            Deed::Flood => {
                let alert = Alert::new("flood").message("x".repeat(20_000)).field("y", "z".repeat(20_000));
                (0..70).fold(Verdict::allow(), |verdict, _| verdict.alert(alert.clone()))
            }
            Deed::LogFlood => {
                (0..1000).for_each(|_| plugin_sdk::log::warn("more"));
                Verdict::allow()
            }
            Deed::DenySilently => Verdict::deny(Errno::EXDEV),
            Deed::CountAndTrap => count_and_trap(),
        }
    }
}

#[allow(unconditional_recursion, reason = "the misdeed")]
fn deeper(depth: u16, name: &str) -> u16 {
    let text = std::hint::black_box(format!("{name}{depth}"));
    deeper(depth.wrapping_add(1), &text[..1]).wrapping_add(text.len() as u16)
}

fn count_and_trap() -> Verdict {
    let count = plugin_sdk::state::get("count").and_then(|bytes| bytes.first().copied()).unwrap_or(0) + 1;
    assert!(plugin_sdk::state::set("count", &[count]).is_ok(), "one byte fits");
    assert!(!count.is_multiple_of(3), "the third");
    Verdict::allow().alert(Alert::new("count").message(count.to_string()))
}

plugin_sdk::export!(Misbehaving);
