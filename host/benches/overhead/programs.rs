//! The programs that are traced: this very executable, started again with a
//! hidden argument. Each measures itself, so that no start-up is in the
//! figures, and none needs a compiler or a file of its own.
#![allow(unsafe_code, reason = "the standard library does not give out the clock's own number")]

use std::ffi::CString;
use std::io::{Read, Write};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use anyhow::{Context, bail};
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::samples::Samples;

/// `--loop CALL TIMES PATH`: prints nanoseconds a call, the median of
/// [`SLICES`] slices, so that other work that takes the CPU for a moment does
/// not count.
pub(crate) const LOOP: &str = "--loop";
/// `--beside COUNT PROGRAM…`: another program, in a process that has so many
/// threads that wait.
pub(crate) const BESIDE: &str = "--beside";
/// `--held PROGRAM…`: another program, once a byte comes on standard input; it
/// says that it waits.
pub(crate) const HELD: &str = "--held";
/// What it says.
pub(crate) const HOLDING: &str = "holding\n";
/// `--first`: prints the clock, as its very first action.
pub(crate) const FIRST: &str = "--first";
/// `--wait PATH`: opens the file a few thousand times, prints a line, and
/// ends with its standard input.
pub(crate) const WAIT: &str = "--wait";

const SLICES: u64 = 100;

/// A system call to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `openat` of an existing file for reading, and `close`.
    Openat,
    /// `getppid`: the kernel does next to nothing.
    Getppid,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Openat => "openat",
            Self::Getppid => "getppid",
        }
    }
}

/// Runs the program that the arguments name; none if they name none.
pub(crate) fn run(arguments: &[&str]) -> Option<anyhow::Result<()>> {
    Some(match arguments {
        [FIRST] => {
            println!("{}", monotonic_ns());
            Ok(())
        }
        [BESIDE, count, program @ ..] => return beside(count, program),
        [HELD, program @ ..] => return hold().map_or_else(|error| Some(Err(error)), |()| run(program)),
        [LOOP, call, times, path] => repeat(call, times, path),
        [WAIT, path] => wait(path),
        _ => return None,
    })
}

/// This thread works. It is the oldest, which `wait4(-1)` finds last.
fn beside(count: &str, program: &[&str]) -> Option<anyhow::Result<()>> {
    if let Err(error) = start_waiting(count) {
        return Some(Err(error));
    }
    run(program)
}

fn start_waiting(count: &str) -> anyhow::Result<()> {
    let count: usize = count.parse().context("COUNT is no number")?;
    let started = Arc::new(Barrier::new(count + 1));
    for _ in 0..count {
        let started = started.clone();
        std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            started.wait();
            loop {
                std::thread::park();
            }
        })?;
    }
    started.wait();
    Ok(())
}

fn hold() -> anyhow::Result<()> {
    print!("{HOLDING}");
    std::io::stdout().flush()?;
    std::io::stdin().read_exact(&mut [0]).context("was not let go")
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which is the same for all processes.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec` to `now`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn repeat(call: &str, times: &str, path: &str) -> anyhow::Result<()> {
    let times: u64 = times.parse().context("TIMES is no number")?;
    let path = CString::new(path)?;
    let measure: &dyn Fn(u64) -> anyhow::Result<()> = match call {
        "openat" => &|times| opens(&path, times),
        "getppid" => &|times| {
            for _ in 0..times {
                nix::unistd::getppid();
            }
            Ok(())
        },
        _ => bail!("no such call: {call}"),
    };
    measure(times / 10)?;
    let slice = (times / SLICES).max(1);
    let mut slices = Samples::default();
    for _ in 0..SLICES {
        let since = Instant::now();
        measure(slice)?;
        slices.push(since.elapsed().as_nanos() as f64 / slice as f64);
    }
    println!("{}", slices.median());
    Ok(())
}

fn opens(path: &CString, times: u64) -> anyhow::Result<()> {
    for _ in 0..times {
        // Closed at the end of the statement.
        let _file = openat(AT_FDCWD, path.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    }
    Ok(())
}

fn wait(path: &str) -> anyhow::Result<()> {
    opens(&CString::new(path)?, 5000)?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
