//! What a program leaves behind in its working directory.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Contents up to this length are shown, longer ones as their digest.
const SHOWN_MAX: usize = 2000;

/// A text with a line for each file below `directory`: kind, mode, number of
/// links, name and content; without content where `varies` says so.
pub fn describe(directory: &Path, varies: &dyn Fn(&str) -> bool) -> String {
    let mut text = String::new();
    below(directory, "", varies, &mut text);
    text
}

fn below(directory: &Path, prefix: &str, varies: &dyn Fn(&str) -> bool, text: &mut String) {
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = directory.join(&name);
        let shown = format!("{prefix}{}", name.to_string_lossy());
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let mode = metadata.permissions().mode() & 0o7777;
        let what = if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_socket() {
            "socket".to_owned()
        } else if kind.is_fifo() {
            "pipe".to_owned()
        } else if varies(&shown) {
            format!("file, {} links", metadata.nlink())
        } else {
            format!("file, {} links, {}", metadata.nlink(), content(&fs::read(&path).unwrap()))
        };
        writeln!(text, "{mode:03o} {shown}: {what}").unwrap();
        if kind.is_dir() {
            below(&path, &format!("{shown}/"), varies, text);
        }
    }
}

fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= SHOWN_MAX => format!("{text:?}"),
        _ => {
            let mut text = format!("{} bytes ", bytes.len());
            Sha256::digest(bytes).iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text
        }
    }
}
