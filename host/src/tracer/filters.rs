//! The program's own seccomp filters, which run beside ours.
//!
//! The kernel runs all filters of a task and takes the answer of the highest
//! precedence: `KILL_PROCESS`, `KILL_THREAD`, `TRAP`, `ERRNO`, `USER_NOTIF`,
//! `TRACE`, `LOG`, `ALLOW` (seccomp(2)); among equals the newest filter's.
//! What follows for each answer of the program's own filter to a call that
//! ours answers with `TRACE`:
//! * `KILL_*`, `TRAP`, `ERRNO`: the call does not run, with us or without.
//!   Nobody judges it, and nobody needs to.
//! * `USER_NOTIF` takes the call away from us, and its listener can let it run
//!   (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`). A listener is therefore refused. A
//!   filter has one from its beginning or never; without one the kernel
//!   answers `ENOSYS`, so that the answer alone is harmless.
//! * `TRACE`: without a tracer the kernel answers `ENOSYS`. Under us the call
//!   stops and would run. Our own filter marks its stops with
//!   [`MARK`](super::filter::MARK); a stop with other data is the program's
//!   wish, and the answer to that is `ENOSYS`.
//! * `LOG`, `ALLOW`: the call stops for us as if they were not there.
//!
//! A filter can also forbid what the engine would have its task do (map a
//! page, install a filter), or kill for it. [`Permits`] runs it on those calls
//! to find out.
//!
//! This module never installs or changes a filter.

use std::io;

use libc::{c_int, pid_t, sock_filter};

use super::bpf::{self, Data};
use super::filter::{Comparison, Condition, MARK, Predicate, Stopping};
use super::procfs::Status;
use super::trampoline::SCRATCH_SIZE;
use super::{region, sys};
use crate::decode::{Arch, Memory};
use crate::event::{Call, Errno};

/// What a call that may install a filter comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// It may go on.
    Harmless(Permits),
    /// It would blind us.
    Refused(Errno),
    /// It installs none.
    Absent,
}

/// What a kernel before 5.0 says to an unknown flag. The C libraries' and
/// runtimes' way to learn that there are no listeners: libseccomp asks with a
/// NULL filter and takes `EFAULT` for yes, all else for no.
const NO_LISTENERS: Errno = Errno::new(libc::EINVAL as u16).expect("an errno");

/// Bits of a C `int`.
const INT: u64 = 0xffff_ffff;

/// The calls that must stop for [`judge`].
pub(super) fn stopping() -> Stopping {
    let equal = |argument, mask, value: u64| Condition::new(argument, mask, Comparison::Eq, value);
    let seccomp = vec![equal(0, INT, libc::SECCOMP_SET_MODE_FILTER.into())];
    let prctl = vec![
        equal(0, INT, libc::PR_SET_SECCOMP as u64),
        // prctl's second argument is a long and compared whole.
        equal(1, u64::MAX, libc::SECCOMP_MODE_FILTER.into()),
    ];
    let mut stopping = Stopping::new();
    for (name, conditions) in [("seccomp", seccomp), ("prctl", prctl)] {
        let mut predicate = Predicate::default();
        predicate.or(conditions.into_iter().flatten().collect());
        for nr in Arch::NATIVE.numbers(name) {
            stopping.insert(nr, predicate.clone());
        }
    }
    stopping
}

/// What this call does to us, and the filter that was read to tell.
///
/// The verdict hangs on registers alone, so that no other thread can change
/// it; only what the filter permits is a guess about memory unless the caller
/// pins the instructions.
pub(super) fn judge(call: &Call, memory: &dyn Memory) -> (Filter, Option<Vec<sock_filter>>) {
    let [first, second, third, ..] = call.registers;
    let (flags, program) = match call.spec.name {
        "seccomp" if first as u32 == libc::SECCOMP_SET_MODE_FILTER => (second as u32, third),
        "prctl" if is_set_filter(call) => (0, third),
        _ => return (Filter::Absent, None),
    };
    if u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
        return (Filter::Refused(NO_LISTENERS), None);
    }
    let program = read(call.arch, program, memory);
    (Filter::Harmless(program.as_deref().map_or(Permits::NOTHING, Permits::of)), program)
}

fn is_set_filter(call: &Call) -> bool {
    let mode = match call.arch {
        Arch::X86 => call.registers[1] & INT,
        _ => call.registers[1],
    };
    call.registers[0] as u32 == libc::PR_SET_SECCOMP as u32 && mode == u64::from(libc::SECCOMP_MODE_FILTER)
}

