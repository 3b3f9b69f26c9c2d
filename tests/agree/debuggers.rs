//! Debuggers and tracers: beside the host they work as ever; under it they see
//! that their program has a tracer already (`man 2 ptrace`: EPERM).

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::case::{Case, c, sh};
use super::normal;
use super::support::{HOST, Outcome, host, run_limited};

pub fn cases() -> Vec<Case> {
    vec![
        sh("gdb without a program", "gdb -nx -batch -ex 'print 6 * 7' -ex 'info line main' /bin/true; echo $?", "$1 = 42").needs(&["gdb"]),
        sh(
            "gdb disassembles a program",
            "cc -g -O1 -o program program.c && gdb -nx -batch -ex 'list add' -ex 'info functions add' -ex 'print add' -ex 'ptype add' program; rm program",
            "add",
        )
        .file("program.c", PROGRAM)
        .needs(&["gdb", "cc"]),
        c("TRACEME and its kin are refused", REFUSED, "traced: 0")
            .documented(|text| text.replace("traced: 0", "traced: -1 EPERM").replace("exec stopped: 5", "exec stopped: 0")),
    ]
}

const REFUSED: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        long result = ptrace(PTRACE_TRACEME, 0, 0, 0);
        printf("traced: %ld%s\n", result, result ? errno == EPERM ? " EPERM" : " another error" : "");
        fflush(stdout);
        execl("/bin/true", "true", NULL);
    }
    waitpid(pid, &status, 0);
    printf("exec stopped: %d\n", WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
    if (WIFSTOPPED(status)) { ptrace(PTRACE_CONT, pid, 0, 0); waitpid(pid, &status, 0); }
    printf("%d\n", WEXITSTATUS(status));
}
"#;

const PROGRAM: &str = r#"
#include <stdio.h>

int value = 40;

int add(int n) { return value + n; }

int main(int count, char **words) {
    if (count > 1) getchar();
    printf("%d\n", add(2));
    return 3;
}
"#;

/// Outputs without the addresses and ids that differ from run to run.
fn plain(outcome: &Outcome) -> String {
    let text = format!("{}\n{}\n{}", outcome.status, outcome.stdout, outcome.stderr);
    normal::addresses(&normal::ids(&text))
}

/// A program to debug, in a directory of its own.
fn program() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("program.c"), PROGRAM).unwrap();
    let status =
        Command::new("cc").args(["-g", "-O0", "-o", "program", "program.c"]).current_dir(directory.path()).status();
    assert!(status.is_ok_and(|status| status.success()), "install gcc and libc6-dev");
    directory
}

const SESSION: [&str; 14] = [
    "-nx",
    "-batch",
    "-iex",
    "set debuginfod enabled off",
    "-ex",
    "break add",
    "-ex",
    "run",
    "-ex",
    "print value + n",
    "-ex",
    "backtrace",
    "-ex",
    "continue",
];

/// While the host traces one program, gdb debugs another.
pub fn beside() {
    let directory = program();
    let gdb = || {
        let mut gdb = Command::new("gdb");
        gdb.args(SESSION).arg("./program").current_dir(directory.path());
        Outcome::of(&run_limited(&mut gdb))
    };
    let alone = gdb();
    assert!(alone.stdout.contains("$1 = 42") && alone.stdout.contains("exited with code 03"), "{alone:#?}");
    let traced = Traced::start();
    let beside = gdb();
    traced.end();
    assert_eq!(plain(&alone), plain(&beside));
}

/// A process that ends with the test at the latest.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn status(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has been waited for, if all went well.
        let _ended = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// A program that the host traces until it may end.
struct Traced {
    process: Process,
    directory: tempfile::TempDir,
}

impl Traced {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = "while [ ! -e end ]; do /bin/true; : > begun; done; exit 21";
        let mut command = Command::new(HOST);
        command.args(["run", "--alerts", "alerts", "--", "sh", "-c", script]).current_dir(directory.path());
        let traced = Self { process: Process::start(&mut command), directory };
        let begun = traced.directory.path().join("begun");
        assert!(within_limit(|| begun.exists()), "the traced program did not begin");
        traced
    }

    fn end(mut self) {
        std::fs::write(self.directory.path().join("end"), "").unwrap();
        assert_eq!(self.process.status(), Some(21));
    }
}

/// Waits for a condition; false if it does not come about.
fn within_limit(condition: impl Fn() -> bool) -> bool {
    (0..10_000).any(|_| {
        let holds = condition();
        if !holds {
            std::thread::sleep(Duration::from_millis(2));
        }
        holds
    })
}

/// Under the host, strace attaches to a program that the host does not trace.
/// (gdb cannot: it tries ptrace on a child of its own first, does not look at
/// the refusal, and waits for ever for the child to stop as a tracee.)
pub fn attached_to_another() {
    let directory = program();
    let mut command = Command::new("./program");
    command.arg("wait").current_dir(directory.path()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut another = Process::start(&mut command);
    let pid = another.0.id().to_string();
    // The program goes on when it is traced.
    let mut input = another.0.stdin.take().unwrap();
    let status = format!("/proc/{pid}/status");
    let go = std::thread::spawn(move || {
        let is_tracer = |line: &str| line.starts_with("TracerPid:") && !line.ends_with("\t0");
        let traced = || std::fs::read_to_string(&status).unwrap().lines().any(is_tracer);
        assert!(within_limit(traced), "strace did not attach");
        input.write_all(b"\n").unwrap();
    });
    let strace = host().run(&["strace", "-qq", "-e", "trace=exit_group", "-p", &pid]);
    go.join().unwrap();
    assert!(strace.stderr.contains("exit_group(3)"), "{strace:#?}");
    assert_eq!(another.status(), Some(3));
}

/// A debugger under the host that starts a program of its own is refused by
/// the kernel, says so and ends.
pub fn refused() {
    let directory = program();
    let program = directory.path().join("program");
    let program = program.to_str().unwrap();
    let strace = host().run(&["strace", "-o", "/dev/null", program]);
    assert_ne!(strace.status, 0, "{strace:#?}");
    assert!(strace.stderr.contains("Operation not permitted"), "{strace:#?}");
    let gdb = host().run(&["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "run", program]);
    assert!(gdb.stderr.contains("Operation not permitted"), "{gdb:#?}");
    assert!(!gdb.stdout.contains("exited with code 03"), "{gdb:#?}");
}
