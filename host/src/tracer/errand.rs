//! Calls that a task makes for us, between two of its own.
//!
//! A task stopped at the entry of a call is made to run others first; then it
//! makes its own call, as if nothing had been. Meanwhile it blocks all signals
//! that can be blocked.
//!
//! What is done: mapping a [`Region`] at its place, and perhaps installing a
//! filter from there. A region's memfd goes to the task through a socket pair
//! that it makes for the purpose, and of which we take the other end. Scratch
//! memory is a page of its own: the stack is not ours, and need not be a stack.
//!
//! If the host dies meanwhile, the [`Trampoline`] leads the task back. Where
//! there is none (AArch64; a task without a vDSO) the calls are made at the
//! task's own instruction, and it goes on with the result of one of them in
//! place of its own (SECURITY.md).
//!
//! Others who write to the task's memory can change where the calls are made
//! and what is in the scratch page: each call is looked at again before it
//! runs ([`Errand::makes`]), and a result is not believed but looked at.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use bstr::ByteSlice as _;
use libc::{c_int, pid_t};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::arch::Registers;
use super::memory::TraceeMemory;
use super::region::{self, BASE, Region, SIZE, Slot};
use super::space::Busy;
use super::sys::{self, CallInfo};
use super::trampoline::{SCRATCH_DESCRIPTORS, SCRATCH_SIZE, Trampoline};
use crate::decode::{Arch, Memory as _};

/// A call to make: number and arguments.
pub(super) type Chore = (u64, [u64; 6]);

/// A task's own call, which waits.
#[derive(Debug)]
pub(super) struct Own {
    /// Process and thread.
    pub(super) ids: (pid_t, pid_t),
    /// Registers at its entry.
    pub(super) registers: Registers,
    pub(super) nr: u64,
    pub(super) arch: Arch,
    /// The signals that the task blocks.
    pub(super) mask: u64,
}

/// What is left to do.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) own: Own,
    region: Rc<Region>,
    trampoline: Option<Trampoline>,
    step: Step,
    /// The call that it makes now.
    chore: Option<Chore>,
    scratch: u64,
    /// The memfd, as the task has it.
    received: u64,
    /// Undone last to first.
    undo: Vec<Undo>,
    pub(super) install: Option<Install>,
    /// Nobody else of the address space runs one.
    _busy: Busy,
}

/// What an errand has made, and takes away.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Scratch,
    /// A descriptor, and where in the scratch page it is.
    Descriptor(u64, u64),
}

/// A filter to install in all threads of the process.
#[derive(Debug)]
pub(super) struct Install {
    program: Vec<u8>,
    /// `struct sock_fprog` and the program, in the region.
    slot: Option<Slot>,
    /// How many filters the task had, if the kernel tells.
    pub(super) before: Option<u32>,
    /// What came of it: 0, or a negative errno, or a thread that could not
    /// follow (`SECCOMP_FILTER_FLAG_TSYNC`).
    pub(super) result: i64,
}

impl Install {
    /// Installs `filter` in a task that has as many as this `before`.
    pub(super) fn new(filter: &[libc::sock_filter], before: Option<u32>) -> Self {
        let words = filter
            .iter()
            .map(|i| u64::from(i.code) | u64::from(i.jt) << 16 | u64::from(i.jf) << 24 | u64::from(i.k) << 32);
        let program = words.flat_map(u64::to_le_bytes).collect();
        Self { program, slot: None, before, result: -i64::from(libc::ECANCELED) }
    }

    /// Puts it into the region, as seccomp(2) wants it; the call to make.
    fn call(&mut self, region: &Rc<Region>, tid: pid_t) -> io::Result<Chore> {
        let slot = region.slot(PROGRAM + self.program.len()).ok_or(io::ErrorKind::OutOfMemory)?;
        // struct sock_fprog: a count, padding, a pointer.
        let count = (self.program.len() / size_of::<libc::sock_filter>()) as u64;
        let pointer = slot.address() + PROGRAM as u64;
        let structure = [&count.to_le_bytes()[..], &pointer.to_ne_bytes(), &self.program].concat();
        if !slot.write(tid, 0, &structure) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        let chore = call(libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER.into(), flags, slot.address(), 0, 0, 0]);
        self.slot = Some(slot);
        Ok(chore)
    }
}

