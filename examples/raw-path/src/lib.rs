//! Refuses `openat` by the name that the program passed, letter by letter.
//!
//! This is the cheapest judgement there is: it needs nothing from the host
//! beyond the event, so that the benchmark measures with it what a plugin
//! call costs (host/benches). It guards nothing: a relative name, `..` or a
//! link walks past it. Use `event.open()?.path()`, the file that the name
//! leads to, as `sensitive-files` does.

use plugin_sdk::prelude::*;

/// What the operator can say.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Names to refuse, compared as they are.
    names: Vec<String>,
}

/// The plugin: its names.
#[derive(Debug)]
pub struct RawPath {
    names: Vec<String>,
}

impl Plugin for RawPath {
    const NAME: &str = "raw-path";
    const SUMMARY: &str = "Refuses openat of names compared letter by letter; an example, no protection";
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<(Self, Subscription), Vec<Issue>> {
        let names = settings.names;
        Ok((Self { names }, Subscription::gate().on(entry("openat"))))
    }

    fn on_entry(&mut self, event: &Entry<'_>) -> Verdict {
        let Some(name) = event.open().and_then(|open| open.raw_path()) else { return Verdict::allow() };
        if !self.names.iter().any(|refused| refused == name) {
            return Verdict::allow();
        }
        let alert = Alert::new("name-refused").message(format!("{} opens {name}", event.caller())).field("name", name);
        Verdict::deny(Errno::EACCES).alert(alert)
    }
}

plugin_sdk::export!(RawPath);

#[cfg(test)]
mod tests {
    use plugin_sdk::testing::{Event, PluginUnderTest};

    use super::*;

    #[test]
    fn the_name_counts_and_not_the_file() {
        let mut plugin = PluginUnderTest::<RawPath>::new(serde_json::json!({"names": ["/etc/shadow"]}));
        assert_eq!(plugin.check(&Event::openat("/etc/shadow")).errno(), Some(Errno::EACCES));
        assert_eq!(plugin.check(&Event::openat("shadow").cwd("/etc")).errno(), None);
        assert_eq!(plugin.check(&Event::openat("/etc/passwd")).errno(), None);
    }
}
