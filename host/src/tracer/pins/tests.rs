#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::decode::decode;
use crate::event::Defect;

const PAGE: u64 = 4096;

/// Memory of single pages that another thread changes.
#[derive(Default)]
struct Pages(RefCell<BTreeMap<u64, Vec<u8>>>);

impl Pages {
    /// Maps what is needed for `data` at `address`.
    fn with(self, address: u64, data: &[u8]) -> Self {
        self.change(address, data);
        self
    }

    fn with_words(self, address: u64, words: &[u64]) -> Self {
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.with(address, &data)
    }

    fn change(&self, address: u64, data: &[u8]) {
        for (at, byte) in (address..).zip(data) {
            let mut pages = self.0.borrow_mut();
            pages.entry(at / PAGE).or_insert_with(|| vec![0; PAGE as usize])[(at % PAGE) as usize] = *byte;
        }
    }
}

impl Memory for Pages {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        for (offset, byte) in buffer.iter_mut().enumerate() {
            let at = address + offset as u64;
            match self.0.borrow().get(&(at / PAGE)) {
                Some(page) => *byte = page[(at % PAGE) as usize],
                None => return offset,
            }
        }
        buffer.len()
    }
}

fn judged(arch: Arch, name: &str, arguments: &[u64], snapshot: &Snapshot<'_>) -> Call {
    let mut registers = [0; 6];
    registers[..arguments.len()].copy_from_slice(arguments);
    decode(arch, arch.number(name).unwrap(), registers, snapshot)
}

fn own_names(_index: usize) -> Option<BString> {
    None
}

fn pins_on(arch: Arch, name: &str, arguments: &[u64], memory: &dyn Memory) -> Result<Vec<Pin>, Unpinned> {
    let snapshot = Snapshot::new(memory);
    pins(&judged(arch, name, arguments, &snapshot), &snapshot, &own_names)
}

fn pins_of(name: &str, arguments: &[u64], memory: &dyn Memory) -> Result<Vec<Pin>, Unpinned> {
    pins_on(Arch::X86_64, name, arguments, memory)
}

fn pin(register: u8, bytes: impl Into<Vec<u8>>) -> Pin {
    Pin { register, bytes: bytes.into(), inner: Vec::new() }
}

#[test]
fn names_and_text() {
    let memory = Pages::default().with(0x5000, b"/etc/passwd\0").with(0x6000, b"elsewhere\0");
    let expected = Ok(vec![pin(1, *b"/etc/passwd\0")]);
    assert_eq!(pins_of("openat", &[3, 0x5000, 0, 0], &memory), expected);
    assert_eq!(pins_on(Arch::X86, "openat", &[3, 7 << 32 | 0x5000, 0, 0], &memory), expected);
    assert_eq!(pins_on(Arch::Aarch64, "openat", &[3, 7 << 56 | 0x5000, 0, 0], &memory), expected);
    let both = Ok(vec![pin(0, *b"/etc/passwd\0"), pin(1, *b"elsewhere\0")]);
    assert_eq!(pins_of("symlink", &[0x5000, 0x6000], &memory), both);
    let same = Ok(vec![pin(0, *b"elsewhere\0"), pin(1, *b"elsewhere\0")]);
    assert_eq!(pins_of("rename", &[0x6000, 0x6000], &memory), same);

    let snapshot = Snapshot::new(&memory);
    let call = judged(Arch::X86_64, "symlink", &[0x5000, 0x6000], &snapshot);
    memory.change(0x5000, b"/etc/shadow\0");
    memory.change(0x6000, b"/dev/sda\0");
    assert_eq!(pins(&call, &snapshot, &own_names), both, "what was judged, not what is there now");
    let named = pins(&call, &snapshot, &|index| (index == 1).then(|| "/resolved".into()));
    assert_eq!(named, Ok(vec![pin(0, *b"/etc/passwd\0"), pin(1, *b"/resolved\0")]), "only names are replaced");
}

