//! Answers that are made while they are sent, so that a list of millions costs no memory.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value};

/// How much is made at a time.
pub(crate) const PIECE: usize = 64 << 10;

/// The records of a list, each made when it is asked for.
pub(crate) type Records = Box<dyn Iterator<Item = Value> + Send>;

/// A body, piece by piece.
pub(crate) type Pieces = Box<dyn Iterator<Item = Bytes> + Send>;

/// A body that no fault changes.
pub(crate) struct Written {
    /// Its `Content-Type`.
    pub(crate) kind: &'static str,
    pub(crate) pieces: Pieces,
}

impl Written {
    /// JSON in one piece.
    pub(crate) fn json(text: Vec<u8>) -> Self {
        Self {
            kind: "application/json",
            pieces: Box::new(std::iter::once(text.into())),
        }
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// A JSON object with one list in it.
pub(crate) struct Listing {
    /// The members before the list.
    pub(crate) before: Map<String, Value>,
    /// The name of the list.
    pub(crate) list: &'static str,
    /// How many records there are.
    pub(crate) count: usize,
    pub(crate) records: Records,
    /// The members behind the list.
    pub(crate) after: Map<String, Value>,
}

impl Listing {
    /// The object, made at once.
    pub(crate) fn whole(self) -> Value {
        let mut object = self.before;
        object.insert(self.list.to_owned(), self.records.collect());
        object.extend(self.after);
        Value::Object(object)
    }

    pub(crate) fn pieces(self) -> Pieces {
        let [head, tail] = around(&self.before, self.list, &self.after);
        let mut first = true;
        let records = self.records.map(move |record| {
            let comma = if first { "" } else { "," };
            first = false;
            format!("{comma}{record}")
        });
        let texts = std::iter::once(head).chain(records).chain([tail]);
        Box::new(gathered(texts))
    }
}

/// What stands around the records of a list.
pub(crate) fn around(
    before: &Map<String, Value>,
    list: &str,
    after: &Map<String, Value>,
) -> [String; 2] {
    let members = |members: &Map<String, Value>| -> String {
        let shown = members
            .iter()
            .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
        shown.collect::<Vec<_>>().join(",")
    };
    let (before, after) = (members(before), members(after));
    let comma = |text: &str| if text.is_empty() { "" } else { "," };
    [
        format!("{{{before}{}\"{list}\":[", comma(&before)),
        format!("]{}{after}}}", comma(&after)),
    ]
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing")
            .field("before", &self.before)
            .field("list", &self.list)
            .field("count", &self.count)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

/// Records as gzip over one JSON object a line.
pub(crate) struct Lines {
    /// How many records there are.
    pub(crate) count: usize,
    pub(crate) records: Records,
}

impl Lines {
    pub(crate) fn pieces(self) -> Pieces {
        let mut records = self.records;
        let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        Box::new(std::iter::from_fn(move || {
            let mut open = encoder.take()?;
            while open.get_ref().len() < PIECE {
                let Some(record) = records.next() else {
                    // Writing to memory can't fail.
                    return Some(open.finish().unwrap_or_default().into());
                };
                open.write_all(format!("{record}\n").as_bytes())
                    .unwrap_or_default();
            }
            let piece = std::mem::take(open.get_mut());
            encoder = Some(open);
            Some(piece.into())
        }))
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

fn gathered(mut texts: impl Iterator<Item = String>) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let mut piece = texts.next()?;
        while piece.len() < PIECE {
            match texts.next() {
                Some(text) => piece.push_str(&text),
                None => break,
            }
        }
        Some(piece.into())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;

    use super::*;

    fn listing(count: usize) -> Listing {
        let members = |value: Value| value.as_object().unwrap().clone();
        Listing {
            before: members(json!({"@odata.context": "c"})),
            list: "value",
            count,
            records: Box::new((0..count).map(|number| json!({"id": number}))),
            after: members(json!({"@odata.nextLink": "n"})),
        }
    }

    #[test]
    fn pieces_are_the_whole() {
        for count in [0, 1, 20_000] {
            let pieces: Vec<Bytes> = listing(count).pieces().collect();
            assert_eq!(pieces.len() > 1, count > 1000);
            let text: Value = serde_json::from_slice(&pieces.concat()).unwrap();
            assert_eq!(text, listing(count).whole());
        }
    }

    #[test]
    fn lines_are_compressed_as_they_come() {
        for count in [0, 1, 100_000] {
            let lines = Lines {
                count,
                records: listing(count).records,
            };
            let zip = lines.pieces().collect::<Vec<_>>().concat();
            let mut text = String::new();
            flate2::read::GzDecoder::new(zip.as_slice())
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text.lines().count(), count);
            let records: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(records, listing(count).records.collect::<Vec<_>>());
        }
    }
}
