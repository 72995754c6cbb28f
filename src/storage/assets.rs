//! What is known of machines, found by address, name or id.

use async_trait::async_trait;

use crate::{
    core::mapping::assets::{Change, Entry, Kind},
    error::Result,
};

/// Entries of all connections, found by their keys.
#[async_trait]
pub trait Assets: Send + Sync {
    /// Makes changes; of several about one entry the last counts. An entry that is replaced is found
    /// by its new keys alone. It is no error when there is nothing to take away.
    ///
    /// A store that can't make several changes at once may have made some of them when it fails;
    /// to make them all again ends the same.
    async fn file_assets(&self, changes: &[Change]) -> Result<()>;

    /// The entries of a kind that have this key, by connection and id.
    async fn assets(&self, kind: Kind, key: &str) -> Result<Vec<Entry>>;
}