/// Where in its slot a filter's program begins.
const PROGRAM: usize = 16;

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    Scratch,
    Sockets,
    Receive,
    Map { over: bool },
    GiveUpPrivileges,
    Install { last: bool },
    Undo,
}

/// Places in the scratch page.
const HEADER: u64 = 64;
const VECTOR: u64 = 256;
const CONTROL: u64 = 320;
const BYTE: u64 = 512;
/// `CMSG_SPACE(sizeof(int))`.
const CONTROL_SIZE: u64 = 24;

impl Errand {
    /// An errand of a task that is at the entry of a call. None if there is no
    /// place to make calls. `is_left` as in [`Trampoline::put`].
    pub(super) fn new(
        own: Own,
        region: Rc<Region>,
        install: Option<Install>,
        busy: Busy,
        is_left: &dyn Fn(&Range<u64>) -> bool,
    ) -> Option<Self> {
        let trampoline = Trampoline::put(own.ids.1, &own.registers, own.nr, own.mask, is_left);
        if trampoline.is_none() && own.arch != Arch::NATIVE {
            // The instruction of another convention makes other calls.
            return None;
        }
        Some(Self {
            own,
            region,
            trampoline,
            step: Step::Begin,
            chore: None,
            scratch: 0,
            received: 0,
            undo: Vec::new(),
            install,
            _busy: busy,
        })
    }

    /// Whether this is the call that the task was sent to make, or its own,
    /// made harmless.
    pub(super) fn makes(&self, call: &CallInfo) -> bool {
        self.chore.is_none_or(|chore| call.audit == Arch::NATIVE.audit() && chore == (call.nr, call.args))
    }

    /// The registers with which the task makes the next call, after the last
    /// one's result; `None` when all is done.
    pub(super) fn next(&mut self, result: i64) -> Option<Registers> {
        self.chore = self.advance(result).unwrap_or_else(|error| {
            tracing::debug!("thread {}: {error} after {:?}", self.own.ids.1, self.step);
            self.undo_next()
        });
        let (nr, args) = self.chore?;
        let mut registers = self.own.registers.clone();
        if let Some(trampoline) = &self.trampoline {
            registers.call_at(trampoline.start(), nr, args);
        } else {
            registers.set_call(nr, args);
            registers.call_again(nr);
        }
        Some(registers)
    }

    /// Makes the call at whose entry the task is lead to the trampoline.
    pub(super) fn leads_back(&self, registers: &mut Registers) {
        if let Some(trampoline) = &self.trampoline {
            registers.return_to(trampoline.way_back());
        }
    }

    /// Lets the task have signals again.
    pub(super) fn give_mask_back(&self) {
        // If it is gone, wait says so.
        let _ = sys::set_signal_mask(self.own.ids.1, self.own.mask);
    }

    /// Gives the process back what it had.
    pub(super) fn end(&self) {
        self.give_mask_back();
        if let Some(trampoline) = &self.trampoline {
            trampoline.remove(self.own.ids.1);
        }
    }

