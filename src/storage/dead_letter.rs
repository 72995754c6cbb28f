//! How dead letters are named.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::core::{
    json::record::canonical_hash,
    mapping::batch::{BATCH_ID_BYTES, ROW_HEAD, TIME_BYTES},
    position::cursor::StreamKey,
};

/// What closes a row behind its batch id.
const ROW_END: usize = r#""}"#.len();

/// The id of a dead letter: one for a record of a stream, however often it is refused and whatever push
/// its row was stamped for.
pub(crate) fn id(key: &StreamKey, body: &[u8]) -> String {
    let unstamped = body.strip_prefix(ROW_HEAD.as_bytes()).and_then(|row| {
        let end = row.len().checked_sub(BATCH_ID_BYTES + ROW_END)?;
        row.get(TIME_BYTES..end)
    });
    let content = unstamped.map_or_else(|| canonical_hash(body), xxh3_64);
    let id = xxh3_64_with_seed(key.to_string().as_bytes(), content);
    format!("{id:0BATCH_ID_BYTES$x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mapping::batch::ROW_TAIL;

    #[test]
    fn a_letter_is_named_by_its_stream_and_record_and_not_by_the_push() {
        let row = |note: &str, time: &str, id: &str| {
            let tail = ROW_TAIL.replace("0000000000000000", id);
            let row = [ROW_HEAD, time, r#"","note":""#, note, r#"","#, &tail];
            row.concat().into_bytes()
        };
        let (early, late) = ("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z");
        let (first, second) = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb");
        let key = StreamKey::new("default", "eset.detections");
        let other = StreamKey::new("default", "eset.incidents");
        let id = super::id(&key, &row("x", early, first));
        assert_eq!(id.len(), BATCH_ID_BYTES);
        assert_eq!(id, super::id(&key, &row("x", late, second)));
        assert_ne!(id, super::id(&key, &row("y", early, first)));
        assert_ne!(id, super::id(&other, &row("x", early, first)));
        assert_eq!(super::id(&key, b"7"), super::id(&key, b" 7 "));
        assert_ne!(super::id(&key, b"7"), super::id(&other, b"7"));
    }
}
