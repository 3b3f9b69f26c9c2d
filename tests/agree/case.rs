//! What a case is: a program, what it finds, and what happens to it while it
//! runs.

/// A program to be run alone and traced.
pub struct Case {
    pub name: &'static str,
    pub command: Vec<String>,
    /// Files that it finds in its working directory.
    pub files: Vec<(&'static str, &'static str)>,
    /// At a terminal of its own, in a session of its own.
    pub terminal: bool,
    /// What happens while it runs.
    pub steps: Vec<Step>,
    /// The exit status that it has alone (128+N if signal N ends it): two
    /// equal failures of a broken case are no agreement.
    pub status: i32,
    /// What its output has in it when it runs alone, for the same reason.
    pub says: &'static str,
    /// Makes equal what legitimately differs from run to run.
    pub normal: Vec<fn(&str) -> String>,
    /// Files whose content differs from run to run, by the end of their names.
    pub varying: &'static [&'static str],
    /// Programs that it needs besides a shell and core utilities.
    pub needs: Vec<&'static str>,
    /// What the tracer changes by design: makes of what the program says alone
    /// what it has to say traced.
    pub documented: Option<fn(&str) -> String>,
}

/// Something that happens while a case runs.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Waits for a text in the output, behind the one waited for before.
    Expect(&'static str),
    /// Waits for a process of the case that runs a program of this name and
    /// sleeps in a system call; at a terminal, one in the foreground.
    Asleep(&'static str),
    /// Types, or writes to the standard input.
    Type(&'static str),
    /// Sends a signal.
    Send(To, libc::c_int),
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// The process that was started: the program, or the host in its place, as
    /// from a supervisor.
    Started,
    /// The process group of what was started, as from a keyboard.
    Group,
    /// The process that wrote its id into the file `pid`.
    Pid,
}

impl Case {
    fn new(name: &'static str, command: &[&str], says: &'static str) -> Self {
        Self {
            name,
            command: command.iter().map(ToString::to_string).collect(),
            files: Vec::new(),
            terminal: false,
            steps: Vec::new(),
            status: 0,
            says,
            normal: Vec::new(),
            varying: &[],
            needs: Vec::new(),
            documented: None,
        }
    }

    pub fn file(mut self, name: &'static str, content: &'static str) -> Self {
        self.files.push((name, content));
        self
    }

    pub fn status(mut self, status: i32) -> Self {
        self.status = status;
        self
    }

    pub fn normal(mut self, normal: fn(&str) -> String) -> Self {
        self.normal.push(normal);
        self
    }

    pub fn varying(mut self, names: &'static [&'static str]) -> Self {
        self.varying = names;
        self
    }

    pub fn needs(mut self, programs: &[&'static str]) -> Self {
        self.needs.extend(programs);
        self
    }

    pub fn documented(mut self, change: fn(&str) -> String) -> Self {
        self.documented = Some(change);
        self
    }

    pub fn steps(mut self, steps: &[Step]) -> Self {
        self.steps.extend(steps);
        self
    }
}

/// A command that is expected to say `says`.
pub fn command(name: &'static str, command: &[&str], says: &'static str) -> Case {
    Case::new(name, command, says)
}

/// A script of `sh`.
pub fn sh(name: &'static str, script: &str, says: &'static str) -> Case {
    Case::new(name, &["sh", "-c", script], says)
}

/// A script of `bash`.
pub fn bash(name: &'static str, script: &str, says: &'static str) -> Case {
    Case::new(name, &["bash", "-c", script], says).needs(&["bash"])
}

/// A Python program, with `PRELUDE` before it.
pub fn python(name: &'static str, program: &str, says: &'static str) -> Case {
    Case::new(name, &["python3", "-u", "-c", &format!("{PRELUDE}{program}")], says).needs(&["python3"])
}

/// A C program, compiled and run.
pub fn c(name: &'static str, program: &'static str, says: &'static str) -> Case {
    sh(name, "cc -w -O1 -o program program.c -lpthread && ./program", says).file("program.c", program).needs(&["cc"])
}

/// A dialogue with a shell at a terminal.
pub fn dialogue(name: &'static str, shell: &[&str], steps: &[Step]) -> Case {
    Case { terminal: true, ..Case::new(name, shell, "PROMPT> ") }.needs(&["bash"]).steps(steps)
}

/// What the Python programs share. They wait for conditions, such as the state
/// of a process, and never for a time to pass.
const PRELUDE: &str = r#"
import ctypes, errno, fcntl, os, resource, select, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def state(pid, thread=None):
    path = f"/proc/{pid}/task/{thread}/stat" if thread else f"/proc/{pid}/stat"
    return open(path).read().rpartition(") ")[2][0]

def until(condition, what="it"):
    for _ in range(5000):
        if condition(): return
        time.sleep(0.002)
    sys.exit(f"{what} did not come about within 10 s")

# Sleeping in the system call of this number, which /proc/PID/syscall shows.
def in_call(pid, numbers):
    def look():
        try: first = open(f"/proc/{pid}/syscall").read().split()[0]
        except OSError: return False
        return first.isdigit() and int(first) in numbers and state(pid) == "S"
    return look

def ended(status):
    if os.WIFSTOPPED(status): return f"stopped by {signal.Signals(os.WSTOPSIG(status)).name}"
    if os.WIFCONTINUED(status): return "continued"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in signal.valid_signals() and number < 32 else str(number)
        return f"killed by {name}{', core dumped' if os.WCOREDUMP(status) else ''}"
    return f"exit {os.WEXITSTATUS(status)}"
"#;
