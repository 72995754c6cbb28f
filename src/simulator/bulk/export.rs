//! The export of software vulnerabilities: files of gzip over lines, made of a block that was
//! compressed once.
//!
//! Blocks differ by their number alone. It takes a part of the id of each machine, and stands in
//! the compressed text in blocks of its own that are not compressed, between pieces that are. What
//! was compressed before a piece is known to it, as in any file: but never the number, since the
//! pieces were made with a mark in its place that no text holds.

use std::{collections::HashMap, ops::Range, sync::Arc};

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::pattern::{Pattern, body};
use crate::simulator::{
    defender::pascal,
    listing::Written,
    world::{World, defender::published, lane::nanos},
};

/// Stands for a block's number: as long, and in no JSON.
const MARK: &str = "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}";

/// How many digits of a machine's id are its own; the number of the block follows.
const OWN_DIGITS: usize = 32;

/// The most lines of a file.
const FILE: u64 = 100_000;

const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The last block of a compressed text: nothing.
const END: [u8; 2] = [3, 0];

/// The rows of the export, by number.
#[derive(Debug)]
pub(crate) struct Export {
    rows: u64,
    lines: Vec<Line>,
    /// The place of each line in its block, by its id with [`MARK`] in it.
    places: HashMap<String, u64>,
}

#[derive(Debug)]
struct Line {
    pattern: Pattern,
    /// Compressed: what stands before, between and behind the numbers.
    pieces: Vec<Vec<u8>>,
}

impl Export {
    pub(super) fn new(world: &World, start: chrono::DateTime<chrono::Utc>, rows: u64) -> Self {
        let defender = world.defender();
        let snapshot = published(nanos(start));
        let findings = defender.findings(0..defender.estate().machines, snapshot);
        let mut deflate = Compress::new(Compression::default(), false);
        let (mut lines, mut places) = (Vec::new(), HashMap::new());
        for (finding, place) in findings.take(super::PATTERNS).zip(0..) {
            let machine = defender.machine_id(finding.machine);
            let own = machine.get(..OWN_DIGITS).unwrap_or_default();
            let marked = |text: &str| text.replace(&machine, &format!("{own}{MARK}"));
            places.insert(marked(&defender.finding_id(finding)), place);
            let record = pascal(defender.finding_record(finding, snapshot));
            let pattern = Pattern::of(marked(&format!("{record}\n")), &[MARK]);
            let mut pieces = Vec::new();
            for text in pattern.around(MARK.len()) {
                if !pieces.is_empty() {
                    // Seen, so that what follows knows how far back things are; not kept.
                    compressed(&mut deflate, MARK.as_bytes());
                }
                pieces.push(compressed(&mut deflate, text));
            }
            lines.push(Line { pattern, pieces });
        }
        Self {
            rows,
            lines,
            places,
        }
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> u64 {
        self.rows.div_ceil(self.file_rows())
    }

    /// Whole blocks.
    fn file_rows(&self) -> u64 {
        let block = self.lines.len().max(1) as u64;
        FILE.next_multiple_of(block)
    }

    /// A file.
    pub(crate) fn file(self: &Arc<Self>, part: u64) -> Written {
        let first = part * self.file_rows();
        let numbers = first.min(self.rows)..(first + self.file_rows()).min(self.rows);
        let mut gzip = Gzip::new(Arc::clone(self), numbers);
        body("application/octet-stream", move |text| gzip.write(text))
    }

    /// The number of the row with this id.
    pub(super) fn number(&self, id: &str) -> Option<u64> {
        let (own, rest) = id.split_at_checked(OWN_DIGITS)?;
        let (block, rest) = rest.split_at_checked(MARK.len())?;
        let place = self.places.get(&format!("{own}{MARK}{rest}"))?;
        Some(block.parse::<u64>().ok()? * self.lines.len() as u64 + place)
    }
}

/// A file that is being written.
struct Gzip {
    export: Arc<Export>,
    numbers: Range<u64>,
    begun: bool,
    sum: Crc,
    /// The line as it is without compression.
    line: Vec<u8>,
}

impl Gzip {
    fn new(export: Arc<Export>, numbers: Range<u64>) -> Self {
        Self {
            export,
            numbers,
            begun: false,
            sum: Crc::new(),
            line: Vec::new(),
        }
    }

