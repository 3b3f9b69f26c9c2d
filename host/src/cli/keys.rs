//! `host new-key`, `sign-plugin` and `verify-plugin`: who vouches for plugins.
#![allow(clippy::doc_markdown, reason = "they are help texts")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::Format;
use super::network::NetworkOptions;
use super::plugins::KeyOptions;
use crate::config::Unsigned;
use crate::source::{Fetcher, PluginRef, Wants, read_regular};
use crate::trust::{Demand, KeyKind, SecretKey, Verified, generate};

/// Make a pair of keys to sign plugins with
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host new-key release                   writes release.key (secret) and release.pub
  host new-key --kind ecdsa release      for registries, and for cosign
  TRACEGATE_KEY_PASSWORD=… host new-key release")]
pub(super) struct NewKey {
    /// Name of the files, without their ends
    #[arg(value_name = "NAME")]
    name: PathBuf,

    /// Which kind
    #[arg(long, value_enum, default_value_t = KeyKind::Minisign)]
    kind: KeyKind,
}

/// Environment variable with a secret key's password.
const PASSWORD: &str = "TRACEGATE_KEY_PASSWORD";

fn password() -> Option<String> {
    std::env::var(PASSWORD).ok()
}

pub(super) fn new_key(args: &NewKey) -> anyhow::Result<()> {
    if args.kind == KeyKind::Ecdsa && password().is_some() {
        anyhow::bail!(
            "ECDSA keys are written without a password here: unset {PASSWORD}, and encrypt the file by other means"
        );
    }
    let (secret, public) = generate(args.kind, password()).map_err(anyhow::Error::msg).context("cannot make keys")?;
    let file = |end: &str| PathBuf::from(format!("{}{end}", args.name.display()));
    let (secret_file, public_file) = (file(".key"), file(".pub"));
    write_new(&secret_file, &secret, 0o600)?;
    write_new(&public_file, &public, 0o644)?;
    super::print(&format!("{}\n{}", secret_file.display(), public_file.display()))
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Sign a plugin's file
///
/// The signature is written beside it: upload both.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host sign-plugin mine.wasm --key release.key    writes mine.wasm.minisig
  host sign-plugin manifest.toml --key release.key")]
pub(super) struct SignPlugin {
    /// Plugin or manifest
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Secret key; its password, if it has one, is in TRACEGATE_KEY_PASSWORD
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn sign(args: &SignPlugin) -> anyhow::Result<()> {
    let key = secret_key(&args.key)?;
    let content = read(&args.file)?;
    let signature = key.sign(&content).map_err(anyhow::Error::msg).context("cannot sign")?;
    let path = PathBuf::from(format!("{}{}", args.file.display(), key.suffix()));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(directory)?;
        file.write_all(signature.as_bytes())?;
        file.persist(&path).map(drop).map_err(|error| error.error)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    super::print(&path.display().to_string())
}

/// A secret key from its file.
pub(super) fn secret_key(path: &Path) -> anyhow::Result<SecretKey> {
    let text = String::from_utf8(read(path)?).with_context(|| format!("{} is not UTF-8", path.display()))?;
    SecretKey::read(&text, password()).with_context(|| format!("cannot use key {}", path.display()))
}

pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_regular(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Check a plugin's signature
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host verify-plugin mine.wasm --key release=@release.pub
  host verify-plugin oci://ghcr.io/team/mine:1.2 --key release=@release.pub

Exit status:
  0  one of the keys has signed it
  1  none has, or it cannot be had")]
pub(super) struct VerifyPlugin {
    /// A file, s3://…, oci://… or https://…
    #[arg(value_name = "PLUGIN")]
    plugin: PluginRef,

    #[command(flatten)]
    keys: KeyOptions,

    #[command(flatten)]
    network: NetworkOptions,

    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn verify(args: &VerifyPlugin) -> anyhow::Result<()> {
    let keys = args.keys.keys()?;
    anyhow::ensure!(!keys.is_empty(), "give at least one --key");
    let fetcher = Fetcher::new(args.network.network()?);
    let wants = Wants::of(&keys, None);
    let candidate = fetcher.get(&args.plugin, wants)?;
    let all = keys.iter().map(|(name, _)| name.to_owned()).collect();
    let demand = Demand { pin: None, keys: &keys, only: Some(&all), unsigned: Unsigned::Refuse };
    let verified = Verified::check(candidate, demand)?;
    let (digest, grounds) = (verified.digest(), verified.grounds());
    match args.format {
        Format::Text => super::print(&format!("{} (sha256 {digest}) is {grounds}", args.plugin)),
        Format::Json => {
            let document = serde_json::json!({
                "plugin": args.plugin.to_string(),
                "sha256": digest,
                "grounds": grounds.to_string(),
            });
            super::print(&format!("{document:#}"))
        }
    }
}
