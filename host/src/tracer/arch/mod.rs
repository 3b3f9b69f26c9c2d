//! What differs from processor to processor at a stop: where the number and
//! the result of a system call live.
//!
//! One file an architecture, each with the same functions; the tracer knows
//! only this module.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::*;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("Tracegate runs on x86-64 and AArch64");
