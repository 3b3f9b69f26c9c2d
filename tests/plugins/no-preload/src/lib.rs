//! A plugin that refuses `/usr/bin/env` with a variable in its environment,
//! whichever way it comes to run: tests of what a plugin is told of one.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the component uses it"))]

use plugin_sdk::prelude::*;

/// Nothing to set.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {}

struct NoPreload;

impl Plugin for NoPreload {
    const NAME: &str = "no-preload";
    const SUMMARY: &str = "Refuses /usr/bin/env with FORBIDDEN in its environment";
    type Settings = Settings;

    fn configure(_: Settings) -> Result<(Self, Subscription), Vec<Issue>> {
        Ok((Self, Subscription::gate().on(entries(["execve", "execveat"]))))
    }

    fn on_entry(&mut self, call: &Entry<'_>) -> Verdict {
        let Some(exec) = call.exec().filter(|exec| exec.path().path == "/usr/bin/env") else { return Verdict::allow() };
        let forbidden = match exec.environment() {
            Some(environment) => {
                environment.truncated || environment.items.iter().any(|item| item.starts_with("FORBIDDEN="))
            }
            None => true,
        };
        if forbidden { Verdict::deny(Errno::EPERM).alert(Alert::new("forbidden")) } else { Verdict::allow() }
    }
}

plugin_sdk::export!(NoPreload);
