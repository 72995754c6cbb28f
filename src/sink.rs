//! Where rows go: one push of one batch at a time. Retries and isolation are the pipeline's.
//!
//! Every sink passes one conformance suite (`tests/it/sink.rs`).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    core::mapping::batch::Batch,
    error::{Error, Kind},
};

pub mod logs_ingestion;
pub mod workspace;

/// Why a push did not land.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// At least one row is refused as it is: isolate it.
    #[error("the rows were refused: {0}")]
    Refused(String),
    /// The batch is too large for the sink: halve it.
    #[error("the batch is too large: {0}")]
    TooLarge(String),
    /// Later, perhaps after as long as the error says. Whether the rows landed is not known.
    #[error("{0}")]
    Later(Error),
    /// No push will land until somebody acts.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl PushError {
    /// A push that failed: what passes by itself is for later, anything else somebody
    /// has to mend.
    fn of(error: Error) -> Self {
        match error.kind() {
            Kind::Transient => Self::Later(error),
            Kind::Config | Kind::Contract => Self::Failed(error),
        }
    }
}

/// A place for rows.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Hands over a stamped batch, all rows or none. `Ok` means that they are safe.
    async fn push(&self, batch: &Batch) -> std::result::Result<(), PushError>;

    /// Finds out, as far as that is possible without a row, whether rows of a table would be taken.
    async fn check(&self, table: &str) -> std::result::Result<(), PushError> {
        self.push(&Batch::new(table)).await
    }

    /// A push of a batch whose JSON nobody needs once it is safe: while the sink holds it in a
    /// smaller form, the batch need not, and its room is free. After an error the batch is as it was.
    async fn push_away(
        &self,
        batch: &mut Batch,
        _room: Room,
    ) -> std::result::Result<(), PushError> {
        self.push(batch).await
    }
}

/// The room for a batch's JSON, one of few; free when it is dropped.
pub type Room = Option<OwnedSemaphorePermit>;

/// A sink that can be shared.
pub type SharedSink = Arc<dyn Sink>;
