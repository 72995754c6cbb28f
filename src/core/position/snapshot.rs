//! Records that are as they are now: which of them changed since they were last seen, and which
//! have vanished.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use super::cursor::StreamKey;
use super::record_key::RecordMeta;
use crate::core::{
    json::{record::JsonObject, time::time_text},
    mapping::row::own_row,
};

mod tracker;

pub use tracker::{PassView, SnapshotTracker};

/// One record as a pass has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its `recordId`.
    pub id: String,
    /// A hash of what counts of it.
    pub content: u64,
    /// The pass has *not* seen it: it was carried over from the one before.
    pub missed: bool,
}

/// Eight bytes that stand for a record's id.
pub fn hash_of(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// A hash of the members that count, whatever their order.
pub fn content_of(record: &JsonObject<'_>, ignored: &[&str]) -> u64 {
    let mut named = Vec::with_capacity(64);
    record
        .hashes()
        .filter(|(name, _)| !ignored.contains(name))
        .map(|(name, hash)| {
            named.clear();
            named.extend_from_slice(name.as_bytes());
            named.extend_from_slice(&hash.to_le_bytes());
            xxh3_64(&named)
        })
        .fold(0, u64::wrapping_add)
}

/// What became of a record since it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// It is new, or has changed, or everything is written again.
    Changed,
    /// It is as it was.
    Unchanged,
    /// This pass has seen it before, just so: data moves between pages.
    Repeated,
}

/// The last pass, and what this one has seen so far: 16 bytes a record.
#[derive(Debug, Default)]
pub struct Index(HashMap<u64, u64>);

/// The bit of a content's hash that says that this pass has seen the record.
const SEEN: u64 = 1;

impl Index {
    /// Takes in a sighting of the last pass; of several the last counts.
    pub fn known(&mut self, sighting: &Sighting) {
        self.0
            .insert(hash_of(&sighting.id), sighting.content & !SEEN);
    }

    /// Takes in a sighting that this pass made in an earlier run.
    pub fn seen(&mut self, sighting: &Sighting) {
        if !sighting.missed {
            self.0
                .insert(hash_of(&sighting.id), sighting.content | SEEN);
        }
    }

    /// A record of a pass. With `rewrite` it counts as changed when the pass first sees it.
    pub fn pass(&mut self, id: u64, content: u64, rewrite: bool) -> Since {
        match self.0.insert(id, content | SEEN) {
            Some(old) if old == content | SEEN => Since::Repeated,
            Some(old) if old == content & !SEEN && !rewrite => Since::Unchanged,
            _ => Since::Changed,
        }
    }

    /// A record that comes between two passes.
    pub fn between(&mut self, id: u64, content: u64) -> Since {
        match self.0.insert(id, content & !SEEN) {
            Some(old) if old & !SEEN == content & !SEEN => Since::Unchanged,
            _ => Since::Changed,
        }
    }

