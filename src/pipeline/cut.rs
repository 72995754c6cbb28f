//! The cutter: a body as it arrives → chunks of whole records, on a thread of its own.

use std::io::Write;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use tokio::sync::mpsc;

use super::{read::Piece, snapshot::Way};
use crate::{
    core::{
        cursor::{Move, Open, Slice},
        endpoint::{Endpoint, TimeFilter},
        lines::LineCutter,
        page::{Chunk, Cutter},
        paging::{FilePage, Frame, Paging, Tally},
        record::{Members, parse_time},
    },
    error::{Error, Result},
};

/// What a body looks like.
pub(super) enum Shape {
    /// A JSON object in which a member holds the records.
    List {
        /// The member.
        records: &'static str,
        /// The member of a record whose time says where the page ends.
        time: Option<&'static str>,
        /// An answer without the member is none.
        required: bool,
    },
    /// Lines, perhaps compressed.
    File(FilePage),
}

impl Shape {
    /// The shape of a page.
    pub(super) fn of(
        endpoint: &Endpoint,
        slice: &Slice,
        page: &str,
        records: &'static str,
    ) -> Self {
        let list = endpoint.list(slice);
        let is_feed = matches!(slice, Slice::Token(_) | Slice::Latest);
        match (list.paging, FilePage::of(page)) {
            (Paging::Files, Some(file)) => Self::File(file),
            (paging, _) => Self::List {
                records,
                time: match (paging, list.filter) {
                    (Paging::Boundary { .. }, TimeFilter::OData(member)) => Some(member),
                    _ => None,
                },
                required: !is_feed && !matches!(paging, Paging::Token | Paging::Files),
            },
        }
    }
}

/// What was learnt from a whole body.
pub(super) struct Through {
    pub(super) frame: Frame,
    pub(super) tally: Tally,
}

/// A body that is not whole, or not what it should be.
pub(super) struct Broken {
    pub(super) error: Error,
    /// Lines of the file that were handed on.
    pub(super) lines: u64,
}

/// One body to cut.
pub(super) struct Cut {
    pub(super) shape: Shape,
    pub(super) way: Way,
    pub(super) open: Open,
    pub(super) pieces: mpsc::Sender<Piece>,
}

impl Cut {
    /// Cuts what comes in. Blocks.
    pub(super) fn run(
        self,
        incoming: mpsc::Receiver<Bytes>,
    ) -> std::result::Result<Through, Broken> {
        match &self.shape {
            Shape::List {
                records,
                time,
                required,
            } => self
                .list(records, *time, *required, incoming)
                .map_err(|error| Broken { error, lines: 0 }),
            Shape::File(file) => self.file(file, incoming),
        }
    }

    fn list(
        &self,
        records: &'static str,
        time: Option<&'static str>,
        required: bool,
        mut incoming: mpsc::Receiver<Bytes>,
    ) -> Result<Through> {
        let mut cutter = Cutter::new(records);
        let mut full = Vec::new();
        let mut tally = Tally::default();
        while let Some(part) = incoming.blocking_recv() {
            cutter.feed(&part, &mut full)?;
            for chunk in full.drain(..) {
                count(&mut tally, &chunk, time);
                self.hand_on(chunk)?;
            }
        }
        let (last, frame) = cutter.finish::<Frame>()?;
        if required && !frame.has(records) {
            return Err(Error::contract(format!(
                "the answer is not as documented: it has no `{records}`"
            )));
        }
        count(&mut tally, &last, time);
        self.hand_on(last)?;
        Ok(Through { frame, tally })
    }