/// Reads a `struct sock_fprog` and what it points to. None if that cannot be
/// read, or has a length that the kernel does not take.
fn read(arch: Arch, address: u64, memory: &dyn Memory) -> Option<Vec<sock_filter>> {
    // in_compat_syscall() of the kernel: i386 and x32.
    let (header, pointer_at, address) = match arch {
        Arch::X86 => (8, 4, address & INT),
        Arch::X32 => (8, 4, address),
        Arch::X86_64 | Arch::Aarch64 => (16, 8, address),
    };
    let mut bytes = [0; 16];
    if memory.read(address, &mut bytes[..header]) < header {
        return None;
    }
    let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let mut pointer = [0; 8];
    pointer[..header - pointer_at].copy_from_slice(&bytes[pointer_at..header]);
    if length == 0 || length > bpf::MAX_INSTRUCTIONS {
        return None;
    }
    let mut instructions = vec![0; length * size_of::<sock_filter>()];
    if memory.read(u64::from_ne_bytes(pointer), &mut instructions) < instructions.len() {
        return None;
    }
    let (instructions, _) = instructions.as_chunks::<{ size_of::<sock_filter>() }>();
    Some(instructions.iter().copied().map(instruction).collect())
}

fn instruction(bytes: [u8; size_of::<sock_filter>()]) -> sock_filter {
    let [c0, c1, jt, jf, k @ ..] = bytes;
    sock_filter { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes(k) }
}

/// What filters let the engine do with a task. In doubt it is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent permissions")]
pub(super) struct Permits {
    /// Hand it a descriptor through sockets, and map that.
    pub(super) sockets: bool,
    /// Map memory of its own.
    pub(super) memory: bool,
    /// Install a filter.
    pub(super) filter: bool,
    /// Make call number -1, which does nothing and answers what we say.
    pub(super) nothing: bool,
}

/// What a call is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Sockets,
    Memory,
    Filter,
}

