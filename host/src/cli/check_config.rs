//! `host check-config`: is a manifest right?

use std::process::ExitCode;

use clap::Args;

use super::plugins::PluginOptions;
use super::{Format, fail, print};
use crate::config::{self, Config, ConfigError};
use crate::plugin::Plugin;

/// Check a manifest, and tell all that is wrong in it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host check-config --config tracegate.toml
  host check-config --config tracegate.toml --load       also fetch, verify and configure its plugins
  host check-config --schema > tracegate.schema.json     for editors

Exit status:
  0  nothing is wrong
  1  something is, and is told")]
pub(super) struct CheckConfig {
    #[command(flatten)]
    plugins: PluginOptions,

    /// Also fetch, verify and configure the plugins
    #[arg(long)]
    load: bool,

    /// Print the manifest's JSON Schema instead
    #[arg(long, conflicts_with = "config")]
    schema: bool,

    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &CheckConfig) -> ExitCode {
    if args.schema {
        return super::done(print(&format!("{:#}", config::json_schema())));
    }
    let checked = if args.load {
        args.plugins.load().map(|loaded| (loaded.config, loaded.plugins))
    } else {
        args.plugins.config().map(|config| (config, Vec::new()))
    };
    match (checked, args.format) {
        (Ok((config, plugins)), Format::Text) => super::done(print(&told(&config, &plugins))),
        (Ok((config, plugins)), Format::Json) => {
            let plugins: Vec<_> = if args.load {
                plugins.iter().map(loaded).collect()
            } else {
                config
                    .plugins
                    .iter()
                    .map(|plugin| serde_json::json!({"source": plugin.reference.to_string()}))
                    .collect()
            };
            super::done(print(&format!("{:#}", serde_json::json!({"ok": true, "plugins": plugins}))))
        }
        (Err(error), Format::Json) => {
            let issues = match error.downcast_ref::<ConfigError>() {
                Some(error) => serde_json::json!(error.issues),
                None => serde_json::json!([{"pointer": "", "message": super::told(&error)}]),
            };
            let _ = print(&format!("{:#}", serde_json::json!({"ok": false, "issues": issues})));
            ExitCode::from(1)
        }
        (Err(error), Format::Text) => fail(&error, 1),
    }
}

fn told(config: &Config, plugins: &[Plugin]) -> String {
    let lines: Vec<String> = if plugins.is_empty() {
        config.plugins.iter().map(|plugin| plugin.reference.to_string()).collect()
    } else {
        let line = |plugin: &Plugin| {
            let identity = plugin.identity();
            let (name, version) = (plugin.name(), plugin.version());
            format!("{name} {version}: {}, sha256 {}, {}", identity.reference, identity.digest, identity.grounds)
        };
        plugins.iter().map(line).collect()
    };
    let looked = if plugins.is_empty() { " with the manifest; --load looks at plugins and settings, too" } else { "" };
    format!("nothing is wrong{looked}; plugins:\n  {}", lines.join("\n  "))
}

fn loaded(plugin: &Plugin) -> serde_json::Value {
    let identity = plugin.identity();
    serde_json::json!({
        "name": plugin.name(),
        "version": plugin.version(),
        "source": identity.reference,
        "sha256": identity.digest,
        "grounds": identity.grounds.to_string(),
    })
}
