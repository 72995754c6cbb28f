//! Bounds on memory, which all streams of a process share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

/// Streams that read more than a first page at the same time.
pub const LARGE_AT_ONCE: usize = 4;

/// Batches that are whole and not compressed yet: rows are made faster than they are compressed.
const ROOMS: usize = 2;

/// Bytes of rows in open batches; above it they are sent before they are full.
const OPEN_BYTES: usize = 8 << 20;

/// Bytes from which a batch is worth a call of its own.
const WORTH_SENDING: usize = 128 << 10;

/// What bounds the memory of a process, however many streams are under way.
#[derive(Debug)]
pub struct Bounds {
    /// Permits of those who read more than a page: [`LARGE_AT_ONCE`].
    pub large: Arc<Semaphore>,
    /// For batches that are not compressed yet.
    pub(super) rooms: Arc<Semaphore>,
    /// Bytes of rows in open batches.
    open: Arc<AtomicUsize>,
    /// How many there may be.
    most: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self::of_open(OPEN_BYTES)
    }
}

impl Bounds {
    /// Bounds with so many bytes of rows in open batches.
    pub fn of_open(most: usize) -> Self {
        Self {
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            rooms: Arc::new(Semaphore::new(ROOMS)),
            open: Arc::default(),
            most,
        }
    }

    /// The share of a stream that begins.
    pub(super) fn share(&self) -> OpenShare {
        OpenShare {
            all: Arc::clone(&self.open),
            most: self.most,
            own: 0,
        }
    }
}

/// Bytes of one stream's open batch among those of all; given back when it is dropped.
pub(super) struct OpenShare {
    all: Arc<AtomicUsize>,
    most: usize,
    own: usize,
}

impl OpenShare {
    /// Says how many bytes there are now. True when all hold too many, and these are enough to be
    /// sent.
    pub(super) fn holds(&mut self, bytes: usize) -> bool {
        self.all.fetch_add(bytes, Ordering::Relaxed);
        let before = self.all.fetch_sub(self.own, Ordering::Relaxed);
        let all = before - self.own;
        self.own = bytes;
        all > self.most && bytes >= WORTH_SENDING
    }
}

impl Drop for OpenShare {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_sent_early_while_all_of_them_hold_too_much() {
        let bounds = Bounds::of_open(3 * WORTH_SENDING);
        let [mut one, mut two] = [bounds.share(), bounds.share()];
        assert!(!one.holds(2 * WORTH_SENDING));
        assert!(!two.holds(WORTH_SENDING));
        assert!(two.holds(WORTH_SENDING + 1), "together it is too much");
        assert!(one.holds(2 * WORTH_SENDING), "whoever it is");
        assert!(!one.holds(0), "it was sent");
        assert!(!two.holds(3 * WORTH_SENDING));
        assert!(!one.holds(WORTH_SENDING - 1), "too little for a call");
        drop(two);
        assert!(!one.holds(3 * WORTH_SENDING));
        drop(one);
        assert_eq!(bounds.open.load(Ordering::Relaxed), 0);
    }
}