#[test]
fn null_is_left_and_what_cannot_be_read_is_refused() {
    let memory = Pages::default().with(0x5000, b"/dev/sda\0").with(0x7000, &[b'x'; 5000]);
    assert_eq!(pins_of("acct", &[0], &memory), Ok(vec![]));
    assert_eq!(pins_of("acct", &[0x9000], &memory), Err(Unpinned::Argument(0)));
    assert_eq!(pins_of("unlink", &[0], &memory), Err(Unpinned::Argument(0)), "page 0 can be mapped");
    assert_eq!(pins_of("unlink", &[0x7000], &memory), Err(Unpinned::Argument(0)), "no NUL");
    assert_eq!(pins_of("symlink", &[0x5000, 0x9000], &memory), Err(Unpinned::Argument(1)));
    for (call, arguments, index) in [
        ("connect", [3, 0x9000, 16, 0], 1),
        ("connect", [3, 0x5000, 129, 0], 1),
        ("nanosleep", [0x9000, 0, 0, 0], 0),
        ("openat2", [0, 0x5000, 0x9000, 24], 2),
        ("openat2", [0, 0x5000, 0x5000, 4097], 2),
        ("write", [1, 0x9000, 5, 0], 1),
        ("sendmsg", [3, 0x9000, 0, 0], 1),
        ("sendmmsg", [3, 0, 1, 0], 1),
    ] {
        assert_eq!(pins_of(call, &arguments, &memory), Err(Unpinned::Argument(index)), "{call}");
    }
    // Nothing may hang on these.
    assert_eq!(pins_of("writev", &[1, 0x9000, 1], &memory), Ok(vec![]));
    assert_eq!(pins_of("nanosleep", &[0x5000, 0x9000], &memory).unwrap().len(), 1, "written to only");
}

#[test]
fn addresses_are_as_long_as_said() {
    let memory = Pages::default().with(0x5000, &[1, 0, b'/', b'x', 0, b'y', b'z']);
    for arch in Arch::ALL {
        assert_eq!(pins_on(arch, "connect", &[3, 0x5000, 6], &memory), Ok(vec![pin(1, [1, 0, b'/', b'x', 0, b'y'])]));
    }
    assert_eq!(pins_of("connect", &[3, 0x5000, 0], &memory), Ok(vec![]), "nothing is read");
    assert_eq!(pins_of("sendto", &[3, 0x5000, 1, 0, 0, 9], &memory), Ok(vec![pin(1, [1])]));
    let both = vec![pin(1, [1]), pin(4, [1, 0])];
    assert_eq!(pins_of("sendto", &[3, 0x5000, 1, 0, 0x5000, 2], &memory), Ok(both));
}

#[test]
fn structures_have_the_size_of_their_convention() {
    let memory = Pages::default().with_words(0x5000, &[1 << 32 | 5, 7, 9, 11, 13]);
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(pins_of("nanosleep", &[0x5000, 0x5000], &memory), Ok(vec![pin(0, words(&[1 << 32 | 5, 7]))]));
    assert_eq!(pins_on(Arch::X86, "nanosleep", &[0x5000, 0x6000], &memory), Ok(vec![pin(0, words(&[1 << 32 | 5]))]));
    let tagged = 0xab << 56 | 0x5000;
    assert_eq!(pins_on(Arch::Aarch64, "setrlimit", &[0, tagged], &memory), Ok(vec![pin(1, words(&[1 << 32 | 5, 7]))]));
    assert_eq!(pins_of("prlimit64", &[0, 0, 0, 0x5000], &memory), Ok(vec![]), "only asks");
}

#[test]
fn sized_structures_are_as_long_as_said() {
    let memory = Pages::default().with(0x5000, b"/x\0").with_words(0x6000, &[0, 0, 4, 5, 6]).with(0x7ff8, &[8; 8]);
    let pinned = |how: u64, size: u64| pins_of("openat2", &[0, 0x5000, how, size], &memory);
    let word = |number: u64| number.to_le_bytes();
    let path = || pin(1, *b"/x\0");
    assert_eq!(pinned(0x6000, 24), Ok(vec![path(), pin(2, [word(0), word(0), word(4)].concat())]));
    assert_eq!(pinned(0x6000, 8), Ok(vec![path(), pin(2, word(0))]), "zeros follow for the kernel too");
    let longer = [word(0), word(0), word(4), word(5), word(6)].concat();
    assert_eq!(pinned(0x6000, 40), Ok(vec![path(), pin(2, longer)]), "the kernel looks for zeros there");
    assert_eq!(pinned(0x7ff8, 8).unwrap()[1].bytes, [8; 8]);
    assert_eq!(pinned(0x7ff8, 24), Err(Unpinned::Argument(2)));
    assert_eq!(pinned(0x6000, 4096).unwrap()[1].bytes.len(), 4096);
    assert_eq!(pinned(0x7fe0, 33), Err(Unpinned::Argument(2)), "the rest cannot be read");
}

