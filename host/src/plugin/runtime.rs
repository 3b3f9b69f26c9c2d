//! The Wasm engine, set up once, and what bounds a call's time.
//!
//! Live, a call is bounded by the clock: a ticker thread advances the
//! engine's epoch while calls are made, and sleeps while none are. On a busy
//! machine the clock runs while the plugin does not; a call that is late is
//! therefore given its deadline once more in processor time of its thread,
//! within bounds, before it is stopped ([`Overtime`]). In a
//! replay it is bounded by fuel, so that the same plugin on the same trace
//! stops at the same instruction on every machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store, Trap, UpdateDeadline};

use super::cache::Cache;
use super::imports::Context;
use super::limits::Limits;
use super::wit;
use crate::trust::Digest;

/// How calls are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// By the clock: for live tracing.
    Clock,
    /// By instructions executed: for replays.
    Fuel,
}

/// Fuel that stands for a millisecond of the deadline: about as many Wasm
/// instructions as a core of the year 2020 executes in it.
const FUEL_PER_MS: u64 = 1_000_000;
/// Length of an epoch while a call is under way.
const TICK: Duration = Duration::from_millis(1);
/// From one look for such a call to the next: a call can take so much longer
/// than its deadline. Most calls are over within microseconds, and on one
/// processor each look takes the tracee's time.
const LOOK: Duration = Duration::from_millis(4);
/// Native stack that a plugin may use.
const MAX_WASM_STACK: usize = 512 * 1024;

/// An engine with everything that plugins share.
pub struct Runtime {
    engine: Engine,
    linker: Linker<Context>,
    metering: Metering,
    ticker: Option<Arc<Ticker>>,
    cache: Option<Cache>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("metering", &self.metering).finish_non_exhaustive()
    }
}

impl Runtime {
    /// A runtime. Compiled code is kept in `cache`, if there is one.
    pub fn new(metering: Metering, cache: Option<Cache>) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config(metering))?;
        let mut linker = Linker::new(&engine);
        wit::PluginWithAllHooks::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |context| context)?;
        let ticker = (metering == Metering::Clock).then(|| Ticker::start(engine.clone())).transpose()?;
        Ok(Self { engine, linker, metering, ticker, cache })
    }

    pub(super) fn linker(&self) -> &Linker<Context> {
        &self.linker
    }

    /// Compiles a component with this digest, or takes its code from the cache.
    pub(super) fn compile(&self, component: &[u8], digest: Digest) -> wasmtime::Result<Component> {
        match &self.cache {
            Some(cache) => cache.get_or_compile(&self.engine, component, digest),
            None => Component::new(&self.engine, component),
        }
    }

    pub(super) fn store(&self, context: Context) -> Store<Context> {
        let mut store = Store::new(&self.engine, context);
        store.limiter(|context| &mut context.limiter);
        store.set_hostcall_fuel(MAX_TAKEN);
        if self.metering == Metering::Clock {
            store.epoch_deadline_callback(|mut store| {
                store.data_mut().overtime.extend(cpu_time(), Instant::now()).map(UpdateDeadline::Continue)
            });
        }
        store
    }

    /// Gives the next call its time, until what is returned is dropped.
    /// Fuel needs no ticker.
    pub(super) fn arm(&self, store: &mut Store<Context>, limits: &Limits) -> wasmtime::Result<Option<Running<'_>>> {
        let ms = limits.deadline.as_millis().max(1) as u64;
        match &self.ticker {
            Some(ticker) => {
                store.set_epoch_deadline(ms + 1);
                store.data_mut().overtime = Overtime::new(limits.deadline);
                Ok(Some(ticker.begin()))
            }
            None => store.set_fuel(ms * FUEL_PER_MS).map(|()| None),
        }
    }

    pub(super) fn metering(&self) -> Metering {
        self.metering
    }

    /// What a call that ran out of time is told.
    pub(super) fn overrun(&self, limits: &Limits) -> String {
        let ms = limits.deadline.as_millis().max(1) as u64;
        match self.metering {
            Metering::Clock => format!("it did not answer within {ms} ms"),
            Metering::Fuel => {
                format!("it did not answer within {} units of fuel, which stand for {ms} ms", ms * FUEL_PER_MS)
            }
        }
    }
}

