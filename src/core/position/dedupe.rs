//! Which records were handled before.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    cursor::{OpenSlice, Slice, StreamState},
    record_key::RecordMeta,
    snapshot::PassView,
    window::Pace,
};
use crate::core::protocol::endpoint::{DedupKey, Endpoint};

/// What a chunk's records are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DedupMode {
    /// The fingerprints of what was handled before.
    Fingerprints,
    /// Nothing: all of it is wanted.
    Plain,
    /// What the last pass has seen.
    Snapshot(PassView),
}

impl DedupMode {
    /// How the records of a slice are told from those that were handled before.
    pub fn of(endpoint: &Endpoint, state: &StreamState, open: &OpenSlice, pace: &Pace) -> Self {
        match (endpoint.snapshot, &open.slice, state.last_pass) {
            (Some(_), Slice::Pass, last) => Self::Snapshot(PassView {
                log: open.began,
                last,
                rewrite: state.rewrites(open.began, pace),
            }),
            (Some(_), _, Some(passed)) => Self::Snapshot(PassView {
                log: passed,
                last: Some(passed),
                rewrite: false,
            }),
            (None, Slice::Pass, _) | (Some(_), _, None) => Self::Plain,
            (None, ..) => Self::Fingerprints,
        }
    }

    /// True when a hash of each record is needed: it is its version, or tells whether it changed.
    pub fn hashes(self, endpoint: &Endpoint) -> bool {
        endpoint.identity.takes_hash() || self != Self::Fingerprints
    }
}

/// How much time one bucket of fingerprints covers: the least that a run holds of them, however many
/// records there are.
pub const BUCKET_SECONDS: i64 = 2 * 60 * 60;

/// The bucket of records without a time, within a run. They are kept by when they were handled, see
/// [`generations`].
pub const UNDATED: i64 = i64::MAX;

/// The names of a connection's two sets of fingerprints: of records with a time, by its bucket, and
/// of those without, by the generation that they were handled in.
pub fn sets(connection: &str, name: &str) -> [String; 2] {
    let dated = format!("{connection}/{name}");
    let undated = format!("{dated}/undated");
    [dated, undated]
}

/// How many buckets a generation of records without a time covers: 30 days.
const GENERATION: i64 = 360;

/// The first bucket of the generation that records without a time belong to when they are handled at
/// `now`, and that of the one before. What is older than both was handled more than 30 days ago.
pub fn generations(now: DateTime<Utc>) -> [i64; 2] {
    let bucket = bucket_of(Some(now));
    let current = bucket - bucket.rem_euclid(GENERATION);
    [current, current - GENERATION]
}

/// The bucket of a record.
pub fn bucket_of(time: Option<DateTime<Utc>>) -> i64 {
    time.map_or(UNDATED, |time| time.timestamp().div_euclid(BUCKET_SECONDS))
}

/// Eight bytes that stand for a record.
pub fn fingerprint(facts: &RecordMeta, sameness: DedupKey) -> u64 {
    match sameness {
        DedupKey::Id => xxh3_64(facts.id.as_bytes()),
        DedupKey::IdAndVersion => xxh3_64(
            [facts.id.as_bytes(), b"\0", facts.version.as_bytes()]
                .concat()
                .as_slice(),
        ),
    }
}

/// The fingerprints of the buckets that a run works in. Buckets come from the store when they are
/// needed, and go again ([`trim`](Self::trim)): a backlog of any length takes the same memory.
#[derive(Debug, Default)]
pub struct SeenIds {
    buckets: HashMap<i64, Bucket>,
    /// Counts uses, to tell which bucket was left alone the longest.
    uses: u64,
}

impl SeenIds {
    /// True when the bucket need not be loaded first.
    pub fn has(&self, bucket: i64) -> bool {
        self.buckets.contains_key(&bucket)
    }

    /// Takes in a bucket: what the store has, and what is on its way there.
    pub fn load(&mut self, bucket: i64, fingerprints: Vec<u64>) {
        self.buckets.entry(bucket).or_default().load(fingerprints);
    }

    /// True when the record was handled before.
    pub fn holds(&self, bucket: i64, fingerprint: u64) -> bool {
        self.buckets
            .get(&bucket)
            .is_some_and(|bucket| bucket.holds(fingerprint))
    }

    /// True when the record is new; from then on it is not.
    pub fn insert(&mut self, bucket: i64, fingerprint: u64) -> bool {
        self.uses += 1;
        let bucket = self.buckets.entry(bucket).or_default();
        bucket.used = self.uses;
        bucket.insert(fingerprint)
    }

    /// Lets go of the buckets that were left alone the longest, until at most `most` fingerprints
    /// are held, or one bucket is.
    pub fn trim(&mut self, most: usize) {
        while self.buckets.len() > 1 && self.buckets.values().map(Bucket::len).sum::<usize>() > most
        {
            let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.used);
            let Some(oldest) = oldest.map(|(bucket, _)| *bucket) else {
                return;
            };
            self.buckets.remove(&oldest);
        }
    }
}

/// How many new fingerprints of a bucket are kept apart: few enough to move for each new one, and so
/// many that all others are seldom moved.
const FRESH: usize = 2_048;

