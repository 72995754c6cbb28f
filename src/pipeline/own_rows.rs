//! Rows about ourselves.

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::core::{
    mapping::row::own_row,
    position::{cursor::StreamKey, record_key::RecordMeta},
};

/// `providerName` of rows about ourselves.
pub const PROVIDER: &str = "sentinel-connector";

/// The `streamName` of rows that only try whether a table takes any.
pub(super) const PROBE: &str = "connector.probe";

/// A row that every table of this version takes: it says that somebody tried.
pub(super) fn probe(now: DateTime<Utc>) -> Vec<u8> {
    let fields = json!({ "version": env!("CARGO_PKG_VERSION"), "probe": true }).to_string();
    row(&StreamKey::new("all", PROBE), PROBE, &fields, now)
}

/// A row of ours, which has one version.
pub(super) fn row(key: &StreamKey, id: &str, fields: &str, now: DateTime<Utc>) -> Vec<u8> {
    let facts = RecordMeta {
        id: id.to_owned(),
        version: id.to_owned(),
        time: Some(now),
    };
    own_row(PROVIDER, key, &facts, fields, now)
}
