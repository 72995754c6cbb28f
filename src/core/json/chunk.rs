//! Whole records of one answer or file, and where their members are.

use super::span::{position, within};
use std::ops::Range;

use super::{
    pool::Pool,
    record::JsonObject,
    scan::{KeyOrder, Span, Walker},
};

/// The most bytes of a chunk.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;

/// A chunk is handed on when it has this many bytes, unless somebody wants it sooner.
pub(in crate::core) const CHUNK_BYTES: usize = 1 << 20;

/// The most bytes of a record, which may begin in a chunk that is nearly full: a longer one is set
/// aside.
pub const MAX_RECORD_BYTES: usize = MAX_CHUNK_BYTES - CHUNK_BYTES;

/// How much of a record that is too long is kept for the dead letter.
const KEPT_OF_OVERSIZED: usize = 64 << 10;

/// Whole records of one answer, in their order.
#[derive(Debug, Default, Clone)]
pub struct Chunk {
    /// The records' text, and what stood between them.
    pub(in crate::core) bytes: Vec<u8>,
    records: Vec<Record>,
    /// The members of all records.
    spans: Vec<Span>,
    outlines: Vec<KeyOrder>,
    /// Records that were longer than [`MAX_RECORD_BYTES`].
    pub oversized: Vec<Oversized>,
    shelf: Shelf,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut spare = Spare {
            bytes: std::mem::take(&mut self.bytes),
            records: std::mem::take(&mut self.records),
            spans: std::mem::take(&mut self.spans),
        };
        spare.bytes.clear();
        spare.records.clear();
        spare.spans.clear();
        self.shelf.give(spare);
    }
}

/// The memory of chunks of one answer that were handled: those that come later are made of it, since
/// an allocator gives back to the system what it would be asked for again at once. One is filled and
/// one is handled: of what is given back beyond these nobody needs anything.
type Shelf = Pool<Spare, 2>;

#[derive(Debug)]
struct Spare {
    bytes: Vec<u8>,
    records: Vec<Record>,
    spans: Vec<Span>,
}

/// A record that was too long to handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oversized {
    /// Its beginning.
    pub prefix: Vec<u8>,
    /// The length of all of it.
    pub bytes: usize,
}

impl Oversized {
    /// A record of so many bytes that begins like this.
    pub(in crate::core) fn new(text: &[u8], bytes: usize) -> Self {
        let kept = text.len().min(KEPT_OF_OVERSIZED);
        Self {
            prefix: text.get(..kept).unwrap_or_default().to_vec(),
            bytes,
        }
    }
}

#[derive(Debug, Clone)]
struct Record {
    /// Where it stands in the chunk.
    text: Range<u32>,
    /// Nothing for what is no JSON object, as far as one walk can tell.
    object: Option<ObjectSpan>,
}

#[derive(Debug, Clone)]
struct ObjectSpan {
    /// Where its members stand in the chunk's `spans`.
    spans: Range<u32>,
    hash: Option<u64>,
    /// The place of its outline in the chunk's `outlines`.
    outline: Option<u32>,
}

