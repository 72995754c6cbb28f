//! One HTTP answer, cut into chunks of whole records as its bytes arrive.
//!
//! An answer is a JSON object in which one member holds the records as an array; what stands around
//! the array (the continuation) is kept apart. Memory is bounded by [`MAX_CHUNK_BYTES`], however
//! long the answer is.

use std::ops::Range;

use serde::{Deserialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// A chunk is handed on when it has this many bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// The most bytes of a record, and so of a chunk: a longer record is set aside.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;

/// How much of a record that is too long is kept for the dead letter.
const KEPT_OF_OVERSIZED: usize = 64 << 10;

/// The most bytes around the array.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// Whole records of one answer, in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The records' text, and what stood between them.
    pub bytes: Vec<u8>,
    /// Where each record stands in `bytes`.
    pub records: Vec<Range<u32>>,
    /// Records that were longer than [`MAX_CHUNK_BYTES`].
    pub oversized: Vec<Oversized>,
}

/// A record that was too long to handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oversized {
    /// Its beginning.
    pub prefix: Vec<u8>,
    /// The length of all of it.
    pub bytes: usize,
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

    /// The text of a record.
    pub fn record(&self, at: usize) -> &[u8] {
        self.records
            .get(at)
            .and_then(|range| self.bytes.get(range.start as usize..range.end as usize))
            .unwrap_or_default()
    }
}

/// Where in the document the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Outside the array of records.
    Frame,
    /// In the array, between two records.
    Between,
    /// In a record that is an object, an array or a string.
    Record,
    /// In a record that is a number or a word.
    Bare,
    /// In a record that is too long.
    Oversized,
}

/// Cuts one answer.
#[derive(Debug)]
pub struct Cutter {
    member: &'static str,
    place: Place,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The last string at depth 1: a key, when a colon follows.
    text: Vec<u8>,
    is_member: bool,
    frame: Vec<u8>,
    chunk: Chunk,
    /// Where the open record begins in `chunk.bytes`.
    start: usize,
    oversized: usize,
}

impl Cutter {
    /// Cuts an object whose member `member` holds the records.
    pub fn new(member: &'static str) -> Self {
        Self {
            member,
            place: Place::Frame,
            depth: 0,
            in_string: false,
            escaped: false,
            text: Vec::new(),
            is_member: false,
            frame: Vec::new(),
            chunk: Chunk::default(),
            start: 0,
            oversized: 0,
        }
    }

    /// Takes the next bytes, and hands on every chunk that is full.
    pub fn feed(&mut self, part: &[u8], full: &mut Vec<Chunk>) -> Result<()> {
        let mut at = 0;
        while let Some(rest) = part.get(at..).filter(|rest| !rest.is_empty()) {
            let used = match self.place {
                Place::Frame => self.frame(rest)?,
                Place::Between => self.between(rest),
                Place::Record | Place::Oversized => self.record(rest),
                Place::Bare => self.bare(rest),
            };
            at += used;
            if self.place == Place::Between && self.chunk.bytes.len() >= CHUNK_BYTES {
                full.push(std::mem::take(&mut self.chunk));
            }
        }
        Ok(())
    }

