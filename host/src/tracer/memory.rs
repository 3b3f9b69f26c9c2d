//! A tracee's memory, read while it is stopped.
//!
//! Never written: what a plugin judged is changed by no one, least of all us.

use libc::pid_t;

use super::sys;
use crate::decode::Memory;

/// The address space of a stopped task.
#[derive(Debug)]
pub(super) struct TraceeMemory(pub(super) pid_t);

impl Memory for TraceeMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        sys::read_memory(self.0, address, buffer)
    }
}
