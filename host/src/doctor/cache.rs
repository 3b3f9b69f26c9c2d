//! The directory for compiled plugins.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Check, Verdict, advice};
use crate::private_dir::PrivateDir;

const ID: &str = "plugin-cache";
const TITLE: &str = "Cache of compiled plugins";

/// Whether compiled plugins can be kept.
pub(super) fn check() -> Check {
    let directory = PrivateDir::path_of_user_cache();
    let shown = directory.display();
    match try_out(&directory) {
        Ok(Tried::Existed) => {
            Check::new(ID, TITLE, Verdict::Ok, format!("{shown} is ours alone and writable"), MEANING)
        }
        Ok(Tried::Creatable) => {
            Check::new(ID, TITLE, Verdict::Ok, format!("{shown} does not exist yet and can be made"), MEANING)
        }
        Err(error) => {
            let mode = fs::symlink_metadata(&directory)
                .map(|found| format!(" (mode {:04o}, owner {})", found.mode() & 0o7777, found.uid()))
                .unwrap_or_default();
            Check::new(
                ID,
                TITLE,
                Verdict::Degraded,
                format!("{shown} cannot be used: {error}{mode}"),
                "plugins are compiled at each start: some 20 ms for one in Rust, many seconds for one in JavaScript \
                 or Python",
            )
            .advise(advice::cache_directory())
        }
    }
}

const MEANING: &str = "plugins are compiled once";

enum Tried {
    Existed,
    Creatable,
}

/// Makes the directory as a start would, writes a file, and removes what was
/// not there before.
fn try_out(directory: &Path) -> io::Result<Tried> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| fs::symlink_metadata(path).is_err()).collect();
    let tried = PrivateDir::at(directory.to_owned()).and_then(|_| tempfile::NamedTempFile::new_in(directory).map(drop));
    for path in &missing {
        // Not if somebody began to use it.
        let _ = fs::remove_dir(path);
    }
    tried.map(|()| if missing.is_empty() { Tried::Existed } else { Tried::Creatable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_nothing_behind() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        let directory = parent.path().join("a/b");
        assert!(matches!(try_out(&directory)?, Tried::Creatable));
        assert_eq!(fs::read_dir(parent.path())?.count(), 0);
        fs::create_dir_all(&directory)?;
        // Open to others.
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        assert!(try_out(&directory).is_err());
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        assert!(matches!(try_out(&directory)?, Tried::Existed));
        assert_eq!(fs::read_dir(&directory)?.count(), 0);
        Ok(())
    }
}
