//! A corpus of plugins that mean harm, below what the SDK lets anybody write:
//! lying lengths, texts that are none, bombs of every kind, traps in each
//! hook. The host contains each: it says what is wrong, its policy answers,
//! its memory stays bounded, and the program goes its way.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "hostile/module.rs"]
mod module;
#[path = "support/mod.rs"]
mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use module::{ALERT, ALERT_SIZE, CONFIGURED, DESCRIPTION, Module, NAME, NO_ALERTS, RULES, VERDICT, words};
use support::{HOST, Outcome, host, run_limited};

/// Most resident memory of any host that has run here, in KiB. A host with the
/// two built-in plugins has 30 MiB while it compiles.
const MOST_RESIDENT: i64 = 512 << 10;

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

/// All processes that were waited for so far.
#[allow(unsafe_code, reason = "getrusage(2) fills a structure")]
#[track_caller]
fn memory_is_bounded(name: &str) {
    // SAFETY: all zeros is a value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to live memory.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) }, 0);
    assert!(usage.ru_maxrss < MOST_RESIDENT, "{name}: a host had {} KiB", usage.ru_maxrss);
}

fn run(plugin: &Path, options: &[&str], program: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let alerts = directory.path().join("alerts");
    let mut command = Command::new(HOST);
    command.args(["run", "--plugin"]).arg(plugin).arg("--alerts").arg(&alerts).args(options).arg("--").args(program);
    let mut outcome = Outcome::of(&run_limited(command.env("XDG_CACHE_HOME", directory.path())));
    outcome.alerts = support::alerts_so_far(&alerts);
    outcome
}

/// Changes a file's mode, which the modules subscribe to.
fn changes(plugin: &Path, options: &[&str]) -> Outcome {
    let target = tempfile::NamedTempFile::new().unwrap();
    run(plugin, options, &["chmod", "600", target.path().to_str().unwrap()])
}

/// It never runs, and the host says why.
#[track_caller]
fn refused(name: &str, component: &[u8], options: &[&str], said: &[&str]) {
    let outcome = run(file(component).path(), options, &["echo", "ran"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""), "{name}: {outcome:#?}");
    for said in said {
        assert!(outcome.stderr.contains(said), "{name}: {said:?} is not in {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:#?}");
    memory_is_bounded(name);
}

/// Without a mistake the modules are plugins, and what is wrong below is wrong
/// by what is changed.
#[test]
fn the_module_itself_is_a_plugin() {
    let component = Module::default().encode();
    let outcome = changes(file(&component).path(), &[]);
    assert_eq!((outcome.status, outcome.alerts.len()), (0, 0), "{outcome:#?}");
    // It is what the loader is fuzzed with; BLESS=1 writes it anew.
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds/loader/plugin.wasm");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&seed, &component).unwrap();
    }
    assert!(std::fs::read(&seed).unwrap() == component, "{} is old: run this with BLESS=1", seed.display());
    let text = words(&[NAME, 7, 2, NAME, 5, 0, 0]);
    let plugin = file(&Module::default().alerts(1, text).encode());
    let outcome = changes(plugin.path(), &[]);
    assert_eq!(outcome.status, 0, "{outcome:#?}");
    assert_eq!(outcome.rules(), ["hostile"], "{outcome:#?}");
}

