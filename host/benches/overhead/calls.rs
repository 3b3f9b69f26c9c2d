//! What a system call costs, traced in every way.

use std::process::Command;

use anyhow::Context;

use super::attach::{self, Attached, Held};
use super::floor::{FILTERED, FLOOR};
use super::placement::Placement;
use super::programs::{BESIDE, Call, LOOP};
use super::samples::Samples;
use super::setup::{OPENED, Setup, output_of, raw_path};

/// What belongs together: one table, and one section of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Opens,
    Unsubscribed,
    Tasks,
    Attached,
}

impl Table {
    pub(crate) const ALL: [Self; 4] = [Self::Opens, Self::Unsubscribed, Self::Tasks, Self::Attached];

    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Opens | Self::Unsubscribed => "calls",
            Self::Tasks => "tasks",
            Self::Attached => "attached",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Opens => "An openat of an existing file, and its close (ns)",
            Self::Unsubscribed => "A getppid (ns)",
            Self::Tasks => "The same openat and close, beside threads that wait (ns)",
            Self::Attached => "The same in a program that was attached to (ns)",
        }
    }
}

/// A way to run the loop.
#[derive(Debug)]
pub(crate) struct Variant {
    /// By which the targets refer to it.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) table: Table,
    under: Under,
    /// Threads that wait, beside the one that calls.
    idle: usize,
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
    /// `host attach` with these options.
    HostAttached(Vec<String>),
    StraceAttached,
}

/// Ten paths that are never opened, exact ones and patterns, as an operator
/// would give them.
const PROTECTED: &str = r#"sensitive-files={"paths": [
    "/etc/shadow", "/etc/gshadow", "/root/.ssh", "/srv/secrets", "/etc/ssl/private", "/home/*/.ssh/id_*",
    "/var/lib/app/**/*.pem", "/etc/kubernetes/*.conf", "/run/secrets", "/opt/vault/data"
], "access": "any", "action": "deny"}"#;
const WRITES_ONLY: &str = r#"sensitive-files={"paths": ["/etc", "/srv/secrets"], "access": "write"}"#;
const SENSITIVE: [&str; 2] = ["--plugin", "builtin:sensitive-files"];
/// Puts the filter into a program that runs already.
const INJECT: &str = "--inject-filter";

fn host(options: &[&[&str]]) -> Under {
    Under::Host(options.concat().into_iter().map(String::from).collect())
}

/// The plugin of examples/raw-path, under a name of its own.
fn named_raw(number: u32) -> Vec<String> {
    vec!["--plugin".to_owned(), format!("raw-{number}={}", raw_path().display())]
}

fn raws(count: u32) -> Under {
    Under::Host((1..=count).flat_map(named_raw).collect())
}

impl Variant {
    fn new(key: &'static str, title: &'static str, table: Table, under: Under) -> Self {
        let samples = [Samples::default(), Samples::default()];
        Self { key, title, table, under, idle: 0, samples, failure: None }
    }

    /// The same with so many threads that wait.
    fn beside(mut self, idle: usize) -> Self {
        self.idle = idle;
        self
    }

    /// All of those tables, the bases of comparison first.
    pub(crate) fn all(setup: &Setup, tables: &[Table]) -> Vec<Self> {
        let mut all = Self::opens();
        all.extend(Self::unsubscribed());
        all.extend(Self::among_tasks());
        all.extend(Self::attached(setup));
        all.retain(|variant| tables.contains(&variant.table));
        all
    }

    fn opens() -> Vec<Self> {
        let new = |key, title, under| Self::new(key, title, Table::Opens, under);
        let four_and_sensitive = Under::Host((1..=4).flat_map(named_raw).chain(SENSITIVE.map(String::from)).collect());
        vec![
            new("native", "no tracer", Under::Nothing),
            new("filter", "no tracer, a filter that allows everything", Under::Filter),
            new("floor", "the floor: a tracer that does nothing", Under::Floor),
            new("raw", "host, 1 plugin, raw path", raws(1)),
            new("resolved", "host, sensitive-files, 10 paths", host(&[&SENSITIVE, &["--settings", PROTECTED]])),
            new("defaults", "host, sensitive-files, defaults", host(&[&SENSITIVE])),
            new("threaded", "host, sensitive-files, defaults, beside a thread", host(&[&SENSITIVE])).beside(1),
            new("relative", "host, sensitive-files, defaults, relative name", host(&[&SENSITIVE])),
            new("five-raw", "host, 5 plugins, raw path", raws(5)),
            new("five", "host, 5 plugins: 4 raw path, sensitive-files", four_and_sensitive),
            new("strace", "strace -f --seccomp-bpf -e trace=openat", Under::Strace),
            new(
                "excluded",
                "host, excluded by a predicate (writes only)",
                host(&[&SENSITIVE, &["--settings", WRITES_ONLY]]),
            ),
        ]
    }

