//! The mapper: a chunk's records → their rows. Pure: whatever it has to know is in the workset, or it
//! says what is missing there.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    assets::Change,
    enrichment::{EnrichRequest, Enrichment, OwnedObject},
    filter::{Decision, Filter, decide},
    layout::Layout,
    original::Original,
    receipt::Receipt,
    row::{DETAILS, Enriched, RowSource, version_text},
    shorten::quoted,
    workset::{NewRecord, Rejected, Workset},
};
use crate::core::{
    json::{
        chunk::Chunk,
        record::{JsonObject, canonical_hash},
        time::parse_time,
    },
    position::{
        cursor::StreamKey,
        dedupe::{DedupMode, UNDATED, bucket_of, fingerprint},
        record_key::{MetaIndex, MetaReader, RecordMeta},
        snapshot::{Since, content_of, hash_of},
    },
    protocol::endpoint::{Endpoint, TimeFilter},
};

/// In an original: the name of the device, which was looked up by itself.
const DEVICE_NAME: &str = "@deviceDisplayName";

/// How far [`Mapper::select`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected {
    /// Every record is handled.
    All,
    /// The record at this place needs this bucket of fingerprints.
    NeedsSeen(usize, i64),
    /// The record at this place needs this bucket of what was sent.
    NeedsSent(usize, i64),
}

/// Maps the records of one stream.
pub struct Mapper {
    endpoint: &'static Endpoint,
    identifier: MetaReader,
    key: StreamKey,
    rows: RowSource,
    /// Rows have to wait for what is looked up.
    enriches: bool,
    filters: Arc<[Filter]>,
    /// Records say things about their members, which are no members.
    annotated: bool,
}

/// What becomes of a record.
enum Fate {
    /// It becomes a row with this receipt.
    Row(Receipt),
    /// It is counted, and that is all.
    Counted,
    /// Something has to be loaded first.
    Stop(Selected),
}

impl Mapper {
    /// The mapper of a stream's records.
    pub fn new(
        endpoint: &'static Endpoint,
        layout: &Layout,
        key: &StreamKey,
        event_time: bool,
        enriches: bool,
        filters: &Arc<[Filter]>,
    ) -> Self {
        let rows = RowSource::new(endpoint, layout, &key.connection, event_time);
        Self {
            endpoint,
            identifier: MetaReader::new(&endpoint.identity),
            key: key.clone(),
            rows,
            enriches,
            filters: Arc::clone(filters),
            annotated: matches!(endpoint.list.filter, TimeFilter::Kql(_)),
        }
    }

    /// The records from the place `from` on: drops what is left out or was seen, sets apart what is
    /// no record, and makes rows of the others, or notes them when something is looked up first.
    pub fn select(
        &self,
        chunk: &Arc<Chunk>,
        from: usize,
        mode: DedupMode,
        workset: &mut Workset,
        now: DateTime<Utc>,
    ) -> Selected {
        let (mut places, mut facts) = (MetaIndex::default(), RecordMeta::default());
        for at in from..chunk.len() {
            let (text, read) = self.record(chunk, at);
            let fate = match &read {
                Ok(members) => {
                    self.identifier.find(members, &mut places, &mut facts);
                    self.fate(at, members, &facts, mode, workset)
                }
                Err(_) => once(at, UNDATED, canonical_hash(text), workset),
            };
            let receipt = match fate {
                Fate::Row(receipt) => receipt,
                Fate::Counted => continue,
                Fate::Stop(selected) => return selected,
            };
            match read {
                Ok(_) if self.enriches => {
                    workset.fresh.push(NewRecord {
                        chunk: Arc::clone(chunk),
                        at,
                        facts: facts.clone(),
                        receipt,
                    });
                }
                Ok(members) => {
                    self.row(text, &members, &facts, Enriched::default(), now, workset);
                    workset.add(receipt, self.asset(&facts.id, &members));
                }
                Err(reason) => workset.bad.push(Rejected {
                    text: text.to_vec(),
                    reason,
                    receipt,
                }),
            }
        }
        Selected::All
    }

