//! Plugins in files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Larger files are not plugins; one byte more is read, to tell.
const MAX_BYTES: u64 = (64 << 20) + 1;

pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
