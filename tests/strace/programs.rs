//! The programs that are run under both tracers, and what they need.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program to compare.
pub struct Program {
    pub name: &'static str,
    pub command: Vec<String>,
    pub scope: Scope,
    /// At least so many calls must have been compared.
    pub at_least: usize,
}

/// Which calls are recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that `host record` records of itself.
    Default,
    /// All. For programs that do not share pipes or memory with one another,
    /// so that the sizes of what they read are a matter of chance.
    All,
}

/// Directories for all programs.
pub struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { root: tempfile::Builder::new().prefix("strace-").tempdir().unwrap() };
        std::fs::create_dir(place.fixtures()).unwrap();
        place
    }

    /// What programs only read.
    fn fixtures(&self) -> PathBuf {
        self.root.path().join("fixtures")
    }

    /// Where programs work; each starts with it empty.
    pub fn fresh_work(&self) -> PathBuf {
        let work = self.root.path().join("work");
        match std::fs::remove_dir_all(&work) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", work.display()),
            _ => {}
        }
        std::fs::create_dir_all(work.join("tmp")).unwrap();
        work
    }

    /// Where the tracers write.
    pub fn traces(&self, name: &str) -> PathBuf {
        let traces = self.root.path().join("traces").join(name);
        std::fs::create_dir_all(&traces).unwrap();
        traces
    }

    /// `command` in directory `directory` with the same small environment for
    /// all.
    pub fn command(&self, program: &str, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).env_clear().envs([
            ("PATH", "/usr/bin:/bin"),
            ("LANG", "C"),
            ("TZ", "UTC"),
            // How much memory is free at the top of the heap depends on the sizes in which data comes through a pipe;
            // so the heap grows in large steps and does not shrink.
            ("GLIBC_TUNABLES", "glibc.malloc.top_pad=16777216:glibc.malloc.trim_threshold=1073741824:glibc.malloc.mmap_threshold=1073741824"),
            // Python's order of sets, and no files beside its modules.
            ("PYTHONHASHSEED", "0"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            // No configuration but this, no threads, no housekeeping in the background.
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_COUNT", "4"),
            ("GIT_CONFIG_KEY_0", "pack.threads"),
            ("GIT_CONFIG_VALUE_0", "1"),
            ("GIT_CONFIG_KEY_1", "gc.auto"),
            ("GIT_CONFIG_VALUE_1", "0"),
            ("GIT_CONFIG_KEY_2", "maintenance.auto"),
            ("GIT_CONFIG_VALUE_2", "false"),
            ("GIT_CONFIG_KEY_3", "safe.directory"),
            ("GIT_CONFIG_VALUE_3", "*"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_AUTHOR_DATE", "1700000000 +0000"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_DATE", "1700000000 +0000"),
        ]);
        // So that PATHs are as long for both tracers and gcc's files are where `RANDOM_NAMES` looks.
        command.env("HOME", self.root.path()).env("TMPDIR", self.root.path().join("work/tmp"));
        command
    }

    fn make(&self, script: &str) {
        let output = self.command("sh", &self.fixtures()).args(["-ec", script]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The script of "sh with pipes".
const SCRIPT: &str = r#"
umask 027
mkdir -p a/b && cd a
for word in one two three; do echo "$word"; done | sort | tr a-z A-Z > sorted
wc -l < sorted
(cd b && pwd) | cat
cat <<END | grep -c n
one
two
END
ls missing 2>/dev/null || echo "no $(echo such) file"
kill -0 $$
ln -s sorted link && mv link moved && test -r moved && rm moved sorted
sh -c 'exit 3'
echo "status $?"
chmod 600 nothing 2>/dev/null
exec true
"#;

/// Makes what the programs need, and lists them.
pub fn programs(place: &Place) -> Vec<Program> {
    use Scope::{All, Default};
    place.make(
        "mkdir -p tree/a/b/c tree/empty
         for n in 1 2 3 4 5 6 7 8; do echo \"$n\" > tree/a/file$n; echo \"$n $n\" > tree/a/b/c/other$n.txt; done
         echo text > \"tree/a/with space and \\\"quotes\\\"\"; printf x > \"tree/$(printf 'b\\344d\\n')\"
         ln -s a/file1 tree/link; ln tree/a/file2 tree/hard; chmod 640 tree/a/file3
         find tree -exec touch -h -d '2024-01-02 03:04:05 UTC' {} +
         tar -czf archive.tar.gz tree",
    );
    place.make(
        "git init -q -b main repository && cd repository
         for n in 1 2 3; do echo \"$n\" > file$n; mkdir -p d$n; echo \"$n\" > d$n/file; git add .; git commit -qm \"$n\"; done
         git tag -a -m tag v1; git repack -adq; echo 4 > file4; git add .; git commit -qm 4",
    );
    std::fs::write(place.fixtures().join("hello.c"), "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n").unwrap();

    let program = |name, scope, at_least, command: &[&str]| Program {
        name,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        scope,
        at_least,
    };
    let at = |path: &str| place.fixtures().join(path).into_os_string().into_string().unwrap();
    let repository = at("repository");
    let url = format!("http://127.0.0.1:{}/file", serve().port());
    vec![
        program("git clone", Default, 300, &["git", "clone", &repository, "copy"]),
        program("git clone file://", Default, 500, &["git", "clone", &format!("file://{repository}"), "copy"]),
        program("python3", All, 500, &["python3", "-c", "import json,ssl"]),
        program("gcc", Default, 500, &["gcc", "-O1", "-o", "hello", &at("hello.c")]),
        program("tar create", Default, 100, &["tar", "-czf", "archive.tar.gz", "-C", &at(""), "tree"]),
        program("tar extract", Default, 150, &["tar", "-xzpf", &at("archive.tar.gz")]),
        program("find", All, 100, &["find", &at("tree"), "-type", "f", "-size", "+0", "-exec", "cat", "{}", "+"]),
        program("sh", Default, 500, &["sh", "-c", SCRIPT]),
        program("curl", Default, 300, &["curl", "-sS", "-o", "file", &url]),
    ]
}

/// A web server on the loopback interface, until the test ends.
fn serve() -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut request, mut bytes) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"\r\n\r\n") {
                match client.read(&mut bytes) {
                    Ok(length @ 1..) => request.extend_from_slice(&bytes[..length]),
                    _ => break,
                }
            }
            // How often curl looks for an answer must not depend on who is faster: it always waits.
            std::thread::sleep(std::time::Duration::from_millis(100));
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n");
        }
    });
    address
}
