//! Registers and tracee memory → [`Call`].
//!
//! What the tracee passes is hostile: every read is bounded, and every
//! argument that cannot be read becomes a defined value. Decoding has no
//! error and never panics.
//!
//! This module never asks the file system and never touches a tracee's
//! state; where a name leads is worked out by `tracer::resolve`, on demand.

mod abi;
mod address;
mod argument;
mod describe;
mod flags;
mod socketcall;
mod spec;
mod structs;
mod table;

pub use abi::{Arch, known_name};
pub use address::{Parsed, family_name};
pub use argument::{Memory, NoMemory, complete, decode, environment, strings};
pub use describe::{describe, strings as describe_strings};
pub use socketcall::demultiplex;
pub use spec::{Arg, Changes, Field, FlagSet, Follow, Kind, PathRule, Show, Spec, StructField, StructSpec};
