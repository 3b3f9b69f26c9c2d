//! What a plugin may use.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Limits of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest time for one call.
    pub deadline: Duration,
    /// Most linear memory, in bytes.
    pub memory: usize,
    /// Most alerts in a second; others are counted.
    pub alert_rate: u32,
    /// Most lines of the log in a second; others are counted.
    pub log_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_millis(10), memory: 64 << 20, alert_rate: 5000, log_rate: 100 }
    }
}

/// Elements of all tables together.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Refuses growth past the limits, and remembers that it did: the trap that
/// follows in the plugin then has a name.
#[derive(Debug)]
pub(super) struct Limiter {
    memory: usize,
    pub(super) refused: bool,
}

impl Limiter {
    pub(super) fn new(memory: usize) -> Self {
        Self { memory, refused: false }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.memory;
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= MAX_TABLE_ELEMENTS;
        self.refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        32
    }

    fn tables(&self) -> usize {
        32
    }

    fn memories(&self) -> usize {
        // One a plugin: the limit is on each memory.
        1
    }
}
