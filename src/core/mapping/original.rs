//! Originals: records of which a row holds only a part.

use crate::core::position::cursor::StreamKey;

/// The full text of a record of which a column holds only a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// The stream that it came from.
    pub key: StreamKey,
    /// The `recordId` of its row.
    pub record_id: String,
    /// The `recordVersion` of its row.
    pub record_version: String,
    /// The record, whole.
    pub body: Vec<u8>,
}
