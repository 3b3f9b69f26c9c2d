//! The mappings of a task, as `/proc/TID/maps` lists them
//! (`proc_pid_maps(5)`).
//!
//! The list is read in pieces, from the lowest address up; since Linux 6.11
//! one mapping can be asked for. Threads that share the address space can
//! change it meanwhile: what is said of a mapping holds only while nobody who
//! could change it runs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::fd::AsFd;

use bstr::{BString, ByteSlice};
use libc::pid_t;

use super::sys;

/// Longest list that is read to its end.
const LONGEST: u64 = 1 << 20;

/// One line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// First address.
    pub(super) start: u64,
    /// First address after it.
    pub(super) end: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// `MAP_SHARED`, also where it cannot be made writable.
    pub(super) shared: bool,
    /// Offset in the file.
    pub(super) offset: u64,
    /// Major and minor number of the file's device; 0 without a file.
    pub(super) device: (u32, u32),
    /// The file; 0 without one.
    pub(super) inode: u64,
}

/// How much of the list is made up at a time: most of its cost is the kernel's
/// work on lines that nobody looks at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// The first lines are enough.
    Few = 256,
    /// As much as the kernel makes up at most.
    Many = 4096,
}

/// The mappings of task `tid`, lowest address first.
pub(super) fn mappings(tid: pid_t, piece: Piece) -> io::Result<impl Iterator<Item = io::Result<Mapping>>> {
    let list = File::open(format!("/proc/{tid}/maps"))?.take(LONGEST);
    let lines = BufReader::with_capacity(piece as usize, list).split(b'\n');
    Ok(lines.map(|line| Mapping::parse(&line?).ok_or_else(|| io::ErrorKind::InvalidData.into())))
}

/// The mappings of the address space that a task had when this was opened.
/// After an execve(2) it has another: open it anew.
#[derive(Debug)]
pub(super) struct Maps(File);

/// What is mapped at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// First address after it.
    pub(super) end: u64,
    pub(super) shared: bool,
    /// The file's; 0 without one.
    pub(super) inode: u64,
    /// The file; none without one, or if it was not asked for.
    pub(super) file: Option<BString>,
}

impl Maps {
    pub(super) fn open(tid: pid_t) -> io::Result<Self> {
        File::open(format!("/proc/{tid}/maps")).map(Self)
    }

    /// What is mapped at `address`, `named` with its file; none if that is
    /// nothing.
    pub(super) fn at(&self, address: u64, named: bool) -> io::Result<Option<Mapped>> {
        let mut name = [0; 512];
        let room = if named { &mut name[..] } else { &mut [] };
        match sys::query_mapping(self.0.as_fd(), address, room) {
            Ok((end, shared, inode, length)) => {
                let file = name[..length].strip_suffix(b"\0").filter(|name| name.starts_with(b"/")).map(BString::from);
                Ok(Some(Mapped { end, shared, inode, file }))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            // An older kernel, or a longer name.
            Err(_) => self.listed(address),
        }
    }

    fn listed(&self, address: u64) -> io::Result<Option<Mapped>> {
        (&self.0).rewind()?;
        for line in BufReader::with_capacity(Piece::Many as usize, (&self.0).take(LONGEST)).split(b'\n') {
            let line = line?;
            let mapping = Mapping::parse(&line).ok_or(io::ErrorKind::InvalidData)?;
            if mapping.end > address {
                let name = line.splitn_str(6, " ").nth(5).unwrap_or_default().trim_ascii_start();
                let file = name.starts_with(b"/").then(|| name.into());
                return Ok((mapping.start <= address).then_some(Mapped {
                    end: mapping.end,
                    shared: mapping.shared,
                    inode: mapping.inode,
                    file,
                }));
            }
        }
        Ok(None)
    }
}

impl Mapping {
    fn parse(line: &[u8]) -> Option<Self> {
        // The name, which may hold spaces, comes last and is not looked at.
        let mut words = line.splitn(6, |byte| *byte == b' ').map(|word| word.to_str().unwrap_or(""));
        let hexadecimal = |word: &str| u64::from_str_radix(word, 16).ok();
        let (start, end) = words.next()?.split_once('-')?;
        let &[read, write, _execute, shared] = words.next()?.as_bytes() else { return None };
        let offset = hexadecimal(words.next()?)?;
        let (major, minor) = words.next()?.split_once(':')?;
        Some(Self {
            start: hexadecimal(start)?,
            end: hexadecimal(end)?,
            readable: read == b'r',
            writable: write == b'w',
            shared: shared == b's',
            offset,
            device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
            inode: words.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines() {
        let line = b"00010000-00210000 r--s 00001000 103:0b 1031                    /memfd:a b (deleted)";
        assert_eq!(
            Mapping::parse(line),
            Some(Mapping {
                start: 0x1_0000,
                end: 0x21_0000,
                readable: true,
                writable: false,
                shared: true,
                offset: 0x1000,
                device: (0x103, 0xb),
                inode: 1031,
            })
        );
        let heap = Mapping::parse(b"7f0a3b400000-7f0a3b421000 rw-p 00000000 00:00 0 ").unwrap();
        assert!(heap.writable && heap.end == 0x7f0a_3b42_1000);
        for line in [&b""[..], b"1000-2000", b"1000 r--p 0 0:0 0", b"1000-2000 r-- 0 00:00 0", b"x-2000 r--p 0 00:00 0"]
        {
            assert_eq!(Mapping::parse(line), None, "{}", line.as_bstr());
        }
    }

    /// The kernel's answer about one, and what the list says of it.
    #[test]
    fn one_of_this_process() {
        let maps = Maps::open(std::process::id() as pid_t).unwrap();
        let (local, code) = (0u8, Maps::open as *const ());
        let exe = std::env::current_exe().unwrap();
        for (address, file) in [((&raw const local).addr(), None), (code.addr(), exe.to_str().map(BString::from))] {
            let mut listed = maps.listed(address as u64).unwrap().expect("it is mapped");
            assert!(!listed.shared);
            assert_eq!(listed.file, file);
            assert_eq!(maps.at(address as u64, true).unwrap(), Some(listed.clone()));
            listed.file = None;
            assert!(maps.at(address as u64, false).unwrap().is_some_and(|mapped| mapped.end == listed.end));
        }
        assert_eq!((maps.at(8, true).unwrap(), maps.listed(8).unwrap()), (None, None));
        assert_eq!((maps.at(u64::MAX - 8, true).unwrap(), maps.listed(u64::MAX - 8).unwrap()), (None, None));
    }

    #[test]
    fn of_this_process() {
        let all = |piece| -> Vec<Mapping> {
            let all = mappings(std::process::id() as pid_t, piece).unwrap();
            all.collect::<io::Result<_>>().expect("every line is understood")
        };
        assert!(all(Piece::Few).is_sorted_by_key(|mapping| mapping.start));
        let all = all(Piece::Many);
        assert!(all.is_sorted_by_key(|mapping| mapping.start));
        let local = 0u8;
        let at = (&raw const local).addr() as u64;
        let stack = all.iter().find(|mapping| (mapping.start..mapping.end).contains(&at)).unwrap();
        assert!(stack.readable && stack.writable);
        assert!(mappings(-1, Piece::Few).is_err(), "no such task");
    }
}
