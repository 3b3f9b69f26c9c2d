//! The application in its container, seen from outside: its answers, its
//! heartbeats, and the state of its threads.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::podman::{Container, Podman, wait_for};

/// The longest that a request may take. A thread that is left stopped answers
/// never.
const PATIENCE: Duration = Duration::from_secs(30);

/// An application that serves.
pub(crate) struct Application {
    pub(crate) container: Container,
    /// Threads that beat.
    beating: usize,
}

/// How many processes, and threads in each.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) processes: usize,
    pub(crate) threads: usize,
}

pub(crate) const SIMPLE: Shape = Shape { processes: 1, threads: 1 };
pub(crate) const MANY: Shape = Shape { processes: 3, threads: 4 };

impl Application {
    /// The application as its container's own first process.
    #[track_caller]
    pub(crate) fn start(podman: &Arc<Podman>, options: &[&str], shape: Shape) -> Self {
        Self::start_as(podman, "app", options, &[], shape)
    }

    /// The application with `wrapper` before its command.
    #[track_caller]
    pub(crate) fn start_as(
        podman: &Arc<Podman>,
        image: &str,
        options: &[&str],
        wrapper: &[&str],
        shape: Shape,
    ) -> Self {
        let (processes, threads) = (shape.processes.to_string(), shape.threads.to_string());
        let command = ["/sidecar_app", "serve", "/shared", &processes, &threads];
        let container = podman.start(image, options, &[wrapper, &command].concat());
        let application = Self { container, beating: shape.processes * (shape.threads + 1) };
        // All threads, so that nobody attaches to half an application.
        wait_for("all threads of the application run", || {
            let said = application.container.stderr();
            assert!(application.container.lives() && !said.contains("application: "), "the application ended: {said}");
            let beats = application.beats();
            (beats.len() == application.beating && !beats.contains(&0)).then_some(())
        });
        application
    }

    /// The answer to a request.
    #[track_caller]
    pub(crate) fn ask(&self, request: &str) -> String {
        ask(&self.container.shared("socket"), request).unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    fn beats(&self) -> Vec<u64> {
        let bytes = fs::read(self.container.shared("beats")).unwrap_or_default();
        bytes.chunks_exact(8).map(|beat| u64::from_ne_bytes(beat.try_into().unwrap())).collect()
    }

    /// Every thread of it goes on.
    #[track_caller]
    pub(crate) fn lives(&self) {
        let before = self.beats();
        assert_eq!(before.len(), self.beating);
        wait_for("every thread beats", || {
            let now = self.beats();
            before.iter().zip(&now).all(|(before, now)| now > before).then_some(())
        });
        for (request, answer) in
            [("open /public/page", "ok"), ("spawn /public/page", "ok"), ("fork /missing", "ENOENT")]
        {
            assert_eq!(self.ask(request), answer, "{request}");
        }
    }

    /// Its processes, as this PID namespace counts: those that share the
    /// first one's mount namespace.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let own = namespace(self.container.pid).expect("the application's first process is alive");
        let pid = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        fs::read_dir("/proc").unwrap().filter_map(pid).filter(|&pid| namespace(pid).as_ref() == Some(&own)).collect()
    }

    /// Threads that are traced or stopped: thread, state and tracer.
    pub(crate) fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        for pid in self.pids() {
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.filter_map(Result::ok) {
                // A thread can end at any moment.
                let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
                let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
                if field("State:").to_lowercase().starts_with('t') || field("TracerPid:") != "0" {
                    held.push(format!(
                        "{}: {}, tracer {}",
                        thread.path().display(),
                        field("State:"),
                        field("TracerPid:")
                    ));
                }
            }
        }
        held
    }

    /// Nothing is left of a tracer that went: no thread traced or stopped,
    /// and all of them at work.
    #[track_caller]
    pub(crate) fn is_as_before(&self) {
        assert_eq!(self.held(), Vec::<String>::new());
        self.lives();
    }

    /// Clients that ask without a pause until the value goes.
    pub(crate) fn load(&self, requests: &'static [&'static str], answers: &'static [&'static str]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = self.container.shared("socket");
        let (stopping, socket) = (Arc::clone(&stop), socket);
        let client = std::thread::spawn(move || {
            let mut asked = 0;
            for request in requests.iter().cycle() {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let answer = ask(&socket, request).map_err(|error| format!("{request}: {error}"))?;
                // A call that was being denied when the host died did not run; the
                // plugin's errno may be missing.
                let cut_short = answer == "EBADF" && request.ends_with("/vault/secret");
                if !answers.contains(&answer.as_str()) && !cut_short {
                    return Err(format!("{request}: {answer}"));
                }
                asked += 1;
            }
            Ok(asked)
        });
        Load { stop, client: Some(client) }
    }
}

impl Drop for Application {
    /// Tells a failed test's reader how the processes ended that nobody has
    /// waited for yet.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let first = self.container.pid.to_string();
        for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
            // `PID (NAME) STATE PARENT …`, and a wait status at the end.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((process, rest)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<&str> = rest.split_whitespace().collect();
            if process.starts_with(&format!("{first} (")) || fields.get(1) == Some(&first.as_str()) {
                eprintln!("{process}): state {}, wait status {}", fields[0], fields.last().unwrap_or(&""));
            }
        }
    }
}

/// A client at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    client: Option<JoinHandle<Result<u64, String>>>,
}

impl Load {
    /// No request failed; gives their number.
    #[track_caller]
    pub(crate) fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.client.take().unwrap().join().unwrap();
        asked.unwrap_or_else(|failure| panic!("a request failed: {failure}"))
    }

    #[track_caller]
    pub(crate) fn still_works(&self) {
        let ended = self.client.as_ref().is_some_and(JoinHandle::is_finished);
        assert!(!ended, "a request failed");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(failure))) = self.client.take().map(JoinHandle::join) {
            eprintln!("a request failed: {failure}");
        }
    }
}

fn ask(socket: &Path, request: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{request}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}