    /// Lines count as read chunk by chunk: a file may be longer than a run.
    fn file(
        &self,
        file: &FilePage,
        mut incoming: mpsc::Receiver<Bytes>,
    ) -> std::result::Result<Through, Broken> {
        let mut lines = LineCutter::after(file.lines);
        let mut safe = file.lines;
        let mut whole = || -> Result<()> {
            let mut plain = Plain::default();
            let mut begun = file.lines > 0;
            let mut cut = |bytes: &[u8], lines: &mut LineCutter| -> Result<()> {
                let mut rest = bytes;
                // A page of a proxy has lines as well.
                if !begun && let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace())
                {
                    begun = true;
                    if *first != b'{' {
                        return Err(Error::transient(
                            "the file holds no records, but something else",
                        ));
                    }
                }
                while !rest.is_empty() {
                    let (left, chunk) = lines.feed(rest);
                    rest = left;
                    if let Some(chunk) = chunk {
                        self.hand_on(chunk)?;
                        safe = lines.lines();
                        self.progress(&file.at(safe))?;
                    }
                }
                Ok(())
            };
            while let Some(part) = incoming.blocking_recv() {
                // In pieces, since a few compressed bytes may be many.
                for piece in part.chunks(4 << 10) {
                    cut(&plain.of(piece)?, &mut lines)?;
                }
            }
            cut(&plain.finish()?, &mut lines)?;
            self.hand_on(lines.finish()?)?;
            safe = lines.lines();
            Ok(())
        };
        match whole() {
            Ok(()) => Ok(Through {
                frame: Frame::default(),
                tally: Tally::default(),
            }),
            Err(error) => Err(Broken { error, lines: safe }),
        }
    }

    fn hand_on(&self, chunk: Chunk) -> Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.send(Piece::Chunk(chunk, self.way))
    }

    fn progress(&self, at: &FilePage) -> Result<()> {
        self.send(Piece::Move(Move::Page {
            slice: self.open.slice.clone(),
            next: at.to_string(),
            began: self.open.began,
        }))
    }

    fn send(&self, piece: Piece) -> Result<()> {
        self.pieces
            .blocking_send(piece)
            .map_err(|_| Error::transient("the writer has stopped"))
    }
}

fn count(tally: &mut Tally, chunk: &Chunk, time: Option<&str>) {
    let Some(member) = time else {
        tally.add(chunk.len() as u64);
        return;
    };
    for at in 0..chunk.records.len() {
        let members = Members::of(chunk.record(at)).ok();
        let text = members.as_ref().and_then(|members| members.text(member));
        tally.see(text.and_then(|text| parse_time(&text)));
    }
    for _ in &chunk.oversized {
        tally.see(None);
    }
}

/// Bytes as they were before they were compressed, if they were.
#[derive(Default)]
struct Plain {
    begun: bool,
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
}

impl Plain {
    fn of(&mut self, part: &[u8]) -> Result<Vec<u8>> {
        if !self.begun && !part.is_empty() {
            self.begun = true;
            // The first byte of a compressed file, and of no JSON.
            if part.first() == Some(&0x1f) {
                self.decoder = Some(MultiGzDecoder::new(Vec::new()));
            }
        }
        let Some(decoder) = &mut self.decoder else {
            return Ok(part.to_vec());
        };
        decoder.write_all(part).map_err(|error| broken(&error))?;
        Ok(std::mem::take(decoder.get_mut()))
    }

    /// What the decoder has held back. A file that ends too early is an error.
    fn finish(self) -> Result<Vec<u8>> {
        let Some(mut decoder) = self.decoder else {
            return Ok(Vec::new());
        };
        decoder.try_finish().map_err(|error| broken(&error))?;
        Ok(std::mem::take(decoder.get_mut()))
    }
}

fn broken(error: &std::io::Error) -> Error {
    Error::transient(format!("the file is not whole: {error}"))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn compressed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(bytes: &[u8], size: usize) -> Result<Vec<u8>> {
        let mut plain = Plain::default();
        let mut text = Vec::new();
        for part in bytes.chunks(size) {
            text.extend(plain.of(part)?);
        }
        text.extend(plain.finish()?);
        Ok(text)
    }

    proptest! {
        #[test]
        fn a_compressed_file_is_read_to_its_last_byte(
            lines in prop::collection::vec("[a-z0-9{}\":]{0,200}", 0..300),
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
        fn a_compressed_file_that_is_cut_is_no_file(cut in 1usize..60) {
            let bytes = compressed(&b"{\"a\":1}\n".repeat(500));
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(plain(&bytes[..bytes.len() - cut], 7).is_err());
        }
    }
}