    /// The last chunk, and what stood around the records, read as `T`.
    ///
    /// An answer that ends too early, or is not JSON, is an error; the records that were handed on
    /// before stand on their own.
    pub fn finish<T: DeserializeOwned>(self) -> Result<(Chunk, T)> {
        if self.frame.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::contract("the answer is empty"));
        }
        if self.place != Place::Frame || self.depth != 0 {
            return Err(Error::contract("the answer ends in the middle"));
        }
        let frame = serde_json::from_slice(&self.frame).map_err(|error| {
            Error::contract(format!("the answer is not as documented: {error}"))
        })?;
        Ok((self.chunk, frame))
    }

    fn frame(&mut self, rest: &[u8]) -> Result<usize> {
        let mut used = 0;
        for byte in rest {
            used += 1;
            self.frame.push(*byte);
            if self.in_string {
                self.in_frame_string(*byte);
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.text.clear();
                }
                b':' if self.depth == 1 => self.is_member = self.text == self.member.as_bytes(),
                b',' if self.depth == 1 => self.is_member = false,
                b'{' => self.depth += 1,
                b'[' => {
                    self.depth += 1;
                    if self.depth == 2 && self.is_member {
                        self.place = Place::Between;
                        break;
                    }
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        if self.frame.len() > MAX_FRAME_BYTES {
            return Err(Error::contract(format!(
                "the answer holds over {} KB outside `{}`",
                MAX_FRAME_BYTES >> 10,
                self.member
            )));
        }
        Ok(used)
    }

    fn in_frame_string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ if self.depth == 1 => self.text.push(byte),
            _ => {}
        }
    }

    fn between(&mut self, rest: &[u8]) -> usize {
        let Some(at) = rest
            .iter()
            .position(|byte| !byte.is_ascii_whitespace() && *byte != b',')
        else {
            return rest.len();
        };
        match rest.get(at) {
            Some(b']') => {
                self.frame.push(b']');
                self.depth -= 1;
                self.is_member = false;
                self.place = Place::Frame;
                return at + 1;
            }
            Some(b'{' | b'[' | b'"') => self.place = Place::Record,
            _ => self.place = Place::Bare,
        }
        self.start = self.chunk.bytes.len();
        at
    }

    /// A record of its own brackets or quotes: runs to the byte that closes it.
    fn record(&mut self, rest: &[u8]) -> usize {
        let mut at = 0;
        let mut closed = false;
        while !closed && at < rest.len() {
            if self.in_string {
                at += self.string(rest.get(at..).unwrap_or_default());
                // A record that is a string ends with it.
                closed = !self.in_string && self.depth == 2;
                continue;
            }
            let Some(found) = rest
                .get(at..)
                .and_then(|rest| rest.iter().position(|byte| STRUCTURE[usize::from(*byte)]))
            else {
                at = rest.len();
                break;
            };
            at += found + 1;
            match rest.get(at - 1) {
                Some(b'"') => self.in_string = true,
                Some(b'{' | b'[') => self.depth += 1,
                _ => {
                    self.depth = self.depth.saturating_sub(1);
                    closed = self.depth <= 2;
                }
            }
        }
        self.take(rest.get(..at).unwrap_or_default());
        if closed {
            self.depth = 2;
            self.close();
        }
        at
    }

    /// Runs over the inside of a string, to its end or to the end of `rest`.
    fn string(&mut self, rest: &[u8]) -> usize {
        let mut at = 0;
        if self.escaped {
            self.escaped = false;
            at = 1;
        }
        while let Some(found) = rest
            .get(at..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            at += found + 1;
            if rest.get(at - 1) == Some(&b'"') {
                self.in_string = false;
                return at;
            }
            if at == rest.len() {
                self.escaped = true;
                return at;
            }
            at += 1;
        }
        rest.len()
    }

    /// A number or a word, as a record: it ends before whatever cannot belong to it.
    fn bare(&mut self, rest: &[u8]) -> usize {
        let end = rest
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b']'));
        self.take(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default());
        if end.is_some() {
            self.close();
        }
        end.unwrap_or(rest.len())
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.place == Place::Oversized {
            self.oversized += bytes.len();
            return;
        }
        self.chunk.bytes.extend_from_slice(bytes);
        let length = self.chunk.bytes.len() - self.start;
        if length > MAX_CHUNK_BYTES {
            let mut prefix = self.chunk.bytes.split_off(self.start);
            prefix.truncate(KEPT_OF_OVERSIZED);
            prefix.shrink_to_fit();
            self.chunk.oversized.push(Oversized { prefix, bytes: 0 });
            self.oversized = length;
            self.place = Place::Oversized;
        }
    }

    fn close(&mut self) {
        if self.place == Place::Oversized {
            if let Some(last) = self.chunk.oversized.last_mut() {
                last.bytes = self.oversized;
            }
        } else {
            let range = position(self.start)..position(self.chunk.bytes.len());
            self.chunk.records.push(range);
        }
        self.place = Place::Between;
    }
}

/// The bytes that matter outside a string.
const STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

/// A place in a chunk, which is far shorter than 4 GiB.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The continuation of an ESET answer: every member may be absent, null or empty.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Continuation {
    /// The next page of this slice.
    pub next_page_token: Option<String>,
    /// The next token of the feed, on the last page.
    pub next_delta_token: Option<String>,
}

impl Continuation {
    /// The next page, when there is one: `""`, null and absent all mean that there is none.
    pub fn next_page(&self) -> Option<&str> {
        self.next_page_token
            .as_deref()
            .filter(|token| !token.is_empty())
    }

