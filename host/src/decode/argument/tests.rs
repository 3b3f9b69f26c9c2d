#![allow(clippy::unwrap_used, clippy::decimal_bitwise_operands, clippy::large_stack_arrays)]

use std::cell::Cell;
use std::collections::BTreeMap;

use bstr::BString;
use proptest::prelude::*;

use super::*;
use crate::decode::describe;

const PAGE: u64 = 4096;

/// Memory of single pages.
#[derive(Clone, Debug, Default)]
struct Pages {
    pages: BTreeMap<u64, Vec<u8>>,
    reads: Cell<usize>,
}

impl Pages {
    /// Maps what is needed for `data` at `address`.
    fn with(mut self, address: u64, data: &[u8]) -> Self {
        for (offset, byte) in data.iter().enumerate() {
            let at = address + offset as u64;
            self.pages.entry(at / PAGE).or_insert_with(|| vec![0; PAGE as usize])[(at % PAGE) as usize] = *byte;
        }
        self
    }

    fn with_words(self, address: u64, words: &[u64]) -> Self {
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.with(address, &data)
    }

    fn with_halves(self, address: u64, halves: &[u32]) -> Self {
        let data: Vec<u8> = halves.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.with(address, &data)
    }
}

impl Memory for Pages {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.reads.set(self.reads.get() + 1);
        for (offset, byte) in buffer.iter_mut().enumerate() {
            let at = address + offset as u64;
            match self.pages.get(&(at / PAGE)) {
                Some(page) => *byte = page[(at % PAGE) as usize],
                None => return offset,
            }
        }
        buffer.len()
    }
}

fn call(arch: Arch, name: &str, arguments: &[u64], memory: &Pages) -> Call {
    let mut registers = [0; 6];
    registers[..arguments.len()].copy_from_slice(arguments);
    decode(arch, arch.number(name).unwrap(), registers, memory)
}

fn values(call: &Call) -> Vec<&Value> {
    call.arguments.iter().map(|argument| &argument.value).collect()
}

fn shown(call: &Call) -> Vec<String> {
    (0..call.arguments.len()).map(|index| describe(call, index)).collect()
}

const AT_FDCWD: u64 = libc::AT_FDCWD as u64;

