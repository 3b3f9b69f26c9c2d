//! Containers for real: the host as the entry point of an application's
//! container, and as a sidecar that shares its PID namespace with one.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "sidecar/application.rs"]
mod application;
#[path = "sidecar/attach.rs"]
mod attach;
#[path = "sidecar/death.rs"]
mod death;
#[path = "sidecar/entry_point.rs"]
mod entry_point;
#[path = "sidecar/examples.rs"]
mod examples;
#[path = "sidecar/podman.rs"]
mod podman;
#[path = "support/mod.rs"]
mod support;
#[path = "sidecar/tracer.rs"]
mod tracer;

use application::Application;

/// Options of the host: the vault is closed.
const DENY: [&str; 4] = [
    "--plugin",
    "builtin:sensitive-files",
    "--settings",
    r#"sensitive-files={"paths":["/vault"],"access":"any","action":"deny"}"#,
];

/// Every way to the vault is closed, and the rest is open. Twelve denials.
#[track_caller]
fn the_vault_is_closed(application: &Application) {
    for way in ["open", "thread", "fork", "spawn"] {
        for (path, answer) in [
            ("/vault/secret", "EACCES"),
            ("/alias/secret", "EACCES"),
            ("/public/../vault/secret", "EACCES"),
            ("/public/page", "ok"),
            ("/missing", "ENOENT"),
        ] {
            assert_eq!(application.ask(&format!("{way} {path}")), answer, "{way} {path}");
        }
    }
}

/// Nobody judges: the vault is open.
#[track_caller]
fn the_vault_is_open(application: &Application) {
    for way in ["open", "thread", "fork", "spawn"] {
        assert_eq!(application.ask(&format!("{way} /vault/secret")), "ok", "{way}");
    }
}