    fn unsubscribed() -> Vec<Self> {
        let new = |key, title, under| Self::new(key, title, Table::Unsubscribed, under);
        vec![
            new("other-native", "no tracer", Under::Nothing),
            new("other-filter", "no tracer, a filter that allows everything", Under::Filter),
            new("unsubscribed", "host, subscribed by nobody", host(&[&SENSITIVE])),
        ]
    }

    /// In monitor mode, so that the number of threads alone makes a
    /// difference: what can be denied is also protected from other threads.
    fn among_tasks() -> Vec<Self> {
        let new = |key, title, under| Self::new(key, title, Table::Tasks, under);
        let mut monitor = named_raw(1);
        monitor.extend(["--mode".into(), "raw-1=monitor".into()]);
        let monitor = || Under::Host(monitor.clone());
        vec![
            new("tasks-1", "host, 1 plugin, raw path, monitor mode, no other", monitor()),
            new("tasks-100", "host, 1 plugin, raw path, monitor mode, 99 others", monitor()).beside(99),
            new("tasks-1000", "host, 1 plugin, raw path, monitor mode, 999 others", monitor()).beside(999),
            new("tasks-strace-1", "strace -f --seccomp-bpf -e trace=openat, no other", Under::Strace),
            new("tasks-strace-1000", "strace -f --seccomp-bpf -e trace=openat, 999 others", Under::Strace).beside(999),
        ]
    }

    fn attached(setup: &Setup) -> Vec<Self> {
        let new = |key, title, under| Self::new(key, title, Table::Attached, under);
        let raw = || named_raw(1);
        let mut all = vec![
            new("attached-native", "no tracer", Under::Nothing),
            new("attached", "host attach, 1 plugin, raw path", Under::HostAttached(raw())),
            new("attached-strace", "strace -f -e trace=openat -p", Under::StraceAttached),
        ];
        if attach::host_knows(setup, INJECT) {
            let options = raw().into_iter().chain([INJECT.into()]).collect();
            all.push(new("injected", "host attach --inject-filter, 1 plugin, raw path", Under::HostAttached(options)));
        }
        all
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
        // A relative name is looked up from the working directory.
        let name = if self.key == "relative" { OPENED.into() } else { setup.opened().display().to_string() };
        let times = setup.times(self.repetitions(placement)).to_string();
        let the_loop = [LOOP, self.call().name(), &times, &name];
        let printed = match &self.under {
            Under::HostAttached(options) => {
                self.attached_to(setup, &the_loop, |pid| attach::host(setup, options, pid))?
            }
            Under::StraceAttached => self.attached_to(setup, &the_loop, attach::strace)?,
            _ => output_of(self.launched(setup).args([BESIDE, &self.idle.to_string()]).args(the_loop))?,
        };
        printed.trim().parse().with_context(|| format!("the loop printed {printed:?} instead of a number"))
    }

    /// What a program printed that a tracer came to.
    fn attached_to(&self, setup: &Setup, program: &[&str], tracer: impl Fn(u32) -> Command) -> anyhow::Result<String> {
        let program = Held::start(setup, self.idle, program)?;
        let attached = Attached::start(&mut tracer(program.pid()))?;
        let printed = program.go();
        attached.leave()?;
        printed
    }

    /// The benchmark's executable, started in this way.
    fn launched(&self, setup: &Setup) -> Command {
        let mut command = match &self.under {
            Under::HostAttached(_) | Under::StraceAttached | Under::Nothing => Command::new(&setup.itself),
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
        command.current_dir(setup.scratch.path());
        command
    }

    fn through(setup: &Setup, mut tracer: Command, options: &[&str]) -> Command {
        tracer.args(options).arg(&setup.itself);
        tracer
    }

    fn call(&self) -> Call {
        if self.table == Table::Unsubscribed { Call::Getppid } else { Call::Openat }
    }

    /// So many that a sample takes less than a tenth of a second: the load of
    /// a machine changes in seconds, and a round should not see it change.
    fn repetitions(&self, placement: Placement) -> u64 {
        let stops =
            !matches!(self.under, Under::Nothing | Under::Filter) && !matches!(self.key, "excluded" | "unsubscribed");
        let attached = self.table == Table::Attached;
        match (stops, self.call(), placement) {
            // Four stops instead of one.
            (true, ..) if attached => 1_000,
            (true, _, Placement::Together) => 5_000,
            (true, _, Placement::Free) => 2_000,
            (false, Call::Openat, _) => 30_000,
            (false, Call::Getppid, _) => 300_000,
        }
    }
}

/// Measures all variants, one after the other in each round, so that a drift
/// of the machine meets all of them alike.
pub(crate) fn measure(setup: &Setup, tables: &[Table]) -> Vec<Variant> {
    let mut variants = Variant::all(setup, tables);
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
