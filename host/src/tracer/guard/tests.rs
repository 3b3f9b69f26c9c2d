#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::broadcast::{Echoes, Sender, Set};
use super::*;
use crate::decode::{self, Memory};
use crate::event::{Call, Kind, Oracle, Process, ResolvedPath, Strings, Value};
use crate::tracer::task::Task;

const TAKEN: [c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// A process that makes calls in these tests, which never run.
struct Caller(Child);

impl Caller {
    /// In our process group, as a program under `host run`.
    fn new() -> Self {
        Self::spawn(&mut Command::new("cat"))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // An answer says that it has executed.
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        Self(child)
    }

    fn pid(&self) -> pid_t {
        self.0.id() as pid_t
    }

    fn event(&self, name: &str, registers: [u64; 6], memory: &dyn Memory) -> Event {
        self.event_of(Arch::NATIVE, name, registers, memory)
    }

    fn event_of(&self, arch: Arch, name: &str, registers: [u64; 6], memory: &dyn Memory) -> Event {
        let call = decode::decode(arch, arch.number(name).unwrap(), registers, memory);
        let oracle = Task::new(self.pid()).oracle(self.pid(), false);
        Event::live(1, 0, (self.pid(), self.pid()), Kind::Entry(call), oracle)
    }

    /// The verdict on a call with numbers alone, which must stop unless it
    /// passes.
    fn verdict(&self, own: &Own, name: &str, arguments: &[i64]) -> Verdict {
        let mut registers = [0; 6];
        registers.iter_mut().zip(arguments).for_each(|(register, argument)| *register = *argument as u64);
        let verdict = judge(own, &self.event(name, registers, &Nothing), true, &|| false);
        assert!(verdict == Verdict::Pass || stops(own, name, &registers), "{name} {arguments:?} must stop");
        verdict
    }

    /// Whether a call is refused. Texts stand for names.
    fn refused(&self, own: &Own, name: &str, arguments: &[Arg]) -> bool {
        let mut registers = [0; 6];
        let mut memory = Texts(Vec::new());
        for (index, argument) in arguments.iter().enumerate() {
            registers[index] = match argument {
                Arg::Is(number) => *number as u64,
                Arg::Bytes(bytes) => {
                    memory.0.push(bytes.clone());
                    memory.0.len() as u64 * PAGE
                }
            };
        }
        match judge(own, &self.event(name, registers, &memory), true, &|| false) {
            Verdict::Pass => false,
            Verdict::Refuse(errno) => {
                assert_eq!(errno, Errno::EACCES);
                true
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum Arg {
    Is(i64),
    Bytes(Vec<u8>),
}

fn name(path: impl AsRef<Path>) -> Arg {
    Arg::Bytes([path.as_ref().as_os_str().as_encoded_bytes(), b"\0"].concat())
}

const CWD: Arg = Arg::Is(libc::AT_FDCWD as i64);

struct Nothing;

impl Memory for Nothing {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
}

const PAGE: u64 = 0x1_0000;

/// Text number N is at N pages, counted from 1.
struct Texts(Vec<Vec<u8>>);

impl Memory for Texts {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let text = (address / PAGE).checked_sub(1).and_then(|index| self.0.get(index as usize));
        let rest = text.and_then(|text| text.get((address % PAGE) as usize..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        length
    }
}

fn stops(own: &Own, name: &str, registers: &[u64; 6]) -> bool {
    let nr = Arch::NATIVE.number(name).unwrap();
    stopping(own).get(&nr).is_some_and(|predicate| predicate.holds(registers))
}

fn eperm() -> Verdict {
    Verdict::Refuse(Errno::EPERM)
}

/// The number of a thread of ours that is not the first, which waits in `f`.
fn with_a_thread(f: impl FnOnce(i64)) {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = ended.recv();
        });
        f(told.recv().unwrap().into());
        drop(end);
    });
}

fn us() -> i64 {
    std::process::id().into()
}

// ---- Processes -------------------------------------------------------------

#[test]
fn signals_at_us_are_refused_or_passed_on() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    with_a_thread(|thread| {
        assert_ne!(thread, us());
        for number in [us(), thread, us() | 0x7ead_beef << 32] {
            for call in ["kill", "tkill", "rt_sigqueueinfo"] {
                assert_eq!(caller.verdict(&own, call, &[number, 9]), eperm(), "{call} {number}");
                assert_eq!(caller.verdict(&own, call, &[number, 19]), eperm());
                assert_eq!(caller.verdict(&own, call, &[number, 15]), Verdict::PassOn(15));
            }
        }
        for call in ["tgkill", "rt_tgsigqueueinfo"] {
            assert_eq!(caller.verdict(&own, call, &[us(), thread, 9]), eperm());
            assert_eq!(caller.verdict(&own, call, &[us(), thread, 15]), Verdict::PassOn(15));
        }
    });
    let only_looking = Own::new(&[], &[]);
    assert_eq!(caller.verdict(&only_looking, "kill", &[us(), 15]), eperm());
}

#[test]
fn signals_at_others_and_harmless_ones_pass() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    for signal in [0, libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH, 65, -1] {
        assert_eq!(caller.verdict(&own, "kill", &[us(), signal.into()]), Verdict::Pass, "{signal}");
        assert_eq!(caller.verdict(&own, "kill", &[0, signal.into()]), Verdict::Pass, "{signal}");
    }
    for pid in [1, caller.pid().into(), i64::from(i32::MAX), -2, i64::from(i32::MIN)] {
        assert_eq!(caller.verdict(&own, "kill", &[pid, 9]), Verdict::Pass, "{pid}");
    }
    assert_eq!(caller.verdict(&own, "tgkill", &[caller.pid().into(), caller.pid().into(), 9]), Verdict::Pass);
    let stopping = |name, registers| stops(&own, name, &registers);
    assert!(!stopping("kill", [us() as u64, 0, 0, 0, 0, 0]));
    assert!(!stopping("tgkill", [caller.pid() as u64, 1, 9, 0, 0, 0]));
    assert!(!stopping("tkill", [us() as u64, libc::SIGURG as u64, 0, 0, 0, 0]));
}

