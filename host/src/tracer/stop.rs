//! A stopped task as a value.
//!
//! ptrace requests are legal only on a stopped tracee and only from the
//! thread that attached. Both are in the type: [`Stopped`] is neither `Copy`
//! nor `Send`, comes only out of [`Stops::next`], and is used up by resuming.
//! A tracee can be killed while it is stopped, so that `ESRCH` is a normal
//! answer to any request; it is [`Gone`].

use std::io;
use std::marker::PhantomData;

use libc::{c_int, c_uint, pid_t};

use super::arch::{self, Registers};
use super::sys::{self, CallInfo, Waited};
use super::wait::Waiting;

/// The task died under our hands; wait reports its end.
#[derive(Debug)]
pub(super) struct Gone;

/// What a request on a stopped task comes to. The outer error is not a death.
pub(super) type Asked<T> = Result<T, Gone>;

/// A task in a ptrace stop.
#[must_use = "a stopped task stays stopped until it is resumed"]
#[derive(Debug)]
pub(super) struct Stopped {
    tid: pid_t,
    thread_bound: PhantomData<*const ()>,
}

/// Why a task stopped (ptrace(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The filter chose this call, which has not run.
    Seccomp,
    /// A call is about to run or has run; only after
    /// [`Stopped::resume_to_call`].
    Call,
    /// It made a child by fork, vfork or clone.
    Forked,
    /// It has a new program.
    Executed,
    /// It is about to end.
    Exiting,
    /// A new task's first stop, or the end of a group-stop.
    Begun,
    /// Stopped by job control with this signal.
    GroupStop(c_int),
    /// This signal is about to be delivered.
    Signal(c_int),
}

/// What wait has to say of a task.
#[derive(Debug)]
pub(super) enum Report {
    /// It stopped.
    Stop(Stopped, Reason),
    /// It ended by itself with this status.
    Exited(pid_t, u8),
    /// A signal ended it.
    Killed(pid_t, u8),
    /// Nothing: somebody may want to talk to us ([`super::inbox`]).
    Interrupted,
}

/// What a task is doing at a stop for a call.
#[derive(Debug)]
pub(super) enum Moment {
    /// The call has not run.
    Entry(CallInfo),
    /// It has, with this result.
    Exit(i64),
}

/// The only source of [`Stopped`]. Bound to the thread that made it.
#[derive(Debug)]
pub(super) struct Stops {
    waiting: Waiting,
    thread_bound: PhantomData<*const ()>,
}

impl Stops {
    /// Stops of the tasks that this thread traces.
    pub(super) fn of_this_thread() -> Self {
        Self { waiting: Waiting::new(), thread_bound: PhantomData }
    }

    /// Says how many tasks there are, on which depends how best to wait.
    pub(super) fn expect(&mut self, tasks: usize) {
        self.waiting.expect(tasks);
    }

    /// Whether nobody has anything to report now.
    pub(super) fn is_idle(&mut self) -> io::Result<bool> {
        self.waiting.is_idle()
    }

    /// Waits for the next report; `None` once no task is left. Who was
    /// reported as stopped is taken for resumed by the next time.
    pub(super) fn next(&mut self) -> io::Result<Option<Report>> {
        loop {
            let (tid, status) = match self.waiting.next()? {
                Waited::Status(tid, status) => (tid, status),
                Waited::Interrupted => return Ok(Some(Report::Interrupted)),
                Waited::NoChild => return Ok(None),
                Waited::Nothing => continue,
            };
            if libc::WIFEXITED(status) {
                return Ok(Some(Report::Exited(tid, libc::WEXITSTATUS(status) as u8)));
            }
            if libc::WIFSIGNALED(status) {
                return Ok(Some(Report::Killed(tid, libc::WTERMSIG(status) as u8)));
            }
            if libc::WIFSTOPPED(status) {
                let stopped = Stopped { tid, thread_bound: PhantomData };
                return Ok(Some(Report::Stop(stopped, reason(status))));
            }
        }
    }
}

fn reason(status: c_int) -> Reason {
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Reason::Call,
        libc::PTRACE_EVENT_SECCOMP => Reason::Seccomp,
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => Reason::Forked,
        libc::PTRACE_EVENT_EXEC => Reason::Executed,
        libc::PTRACE_EVENT_EXIT => Reason::Exiting,
        sys::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Reason::Begun,
        sys::PTRACE_EVENT_STOP => Reason::GroupStop(signal),
        _ => Reason::Signal(signal),
    }
}

impl Stopped {
    /// Its thread id.
    pub(super) fn tid(&self) -> pid_t {
        self.tid
    }

    /// The call at which it is stopped; `None` if a newer stop of another kind
    /// replaced this one. `inside`, whether the task is in a call already,
    /// matters before Linux 5.3 only.
    pub(super) fn moment(&self, inside: bool) -> Asked<Option<Moment>> {
        match sys::syscall_info(self.tid) {
            Ok(info) => Ok(sys::moment(&info)),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                let registers = self.registers()?;
                Ok(Some(if inside { Moment::Exit(registers.result()) } else { Moment::Entry(registers.call()) }))
            }
            Err(_) => Err(Gone),
        }
    }

    /// The convention of the call that it is in (`AUDIT_ARCH_*`); none if the
    /// kernel does not tell (before Linux 5.3).
    pub(super) fn convention(&self) -> Option<u32> {
        sys::syscall_info(self.tid).ok().map(|info| info.arch)
    }

    /// Its registers.
    pub(super) fn registers(&self) -> Asked<Registers> {
        asked(Registers::of(self.tid))
    }

    /// Replaces its registers.
    pub(super) fn set_registers(&self, registers: &Registers) -> Asked<()> {
        asked(registers.set(self.tid))
    }

    /// Replaces its registers, which are `now` as they are since it stopped.
    pub(super) fn change_registers(&self, now: &Registers, new: &Registers) -> Asked<()> {
        asked(new.set_over(now, self.tid))
    }

    /// The number that belongs to the event: a child's id, a former thread
    /// id, an exit status.
    pub(super) fn message(&self) -> Asked<u64> {
        asked(sys::event_message(self.tid))
    }

    /// Makes the call at whose entry it is stopped answer `result`, unrun.
    pub(super) fn skip(&self, result: i64) -> Asked<()> {
        asked(arch::skip(self.tid, result))
    }

    /// Replaces the first argument of the call at whose entry it is stopped.
    pub(super) fn set_first_argument(&self, value: u64) -> Asked<()> {
        asked(arch::set_first_argument(self.tid, value))
    }

    /// Lets it run, with a signal to deliver or 0, to the next call that the
    /// filter chooses.
    pub(super) fn resume(self, signal: c_int) {
        self.request(libc::PTRACE_CONT, signal);
    }

    /// Likewise, to the exit of the call that it is in, or else to the entry
    /// of the next.
    pub(super) fn resume_to_call(self, signal: c_int) {
        self.request(libc::PTRACE_SYSCALL, signal);
    }

    /// Leaves it in its group-stop, where SIGCONT finds it.
    pub(super) fn listen(self) {
        self.request(libc::PTRACE_LISTEN, 0);
    }

    /// Lets it run untraced.
    pub(super) fn detach(self, signal: c_int) {
        self.request(libc::PTRACE_DETACH, signal);
    }

    /// A resuming request. It fails only when the task is gone, which wait
    /// will report.
    fn request(self, request: c_uint, signal: c_int) {
        let _gone = sys::ptrace(request, self.tid, 0, signal as usize);
    }
}

fn asked<T>(result: io::Result<T>) -> Asked<T> {
    result.map_err(|_| Gone)
}
