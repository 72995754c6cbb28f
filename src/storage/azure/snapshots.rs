//! Sightings: one append blob for each pass of a set, read in ranges.

use async_trait::async_trait;
use futures_util::future::try_join_all;

use super::{
    AT_ONCE, AzureStorage,
    blobs::{Appended, MAX_APPEND},
    name::escaped,
};
use crate::{
    core::position::snapshot::{SIGHTING_HEAD, Sighting, decode, encode},
    error::Result,
    storage::{Sightings, Snapshots, damaged},
};

/// How much of a blob is read at once.
const RANGE: u64 = 2 << 20;

/// The parts of a log, each a blob, are counted in these bits of a place.
const PART: u32 = 48;

#[async_trait]
impl Snapshots for AzureStorage {
    async fn add_sightings(&self, set: &str, pass: i64, sightings: &[Sighting]) -> Result<()> {
        let mut part = 0;
        for some in appends(sightings) {
            let bytes = bytes::Bytes::from(encode(some));
            while self
                .blobs
                .append(&name(set, pass, part), bytes.clone())
                .await?
                == Appended::Full
            {
                part += 1;
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
        if used == 0 {
            return Err(damaged(set, pass, &self.blobs.place()));
        }
        Ok(Sightings {
            sightings,
            next: Some(from + used as u64),
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

/// The sightings in runs that one append takes: ids may be long.
fn appends(mut sightings: &[Sighting]) -> Vec<&[Sighting]> {
    let mut runs = Vec::new();
    while !sightings.is_empty() {
        let mut bytes = 0;
        let fits = |sighting: &&Sighting| {
            bytes += SIGHTING_HEAD + sighting.id.len();
            bytes <= MAX_APPEND
        };
        let many = sightings.iter().take_while(fits).count().max(1);
        let (some, rest) = sightings.split_at(many);
        runs.push(some);
        sightings = rest;
    }
    runs
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
