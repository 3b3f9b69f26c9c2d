//! `host build-plugin`: from a plugin's crate to its component.

use std::path::PathBuf;

use clap::Args;

use super::build_plugin;

/// Build a plugin's crate into a component
///
/// Uses the Rust target wasm32-unknown-unknown of rustup, or else Debian's
/// packages rustc-web, rust-web-src and lld.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host build-plugin plugins/sensitive-files -o plugins/dist/sensitive-files.wasm
  host build-plugin . && host test-plugin ./my-plugin.wasm trace.jsonl")]
pub(super) struct BuildPlugin {
    /// Directory of the plugin's crate
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,

    /// The component to write; NAME.wasm in the current directory without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &BuildPlugin) -> anyhow::Result<()> {
    let component = build_plugin::build(&args.directory, args.output.as_deref())?;
    super::print(&component.display().to_string())
}
