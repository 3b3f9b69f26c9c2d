//! `host push-plugin` and `pull-plugin`: plugins and registries.
#![allow(clippy::doc_markdown, reason = "they are help texts")]

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::Format;
use super::keys::{read, secret_key};
use super::network::NetworkOptions;
use super::plugins::KeyOptions;
use crate::config::Unsigned;
use crate::plugin::componentize;
use crate::source::{Fetcher, PluginRef, Wants};
use crate::trust::{Demand, Digest, Verified};

/// Put a plugin into a registry
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host push-plugin mine.wasm oci://ghcr.io/team/mine:1.2 --key release.key \\
      --registry-account ghcr.io=team:@token.txt")]
pub(super) struct PushPlugin {
    /// The plugin's file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Where to put it: oci://REGISTRY/REPOSITORY:TAG
    #[arg(value_name = "REF")]
    to: PluginRef,

    /// Secret ECDSA key to sign it with, as PKCS #8 PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    #[command(flatten)]
    network: NetworkOptions,

    /// How to show what was put there
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn push(args: &PushPlugin) -> anyhow::Result<()> {
    let PluginRef::Oci(to) = &args.to else {
        bail!("{}: plugins are pushed to oci://REGISTRY/REPOSITORY:TAG", args.to)
    };
    if to.digest().is_some() {
        bail!("{}: give a tag, the digest follows from the content", args.to);
    }
    let bytes = read(&args.file)?;
    let component =
        componentize::componentize(&bytes).with_context(|| format!("{} is no plugin", args.file.display()))?;
    let key = args.key.as_deref().map(secret_key).transpose()?;
    let name = format!("{}/{}", to.registry(), to.repository());
    if let Some(key) = &key
        && key.state(&name, "").is_none()
    {
        bail!("registries have a place for ECDSA signatures only: make a key with `host new-key --kind ecdsa`");
    }
    let sign = |manifest: &str| key.as_ref().and_then(|key| key.state(&name, manifest));
    let fetcher = Fetcher::new(args.network.network()?);
    let pushed = fetcher.push(to, component.into_owned(), &sign)?;
    match args.format {
        Format::Text => {
            let signed = pushed.signature.as_ref().map_or_else(|| "unsigned".into(), |tag| format!("signed as {tag}"));
            super::print(&format!("{}\nsha256 of the component: {}\n{signed}", pushed.reference, pushed.component))
        }
        Format::Json => super::print(&serde_json::to_string_pretty(&pushed)?),
    }
}

/// Fetch a plugin into a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host pull-plugin oci://ghcr.io/team/mine:1.2 -o mine.wasm --key release=@release.pub
  host pull-plugin s3://bucket/mine.wasm -o mine.wasm --sha256 9f86d081…")]
pub(super) struct PullPlugin {
    /// s3://…, oci://… or https://…
    #[arg(value_name = "REF")]
    from: PluginRef,

    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// SHA-256 that it must have
    #[arg(long, value_name = "SHA256")]
    sha256: Option<Digest>,

    /// What becomes of a plugin with neither a pin nor a signature
    #[arg(long, value_enum, default_value_t = Unsigned::Refuse)]
    unsigned: Unsigned,

    #[command(flatten)]
    keys: KeyOptions,

    #[command(flatten)]
    network: NetworkOptions,
}

pub(super) fn pull(args: &PullPlugin) -> anyhow::Result<()> {
    let keys = args.keys.keys()?;
    let fetcher = Fetcher::new(args.network.network()?);
    let wants = Wants::of(&keys, None);
    let candidate = fetcher.get(&args.from, wants)?;
    let demand = Demand { pin: args.sha256, keys: &keys, only: None, unsigned: args.unsigned };
    let verified = Verified::check(candidate, demand)?;
    std::fs::write(&args.output, verified.bytes())
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    super::print(&format!("{}: sha256 {}, {}", args.output.display(), verified.digest(), verified.grounds()))
}
