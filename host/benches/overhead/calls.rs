//! What a system call costs, traced in every way.

use std::process::Command;

use anyhow::Context;

use super::floor::{FILTERED, FLOOR};
use super::placement::Placement;
use super::programs::{Call, LOOP};
use super::samples::Samples;
use super::setup::{OPENED, Setup, output_of, raw_path};

/// A way to run the loop.
#[derive(Debug)]
pub(crate) struct Variant {
    /// By which the targets refer to it.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) call: Call,
    under: Under,
    /// In the order of [`Placement::ALL`].
    pub(crate) samples: [Samples; 2],
    /// Why a round, the last that did, failed.
    pub(crate) failure: Option<String>,
}

#[derive(Clone, Debug)]
enum Under {
    Nothing,
    /// A filter that allows everything.
    Filter,
    Floor,
    /// `host run` with these options.
    Host(Vec<String>),
    Strace,
}

/// Ten paths that are never opened, exact ones and patterns, as an operator
/// would give them.
const PROTECTED: &str = r#"sensitive-files={"paths": [
    "/etc/shadow", "/etc/gshadow", "/root/.ssh", "/srv/secrets", "/etc/ssl/private", "/home/*/.ssh/id_*",
    "/var/lib/app/**/*.pem", "/etc/kubernetes/*.conf", "/run/secrets", "/opt/vault/data"
], "access": "any", "action": "deny"}"#;
const WRITES_ONLY: &str = r#"sensitive-files={"paths": ["/etc", "/srv/secrets"], "access": "write"}"#;
const SENSITIVE: [&str; 2] = ["--plugin", "builtin:sensitive-files"];

impl Variant {
    fn new(key: &'static str, title: &'static str, call: Call, under: Under) -> Self {
        Self { key, title, call, under, samples: [Samples::default(), Samples::default()], failure: None }
    }

    /// All of them, the bases of comparison first.
    pub(crate) fn all() -> Vec<Self> {
        use Call::{Getppid, Openat};
        let host = |options: &[&[&str]]| Under::Host(options.concat().into_iter().map(String::from).collect());
        let raw = raw_path().display().to_string();
        let named = |number: u32| ["--plugin".to_owned(), format!("raw-{number}={raw}")];
        let raws = |count: u32| Under::Host((1..=count).flat_map(named).collect());
        let four_and_sensitive = Under::Host((1..=4).flat_map(named).chain(SENSITIVE.map(String::from)).collect());
        vec![
            Self::new("native", "no tracer", Openat, Under::Nothing),
            Self::new("filter", "no tracer, a filter that allows everything", Openat, Under::Filter),
            Self::new("floor", "the floor: a tracer that does nothing", Openat, Under::Floor),
            Self::new("raw", "host, 1 plugin, raw path", Openat, raws(1)),
            Self::new(
                "resolved",
                "host, sensitive-files, 10 paths",
                Openat,
                host(&[&SENSITIVE, &["--settings", PROTECTED]]),
            ),
            Self::new("defaults", "host, sensitive-files, defaults", Openat, host(&[&SENSITIVE])),
            Self::new("relative", "host, sensitive-files, defaults, relative name", Openat, host(&[&SENSITIVE])),
            Self::new("five-raw", "host, 5 plugins, raw path", Openat, raws(5)),
            Self::new("five", "host, 5 plugins: 4 raw path, sensitive-files", Openat, four_and_sensitive),
            Self::new("strace", "strace -f --seccomp-bpf -e trace=openat", Openat, Under::Strace),
            Self::new(
                "excluded",
                "host, excluded by a predicate (writes only)",
                Openat,
                host(&[&SENSITIVE, &["--settings", WRITES_ONLY]]),
            ),
            Self::new("other-native", "no tracer", Getppid, Under::Nothing),
            Self::new("other-filter", "no tracer, a filter that allows everything", Getppid, Under::Filter),
            Self::new("unsubscribed", "host, subscribed by nobody", Getppid, host(&[&SENSITIVE])),
        ]
    }

    /// Takes one sample.
    fn measure(&mut self, setup: &Setup, placement: usize) {
        match Placement::ALL[placement].during(|| self.ns_per_call(setup, Placement::ALL[placement])) {
            Ok(ns) => self.samples[placement].push(ns),
            Err(error) => {
                self.samples[placement].push_failure();
                self.failure = Some(format!("{error:#}"));
            }
        }
    }

    fn ns_per_call(&self, setup: &Setup, placement: Placement) -> anyhow::Result<f64> {
        let mut command = match &self.under {
            Under::Nothing => {
                let mut itself = Command::new(&setup.itself);
                itself.arg(LOOP);
                itself
            }
            Under::Filter => Self::through(setup, Command::new(&setup.itself), &[FILTERED]),
            Under::Floor => Self::through(setup, Command::new(&setup.itself), &[FLOOR]),
            Under::Host(options) => {
                Self::through(setup, setup.host(["run"].into_iter().chain(options.iter().map(String::as_str))), &["--"])
            }
            Under::Strace => {
                let options = ["-f", "--seccomp-bpf", "-e", "trace=openat", "-o", "/dev/null"];
                Self::through(setup, Command::new("strace"), &options)
            }
        };
        // A relative name is looked up from the working directory.
        let name = if self.key == "relative" { OPENED.into() } else { setup.opened() };
        command.current_dir(setup.scratch.path());
        command.arg(self.call.name()).arg(setup.times(self.repetitions(placement)).to_string()).arg(name);
        let printed = output_of(&mut command)?;
        printed.trim().parse().with_context(|| format!("the loop printed {printed:?} instead of a number"))
    }

    fn through(setup: &Setup, mut tracer: Command, options: &[&str]) -> Command {
        tracer.args(options).arg(&setup.itself).arg(LOOP);
        tracer
    }

    /// So many that a sample takes less than a tenth of a second: the load of
    /// a machine changes in seconds, and a round should not see it change.
    fn repetitions(&self, placement: Placement) -> u64 {
        let stops =
            !matches!(self.under, Under::Nothing | Under::Filter) && !matches!(self.key, "excluded" | "unsubscribed");
        match (stops, self.call, placement) {
            (true, _, Placement::Together) => 5_000,
            (true, _, Placement::Free) => 2_000,
            (false, Call::Openat, _) => 30_000,
            (false, Call::Getppid, _) => 300_000,
        }
    }
}

/// Measures all variants, one after the other in each round, so that a drift
/// of the machine meets all of them alike.
pub(crate) fn measure(setup: &Setup) -> Vec<Variant> {
    let mut variants = Variant::all();
    for round in 1..=setup.rounds {
        if round % 5 == 1 {
            eprintln!("calls: round {round} of {}", setup.rounds);
        }
        for placement in 0..Placement::ALL.len() {
            for variant in &mut variants {
                variant.measure(setup, placement);
            }
        }
    }
    variants
}
