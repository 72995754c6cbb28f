//! Saved states, with their pages read: only whoever knows the streams can tell which page is none.

use crate::{
    core::position::cursor::{StreamKey, StreamState},
    error::Result,
    source::endpoints,
    storage::StateStore,
};

/// A state with its page read as its stream's are; as it is, for what is no stream of ours.
///
/// # Errors
/// `Config` for a page that is none of the stream's.
pub fn with_page_read(key: &StreamKey, state: StreamState) -> Result<StreamState> {
    // Those that stand for the same stream read the same pages.
    match endpoints().find(|endpoint| endpoint.stream == key.stream) {
        Some(endpoint) => state.with_page_read(key, |slice| endpoint.paging(slice)),
        None => Ok(state),
    }
}

/// All saved states, by key; one that can't be read has its error in its place.
pub async fn stored_states(
    storage: &dyn StateStore,
) -> Result<Vec<(StreamKey, Result<StreamState>)>> {
    let stored = storage.stored_states().await?.into_iter();
    let read = |(key, state): (StreamKey, Result<StreamState>)| {
        let state = state.and_then(|state| with_page_read(&key, state));
        (key, state)
    };
    Ok(stored.map(read).collect())
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use super::*;
    use crate::core::{
        position::{cursor::Slice, window::Window},
        protocol::endpoint::Endpoint,
    };

    #[test]
    fn endpoints_of_one_stream_read_the_same_pages() {
        let window = Slice::Window(Window {
            from: "2026-01-01T00:00:00Z".parse().unwrap(),
            to: "2026-01-02T00:00:00Z".parse().unwrap(),
        });
        let mut pairs = 0;
        for (at, one) in endpoints().enumerate() {
            for other in endpoints().skip(at + 1) {
                if one.stream != other.stream {
                    continue;
                }
                pairs += 1;
                for slice in [&window, &Slice::Pass] {
                    let paging = |of: &Endpoint| discriminant(&of.paging(slice));
                    assert_eq!(paging(one), paging(other), "{}", one.stream);
                }
            }
        }
        assert!(pairs > 3, "only {pairs} pairs stand for one stream");
    }
}
