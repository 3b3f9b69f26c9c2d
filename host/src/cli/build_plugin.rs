//! `host build-plugin DIR`: a plugin's crate → a component.
//!
//! One command whichever way Rust gets to WebAssembly on this machine, and
//! the same bytes from the same source wherever the checkout lies.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use wit_component::DecodedWasm;

use crate::plugin::componentize::componentize;
use crate::plugin::toolchain::{TARGET, Toolchain};

/// Builds the plugin in `dir` and writes its component to `output`, or to
/// `NAME.wasm` in the current directory. Answers with the file's path.
///
/// # Errors
/// If there is no compiler, the crate is not a plugin's, it does not compile,
/// or it imports anything but `tracegate:plugin`.
pub fn build(dir: &Path, output: Option<&Path>) -> Result<PathBuf> {
    let package = Package::of(dir)?;
    let toolchain = Toolchain::find(dir)?;
    tracing::info!(plugin = %package.name, "compiling with {}", toolchain.describe());
    let module = compile(&package, &toolchain)?;
    let bytes = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = componentize(&bytes).with_context(|| format!("{} was compiled, but is no plugin", package.name))?;
    check_imports(&component).with_context(|| format!("{} was compiled, but cannot be run", package.name))?;
    let output = output.map_or_else(|| PathBuf::from(format!("{}.wasm", package.name)), Path::to_owned);
    write_atomically(&output, &component)?;
    Ok(output)
}

/// A plugin's crate, as cargo describes it.
struct Package {
    name: String,
    manifest: PathBuf,
    /// Name of the library, which names the module.
    library: String,
    workspace: PathBuf,
    target: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    name: String,
    crate_types: Vec<String>,
}

impl Package {
    fn of(dir: &Path) -> Result<Self> {
        let manifest = dir.join("Cargo.toml");
        let manifest = manifest
            .canonicalize()
            .with_context(|| format!("{} has no Cargo.toml; name the directory of a plugin's crate", dir.display()))?;
        let mut cargo = Command::new(cargo());
        cargo.args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"]).arg(&manifest).current_dir(dir);
        let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo; is Rust installed?")?;
        ensure!(output.status.success(), "cargo cannot read {}", manifest.display());
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("cargo metadata answered with something unexpected")?;
        let package =
            metadata.packages.into_iter().find(|package| package.manifest_path == manifest).with_context(|| {
                format!("{} has no [package]; name the directory of one plugin", manifest.display())
            })?;
        let library = package.targets.into_iter().find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
        let Some(library) = library else {
            bail!(
                "{} makes no library of type cdylib; add to its Cargo.toml:\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]",
                package.name
            );
        };
        Ok(Self {
            name: package.name,
            manifest,
            library: library.name.replace('-', "_"),
            workspace: metadata.workspace_root,
            target: metadata.target_directory,
        })
    }
}

/// The cargo that runs us, if one does.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs `cargo build` and answers with the module's path.
fn compile(package: &Package, toolchain: &Toolchain) -> Result<PathBuf> {
    // A directory of its own: other flags than native builds, and cargo's
    // lock on the native one may be held by whoever runs us.
    let target = package.target.join("wasm");
    let mut cargo = Command::new(cargo());
    cargo.arg("build").arg("--manifest-path").arg(&package.manifest);
    cargo.args(["--package", &package.name, "--lib", "--release", "--target", TARGET, "--target-dir"]).arg(&target);
    // The plugin's own directory: its rust-toolchain.toml and .cargo/config.toml count.
    cargo.current_dir(package.manifest.parent().unwrap_or(&package.workspace));
    toolchain.apply(&mut cargo);
    for (name, value) in PROFILE {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
    cargo.args(OPTIMIZE_FOR);
    // Flags of the caller are meant for native code.
    cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", remapped(package));
    let status = cargo.stdout(Stdio::inherit()).stderr(Stdio::inherit()).status().context("cannot run cargo")?;
    ensure!(status.success(), "{} does not compile for {TARGET}", package.name);
    Ok(target.join(TARGET).join("release").join(format!("{}.wasm", package.library)))
}

/// Fast, small enough, and the same every time.
const PROFILE: [(&str, &str); 7] = [
    ("OPT_LEVEL", "3"),
    ("PANIC", "abort"),
    ("CODEGEN_UNITS", "1"),
    ("LTO", "fat"),
    ("STRIP", "symbols"),
    ("DEBUG", "0"),
    ("INCREMENTAL", "false"),
];

/// Speed is for what runs at every call. JSON and schemas are read once.
const OPTIMIZE_FOR: [&str; 4] = [
    "--config",
    "profile.release.package.'*'.opt-level='s'",
    "--config",
    "profile.release.package.plugin-sdk.opt-level=3",
];

/// Paths end up in panic messages; with these they do not say where the
/// checkout and cargo's directory lie. Flags are separated by 0x1f.
fn remapped(package: &Package) -> OsString {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = OsString::new();
    let places = [(Some(package.workspace.clone()), "/build"), (home, "/cargo")];
    for (from, to) in places.into_iter().filter_map(|(from, to)| Some((from?, to))) {
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

/// Fails if the component imports anything but our own interfaces: the host
/// offers nothing else, least of all WASI.
fn check_imports(component: &[u8]) -> Result<()> {
    let decoded = wit_component::decode(component).context("cannot read the component's own types")?;
    let DecodedWasm::Component(resolve, world) = decoded else { bail!("it is a package of WIT, not a component") };
    let imports = resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key));
    let foreign: Vec<String> = imports.filter(|name| !name.starts_with("tracegate:plugin/")).collect();
    ensure!(
        foreign.is_empty(),
        "it imports {}: plugins have no files, clock or randomness; find the dependency that wants it (for \
         `wasi:…` the target must be {TARGET})",
        foreign.join(", ")
    );
    Ok(())
}

/// Whoever reads the file meanwhile sees the old or the new, never half.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
    std::io::Write::write_all(&mut file, bytes).with_context(failed)?;
    // A temporary file is private; a component is for everybody.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(everybody).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_crate_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = build(directory.path(), None).unwrap_err();
        assert!(error.to_string().contains("has no Cargo.toml"), "{error:#}");
    }

    #[test]
    fn a_crate_without_cdylib_is_told_how() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
        std::fs::write(directory.path().join("Cargo.toml"), manifest).unwrap();
        std::fs::create_dir(directory.path().join("src")).unwrap();
        std::fs::write(directory.path().join("src/lib.rs"), "").unwrap();
        let error = build(directory.path(), None).unwrap_err();
        assert!(error.to_string().contains("crate-type"), "{error:#}");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.wasm");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