#[test]
fn numbers_in_another_pid_namespace_are_not_ours() {
    let caller = Caller::new();
    let mut own = Own::new(&[], &TAKEN);
    // As if the caller were not as deep as we.
    own.depth += 1;
    for call in ["kill", "tkill", "pidfd_open", "sched_setaffinity", "process_vm_writev"] {
        assert_eq!(caller.verdict(&own, call, &[us(), 9]), Verdict::Pass, "{call}");
    }
    assert_eq!(caller.verdict(&own, "kill", &[-1, 9]), Verdict::Pass);
    assert_eq!(caller.verdict(&own, "kill", &[-i64::from(own.group), 9]), Verdict::Pass);
    // Its own group can still be ours: kill(0) does not go by numbers.
    assert!(matches!(caller.verdict(&own, "kill", &[0, 9]), Verdict::Instead(_)));
}

#[test]
fn a_signal_to_our_group_goes_to_all_but_us() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    let other = Caller::new();
    for group in [0, -i64::from(own.group)] {
        let Verdict::Instead(broadcast) = caller.verdict(&own, "kill", &[group, 9]) else { panic!("{group}") };
        assert_eq!(broadcast.signal(), 9);
        let mut receivers = Vec::new();
        broadcast.deliver(|pid| receivers.push(pid));
        assert!(receivers.contains(&other.pid()));
        assert!(!receivers.contains(&own.pid));
        assert_eq!(receivers.last(), Some(&caller.pid()), "the sender last");
        assert_eq!(receivers.iter().filter(|pid| **pid == caller.pid()).count(), 1);
        for pid in receivers {
            let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
            assert!(group.is_err() || group.unwrap().as_raw() == own.group, "{pid}");
        }
    }
    let apart = Caller::spawn(Command::new("cat").process_group(0));
    assert_eq!(apart.verdict(&own, "kill", &[0, 9]), Verdict::Pass, "not our group");
}

#[test]
fn a_signal_to_everyone_spares_us_the_sender_and_process_1() {
    let (caller, mut own) = (Caller::new(), Own::new(&[], &TAKEN));
    let other = Caller::spawn(Command::new("cat").process_group(0));
    own.pid = 4242;
    let Verdict::Instead(broadcast) = caller.verdict(&own, "kill", &[-1, 9]) else { panic!() };
    let mut receivers = Vec::new();
    broadcast.deliver(|pid| receivers.push(pid));
    assert!(receivers.contains(&other.pid()));
    for spared in [1, caller.pid(), us() as pid_t] {
        assert!(!receivers.contains(&spared), "{spared}");
    }
    own.pid = 1;
    assert_eq!(caller.verdict(&own, "kill", &[-1, 9]), Verdict::Pass, "the kernel spares process 1");
}

