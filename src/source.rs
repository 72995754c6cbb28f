//! Where records come from: a source answers one page, and looks up what a record leaves out. Loops
//! over slices and pages, batching and state are the pipeline's.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{
    core::{
        json::record::RecordMeta,
        position::{
            cursor::{Basis, Slice},
            window::Window,
        },
        protocol::endpoint::Endpoint,
    },
    error::Result,
    io::exchange::{Limits, Reply},
};

pub mod defender;
pub mod eset;
pub mod hunting;

/// A record about which something may be looked up.
#[derive(Debug, Clone)]
pub struct EnrichRequest {
    /// What identifies it.
    pub facts: RecordMeta,
    /// The record, a JSON object.
    pub text: Vec<u8>,
}

/// What was looked up about one record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrichment {
    /// The record in a richer shape: a JSON object.
    pub details: Option<Vec<u8>>,
    /// The name of the device that it names.
    pub device_name: Option<String>,
    /// Something that the record leaves out was not to be had.
    pub missing: bool,
}

/// One stream of one connection.
#[async_trait]
pub trait Source: Send + Sync {
    /// The stream's constants.
    fn endpoint(&self) -> &'static Endpoint;

    /// One page of a slice, and the member that holds its records.
    async fn page(
        &self,
        slice: &Slice,
        page: &str,
        limits: &Limits,
    ) -> Result<(Reply, &'static str)>;

    /// Which time the stream's windows can go by; `None` when the source can't tell yet, or has no
    /// choice.
    async fn basis(&self, limits: &Limits) -> Result<Option<Basis>> {
        let _ = limits;
        Ok(None)
    }

    /// How many records happened in a window, when the source can tell without sending them.
    async fn count(&self, window: Window, limits: &Limits) -> Result<Option<u64>> {
        let _ = (window, limits);
        Ok(None)
    }

    /// Until when the source has said that it answers nothing, whatever it is asked.
    fn rests_until(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// True when [`enrich`](Self::enrich) has anything to do.
    fn enriches(&self) -> bool {
        false
    }

    /// What the records leave out, one answer each, in their order.
    ///
    /// Best effort: what can't be had is left empty. An error means that the records must not go on
    /// without it, and will be read again.
    async fn enrich(&self, records: &[EnrichRequest], limits: &Limits) -> Result<Vec<Enrichment>> {
        let _ = limits;
        Ok(vec![Enrichment::default(); records.len()])
    }
}

/// A source that can be shared.
pub type SharedSource = Arc<dyn Source>;
