//! Bounded reads of a tracee's memory: bytes, text, vectors of strings.

use std::cell::RefCell;
use std::collections::VecDeque;

use bstr::{BString, ByteSlice};

use super::{Memory, Outcome};
use crate::decode::Arch;
use crate::event::{Defect, Strings};

/// Reads are cut at multiples of this. Pages can be larger, never smaller.
const PAGE: u64 = 4096;
/// What a first look at a text takes. Nearly all paths are shorter.
const FIRST_LOOK: usize = 256;
/// Most strings of a vector.
const STRINGS_MAX: usize = 1024;
/// Most bytes of all strings of a vector, NULs included.
const STRINGS_BYTES_MAX: usize = 128 * 1024;

/// Memory as one system call looks at it.
pub(super) struct Reader<'a> {
    memory: &'a dyn Memory,
    arch: Arch,
    /// Structures with pointers in them have the 32-bit layout.
    pub(super) compat: bool,
    pages: RefCell<Pages>,
}

/// Pages that were read before, the last one first: strings of one vector lie
/// together, on a page or two.
#[derive(Default)]
struct Pages(VecDeque<(u64, Vec<u8>)>);

impl Pages {
    /// As many as are kept.
    const MOST: usize = 8;

    /// What is at `address` and behind it on its page; empty if nothing can be
    /// read there.
    fn at(&mut self, reader: &Reader<'_>, address: u64) -> &[u8] {
        let offset = (reader.untagged(address) % PAGE) as usize;
        let start = address - offset as u64;
        let known = self.0.iter().position(|(page, _)| *page == start).unwrap_or_else(|| {
            let mut data = vec![0; PAGE as usize];
            let got = reader.read(start, &mut data);
            data.truncate(got);
            self.0.truncate(Self::MOST - 1);
            self.0.push_front((start, data));
            0
        });
        self.0[known].1.get(offset..).unwrap_or_default()
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(arch: Arch, nr: u32, memory: &'a dyn Memory) -> Self {
        Self { memory, arch, compat: arch.has_compat_layout(nr), pages: RefCell::default() }
    }

    /// The address that a pointer leads to. `AArch64` ignores the top byte
    /// (Documentation/arch/arm64/tagged-address-abi.rst); if the kernel does
    /// not, the call fails and a look has done no harm.
    fn untagged(&self, address: u64) -> u64 {
        match self.arch {
            Arch::Aarch64 => ((address << 8) as i64 >> 8) as u64,
            _ => address,
        }
    }

    /// Reads what can be read; never more than asked for.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let address = self.untagged(address);
        // Nothing wraps around the end of the address space.
        let room = usize::try_from(u64::MAX - address).unwrap_or(usize::MAX).saturating_add(1);
        let size = buffer.len().min(room);
        if size == 0 {
            return 0;
        }
        self.memory.read(address, &mut buffer[..size]).min(size)
    }

    /// Fills `buffer`.
    fn fill(&self, address: u64, buffer: &mut [u8]) -> Outcome<()> {
        if self.read(address, buffer) == buffer.len() { Ok(()) } else { Err(Defect::Fault) }
    }

    /// `N` bytes.
    pub(super) fn array<const N: usize>(&self, address: u64) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(address, &mut bytes)?;
        Ok(bytes)
    }

    /// `length` bytes, but no more than `limit`.
    pub(super) fn bytes(&self, address: u64, length: u64, limit: usize) -> Outcome<Vec<u8>> {
        let mut data = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(limit)];
        self.fill(address, &mut data)?;
        Ok(data)
    }

    /// Text up to its NUL, which must be among the first `limit` bytes.
    pub(super) fn text(&self, address: u64, limit: usize) -> Outcome<BString> {
        let mut first = [0; FIRST_LOOK];
        let size = to_page_end(self.untagged(address)).min(FIRST_LOOK).min(limit);
        let got = self.read(address, &mut first[..size]);
        if let Some(end) = first[..got].find_byte(0) {
            return Ok(first[..end].into());
        }
        let mut text = first[..got].to_vec();
        let mut wanted = size;
        // As long as each look is answered in full, there may be a NUL ahead.
        while text.len() == wanted {
            if wanted >= limit {
                return Err(Defect::Unterminated);
            }
            let next = address.checked_add(wanted as u64).ok_or(Defect::Fault)?;
            wanted += to_page_end(self.untagged(next)).min(limit - wanted);
            let known = text.len();
            text.resize(wanted, 0);
            let got = self.read(next, &mut text[known..]);
            text.truncate(known + got);
            if let Some(end) = text[known..].find_byte(0) {
                text.truncate(known + end);
                return Ok(text.into());
            }
        }
        Err(Defect::Fault)
    }

    /// A NULL-terminated vector of strings. Any fault in it is one of the
    /// whole: execve(2) fails for it.
    pub(super) fn strings(&self, address: u64) -> Outcome<Strings> {
        let width = self.width() as u64;
        let mut pages = self.pages.borrow_mut();
        let mut next = Some(address);
        let mut items = Vec::new();
        let mut budget = STRINGS_BYTES_MAX;
        loop {
            let pointer = self.pointer(next.ok_or(Defect::Fault)?, &mut pages)?;
            next = next.and_then(|next| next.checked_add(width));
            if pointer == 0 {
                return Ok(Strings { items, truncated: false });
            }
            if items.len() == STRINGS_MAX || budget == 0 {
                return Ok(Strings { items, truncated: true });
            }
            let (item, whole) = self.string(pointer, budget, &mut pages)?;
            budget = budget.saturating_sub(item.len() + 1);
            items.push(item);
            if !whole {
                return Ok(Strings { items, truncated: true });
            }
        }
    }

    /// The pointer at `address`. One that is not aligned can lie across two
    /// pages.
    fn pointer(&self, address: u64, pages: &mut Pages) -> Outcome<u64> {
        let (mut bytes, mut known) = ([0; 8], 0);
        while known < self.width() {
            let piece = pages.at(self, address.checked_add(known as u64).ok_or(Defect::Fault)?);
            let size = piece.len().min(self.width() - known);
            if size == 0 {
                return Err(Defect::Fault);
            }
            bytes[known..known + size].copy_from_slice(&piece[..size]);
            known += size;
        }
        Ok(self.word(&bytes, 0))
    }

    /// A string of at most `limit` bytes, and whether that is all of it.
    fn string(&self, address: u64, limit: usize, pages: &mut Pages) -> Outcome<(BString, bool)> {
        let mut text = Vec::new();
        let mut next = address;
        loop {
            let piece = pages.at(self, next);
            if piece.is_empty() {
                return Err(Defect::Fault);
            }
            if let Some(end) = piece.find_byte(0) {
                text.extend_from_slice(&piece[..end]);
            } else {
                text.extend_from_slice(piece);
                next = next.checked_add(piece.len() as u64).ok_or(Defect::Fault)?;
                if text.len() < limit {
                    continue;
                }
            }
            let whole = text.len() < limit;
            text.truncate(limit);
            return Ok((text.into(), whole));
        }
    }

    /// Size of a pointer in this call's structures.
    pub(super) fn width(&self) -> usize {
        if self.compat { 4 } else { 8 }
    }

    /// The pointer or `size_t` at `offset` of a structure.
    pub(super) fn word(&self, data: &[u8], offset: usize) -> u64 {
        super::number(data.get(offset..offset + self.width()).unwrap_or_default(), false)
    }
}

/// Bytes from `address` to the end of its page.
fn to_page_end(address: u64) -> usize {
    (PAGE - address % PAGE) as usize
}
