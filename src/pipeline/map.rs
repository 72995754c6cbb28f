//! A chunk's records: which they are, and their rows. Pure, and run off the async threads.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use crate::{
    core::{
        batch::Batch,
        cursor::StreamKey,
        dedupe::{Seen, UNDATED, bucket_of, fingerprint},
        endpoint::Endpoint,
        page::Chunk,
        record::{Facts, Members, canonical_hash},
        row::{Looked, RowSource},
    },
    source::LookedUp,
    storage::Original,
};

/// A record's bucket and fingerprint.
pub(super) type Mark = (i64, u64);

/// A record of a chunk.
pub(super) struct Found {
    /// Its place in the chunk.
    pub(super) at: usize,
    pub(super) facts: Facts,
    mark: Mark,
}

/// Something in the place of a record.
pub(super) struct Bad {
    pub(super) text: Vec<u8>,
    pub(super) reason: String,
    pub(super) mark: Mark,
}

/// What rows are made on: it goes from one piece of work to the next.
pub(super) struct Desk {
    pub(super) seen: Seen,
    /// The open batch, and one mark for each of its rows.
    pub(super) batch: Batch,
    pub(super) marks: Vec<Mark>,
    /// What the next batch is made of.
    spare: Option<Batch>,
    /// Batches that are full.
    pub(super) full: VecDeque<(Batch, Vec<Mark>)>,
    /// Records whose rows do not hold all of them. They are kept before their rows are pushed.
    pub(super) originals: Vec<Original>,
    pub(super) bad: Vec<Bad>,
    pub(super) duplicates: u64,
    /// New records that something has to be looked up about first.
    pub(super) fresh: Vec<Found>,
    /// The row that is being written.
    row: Vec<u8>,
}

impl Desk {
    pub(super) fn new(table: &str) -> Self {
        Self {
            seen: Seen::default(),
            batch: Batch::new(table),
            marks: Vec::new(),
            spare: None,
            full: VecDeque::new(),
            originals: Vec::new(),
            bad: Vec::new(),
            duplicates: 0,
            fresh: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Lays ready what the next work will fill. Where threads have heaps of their own, as they often
    /// do, memory that each of them takes in turn is held by all of them: so the large pieces come
    /// from the one that calls this.
    pub(super) fn prepare(&mut self) {
        if self.batch.is_empty() {
            self.batch.reserve();
        }
        let table = self.batch.table();
        self.spare.get_or_insert_with(|| {
            let mut spare = Batch::new(table);
            spare.reserve();
            spare
        });
    }

    /// The open batch, which is then a new one.
    pub(super) fn take_batch(&mut self) -> (Batch, Vec<Mark>) {
        let spare = self.spare.take();
        let next = spare.unwrap_or_else(|| Batch::new(self.batch.table()));
        let batch = std::mem::replace(&mut self.batch, next);
        (batch, std::mem::take(&mut self.marks))
    }

    /// Takes in a bucket: what the store has of it, and what is not there yet since its rows have not
    /// landed.
    pub(super) fn load<'m>(
        &'m mut self,
        bucket: i64,
        mut stored: Vec<u64>,
        under_way: impl Iterator<Item = &'m Mark>,
    ) {
        let open = under_way.chain(&self.marks);
        stored.extend(open.filter(|mark| mark.0 == bucket).map(|mark| mark.1));
        self.seen.load(bucket, stored);
    }

    /// Puts the row that was written into the open batch.
    fn add(&mut self, mark: Mark) {
        if !self.batch.has_room_for(self.row.len()) {
            let full = self.take_batch();
            self.full.push_back(full);
        }
        self.batch.add(&self.row);
        self.marks.push(mark);
    }
}

/// How far [`Mapper::sift`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sifted {
    /// Every record is handled.
    All,
    /// The record at this place needs this bucket.
    Until(usize, i64),
}

/// Maps the records of one stream.
pub(super) struct Mapper {
    endpoint: &'static Endpoint,
    key: StreamKey,
    rows: RowSource,
    /// Rows have to wait for what is looked up.
    looks_up: bool,
}

