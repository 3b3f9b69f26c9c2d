//! Directories in the options of an overlay mount, which show their files
//! under another name.

/// Options of overlayfs that name directories
/// (Documentation/filesystems/overlayfs.rst).
const DIRECTORIES: [&str; 6] = ["lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "datadir"];

/// True if this option's value is directories.
pub(crate) fn names_directories(option: &str) -> bool {
    DIRECTORIES.contains(&option)
}

/// The directories in the options of `mount(2)`, with escapes as they are:
/// a name with a backslash comes out as another name, so it is told by
/// [`is_plain`].
pub(crate) fn directories(options: &str) -> impl Iterator<Item = &str> {
    let options = options.split(',').filter_map(|option| option.split_once('='));
    options.filter(|(name, _)| names_directories(name)).flat_map(|(_, value)| values(value))
}

/// The directories in the value of one option.
pub(crate) fn values(value: &str) -> impl Iterator<Item = &str> {
    value.split(':').filter(|directory| !directory.is_empty())
}

/// True if a directory can be compared as text: absolute, without escapes
/// and without steps back. Symbolic links in it are not followed.
pub(crate) fn is_plain(directory: &str) -> bool {
    directory.starts_with('/')
        && !directory.contains('\\')
        && !directory.split('/').any(|name| name == "." || name == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_overlay() {
        let found: Vec<_> = directories("rw,lowerdir=/etc:/b,upperdir=/c,index=off,workdir=/d").collect();
        assert_eq!(found, ["/etc", "/b", "/c", "/d"]);
        assert!(is_plain("/etc") && !is_plain("etc") && !is_plain("/a/../etc") && !is_plain("/a\\:b"));
    }
}
