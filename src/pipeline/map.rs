//! A chunk's records: which they are, and their rows. Pure.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

use super::{
    filing::Sealed,
    snapshot::{self, UNMARKED, Way},
};
use crate::{
    core::{
        assets::Change,
        batch::Batch,
        chunk::Chunk,
        cursor::StreamKey,
        dedupe::{Seen, UNDATED, bucket_of, fingerprint},
        endpoint::{Endpoint, TimeFilter},
        identity::{Identifier, Places},
        layout::Layout,
        record::{Facts, Members, canonical_hash},
        row::{Draft, Looked, RowSource},
        sift::{Sift, Verdict, sent_by, verdict},
        snapshot::{Since, content_of, hash_of},
        spare::Buffers,
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
    /// The open batch, and what is remembered of its rows.
    pub(super) batch: Batch,
    open: Sealed,
    /// Batches that are full.
    pub(super) full: VecDeque<(Batch, Sealed)>,
    /// Records whose rows do not hold all of them. They are kept before their rows are pushed.
    pub(super) originals: Vec<Original>,
    pub(super) bad: Vec<Bad>,
    /// What is known of machines by records whose rows are safe for long: between two passes the
    /// source has just seen them.
    pub(super) met: Vec<Change>,
    pub(super) counts: Counted,
    /// What the last pass has seen, for streams that are read as a whole.
    pub(super) known: snapshot::Seen,
    /// Of what something was sent, for settings that ask.
    pub(super) sent: Seen,
    /// Of what something is sent for the first time.
    pub(super) first: BTreeMap<i64, Vec<u64>>,
    /// New records that something has to be looked up about first.
    pub(super) fresh: Vec<Found>,
    spares: Buffers,
    /// The row that is being written.
    row: Draft,
}

/// What became of records that are no rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) duplicate: u64,
    pub(super) filtered: u64,
    pub(super) unchanged: u64,
}

impl Desk {
    pub(super) fn new(table: &str, key: &StreamKey) -> Self {
        Self {
            seen: Seen::default(),
            batch: Batch::new(table),
            open: Sealed::default(),
            full: VecDeque::new(),
            originals: Vec::new(),
            bad: Vec::new(),
            met: Vec::new(),
            counts: Counted::default(),
            known: snapshot::Seen::new(key),
            sent: Seen::default(),
            first: BTreeMap::new(),
            fresh: Vec::new(),
            spares: Buffers::default(),
            row: Draft::default(),
        }
    }

    /// The open batch, which is then a new one.
    pub(super) fn take_batch(&mut self) -> (Batch, Sealed) {
        let next = Batch::new(self.batch.table());
        let batch = std::mem::replace(&mut self.batch, next);
        (batch, std::mem::take(&mut self.open))
    }

    /// Takes in a bucket: what the store has of it, and what is not there yet since its rows have not
    /// landed.
    pub(super) fn load<'m>(
        &'m mut self,
        bucket: i64,
        mut stored: Vec<u64>,
        under_way: impl Iterator<Item = &'m Mark>,
    ) {
        let open = under_way.chain(&self.open.marks);
        stored.extend(open.filter(|mark| mark.0 == bucket).map(|mark| mark.1));
        self.seen.load(bucket, stored);
    }

    /// Puts the row that was written into the open batch.
    fn add(&mut self, mark: Mark, change: Option<Change>) {
        self.make_room(self.row.json.len());
        self.batch.add(self.row.json.as_bytes());
        self.open.add(mark, change);
    }

    /// Puts a row into the open batch.
    pub(super) fn add_row(&mut self, row: &[u8], mark: Mark, change: Option<Change>) {
        self.make_room(row.len());
        self.batch.add(row);
        self.open.add(mark, change);
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

/// How far [`Mapper::sift`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sifted {
    /// Every record is handled.
    All,
    /// The record at this place needs this bucket of fingerprints.
    Until(usize, i64),
    /// The record at this place needs this bucket of what was sent.
    UntilSent(usize, i64),
}

/// Maps the records of one stream.
pub(super) struct Mapper {
    endpoint: &'static Endpoint,
    identifier: Identifier,
    key: StreamKey,
    rows: RowSource,
    /// Rows have to wait for what is looked up.
    looks_up: bool,
    sifts: &'static [Sift],
    /// Records say things about their members, which are no members.
    annotated: bool,
}

/// What becomes of a record.
enum Fate {
    /// It becomes a row with this mark.
    Row(Mark),
    /// It is counted, and that is all.
    Counted,
    /// Something has to be loaded first.
    Stop(Sifted),
}

