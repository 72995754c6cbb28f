//! Records that are alike but for a few places, and bodies that are made of them while they are
//! sent.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::simulator::listing::{PIECE, Written, around};

/// A record's text, with places for what differs from record to record.
#[derive(Debug)]
pub(super) struct Pattern {
    text: Vec<u8>,
    /// Where each value stands, and which of them.
    places: Vec<(usize, usize)>,
}

impl Pattern {
    /// The pattern of a text in which `marks` stand for values of their length, each anywhere and
    /// any number of times.
    pub(super) fn of(text: String, marks: &[&str]) -> Self {
        let mut places: Vec<(usize, usize)> = marks
            .iter()
            .enumerate()
            .flat_map(|(which, mark)| text.match_indices(mark).map(move |(at, _)| (at, which)))
            .collect();
        places.sort_unstable();
        Self {
            text: text.into_bytes(),
            places,
        }
    }

    /// Bytes of every record.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Writes the record with these values, one for each mark and as long as it.
    pub(super) fn write(&self, values: &[&str], text: &mut Vec<u8>) {
        let start = text.len();
        text.extend_from_slice(&self.text);
        for (at, which) in &self.places {
            let Some(value) = values.get(*which) else {
                continue;
            };
            let at = start + at;
            if let Some(place) = text.get_mut(at..at + value.len()) {
                place.copy_from_slice(value.as_bytes());
            }
        }
    }

    /// What stands before, between and behind values of this length.
    pub(super) fn around(&self, length: usize) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.places.iter().map(move |(at, _)| at + length));
        let ends = self.places.iter().map(|(at, _)| *at);
        let ends = ends.chain([self.text.len()]);
        starts
            .zip(ends)
            .filter_map(|(start, end)| self.text.get(start..end))
    }
}

/// A body that `fill` adds to until it says that there is no more.
pub(super) fn body(
    kind: &'static str,
    mut fill: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static,
) -> Written {
    let mut more = true;
    let pieces = std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE + PIECE / 4);
        while more && piece.len() < PIECE {
            more = fill(&mut piece);
        }
        (!piece.is_empty()).then(|| Bytes::from(piece))
    });
    Written {
        kind,
        pieces: Box::new(pieces),
    }
}

/// A JSON object with `before` and the list `name`, in it the records of these numbers.
pub(super) fn list(
    before: &Map<String, Value>,
    name: &str,
    mut numbers: Range<u64>,
    mut write: impl FnMut(u64, &mut Vec<u8>) + Send + 'static,
) -> Written {
    let [head, tail] = around(before, name, &Map::new());
    let mut head = Some(head);
    body("application/json", move |text| {
        let first = head.take();
        text.extend_from_slice(first.as_deref().unwrap_or_default().as_bytes());
        let Some(number) = numbers.next() else {
            text.extend_from_slice(tail.as_bytes());
            return false;
        };
        if first.is_none() {
            text.push(b',');
        }
        write(number, text);
        true
    })
}

/// The first of the numbers below `rows` whose time is not before `time`, where times grow with
/// numbers; `rows` when there is none.
pub(super) fn first_at(rows: u64, time: i64, time_of: impl Fn(u64) -> i64) -> u64 {
    let (mut low, mut high) = (0, rows);
    while low < high {
        let middle = low + (high - low) / 2;
        if time_of(middle) < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_places_of_their_marks() {
        let pattern = Pattern::of("a##b$c##".to_owned(), &["##", "$"]);
        let mut text = b"x".to_vec();
        pattern.write(&["12", "3"], &mut text);
        assert_eq!(text, b"xa12b3c12");
        let pattern = Pattern::of("a##b##c".to_owned(), &["##"]);
        let around: Vec<&[u8]> = pattern.around(2).collect();
        assert_eq!(around, [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_list_is_json_however_long_it_is() {
        for count in [0, 1, 40_000] {
            let written = list(&Map::new(), "value", 0..count, |number, text| {
                text.extend_from_slice(number.to_string().as_bytes());
            });
            let pieces: Vec<Bytes> = written.pieces.collect();
            assert_eq!(pieces.len() > 1, count > 20_000);
            let body: Value = serde_json::from_slice(&pieces.concat()).unwrap();
            assert_eq!(
                body,
                serde_json::json!({"value": (0..count).collect::<Vec<_>>()})
            );
        }
    }

    #[test]
    fn the_first_of_a_time_is_found() {
        let time_of = |number: u64| number.cast_signed() / 2 * 10;
        for (time, first) in [(-5, 0), (0, 0), (1, 2), (10, 2), (11, 4), (41, 9)] {
            assert_eq!(first_at(9, time, time_of), first, "{time}");
        }
        assert_eq!(first_at(0, 7, time_of), 0);
    }
}
