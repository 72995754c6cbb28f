//! Rows → batches, incrementally and by exact bytes.

use std::{ops::Range, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::value::RawValue;

use crate::core::json::pool::{BufferPool, PooledBuf};

/// The most bytes of JSON in a batch, brackets and commas included.
///
/// A call takes at most 1 MiB "compressed and uncompressed", and clients disagree on which of the
/// two counts; a raw megabyte passes both
/// (`learn.microsoft.com/azure/azure-monitor/service-limits#logs-ingestion-api`).
pub const MAX_BATCH_BYTES: usize = 1_000_000;

/// The most bytes of one row: what fits a batch alone.
pub const MAX_ROW_BYTES: usize = MAX_BATCH_BYTES - 2;

/// What every row starts with, up to the time that is stamped when it is pushed.
pub const ROW_HEAD: &str = r#"{"TimeGenerated":""#;

/// What every row ends with: the batch id that is stamped when it is pushed.
pub const ROW_TAIL: &str = r#""batchId":"0000000000000000"}"#;

/// The time of a row that no push has stamped yet.
pub const UNSTAMPED: &str = "0001-01-01T00:00:00.000Z";

/// The length of a stamped time: `2026-11-21T07:36:00.000Z`.
pub const TIME_BYTES: usize = 24;

/// The length of a batch id.
pub const BATCH_ID_BYTES: usize = 16;

/// How a time stands in a row's `TimeGenerated`.
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A JSON array of rows for one table, at most [`MAX_BATCH_BYTES`] long.
///
/// Each row starts with [`ROW_HEAD`] and ends with [`ROW_TAIL`], both of fixed width, so that the
/// time and the id of a push are written in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    table: String,
    json: Arc<PooledBuf>,
    rows: Vec<Range<u32>>,
    id: String,
}

impl Batch {
    /// An empty batch for `table`.
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            json: Arc::new(vec![b'['].into()),
            rows: Vec::new(),
            id: String::new(),
        }
    }

    /// The batch whose [`json`](Self::json) this is; `None` when it is none, or too long.
    pub fn from_json(table: &str, json: &[u8]) -> Option<Self> {
        let rows: Vec<&RawValue> = serde_json::from_slice(json).ok()?;
        let mut batch = Self::new(table);
        for row in rows {
            let row = row.get().as_bytes();
            if !is_row(row) || !batch.has_room_for(row.len()) {
                return None;
            }
            batch.add(row);
        }
        Some(batch)
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The id of the last [`stamp`](Self::stamp).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many bytes [`json`](Self::json) has.
    pub fn bytes(&self) -> usize {
        if self.rows.is_empty() {
            2
        } else {
            self.json.bytes.len()
        }
    }

    /// The JSON array.
    pub fn json(&self) -> &[u8] {
        if self.rows.is_empty() {
            b"[]"
        } else {
            &self.json.bytes
        }
    }

    /// JSON of a batch that has rows, to hand to another thread: nothing is copied.
    pub fn shared_json(&self) -> Arc<PooledBuf> {
        Arc::clone(&self.json)
    }

    /// Lets go of the JSON, which somebody holds in a smaller form: until it is
    /// [given back](Self::give_back), only the count of rows is known.
    pub fn let_go(&mut self) {
        self.json = Arc::default();
    }

    /// The very JSON that was [let go](Self::let_go) of.
    pub fn give_back(&mut self, json: Vec<u8>) {
        self.json = Arc::new(json.into());
    }

    /// The rows, each a JSON object.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.rows
            .iter()
            .map(|row| &self.json.bytes[row.start as usize..row.end as usize])
    }

    /// True when a row of `bytes` still fits.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        // The closing bracket of now becomes the comma before the row.
        self.json.bytes.len() + bytes < MAX_BATCH_BYTES
    }

    /// Makes room at once for all that an empty batch can hold, of what is spare if there is any: a
    /// batch that grows is moved from place to place. What is never written to takes no memory.
    pub fn reserve(&mut self, spares: &BufferPool) {
        let mut json = spares.buffer(MAX_BATCH_BYTES);
        json.bytes.extend_from_slice(&self.json.bytes);
        self.json = Arc::new(json);
    }

    /// Adds a row, which must fit ([`has_room_for`](Self::has_room_for)).
    pub fn add(&mut self, row: &[u8]) {
        debug_assert!(
            is_row(row),
            "a row has its time and its batch id in their places"
        );
        let json = &mut Arc::make_mut(&mut self.json).bytes;
        if let Some(last) = json.last_mut().filter(|last| **last == b']') {
            *last = b',';
        }
        let start = json.len();
        json.extend_from_slice(row);
        self.rows.push(position(start)..position(json.len()));
        json.push(b']');
    }

    /// Writes the time and the id of a push into every row. The id is cut or filled to
    /// [`BATCH_ID_BYTES`].
    pub fn stamp(&mut self, time: DateTime<Utc>, id: &str) {
        self.id = format!("{id:0<BATCH_ID_BYTES$.BATCH_ID_BYTES$}");
        let time = time_text(time);
        let json = &mut Arc::make_mut(&mut self.json).bytes;
        for row in &self.rows {
            let at = row.start as usize + ROW_HEAD.len();
            json[at..at + TIME_BYTES].copy_from_slice(time.as_bytes());
        }
        self.stamp_id();
    }

    /// Writes only the id, for rows that keep a `TimeGenerated` of their own.
    pub fn stamp_with_own_times(&mut self, id: &str) {
        self.id = format!("{id:0<BATCH_ID_BYTES$.BATCH_ID_BYTES$}");
        self.stamp_id();
    }

    fn stamp_id(&mut self) {
        let json = &mut Arc::make_mut(&mut self.json).bytes;
        for row in &self.rows {
            let end = row.end as usize - 2;
            json[end - BATCH_ID_BYTES..end].copy_from_slice(self.id.as_bytes());
        }
    }

    /// The batch without its first `count` rows.
    #[must_use]
    pub fn without_first(&self, count: usize) -> Self {
        let mut rest = Self::new(&self.table);
        self.rows().skip(count).for_each(|row| rest.add(row));
        rest
    }

    /// The batch in two halves, or `None` when it has fewer than two rows.
    pub fn halves(&self) -> Option<(Self, Self)> {
        if self.rows.len() < 2 {
            return None;
        }
        let middle = self.rows.len() / 2;
        let mut first = Self::new(&self.table);
        self.rows().take(middle).for_each(|row| first.add(row));
        Some((first, self.without_first(middle)))
    }
}