    fn fate(
        &self,
        at: usize,
        members: &JsonObject<'_>,
        facts: &RecordMeta,
        mode: DedupMode,
        workset: &mut Workset,
    ) -> Fate {
        let opened = self.endpoint.opened.map(|opened| members.text(opened));
        let opened = opened.map(|text| text.and_then(|text| parse_time(&text)));
        let sent = opened.map(|time| (bucket_of(time), hash_of(&facts.id)));
        if let Some((bucket, _)) = sent.filter(|(bucket, _)| !workset.sent.has(*bucket)) {
            return Fate::Stop(Selected::NeedsSent(at, bucket));
        }
        let left_out = match (decide(&self.filters, members), sent) {
            (Decision::Keep, _) => false,
            (Decision::Drop, _) => true,
            (Decision::UnlessSent, Some((bucket, id))) => !workset.sent.holds(bucket, id),
            (Decision::UnlessSent, None) => !workset.known.holds(&facts.id),
        };
        let raised = workset.raised.as_ref();
        let raised = raised.map(|raised| raised.is_own(members));
        if left_out || raised == Some(Some(true)) {
            workset.counts.filtered += 1;
            return Fate::Counted;
        }
        let fate = match (mode, self.endpoint.snapshot) {
            (DedupMode::Plain, _) => Fate::Row(Receipt::None),
            (DedupMode::Snapshot(seeing), Some(snapshot)) => {
                let content = content_of(members, snapshot.ignored);
                let (since, id) = workset.known.judge(&facts.id, content);
                workset.counts.unchanged += u64::from(since == Since::Unchanged);
                workset.counts.duplicate += u64::from(since == Since::Repeated);
                if since == Since::Unchanged && !seeing.is_pass() {
                    workset.met.extend(self.asset(&facts.id, members));
                }
                if since == Since::Changed {
                    Fate::Row(Receipt::Snapshot(id))
                } else {
                    Fate::Counted
                }
            }
            _ => {
                let hash = fingerprint(facts, self.endpoint.dedup_key);
                once(at, bucket_of(facts.time), hash, workset)
            }
        };
        workset.counts.untold += u64::from(raised == Some(None) && matches!(fate, Fate::Row(_)));
        if let (Some((bucket, id)), false) = (sent, matches!(fate, Fate::Stop(_)))
            && workset.sent.insert(bucket, id)
        {
            workset.first.entry(bucket).or_default().push(id);
        }
        fate
    }

    /// The text at a place, and its members, or why it is no record. What was too long comes last.
    fn record<'c>(
        &self,
        chunk: &'c Chunk,
        at: usize,
    ) -> (&'c [u8], Result<JsonObject<'c>, String>) {
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

    /// The members of records that wait for their enrichment.
    pub fn requests<'r>(&self, group: &'r [NewRecord]) -> Vec<EnrichRequest<'r>> {
        let request = |new: &'r NewRecord| EnrichRequest {
            facts: &new.facts,
            record: self.record(&new.chunk, new.at).1.unwrap_or_default(),
        };
        group.iter().map(request).collect()
    }

    /// The rows of enriched records: as many as there are enrichments, from the first on.
    pub fn map(
        &self,
        group: &[NewRecord],
        enriched: &[Enrichment],
        now: DateTime<Utc>,
        workset: &mut Workset,
    ) {
        for (new, enrichment) in group.iter().zip(enriched) {
            // Its facts are known.
            let (text, Ok(members)) = self.record(&new.chunk, new.at) else {
                continue;
            };
            let details = enrichment.details.as_ref().map(OwnedObject::members);
            let looked = Enriched {
                details: details.as_ref(),
                device_name: enrichment.device_name.as_deref(),
            };
            self.row(text, &members, &new.facts, looked, now, workset);
            workset.add(new.receipt, self.asset(&new.facts.id, &members));
        }
    }

    /// What a record means for what is known of machines.
    fn asset(&self, id: &str, members: &JsonObject<'_>) -> Option<Change> {
        let asset = self.endpoint.asset.as_ref()?;
        asset.change(&self.key.connection, id, members)
    }

    fn row(
        &self,
        text: &[u8],
        members: &JsonObject<'_>,
        facts: &RecordMeta,
        looked: Enriched<'_>,
        now: DateTime<Utc>,
        workset: &mut Workset,
    ) {
        let shortened = self
            .rows
            .write(members, facts, looked, now, &mut workset.row);
        if shortened {
            workset.originals.push(Original {
                key: self.key.clone(),
                record_id: facts.id.clone(),
                record_version: version_text(&facts.version).into_owned(),
                body: whole(text, members, looked),
            });
        }
    }
}