#[test]
fn as_process_1_we_stand_for_the_program() {
    let (caller, mut own) = (Caller::new(), Own::new(&[], &TAKEN));
    own.pid = 1;
    assert_eq!(caller.verdict(&own, "kill", &[1, libc::SIGQUIT.into()]), Verdict::PassOn(libc::SIGQUIT));
    assert_eq!(caller.verdict(&own, "kill", &[1, 9]), Verdict::Pass, "the kernel spares process 1");
}

#[test]
fn a_signal_that_we_take_is_an_echo_if_the_program_gets_it_too() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    let Verdict::Echo(echo) = caller.verdict(&own, "kill", &[0, 15]) else { panic!() };
    assert_eq!(echo, Echo { signal: 15, sender: caller.pid() });
    let echoes = Echoes::default();
    assert!(!echoes.is_echo(15, libc::SI_USER, caller.pid()));
    echoes.note(echo);
    for _ in 0..2 {
        assert!(echoes.is_echo(15, libc::SI_USER, caller.pid()), "also when several are merged");
    }
    assert!(!echoes.is_echo(15, libc::SI_USER, 1), "another sender");
    assert!(!echoes.is_echo(2, libc::SI_USER, caller.pid()), "another signal");
    assert!(!echoes.is_echo(15, libc::SI_KERNEL, caller.pid()), "nobody's");
}

/// Answers of a caller that these tests cannot start.
#[derive(Debug)]
struct Stranger(Process);

impl Oracle for Stranger {
    fn process(&self) -> std::sync::Arc<Process> {
        self.0.clone().into()
    }
    fn path(&self, _: &Call, _: usize) -> Option<ResolvedPath> {
        None
    }
    fn descriptor(&self, _: i32) -> Option<bstr::BString> {
        None
    }
    fn environment(&self, _: &Call) -> Option<Strings> {
        None
    }
}

#[test]
fn who_may_not_signal_us_is_left_to_the_kernel() {
    let (caller, mut own) = (Caller::new(), Own::new(&[], &TAKEN));
    own.users = [7, 8];
    let verdict = |uids, capabilities, group: i64| {
        let process = Process { pid: caller.pid(), uids, capabilities, ..Process::default() };
        let nr = Arch::NATIVE.number("kill").unwrap();
        let call = decode::decode(Arch::NATIVE, nr, [group as u64, 9, 0, 0, 0, 0], &Nothing);
        judge(
            &own,
            &Event::live(1, 0, (caller.pid(), caller.pid()), Kind::Entry(call), Box::new(Stranger(process))),
            true,
            &|| false,
        )
    };
    assert_eq!(verdict([9; 4], 0, us()), Verdict::Pass);
    assert_eq!(verdict([9; 4], 0, 0), Verdict::Pass);
    assert_eq!(verdict([9, 9, 7, 7], 0, us()), Verdict::Pass, "saved and file-system users count nothing");
    for uids in [[7, 9, 9, 9], [9, 8, 9, 9], [u32::MAX; 4]] {
        assert_eq!(verdict(uids, 0, us()), eperm(), "{uids:?}");
    }
    assert_eq!(verdict([9; 4], 1 << 5, us()), eperm(), "CAP_KILL");
    assert_eq!(verdict([9; 4], !(1 << 5), us()), Verdict::Pass, "all but CAP_KILL");
    let may = |users, may_signal_all| Sender { pid: 1, users, may_signal_all }.may_signal([7, 8]);
    assert!(may([9, 9], true) && may([7, 9], false) && may([9, 8], false));
    assert!(!may([9, 9], false));
    let unknown = Sender { pid: 1, users: [u32::MAX; 2], may_signal_all: false };
    assert!(!unknown.may_signal([u32::MAX; 2]));
}

#[test]
fn a_broadcast_honours_the_sender_s_permission() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    let other = Caller::new();
    let sender = Sender { pid: caller.pid(), users: [u32::MAX - 7; 2], may_signal_all: false };
    let broadcast = Broadcast { signal: 9, to: Set::Group(own.group), sender };
    let mut receivers = Vec::new();
    broadcast.deliver(|pid| receivers.push(pid));
    assert!(!receivers.contains(&other.pid()));
    assert_eq!(receivers, [caller.pid()], "oneself may always be signalled");
}

