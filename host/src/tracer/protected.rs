//! A call whose arguments lie in memory that only the host can write.

use super::arch::Registers;
use super::pins::Pin;
use super::region::{Region, Slot};
use std::rc::Rc;

/// Registers to put back at the call's exit. While this lives, its memory is
/// given to nobody else.
#[derive(Debug)]
pub(super) struct Protected {
    /// Argument index and what the caller had there.
    arguments: Vec<(u8, u64)>,
    /// The registers are those of i386's convention.
    compat: bool,
    /// Read by the kernel until the call is over.
    _slot: Option<Slot>,
}

/// Each argument starts here.
const ALIGNMENT: usize = 16;

impl Protected {
    /// Puts `pins` into the region and points `registers` there; `None` if
    /// there is no room.
    pub(super) fn put(region: &Rc<Region>, pins: &[Pin], registers: &mut Registers, compat: bool) -> Option<Self> {
        let room = |pin: &Pin| pin.bytes.len().next_multiple_of(ALIGNMENT);
        let size = pins.iter().map(room).sum();
        if size == 0 {
            return Some(Self { arguments: Vec::new(), compat, _slot: None });
        }
        let slot = region.slot(size)?;
        let (mut arguments, mut offset) = (Vec::with_capacity(pins.len()), 0);
        for pin in pins {
            let address = slot.address() + offset as u64;
            let mut bytes = pin.bytes.clone();
            for (at, target) in &pin.inner {
                bytes[*at..at + 8].copy_from_slice(&(address + *target as u64).to_ne_bytes());
            }
            slot.write(offset, &bytes);
            arguments.push((pin.register, registers.argument(pin.register, compat)));
            registers.set_argument(pin.register, compat, address);
            offset += room(pin);
        }
        Some(Self { arguments, compat, _slot: Some(slot) })
    }

    /// Gives the caller its registers back.
    pub(super) fn restore(&self, registers: &mut Registers) {
        for (index, value) in &self.arguments {
            registers.set_argument(*index, self.compat, *value);
        }
    }
}
