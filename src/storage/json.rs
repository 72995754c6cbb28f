//! A state as text: the same in every store.

use std::fmt::Display;

use serde::Deserialize;

use crate::{
    core::position::cursor::{StreamKey, StreamState, damaged},
    error::{Error, Result},
};

pub(super) fn encode(state: &StreamState) -> Result<String> {
    serde_json::to_string(state)
        .map_err(|error| Error::contract(format!("cannot encode the state: {error}")))
}

/// The state of `key` that was found in `place`.
pub(super) fn decode(key: &StreamKey, json: &str, place: &dyn Display) -> Result<StreamState> {
    /// Read first: a state of a newer schema may not parse as ours.
    #[derive(Deserialize)]
    struct SchemaVersion {
        version: u32,
    }
    let unreadable = |error: serde_json::Error| {
        // Not the error's own text, which may quote a token.
        let column = error.column();
        damaged(key, &format!("in `{place}` is damaged at column {column}"))
    };
    let SchemaVersion { version } = serde_json::from_str(json).map_err(unreadable)?;
    let known = StreamState {
        version,
        ..StreamState::default()
    };
    known
        .checked()
        .map_err(|error| error.context(format_args!("`{key}`")))?;
    serde_json::from_str(json).map_err(unreadable)
}
