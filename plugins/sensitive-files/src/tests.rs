use plugin_sdk::constants::*;
use plugin_sdk::testing::{Event, PluginUnderTest};
use plugin_sdk::{Defect, Errno, Lane, PathState, Severity, Value};
use serde_json::json;

use super::SensitiveFiles;

type Plugin = PluginUnderTest<SensitiveFiles>;

/// A plugin that guards /guarded (a directory) in this way.
fn guarding(access: &str, action: &str) -> Plugin {
    Plugin::new(json!({"paths": ["/guarded"], "access": access, "action": action}))
}

#[track_caller]
fn denied(plugin: &mut Plugin, event: &Event) {
    assert!(plugin.check(event).is_deny(), "{} is not denied: {event:#?}", event.syscall());
}

#[track_caller]
fn allowed(plugin: &mut Plugin, event: &Event) {
    let verdict = plugin.check(event);
    assert!(!verdict.is_deny() && verdict.alerts.is_empty(), "{}: {verdict:?}", event.syscall());
}

#[test]
fn the_file_counts_and_not_its_name() {
    let mut plugin = Plugin::new(json!({}));
    denied(&mut plugin, &Event::openat("/etc/shadow"));
    denied(&mut plugin, &Event::openat("../etc/./shadow").cwd("/usr"));
    denied(&mut plugin, &Event::openat("shadow").dirfd(5, "/etc"));
    denied(&mut plugin, &Event::openat("/tmp/link").resolved("/etc/shadow"));
    denied(&mut plugin, &Event::open("/etc/shadow"));
    denied(&mut plugin, &Event::openat2("/etc/shadow"));
    denied(&mut plugin, &Event::openat("/root/.ssh/id_rsa").state(PathState::Missing));
    denied(&mut plugin, &Event::openat("/home/ann/.ssh/id_ed25519"));
    allowed(&mut plugin, &Event::openat("/etc/passwd"));
    allowed(&mut plugin, &Event::openat("/etc/shadow").resolved("/srv/root/etc/shadow"));
    allowed(&mut plugin, &Event::openat("/home/ann/.ssh/known_hosts"));
    allowed(&mut plugin, &Event::openat("/etc/ssh/ssh_host_rsa_key.pub"));
    allowed(&mut plugin, &Event::newfstatat("/etc/shadow"));
    allowed(&mut plugin, &Event::openat("/etc/shadow").flags(O_PATH));
    // Sudoers may be read but not written.
    allowed(&mut plugin, &Event::openat("/etc/sudoers"));
    denied(&mut plugin, &Event::openat("/etc/sudoers.d/x").flags(O_WRONLY | O_CREAT));
}

#[test]
fn an_alert_says_what_happened() {
    let mut plugin = Plugin::new(json!({}));
    let verdict = plugin.check(&Event::openat("shadow").cwd("/etc").exe("/bin/cat").pid(7));
    assert_eq!(verdict.errno(), Some(Errno::EACCES));
    let [alert] = &verdict.alerts[..] else { panic!("{verdict:?}") };
    assert_eq!((alert.rule.as_str(), alert.severity), ("sensitive-read", Severity::High));
    assert_eq!(alert.message, "cat[7] asks to read /etc/shadow (openat)");
    let fields = ["path", "raw_path", "access", "pattern"].map(|field| alert.get(field));
    let expected = ["/etc/shadow", "shadow", "read", "/etc/{shadow,gshadow}{,-,+}"].map(Some);
    assert_eq!(fields, expected);
}