#[test]
fn calls_that_name_us_or_a_thread_of_ours_are_refused() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    let other = i64::from(caller.pid());
    with_a_thread(|thread| {
        for number in [us(), thread] {
            for call in [
                "pidfd_open",
                "process_vm_readv",
                "process_vm_writev",
                "get_robust_list",
                "move_pages",
                "migrate_pages",
                "sched_setaffinity",
                "sched_setscheduler",
                "sched_setparam",
                "sched_setattr",
            ] {
                assert_eq!(caller.verdict(&own, call, &[number]), eperm(), "{call}");
                assert_eq!(caller.verdict(&own, call, &[other]), Verdict::Pass, "{call}");
                assert_eq!(caller.verdict(&own, call, &[0]), Verdict::Pass, "{call}");
                assert!(!stops(&own, call, &[0; 6]), "{call} on oneself is fast");
            }
            assert_eq!(caller.verdict(&own, "ptrace", &[16, number]), eperm());
            assert_eq!(caller.verdict(&own, "ptrace", &[0x4206, number]), eperm());
            assert_eq!(caller.verdict(&own, "ptrace", &[1, number]), Verdict::Pass);
            assert_eq!(caller.verdict(&own, "kcmp", &[other, number]), eperm());
            assert_eq!(caller.verdict(&own, "kcmp", &[number, other]), eperm());
            assert_eq!(caller.verdict(&own, "perf_event_open", &[0, number]), Verdict::Refuse(Errno::EACCES));
            assert_eq!(caller.verdict(&own, "prlimit64", &[number, 7, 0x1000]), eperm());
            assert_eq!(caller.verdict(&own, "prlimit64", &[number, 7, 0]), Verdict::Pass, "asks only");
            assert_eq!(caller.verdict(&own, "prctl", &[62, 2, number, 0, 0]), eperm());
            assert_eq!(caller.verdict(&own, "prctl", &[15, 2, number, 0, 0]), Verdict::Pass);
            assert_eq!(caller.verdict(&own, "setpriority", &[0, number, 19]), eperm());
            assert_eq!(caller.verdict(&own, "ioprio_set", &[1, number, 0]), eperm());
            assert_eq!(caller.verdict(&own, "fcntl", &[3, 8, number]), eperm());
        }
    });
    assert!(!stops(&own, "setpriority", &[0; 6]), "on oneself is fast");
    assert!(!stops(&own, "fcntl", &[3, 1, us() as u64, 0, 0, 0]));
}

#[test]
fn sets_that_we_are_in_keep_their_priority() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    let (group, user) = (i64::from(own.group), i64::from(own.users[0]));
    for (call, first) in [("setpriority", 0), ("ioprio_set", 1)] {
        for who in [[first + 1, 0], [first + 1, group], [first + 2, 0], [first + 2, user]] {
            assert_eq!(caller.verdict(&own, call, &who), eperm(), "{call} {who:?}");
        }
        for who in [[first, 0], [first + 1, 1], [first + 2, 54321], [first + 3, 0], [first - 1, us()]] {
            assert_eq!(caller.verdict(&own, call, &who), Verdict::Pass, "{call} {who:?}");
        }
    }
    let apart = Caller::spawn(Command::new("cat").process_group(0));
    assert_eq!(apart.verdict(&own, "setpriority", &[1, 0]), Verdict::Pass);
}

