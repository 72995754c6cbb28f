//! One HTTP answer, cut into chunks of whole records as its bytes arrive.
//!
//! An answer is a JSON object in which one member holds the records as an array; what stands around
//! the array (the continuation) is kept apart. Memory is bounded by [`MAX_CHUNK_BYTES`], however
//! long the answer is.

use std::ops::Range;

use serde::de::DeserializeOwned;

use super::record::Members;
use crate::error::{Error, Result};

/// A chunk is handed on when it has this many bytes, unless somebody wants it sooner.
const CHUNK_BYTES: usize = 1 << 20;

/// The most bytes of a chunk.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;

/// The most bytes of a record, which may begin in a chunk that is nearly full: a longer one is set
/// aside.
pub const MAX_RECORD_BYTES: usize = MAX_CHUNK_BYTES - CHUNK_BYTES;

/// How much of a record that is too long is kept for the dead letter.
const KEPT_OF_OVERSIZED: usize = 64 << 10;

/// Some servers put it before their JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The most bytes around the array.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// Whole records of one answer, in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The records' text, and what stood between them.
    pub bytes: Vec<u8>,
    /// Where each record stands in `bytes`.
    pub records: Vec<Range<u32>>,
    /// Records that were longer than [`MAX_RECORD_BYTES`].
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
}

/// Cuts one answer.
#[derive(Debug)]
pub struct Cutter {
    member: &'static str,
    /// A chunk is handed on when it has this many bytes.
    enough: usize,
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
    /// How long the open record is, once it is too long.
    oversized: Option<usize>,
}

impl Cutter {
    /// Cuts an object whose member `member` holds the records.
    pub fn new(member: &'static str) -> Self {
        Self {
            member,
            enough: CHUNK_BYTES,
            place: Place::Frame,
            depth: 0,
            in_string: false,
            escaped: false,
            text: Vec::new(),
            is_member: false,
            frame: Vec::new(),
            chunk: Chunk::default(),
            start: 0,
            oversized: None,
        }
    }

    /// The same in chunks of about so many bytes, a megabyte at most.
    #[must_use]
    pub fn in_chunks_of(mut self, bytes: usize) -> Self {
        self.enough = bytes.min(CHUNK_BYTES);
        self
    }

    /// Takes the next bytes, and hands on every chunk that is full.
    pub fn feed(&mut self, part: &[u8], full: &mut Vec<Chunk>) -> Result<()> {
        let mut at = 0;
        while let Some(rest) = part.get(at..).filter(|rest| !rest.is_empty()) {
            let used = match self.place {
                Place::Frame => self.frame(rest)?,
                Place::Between => self.between(rest),
                Place::Record => self.record(rest),
                Place::Bare => self.bare(rest),
            };
            at += used;
            if self.place == Place::Between && self.chunk.bytes.len() >= self.enough {
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
        let wrong = |error| Error::contract(format!("the answer is not as documented: {error}"));
        let text = self.frame.strip_prefix(BYTE_ORDER_MARK);
        let text = text.unwrap_or(&self.frame);
        let members = Members::of(text).map_err(wrong)?;
        // Records in another form than an array would be passed over without a word. An array that
        // was cut stands here empty.
        if let Some(records) = members.raw(self.member)
            && !matches!(records.get(), "[]" | "null")
        {
            return Err(Error::contract(format!(
                "the answer is not as documented: `{}` is no array",
                self.member
            )));
        }
        let frame = serde_json::from_slice(text).map_err(wrong)?;
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
        if let Some(length) = &mut self.oversized {
            *length += bytes.len();
            return;
        }
        if self.chunk.bytes.is_empty() {
            // Whole from the beginning, with room for the record that fills it.
            self.chunk.bytes.reserve(self.enough + self.enough / 4);
        }
        self.chunk.bytes.extend_from_slice(bytes);
        let length = self.chunk.bytes.len() - self.start;
        if length > MAX_RECORD_BYTES {
            let mut prefix = self.chunk.bytes.split_off(self.start);
            prefix.truncate(KEPT_OF_OVERSIZED);
            prefix.shrink_to_fit();
            self.chunk.oversized.push(Oversized { prefix, bytes: 0 });
            self.oversized = Some(length);
        }
    }

    fn close(&mut self) {
        if let Some(length) = self.oversized.take() {
            if let Some(last) = self.chunk.oversized.last_mut() {
                last.bytes = length;
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

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
