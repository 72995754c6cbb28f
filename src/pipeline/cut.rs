//! The cutter: a body as it arrives → chunks of whole records.

use std::io::Write;

use flate2::write::MultiGzDecoder;

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
    way: Way,
    open: Open,
    cutting: Cutting,
}

enum Cutting {
    List {
        cutter: Box<Cutter>,
        records: &'static str,
        time: Option<&'static str>,
        required: bool,
        tally: Tally,
        full: Vec<Chunk>,
    },
    File {
        file: FilePage,
        cutter: LineCutter,
        plain: Plain,
        /// Lines that were handed on.
        lines: u64,
    },
}

impl Cut {
    /// A body of this shape, in chunks of about so many bytes.
    pub(super) fn new(shape: Shape, way: Way, open: &Open, chunk_bytes: usize) -> Self {
        let cutting = match shape {
            Shape::List {
                records,
                time,
                required,
            } => Cutting::List {
                cutter: Box::new(Cutter::new(records).in_chunks_of(chunk_bytes)),
                records,
                time,
                required,
                tally: Tally::default(),
                full: Vec::new(),
            },
            Shape::File(file) => Cutting::File {
                cutter: LineCutter::after(file.lines),
                plain: Plain::default(),
                lines: file.lines,
                file,
            },
        };
        Self {
            way,
            open: open.clone(),
            cutting,
        }
    }

    /// Takes the next bytes, [`Self::TOGETHER`] at most, and hands on what is whole.
    ///
    /// Lines count as read chunk by chunk: a file may be longer than a run.
    pub(super) fn feed(&mut self, part: &[u8], whole: &mut Vec<Piece>) -> Result<()> {
        let way = self.way;
        match &mut self.cutting {
            Cutting::List {
                cutter,
                time,
                tally,
                full,
                ..
            } => {
                cutter.feed(part, full)?;
                for chunk in full.drain(..) {
                    count(tally, &chunk, *time);
                    whole.extend(piece(chunk, way));
                }
            }
            Cutting::File {
                file,
                cutter,
                plain,
                lines,
            } => {
                let bytes = plain.of(part)?;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (left, chunk) = cutter.feed(rest);
                    rest = left;
                    if let Some(chunk) = chunk {
                        whole.extend(piece(chunk, way));
                        *lines = cutter.lines();
                        whole.push(Piece::Move(Move::Page {
                            slice: self.open.slice.clone(),
                            next: file.at(*lines).to_string(),
                            began: self.open.began,
                        }));
                    }
                }
            }
        }
        Ok(())
    }

    /// The most bytes that are fed at once: a few compressed ones may be many.
    pub(super) const TOGETHER: usize = 4 << 10;

    /// The body has come to its end: what is left of it, and what was learnt.
    pub(super) fn finish(&mut self, whole: &mut Vec<Piece>) -> Result<Through> {
        match &mut self.cutting {
            Cutting::List {
                cutter,
                records,
                time,
                required,
                tally,
                ..
            } => {
                let cutter = std::mem::replace(&mut **cutter, Cutter::new(records));
                let (last, frame) = cutter.finish::<Frame>()?;
                if *required && !frame.has(records) {
                    return Err(Error::contract(format!(
                        "the answer is not as documented: it has no `{records}`"
                    )));
                }
                count(tally, &last, *time);
                whole.extend(piece(last, self.way));
                Ok(Through {
                    frame,
                    tally: *tally,
                })
            }
            Cutting::File {
                cutter,
                plain,
                lines,
                ..
            } => {
                plain.finish()?;
                whole.extend(piece(cutter.finish()?, self.way));
                *lines = cutter.lines();
                Ok(Through {
                    frame: Frame::default(),
                    tally: Tally::default(),
                })
            }
        }
    }

    /// Lines of the file that were handed on.
    pub(super) fn lines(&self) -> u64 {
        match &self.cutting {
            Cutting::List { .. } => 0,
            Cutting::File { lines, .. } => *lines,
        }
    }
}

/// A chunk with anything in it.
fn piece(chunk: Chunk, way: Way) -> Option<Piece> {
    (!chunk.is_empty()).then_some(Piece::Chunk(chunk, way))
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

    fn finish(&mut self) -> Result<()> {
        if let Some(decoder) = &mut self.decoder {
            decoder.try_finish().map_err(|error| broken(&error))?;
        }
        Ok(())
    }
}

fn broken(error: &std::io::Error) -> Error {
    Error::transient(format!("the file is not whole: {error}"))
}
