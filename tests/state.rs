//! What plugins keep: over runs, over a host that is killed while it writes,
//! over the plugin's replacement.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{HOST, Outcome, alerts_so_far, run_limited, test_plugin, within};

fn counter() -> PathBuf {
    test_plugin("counter")
}

/// Changes a mode so many times.
const CHANGE: &str = "import os, sys\nfor _ in range(int(sys.argv[2])): os.chmod(sys.argv[1], 0o600)";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.at("file"), "").unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn host(&self, options: &[&str], count: u32) -> Command {
        let mut host = Command::new(HOST);
        host.args(["run", "--plugin"]).arg(counter()).args(options).arg("--alerts").arg(self.at("alerts"));
        host.args(["--", "python3", "-c", CHANGE]).arg(self.at("file")).arg(count.to_string());
        host
    }

    /// What the plugin said, in order.
    fn counts(&self, options: &[&str], count: u32) -> Vec<u64> {
        let _ = std::fs::remove_file(self.at("alerts"));
        let outcome = Outcome::of(&run_limited(&mut self.host(options, count)));
        assert_eq!(outcome.status, 0, "{outcome:#?}");
        self.told()
    }

    fn told(&self) -> Vec<u64> {
        let alerts = alerts_so_far(&self.at("alerts"));
        let count = |alert: &serde_json::Value| {
            let (count, twin) = alert["message"].as_str()?.split_once(", twin ")?;
            assert_eq!(twin, format!("{count}, kept true"), "both were written, or none");
            count.parse().ok()
        };
        alerts.iter().filter_map(count).collect()
    }
}

#[test]
fn over_runs() {
    let place = Place::new();
    let state = place.at("state");
    let keeping = ["--state", state.to_str().unwrap()];
    assert_eq!(place.counts(&keeping, 3), [0, 1, 2]);
    assert_eq!(place.counts(&keeping, 2), [3, 4]);
    assert_eq!(place.counts(&[], 2), [0, 1], "without a directory nothing outlives the run");
    let other = format!("other={}", counter().display());
    let outcome = Outcome::of(&run_limited(
        Command::new(HOST)
            .args(["run", "--plugin", &other])
            .args(keeping)
            .arg("--alerts")
            .arg(place.at("alerts"))
            .args(["--", "python3", "-c", CHANGE])
            .arg(place.at("file"))
            .arg("1"),
    ));
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    assert_eq!(place.told().last(), Some(&0), "another plugin has its own");
    let none = ["--state", state.to_str().unwrap(), "--grant", "counter=none"];
    let outcome = Outcome::of(&run_limited(&mut place.host(&none, 1)));
    assert_eq!(outcome.status, 125, "{outcome:#?}");
    assert!(outcome.stderr.contains("asks for state, which is not granted"), "{outcome:#?}");
    // Only we can look at it.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&state).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

/// Killed again and again while it writes: what is there after is what was
/// there at some moment, and never less than before.
#[test]
fn over_hosts_that_are_killed() {
    let place = Place::new();
    let state = place.at("state");
    let keeping = ["--state", state.to_str().unwrap()];
    let mut last = 0;
    for round in 0..20 {
        let _ = std::fs::remove_file(place.at("alerts"));
        let mut host = place.host(&keeping, 1_000_000).stdout(Stdio::null()).spawn().unwrap();
        within(Duration::from_secs(20), "it counts", || {
            std::fs::metadata(place.at("alerts")).is_ok_and(|found| found.len() > 0).then_some(())
        });
        std::thread::sleep(Duration::from_millis(10 + 7 * round));
        host.kill().unwrap();
        host.wait().unwrap();
        let first = place.counts(&keeping, 1)[0];
        assert!(first >= last, "{first} after {last}");
        last = first;
    }
    assert!(last > 20, "some of it was written: {last}");
}

/// The count goes on under another version of the plugin.
#[test]
fn over_a_replacement() {
    let place = Place::new();
    let manifest = |step: u32| {
        let text = format!(
            "format = 1\nreload = {{ every-s = 1 }}\n[[plugins]]\nsource = {:?}\nsettings = {{ step = {step} }}\n",
            counter().display().to_string()
        );
        std::fs::write(place.at("new"), text).unwrap();
        std::fs::rename(place.at("new"), place.at("manifest.toml")).unwrap();
    };
    manifest(1);
    let script = "import os, sys, time\nwhile not os.path.exists(sys.argv[2]):\n os.chmod(sys.argv[1], 0o600)\n time.sleep(0.002)";
    let mut host = Command::new(HOST);
    host.args(["run", "--config"]).arg(place.at("manifest.toml")).arg("--alerts").arg(place.at("alerts"));
    host.args(["--", "python3", "-c", script]).arg(place.at("file")).arg(place.at("end"));
    let mut host = host.spawn().unwrap();
    let counted = |steps: usize| {
        let told = place.told();
        (told.windows(2).filter(|pair| pair[1] - pair[0] == 1000).count() > steps).then_some(())
    };
    within(Duration::from_secs(20), "it counts", || (place.told().len() > 50).then_some(()));
    manifest(1000);
    within(Duration::from_secs(20), "it counts in greater steps", || counted(10));
    std::fs::write(place.at("end"), "").unwrap();
    assert!(host.wait().unwrap().success());
    let told = place.told();
    assert_eq!(told[0], 0);
    assert!(told.windows(2).all(|pair| [1, 1000].contains(&(pair[1] - pair[0]))), "no step is missing: {told:?}");
}
