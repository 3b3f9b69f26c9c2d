//! Which names at the root are symbolic links, as `/bin` and `/lib` are where
//! `/usr` has been merged: a hint for [`super::resolve`], which of its ways
//! leads to an answer first. Nothing is decided by it.

use std::cell::RefCell;
use std::ffi::CString;

use bstr::{BStr, BString, ByteSlice};

use super::lookup;

/// Names that are remembered. A root has few, unless somebody makes them.
const MOST: usize = 32;

thread_local! {
    /// First components that were looked at, and whether they are links.
    static KNOWN: RefCell<Vec<(BString, bool)>> = const { RefCell::new(Vec::new()) };
}

/// `/` and the first component of an absolute name.
fn first(name: &BStr) -> Option<&BStr> {
    let rest = name.strip_prefix(b"/")?;
    let end = rest.find_byte(b'/').unwrap_or(rest.len());
    Some(name[..=end].as_bstr())
}

/// Whether an absolute name begins with what was a link when it was noted.
pub(super) fn begins_with_one(name: &BStr) -> bool {
    let Some(first) = first(name) else { return false };
    KNOWN.with_borrow(|known| known.iter().any(|(name, is_link)| *is_link && name == first))
}

/// Notes whether the first component of a name that leads through some link,
/// from our root, is one.
pub(super) fn note(name: &BStr) {
    let Some(first) = first(name) else { return };
    KNOWN.with_borrow_mut(|known| {
        if known.len() < MOST && known.iter().all(|(name, _)| name != first) {
            let path = CString::new(first.as_bytes()).ok();
            let found = path.and_then(|path| lookup::identity(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW).ok());
            known.push((first.into(), found.is_some_and(|found| found.kind == libc::S_IFLNK as u16)));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_at_the_root_count() {
        for (name, expected) in [("/lib/x/y", "/lib"), ("/lib", "/lib"), ("//x", "/"), ("/", "/")] {
            assert_eq!(first(name.into()), Some(expected.into()), "{name}");
        }
        assert_eq!(first("lib/x".into()), None);
        note("/proc/self/exe".into());
        assert!(!begins_with_one("/proc/self/exe".into()), "the link is further down");
        assert!(!begins_with_one("/tmp".into()), "nobody noted it");
        let entries = std::fs::read_dir("/").expect("everybody may look at the root");
        for entry in entries.flatten().filter(|entry| entry.file_name().is_ascii()) {
            let name = format!("/{}/x", entry.file_name().display());
            note(name.as_str().into());
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            assert_eq!(begins_with_one(name.as_str().into()), is_link, "{name}");
        }
    }
}
