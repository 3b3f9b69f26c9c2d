//! Two plugins that are replaced together, again and again, under a program
//! that makes judged calls as fast as it can.
//!
//! Of each set one plugin denies one call and the other plugin another, with
//! the set's own errno. So the program sees which set judged a call, that
//! nobody did, or that plugins of two sets did.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use host::config::Unsigned;
use host::output::{Destination, Output, Sink};
use host::plugin::{Dispatcher, Limits, Metering, Plugin, Runtime, Wanted, open};
use host::sight::Stats;
use host::tracer::{self, Options, Role, Signals, Stopping};
use host::trust::{Candidate, Demand, Keys, Origin, Signatures, Verified};

use crate::module::{CONFIGURED, Module, NAME, RULES, words};

/// The errno of each set.
const ERRNOS: [i32; 2] = [libc::EAGAIN, libc::ENOMEM];

/// What the program saw.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    pub calls: u64,
    /// Judged by a set of either errno.
    pub judged: [u64; 2],
    /// Run, though every set denies it.
    pub unjudged: u64,
    pub other: u64,
    pub seconds: f64,
    /// The longest call, and how many took longer than 10 ms.
    pub slowest_ms: f64,
    pub slow: u64,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub tally: Tally,
    /// Of each set but the first: milliseconds to load and configure it, and
    /// until it judged a call.
    pub loading_ms: Vec<f64>,
    pub taking_over_ms: Vec<f64>,
}

/// The program: calls until `stop` is there, then says what it saw.
pub fn program(stop: &Path, result: &Path) {
    let stop = std::ffi::CString::new(stop.as_os_str().as_encoded_bytes()).expect("a path has no NUL");
    let (mut tally, start) = (Tally::default(), Instant::now());
    // access(2) is not subscribed to.
    while !is_there(&stop) {
        for number in [libc::SYS_getppid, libc::SYS_getpgid].repeat(100) {
            let before = Instant::now();
            let errno = call(number);
            let took = before.elapsed().as_secs_f64() * 1e3;
            tally.calls += 1;
            tally.slowest_ms = tally.slowest_ms.max(took);
            tally.slow += u64::from(took > 10.0);
            match errno {
                None => tally.unjudged += 1,
                Some(errno) => match ERRNOS.iter().position(|known| *known == errno) {
                    Some(set) => tally.judged[set] += 1,
                    None => tally.other += 1,
                },
            }
        }
    }
    tally.seconds = start.elapsed().as_secs_f64();
    std::fs::write(result, serde_json::to_vec(&tally).expect("numbers")).expect("the result can be written");
}

