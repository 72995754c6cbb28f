//! Storage in Azure: what instances of a Function App share.
//!
//! | what | where |
//! |---|---|
//! | state, with its lease | table [`STATE_TABLE`], one entity per stream |
//! | fingerprints | container [`CONTAINER`], `fingerprints/{set}/{bucket}.{part}`, append blobs |
//! | sightings | container [`CONTAINER`], `sightings/{set}/{pass}.{part}`, append blobs |
//! | outbox | container [`CONTAINER`], `outbox/{id}` |
//! | dead letters | container [`CONTAINER`], `dead/{id}` |
//! | assets | table [`ASSETS_TABLE`], partitions by key |
//! | list of connections | container [`CONTAINER`], the blob that `CONNECTIONS` names |
//! | originals | container [`CONTAINER`], `originals/{connection}/{stream}/{id}/{version}` |
//!
//! Tables, container and queues are created when something is first written. The services are spoken to
//! directly: there is no living crate for tables, and for blobs and queues none that signs with a key,
//! lists metadata and leaves time, waits and the connection to us.

pub use blobs::Changed;
use blobs::Container;
use queue::Queue;
use table::Table;

use bytes::Bytes;

use crate::{error::Result, io::wire::Wire};

mod answer;
mod assets;
mod blobs;
mod fingerprints;
mod name;
mod parcels;
mod service;
mod snapshots;
mod state;
mod stock;

pub mod account;
pub mod auth;
pub mod queue;
pub mod table;

pub use account::{Account, AccountSettings, Login, StorageSettings};
pub use auth::{Credential, SharedKey};

/// The table of the streams' states.
pub const STATE_TABLE: &str = "connectorstate";

/// The table of what is known of machines.
pub const ASSETS_TABLE: &str = "connectorassets";

/// The container of everything else.
pub const CONTAINER: &str = "sentinel-connector";

/// How many requests for blobs are under way together.
const AT_ONCE: usize = 8;

/// All that the pipeline remembers, in a storage account.
pub struct AzureStorage {
    account: Account,
    wire: Wire,
    owner: String,
    state: Table,
    assets: Table,
    blobs: Container,
}

impl AzureStorage {
    /// The store in an account. Nothing is asked of it yet.
    pub fn new(account: Account, wire: Wire) -> Self {
        Self {
            // Not from the injected randomness: no two processes may have the same name.
            owner: format!("azure-{:016x}", rand::random::<u64>()),
            state: Table::new(&account, STATE_TABLE, &wire),
            assets: Table::new(&account, ASSETS_TABLE, &wire),
            blobs: Container::new(&account, CONTAINER, &wire),
            account,
            wire,
        }
    }

    /// The list of connections that somebody has put there, and its `ETag`, unless that is `known`.
    pub async fn connections(
        &self,
        blob: &str,
        known: Option<&str>,
    ) -> Result<Changed<Option<(Bytes, String)>>> {
        self.blobs.get_changed(blob, known).await
    }

    /// Writes the list of connections over the one with this `ETag`, or where there is none. False when
    /// somebody else has changed it since.
    pub async fn set_connections(
        &self,
        blob: &str,
        text: String,
        known: Option<&str>,
    ) -> Result<bool> {
        self.blobs.put_over(blob, text.into(), known).await
    }

    /// Another table of the account.
    pub fn table(&self, name: &str) -> Table {
        Table::new(&self.account, name, &self.wire)
    }

    /// A queue of the account.
    ///
    /// # Errors
    /// `Config`, when the settings don't tell where its queues are.
    pub fn queue(&self, name: &str) -> Result<Queue> {
        Queue::new(&self.account, name, &self.wire)
    }
}