    fn advance(&mut self, result: i64) -> io::Result<Option<Chore>> {
        let succeeded = || match result {
            -4095..0 => Err(io::Error::from_raw_os_error(-result as c_int)),
            _ => Ok(result as u64),
        };
        let none = u64::MAX;
        let (step, chore) = match self.step {
            Step::Begin if self.region.is_private() => {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                (Step::Map { over: false }, map(flags | libc::MAP_FIXED_NOREPLACE, none))
            }
            Step::Begin => {
                let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                (Step::Scratch, call(libc::SYS_mmap, [0, SCRATCH_SIZE, protection as u64, flags as u64, none, 0]))
            }
            Step::Scratch => {
                self.scratch = succeeded()?;
                for place in SCRATCH_DESCRIPTORS {
                    self.set_number(place, -1);
                }
                self.point_to_scratch(self.scratch);
                self.undo.push(Undo::Scratch);
                let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
                (Step::Sockets, call(libc::SYS_socketpair, [libc::AF_UNIX as u64, kind as u64, 0, self.scratch, 0, 0]))
            }
            Step::Sockets => {
                succeeded()?;
                let [theirs, ours] = [self.take_number(0)?, self.take_number(1)?];
                self.send(&sys::take_descriptor(self.own.ids, ours as c_int)?)?;
                let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
                (Step::Receive, call(libc::SYS_recvmsg, [theirs, self.scratch + HEADER, flags as u64, 0, 0, 0]))
            }
            Step::Receive => {
                succeeded()?;
                self.received = self.take_number(2)?;
                (Step::Map { over: false }, map(libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE, self.received))
            }
            // What a host before us has left is replaced in one go.
            Step::Map { over: false }
                if result == -i64::from(libc::EEXIST) && !self.region.is_mapped_in(self.own.ids.1) =>
            {
                if self.region.is_private() || !is_leftover(self.own.ids.1) {
                    return Ok(self.undo_next());
                }
                (Step::Map { over: true }, map(libc::MAP_SHARED | libc::MAP_FIXED, self.received))
            }
            Step::Map { .. } => {
                if result as u64 == BASE && !self.region.sign(self.own.ids.1) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                match self.install_call()? {
                    Some(call) => (Step::Install { last: false }, call),
                    None => return Ok(self.undo_next()),
                }
            }
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
                match self.install_call()? {
                    Some(call) => (Step::Install { last: true }, call),
                    None => return Ok(self.undo_next()),
                }
            }
            Step::Undo => return Ok(self.undo_next()),
        };
        self.step = step;
        Ok(Some(chore))
    }

    fn install_call(&mut self) -> io::Result<Option<Chore>> {
        let (region, tid) = (&self.region, self.own.ids.1);
        self.install.as_mut().map(|install| install.call(region, tid)).transpose()
    }

    /// Whatever is undone by the task is not undone again by the trampoline.
    fn undo_next(&mut self) -> Option<Chore> {
        self.step = Step::Undo;
        match self.undo.pop()? {
            Undo::Descriptor(place, fd) => {
                self.set_number(place, -1);
                Some(call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]))
            }
            Undo::Scratch => {
                self.point_to_scratch(0);
                Some(call(libc::SYS_munmap, [self.scratch, SCRATCH_SIZE, 0, 0, 0, 0]))
            }
        }
    }

    fn point_to_scratch(&self, address: u64) {
        if let Some(trampoline) = &self.trampoline {
            trampoline.set_scratch(self.own.ids.1, address);
        }
    }

    /// A descriptor that a call has put into the scratch page; to be closed.
    fn take_number(&mut self, which: usize) -> io::Result<u64> {
        let place = SCRATCH_DESCRIPTORS[which];
        let mut bytes = [0; 4];
        if TraceeMemory(self.own.ids.1).read(self.scratch + place, &mut bytes) < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let fd = u64::from(u32::from_ne_bytes(bytes));
        self.undo.push(Undo::Descriptor(place, fd));
        Ok(fd)
    }

    fn set_number(&self, place: u64, number: c_int) {
        sys::write_memory(self.own.ids.1, self.scratch + place, &number.to_ne_bytes());
    }

    /// Sends the region's memfd and prepares a `struct msghdr` to receive it.
    fn send(&self, socket: &OwnedFd) -> io::Result<()> {
        let descriptors = [self.region.descriptor().ok_or(io::ErrorKind::Unsupported)?.as_raw_fd()];
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
        sys::write_memory(self.own.ids.1, self.scratch + offset, &bytes)
    }
}

/// Whether a region that is not ours lies where ours should: of a host that
/// has left or died.
pub(super) fn is_leftover(tid: pid_t) -> bool {
    let maps = std::fs::read(format!("/proc/{tid}/maps")).unwrap_or_default();
    let begins = format!("{BASE:08x}-");
    let name = [b"/memfd:", region::NAME.to_bytes()].concat();
    maps.lines().any(|line| line.starts_with(begins.as_bytes()) && line.contains_str(&name))
}

/// Maps the region.
fn map(flags: c_int, fd: u64) -> Chore {
    call(libc::SYS_mmap, [BASE, SIZE as u64, libc::PROT_READ as u64, flags as u64, fd, 0])
}

fn call(nr: libc::c_long, args: [u64; 6]) -> Chore {
    (nr as u64, args)
}