impl Mapper {
    pub(super) fn new(
        endpoint: &'static Endpoint,
        layout: &Layout,
        key: &StreamKey,
        event_time: bool,
        looks_up: bool,
        sifts: &'static [Sift],
    ) -> Self {
        let rows = RowSource::new(endpoint, layout, &key.connection, event_time);
        Self {
            endpoint,
            identifier: Identifier::new(&endpoint.identity),
            key: key.clone(),
            rows,
            looks_up,
            sifts,
            annotated: matches!(endpoint.window.filter, TimeFilter::Kql(_)),
        }
    }

    /// The records from the place `from` on: drops what is left out or was seen, sets apart what is
    /// no record, and makes rows of the others, or notes them when something is looked up first.
    pub(super) fn sift(
        &self,
        chunk: &Chunk,
        from: usize,
        way: Way,
        desk: &mut Desk,
        now: DateTime<Utc>,
    ) -> Sifted {
        let (mut places, mut facts) = (Places::default(), Facts::default());
        for at in from..chunk.len() {
            let (text, read) = self.record(chunk, at);
            let fate = match &read {
                Ok(members) => {
                    self.identifier.find(members, &mut places, &mut facts);
                    self.fate(at, members, &facts, way, desk)
                }
                Err(_) => once(at, (UNDATED, canonical_hash(text)), desk),
            };
            let mark = match fate {
                Fate::Row(mark) => mark,
                Fate::Counted => continue,
                Fate::Stop(sifted) => return sifted,
            };
            match read {
                Ok(_) if self.looks_up => {
                    let facts = facts.clone();
                    desk.fresh.push(Found { at, facts, mark });
                }
                Ok(members) => {
                    self.row(text, &members, &facts, Looked::default(), now, desk);
                    desk.add(mark, self.asset(&facts.id, &members));
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

    fn fate(
        &self,
        at: usize,
        members: &Members<'_>,
        facts: &Facts,
        way: Way,
        desk: &mut Desk,
    ) -> Fate {
        let sent = sent_by(self.sifts, members).map(|time| (bucket_of(time), hash_of(&facts.id)));
        if let Some((bucket, _)) = sent.filter(|(bucket, _)| !desk.sent.has(*bucket)) {
            return Fate::Stop(Sifted::UntilSent(at, bucket));
        }
        let left_out = match (verdict(self.sifts, members), sent) {
            (Verdict::Drop, _) => true,
            (Verdict::UnlessSent, Some((bucket, id))) => !desk.sent.holds(bucket, id),
            _ => false,
        };
        if left_out {
            desk.counts.filtered += 1;
            return Fate::Counted;
        }
        let fate = match (way, self.endpoint.snapshot) {
            (Way::Plain, _) => Fate::Row(UNMARKED),
            (Way::Snapshot(seeing), Some(snapshot)) => {
                let content = content_of(members, snapshot.ignored);
                let (since, mark) = desk.known.judge(&facts.id, content);
                desk.counts.unchanged += u64::from(since == Since::Unchanged);
                desk.counts.duplicate += u64::from(since == Since::Repeated);
                if since == Since::Unchanged && !seeing.is_pass() {
                    desk.met.extend(self.asset(&facts.id, members));
                }
                if since == Since::Changed {
                    Fate::Row(mark)
                } else {
                    Fate::Counted
                }
            }
            _ => {
                let print = fingerprint(facts, self.endpoint.sameness);
                once(at, (bucket_of(facts.time), print), desk)
            }
        };
        if let (Some((bucket, id)), false) = (sent, matches!(fate, Fate::Stop(_)))
            && desk.sent.insert(bucket, id)
        {
            desk.first.entry(bucket).or_default().push(id);
        }
        fate
    }

    /// The text at a place, and its members, or why it is no record. What was too long comes last.
    fn record<'c>(&self, chunk: &'c Chunk, at: usize) -> (&'c [u8], Result<Members<'c>, String>) {
        let place = at.checked_sub(chunk.handy());
        if let Some(oversized) = place.and_then(|place| chunk.oversized.get(place)) {
            let reason = format!(
                "a record of {} bytes, cut to its beginning",
                oversized.bytes
            );
            return (&oversized.prefix, Err(reason));
        }
        let mut read = chunk.members(at);
        if let (true, Ok(members)) = (self.annotated, &mut read) {
            members.leave_out_annotations();
        }
        (
            chunk.record(at),
            read.map_err(|error| format!("not a record: {error}")),
        )
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
            // Its facts are known.
            let (text, Ok(members)) = self.record(chunk, *at) else {
                continue;
            };
            let looked = looked
                .get(place)
                .map_or_else(Looked::default, |looked| Looked {
                    details: looked.details.as_deref(),
                    device_name: looked.device_name.as_deref(),
                });
            self.row(text, &members, facts, looked, now, desk);
            desk.add(*mark, self.asset(&facts.id, &members));
        }
    }

    /// What a record means for what is known of machines.
    fn asset(&self, id: &str, members: &Members<'_>) -> Option<Change> {
        let asset = self.endpoint.asset.as_ref()?;
        asset.change(&self.key.connection, id, members)
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

/// A record whose fingerprint counts once.
fn once(at: usize, mark: Mark, desk: &mut Desk) -> Fate {
    if !desk.seen.has(mark.0) {
        return Fate::Stop(Sifted::Until(at, mark.0));
    }
    if desk.seen.insert(mark.0, mark.1) {
        Fate::Row(mark)
    } else {
        desk.counts.duplicate += 1;
        Fate::Counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::batch::MAX_BATCH_BYTES, source::eset::DETECTIONS};

    fn mapper(looks_up: bool) -> Mapper {
        let key = StreamKey::new("default", DETECTIONS.stream);
        let layout = Layout::shared(&DETECTIONS);
        Mapper::new(&DETECTIONS, &layout, &key, false, looks_up, &[])
    }

    fn desk() -> Desk {
        let key = StreamKey::new("default", DETECTIONS.stream);
        Desk::new(DETECTIONS.table.name, &key)
    }

    fn detection(id: &str, day: u32, note: &str) -> String {
        format!(r#"{{"uuid":"{id}","occurTime":"2026-01-{day:02}T00:00:00Z","note":"{note}"}}"#)
    }

    /// Handles all records, with nothing in the store.
    fn sift(mapper: &Mapper, chunk: &Chunk, desk: &mut Desk) {
        let now = "2026-01-31T00:00:00Z".parse().unwrap();
        let mut from = 0;
        while let Sifted::Until(at, bucket) = mapper.sift(chunk, from, Way::Fingerprints, desk, now)
        {
            desk.load(bucket, Vec::new(), [].iter());
            from = at;
        }
    }

    #[test]
    fn a_row_under_way_is_known_even_when_its_bucket_was_let_go() {
        let (mapper, mut desk) = (mapper(false), desk());
        sift(
            &mapper,
            &Chunk::of(&[detection("a", 1, ""), detection("b", 9, "")]),
            &mut desk,
        );
        desk.seen.trim(0);
        assert_eq!(desk.batch.len(), 2);
        // In the open batch…
        sift(&mapper, &Chunk::of(&[detection("a", 1, "")]), &mut desk);
        assert_eq!((desk.batch.len(), desk.counts.duplicate), (2, 1));
        // …and in one that was sent and has not landed.
        let (_, sent) = desk.take_batch();
        desk.seen = Seen::default();
        desk.load(sent.marks[0].0, Vec::new(), sent.marks.iter());
        sift(&mapper, &Chunk::of(&[detection("a", 1, "")]), &mut desk);
        assert_eq!((desk.batch.len(), desk.counts.duplicate), (0, 2));
    }

    #[test]
    fn full_batches_keep_the_order_of_the_records_and_a_mark_for_each_row() {
        let (mapper, mut desk) = (mapper(false), desk());
        let note = "x".repeat(60_000);
        let records: Vec<String> = (0..40)
            .map(|at| detection(&at.to_string(), 1, &note))
            .collect();
        sift(&mapper, &Chunk::of(&records), &mut desk);
        let open = desk.take_batch();
        let batches: Vec<(Batch, Sealed)> = desk.full.into_iter().chain([open]).collect();
        assert_eq!(batches.len(), 3);
        let mut ids = Vec::new();
        for (batch, sealed) in &batches {
            assert!(batch.bytes() <= MAX_BATCH_BYTES);
            assert_eq!(batch.len(), sealed.marks.len());
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
        let mut chunk = Chunk::of(&records);
        chunk.oversized.push(crate::core::chunk::Oversized {
            prefix: b"{".to_vec(),
            bytes: 5_000_000,
        });
        for looks_up in [false, true] {
            let mut desk = desk();
            sift(&mapper(looks_up), &chunk, &mut desk);
            assert_eq!(desk.batch.len() + desk.fresh.len(), 1, "{looks_up}");
            assert_eq!(desk.fresh.len(), usize::from(looks_up));
            assert_eq!((desk.counts.duplicate, desk.bad.len()), (2, 2));
            assert!(desk.bad[1].reason.contains("5000000 bytes"));
        }
    }
}
