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
            // so the heap grows in large steps and does not shrink. A thread's own heap is cut to size, by how much
            // depends on its address; so threads have none.
            (
                "GLIBC_TUNABLES",
                "glibc.malloc.top_pad=16777216:glibc.malloc.trim_threshold=1073741824:\
                 glibc.malloc.mmap_threshold=1073741824:glibc.malloc.arena_max=1",
            ),
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
        ]);
        command.envs(crate::support::GIT_IDENTITY);
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

/// Calls that the other programs do not make; many fail, which is as good.
/// strace shows netlink messages as what they mean, leaves out a NUL at the
/// end of an attribute's value, and knows interfaces by name: these are not
/// here.
const CALLS: &str = r#"
import fcntl, os, resource, select, signal, socket, threading
def attempt(call, *arguments, **named):
    try: return call(*arguments, **named)
    except OSError: pass
here = os.open('.', os.O_RDONLY | os.O_DIRECTORY)
fd = os.open('file', os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC, 0o640)
for call, *arguments in [
    (os.open, 'file', os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), (os.open, 'file', os.O_RDONLY | os.O_NOATIME | os.O_PATH),
    (os.open, '.', os.O_RDWR | os.O_TMPFILE, 0o600), (os.open, 'x' * 5000, os.O_RDONLY), (os.open, b'\xff\n"\\\x7f1', os.O_RDONLY),
    (os.link, 'file', 'hard'), (os.symlink, 'file', 'soft'), (os.readlink, 'soft'), (os.readlink, 'file'), (os.rename, 'hard', 'moved'),
    (os.mkdir, 'directory', 0o1777), (os.rmdir, 'directory'), (os.mkfifo, 'fifo', 0o600), (os.mknod, 'node', 0o600),
    (os.truncate, 'file', 100), (os.ftruncate, fd, 5), (os.chmod, 'file', 0o4755), (os.fchmod, fd, 0), (os.chown, 'file', -1, -1),
    (os.lchown, 'soft', -1, 0), (os.fchown, fd, 0, -1), (os.access, 'file', os.R_OK | os.X_OK), (os.access, 'nothing', os.F_OK),
    (os.utime, 'file', (1, 2)), (os.utime, 'file'), (os.setxattr, 'file', 'user.a', b'value'), (os.getxattr, 'file', 'user.a'),
    (os.listxattr, 'file'), (os.removexattr, 'file', 'user.b'), (os.statvfs, '.'), (os.fstatvfs, fd), (os.fsync, fd), (os.fdatasync, fd),
    (os.posix_fallocate, fd, 0, 10), (fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB), (fcntl.fcntl, fd, fcntl.F_GETFL),
    (fcntl.fcntl, fd, fcntl.F_SETFL, os.O_NONBLOCK), (fcntl.fcntl, fd, fcntl.F_SETFD, 1), (fcntl.fcntl, fd, fcntl.F_DUPFD_CLOEXEC, 20),
    (fcntl.lockf, fd, fcntl.LOCK_EX), (os.dup, fd), (os.dup2, fd, 30), (os.dup2, fd, 31, False), (os.pipe2, os.O_NONBLOCK | os.O_CLOEXEC),
    (os.memfd_create, 'name', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), (os.eventfd, 3, os.EFD_CLOEXEC | os.EFD_SEMAPHORE | os.EFD_NONBLOCK),
    (os.pidfd_open, 0), (os.kill, os.getpid(), 0), (os.kill, os.getpid(), signal.SIGCONT), (os.umask, 0o077), (os.chdir, 'nothing'),
    (os.fchdir, here), (os.setsid,), (os.getsid, 0), (os.setpgid, 0, 0), (os.getpgid, 0), (os.setgid, os.getgid()), (os.setuid, os.getuid()),
    (os.setresuid, -1, -1, -1), (os.setreuid, -1, os.getuid()), (os.nice, 1), (resource.setrlimit, resource.RLIMIT_CORE, (0, 4096)),
    (resource.getrlimit, resource.RLIMIT_NOFILE), (os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0)), (os.splice, -1, -1, 10),
    (os.copy_file_range, fd, fd, 1, 0, 5), (os.getrandom, 4), (os.execve, '/nothing', ['a', 'b "c"', ''], {'A': '1', 'B': ''}),
    (os.execve, here, ['x'], {}),
]: attempt(call, *arguments)
attempt(os.unlink, 'moved', dir_fd=here); attempt(os.rename, 'file', 'renamed', src_dir_fd=here, dst_dir_fd=here)
attempt(os.link, 'soft', 'hard', follow_symlinks=False); attempt(os.stat, 'soft', follow_symlinks=False)
attempt(os.access, 'soft', os.W_OK, effective_ids=True, follow_symlinks=False); attempt(os.utime, 'soft', ns=(1, 2), follow_symlinks=False)
for family, kind, address in [
    (socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', 1)), (socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, ('127.0.0.2', 53)),
    (socket.AF_INET6, socket.SOCK_STREAM, ('::1', 1, 7, 0)), (socket.AF_UNIX, socket.SOCK_STREAM, 'socket'),
    (socket.AF_UNIX, socket.SOCK_DGRAM, '\0abstract'), (socket.AF_NETLINK, socket.SOCK_RAW, (0, 1)),
]:
    s = attempt(socket.socket, family, kind)
    if not s: continue
    attempt(s.connect, address)
    if address == 'socket': attempt(s.bind, address)
    for level, option in [(socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_CORK),
        (socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)]:
        attempt(s.setsockopt, level, option, 1); attempt(s.getsockopt, level, option)
    attempt(s.listen, 5); attempt(s.shutdown, socket.SHUT_WR)
    if family != socket.AF_NETLINK:
        attempt(s.sendto, b'data\n', socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, address)
        attempt(s.sendmsg, [b'one', b'two'], [], socket.MSG_DONTWAIT, address)
    s.close()
thread = threading.Thread(target=os.chdir, args=('.',)); thread.start(); thread.join()
select.select([], [], [], 0.2) # join does not wait for the thread's very end
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
    std::fs::write(place.fixtures().join("calls.py"), CALLS).unwrap();
    std::fs::write(
        place.fixtures().join("hello.c"),
        "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n",
    )
    .unwrap();

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
        program("python3 calls", Default, 400, &["python3", &at("calls.py")]),
        program("gcc", Default, 500, &["gcc", "-O1", "-o", "hello", &at("hello.c")]),
        program("tar create", Default, 100, &["tar", "-czf", "archive.tar.gz", "-C", &at(""), "tree"]),
        program("tar extract", Default, 150, &["tar", "-xzpf", &at("archive.tar.gz")]),
        program("find", All, 100, &["find", &at("tree"), "-type", "f", "-size", "+0", "-exec", "cat", "{}", "+"]),
        program("sh", Default, 500, &["sh", "-c", SCRIPT]),
        program("curl", Default, 200, &["curl", "-sS", "-o", "file", &url]),
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
