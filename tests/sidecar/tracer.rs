//! The host in a container of its own that shares a PID namespace, with
//! nothing but the right to trace.

use std::sync::Arc;

use crate::podman::{Container, Podman, wait_for};

/// What the host says once it has looked at all processes.
const ATTACHED: &str = "host: attached to";

/// The sidecar's privileges: as in the task definition of the example.
const RIGHTS: [&str; 3] = ["--cap-drop=ALL", "--cap-add=SYS_PTRACE", "--read-only"];

/// A PID namespace whose first process only keeps it, as a Fargate task and a
/// Kubernetes pod have.
pub(crate) struct Pod {
    pause: Container,
}

impl Pod {
    pub(crate) fn start(podman: &Arc<Podman>) -> Self {
        Self { pause: podman.start("pause", &[], &["/pause"]) }
    }

    /// The option that puts a container into it.
    pub(crate) fn option(&self) -> String {
        shares_with(&self.pause)
    }
}

/// The option that puts a container into another's PID namespace.
pub(crate) fn shares_with(container: &Container) -> String {
    format!("--pid=container:{}", container.name())
}

/// Starts `host attach` in the namespace, and does not wait for anything.
#[track_caller]
pub(crate) fn start(podman: &Arc<Podman>, namespace: &str, arguments: &[&str]) -> Container {
    let options = [&[namespace], &RIGHTS[..]].concat();
    podman.start("tracegate", &options, &[&["attach"], arguments].concat())
}

/// Starts `host attach`; returns once it has attached.
#[track_caller]
pub(crate) fn attach(podman: &Arc<Podman>, namespace: &str, arguments: &[&str]) -> Container {
    let sidecar = start(podman, namespace, arguments);
    wait_until_attached(&sidecar);
    sidecar
}

#[track_caller]
pub(crate) fn wait_until_attached(sidecar: &Container) {
    wait_for("the sidecar attaches", || {
        let alive = sidecar.lives();
        let said = attachments(sidecar) > 0;
        assert!(said || alive, "the sidecar ended: {}", sidecar.stderr());
        said.then_some(())
    });
}

/// How often a host in this container said that it has attached.
pub(crate) fn attachments(sidecar: &Container) -> usize {
    sidecar.stderr().lines().filter(|line| line.starts_with(ATTACHED)).count()
}