#[test]
fn before_anything_runs() {
    let with = |change: &dyn Fn(&mut Module)| {
        let mut module = Module::default();
        change(&mut module);
        module.encode()
    };
    let endless = "(loop $l (br $l)) (unreachable)";
    let plain = Module::default;
    let cases: [(&str, Vec<u8>, &[&str]); 20] = [
        ("a trap when it starts", with(&|m| m.start = "(unreachable)".into()), &["instantiated", "unreachable"]),
        ("an endless start", with(&|m| m.start = "(loop $l (br $l))".into()), &["instantiated", "within 1000 ms"]),
        ("a trap in describe", with(&|m| m.describe = "(unreachable)".into()), &["describe itself", "unreachable"]),
        ("an endless describe", with(&|m| m.describe = endless.into()), &["describe itself", "within 1000 ms"]),
        ("a trap in configure", with(&|m| m.configure = "(unreachable)".into()), &["configured", "unreachable"]),
        ("an endless configure", with(&|m| m.configure = endless.into()), &["configured", "within 1000 ms"]),
        ("a trap in realloc", with(&|m| m.realloc = "(unreachable)".into()), &["configured", "unreachable"]),
        ("realloc beyond the memory", with(&|m| m.realloc = "(i32.const 0x7ffffff0)".into()), &["configured"]),
        (
            "a name beyond the memory",
            plain().with(DESCRIPTION, words(&[0x7fff_0000, 7])).encode(),
            &["describe itself"],
        ),
        (
            "a name as long as can be",
            plain().with(DESCRIPTION, words(&[NAME, u32::MAX])).encode(),
            &["describe itself"],
        ),
        ("a name that is no text", plain().with(NAME, [0xff, 0xc0, 0x80]).encode(), &["describe itself", "utf-8"]),
        ("a description that is not aligned", with(&|m| m.describe = "(i32.const 2049)".into()), &["describe itself"]),
        ("a lane that there is not", plain().with(CONFIGURED + 4, [9]).encode(), &["configured"]),
        (
            "more rules than memory",
            plain().with(CONFIGURED + 8, words(&[RULES, u32::MAX / 20])).encode(),
            &["configured"],
        ),
        (
            "rules without a name",
            // Sixty thousand records of zeros.
            plain().with(CONFIGURED + 8, words(&[200_000, 60_000])).encode(),
            &["at most 10000 are taken"],
        ),
        ("a call that there is not", plain().with(RULES, words(&[NAME, 7])).encode(), &["hostile", "no system call"]),
        ("memory of 4 GiB", with(&|m| m.memory = "65536".into()), &["instantiated", "64 MiB"]),
        ("a table bomb", with(&|m| m.more = "(table 100000000 funcref)".into()), &["instantiated"]),
        ("tables without end", with(&|m| m.more = "(table 1 funcref)".repeat(90)), &["instantiated"]),
        (
            "memory that runs over",
            with(&|m| m.start = "(i32.store (i32.const -4) (i32.const 1))".into()),
            &["instantiated"],
        ),
    ];
    for (name, component, said) in cases {
        refused(name, &component, &[], said);
    }
}

/// Schemas are looked at by the host itself.
#[test]
fn schemas() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let remote = format!("{{\"$ref\": \"http://{}/schema\"}}", listener.local_addr().unwrap());
    let deep = "[".repeat(100_000);
    let twice = |n: u32| {
        format!("\"d{n}\": {{\"allOf\": [{{\"$ref\": \"#/$defs/d{m}\"}}, {{\"$ref\": \"#/$defs/d{m}\"}}]}}", m = n + 1)
    };
    let laughs: Vec<String> = (0..40).map(twice).collect();
    let laughs = format!("{{\"$ref\": \"#/$defs/d0\", \"$defs\": {{{}, \"d40\": {{}}}}}}", laughs.join(", "));
    let cases: [(&str, &str, &[&str]); 5] = [
        ("none at all", "", &["schema"]),
        ("no JSON", "{", &["schema"]),
        ("deeper than anybody can read", &deep, &["schema"]),
        ("of another server", &remote, &["schema"]),
        ("of no type that there is", "{\"type\": 7}", &["schema"]),
    ];
    for (name, schema, said) in cases {
        refused(name, &Module::default().schema(schema).encode(), &[], said);
    }
    assert!(listener.accept().is_err(), "nothing is fetched for a schema");
    // These may be refused or fit: the host comes to an end with them.
    refused("doubled again and again", &Module::default().schema(&laughs).encode(), &[], &["at most 100000 are taken"]);
    let itself = "{\"$ref\": \"#\"}";
    let back_and_forth = "{\"properties\": {\"a\": {\"pattern\": \"^(a+)+$\"}}}";
    let settings = format!("hostile={{\"a\": \"{}!\"}}", "a".repeat(200));
    for (name, schema, options) in [
        ("of itself", itself, &[][..]),
        ("a pattern that tries everything", back_and_forth, &["--settings", &settings]),
    ] {
        let plugin = file(&Module::default().schema(schema).encode());
        let outcome = run(plugin.path(), options, &["true"]);
        assert!([0, 125].contains(&outcome.status), "{name}: {outcome:#?}");
        assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:#?}");
        memory_is_bounded(name);
    }
}