#[test]
fn signals_of_a_descriptor_are_not_sent_to_us() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    assert_eq!(caller.verdict(&own, "fcntl", &[3, 8, -i64::from(own.group)]), eperm());
    for owner in [0, -1, i64::from(caller.pid()), -i64::from(caller.pid()), i64::from(i32::MIN)] {
        assert_eq!(caller.verdict(&own, "fcntl", &[3, 8, owner]), Verdict::Pass, "{owner}");
    }
    // The structures are in the caller's memory: here in our own, since we ask for ourselves.
    let pid = us() as pid_t;
    let verdict = |name: &str, command: u64, words: &[pid_t]| {
        let nr = Arch::NATIVE.number(name).unwrap();
        let call = decode::decode(Arch::NATIVE, nr, [3, command, words.as_ptr() as u64, 0, 0, 0], &Nothing);
        let oracle = Box::new(Stranger(Process::default()));
        judge(&own, &Event::live(1, 0, (pid, pid), Kind::Entry(call), oracle), true, &|| false)
    };
    for kind in [0, 1] {
        assert_eq!(verdict("fcntl", 15, &[kind, pid]), eperm());
    }
    assert_eq!(verdict("fcntl", 15, &[2, own.group]), eperm());
    assert_eq!(verdict("fcntl", 15, &[2, i32::MIN]), Verdict::Pass);
    assert_eq!(verdict("fcntl", 15, &[1, caller.pid()]), Verdict::Pass);
    for command in [0x8901, 0x8902] {
        assert_eq!(verdict("ioctl", command, &[pid]), eperm());
        assert_eq!(verdict("ioctl", command, &[-own.group]), eperm());
        assert_eq!(verdict("ioctl", command, &[caller.pid()]), Verdict::Pass);
    }
    assert_eq!(verdict("ioctl", 0x5401, &[pid]), Verdict::Pass);
}

#[test]
fn descriptors_of_us_do_not_signal_us() {
    let caller = Caller::new();
    let own = Own::new(&[], &TAKEN);
    // The caller is this process, whose descriptors are at hand.
    let verdict = |fd: &dyn std::os::fd::AsRawFd, signal: u64, flags: u64| {
        let nr = Arch::NATIVE.number("pidfd_send_signal").unwrap();
        let call = decode::decode(Arch::NATIVE, nr, [fd.as_raw_fd() as u64, signal, 0, flags, 0, 0], &Nothing);
        let oracle = Task::new(own.pid).oracle(own.pid, false);
        judge(&own, &Event::live(1, 0, (own.pid, own.pid), Kind::Entry(call), oracle), true, &|| false)
    };
    let directory = |pid: i64| fs::File::open(format!("/proc/{pid}")).unwrap();
    assert_eq!(verdict(&directory(us()), 9, 0), eperm());
    assert_eq!(verdict(&directory(us()), 15, 0), Verdict::PassOn(15));
    assert_eq!(verdict(&directory(caller.pid().into()), 9, 0), Verdict::Pass);
    with_a_thread(|thread| assert_eq!(verdict(&directory(thread), 9, 0), eperm()));
    assert_eq!(verdict(&fs::File::open("/dev/null").unwrap(), 9, 0), Verdict::Pass);
    assert_eq!(verdict(&fs::File::open("/").unwrap(), 9, 0), Verdict::Pass);
}

#[test]
fn other_conventions_are_judged_by_name() {
    let (caller, own) = (Caller::new(), Own::new(&[], &TAKEN));
    for arch in [Arch::X86, Arch::X32] {
        let event = caller.event_of(arch, "kill", [us() as u64, 9, 0, 0, 0, 0], &Nothing);
        assert_eq!(judge(&own, &event, true, &|| false), eperm(), "{arch:?}");
    }
    let event = caller.event_of(Arch::X86, "fcntl64", [3, 8, us() as u64, 0, 0, 0], &Nothing);
    assert_eq!(judge(&own, &event, true, &|| false), eperm());
}

// ---- Files -----------------------------------------------------------------

/// A directory with an alert file, a cache and something else.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.at("log")).unwrap();
        fs::create_dir_all(place.at("cache/code")).unwrap();
        for file in ["log/alerts", "log/other", "cache/code/compiled", "cache/other"] {
            fs::write(place.at(file), b"x").unwrap();
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn own(&self) -> Own {
        Own::new(&[self.at("log/alerts"), self.at("cache/code")], &TAKEN)
    }
}

