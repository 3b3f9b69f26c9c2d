//! Web servers.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use crate::servers::{Answer, Web};
use crate::support::{Outcome, run_limited, test_plugin};
use crate::{Workshop, check_failure, plugin, run};

#[test]
fn signed_and_pinned() {
    let (workshop, web) = (Workshop::new(), Web::start());
    let signature = std::fs::read(workshop.at("plugin.wasm.minisig")).unwrap();
    web.answer("/plugin.wasm", Answer::Content(std::fs::read(plugin()).unwrap()));
    let url = web.url("/plugin.wasm");
    workshop.fails(&run(&url, &[]), "nobody vouches for it");
    workshop.fails(&run(&url, &workshop.key("mini")), "there is no .minisig file");
    web.answer("/plugin.wasm.minisig", Answer::Content(signature));
    workshop.fails(&run(&url, &workshop.key("stranger")), "key stranger");
    workshop.runs(&mut workshop.host(&run(&url, &workshop.key("mini"))));
    workshop.runs(&mut workshop.host(&run(&url, &["--unsigned".into(), "allow".into()])));
    let digest = workshop.ok(&["inspect-plugin", &workshop.path("plugin.wasm"), "--format", "json"]);
    let digest: serde_json::Value = serde_json::from_str(&digest).unwrap();
    let pin = |digest: &str| ["--pin".to_owned(), format!("p={digest}")];
    let named = format!("p={url}");
    workshop.runs(&mut workshop.host(&run(&named, &pin(digest["sha256"].as_str().unwrap()))));
    // By the name that it gives itself, too.
    let pin_by_own_name = ["--pin".to_owned(), format!("process-monitor={}", digest["sha256"].as_str().unwrap())];
    workshop.runs(&mut workshop.host(&run(&url, &pin_by_own_name)));
    // All that is wrong is told at once.
    let two =
        [&run(&web.url("/absent.wasm"), &workshop.key("mini"))[..], &["--plugin".into(), web.url("/missing.wasm")]]
            .concat();
    workshop.fails(&two, "/absent.wasm: the server answered 404");
    workshop.fails(&two, "/missing.wasm: the server answered 404");
    workshop.fails(&run(&named, &pin(&"0".repeat(64))), "is not the pinned plugin");
}

