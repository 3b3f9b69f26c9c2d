//! Calls that a task makes for us, between two of its own.
//!
//! A task stopped at the entry of a call is made to run others first, from
//! the same instruction; then it makes its own call, as if nothing had been.
//! Meanwhile it blocks all signals that can be blocked.
//!
//! What is done: mapping a [`Region`] at its place. The memfd goes to the task
//! through a socket pair that it makes for the purpose, and of which we take
//! the other end. Scratch memory is a page of its own: the stack is not ours,
//! and need not be a stack.
//!
//! If the host dies meanwhile, the task goes on with the result of the
//! errand's call in place of its own. That is why nothing here waits, and why
//! it happens once a program (SECURITY.md).

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use bstr::ByteSlice as _;
use libc::{c_int, pid_t};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::arch::Registers;
use super::memory::TraceeMemory;
use super::region::{self, BASE, Region, SIZE, Slot};
use super::sys;
use crate::decode::Memory as _;

/// A call to make: number and arguments.
pub(super) type Chore = (u64, [u64; 6]);

/// What is left to do.
#[derive(Debug)]
pub(super) struct Errand {
    /// The task's registers at the entry of its own call, and its number.
    pub(super) original: Registers,
    pub(super) nr: u64,
    /// The signals that it blocks.
    pub(super) mask: u64,
    /// The limit of descriptors that it had, if that was too low.
    pub(super) room: Option<libc::rlimit>,
    region: Rc<Region>,
    /// Process and thread.
    ids: (pid_t, pid_t),
    step: Step,
    scratch: u64,
    /// The memfd, as the task has it.
    received: u64,
    /// Undone last to first.
    undo: Vec<Chore>,
    install: Option<Install>,
}

/// A filter to install in all threads of the process.
#[derive(Debug)]
pub(super) struct Install {
    /// `struct sock_fprog` and the program, in the region.
    slot: Slot,
    /// What came of it: 0, or a negative errno, or a thread that could not
    /// follow (`SECCOMP_FILTER_FLAG_TSYNC`).
    pub(super) result: i64,
}

/// Puts a filter into the region, as seccomp(2) wants it.
pub(super) fn filter_slot(region: &Rc<Region>, filter: &[libc::sock_filter]) -> Option<Slot> {
    let slot = region.slot(PROGRAM + filter.len() * 8)?;
    // struct sock_fprog: a count, padding, a pointer.
    slot.write(0, &(filter.len() as u64).to_le_bytes());
    slot.write(8, &(slot.address() + PROGRAM as u64).to_ne_bytes());
    for (index, i) in filter.iter().enumerate() {
        let word = u64::from(i.code) | u64::from(i.jt) << 16 | u64::from(i.jf) << 24 | u64::from(i.k) << 32;
        slot.write(PROGRAM + index * 8, &word.to_le_bytes());
    }
    Some(slot)
}

/// Where in its slot a filter's program begins.
const PROGRAM: usize = 16;

/// Descriptors that a task needs for it.
pub(super) const DESCRIPTORS: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    Scratch,
    Sockets,
    Receive,
    Map { last: bool },
    Clear,
    GiveUpPrivileges,
    Install { last: bool },
    Undo,
}

/// Places in the scratch page.
const SCRATCH: u64 = 4096;
const HEADER: u64 = 64;
const VECTOR: u64 = 256;
const CONTROL: u64 = 320;
const BYTE: u64 = 512;
/// `CMSG_SPACE(sizeof(int))`, and where the descriptor is in it.
const CONTROL_SIZE: u64 = 24;
const CONTROL_DESCRIPTOR: u64 = 16;

impl Errand {
    /// An errand of a task that is at the entry of call `nr`. Also installs
    /// the filter that lies in `filter`, a slot of the region.
    pub(super) fn new(
        region: Rc<Region>,
        ids: (pid_t, pid_t),
        original: Registers,
        nr: u64,
        mask: u64,
        filter: Option<Slot>,
    ) -> Self {
        Self {
            original,
            nr,
            mask,
            room: None,
            region,
            ids,
            step: Step::Begin,
            scratch: 0,
            received: 0,
            undo: Vec::new(),
            install: filter.map(|slot| Install { slot, result: -i64::from(libc::ECANCELED) }),
        }
    }

    /// What came of the filter, if one was to be installed.
    pub(super) fn installed(&self) -> Option<i64> {
        self.install.as_ref().map(|install| install.result)
    }

    /// The next call, after the last one's result; `None` when all is done.
    pub(super) fn next(&mut self, result: i64) -> Option<Chore> {
        self.advance(result).unwrap_or_else(|error| {
            tracing::debug!("thread {}: {error} after {:?}", self.ids.1, self.step);
            self.undo_next()
        })
    }