impl Mapper {
    pub(super) fn new(
        endpoint: &'static Endpoint,
        key: &StreamKey,
        event_time: bool,
        looks_up: bool,
    ) -> Self {
        let rows = RowSource::new(endpoint, &key.connection, event_time);
        Self {
            endpoint,
            key: key.clone(),
            rows,
            looks_up,
        }
    }

    /// The records from the place `from` on: drops what was seen, sets apart what is none, and makes
    /// rows of the others, or notes them when something is looked up first.
    pub(super) fn sift(
        &self,
        chunk: &Chunk,
        from: usize,
        desk: &mut Desk,
        now: DateTime<Utc>,
    ) -> Sifted {
        for at in from..chunk.len() {
            let (text, members) = record(chunk, at);
            let (mark, found) = match members {
                Ok(members) => {
                    let facts = Facts::of(text, &members, &self.endpoint.identity);
                    let print = fingerprint(&facts, self.endpoint.sameness);
                    ((bucket_of(facts.time), print), Ok((members, facts)))
                }
                Err(reason) => ((UNDATED, canonical_hash(text)), Err(reason)),
            };
            if !desk.seen.has(mark.0) {
                return Sifted::Until(at, mark.0);
            }
            if !desk.seen.insert(mark.0, mark.1) {
                desk.duplicates += 1;
                continue;
            }
            match found {
                Ok((_, facts)) if self.looks_up => desk.fresh.push(Found { at, facts, mark }),
                Ok((members, facts)) => {
                    self.row(text, &members, &facts, Looked::default(), now, desk);
                    desk.add(mark);
                }
                Err(reason) => desk.bad.push(Bad {
                    text: text.to_vec(),
                    reason,
                    mark,
                }),
            }
        }
        Sifted::All
    }

    /// The rows of records that something was looked up about, one answer each.
    pub(super) fn map(
        &self,
        chunk: &Chunk,
        group: &[Found],
        looked: &[LookedUp],
        now: DateTime<Utc>,
        desk: &mut Desk,
    ) {
        for (place, Found { at, facts, mark }) in group.iter().enumerate() {
            let text = chunk.record(*at);
            let Ok(members) = Members::of(text) else {
                continue;
            };
            let looked = looked
                .get(place)
                .map_or_else(Looked::default, |looked| Looked {
                    details: looked.details.as_deref(),
                    device_name: looked.device_name.as_deref(),
                });
            self.row(text, &members, facts, looked, now, desk);
            desk.add(*mark);
        }
    }

    fn row(
        &self,
        text: &[u8],
        members: &Members<'_>,
        facts: &Facts,
        looked: Looked<'_>,
        now: DateTime<Utc>,
        desk: &mut Desk,
    ) {
        desk.row.clear();
        let shortened = self.rows.write(members, facts, looked, now, &mut desk.row);
        if shortened {
            desk.originals.push(Original {
                key: self.key.clone(),
                record_id: facts.id.clone(),
                record_version: facts.version.clone(),
                body: text.to_vec(),
            });
        }
    }
}

