//! Reads arguments as their declarations say: registers for scalars, the
//! tracee's memory for what they point at.
//!
//! Every number in a register or in memory is the tracee's choice, so each is
//! narrowed as the kernel narrows it, each length has a bound, and each
//! address is only ever handed to [`Memory::read`]. A path costs one read in
//! the usual case: 256 bytes, or fewer up to the end of the page, since what
//! follows may not be mapped.
//!
//! This module never writes to a tracee and never fails: what cannot be read
//! is [`Value::Unreadable`].

mod message;
mod reader;

use std::borrow::Cow;

use super::abi::Arch;
use super::spec::{Arg, Kind, Show, Spec, StructSpec};
use crate::event::{Argument, Call, Defect, Field, SocketAddress, Strings, Value};

use reader::Reader;

/// Memory of a tracee.
pub trait Memory {
    /// Reads up to `buffer.len()` bytes at `address` and answers how many
    /// leading bytes could be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize;
}

/// None at all: behind the pointers of a call that nobody makes, or that did
/// not run.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

impl Memory for NoMemory {
    fn read(&self, _address: u64, _buffer: &mut [u8]) -> usize {
        0
    }
}

/// Longest name, its NUL included (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// Most bytes of a caller's data.
const DATA_MAX: usize = 4096;
/// Largest structure that the kernel takes with its size (`PAGE_SIZE`).
const STRUCT_MAX: u64 = 4096;
/// `sizeof(struct sockaddr_storage)`.
const ADDRESS_MAX: usize = 128;

/// A value, or why there is none.
type Outcome<T = Value> = Result<T, Defect>;

/// Decodes a call at its entry. What the kernel has yet to write is
/// [`Value::Uint`] with its address, or [`Value::Absent`].
pub fn decode(arch: Arch, nr: u32, registers: [u64; 6], memory: &dyn Memory) -> Call {
    let spec = arch.spec(nr);
    let source = Source { arch, registers, spec, reader: Reader::new(arch, nr, memory) };
    let arguments = spec.args.iter().enumerate().map(|(index, arg)| Argument::new(source.at_entry(index, arg)));
    Call { arch, nr, registers, spec, arguments: arguments.collect() }
}

/// The same call at its exit: what the kernel wrote is read if the call
/// succeeded, everything else is as it was at entry, with what was asked about
/// it then: after a rename its names lead elsewhere.
pub fn complete(call: &Call, result: i64, memory: &dyn Memory) -> Call {
    let reader = Reader::new(call.arch, call.nr, memory);
    let source = Source { arch: call.arch, registers: call.registers, spec: call.spec, reader };
    let arguments = call.arguments.iter().enumerate().map(|(index, argument)| {
        let written =
            call.spec.args.get(index).filter(|_| result >= 0).and_then(|arg| source.at_exit(index, arg, call, result));
        written.map_or_else(|| argument.clone(), Argument::new)
    });
    Call { arch: call.arch, nr: call.nr, registers: call.registers, spec: call.spec, arguments: arguments.collect() }
}

/// The environment that a call gives to a program; none if it gives none, or
/// it cannot be read.
pub fn environment(call: &Call, memory: &dyn Memory) -> Option<Strings> {
    match register(call.arch, &call.registers, call.spec.environment()?) {
        // The kernel takes that for none (execve(2)).
        0 => Some(Strings::default()),
        address => Reader::new(call.arch, call.nr, memory).strings(address).ok(),
    }
}

/// A vector of strings of a program of this convention, wherever it is.
pub fn strings(arch: Arch, memory: &dyn Memory, address: u64) -> Option<Strings> {
    Reader::new(arch, 0, memory).strings(address).ok()
}

/// What the kernel sees of argument register `index`: i386 has registers of
/// 32 bits.
pub(super) fn register(arch: Arch, registers: &[u64; 6], index: usize) -> u64 {
    let register = registers.get(index).copied().unwrap_or(0);
    match arch {
        Arch::X86 => register & 0xffff_ffff,
        _ => register,
    }
}

