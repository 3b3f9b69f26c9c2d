//! The command with a plugin made of Rust.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::event::{Action, Alert, Errno, Kind, Severity};
use crate::recording::samples::{entry, openat, process};
use crate::recording::{Header, Mode, VerdictRecord, Writer};

/// Denies `/etc/shadow` with the errno of its settings, alerts of `/etc/<b>`,
/// and fails on `/fault`.
struct Fake {
    errno: Errno,
    seen: u64,
}

impl Judge for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn wants(&self, _: Arch, nr: u32, exit: bool) -> bool {
        nr == 257 && !exit
    }

    fn wants_event(&mut self, event: &Event) -> bool {
        matches!(event.kind, Kind::Entry(_))
    }

    fn judge(&mut self, event: &Arc<Event>) -> Answer {
        self.seen += 1;
        let path = event.path(1).map(|path| path.path.to_string()).unwrap_or_default();
        let alert = || Alert {
            rule: "sensitive-read".into(),
            severity: Severity::High,
            message: format!("reads {path}"),
            fields: vec![("seen".into(), self.seen.to_string())],
        };
        match path.as_str() {
            "/etc/shadow" => Answer { action: Action::Deny(self.errno), alerts: vec![alert()], fault: None },
            "/etc/<b>\u{1b}" => Answer { alerts: vec![alert()], ..Answer::allow() },
            "/fault" => Answer { fault: Some("trap: unreachable".into()), ..Answer::allow() },
            _ => Answer::allow(),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the signature is given")]
fn fake(settings: Option<&str>) -> anyhow::Result<Box<dyn Judge>> {
    let errno = settings.map_or(Errno::EACCES, |settings| settings.trim_matches('"').parse().unwrap());
    Ok(Box::new(Fake { errno, seen: 0 }))
}

/// Traces in a folder of their own.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new().unwrap());
        bench.trace("a.jsonl", &["/etc/shadow", "/etc/hosts", "/etc/<b>\u{1b}"], true);
        bench.trace("b.jsonl.zst", &["/tmp/x", "/etc/shadow"], true);
        bench.trace("quiet.jsonl", &["/tmp/x"], true);
        bench.trace("fault.jsonl", &["/fault"], true);
        bench.trace("cut.jsonl", &["/etc/shadow", "/tmp/x"], false);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trace(&self, name: &str, paths: &[&str], whole: bool) {
        let header = Header {
            host: "0.1.0".into(),
            arch: "x86_64".into(),
            started: 0,
            command: vec![],
            plugins: vec!["fake".into()],
        };
        let mut writer = Writer::create(&self.path(name), &header).unwrap();
        let mut judge = fake(None).unwrap();
        let process = process(812);
        for (path, seq) in paths.iter().zip(1..) {
            let event = Arc::new(entry(seq, &process, openat(path)));
            writer.event(&event).unwrap();
            let answer = judge.judge(&event);
            writer.verdict(&VerdictRecord { seq, plugin: "fake".into(), mode: Mode::Enforce, answer }).unwrap();
        }
        if whole {
            writer.finish().unwrap();
        }
    }

    /// Exit status, standard output, standard error. `@NAME` in an argument
    /// is a file of the bench.
    fn run(&self, arguments: &str) -> (u8, String, String) {
        self.run_with(arguments, &mut fake)
    }

    fn run_with(&self, arguments: &str, build: &mut Build<'_>) -> (u8, String, String) {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            command: TestPlugin,
        }
        let folder = format!("{}/", self.0.path().display());
        let words = arguments.split(' ').map(|word| word.replace('%', &folder));
        let line = Line::try_parse_from(["test-plugin".to_owned(), "fake.wasm".to_owned()].into_iter().chain(words));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run_with(&line.unwrap().command, build, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&folder, "%");
        (code, text(out), text(err))
    }
}

