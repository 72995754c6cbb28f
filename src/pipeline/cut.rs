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
            while let Some(part) = incoming.blocking_recv() {
                // In pieces, since a few compressed bytes may be many.
                for piece in part.chunks(4 << 10) {
                    let bytes = plain.of(piece)?;
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (left, chunk) = lines.feed(rest);
                        rest = left;
                        if let Some(chunk) = chunk {
                            self.hand_on(chunk)?;
                            safe = lines.lines();
                            self.progress(&file.at(safe))?;
                        }
                    }
                }
            }
            plain.finish()?;
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

    fn finish(self) -> Result<()> {
        if let Some(mut decoder) = self.decoder {
            decoder.try_finish().map_err(|error| broken(&error))?;
        }
        Ok(())
    }
}

fn broken(error: &std::io::Error) -> Error {
    Error::transient(format!("the file is not whole: {error}"))
}