#[test]
fn reading() {
    let mut plugin = guarding("read", "deny");
    for event in [
        Event::open("/guarded/x"),
        Event::openat("/guarded").flags(O_DIRECTORY),
        Event::openat("/guarded/x").flags(O_RDWR),
        Event::execve("/guarded/x", ["x"]),
        Event::execveat("/guarded/x", ["x"]),
        // Under another name it could be read.
        Event::rename("/guarded/x", "/tmp/x"),
        Event::linkat("/guarded/x", "/tmp/x"),
        Event::mount("/guarded", "/mnt", "").flags(MS_BIND),
        Event::mount("/", "/mnt", "").flags(MS_BIND | MS_REC),
    ] {
        denied(&mut plugin, &event);
    }
    for event in [
        Event::openat("/guarded/x").flags(O_WRONLY),
        Event::creat("/guarded/x"),
        Event::unlink("/guarded/x"),
        Event::chmod("/guarded/x", 0o777),
        Event::rename("/tmp/x", "/guarded/x"),
        Event::link("/tmp/x", "/guarded/x"),
    ] {
        allowed(&mut plugin, &event);
    }
    assert!(!plugin.asks(&Event::openat("/guarded/x").flags(O_WRONLY)));
}

#[test]
fn writing() {
    let mut plugin = guarding("write", "deny");
    for event in [
        Event::openat("/guarded/x").flags(O_WRONLY),
        Event::openat("/guarded/x").flags(O_RDWR),
        Event::openat("/guarded/x").flags(O_RDONLY | O_TRUNC),
        Event::openat("/guarded/x").flags(O_RDONLY | O_CREAT),
        Event::openat("/guarded").flags(O_TMPFILE | O_WRONLY),
        Event::openat2("/guarded/x").flags(O_WRONLY),
        Event::creat("/guarded/x"),
        Event::truncate("/guarded/x", 0),
        Event::unlink("/guarded/x"),
        Event::unlinkat("/guarded/x"),
        Event::rmdir("/guarded/x"),
        Event::mkdir("/guarded/x"),
        Event::mkdirat("/guarded/x"),
        Event::symlink("/tmp/x", "/guarded/x"),
        Event::link("/tmp/x", "/guarded/x"),
        Event::link("/guarded/x", "/tmp/x"),
        Event::rename("/guarded/x", "/tmp/x"),
        Event::rename("/tmp/x", "/guarded/x"),
        Event::renameat2("/tmp/x", "/guarded/x").flags(RENAME_EXCHANGE),
        Event::chmod("/guarded/x", 0o777),
        Event::fchmod(3, 0o777).descriptor(3, "/guarded/x"),
        Event::chown("/guarded/x", 0, 0),
        Event::utimensat("/guarded/x"),
        Event::setxattr("/guarded/x", "user.a"),
        Event::mount("tmpfs", "/guarded", "tmpfs"),
        Event::mount("", "/guarded", "").flags(MS_REMOUNT),
    ] {
        denied(&mut plugin, &event);
    }
    for event in [
        Event::openat("/guarded/x"),
        Event::execve("/guarded/x", ["x"]),
        Event::fchmod(3, 0o777).descriptor(3, "/tmp/x"),
        Event::fchmod(-1, 0o777),
    ] {
        allowed(&mut plugin, &event);
    }
    assert!(!plugin.asks(&Event::openat("/guarded/x")));
}

#[test]
fn directories_above() {
    let mut plugin = Plugin::new(json!({"paths": ["/srv/app/key", "/data/**/secret"]}));
    denied(&mut plugin, &Event::rename("/srv/app", "/srv/old"));
    denied(&mut plugin, &Event::rename("/tmp/app", "/srv/app"));
    denied(&mut plugin, &Event::renameat2("/srv", "/tmp/x").flags(RENAME_EXCHANGE));
    denied(&mut plugin, &Event::symlink("/tmp/app", "/srv/app"));
    denied(&mut plugin, &Event::mount("tmpfs", "/srv", "tmpfs"));
    denied(&mut plugin, &Event::rename("/data", "/d"));
    // What is below `**` could be anything.
    allowed(&mut plugin, &Event::rename("/data/a", "/data/b"));
    allowed(&mut plugin, &Event::mkdir("/srv/app"));
    allowed(&mut plugin, &Event::rmdir("/srv/app"));
    allowed(&mut plugin, &Event::chmod("/srv/app", 0o700));
    allowed(&mut plugin, &Event::openat("/srv/app").flags(O_DIRECTORY));
    allowed(&mut plugin, &Event::rename("/srv/other", "/srv/old"));
    // As `unshare -m` does.
    let path = |path: &str| Value::RawPath(path.into());
    let private = [path("none"), path("/"), Value::Absent, Value::Flags(MS_REC | MS_PRIVATE), Value::Absent];
    allowed(&mut plugin, &Event::call("mount", private));
    allowed(&mut plugin, &Event::mount("", "/proc", "proc"));
    denied(&mut plugin, &Event::mount("/srv/app", "/mnt", "ecryptfs"));
}