#[test]
fn shows_what_matters() {
    let bench = Bench::new();
    let (code, out, err) = bench.run("%a.jsonl %b.jsonl.zst %quiet.jsonl");
    assert_eq!(code, 0, "{err}");
    insta::assert_snapshot!(out, @r#"
    a.jsonl: 3 events, 3 asked, 1 denied, 2 alerts, 0 faults
      by rule: sensitive-read 2
      1  pid 812  openat(AT_FDCWD, "/etc/shadow", O_RDONLY|O_CLOEXEC, NULL)  denied EACCES
          high sensitive-read: reads /etc/shadow
            seen: 1
      3  pid 812  openat(AT_FDCWD, "/etc/<b>\33", O_RDONLY|O_CLOEXEC, NULL)
          high sensitive-read: reads /etc/<b>\u{1b}
            seen: 3
    b.jsonl.zst: 2 events, 2 asked, 1 denied, 1 alerts, 0 faults
      by rule: sensitive-read 1
      2  pid 812  openat(AT_FDCWD, "/etc/shadow", O_RDONLY|O_CLOEXEC, NULL)  denied EACCES
          high sensitive-read: reads /etc/shadow
            seen: 2
    quiet.jsonl: 1 events, 1 asked, 0 denied, 0 alerts, 0 faults
    "#);
    assert!(err.contains("a.jsonl: 3 events in "), "{err}");
    assert_eq!(bench.run("%a.jsonl %b.jsonl.zst %quiet.jsonl").1, out, "twice the same");
}

#[test]
fn bless_then_expect() {
    let bench = Bench::new();
    let (code, out, _) = bench.run("%a.jsonl %b.jsonl.zst --expect %g.jsonl --bless");
    assert_eq!(code, 0);
    assert!(out.ends_with("%g.jsonl: written, 3 verdicts\n"), "{out}");
    let golden = fs::read_to_string(bench.path("g.jsonl")).unwrap();
    insta::assert_snapshot!(golden, @r#"
    {"tracegate":"golden","version":1,"plugin":"fake"}
    {"trace":"a.jsonl"}
    {"seq":1,"event":"entry","syscall":"openat","pid":812,"action":"deny","errno":"EACCES","alerts":[{"rule":"sensitive-read","severity":"high","message":"reads /etc/shadow","fields":{"seen":"1"}}]}
    {"seq":3,"event":"entry","syscall":"openat","pid":812,"action":"allow","alerts":[{"rule":"sensitive-read","severity":"high","message":"reads /etc/<b>\u001b","fields":{"seen":"3"}}]}
    {"trace":"b.jsonl.zst"}
    {"seq":2,"event":"entry","syscall":"openat","pid":812,"action":"deny","errno":"EACCES","alerts":[{"rule":"sensitive-read","severity":"high","message":"reads /etc/shadow","fields":{"seen":"2"}}]}
    "#);
    assert!(bench.run("%a.jsonl %b.jsonl.zst --expect %g.jsonl --bless").1.contains("unchanged"));
    assert_eq!(fs::read_to_string(bench.path("g.jsonl")).unwrap(), golden);

    let (code, out, _) = bench.run("%a.jsonl %b.jsonl.zst --expect %g.jsonl");
    assert_eq!(code, 0);
    insta::assert_snapshot!(out, @r#"
    a.jsonl: 3 events, 3 asked, 1 denied, 2 alerts, 0 faults
      by rule: sensitive-read 2
    b.jsonl.zst: 2 events, 2 asked, 1 denied, 1 alerts, 0 faults
      by rule: sensitive-read 1
    %g.jsonl: all 3 verdicts as expected
    "#);

    let (code, out, _) = bench.run("%a.jsonl %quiet.jsonl --expect %g.jsonl --settings \"EPERM\"");
    assert_eq!(code, 1);
    insta::assert_snapshot!(out, @r#"
    a.jsonl: 3 events, 3 asked, 1 denied, 2 alerts, 0 faults
      by rule: sensitive-read 2
      %g.jsonl:3: a.jsonl: event 1: the verdict differs
         "action": "deny",
      -  "errno": "EACCES",
      +  "errno": "EPERM",
         "alerts": [
    quiet.jsonl: 1 events, 1 asked, 0 denied, 0 alerts, 0 faults
      %g.jsonl: quiet.jsonl: the file has nothing on this trace; 0 verdicts came
      %g.jsonl:5: b.jsonl.zst: 1 verdicts are expected on this trace, but it was not run
    %g.jsonl: 3 differences; if the new verdicts are right, add --bless
    "#);
}

#[test]
fn blessing_keeps_links_and_gives_usual_rights() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    fs::write(bench.path("real.jsonl"), "old").unwrap();
    std::os::unix::fs::symlink("real.jsonl", bench.path("link.jsonl")).unwrap();
    assert_eq!(bench.run("%a.jsonl --expect %link.jsonl --bless").0, 0);
    assert!(fs::symlink_metadata(bench.path("link.jsonl")).unwrap().is_symlink());
    assert!(fs::read_to_string(bench.path("real.jsonl")).unwrap().starts_with("{\"tracegate\":\"golden\""));
    let mode = fs::metadata(bench.path("real.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o600, 0o600);
    let (code, _, err) = bench.run("%a.jsonl --expect %no/such/g.jsonl --bless");
    assert_eq!(code, 2);
    assert!(err.contains("--bless: cannot write %no/such/g.jsonl"), "{err}");
}

#[test]
fn failures_of_the_plugin_fail_the_test() {
    let bench = Bench::new();
    let (code, out, _) = bench.run("%fault.jsonl");
    assert_eq!(code, 1);
    assert!(out.contains("fault: trap: unreachable"), "{out}");
    // Unless they are expected.
    assert_eq!(bench.run("%fault.jsonl --expect %g.jsonl --bless").0, 0);
    assert_eq!(bench.run("%fault.jsonl --expect %g.jsonl").0, 0);
}

#[test]
fn truncated_traces_need_permission() {
    let bench = Bench::new();
    let (code, out, err) = bench.run("%cut.jsonl %a.jsonl --expect %g.jsonl --bless");
    assert_eq!(code, 2);
    assert!(out.contains("cannot be run: %cut.jsonl:6: the trace is cut off"), "{out}");
    assert!(out.contains("a.jsonl: 3 events"), "the other is run all the same: {out}");
    assert!(err.contains("nothing was blessed"), "{err}");
    assert!(!bench.path("g.jsonl").exists());

    let (code, out, _) = bench.run("%cut.jsonl --allow-truncated");
    assert_eq!(code, 0);
    assert!(out.contains("cut.jsonl: 2 events, 2 asked, 1 denied"), "{out}");
    assert!(out.contains("incomplete: "), "{out}");
}

#[test]
fn what_was_said_live_can_be_compared() {
    let bench = Bench::new();
    assert_eq!(bench.run("%a.jsonl %b.jsonl.zst %quiet.jsonl --against-recorded").0, 0);
    let (code, out, _) = bench.run("%a.jsonl --against-recorded --settings \"EPERM\"");
    assert_eq!(code, 1);
    insta::assert_snapshot!(out, @r#"
    a.jsonl: 3 events, 3 asked, 1 denied, 2 alerts, 0 faults
      by rule: sensitive-read 2
      1  pid 812  openat(AT_FDCWD, "/etc/shadow", O_RDONLY|O_CLOEXEC, NULL)  denied EPERM
          high sensitive-read: reads /etc/shadow
            seen: 1
      3  pid 812  openat(AT_FDCWD, "/etc/<b>\33", O_RDONLY|O_CLOEXEC, NULL)
          high sensitive-read: reads /etc/<b>\u{1b}
            seen: 3
      recorded: a.jsonl: event 1: the verdict differs
         "action": "deny",
      -  "errno": "EACCES",
      +  "errno": "EPERM",
         "alerts": [
    1 differences from what was recorded
    "#);

    struct Other;
    impl Judge for Other {
        fn name(&self) -> &'static str {
            "other"
        }
        fn wants(&self, _: Arch, _: u32, _: bool) -> bool {
            false
        }
        fn wants_event(&mut self, _: &Event) -> bool {
            false
        }
        fn judge(&mut self, _: &Arc<Event>) -> Answer {
            Answer::allow()
        }
    }
    let (code, _, err) = bench.run_with("%a.jsonl --against-recorded", &mut |_| Ok(Box::new(Other)));
    assert_eq!(code, 2);
    assert!(err.contains("plugin other did not run when this was recorded (its plugins: fake)"), "{err}");
}

#[test]
fn each_trace_has_a_plugin_of_its_own() {
    let bench = Bench::new();
    let mut built = 0;
    let (_, out, _) = bench.run_with("%a.jsonl %b.jsonl.zst", &mut |settings| {
        built += 1;
        fake(settings)
    });
    assert_eq!(built, 2);
    // "seen" counts the calls that the plugin was asked about.
    assert_eq!(out.matches("seen: 1\n").count(), 1);
    assert_eq!(out.matches("seen: 2\n").count(), 1);
}

#[test]
fn what_cannot_run_says_why() {
    let bench = Bench::new();
    fs::write(bench.path("s.json"), "{\"a\":}").unwrap();
    fs::create_dir(bench.path("sub")).unwrap();
    fs::copy(bench.path("a.jsonl"), bench.path("sub/a.jsonl")).unwrap();
    fs::write(bench.path("foreign.jsonl"), "{\"a\":1}\n").unwrap();
    for (arguments, what) in [
        ("%none.jsonl", "%none.jsonl: cannot open the trace: No such file"),
        ("%foreign.jsonl", "%foreign.jsonl:1: not a trace"),
        ("%a.jsonl --settings {", "--settings: the text given is not JSON"),
        ("%a.jsonl --settings @%s.json", "--settings: %s.json is not JSON: expected value at line 1 column 6"),
        ("%a.jsonl --settings @%none.json", "--settings: cannot read %none.json"),
        ("%a.jsonl --expect %none.jsonl", "cannot read %none.jsonl: No such file or directory (os error 2); --bless"),
        ("%a.jsonl --expect %foreign.jsonl", "--expect: %foreign.jsonl: line 1: not a file of expected verdicts"),
        ("%a.jsonl %sub/a.jsonl", "two traces are named a.jsonl"),
    ] {
        let (code, _, err) = bench.run(arguments);
        assert_eq!(code, 2, "{arguments}: {err}");
        assert!(err.contains(what), "{arguments}: {err}");
    }
    let (code, out, err) = bench.run_with("%a.jsonl", &mut |_| anyhow::bail!("not WebAssembly"));
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, "host test-plugin: plugin fake.wasm cannot be made ready: not WebAssembly\n");
}

#[test]
fn json_is_one_document() {
    let bench = Bench::new();
    bench.run("%a.jsonl --expect %g.jsonl --bless");
    let (code, out, _) = bench.run("%a.jsonl %cut.jsonl --expect %g.jsonl --format json --settings \"EPERM\"");
    assert_eq!(code, 2);
    insta::assert_snapshot!(out, @r#"
    {
      "tracegate": "test-plugin",
      "version": 1,
      "plugin": "fake",
      "result": "cannot-run",
      "traces": [
        {
          "trace": "a.jsonl",
          "events": 3,
          "dropped": 0,
          "asked": 3,
          "denied": 1,
          "alerts": 2,
          "faults": 0,
          "rules": {
            "sensitive-read": 2
          },
          "verdicts": [
            {
              "seq": 1,
              "event": "entry",
              "syscall": "openat",
              "pid": 812,
              "action": "deny",
              "errno": "EPERM",
              "alerts": [
                {
                  "rule": "sensitive-read",
                  "severity": "high",
                  "message": "reads /etc/shadow",
                  "fields": {
                    "seen": "1"
                  }
                }
              ]
            },
            {
              "seq": 3,
              "event": "entry",
              "syscall": "openat",
              "pid": 812,
              "action": "allow",
              "alerts": [
                {
                  "rule": "sensitive-read",
                  "severity": "high",
                  "message": "reads /etc/<b>\u001b",
                  "fields": {
                    "seen": "3"
                  }
                }
              ]
            }
          ],
          "differences": [
            {
              "trace": "a.jsonl",
              "event": 1,
              "line": 3,
              "what": "changed",
              "expected": {
                "seq": 1,
                "event": "entry",
                "syscall": "openat",
                "pid": 812,
                "action": "deny",
                "errno": "EACCES",
                "alerts": [
                  {
                    "rule": "sensitive-read",
                    "severity": "high",
                    "message": "reads /etc/shadow",
                    "fields": {
                      "seen": "1"
                    }
                  }
                ]
              },
              "got": {
                "seq": 1,
                "event": "entry",
                "syscall": "openat",
                "pid": 812,
                "action": "deny",
                "errno": "EPERM",
                "alerts": [
                  {
                    "rule": "sensitive-read",
                    "severity": "high",
                    "message": "reads /etc/shadow",
                    "fields": {
                      "seen": "1"
                    }
                  }
                ]
              }
            }
          ]
        },
        {
          "trace": "cut.jsonl",
          "events": 2,
          "dropped": 0,
          "asked": 2,
          "denied": 1,
          "alerts": 1,
          "faults": 0,
          "rules": {
            "sensitive-read": 1
          },
          "error": "%cut.jsonl:6: the trace is cut off: there is no end line; its first 2 events are whole. The recorder was killed or the copy is incomplete; --allow-truncated goes on with what is there",
          "verdicts": [
            {
              "seq": 1,
              "event": "entry",
              "syscall": "openat",
              "pid": 812,
              "action": "deny",
              "errno": "EPERM",
              "alerts": [
                {
                  "rule": "sensitive-read",
                  "severity": "high",
                  "message": "reads /etc/shadow",
                  "fields": {
                    "seen": "1"
                  }
                }
              ]
            }
          ],
          "differences": []
        }
      ],
      "differences": []
    }
    "#);
    serde_json::from_str::<serde_json::Value>(&out).unwrap();
}

#[test]
fn junit_is_escaped() {
    assert_eq!(junit::escape("<a b=\"c\">&'\u{1b}\n"), "&lt;a b=&quot;c&quot;&gt;&amp;&apos;\u{fffd}\n");
    let bench = Bench::new();
    bench.run("%quiet.jsonl --expect %g.jsonl --bless");
    let (code, out, _) = bench.run("%quiet.jsonl %a.jsonl %cut.jsonl --expect %g.jsonl --format junit");
    assert_eq!(code, 2);
    insta::assert_snapshot!(out, @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="tracegate" tests="3" failures="1" errors="1">
      <testsuite name="fake" tests="3" failures="1" errors="1">
        <testcase classname="fake" name="quiet.jsonl"/>
        <testcase classname="fake" name="a.jsonl">
          <failure message="differences: 1">%g.jsonl: a.jsonl: the file has nothing on this trace; 2 verdicts came
    </failure>
        </testcase>
        <testcase classname="fake" name="cut.jsonl">
          <error message="%cut.jsonl:6: the trace is cut off: there is no end line; its first 2 events are whole. The recorder was killed or the copy is incomplete; --allow-truncated goes on with what is there"/>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
    let (_, passed, _) = bench.run("%quiet.jsonl --format junit");
    insta::assert_snapshot!(passed, @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="tracegate" tests="1" failures="0" errors="0">
      <testsuite name="fake" tests="1" failures="0" errors="0">
        <testcase classname="fake" name="quiet.jsonl"/>
      </testsuite>
    </testsuites>
    "#);
}

#[test]
fn help_has_examples() {
    use clap::CommandFactory as _;
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        _command: TestPlugin,
    }
    let help = Line::command().render_help().to_string();
    assert!(help.contains("--expect golden.jsonl --bless"), "{help}");
}