/// Memory that holds something else each time that it is looked at.
struct Restless(Cell<u8>);

impl Memory for Restless {
    fn read(&self, _address: u64, buffer: &mut [u8]) -> usize {
        self.0.set(self.0.get() + 1);
        buffer.fill(self.0.get());
        // The first is a name.
        if self.0.get() == 1
            && let Some(last) = buffer.last_mut()
        {
            *last = 0;
        }
        buffer.len()
    }
}

#[test]
fn two_looks_at_one_place() {
    // 16 bytes up to the end of the page: a name and two times of 8 bytes.
    let memory = Restless(Cell::new(0));
    let snapshot = Snapshot::new(&memory);
    let call = judged(Arch::X86_64, "utime", &[0x5ff0, 0x5ff0], &snapshot);
    let name = [vec![1; 15], vec![0]].concat();
    assert_eq!(call.arguments[0].value, Value::Path(name[..15].into()));
    let expected = Ok(vec![pin(0, name), pin(1, [2; 16])]);
    assert_eq!(pins(&call, &snapshot, &own_names), expected, "each as it was judged");
}

#[test]
fn structures_that_say_their_size() {
    let request = |size: u32| [size.to_le_bytes(), [9; 4]].concat();
    let memory = Pages::default().with(0x5000, &[7; 64]).with(0x5000, &request(32)).with(0x6fe8, &request(24));
    assert_eq!(pins_of("statmount", &[0x5000, 0, 0, 0], &memory).unwrap()[0].bytes.len(), 32);
    assert_eq!(pins_of("listmount", &[0x6fe8, 0, 0, 0], &memory).unwrap()[0].bytes.len(), 24);
    memory.change(0x6fe8, &request(25));
    assert_eq!(pins_of("listmount", &[0x6fe8, 0, 0, 0], &memory), Err(Unpinned::Argument(0)), "not all can be read");
    memory.change(0x5000, &request(4097));
    assert_eq!(pins_of("statmount", &[0x5000, 0, 0, 0], &memory), Err(Unpinned::Argument(0)));

    memory.change(0x5000, &[12, 0, 0, 0, 1, 0, 0, 0]);
    let handle = [vec![12, 0, 0, 0, 1, 0, 0, 0], vec![7; 12]].concat();
    assert_eq!(pins_of("open_by_handle_at", &[3, 0x5000, 0], &memory), Ok(vec![pin(1, handle)]));
    memory.change(0x5000, &[0xff; 4]);
    assert_eq!(pins_of("open_by_handle_at", &[3, 0x5000, 0], &memory), Err(Unpinned::Argument(1)));

    assert_eq!(pins_of("landlock_add_rule", &[3, 1, 0x5000, 0], &memory).unwrap()[0].bytes.len(), 12);
    assert_eq!(pins_of("landlock_add_rule", &[3, 2, 0x5000, 0], &memory).unwrap()[0].bytes.len(), 16);

    memory.change(0x5000, &0x2008_0522u32.to_le_bytes());
    let lengths: Vec<_> =
        pins_of("capset", &[0x5000, 0x5010], &memory).unwrap().iter().map(|pin| pin.bytes.len()).collect();
    assert_eq!(lengths, [8, 24]);
    memory.change(0x5000, &[0]);
    assert_eq!(pins_of("capset", &[0x5000, 0x5010], &memory), Err(Unpinned::Argument(0)), "the version is answered");
}

