//! i386's `socketcall`: one number for all socket calls (socketcall(2)).
//!
//! It is taken apart before anything else looks at it, so that a rule for
//! `connect` sees every connect. The arguments lie in memory; like all
//! arguments in memory they can change after this look.

use super::abi::Arch;
use super::argument::Memory;

/// By first argument, from 1 (linux/net.h): the call that it stands for, and
/// how many words its arguments are. i386 has no `send`, `recv` and `accept`
/// of their own; they are `sendto`, `recvfrom` and `accept4` with zeros.
const CALLS: [(&str, usize); 20] = [
    ("socket", 3),
    ("bind", 3),
    ("connect", 3),
    ("listen", 2),
    ("accept4", 3),
    ("getsockname", 3),
    ("getpeername", 3),
    ("socketpair", 4),
    ("sendto", 4),
    ("recvfrom", 4),
    ("sendto", 6),
    ("recvfrom", 6),
    ("shutdown", 2),
    ("setsockopt", 5),
    ("getsockopt", 5),
    ("sendmsg", 3),
    ("recvmsg", 3),
    ("accept4", 4),
    ("recvmmsg", 5),
    ("sendmmsg", 4),
];

/// The number and registers of the call that a `socketcall` stands for; any
/// other call, and one that cannot be taken apart, as it is.
pub fn demultiplex(arch: Arch, nr: u32, registers: [u64; 6], memory: &dyn Memory) -> (u32, [u64; 6]) {
    if arch != Arch::X86 || arch.spec(nr).name != "socketcall" {
        return (nr, registers);
    }
    let one = || {
        let index = (registers[0] as u32).checked_sub(1)? as usize;
        let (name, words) = CALLS.get(index)?;
        let mut bytes = [0; 24];
        let wanted = &mut bytes[..4 * words];
        if memory.read(u64::from(registers[1] as u32), wanted) < 4 * words {
            return None;
        }
        let mut direct = [0; 6];
        for (register, word) in direct.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *register = u64::from(u32::from_le_bytes(*word));
        }
        Some((arch.number(name)?, direct))
    };
    one().unwrap_or((nr, registers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes at every address.
    struct Words([u8; 24]);

    impl Memory for Words {
        fn read(&self, _: u64, buffer: &mut [u8]) -> usize {
            buffer.copy_from_slice(&self.0[..buffer.len()]);
            buffer.len()
        }
    }

    #[test]
    fn every_call_is_one_of_i386() {
        let socketcall = Arch::X86.number("socketcall").expect("i386 has it");
        for (index, (name, words)) in CALLS.iter().enumerate() {
            let (nr, registers) =
                demultiplex(Arch::X86, socketcall, [index as u64 + 1, 1, 0, 0, 0, 0], &Words([1; 24]));
            assert_eq!(Arch::X86.spec(nr).name, *name);
            assert_eq!(registers.iter().filter(|register| **register == 0x0101_0101).count(), *words);
        }
    }

    #[test]
    fn what_cannot_be_taken_apart_stays() {
        let socketcall = Arch::X86.number("socketcall").expect("i386 has it");
        for first in [0, 21, u64::MAX] {
            let registers = [first, 1, 0, 0, 0, 0];
            assert_eq!(demultiplex(Arch::X86, socketcall, registers, &Words([1; 24])), (socketcall, registers));
        }
        let connect = Arch::X86_64.number("connect").expect("x86-64 has it");
        assert_eq!(demultiplex(Arch::X86_64, connect, [3; 6], &Words([1; 24])), (connect, [3; 6]));
    }
}
