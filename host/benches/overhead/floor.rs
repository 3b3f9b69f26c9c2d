//! What a filter alone, and the least possible tracer, cost.
//!
//! The floor is a tracer that stops at each `openat` and does nothing: one
//! wait and one request a stop. No tracer that stops can be faster.
#![allow(unsafe_code, reason = "seccomp has no safe wrapper")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// `--filtered CMD…`: runs it under a filter that allows everything.
pub(crate) const FILTERED: &str = "--filtered";
/// `--floor CMD…`: runs it under the least tracer.
pub(crate) const FLOOR: &str = "--floor";
/// `--traced CMD…`: what the least tracer starts; waits until it is seized.
const TRACED: &str = "--traced";

/// Runs what the arguments name; none if they name nothing of ours.
pub(crate) fn run(arguments: &[&str]) -> Option<anyhow::Result<()>> {
    Some(match arguments {
        [FILTERED, command @ ..] => install(&[ret(libc::SECCOMP_RET_ALLOW)]).and_then(|()| execute(command)),
        [FLOOR, command @ ..] => trace(command),
        [TRACED, command @ ..] => traced(command),
        _ => return None,
    })
}

fn trace(command: &[&str]) -> anyhow::Result<()> {
    let mut child = Command::new(std::env::current_exe()?).arg(TRACED).args(command).stdin(Stdio::piped()).spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    ptrace::seize(pid, Options::PTRACE_O_TRACESECCOMP | Options::PTRACE_O_EXITKILL).context("cannot trace")?;
    child.stdin.take().context("stdin is piped")?.write_all(b"!")?;
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL))? {
            WaitStatus::PtraceEvent(pid, _, _) => ptrace::cont(pid, None)?,
            WaitStatus::Stopped(pid, signal) => ptrace::cont(pid, Some(signal))?,
            WaitStatus::Exited(_, 0) => return Ok(()),
            ended => bail!("the traced program did not end well: {ended:?}"),
        }
    }
}

fn traced(command: &[&str]) -> anyhow::Result<()> {
    // Unbuffered: exactly the one byte.
    File::from(std::io::stdin().as_fd().try_clone_to_owned()?).read_exact(&mut [0]).context("was not seized")?;
    let nr = sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: 0 };
    let is_openat = sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt: 0, jf: 1, k: libc::SYS_openat as u32 };
    install(&[nr, is_openat, ret(libc::SECCOMP_RET_TRACE), ret(libc::SECCOMP_RET_ALLOW)])?;
    execute(command)
}

fn ret(action: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: action }
}

/// As the host installs its own: see host/src/tracer/launch.rs.
fn install(filter: &[sock_filter]) -> anyhow::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel only reads the program, which outlives the call.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).context("cannot install a seccomp filter"),
    }
}

fn execute(command: &[&str]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("no program named")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot run {program}"))
}