#[test]
fn text_that_the_kernel_reads_beyond() {
    let memory = Pages::default().with(0x5000, b"/\0").with(0x6ff8, b"ro\0\x05\x06\0\0\0");
    let pinned = pins_of("mount", &[0, 0x5000, 0, 0, 0x6ff8], &memory).unwrap();
    assert_eq!(pinned[0], pin(1, *b"/\0"));
    assert_eq!((pinned[1].register, pinned[1].bytes.len()), (4, 4096));
    assert_eq!(&pinned[1].bytes[..8], b"ro\0\x05\x06\0\0\0");
    assert!(pinned[1].bytes[8..].iter().all(|byte| *byte == 0), "the page ends there");

    assert_eq!(pins_of("fsconfig", &[3, 1, 0x6ff8, 0x6ff8, 0], &memory), Ok(vec![pin(2, *b"ro\0"), pin(3, *b"ro\0")]));
    assert_eq!(pins_of("fsconfig", &[3, 2, 0x6ff8, 0x6ff8, 8], &memory), Err(Unpinned::Argument(3)), "binary");
    assert_eq!(pins_of("fsconfig", &[3, 6, 0, 0, 0], &memory), Ok(vec![]));
}

#[test]
fn messages_carry_their_address() {
    // Name, its length, vectors and their count, control data and its length, flags.
    let header = |name: u64, length: u64| [name, length, 0x6000, 1, 0, 0, 3];
    let memory = Pages::default()
        .with_words(0x5000, &header(0x7000, 16))
        .with_words(0x6000, &[0x8000, 4])
        .with(0x7000, &[2; 200])
        .with(0x8000, b"data");
    let expected = |name: u64, length: u64| -> Vec<u8> {
        header(name, length).iter().flat_map(|word| word.to_le_bytes()).collect()
    };
    let named = |length: u64, judged: usize| Pin {
        register: 1,
        bytes: [expected(0x7000, length), vec![0; 8], vec![2; judged]].concat(),
        inner: vec![(0, 64)],
    };
    assert_eq!(pins_of("sendmsg", &[3, 0x5000, 0], &memory), Ok(vec![named(16, 16)]));
    memory.change(0x5008, &[200]);
    assert_eq!(pins_of("sendmsg", &[3, 0x5000, 0], &memory), Ok(vec![named(200, 128)]), "the kernel cuts it too");
    let snapshot = Snapshot::new(&memory);
    let call = judged(Arch::X86_64, "sendmsg", &[3, 0x5000, 0], &snapshot);
    memory.change(0x5000, &[0; 56]);
    memory.change(0x7000, &[9; 128]);
    assert_eq!(pins(&call, &snapshot, &own_names), Ok(vec![named(200, 128)]), "what was judged");

    for (name, length) in [(0, 16), (0x7000, 0)] {
        let memory = memory_with_header(&header(name, length));
        assert_eq!(pins_of("sendmsg", &[3, 0x5000, 0], &memory), Ok(vec![pin(1, expected(name, length))]));
    }
    assert_eq!(pins_of("recvmsg", &[3, 0x5000, 0], &memory), Ok(vec![]), "written to");
}

fn memory_with_header(header: &[u64]) -> Pages {
    Pages::default().with_words(0x5000, header).with_words(0x6000, &[0x8000, 4]).with(0x8000, b"data")
}

#[test]
fn messages_of_32_bits_carry_no_address() {
    let halves =
        |name: u32| -> Vec<u8> { [name, 16, 0x6000, 0, 0, 0, 3].iter().flat_map(|half| half.to_le_bytes()).collect() };
    let memory = Pages::default().with(0x5000, &halves(0)).with(0x7000, &[2; 16]);
    for arch in [Arch::X86, Arch::X32] {
        assert_eq!(pins_on(arch, "sendmsg", &[3, 0x5000, 0], &memory), Ok(vec![pin(1, halves(0))]));
    }
    memory.change(0x5000, &halves(0x7000));
    for arch in [Arch::X86, Arch::X32] {
        assert_eq!(pins_on(arch, "sendmsg", &[3, 0x5000, 0], &memory), Err(Unpinned::Argument(1)));
    }
}

