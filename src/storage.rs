//! What is kept from run to run: state with `ETags`, fingerprints, sightings, outbox, dead letters,
//! originals, assets.
//!
//! Every store passes one conformance suite (`tests/it/storage.rs`).

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{
    core::{
        mapping::original::Original,
        position::cursor::{StreamKey, StreamState},
    },
    error::{Error, Result},
};

mod assets;
pub mod azure;
pub(crate) mod dead_letter;
mod json;
pub mod memory;
mod snapshots;
pub mod sqlite;

pub use assets::Assets;
use snapshots::damaged;
pub use snapshots::{Sightings, Snapshots};

/// Names one version of a stored state; a save with an older one is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

/// Why a state was not saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// Somebody else saved since the state was loaded. Nothing was written.
    #[error("another run saved this stream's state")]
    Conflict,
    /// The store failed. Whether the state was written is not known.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// The state of each stream, one entity each.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The state of a stream and its version, or `None` before the first save.
    async fn load(&self, key: &StreamKey) -> Result<Option<(StreamState, ETag)>>;

    /// The states of many streams as [`load`](Self::load) gives each, in the order of `keys`.
    async fn load_all(&self, keys: &[StreamKey]) -> Vec<Result<Option<(StreamState, ETag)>>> {
        let mut states = Vec::with_capacity(keys.len());
        for key in keys {
            states.push(self.load(key).await);
        }
        states
    }

    /// Writes the state over the version `expected`, or as the first one with `None`.
    async fn save(
        &self,
        key: &StreamKey,
        state: &StreamState,
        expected: Option<&ETag>,
    ) -> std::result::Result<ETag, SaveError>;

    /// Forgets a stream. It is no error when there is nothing to forget.
    async fn forget(&self, key: &StreamKey) -> Result<()>;

    /// The saved text of a stream's state and its version, whether or not it can be read.
    async fn saved_text(&self, key: &StreamKey) -> Result<Option<(String, ETag)>>;

    /// All states, by key; one that can't be read has its error in its place.
    async fn stored_states(&self) -> Result<Vec<(StreamKey, Result<StreamState>)>>;

    /// Finds out, within seconds, whether states can be read.
    async fn check(&self) -> Result<()> {
        self.stored_states().await.map(drop)
    }

    /// All states, by key, for whoever can do nothing without one of them.
    async fn states(&self) -> Result<Vec<(StreamKey, StreamState)>> {
        let stored = self.stored_states().await?.into_iter();
        stored
            .map(|(key, state)| state.map(|state| (key, state)))
            .collect()
    }

    /// Why the store can't be written to, one error for each part of it that refuses. Nothing is
    /// changed by asking.
    async fn refused_writes(&self) -> Vec<Error> {
        Vec::new()
    }

    /// A name for this process as the owner of leases.
    fn owner(&self) -> String;

    /// True when the store knows that this owner's process has ended, so that its leases are free
    /// before their time.
    async fn is_gone(&self, owner: &str) -> bool;
}

/// Hashes of records that were handled, in buckets of time.
#[async_trait]
pub trait Fingerprints: Send + Sync {
    /// The hashes of one bucket of a set, in any order.
    async fn fingerprints(&self, set: &str, bucket: i64) -> Result<Vec<u64>>;

    /// Adds hashes to buckets of a set. A store that can't write several buckets at once may have
    /// added some of them when it fails.
    ///
    /// Some is as good as none, since only records that are safe have a fingerprint: one that is
    /// there is true, and one that is missing has its record read and pushed once more, as the
    /// cursor does not move after a failure.
    async fn add_fingerprints(&self, set: &str, added: &[(i64, Vec<u64>)]) -> Result<()>;

    /// Drops the buckets of a set that lie before `bucket`.
    async fn prune_fingerprints(&self, set: &str, bucket: i64) -> Result<()>;
}

/// A record that cannot become a row, or a row that the sink refuses as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The same record has the same id, however often it is refused.
    pub id: String,
    /// The stream that it came from.
    pub key: StreamKey,
    /// The table that it was meant for.
    pub table: String,
    /// When it was refused first.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// The record or row, whole.
    pub body: Vec<u8>,
}

/// Where dead letters wait for somebody to look.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps letters; one whose id is known already is left as it is.
    async fn bury(&self, letters: &[DeadLetter]) -> Result<()>;

    /// The letters, oldest first.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>>;

    /// One letter.
    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>>;

    /// Takes a letter away. It is no error when there is none of this id.
    async fn drop_dead_letter(&self, id: &str) -> Result<()>;

    /// How many there are.
    async fn count_dead_letters(&self) -> Result<u64>;
}

/// Rows that left the source and are not in Sentinel yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Sorts by the time of parking; unique.
    pub id: String,
    /// The stream that they came from.
    pub key: StreamKey,
    /// The table that they are meant for. Which collection rule that is, is decided at the push.
    pub table: String,
    /// When they were parked.
    pub at: DateTime<Utc>,
    /// How many there are.
    pub rows: u64,
    /// How many bytes `body` has.
    pub bytes: u64,
    /// Why they did not land.
    pub reason: String,
    /// The rows, a JSON array as of a [`Batch`](crate::core::mapping::batch::Batch). Empty in listings.
    pub body: Vec<u8>,
}

/// Where rows wait for the sink.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Parks rows. When it returns they are safe; the same id again changes nothing.
    async fn park(&self, parked: &Parked) -> Result<()>;

    /// What is parked, oldest first, without the bodies.
    async fn parked(&self, limit: usize) -> Result<Vec<Parked>>;

    /// One entry, with its body.
    async fn parked_rows(&self, id: &str) -> Result<Option<Parked>>;

    /// Takes an entry away. It is no error when there is none of this id.
    async fn drop_parked(&self, id: &str) -> Result<()>;

    /// How many entries, and how many bytes of bodies.
    async fn outbox_size(&self) -> Result<(u64, u64)>;
}

/// Where originals are kept.
#[async_trait]
pub trait Originals: Send + Sync {
    /// Keeps originals; one of the same identity is replaced.
    async fn keep(&self, originals: &[Original]) -> Result<()>;

    /// The original of a row.
    async fn original(&self, key: &StreamKey, id: &str, version: &str) -> Result<Option<Original>>;
}

/// The reason of an entry, and what somebody has made of it since.
fn with_damage(reason: String, damage: &[(bool, &str)]) -> String {
    let damage: Vec<&str> = damage
        .iter()
        .filter_map(|(is_so, what)| is_so.then_some(*what))
        .collect();
    if damage.is_empty() {
        return reason;
    }
    format!("damaged by somebody else, {}; {reason}", damage.join(", "))
}

/// All that the pipeline needs to remember.
pub trait Storage:
    StateStore + Fingerprints + Snapshots + Outbox + DeadLetters + Originals + Assets
{
}

impl<T> Storage for T where
    T: StateStore + Fingerprints + Snapshots + Outbox + DeadLetters + Originals + Assets
{
}

/// A store that can be shared.
pub type SharedStorage = Arc<dyn Storage>;
