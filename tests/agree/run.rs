//! Runs a case alone and traced, and tells what each run came to.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use similar::TextDiff;

use super::case::{Case, Step, To};
use super::files;
use super::support::{HOST, read_alerts};
use super::terminal;

/// No run of a case takes longer, on the busiest machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Where programs are looked for.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Where a case is run: both runs find the same names.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("agree-").tempdir().unwrap();
        // Servers give up root, and still need a way in.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { root }
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    fn alerts(&self) -> PathBuf {
        self.root.path().join("alerts")
    }

    fn set_up(&self, case: &Case) {
        let work = self.work();
        if work.exists() {
            fs::remove_dir_all(&work).unwrap();
        }
        for directory in ["home", "tmp"] {
            fs::create_dir_all(work.join(directory)).unwrap();
        }
        for (name, content) in &case.files {
            fs::write(work.join(name), content).unwrap();
            if content.starts_with("#!") {
                fs::set_permissions(work.join(name), fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    /// The words that put the host before a command.
    fn host(&self) -> [String; 5] {
        let alerts = self.alerts().to_str().unwrap().to_owned();
        [HOST.to_owned(), "run".to_owned(), "--alerts".to_owned(), alerts, "--".to_owned()]
    }

    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.work()).env_clear().envs([
            ("PATH", PATH),
            ("LANG", "C"),
            ("TZ", "UTC"),
            ("TERM", "dumb"),
            ("PS1", "PROMPT> "),
            ("PYTHONHASHSEED", "0"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            // Where the host keeps compiled plugins: not among the program's files.
            ("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")),
        ]);
        command.envs(crate::support::GIT_IDENTITY);
        command.env("HOME", self.work().join("home")).env("TMPDIR", self.work().join("tmp"));
        command
    }
}

/// Where in `PATH` a program is.
pub fn found(program: &str) -> Option<PathBuf> {
    let path = |directory: &str| Path::new(directory).join(program);
    PATH.split(':').map(path).find(|path| path.exists())
}

/// Runs the case twice. What went wrong, if something did.
pub fn compare(case: &Case) -> Result<(), String> {
    let place = Place::new();
    let alone = run(case, &place, false).map_err(|error| format!("alone: {error}"))?;
    if alone.status != case.status || !alone.stdout.contains(case.says) {
        return Err(format!(
            "the case is broken: alone it has to end with {} and to say {:?}, but:\n{}",
            case.status,
            case.says,
            alone.text(case)
        ));
    }
    let traced = run(case, &place, true).map_err(|error| format!("traced: {error}"))?;
    // Panics if a line is no alert.
    read_alerts(&place.alerts());
    let (mut expected, traced) = (alone.text(case), traced.text(case));
    if let Some(change) = case.documented {
        expected = change(&expected);
    }
    if expected == traced {
        return Ok(());
    }
    Err(TextDiff::from_lines(&expected, &traced).unified_diff().header("alone", "traced").to_string())
}

/// What a run came to.
struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
    files: String,
}

impl Ran {
    /// All of it as a text that is to be equal.
    fn text(&self, case: &Case) -> String {
        let mut text = format!("exit status {}\n", self.status);
        for (title, part) in
            [("standard output", &self.stdout), ("standard error", &self.stderr), ("files", &self.files)]
        {
            write!(text, "--- {title}\n{part}\n").unwrap();
        }
        case.normal.iter().fold(text, |text, normal| normal(&text))
    }
}

/// A case under way.
struct Running<'p> {
    place: &'p Place,
    child: Child,
    /// The keyboard, or a pipe if something is to be written. A keyboard stays
    /// until the program has ended: without it all at the terminal are hung up.
    input: Option<Box<dyn Write>>,
    terminal: bool,
    output: Receiver<(Stream, Vec<u8>)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How far the steps have read the output.
    seen: usize,
    since: Instant,
}

#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

fn run(case: &Case, place: &Place, traced: bool) -> Result<Ran, String> {
    place.set_up(case);
    let host = place.host();
    let words: Vec<String> =
        if traced { host.iter().cloned().chain(case.command.iter().cloned()).collect() } else { case.command.clone() };
    let mut running = Running::start(place.command(&words), place, case)?;
    let outcome = case.steps.iter().try_for_each(|step| running.step(*step)).and_then(|()| running.end());
    let status = match outcome {
        Ok(status) => status,
        Err(error) => {
            let list = running.kill();
            return Err(format!(
                "{error}\n--- standard output\n{}\n--- standard error\n{}\n--- processes\n{list}",
                String::from_utf8_lossy(&running.stdout),
                String::from_utf8_lossy(&running.stderr)
            ));
        }
    };
    let varies = |name: &str| name == "pid" || case.varying.iter().any(|end| name.ends_with(end));
    Ok(Ran {
        status,
        stdout: lossless(&running.stdout),
        stderr: lossless(&running.stderr),
        files: files::describe(&place.work(), &varies),
    })
}

/// Bytes that are no UTF-8 as escapes, so that all bytes are compared.
fn lossless(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap());
        text
    })
}

