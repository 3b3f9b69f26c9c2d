//! The highest version of each signed plugin that was run: who can only serve
//! old files, which were signed once, must not bring back an old mistake.

use std::collections::BTreeMap;
use std::path::Path;

use semver::Version;

use crate::private_dir::PrivateDir;

const FILE: &str = "versions.json";
const MAX_BYTES: u64 = 1 << 20;

/// Versions by the plugins' names.
#[derive(Debug, Default)]
pub(super) struct Versions {
    seen: BTreeMap<String, Version>,
    /// Where they outlive the host.
    directory: Option<PrivateDir>,
}

impl Versions {
    /// Those that this directory knows; of this run alone without one.
    pub(super) fn of(state: Option<&Path>) -> std::io::Result<Self> {
        let directory = state.map(|path| PrivateDir::at(path.to_owned())).transpose()?;
        let known = directory.as_ref().and_then(|directory| directory.read(FILE, MAX_BYTES));
        let seen = match known.map(|bytes| serde_json::from_slice(&bytes)) {
            // What is there and may not be believed is not nothing.
            None if directory.as_ref().is_some_and(|own| own.path().join(FILE).symlink_metadata().is_ok()) => {
                return Err(std::io::Error::other(format!(
                    "{FILE} must be a file of the user's own, with mode 0600 and at most {MAX_BYTES} bytes; \
                     remove it to accept any version once"
                )));
            }
            None => BTreeMap::new(),
            Some(Ok(seen)) => seen,
            Some(Err(error)) => {
                return Err(std::io::Error::other(format!(
                    "{FILE} is not understood ({error}): remove it to accept any version once"
                )));
            }
        };
        Ok(Self { seen, directory })
    }

    /// What is wrong with running this version of a signed plugin.
    pub(super) fn objection(&self, name: &str, version: &str) -> Option<String> {
        let seen = self.seen.get(name)?;
        match Version::parse(version) {
            Ok(version) if version >= *seen => None,
            Ok(_) => Some(format!("version {version} is older than {seen}, which was run before")),
            Err(_) => Some(format!("{version:?} is no semantic version, and {seen} was run before")),
        }
    }

    /// These are run now.
    pub(super) fn run<'a>(&mut self, plugins: impl Iterator<Item = (&'a str, &'a str)>) {
        let before = self.seen.clone();
        for (name, version) in plugins {
            if let Ok(version) = Version::parse(version) {
                let seen = self.seen.entry(name.to_owned()).or_insert_with(|| version.clone());
                *seen = version.max(seen.clone());
            }
        }
        if let Some(directory) = self.directory.as_ref().filter(|_| self.seen != before) {
            let written =
                serde_json::to_vec(&self.seen).map_err(Into::into).and_then(|text| directory.write(FILE, &text));
            if let Err(error) = written {
                tracing::error!(%error, "cannot note which versions were run: a restart may accept older ones");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn no_way_back_also_after_a_restart() {
        let parent = tempfile::tempdir().unwrap();
        let state = parent.path().join("state");
        let mut versions = Versions::of(Some(&state)).unwrap();
        assert_eq!(versions.objection("a", "whatever"), None, "never seen");
        versions.run([("a", "1.2.0"), ("b", "whatever")].into_iter());
        versions.run([("a", "1.1.0")].into_iter());
        let versions = Versions::of(Some(&state)).unwrap();
        assert_eq!(versions.objection("a", "1.2.0"), None);
        assert_eq!(versions.objection("a", "1.10.0"), None);
        assert!(versions.objection("a", "1.2.0-rc.1").unwrap().contains("older than 1.2.0"));
        assert!(versions.objection("a", "two").is_some());
        assert_eq!(versions.objection("b", "0.0.1"), None);
        std::fs::write(state.join(FILE), "{").unwrap();
        assert!(Versions::of(Some(&state)).is_err(), "not taken for nothing seen");
        std::fs::write(state.join(FILE), "{}").unwrap();
        assert!(Versions::of(Some(&state)).is_ok());
        std::fs::set_permissions(state.join(FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Versions::of(Some(&state)).unwrap_err().to_string().contains("mode 0600"));
    }
}
