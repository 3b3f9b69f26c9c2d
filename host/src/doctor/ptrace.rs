//! Whether processes can be seized, stopped at a call, and read.

use nix::errno::Errno;

use super::advice::{self, Advice};
use super::privileges::Own;
use super::procfs::named;
use super::trial::{self, Bystander, Refusal, Trial, seizing, stopping};
use super::{BOTH, Check, Command, Verdict};

/// ptrace of a child.
pub(super) fn child(own: &Own) -> Check {
    let (id, title) = ("ptrace-child", "Tracing a child");
    let trial = trial::seize_child();
    match trial.through(seizing::DETACH) {
        Ok(()) => Check::new(
            id,
            title,
            Verdict::Ok,
            "a child was seized, stopped and let go",
            "host run can trace what it starts",
        ),
        Err((step, refusal)) => {
            let (cause, advice) = why(own, step, refusal, false);
            Check::new(id, title, Verdict::Missing, failed_step(step, refusal), cause)
                .advise(advice)
                .prevents(BOTH, &format!("a child cannot be traced ({refusal})"))
        }
    }
}

/// ptrace of a process that is no descendant.
pub(super) fn attach(own: &Own, bystander: Result<&Bystander, &Errno>) -> Check {
    let (id, title) = ("ptrace-attach", "Attaching to a process that is no descendant");
    let bystander = match bystander {
        Ok(bystander) => bystander,
        Err(errno) => {
            let found = format!("no process to try it on: {errno:?}");
            return Check::new(id, title, Verdict::Missing, found, NO_FORK)
                .advise(more_processes())
                .prevents(BOTH, "no process can be made");
        }
    };
    let trial = trial::seize(bystander);
    match trial.through(seizing::DETACH) {
        Ok(()) => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("such a process of our own user was seized, stopped and let go ({})", own.yama_in_words()),
            "host attach can work",
        ),
        Err((step, refusal)) => {
            let (cause, advice) = why(own, step, refusal, true);
            let found = format!("{} ({})", failed_step(step, refusal), own.yama_in_words());
            let meaning = format!("host attach cannot work: {cause}");
            Check::new(id, title, Verdict::Missing, found, meaning)
                .advise(advice)
                .prevents(&[Command::Attach], &format!("a process that is no descendant cannot be seized ({refusal})"))
        }
    }
}

const NO_FORK: &str = "nothing can be started: a limit on processes is reached, or a seccomp profile forbids fork";

fn more_processes() -> Advice {
    vec![
        "Raise the limit on processes: ulimit -u, or the control group's pids.max (Docker, podman: --pids-limit)"
            .into(),
    ]
}

fn failed_step(step: usize, refusal: Refusal) -> String {
    format!("{}: {refusal}", seizing::NAMES.get(step).copied().unwrap_or("a step"))
}

/// Why seizing fails, and what to change. The kernel answers `EPERM` for many
/// reasons, which are told apart by what else we know.
fn why(own: &Own, step: usize, refusal: Refusal, others: bool) -> (String, Advice) {
    let profile = || {
        let mut advice = own.advice_for_sys_ptrace();
        advice.extend(advice::seccomp_profile("ptrace"));
        advice
    };
    match refusal {
        Refusal::NoChild(_) => (NO_FORK.into(), more_processes()),
        Refusal::Killed(_) => ("a seccomp profile kills callers of ptrace".into(), profile()),
        Refusal::Hung | Refusal::NotTried => (
            "ptrace does not behave as the kernel's; a sandbox that emulates it, or somebody stopped our children"
                .into(),
            Vec::new(),
        ),
        Refusal::Errno(errno) if step == seizing::NO_TARGET => {
            let who = match errno {
                libc::ENOSYS => "ptrace is not there: a seccomp profile or a sandbox (such as gVisor) hides it",
                _ => "ptrace is refused whatever it is asked: a seccomp profile forbids it",
            };
            (who.into(), profile())
        }
        Refusal::Errno(libc::EPERM) if own.tracer != 0 => (
            format!("{} traces us and follows our children: a process can have one tracer only", named(own.tracer)),
            vec!["Start host outside the other tracer".into()],
        ),
        Refusal::Errno(libc::EPERM) => match own.yama {
            Some(3) => (
                "Yama forbids all tracing until the machine is started anew".into(),
                vec!["On the machine itself: boot with kernel.yama.ptrace_scope=1 or lower".into()],
            ),
            Some(2) if !own.may_trace_others() => (
                "Yama allows tracing to holders of CAP_SYS_PTRACE only".into(),
                advice::yama(if others { "0" } else { "1" }),
            ),
            Some(1) if others && !own.may_trace_others() => (
                "Yama allows processes without CAP_SYS_PTRACE to trace their own descendants only".into(),
                advice::yama("0"),
            ),
            _ => (
                "the kernel allows ptrace, but a security module (AppArmor, SELinux) refuses this use, or we are not \
                 dumpable"
                    .into(),
                vec![
                    "Docker, podman: --cap-add=SYS_PTRACE; --security-opt apparmor=unconfined or label=disable to \
                     see whether that is the cause"
                        .into(),
                ],
            ),
        },
        Refusal::Errno(_) => ("ptrace does not behave as the kernel's; a sandbox that emulates it?".into(), Vec::new()),
    }
}

