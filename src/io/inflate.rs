//! A file's bytes as they were before they were compressed, if they were.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::{Error, Result};

/// What is decompressed at once: a few bytes may be many. Of each piece the last 32 KB are copied, to be
/// looked back at.
const TOGETHER: usize = 128 << 10;

/// The largest window of gzip.
const WINDOW_BITS: u8 = 15;

/// Decompresses what is compressed, and leaves everything else as it is.
#[derive(Default)]
pub(crate) struct MaybeGzip {
    begun: bool,
    gunzip: Option<Gunzip>,
}

impl MaybeGzip {
    /// What some of the bytes of `part` are; nothing when it needs further ones.
    pub(crate) fn next<'p, 'b: 'p>(&'p mut self, part: &mut &'b [u8]) -> Result<Option<&'p [u8]>> {
        if !self.begun && !part.is_empty() {
            self.begun = true;
            // The first byte of a compressed file, and of no JSON.
            self.gunzip = (part.first() == Some(&0x1f)).then(Gunzip::new);
        }
        match &mut self.gunzip {
            Some(gunzip) => gunzip.next(part),
            None => Ok(Some(std::mem::take(part)).filter(|part| !part.is_empty())),
        }
    }

    /// There are no further ones. A file that ends too early is an error.
    pub(crate) fn finish(&self) -> Result<()> {
        match &self.gunzip {
            Some(gunzip) if !gunzip.ended => Err(broken("it ends too early")),
            _ => Ok(()),
        }
    }
}

struct Gunzip {
    zip: Decompress,
    text: Box<[u8]>,
    /// What came out last filled its place, so that more may follow without further bytes.
    full: bool,
    /// A member of the file has ended; another one may follow.
    ended: bool,
}

impl Gunzip {
    fn new() -> Self {
        Self {
            zip: Decompress::new_gzip(WINDOW_BITS),
            text: vec![0; TOGETHER].into(),
            full: false,
            ended: false,
        }
    }

    fn next(&mut self, part: &mut &[u8]) -> Result<Option<&[u8]>> {
        while self.full || !part.is_empty() {
            if self.ended {
                self.zip = Decompress::new_gzip(WINDOW_BITS);
                self.ended = false;
            }
            let before = (self.zip.total_in(), self.zip.total_out());
            let status = self
                .zip
                .decompress(part, &mut self.text, FlushDecompress::None)
                .map_err(|error| broken(&error.to_string()))?;
            let count = |total: u64, before: u64| usize::try_from(total - before).ok();
            let taken = count(self.zip.total_in(), before.0).unwrap_or(part.len());
            let made = count(self.zip.total_out(), before.1).unwrap_or_default();
            *part = part.get(taken..).unwrap_or_default();
            self.ended = status == Status::StreamEnd;
            self.full = made == self.text.len() && !self.ended;
            if taken == 0 && made == 0 && !part.is_empty() {
                return Err(broken("it does not go on"));
            }
            if made > 0 {
                return Ok(self.text.get(..made));
            }
        }
        Ok(None)
    }
}

fn broken(why: &str) -> Error {
    Error::transient(format!("the file is not whole: {why}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn compressed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(bytes: &[u8], size: usize) -> Result<Vec<u8>> {
        let mut plain = MaybeGzip::default();
        let mut text = Vec::new();
        for mut part in bytes.chunks(size) {
            while let Some(next) = plain.next(&mut part)? {
                text.extend_from_slice(next);
            }
            assert!(part.is_empty());
        }
        plain.finish()?;
        Ok(text)
    }

    proptest! {
        // Each byte of a part of its own goes through the decoder alone.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_compressed_file_is_read_to_its_last_byte(
            lines in prop::collection::vec("[a-z0-9{}\":]{0,90}", 0..120),
            size in 1usize..5_000,
        ) {
            let text = lines.join("\n").into_bytes();
            // Also in two members, as some writers append.
            let (first, second) = text.split_at(text.len() / 3);
            let bytes = [compressed(first), compressed(second)].concat();
            prop_assert_eq!(plain(&bytes, size).unwrap(), text.clone());
            prop_assert_eq!(plain(&text, size).unwrap(), text);
        }

        #[test]
        fn few_compressed_bytes_may_be_many(letters in 0usize..300_000, size in 1usize..5_000) {
            let text = b"x".repeat(letters);
            prop_assert!(plain(&compressed(&text), size).unwrap() == text);
        }

        #[test]
        fn a_compressed_file_that_is_cut_is_no_file(cut in 1usize..60) {
            let bytes = compressed(&b"{\"a\":1}\n".repeat(500));
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(plain(&bytes[..bytes.len() - cut], 7).is_err());
        }
    }
}
