//! Plugins in files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::MAX_BYTES;

/// Longest text, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Opens a regular file. Anything else could be endless, or keep us waiting
/// for a writer.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.file_type() {
        kind if kind.is_file() => Ok(file),
        kind if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::other("not a regular file")),
    }
}

/// Reads a file of at most as many bytes as a plugin may have.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_BYTES)
}

/// Reads a file of UTF-8 text, such as settings.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_at_most(path, MAX_TEXT)?).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
}
