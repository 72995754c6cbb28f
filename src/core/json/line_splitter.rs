//! A file of records, one JSON object a line, cut into chunks as its bytes arrive.

use super::chunk::{CHUNK_BYTES, Chunk, MAX_RECORD_BYTES, Oversized, WalkMode};
use crate::error::{Error, Result};

/// Cuts one file.
#[derive(Debug)]
pub struct LineSplitter {
    /// A chunk is handed on when it has this many bytes.
    enough: usize,
    walk: WalkMode,
    /// Lines that an earlier run has handled.
    skip: u64,
    /// Lines that were cut, those that were skipped included.
    lines: u64,
    chunk: Chunk,
    /// Where the open line begins in `chunk.bytes`.
    start: usize,
    /// How long the open line is, once it is too long.
    oversized: Option<usize>,
    empty: bool,
}

impl LineSplitter {
    /// Leaves out the first `skip` lines.
    pub fn after(skip: u64) -> Self {
        Self {
            enough: CHUNK_BYTES,
            walk: WalkMode::default(),
            skip,
            lines: 0,
            chunk: Chunk::default(),
            start: 0,
            oversized: None,
            empty: true,
        }
    }

    /// Chunks of about so many bytes, a megabyte at most.
    #[must_use]
    pub fn in_chunks_of(mut self, bytes: usize) -> Self {
        self.enough = bytes.min(CHUNK_BYTES);
        self
    }

    /// A hash of each record as well, found on the walk over it.
    #[must_use]
    pub fn hashed(mut self, hashed: bool) -> Self {
        self.walk.hashed = hashed;
        self
    }

    /// How many lines of the file were cut.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Takes the next bytes. Gives a chunk when one is full; what is left of `bytes` has to be fed
    /// again then.
    pub fn feed<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], Option<Chunk>) {
        let mut rest = bytes;
        self.empty &= bytes.is_empty();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(at);
            self.take(line);
            self.close();
            rest = after.get(1..).unwrap_or_default();
            if self.chunk.bytes.len() >= self.enough {
                self.start = 0;
                let next = self.chunk.next();
                return (rest, Some(std::mem::replace(&mut self.chunk, next)));
            }
        }
        self.take(rest);
        (&[], None)
    }

    /// The last chunk. A file without a byte is no file.
    pub fn finish(&mut self) -> Result<Chunk> {
        if self.empty {
            return Err(Error::transient("the file is empty"));
        }
        self.close();
        Ok(std::mem::take(&mut self.chunk))
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.lines < self.skip {
            // Not kept, but for whether there is anything at all in the line.
            if self.chunk.bytes.is_empty() && !blank(bytes) {
                self.chunk.bytes.push(b'.');
            }
            return;
        }
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
            let line = self.chunk.bytes.get(self.start..).unwrap_or_default();
            self.chunk.oversized.push(Oversized::new(line, 0));
            self.chunk.bytes.truncate(self.start);
            self.oversized = Some(length);
        }
    }

    fn close(&mut self) {
        if self.lines < self.skip {
            if !self.chunk.bytes.is_empty() {
                self.lines += 1;
            }
            self.chunk.bytes.clear();
            return;
        }
        if let Some(length) = self.oversized.take() {
            if let Some(last) = self.chunk.oversized.last_mut() {
                last.bytes = length;
            }
            self.lines += 1;
        } else {
            let line = self.chunk.bytes.get(self.start..).unwrap_or_default();
            let length = line.trim_ascii_end().len();
            self.chunk.bytes.truncate(self.start + length);
            if length > 0 {
                self.add();
                self.lines += 1;
            }
        }
        self.start = self.chunk.bytes.len();
    }

    /// Adds the line that is open.
    fn add(&mut self) {
        let bytes = std::mem::take(&mut self.chunk.bytes);
        self.chunk
            .add(&bytes, self.start..bytes.len(), &mut self.walk);
        self.chunk.bytes = bytes;
    }
}

fn blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::json::chunk::tests::judge;

    fn cut(text: &[u8], sizes: &[usize], skip: u64) -> (Vec<Vec<u8>>, u64) {
        let mut cutter = LineSplitter::after(skip);
        let mut records = Vec::new();
        let mut take = |chunk: &Chunk| {
            assert!(chunk.oversized.is_empty());
            judge(chunk);
            records.extend((0..chunk.len()).map(|at| chunk.record(at).to_vec()));
        };
        let mut rest = text;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (mut part, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = after;
            while !part.is_empty() {
                let (left, chunk) = cutter.feed(part);
                part = left;
                take(&chunk.unwrap_or_default());
            }
        }
        take(&cutter.finish().unwrap());
        (records, cutter.lines())
    }

    proptest! {
        #[test]
        fn lines_are_cut_however_they_arrive(
            lines in prop::collection::vec("[a-z{}\\[\\]\" ]{0,12}", 1..40),
            sizes in prop::collection::vec(1usize..30, 1..5),
            end in prop::sample::select(vec!["\n", "\r\n"]),
            skip in 0u64..50,
        ) {
            let text = lines.join(end) + end;
            let expected: Vec<Vec<u8>> = lines
                .iter()
                .map(|line| line.trim_end().as_bytes().to_vec())
                .filter(|line| !line.is_empty())
                .collect();
            let (records, count) = cut(text.as_bytes(), &sizes, skip);
            prop_assert_eq!(count, expected.len() as u64);
            let skip = usize::try_from(skip).unwrap();
            let rest: Vec<_> = expected.into_iter().skip(skip).collect();
            prop_assert_eq!(records, rest);
        }
    }

    #[test]
    fn a_long_line_is_set_aside_and_the_next_one_is_not() {
        let long = vec![b'x'; MAX_RECORD_BYTES + 5];
        let mut cutter = LineSplitter::after(0);
        let (mut rest, mut chunks) = (
            &[&b"{}\n"[..], &long, b"\n{\"a\":1}"].concat()[..],
            Vec::new(),
        );
        while !rest.is_empty() {
            let (left, chunk) = cutter.feed(rest);
            chunks.extend(chunk);
            rest = left;
        }
        chunks.push(cutter.finish().unwrap());
        let oversized: Vec<usize> = chunks
            .iter()
            .flat_map(|chunk| chunk.oversized.iter().map(|one| one.bytes))
            .collect();
        assert_eq!(oversized, [long.len()]);
        assert_eq!(chunks.iter().map(Chunk::len).sum::<usize>(), 3);
        assert_eq!(cutter.lines(), 3);
    }

    #[test]
    fn a_line_is_a_record_with_its_members_noted() {
        let text = b" {\"a\":1}\t\r\n{\"b\":2}x\n{\"b\":\"\xff\"}\n[{}]\n{\"c\":\"\\n\"}";
        for hashed in [false, true] {
            let mut cutter = LineSplitter::after(0).hashed(hashed);
            assert!(cutter.feed(text).1.is_none());
            let chunk = cutter.finish().unwrap();
            judge(&chunk);
            let noted: Vec<bool> = (0..5).map(|at| chunk.has_noted(at)).collect();
            assert_eq!(noted, [true, false, true, false, true]);
        }
    }

    #[test]
    fn nothing_is_no_file() {
        assert!(LineSplitter::after(0).finish().is_err());
        let mut cutter = LineSplitter::after(0);
        assert!(cutter.feed(b"\n").1.is_none());
        assert!(cutter.finish().unwrap().is_empty());
    }
}