    /// Forgets a record that is gone: when it comes back, it is new.
    pub fn forget(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// True when it is known, whichever pass has seen it.
    pub fn holds(&self, id: u64) -> bool {
        self.0.contains_key(&id)
    }

    /// True when this pass has seen the record.
    pub fn has_seen(&self, id: u64) -> bool {
        self.0.get(&id).is_some_and(|content| content & SEEN != 0)
    }
}

/// So few missing records are believed, however few there were.
const FEW: u64 = 10;

/// How far apart two passes are, at least, of which the second confirms what the first missed.
const APART: TimeDelta = TimeDelta::days(1);

/// True for a pass that missed more of what was there than is likely to be gone: more than a third.
pub fn is_doubtful(missed: u64, there: u64) -> bool {
    missed > FEW && missed.saturating_mul(3) > there
}

/// True when a doubtful pass confirms the ones before it, the first of which began at `first`: it
/// began a day later, and of what it misses little was seen by the last one.
pub fn confirms(
    first: Option<DateTime<Utc>>,
    began: DateTime<Utc>,
    newly_missed: u64,
    there: u64,
) -> bool {
    first.is_some_and(|first| began - first >= APART) && !is_doubtful(newly_missed, there)
}

/// The row that says that a record is gone: the same `recordId`, a version of its own, and `gone`
/// in `additionalFields`.
pub fn gone_row(
    provider: &str,
    key: &StreamKey,
    id: &str,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<u8> {
    let since = time_text(at);
    let fields = json!({ "gone": true, "goneSince": since }).to_string();
    let facts = RecordMeta {
        id: id.to_owned(),
        version: format!("gone {since}"),
        time: Some(at),
    };
    own_row(provider, key, &facts, &fields, now)
}

/// How many bytes a sighting has beside its id.
pub const SIGHTING_HEAD: usize = 8 + 1 + 4;

/// Sightings as bytes, one after the other.
pub fn encode(sightings: &[Sighting]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Sighting {
        id,
        content,
        missed,
    } in sightings
    {
        bytes.extend_from_slice(&content.to_le_bytes());
        bytes.push(u8::from(*missed));
        bytes.extend_from_slice(&u32::try_from(id.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(id.as_bytes());
    }
    bytes
}

/// The whole sightings at the beginning of `bytes`, and how many bytes they are. What nobody encoded
/// ends them: bytes of which none are used, and no more of which follow, are damaged.
pub fn decode(bytes: &[u8]) -> (Vec<Sighting>, usize) {
    let (mut sightings, mut at) = (Vec::new(), 0);
    while let Some((head, rest)) = bytes
        .get(at..)
        .and_then(<[u8]>::split_first_chunk::<SIGHTING_HEAD>)
    {
        let [c0, c1, c2, c3, c4, c5, c6, c7, missed, l0, l1, l2, l3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let id = rest.get(..length).map(std::str::from_utf8);
        let (Some(Ok(id)), 0 | 1) = (id, missed) else {
            break;
        };
        sightings.push(Sighting {
            id: id.to_owned(),
            content: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            missed: missed != 0,
        });
        at += SIGHTING_HEAD + length;
    }
    (sightings, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::mapping::batch::Batch;

    fn sighting(id: &str, content: u64) -> Sighting {
        Sighting {
            id: id.to_owned(),
            content,
            missed: false,
        }
    }

    #[test]
    fn a_record_is_new_then_unchanged_then_changed() {
        let mut index = Index::default();
        let id = hash_of("a");
        assert_eq!(index.pass(id, 10, false), Since::Changed);
        assert_eq!(index.pass(id, 10, false), Since::Repeated);
        assert_eq!(
            index.pass(id, 20, false),
            Since::Changed,
            "it moved and changed"
        );

        let mut next = Index::default();
        next.known(&sighting("a", 20));
        assert!(!next.has_seen(id));
        assert_eq!(next.pass(id, 20, false), Since::Unchanged);
        assert!(next.has_seen(id));
        assert_eq!(next.pass(id, 20, true), Since::Repeated);

        let mut rewritten = Index::default();
        rewritten.known(&sighting("a", 20));
        assert_eq!(rewritten.pass(id, 20, true), Since::Changed);

        let mut between = Index::default();
        between.known(&sighting("a", 20));
        assert_eq!(between.between(id, 20), Since::Unchanged);
        assert_eq!(between.between(id, 31), Since::Changed);
        assert_eq!(between.between(id, 31), Since::Unchanged);
        assert_eq!(between.between(hash_of("b"), 1), Since::Changed);
    }

    #[test]
    fn a_pass_goes_on_with_what_it_has_seen() {
        let mut index = Index::default();
        index.known(&sighting("a", 20));
        index.known(&sighting("b", 30));
        index.seen(&sighting("a", 20));
        index.seen(&Sighting {
            missed: true,
            ..sighting("b", 30)
        });
        assert!(index.has_seen(hash_of("a")));
        assert!(
            !index.has_seen(hash_of("b")),
            "it was carried over, not seen"
        );
    }

    #[test]
    fn a_pass_that_misses_much_is_believed_when_another_confirms_it() {
        assert!(!is_doubtful(10, 10), "so few may well be gone");
        assert!(!is_doubtful(11, 33));
        assert!(is_doubtful(11, 32));
        let day = |days: i64| {
            "2026-01-02T03:04:05Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(days * 24)
        };
        assert!(!confirms(None, day(1), 250, 450), "nobody doubted before");
        assert!(!confirms(
            Some(day(1)),
            day(1) + TimeDelta::hours(23),
            0,
            450
        ));
        assert!(confirms(Some(day(1)), day(2), 0, 450));
        assert!(
            !confirms(Some(day(1)), day(2), 200, 450),
            "others are missing now"
        );
    }

    #[test]
    fn only_what_counts_changes_the_content() {
        let content =
            |text: &str| content_of(&JsonObject::of(text.as_bytes()).unwrap(), &["lastSeen"]);
        let one = content(r#"{"id":"a","lastSeen":"x","tags":["t"]}"#);
        assert_eq!(one, content(r#"{"tags": ["t"],"lastSeen":"y","id":"a"}"#));
        assert_ne!(one, content(r#"{"id":"a","lastSeen":"x","tags":["u"]}"#));
        assert_eq!(
            one,
            content(r#"{"id":"a","tags":["t"],"vm":null}"#),
            "null says nothing"
        );
    }

    #[test]
    fn the_content_stays_the_same_number() {
        // It is kept between passes: another number writes every record again.
        let text = r#"{"id":"a","lastSeen":"x","n\u0061me":"b\"c","tags":[{"t":1.5}],"none":null}"#;
        let members = JsonObject::of(text.as_bytes()).unwrap();
        insta::assert_snapshot!(format!("{:016x}", content_of(&members, &["lastSeen"])), @"12de1d4afd8e7ff3");
    }

    #[test]
    fn a_row_says_that_a_record_is_gone() {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let row = gone_row(
            "Microsoft",
            &StreamKey::new("default", "defender.machines"),
            "m-1",
            at,
            at,
        );
        // The parsers of `sentinel/` are tested over this row.
        let expected = include_str!("../../../tests/fixtures/gone-row.json");
        assert_eq!(std::str::from_utf8(&row).unwrap(), expected.trim_end());
        Batch::new("t").add(&row);
    }

    proptest! {
        #[test]
        fn sightings_are_read_back_up_to_where_they_are_cut(
            all in prop::collection::vec((".{0,12}", any::<u64>(), any::<bool>()), 0..20),
            cut in 0usize..40,
        ) {
            let all: Vec<Sighting> = all
                .into_iter()
                .map(|(id, content, missed)| Sighting { id, content, missed })
                .collect();
            let bytes = encode(&all);
            let kept = bytes.len().saturating_sub(cut);
            let (mut read, used) = decode(&bytes[..kept]);
            prop_assert!(used <= kept);
            let (rest, _) = decode(&bytes[used..]);
            read.extend(rest);
            prop_assert_eq!(read, all);
        }
    }
}
