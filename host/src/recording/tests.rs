//! Traces written and read back, and all that can be wrong with one.
#![allow(clippy::unwrap_used)]

use std::io::{self, Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bstr::BString;
use proptest::prelude::*;

use super::samples::{call, connect, entry, exit, openat, process};
use super::*;
use crate::event::{
    Action, Alert, Answer, Argument, Defect, Errno, Event, ExitStatus, Field, Kind, Message, PathState, Process,
    ProcessEvent, ResolvedPath, Severity, SocketAddress, Strings, Value,
};

/// Memory that the writer's thread and the test share.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn header() -> Header {
    Header {
        host: "0.1.0".into(),
        arch: "x86_64".into(),
        started: 1_763_837_000_000_000_000,
        command: vec!["cat".into(), b"/tmp/\xff".into()],
        plugins: vec!["sensitive-files".into()],
    }
}

fn write(compression: Compression, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let memory = Memory::default();
    let mut writer = Writer::new(Box::new(memory.clone()), compression, &header()).unwrap();
    fill(&mut writer);
    writer.finish().unwrap();
    memory.bytes()
}

fn read(trace: impl AsRef<[u8]>) -> Result<Vec<Record>, TraceError> {
    Reader::new(Path::new("t.jsonl"), Cursor::new(trace.as_ref().to_vec()))?.collect()
}

fn error(trace: impl AsRef<[u8]>) -> String {
    read(trace).unwrap_err().to_string()
}

/// What can be seen of an event from outside.
fn facts(event: &Event) -> String {
    let arguments = event.call().map_or(0, |call| call.arguments.len());
    let asked: Vec<_> = (0..arguments).map(|index| (event.path(index), event.descriptor(index))).collect();
    let values = event.call().map(|call| {
        let values: Vec<_> = call.arguments.iter().map(|argument| &argument.value).collect();
        format!("{:?} {} {:x?} {} {values:?}", call.arch, call.nr, call.registers, call.spec.name)
    });
    let what = match &event.kind {
        Kind::Process(what) => Some(what),
        _ => None,
    };
    format!(
        "{} {} {} {} {what:?} {values:?} {:?} {asked:?} {:?}",
        event.seq,
        event.time_ns,
        event.pid,
        event.tid,
        event.outcome(),
        event.process(),
    )
}

fn events(records: Vec<Record>) -> Vec<Event> {
    let events = records.into_iter().filter_map(|record| match record {
        Record::Event(event) => Some(event),
        _ => None,
    });
    events.collect()
}

fn alert() -> VerdictRecord {
    VerdictRecord {
        seq: 1,
        plugin: "sensitive-files".into(),
        mode: Mode::Monitor,
        answer: Answer {
            action: Action::Deny(Errno::EACCES),
            alerts: vec![Alert {
                rule: "sensitive-read".into(),
                severity: Severity::High,
                message: "m".into(),
                fields: vec![("path".into(), "/etc/shadow".into())],
            }],
            fault: None,
        },
    }
}

/// A small trace with one of each line.
fn sample() -> String {
    let trace = write(Compression::None, |writer| {
        let shell = process(7);
        writer.event(&entry(1, &shell, openat("/etc/shadow"))).unwrap();
        writer.verdict(&alert()).unwrap();
        writer.verdict(&VerdictRecord { answer: Answer::allow(), ..alert() }).unwrap();
        writer.event(&exit(2, &shell, openat("/etc/shadow"), -13)).unwrap();
        let what = Kind::Process(ProcessEvent::Exited(ExitStatus::Code(1)));
        writer.event(&Event::captured(9, 5, (7, 7), what, shell)).unwrap();
        writer.dropped(3);
    });
    String::from_utf8(trace).unwrap()
}

