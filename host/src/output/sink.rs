//! Alert lines on their way out: whole lines, in order, by a thread of their
//! own, so that a reader who does not read holds up nobody.
//!
//! What is too much is dropped and counted; the count is told in a line of its own as soon as there is room.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::alert;
use crate::bounded::{self, Sender};
use crate::event::{Alert, Severity};

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// With the program's own standard error.
    Stderr,
    /// With the program's own output.
    Stdout,
    /// At the end of a file.
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "stderr" => Self::Stderr,
            "stdout" => Self::Stdout,
            path => Self::File(path.into()),
        })
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Lines that wait.
const QUEUE: usize = 16 * 1024;
/// How long the end of the run waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the next look for room.
const ROOM: Duration = Duration::from_millis(2);

/// The way out for alert lines. Clones share it.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
    dropped: u64,
}

impl Sink {
    /// Opens the destination and starts the writer.
    pub fn open(destination: &Destination) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match destination {
            Destination::Stderr => Box::new(io::stderr()),
            Destination::Stdout => Box::new(Unbuffered),
            Destination::File(path) => {
                // Without waiting for the reader of a named pipe: if there is
                // none, that is an error (ENXIO).
                let mut options = File::options();
                let file = options.create(true).append(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?;
                fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
                Box::new(file)
            }
        };
        Self::to(out)
    }

    fn to(mut out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (queue, lines) = bounded::queue::<String>(QUEUE);
        let thread = thread::Builder::new().name("alerts".into()).spawn(move || {
            let mut failing = false;
            while let Ok(mut line) = lines.recv() {
                line.push('\n');
                match write_line(&mut *out, line.as_bytes()) {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::error!(%error, "alerts cannot be written");
                    }
                    Err(_) => {}
                }
            }
        })?;
        let inner = Inner { queue: Some(queue), thread: Some(thread), dropped: 0 };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Sends a line.
    pub(super) fn emit(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(line);
    }

    /// A line was too much and is not sent.
    pub(super) fn dropped(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dropped += 1;
    }

    /// Sends a line of the host's own.
    pub(super) fn emit_own(&self, alert: &Alert) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(alert::own_line(alert));
    }

    /// Waits until everything is written, but not for ever.
    pub(super) fn finish(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tell_dropped();
        inner.queue = None;
        if let Some(thread) = inner.thread.take() {
            let since = Instant::now();
            while !thread.is_finished() && since.elapsed() < PATIENCE {
                thread::sleep(Duration::from_micros(200));
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::error!("the reader of the alerts does not read; the last ones are lost");
            }
        }
        if inner.dropped > 0 {
            tracing::error!(count = inner.dropped, "alerts were dropped");
        }
    }
}

/// Writes a line; in one go, if there is room, so that it is whole beside
/// other writers. What we write to can be a program's, too, and be made not to
/// wait (`O_NONBLOCK`): then we wait.
fn write_line(out: &mut dyn Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(ROOM),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Inner {
    fn send(&mut self, line: String) {
        self.tell_dropped();
        match &self.queue {
            Some(queue) if queue.try_send(line).is_ok() => {}
            _ => self.dropped += 1,
        }
    }

    fn tell_dropped(&mut self) {
        if self.dropped == 0 {
            return;
        }
        let alert = Alert {
            rule: "alerts-dropped".into(),
            severity: Severity::Medium,
            message: format!(
                "{} alerts were dropped: more than their plugins' rates, or than a reader can take",
                self.dropped
            ),
            fields: Vec::new(),
        };
        if self.queue.as_ref().is_some_and(|queue| queue.try_send(alert::own_line(&alert)).is_ok()) {
            self.dropped = 0;
        }
    }
}

/// Standard output without the line buffer that would cut a long line.
struct Unbuffered;

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        nix::unistd::write(io::stdout(), bytes).map_err(io::Error::from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(message: &str) -> Alert {
        Alert { rule: "r".into(), severity: Severity::Low, message: message.into(), fields: Vec::new() }
    }

    /// Has room now and then, for little.
    struct Narrow(Vec<u8>, bool);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.extend(&bytes[..bytes.len().min(3)]);
            Ok(bytes.len().min(3))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_slow_loses_nothing() -> io::Result<()> {
        let mut narrow = Narrow(Vec::new(), false);
        write_line(&mut narrow, b"a line\n")?;
        write_line(&mut narrow, b"another\n")?;
        assert_eq!(narrow.0, b"a line\nanother\n");
        Ok(())
    }

    #[test]
    fn what_was_dropped_is_told() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let sink = Sink::open(&Destination::File(file.path().into()))?;
        sink.emit("{}".into());
        (0..7).for_each(|_| sink.dropped());
        sink.emit("{}".into());
        sink.finish();
        let lines = std::fs::read_to_string(file.path())?;
        let lines: Vec<_> = lines.lines().collect();
        assert!(lines.len() == 3 && lines[1].contains("7 alerts were dropped"), "{lines:?}");
        Ok(())
    }

    #[test]
    fn lines_are_json_and_in_order() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let sink = Sink::open(&Destination::File(file.path().into()))?;
        for index in 0..100 {
            sink.emit_own(&alert(&format!("{index}\n")));
        }
        sink.finish();
        let text = std::fs::read_to_string(file.path())?;
        for (index, line) in text.lines().enumerate() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            assert_eq!(line["message"], format!("{index}\n"));
        }
        Ok(())
    }
}
