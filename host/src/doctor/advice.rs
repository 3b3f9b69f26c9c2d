//! The settings that change what an environment allows, as each runtime
//! spells them.
//!
//! Fargate: of all capabilities only `SYS_PTRACE` can be added, and `pidMode`
//! can be `task`, from platform version 1.4.0 on (Amazon ECS API reference,
//! `KernelCapabilities` and `TaskDefinition`).

/// Settings to choose from.
pub(super) type Advice = Vec<String>;

fn lines(lines: &[&str]) -> Advice {
    lines.iter().map(|&line| line.to_owned()).collect()
}

/// The capability to trace, and to look at, other processes.
pub(super) fn sys_ptrace() -> Advice {
    lines(&[
        "Docker, podman: --cap-add=SYS_PTRACE",
        r#"Kubernetes: securityContext.capabilities.add: ["SYS_PTRACE"]"#,
        r#"ECS, Fargate 1.4.0+: "linuxParameters": {"capabilities": {"add": ["SYS_PTRACE"]}}"#,
    ])
}

/// A user who has the capabilities that the container has.
pub(super) fn user_with_capabilities() -> Advice {
    lines(&[
        "Docker, Kubernetes and ECS put added capabilities in force for root only:",
        "Docker, podman: --user=0",
        "Kubernetes: securityContext.runAsUser: 0",
        r#"ECS, Fargate: "user": "0" in the container definition"#,
    ])
}

/// One PID namespace for the application and us.
pub(super) fn shared_pid_namespace() -> Advice {
    lines(&[
        "Docker, podman: --pid=container:APPLICATION",
        "Kubernetes: shareProcessNamespace: true in the pod's spec",
        r#"ECS, Fargate 1.4.0+: "pidMode": "task" in the task definition"#,
    ])
}

/// A seccomp profile that lets these calls pass.
pub(super) fn seccomp_profile(calls: &str) -> Advice {
    vec![format!(
        "A seccomp profile that allows {calls} (Docker, podman: --security-opt seccomp=FILE; Kubernetes: \
         securityContext.seccompProfile, type Localhost; unconfined shows whether the profile is the cause)"
    )]
}

/// Yama's scope.
pub(super) fn yama(scope: &str) -> Advice {
    let mut advice = vec![format!("On the machine itself: sysctl -w kernel.yama.ptrace_scope={scope}")];
    advice.extend(sys_ptrace());
    advice
}

/// Set-user-ID programs keep their rights.
pub(super) fn allow_new_privileges() -> Advice {
    lines(&[
        "Docker, podman: leave out --security-opt no-new-privileges",
        "Kubernetes: securityContext.allowPrivilegeEscalation: true",
    ])
}

/// A writable directory for compiled plugins.
pub(super) fn cache_directory() -> Advice {
    lines(&[
        "Set XDG_CACHE_HOME to a directory that our user can write, or mount one there:",
        "Docker, podman: --mount type=tmpfs,destination=/cache --env XDG_CACHE_HOME=/cache",
        "Kubernetes: an emptyDir volume at /cache, env XDG_CACHE_HOME=/cache",
        r#"ECS, Fargate: a volume without "host", "mountPoints" at /cache, XDG_CACHE_HOME=/cache"#,
    ])
}
