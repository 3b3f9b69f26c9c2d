//! Containers for tests: podman with a storage of its own in a temporary
//! directory, so that the machine's containers and images are not touched.
//! Every container is removed when its value goes, the storage with the last
//! test that uses it; a container whose test was killed ends by itself.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::support::{HOST, run_limited};

/// No condition is waited for longer.
const LIMIT: Duration = Duration::from_mins(1);

/// No container lives longer, whatever became of its test.
const LIFETIME: &str = "600";

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    crate::support::within(LIMIT, what, condition)
}

/// podman with its storage and the images that the tests use.
pub(crate) struct Podman {
    directory: tempfile::TempDir,
}

impl Podman {
    /// The storage that running tests share. The last to end removes it, for
    /// a static value is never dropped.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Podman>> = Mutex::new(Weak::new());
        // A test that failed here leaves nothing behind that is half done.
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let podman = Arc::new(Self::new());
            *shared = Arc::downgrade(&podman);
            podman
        })
    }

    fn new() -> Self {
        let needs = "the sidecar tests need root, and podman with runc: \
                     apt-get install --no-install-recommends podman runc busybox-static";
        let runs = |program| Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success());
        assert!(nix::unistd::geteuid().is_root() && runs("podman") && runs("runc"), "{needs}");
        let podman = Self { directory: tempfile::tempdir().unwrap() };
        let at = |name: &str| podman.directory.path().join(name).display().to_string();
        // Locks in files: those in shared memory are one set for the machine.
        // A kernel may refuse limits above the engine's own, which are the
        // defaults otherwise.
        let engine = format!(
            "[containers]\nlog_driver = \"k8s-file\"\nnetns = \"none\"\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"file\"\n\
             lock_type = \"file\"\ntmp_dir = \"{}\"\n",
            at("tmp")
        );
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n", at("storage"), at("run"));
        fs::write(at("containers.conf"), engine).unwrap();
        fs::write(at("storage.conf"), storage).unwrap();
        podman.images();
        let tried = podman.output(&["run", "--rm", "app", "/sidecar_app", "open", "/vault/secret"]);
        assert!(tried.status.success() && tried.stdout == b"ok\n", "podman cannot run a container; {needs}\n{tried:?}");
        podman
    }

    /// The application's image `app`; `wrapped`, an application's image that
    /// the host was added to; the sidecar's `tracegate`, which has nothing but
    /// the host; and `tracegate-shell`, which has a shell and a misleading
    /// file beside.
    fn images(&self) {
        let app = Path::new(HOST).with_file_name("examples").join("sidecar_app");
        assert!(
            app.exists(),
            "{} is missing: `cargo test` builds it, `cargo test --test NAME` does not: \
             run `cargo build --release --example sidecar_app`",
            app.display()
        );
        let app = app.to_str().unwrap();
        let busybox = "/bin/busybox";
        assert!(Path::new(busybox).exists(), "{busybox} is missing: apt-get install busybox-static");
        // What the application's mount namespace has, and the sidecar's has
        // not, or has as something else.
        let files = self.directory.path().join("files");
        fs::create_dir_all(files.join("vault")).unwrap();
        fs::create_dir_all(files.join("public")).unwrap();
        fs::write(files.join("vault/secret"), "secret\n").unwrap();
        fs::write(files.join("public/page"), "page\n").unwrap();
        std::os::unix::fs::symlink("/vault", files.join("alias")).unwrap();
        let elsewhere = self.directory.path().join("elsewhere");
        fs::create_dir_all(elsewhere.join("alias")).unwrap();
        fs::write(elsewhere.join("alias/secret"), "another file\n").unwrap();
        self.image("app", &[app, busybox], Some(&files), &[]);
        self.image("wrapped", &[HOST, app, busybox], Some(&files), &[]);
        let pause = self.directory.path().join("pause");
        fs::copy(app, &pause).unwrap();
        self.image("pause", &[pause.to_str().unwrap()], None, &[]);
        self.image("tracegate", &[HOST], None, &["--change", r#"ENTRYPOINT ["/host"]"#]);
        self.image("tracegate-shell", &[HOST, busybox], Some(&elsewhere), &[]);
    }

    /// An image as the example makes it, and `files` beside.
    fn image(&self, name: &str, programs: &[&str], files: Option<&Path>, options: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sidecar/image.sh");
        let made = run_limited(Command::new(script).args(programs));
        assert!(made.status.success(), "image.sh: {}", String::from_utf8_lossy(&made.stderr));
        let tar = self.directory.path().join("image.tar");
        fs::write(&tar, made.stdout).unwrap();
        if let Some(files) = files {
            // By their names: podman takes no archive that has `.` twice.
            let names = fs::read_dir(files).unwrap().map(|entry| entry.unwrap().file_name());
            let more = run_limited(Command::new("tar").arg("-rf").arg(&tar).arg("-C").arg(files).args(names));
            assert!(more.status.success(), "tar: {}", String::from_utf8_lossy(&more.stderr));
        }
        self.done(&[&["import", "--quiet"], options, &[tar.to_str().unwrap(), name]].concat());
        fs::remove_file(tar).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        let mut podman = Command::new("podman");
        let directory = self.directory.path();
        podman.env("CONTAINERS_CONF", directory.join("containers.conf"));
        podman.env("CONTAINERS_STORAGE_CONF", directory.join("storage.conf"));
        podman
    }

    /// What a podman command came to.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        run_limited(self.command().args(arguments))
    }

    /// What a podman command that succeeds says.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "podman {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Starts `command` in a container made with `options`.
    #[track_caller]
    pub(crate) fn start(self: &Arc<Self>, image: &str, options: &[&str], command: &[&str]) -> Container {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sidecar-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let shared = tempfile::tempdir_in(self.directory.path()).unwrap();
        // Containers run as several users.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(shared.path(), mode).unwrap();
        let mut container = Container { podman: Arc::clone(self), name, shared, pid: 0 };
        let volume = format!("{}:/shared", container.shared.path().display());
        let log = format!("path={}", container.log_path().display());
        let fixed = [
            "run",
            "--detach",
            "--timeout",
            LIFETIME,
            "--name",
            &container.name,
            "--volume",
            &volume,
            "--log-opt",
            &log,
        ];
        self.done(&[&fixed, options, &[image], command].concat());
        container.pid = self.done(&["inspect", "--format", "{{.State.Pid}}", &container.name]).parse().unwrap();
        container
    }
}

