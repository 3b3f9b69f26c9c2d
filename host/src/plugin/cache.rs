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

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::private_dir::PrivateDir;
use crate::trust::Digest;

/// A directory of compiled code.
#[derive(Clone, Debug)]
pub struct Cache(PrivateDir);

/// Largest file that is read back.
const MAX_CODE: u64 = 256 << 20;

impl Cache {
    /// In this directory.
    pub fn at(directory: PrivateDir) -> Self {
        Self(directory)
    }

    /// The user's; none if it cannot be made safe: then code is compiled at
    /// each start.
    pub fn of_user() -> Option<Self> {
        PrivateDir::cache_of_user().map(Self)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn get_or_compile(
        &self,
        engine: &Engine,
        component: &[u8],
        digest: Digest,
    ) -> wasmtime::Result<Component> {
        let name = key(engine, digest);
        if let Some((file, length)) = self.0.open(&name, MAX_CODE) {
            match load(engine, file, length) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::debug!(%error, "cached code is not usable; compiling"),
            }
        }
        let compiled = Component::new(engine, component)?;
        if let Err(error) = self.0.write(&name, &compiled.serialize()?) {
            tracing::debug!(%error, "compiled code was not cached");
        }
        Ok(compiled)
    }
}

/// Makes a component of a file of the cache. It is mapped, and not the file
/// itself: what happens to that from now on is nothing to the code that runs.
fn load(engine: &Engine, mut file: File, length: u64) -> wasmtime::Result<Component> {
    match sealed(&mut file, length) {
        Ok(copy) => {
            let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
            // SAFETY: the bytes were written by `get_or_compile` as this user,
            // under a name made of their source and the engine's settings, and
            // nobody can change them any more.
            unsafe { Component::deserialize_file(engine, path) }
        }
        Err(error) => {
            tracing::debug!(%error, "no sealed memory; cached code is copied");
            file.rewind()?;
            let mut code = Vec::new();
            file.take(length).read_to_end(&mut code)?;
            // SAFETY: as above; these bytes are our own.
            unsafe { Component::deserialize(engine, code) }
        }
    }
}

/// A copy that nobody can change (`memfd_create(2)`).
fn sealed(file: &mut File, length: u64) -> io::Result<File> {
    let mut copy = File::from(memfd_create(c"plugin", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    io::copy(&mut file.take(length), &mut copy)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}

/// Names what the code was compiled from and for.
fn key(engine: &Engine, component: Digest) -> String {
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
    component.hash(&mut hasher);
    let digest = hasher.0.finalize();
    digest.iter().fold(String::new(), |mut name, byte| {
        use std::fmt::Write;
        let _ = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spoilt_file_is_compiled_anew() -> wasmtime::Result<()> {
        let parent = tempfile::tempdir()?;
        let directory = PrivateDir::at(parent.path().join("cache"))?;
        let cache = Cache::at(directory.clone());
        let engine = Engine::default();
        let component = b"\0asm\x0d\0\x01\0";
        let digest = Digest::of(component);
        cache.get_or_compile(&engine, component, digest)?;
        let name = key(&engine, digest);
        let (file, length) = directory.open(&name, MAX_CODE).ok_or_else(|| io::Error::other("it was not cached"))?;
        load(&engine, file, length)?;
        directory.write(&name, b"rubbish")?;
        cache.get_or_compile(&engine, component, digest)?;
        assert_ne!(directory.read(&name, MAX_CODE).as_deref(), Some(&b"rubbish"[..]));
        Ok(())
    }
}
