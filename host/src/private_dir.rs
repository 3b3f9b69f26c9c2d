//! A directory that only we can enter (mode 0700), and files of ours in it.
//!
//! What is read back from here is trusted as far as our own user is: others
//! cannot have put it here. Files are written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory of our own.
#[derive(Clone, Debug)]
pub struct PrivateDir(PathBuf);

impl PrivateDir {
    /// The directory, made if missing.
    ///
    /// # Errors
    /// If it cannot be made, or is open to others.
    pub fn at(path: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let found = fs::symlink_metadata(&path)?;
        if found.is_dir() && is_ours(&found) {
            Ok(Self(path))
        } else {
            Err(io::Error::other(format!("{} must be a directory of the user's own with mode 0700", path.display())))
        }
    }

    /// Where the user's cache is: `$XDG_CACHE_HOME/tracegate` or
    /// `~/.cache/tracegate`; `/var/cache/tracegate` for a user without a home.
    pub fn path_of_user_cache() -> PathBuf {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| PathBuf::from("/var/cache"))
            .join("tracegate")
    }

    /// The user's cache; none if it cannot be made safe.
    pub fn cache_of_user() -> Option<Self> {
        match Self::at(Self::path_of_user_cache()) {
            Ok(directory) => Some(directory),
            Err(error) => {
                tracing::debug!(%error, "nothing is cached");
                None
            }
        }
    }

    /// A directory in it.
    ///
    /// # Errors
    /// As [`Self::at`].
    pub fn within(&self, name: &str) -> io::Result<Self> {
        Self::at(self.0.join(name))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file of ours of at most `most` bytes, to read, and its length; none if
    /// there is no such file.
    pub fn open(&self, name: &str, most: u64) -> Option<(File, u64)> {
        let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(self.0.join(name)).ok()?;
        let found = file.metadata().ok()?;
        (found.is_file() && is_ours(&found) && found.len() <= most).then_some((file, found.len()))
    }

    /// What is in such a file.
    pub fn read(&self, name: &str, most: u64) -> Option<Vec<u8>> {
        let (mut file, length) = self.open(name, most)?;
        let mut bytes = Vec::with_capacity(length as usize);
        file.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Writes a whole file or none.
    ///
    /// # Errors
    /// If the file system does not take it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(bytes)?;
        file.persist(self.0.join(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Names of the files in it, with the time when each was last written.
    pub fn files(&self) -> Vec<(String, std::time::SystemTime)> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((entry.file_name().into_string().ok()?, found.modified().ok()?))
            })
            .collect()
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.0.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "{} stays", self.0.join(name).display());
        }
    }
}

fn is_ours(found: &fs::Metadata) -> bool {
    found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_open_to_others_is_refused() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        let path = parent.path().join("own");
        assert!(PrivateDir::at(path.clone()).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        assert!(PrivateDir::at(path).is_err());
        Ok(())
    }

    #[test]
    fn only_regular_files_of_our_own_are_read() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        let own = PrivateDir::at(parent.path().join("own"))?;
        own.write("a", b"content")?;
        assert_eq!(own.read("a", 7).as_deref(), Some(&b"content"[..]));
        assert_eq!(own.read("a", 6), None, "too long");
        symlink("a", own.path().join("link"))?;
        assert_eq!(own.read("link", 100), None);
        fs::set_permissions(own.path().join("a"), fs::Permissions::from_mode(0o644))?;
        assert_eq!(own.read("a", 100), None, "others can look into it");
        own.remove("a");
        own.remove("a");
        assert_eq!(own.files().len(), 0);
        Ok(())
    }
}