#[allow(unsafe_code, reason = "system calls with numbers for arguments")]
fn call(number: libc::c_long) -> Option<i32> {
    // SAFETY: getppid and getpgid touch no memory.
    let result = unsafe { libc::syscall(number, 0) };
    (result < 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[allow(unsafe_code, reason = "a system call with a text")]
fn is_there(path: &std::ffi::CStr) -> bool {
    // SAFETY: the text ends with NUL.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}

/// A plugin that denies one of the two calls.
fn component(denied: libc::c_long, errno: i32) -> Vec<u8> {
    const ALLOW: u32 = 7000;
    const DENY: u32 = 7100;
    let names = b"getppid\0getpgid";
    let check = format!(
        "(call $drop (local.get 14))
         (if (result i32) (i32.eq (local.get 2) (i32.const {denied})) (then (i32.const {DENY})) (else (i32.const {ALLOW})))"
    );
    Module { check, ..Module::default() }
        .with(NAME + 64, *names)
        .with(RULES, words(&[NAME + 64, 7, 0, 0, 0, NAME + 72, 7, 0, 0, 0]))
        .with(CONFIGURED + 16, words(&[0, 0]))
        .with(ALLOW, words(&[0, 0, 0]))
        .with(DENY, words(&[1 | (errno as u32) << 16, 0, 0]))
        .encode()
}

fn load(runtime: &Arc<Runtime>, name: &str, component: &[u8]) -> anyhow::Result<Plugin> {
    let candidate = Candidate {
        bytes: component.to_vec().into(),
        origin: Origin::Local,
        name: name.to_owned(),
        signatures: Signatures::default(),
    };
    let keys = Keys::default();
    let demand = Demand { pin: None, keys: &keys, only: None, unsigned: Unsigned::Allow };
    let verified = Verified::check(candidate, demand)?;
    let opened = open(runtime, &verified)?;
    // Nobody reads the alerts, and a busy machine is no fault.
    let limits = Limits { alert_rate: 1, deadline: Duration::from_secs(10), ..Limits::default() };
    let wanted = Wanted { name: name.to_owned(), limits, ..Wanted::enforcing(&verified, &opened) };
    Ok(opened.configure(wanted)?)
}

/// The components of both sets.
type Components = [[Vec<u8>; 2]; 2];

fn make(runtime: &Arc<Runtime>, components: &Components, number: usize) -> anyhow::Result<Vec<Plugin>> {
    let [one, other] = &components[number % 2];
    Ok(vec![load(runtime, "one", one)?, load(runtime, "other", other)?])
}

/// Traces the program, which is this executable called with `words`, a path
/// to stop at and one for its result, and replaces the plugins `swaps` times.
/// To be called before any thread is started.
pub fn run(words: &[&str], swaps: usize) -> anyhow::Result<Outcome> {
    let signals = Signals::take(Role::Wrapper)?;
    let directory = tempfile::tempdir()?;
    let (stop, result) = (directory.path().join("stop"), directory.path().join("result"));
    let runtime = Arc::new(Runtime::new(Metering::Clock, None).map_err(|error| anyhow::anyhow!("{error:#}"))?);
    // A mixture of two sets lets one of the two calls pass.
    let pair = |errno| [component(libc::SYS_getpgid, errno), component(libc::SYS_getppid, errno)];
    let [even, odd] = ERRNOS.map(pair);
    let [one, other] = odd;
    let components = [even, [other, one]];
    let sink = Sink::open(&Destination::File(directory.path().join("alerts")))?;
    let first = make(&runtime, &components, 0)?;
    let mut judging: Arc<Stats> = first[0].stats();
    let mut dispatcher = Dispatcher::new(first, Stopping::new(), Output::new(vec![sink], None))?;
    let (successor, end) = (dispatcher.successor(), stop.clone());
    let swapper = std::thread::spawn(move || -> anyhow::Result<_> {
        let (mut loading, mut taking_over) = (Vec::new(), Vec::new());
        let mut swap_all = || {
            for number in 1..=swaps {
                until_called(&judging)?;
                let start = Instant::now();
                let set = make(&runtime, &components, number)?;
                loading.push(start.elapsed().as_secs_f64() * 1e3);
                judging = set[0].stats();
                let start = Instant::now();
                successor.succeed(set);
                until_called(&judging)?;
                taking_over.push(start.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(())
        };
        let swapped = swap_all();
        // Whatever happened, the program shall end.
        std::fs::write(end, "")?;
        swapped.map(|()| (loading, taking_over))
    });
    let mut command: Vec<OsString> = vec![std::env::current_exe()?.into()];
    command.extend(words.iter().map(OsString::from));
    command.extend([stop.into_os_string(), result.clone().into_os_string()]);
    let ended = tracer::run(&signals, &command, Options::default(), &mut dispatcher);
    let swapped = swapper.join().map_err(|_| anyhow::anyhow!("the swapping thread panicked"))?;
    dispatcher.finish()?;
    ended?;
    let (loading_ms, taking_over_ms) = swapped?;
    let text = std::fs::read(result).context("the program said nothing")?;
    Ok(Outcome { tally: serde_json::from_slice(&text)?, loading_ms, taking_over_ms })
}

/// Waits until a plugin has judged more calls.
fn until_called(stats: &Stats) -> anyhow::Result<()> {
    let calls = || stats.calls.load(Ordering::Relaxed);
    let (before, since) = (calls(), Instant::now());
    while calls() < before + 50 {
        ensure!(since.elapsed() < Duration::from_secs(30), "no call was judged for 30 s");
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}