#[test]
fn opens_that_would_write_to_what_is_ours_are_refused() {
    let (caller, place) = (Caller::new(), Place::new());
    let own = place.own();
    let opened = |path: &str, flags: c_int| {
        let path = if path.starts_with('/') { path.into() } else { place.at(path) };
        let by_openat = caller.refused(&own, "openat", &[CWD, name(&path), Arg::Is(flags.into())]);
        let how = [flags as u64, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let by_openat2 = caller.refused(&own, "openat2", &[CWD, name(&path), Arg::Bytes(how), Arg::Is(24)]);
        assert_eq!(by_openat, by_openat2);
        by_openat
    };
    symlink(place.at("log/alerts"), place.at("link")).unwrap();
    symlink(place.at("log"), place.at("dir")).unwrap();
    for path in ["log/alerts", "log/../log/./alerts", "link", "dir/alerts", "cache/code/compiled", "cache/code/new"] {
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_TRUNC, libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND] {
            assert!(opened(path, flags), "{path} {flags:#o}");
        }
        for flags in [libc::O_RDONLY, libc::O_PATH | libc::O_RDWR] {
            assert!(!opened(path, flags), "{path} {flags:#o}");
        }
    }
    for path in ["log/other", "log/new", "cache/other", "alerts", "code", "/dev/null"] {
        assert!(!opened(path, libc::O_RDWR | libc::O_CREAT), "{path}");
    }
    let exe = std::env::current_exe().unwrap();
    assert!(opened(exe.to_str().unwrap(), libc::O_WRONLY));
    assert!(
        caller.refused(&own, "openat2", &[CWD, name(place.at("log/alerts")), Arg::Is(0), Arg::Is(24)]),
        "unreadable"
    );
}

#[test]
fn calls_that_change_what_is_ours_are_refused() {
    let (caller, place) = (Caller::new(), Place::new());
    let own = place.own();
    let path = |text: &str| name(place.at(text));
    for ours in ["log/alerts", "cache/code/compiled", "cache/code"] {
        for call in
            ["truncate", "unlink", "rmdir", "chmod", "chown", "lchown", "setxattr", "removexattr", "rename", "creat"]
        {
            if Arch::NATIVE.number(call).is_some() {
                assert!(caller.refused(&own, call, &[path(ours), path("log/other")]), "{call} {ours}");
                assert!(!caller.refused(&own, call, &[path("log/other"), path("log/new")]), "{call}");
            }
        }
        for call in ["unlinkat", "fchmodat", "fchmodat2", "fchownat", "setxattrat", "removexattrat", "file_setattr"] {
            assert!(caller.refused(&own, call, &[CWD, path(ours)]), "{call} {ours}");
            assert!(!caller.refused(&own, call, &[CWD, path("log/other")]), "{call}");
        }
        for call in ["linkat", "renameat", "renameat2"] {
            assert!(caller.refused(&own, call, &[CWD, path(ours), CWD, path("new")]), "{call} {ours}");
            assert!(caller.refused(&own, call, &[CWD, path("log/other"), CWD, path(ours)]), "{call} {ours}");
            assert!(!caller.refused(&own, call, &[CWD, path("log/other"), CWD, path("new")]), "{call}");
        }
    }
    // What holds ours cannot go, but may be changed otherwise.
    for holder in ["log", "cache", ""] {
        assert!(caller.refused(&own, "renameat", &[CWD, path(holder), CWD, path("../elsewhere")]), "{holder}");
        assert!(!caller.refused(&own, "fchmodat", &[CWD, path(holder)]), "{holder}");
    }
}

#[test]
fn ours_is_known_by_any_name() {
    let (caller, place) = (Caller::new(), Place::new());
    fs::hard_link(place.at("log/alerts"), place.at("another")).unwrap();
    let own = place.own();
    assert!(caller.refused(&own, "truncate", &[name(place.at("another"))]), "a hard link from before");
    assert!(!caller.refused(&own, "truncate", &[name(place.at("log/other"))]));

    // A file that is gone is still ours by name.
    fs::remove_file(place.at("log/alerts")).unwrap();
    assert!(caller.refused(&own, "openat", &[CWD, name(place.at("log/alerts")), Arg::Is(0o101)]));
    // A directory that was replaced, too.
    fs::rename(place.at("cache/code"), place.at("cache/old")).unwrap();
    fs::create_dir(place.at("cache/code")).unwrap();
    assert!(caller.refused(&own, "openat", &[CWD, name(place.at("cache/code/new")), Arg::Is(0o101)]));
}

#[test]
fn in_another_mount_namespace_only_identity_counts() {
    let (caller, place) = (Caller::new(), Place::new());
    let mut own = place.own();
    own.mount_namespace = Some(1);
    // Followed by way of the caller's root, which is ours after all.
    assert!(caller.refused(&own, "truncate", &[name(place.at("log/alerts"))]));
    assert!(!caller.refused(&own, "truncate", &[name(place.at("log/other"))]));
    fs::rename(place.at("log/alerts"), place.at("gone")).unwrap();
    fs::write(place.at("log/alerts"), b"another").unwrap();
    assert!(!caller.refused(&own, "truncate", &[name(place.at("log/alerts"))]));
}

