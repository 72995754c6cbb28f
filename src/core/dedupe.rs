//! Which records were handled before.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use xxhash_rust::xxh3::xxh3_64;

use super::{endpoint::Sameness, record::Facts};

/// How much time one bucket of fingerprints covers.
pub const BUCKET_SECONDS: i64 = 6 * 60 * 60;

/// The bucket of records without a time.
pub const UNDATED: i64 = i64::MAX;

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

    /// True when the record was handled before.
    pub fn holds(&self, bucket: i64, fingerprint: u64) -> bool {
        self.buckets
            .get(&bucket)
            .is_some_and(|bucket| bucket.contains(&fingerprint))
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
