//! The workset: records between key and batch, which goes from one chunk of a run to the next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    assets::Change,
    batch::Batch,
    original::Original,
    raised::Raised,
    receipt::{BatchReceipt, Receipt},
    row::Draft,
};
use crate::core::{
    json::{chunk::Chunk, pool::BufferPool},
    position::{dedupe::SeenIds, record_key::RecordMeta, snapshot::SnapshotTracker},
};

/// A record that was not handled before.
#[derive(Debug)]
pub struct NewRecord {
    /// The chunk that it is in, and its place there.
    pub(super) chunk: Arc<Chunk>,
    pub(super) at: usize,
    /// What identifies it.
    pub facts: RecordMeta,
    pub(super) receipt: Receipt,
}

/// Something in the place of a record.
#[derive(Debug)]
pub struct Rejected {
    /// It, or the beginning of what was too long.
    pub text: Vec<u8>,
    /// Why it is no record.
    pub reason: String,
    /// What is remembered of it.
    pub receipt: Receipt,
}

/// Counts of records that became no rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// They were handled before.
    pub duplicate: u64,
    /// Settings leave them out.
    pub filtered: u64,
    /// They are as the last pass has seen them.
    pub unchanged: u64,
    /// Incidents that go on since nobody can tell whose they are: these are rows.
    pub untold: u64,
}

/// What rows are made on.
#[derive(Debug)]
pub struct Workset {
    /// Fingerprints of what was handled.
    pub seen: SeenIds,
    /// The open batch.
    pub batch: Batch,
    /// What is remembered of its rows.
    open: BatchReceipt,
    /// Batches that are full.
    pub full: VecDeque<(Batch, BatchReceipt)>,
    /// Records whose rows do not hold all of them. They are kept before their rows are pushed.
    pub originals: Vec<Original>,
    /// What stood in the place of records.
    pub bad: Vec<Rejected>,
    /// What is known of machines by records whose rows are safe for long: between two passes the
    /// source has just seen them.
    pub met: Vec<Change>,
    /// Records that became no rows.
    pub counts: Counted,
    /// What the last pass has seen, for streams that are read as a whole.
    pub known: SnapshotTracker,
    /// Of what something was sent, for settings that ask.
    pub sent: SeenIds,
    /// Of what something is sent for the first time.
    pub first: BTreeMap<i64, Vec<u64>>,
    /// Whose incidents are, where they come without their alerts.
    pub raised: Option<Raised>,
    /// New records that something has to be looked up about first, in their order.
    pub fresh: Vec<NewRecord>,
    spares: BufferPool,
    /// The row that is being written.
    pub(super) row: Draft,
}

impl Workset {
    /// An empty one, for rows of `table`.
    pub fn new(table: &str) -> Self {
        Self {
            seen: SeenIds::default(),
            batch: Batch::new(table),
            open: BatchReceipt::default(),
            full: VecDeque::new(),
            originals: Vec::new(),
            bad: Vec::new(),
            met: Vec::new(),
            counts: Counted::default(),
            known: SnapshotTracker::default(),
            sent: SeenIds::default(),
            first: BTreeMap::new(),
            raised: None,
            fresh: Vec::new(),
            spares: BufferPool::default(),
            row: Draft::default(),
        }
    }

    /// The open batch, which is then a new one.
    pub fn take_batch(&mut self) -> (Batch, BatchReceipt) {
        let next = Batch::new(self.batch.table());
        let batch = std::mem::replace(&mut self.batch, next);
        (batch, std::mem::take(&mut self.open))
    }

    /// Takes in a bucket: what the store has of it, and what is not there yet since its rows have not
    /// landed.
    pub fn load<'r>(
        &'r mut self,
        bucket: i64,
        mut stored: Vec<u64>,
        under_way: impl Iterator<Item = &'r Receipt>,
    ) {
        let open = under_way.chain(&self.open.receipts);
        stored.extend(open.filter_map(|receipt| match receipt {
            Receipt::Fingerprint { bucket: of, hash } if *of == bucket => Some(*hash),
            _ => None,
        }));
        self.seen.load(bucket, stored);
    }

    /// Puts the row that was written into the open batch.
    pub(super) fn add(&mut self, receipt: Receipt, change: Option<Change>) {
        self.make_room(self.row.json.len());
        self.batch.add(self.row.json.as_bytes());
        self.open.add(receipt, change);
    }

    /// Puts a row into the open batch.
    pub fn add_row(&mut self, row: &[u8], receipt: Receipt, change: Option<Change>) {
        self.make_room(row.len());
        self.batch.add(row);
        self.open.add(receipt, change);
    }

    /// Sees that a row of so many bytes fits the open batch.
    fn make_room(&mut self, bytes: usize) {
        if !self.batch.has_room_for(bytes) {
            let full = self.take_batch();
            self.full.push_back(full);
        }
        if self.batch.is_empty() {
            self.batch.reserve(&self.spares);
        }
    }
}