    /// Writes a line, or the end.
    fn write(&mut self, text: &mut Vec<u8>) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            text.extend_from_slice(&HEAD);
        }
        let lines = &self.export.lines;
        let next = self.numbers.next().and_then(|number| {
            let count = lines.len() as u64;
            let place = usize::try_from(number.checked_rem(count)?).ok()?;
            Some((number / count, lines.get(place)?))
        });
        let Some((block, line)) = next else {
            text.extend_from_slice(&END);
            text.extend_from_slice(&self.sum.sum().to_le_bytes());
            text.extend_from_slice(&self.sum.amount().to_le_bytes());
            return false;
        };
        let block = format!("{block:08}");
        for (at, piece) in line.pieces.iter().enumerate() {
            if at > 0 {
                text.extend_from_slice(&stored_head(block.len()));
                text.extend_from_slice(block.as_bytes());
            }
            text.extend_from_slice(piece);
        }
        self.line.clear();
        line.pattern.write(&[&block], &mut self.line);
        self.sum.update(&self.line);
        true
    }
}

/// The head of a block that is not compressed, behind one that ends with a byte.
fn stored_head(length: usize) -> [u8; 5] {
    let length = u16::try_from(length).unwrap_or(0);
    let ([a, b], [c, d]) = (length.to_le_bytes(), (!length).to_le_bytes());
    [0, a, b, c, d]
}

/// `text` in blocks that end with a byte.
fn compressed(deflate: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut piece = Vec::with_capacity(text.len() + 64);
    // There is room for all of it, so that one call is enough; memory can't fail.
    drop(deflate.compress_vec(text, &mut piece, FlushCompress::Sync));
    piece.shrink_to_fit();
    piece
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Read as _};

    use flate2::read::GzDecoder;
    use serde_json::Value;

    use super::*;

    fn export(rows: u64) -> Arc<Export> {
        let start = "2026-01-02T00:00:00Z".parse().unwrap();
        Arc::new(Export::new(&World::new(1, start, 1.0), start, rows))
    }

    #[test]
    fn files_hold_each_row_once() {
        let export = export(250_001);
        assert_eq!(export.files(), 3);
        let mut numbers = BTreeSet::new();
        for part in 0..3 {
            let file: Vec<u8> = export.file(part).pieces.collect::<Vec<_>>().concat();
            let mut text = String::new();
            GzDecoder::new(file.as_slice())
                .read_to_string(&mut text)
                .unwrap();
            assert!(file.len() * 5 < text.len(), "{} bytes", file.len());
            let ids = text.lines().map(|line| {
                let (_, rest) = line.split_once("\"Id\":\"").unwrap();
                rest.split_once('"').unwrap().0
            });
            let before = numbers.len();
            numbers.extend(ids.map(|id| export.number(id).unwrap()));
            assert_eq!(numbers.len() - before, text.lines().count());
        }
        assert!(numbers.into_iter().eq(0..250_001));
    }

    #[test]
    fn rows_are_those_of_the_company_on_other_machines() {
        let export = export(1_000);
        let mut text = String::new();
        let file: Vec<u8> = export.file(0).pieces.collect::<Vec<_>>().concat();
        GzDecoder::new(file.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let (id, machine) = (first["Id"].as_str(), first["DeviceId"].as_str());
        assert!(id.unwrap().starts_with(machine.unwrap()));
        assert_eq!(machine.unwrap().len(), 40);
        assert!(first["SoftwareName"].is_string());
        assert_eq!(export.number("strange"), None);
    }
}
