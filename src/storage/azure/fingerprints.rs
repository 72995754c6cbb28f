//! Fingerprints: one append blob for each bucket of a set.
//!
//! An addition is one request per bucket that reads nothing, can't conflict with another run's and
//! is whole or not there; a bucket is read in one request. To write buckets anew with `If-Match`
//! would move them twice over the network at each addition, and small blobs of their own would make
//! a run read hundreds. Bytes that came twice, since an answer was lost, say the same twice.

use async_trait::async_trait;
use futures_util::future::try_join_all;

use super::{
    AT_ONCE, AzureStorage,
    blobs::{Appended, MAX_APPEND, MAX_APPENDS},
    name::escaped,
};
use crate::{error::Result, storage::Fingerprints};

#[async_trait]
impl Fingerprints for AzureStorage {
    async fn fingerprints(&self, set: &str, bucket: i64) -> Result<Vec<u64>> {
        let mut all = Vec::new();
        for part in 0.. {
            let name = name(set, bucket, part);
            let Some(blob) = self.blobs.get(&name).await? else {
                break;
            };
            let torn = blob.body.len() % size_of::<u64>();
            if torn > 0 {
                tracing::warn!(
                    blob = name,
                    "fingerprints were changed by somebody else; records of that time may land once \
                     more"
                );
                // So that what is added from now on begins where a fingerprint does.
                let filler = vec![0; size_of::<u64>() - torn];
                self.blobs.append(&name, filler.into()).await?;
            }
            let hashes = blob.body.as_chunks().0;
            all.extend(hashes.iter().copied().map(u64::from_le_bytes));
            if blob.appends < MAX_APPENDS {
                break;
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn add_fingerprints(&self, set: &str, added: &[(i64, Vec<u64>)]) -> Result<()> {
        for some in added.chunks(AT_ONCE) {
            let appends = some
                .iter()
                .filter(|(_, hashes)| !hashes.is_empty())
                .map(|(bucket, hashes)| self.append(set, *bucket, hashes));
            try_join_all(appends).await?;
        }
        Ok(())
    }

    async fn prune_fingerprints(&self, set: &str, bucket: i64) -> Result<()> {
        let prefix = prefix(set);
        let listed = self.blobs.list(&prefix).await?;
        let old: Vec<String> = listed
            .into_iter()
            .map(|blob| blob.name)
            .filter(|name| bucket_of(name).is_some_and(|found| found < bucket))
            .map(|name| format!("{prefix}{name}"))
            .collect();
        for some in old.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|name| self.blobs.delete(name))).await?;
        }
        Ok(())
    }
}

impl AzureStorage {
    async fn append(&self, set: &str, bucket: i64, hashes: &[u64]) -> Result<()> {
        let mut part = 0;
        for some in hashes.chunks(MAX_APPEND / size_of::<u64>()) {
            let bytes: Vec<u8> = some.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            let bytes = bytes::Bytes::from(bytes);
            while self
                .blobs
                .append(&name(set, bucket, part), bytes.clone())
                .await?
                == Appended::Full
            {
                part += 1;
            }
        }
        Ok(())
    }
}

fn prefix(set: &str) -> String {
    format!("fingerprints/{}/", escaped(set))
}

/// `part` counts the blobs of a bucket that has had more appends than one blob takes.
fn name(set: &str, bucket: i64, part: u64) -> String {
    format!("{}{bucket}.{part}", prefix(set))
}

fn bucket_of(name: &str) -> Option<i64> {
    name.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_known_by_its_blobs() {
        for bucket in [i64::MIN, -1, 0, 7, i64::MAX] {
            let name = name("default/eset", bucket, 3);
            let name = name.strip_prefix("fingerprints/default!2feset/").unwrap();
            assert_eq!(bucket_of(name), Some(bucket));
        }
        assert_eq!(bucket_of("x.0"), None);
        assert_eq!(bucket_of("7"), None);
    }
}
