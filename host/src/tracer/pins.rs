//! What a judged call reads from memory, as bytes to be put where only the
//! host can write ([`super::region`]): the call then runs on what was judged,
//! whatever becomes of the caller's memory.
//!
//! Pinned are file names and other text, socket addresses, structures to the
//! kernel, the header and the address of a message, and data that was looked
//! at whole.
//!
//! Left where they are, so that they can change after the verdict:
//! * data of which only the beginning was looked at, data behind `struct
//!   iovec` (writev, sendmsg), a message's control data, and data that is sent
//!   with `MSG_ZEROCOPY`, which the kernel reads when the call is long over;
//! * argv and envp;
//! * what a structure or data points at in its turn;
//! * memory that the kernel writes to and reads only to learn how much room
//!   there is, or where in an open file to begin ([`WRITTEN`]).
//!
//! What the kernel writes to and reads a decision from cannot be pinned:
//! [`Unpinned`]. Nor can what was not readable when it was judged. The call
//! must not run on it.

use std::cell::RefCell;

use bstr::BString;

use crate::decode::{Arch, Arg, Kind, Memory, StructSpec};
use crate::event::{Call, Field, Value};

/// Most bytes of a structure, as `PAGE_SIZE` bounds it in
/// `copy_struct_from_user`; also what mount(2) copies of its data.
const STRUCT_MAX: u64 = 4096;
/// `struct msghdr`, and its 32-bit layout.
const HEADER: usize = 56;
const COMPAT_HEADER: usize = 28;

/// Bytes read from a tracee while a call was decoded, so that what is copied
/// is what was judged.
pub(super) struct Snapshot<'a> {
    memory: &'a dyn Memory,
    /// Address and bytes of each read, in order.
    reads: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl<'a> Snapshot<'a> {
    /// A snapshot of nothing yet.
    pub(super) fn new(memory: &'a dyn Memory) -> Self {
        Self { memory, reads: RefCell::default() }
    }

    /// Where something was read, and how much.
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        self.reads.borrow().iter().map(|(start, bytes)| (*start, bytes.len() as u64)).collect()
    }

    /// Whether there is still what was read.
    pub(super) fn holds(&self) -> bool {
        self.reads.borrow().iter().all(|(start, bytes)| self.now(*start, bytes.len()) == *bytes)
    }

    /// The first read of at least `size` bytes at `address`, cut to that; read
    /// now if there was none. `None` if there are fewer.
    fn bytes(&self, address: u64, size: usize) -> Option<Vec<u8>> {
        let reads = self.reads.borrow();
        match reads.iter().find(|(start, bytes)| *start == address && bytes.len() >= size) {
            Some((_, bytes)) => Some(bytes[..size].to_vec()),
            None => Some(self.now(address, size)).filter(|bytes| bytes.len() == size),
        }
    }

    /// What is there now, up to `size` bytes.
    fn now(&self, address: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let got = self.memory.read(address, &mut bytes).min(size);
        bytes.truncate(got);
        bytes
    }

    /// The first `struct msghdr` that was read at `address`.
    fn header(&self, address: u64) -> Option<Vec<u8>> {
        let reads = self.reads.borrow();
        let is_header = |size| size == HEADER || size == COMPAT_HEADER;
        reads.iter().find(|(start, bytes)| *start == address && is_header(bytes.len())).map(|(_, bytes)| bytes.clone())
    }
}

impl Memory for Snapshot<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let got = self.memory.read(address, buffer).min(buffer.len());
        self.reads.borrow_mut().push((address, buffer[..got].to_vec()));
        got
    }
}

/// One judged argument: the register and what stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// Index of the argument.
    pub(super) register: u8,
    /// What is to lie where the register points.
    pub(super) bytes: Vec<u8>,
    /// Pointers inside `bytes`: at this offset, a 64-bit word that must become
    /// the address of `bytes` plus this many bytes.
    pub(super) inner: Vec<(usize, usize)>,
}

/// Why a call cannot run on what was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpinned {
    /// The memory of the argument with this index cannot be pinned.
    Argument(u8),
}