    /// The feed's next token, when it gave one.
    pub fn next_token(&self) -> Option<&str> {
        self.next_delta_token
            .as_deref()
            .filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cut(text: &[u8], sizes: &[usize]) -> Result<(Vec<Chunk>, Continuation)> {
        let mut cutter = Cutter::new("detections");
        let mut chunks = Vec::new();
        let mut rest = text;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, tail) = rest.split_at((*size).clamp(1, rest.len()));
            cutter.feed(part, &mut chunks)?;
            rest = tail;
        }
        let (last, frame) = cutter.finish()?;
        chunks.push(last);
        Ok((chunks, frame))
    }

    fn values(chunks: &[Chunk]) -> Vec<Value> {
        chunks
            .iter()
            .flat_map(|chunk| (0..chunk.records.len()).map(|at| chunk.record(at)))
            .map(|record| serde_json::from_slice(record).unwrap())
            .collect()
    }

    #[test]
    fn records_and_continuation_come_apart() {
        let text =
            br#" {"a":{"detections":[1]},"detections" : [ {"x":"]}\"\\"}, 7 ,null,"s",[[]] ],
            "nextPageToken":"detections","totalSize":3} "#;
        for size in [1, 2, 3, 7, 1000] {
            let (chunks, frame) = cut(text, &[size]).unwrap();
            assert_eq!(
                values(&chunks),
                [
                    json!({"x": "]}\"\\"}),
                    json!(7),
                    json!(null),
                    json!("s"),
                    json!([[]])
                ],
                "in parts of {size}"
            );
            assert_eq!(frame.next_page(), Some("detections"));
            assert_eq!(frame.next_token(), None);
        }
    }

    #[test]
    fn the_last_page_has_many_forms() {
        for end in [
            r#""nextPageToken":"""#,
            r#""nextPageToken":null"#,
            r#""other":[]"#,
        ] {
            let text = format!(r#"{{"detections":[],{end}}}"#);
            let (chunks, frame) = cut(text.as_bytes(), &[5]).unwrap();
            assert!(values(&chunks).is_empty());
            assert_eq!(frame.next_page(), None, "{end}");
        }
        let (chunks, _) = cut(b"{}", &[1]).unwrap();
        assert!(values(&chunks).is_empty());
        let (chunks, _) = cut(br#"{"detections":null}"#, &[3]).unwrap();
        assert!(values(&chunks).is_empty());
    }

    #[test]
    fn rubbish_is_named() {
        let error = |text: &[u8]| cut(text, &[4]).unwrap_err().to_string();
        insta::assert_snapshot!(error(b""), @"the answer is empty");
        insta::assert_snapshot!(error(br#"{"detections":[{"uuid":"1"},{"uu"#), @"the answer ends in the middle");
        insta::assert_snapshot!(error(br#"{"detections":[1,2]"#), @"the answer ends in the middle");
        insta::assert_snapshot!(error(b"<html>sorry</html>"), @"the answer is not as documented: expected value at line 1 column 1");
        insta::assert_snapshot!(error(br#"{"nextPageToken":7}"#), @"the answer is not as documented: invalid type: integer `7`, expected a string at line 1 column 18");
    }

    #[test]
    fn a_record_that_is_too_long_is_set_aside_and_the_rest_goes_on() {
        let long = "x".repeat(MAX_CHUNK_BYTES);
        let text = format!(r#"{{"detections":[{{"a":1}},{{"long":"{long}"}},{{"b":2}}]}}"#);
        let (chunks, _) = cut(text.as_bytes(), &[100_000]).unwrap();
        assert_eq!(values(&chunks), [json!({"a": 1}), json!({"b": 2})]);
        let oversized: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.oversized).collect();
        assert_eq!(oversized.len(), 1);
        assert_eq!(oversized[0].bytes, MAX_CHUNK_BYTES + r#"{"long":""}"#.len());
        assert!(oversized[0].prefix.starts_with(br#"{"long":"xxx"#));
    }

    #[test]
    fn chunks_stay_small() {
        let record = format!(r#"{{"a":"{}"}}"#, "y".repeat(300_000));
        let text = format!(
            r#"{{"detections":[{}]}}"#,
            vec![record.as_str(); 30].join(",")
        );
        let (chunks, _) = cut(text.as_bytes(), &[64_000]).unwrap();
        assert!(chunks.len() > 5);
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.bytes.len() <= MAX_CHUNK_BYTES)
        );
        assert_eq!(values(&chunks).len(), 30);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\\]\[{},:\né]{0,12}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"]{0,3}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_records_in_any_parts_come_out_whole(
            records in prop::collection::vec(any_json(), 0..6),
            before in any_json(),
            sizes in prop::collection::vec(1usize..40, 1..5),
            pretty in any::<bool>(),
        ) {
            let document = json!({"before": before, "detections": records, "nextPageToken": "p"});
            let text = if pretty {
                serde_json::to_vec_pretty(&document).unwrap()
            } else {
                serde_json::to_vec(&document).unwrap()
            };
            let (chunks, frame) = cut(&text, &sizes).unwrap();
            prop_assert_eq!(values(&chunks), records);
            prop_assert_eq!(frame.next_page(), Some("p"));
        }
    }
}
