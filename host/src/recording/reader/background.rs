//! Reading on a thread of its own, in batches.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{Progress, Reader, Record, State};
use crate::recording::{Header, TraceError};

type Batch = Vec<Result<Record, TraceError>>;

/// Records that travel together at most.
const BATCH_RECORDS: usize = 512;
/// A batch is also closed when its lines come to this.
const BATCH_BYTES: u64 = 1 << 20;
/// Batches that may wait for the caller.
const BATCHES_AHEAD: usize = 4;

/// A trace that is read on another thread: an iterator of its records.
/// Dropping it ends that thread.
#[derive(Debug)]
pub struct Background {
    batches: Receiver<Batch>,
    batch: std::vec::IntoIter<Result<Record, TraceError>>,
    progress: Arc<Progress>,
    header: Header,
}

impl Background {
    /// How far the reader has come; it is ahead of this iterator.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

impl Iterator for Background {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.batch.next() {
                return Some(record);
            }
            self.batch = self.batches.recv().ok()?.into_iter();
        }
    }
}

impl Reader {
    /// Reads on a thread of its own, some batches ahead.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn in_background(self) -> std::io::Result<Background> {
        let (sender, batches) = sync_channel(BATCHES_AHEAD);
        let progress = self.progress();
        let header = self.header.clone();
        std::thread::Builder::new().name("trace-reader".into()).spawn(move || self.send_batches(&sender))?;
        Ok(Background { batches, batch: Vec::new().into_iter(), progress, header })
    }

    fn send_batches(mut self, sender: &SyncSender<Batch>) {
        while self.state != State::Done {
            let mut batch = Vec::with_capacity(BATCH_RECORDS);
            let mut bytes = 0;
            while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
                let before = self.lines.given();
                let Some(record) = self.next() else { break };
                bytes += self.lines.given() - before;
                batch.push(record);
            }
            // Nobody listens any more: the caller has seen enough.
            if sender.send(batch).is_err() {
                return;
            }
        }
    }
}