#[test]
fn a_trace_looks_as_documented() {
    let trace = sample();
    let types: Vec<serde_json::Value> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<_> = types.iter().map(|line| line["type"].as_str().unwrap_or("header").to_owned()).collect();
    assert_eq!(types, ["header", "process", "entry", "verdict", "exit", "process_exit", "end"]);
    let line = |index| trace.lines().nth(index).unwrap();
    insta::assert_snapshot!(line(0), @r#"{"tracegate":"trace","version":1,"host":"0.1.0","arch":"x86_64","started":1763837000000000000,"command":["cat",{"base64":"L3RtcC//"}],"plugins":["sensitive-files"]}"#);
    insta::assert_snapshot!(line(1), @r#"{"type":"process","id":1,"pid":7,"parent":1,"start_time":123456,"exe":"/usr/bin/dash","comm":"sh","argv":["sh","-c","cat /etc/shadow"],"cwd":"/root","uids":[0,0,0,0],"gids":[0,0,0,0],"capabilities":"0x1ffffffffff"}"#);
    insta::assert_snapshot!(line(2), @r#"{"type":"entry","seq":1,"time_ns":1763837000123456790,"pid":7,"tid":7,"process":1,"arch":"x86_64","nr":257,"syscall":"openat","registers":["0xffffff9c","0x7ffe12345678","0x80000","0x0","0x7f0000000000","0x0"],"args":[{"name":"dirfd","kind":"fd","value":-100,"text":"AT_FDCWD"},{"name":"pathname","kind":"path","value":"/etc/shadow","text":"\"/etc/shadow\"","path":{"path":"/etc/shadow","state":"exists"}},{"name":"flags","kind":"flags","value":"0x80000","text":"O_RDONLY|O_CLOEXEC"},{"name":"mode","kind":"absent","text":"NULL"}]}"#);
    insta::assert_snapshot!(line(3), @r#"{"type":"verdict","seq":1,"plugin":"sensitive-files","mode":"monitor","action":"deny","errno":"EACCES","alerts":[{"rule":"sensitive-read","severity":"high","message":"m","fields":{"path":"/etc/shadow"}}]}"#);
    assert!(line(4).ends_with(r#""result":-13,"errno":"EACCES","entry_seq":1,"duration_ns":12345}"#), "{}", line(4));
    insta::assert_snapshot!(line(5), @r#"{"type":"process_exit","seq":9,"time_ns":5,"pid":7,"tid":7,"process":1,"code":1}"#);
    insta::assert_snapshot!(line(6), @r#"{"type":"end","events":3,"dropped":3}"#);
}

#[test]
fn a_trace_reads_back() {
    for compression in [Compression::None, Compression::Zstd] {
        let shell = process(7);
        let mut renamed = Process::clone(&shell);
        renamed.cwd = b"/\xff".into();
        let renamed = Arc::new(renamed);
        let written = || {
            let happened = |seq, what| Event::captured(seq, seq, (7, 8), Kind::Process(what), Arc::clone(&shell));
            vec![
                entry(1, &shell, openat("/etc/shadow")),
                exit(2, &shell, openat("/etc/shadow"), 3),
                entry(3, &renamed, connect()),
                exit(4, &shell, connect(), -115),
                happened(5, ProcessEvent::Forked { child: 9, thread: true }),
                happened(6, ProcessEvent::Executed { previous_exe: b"/bin/\xfe".into() }),
                happened(7, ProcessEvent::Exited(ExitStatus::Signal(9))),
                entry(u64::MAX, &shell, call("no such call", vec![])),
            ]
        };
        let trace = write(compression, |writer| written().iter().for_each(|event| writer.event(event).unwrap()));
        let records = read(&trace).unwrap();
        assert!(matches!(records.last(), Some(Record::End { events: 8, dropped: 0 })));
        let read: Vec<_> = events(records).iter().map(facts).collect();
        assert_eq!(read, written().iter().map(facts).collect::<Vec<_>>());
    }
}

#[test]
fn header_and_verdicts_read_back() {
    let trace = sample();
    let reader = Reader::new(Path::new("t"), Cursor::new(trace)).unwrap();
    assert_eq!(*reader.header(), header());
    let verdicts: Vec<_> = reader
        .filter_map(|record| match record.unwrap() {
            Record::Verdict(verdict) => Some(verdict),
            _ => None,
        })
        .collect();
    assert_eq!(verdicts, [alert()]);
}

#[test]
fn a_process_is_described_once_until_it_changes() {
    let trace = write(Compression::None, |writer| {
        let (one, same) = (process(7), process(7));
        let changed = Arc::new(Process { cwd: "/tmp".into(), ..Process::clone(&one) });
        for (seq, process) in (1..).zip([&one, &one, &same, &changed, &one, &process(8)]) {
            writer.event(&entry(seq, process, openat("/x"))).unwrap();
        }
    });
    let trace = String::from_utf8(trace).unwrap();
    let ids: Vec<_> = trace.lines().filter_map(|line| line.strip_prefix("{\"type\":\"process\",\"id\":")).collect();
    assert_eq!(ids.iter().map(|rest| &rest[..1]).collect::<Vec<_>>(), ["1", "2", "3"]);
    let cwds: Vec<_> = events(read(trace).unwrap()).iter().map(|event| event.process().cwd.to_string()).collect();
    assert_eq!(cwds, ["/root", "/root", "/root", "/tmp", "/root", "/root"]);
}

#[test]
fn process_ids_start_over() {
    const PROCESSES: i32 = 70_000;
    let trace = write(Compression::Zstd, |writer| {
        for pid in 1..=PROCESSES {
            writer.event(&entry(pid as u64, &process(pid), call("getpid", vec![]))).unwrap();
        }
    });
    let read = events(read(trace).unwrap());
    assert_eq!(read.len(), PROCESSES as usize);
    assert!(read.iter().all(|event| event.process().pid == event.pid));
}

#[test]
fn keys_may_be_in_any_order() {
    let sorted: String = sample()
        .lines()
        .map(|line| {
            fn sort(value: serde_json::Value) -> serde_json::Value {
                match value {
                    serde_json::Value::Object(map) => {
                        let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sort(value))).collect();
                        // Backwards: "value" comes before "kind", "type" late.
                        entries.sort_by(|a, b| b.0.cmp(&a.0));
                        entries.into_iter().collect::<serde_json::Map<_, _>>().into()
                    }
                    serde_json::Value::Array(items) => items.into_iter().map(sort).collect(),
                    other => other,
                }
            }
            let value = sort(serde_json::from_str(line).unwrap());
            // `Map` sorts unless told otherwise; write it by hand then.
            fn show(value: &serde_json::Value) -> String {
                match value {
                    serde_json::Value::Object(map) => {
                        let mut entries: Vec<_> = map.iter().collect();
                        entries.sort_by(|a, b| b.0.cmp(a.0));
                        let entries = entries.iter().map(|(key, value)| format!("{key:?}: {}", show(value)));
                        format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
                    }
                    serde_json::Value::Array(items) => {
                        format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
                    }
                    other => other.to_string(),
                }
            }
            show(&value) + "\n"
        })
        .collect();
    let (plain, sorted) = (events(read(sample()).unwrap()), events(read(sorted).unwrap()));
    assert_eq!(plain.iter().map(facts).collect::<Vec<_>>(), sorted.iter().map(facts).collect::<Vec<_>>());
}

#[test]
fn unknown_keys_are_ignored_and_escapes_understood() {
    let trace = sample()
        .replace("\"seq\":1,\"time_ns\"", "\"new\":{\"a\":[1]},\"seq\":1,\"time_ns\"")
        .replace("\"openat\"", "\"open\\u0061t\"");
    assert_eq!(read(trace).unwrap().len(), 5);
}

#[test]
fn background_reader_gives_the_same() {
    let trace = write(Compression::Zstd, |writer| {
        let shell = process(7);
        for seq in 1..=3000 {
            writer.event(&entry(seq, &shell, openat("/x"))).unwrap();
        }
    });
    let records = Reader::new(Path::new("t"), Cursor::new(trace.clone())).unwrap().in_background().unwrap();
    let read = events(records.map(Result::unwrap).collect());
    assert_eq!(read.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=3000).collect::<Vec<_>>());

    let mut cut = Reader::new(Path::new("t"), Cursor::new(trace)).unwrap().in_background().unwrap();
    assert!(cut.next().unwrap().is_ok());
    // Dropping it early leaves no thread waiting.
    drop(cut);
}

#[test]
fn unwanted_calls_are_skipped_but_counted() {
    let mut reader = Reader::new(Path::new("t"), Cursor::new(sample()))
        .unwrap()
        .only(|_, nr, phase| nr == 257 && phase == Phase::Exit);
    let seqs: Vec<_> = events(reader.by_ref().map(Result::unwrap).collect()).iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [2, 9]);
    assert_eq!(reader.progress().events(), 3);

    let broken = sample().replace("\"name\":\"flags\"", "\"name\":\"flags");
    let problem = Reader::new(Path::new("t"), Cursor::new(broken)).unwrap().only(|_, _, _| false).find_map(Result::err);
    assert!(matches!(problem.unwrap().problem, Problem::Malformed(_)));
}

#[test]
fn what_is_no_trace_is_named() {
    insta::assert_snapshot!(error(""), @"t.jsonl: not a trace: the file is empty; make one with `host record -o TRACE -- CMD`");
    insta::assert_snapshot!(error("\u{7f}ELF\n"), @"t.jsonl:1: not a trace: the first line is not JSON (expected value, in column 1); make one with `host record -o TRACE -- CMD`");
    insta::assert_snapshot!(error(b"\x7fELF\xff\n"), @"t.jsonl:1: not a trace: the first line is not JSON (it is not text); make one with `host record -o TRACE -- CMD`");
    insta::assert_snapshot!(error("{\"time\":1,\"syscall\":\"open\"}\n"), @r#"t.jsonl:1: not a trace: the first line has no "tracegate":"trace"; make one with `host record -o TRACE -- CMD`"#);
    insta::assert_snapshot!(error("[1]\n"), @r#"t.jsonl:1: not a trace: the first line has no "tracegate":"trace"; make one with `host record -o TRACE -- CMD`"#);
    insta::assert_snapshot!(error("{\"tracegate\":\"golden\",\"version\":1}\n"), @r#"t.jsonl:1: not a trace: the first line has no "tracegate":"trace" (it is a file of expected verdicts, for --expect); make one with `host record -o TRACE -- CMD`"#);
    insta::assert_snapshot!(error("{\"tracegate\":\"trace\",\"version\":2,\"host\":\"3.1.4\"}\n"), @"t.jsonl:1: the trace has format version 2, this host reads up to version 1; use host 3.1.4 or later");
    insta::assert_snapshot!(error("{\"tracegate\":\"trace\"}\n"), @"t.jsonl:1: the header is wrong: missing field `version`");
    insta::assert_snapshot!(error("{\"tracegate\":\"trace\",\"version\":1,\"host\":\"0.1.0\"}\n"), @"t.jsonl:1: the header is wrong: missing field `arch`, in column 48");
    insta::assert_snapshot!(error("{\"tracegate\":\"trace\",\"ver"), @"t.jsonl:1: the trace is cut off: not even the header is whole; its first 0 events are whole. The recorder was killed or the copy is incomplete; --allow-truncated goes on with what is there");
    let missing = Reader::open(Path::new("/no/such/trace")).unwrap_err();
    insta::assert_snapshot!(missing, @"/no/such/trace: cannot open the trace: No such file or directory (os error 2)");
    insta::assert_snapshot!(Reader::open(Path::new("/tmp")).unwrap_err(), @"/tmp: cannot open the trace: is a directory");
}

#[test]
fn what_is_wrong_in_a_line_is_named() {
    let trace = sample();
    let change = |from: &str, to: &str| {
        assert!(trace.contains(from), "{from}");
        error(trace.replacen(from, to, 1))
    };
    insta::assert_snapshot!(change("\"nr\":257,", ""), @"t.jsonl:3: missing field `nr`, in column 521");
    insta::assert_snapshot!(change("\"nr\":257", "\"nr\":-1"), @"t.jsonl:3: invalid value: integer `-1`, expected u32, in column 105");
    insta::assert_snapshot!(change("\"nr\":257,", "\"nr\":257,,"), @"t.jsonl:3: key must be a string, in column 108");
    insta::assert_snapshot!(change("\"arch\":\"x86_64\",\"nr\"", "\"arch\":\"vax\",\"nr\""), @r#"t.jsonl:3: unknown architecture "vax""#);
    insta::assert_snapshot!(change("\"syscall\":\"openat\"", "\"syscall\":\"openatx\""), @r#"t.jsonl:3: system call 257 of x86_64 is recorded as "openatx" but is "openat" to this host; replay with the host version that recorded it, 0.1.0"#);
    insta::assert_snapshot!(change("\"name\":\"flags\"", "\"name\":\"flag\""), @"t.jsonl:3: openat is recorded with the arguments (dirfd, pathname, flag, mode) but has (dirfd, pathname, flags, mode) to this host; replay with the host version that recorded it, 0.1.0");
    insta::assert_snapshot!(change("\"kind\":\"flags\"", "\"kind\":\"flog\""), @r#"t.jsonl:3: unknown kind of argument "flog", in column 434"#);
    insta::assert_snapshot!(change("\"kind\":\"flags\",\"value\":\"0x80000\"", "\"kind\":\"flags\",\"value\":524288"), @r#"t.jsonl:3: invalid type: integer `524288`, expected a text such as "0x1f" (at most 16 digits), in column 450"#);
    insta::assert_snapshot!(change("\"process\":1,\"arch\"", "\"process\":2,\"arch\""), @"t.jsonl:3: the event refers to process 2, which no line before describes");
    insta::assert_snapshot!(change("\"process\":1,\"arch\"", "\"process\":18446744073709551615,\"arch\""), @"t.jsonl:3: the event refers to process 18446744073709551615, which no line before describes");
    insta::assert_snapshot!(change("\"type\":\"process\",\"id\":1", "\"type\":\"process\",\"id\":70000"), @"t.jsonl:2: process entry with id 70000; ids go from 1 to 65535");
    insta::assert_snapshot!(change("\"type\":\"exit\",\"seq\":2", "\"type\":\"exit\",\"seq\":1"), @"t.jsonl:5: event 1 comes after event 1; numbers must rise from 1");
    insta::assert_snapshot!(change("\"entry_seq\":1", "\"entry_seq\":2"), @"t.jsonl:5: exit 2 says that it was entered at 2, which is not before it");
    insta::assert_snapshot!(change("\"type\":\"exit\"", "\"type\":\"leave\""), @r#"t.jsonl:5: unknown record type "leave"; version 1 has no such record"#);
    insta::assert_snapshot!(change("{\"type\":\"exit\",", "{"), @"t.jsonl:5: missing field `type`, in column 579");
    insta::assert_snapshot!(change("\"code\":1", "\"code\":1,\"signal\":9"), @"t.jsonl:6: an exit has a `code` or a `signal`, not both");
    insta::assert_snapshot!(change("\"type\":\"verdict\",\"seq\":1", "\"type\":\"verdict\",\"seq\":2"), @"t.jsonl:4: a verdict on event 2, but the last event is 1");
    insta::assert_snapshot!(change("\"errno\":\"EACCES\",\"alerts\"", "\"errno\":\"EFOO\",\"alerts\""), @r#"t.jsonl:4: "EFOO" is no errno: give a name such as EACCES, or a number from 1 to 133, in column 100"#);
    insta::assert_snapshot!(change("\"errno\":\"EACCES\",\"alerts\"", "\"alerts\""), @r#"t.jsonl:4: the action is "deny", but there is no errno"#);
    insta::assert_snapshot!(change("\"events\":3", "\"events\":4"), @"t.jsonl:7: the end says 4 events but there were 3; the trace has been edited or damaged");
    insta::assert_snapshot!(change("\n{\"type\":\"entry\"", "\n\n{\"type\":\"entry\""), @"t.jsonl:3: the line is empty");
    insta::assert_snapshot!(error(trace.clone() + &trace), @"t.jsonl:8: there is more after the end line; traces cannot be joined");
    insta::assert_snapshot!(error([trace.as_bytes(), b"{"].concat()), @"t.jsonl:8: there is more after the end line; traces cannot be joined");
    let latin = trace.replacen("sensitive-read", "s\u{1}", 1).into_bytes();
    let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    insta::assert_snapshot!(error(latin), @"t.jsonl:4: the line is not UTF-8 (from byte 124)");
}

#[test]
fn truncation_is_told_from_damage() {
    let trace = sample();
    let end = trace.find("{\"type\":\"end\"").unwrap();
    for (cut, what) in [(end, "there is no end line"), (end - 10, "this line is not whole"), (end + 5, "not whole")] {
        let problem = read(&trace[..cut]).unwrap_err();
        assert!(problem.is_truncated());
        assert!(problem.to_string().contains(what), "{problem}");
    }
    insta::assert_snapshot!(error(&trace[..end]), @"t.jsonl:7: the trace is cut off: there is no end line; its first 3 events are whole. The recorder was killed or the copy is incomplete; --allow-truncated goes on with what is there");
    // All but the last line end is as good as whole.
    assert!(read(trace.trim_end()).is_ok());
    // Every cut gives whole events and then this error, no other.
    for cut in trace.find('\n').unwrap() + 1..trace.len() - 1 {
        assert!(read(&trace[..cut]).unwrap_err().is_truncated(), "{cut}");
    }
}

#[test]
fn truncated_zstd_gives_what_is_whole() {
    let memory = Memory::default();
    let mut writer = Writer::new(Box::new(memory.clone()), Compression::Zstd, &header()).unwrap();
    let shell = process(7);
    for seq in 1..=100 {
        writer.event(&entry(seq, &shell, openat(&format!("/{}", seq * 7919)))).unwrap();
    }
    // The host is killed here: nothing more is written.
    let deadline = Instant::now() + Duration::from_secs(5);
    let count = |bytes: Vec<u8>| {
        let reader = Reader::new(Path::new("t"), Cursor::new(bytes)).unwrap();
        let (mut events, mut problem) = (0, None);
        for record in reader {
            match record {
                Ok(Record::Event(_)) => events += 1,
                Ok(_) => {}
                Err(error) => problem = Some(error),
            }
        }
        (events, problem)
    };
    loop {
        let (events, problem) = count(memory.bytes());
        let problem = problem.unwrap();
        assert!(problem.is_truncated(), "{problem}");
        if events == 100 {
            insta::assert_snapshot!(problem, @"t:103: the trace is cut off: the compressed data stops in the middle; its first 100 events are whole. The recorder was killed or the copy is incomplete; --allow-truncated goes on with what is there");
            break;
        }
        assert!(Instant::now() < deadline, "only {events} events came through");
        std::thread::sleep(Duration::from_millis(10));
    }
    writer.finish().unwrap();
    let whole = memory.bytes();
    assert_eq!(count(whole.clone()).0, 100);
    for cut in [whole.len() - 1, whole.len() / 2] {
        let (_, problem) = count(whole[..cut].to_vec());
        assert!(problem.unwrap().is_truncated());
    }
    // Damage is another thing than truncation.
    let mut damaged = whole.clone();
    let middle = damaged.len() - 20;
    damaged[middle] ^= 0x55;
    let problem = read(damaged).unwrap_err();
    assert!(!problem.is_truncated(), "{problem}");
}

#[test]
fn hostile_lines_cost_little() {
    let head = sample().lines().next().unwrap().to_owned() + "\n";
    let many = |item: &str| vec![item; 2_000_000].join(",");
    let process = |argv: &str| {
        sample().lines().nth(1).unwrap().replace("\"argv\":[\"sh\"", &format!("\"argv\":[{argv},\"sh\"")) + "\n"
    };
    let found = error(head.clone() + &process(&many("\"\"")));
    assert!(found.contains("a list of at most 65536 items"), "{found}");
    let found = error(head.clone() + &"[".repeat(100_000) + "\n");
    assert!(found.contains("t.jsonl:2"), "{found}");
    let found = error(head.clone() + "{\"type\":\"" + &"x".repeat(17 << 20));
    assert!(found.contains("longer than 16 MiB"), "{found}");
    // A bomb: 1 GiB of one letter in 100 KiB.
    let bomb = zstd::encode_all(io::Read::take(io::repeat(b'x'), 1 << 30), 1).unwrap();
    let found = error(bomb);
    assert!(found.contains("longer than 16 MiB"), "{found}");
    let seven =
        sample().replace("\"args\":[", "\"args\":[{\"kind\":\"absent\"},{\"kind\":\"absent\"},{\"kind\":\"absent\"},");
    assert!(error(seven).contains("a list of at most 6 arguments"));
    // Process entries that never end.
    let argv = vec!["\"\""; 60_000].join(",");
    let table: String = (1..=400).map(|id| process(&argv).replace("\"id\":1", &format!("\"id\":{id}"))).collect();
    let found = error(head + &table);
    assert!(found.contains("more than 64 MiB"), "{found}");
}

#[test]
fn calls_that_the_recorder_did_not_declare_stay_words() {
    let words = (0..6).map(|n| format!("{{\"name\":\"a{n}\",\"kind\":\"uint\",\"value\":{n},\"text\":\"\"}}"));
    let words = words.collect::<Vec<_>>().join(",");
    let trace: String = sample()
        .lines()
        .map(|line| match line.split_once("\"args\":[") {
            Some((before, _)) if line.contains("\"entry\"") => format!("{before}\"args\":[{words}]}}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let read = events(read(trace).unwrap());
    let call = read[0].call().unwrap();
    assert_eq!((call.spec.name, call.spec.args[5].name), ("openat", "a5"));
    assert_eq!(call.arguments[5].value, Value::Uint(5));
}

#[test]
fn files_are_private_and_compressed_by_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    for (name, start) in [("t.jsonl", &b"{\"tracegate\""[..]), ("t.jsonl.zst", &[0x28, 0xb5, 0x2f, 0xfd][..])] {
        let path = folder.path().join(name);
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut writer = Writer::create(&path, &header()).unwrap();
        writer.event(&entry(1, &process(7), openat("/x"))).unwrap();
        assert_eq!(writer.finish().unwrap(), Summary { events: 1, dropped: 0 });
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read(&path).unwrap().starts_with(start));
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.by_ref().count(), 2);
        assert_eq!(reader.progress().bytes(), reader.progress().size());
    }
    assert!(Writer::create(&folder.path().join("no/such"), &header()).is_err());
}

#[test]
fn a_full_disk_is_reported() {
    let mut writer = Writer::create(Path::new("/dev/full"), &header());
    if let Ok(writer) = &mut writer {
        let deadline = Instant::now() + Duration::from_secs(5);
        for seq in 1.. {
            if writer.event(&entry(seq, &process(7), openat("/x"))).is_err() {
                return;
            }
            assert!(Instant::now() < deadline);
        }
    }
    assert_eq!(writer.unwrap_err().raw_os_error(), Some(28));
}

#[test]
fn events_out_of_order_are_refused() {
    let memory = Memory::default();
    let mut writer = Writer::new(Box::new(memory.clone()), Compression::None, &header()).unwrap();
    writer.event(&entry(2, &process(7), openat("/x"))).unwrap();
    assert!(writer.event(&entry(2, &process(7), openat("/x"))).is_err());
    assert_eq!(writer.finish().unwrap().events, 1);
    assert!(read(memory.bytes()).is_ok());
}

#[test]
fn an_early_verdict_waits_for_its_event() {
    let trace = write(Compression::None, |writer| {
        writer.verdict(&alert()).unwrap();
        writer.verdict(&VerdictRecord { seq: 2, ..alert() }).unwrap();
        writer.verdict(&VerdictRecord { seq: 9, ..alert() }).unwrap();
        writer.event(&entry(1, &process(7), openat("/x"))).unwrap();
        writer.event(&entry(2, &process(7), openat("/x"))).unwrap();
    });
    let order: Vec<_> = read(trace)
        .unwrap()
        .iter()
        .map(|record| match record {
            Record::Event(event) => format!("event {}", event.seq),
            Record::Verdict(verdict) => format!("verdict {}", verdict.seq),
            Record::End { events, dropped } => format!("end {events} {dropped}"),
        })
        .collect();
    assert_eq!(order, ["event 1", "verdict 1", "event 2", "verdict 2", "end 2 1"]);
}

#[test]
fn a_verdict_without_measure_is_cut() {
    let trace = write(Compression::Zstd, |writer| {
        writer.event(&entry(1, &process(7), openat("/x"))).unwrap();
        let mut verdict = alert();
        verdict.answer.alerts[0].message = "x".repeat(20 << 20);
        writer.verdict(&verdict).unwrap();
    });
    let records = read(trace).unwrap();
    let Record::Verdict(verdict) = &records[1] else { panic!("{records:?}") };
    assert!(verdict.answer.alerts.is_empty());
    assert!(verdict.answer.fault.as_ref().unwrap().contains("too many for a trace"));
}

#[test]
fn a_writer_that_is_dropped_leaves_a_truncated_trace() {
    let memory = Memory::default();
    let mut writer = Writer::new(Box::new(memory.clone()), Compression::Zstd, &header()).unwrap();
    writer.event(&entry(1, &process(7), openat("/x"))).unwrap();
    drop(writer);
    let problem = read(memory.bytes()).unwrap_err();
    assert!(problem.is_truncated());
}

fn bytes() -> impl Strategy<Value = BString> {
    prop_oneof![
        any::<Vec<u8>>().prop_map(BString::from),
        any::<String>().prop_map(BString::from),
        "/[a-z/.]{0,30}".prop_map(BString::from),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (proptest::option::of(bytes()), bytes(), any::<bool>(), proptest::collection::vec(any::<i32>(), 0..4)).prop_map(
        |(address, data, truncated, descriptors)| Message {
            address: address.map(|data| SocketAddress { data }),
            data,
            truncated,
            descriptors,
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        any::<u64>().prop_map(Value::Flags),
        any::<i32>().prop_map(Value::Fd),
        bytes().prop_map(Value::Path),
        bytes().prop_map(Value::Text),
        (proptest::collection::vec(bytes(), 0..5), any::<bool>())
            .prop_map(|(items, truncated)| Value::Strings(Strings { items, truncated })),
        (bytes(), any::<bool>()).prop_map(|(data, truncated)| Value::Bytes { data, truncated }),
        bytes().prop_map(|data| Value::Address(SocketAddress { data })),
        proptest::collection::vec(message(), 0..3).prop_map(Value::Messages),
        proptest::collection::vec((any::<String>(), any::<u64>()), 0..4).prop_map(|fields| Value::Structure(
            fields.into_iter().map(|(name, value)| Field { name: name.into(), value }).collect()
        )),
        Just(Value::Absent),
        prop_oneof![Just(Defect::Fault), Just(Defect::Unterminated), Just(Defect::Malformed)]
            .prop_map(Value::Unreadable),
        any::<String>().prop_map(Value::Other),
    ]
}

fn argument() -> impl Strategy<Value = (Value, Option<ResolvedPath>, Option<BString>)> {
    let state = prop_oneof![
        Just(PathState::Exists),
        Just(PathState::Missing),
        Just(PathState::Unresolved),
        Just(PathState::Unknown)
    ];
    let path = (bytes(), state).prop_map(|(path, state)| ResolvedPath { path, state });
    (value(), proptest::option::of(path), proptest::option::of(bytes()))
}

/// An environment is told apart from its address, and in a trace it is the value
/// of its argument.
#[test]
fn environments() -> anyhow::Result<()> {
    let strings = |items: &[&str], truncated| {
        Some(Strings { items: items.iter().map(|item| BString::from(*item)).collect(), truncated })
    };
    let plain = (Value::Uint(0x7ff0), strings(&["A=b", "\"\u{fffd}"], false), "strings");
    for (address, environment, kind) in [
        plain.clone(),
        (Value::Uint(0x7ff0), strings(&["A=b"], true), "strings"),
        (Value::Absent, strings(&[], false), "strings"),
        (Value::Uint(0x7ff0), None, "uint"),
    ] {
        let make = || {
            let path = Argument::captured(Value::Path("/x".into()), None, None);
            let argv = Argument::captured(Value::Absent, None, None);
            let envp = Argument::of_environment(address.clone(), environment.clone());
            let mut call = call("execve", vec![path, argv, envp]);
            call.registers = [1, 0, if address == Value::Absent { 0 } else { 0x7ff0 }, 0, 0, 0];
            Event::captured(1, 2, (3, 3), Kind::Entry(call), Arc::new(Process::unknown(3)))
        };
        let trace = write(Compression::None, |writer| writer.event(&make()).unwrap());
        let text = std::str::from_utf8(&trace)?.to_owned();
        assert!(text.contains(&format!(r#"{{"name":"envp","kind":"{kind}""#)), "{text}");
        // The second is read by the reader for any JSON.
        for text in [text.clone(), text.replace(r#""name":"envp","#, r#""name": "envp","#)] {
            let read = events(read(text.into_bytes())?);
            let call = read[0].call().unwrap();
            assert_eq!((&call.arguments[2].value, read[0].environment()), (&address, environment.as_ref()));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(
        arguments in proptest::collection::vec(argument(), 6),
        registers in any::<[u64; 6]>(),
        result in any::<i64>(),
        ids in any::<(i32, i32)>(),
        time_ns in any::<u64>(),
        known in any::<Option<(u64, BStringLike, BStringLike)>>(),
        compress in any::<bool>(),
    ) {
        let process = Arc::new(known.map_or_else(|| Process::unknown(ids.0), |(number, exe, arg)| Process {
            pid: ids.0,
            parent: ids.1,
            start_time: number,
            exe: exe.0.clone().into(),
            comm: exe.0.into(),
            argv: vec![arg.0.clone().into(), "".into()],
            cwd: arg.0.into(),
            uids: [1, 2, u32::MAX, number as u32],
            gids: [0; 4],
            capabilities: number,
            container: Some("c".into()),
        }));
        // A descriptor is asked for only where the value is one.
        let make = || {
            let arguments = arguments.iter().cloned().map(|(value, path, descriptor)| Argument::captured(value, path, descriptor));
            let mut call = call("no such call", arguments.collect());
            call.registers = registers;
            let outcome = crate::event::Outcome { result, entry_seq: 4, duration_ns: time_ns };
            Event::captured(5, time_ns, ids, Kind::Exit(call, outcome), Arc::clone(&process))
        };
        let compression = if compress { Compression::Zstd } else { Compression::None };
        let trace = write(compression, |writer| writer.event(&make()).unwrap());
        let read = events(read(trace).unwrap());
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(facts(&read[0]), facts(&make()));
    }

    #[test]
    fn a_damaged_trace_is_an_error_or_a_trace(place in 0..10_000usize, byte in any::<u8>(), remove in 0..3usize) {
        let mut trace = sample().into_bytes();
        let place = place % trace.len();
        trace[place] = byte;
        let end = (place + remove).min(trace.len());
        trace.drain(place..end);
        // It must come to an end without a panic.
        let _ = read(trace);
    }
}

/// Any bytes, for `any`.
#[derive(Clone, Debug, Default)]
struct BStringLike(Vec<u8>);

impl Arbitrary for BStringLike {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;
    fn arbitrary_with((): ()) -> Self::Strategy {
        bytes().prop_map(|bytes| Self(bytes.into())).boxed()
    }
}