#[test]
fn overlays_show_files_elsewhere() {
    let mut plugin = guarding("read", "deny");
    let overlay = |options: &str| {
        let mut arguments =
            [Value::RawPath("x".into()), Value::RawPath("/mnt".into()), Value::Text("overlay".into())].to_vec();
        arguments.extend([Value::Flags(0), Value::Text(options.into())]);
        Event::call("mount", arguments)
    };
    denied(&mut plugin, &overlay("lowerdir=/a:/guarded/b,upperdir=/c"));
    denied(&mut plugin, &overlay("lowerdir=/"));
    denied(&mut plugin, &overlay("lowerdir=guarded"));
    allowed(&mut plugin, &overlay("lowerdir=/a:/b,upperdir=/c"));
    let option = |key: &str, value: &str| {
        let values = [Value::Text(key.into()), Value::Text(value.into()), Value::Int(0)];
        Event::call("fsconfig", [Value::Fd(3), Value::Flags(1)].into_iter().chain(values))
    };
    denied(&mut plugin, &option("lowerdir+", "/guarded"));
    allowed(&mut plugin, &option("lowerdir+", "/a"));
    allowed(&mut plugin, &option("source", "/guarded"));
}

#[test]
fn ways_around_names() {
    let mut plugin = guarding("any", "deny");
    let handle = |flags| Event::call("open_by_handle_at", [Value::Fd(3), Value::Uint(1), Value::Flags(flags)]);
    let verdict = plugin.check(&handle(O_RDONLY));
    assert_eq!((verdict.errno(), verdict.alerts[0].rule.as_str()), (Some(Errno::EACCES), "sensitive-bypass"));
    let verdict = plugin.check(&Event::call("io_uring_setup", [Value::Uint(8), Value::Uint(1)]));
    assert_eq!((verdict.errno(), verdict.alerts[0].severity), (Some(Errno::EPERM), Severity::Low));
    denied(&mut plugin, &Event::call("pivot_root", ["/new", "/new/old"].map(|path| Value::RawPath(path.into()))));
    denied(&mut plugin, &handle(O_PATH));
    allowed(&mut guarding("write", "deny"), &handle(O_RDONLY));
    denied(&mut guarding("write", "deny"), &handle(O_PATH));
}

/// Whatever the size of the structure and the upper half of the register.
#[test]
fn requests_of_file_systems() {
    let mut plugin = guarding("read", "deny");
    let ioctl = |request| Event::call("ioctl", [Value::Fd(3), Value::Flags(request), Value::Uint(0x1000)]);
    // XFS_IOC_OPEN_BY_HANDLE of both conventions, BTRFS_IOC_SNAP_CREATE_V2, BTRFS_IOC_TREE_SEARCH, OCFS2_IOC_REFLINK.
    for request in [0xc038_586b, 0xc01c_586b, 0x5000_9417, 0xd000_9411, 0x4018_6f04, 0xdead_beef_c038_586b] {
        let verdict = plugin.check(&ioctl(request));
        assert_eq!((verdict.errno(), verdict.alerts[0].rule.as_str()), (Some(Errno::EPERM), "sensitive-bypass"));
    }
    // TCGETS, FICLONE, FS_IOC_FIEMAP, UBI_IOCRPEB.
    for request in [0x5401, 0x4004_9409, 0xc020_660b, 0x4004_6f04] {
        allowed(&mut plugin, &ioctl(request));
    }
}