/// Code that costs the compiler most.
#[test]
fn code_without_end() {
    let functions = (0..100_000).fold(String::new(), |text, n| text + &format!("(func (result i32) (i32.const {n}))"));
    let blocks = format!("(func {}{})", "(block ".repeat(40_000), ")".repeat(40_000));
    let locals = format!("(func {} (local.set 0 (i32.const 1)))", "(local i32) ".repeat(49_000));
    let functions = Module { more: functions, ..Module::default() };
    refused("functions", &functions.encode(), &[], &["has more than 50000 functions"]);
    for (name, more) in [("blocks in blocks", blocks), ("locals", locals)] {
        let plugin = file(&Module { more, ..Module::default() }.encode());
        let outcome = changes(plugin.path(), &[]);
        assert!([0, 125].contains(&outcome.status), "{name}: {outcome:#?}");
        assert!(outcome.status == 0 || outcome.stderr.contains("does not compile"), "{name}: {outcome:#?}");
        memory_is_bounded(name);
    }
    let header = *b"\0asm\x0d\0\x01\0";
    let nested = (0..2000).fold(header.to_vec(), |inner, _| {
        // Section 4 is a component; its length is LEB128 in five bytes.
        let length = inner.len() as u32;
        let length: [u8; 5] =
            std::array::from_fn(|n| ((length >> (7 * n)) & 0x7f) as u8 | if n < 4 { 0x80 } else { 0 });
        [&header[..], &[4], &length, &inner].concat()
    });
    let many = format!("(component (core module $m) {})", "(core instance (instantiate $m)) ".repeat(20_000));
    for (name, component) in [("components in components", nested), ("instances", wat::parse_str(&many).unwrap())] {
        refused(name, &component, &[], &["plugin"]);
    }
}

/// What goes wrong while a program waits for the answer.
#[test]
fn answers() {
    let drop = "(call $drop (local.get 14))";
    let answering = |body: &str| Module { check: format!("{drop} {body}"), ..Module::default() };
    let alert = |words_of: [u32; 7]| words(&words_of);
    // Each text is nearly all of the memory.
    let huge = alert([0, 60 << 20, 2, 0, 60 << 20, 0, 0]).repeat(60);
    let amplified = Module { memory: "1000".into(), ..Module::default() }.alerts(60, huge);
    let cases: [(&str, Module, &[&str]); 16] = [
        ("a trap", answering("(unreachable)"), &["unreachable"]),
        ("no end", answering("(loop $l (br $l)) (unreachable)"), &["within 10 ms"]),
        (
            "a handle that it keeps",
            Module { check: format!("(i32.const {VERDICT})"), ..Module::default() },
            &["borrow"],
        ),
        ("a handle dropped twice", answering(&format!("{drop} (i32.const {VERDICT})")), &["broke the contract"]),
        (
            "a handle that it never had",
            answering(&format!("(call $drop (i32.const 77)) (i32.const {VERDICT})")),
            &["handle"],
        ),
        ("an answer beyond the memory", answering("(i32.const 0x7ffffffc)"), &["out of bounds"]),
        ("an answer that is not aligned", answering(&format!("(i32.const {})", VERDICT + 1)), &["align"]),
        ("an action that there is not", Module::default().with(VERDICT, [7]), &["broke the contract"]),
        ("more alerts than memory", Module::default().alerts(u32::MAX / ALERT_SIZE, []), &["out of bounds"]),
        ("alerts that share one huge text", amplified, &["broke the contract"]),
        (
            "a rule beyond the memory",
            Module::default().alerts(1, alert([0x7fff_0000, 9, 2, NAME, 5, 0, 0])),
            &["out of bounds"],
        ),
        (
            "a message that is no text",
            Module::default().alerts(1, alert([NAME, 7, 2, NAME + 200, 3, 0, 0])).with(NAME + 200, [0xff, 0xfe, 0xfd]),
            &["utf-8"],
        ),
        (
            "a severity that there is not",
            Module::default().alerts(1, alert([NAME, 7, 77, NAME, 5, 0, 0])),
            &["broke the contract"],
        ),
        (
            "fields beyond the memory",
            Module::default().alerts(1, alert([NAME, 7, 2, NAME, 5, ALERT, u32::MAX / 16])),
            &["out of bounds"],
        ),
        (
            "arguments to a place that is not aligned",
            Module { realloc: "(i32.const 131073)".into(), ..Module::default() },
            &["align"],
        ),
        (
            "a trap after the answer",
            Module { after_check: "(unreachable)".into(), ..Module::default() },
            &["unreachable"],
        ),
    ];
    for (name, module, said) in cases {
        let plugin = file(&module.encode());
        let deadline = if name == "no end" { "10" } else { "10000" };
        let outcome = changes(plugin.path(), &["--deadline", deadline, "--on-error", "hostile=deny"]);
        assert!(outcome.status == 1 && outcome.stderr.contains("Operation not permitted"), "{name}: {outcome:#?}");
        let message = outcome
            .alerts
            .iter()
            .find(|alert| alert["rule"] == "plugin-fault")
            .map(|alert| alert["message"].to_string());
        let message = message.unwrap_or_else(|| panic!("{name}: no fault was told: {outcome:#?}")).to_lowercase();
        assert!(said.iter().any(|said| message.contains(&said.to_lowercase())), "{name}: {message}");
        assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:#?}");
        memory_is_bounded(name);
    }
    let many = file(&Module::default().with(VERDICT + 4, words(&[200_000, 100_000])).encode());
    let outcome = changes(many.path(), &["--deadline", "10000"]);
    assert_eq!((outcome.status, outcome.alerts.len()), (0, 64), "of many alerts a few are told");
    memory_is_bounded("many alerts");
}

