//! Which records were handled before.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use xxhash_rust::xxh3::xxh3_64;

use super::{endpoint::Sameness, record::Facts};

/// How much time one bucket of fingerprints covers.
pub const BUCKET_SECONDS: i64 = 6 * 60 * 60;

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
const GENERATION: i64 = 120;

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
pub fn fingerprint(facts: &Facts, sameness: Sameness) -> u64 {
    match sameness {
        Sameness::Id => xxh3_64(facts.id.as_bytes()),
        Sameness::IdAndVersion => xxh3_64(
            [facts.id.as_bytes(), b"\0", facts.version.as_bytes()]
                .concat()
                .as_slice(),
        ),
    }
}

/// The fingerprints of the buckets that a run has touched.
#[derive(Debug, Default)]
pub struct Seen {
    buckets: HashMap<i64, HashSet<u64>>,
}

impl Seen {
    /// Those of `buckets` that have to be loaded first.
    pub fn missing(&self, buckets: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut missing: Vec<i64> = buckets
            .into_iter()
            .filter(|bucket| !self.buckets.contains_key(bucket))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Takes in a bucket from the store.
    pub fn load(&mut self, bucket: i64, fingerprints: Vec<u64>) {
        self.buckets.entry(bucket).or_default().extend(fingerprints);
    }

    /// True when the record is new; from then on it is not.
    pub fn insert(&mut self, bucket: i64, fingerprint: u64) -> bool {
        self.buckets.entry(bucket).or_default().insert(fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_new_once() {
        let mut seen = Seen::default();
        assert_eq!(seen.missing([3, 1, 3]), [1, 3]);
        seen.load(3, vec![7]);
        assert_eq!(seen.missing([3, 1]), [1]);
        assert!(!seen.insert(3, 7));
        assert!(seen.insert(3, 8));
        assert!(!seen.insert(3, 8));
        assert!(seen.insert(1, 7), "another bucket is another record");
    }

    #[test]
    fn buckets_are_half_open() {
        let at = |text: &str| bucket_of(Some(text.parse().unwrap()));
        assert_eq!(at("2026-01-01T00:00:00Z"), at("2026-01-01T05:59:59.999Z"));
        assert_ne!(at("2026-01-01T00:00:00Z"), at("2026-01-01T06:00:00Z"));
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
        let facts = |id: &str, version: &str| Facts {
            id: id.to_owned(),
            version: version.to_owned(),
            time: None,
        };
        let both = Sameness::IdAndVersion;
        assert_eq!(
            fingerprint(&facts("a", "1"), Sameness::Id),
            fingerprint(&facts("a", "2"), Sameness::Id)
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
}
