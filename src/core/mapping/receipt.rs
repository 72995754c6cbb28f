//! Receipts: what is remembered of a row once it is safe, and what it tells of machines.

use super::assets::Change;

/// What is remembered of a record once its row, or its dead letter, is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Nothing: each time it comes it is wanted.
    None,
    /// It was handled.
    Fingerprint {
        /// The bucket of its time.
        bucket: i64,
        /// Eight bytes that stand for it.
        hash: u64,
    },
    /// The pass has seen it as it is now: the hash of its id.
    Snapshot(u64),
}

/// The receipts of a batch's rows.
#[derive(Debug, Default)]
pub struct BatchReceipt {
    /// One for each row.
    pub receipts: Vec<Receipt>,
    /// What rows mean for what is known of machines, each with the place of its row.
    changes: Vec<(usize, Change)>,
}

impl BatchReceipt {
    /// The batch has another row.
    pub fn add(&mut self, receipt: Receipt, change: Option<Change>) {
        if let Some(change) = change {
            self.changes.push((self.receipts.len(), change));
        }
        self.receipts.push(receipt);
    }

    /// The changes of so many rows, from the beginning.
    pub fn changes_of(&mut self, rows: usize) -> Vec<Change> {
        let safe = std::mem::take(&mut self.changes).into_iter();
        safe.take_while(|(row, _)| *row < rows)
            .map(|(_, change)| change)
            .collect()
    }
}