impl<'p> Running<'p> {
    fn start(mut command: Command, place: &'p Place, case: &Case) -> Result<Self, String> {
        let (sender, output) = channel();
        let terminal = if case.terminal {
            Some(terminal::attach(&mut command).map_err(|error| format!("no terminal: {error}"))?)
        } else {
            let typed = case.steps.iter().any(|step| matches!(step, Step::Type(_)));
            command.stdin(if typed { Stdio::piped() } else { Stdio::null() });
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            terminal::detach(&mut command);
            None
        };
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        // Its copies of the terminal's other side, without which there is no end of file.
        drop(command);
        let input: Option<Box<dyn Write>> = if let Some(terminal) = terminal {
            let keyboard = terminal.try_clone().unwrap();
            read(terminal.into(), Stream::Out, sender);
            Some(Box::new(keyboard))
        } else {
            read(child.stdout.take().unwrap().into(), Stream::Out, sender.clone());
            read(child.stderr.take().unwrap().into(), Stream::Err, sender);
            child.stdin.take().map(|pipe| Box::new(pipe) as Box<dyn Write>)
        };
        Ok(Self {
            place,
            child,
            input,
            terminal: case.terminal,
            output,
            stdout: Vec::new(),
            stderr: Vec::new(),
            seen: 0,
            since: Instant::now(),
        })
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Expect(text) => loop {
                if let Some(at) = find(&self.stdout[self.seen..], text.as_bytes()) {
                    self.seen += at + text.len();
                    return Ok(());
                }
                if !self.more()? {
                    return Err(format!("{text:?} did not come before the end"));
                }
            },
            Step::Asleep(name) => {
                while !processes_in(&self.place.work()).iter().any(|process| process.asleep_in(name, self.terminal)) {
                    self.in_time()?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            }
            Step::Type(text) => {
                let input = self.input.as_mut().expect("a case that is typed to has an input");
                input.write_all(text.as_bytes()).map_err(|error| format!("typing {text:?}: {error}"))
            }
            Step::Send(to, number) => {
                let started = self.child.id() as i32;
                let pid = match to {
                    To::Started => started,
                    To::Group => -started,
                    To::Pid => {
                        let text = fs::read_to_string(self.place.work().join("pid")).map_err(|e| e.to_string())?;
                        text.trim().parse().map_err(|error| format!("file pid has {text:?}: {error}"))?
                    }
                };
                let signal = Signal::try_from(number).unwrap();
                nix::sys::signal::kill(Pid::from_raw(pid), signal).map_err(|error| format!("{step:?}: {error}"))
            }
        }
    }

    fn in_time(&self) -> Result<(), String> {
        if self.since.elapsed() < LIMIT { Ok(()) } else { Err(format!("not at its end after {LIMIT:?}")) }
    }

    /// Takes in more of the output; false at its end.
    fn more(&mut self) -> Result<bool, String> {
        self.in_time()?;
        match self.output.recv_timeout(LIMIT.saturating_sub(self.since.elapsed())) {
            Ok((Stream::Out, bytes)) => self.stdout.extend(bytes),
            Ok((Stream::Err, bytes)) => self.stderr.extend(bytes),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => {}
        }
        Ok(true)
    }

    /// The end of the program, of its output, and of all that came of it.
    fn end(&mut self) -> Result<i32, String> {
        if !self.terminal {
            self.input = None;
        }
        while self.more()? {}
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            self.in_time()?;
            std::thread::sleep(Duration::from_millis(2));
        };
        while !processes_in(&self.place.work()).is_empty() {
            self.in_time()?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Ends all processes of the case, and says which they were.
    fn kill(&mut self) -> String {
        let mut list = String::new();
        for process in processes_in(&self.place.work()) {
            writeln!(list, "{} {} {}", process.pid, process.state, process.name).unwrap();
            let _gone = nix::sys::signal::kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        let _gone = self.child.kill();
        self.child.wait().unwrap();
        list
    }
}

/// Passes on what comes, in a thread of its own.
fn read(from: OwnedFd, stream: Stream, to: Sender<(Stream, Vec<u8>)>) {
    let mut from = fs::File::from(from);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // A terminal ends with an error.
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if to.send((stream, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

struct Process {
    pid: i32,
    name: String,
    state: char,
    /// It is in the foreground of its terminal.
    foreground: bool,
}

impl Process {
    fn asleep_in(&self, name: &str, at_terminal: bool) -> bool {
        self.name == name && self.state == 'S' && (self.foreground || !at_terminal)
    }
}

/// The processes whose working directory is below `directory`: those of a
/// case, whoever their parents are.
fn processes_in(directory: &Path) -> Vec<Process> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    ids.filter_map(|pid| {
        // A process that is over has no working directory, though it may have an entry yet.
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        if !cwd.starts_with(directory) {
            return None;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        // State, parent, group, session, terminal, and the terminal's foreground group (proc_pid_stat(5)).
        let fields: Vec<_> = rest.split(' ').collect();
        let foreground = fields.get(2)? == fields.get(5)?;
        Some(Process { pid, name: name.to_owned(), state: rest.chars().next()?, foreground })
    })
    .collect()
}