/// True when the time and the batch id of `row` stand where a push writes them.
fn is_row(row: &[u8]) -> bool {
    let tail = row
        .len()
        .checked_sub(ROW_TAIL.len())
        .and_then(|at| row.get(at..));
    let label = ROW_TAIL.len() - BATCH_ID_BYTES - 2;
    let ends = tail.is_some_and(|tail| {
        tail.get(..label) == ROW_TAIL.as_bytes().get(..label) && tail.ends_with(b"\"}")
    });
    ends && row.starts_with(ROW_HEAD.as_bytes())
        && row.get(ROW_HEAD.len() + TIME_BYTES) == Some(&b'"')
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::mapping::columns::DETECTIONS;

    fn row(text: &str) -> Vec<u8> {
        let time = "2026-01-01T00:00:00.000Z";
        let mut row = [ROW_HEAD, time, r#"","note":""#].concat().into_bytes();
        row.extend_from_slice(text.as_bytes());
        row.extend_from_slice(br#"","#);
        row.extend_from_slice(ROW_TAIL.as_bytes());
        row
    }

    #[test]
    fn a_stamp_is_written_into_every_row() {
        let mut batch = Batch::new(DETECTIONS.name);
        batch.add(&row("a"));
        batch.add(&row("b"));
        batch.stamp("2026-02-03T04:05:06.789Z".parse().unwrap(), "abc");
        insta::assert_snapshot!(String::from_utf8_lossy(batch.json()), @r#"[{"TimeGenerated":"2026-02-03T04:05:06.789Z","note":"a","batchId":"abc0000000000000"},{"TimeGenerated":"2026-02-03T04:05:06.789Z","note":"b","batchId":"abc0000000000000"}]"#);
    }

    #[test]
    fn the_limit_is_exact() {
        let mut batch = Batch::new(DETECTIONS.name);
        let frame = row("").len();
        let fits = row(&"x".repeat(MAX_ROW_BYTES - frame));
        assert!(batch.has_room_for(fits.len()));
        assert!(!batch.has_room_for(fits.len() + 1));
        batch.add(&fits);
        assert_eq!(batch.bytes(), MAX_BATCH_BYTES);
        assert_eq!(batch.json().len(), MAX_BATCH_BYTES);
    }

    #[test]
    fn a_batch_is_read_back_from_its_json() {
        let mut batch = Batch::new(DETECTIONS.name);
        batch.add(&row("a"));
        batch.add(&row("b"));
        let mut again = Batch::from_json(DETECTIONS.name, batch.json()).unwrap();
        assert_eq!(again, batch);
        again.stamp(
            "2026-02-03T04:05:06.789Z".parse().unwrap(),
            "0123456789abcdef",
        );
        let (first, second) = again.halves().unwrap();
        assert_eq!((first.len(), second.len()), (1, 1));
        assert!(Batch::from_json(DETECTIONS.name, again.json()).is_some());
        for other in ["", "{}", "[1]", r#"[{"note":"a"}]"#] {
            assert_eq!(
                Batch::from_json(DETECTIONS.name, other.as_bytes()),
                None,
                "{other}"
            );
        }
    }

    proptest! {
        #[test]
        fn batches_keep_order_and_rows_and_stay_within_the_limit(
            sizes in prop::collection::vec(0usize..300_000, 0..20),
        ) {
            let rows: Vec<_> = sizes.iter().map(|size| row(&"y".repeat(*size))).collect();
            let mut batches = vec![Batch::new(DETECTIONS.name)];
            for row in &rows {
                if !batches.last().unwrap().has_room_for(row.len()) {
                    batches.push(Batch::new(DETECTIONS.name));
                }
                batches.last_mut().unwrap().add(row);
            }
            for batch in &batches {
                prop_assert!(batch.json().len() <= MAX_BATCH_BYTES);
                prop_assert_eq!(batch.json().len(), batch.bytes());
                // The very bytes of an array of the rows, which are JSON themselves.
                let rows = batch.rows().collect::<Vec<_>>().join(&b","[..]);
                prop_assert!(batch.json() == [&b"["[..], &rows, b"]"].concat());
            }
            let got: Vec<_> = batches.iter().flat_map(Batch::rows).collect();
            prop_assert!(got == rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }

        #[test]
        fn halves_hold_the_same_rows(count in 0usize..20) {
            let mut batch = Batch::new(DETECTIONS.name);
            for at in 0..count {
                batch.add(&row(&at.to_string()));
            }
            match batch.halves() {
                None => prop_assert!(count < 2),
                Some((first, second)) => {
                    prop_assert!(!first.is_empty() && !second.is_empty());
                    let got: Vec<_> = first.rows().chain(second.rows()).collect();
                    prop_assert_eq!(got, batch.rows().collect::<Vec<_>>());
                }
            }
        }
    }
}
