//! One row about each run: a quiet tenant is not a dead connector.

use serde_json::json;

use super::{Parts, Report, deliver, own_rows};
use crate::{
    core::{
        json::record::canonical_hash,
        mapping::{batch::Batch, columns},
        position::cursor::StreamKey,
    },
    error::Error,
    io::expiry::{self, Expiring},
    sink::PushError,
};

pub use super::own_rows::PROVIDER;

/// The `streamName` of health rows; the stream that a row is about stands in `additionalFields`.
pub const STREAM: &str = "connector.health";

/// True for the stream of health rows.
pub(crate) fn is_health(stream: &str) -> bool {
    stream == STREAM
}

/// Writes the row. In an outage of the sink it waits in the outbox, so that all runs can be added up
/// later. When it has no room either, the report still says what happened, and the next run writes
/// one of its own.
pub(super) async fn write(expiring: &[Expiring], parts: &Parts, report: &Report) {
    let about = StreamKey::new(&report.key.connection, STREAM);
    let Ok(report) = serde_json::to_value(report) else {
        return;
    };
    let now = parts.clock.now();
    let mut fields = json!({ "version": env!("CARGO_PKG_VERSION"), "run": report });
    if let Some(app) = &parts.app {
        fields["app"] = app.as_str().into();
    }
    let secrets = expiry::all(expiring, now).await;
    if let Some(first) = secrets.first() {
        fields["secretDaysLeft"] = first.days_left.into();
        fields["secrets"] = json!(secrets);
    }
    let fields = fields.to_string();
    let id = format!("{:016x}", canonical_hash(fields.as_bytes()));
    let row = own_rows::row(&about, &id, &fields, now);
    let mut batch = Batch::new(columns::DETECTIONS.name);
    batch.add(&row);
    batch.stamp(now, &id);
    let written = match parts.sink.push(&batch).await {
        Err(PushError::Later(error)) => {
            deliver::park(parts, &about, &batch, error.to_string()).await
        }
        Err(PushError::Failed(error)) => Err(error),
        Err(error) => Err(Error::contract(error.to_string())),
        Ok(()) => Ok(()),
    };
    if let Err(error) = written {
        tracing::debug!(%error, "no health row");
    }
}
