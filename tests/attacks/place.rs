//! Where an attack takes place: a directory with a harmless side `h` and a
//! protected side `s`, the same names in both, and ways from one to the other.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::HOST;

/// Exit statuses of the two programs; `race.rs` of the attacker knows them.
const HARMLESS: u8 = 10;
const FORBIDDEN: u8 = 20;

pub struct Place {
    directory: tempfile::TempDir,
    pub root: PathBuf,
}

/// The executable with the attacks (`tests/tracees/attacker`).
pub fn attacker() -> PathBuf {
    let path = Path::new(HOST).with_file_name("examples").join("attacker");
    let build = "cargo build --release --package host --bins --examples";
    assert!(path.exists(), "{} is missing: run `{build}` first", path.display());
    path
}

impl Place {
    /// On a file system of a disk: one attack reads past the page cache.
    pub fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = directory.path().canonicalize().unwrap();
        for (side, text, status) in [("h", "harmless\n", HARMLESS), ("s", "secret\n", FORBIDDEN)] {
            let side = root.join(side);
            fs::create_dir(&side).unwrap();
            fs::write(side.join("file"), text).unwrap();
            fs::write(side.join("victim"), text).unwrap();
            executable(&side.join("program"), &elf(0x40_0000, status, None));
        }
        let place = Self { directory, root };
        // What `/s/file` is for who takes `h` for the root.
        let inside = place.root.join("h").join(place.at("s").trim_start_matches('/'));
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join("file"), "harmless\n").unwrap();
        fs::create_dir(place.root.join("m")).unwrap();
        fs::create_dir(place.root.join("s/empty")).unwrap();
        place
    }

    /// Adds what only some of the attacks need.
    pub fn furnish(&self) {
        let root = &self.root;
        fs::copy(attacker(), root.join("s/dynamic")).unwrap();
        let secret = root.join("s").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
        fs::write(secret, "secret\n").unwrap();
        symlink(LOADER, root.join("loader")).unwrap();
        executable(&root.join("script"), format!("#!{}\n", self.at("s/program")).as_bytes());
        executable(&root.join("script-of-script"), format!("#!{}\n", self.at("script")).as_bytes());
        executable(&root.join("interpreted"), &elf(0x80_0000, HARMLESS, Some(&self.at("s/program"))));
        dig(&root.join("s/deep"));
    }

    pub fn at(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    pub fn secrets(&self) -> PathBuf {
        self.root.join("s")
    }

    /// What an attacker must not change about the protected side.
    pub fn fingerprint(&self) -> Vec<String> {
        use std::os::unix::fs::MetadataExt;
        let mut names: Vec<_> = match fs::read_dir(self.secrets()) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(error) => return vec![error.to_string()],
        };
        // The attacker's own.
        names.retain(|name| !name.ends_with("socket"));
        names.sort();
        let facts = |path: &PathBuf| {
            let meta = fs::symlink_metadata(path).unwrap();
            let who = (meta.uid(), meta.gid(), meta.mode(), meta.ino(), meta.nlink());
            format!("{path:?} {who:?} {} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec())
        };
        names.iter().map(facts).collect()
    }
}

#[cfg(target_arch = "x86_64")]
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

fn executable(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Directories in each other, deeper than `PATH_MAX`, with a secret at the end.
fn dig(top: &Path) {
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, mkdirat};
    let name = "d".repeat(250);
    fs::create_dir(top).unwrap();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = open(top, flags, Mode::empty()).unwrap();
    for _ in 0..18 {
        mkdirat(&directory, name.as_str(), Mode::S_IRWXU).unwrap();
        directory = openat(&directory, name.as_str(), flags, Mode::empty()).unwrap();
    }
    let file = openat(&directory, "file", OFlag::O_WRONLY | OFlag::O_CREAT, Mode::S_IRWXU).unwrap();
    std::io::Write::write_all(&mut fs::File::from(file), b"secret\n").unwrap();
}

/// The smallest program that ends with `status`; with an interpreter, that
/// one runs first.
fn elf(base: u64, status: u8, interpreter: Option<&str>) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    // mov edi, status; mov eax, SYS_exit; syscall
    let (machine, code) = (62u16, [&[0xbf, status, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05][..]].concat());
    #[cfg(target_arch = "aarch64")]
    // mov w0, status; mov w8, SYS_exit; svc 0
    let (machine, code) = (183u16, {
        let mov = 0x5280_0000_u32 | u32::from(status) << 5;
        [mov, 0x5280_0ba8, 0xd400_0001].map(u32::to_le_bytes).concat()
    });
    let name = interpreter.map(|name| [name.as_bytes(), b"\0"].concat()).unwrap_or_default();
    let headers = 1 + u64::from(interpreter.is_some());
    let text = 64 + 56 * headers;
    let length = text + (code.len() + name.len()) as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let word = |bytes: &mut Vec<u8>, value: u64| bytes.extend(value.to_le_bytes());
    bytes.extend(2u16.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    for value in [base + text, 64, 0] {
        word(&mut bytes, value);
    }
    bytes.extend([0; 4]);
    for value in [64u16, 56, headers as u16, 0, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    let mut header = |kind: u32, flags: u32, fields: [u64; 6]| {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        fields.into_iter().for_each(|value| word(&mut bytes, value));
    };
    if interpreter.is_some() {
        let (at, long) = (text + code.len() as u64, name.len() as u64);
        header(3, 4, [at, base + at, base + at, long, long, 1]);
    }
    header(1, 5, [0, base, base, length, length, 0x1000]);
    bytes.extend(code);
    bytes.extend(name);
    bytes
}

impl Drop for Place {
    fn drop(&mut self) {
        // The directory is removed by its guard; attacks may have left the
        // parent renamed.
        let moved = format!("{}-moved", self.root.display());
        if fs::metadata(&moved).is_ok() && fs::metadata(&self.root).is_err() {
            let _ = fs::rename(moved, self.directory.path());
        }
    }
}
