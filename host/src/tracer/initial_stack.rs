//! What the kernel puts on the stack of a program that has just been executed:
//! its arguments, its environment and the auxiliary vector (System V ABI,
//! "Initial Process Stack"; `create_elf_tables` in `fs/binfmt_elf.c`).
//!
//! Two reads of memory tell what procfs would tell from several files, each of
//! which the kernel has to make for the process and to throw away with it.
//!
//! To be read before the program's first instruction. What does not look as the
//! kernel makes it is nothing: procfs is asked then.

use bstr::{BString, ByteSlice};

use crate::decode::{self, Arch, Memory};
use crate::event::Strings;

/// What is looked at in one go: vectors of some 400 arguments and variables, a
/// gap of random size up to 8 KiB (`arch_align_stack`), and what is behind it.
const WINDOW: usize = 12 * 1024;
/// Arguments up to so many bytes, all together.
const STRINGS: usize = 8192;
/// Longest name of the program.
const NAME: usize = 256;

/// Keys of the auxiliary vector (getauxval(3)).
const AT_NULL: u64 = 0;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_EXECFN: u64 = 31;

/// What was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InitialStack {
    pub(super) argv: Vec<BString>,
    /// The name that execve(2) was given; none if it was not found.
    pub(super) name: Option<BString>,
    /// The user, if real and effective are one; as the program sees it.
    pub(super) user: Option<u32>,
    /// Likewise, the group.
    pub(super) group: Option<u32>,
}

impl InitialStack {
    /// Reads it from the stack pointer on; `narrow` if it is a 32-bit program's.
    pub(super) fn read(memory: &dyn Memory, pointer: u64, narrow: bool) -> Option<Self> {
        let mut stack = [0; WINDOW];
        let got = memory.read(pointer, &mut stack).min(WINDOW);
        let stack = &stack[..got];
        let mut words = words(stack, narrow);
        let count = words.next()?;
        let mut first = None;
        for _ in 0..count {
            let argument = words.next()?;
            first.get_or_insert(argument);
        }
        let _null = words.next().filter(|word| *word == 0)?;
        let environment = words.next()?;
        let mut last = environment;
        while last != 0 {
            last = words.next()?;
        }
        let mut keys = [AT_UID, AT_EUID, AT_GID, AT_EGID, AT_EXECFN].map(|key| (key, None));
        loop {
            let (key, value) = (words.next()?, words.next()?);
            if key == AT_NULL {
                break;
            }
            if let Some((_, slot)) = keys.iter_mut().find(|(wanted, _)| *wanted == key) {
                *slot = Some(value);
            }
        }
        let [uid, euid, gid, egid, name] = keys.map(|(_, value)| value);
        // The arguments lie one after the other, and the variables behind them.
        let end = if environment == 0 { name? } else { environment };
        let start = first.unwrap_or(end);
        let length = usize::try_from(end.checked_sub(start)?).ok().filter(|length| *length <= STRINGS)?;
        let beyond;
        let strings = match start.checked_sub(pointer).and_then(|offset| stack.get(usize::try_from(offset).ok()?..)) {
            Some(strings) if strings.len() >= length => strings,
            _ => {
                beyond = bytes(memory, start, STRINGS);
                &beyond
            }
        };
        let given = strings.get(..length)?;
        let argv: Vec<BString> = match given.split_last() {
            None => Vec::new(),
            // Each ends in a NUL.
            Some((0, given)) => given.split(|byte| *byte == 0).map(BString::from).collect(),
            Some(_) => return None,
        };
        let name = name.and_then(|address| {
            let known = usize::try_from(address.checked_sub(start)?).ok()?;
            let here = strings.get(known..).and_then(text);
            here.or_else(|| text(&bytes(memory, address, NAME)))
        });
        let one = |real: Option<u64>, effective| real.filter(|_| real == effective).map(|id| id as u32);
        // A program could write over them only once it runs; the number of its
        // arguments is the kernel's.
        (argv.len() as u64 == count).then_some(Self { argv, name, user: one(uid, euid), group: one(gid, egid) })
    }

    /// What the kernel calls the thread (`begin_new_exec` in fs/exec.c): the
    /// last part of the name, up to 15 bytes. Of a program that was executed by
    /// a descriptor it is another.
    pub(super) fn comm(&self) -> Option<BString> {
        let name = self.name.as_ref().filter(|name| !name.starts_with(b"/dev/fd/"))?;
        let last = name.rsplit_str("/").next()?;
        Some(last[..last.len().min(15)].into())
    }
}

/// The environment of a program that has just been executed, with the stack
/// pointer there; `narrow` if it is a 32-bit program.
pub(super) fn environment(memory: &dyn Memory, pointer: u64, narrow: bool) -> Option<Strings> {
    let width = if narrow { 4 } else { 8 };
    let count = words(&bytes(memory, pointer, width), narrow).next()?;
    // Behind the number of arguments, the arguments, and a NULL.
    let vector = pointer.checked_add(count.checked_add(2)?.checked_mul(width as u64)?)?;
    decode::strings(if narrow { Arch::X86 } else { Arch::NATIVE }, memory, vector)
}

/// The words of a vector, `narrow` if it is a 32-bit program's.
pub(super) fn words(bytes: &[u8], narrow: bool) -> impl Iterator<Item = u64> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    bytes.chunks_exact(if narrow { 4 } else { 8 }).map(word)
}