/// The text at a place, and its members or why it is no record. What was too long comes last.
fn record(chunk: &Chunk, at: usize) -> (&[u8], Result<Members<'_>, String>) {
    let place = at.checked_sub(chunk.records.len());
    if let Some(oversized) = place.and_then(|place| chunk.oversized.get(place)) {
        let reason = format!(
            "a record of {} bytes, cut to its beginning",
            oversized.bytes
        );
        return (&oversized.prefix, Err(reason));
    }
    let text = chunk.record(at);
    let members = Members::of(text).map_err(|error| format!("not a record: {error}"));
    (text, members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::batch::MAX_BATCH_BYTES, source::eset::DETECTIONS};

    fn mapper(looks_up: bool) -> Mapper {
        let key = StreamKey::new("default", DETECTIONS.stream);
        Mapper::new(&DETECTIONS, &key, false, looks_up)
    }

    fn desk() -> Desk {
        Desk::new(DETECTIONS.table.name)
    }

    fn detection(id: &str, day: u32, note: &str) -> String {
        format!(r#"{{"uuid":"{id}","occurTime":"2026-01-{day:02}T00:00:00Z","note":"{note}"}}"#)
    }

    fn chunk(records: &[String]) -> Chunk {
        let mut chunk = Chunk::default();
        for record in records {
            let start = u32::try_from(chunk.bytes.len()).unwrap();
            chunk.bytes.extend_from_slice(record.as_bytes());
            chunk
                .records
                .push(start..u32::try_from(chunk.bytes.len()).unwrap());
        }
        chunk
    }

    /// Handles all records, with nothing in the store.
    fn sift(mapper: &Mapper, chunk: &Chunk, desk: &mut Desk) {
        let now = "2026-01-31T00:00:00Z".parse().unwrap();
        let mut from = 0;
        while let Sifted::Until(at, bucket) = mapper.sift(chunk, from, desk, now) {
            desk.load(bucket, Vec::new(), [].iter());
            from = at;
        }
    }

    #[test]
    fn a_row_under_way_is_known_even_when_its_bucket_was_let_go() {
        let (mapper, mut desk) = (mapper(false), desk());
        sift(
            &mapper,
            &chunk(&[detection("a", 1, ""), detection("b", 9, "")]),
            &mut desk,
        );
        desk.seen.trim(0);
        assert_eq!(desk.batch.len(), 2);
        // In the open batch…
        sift(&mapper, &chunk(&[detection("a", 1, "")]), &mut desk);
        assert_eq!((desk.batch.len(), desk.duplicates), (2, 1));
        // …and in one that was sent and has not landed.
        let (_, sent) = desk.take_batch();
        desk.seen = Seen::default();
        desk.load(sent[0].0, Vec::new(), sent.iter());
        sift(&mapper, &chunk(&[detection("a", 1, "")]), &mut desk);
        assert_eq!((desk.batch.len(), desk.duplicates), (0, 2));
    }

    #[test]
    fn full_batches_keep_the_order_of_the_records_and_a_mark_for_each_row() {
        let (mapper, mut desk) = (mapper(false), desk());
        let note = "x".repeat(60_000);
        let records: Vec<String> = (0..40)
            .map(|at| detection(&at.to_string(), 1, &note))
            .collect();
        sift(&mapper, &chunk(&records), &mut desk);
        let open = desk.take_batch();
        let batches: Vec<(Batch, Vec<Mark>)> = desk.full.into_iter().chain([open]).collect();
        assert_eq!(batches.len(), 3);
        let mut ids = Vec::new();
        for (batch, marks) in &batches {
            assert!(batch.bytes() <= MAX_BATCH_BYTES);
            assert_eq!(batch.len(), marks.len());
            let rows = batch.rows().map(|row| serde_json::from_slice(row).unwrap());
            ids.extend(rows.map(|row: serde_json::Value| row["recordId"].clone()));
        }
        let expected: Vec<String> = (0..40).map(|at| at.to_string()).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn each_record_is_one_of_new_seen_and_none() {
        let mut records = vec![detection("a", 1, ""), "7".to_owned(), detection("a", 1, "")];
        records.push("7".to_owned());
        let mut chunk = chunk(&records);
        chunk.oversized.push(crate::core::page::Oversized {
            prefix: b"{".to_vec(),
            bytes: 5_000_000,
        });
        for looks_up in [false, true] {
            let mut desk = desk();
            sift(&mapper(looks_up), &chunk, &mut desk);
            assert_eq!(desk.batch.len() + desk.fresh.len(), 1, "{looks_up}");
            assert_eq!(desk.fresh.len(), usize::from(looks_up));
            assert_eq!((desk.duplicates, desk.bad.len()), (2, 2));
            assert!(desk.bad[1].reason.contains("5000000 bytes"));
        }
    }
}