/// Fingerprints in little more than their own bytes, in one piece of memory that grows where it is.
#[derive(Debug, Default)]
struct Bucket {
    /// In their order.
    sorted: Vec<u64>,
    /// Those that came last, in their order.
    fresh: Vec<u64>,
    used: u64,
}

impl Bucket {
    fn len(&self) -> usize {
        self.sorted.len() + self.fresh.len()
    }

    fn load(&mut self, mut fingerprints: Vec<u64>) {
        if self.len() > 0 {
            for fingerprint in fingerprints {
                self.insert(fingerprint);
            }
            return;
        }
        fingerprints.sort_unstable();
        fingerprints.dedup();
        fingerprints.shrink_to_fit();
        self.sorted = fingerprints;
    }

    fn holds(&self, fingerprint: u64) -> bool {
        let lists = [&self.fresh, &self.sorted];
        lists
            .iter()
            .any(|list| list.binary_search(&fingerprint).is_ok())
    }

    fn insert(&mut self, fingerprint: u64) -> bool {
        let Err(at) = self.fresh.binary_search(&fingerprint) else {
            return false;
        };
        if self.sorted.binary_search(&fingerprint).is_ok() {
            return false;
        }
        self.fresh.insert(at, fingerprint);
        if self.fresh.len() == FRESH {
            self.settle();
        }
        true
    }

    /// Moves the new ones to their places among the others, from the last to the first.
    fn settle(&mut self) {
        let mut old = self.sorted.len();
        self.sorted.reserve_exact(self.fresh.len());
        self.sorted.resize(old + self.fresh.len(), 0);
        while let Some(last) = self.fresh.pop() {
            let before = self.fresh.len();
            let at = self.sorted[..old].partition_point(|one| *one < last);
            self.sorted.copy_within(at..old, at + before + 1);
            self.sorted[at + before] = last;
            old = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_is_new_once() {
        let mut seen = SeenIds::default();
        assert!(!seen.has(3));
        seen.load(3, vec![7]);
        assert!(seen.has(3) && !seen.has(1));
        assert!(!seen.insert(3, 7));
        assert!(seen.insert(3, 8));
        assert!(!seen.insert(3, 8));
        assert!(seen.insert(1, 7), "another bucket is another record");
    }

    #[test]
    fn the_buckets_that_were_left_alone_the_longest_go_first() {
        let mut seen = SeenIds::default();
        for bucket in [1, 2, 3, 1] {
            for fingerprint in 0..10 {
                seen.insert(bucket, fingerprint);
            }
        }
        seen.trim(30);
        assert!([1, 2, 3].iter().all(|bucket| seen.has(*bucket)));
        seen.trim(29);
        assert!(seen.has(1) && !seen.has(2) && seen.has(3));
        seen.trim(0);
        assert!(seen.has(1), "one bucket stays, whatever its size");
    }

    #[test]
    fn buckets_are_half_open() {
        let at = |text: &str| bucket_of(Some(text.parse().unwrap()));
        assert_eq!(at("2026-01-01T00:00:00Z"), at("2026-01-01T01:59:59.999Z"));
        assert_ne!(at("2026-01-01T00:00:00Z"), at("2026-01-01T02:00:00Z"));
        assert_eq!(at("1969-12-31T23:59:59Z"), -1);
        assert_eq!(bucket_of(None), UNDATED);
    }

    #[test]
    fn generations_follow_each_other_without_a_hole() {
        let mut now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let [mut current, _] = generations(now);
        for _ in 0..100 {
            now += chrono::TimeDelta::days(1);
            let [next, before] = generations(now);
            assert!(next == current || before == current, "{now}");
            assert!(next <= bucket_of(Some(now)) && before < next, "{now}");
            current = next;
        }
    }

    #[test]
    fn a_version_is_a_record_where_the_source_changes_them() {
        let facts = |id: &str, version: &str| RecordMeta {
            id: id.to_owned(),
            version: version.to_owned(),
            time: None,
        };
        let both = DedupKey::IdAndVersion;
        assert_eq!(
            fingerprint(&facts("a", "1"), DedupKey::Id),
            fingerprint(&facts("a", "2"), DedupKey::Id)
        );
        assert_ne!(
            fingerprint(&facts("a", "1"), both),
            fingerprint(&facts("a", "2"), both)
        );
        assert_ne!(
            fingerprint(&facts("ab", "1"), both),
            fingerprint(&facts("a", "b1"), both)
        );
    }

    proptest! {
        #[test]
        fn a_bucket_of_any_size_knows_what_it_was_given(
            loaded in prop::collection::vec(0_u64..5_000, 0..500),
            inserted in prop::collection::vec(0_u64..5_000, 0..6_000),
            spread in 0_u32..64,
        ) {
            let all = |some: Vec<u64>| some.into_iter().map(|one| one.rotate_right(spread)).collect();
            let (loaded, inserted): (Vec<u64>, Vec<u64>) = (all(loaded), all(inserted));
            let mut known: HashSet<u64> = loaded.iter().copied().collect();
            let mut seen = SeenIds::default();
            seen.load(0, loaded);
            for fingerprint in inserted {
                prop_assert_eq!(seen.insert(0, fingerprint), known.insert(fingerprint));
            }
        }
    }
}