#[test]
fn what_is_no_regular_file_is_not_protected() {
    let caller = Caller::new();
    let own = Own::new(&["/dev/null".into(), "/dev/stderr".into(), "/no/such/file".into()], &TAKEN);
    assert!(!caller.refused(&own, "openat", &[CWD, name("/dev/null"), Arg::Is(1)]));
    assert!(!caller.refused(&own, "openat", &[CWD, name("/no/such/file"), Arg::Is(0o101)]));
}

#[test]
fn mounts_must_not_hide_what_is_ours() {
    let (caller, place) = (Caller::new(), Place::new());
    let mut own = place.own();
    let path = |text: &str| name(place.at(text));
    let flags = |flags: u64| Arg::Is(flags as i64);
    let mount = |own: &Own, from: Arg, to: Arg, how| caller.refused(own, "mount", &[from, to, Arg::Is(0), flags(how)]);
    for target in ["log/alerts", "log", "cache/code", "cache", ""] {
        for how in [0, libc::MS_BIND, libc::MS_MOVE] {
            assert!(mount(&own, path("log/other"), path(target), how), "{target} {how:#x}");
        }
        assert!(!mount(&own, path("log/other"), path(target), libc::MS_PRIVATE | libc::MS_REC), "{target}");
        assert!(caller.refused(&own, "umount2", &[path(target), flags(2)]), "{target}");
        assert!(caller.refused(&own, "move_mount", &[CWD, path("log/other"), CWD, path(target)]), "{target}");
        assert!(caller.refused(&own, "move_mount", &[CWD, path(target), CWD, path("other")]), "{target}");
    }
    for target in ["/proc", "/"] {
        assert!(mount(&own, name("proc"), name(target), 0), "{target}");
    }
    for from in ["log/alerts", "cache/code/compiled"] {
        assert!(mount(&own, path(from), path("other"), libc::MS_BIND), "{from} by another name");
        assert!(caller.refused(&own, "open_tree", &[CWD, path(from), flags(1)]), "{from}");
        assert!(!caller.refused(&own, "open_tree", &[CWD, path(from), flags(0)]), "{from}");
    }
    assert!(!mount(&own, path("cache"), path("log/other"), libc::MS_BIND), "names below stay");
    assert!(!mount(&own, name("tmpfs"), path("log/other"), 0));
    assert!(!caller.refused(&own, "umount2", &[path("log/other")]));
    assert!(caller.refused(&own, "pivot_root", &[path("log/other"), path("log/other")]));

    own.mount_namespace = Some(1);
    for target in ["/proc", "/"] {
        assert!(!mount(&own, name("proc"), name(target), 0), "{target} of another namespace");
    }
    assert!(!caller.refused(&own, "pivot_root", &[path("log/other"), path("log/other")]));
}

#[test]
fn our_entries_in_procfs_are_not_written_and_give_no_secrets() {
    let (caller, place) = (Caller::new(), Place::new());
    let own = place.own();
    let open = |path: &str, flags: i64| caller.refused(&own, "openat", &[CWD, name(path), Arg::Is(flags)]);
    let (us, them) = (us(), caller.pid());
    symlink(format!("/proc/{us}"), place.at("proc")).unwrap();
    let linked = |entry: &str| place.at(&format!("proc/{entry}")).to_str().unwrap().to_owned();
    for entry in ["mem", "oom_score_adj", "comm", "coredump_filter", "timerslack_ns", "new"] {
        assert!(open(&format!("/proc/{us}/{entry}"), 1), "{entry}");
        assert!(open(&linked(entry), 2), "{entry}");
        assert!(open(&format!("/proc/{us}/task/{us}/{entry}"), 2), "{entry}");
        assert!(!open(&format!("/proc/{them}/{entry}"), 2), "{entry}");
        assert!(!open(&format!("/proc/self/{entry}"), 2), "{entry}");
    }
    for entry in ["mem", "environ", "maps", "fd/0", "task/1/../../auxv"] {
        let entry = entry.replace("task/1", &format!("task/{us}"));
        assert!(open(&format!("/proc/{us}/{entry}"), 0), "{entry}");
        assert!(!open(&format!("/proc/{them}/{entry}").replace(&us.to_string(), &them.to_string()), 0), "{entry}");
    }
    assert!(open(&linked("mem"), 0));
    for entry in ["", "stat", "status", "cmdline", "fd", "exe", "root", "cwd", "task", "ns/mnt"] {
        assert!(!open(&format!("/proc/{us}/{entry}"), 0), "{entry}");
    }
    with_a_thread(|thread| {
        assert!(open(&format!("/proc/{thread}/mem"), 0), "a thread has a directory of its own");
        assert!(open(&format!("/proc/{us}/task/{thread}/mem"), 0));
    });
    // Numbers elsewhere are only numbers.
    fs::create_dir(place.at(&us.to_string())).unwrap();
    assert!(!open(place.at(&format!("{us}/mem")).to_str().unwrap(), 0o101));
}

