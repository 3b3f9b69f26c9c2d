//! A call whose arguments lie in memory that only the host can write.

use std::rc::Rc;

use libc::pid_t;

use super::arch::Registers;
use super::pins::Pin;
use super::region::{Region, Slot};
use super::sys;

/// Registers to put back at the call's exit. While this lives, its memory is
/// given to nobody else.
#[derive(Debug)]
pub(super) struct Protected {
    /// Argument index and what the caller had there.
    arguments: Vec<(u8, u64)>,
    /// The registers are those of i386's convention.
    compat: bool,
    /// A sendmmsg that runs as the sendmsg of its first message: its number,
    /// and where its messages are.
    first_of_many: Option<(u64, u64)>,
    /// Read by the kernel until the call is over.
    slot: Option<Slot>,
}

/// Offset of `msg_len` in `struct mmsghdr`.
const MESSAGE_LENGTH: u64 = 56;

/// Each argument starts here.
const ALIGNMENT: usize = 16;

impl Protected {
    /// Puts `pins` into the region, for task `tid`, and points `registers`
    /// there; `None` if there is no room.
    pub(super) fn put(
        region: &Rc<Region>,
        tid: pid_t,
        pins: Vec<Pin>,
        registers: &mut Registers,
        compat: bool,
    ) -> Option<Self> {
        let room = |pin: &Pin| pin.bytes.len().next_multiple_of(ALIGNMENT);
        let size = pins.iter().map(room).sum();
        if size == 0 {
            return Some(Self { arguments: Vec::new(), compat, first_of_many: None, slot: None });
        }
        let slot = region.slot(size)?;
        let (mut arguments, mut offset) = (Vec::with_capacity(pins.len()), 0);
        for pin in pins {
            let address = slot.address() + offset as u64;
            let following = room(&pin);
            let mut bytes = pin.bytes;
            for (at, target) in pin.inner {
                bytes[at..at + 8].copy_from_slice(&(address + target as u64).to_ne_bytes());
            }
            if !slot.write(tid, offset, &bytes) {
                return None;
            }
            arguments.push((pin.register, registers.argument(pin.register, compat)));
            registers.set_argument(pin.register, compat, address);
            offset += following;
        }
        Some(Self { arguments, compat, first_of_many: None, slot: Some(slot) })
    }

    /// Which argument is first, and where.
    pub(super) fn place(&self) -> Option<(u8, u64)> {
        let (register, _) = self.arguments.first()?;
        Some((*register, self.slot.as_ref()?.address()))
    }

    /// Turns the sendmmsg whose first message has been put here into a
    /// sendmsg. The kernel writes to the messages of a sendmmsg, which it could
    /// not do here; to send only the first is in its contract (sendmmsg(2)).
    pub(super) fn send_first(&mut self, registers: &mut Registers, flags: u64) {
        let number = registers.number().unwrap_or(u64::MAX);
        let messages = self.arguments.iter().find(|(index, _)| *index == 1).map_or(0, |(_, value)| *value);
        self.arguments.push((2, registers.argument(2, false)));
        registers.set_argument(2, false, flags);
        registers.set_number(libc::SYS_sendmsg as u64);
        self.first_of_many = Some((number, messages));
    }

    /// Gives task `tid`, at the exit of its call, its registers back. Its
    /// result.
    pub(super) fn restore(&self, tid: pid_t, registers: &mut Registers) -> i64 {
        for (index, value) in &self.arguments {
            registers.set_argument(*index, self.compat, *value);
        }
        let result = registers.result();
        let Some((number, messages)) = self.first_of_many else { return result };
        // If it is made again, then as it was.
        registers.set_number(number);
        if result < 0 {
            return result;
        }
        // If there is no room for the length, its caller learns of the
        // message all the same.
        sys::write_memory(tid, messages.wrapping_add(MESSAGE_LENGTH), &(result as u32).to_ne_bytes());
        registers.set_result(1);
        1
    }
}