    fn advance(&mut self, result: i64) -> io::Result<Option<Chore>> {
        let succeeded = || match result {
            -4095..0 => Err(io::Error::from_raw_os_error(-result as c_int)),
            _ => Ok(result as u64),
        };
        let none = u64::MAX;
        let (step, chore) = match self.step {
            Step::Begin => {
                let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                (Step::Scratch, call(libc::SYS_mmap, [0, SCRATCH, protection as u64, flags as u64, none, 0]))
            }
            Step::Scratch => {
                self.scratch = succeeded()?;
                self.undo.push(call(libc::SYS_munmap, [self.scratch, SCRATCH, 0, 0, 0, 0]));
                let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
                (Step::Sockets, call(libc::SYS_socketpair, [libc::AF_UNIX as u64, kind as u64, 0, self.scratch, 0, 0]))
            }
            Step::Sockets => {
                succeeded()?;
                let [theirs, ours] = [self.number(0)?, self.number(4)?];
                for fd in [theirs, ours] {
                    self.undo.push(call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]));
                }
                self.send(&sys::take_descriptor(self.ids, ours)?)?;
                let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
                (Step::Receive, call(libc::SYS_recvmsg, [theirs as u64, self.scratch + HEADER, flags as u64, 0, 0, 0]))
            }
            Step::Receive => {
                succeeded()?;
                let fd = self.number(CONTROL + CONTROL_DESCRIPTOR)? as u64;
                self.undo.push(call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]));
                self.received = fd;
                (Step::Map { last: false }, self.map())
            }
            // Another thread may have mapped it meanwhile, or a host before us
            // has left its own.
            Step::Map { last: false }
                if result == -i64::from(libc::EEXIST) && !self.region.is_mapped_in(self.ids.1) =>
            {
                if !is_leftover(self.ids.1) {
                    return Ok(self.undo_next());
                }
                (Step::Clear, call(libc::SYS_munmap, [BASE, SIZE as u64, 0, 0, 0, 0]))
            }
            Step::Clear => (Step::Map { last: true }, self.map()),
            Step::Map { .. } => match &self.install {
                Some(install) => (Step::Install { last: false }, install.call()),
                None => return Ok(self.undo_next()),
            },
            Step::Install { last } => {
                if let Some(install) = &mut self.install {
                    install.result = result;
                }
                if last || result != -i64::from(libc::EACCES) {
                    return Ok(self.undo_next());
                }
                (Step::GiveUpPrivileges, call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0]))
            }
            Step::GiveUpPrivileges => {
                succeeded()?;
                let install = self.install.as_ref().ok_or(io::ErrorKind::NotFound)?;
                (Step::Install { last: true }, install.call())
            }
            Step::Undo => return Ok(self.undo.pop()),
        };
        self.step = step;
        Ok(Some(chore))
    }

    fn map(&self) -> Chore {
        let flags = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64;
        call(libc::SYS_mmap, [BASE, SIZE as u64, libc::PROT_READ as u64, flags, self.received, 0])
    }

    fn undo_next(&mut self) -> Option<Chore> {
        self.step = Step::Undo;
        self.undo.pop()
    }

    /// An `int` of the scratch page.
    fn number(&self, offset: u64) -> io::Result<c_int> {
        let mut bytes = [0; 4];
        match TraceeMemory(self.ids.1).read(self.scratch + offset, &mut bytes) {
            4 => Ok(c_int::from_ne_bytes(bytes)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends the region's memfd and prepares a `struct msghdr` to receive it.
    fn send(&self, socket: &OwnedFd) -> io::Result<()> {
        let descriptors = [self.region.descriptor().as_raw_fd()];
        let message = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b".")], &message, MsgFlags::MSG_DONTWAIT, None)?;
        // name, its length, vector, count, control, its length, flags
        let header = [0, 0, self.scratch + VECTOR, 1, self.scratch + CONTROL, CONTROL_SIZE, 0];
        let vector = [self.scratch + BYTE, 1];
        if self.write(HEADER, &header) && self.write(VECTOR, &vector) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn write(&self, offset: u64, words: &[u64]) -> bool {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        sys::write_memory(self.ids.1, self.scratch + offset, &bytes)
    }
}

/// Whether a region that is not ours lies where ours should: of a host that
/// has left or died.
fn is_leftover(tid: pid_t) -> bool {
    let maps = std::fs::read(format!("/proc/{tid}/maps")).unwrap_or_default();
    let begins = format!("{BASE:08x}-");
    let name = [b"/memfd:", region::NAME.to_bytes()].concat();
    maps.lines().any(|line| line.starts_with(begins.as_bytes()) && line.contains_str(&name))
}

impl Install {
    fn call(&self) -> Chore {
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        let set = u64::from(libc::SECCOMP_SET_MODE_FILTER);
        call(libc::SYS_seccomp, [set, flags, self.slot.address(), 0, 0, 0])
    }
}

fn call(nr: libc::c_long, args: [u64; 6]) -> Chore {
    (nr as u64, args)
}