/// Hooks that can deny nothing any more: the program goes on.
#[test]
fn hooks_that_only_look() {
    for (name, module) in [
        ("exit", Module { exit: "(unreachable)".into(), ..Module::default() }),
        ("processes", Module { process: "(unreachable)".into(), ..Module::default() }),
        ("exit beyond the memory", Module::default().with(NO_ALERTS, words(&[ALERT, u32::MAX / ALERT_SIZE]))),
    ] {
        let plugin = file(&module.encode());
        let outcome = changes(plugin.path(), &["--on-error", "hostile=deny"]);
        assert_eq!(outcome.status, 0, "{name}: {outcome:#?}");
        assert!(outcome.rules().contains(&"plugin-fault"), "{name}: {outcome:#?}");
        assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:#?}");
        memory_is_bounded(name);
    }
}

/// What it can call, without end and with all of its memory.
#[test]
fn calls_of_the_host() {
    let import = |interface: &str, name: &str, ty: &str| {
        format!("(import \"tracegate:plugin/{interface}@0.1.0\" \"{name}\" (func $call {ty}))")
    };
    // The call again and again, then the answer.
    let again = |arguments: &str| {
        format!(
            "(local $n i32) (call $drop (local.get 14))
             (loop $l (call $call {arguments})
               (local.set $n (i32.add (local.get $n) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $n) (i32.const 300))))
             (i32.const {VERDICT})"
        )
    };
    let all = 60 << 20;
    let cases = [
        (
            "log",
            import("log", "write", "(param i32 i32 i32)"),
            again(&format!("(i32.const 3) (i32.const 0) (i32.const {all})")),
        ),
        (
            "log beyond",
            import("log", "write", "(param i32 i32 i32)"),
            again("(i32.const 3) (i32.const 0) (i32.const -1)"),
        ),
        (
            "state",
            import("state", "set", "(param i32 i32 i32 i32 i32)"),
            again(&format!("(i32.const 0) (local.get $n) (i32.const 0) (i32.const {all}) (i32.const 9000)")),
        ),
        (
            "keys",
            import("state", "keys", "(param i32 i32 i32)"),
            again(&format!("(i32.const 0) (i32.const {all}) (i32.const 9000)")),
        ),
        (
            "metrics",
            import("metrics", "add", "(param i32 i32 i64)"),
            again(&format!("(i32.const 0) (i32.const {all}) (i64.const -1)")),
        ),
    ];
    for (name, imports, check) in cases {
        let plugin = file(&Module { imports, check, memory: "1000".into(), ..Module::default() }.encode());
        let outcome = changes(plugin.path(), &["--deadline", "2000", "--on-error", "hostile=allow"]);
        assert_eq!(outcome.status, 0, "{name}: {outcome:#?}");
        assert!(!outcome.stderr.contains("panicked"), "{name}");
        assert!(outcome.stderr.len() < 1 << 20, "{name}: {} bytes of log", outcome.stderr.len());
        memory_is_bounded(name);
    }
}

/// A hostile plugin beside a good one changes nothing of the good one's
/// verdicts.
#[test]
fn beside_a_good_one() {
    let target = tempfile::NamedTempFile::new().unwrap();
    let path = target.path().to_str().unwrap();
    let plugin = file(&Module { check: "(unreachable)".into(), ..Module::default() }.encode());
    let outcome = host()
        .plugin(plugin.path().to_str().unwrap())
        .option("--on-error", "hostile=allow")
        .protect(target.path())
        .run(&["chmod", "600", path]);
    assert_eq!((outcome.status, outcome.rules()), (1, vec!["plugin-fault", "sensitive-write"]), "{outcome:#?}");
}