impl Podman {
    /// Removes a container. Never panics: that would hide the panic of the
    /// test that failed.
    fn remove(&self, container: &str) {
        let mut limited = Command::new("timeout");
        limited.args(["--signal", "KILL", "60", "podman", "rm", "--force", "--time", "0", container]);
        limited.envs(self.command().get_envs().filter_map(|(name, value)| Some((name, value?))));
        match limited.output() {
            Ok(removed) if removed.status.success() => {}
            failed => eprintln!("podman rm {container}: {failed:?}"),
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.remove("--all");
        // A storage with something mounted cannot be removed.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let inside = self.directory.path().to_str().unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(inside))
        {
            let _ = Command::new("umount").arg("--lazy").arg(point).status();
        }
    }
}

/// A container that was started; removed with its value.
pub(crate) struct Container {
    podman: Arc<Podman>,
    name: String,
    /// The volume `/shared`.
    shared: tempfile::TempDir,
    /// Its first process, as this PID namespace counts; 0 if it ended at once.
    pub(crate) pid: i32,
}

impl Container {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A file of the volume `/shared`.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.shared.path().join(name)
    }

    fn log_path(&self) -> PathBuf {
        self.podman.directory.path().join(format!("{}.log", self.name))
    }

    /// What it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.written("stderr")
    }

    pub(crate) fn stdout(&self) -> String {
        self.written("stdout")
    }

    /// Each line of the log is `TIME STREAM F|P TEXT`; a line of the program
    /// that is long comes in parts, P but for the last.
    fn written(&self, stream: &str) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let mut text = String::new();
        for line in String::from_utf8_lossy(&log).lines() {
            let parts: Vec<&str> = line.splitn(4, ' ').collect();
            match parts[..] {
                [_, of, "F", part] if of == stream => writeln!(text, "{part}").unwrap(),
                [_, of, "P", part] if of == stream => text.push_str(part),
                _ => {}
            }
        }
        text
    }

    /// The alerts on standard error: whole lines only.
    pub(crate) fn alerts(&self) -> Vec<serde_json::Value> {
        let is_alert = |line: &&str| line.starts_with('{');
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stderr().lines().filter(is_alert).map(parse).collect()
    }

    /// Sends a signal to its first process.
    #[track_caller]
    pub(crate) fn kill(&self, signal: &str) {
        self.podman.done(&["kill", "--signal", signal, &self.name]);
    }

    /// SIGTERM, and SIGKILL if it does not end in time; gives its status.
    #[track_caller]
    pub(crate) fn stop(&self) -> i32 {
        self.podman.done(&["stop", "--time", "40", &self.name]);
        self.status()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn status(&self) -> i32 {
        self.podman.done(&["wait", &self.name]).parse().unwrap()
    }

    /// Whether its first process is alive. That is the truth a little before
    /// podman knows.
    pub(crate) fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, fs::read_to_string(self.log_path()).unwrap_or_default());
        }
        self.podman.remove(&self.name);
    }
}
