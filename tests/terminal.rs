//! At a terminal, under a shell with job control, a program under the host
//! behaves as alone: each dialogue is held with `env` first, then with the
//! host in its place.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

const HOST: &str = env!("CARGO_BIN_EXE_host");

/// An interactive shell on a pseudo-terminal.
struct Shell {
    terminal: std::fs::File,
    pid: libc::pid_t,
    seen: String,
}

impl Shell {
    fn start() -> Self {
        let mut master = 0;
        let none = std::ptr::null_mut();
        let shell = [c"bash".as_ptr(), c"--norc".as_ptr(), c"--noprofile".as_ptr(), c"-i".as_ptr(), std::ptr::null()];
        // SAFETY: the child only executes a program; all pointers are live.
        let pid = unsafe {
            let pid = libc::forkpty(&raw mut master, none, none.cast(), none.cast());
            if pid == 0 {
                libc::setenv(c"PS1".as_ptr(), c"PROMPT> ".as_ptr(), 1);
                libc::setenv(c"TERM".as_ptr(), c"dumb".as_ptr(), 1);
                libc::execvp(shell[0], shell.as_ptr());
                libc::_exit(127);
            }
            pid
        };
        assert!(pid > 0);
        // SAFETY: the descriptor is new and nobody else's.
        let terminal = unsafe { std::fs::File::from_raw_fd(master) };
        nix::fcntl::fcntl(&terminal, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut shell = Self { terminal, pid, seen: String::new() };
        shell.expect("PROMPT> ");
        shell
    }

    fn send(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Lets the program come to its `sleep`. Between vfork and exec dash loses
    /// an interrupt, and a stop leaves it waiting for its child in state D,
    /// traced or not.
    #[allow(clippy::unused_self, reason = "reads as a part of the dialogue")]
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Waits for a text, and forgets everything up to its end.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let since = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "{text:?} did not come; the terminal has {:?}",
                self.seen
            );
            let mut buffer = [0; 4096];
            match self.terminal.read(&mut buffer) {
                Ok(read) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..read])),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // SAFETY: our own child.
        unsafe {
            libc::kill(self.pid, libc::SIGHUP);
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

fn alone_and_traced(dialogue: impl Fn(&mut Shell, &str)) {
    let host = format!("{HOST} run --plugin builtin:sensitive-files --");
    for prefix in ["env", &host] {
        dialogue(&mut Shell::start(), prefix);
    }
}

#[test]
fn stop_and_foreground() {
    alone_and_traced(|shell, prefix| {
        shell.send(&format!("{prefix} sh -c 'echo be''gun; sleep 2; echo fin''ished'\n"));
        shell.expect("begun");
        shell.settle();
        shell.send("\x1a");
        shell.expect("Stopped");
        shell.expect("PROMPT> ");
        shell.send("fg\n");
        shell.expect("finished");
        shell.expect("PROMPT> ");
        shell.send("echo status=$?\n");
        shell.expect("status=0");
    });
}

#[test]
fn interrupt() {
    alone_and_traced(|shell, prefix| {
        shell.send(&format!("{prefix} sh -c 'echo be''gun; sleep 30'\n"));
        shell.expect("begun");
        shell.settle();
        shell.send("\x03");
        shell.expect("PROMPT> ");
        shell.send("echo status=$?\n");
        shell.expect("status=130");
    });
}

#[test]
fn a_program_that_catches_the_interrupt_goes_on() {
    alone_and_traced(|shell, prefix| {
        shell.send(&format!("{prefix} sh -c 'trap \"echo cau''ght\" INT; echo be''gun; sleep 30; exit 4'\n"));
        shell.expect("begun");
        shell.settle();
        shell.send("\x03");
        shell.expect("caught");
        shell.expect("PROMPT> ");
        shell.send("echo status=$?\n");
        shell.expect("status=4");
    });
}

#[test]
fn background_and_kill() {
    alone_and_traced(|shell, prefix| {
        shell.send(&format!("{prefix} sleep 30 &\n"));
        shell.expect("PROMPT> ");
        std::thread::sleep(Duration::from_millis(300));
        shell.send("kill %1; wait %1; echo status=$?\n");
        shell.expect("status=143");
    });
}

#[test]
fn reading_in_the_background_stops_the_job() {
    alone_and_traced(|shell, prefix| {
        shell.send(&format!("{prefix} sh -c 'read line; echo got $line' &\n"));
        shell.expect("PROMPT> ");
        std::thread::sleep(Duration::from_millis(500));
        shell.send("jobs\n");
        shell.expect("Stopped");
        shell.expect("PROMPT> ");
        shell.send("fg\n");
        std::thread::sleep(Duration::from_millis(200));
        shell.send("something\n");
        shell.expect("got something");
    });
}