#[test]
fn what_cannot_be_known_is_refused() {
    let mut plugin = guarding("read", "deny");
    let here = Value::Fd(AT_FDCWD);
    let name = Value::Unreadable(Defect::Fault);
    let event = Event::call("openat", [here.clone(), name, Value::Flags(O_RDONLY)]);
    let verdict = plugin.check(&event);
    assert_eq!((verdict.errno(), verdict.alerts[0].rule.as_str()), (Some(Errno::EACCES), "sensitive-bypass"));
    // The name can be followed as text only: that is what counts.
    denied(&mut plugin, &Event::openat("/guarded/a/b").state(PathState::Unresolved));
    allowed(&mut plugin, &Event::openat("/other/a/b").state(PathState::Unresolved));
    // A structure that cannot be read could ask for anything.
    let how = Value::Unreadable(Defect::Fault);
    denied(&mut plugin, &Event::call("openat2", [here, Value::RawPath("/guarded/x".into()), how]));
}

#[test]
fn several_rules() {
    let mut plugin = Plugin::new(json!([
        {"paths": ["/a"], "action": "alert"},
        {"paths": ["/a/b"], "errno": "ENOENT"},
        {"paths": ["/a/*"], "errno": "EPERM"},
    ]));
    let verdict = plugin.check(&Event::openat("/a/b"));
    assert_eq!((verdict.errno(), verdict.alerts.len()), (Some(Errno::ENOENT), 3));
    let verdict = plugin.check(&Event::openat("/a/c"));
    assert_eq!((verdict.errno(), verdict.alerts.len()), (Some(Errno::EPERM), 2));
    let verdict = plugin.check(&Event::openat("/a"));
    assert_eq!((verdict.errno(), verdict.alerts[0].severity), (None, Severity::Medium));
}

#[test]
fn reporting_alone_does_not_keep_callers_waiting() {
    assert_eq!(guarding("any", "alert").subscription().lane(), Lane::Observe);
    assert_eq!(guarding("any", "deny").subscription().lane(), Lane::Gate);
}

#[test]
fn the_built_in_list_can_be_adjusted() {
    let mut plugin = Plugin::new(json!({"action": "alert"}));
    let verdict = plugin.check(&Event::openat("/etc/shadow"));
    assert_eq!((verdict.is_deny(), verdict.alerts.len()), (false, 1));
    let mut plugin = Plugin::new(json!({"access": "write"}));
    allowed(&mut plugin, &Event::openat("/etc/shadow"));
    denied(&mut plugin, &Event::openat("/etc/shadow").flags(O_RDWR));
}

#[test]
fn all_problems_are_listed() {
    let issues = Plugin::issues(json!([{"paths": ["/ok", "etc", "/a/[b"], "errno": "EWHAT"}, {"paths": []}]));
    let pointers: Vec<&str> = issues.iter().filter_map(|issue| issue.split(": ").next()).collect();
    assert_eq!(pointers, ["/0/errno", "/0/paths/1", "/0/paths/2", "/1/paths"], "{issues:?}");
    assert!(Plugin::issues(json!([]))[0].contains("no rule"));
    assert!(Plugin::issues(json!({"path": []}))[0].starts_with("/path: unknown field"));
    assert!(Plugin::issues(json!({"paths": "/etc"}))[0].starts_with("/paths: invalid type"));
    assert!(Plugin::issues(json!([{"access": "delete"}]))[0].starts_with("/0/access"));
}

#[test]
fn the_schema_describes_every_setting() {
    let schema: serde_json::Value = serde_json::from_str(&Plugin::describe().settings_schema).expect("JSON");
    let properties = &schema["$defs"]["RuleSettings"]["properties"];
    for setting in ["paths", "access", "action", "errno"] {
        assert!(properties[setting]["description"].is_string(), "{setting} in {schema:#}");
    }
}