#[test]
fn an_open_is_one_read() {
    let memory = Pages::default().with(0x5000, b"/etc/passwd\0");
    // Rubbish in the upper halves, which the kernel does not look at.
    let call = call(
        Arch::X86_64,
        "openat",
        &[AT_FDCWD | 7 << 32, 0x5000, 0o2_000_102 | 9 << 32, 0xffff_0000_0001_01a4],
        &memory,
    );
    assert_eq!(memory.reads.get(), 1);
    assert_eq!(
        values(&call),
        [&Value::Fd(-100), &Value::Path("/etc/passwd".into()), &Value::Flags(0o2_000_102), &Value::Uint(0o644)]
    );
    assert_eq!(shown(&call), ["AT_FDCWD", r#""/etc/passwd""#, "O_RDWR|O_CREAT|O_CLOEXEC", "0644"]);
    assert_eq!(call.registers[1], 0x5000, "registers stay as they were");
}

#[test]
fn names_end_where_the_kernel_says() {
    let read = |memory: &Pages, address: u64| call(Arch::X86_64, "open", &[address], memory).arguments[0].value.clone();
    let long = vec![b'x'; 5000];

    let memory = Pages::default().with(0x5000, &long);
    assert_eq!(read(&memory, 0x5000), Value::Unreadable(Defect::Unterminated));
    let memory = Pages::default().with(0x5000, &long[..4095]).with(0x5fff, b"\0");
    assert_eq!(read(&memory, 0x5000), Value::Path(long[..4095].into()));
    let memory = Pages::default().with(0x5000, &long[..4096]).with(0x6000, b"\0");
    assert_eq!(read(&memory, 0x5000), Value::Unreadable(Defect::Unterminated), "one too long");
    let memory = Pages::default().with(0x5000, &long[..4096]);
    assert_eq!(read(&memory, 0x5ff0), Value::Unreadable(Defect::Fault), "goes on into nothing");
    assert_eq!(read(&memory, 0x9000), Value::Unreadable(Defect::Fault));
    assert_eq!(read(&memory, 0), Value::Unreadable(Defect::Fault), "NULL is no name");
    assert_eq!(read(&memory, u64::MAX), Value::Unreadable(Defect::Fault));
    let memory = Pages::default().with(0x5ffd, b"abcdef\0");
    assert_eq!(read(&memory, 0x5ffd), Value::Path("abcdef".into()), "across two pages");
    let memory = Pages::default().with(u64::MAX, b"x");
    assert_eq!(read(&memory, u64::MAX), Value::Unreadable(Defect::Fault), "nothing wraps around");
}

#[test]
fn aarch64_ignores_the_top_byte_of_an_address() {
    let memory = Pages::default().with(0x5000, b"/x\0");
    let tagged = 0x5000 | 0xab << 56;
    assert_eq!(call(Arch::Aarch64, "openat", &[0, tagged], &memory).arguments[1].value, Value::Path("/x".into()));
    assert_eq!(
        call(Arch::X86_64, "openat", &[0, tagged], &memory).arguments[1].value,
        Value::Unreadable(Defect::Fault)
    );
}

#[test]
fn i386_has_registers_of_32_bits() {
    let memory = Pages::default().with(0x5000, b"/x\0").with_halves(0x6000, &[0x5000, 0]);
    let call = call(Arch::X86, "execve", &[1 << 40 | 0x5000, 2 << 40 | 0x6000, 3 << 40], &memory);
    let argv = Value::Strings(Strings { items: vec!["/x".into()], truncated: false });
    assert_eq!(values(&call), [&Value::Path("/x".into()), &argv, &Value::Absent]);
    let call = self::call(Arch::X86, "setuid", &[0xdead_0000_dead_0001], &memory);
    assert_eq!(values(&call), [&Value::Uint(1)]);
    let call = self::call(Arch::X86, "truncate", &[0x5000, 0xffff_ffff], &memory);
    assert_eq!(call.arguments[1].value, Value::Int(-1));
}

#[test]
fn argv() {
    let memory = Pages::default()
        .with(0x5000, b"/bin/ls\0ls\0-l\0")
        .with_words(0x6000, &[0x5008, 0x500b, 0])
        .with_words(0x7ff8, &[0x5008]);
    let exec = |argv: u64| call(Arch::X86_64, "execve", &[0x5000, argv, 0], &memory);
    assert_eq!(shown(&exec(0x6000)), [r#""/bin/ls""#, r#"["ls", "-l"]"#, "NULL"]);
    assert_eq!(exec(0).arguments[1].value, Value::Absent);
    assert_eq!(exec(0x7ff8).arguments[1].value, Value::Unreadable(Defect::Fault), "no NULL before the page ends");
    assert_eq!(exec(0x9000).arguments[1].value, Value::Unreadable(Defect::Fault));
    assert_eq!(describe(&exec(0x9000), 1), "0x9000");

    let memory = memory.with_words(0x8ffc, &[0x5008]).with_words(0x9004, &[0]);
    let exec = call(Arch::X86_64, "execve", &[0x5000, 0x8ffc, 0], &memory);
    assert_eq!(describe(&exec, 1), r#"["ls"]"#, "a pointer across two pages");
}

#[test]
fn an_environment_is_read_only_when_asked_for() {
    let memory = Pages::default()
        .with(0x5000, b"/bin/ls\0ls\0A=b\0")
        .with_words(0x6000, &[0x5008, 0])
        .with_words(0x7000, &[0x500b, 0]);
    let exec = |address: u64| call(Arch::X86_64, "execve", &[0x5000, 0x6000, address], &memory);
    assert_eq!(shown(&exec(0x7000)), [r#""/bin/ls""#, r#"["ls"]"#, "0x7000"]);
    assert_eq!(shown(&exec(0))[2], "NULL");
    let read = |address: u64| environment(&exec(address), &memory);
    assert_eq!(read(0x7000), Some(Strings { items: vec!["A=b".into()], truncated: false }));
    assert_eq!(read(0), Some(Strings::default()));
    assert_eq!(read(0x9000), None);
    assert_eq!(environment(&call(Arch::X86_64, "openat", &[0x7000; 6], &memory), &memory), None);
}

#[test]
fn argv_of_x32_depends_on_the_number() {
    let memory =
        Pages::default().with(0x5000, b"ls\0").with_halves(0x6000, &[0x5000, 0]).with_words(0x7000, &[0x5000, 0]);
    let own = decode(Arch::X32, 520 | 1 << 30, [0x5000, 0x6000, 0, 0, 0, 0], &memory);
    let shared = decode(Arch::X32, 59 | 1 << 30, [0x5000, 0x7000, 0, 0, 0, 0], &memory);
    assert_eq!((own.spec.name, shared.spec.name), ("execve", "execve"));
    assert_eq!(own.arguments[1].value, shared.arguments[1].value);
    assert_eq!(describe(&own, 1), r#"["ls"]"#);
}

#[test]
fn a_huge_argv_is_cut() {
    let strings = |value: &Value| match value {
        Value::Strings(Strings { items, truncated }) => {
            (items.len(), items.iter().map(|item| item.len()).sum::<usize>(), *truncated)
        }
        other => panic!("{other:?}"),
    };
    let memory = Pages::default().with(0x5000, b"a\0").with_words(0x1_0000, &[0x5000; 5000]);
    let exec = call(Arch::X86_64, "execve", &[0x5000, 0x1_0000], &memory);
    assert_eq!(strings(&exec.arguments[1].value), (1024, 1024, true));
    assert!(memory.reads.get() < 50, "{}", memory.reads.get());

    let exact = Pages::default().with(0x5000, b"a\0").with_words(0x1_0000, &[0x5000; 1024]).with_words(0x1_2000, &[0]);
    let exec = call(Arch::X86_64, "execve", &[0x5000, 0x1_0000], &exact);
    assert_eq!(strings(&exec.arguments[1].value), (1024, 1024, false));

    let memory =
        Pages::default().with(0x10_0000, &vec![b'x'; 200 * 1024]).with_words(0x6000, &[0x10_0000, 0x10_0000, 0]);
    let exec = call(Arch::X86_64, "execve", &[0x10_0000, 0x6000], &memory);
    assert_eq!(strings(&exec.arguments[1].value), (1, 128 * 1024, true));

    // A loop of one string of 16 KiB.
    let memory = Pages::default()
        .with(0x10_0000, &vec![b'x'; 16 * 1024])
        .with(0x10_4000, b"\0")
        .with_words(0x1_0000, &[0x10_0000; 512]);
    let exec = call(Arch::X86_64, "execve", &[0x10_0000, 0x1_0000], &memory);
    let (_, bytes, truncated) = strings(&exec.arguments[1].value);
    assert!(bytes <= 128 * 1024 && truncated);
}

#[test]
fn buffers_are_bounded() {
    let memory = Pages::default().with(0x10_0000, &[b'y'; 8192]);
    let write = |count: u64| call(Arch::X86_64, "write", &[1, 0x10_0000, count], &memory).arguments[1].value.clone();
    let bytes = |size: usize, truncated: bool| Value::Bytes { data: vec![b'y'; size].into(), truncated };
    assert_eq!(write(3), bytes(3, false));
    assert_eq!(write(4096), bytes(4096, false));
    assert_eq!(write(4097), bytes(4096, true));
    assert_eq!(write(0), bytes(0, false));
    assert_eq!(write(u64::MAX), bytes(0, false), "negative");
    assert_eq!(write(i64::MAX as u64), bytes(4096, true));
    let end = call(Arch::X86_64, "write", &[1, 0x10_1fff, 2], &memory);
    assert_eq!(end.arguments[1].value, Value::Unreadable(Defect::Fault));
    assert_eq!(describe(&call(Arch::X86_64, "write", &[1, 0x10_0000, 2], &memory), 1), r#""yy""#);

    let vectors = memory.clone().with_words(0x5000, &[0x10_0000, 2, 0, 0, 0x10_0004, 3]);
    let writev = |count: u64| call(Arch::X86_64, "writev", &[1, 0x5000, count], &vectors).arguments[1].value.clone();
    assert_eq!(writev(3), bytes(5, false));
    assert_eq!(writev(1025), Value::Unreadable(Defect::Malformed));
    assert_eq!(writev(u64::MAX), Value::Unreadable(Defect::Malformed));
}

#[test]
fn socket_addresses() {
    let memory = Pages::default().with(0x5000, &[2, 0, 0, 80, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let connect = |length: u64| call(Arch::X86_64, "connect", &[3, 0x5000, length], &memory);
    assert_eq!(describe(&connect(16), 1), r#"{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.0.1")}"#);
    assert_eq!(connect(129).arguments[1].value, Value::Unreadable(Defect::Malformed));
    assert_eq!(connect(0xffff_ffff).arguments[1].value, Value::Unreadable(Defect::Malformed), "-1");
    assert_eq!(connect(1 << 32 | 16).arguments[1].value, connect(16).arguments[1].value);
    assert!(matches!(&connect(0).arguments[1].value, Value::Address(address) if address.data.is_empty()));
    let sendto = call(Arch::X86_64, "sendto", &[3, 0x5000, 2, 0, 0, 0], &memory);
    assert_eq!(sendto.arguments[4].value, Value::Absent);
}

#[test]
fn accepted_addresses_are_read_at_exit() {
    let memory = Pages::default().with(0x5000, &[0; 128]).with_halves(0x6000, &[16]);
    let entry = call(Arch::X86_64, "accept", &[3, 0x5000, 0x6000], &memory);
    assert_eq!(values(&entry)[1..], [&Value::Uint(0x5000), &Value::Int(16)]);

    let after = memory.with(0x5000, &[1, 0]).with(0x5002, b"/run/a/very/long/name").with_halves(0x6000, &[100]);
    let exit = complete(&entry, 4, &after);
    assert_eq!(
        describe(&exit, 1),
        r#"{sa_family=AF_UNIX, sun_path="/run/a/very/lo"}"#,
        "no more than there was room for"
    );
    assert_eq!(exit.arguments[2].value, Value::Int(16), "as at entry");
    assert_eq!(complete(&entry, -11, &after).arguments[1].value, Value::Uint(0x5000), "failed");
    let nameless = after.with_halves(0x6000, &[0]);
    assert_eq!(complete(&entry, 4, &nameless).arguments[1].value, Value::Absent);
    let none = call(Arch::X86_64, "accept", &[3, 0, 0], &nameless);
    assert_eq!(complete(&none, 4, &nameless).arguments[1].value, Value::Absent);
}

#[test]
fn what_the_kernel_wrote() {
    let memory = Pages::default().with_halves(0x5000, &[3, 4]).with(0x6000, b"/home/me\0/old");
    let pipe = call(Arch::X86_64, "pipe", &[0x5000], &memory);
    assert_eq!(describe(&pipe, 0), "0x5000");
    assert_eq!(describe(&complete(&pipe, 0, &memory), 0), "[3, 4]");
    let getcwd = call(Arch::X86_64, "getcwd", &[0x6000, 100], &memory);
    assert_eq!(complete(&getcwd, 9, &memory).arguments[0].value, Value::Text("/home/me".into()));
    let readlink = call(Arch::X86_64, "readlink", &[0x6000, 0x6000, 5], &memory);
    assert_eq!(complete(&readlink, 5, &memory).arguments[1].value, Value::Text("/home".into()));
    assert_eq!(complete(&readlink, 5, &Pages::default()).arguments[0].value, Value::Path("/home/me".into()));
    assert_eq!(complete(&readlink, 5, &Pages::default()).arguments[1].value, Value::Unreadable(Defect::Fault));
}

#[test]
fn structures_with_a_size() {
    let memory = Pages::default().with(0x5000, b"x\0").with_words(0x6000, &[0o2_000_000, 0o600, 8]);
    let open = |size: u64| call(Arch::X86_64, "openat2", &[AT_FDCWD, 0x5000, 0x6000, size], &memory);
    assert_eq!(describe(&open(24), 2), "{flags=O_RDONLY|O_CLOEXEC, mode=0600, resolve=RESOLVE_BENEATH}");
    assert_eq!(describe(&open(4096), 2), describe(&open(24), 2));
    assert_eq!(describe(&open(8), 2), "{flags=O_RDONLY|O_CLOEXEC, mode=000, resolve=0}", "the kernel sees zeros");
    for size in [0, 4097, u64::MAX] {
        assert_eq!(open(size).arguments[2].value, Value::Unreadable(Defect::Malformed));
    }
    let ruleset = call(Arch::X86_64, "landlock_create_ruleset", &[0, 0, 1], &memory);
    assert_eq!(shown(&ruleset), ["NULL", "0", "LANDLOCK_CREATE_RULESET_VERSION"]);
}

#[test]
fn longs_are_half_as_wide_on_i386() {
    let memory = Pages::default().with_halves(0x5000, &[5, 0xffff_ffff]);
    let wide = Pages::default().with_words(0x5000, &[5, u64::MAX]);
    let narrow = call(Arch::X86, "clock_settime", &[0, 0x5000], &memory);
    let expected = ["CLOCK_REALTIME", "{tv_sec=5, tv_nsec=-1}"];
    assert_eq!(shown(&narrow), expected);
    assert_eq!(shown(&call(Arch::X86_64, "clock_settime", &[0, 0x5000], &wide)), expected);
    assert_eq!(shown(&call(Arch::X86, "clock_settime64", &[0, 0x5000], &wide)), expected);
}

/// A message to `@x` with two vectors and one descriptor.
fn message(memory: Pages, compat: bool) -> Pages {
    let memory = memory.with(0x5000, b"\x01\0\0x").with(0x5100, b"hello world");
    if compat {
        memory
            .with_halves(0x6000, &[0x5000, 4, 0x6100, 2, 0x6200, 16, 0])
            .with_halves(0x6100, &[0x5100, 5, 0x5105, 6])
            .with_halves(0x6200, &[16, 1, 1, 7])
    } else {
        memory
            .with_words(0x6000, &[0x5000, 4, 0x6100, 2, 0x6200, 24, 0])
            .with_words(0x6100, &[0x5100, 5, 0x5105, 6])
            .with_words(0x6200, &[20, 1 | 1 << 32, 7])
    }
}

#[test]
fn messages() {
    let expected = r#"{msg_name={sa_family=AF_UNIX, sun_path=@"x"}, msg_data="hello world", scm_rights=[7]}"#;
    let wide = message(Pages::default(), false);
    let send = call(Arch::X86_64, "sendmsg", &[3, 0x6000, 0x4000], &wide);
    assert_eq!(shown(&send), ["3", expected, "MSG_NOSIGNAL"]);
    let narrow = message(Pages::default(), true);
    assert_eq!(describe(&call(Arch::X86, "sendmsg", &[3, 0x6000], &narrow), 1), expected);
    assert_eq!(describe(&decode(Arch::X32, 518 | 1 << 30, [3, 0x6000, 0, 0, 0, 0], &narrow), 1), expected);

    let received = complete(&call(Arch::X86_64, "recvmsg", &[3, 0x6000], &wide), 5, &wide);
    assert_eq!(describe(&received, 1), expected.replace("hello world", "hello"));

    let many = wide.with_words(0x6038, &[0]).with_words(0x6040, &[0, 0, 0, 0, 0, 0, 0, 0]);
    let send = call(Arch::X86_64, "sendmmsg", &[3, 0x6000, 2], &many);
    assert_eq!(describe(&send, 1), format!(r#"[{expected}, {{msg_name=NULL, msg_data=""}}]"#));
}

#[test]
fn hostile_messages() {
    let wide = message(Pages::default(), false);
    let value = |memory: &Pages| call(Arch::X86_64, "sendmsg", &[3, 0x6000], memory).arguments[1].value.clone();
    let first = |memory: &Pages| match value(memory) {
        Value::Messages(messages) => messages[0].clone(),
        other => panic!("{other:?}"),
    };
    let malformed = Value::Unreadable(Defect::Malformed);
    assert_eq!(value(&wide.clone().with_words(0x6018, &[1025])), malformed, "too many vectors");
    assert_eq!(value(&wide.clone().with_halves(0x6008, &[u32::MAX])), malformed, "negative length of the name");
    assert_eq!(value(&wide.clone().with_words(0x6028, &[u64::MAX])), malformed, "control data");
    assert_eq!(value(&wide.clone().with_words(0x6108, &[u64::MAX])), malformed, "length of a vector");
    assert_eq!(value(&wide.clone().with_words(0x6020, &[0xdead_0000])), Value::Unreadable(Defect::Fault));
    for length in [0, 1, 15, 17, u64::MAX] {
        let descriptors = first(&wide.clone().with_words(0x6200, &[length])).descriptors;
        assert!(descriptors.len() <= 1, "{length}: {descriptors:?}");
    }
    let long_name = first(&wide.clone().with_halves(0x6008, &[4000]));
    assert_eq!(long_name.address.unwrap().data.len(), 128, "cut, as the kernel does");

    // Descriptors after 4,096 bytes of control data are not seen, but it is said that there is more.
    let control: Vec<u64> = (0..300).flat_map(|_| [16, 99 << 32]).collect();
    let hidden = first(&wide.clone().with_words(0x7000, &control).with_words(0x6020, &[0x7000, 4800]));
    assert!(hidden.truncated);

    // An address behind a thousand other messages is seen, data that comes late is not.
    let mut many =
        Pages::default().with_words(0x6100, &[0x10_0000, 4096]).with(0x10_0000, &[1; 4096]).with(0x5000, b"\x01\0x");
    for index in 0..1024 {
        many = many.with_words(0x20_0000 + index * 64, &[0, 0, 0x6100, 1, 0, 0, 0, 0]);
    }
    many = many.with_words(0x20_0000 + 1023 * 64, &[0x5000, 3]);
    let send = call(Arch::X86_64, "sendmmsg", &[3, 0x20_0000, 0xffff_ffff], &many);
    let Value::Messages(messages) = &send.arguments[1].value else { panic!("{send:?}") };
    assert_eq!(messages.len(), 1024, "the kernel sends no more");
    assert!(messages[1023].address.is_some() && messages[1023].truncated);
    assert!(messages.iter().map(|message| message.data.len()).sum::<usize>() <= 256 * 1024);
}

#[test]
fn calls_without_a_declaration_have_six_words() {
    let call = decode(Arch::X86_64, 9999, [1, 2, 3, 4, 5, u64::MAX], &Pages::default());
    assert_eq!(values(&call).len(), 6);
    assert_eq!(call.arguments[5].value, Value::Uint(u64::MAX));
    assert_eq!(describe(&call, 1), "0x2");
    assert_eq!(describe(&call, 6), "");
}

#[test]
fn notation() {
    let memory = Pages::default().with(0x5000, b"a\"b\\\n\t\x01\xff7\0");
    assert_eq!(describe(&call(Arch::X86_64, "open", &[0x5000], &memory), 0), r#""a\"b\\\n\t\1\3777""#);
    let kill = call(Arch::X86_64, "kill", &[u64::MAX, 9], &memory);
    assert_eq!(shown(&kill), ["-1", "SIGKILL"]);
    let chown = call(Arch::X86_64, "chown", &[0x9000, 0xffff_ffff, 0], &memory);
    assert_eq!(shown(&chown), ["0x9000", "-1", "0"]);
    let mmap = call(Arch::X86_64, "mmap", &[0, 4096, 3, 0x22, u64::MAX, 0], &memory);
    assert_eq!(shown(&mmap), ["NULL", "4096", "PROT_READ|PROT_WRITE", "MAP_PRIVATE|MAP_ANONYMOUS", "-1", "0"]);
    let mknod = call(Arch::X86_64, "mknod", &[0x5000, 0o20_644, 0x103], &memory);
    assert_eq!(shown(&mknod)[1..], ["S_IFCHR|0644", "259"]);
    let socket = call(Arch::X86_64, "socket", &[2, 0o2_000_001, 0], &memory);
    assert_eq!(shown(&socket), ["AF_INET", "SOCK_STREAM|SOCK_CLOEXEC", "0"]);
    let utimensat = call(Arch::X86_64, "utimensat", &[3, 0, 0, 0], &memory);
    assert_eq!(shown(&utimensat), ["3", "NULL", "NULL", "0"]);
    assert_eq!(describe(&call(Arch::X86_64, "open", &[0], &memory), 0), "NULL");
}

#[test]
fn a_memory_that_lies_is_not_believed() {
    struct Liar;
    impl Memory for Liar {
        fn read(&self, _: u64, buffer: &mut [u8]) -> usize {
            buffer.fill(b'x');
            usize::MAX
        }
    }
    let call = decode(Arch::X86_64, 2, [0x5000, 0, 0, 0, 0, 0], &Liar);
    assert_eq!(call.arguments[0].value, Value::Unreadable(Defect::Unterminated));
}

#[test]
fn a_value_that_does_not_fit_is_still_shown() {
    let mut call = call(Arch::X86_64, "openat", &[], &Pages::default());
    call.arguments = vec![Argument::new(Value::Text("x".into())), Argument::new(Value::Structure(Vec::new()))];
    call.arguments.resize_with(8, || Argument::new(Value::Flags(3)));
    assert_eq!(shown(&call), [r#""x""#, "{}", "O_ACCMODE", "0x3", "0x3", "0x3", "0x3", "0x3"]);
    let exit = complete(&call, 0, &Pages::default());
    assert_eq!(exit.arguments.len(), 8);
}

/// Addresses that lead somewhere, often.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0x4000u64..0x8100,
        1 => 0u64..300,
        1 => any::<u64>(),
        1 => (0u64..100).prop_map(|n| u64::MAX - n),
    ]
}

fn pages() -> impl Strategy<Value = Pages> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        prop::collection::vec(word(), 0..80)
            .prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect()),
        Just(vec![b'x'; 4096]),
    ];
    prop::collection::vec((0x4000u64..0x8000, content), 0..6)
        .prop_map(|parts| parts.iter().fold(Pages::default(), |memory, (address, data)| memory.with(*address, data)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_panics(
        arch in prop::sample::select(Arch::ALL.to_vec()),
        nr in 0u32..600,
        bit in prop::bool::ANY,
        registers in prop::array::uniform6(word()),
        before in pages(),
        after in pages(),
        result in prop_oneof![Just(0), -4095i64..5000, any::<i64>()],
    ) {
        let nr = if bit { nr | 1 << 30 } else { nr };
        let entry = decode(arch, nr, registers, &before);
        prop_assert_eq!(entry.arguments.len(), entry.spec.args.len());
        let exit = complete(&entry, result, &after);
        prop_assert_eq!(entry.arguments.len(), exit.arguments.len());
        for index in 0..7 {
            describe(&entry, index);
            describe(&exit, index);
        }
        if result < 0 {
            prop_assert_eq!(values(&entry), values(&exit));
        }
    }

    #[test]
    fn a_text_is_what_is_before_its_nul(text in prop::collection::vec(1u8..=255, 0..4095), address in 0x4000u64..0x8000) {
        let memory = Pages::default().with(address, &text).with(address + text.len() as u64, b"\0");
        let call = call(Arch::X86_64, "chdir", &[address], &memory);
        prop_assert_eq!(&call.arguments[0].value, &Value::Path(BString::from(text)));
    }
}
