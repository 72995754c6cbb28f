//! Places in a chunk, in half of the room of a `usize`.

use std::ops::Range;

/// Indices that a range of places stands for.
pub(in crate::core) fn within(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// A place in a chunk, which is far shorter than 4 GiB.
pub(in crate::core) fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
