//! Tracegate's host: runs a program under ptrace and asks WebAssembly
//! plugins what each of its system calls may do.
//!
//! The modules are the stages of an event's way, in order:
//!
//! * [`tracer`] stops a call that somebody subscribed to,
//! * [`decode`] makes an [`event`] of its registers and memory,
//! * [`plugin`] asks the plugins and makes one decision, which the tracer
//!   carries out,
//! * [`output`] tells people, [`sight`] shows what goes on, [`recording`] keeps it for a replay.
//!
//! [`config`] is what the operator wants, [`source`] finds plugins, [`trust`]
//! says which may run, [`supply`] makes sets of them. [`doctor`] tells what an environment allows,
//! [`cli`] is the command line. ARCHITECTURE.md has the map and the invariants.

pub mod tracer;

pub mod decode;

pub mod event;

pub mod config;

pub mod source;

pub mod trust;

pub mod supply;

pub mod plugin;

pub mod output;

pub mod sight;

pub mod recording;

pub mod doctor;

mod bounded;
mod budget;

mod private_dir;

mod schema;

pub mod cli;