/// A record, and beside its members whatever was looked up about it: its row is made of both.
fn whole(text: &[u8], members: &JsonObject<'_>, looked: Enriched<'_>) -> Vec<u8> {
    let name = looked.device_name.map(quoted);
    let beside = [
        (DETAILS, looked.details.map(JsonObject::text_of)),
        (DEVICE_NAME, name.as_deref()),
    ];
    let mut body = text.trim_ascii_end().to_vec();
    for (key, value) in beside {
        let Some(value) = value else { continue };
        let mut key = key.to_owned();
        while members.get(&key).is_some() {
            key.insert(0, '@');
        }
        body.pop();
        let is_first = body.trim_ascii_end().ends_with(b"{");
        body.extend_from_slice(if is_first { b"" } else { b"," });
        body.extend_from_slice(format!("{}:{value}}}", quoted(&key)).as_bytes());
    }
    body
}

/// A record whose fingerprint counts once.
fn once(at: usize, bucket: i64, hash: u64, workset: &mut Workset) -> Fate {
    if !workset.seen.has(bucket) {
        return Fate::Stop(Selected::NeedsSeen(at, bucket));
    }
    if workset.seen.insert(bucket, hash) {
        Fate::Row(Receipt::Fingerprint { bucket, hash })
    } else {
        workset.counts.duplicate += 1;
        Fate::Counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            mapping::{
                batch::{Batch, MAX_BATCH_BYTES},
                receipt::BatchReceipt,
            },
            position::dedupe::SeenIds,
        },
        source::eset::DETECTIONS,
    };

    fn mapper(enriches: bool) -> Mapper {
        let key = StreamKey::new("default", DETECTIONS.stream);
        let layout = Layout::shared(&DETECTIONS);
        Mapper::new(&DETECTIONS, &layout, &key, false, enriches, &Arc::from([]))
    }

    fn workset() -> Workset {
        Workset::new(DETECTIONS.table.name)
    }

    fn detection(id: &str, day: u32, note: &str) -> String {
        format!(r#"{{"uuid":"{id}","occurTime":"2026-01-{day:02}T00:00:00Z","note":"{note}"}}"#)
    }

    /// Handles all records, with nothing in the store.
    fn select(mapper: &Mapper, chunk: Chunk, workset: &mut Workset) {
        let now = "2026-01-31T00:00:00Z".parse().unwrap();
        let (chunk, mut from) = (Arc::new(chunk), 0);
        while let Selected::NeedsSeen(at, bucket) =
            mapper.select(&chunk, from, DedupMode::Fingerprints, workset, now)
        {
            workset.load(bucket, Vec::new(), [].iter());
            from = at;
        }
    }

    #[test]
    fn a_row_under_way_is_known_even_when_its_bucket_was_let_go() {
        let (mapper, mut workset) = (mapper(false), workset());
        select(
            &mapper,
            Chunk::of(&[detection("a", 1, ""), detection("b", 9, "")]),
            &mut workset,
        );
        workset.seen.trim(0);
        assert_eq!(workset.batch.len(), 2);
        // In the open batch…
        select(&mapper, Chunk::of(&[detection("a", 1, "")]), &mut workset);
        assert_eq!((workset.batch.len(), workset.counts.duplicate), (2, 1));
        // …and in one that was sent and has not landed.
        let (_, sent) = workset.take_batch();
        workset.seen = SeenIds::default();
        let Receipt::Fingerprint { bucket, .. } = sent.receipts[0] else {
            panic!("{:?}", sent.receipts)
        };
        workset.load(bucket, Vec::new(), sent.receipts.iter());
        select(&mapper, Chunk::of(&[detection("a", 1, "")]), &mut workset);
        assert_eq!((workset.batch.len(), workset.counts.duplicate), (0, 2));
    }

    #[test]
    fn full_batches_keep_the_order_of_the_records_and_a_receipt_for_each_row() {
        let (mapper, mut workset) = (mapper(false), workset());
        let note = "x".repeat(60_000);
        let records: Vec<String> = (0..40)
            .map(|at| detection(&at.to_string(), 1, &note))
            .collect();
        select(&mapper, Chunk::of(&records), &mut workset);
        let open = workset.take_batch();
        let batches: Vec<(Batch, BatchReceipt)> = workset.full.into_iter().chain([open]).collect();
        assert_eq!(batches.len(), 3);
        let mut ids = Vec::new();
        for (batch, sealed) in &batches {
            assert!(batch.bytes() <= MAX_BATCH_BYTES);
            assert_eq!(batch.len(), sealed.receipts.len());
            let rows = batch.rows().map(|row| serde_json::from_slice(row).unwrap());
            ids.extend(rows.map(|row: serde_json::Value| row["recordId"].clone()));
        }
        let expected: Vec<String> = (0..40).map(|at| at.to_string()).collect();
        assert_eq!(ids, expected);
    }

    /// The original of the one record that waits for its enrichment.
    fn original_of(record: &str, enrichment: Enrichment) -> serde_json::Value {
        let (mapper, mut workset) = (mapper(true), workset());
        let chunk = Chunk::of(&[record.to_owned()]);
        select(&mapper, chunk, &mut workset);
        let group = std::mem::take(&mut workset.fresh);
        let now = "2026-01-31T00:00:00Z".parse().unwrap();
        mapper.map(&group, &[enrichment], now, &mut workset);
        assert_eq!((workset.batch.len(), workset.originals.len()), (1, 1));
        serde_json::from_slice(&workset.originals[0].body).unwrap()
    }

    #[test]
    fn what_was_looked_up_and_cut_is_kept_whole_beside_its_record() {
        let details = serde_json::json!({
            "uuid": "a",
            "process": {"commandLine": "x".repeat(70_000)},
            "note": "y".repeat(70_000),
        });
        let record = r#"{"uuid":"a","@details":1,"occurTime":"2026-01-01T00:00:00Z"} "#;
        let raw = serde_json::value::to_raw_value(&details).unwrap();
        let kept = original_of(
            record.trim_end(),
            Enrichment {
                details: OwnedObject::of(&raw),
                ..Enrichment::default()
            },
        );
        assert_eq!(kept["@@details"], details);
        assert_eq!((&kept["uuid"], &kept["@details"]), (&"a".into(), &1.into()));

        let name = "\"é".repeat(30_000);
        let kept = original_of(
            &detection("a", 1, "own"),
            Enrichment {
                device_name: Some(name.clone()),
                ..Enrichment::default()
            },
        );
        assert_eq!(kept["@deviceDisplayName"], name);
        assert_eq!(kept["note"], "own");
    }

    #[test]
    fn each_record_is_one_of_new_seen_and_none() {
        let mut records = vec![detection("a", 1, ""), "7".to_owned(), detection("a", 1, "")];
        records.push("7".to_owned());
        let mut chunk = Chunk::of(&records);
        chunk.oversized.push(crate::core::json::chunk::Oversized {
            prefix: b"{".to_vec(),
            bytes: 5_000_000,
        });
        for enriches in [false, true] {
            let mut workset = workset();
            select(&mapper(enriches), chunk.clone(), &mut workset);
            assert_eq!(workset.batch.len() + workset.fresh.len(), 1, "{enriches}");
            assert_eq!(workset.fresh.len(), usize::from(enriches));
            assert_eq!((workset.counts.duplicate, workset.bad.len()), (2, 2));
            assert!(workset.bad[1].reason.contains("5000000 bytes"));
        }
    }
}
