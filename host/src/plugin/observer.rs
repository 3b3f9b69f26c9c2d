//! The observe lane: plugins on a thread of their own, fed by a bounded queue.
//!
//! A tracee never waits for it. What does not fit into the queue is dropped,
//! counted and told.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::dispatch::ask_all;
use super::{Plugin, Subscription};
use crate::bounded::{self, Receiver, Sender};
use crate::event::Event;
use crate::output::Output;
use crate::sight::Sight;

/// Events that wait.
const QUEUE: usize = 8192;

/// From one batch to the next while events come. To wake the thread for each
/// would cost the tracer, and on one processor the tracee too, more than the
/// judging (measured). An event after a quiet time is taken at once.
const PAUSE: Duration = Duration::from_millis(5);

/// What the thread is given.
#[derive(Debug)]
enum Item {
    Event(Arc<Event>),
    /// These take over.
    Plugins(Vec<Plugin>),
}

#[derive(Debug)]
pub(super) struct Observer {
    subscriptions: Vec<Subscription>,
    queue: Sender<Item>,
    /// Plugins that could not be queued yet, because the queue is full.
    next: Option<Vec<Plugin>>,
    thread: JoinHandle<()>,
    /// Since the queue was last seen with room; and in all.
    dropped: u64,
    dropped_in_all: u64,
    output: Output,
    sight: Sight,
}

impl Observer {
    pub(super) fn start(mut plugins: Vec<Plugin>, output: Output, sight: Sight) -> io::Result<Self> {
        let subscriptions = subscriptions(&plugins);
        let (queue, items) = bounded::queue::<Item>(QUEUE);
        let of_thread = output.clone();
        let thread = thread::Builder::new().name("observer".into()).spawn(move || {
            in_batches(&items, |item| match item {
                Item::Event(event) => drop(ask_all(&mut plugins, &event, &of_thread)),
                Item::Plugins(mut heirs) => {
                    super::hand_over(std::mem::take(&mut plugins), &mut heirs);
                    plugins = heirs;
                }
            });
        })?;
        Ok(Self { subscriptions, queue, next: None, thread, dropped: 0, dropped_in_all: 0, output, sight })
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter()
    }

    /// These plugins get every event that comes from now on, and those before
    /// get what was queued.
    pub(super) fn replace(&mut self, plugins: Vec<Plugin>) {
        self.subscriptions = subscriptions(&plugins);
        self.next = Some(plugins);
        self.hand_over();
    }

    /// Queues plugins that wait. Whether none waits any more.
    fn hand_over(&mut self) -> bool {
        let Some(plugins) = self.next.take() else { return true };
        // If the thread has ended, that is told at the end.
        if let Err(TrySendError::Full(Item::Plugins(plugins))) = self.queue.try_send(Item::Plugins(plugins)) {
            self.next = Some(plugins);
        }
        self.next.is_none()
    }

    /// Queues a captured event if a plugin wants it.
    pub(super) fn take(&mut self, event: Arc<Event>) {
        if !self.subscriptions.iter().any(|subscription| subscription.wants(&event)) {
            return;
        }
        if !self.hand_over() {
            return self.drop_one();
        }
        match self.queue.try_send(Item::Event(event)) {
            Ok(()) if self.dropped > 0 => {
                self.output.tell_dropped(self.dropped);
                self.dropped_in_all += std::mem::take(&mut self.dropped);
            }
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.drop_one(),
        }
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        self.sight.dropped(1);
    }

    /// Waits for what is queued; how many events were dropped in all.
    pub(super) fn finish(self) -> u64 {
        drop(self.queue);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the observe lane ended early; what was queued is lost");
        }
        if self.dropped > 0 {
            self.output.tell_dropped(self.dropped);
        }
        self.dropped_in_all + self.dropped
    }
}

/// Takes all items in order until nobody can send more. Woken from its pause,
/// it looks at once.
fn in_batches<T>(items: &Receiver<T>, mut take: impl FnMut(T)) {
    while let Ok(first) = items.recv() {
        take(first);
        let mut paused = false;
        loop {
            paused = match items.try_recv() {
                Ok(item) => {
                    take(item);
                    false
                }
                Err(TryRecvError::Empty) if paused => break,
                Err(TryRecvError::Empty) => {
                    thread::park_timeout(PAUSE);
                    true
                }
                Err(TryRecvError::Disconnected) => return,
            };
        }
    }
}

fn subscriptions(plugins: &[Plugin]) -> Vec<Subscription> {
    plugins.iter().map(|plugin| plugin.subscription.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_taken_in_order_however_it_comes() {
        let (sender, items) = bounded::queue(100);
        let taker = thread::spawn(move || {
            let mut taken = Vec::new();
            in_batches(&items, |item| taken.push(item));
            taken
        });
        for item in 0..100 {
            sender.try_send(item).expect("somebody takes it");
            if item % 30 == 0 {
                thread::sleep(2 * PAUSE);
            }
        }
        drop(sender);
        assert_eq!(taker.join().expect("it ends"), (0..100).collect::<Vec<_>>());
    }
}
