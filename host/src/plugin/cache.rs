//! Compiled code on disk, by content and engine.
//!
//! Compiled code is as good as our own machine code. It is therefore read
//! only from a directory that belongs to us and that nobody else can enter
//! (mode 0700), and only from files of ours; anything else is compiled anew.
//! Nothing that came from outside is ever taken for compiled code.
//!
//! Who runs as our user can write there. That is as true of our own
//! executable's environment; SECURITY.md says what follows.
#![allow(unsafe_code, reason = "loading compiled code trusts its origin")]

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A directory of compiled code.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

/// Largest file that is read back.
const MAX_CODE: u64 = 256 << 20;

impl Cache {
    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The user's cache, `$XDG_CACHE_HOME/tracegate` or `~/.cache/tracegate`;
    /// `/var/cache/tracegate` for a user without a home. `None` if it cannot
    /// be made safe: then code is compiled at each start.
    pub fn of_user() -> Option<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| PathBuf::from("/var/cache"));
        match Self::at(base.join("tracegate")) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::debug!(%error, "compiled plugins are not cached");
                None
            }
        }
    }

    /// A cache in `directory`, made if missing.
    pub fn at(directory: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let found = fs::symlink_metadata(&directory)?;
        if found.is_dir() && is_ours(&found) {
            Ok(Self { directory })
        } else {
            Err(io::Error::other(format!(
                "{} must be a directory of the user's own with mode 0700",
                directory.display()
            )))
        }
    }

    pub(super) fn get_or_compile(&self, engine: &Engine, component: &[u8]) -> wasmtime::Result<Component> {
        let path = self.directory.join(key(engine, component));
        if let Some(code) = read_own(&path) {
            // SAFETY: the bytes were written by `store` below as this user,
            // under a name made of their source and the engine's settings.
            match unsafe { Component::deserialize(engine, &code) } {
                Ok(component) => return Ok(component),
                Err(error) => tracing::debug!(%error, "cached code is not usable; compiling"),
            }
        }
        let compiled = Component::new(engine, component)?;
        if let Err(error) = self.store(&path, &compiled.serialize()?) {
            tracing::debug!(%error, "compiled code was not cached");
        }
        Ok(compiled)
    }

    /// Writes a whole file or none.
    fn store(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(code)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Names what the code was compiled from and for.
fn key(engine: &Engine, component: &[u8]) -> String {
    struct Digesting(Sha256);
    impl Hasher for Digesting {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Digesting(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.update(component);
    let digest = hasher.0.finalize();
    digest.iter().fold(String::new(), |mut name, byte| {
        use std::fmt::Write;
        let _ = write!(name, "{byte:02x}");
        name
    })
}

fn is_ours(found: &fs::Metadata) -> bool {
    found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o077 == 0
}

fn read_own(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || !is_ours(&found) || found.len() > MAX_CODE {
        return None;
    }
    let mut code = Vec::with_capacity(found.len() as usize);
    file.read_to_end(&mut code).ok()?;
    Some(code)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_open_to_others_is_refused() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        let directory = parent.path().join("cache");
        assert!(Cache::at(directory.clone()).is_ok());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        assert!(Cache::at(directory).is_err());
        Ok(())
    }

    #[test]
    fn a_spoilt_file_is_compiled_anew() -> wasmtime::Result<()> {
        let parent = tempfile::tempdir()?;
        let cache = Cache::at(parent.path().join("cache"))?;
        let engine = Engine::default();
        let component = b"\0asm\x0d\0\x01\0";
        cache.get_or_compile(&engine, component)?;
        let path = cache.directory.join(key(&engine, component));
        fs::write(&path, b"rubbish")?;
        cache.get_or_compile(&engine, component)?;
        assert_ne!(fs::read(&path)?, b"rubbish");
        Ok(())
    }
}
