//! Seizing, stopping, denying, reading memory.

use libc::{c_int, pid_t};

use super::Trial;
use super::child::{self, Bystander, Voice, in_child, next_stop, ptrace, subject};

/// As `host run` sets them.
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

/// Steps of [`seize_child`] and [`seize`].
pub(in crate::doctor) mod seizing {
    /// A request that the kernel itself answers with `ESRCH`.
    pub(in crate::doctor) const NO_TARGET: usize = 0;
    pub(in crate::doctor) const DETACH: usize = 4;
    /// What each step is called.
    pub(in crate::doctor) const NAMES: [&str; 5] =
        ["ptrace as such", "PTRACE_SEIZE", "PTRACE_INTERRUPT", "waiting for the stop", "PTRACE_DETACH"];
}

/// ptrace on nobody at all. The kernel says `ESRCH`; anything else is the
/// answer of a filter that refuses the call whatever its arguments.
fn on_nobody() -> i64 {
    match ptrace(libc::PTRACE_CONT, child::own_pid(), 0) {
        refused if refused == -i64::from(libc::ESRCH) => 0,
        other => other,
    }
}

/// Seizes a child of the caller's.
pub(in crate::doctor) fn seize_child() -> Trial {
    in_child(|voice| {
        voice.say(on_nobody());
        match subject(voice, || ()) {
            Ok(subject) => {
                seize_and_let_go(voice, subject.pid);
                subject.end();
            }
            Err(errno) => _ = voice.say(errno),
        }
    })
}

/// Seizes a process that is no descendant of the one that seizes it.
///
/// Yama asks whether the tracer is an ancestor of the tracee
/// (Documentation/admin-guide/LSM/Yama.rst). A child of ours is a sibling of
/// the trial's child, hence none of its descendants, and nobody need be
/// reparented.
pub(in crate::doctor) fn seize(bystander: &Bystander) -> Trial {
    in_child(|voice| {
        voice.say(on_nobody());
        seize_and_let_go(voice, bystander.pid());
    })
}

fn seize_and_let_go(voice: &Voice, pid: pid_t) {
    if voice.say(ptrace(libc::PTRACE_SEIZE, pid, OPTIONS as usize)) < 0 {
        return;
    }
    if voice.say(ptrace(libc::PTRACE_INTERRUPT, pid, 0)) >= 0 && voice.say(next_stop(pid)) >= 0 {
        voice.say(ptrace(libc::PTRACE_DETACH, pid, 0));
    }
}

/// Steps of [`stop_at_call`].
pub(in crate::doctor) mod stopping {
    pub(in crate::doctor) const SEIZE: usize = 0;
    /// The stop that the filter asked for.
    pub(in crate::doctor) const STOP: usize = 1;
    /// `PTRACE_GET_SYSCALL_INFO` names the call.
    pub(in crate::doctor) const INFO: usize = 2;
    /// So do the registers.
    pub(in crate::doctor) const REGISTERS: usize = 3;
    /// The call is made to fail.
    pub(in crate::doctor) const DENY: usize = 4;
    /// It did, for its caller.
    pub(in crate::doctor) const DENIED: usize = 5;
}

/// The whole of `host run` in small: a seized child installs a filter, makes a
/// call, is stopped at it, is looked at, and has the call refused.
pub(in crate::doctor) fn stop_at_call() -> Trial {
    in_child(|voice| {
        let subject = match subject(voice, make_filtered_call) {
            Ok(subject) => subject,
            Err(errno) => {
                voice.say(errno);
                return;
            }
        };
        if voice.say(ptrace(libc::PTRACE_SEIZE, subject.pid, OPTIONS as usize)) >= 0 {
            subject.go();
            let status = subject.wait();
            if status >> 8 == i64::from(libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8) {
                voice.say(status);
                voice.say(expected(child::number_by_info(subject.pid)));
                voice.say(expected(child::number_by_registers(subject.pid)));
                voice.say(child::deny(subject.pid));
                ptrace(libc::PTRACE_CONT, subject.pid, 0);
                voice.say(told_by_exit(subject.wait()));
            } else {
                // 0 says that the call was denied, but nobody denied it.
                let told = told_by_exit(status);
                voice.say(if told == 0 { FAILED } else { told });
            }
        }
        subject.end();
    })
}

/// The kernel did something else than it should.
const FAILED: i64 = -(libc::EIO as i64);

/// A call's number, if it is the right one.
fn expected(number: i64) -> i64 {
    if number < 0 || number == child::HARMLESS { number } else { FAILED }
}

/// What a subject of [`stop_at_call`] does. Its exit status is 0 if its call
/// was denied, else an errno.
fn make_filtered_call() {
    let install = || child::install_filter(libc::SECCOMP_RET_TRACE, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    if install() < 0 {
        child::set_no_new_privs();
        let installed = install();
        if installed < 0 {
            child::leave(-installed as c_int);
        }
    }
    match child::harmless_call() {
        denied if denied == -i64::from(libc::EPERM) => child::leave(0),
        // Nobody was there to be asked (man 2 seccomp, SECCOMP_RET_TRACE).
        failed if failed < 0 => child::leave(-failed as c_int),
        // The call ran.
        _ => child::leave(libc::ECANCELED),
    }
}

fn told_by_exit(status: i64) -> i64 {
    let status = status as c_int;
    if libc::WIFEXITED(status) { -i64::from(libc::WEXITSTATUS(status)) } else { FAILED }
}

/// Reads a child's memory with `process_vm_readv`.
pub(in crate::doctor) fn read_memory() -> Trial {
    super::calls::with_subject(|voice, subject| {
        voice.say(child::read_mark(subject.pid));
    })
}
