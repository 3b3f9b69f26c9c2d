//! The task definition and the pod of `examples/sidecar` say what is tested
//! here.

use std::path::Path;

use serde_json::Value as Json;

use crate::application::{Application, SIMPLE};
use crate::podman::{Podman, wait_for};
use crate::tracer::{self, Pod};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sidecar").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The sidecar of the task definition, and its command.
fn of_task() -> (Json, Vec<String>) {
    let task: Json = serde_json::from_str(&example("fargate-task.json")).unwrap();
    assert_eq!(task["pidMode"], "task");
    let containers = task["containerDefinitions"].as_array().unwrap();
    let sidecar = containers.iter().find(|container| container["name"] == "tracegate").unwrap();
    let command = serde_json::from_value(sidecar["command"].clone()).unwrap();
    (sidecar.clone(), command)
}

#[test]
fn the_task_definition_works() {
    let (sidecar, command) = of_task();
    // What `tracer::start` does with podman.
    assert_eq!(sidecar["linuxParameters"]["capabilities"], serde_json::json!({"drop": ["ALL"], "add": ["SYS_PTRACE"]}));
    assert_eq!(
        (&sidecar["readonlyRootFilesystem"], &sidecar["user"], &sidecar["essential"]),
        (&true.into(), &"0".into(), &false.into())
    );
    assert_eq!(command[0], "attach");

    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let application = Application::start(&podman, &[&pod.option()], SIMPLE);
    let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
    let sidecar = tracer::attach(&podman, &pod.option(), &arguments);
    // With the embedded plugins.
    assert_eq!(application.ask("open /etc/shadow"), "EACCES");
    assert_eq!(application.ask("open /public/page"), "ok");
    wait_for("the alert", || sidecar.stdout().contains(r#""rule":"sensitive-read""#).then_some(()));
    assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
    application.is_as_before();
}

#[test]
fn the_pod_says_the_same_as_the_task() {
    let (_, command) = of_task();
    let pod = example("kubernetes-pod.yaml");
    let value = |key: &str| pod.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().trim();
    let arguments: Vec<String> = serde_json::from_str(value("args:")).unwrap();
    assert_eq!(arguments, command);
    for (key, expected) in [
        ("shareProcessNamespace:", "true"),
        ("readOnlyRootFilesystem:", "true"),
        ("runAsUser:", "0"),
        ("drop:", r#"["ALL"]"#),
        ("add:", r#"["SYS_PTRACE"]"#),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
}
