//! `host attach` and `host record --pid`, end to end: what runs already comes
//! under the plugins' eyes and out of them, and notices nothing but denials.
//!
//! The applications are `tests/attach/app.rs`. A host here attaches only to
//! processes of its own test: by number, or by a word in their command line.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::doc_markdown,
    clippy::format_push_string,
    clippy::needless_for_each,
    reason = "tests' prose and small loops"
)]

#[path = "support/mod.rs"]
mod support;

#[path = "attach/application.rs"]
mod application;
#[path = "attach/process.rs"]
mod process;
#[path = "attach/tracer.rs"]
mod tracer;

#[path = "attach/all.rs"]
mod all;
#[path = "attach/death.rs"]
mod death;
#[path = "attach/inject.rs"]
mod inject;
#[path = "attach/output.rs"]
mod output;
#[path = "attach/races.rs"]
mod races;
#[path = "attach/refused.rs"]
mod refused;
#[path = "attach/threads.rs"]
mod threads;
