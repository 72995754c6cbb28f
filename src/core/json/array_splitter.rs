//! One HTTP answer, cut into chunks of whole records as its bytes arrive.
//!
//! An answer is a JSON object in which one member holds the records as an array; what stands around
//! the array (the continuation) is kept apart. Memory is bounded by
//! [`MAX_CHUNK_BYTES`](super::chunk::MAX_CHUNK_BYTES), however long the answer is.

use serde::de::DeserializeOwned;

use super::{
    chunk::{CHUNK_BYTES, Chunk, MAX_RECORD_BYTES, Oversized, WalkMode},
    if_absent::IfAbsent,
    record::{JsonObject, JsonSlice},
};
use crate::error::{Error, Result};

/// So many bytes are gone over at once.
const STRIDE: usize = 32 << 10;

/// Some servers put it before their JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The most bytes around the array.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// Where in the document the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DocumentPlace {
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
///
/// Bytes gather in the open chunk, and are gone over there a stride at a time. One walk finds a
/// record's end and its members. Where that fails, brackets and quotes tell where the record ends,
/// now or when more bytes are there.
#[derive(Debug)]
pub struct ArraySplitter {
    member: &'static str,
    if_absent: IfAbsent,
    /// A chunk is handed on when it has this many bytes.
    enough: usize,
    walk: WalkMode,
    place: DocumentPlace,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The last string at depth 1: a key, when a colon follows.
    text: Vec<u8>,
    is_member: bool,
    frame: Vec<u8>,
    chunk: Chunk,
    /// How many of the chunk's bytes were gone over.
    at: usize,
    /// Where the open record begins in the chunk's bytes.
    start: usize,
    /// How many of the open record's bytes were there for the first walk over it.
    seen: usize,
    /// How long the open record is without the chunk's bytes, once it is too long.
    oversized: Option<usize>,
}

impl ArraySplitter {
    /// Cuts an object whose member `member` holds the records.
    pub fn new(member: &'static str) -> Self {
        Self {
            member,
            if_absent: IfAbsent::Empty,
            enough: CHUNK_BYTES - STRIDE,
            walk: WalkMode::default(),
            place: DocumentPlace::Frame,
            depth: 0,
            in_string: false,
            escaped: false,
            text: Vec::new(),
            is_member: false,
            frame: Vec::new(),
            chunk: Chunk::default(),
            at: 0,
            start: 0,
            seen: 0,
            oversized: None,
        }
    }

    /// Chunks of about so many bytes, a megabyte at most.
    #[must_use]
    pub fn in_chunks_of(mut self, bytes: usize) -> Self {
        self.enough = bytes.clamp(1, CHUNK_BYTES - STRIDE);
        self
    }

    /// What an answer without the member of the records is taken for, by default for an empty one.
    #[must_use]
    pub fn if_absent(mut self, if_absent: IfAbsent) -> Self {
        self.if_absent = if_absent;
        self
    }

    /// A hash of each record as well, found on the walk over it.
    #[must_use]
    pub fn hashed(mut self, hashed: bool) -> Self {
        self.walk.hashed = hashed;
        self
    }

    /// Takes the next bytes, and hands on every chunk that is full.
    pub fn feed(&mut self, part: &[u8], full: &mut Vec<Chunk>) -> Result<()> {
        let stride = STRIDE.min(self.enough);
        let mut rest = part;
        while !rest.is_empty() {
            let waiting = self.chunk.bytes.len() - self.at;
            let room = stride.saturating_sub(waiting).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.take(now);
            rest = later;
            if waiting + room >= stride {
                self.go_over()?;
                self.set_aside();
                self.hand_on(full);
            }
        }
        Ok(())
    }

