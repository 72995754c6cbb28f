//! The beginning of a file.

use futures_util::TryStreamExt;
use http::header::CONTENT_LENGTH;

use crate::{
    check::volume::Part,
    core::json::{chunk::Chunk, line_splitter::LineSplitter},
    error::{Error, Result},
    io::http::Response,
    io::inflate::MaybeGzip,
};

/// Looks at the records of a file until these were `most` bytes as they were before they were
/// compressed, and says how much of the file that was.
pub(super) async fn file(
    response: Response,
    most: u64,
    hashed: bool,
    mut see: impl FnMut(Chunk),
) -> Result<Part> {
    let length = response.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut body = response.body;
    let mut plain = MaybeGzip::default();
    let mut cutter = LineSplitter::after(0).hashed(hashed);
    let (mut read, mut seen) = (0, 0);
    let broken = |error| Error::transient(format!("the answer broke off: {error}"));
    let mut whole = true;
    'parts: while let Some(part) = body.try_next().await.map_err(broken)? {
        let mut rest = &*part;
        loop {
            if seen >= most {
                whole = false;
                break 'parts;
            }
            let before = rest.len();
            let Some(text) = plain.next(&mut rest)? else {
                break;
            };
            seen += text.len() as u64;
            cut(&mut cutter, text, &mut see);
            read += (before - rest.len()) as u64;
        }
    }
    if whole {
        plain.finish()?;
    }
    // A line that was not read to its end is no record, and is not seen.
    see(cutter.finish()?);
    Ok(Part {
        read,
        length,
        whole,
    })
}

fn cut(cutter: &mut LineSplitter, text: &[u8], see: &mut impl FnMut(Chunk)) {
    let mut rest = text;
    while !rest.is_empty() {
        let (left, chunk) = cutter.feed(rest);
        rest = left;
        if let Some(chunk) = chunk {
            see(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;
    use flate2::{Compression, write::GzEncoder};
    use futures_util::stream;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::core::json::record::JsonObject;

    const RECORDS: u64 = 20_000;

    /// A compressed file of so many different records.
    fn compressed() -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        for at in 0..RECORDS {
            let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            writeln!(encoder, r#"{{"Id":"{mixed:016x}","CveId":"CVE-{at}"}}"#).unwrap();
        }
        encoder.finish().unwrap()
    }

    /// How much of the file is read of which `most` bytes are looked at, and how many records that is.
    async fn read(bytes: Vec<u8>, most: u64, tells_length: bool) -> Result<(Part, u64)> {
        let mut headers = HeaderMap::new();
        if tells_length {
            headers.insert(CONTENT_LENGTH, bytes.len().into());
        }
        let parts: Vec<_> = bytes.chunks(60_000).map(Bytes::copy_from_slice).collect();
        let response = Response {
            status: StatusCode::OK,
            headers,
            body: Box::pin(stream::iter(parts.into_iter().map(Ok))),
        };
        let mut records = 0;
        let part = file(response, most, false, |chunk| {
            let is_record = |at: &usize| JsonObject::of(chunk.record(*at)).is_ok();
            records += (0..chunk.handy()).filter(is_record).count() as u64;
        });
        Ok((part.await?, records))
    }

    #[tokio::test]
    async fn a_small_file_is_read_to_its_end() {
        let bytes = compressed();
        let length = bytes.len() as u64;
        let (part, records) = read(bytes, u64::MAX, true).await.unwrap();
        assert_eq!(records, RECORDS);
        assert_eq!(
            (part.read, part.length, part.whole),
            (length, Some(length), true)
        );
    }

    #[tokio::test]
    async fn of_a_large_file_the_beginning_is_read_and_says_how_long_it_is() {
        let (part, records) = read(compressed(), 100_000, true).await.unwrap();
        assert!(!part.whole);
        assert!(records < RECORDS / 4, "{records} records");
        let all = records * part.length.unwrap() / part.read;
        assert!(all.abs_diff(RECORDS) < RECORDS / 10, "{all} of {RECORDS}");
        let (part, _) = read(compressed(), 100_000, false).await.unwrap();
        assert_eq!((part.length, part.whole), (None, false));
    }

    #[tokio::test]
    async fn a_file_that_breaks_off_or_holds_nothing_is_an_error() {
        let mut bytes = compressed();
        bytes.truncate(bytes.len() / 2);
        assert!(read(bytes, u64::MAX, true).await.is_err());
        assert!(read(Vec::new(), u64::MAX, true).await.is_err());
    }
}