/// What a manifest says of one plugin's keys and versions, as options.
#[test]
fn signers_and_versions() {
    let (workshop, web) = (Workshop::new(), Web::start());
    web.answer("/plugin.wasm", Answer::Content(std::fs::read(plugin()).unwrap()));
    web.answer("/plugin.wasm.minisig", Answer::Content(std::fs::read(workshop.at("plugin.wasm.minisig")).unwrap()));
    let url = web.url("/plugin.wasm");
    let words = |words: &[&str]| -> Vec<String> { words.iter().copied().map(String::from).collect() };
    let keys = [workshop.key("stranger"), workshop.key("mini")].concat();
    let with = |reference: &str, more: &[&str]| run(reference, &[&keys[..], &words(more)].concat());
    let named = format!("p={url}");
    workshop.runs(&mut workshop.host(&with(&named, &["--signed-by", "p=mini"])));
    workshop.runs(&mut workshop.host(&with(&named, &["--signed-by", "p=stranger,mini"])));
    workshop.fails(&with(&named, &["--signed-by", "p=stranger"]), "key stranger");
    workshop.fails(&with(&named, &["--signed-by", "p=nobody"]), "there is no --key nobody");
    workshop.fails(&with(&named, &["--signed-by", "p="]), "give the name of a --key");
    workshop.fails(&with("p=builtin:sensitive-files", &["--signed-by", "p=mini"]), "nobody signs it");
    workshop.fails(&with(&url, &["--signed-by", "p=mini"]), "no plugin is named p; give --plugin p=REF");
    // A newer one was run before.
    let state = workshop.path("state");
    std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    let versions = workshop.at("state/versions.json");
    std::fs::write(&versions, r#"{"process-monitor": "99.0.0"}"#).unwrap();
    let state = ["--state", &state];
    workshop.fails(&with(&named, &state), "versions.json must be a file of the user's own, with mode 0600");
    std::fs::set_permissions(versions, std::fs::Permissions::from_mode(0o600)).unwrap();
    workshop.fails(&with(&named, &state), "is older than 99.0.0, which was run before");
    workshop.fails(&with(&named, &state), "--allow-rollback p");
    workshop.runs(&mut workshop.host(&with(&named, &[&state[..], &["--allow-rollback", "p"]].concat())));
    workshop.fails(
        &with(&named, &[&state[..], &["--allow-rollback", "p", "--allow-rollback", "q"]].concat()),
        "names plugin \"q\"",
    );
}

/// What a server does must not reach the program: the last good plugin runs,
/// and the operator is told.
#[test]
fn servers_that_misbehave() {
    let (workshop, web) = (Workshop::new(), Web::start());
    let content = std::fs::read(plugin()).unwrap();
    let signature = std::fs::read(workshop.at("plugin.wasm.minisig")).unwrap();
    let url = web.url("/plugin.wasm");
    let command = run(&url, &workshop.key("mini"));
    let cases = [
        (Answer::Status("500 Internal Server Error"), "the server answered 500"),
        (Answer::Status("404 Not Found"), "the server answered 404"),
        (Answer::Half(content.clone()), "cannot fetch"),
        (Answer::Silence, "cannot fetch"),
        (Answer::Endless, "it is longer than"),
        (Answer::Redirect("http://192.0.2.1:1/".into()), "cannot fetch"),
    ];
    for (answer, said) in &cases {
        web.answer("/plugin.wasm", answer.clone());
        workshop.fails(&command, said);
    }
    web.answer("/plugin.wasm", Answer::Content(content.clone()));
    web.answer("/plugin.wasm.minisig", Answer::Content(signature));
    workshop.runs(&mut workshop.host(&command));
    // Unchanged, it is not sent again.
    let before = web.requests().len();
    workshop.runs(&mut workshop.host(&command));
    let requests = &web.requests()[before..];
    assert!(requests.len() == 1 && requests[0].to_lowercase().contains("if-none-match"), "{requests:?}");
    for (answer, said) in &cases {
        web.answer("/plugin.wasm", answer.clone());
        let stderr = workshop.runs(&mut workshop.host(&command));
        assert!(stderr.contains(said) && stderr.contains("the one of the last time is run"), "{stderr}");
    }
    // Other bytes are no failure of the server: nobody has signed them.
    web.answer("/plugin.wasm", Answer::Content(b"\0asm rubbish".to_vec()));
    workshop.fails(&command, "is not signed by a trusted key");
}

#[test]
fn without_tls_only_by_name() {
    let workshop = Workshop::new();
    let url = "http://plugins.example.org/plugin.wasm";
    let allow = ["--unsigned".to_owned(), "allow".into()];
    workshop.fails(&run(url, &allow), "without TLS");
}

/// A manifest names everything, and is trusted like a plugin.
#[test]
fn a_manifest_from_the_network() {
    let (workshop, web) = (Workshop::new(), Web::start());
    web.answer("/plugin.wasm", Answer::Content(std::fs::read(plugin()).unwrap()));
    let digest = workshop.ok(&["inspect-plugin", &workshop.path("plugin.wasm"), "--format", "json"]);
    let digest: serde_json::Value = serde_json::from_str(&digest).unwrap();
    let manifest =
        format!("format = 1\n[[plugins]]\nsource = {:?}\nsha256 = {}\n", web.url("/plugin.wasm"), digest["sha256"]);
    std::fs::write(workshop.at("manifest.toml"), &manifest).unwrap();
    workshop.ok(&["sign-plugin", &workshop.path("manifest.toml"), "--key", &workshop.path("mini.key")]);
    let signature = std::fs::read(workshop.at("manifest.toml.minisig")).unwrap();
    web.answer("/manifest.toml", Answer::Content(manifest.clone().into_bytes()));
    let command = |key: &str| {
        let config = ["run".to_owned(), "--config".into(), web.url("/manifest.toml")];
        [&config[..], &workshop.key(key)[..]].concat()
    };
    workshop.fails(&command("mini"), "is not signed by a trusted key");
    web.answer("/manifest.toml.minisig", Answer::Content(signature));
    workshop.fails(&command("stranger"), "is not signed by a trusted key");
    workshop.runs(&mut workshop.host(&command("mini")));
}

/// A plugin from the network gets what the operator grants, and does not run
/// if it asks for more.
#[test]
fn what_is_asked_for_and_not_granted() {
    let (workshop, web) = (Workshop::new(), Web::start());
    web.answer("/counter.wasm", Answer::Content(std::fs::read(test_plugin("counter")).unwrap()));
    let options = |grant: &str| {
        let words = ["--unsigned", "allow", "--grant", grant];
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        run(&web.url("/counter.wasm"), &words[..if grant.is_empty() { 2 } else { 4 }])
    };
    for (grant, missing) in [("", true), ("counter=memory,descriptors", true), ("counter=state", false)] {
        let outcome = Outcome::of(&run_limited(workshop.host(&options(grant)).args(["--", "true"])));
        if missing {
            check_failure(&outcome, "asks for state, which is not granted to it");
        } else {
            assert_eq!(outcome.status, 0, "{outcome:#?}");
        }
    }
    let asks = |plugin: &str| {
        let said = workshop.ok(&["inspect-plugin", plugin, "--format", "json"]);
        serde_json::from_str::<serde_json::Value>(&said).unwrap()["asks"].clone()
    };
    assert_eq!(asks(test_plugin("counter").to_str().unwrap()), serde_json::json!(["state"]));
    assert_eq!(asks("builtin:process-monitor"), serde_json::json!([]));
}