const SCRATCH_PROTECTION: c_int = libc::PROT_READ | libc::PROT_WRITE;
const OWN_MEMORY: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// The calls that the engine puts into a task ([`super::errand`]), with those
/// arguments that are always the same. A filter that looks at another one, or
/// at where the call comes from, may decide either way.
const INJECTED: [(Purpose, &str, [Option<u64>; 6]); 10] = [
    (
        Purpose::Sockets,
        "mmap",
        [
            Some(0),
            Some(SCRATCH_SIZE),
            Some(SCRATCH_PROTECTION as u64),
            Some(OWN_MEMORY as u64),
            Some(u64::MAX),
            Some(0),
        ],
    ),
    (
        Purpose::Sockets,
        "socketpair",
        [Some(libc::AF_UNIX as u64), Some((libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64), Some(0), None, None, None],
    ),
    (
        Purpose::Sockets,
        "recvmsg",
        [None, None, Some((libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as u64), Some(0), Some(0), Some(0)],
    ),
    (
        Purpose::Sockets,
        "mmap",
        [
            Some(region::BASE),
            Some(region::SIZE as u64),
            Some(libc::PROT_READ as u64),
            Some((libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64),
            None,
            Some(0),
        ],
    ),
    (Purpose::Sockets, "close", [None, Some(0), Some(0), Some(0), Some(0), Some(0)]),
    (Purpose::Sockets, "munmap", [None, Some(SCRATCH_SIZE), Some(0), Some(0), Some(0), Some(0)]),
    (
        Purpose::Memory,
        "mmap",
        [
            Some(region::BASE),
            Some(region::SIZE as u64),
            Some(libc::PROT_READ as u64),
            Some((OWN_MEMORY | libc::MAP_FIXED_NOREPLACE) as u64),
            Some(u64::MAX),
            Some(0),
        ],
    ),
    (
        Purpose::Filter,
        "seccomp",
        [
            Some(libc::SECCOMP_SET_MODE_FILTER as u64),
            Some(libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
            None,
            Some(0),
            Some(0),
            Some(0),
        ],
    ),
    (Purpose::Filter, "prctl", [Some(libc::PR_SET_NO_NEW_PRIVS as u64), Some(1), Some(0), Some(0), Some(0), Some(0)]),
    (Purpose::Filter, "read", [Some(u64::MAX), None, None, None, None, None]),
];

impl Permits {
    /// Without filters.
    pub(super) const ALL: Self = Self { sockets: true, memory: true, filter: true, nothing: true };
    const NOTHING: Self = Self { sockets: false, memory: false, filter: false, nothing: false };
    /// A filter of a container's runtime answers calls that it does not know.
    const RUNTIME: Self = Self { nothing: false, ..Self::ALL };
    /// What is assumed of filters that cannot be read. Who sandboxes itself and
    /// opens files allocates memory.
    const ASSUMED: Self = Self { memory: true, ..Self::NOTHING };

    /// What a filter permits.
    fn of(program: &[sock_filter]) -> Self {
        let returns = |i: &sock_filter| u32::from(i.code) & 0x07 == libc::BPF_RET;
        let ends_well = |i: &sock_filter| u32::from(i.code) == libc::BPF_RET | libc::BPF_K && lets_run(i.k);
        if program.last().is_some_and(returns) && program.iter().filter(|i| returns(i)).all(ends_well) {
            // Ours are such, whatever they look at.
            return Self { nothing: skips(program), ..Self::ALL };
        }
        let permits = |purpose| {
            let mut needed = INJECTED.iter().filter(|(needed_for, ..)| *needed_for == purpose);
            needed.all(|(_, name, arguments)| allows(program, name, arguments))
        };
        Self {
            sockets: permits(Purpose::Sockets),
            memory: permits(Purpose::Memory),
            filter: permits(Purpose::Filter),
            nothing: skips(program),
        }
    }

    /// What both permit.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            sockets: self.sockets && other.sockets,
            memory: self.memory && other.memory,
            filter: self.filter && other.filter,
            nothing: self.nothing && other.nothing,
        }
    }

    /// What the filters of a stopped task permit. To read them takes
    /// `CAP_SYS_ADMIN`. Without it as many filters as we have ourselves, which
    /// a container's runtime has given to both, are taken for what those of the
    /// known runtimes are.
    pub(super) fn of_task(tid: pid_t) -> Self {
        let count = |tid| Status::of(tid).map_or(0, |status| status.filters.unwrap_or(status.filtered.into()));
        let theirs = count(tid);
        if theirs == 0 {
            return Self::ALL;
        }
        let each = (0..theirs).map(|index| sys::seccomp_filter(tid, index as usize).map(|filter| Self::of(&filter)));
        match each.collect::<io::Result<Vec<Self>>>() {
            Ok(each) => each.into_iter().fold(Self::ALL, Self::and),
            Err(_) if theirs <= count(std::process::id() as pid_t) => Self::RUNTIME,
            Err(_) => Self::ASSUMED,
        }
    }
}

/// Whether a filter lets a call run.
fn allows(program: &[sock_filter], name: &str, arguments: &[Option<u64>; 6]) -> bool {
    Arch::NATIVE.number(name).and_then(|nr| bpf::interpret(program, &data(nr, arguments))).is_some_and(lets_run)
}

/// Whether a filter has nothing to say to call number -1.
fn skips(program: &[sock_filter]) -> bool {
    let answer = bpf::interpret(program, &data(u32::MAX, &[None; 6]));
    answer.is_some_and(|answer| answer != OURS && lets_run(answer))
}

/// Whether a call with this answer runs. One that asks for a tracer with our
/// mark is of a host, ours or one before: it stops and goes on.
fn lets_run(answer: u32) -> bool {
    answer == OURS || matches!(answer & libc::SECCOMP_RET_ACTION_FULL, libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG)
}

/// What our filters say.
const OURS: u32 = libc::SECCOMP_RET_TRACE | MARK as u32;

/// `struct seccomp_data` of a native call (linux/seccomp.h): number,
/// architecture, instruction pointer, six arguments, low half first.
fn data(nr: u32, arguments: &[Option<u64>; 6]) -> Data {
    let mut data = [None; 16];
    (data[0], data[1]) = (Some(nr), Some(Arch::NATIVE.audit()));
    for (index, argument) in arguments.iter().enumerate() {
        data[4 + 2 * index] = argument.map(|value| value as u32);
        data[5 + 2 * index] = argument.map(|value| (value >> 32) as u32);
    }
    data
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use libc::{BPF_A, BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    use proptest::prelude::*;

    use super::super::filter;
    use super::*;
    use crate::decode;

    /// Memory with these bytes at these addresses, and nothing else.
    struct At(Vec<(u64, Vec<u8>)>, Cell<usize>);

    impl At {
        fn new(pieces: Vec<(u64, Vec<u8>)>) -> Self {
            Self(pieces, Cell::new(0))
        }
    }

    impl Memory for At {
        fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
            self.1.set(self.1.get() + 1);
            let Some((start, bytes)) =
                self.0.iter().find(|(start, bytes)| (*start..*start + bytes.len() as u64).contains(&address))
            else {
                return 0;
            };
            let bytes = &bytes[(address - start) as usize..];
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            length
        }
    }

    const HEADER: u64 = 0x1000;
    const CODE: u64 = 0x2000;

    fn statement(code: u32, k: u32) -> sock_filter {
        sock_filter { code: code as u16, jt: 0, jf: 0, k }
    }

    fn ret(action: u32) -> sock_filter {
        statement(BPF_RET | BPF_K, action)
    }

    fn bytes(program: &[sock_filter]) -> Vec<u8> {
        program.iter().flat_map(|i| [&i.code.to_ne_bytes()[..], &[i.jt, i.jf], &i.k.to_ne_bytes()].concat()).collect()
    }

    fn native(program: &[sock_filter]) -> At {
        let mut header = vec![0xaa; 16];
        header[..2].copy_from_slice(&(program.len() as u16).to_ne_bytes());
        header[8..].copy_from_slice(&CODE.to_ne_bytes());
        At::new(vec![(HEADER, header), (CODE, bytes(program))])
    }

    fn compat(program: &[sock_filter]) -> At {
        let mut header = vec![0xaa; 8];
        header[..2].copy_from_slice(&(program.len() as u16).to_ne_bytes());
        header[4..].copy_from_slice(&(CODE as u32).to_ne_bytes());
        At::new(vec![(HEADER, header), (CODE, bytes(program))])
    }

    fn call(arch: Arch, name: &str, registers: [u64; 3]) -> Call {
        let [a, b, c] = registers;
        let nr = arch.number(name).expect("a call of the convention");
        decode::decode(arch, nr, [a, b, c, 0, 0, 0], &At::new(Vec::new()))
    }

    fn seccomp(flags: u64) -> Call {
        call(Arch::NATIVE, "seccomp", [libc::SECCOMP_SET_MODE_FILTER.into(), flags, HEADER])
    }

    fn verdict(program: &[sock_filter]) -> Filter {
        judge(&seccomp(0), &native(program)).0
    }

    const ALLOWED: Filter = Filter::Harmless(Permits::ALL);
    const NOT_INJECTABLE: Filter = Filter::Harmless(Permits::NOTHING);

    #[test]
    fn a_listener_is_refused_also_when_it_is_only_asked_for() {
        let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let rubbish_above = 0xdead_beef_0000_0000;
        for flags in [listener, listener | libc::SECCOMP_FILTER_FLAG_TSYNC, listener | rubbish_above] {
            for pointer in [HEADER, 0] {
                let call = call(Arch::NATIVE, "seccomp", [libc::SECCOMP_SET_MODE_FILTER.into(), flags, pointer]);
                let memory = native(&[ret(libc::SECCOMP_RET_ALLOW)]);
                assert_eq!(judge(&call, &memory), (Filter::Refused(Errno::new(22).expect("EINVAL")), None));
                assert_eq!(memory.1.get(), 0, "the verdict hangs on registers alone");
            }
        }
    }

    #[test]
    fn other_flags_and_answers_are_harmless() {
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            | libc::SECCOMP_FILTER_FLAG_LOG
            | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
            | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        let allow = [ret(libc::SECCOMP_RET_ALLOW)];
        assert_eq!(judge(&seccomp(flags), &native(&allow)).0, ALLOWED);
        assert_eq!(verdict(&[ret(libc::SECCOMP_RET_LOG)]), ALLOWED);
        for action in [
            libc::SECCOMP_RET_USER_NOTIF,
            libc::SECCOMP_RET_TRACE,
            libc::SECCOMP_RET_ERRNO | 1,
            libc::SECCOMP_RET_TRAP,
            libc::SECCOMP_RET_KILL_THREAD,
            libc::SECCOMP_RET_KILL_PROCESS,
            0x7ffd_0000,
        ] {
            assert_eq!(verdict(&[ret(action)]), NOT_INJECTABLE, "{action:#x}");
        }
    }

    #[test]
    fn prctl_installs_filters_too() {
        let program = [ret(libc::SECCOMP_RET_ALLOW)];
        let set = |mode| call(Arch::NATIVE, "prctl", [22, mode, HEADER]);
        let (filter, read) = judge(&set(2), &native(&program));
        assert_eq!((filter, read.map(|read| bytes(&read))), (ALLOWED, Some(bytes(&program))));
        assert_eq!(judge(&set(1), &native(&program)).0, Filter::Absent, "strict mode");
        assert_eq!(judge(&set(2 | 1 << 32), &native(&program)).0, Filter::Absent, "a long is compared whole");
        assert_eq!(judge(&call(Arch::NATIVE, "prctl", [38, 2, HEADER]), &native(&program)).0, Filter::Absent);
        assert_eq!(judge(&call(Arch::NATIVE, "seccomp", [0, 0, 0]), &native(&program)).0, Filter::Absent);
        assert_eq!(judge(&call(Arch::NATIVE, "seccomp", [2, 0, HEADER]), &native(&program)).0, Filter::Absent);
        assert_eq!(judge(&call(Arch::NATIVE, "openat", [1, 8, HEADER]), &native(&program)).0, Filter::Absent);
    }

    #[test]
    fn the_layout_is_the_convention_s() {
        let program = [statement(BPF_LD | BPF_W | BPF_ABS, 0), ret(libc::SECCOMP_RET_ALLOW)];
        for (arch, memory) in [
            (Arch::X86_64, native(&program)),
            (Arch::Aarch64, native(&program)),
            (Arch::X86, compat(&program)),
            (Arch::X32, compat(&program)),
        ] {
            for (name, registers) in [("seccomp", [1, 0, HEADER]), ("prctl", [22, 2, HEADER])] {
                let (filter, read) = judge(&call(arch, name, registers), &memory);
                assert_eq!(
                    (filter, read.map(|read| bytes(&read))),
                    (ALLOWED, Some(bytes(&program))),
                    "{arch:?} {name}"
                );
            }
        }
        let high = 0xdead_beef_0000_0000;
        let i386 = call(Arch::X86, "prctl", [22 + high, 2 + high, HEADER + high]);
        assert_eq!(judge(&i386, &compat(&program)).0, ALLOWED, "i386 has registers of 32 bits");
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_kernel() {
        let at = |pieces| At::new(pieces);
        let header = |length: u16, code: u64| {
            let mut header = vec![0; 16];
            header[..2].copy_from_slice(&length.to_ne_bytes());
            header[8..].copy_from_slice(&code.to_ne_bytes());
            (HEADER, header)
        };
        let code = (CODE, bytes(&vec![ret(libc::SECCOMP_RET_ALLOW); 4096]));
        for memory in [
            at(vec![]),
            at(vec![(HEADER, vec![1; 15])]),
            at(vec![header(0, CODE), code.clone()]),
            at(vec![header(4097, CODE), code.clone()]),
            at(vec![header(u16::MAX, CODE), code.clone()]),
            at(vec![header(1, 0), code.clone()]),
            at(vec![header(2, CODE + 4095 * 8), code.clone()]),
            at(vec![header(1, u64::MAX), code.clone()]),
        ] {
            assert_eq!(judge(&seccomp(0), &memory), (NOT_INJECTABLE, None));
        }
        let (filter, read) = judge(&seccomp(0), &at(vec![header(4096, CODE), code]));
        assert_eq!((filter, read.map(|read| read.len())), (ALLOWED, Some(4096)));
    }

    /// A filter that answers `action` to the call of this name and allows the
    /// rest.
    fn against(name: &str, action: u32) -> Vec<sock_filter> {
        let nr = Arch::NATIVE.number(name).expect("a native call");
        vec![
            statement(BPF_LD | BPF_W | BPF_ABS, 0),
            sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt: 0, jf: 1, k: nr },
            ret(action),
            ret(libc::SECCOMP_RET_ALLOW),
        ]
    }

    #[test]
    fn a_filter_that_forbids_what_we_inject_is_found() {
        for (name, expected) in [
            ("socketpair", Permits { sockets: false, ..Permits::ALL }),
            ("recvmsg", Permits { sockets: false, ..Permits::ALL }),
            ("close", Permits { sockets: false, ..Permits::ALL }),
            ("munmap", Permits { sockets: false, ..Permits::ALL }),
            ("mmap", Permits { sockets: false, memory: false, ..Permits::ALL }),
            ("seccomp", Permits { filter: false, ..Permits::ALL }),
            ("prctl", Permits { filter: false, ..Permits::ALL }),
            ("ptrace", Permits::ALL),
        ] {
            assert_eq!(verdict(&against(name, libc::SECCOMP_RET_ERRNO | 1)), Filter::Harmless(expected), "{name}");
            assert_eq!(verdict(&against(name, libc::SECCOMP_RET_KILL_PROCESS)), Filter::Harmless(expected), "{name}");
            assert_eq!(verdict(&against(name, OURS)), ALLOWED, "{name} of a host before");
        }
    }

    /// A filter that allows if word `offset` is `expected`, and kills else.
    fn only_if(offset: u32, expected: u32) -> Vec<sock_filter> {
        vec![
            statement(BPF_LD | BPF_W | BPF_ABS, offset),
            sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt: 0, jf: 1, k: expected },
            ret(libc::SECCOMP_RET_ALLOW),
            ret(libc::SECCOMP_RET_KILL_PROCESS),
        ]
    }

    #[test]
    fn a_filter_that_looks_at_what_is_not_known_is_not_relied_on() {
        assert_eq!(verdict(&only_if(4, Arch::NATIVE.audit())), ALLOWED);
        assert_eq!(verdict(&only_if(4, 0x4000_0003)), NOT_INJECTABLE);
        assert_eq!(verdict(&only_if(8, 0)), NOT_INJECTABLE, "where the call comes from");
        let Filter::Harmless(permits) = verdict(&only_if(16, 1)) else { panic!("it is harmless") };
        assert!(!permits.sockets, "close has any descriptor");
        let returns_the_number = [statement(BPF_LD | BPF_W | BPF_ABS, 0), statement(BPF_RET | BPF_A, 0)];
        assert_eq!(verdict(&returns_the_number), NOT_INJECTABLE);
        assert_eq!(verdict(&[statement(0xffff, 0)]), NOT_INJECTABLE);
    }

    #[test]
    fn calls_that_install_filters_stop_and_others_do_not() {
        let stopping = stopping();
        let stops = |name: &str, first, second| {
            let nr = Arch::NATIVE.number(name).expect("a native call");
            stopping.get(&nr).is_some_and(|predicate| predicate.holds(&[first, second, 0, 0, 0, 0]))
        };
        assert!(stops("seccomp", 1, 0));
        assert!(stops("seccomp", 1 + (7 << 32), 8));
        assert!(!stops("seccomp", 0, 0));
        assert!(!stops("seccomp", 2, 0));
        assert!(stops("prctl", 22, 2));
        assert!(stops("prctl", 22 + (7 << 32), 2));
        assert!(!stops("prctl", 22, 1));
        assert!(!stops("prctl", 15, 2));
        assert!(!stops("openat", 1, 2));
    }

    #[test]
    fn our_own_filter_is_no_hindrance() {
        let allowed = Filter::Harmless(Permits { nothing: false, ..Permits::ALL });
        let nothing = filter::compile(&Stopping::new());
        assert_eq!(verdict(&nothing), allowed);
        let mmap = Arch::NATIVE.number("mmap").expect("a native call");
        assert_eq!(verdict(&filter::compile(&Stopping::from([(mmap, Predicate::always())]))), allowed);
    }

    proptest! {
        #[test]
        fn no_memory_makes_it_panic(
            header in prop::collection::vec(any::<u8>(), 0..20),
            code in prop::collection::vec(any::<u8>(), 0..600),
            pointed in any::<bool>(),
            arch in prop::sample::select(Arch::ALL.to_vec()),
            registers in prop::array::uniform3(prop_oneof![Just(1), Just(2), Just(22), Just(HEADER), any::<u64>()]),
        ) {
            let mut header = header;
            if pointed && header.len() >= 16 {
                header[1] = 0;
                header[8..16].copy_from_slice(&CODE.to_ne_bytes());
            }
            let memory = At::new(vec![(HEADER, header), (CODE, code)]);
            for name in ["seccomp", "prctl"] {
                let [a, b, _] = registers;
                let _ = judge(&call(arch, name, registers), &memory);
                let _ = judge(&call(arch, name, [a, b, HEADER]), &memory);
            }
        }
    }
}
