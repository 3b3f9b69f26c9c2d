//! Plugins that are replaced at their source while a program runs: in a store,
//! in a registry, on a web server; and sources that go away, hang, break off,
//! or give what nobody has signed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::Run;
use crate::servers::{ACCESS_KEY, Answer, Registry, SECRET_KEY, Store, Web, own_network};
use crate::support::{HOST, Outcome, run_limited};

/// A key of the team, and components signed with it.
struct Team {
    directory: tempfile::TempDir,
}

impl Team {
    fn new() -> Self {
        let team = Self { directory: tempfile::tempdir().unwrap() };
        host(&["new-key", "--kind", "ecdsa", team.at("team").to_str().unwrap()]);
        for name in [MONITOR, FILES] {
            let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist").join(name);
            std::fs::copy(dist, team.at(name)).unwrap();
            host(&["sign-plugin", team.at(name).to_str().unwrap(), "--key", team.at("team.key").to_str().unwrap()]);
        }
        team
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A manifest with one plugin from `reference`, and more lines.
    fn manifest(&self, reference: &str, more: &str) -> String {
        let key = std::fs::read_to_string(self.at("team.pub")).unwrap();
        format!(
            "format = 1\nreload = {{ every-s = 1 }}\n{more}\n[[plugins]]\nsource = {reference:?}\n\
             grants = [\"descriptors\"]\n[trust.keys]\nteam = {key:?}\n"
        )
    }
}

fn host(words: &[&str]) {
    let outcome = Outcome::of(&run_limited(Command::new(HOST).args(words)));
    assert_eq!(outcome.status, 0, "{words:?}: {outcome:#?}");
}

/// Lets everything pass.
const MONITOR: &str = "process-monitor.wasm";
/// Closes what is like a key: the loop's second file.
const FILES: &str = "sensitive-files.wasm";

/// The loop, whose second file is one that `sensitive-files` closes by itself.
fn start(manifest: String, environment: &[(&str, &str)]) -> Run {
    let with_key = |at: &Path| {
        std::fs::remove_file(at.join("b")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", at.join("b")).unwrap();
        manifest
    };
    Run::start_with(with_key, environment)
}

#[test]
fn in_a_store() {
    let (team, mut store) = (Team::new(), Store::start());
    let put = |store: &Store, name: &str| {
        // The signature first: until both are there the old one stays.
        store.put("p.wasm.sig", Some(&team.at(&format!("{name}.sig"))));
        store.put("p.wasm", Some(&team.at(name)));
    };
    put(&store, MONITOR);
    let network = format!("network.s3 = {{ endpoint = {:?}, region = \"us-east-1\" }}", store.endpoint());
    let credentials = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let run = start(team.manifest("s3://plugins/p.wasm", &network), &credentials);
    run.tells("open open");
    put(&store, FILES);
    run.tells("open denied");
    store.stop();
    run.waits_for("plugins-not-replaced", "cannot fetch s3://plugins/p.wasm");
    store.again();
    put(&store, MONITOR);
    run.tells("open open");
    assert_eq!(run.end(), [""; 0]);
}

#[test]
fn in_a_registry() {
    let (team, mut registry) = (Team::new(), Registry::start(false));
    let reference = registry.reference(":1");
    let put = |name: &str| {
        let (file, key) = (team.at(name), team.at("team.key"));
        host(&["push-plugin", file.to_str().unwrap(), &reference, "--key", key.to_str().unwrap()]);
    };
    put(MONITOR);
    let run = start(team.manifest(&reference, ""), &[]);
    run.tells("open open");
    put(FILES);
    run.tells("open denied");
    registry.stop();
    run.waits_for("plugins-not-replaced", "cannot fetch oci://");
    registry.again();
    put(MONITOR);
    run.tells("open open");
    assert_eq!(run.end(), [""; 0]);
}

/// What a server can do wrong, one after the other: the plugin that runs goes
/// on, and the next good one takes over without a restart.
#[test]
fn on_a_web_server_that_misbehaves() {
    let (team, web) = (Team::new(), Web::start());
    let read = |name: &str| std::fs::read(team.at(name)).unwrap();
    let put = |name: &str| {
        web.answer("/p.wasm.sig", Answer::Content(read(&format!("{name}.sig"))));
        web.answer("/p.wasm", Answer::Content(read(name)));
    };
    put(MONITOR);
    let run = start(team.manifest(&web.url("/p.wasm"), ""), &[]);
    run.tells("open open");
    put(FILES);
    run.tells("open denied");
    let wrong = [
        (Answer::Status("503 Service Unavailable"), "the server answered 503"),
        (Answer::Half(read(MONITOR)), "cannot fetch"),
        (Answer::Silence, "cannot fetch"),
        (Answer::Endless, "it is longer than"),
        (Answer::Content(b"\0asm rubbish".to_vec()), "is not signed by a trusted key"),
    ];
    for (answer, said) in wrong {
        web.answer("/p.wasm", answer);
        run.waits_for("plugins-not-replaced", said);
    }
    put(MONITOR);
    run.tells("open open");
    assert_eq!(run.end(), [""; 0]);
}

/// In an ECS task: the agent at 169.254.170.2 gives out credentials for some
/// time, and others after that.
#[test]
fn with_the_role_of_a_task() {
    own_network("169.254.170.2/32");
    let agent = Web::at("169.254.170.2:80".parse().unwrap());
    let gives = |key: &str, minutes: u64| {
        let until = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_mins(minutes));
        let credentials = serde_json::json!({
            "RoleArn": "arn:aws:iam::1:role/task", "AccessKeyId": key, "SecretAccessKey": format!("{key}-secret"),
            "Token": "", "Expiration": until.to_string(),
        });
        agent.answer("/v2/credentials/1", Answer::Content(credentials.to_string().into_bytes()));
    };
    let (team, mut store) = (Team::new(), Store::start());
    store.admit(&["early"]);
    store.stop();
    store.again();
    let put = |store: &Store, name: &str| {
        store.put("p.wasm.sig", Some(&team.at(&format!("{name}.sig"))));
        store.put("p.wasm", Some(&team.at(name)));
    };
    put(&store, MONITOR);
    gives("early", 10);
    let network = format!("network.s3 = {{ endpoint = {:?}, region = \"us-east-1\" }}", store.endpoint());
    let environment = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let run = start(team.manifest("s3://plugins/p.wasm", &network), &environment);
    run.tells("open open");
    put(&store, FILES);
    run.tells("open denied");
    // From now on the store knows others, and the agent does not.
    store.admit(&["late"]);
    store.stop();
    store.again();
    run.waits_for("plugins-not-replaced", "the store refuses us");
    agent.answer("/v2/credentials/1", Answer::Status("500 Internal Server Error"));
    run.waits_for("plugins-not-replaced", "500 Internal Server Error");
    gives("late", 10);
    put(&store, MONITOR);
    run.tells("open open");
    assert!(agent.requests().len() > 2, "{:?}", agent.requests());
    assert_eq!(run.end(), [""; 0]);
}
