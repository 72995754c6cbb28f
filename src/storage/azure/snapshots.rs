//! Sightings: one append blob for each pass of a set, read in ranges.

use async_trait::async_trait;
use futures_util::future::try_join_all;

use super::{AT_ONCE, AzureStorage, blobs::Appended, name::escaped};
use crate::{
    core::position::snapshot::{Sighting, decode, encode},
    error::Result,
    storage::{Sightings, Snapshots},
};

/// How many sightings one append holds at most: it takes 4 MiB.
const TOGETHER: usize = 5_000;

/// How much of a blob is read at once.
const RANGE: u64 = 2 << 20;

/// The parts of a log, each a blob, are counted in these bits of a place.
const PART: u32 = 48;

#[async_trait]
impl Snapshots for AzureStorage {
    async fn add_sightings(&self, set: &str, pass: i64, sightings: &[Sighting]) -> Result<()> {
        for some in sightings.chunks(TOGETHER) {
            let bytes = bytes::Bytes::from(encode(some));
            for part in 0.. {
                let name = name(set, pass, part);
                if self.blobs.append(&name, bytes.clone()).await? == Appended::Done {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn sightings(&self, set: &str, pass: i64, from: u64) -> Result<Sightings> {
        let (part, offset) = (from >> PART, from & ((1 << PART) - 1));
        let found = self
            .blobs
            .range(&name(set, pass, part), offset, RANGE)
            .await?;
        let Some(bytes) = found else {
            return Ok(Sightings {
                sightings: Vec::new(),
                next: None,
            });
        };
        if bytes.is_empty() {
            // The end of this blob; another one follows when it was full.
            return Ok(Sightings {
                sightings: Vec::new(),
                next: Some((part + 1) << PART),
            });
        }
        let (sightings, used) = decode(&bytes);
        Ok(Sightings {
            sightings,
            next: Some(from + used as u64).filter(|_| used > 0),
        })
    }

    async fn drop_sightings(&self, set: &str, but: &[i64]) -> Result<()> {
        let prefix = prefix(set);
        let listed = self.blobs.list(&prefix).await?;
        let old: Vec<String> = listed
            .into_iter()
            .map(|blob| blob.name)
            .filter(|name| pass_of(name).is_some_and(|pass| !but.contains(&pass)))
            .map(|name| format!("{prefix}{name}"))
            .collect();
        for some in old.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|name| self.blobs.delete(name))).await?;
        }
        Ok(())
    }
}

fn prefix(set: &str) -> String {
    format!("sightings/{}/", escaped(set))
}

fn name(set: &str, pass: i64, part: u64) -> String {
    format!("{}{pass}.{part}", prefix(set))
}

fn pass_of(name: &str) -> Option<i64> {
    name.split_once('.')?.0.parse().ok()
}