/// Most bytes of an answer, or of what it calls us with, that are copied from a
/// plugin at once: several texts can share its memory.
const MAX_TAKEN: usize = 16 << 20;

fn config(metering: Metering) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(metering == Metering::Clock)
        .consume_fuel(metering == Metering::Fuel)
        // A call costs a multiple with it, and plugins do not await.
        .concurrency_support(false)
        // The same bits on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .max_wasm_stack(MAX_WASM_STACK)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false);
    config
}

/// How often its deadline a call may take by the clock, however busy the
/// machine.
const PATIENCE: u32 = 20;

/// The time of a call past its deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overtime {
    deadline: Duration,
    /// The thread's processor time and the clock when the deadline passed.
    since: Option<(Duration, Instant)>,
}

impl Overtime {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { deadline, since: None }
    }

    /// Epochs until the next look at a call that is late; an error if it must
    /// be stopped.
    fn extend(&mut self, cpu: Duration, now: Instant) -> wasmtime::Result<u64> {
        let (cpu_since, since) = *self.since.get_or_insert((cpu, now));
        let used_up = cpu.saturating_sub(cpu_since) >= self.deadline || now - since >= self.deadline * PATIENCE;
        if used_up { Err(Trap::Interrupt.into()) } else { Ok(1) }
    }
}

/// Processor time of this thread.
fn cpu_time() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Into::into)
}

/// A call whose time runs: it keeps the ticker awake.
#[derive(Debug)]
#[must_use = "the call's time ends with it"]
pub(super) struct Running<'t>(&'t Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Advances the epoch while calls are made.
#[derive(Debug)]
struct Ticker {
    /// Calls whose time runs.
    running: AtomicU32,
    /// A call was made since the last look.
    called: AtomicBool,
    asleep: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

/// Looks without a call before the ticker goes to sleep.
const IDLE_LOOKS: u32 = 12;

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicU32::new(0),
            called: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let of_thread = Arc::downgrade(&ticker);
        let handle = thread::Builder::new().name("ticker".into()).spawn(move || {
            let mut idle = 0;
            while let Some(ticker) = of_thread.upgrade() {
                engine.increment_epoch();
                let called = ticker.called.swap(false, Ordering::SeqCst);
                let runs = ticker.running.load(Ordering::SeqCst) > 0;
                idle = if called || runs { 0 } else { idle + 1 };
                if idle < IDLE_LOOKS {
                    drop(ticker);
                    thread::sleep(if runs { TICK } else { LOOK });
                    continue;
                }
                ticker.asleep.store(true, Ordering::SeqCst);
                // A call that came in between has seen us awake.
                if ticker.running.load(Ordering::SeqCst) == 0 && !ticker.called.load(Ordering::SeqCst) {
                    drop(ticker);
                    thread::park();
                } else {
                    ticker.asleep.store(false, Ordering::SeqCst);
                }
                idle = 0;
            }
        })?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    /// Counts a call in and sees to it that the ticker is awake.
    fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        // Both flags change rarely: a load is cheaper than a store.
        if !self.called.load(Ordering::Relaxed) {
            self.called.store(true, Ordering::SeqCst);
        }
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Running(self)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_call_is_stopped_by_its_own_time_or_by_patience() {
        let deadline = Duration::from_millis(10);
        let (ms, start) = (Duration::from_millis, Instant::now());
        let mut waiting = Overtime::new(deadline);
        assert!(waiting.extend(ms(5), start).is_ok());
        assert!(waiting.extend(ms(6), start + ms(150)).is_ok(), "others had the processor");
        assert!(waiting.extend(ms(15), start + ms(160)).is_err(), "its own time is used up");
        let mut starved = Overtime::new(deadline);
        assert!(starved.extend(ms(5), start).is_ok());
        assert!(starved.extend(ms(5), start + deadline * PATIENCE).is_err());
    }
}
