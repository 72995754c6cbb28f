//! Sightings: which records each pass over all of them has seen.

use std::fmt::Display;

use async_trait::async_trait;

use crate::{
    core::position::snapshot::Sighting,
    error::{Error, Result},
};

/// Some sightings of a log, and where it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sightings {
    /// In the order in which they were added.
    pub sightings: Vec<Sighting>,
    /// Where the log goes on; none at its end.
    pub next: Option<u64>,
}

/// A log that is not as it was written: to read on would take records for new or for gone.
pub(super) fn damaged(set: &str, pass: i64, place: &dyn Display) -> Error {
    Error::config(format!(
        "{place}: what the pass {pass} over `{set}` has seen was changed by somebody else: `cursor \
         reset` the stream, whose next run reads and writes all records again; what vanished since \
         that pass is not told"
    ))
}

/// Logs of sightings, one for each pass of a set. A pass is named by a number of the caller's.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Adds sightings to the end of a log. When it fails, some of them may be there; later ones
    /// count, so that the same sightings may be added again.
    async fn add_sightings(&self, set: &str, pass: i64, sightings: &[Sighting]) -> Result<()>;

    /// Sightings of a log from a place on, which is 0 at first; none for a log that is not there.
    async fn sightings(&self, set: &str, pass: i64, from: u64) -> Result<Sightings>;

    /// Drops the logs of a set, but for these.
    async fn drop_sightings(&self, set: &str, but: &[i64]) -> Result<()>;
}
