//! A queue between two threads that holds so many items at most, and memory
//! for those alone that wait in it.
//!
//! It never makes a sender wait: what finds no room comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvError, TryRecvError, TrySendError};

/// The end where items go in.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    items: mpsc::Sender<T>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

/// The end where they come out, in the same order.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    items: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
}

/// A queue of `most` items.
pub(crate) fn queue<T>(most: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Sender { items: sender, waiting: waiting.clone(), most }, Receiver { items: receiver, waiting })
}

impl<T> Sender<T> {
    /// Puts an item in, if there is room and somebody to take it.
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        // There is one sender: nobody else can take the room that it has seen.
        if self.waiting.load(Ordering::Relaxed) >= self.most {
            return Err(TrySendError::Full(item));
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.items.send(item).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            TrySendError::Disconnected(error.0)
        })
    }
}

impl<T> Receiver<T> {
    /// The next item; waits for it. An error when there will be none.
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        self.items.recv().inspect(|_| self.took())
    }

    /// The next item, if there is one now.
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.items.try_recv().inspect(|_| self.took())
    }

    fn took(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_so_many_and_then_again() {
        let (sender, receiver) = queue(2);
        for round in 0..3 {
            assert_eq!(sender.try_send(round), Ok(()));
            assert_eq!(sender.try_send(round + 10), Ok(()));
            assert_eq!(sender.try_send(99), Err(TrySendError::Full(99)));
            assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(round), Ok(round + 10)));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        }
        drop(receiver);
        assert_eq!(sender.try_send(7), Err(TrySendError::Disconnected(7)));
    }

    #[test]
    fn what_waits_comes_out_when_nobody_sends_any_more() {
        let (sender, receiver) = queue(8);
        assert_eq!(sender.try_send(1), Ok(()));
        drop(sender);
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Err(RecvError)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    }
}