#[test]
fn several_messages_cannot_be_pinned() {
    let memory = Pages::default().with(0x5000, &[0; 128]);
    assert_eq!(pins_of("sendmmsg", &[3, 0x5000, 2, 0], &memory), Err(Unpinned::Argument(1)));
    assert_eq!(pins_of("sendmmsg", &[3, 0x5000, 0, 0], &memory), Ok(vec![]), "none is looked at");
}

#[test]
fn data_is_pinned_if_all_of_it_was_looked_at() {
    let memory = Pages::default().with(0x5000, &[7; 5000]);
    assert_eq!(pins_of("write", &[1, 0x5000, 4096], &memory), Ok(vec![pin(1, vec![7; 4096])]));
    assert_eq!(pins_of("write", &[1, 0x5000, 4097], &memory), Ok(vec![]), "the rest was not judged");
    assert_eq!(pins_of("write", &[1, 0x5000, 0], &memory), Ok(vec![]));
    assert_eq!(pins_of("setsockopt", &[3, 1, 2, 0, 4], &memory), Ok(vec![]), "NULL");
    assert_eq!(pins_of("setsockopt", &[3, 1, 2, 0x5000, 4], &memory), Ok(vec![pin(3, [7; 4])]));
    let zero_copy = libc::MSG_ZEROCOPY as u64;
    assert_eq!(pins_of("sendto", &[3, 0x5000, 4, zero_copy, 0, 0], &memory), Ok(vec![]), "read after the call");
    assert_eq!(
        pins_of("sendto", &[3, 0x5000, 4, zero_copy, 0x5000, 2], &memory),
        Ok(vec![pin(4, [7; 2])]),
        "the address is not"
    );
}

#[test]
fn vectors_and_arguments_of_programs_are_left() {
    let memory = Pages::default().with(0x5000, b"/bin/x\0").with_words(0x6000, &[0x5000, 0]);
    assert_eq!(pins_of("execve", &[0x5000, 0x6000, 0x6000], &memory), Ok(vec![pin(0, *b"/bin/x\0")]));
    assert_eq!(pins_of("writev", &[1, 0x6000, 1], &memory), Ok(vec![]));
}

#[test]
fn what_the_kernel_writes_to_is_never_pinned() {
    let memory = Pages::default().with(0x5000, &[0; 256]).with(0x6000, b"/x\0");
    for (call, argument, reads) in WRITTEN {
        let arch = if call.ends_with("64") { Arch::X86 } else { Arch::X86_64 };
        let index = arch.spec(arch.number(call).unwrap()).argument(argument).unwrap();
        let mut registers = [0; 6];
        registers[index] = 0x5000;
        if call == "name_to_handle_at" {
            registers[1] = 0x6000;
        }
        match (reads, pins_on(arch, call, &registers, &memory)) {
            (Reads::Orders, pinned) => assert_eq!(pinned, Err(Unpinned::Argument(index as u8)), "{call}"),
            (Reads::Little, Ok(pins)) => assert!(pins.iter().all(|pin| pin.register != index as u8), "{call}"),
            (Reads::Little, Err(refused)) => panic!("{call}: {refused:?}"),
        }
    }
    let named = pins_of("name_to_handle_at", &[0, 0x6000, 0x5000, 0x5000, 0], &memory);
    assert_eq!(named, Ok(vec![pin(1, *b"/x\0")]), "its name is");
    assert_eq!(pins_of("clone3", &[0x5000, 88], &memory), Ok(vec![]));
    assert_eq!(pins_of("capget", &[0x5000, 0], &memory), Ok(vec![]));
}

/// Structures that the kernel only reads, by its source. A new declaration of
/// a structure belongs here or in [`WRITTEN`].
const ONLY_READ: [(&str, &str); 30] = [
    ("capset", "datap"),
    ("capset", "hdrp"),
    ("clock_nanosleep", "request"),
    ("clock_nanosleep_time64", "request"),
    ("clock_settime", "tp"),
    ("clock_settime64", "tp"),
    ("file_setattr", "ufattr"),
    ("futimesat", "times"),
    ("getxattrat", "uargs"),
    ("landlock_add_rule", "rule_attr"),
    ("landlock_create_ruleset", "attr"),
    ("listmount", "req"),
    ("mmap", "args"),
    ("mount_setattr", "attr"),
    ("nanosleep", "req"),
    ("open_by_handle_at", "handle"),
    ("open_tree_attr", "attr"),
    ("openat2", "how"),
    ("prlimit64", "new_limit"),
    ("sched_setparam", "param"),
    ("sched_setscheduler", "param"),
    ("setrlimit", "rlim"),
    ("settimeofday", "tv"),
    ("settimeofday", "tz"),
    ("setxattrat", "uargs"),
    ("statmount", "req"),
    ("utime", "times"),
    ("utimensat", "times"),
    ("utimensat_time64", "times"),
    ("utimes", "times"),
];

