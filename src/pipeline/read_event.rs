//! Events between reader and writer.

use crate::{
    core::{
        json::chunk::Chunk,
        position::{cursor::Transition, dedupe::DedupMode},
    },
    io::trail::SpanLink,
};

/// One thing that the reader hands to the writer, in order.
pub(super) enum ReadEvent {
    /// Records, and what they are compared with.
    Chunk(Chunk, DedupMode),
    /// The records behind it are of this page; where nothing is traced, nobody says so.
    Page(SpanLink),
    /// The stream moves, once all records before this are safe.
    Transition(Transition),
}