impl Chunk {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len() + self.oversized.len()
    }

    /// True when there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.oversized.is_empty()
    }

    /// How many records are not too long. They come first.
    pub fn handy(&self) -> usize {
        self.records.len()
    }

    /// How many bytes they have.
    pub fn size(&self) -> usize {
        self.records.iter().map(|record| record.text.len()).sum()
    }

    /// The text of a record.
    pub fn record(&self, at: usize) -> &[u8] {
        self.records
            .get(at)
            .and_then(|record| self.bytes.get(within(&record.text)))
            .unwrap_or_default()
    }

    /// The members of a record. Anything but an object is an error.
    pub fn members(&self, at: usize) -> Result<JsonObject<'_>, serde_json::Error> {
        let text = self.record(at);
        if let Some(Record {
            object: Some(object),
            ..
        }) = self.records.get(at)
            && let Some(spans) = self.spans.get(within(&object.spans))
            && let Ok(text) = simdutf8::basic::from_utf8(text)
            && let outline = object.outline.and_then(|at| self.outlines.get(at as usize))
            && let Some(noted) = JsonObject::noted(text, spans, object.hash, outline)
        {
            return Ok(noted);
        }
        // It is no object, or says why not.
        JsonObject::of(text)
    }

    /// One that will be filled like this one was.
    pub(in crate::core) fn next(&self) -> Self {
        let Spare {
            bytes,
            records,
            spans,
        } = self.shelf.take().unwrap_or_else(|| Spare {
            bytes: Vec::new(),
            records: Vec::with_capacity(self.records.len()),
            spans: Vec::with_capacity(self.spans.len() + self.spans.len() / 8),
        });
        Self {
            bytes,
            records,
            spans,
            outlines: Vec::new(),
            oversized: Vec::new(),
            shelf: self.shelf.clone(),
        }
    }

    /// True when a walk has noted the members of a record.
    #[cfg(test)]
    pub(in crate::core) fn has_noted(&self, at: usize) -> bool {
        self.records[at].object.is_some()
    }

    /// A chunk of these records.
    #[cfg(test)]
    pub(crate) fn of(records: &[String]) -> Self {
        let mut chunk = Self::default();
        let bytes = records.concat().into_bytes();
        let (mut start, mut walk) = (0, WalkMode::default());
        for record in records {
            chunk.add(&bytes, start..start + record.len(), &mut walk);
            start += record.len();
        }
        chunk.bytes = bytes;
        chunk
    }

    /// A chunk of one record.
    pub(in crate::core) fn of_one(record: &str, walk: &mut WalkMode) -> Self {
        let mut chunk = Self::default();
        let bytes = record.as_bytes().to_vec();
        chunk.add(&bytes, 0..bytes.len(), walk);
        chunk.bytes = bytes;
        chunk
    }

    /// Adds the object that `bytes` have from `start` on, when it surely is one, and gives its length.
    ///
    /// The chunk's own bytes are meant, which a cutter holds while it goes over them.
    pub(in crate::core) fn add_object(
        &mut self,
        bytes: &[u8],
        start: usize,
        walk: &mut WalkMode,
    ) -> Option<usize> {
        let (object, end) = self.walk(bytes.get(start..)?, walk)?;
        self.push(start..start + end, Some(object));
        Some(end)
    }

    /// Adds all of what stands there, which may be anything.
    pub(in crate::core) fn add(&mut self, bytes: &[u8], text: Range<usize>, walk: &mut WalkMode) {
        let length = text.len();
        let found = bytes
            .get(text.clone())
            .and_then(|text| self.walk(text, walk));
        let object = found.filter(|(_, end)| *end == length);
        self.push(text, object.map(|(object, _)| object));
    }

    /// Adds what stands there, and is no object.
    pub(in crate::core) fn add_other(&mut self, text: Range<usize>) {
        self.push(text, None);
    }

    /// Goes over the object that `text` begins with. Tells where it ends.
    fn walk(&mut self, text: &[u8], walk: &mut WalkMode) -> Option<(ObjectSpan, usize)> {
        let before = self.spans.len();
        let found = if walk.hashed {
            walk.walker.object::<true>(text, &mut self.spans)
        } else {
            walk.walker.object::<false>(text, &mut self.spans)
        };
        let Some(found) = found.filter(|found| found.end <= MAX_RECORD_BYTES) else {
            self.spans.truncate(before);
            return None;
        };
        let outline = found.outline.map(|outline| {
            let last = self.outlines.last();
            if !last.is_some_and(|last| last.is(outline)) {
                self.outlines.push(outline.clone());
            }
            position(self.outlines.len() - 1)
        });
        let object = ObjectSpan {
            spans: position(before)..position(self.spans.len()),
            hash: found.hash,
            outline,
        };
        Some((object, found.end))
    }

    fn push(&mut self, text: Range<usize>, object: Option<ObjectSpan>) {
        let text = position(text.start)..position(text.end);
        self.records.push(Record { text, object });
    }
}

/// How a cutter goes over records.
#[derive(Debug, Default)]
pub(in crate::core) struct WalkMode {
    /// With a hash of each.
    pub(in crate::core) hashed: bool,
    pub(in crate::core) walker: Walker,
}

#[cfg(test)]
pub(in crate::core) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::{
        json::canonical::tests::{any_json, respelled},
        position::{
            record_key::{KeyRule, RecordMeta},
            snapshot::content_of,
        },
    };

    /// All that members say. Of members that were noted with hashes, the hashes are those.
    fn said(members: &JsonObject<'_>) -> (Vec<(String, String)>, u64, RecordMeta) {
        let named = members.iter();
        let named = named.map(|(name, value)| (name.to_owned(), value.get().to_owned()));
        let facts = RecordMeta::of(members, &KeyRule::PLAIN);
        (named.collect(), content_of(members, &["a"]), facts)
    }

    /// Holds what was noted of each record against what its text says.
    pub(in crate::core) fn judge(chunk: &Chunk) {
        for at in 0..chunk.handy() {
            let text = chunk.record(at);
            let noted = chunk.members(at);
            match JsonObject::of(text) {
                Ok(members) => assert_eq!(said(&noted.unwrap()), said(&members)),
                Err(error) => assert_eq!(noted.unwrap_err().to_string(), error.to_string()),
            }
        }
    }

    /// An object whose names may come twice, under different spellings.
    fn any_object() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "a", r"\u0061", "b", "", "é", r"\\", "@odata.x", r"\ud83d",
        ]);
        prop::collection::vec((name, any_json(), any::<bool>()), 0..8).prop_map(|members| {
            let members = members.iter().map(|(name, value, respell)| {
                let value = if *respell {
                    respelled(value)
                } else {
                    value.to_string()
                };
                format!(r#""{name}" : {value}"#)
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(" ,"))
        })
    }

    proptest! {
        #[test]
        fn what_was_noted_is_what_the_text_says(
            records in prop::collection::vec(any_object(), 1..6),
            hashed in any::<bool>(),
        ) {
            let mut walk = WalkMode { hashed, ..WalkMode::default() };
            let mut chunk = Chunk::default();
            let bytes = records.concat().into_bytes();
            let mut start = 0;
            for record in &records {
                // Half a surrogate pair is in doubt.
                match chunk.add_object(&bytes, start, &mut walk) {
                    Some(length) => prop_assert_eq!(length, record.len()),
                    None => chunk.add_other(start..start + record.len()),
                }
                start += record.len();
            }
            chunk.bytes = bytes;
            judge(&chunk);
        }
    }

    #[test]
    fn of_many_members_with_one_name_the_last_counts() {
        let members = (0..500).map(|at| format!(r#""k{}":{at}"#, at % 300));
        let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        let chunk = Chunk::of(&[text]);
        judge(&chunk);
        let members = chunk.members(0).unwrap();
        assert_eq!(members.iter().count(), 300);
        assert_eq!(members.text("k7").unwrap(), "307");
    }
}