#[test]
fn every_structure_is_known_to_be_read_or_written() {
    let mut declared = BTreeSet::new();
    for arch in Arch::ALL {
        for spec in arch.all().map(|nr| arch.spec(nr)) {
            let structures = spec.args.iter().filter(|arg| matches!(arg.kind, Kind::Struct(_) | Kind::SizedStruct(..)));
            declared.extend(structures.map(|arg| (spec.name, arg.name)));
        }
    }
    let written = WRITTEN.iter().map(|(call, argument, _)| (*call, *argument));
    let known: Vec<_> = written.chain(LEFT).chain(ONLY_READ).collect();
    assert_eq!(known.len(), known.iter().collect::<BTreeSet<_>>().len(), "one place each");
    assert_eq!(declared, known.into_iter().collect());
}

/// Zeros everywhere.
struct Zeros;

impl Memory for Zeros {
    fn read(&self, _address: u64, buffer: &mut [u8]) -> usize {
        buffer.fill(0);
        buffer.len()
    }
}

/// What is to become of an argument that is 8, be it an address or a length.
fn fate(call: &str, arg: &Arg) -> Fate {
    match arg.kind {
        Kind::Messages(_) => Fate::Refused,
        Kind::Path(_) | Kind::Text(_) | Kind::Buffer(_) | Kind::SockAddr(_) | Kind::Message => Fate::Pinned,
        Kind::Struct(_) | Kind::SizedStruct(..) => {
            match WRITTEN.iter().find(|(c, a, _)| (*c, *a) == (call, arg.name)) {
                Some((.., Reads::Orders)) => Fate::Refused,
                Some((.., Reads::Little)) => Fate::Left,
                None if LEFT.contains(&(call, arg.name)) => Fate::Left,
                // No version of capabilities.
                None if (call, arg.name) == ("capset", "hdrp") => Fate::Refused,
                None => Fate::Pinned,
            }
        }
        _ => Fate::Left,
    }
}

#[derive(PartialEq)]
enum Fate {
    Pinned,
    Left,
    Refused,
}

#[test]
fn every_call_of_the_table() {
    let mut seen = 0;
    for arch in Arch::ALL {
        for nr in arch.all() {
            let snapshot = Snapshot::new(&Zeros);
            let call = decode(arch, nr, [8; 6], &snapshot);
            let unreadable = |argument: &crate::event::Argument| argument.value == Value::Unreadable(Defect::Fault);
            assert!(!call.arguments.iter().any(unreadable));
            let fates: Vec<_> = call.spec.args.iter().map(|arg| fate(call.spec.name, arg)).collect();
            let all =
                |which: Fate| (0u8..).zip(&fates).filter(move |(_, fate)| **fate == which).map(|(index, _)| index);
            let pinned = pins(&call, &snapshot, &own_names);
            if let Some(first) = all(Fate::Refused).next() {
                assert_eq!(pinned, Err(Unpinned::Argument(first)), "{}", call.spec.name);
                continue;
            }
            let pinned = pinned.unwrap_or_else(|refused| panic!("{}: {refused:?}", call.spec.name));
            let registers: Vec<_> = pinned.iter().map(|pin| pin.register).collect();
            assert_eq!(registers, all(Fate::Pinned).collect::<Vec<_>>(), "{}", call.spec.name);
            assert!(pinned.iter().all(|pin| (1..=4096).contains(&pin.bytes.len())), "{}", call.spec.name);
            seen += pinned.len();
        }
    }
    assert!(seen > 500, "{seen}");
}
