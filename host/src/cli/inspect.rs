//! `host inspect-plugin`: what a plugin says of itself.

use clap::Args;

use super::Format;
use super::plugins::runtime;
use crate::plugin::{self, Metering};
use crate::source::PluginRef;
use crate::supply;

/// Show a plugin's name, version, summary, what it asks for, and its settings schema
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host inspect-plugin builtin:sensitive-files
  host inspect-plugin ./mine.wasm --format json | jq .settings_schema")]
pub(super) struct InspectPlugin {
    /// A file, builtin:NAME, s3://…, oci://… or https://…
    #[arg(value_name = "PLUGIN")]
    plugin: PluginRef,

    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &InspectPlugin) -> anyhow::Result<()> {
    let verified = supply::for_tool(&args.plugin)?;
    let bytes = verified.bytes();
    let opened = plugin::open(&runtime(Metering::Fuel)?, &verified)?;
    let description = opened.description();
    let schema: serde_json::Value = serde_json::from_str(&description.settings_schema)?;
    match args.format {
        Format::Text => super::print(&format!(
            "{} {}\n{}\n{} bytes, sha256 {}\nasks for: {}\nsettings schema:\n{schema:#}",
            description.name,
            description.version,
            description.summary,
            bytes.len(),
            verified.digest(),
            if opened.asks().is_empty() { "nothing".into() } else { plugin::listed(opened.asks()) },
        ))?,
        Format::Json => {
            let document = serde_json::json!({
                "name": description.name,
                "version": description.version,
                "summary": description.summary,
                "bytes": bytes.len(),
                "sha256": verified.digest().to_string(),
                "asks": opened.asks(),
                "settings_schema": schema,
            });
            super::print(&format!("{document:#}"))?;
        }
    }
    Ok(())
}
