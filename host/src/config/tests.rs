#![allow(clippy::unwrap_used)]

use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    Source { origin: "tracegate.toml", text, directory: Some(Path::new("/etc/tracegate")) }
        .read(&Config::running(Vec::new()))
}

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

#[test]
fn a_whole_manifest() {
    let config = read(&format!(
        r#"
        format = 1
        alerts = ["stderr", "alerts.jsonl"]
        state = "state"
        defaults = {{ mode = "monitor", deadline-ms = 20 }}

        [[plugins]]
        source = "mine.wasm"
        settings = {{ paths = ["/srv"] }}
        grants = []

        [[plugins]]
        name = "second"
        source = "s3://bucket/key.wasm"
        keys = ["ops"]
        mode = "enforce"
        on-error = "quarantine"
        deadline-ms = 5
        memory-mib = 8

        [trust.keys]
        ops = "{KEY}"

        [network]
        plain-http = ["store:9000"]
        s3 = {{ endpoint = "http://store:9000", region = "eu-central-1" }}
        "#
    ))
    .unwrap();
    let [first, second] = config.plugins.as_slice() else { panic!("two plugins") };
    assert_eq!(first.reference, PluginRef::Path("/etc/tracegate/mine.wasm".into()));
    assert_eq!((first.mode, first.on_error), (Some(Mode::Monitor), None));
    assert_eq!(first.limits.deadline, Duration::from_millis(20));
    assert_eq!(first.settings, r#"{"paths":["/srv"]}"#);
    assert_eq!(first.grants, Some(BTreeSet::new()));
    assert_eq!((second.mode, second.on_error), (Some(Mode::Enforce), Some(OnError::Quarantine)));
    assert_eq!((second.limits.deadline, second.limits.memory), (Duration::from_millis(5), 8 << 20));
    assert_eq!(config.alerts, [Destination::Stderr, Destination::File("/etc/tracegate/alerts.jsonl".into())]);
    assert_eq!(config.state.as_deref(), Some(Path::new("/etc/tracegate/state")));
    assert!(config.keys.contains("ops"));
}

#[test]
fn profiles() {
    let names = |profile| {
        let config = read(&format!("format = 1\nprofile = {profile:?}")).unwrap();
        config.plugins.iter().map(|plugin| plugin.reference.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("minimal"), ["builtin:sensitive-files"]);
    assert_eq!(names("aggressive"), ["builtin:sensitive-files", "builtin:process-monitor"]);
    let both = read("format = 1").unwrap();
    assert_eq!(both.plugins.len(), 2);
    assert_eq!(both.plugins[1].mode, Some(Mode::Monitor));
}

/// Every mistake at once, each with its line.
#[test]
fn mistakes_of_form() {
    let error = read(
        r#"format = 1
colour = "red"
[[plugins]]
source = "a.wasm"
mode = "enforced"
deadline-ms = 0
[[plugins]]
name = "no spaces"
sha256 = "e3b0"
"#,
    )
    .unwrap_err();
    let found: Vec<_> = error.issues.iter().map(|placed| (placed.line, placed.issue.pointer.as_str())).collect();
    for expected in [
        (Some(1), ""),
        (Some(5), "/plugins/0/mode"),
        (Some(6), "/plugins/0/deadline-ms"),
        (Some(7), "/plugins/1"),
        (Some(8), "/plugins/1/name"),
        (Some(9), "/plugins/1/sha256"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {error}");
    }
    let text = error.to_string();
    assert!(text.contains("'colour' was unexpected"), "{text}");
    assert!(text.contains("\"enforced\" is not one of \"enforce\", \"monitor\""), "{text}");
}

#[test]
fn mistakes_of_meaning() {
    let error = read(
        r#"format = 1
profile = "minimal"
[[plugins]]
name = "a"
source = "ftp://x/y"
[[plugins]]
name = "a"
source = "s3://b/k"
[[plugins]]
source = "c.wasm"
keys = ["nobody"]
[trust.keys]
broken = "RW"
"#,
    )
    .unwrap_err();
    let text = error.to_string();
    for said in [
        "line 2: /profile",
        "line 5: /plugins/0/source: plugin \"ftp://x/y\"",
        "line 7: /plugins/1/name: another plugin",
        "line 11: /plugins/2/keys: neither `trust.keys` nor --key has a key \"nobody\"",
        "line 13: /trust/keys/broken: no public key",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
}

#[test]
fn a_remote_plugin_needs_a_voucher() {
    let plugin = "format = 1\n[[plugins]]\nsource = \"https://example.org/a.wasm\"\n";
    assert!(read(plugin).unwrap_err().to_string().contains("nobody vouches for it"));
    let pinned = format!("{plugin}sha256 = \"{}\"", "0".repeat(64));
    assert!(read(&pinned).unwrap().plugins[0].pin.is_some());
    assert!(read(&format!("{plugin}[trust]\nunsigned = \"allow\"")).is_ok());
    assert!(read(&format!("{plugin}[trust.keys]\nops = \"{KEY}\"")).is_ok());
}

#[test]
fn json_too() {
    let config = read(r#"{"format": 1, "plugins": [{"source": "/a.wasm"}]}"#).unwrap();
    assert_eq!(config.plugins[0].reference, PluginRef::Path("/a.wasm".into()));
    for (text, said) in [
        ("{\"format\": 1,\n}", "line 2: not JSON"),
        ("format = ", "line 1: not TOML"),
        ("{}", "\"format\" is a required property"),
        ("{\"format\": 2}", "/format"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn nothing_is_relative_to_the_network() {
    let text = "format = 1\n[[plugins]]\nsource = \"a.wasm\"";
    let error = Source { origin: "s3://b/k", text, directory: None }
        .read(&Config::running(Vec::new()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("relative to nothing"), "{error}");
}

#[test]
fn the_example_is_right() {
    let text = include_str!("../../../examples/delivery/tracegate.toml");
    assert_eq!(read(text).unwrap().plugins.len(), 2);
    // With what is commented out, too, but for the placeholders.
    let whole = text.replace("RWQ…", KEY).lines().skip_while(|line| *line != "#").collect::<Vec<_>>().join("\n");
    let whole = whole.lines().map(|line| line.trim_start_matches('#')).collect::<Vec<_>>().join("\n");
    let config = read(&format!("format = 1\n{whole}")).unwrap();
    assert_eq!(config.plugins[0].reference.to_string(), "oci://ghcr.io/team/mine:1");
}

/// What options say beside the manifest counts when its plugins are checked.
#[test]
fn options_vouch_for_plugins_of_a_manifest() {
    let text = "format = 1\n[[plugins]]\nname = \"mine\"\nsource = \"https://e.org/a.wasm\"\nkeys = [\"release\"]";
    let read = |known: &Config| Source { origin: "m", text, directory: None }.read(known);
    let mut known = Config::running(Vec::new());
    let error = read(&known).unwrap_err().to_string();
    assert!(error.contains("nobody vouches") && error.contains("has a key \"release\""), "{error}");
    known.keys.add("release", KEY).unwrap();
    read(&known).unwrap();

    let text = "format = 1\n[[plugins]]\nname = \"mine\"\nsource = \"https://e.org/a.wasm\"";
    let read = |known: &Config| Source { origin: "m", text, directory: None }.read(known);
    let mut known = Config::running(Vec::new());
    known.overrides.pins.insert("another".into(), Digest::of(b""));
    assert!(read(&known).is_err());
    known.overrides.pins.insert("mine".into(), Digest::of(b""));
    read(&known).unwrap();
    let mut known = Config::running(Vec::new());
    known.unsigned = Unsigned::Allow;
    read(&known).unwrap();
}

/// What does not fit the schema hides nothing else that is wrong.
#[test]
fn mistakes_of_form_and_of_meaning_together() {
    let text = "format = 1\n[[plugins]]\nsource = \"builtin:sensitive-file\"\ndeadline-ms = 0\nkeys = [\"nokey\"]";
    let error = read(text).unwrap_err().to_string();
    for part in ["deadline-ms", "there is no builtin plugin", "has a key \"nokey\""] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}
