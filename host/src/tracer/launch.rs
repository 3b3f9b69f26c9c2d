//! Starts a program as a tracee with the filter in force from its first
//! instruction.
//!
//! The child waits on a pipe until it is seized, then installs the filter and
//! executes the program. Between fork and exec it does nothing but system
//! calls: other threads of ours may have held locks. `No_new_privs` is set only
//! without `CAP_SYS_ADMIN`, because it changes what set-user-ID programs do.
#![allow(unsafe_code, reason = "fork, and the raw calls that are safe after it")]

use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{c_int, pid_t, sock_filter};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::procfs::Status;
use super::sys;

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such file, or none of that name in PATH.
    #[error("cannot run {0:?}: no such program; give its path, or a name that is in PATH")]
    NotFound(PathBuf),
    /// The file is there, but is no program, or not for us.
    #[error("cannot run {program:?}: {source}")]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An argument or variable has a NUL byte inside.
    #[error("cannot run a program with a NUL byte in its arguments")]
    Nul,
    /// Somebody traces us, and with us all that we start.
    #[error(
        "cannot {action}: process {tracer} traces this host, and with it all that it starts; a process has one tracer at most. Start the host from a process that nobody traces"
    )]
    Traced {
        /// What was tried.
        action: &'static str,
        /// Who.
        tracer: pid_t,
    },
    /// The environment does not let us trace.
    #[error(
        "cannot {action}: {source}; `host run` needs leave to use ptrace and seccomp: in a container, capability SYS_PTRACE"
    )]
    Forbidden {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// The program to run.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    c_path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Program {
    /// Finds `argv[0]` as a shell would, before anything is started.
    pub(super) fn find(argv: &[impl AsRef<OsStr>]) -> Result<Self, LaunchError> {
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| LaunchError::Nul);
        let name = argv.first().map(AsRef::as_ref).unwrap_or_default();
        let path = search(name)?;
        let envp = std::env::vars_os().map(|(key, value)| {
            let mut entry = key;
            entry.push("=");
            entry.push(value);
            c_string(&entry)
        });
        Ok(Self {
            c_path: c_string(path.as_os_str())?,
            argv: argv.iter().map(|arg| c_string(arg.as_ref())).collect::<Result<_, _>>()?,
            envp: envp.collect::<Result<_, _>>()?,
            path,
        })
    }
}

fn search(name: &OsStr) -> Result<PathBuf, LaunchError> {
    use nix::unistd::{AccessFlags, access};
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return if path.exists() { Ok(path) } else { Err(LaunchError::NotFound(path)) };
    }
    let directories = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&directories)
        .map(
            |directory| if directory.as_os_str().is_empty() { Path::new(".").join(name) } else { directory.join(name) },
        )
        .find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| LaunchError::NotFound(name.into()))
}

/// A seized child that is about to execute its program.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) pid: pid_t,
    path: PathBuf,
    /// Says which step failed, if one did; closed by a successful exec.
    failure: std::fs::File,
}

/// Steps of the child that can fail.
const STEP_FILTER: u8 = 1;
const STEP_EXEC: u8 = 2;

impl Launched {
    /// Why the program did not start, once the child is gone or has executed.
    pub(super) fn failure(mut self) -> Option<LaunchError> {
        let mut report = [0; 5];
        self.failure.read_exact(&mut report).ok()?;
        let source = io::Error::from_raw_os_error(i32::from_ne_bytes([report[1], report[2], report[3], report[4]]));
        Some(match report[0] {
            STEP_FILTER => LaunchError::Forbidden { action: "install a seccomp filter", source },
            _ if source.kind() == io::ErrorKind::NotFound => LaunchError::NotFound(self.path),
            _ => LaunchError::NotExecutable { program: self.path, source },
        })
    }
}

/// Forks, seizes the child with `options` and lets it execute `program` under
/// `filter`.
pub(super) fn launch(program: Program, filter: &[sock_filter], options: c_int) -> Result<Launched, LaunchError> {
    let tracer = || Status::of(std::process::id() as pid_t).map_or(0, |status| status.tracer);
    let forbidden = |action| {
        move |source: io::Error| match tracer() {
            0 => LaunchError::Forbidden { action, source },
            tracer => LaunchError::Traced { action, tracer },
        }
    };
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).map_err(forbidden("make a pipe"));
    let (go_reader, go_writer) = pipe()?;
    let (failure_reader, failure_writer) = pipe()?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&program.argv), pointers(&program.envp));
    let filter = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };

    // SAFETY: the child only makes system calls on memory prepared above, and
    // ends in execve or _exit.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => return Err(forbidden("fork")(io::Error::last_os_error())),
        0 => {
            // SAFETY: as above; all pointers outlive the call.
            unsafe { child(&go_reader, &go_writer, &failure_writer, &filter, &program.c_path, &argv, &envp) }
        }
        _ => {}
    }
    drop((go_reader, failure_writer));
    if let Err(source) = sys::ptrace(libc::PTRACE_SEIZE, pid, 0, options as usize) {
        // The child reads an end of file and leaves.
        drop(go_writer);
        return Err(forbidden("trace the program")(source));
    }
    std::fs::File::from(go_writer).write_all(&[1]).map_err(forbidden("start the program"))?;
    Ok(Launched { pid, path: program.path, failure: failure_reader.into() })
}

/// The child's side, after fork.
///
/// # Safety
/// `argv` and `envp` must be NULL-terminated arrays of C strings.
unsafe fn child(
    go: &OwnedFd,
    go_writer: &OwnedFd,
    failure: &OwnedFd,
    filter: &libc::sock_fprog,
    path: &CString,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> ! {
    // SAFETY: raw system calls on live memory; see the caller.
    unsafe {
        let fail = |step: u8| -> ! {
            let errno = (*libc::__errno_location()).to_ne_bytes();
            let report = [step, errno[0], errno[1], errno[2], errno[3]];
            libc::write(failure.as_raw_fd(), report.as_ptr().cast(), report.len());
            libc::_exit(127)
        };
        libc::close(go_writer.as_raw_fd());
        let mut byte = 0u8;
        if libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(127);
        }
        super::signals::restore_in_child();
        super::descriptors::restore_in_child();
        // SPEC_ALLOW (Linux 4.17) keeps the speculation settings that the
        // program would have without a filter.
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        let install =
            || libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(filter));
        if install() != 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if install() != 0 {
                fail(STEP_FILTER);
            }
        }
        libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr());
        fail(STEP_EXEC)
    }
}