/// Up to `size` bytes.
fn bytes(memory: &dyn Memory, address: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let got = memory.read(address, &mut bytes).min(size);
    bytes.truncate(got);
    bytes
}

/// What comes before the first NUL.
fn text(bytes: &[u8]) -> Option<BString> {
    bytes.find_byte(0).map(|end| bytes[..end].into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Memory with one mapping.
    struct Mapped(u64, Vec<u8>);

    impl Memory for Mapped {
        fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
            let Some(start) = address.checked_sub(self.0).and_then(|start| usize::try_from(start).ok()) else {
                return 0;
            };
            let found = self.1.get(start..).unwrap_or_default();
            let size = found.len().min(buffer.len());
            buffer[..size].copy_from_slice(&found[..size]);
            size
        }
    }

    const STACK: u64 = 0x7ffd_0000;

    /// As the kernel makes it, `gap` bytes between the vectors and the strings.
    fn stack(argv: &[&[u8]], envp: &[&[u8]], name: &[u8], ids: [u64; 4], gap: u64, narrow: bool) -> Mapped {
        let width = if narrow { 4 } else { 8 };
        let words = 1 + argv.len() as u64 + 1 + envp.len() as u64 + 1 + 2 * 7;
        let mut next = STACK + words * width + gap;
        let mut strings = Vec::new();
        let mut put = |text: &[u8]| {
            strings.extend_from_slice(text);
            strings.push(0);
            let at = next;
            next += text.len() as u64 + 1;
            at
        };
        let mut words = vec![argv.len() as u64];
        words.extend(argv.iter().map(|text| put(text)));
        words.push(0);
        words.extend(envp.iter().map(|text| put(text)));
        words.push(0);
        let name = put(name);
        for (key, value) in [(6, 4096), (AT_UID, ids[0]), (AT_EUID, ids[1]), (AT_GID, ids[2]), (AT_EGID, ids[3])] {
            words.extend([key, value]);
        }
        words.extend([AT_EXECFN, name, AT_NULL, 0]);
        let mut memory: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()[..width as usize].to_vec()).collect();
        memory.resize(memory.len() + gap as usize, 0xaa);
        memory.extend(strings);
        Mapped(STACK, memory)
    }

    #[test]
    fn a_program_and_its_arguments() {
        for narrow in [false, true] {
            let memory = stack(&[b"ls", b"", b"-l a"], &[b"A=1", b"B"], b"/usr/bin/ls", [7, 7, 8, 9], 5000, narrow);
            let found = InitialStack::read(&memory, STACK, narrow).expect("as the kernel makes it");
            assert_eq!(found.argv, ["ls", "", "-l a"]);
            assert_eq!((found.user, found.group), (Some(7), None), "its group is another's");
            assert_eq!(found.comm(), Some("ls".into()));
            let environment = environment(&memory, STACK, narrow).expect("as the kernel makes it");
            assert_eq!(environment, Strings { items: vec!["A=1".into(), "B".into()], truncated: false });
        }
        let memory = stack(&[], &[], b"a-program-with-a-long-name", [0; 4], 0, false);
        let found = InitialStack::read(&memory, STACK, false).expect("it has no arguments");
        assert_eq!((found.argv.len(), found.comm()), (0, Some("a-program-with-".into())));
        let by_descriptor = stack(&[b"x"], &[], b"/dev/fd/3", [0; 4], 0, false);
        assert_eq!(InitialStack::read(&by_descriptor, STACK, false).and_then(|found| found.comm()), None);
    }

    #[test]
    fn what_the_kernel_does_not_make_is_nothing() {
        let Mapped(start, bytes) = stack(&[b"ls", b"-l"], &[b"A=1"], b"/bin/ls", [0; 4], 16, false);
        for length in 0..bytes.len() {
            let found = InitialStack::read(&Mapped(start, bytes[..length].to_vec()), STACK, false);
            // The name comes last, and only it can be missed.
            assert!(found.is_none_or(|found| found.argv == ["ls", "-l"] && found.name.is_none()), "{length}");
        }
        let long = vec![b'x'; STRINGS];
        assert_eq!(InitialStack::read(&stack(&[&long], &[], b"x", [0; 4], 0, false), STACK, false), None);
        let many = vec![&b"x"[..]; WINDOW / 8];
        assert_eq!(InitialStack::read(&stack(&many, &[], b"x", [0; 4], 0, false), STACK, false), None);
    }

    proptest! {
        #[test]
        fn any_memory_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), narrow: bool) {
            let _found = InitialStack::read(&Mapped(STACK, bytes), STACK, narrow);
        }
    }

    /// Of a real one: this test's own, whose program has not moved it.
    #[test]
    fn of_this_process() -> std::io::Result<()> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // `startstack`, field 28 of proc_pid_stat(5).
        let pointer = fields[28 - 3].parse().expect("a number");
        let memory = crate::tracer::memory::TraceeMemory(std::process::id() as libc::pid_t);
        let found = InitialStack::read(&memory, pointer, false);
        if std::env::vars_os().count() > 300 {
            // There is more than is read.
            return Ok(());
        }
        let found = found.expect("as the kernel made it");
        assert_eq!(found.argv.len(), std::env::args().count());
        let exe = std::env::current_exe()?;
        assert_eq!(found.comm().map(|comm| comm.len()), exe.file_name().map(|name| name.len().min(15)));
        Ok(())
    }
}
