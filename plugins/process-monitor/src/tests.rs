use plugin_sdk::testing::{Event, PluginUnderTest};
use plugin_sdk::{Defect, Errno, Lane, PathState, Severity, Value};
use serde_json::json;

use super::ProcessMonitor;

type Monitor = PluginUnderTest<ProcessMonitor>;

fn rules(plugin: &mut Monitor, event: &Event) -> Vec<String> {
    plugin.alerts(event).into_iter().map(|alert| alert.rule).collect()
}

#[test]
fn every_program_is_reported() {
    let mut plugin = Monitor::new(json!({}));
    assert_eq!(plugin.subscription().lane(), Lane::Observe);
    let alerts = plugin.alerts(&Event::executed("/usr/bin/git", ["git", "log"]).uid(1000).parent(7).cwd("/src"));
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].rule.as_str(), alerts[0].severity), ("exec", Severity::Info));
    let expected = [("exe", "/usr/bin/git"), ("argv", "git log"), ("parent", "7"), ("uid", "1000"), ("cwd", "/src")];
    for (field, value) in expected {
        assert_eq!(alerts[0].get(field), Some(value), "{field}");
    }
}

#[test]
fn only_the_unexpected_are_reported_if_so_told() {
    let mut plugin = Monitor::new(json!({"report": "unexpected"}));
    assert!(rules(&mut plugin, &Event::executed("/usr/bin/git", ["git"])).is_empty());
    assert_eq!(rules(&mut plugin, &Event::executed("/tmp/x", ["x"])), ["unexpected-program"]);
    assert!(rules(&mut plugin, &Event::forked(2)).is_empty());
}

#[test]
fn programs_without_a_file_are_never_expected() {
    let mut plugin = Monitor::new(json!({"report": "unexpected", "allow": ["/"]}));
    for exe in ["/memfd:payload (deleted)", "/usr/bin/git (deleted)"] {
        let alerts = plugin.alerts(&Event::executed(exe, ["x"]));
        assert_eq!(alerts[0].severity, Severity::High, "{exe}");
    }
    assert!(rules(&mut plugin, &Event::executed("/tmp/x", ["x"])).is_empty());
}

#[test]
fn the_unexpected_is_refused_before_it_runs() {
    let mut plugin = Monitor::new(json!({"action": "deny", "errno": "EPERM", "allow": ["/usr/bin", "/srv/*/bin"]}));
    assert_eq!(plugin.subscription().lane(), Lane::Gate);
    assert!(!plugin.check(&Event::execve("/usr/bin/git", ["git"])).is_deny());
    assert!(!plugin.check(&Event::execve("/srv/a/bin/b", ["b"])).is_deny());

    let verdict = plugin.check(&Event::execve("x", ["x", "-y"]).cwd("/tmp"));
    assert_eq!(verdict.errno(), Some(Errno::EPERM));
    assert_eq!(verdict.alerts[0].get("exe"), Some("/tmp/x"));
    assert_eq!(verdict.alerts[0].get("argv"), Some("x -y"));

    let link = Event::execveat("/usr/bin/x", ["x"]).resolved("/memfd:x (deleted)");
    assert_eq!(plugin.check(&link).errno(), Some(Errno::EPERM));
}

#[test]
fn what_is_not_there_is_refused_as_the_kernel_would() {
    let mut plugin = Monitor::new(json!({"action": "deny"}));
    let missing = Event::execve("/root/bin/ls", ["ls"]).state(PathState::Missing);
    let verdict = plugin.check(&missing);
    assert_eq!(verdict.errno(), Some(Errno::ENOENT));
    assert!(verdict.alerts.is_empty());
}

#[test]
fn a_name_that_cannot_be_read_is_refused() {
    let mut plugin = Monitor::new(json!({"action": "deny"}));
    let event = Event::call("execve", [Value::Unreadable(Defect::Fault), Value::Absent, Value::Absent]);
    assert_eq!(plugin.check(&event).errno(), Some(Errno::EACCES));
}

#[test]
fn all_problems_are_listed() {
    let issues = Monitor::issues(json!({"allow": ["/ok", "bin", "/a/[b"], "errno": "EWHAT"}));
    assert_eq!(issues.len(), 3, "{issues:?}");
    assert!(issues[0].starts_with("/allow/1: \"bin\": a pattern must be absolute"), "{issues:?}");
    assert!(issues[1].starts_with("/allow/2"), "{issues:?}");
    assert!(issues[2].starts_with("/errno"), "{issues:?}");
    assert!(Monitor::issues(json!({"alow": []}))[0].starts_with("/alow: unknown field"));
}