    /// The last chunk, and what stood around the records, read as `T`.
    ///
    /// An answer that ends too early, or is not JSON, is an error; the records that were handed on
    /// before stand on their own.
    pub fn finish<T: DeserializeOwned>(mut self) -> Result<(Chunk, T)> {
        self.go_over()?;
        if self.frame.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::contract("the answer is empty"));
        }
        if self.place != DocumentPlace::Frame || self.depth != 0 {
            return Err(Error::contract("the answer ends in the middle"));
        }
        let wrong = |error| Error::contract(format!("the answer is not as documented: {error}"));
        let text = self.frame.strip_prefix(BYTE_ORDER_MARK);
        let text = text.unwrap_or(&self.frame);
        let members = JsonObject::of(text).map_err(wrong)?;
        // Records in another form than an array would be passed over without a word. An array that
        // was cut stands here empty.
        let wrong_records = match members.raw(self.member).map(JsonSlice::get) {
            Some("[]") => None,
            None | Some("null") if self.if_absent == IfAbsent::Empty => None,
            None | Some("null") => Some(format!("it has no `{}`", self.member)),
            Some(_) => Some(format!("`{}` is no array", self.member)),
        };
        if let Some(why) = wrong_records {
            let text = format!("the answer is not as documented: {why}");
            return Err(Error::contract(text));
        }
        let frame = serde_json::from_slice(text).map_err(wrong)?;
        Ok((self.chunk, frame))
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.chunk.bytes.is_empty() {
            // Whole from the beginning, with room for the record that fills it.
            self.chunk.bytes.reserve(self.enough + self.enough / 4);
        }
        self.chunk.bytes.extend_from_slice(bytes);
    }

    /// Goes over the bytes that wait.
    fn go_over(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.chunk.bytes);
        let mut done = Ok(());
        while let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            match self.place {
                DocumentPlace::Frame => match self.frame(rest) {
                    Ok(used) => self.at += used,
                    Err(error) => {
                        done = Err(error);
                        break;
                    }
                },
                DocumentPlace::Between => self.between(&bytes),
                DocumentPlace::Record => self.record(&bytes),
                DocumentPlace::Bare => self.bare(&bytes),
            }
        }
        self.chunk.bytes = bytes;
        done
    }

    /// Sets the open record aside when it is too long.
    fn set_aside(&mut self) {
        if !matches!(self.place, DocumentPlace::Record | DocumentPlace::Bare) {
            return;
        }
        let text = self.chunk.bytes.get(self.start..).unwrap_or_default();
        match &mut self.oversized {
            Some(length) => *length += text.len(),
            None if text.len() > MAX_RECORD_BYTES => {
                self.oversized = Some(text.len());
                self.chunk.oversized.push(Oversized::new(text, 0));
            }
            None => return,
        }
        self.chunk.bytes.truncate(self.start);
        self.at = self.start;
    }

    /// Hands on a chunk that is full. The open record moves to the next one.
    fn hand_on(&mut self, full: &mut Vec<Chunk>) {
        let is_open = matches!(self.place, DocumentPlace::Record | DocumentPlace::Bare);
        let end = if is_open { self.start } else { self.at };
        if end < self.enough || self.oversized.is_some() {
            return;
        }
        let next = self.chunk.next();
        let mut chunk = std::mem::replace(&mut self.chunk, next);
        if let Some(open) = chunk.bytes.get(end..).filter(|open| !open.is_empty()) {
            self.take(open);
            chunk.bytes.truncate(end);
        }
        self.at -= end;
        self.start = 0;
        if !chunk.is_empty() {
            full.push(chunk);
        }
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
                        self.place = DocumentPlace::Between;
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

    /// Goes over what stands between records, and over each record that is surely an object.
    fn between(&mut self, bytes: &[u8]) {
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'{' => {
                    let walked = self.chunk.add_object(bytes, self.at, &mut self.walk);
                    let Some(length) = walked else {
                        return self.open(DocumentPlace::Record, bytes);
                    };
                    self.at += length;
                }
                b'[' | b'"' => return self.open(DocumentPlace::Record, bytes),
                b']' => {
                    self.at += 1;
                    self.frame.push(b']');
                    self.depth -= 1;
                    self.is_member = false;
                    self.place = DocumentPlace::Frame;
                    return;
                }
                b',' => self.at += 1,
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ => return self.open(DocumentPlace::Bare, bytes),
            }
        }
    }

    fn open(&mut self, place: DocumentPlace, bytes: &[u8]) {
        self.place = place;
        self.start = self.at;
        self.seen = bytes.len() - self.at;
    }

    /// A record of its own brackets or quotes: runs to the byte that closes it.
    fn record(&mut self, bytes: &[u8]) {
        let rest = bytes.get(self.at..).unwrap_or_default();
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
        self.at += at;
        if closed {
            self.depth = 2;
            self.close(bytes);
        }
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
    fn bare(&mut self, bytes: &[u8]) {
        let mut rest = bytes.iter().skip(self.at);
        let end = rest.position(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b']'));
        self.at = end.map_or(bytes.len(), |end| self.at + end);
        if end.is_some() {
            self.close(bytes);
        }
    }

    /// The open record ends here.
    fn close(&mut self, bytes: &[u8]) {
        self.place = DocumentPlace::Between;
        let text = bytes.get(self.start..self.at).unwrap_or_default();
        if let Some(length) = self.oversized.take() {
            if let Some(last) = self.chunk.oversized.last_mut() {
                last.bytes = length + text.len();
            }
            return;
        }
        if text.len() > MAX_RECORD_BYTES {
            self.chunk.oversized.push(Oversized::new(text, text.len()));
            return;
        }
        let (is_longer, text) = (text.len() > self.seen, self.start..self.at);
        if is_longer {
            self.chunk.add(bytes, text, &mut self.walk);
        } else {
            self.chunk.add_other(text);
        }
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

#[cfg(test)]
#[path = "array_splitter_tests.rs"]
mod tests;
