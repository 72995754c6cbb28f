//! The cutter: a body as it arrives → chunks of whole records.

use xxhash_rust::xxh3::xxh3_64;

use super::read_event::ReadEvent;
use crate::io::inflate::MaybeGzip;
use crate::{
    core::{
        json::{
            array_splitter::ArraySplitter, chunk::Chunk, if_absent::IfAbsent,
            line_splitter::LineSplitter, time::parse_time,
        },
        position::{
            cursor::{OpenSlice, Slice, Transition},
            dedupe::DedupMode,
            paging::{FilePage, Frame, Page, Tally},
            window::Window,
        },
        protocol::endpoint::{Endpoint, TimeFilter},
    },
    error::{Error, Result},
};

/// Records are cut into chunks of about so many bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// What a body looks like.
pub(super) enum BodyShape {
    /// A JSON object in which a member holds the records.
    List {
        /// The member.
        records: &'static str,
        /// The member of a record whose time was asked for, and which times were, where that has an end.
        time: Option<(&'static str, Option<Window>)>,
        /// An answer without the member is none.
        if_absent: IfAbsent,
    },
    /// Lines, perhaps compressed.
    File(FilePage),
}

impl BodyShape {
    /// The shape of a page.
    pub(super) fn of(
        endpoint: &Endpoint,
        slice: &Slice,
        page: &Page,
        records: &'static str,
    ) -> Self {
        let list = endpoint.list_of(slice);
        let is_feed = matches!(slice, Slice::Token(_) | Slice::Latest);
        match page {
            Page::File(file) => Self::File(file.clone()),
            _ => Self::List {
                records,
                time: match (slice, list.filter) {
                    (Slice::Window(window), TimeFilter::OData(member)) => {
                        Some((member, Some(*window)))
                    }
                    // A row of a query does not say when it was taken in.
                    (
                        Slice::Window(window),
                        TimeFilter::Parameters(..) | TimeFilter::Cel(_) | TimeFilter::Kql(_),
                    ) => Some((endpoint.identity.time, Some(*window))),
                    (Slice::Window(_), TimeFilter::Since(..)) => {
                        Some((endpoint.identity.time, None))
                    }
                    _ => None,
                },
                if_absent: if is_feed {
                    IfAbsent::Empty
                } else {
                    list.if_absent
                },
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
    mode: DedupMode,
    open: OpenSlice,
    cutting: Cutting,
}

enum Cutting {
    List(Box<ListCut>),
    File(Box<FileCut>),
}

struct ListCut {
    cutter: ArraySplitter,
    records: &'static str,
    time: Option<(&'static str, Option<Window>)>,
    tally: Tally,
    full: Vec<Chunk>,
}

struct FileCut {
    plain: MaybeGzip,
    lines: Lines,
}

struct Lines {
    file: FilePage,
    cutter: LineSplitter,
    /// The first byte of the first line was looked at.
    begun: bool,
    /// Lines that were handed on.
    handed_on: u64,
}

impl Cut {
    /// A body of this shape, with hashes of records or without.
    pub(super) fn new(shape: BodyShape, mode: DedupMode, open: &OpenSlice, hashed: bool) -> Self {
        let cutting = match shape {
            BodyShape::List {
                records,
                time,
                if_absent,
            } => Cutting::List(Box::new(ListCut {
                cutter: ArraySplitter::new(records)
                    .in_chunks_of(CHUNK_BYTES)
                    .hashed(hashed)
                    .if_absent(if_absent),
                records,
                time,
                tally: Tally::default(),
                full: Vec::new(),
            })),
            BodyShape::File(file) => Cutting::File(Box::new(FileCut {
                plain: MaybeGzip::default(),
                lines: Lines {
                    cutter: LineSplitter::after(file.lines)
                        .in_chunks_of(CHUNK_BYTES)
                        .hashed(hashed),
                    begun: file.lines > 0,
                    handed_on: file.lines,
                    file,
                },
            })),
        };
        Self {
            mode,
            open: open.clone(),
            cutting,
        }
    }

    /// Takes some of the next bytes and hands on what is whole. False when it needs further ones:
    /// few compressed bytes may be many.
    pub(super) fn feed(&mut self, part: &mut &[u8], whole: &mut Vec<ReadEvent>) -> Result<bool> {
        match &mut self.cutting {
            Cutting::List(list) => {
                list.feed(part, self.mode, whole)?;
                *part = &[];
                Ok(false)
            }
            Cutting::File(file) => match file.plain.next(part)? {
                Some(text) => {
                    file.lines.feed(text, &self.open, self.mode, whole)?;
                    Ok(true)
                }
                None => Ok(false),
            },
        }
    }

    /// The body has come to its end: what is left of it, and what was learnt.
    pub(super) fn finish(&mut self, whole: &mut Vec<ReadEvent>) -> Result<Through> {
        match &mut self.cutting {
            Cutting::List(list) => list.finish(self.mode, whole),
            Cutting::File(file) => {
                let lines = &mut file.lines;
                file.plain.finish()?;
                whole.extend(piece(lines.cutter.finish()?, self.mode));
                lines.handed_on = lines.cutter.lines();
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
            Cutting::List(_) => 0,
            Cutting::File(file) => file.lines.handed_on,
        }
    }
}

impl ListCut {
    fn feed(&mut self, part: &[u8], mode: DedupMode, whole: &mut Vec<ReadEvent>) -> Result<()> {
        self.cutter.feed(part, &mut self.full)?;
        for chunk in self.full.drain(..) {
            count(&mut self.tally, &chunk, self.time);
            whole.extend(piece(chunk, mode));
        }
        Ok(())
    }

    fn finish(&mut self, mode: DedupMode, whole: &mut Vec<ReadEvent>) -> Result<Through> {
        let cutter = std::mem::replace(&mut self.cutter, ArraySplitter::new(self.records));
        let (last, frame) = cutter.finish::<Frame>()?;
        count(&mut self.tally, &last, self.time);
        whole.extend(piece(last, mode));
        Ok(Through {
            frame,
            tally: self.tally,
        })
    }
}

impl Lines {
    /// Lines count as read chunk by chunk: a file may be longer than a run.
    fn feed(
        &mut self,
        bytes: &[u8],
        open: &OpenSlice,
        mode: DedupMode,
        whole: &mut Vec<ReadEvent>,
    ) -> Result<()> {
        let mut rest = bytes;
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        // A page of a proxy has lines as well.
        if let (false, Some(first)) = (self.begun, first) {
            self.begun = true;
            if *first != b'{' {
                return Err(Error::transient(
                    "the file holds no records, but something else",
                ));
            }
        }
        while !rest.is_empty() {
            let (left, chunk) = self.cutter.feed(rest);
            rest = left;
            if let Some(chunk) = chunk {
                whole.extend(piece(chunk, mode));
                self.handed_on = self.cutter.lines();
                whole.push(ReadEvent::Transition(Transition::Page {
                    slice: open.slice.clone(),
                    next: Page::File(self.file.at(self.handed_on)),
                    began: open.began,
                }));
            }
        }
        Ok(())
    }
}

/// A chunk with anything in it.
fn piece(chunk: Chunk, mode: DedupMode) -> Option<ReadEvent> {
    (!chunk.is_empty()).then_some(ReadEvent::Chunk(chunk, mode))
}

fn count(tally: &mut Tally, chunk: &Chunk, time: Option<(&str, Option<Window>)>) {
    if tally.count() == 0 && chunk.handy() > 0 {
        tally.begin(xxh3_64(chunk.record(0)));
    }
    let Some((member, asked)) = time else {
        tally.add(chunk.len() as u64);
        return;
    };
    for at in 0..chunk.handy() {
        let members = chunk.members(at).ok();
        let text = members.and_then(|members| members.text(member));
        let time = text.and_then(|text| parse_time(&text));
        match asked {
            Some(asked) => tally.see_within(time, asked),
            None => tally.see(time),
        }
    }
    for _ in &chunk.oversized {
        tally.see(None);
    }
}
