//! Events for tests.

use std::sync::Arc;

use crate::decode::Arch;
use crate::event::{Argument, Call, Event, Kind, Outcome, PathState, Process, ResolvedPath, SocketAddress, Value};

/// A process like a shell's.
pub(crate) fn process(pid: i32) -> Arc<Process> {
    Arc::new(Process {
        pid,
        parent: 1,
        start_time: 123_456,
        exe: "/usr/bin/dash".into(),
        comm: "sh".into(),
        argv: vec!["sh".into(), "-c".into(), "cat /etc/shadow".into()],
        cwd: "/root".into(),
        uids: [0; 4],
        gids: [0; 4],
        capabilities: 0x1ff_ffff_ffff,
        container: None,
    })
}

/// A call by its name, with arguments as its declaration wants them as far as
/// `arguments` goes, and plain numbers for the rest.
pub(crate) fn call(name: &str, arguments: Vec<Argument>) -> Call {
    let arch = Arch::X86_64;
    let nr = arch.number(name).unwrap_or(9999);
    let spec = arch.spec(nr);
    let mut arguments = arguments;
    while arguments.len() < spec.args.len() {
        arguments.push(Argument::captured(Value::Uint(0), None, None));
    }
    arguments.truncate(spec.args.len());
    Call { arch, nr, registers: [0xffff_ff9c, 0x7ffe_1234_5678, 0x8_0000, 0, 0x7f00_0000_0000, 0], spec, arguments }
}

/// `openat(AT_FDCWD, path, O_RDONLY|O_CLOEXEC)`.
pub(crate) fn openat(path: &str) -> Call {
    let resolved = ResolvedPath { path: path.into(), state: PathState::Exists };
    call(
        "openat",
        vec![
            Argument::captured(Value::Fd(-100), None, None),
            Argument::captured(Value::Path(path.into()), Some(resolved), None),
            Argument::captured(Value::Flags(0x8_0000), None, None),
            Argument::captured(Value::Absent, None, None),
        ],
    )
}

/// `connect(3, 127.0.0.1:80)`.
pub(crate) fn connect() -> Call {
    let address = SocketAddress { data: b"\x02\x00\x00\x50\x7f\x00\x00\x01\0\0\0\0\0\0\0\0".into() };
    call(
        "connect",
        vec![
            Argument::captured(Value::Fd(3), None, Some("socket:[4711]".into())),
            Argument::captured(Value::Address(address), None, None),
            Argument::captured(Value::Uint(16), None, None),
        ],
    )
}

/// The entry of `call` as event `seq` of `process`.
pub(crate) fn entry(seq: u64, process: &Arc<Process>, call: Call) -> Event {
    let ids = (process.pid, process.pid);
    Event::captured(seq, 1_763_837_000_123_456_789 + seq, ids, Kind::Entry(call), Arc::clone(process))
}

/// The exit of `call`.
pub(crate) fn exit(seq: u64, process: &Arc<Process>, call: Call, result: i64) -> Event {
    let ids = (process.pid, process.pid);
    let outcome = Outcome { result, entry_seq: seq - 1, duration_ns: 12_345 };
    Event::captured(seq, 1_763_837_000_123_456_789 + seq, ids, Kind::Exit(call, outcome), Arc::clone(process))
}