/// A call's registers and memory.
struct Source<'a> {
    arch: Arch,
    registers: [u64; 6],
    spec: &'static Spec,
    reader: Reader<'a>,
}

impl Source<'_> {
    fn register(&self, index: usize) -> u64 {
        register(self.arch, &self.registers, index)
    }

    /// Argument `index` as a number, if it is one.
    fn scalar(&self, index: usize, kind: &Kind) -> Option<Value> {
        let register = self.register(index);
        Some(match kind {
            Kind::Int | Kind::Signal => Value::Int((register as i32).into()),
            Kind::Uint => Value::Uint((register as u32).into()),
            Kind::Ushort | Kind::Mode | Kind::NodeMode => Value::Uint((register as u16).into()),
            Kind::Long if self.arch == Arch::X86 => Value::Int((register as i32).into()),
            Kind::Long => Value::Int(register as i64),
            Kind::Size | Kind::Address => Value::Uint(register),
            Kind::Flags(_) | Kind::SocketOption(_) => Value::Flags((register as u32).into()),
            Kind::LongFlags(_) => Value::Flags(register),
            Kind::Fd | Kind::DirFd => Value::Fd(register as i32),
            _ => return None,
        })
    }

    /// The length or count in argument `index`; `None` if it is negative.
    fn length(&self, index: u8) -> Option<u64> {
        let index = index as usize;
        match self.scalar(index, &self.spec.args.get(index)?.kind)? {
            Value::Int(number) => u64::try_from(number).ok(),
            Value::Uint(number) => i64::try_from(number).is_ok().then_some(number),
            _ => None,
        }
    }

    fn at_entry(&self, index: usize, arg: &Arg) -> Value {
        if let Some(value) = self.scalar(index, &arg.kind) {
            return value;
        }
        let address = self.register(index);
        if address == 0 && arg.optional {
            return Value::Absent;
        }
        self.pointed(address, &arg.kind).unwrap_or_else(Value::Unreadable)
    }

    /// What is at `address`, which argument holds.
    fn pointed(&self, address: u64, kind: &Kind) -> Outcome {
        let reader = &self.reader;
        Ok(match *kind {
            Kind::Path(_) => Value::Path(reader.text(address, PATH_MAX)?),
            Kind::Text(limit) => Value::Text(reader.text(address, limit)?),
            Kind::Strings => Value::Strings(reader.strings(address)?),
            Kind::Buffer(length) => {
                let length = self.length(length).unwrap_or(0);
                let (data, truncated) = (reader.bytes(address, length, DATA_MAX)?, length > DATA_MAX as u64);
                Value::Bytes { data: data.into(), truncated }
            }
            Kind::Vectors(count) => {
                let count = self.length(count).ok_or(Defect::Malformed)?;
                let (data, truncated) = reader.vectors(address, count, &mut message::Budget::one())?;
                Value::Bytes { data: data.into(), truncated }
            }
            Kind::SockAddr(length) => {
                let length = self.length(length).filter(|length| *length <= ADDRESS_MAX as u64);
                let data = reader.bytes(address, length.ok_or(Defect::Malformed)?, ADDRESS_MAX)?;
                Value::Address(SocketAddress { data: data.into() })
            }
            Kind::Message => Value::Messages(vec![reader.message(address)?]),
            Kind::Messages(count) => reader.messages(address, self.length(count).ok_or(Defect::Malformed)?)?,
            Kind::Struct(spec) => self.structure(address, spec, None)?,
            Kind::SizedStruct(spec, size) => {
                let size = self.length(size).filter(|size| (1..=STRUCT_MAX).contains(size));
                self.structure(address, spec, Some(size.ok_or(Defect::Malformed)?))?
            }
            Kind::Length => Value::Int(i32::from_ne_bytes(reader.array(address)?).into()),
            Kind::SockAddrOut(_) | Kind::MessageOut | Kind::FdsOut(_) | Kind::TextOut if address == 0 => Value::Absent,
            _ => Value::Uint(address),
        })
    }

    /// What a call that answered `result` wrote to argument `index`; `None` if
    /// the argument stays as it was.
    fn at_exit(&self, index: usize, arg: &Arg, call: &Call, result: i64) -> Option<Value> {
        let address = self.register(index);
        let value = match arg.kind {
            _ if address == 0 => return None,
            Kind::SockAddrOut(length) => self.written_address(address, length, call),
            Kind::FdsOut(count) => self.descriptors(address, count),
            Kind::TextOut => self.written_text(address, result),
            Kind::MessageOut => {
                self.reader.received(address, result as u64).map(|message| Value::Messages(vec![message]))
            }
            _ => return None,
        };
        Some(value.unwrap_or_else(Value::Unreadable))
    }

    /// An address from the kernel: it writes the whole length, but no more
    /// bytes than there was room for at entry (`move_addr_to_user`).
    fn written_address(&self, address: u64, length: u8, call: &Call) -> Outcome {
        let room = match call.arguments.get(length as usize).map(|argument| &argument.value) {
            Some(Value::Int(room)) => u64::try_from(*room).unwrap_or(0),
            _ => return Err(Defect::Malformed),
        };
        let written = i32::from_ne_bytes(self.reader.array(self.register(length as usize))?);
        match room.min(u64::try_from(written).unwrap_or(0)) {
            0 => Ok(Value::Absent),
            size => {
                let data = self.reader.bytes(address, size, ADDRESS_MAX)?;
                Ok(Value::Address(SocketAddress { data: data.into() }))
            }
        }
    }

    fn descriptors(&self, address: u64, count: u8) -> Outcome {
        let data = self.reader.bytes(address, u64::from(count) * 4, DATA_MAX)?;
        let fields = data.chunks_exact(4).enumerate().map(|(index, bytes)| Field {
            name: Cow::Owned(index.to_string()),
            value: bytes.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes)) as u64,
        });
        Ok(Value::Structure(fields.collect()))
    }

    /// getcwd(2) counts its NUL, readlink(2) writes none.
    fn written_text(&self, address: u64, result: i64) -> Outcome {
        let mut data = self.reader.bytes(address, result as u64, PATH_MAX)?;
        if let Some(end) = data.iter().position(|byte| *byte == 0) {
            data.truncate(end);
        }
        Ok(Value::Text(data.into()))
    }

    /// The numbers of a structure. One that the caller says is shorter goes on
    /// with zeros, as `copy_struct_from_user` has it.
    fn structure(&self, address: u64, spec: &'static StructSpec, size: Option<u64>) -> Outcome {
        let half = if spec.longs && self.arch == Arch::X86 { 2 } else { 1 };
        let whole = spec.size() / half;
        let mut data = self.reader.bytes(address, size.unwrap_or(whole as u64).min(whole as u64), whole)?;
        data.resize(whole, 0);
        let fields = spec.fields.iter().map(|field| {
            let offset = field.offset as usize / half;
            let size = field.size as usize / half;
            let bytes = data.get(offset..offset + size).unwrap_or_default();
            Field { name: Cow::Borrowed(field.name), value: number(bytes, matches!(field.show, Show::Signed)) }
        });
        Ok(Value::Structure(fields.collect()))
    }
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], signed: bool) -> u64 {
    let size = bytes.len().min(8);
    let mut whole = [0; 8];
    whole[..size].copy_from_slice(&bytes[..size]);
    let number = u64::from_le_bytes(whole);
    if !signed || size == 0 {
        return number;
    }
    let unused = 64 - 8 * size as u32;
    ((number << unused) as i64 >> unused) as u64
}

#[cfg(test)]
mod tests;