/// What a judged call reads from memory, in the order of its arguments.
///
/// `call` was decoded through `snapshot`. `name(i)` is what to put instead of
/// path argument `i`, without NUL; `None` to keep the caller's own bytes.
///
/// Where a call had its arguments in memory (i386's `socketcall`), `call` is
/// the one that it stands for: the pins belong to registers of that.
pub(super) fn pins(
    call: &Call,
    snapshot: &Snapshot<'_>,
    name: &dyn Fn(usize) -> Option<BString>,
) -> Result<Vec<Pin>, Unpinned> {
    let mut pins = Vec::new();
    for (index, (arg, argument)) in call.spec.args.iter().zip(&call.arguments).enumerate() {
        let register = index as u8;
        let read = Read { call, snapshot, index, arg, value: &argument.value };
        match read.pinned(name) {
            Pinned::Bytes(bytes) => pins.push(Pin { register, bytes, inner: Vec::new() }),
            Pinned::Pointing(bytes, inner) => pins.push(Pin { register, bytes, inner }),
            Pinned::Left => {}
            Pinned::Never => return Err(Unpinned::Argument(register)),
        }
    }
    Ok(pins)
}

/// What becomes of an argument.
enum Pinned {
    Bytes(Vec<u8>),
    /// With pointers inside.
    Pointing(Vec<u8>, Vec<(usize, usize)>),
    /// Stays as it is.
    Left,
    /// Cannot be pinned and must not stay as it is.
    Never,
}

impl From<Option<Vec<u8>>> for Pinned {
    /// The kernel does not look at memory where there is no byte to read.
    fn from(bytes: Option<Vec<u8>>) -> Self {
        bytes.map_or(Self::Never, |bytes| if bytes.is_empty() { Self::Left } else { Self::Bytes(bytes) })
    }
}

/// What a call reads at a pointer that it also writes to.
#[derive(Clone, Copy)]
enum Reads {
    /// Nothing that a verdict hangs on.
    Little,
    /// What it is to do.
    Orders,
}

/// Structures that the kernel also writes to: call, argument, what it reads
/// there. Read-only memory would make these calls fail.
const WRITTEN: [(&str, &str, Reads); 13] = [
    // Room for the handle (open_by_handle_at(2): `handle_bytes` is "in, out").
    ("name_to_handle_at", "handle", Reads::Little),
    // What is left of the time-out (`__sys_recvmmsg` in net/socket.c).
    ("recvmmsg", "timeout", Reads::Little),
    ("recvmmsg_time64", "timeout", Reads::Little),
    // Where in the file, which is adjusted: splice(2), copy_file_range(2), sendfile(2). Which file is in a register.
    ("splice", "off_in", Reads::Little),
    ("splice", "off_out", Reads::Little),
    ("copy_file_range", "off_in", Reads::Little),
    ("copy_file_range", "off_out", Reads::Little),
    ("sendfile64", "offset", Reads::Little),
    // The current state of the clock (adjtimex(2)).
    ("adjtimex", "buf", Reads::Orders),
    ("clock_adjtime", "buf", Reads::Orders),
    ("clock_adjtime64", "buf", Reads::Orders),
    // Where the rings are (io_uring_setup(2)).
    ("io_uring_setup", "params", Reads::Orders),
    // The size that it knows, with E2BIG (`perf_copy_attr` in kernel/events/core.c).
    ("perf_event_open", "attr", Reads::Orders),
];

/// Structures that are somebody else's business: what clone3(2) is given is
/// dealt with where children are kept traced; capget(2) changes nothing, and
/// answers an unknown version with the one that it knows.
const LEFT: [(&str, &str); 2] = [("clone3", "cl_args"), ("capget", "hdrp")];

/// `_LINUX_CAPABILITY_VERSION_{1,2,3}`. To another version the kernel writes
/// its own (`cap_validate_magic` in kernel/capability.c).
const CAPABILITY_VERSIONS: [u64; 3] = [0x1998_0330, 0x2007_1026, 0x2008_0522];
/// `LANDLOCK_RULE_NET_PORT`: `struct landlock_net_port_attr` has 16 bytes.
const RULE_NET_PORT: u64 = 2;
/// `FSCONFIG_SET_BINARY`: `value` has as many bytes as `aux` says.
const SET_BINARY: u64 = 2;

