//! Plugins from servers: a store that speaks S3, a registry, web servers that
//! behave and that do not, and what a host does without any of them.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "sources/oci.rs"]
mod oci;
#[path = "sources/s3.rs"]
mod s3;
#[path = "sources/servers.rs"]
mod servers;
#[path = "support/mod.rs"]
mod support;
#[path = "sources/web.rs"]
mod web;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{HOST, Outcome, read_alerts, run_limited};

/// A plugin that reports every program, as the sources have it.
fn plugin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist/process-monitor.wasm")
}

/// A directory with keys, a signed plugin and a cache of its own.
struct Workshop {
    directory: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let workshop = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::copy(plugin(), workshop.at("plugin.wasm")).unwrap();
        workshop.ok(&["new-key", &workshop.path("mini")]);
        workshop.ok(&["new-key", "--kind", "ecdsa", &workshop.path("ecdsa")]);
        workshop.ok(&["new-key", &workshop.path("stranger")]);
        workshop.ok(&["sign-plugin", &workshop.path("plugin.wasm"), "--key", &workshop.path("mini.key")]);
        workshop
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// `--key NAME=@NAME.pub`.
    fn key(&self, name: &str) -> [String; 2] {
        ["--key".into(), format!("{name}=@{}", self.path(&format!("{name}.pub")))]
    }

    fn host(&self, arguments: &[impl AsRef<str>]) -> Command {
        let mut host = Command::new(HOST);
        host.args(arguments.iter().map(AsRef::as_ref)).env("XDG_CACHE_HOME", self.at("cache"));
        // What the machine's owner has set is no part of a test.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with("AWS_")))
        {
            host.env_remove(name);
        }
        host
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let outcome = Outcome::of(&run_limited(&mut self.host(arguments)));
        assert_eq!(outcome.status, 0, "{arguments:?}: {outcome:#?}");
        outcome.stdout
    }

    /// `run …` fails, and says this.
    #[track_caller]
    fn fails(&self, arguments: &[impl AsRef<str>], said: &str) {
        check_failure(&Outcome::of(&run_limited(self.host(arguments).args(["--", "true"]))), said);
    }

    /// Runs `true` under a plugin: the plugin must have seen it.
    #[track_caller]
    fn runs(&self, host: &mut Command) -> String {
        let alerts = self.at("alerts");
        let _ = std::fs::remove_file(&alerts);
        let outcome = Outcome::of(&run_limited(host.arg("--alerts").arg(&alerts).args(["--", "true"])));
        assert_eq!(outcome.status, 0, "{outcome:#?}");
        assert_eq!(read_alerts(&alerts).len(), 1, "{outcome:#?}");
        outcome.stderr
    }
}

#[track_caller]
fn check_failure(outcome: &Outcome, said: &str) {
    assert_ne!(outcome.status, 0, "{outcome:#?}");
    assert!(outcome.stderr.contains(said), "{said:?} is not in {outcome:#?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
}

/// `run` with this plugin.
fn run(reference: &str, options: &[String]) -> Vec<String> {
    [&["run".into(), "--plugin".into(), reference.to_owned()], options].concat()
}