#[test]
fn where_the_host_cannot_follow_names_are_compared() {
    #[derive(Debug)]
    struct Lost;
    impl Oracle for Lost {
        fn process(&self) -> std::sync::Arc<Process> {
            Process::default().into()
        }
        fn path(&self, _: &Call, _: usize) -> Option<ResolvedPath> {
            Some(ResolvedPath { path: "".into(), state: crate::event::PathState::Unknown })
        }
        fn descriptor(&self, _: i32) -> Option<bstr::BString> {
            None
        }
        fn environment(&self, _: &Call) -> Option<Strings> {
            None
        }
    }
    let place = Place::new();
    let own = place.own();
    let truncates = |path: &str, lost: bool| {
        let nr = Arch::NATIVE.number("truncate").unwrap();
        let memory = Texts(vec![[path.as_bytes(), b"\0"].concat()]);
        let call = decode::decode(Arch::NATIVE, nr, [PAGE, 0, 0, 0, 0, 0], &memory);
        assert!(matches!(call.arguments[0].value, Value::Path(_)));
        judge(&own, &Event::live(1, 0, (1, 1), Kind::Entry(call), Box::new(Lost)), true, &|| lost) != Verdict::Pass
    };
    assert!(truncates("hidden/alerts", false));
    assert!(truncates("/hidden/code/x", false));
    assert!(!truncates("/hidden/other", false));
    assert!(truncates("/hidden/other", true), "it could be any");
}

#[test]
fn ordinary_calls_do_not_stop() {
    let own = Own::new(&[], &TAKEN);
    let stopping = stopping(&own);
    for (name, registers) in [
        ("openat", [libc::AT_FDCWD as u64, 1, (libc::O_RDONLY | libc::O_CLOEXEC) as u64, 0, 0, 0]),
        ("fcntl", [1, libc::F_GETFL as u64, 0, 0, 0, 0]),
        ("ioctl", [1, libc::TCGETS, 1, 0, 0, 0]),
        ("prctl", [libc::PR_SET_NAME as u64, 1, 0, 0, 0, 0]),
        ("prlimit64", [0, 7, 1, 0, 0, 0]),
        ("ptrace", [libc::PTRACE_PEEKDATA.into(), 5, 0, 0, 0, 0]),
    ] {
        let nr = Arch::NATIVE.number(name).unwrap();
        assert!(!stopping.get(&nr).is_some_and(|predicate| predicate.holds(&registers)), "{name}");
    }
    for name in ["read", "write", "mmap", "futex", "stat", "newfstatat", "mkdir", "execve"] {
        assert!(Arch::NATIVE.numbers(name).all(|nr| !stopping.contains_key(&nr)), "{name}");
    }
    let length = crate::tracer::filter::compile(&stopping).len();
    assert!(length < 1200, "{length} instructions");
}

#[test]
fn every_rule_is_for_a_call_that_is_declared_as_it_needs() {
    for (name, effect) in files::CALLS {
        let declared = Arch::ALL.iter().find_map(|arch| Some((*arch, arch.number(name)?))).unwrap();
        let spec = declared.0.spec(declared.1);
        assert!(spec.args.iter().any(|arg| matches!(arg.kind, decode::Kind::Path(_))), "{name} {effect:?}");
    }
    for (name, _) in processes::CALLS {
        assert!(decode::known_name(name), "{name}");
    }
    let own = Own::new(&[], &TAKEN);
    assert_eq!(own.rules.len(), files::CALLS.len() + processes::CALLS.len(), "a call twice");
    let meta = fs::metadata("/proc/self/ns/mnt").unwrap();
    assert_eq!(own.mount_namespace, Some(meta.ino()));
}