/// A call stopped by a filter, and refused: `host run` in small.
pub(super) fn call_stop(trial: &Trial) -> Check {
    let (id, title) = ("seccomp-stop", "Stopping and refusing a call");
    let missing = |found: String, meaning: &str| Check::new(id, title, Verdict::Missing, found, meaning);
    if let Err((step, refusal)) = trial.through(stopping::STOP) {
        return if step == stopping::SEIZE {
            missing(format!("not tried: a child cannot be seized ({refusal})"), "see “Tracing a child”")
        } else if refusal == Refusal::Errno(libc::ENOSYS) {
            missing(
                "a filter asked for a stop, but the tracer was not told (ENOSYS)".into(),
                "host run cannot see calls",
            )
        } else {
            missing(format!("no stop at a filtered call: {refusal}"), "host run cannot see calls")
        }
        .prevents(&[Command::Run], "calls cannot be stopped by a filter");
    }
    let steps = [
        (stopping::REGISTERS, "its registers tell another number"),
        (stopping::DENY, "its registers cannot be changed"),
        (stopping::DENIED, "the call ran in spite of its refusal"),
    ];
    for (step, what) in steps {
        if let Err(refusal) = trial.step(step) {
            return missing(
                format!("a child stopped at a call, but {what} ({refusal})"),
                "denials would not be carried out: a sandbox that emulates ptrace?",
            )
            .prevents(BOTH, "calls cannot be refused");
        }
    }
    Check::new(
        id,
        title,
        Verdict::Ok,
        "a filter stopped a child at a call, which was read and refused with EPERM",
        "one stop a judged call; denials hold",
    )
}

/// `PTRACE_GET_SYSCALL_INFO`.
pub(super) fn syscall_info(trial: &Trial) -> Check {
    let (id, title) = ("syscall-info", "PTRACE_GET_SYSCALL_INFO");
    match trial.step(stopping::INFO) {
        Ok(_) => Check::new(id, title, Verdict::Ok, "names the call at a stop", "calls are learnt in one request"),
        Err(Refusal::NotTried) => Check::new(
            id,
            title,
            Verdict::Missing,
            "not tried: no child could be stopped at a call",
            "see “Stopping and refusing a call”",
        ),
        Err(refusal) => Check::new(
            id,
            title,
            Verdict::Degraded,
            refusal.to_string(),
            "calls are learnt from registers, which do not tell the ABI of a call by int 0x80; the request came with \
             Linux 5.3",
        )
        .limits(BOTH, "the ABI of a call is not told by the kernel"),
    }
}

/// `process_vm_readv` of a child.
pub(super) fn memory() -> Check {
    let (id, title) = ("memory-read", "Reading a tracee's memory");
    match trial::read_memory().step(0) {
        Ok(length) => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("process_vm_readv read {length} bytes of a child"),
            "arguments in memory can be judged",
        ),
        Err(refusal) => Check::new(
            id,
            title,
            Verdict::Missing,
            format!("process_vm_readv: {refusal}"),
            "names and other arguments in memory are unreadable, and denied under rules that deny",
        )
        .advise(advice::sys_ptrace())
        .advise(advice::seccomp_profile("process_vm_readv"))
        .limits(BOTH, "arguments in memory cannot be read"),
    }
}