/// One argument of a call.
struct Read<'a> {
    call: &'a Call,
    snapshot: &'a Snapshot<'a>,
    index: usize,
    arg: &'a Arg,
    value: &'a Value,
}

impl Read<'_> {
    fn pinned(&self, name: &dyn Fn(usize) -> Option<BString>) -> Pinned {
        match self.arg.kind {
            // No pointers.
            Kind::Int | Kind::Uint | Kind::Long | Kind::Ushort | Kind::Size | Kind::Mode | Kind::NodeMode
            | Kind::Signal | Kind::Flags(_) | Kind::LongFlags(_) | Kind::SocketOption(_) | Kind::Fd | Kind::DirFd
            // Not looked through, or only written to.
            | Kind::Address | Kind::Length | Kind::SockAddrOut(_) | Kind::MessageOut | Kind::FdsOut(_) | Kind::TextOut
            // As the module's head says.
            | Kind::Strings | Kind::Environment | Kind::Vectors(_) => return Pinned::Left,
            Kind::Path(_) | Kind::Text(_) | Kind::Buffer(_) | Kind::SockAddr(_) | Kind::Message | Kind::Messages(_)
            | Kind::Struct(_) | Kind::SizedStruct(..) => {}
        }
        let place = (self.call.spec.name, self.arg.name);
        if LEFT.contains(&place) {
            return Pinned::Left;
        }
        let written = WRITTEN.iter().find(|(call, arg, _)| (*call, *arg) == place).map(|(.., reads)| *reads);
        match (written, &self.arg.kind, self.value) {
            // A register says so.
            (_, _, Value::Absent) | (Some(Reads::Little), ..) => Pinned::Left,
            (Some(Reads::Orders), ..) | (_, _, Value::Unreadable(_)) => Pinned::Never,
            (_, Kind::Path(_), Value::Path(own)) => terminated(&name(self.index).unwrap_or_else(|| own.clone())),
            (_, Kind::Text(_), Value::Text(text)) => self.text(text),
            (_, Kind::Buffer(_), Value::Bytes { data, truncated }) => {
                if *truncated || self.is_read_later() {
                    Pinned::Left
                } else {
                    Some(data.to_vec()).into()
                }
            }
            (_, Kind::SockAddr(_), Value::Address(address)) => Some(address.data.to_vec()).into(),
            (_, Kind::Message, Value::Messages(messages)) => {
                let address = messages.first().and_then(|message| message.address.as_ref());
                self.message(address.map_or(&[], |address| &address.data))
            }
            // The kernel writes to each entry how much of it was sent.
            (_, Kind::Messages(_), Value::Messages(messages)) if messages.is_empty() => Pinned::Left,
            (_, Kind::Struct(spec), Value::Structure(fields)) => self.structure(spec, None, fields).into(),
            (_, Kind::SizedStruct(spec, size), Value::Structure(fields)) => match self.number(*size) {
                Some(size) => self.structure(spec, Some(size), fields).into(),
                None => Pinned::Never,
            },
            _ => Pinned::Never,
        }
    }

    /// Where the argument points. i386 has 32 bits; `AArch64` ignores the top
    /// byte.
    fn address(&self) -> u64 {
        let register = self.call.registers.get(self.index).copied().unwrap_or(0);
        match self.call.arch {
            Arch::X86 => register & 0xffff_ffff,
            Arch::Aarch64 => ((register << 8) as i64 >> 8) as u64,
            Arch::X86_64 | Arch::X32 => register,
        }
    }

    /// Another argument of the call, a register.
    fn number(&self, index: u8) -> Option<u64> {
        match self.call.arguments.get(index as usize)?.value {
            Value::Uint(number) | Value::Flags(number) => Some(number),
            Value::Int(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    fn text(&self, text: &[u8]) -> Pinned {
        match (self.call.spec.name, self.arg.name) {
            // What follows the first NUL was not looked at.
            ("fsconfig", "value") if self.number(1) == Some(SET_BINARY) => Pinned::Never,
            // The kernel copies a page, or as much of it as there is (`copy_mount_options` in fs/namespace.c): some
            // file systems take a structure there.
            ("mount", "data") => {
                let mut bytes = text.to_vec();
                bytes.push(0);
                let rest = (STRUCT_MAX as usize).saturating_sub(bytes.len());
                bytes.extend(self.snapshot.now(self.address().saturating_add(bytes.len() as u64), rest));
                bytes.resize(STRUCT_MAX as usize, 0);
                Pinned::Bytes(bytes)
            }
            _ => terminated(text),
        }
    }

    /// The kernel keeps the caller's pages beyond the call
    /// (`Documentation/networking/msg_zerocopy.rst`).
    fn is_read_later(&self) -> bool {
        let zero_copy = libc::MSG_ZEROCOPY as u64;
        self.call.spec.name == "sendto" && self.number(3).is_none_or(|flags| flags & zero_copy != 0)
    }

    /// The header of a message and, behind it, the address that it names.
    fn message(&self, address: &[u8]) -> Pinned {
        let Some(mut bytes) = self.snapshot.header(self.address()) else { return Pinned::Never };
        if bytes.len() == COMPAT_HEADER {
            let named = bytes[..4] != [0; 4];
            return if named { Pinned::Never } else { Pinned::Bytes(bytes) };
        }
        if address.is_empty() {
            // No name, or one without bytes, which the kernel does not read.
            return Pinned::Bytes(bytes);
        }
        let target = HEADER.next_multiple_of(16);
        bytes.resize(target, 0);
        bytes.extend_from_slice(address);
        Pinned::Pointing(bytes, vec![(0, target)])
    }

    /// All bytes of a structure that the kernel reads, with the judged numbers
    /// in their places: what was read at one address twice can differ.
    fn structure(&self, spec: &StructSpec, size: Option<u64>, fields: &[Field]) -> Option<Vec<u8>> {
        let half = if spec.longs && self.call.arch == Arch::X86 { 2 } else { 1 };
        let whole = (spec.size() / half) as u64;
        let known = size.unwrap_or(whole).min(whole) as usize;
        let mut bytes = self.snapshot.bytes(self.address(), known)?;
        for (layout, field) in spec.fields.iter().zip(fields) {
            let (offset, size) = (layout.offset as usize / half, layout.size as usize / half);
            for (byte, judged) in bytes.iter_mut().skip(offset).take(size).zip(field.value.to_le_bytes()) {
                *byte = judged;
            }
        }
        let size = match size {
            Some(size) => size,
            None => self.size(whole, fields)?,
        };
        if size > STRUCT_MAX {
            return None;
        }
        let rest = (size as usize).saturating_sub(known);
        if rest > 0 {
            let more = self.snapshot.now(self.address().checked_add(known as u64)?, rest);
            bytes.extend(Some(more).filter(|more| more.len() == rest)?);
        }
        Some(bytes)
    }

    /// The size of a structure that says it itself, or is longer than its
    /// declaration; `None` if it cannot be pinned.
    fn size(&self, declared: u64, fields: &[Field]) -> Option<u64> {
        let first = fields.first()?.value;
        match (self.call.spec.name, self.arg.name) {
            // `copy_mnt_id_req` in fs/namespace.c.
            ("statmount" | "listmount", "req") => Some(first.max(declared)),
            // The handle itself follows. The kernel refuses more than MAX_HANDLE_SZ.
            ("open_by_handle_at", "handle") => declared.checked_add(first),
            ("landlock_add_rule", "rule_attr") if self.number(1) == Some(RULE_NET_PORT) => Some(16),
            ("capset", "hdrp") if !CAPABILITY_VERSIONS.contains(&first) => None,
            _ => Some(declared),
        }
    }
}

fn terminated(text: &[u8]) -> Pinned {
    Pinned::Bytes([text, &[0]].concat())
}

#[cfg(test)]
mod tests;
