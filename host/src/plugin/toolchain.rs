//! Finds a way to compile Rust to `wasm32-unknown-unknown` on this machine.
//!
//! Two are known: a `rustc` whose target is installed, which is the users'
//! way, and a distribution's `rustc` with the standard library's source,
//! which needs no download from static.rust-lang.org.
//!
//! Nothing is installed and nothing is compiled here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that plugins are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Where Debian's packages `rustc` and `rustc-web` put the compiler.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// A way to compile to [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The target's standard library is there.
    Installed {
        /// The compiler.
        rustc: PathBuf,
        /// The linker, if it is not the compiler's own.
        linker: Option<PathBuf>,
    },
    /// The standard library is compiled along, from its source.
    BuildStd {
        /// The compiler.
        rustc: PathBuf,
        /// The linker, if it is not the compiler's own.
        linker: Option<PathBuf>,
    },
}

/// No way was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "no compiler here makes WebAssembly of Rust: {rustc} has no {TARGET}{distribution}.\n\
     Install it in one of two ways:\n  \
     rustup target add {TARGET}\n  \
     apt-get install rustc-web rust-web-src lld        (Debian and Ubuntu, where rustup cannot be used)"
)]
pub struct NoToolchain {
    /// The compiler that was asked first.
    rustc: String,
    /// What is wrong with the distribution's.
    distribution: &'static str,
}

impl Toolchain {
    /// Looks for a toolchain: first the `rustc` that `RUSTC` or `PATH` name,
    /// as it would be used in `directory`, then the distribution's.
    ///
    /// # Errors
    /// If neither can compile to [`TARGET`].
    pub fn find(directory: &Path) -> Result<Self, NoToolchain> {
        let rustc = PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        if let Some(path) = printed(&rustc, directory, &["--print", "target-libdir", "--target", TARGET])
            && has_std(Path::new(&path))
        {
            return Ok(Self::Installed { linker: linker_for(&rustc, directory), rustc });
        }
        let distribution = match Self::of_distribution(Path::new(DISTRIBUTION_RUSTC), directory) {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        Err(NoToolchain { rustc: rustc.display().to_string(), distribution })
    }

    fn of_distribution(rustc: &Path, directory: &Path) -> Result<Self, &'static str> {
        let Some(sysroot) = printed(rustc, directory, &["--print", "sysroot"]) else {
            return Err(", and there is no /usr/bin/rustc");
        };
        let sysroot = Path::new(&sysroot);
        let linker = linker_for(rustc, directory);
        let own = has_own_linker(sysroot);
        if linker.is_none() && !own {
            return Err(", and there is no wasm-ld for /usr/bin/rustc");
        }
        let rustc = rustc.to_owned();
        if has_std(&sysroot.join("lib/rustlib").join(TARGET).join("lib")) {
            return Ok(Self::Installed { rustc, linker });
        }
        if sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file() {
            return Ok(Self::BuildStd { rustc, linker });
        }
        Err(", and /usr/bin/rustc has no source of the standard library")
    }

    /// Sets a `cargo build` up to use this toolchain.
    pub fn apply(&self, cargo: &mut Command) {
        let (Self::Installed { rustc, linker } | Self::BuildStd { rustc, linker }) = self;
        cargo.env("RUSTC", rustc);
        if let Some(linker) = linker {
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        if let Self::BuildStd { .. } = self {
            // build-std is unstable, also where cargo and rustc are stable.
            cargo.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
        }
    }

    /// In words, for a progress line.
    pub fn describe(&self) -> String {
        match self {
            Self::Installed { rustc, .. } => format!("{} with {TARGET}", rustc.display()),
            Self::BuildStd { rustc, .. } => {
                format!("{} with the standard library from source (about a minute the first time)", rustc.display())
            }
        }
    }
}

/// What a compiler prints, in one line; none if it cannot be run or fails.
fn printed(rustc: &Path, directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(rustc).args(arguments).current_dir(directory).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

/// True if a directory has a standard library. rustc names the directory
/// whether or not the target is installed.
fn has_std(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = Path::new(&name);
        name.extension().is_some_and(|extension| extension == "rlib") && name.to_string_lossy().starts_with("libstd-")
    })
}

/// A linker to name, if the compiler has none of its own. rustup's toolchains
/// ship `rust-lld`; distributions have `wasm-ld`, often with a version.
fn linker_for(rustc: &Path, directory: &Path) -> Option<PathBuf> {
    let sysroot = printed(rustc, directory, &["--print", "sysroot"])?;
    if has_own_linker(Path::new(&sysroot)) { None } else { wasm_ld(&path_directories()) }
}

fn has_own_linker(sysroot: &Path) -> bool {
    let host = std::env::consts::ARCH;
    let directory = sysroot.join("lib/rustlib").join(format!("{host}-unknown-linux-gnu")).join("bin");
    let musl = sysroot.join("lib/rustlib").join(format!("{host}-unknown-linux-musl")).join("bin");
    [directory, musl].iter().any(|directory| directory.join("rust-lld").is_file())
        || path_directories().iter().any(|directory| directory.join("rust-lld").is_file())
}

fn path_directories() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

/// `wasm-ld`, or the `wasm-ld-N` with the highest N: an older one may not
/// know features that a newer compiler uses.
fn wasm_ld(directories: &[PathBuf]) -> Option<PathBuf> {
    let plain = OsString::from("wasm-ld");
    let mut best: Option<(u32, PathBuf)> = None;
    for directory in directories {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let version = match name.to_str().and_then(|name| name.strip_prefix("wasm-ld-")) {
                Some(version) => version.parse().ok(),
                None => (name == plain).then_some(0),
            };
            if let Some(version) = version
                && best.as_ref().is_none_or(|(other, _)| version > *other)
            {
                best = Some((version, entry.path()));
            }
        }
    }
    best.map(|(_, path)| path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_linker_wins() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["wasm-ld", "wasm-ld-9", "wasm-ld-22", "wasm-ld-x", "lld"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let found = wasm_ld(&[directory.path().to_owned()]).unwrap();
        assert_eq!(found.file_name().unwrap(), "wasm-ld-22");
        assert_eq!(wasm_ld(&[directory.path().join("none")]), None);
    }

    #[test]
    fn a_directory_without_std_is_no_target() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!has_std(directory.path()));
        std::fs::write(directory.path().join("libstd-0123.rlib"), "").unwrap();
        assert!(has_std(directory.path()));
    }

    #[test]
    fn the_error_names_both_ways() {
        let error = NoToolchain { rustc: "rustc".into(), distribution: ", and there is no /usr/bin/rustc" };
        let text = error.to_string();
        assert!(text.contains("rustup target add wasm32-unknown-unknown"), "{text}");
        assert!(text.contains("apt-get install rustc-web rust-web-src lld"), "{text}");
    }
}
