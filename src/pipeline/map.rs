//! A chunk's records: which they are, and their rows. Pure, and run off the async threads.

use chrono::{DateTime, Utc};

use crate::{
    core::{
        assets::Change,
        cursor::StreamKey,
        dedupe::{UNDATED, bucket_of, fingerprint},
        endpoint::{Endpoint, TimeFilter},
        page::Chunk,
        record::{Facts, Members, canonical_hash},
        row::{Looked, RowSource},
        sift::{Sift, Verdict, sent_by, verdict},
        snapshot::{content_of, hash_of},
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
    pub(super) mark: Mark,
    /// A hash of what counts of it, where records are compared with the last pass.
    pub(super) content: u64,
    /// Whether a setting leaves it out.
    pub(super) verdict: Verdict,
    /// How it is remembered that something of it was sent, where somebody asks.
    pub(super) sent: Option<Mark>,
}

/// Something in the place of a record.
pub(super) struct Bad {
    pub(super) text: Vec<u8>,
    pub(super) reason: String,
    pub(super) mark: Mark,
}

/// A row, ready for a batch.
pub(super) struct Mapped {
    pub(super) row: Vec<u8>,
    pub(super) mark: Mark,
    /// The record, when the row does not hold all of it.
    pub(super) original: Option<Original>,
    /// What it means for what is known of machines.
    pub(super) asset: Option<Change>,
}

/// Maps the records of one stream.
pub(super) struct Mapper {
    endpoint: &'static Endpoint,
    key: StreamKey,
    rows: RowSource,
    sifts: &'static [Sift],
    /// Records say things about their members, which are no members.
    annotated: bool,
}

impl Mapper {
    pub(super) fn new(
        endpoint: &'static Endpoint,
        key: &StreamKey,
        event_time: bool,
        sifts: &'static [Sift],
    ) -> Self {
        let rows = RowSource::new(endpoint, &key.connection, event_time);
        Self {
            endpoint,
            key: key.clone(),
            rows,
            sifts,
            annotated: matches!(endpoint.window.filter, TimeFilter::Kql(_)),
        }
    }

    /// What each record is. What is no JSON object is set apart.
    pub(super) fn identify(&self, chunk: &Chunk) -> (Vec<Found>, Vec<Bad>) {
        let mut found = Vec::with_capacity(chunk.records.len());
        let mut bad = Vec::new();
        for at in 0..chunk.records.len() {
            let text = chunk.record(at);
            match Members::of(text) {
                Ok(members) => {
                    let facts = Facts::of(text, &members, &self.endpoint.identity);
                    let print = fingerprint(&facts, self.endpoint.sameness);
                    let snapshot = self.endpoint.snapshot;
                    found.push(Found {
                        at,
                        mark: (bucket_of(facts.time), print),
                        content: snapshot
                            .map_or(0, |snapshot| content_of(&members, snapshot.ignored)),
                        verdict: verdict(self.sifts, &members),
                        sent: sent_by(self.sifts, &members)
                            .map(|time| (bucket_of(time), hash_of(&facts.id))),
                        facts,
                    });
                }
                Err(error) => bad.push(Bad {
                    text: text.to_vec(),
                    reason: format!("not a record: {error}"),
                    mark: (UNDATED, canonical_hash(text)),
                }),
            }
        }
        for oversized in &chunk.oversized {
            bad.push(Bad {
                text: oversized.prefix.clone(),
                reason: format!(
                    "a record of {} bytes, cut to its beginning",
                    oversized.bytes
                ),
                mark: (UNDATED, canonical_hash(&oversized.prefix)),
            });
        }
        (found, bad)
    }

    /// The rows of records, with what was looked up about them (nothing, or one answer each).
    pub(super) fn map(
        &self,
        chunk: &Chunk,
        group: &[Found],
        looked: &[LookedUp],
        now: DateTime<Utc>,
    ) -> Vec<Mapped> {
        let mut mapped = Vec::with_capacity(group.len());
        for (place, found) in group.iter().enumerate() {
            let Found {
                at, facts, mark, ..
            } = found;
            let text = chunk.record(*at);
            let Ok(mut members) = Members::of(text) else {
                continue;
            };
            if self.annotated {
                members = members.without_annotations();
            }
            let asset = self.asset(&facts.id, &members);
            let looked = looked
                .get(place)
                .map_or_else(Looked::default, |looked| Looked {
                    details: looked.details.as_deref(),
                    device_name: looked.device_name.as_deref(),
                });
            let row = self.rows.row(&members, facts, looked, now);
            let original = row.shortened.then(|| Original {
                key: self.key.clone(),
                record_id: facts.id.clone(),
                record_version: facts.version.clone(),
                body: text.to_vec(),
            });
            mapped.push(Mapped {
                row: row.json,
                mark: *mark,
                original,
                asset,
            });
        }
        mapped
    }

    /// What records mean for what is known of machines, by their places.
    pub(super) fn assets(&self, chunk: &Chunk, met: &[(usize, String)]) -> Vec<Change> {
        let asset = |(at, id): &(usize, String)| {
            let members = Members::of(chunk.record(*at)).ok()?;
            self.asset(id, &members)
        };
        met.iter().filter_map(asset).collect()
    }

    fn asset(&self, id: &str, members: &Members<'_>) -> Option<Change> {
        let asset = self.endpoint.asset.as_ref()?;
        asset.change(&self.key.connection, id, members)
    }
}
