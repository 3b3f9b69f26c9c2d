//! Plugins that are replaced while a program runs: nothing is missed, nothing
//! is judged twice or by half, and what is wrong changes nothing.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "reload/remote.rs"]
mod remote;
#[allow(dead_code, reason = "shared with the tests of sources")]
#[path = "sources/servers.rs"]
mod servers;
#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value as Json;
use support::{HOST, alerts_so_far, within};

/// Opens two files again and again, and tells when something is different.
const LOOP: &str = r#"
import os, sys, time
last, end = None, time.time() + 50
while time.time() < end and not os.path.exists(sys.argv[3]):
    now = []
    for name in sys.argv[1:3]:
        try:
            os.close(os.open(name, os.O_RDONLY))
            now.append("open")
        except OSError as error:
            now.append("denied" if error.errno == 13 else str(error))
    if now != last:
        print(*now, flush=True)
        last = now
"#;

struct Run {
    directory: tempfile::TempDir,
    host: Child,
    lines: Receiver<String>,
}

impl Run {
    /// The loop under a manifest.
    fn start(manifest: impl FnOnce(&Path) -> String) -> Self {
        Self::start_with(manifest, &[])
    }

    /// The same with these in the host's environment.
    fn start_with(manifest: impl FnOnce(&Path) -> String, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["a", "b"] {
            std::fs::write(at(name), name).unwrap();
        }
        let config = manifest(directory.path());
        write(&at("manifest.toml"), &config);
        // Nothing is forbidden to root as long as it has these.
        let mut host = Command::new("setpriv");
        if nix::unistd::geteuid().is_root() {
            host.arg("--bounding-set=-dac_override,-dac_read_search");
        }
        host.arg(HOST).args(["run", "--config"]).arg(at("manifest.toml")).arg("--alerts").arg(at("alerts"));
        host.args(["--", "python3", "-c", LOOP]).args([at("a"), at("b"), at("end")]);
        // What the machine's owner has set is no part of a test.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"AWS_")) {
            host.env_remove(name);
        }
        host.env("XDG_CACHE_HOME", at("cache")).envs(environment.iter().copied());
        let mut host = host.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(host.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { directory, host, lines }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The next thing that the program tells.
    #[track_caller]
    fn tells(&self, expected: &str) {
        match self.lines.recv_timeout(Duration::from_secs(20)) {
            Ok(line) => assert_eq!(line, expected),
            Err(error) => panic!("{expected:?} was never told: {error}; {:#?}", self.alerts()),
        }
    }

    /// The same after a swap of what is closed. Each pair of calls is judged by
    /// the one set or by the other; a swap between the two of a pair opens
    /// both or neither.
    #[track_caller]
    fn tells_after_a_swap(&self, expected: &str) {
        match self.lines.recv_timeout(Duration::from_secs(20)) {
            Ok(line) if line == "denied denied" || line == "open open" => self.tells(expected),
            Ok(line) => assert_eq!(line, expected),
            Err(error) => panic!("{expected:?} was never told: {error}; {:#?}", self.alerts()),
        }
    }

    fn alerts(&self) -> Vec<Json> {
        alerts_so_far(&self.at("alerts"))
    }

    /// Waits for an alert of the host's own.
    #[track_caller]
    fn waits_for(&self, rule: &str, message: &str) {
        let is = |alert: &Json| alert["rule"] == rule && alert["message"].as_str().unwrap().contains(message);
        within(Duration::from_secs(20), message, || self.alerts().iter().any(is).then_some(()));
    }

    /// Ends the program; what it told meanwhile.
    fn end(mut self) -> Vec<String> {
        std::fs::write(self.at("end"), "").unwrap();
        let status = self.host.wait().unwrap();
        assert!(status.success(), "{status}");
        self.lines.iter().collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

/// Writes a whole file at once.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A manifest that closes one file.
fn closing(path: &Path) -> String {
    let path = path.display().to_string();
    format!(
        "format = 1\nreload = {{ every-s = 1 }}\n[[plugins]]\nsource = \"builtin:sensitive-files\"\n\
         settings = {{ paths = [{path:?}] }}\n"
    )
}

#[test]
fn new_settings() {
    let run = Run::start(|at| closing(&at.join("a")));
    run.tells("denied open");
    write(&run.at("manifest.toml"), &closing(&run.at("b")));
    run.tells_after_a_swap("open denied");
    run.waits_for("plugins-replaced", "sensitive-files");
    assert_eq!(run.end(), [""; 0]);
}

/// What the filter of a program that runs already does not show.
#[test]
fn more_calls_than_before() {
    let monitor =
        "format = 1\nreload = { every-s = 1 }\n[[plugins]]\nsource = \"builtin:process-monitor\"\nmode = \"monitor\"\n";
    let run = Run::start(|_| monitor.to_owned());
    run.tells("open open");
    let both = format!("{}[[plugins]]\nsource = \"builtin:process-monitor\"\n", closing(&run.at("a")));
    write(&run.at("manifest.toml"), &both);
    run.tells("denied open");
    write(&run.at("manifest.toml"), monitor);
    run.tells("open open");
    write(&run.at("manifest.toml"), &both);
    run.tells("denied open");
    assert_eq!(run.end(), [""; 0]);
}

/// The set that runs goes on, and the operator is told, once.
#[test]
fn what_is_wrong_changes_nothing() {
    let run = Run::start(|at| closing(&at.join("a")));
    run.tells("denied open");
    let manifest = run.at("manifest.toml");
    let wrong = [
        (closing(&run.at("a")).replace("paths", "path"), "the settings of plugin"),
        ("format = 1\nplugins = 3\n".into(), "cannot be used"),
        ("format".into(), "not TOML"),
        (closing(&run.at("a")).replace("builtin:sensitive-files", "absent.wasm"), "cannot read"),
    ];
    for (text, said) in &wrong {
        write(&manifest, text);
        run.waits_for("plugins-not-replaced", said);
    }
    std::fs::remove_file(&manifest).unwrap();
    run.waits_for("plugins-not-replaced", "No such file");
    std::thread::sleep(Duration::from_secs(3));
    let told = run.alerts().iter().filter(|alert| alert["rule"] == "plugins-not-replaced").count();
    assert_eq!(told, wrong.len() + 1, "{:#?}", run.alerts());
    write(&manifest, &closing(&run.at("b")));
    run.waits_for("plugins-replaced", "sensitive-files");
    let told = run.end();
    assert_eq!(told.last().map(String::as_str), Some("open denied"), "{told:?}");
}

/// A plugin's file is replaced: by a rename, as a Kubernetes volume does it, and
/// written in pieces; its directory goes and comes back.
#[test]
fn new_files() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist");
    let (files, monitor) = (dist.join("sensitive-files.wasm"), dist.join("process-monitor.wasm"));
    let volume = |at: &Path, version: &str, plugin: &Path| {
        let directory = at.join("volume").join(version);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::copy(plugin, directory.join("plugin.wasm")).unwrap();
        let (link, new) = (at.join("volume/..data"), at.join("volume/..new"));
        symlink(version, &new).unwrap();
        std::fs::rename(new, link).unwrap();
    };
    let run = Run::start(|at| {
        volume(at, "..1", &monitor);
        symlink("..data/plugin.wasm", at.join("volume/plugin.wasm")).unwrap();
        "format = 1\nreload = { every-s = 1 }\n[[plugins]]\nsource = \"volume/plugin.wasm\"\n".into()
    });
    run.tells("open open");
    volume(run.directory.path(), "..2", &files);
    run.waits_for("plugins-replaced", "sensitive-files");
    volume(run.directory.path(), "..1", &monitor);
    run.waits_for("plugins-replaced", "process-monitor");
    std::fs::rename(run.at("volume"), run.at("away")).unwrap();
    run.waits_for("plugins-not-replaced", "cannot read");
    std::fs::rename(run.at("away"), run.at("volume")).unwrap();
    // Half of a plugin, then the whole.
    let (target, whole) = (run.at("volume/..1/plugin.wasm"), std::fs::read(&files).unwrap());
    std::fs::write(&target, &whole[..whole.len() / 2]).unwrap();
    run.waits_for("plugins-not-replaced", "plugin.wasm");
    std::fs::write(&target, &whole).unwrap();
    let replaced = || run.alerts().iter().filter(|alert| alert["rule"] == "plugins-replaced").count();
    within(Duration::from_secs(20), "the whole plugin runs", || (replaced() == 3).then_some(()));
    // One that may not be read, until it may.
    let permit = |mode| std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::copy(&monitor, run.at("new")).unwrap();
    std::fs::rename(run.at("new"), &target).unwrap();
    permit(0o000);
    run.waits_for("plugins-not-replaced", "Permission denied");
    permit(0o644);
    within(Duration::from_secs(20), "the permitted plugin runs", || (replaced() == 4).then_some(()));
    assert_eq!(run.end(), [""; 0]);
}

/// A directory stands for what is in it: plugins come and go, and so do their
/// settings.
#[test]
fn a_directory() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist");
    let put = |run: &Path, name: &str, plugin: &str| {
        let new = run.join("new");
        std::fs::copy(dist.join(plugin), &new).unwrap();
        std::fs::rename(new, run.join("plugins").join(name)).unwrap();
    };
    let run = Run::start(|at| {
        std::fs::create_dir(at.join("plugins")).unwrap();
        put(at, "monitor.wasm", "process-monitor.wasm");
        "format = 1\nreload = { every-s = 1 }\n[[plugins]]\nsource = \"plugins\"\n".into()
    });
    run.tells("open open");
    let settings = |name: &str| format!("{{\"paths\": [{:?}]}}", run.at(name));
    write(&run.at("plugins/files.json"), &settings("a"));
    put(run.directory.path(), "files.wasm", "sensitive-files.wasm");
    run.tells("denied open");
    write(&run.at("plugins/files.json"), &settings("b"));
    run.tells_after_a_swap("open denied");
    std::fs::remove_file(run.at("plugins/monitor.wasm")).unwrap();
    run.waits_for("plugins-replaced", "plugins were replaced: sensitive-files 0.1.0");
    std::fs::remove_file(run.at("plugins/files.wasm")).unwrap();
    run.waits_for("plugins-not-replaced", "has no plugin");
    assert_eq!(run.end(), [""; 0]);
}
