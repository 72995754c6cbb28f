//! Records → rows: tolerant and lossless.
//!
//! A column takes a member only if the member can be restored from it; else the column gets the
//! converted value and the member stays in `additionalFields`, which holds every member that no
//! column took. [`restore`] is the way back, and a property test walks it for every stream.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{
    batch::{self, MAX_ROW_BYTES, ROW_HEAD, ROW_TAIL},
    endpoint::Endpoint,
    layout::Layout,
    mapping::{Rule, To},
    record::{Facts, Members, Raw, canonical_hash, is_capitalised, time_text},
    shorten::{MAX_VALUE_BYTES, length, quoted, shorten},
};

mod convert;
mod restore;

pub use restore::restore;

use convert::convert;

/// In `additionalFields`: the columns that were not filled by their usual member, and by what; the
/// ones that were looked up are a list, [`DETAILS`].
pub const FROM: &str = "@from";

/// In place of the columns in [`FROM`]: each was filled by its usual member, spelt with a capital.
const CAPITALS: &str = "capitals";

/// In `additionalFields`: what was looked up about the record and no column took.
pub const DETAILS: &str = "@details";

/// The column for the name of a device that was looked up by itself.
const DEVICE_NAME: &str = "deviceDisplayName";

/// A record's own member of one of our two names gets another `@` in front.
fn is_ours(key: &str) -> bool {
    let plain = key.trim_start_matches('@');
    plain.len() < key.len()
        && [FROM, DETAILS]
            .iter()
            .any(|ours| ours.get(1..) == Some(plain))
}

/// What all rows of a stream share.
#[derive(Debug, Clone)]
pub struct RowSource {
    /// The columns that name the stream, as JSON members.
    fragment: String,
    rules: &'static [Rule],
    details: &'static [Rule],
    constants: &'static [(&'static str, &'static str)],
    /// The table has a column for the name of a device.
    names_devices: bool,
    /// Rows carry the time of the event as `TimeGenerated`, within what the service accepts.
    event_time: bool,
}

/// What was looked up about a record beside the record itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looked<'a> {
    /// The same record in a richer shape: a JSON object.
    pub details: Option<&'a [u8]>,
    /// The name of the device that it names.
    pub device_name: Option<&'a str>,
}

/// A row, and whether it holds all of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// A JSON object, ready for a [`batch::Batch`].
    pub json: Vec<u8>,
    /// A value was cut; the record has to be kept whole elsewhere.
    pub shortened: bool,
}

impl RowSource {
    /// Rows of the endpoint's stream, of `connection`, in this form. With `event_time` their `TimeGenerated` is
    /// the time of the event, as far as the service accepts it.
    pub fn new(endpoint: &Endpoint, layout: &Layout, connection: &str, event_time: bool) -> Self {
        let fragment = source_cells(endpoint.provider, connection, endpoint.stream);
        Self {
            fragment,
            rules: layout.rules,
            details: layout.details,
            constants: layout.constants,
            names_devices: layout.column(DEVICE_NAME).is_some(),
            event_time,
        }
    }

    /// The row of a record.
    pub fn row(
        &self,
        record: &Members<'_>,
        facts: &Facts,
        looked: Looked<'_>,
        now: DateTime<Utc>,
    ) -> Row {
        let mut json = Vec::new();
        let shortened = self.write(record, facts, looked, now, &mut json);
        Row { json, shortened }
    }

    /// Writes the row of a record behind what is in `json`. True when a value was cut: then the
    /// record has to be kept whole elsewhere.
    pub fn write(
        &self,
        record: &Members<'_>,
        facts: &Facts,
        looked: Looked<'_>,
        now: DateTime<Utc>,
        json: &mut Vec<u8>,
    ) -> bool {
        let mut cells = Cells {
            filled: Vec::with_capacity(16),
            ..Cells::default()
        };
        let mut rest = cells.fill(record, self.rules, Path::default());
        cells.look_up(looked, record, self.details, &mut rest);
        if let Some(name) = looked.device_name
            && self.names_devices
            && !cells.has(DEVICE_NAME)
        {
            cells.add(DEVICE_NAME, quoted(name), Origin::LookedUp);
        }
        cells.set_additional(rest, self.rules);
        for (column, json) in self.constants {
            if !cells.has(column) {
                cells.add(column, *json, Origin::Usual);
            }
        }

        let generated = facts.time.filter(|time| {
            self.event_time && *time > now - TimeDelta::days(2) && *time < now + TimeDelta::days(1)
        });
        let mut tail = String::with_capacity(self.fragment.len() + facts.id.len() + 256);
        tail.push_str(&self.fragment);
        for (name, value) in [("recordId", &facts.id), ("recordVersion", &facts.version)] {
            push_cell(&mut tail, name, &shorten(&quoted(value), MAX_VALUE_BYTES));
        }
        if let Some(time) = facts.time {
            push_cell(&mut tail, "eventTime", &quoted(&time_text(time)));
        }
        let shortened = cells.shorten(MAX_ROW_BYTES - tail.len() - ROW_HEAD.len() - ROW_TAIL.len());
        json.reserve(cells.bytes() + tail.len() + 128);
        json.extend_from_slice(ROW_HEAD);
        json.extend_from_slice(batch::time_text(generated.unwrap_or(now)).as_bytes());
        json.push(b'"');
        for cell in &cells.filled {
            json.extend_from_slice(b",\"");
            json.extend_from_slice(cell.column.as_bytes());
            json.extend_from_slice(b"\":");
            json.extend_from_slice(cell.json.as_bytes());
        }
        json.extend_from_slice(tail.as_bytes());
        json.push(b',');
        json.extend_from_slice(ROW_TAIL);
        shortened
    }
}

/// A row that comes from no record: `fields` (a JSON object) is what it says.
pub fn health_row(
    provider: &str,
    connection: &str,
    stream: &str,
    id: &str,
    fields: &str,
    now: DateTime<Utc>,
) -> Vec<u8> {
    let mut cells = source_cells(provider, connection, stream);
    push_cell(&mut cells, "recordId", &quoted(id));
    push_cell(&mut cells, "recordVersion", &quoted(id));
    push_cell(&mut cells, "eventTime", &quoted(&time_text(now)));
    push_cell(
        &mut cells,
        "additionalFields",
        &shorten(fields, MAX_VALUE_BYTES),
    );
    [
        ROW_HEAD,
        batch::time_text(now).as_bytes(),
        b"\"",
        cells.as_bytes(),
        b",",
        ROW_TAIL,
    ]
    .concat()
}

/// The columns that name a stream, as JSON members with a comma before each.
fn source_cells(provider: &str, connection: &str, stream: &str) -> String {
    let mut cells = String::new();
    push_cell(&mut cells, "providerName", &quoted(provider));
    push_cell(&mut cells, "connectionName", &quoted(connection));
    push_cell(&mut cells, "streamName", &quoted(stream));
    cells
}

/// One column's value.
struct Cell<'a> {
    column: &'static str,
    json: Cow<'a, str>,
    origin: Origin,
}

/// What filled a column.
enum Origin {
    /// The member that usually does.
    Usual,
    /// The member at this path, in place of the usual one.
    Other(String),
    /// What was looked up: it is no part of the record.
    LookedUp,
}

#[derive(Default)]
struct Cells<'a> {
    filled: Vec<Cell<'a>>,
    /// What is filled now was looked up: it must not be restored.
    looked_up: bool,
}

impl<'a> Cells<'a> {
    fn get(&self, column: &str) -> Option<&Cell<'a>> {
        self.filled.iter().find(|cell| cell.column == column)
    }

    fn has(&self, column: &str) -> bool {
        self.get(column).is_some()
    }

    fn add(&mut self, column: &'static str, json: impl Into<Cow<'a, str>>, origin: Origin) {
        let origin = if self.looked_up {
            Origin::LookedUp
        } else {
            origin
        };
        self.filled.push(Cell {
            column,
            json: json.into(),
            origin,
        });
    }

    /// Fills columns by `rules`, and gives back what no column took.
    fn fill(&mut self, record: &Members<'a>, rules: &'static [Rule], path: Path<'_>) -> Object {
        let mut members: Vec<_> = record
            .iter()
            .map(|(key, value)| (key, value, None))
            .collect();
        // Rules in their order, not the members in theirs: the first rule of a column wins.
        for rule in rules {
            let named = members.iter_mut().find(|(key, ..)| *key == rule.member);
            if let Some((_, value, outcome)) = named {
                let followed = self.follow(rule, *value, path);
                outcome.get_or_insert(followed);
            }
        }
        let left = members
            .iter()
            .filter(|(_, _, outcome)| !matches!(outcome, Some(Outcome::Taken)))
            .map(|(key, value, _)| key.len() + value.get().len() + 4);
        let mut rest = Object(String::with_capacity(left.sum()));
        for (key, value, outcome) in members {
            match outcome {
                Some(Outcome::Taken) => {}
                Some(Outcome::Partly(left)) => rest.push(key, &left),
                Some(Outcome::Kept) | None if path.0.is_none() && is_ours(key) => {
                    rest.push(&format!("@{key}"), value.get());
                }
                Some(Outcome::Kept) | None => rest.push(key, value.get()),
            }
        }
        rest
    }

    fn follow(&mut self, rule: &Rule, value: Raw<'a>, path: Path<'_>) -> Outcome {
        match rule.to {
            To::Column(column, _) if !self.looked_up && self.has(column) => Outcome::Kept,
            To::Column(column, how) => {
                let Some((json, exact)) = convert(value, how) else {
                    return Outcome::Kept;
                };
                let new = match self.get(column) {
                    None => true,
                    // What was looked up and is there already is not paid for twice.
                    Some(cell) if cell.json == json => false,
                    Some(_) => return Outcome::Kept,
                };
                if new {
                    let origin = if rule.alternate {
                        Origin::Other(path.to(rule.member))
                    } else {
                        Origin::Usual
                    };
                    self.add(column, json, origin);
                }
                if exact { Outcome::Taken } else { Outcome::Kept }
            }
            To::Members { rest, rules } => {
                let Some(members) = Members::of_value(value) else {
                    return Outcome::Kept;
                };
                let inside = Path(Some((&path, rule.member)));
                let left = self.fill(&members, rules, inside).close();
                match (left, rest) {
                    (None, _) => Outcome::Taken,
                    (Some(left), Some(column)) if !self.has(column) => {
                        self.add(column, left, Origin::Usual);
                        Outcome::Taken
                    }
                    (Some(left), _) => Outcome::Partly(left),
                }
            }
        }
    }

    /// Fills columns that the record left open, and says so.
    fn look_up(
        &mut self,
        looked: Looked<'a>,
        record: &Members<'a>,
        rules: &'static [Rule],
        rest: &mut Object,
    ) {
        self.looked_up = true;
        if let Some(details) = looked.details.and_then(|text| Members::of(text).ok()) {
            let left = self.fill(&details, rules, Path::default()).close();
            // What the record says itself is not paid for twice.
            let mut new = Object::default();
            if let Some(Ok(left)) = left.as_ref().map(|left| Members::of(left.as_bytes())) {
                for (key, value) in left
                    .iter()
                    .filter(|(key, value)| !says(record, key, *value))
                {
                    new.push(key, value.get());
                }
            }
            if let Some(new) = new.close() {
                rest.push(DETAILS, &new);
            }
        }
        self.looked_up = false;
    }

    fn set_additional(&mut self, mut rest: Object, rules: &[Rule]) {
        if self.is_in_capitals(rules) {
            rest.push(FROM, &quoted(CAPITALS));
        } else if let Some(from) = self.origins(rules) {
            rest.push(FROM, &from);
        }
        if let Some(rest) = rest.close() {
            self.add("additionalFields", rest, Origin::Usual);
        }
    }

    /// The columns that were not filled by their usual member, and by what, if there are any.
    fn origins(&self, rules: &[Rule]) -> Option<String> {
        let mut from = Object::default();
        let mut looked_up: Vec<&str> = Vec::new();
        for cell in &self.filled {
            match &cell.origin {
                Origin::Other(path) => from.push(cell.column, &quoted(path)),
                Origin::LookedUp if usually_fill(rules, cell.column) => looked_up.push(cell.column),
                // Columns that no member of a record fills need not be told apart.
                Origin::Usual | Origin::LookedUp => {}
            }
        }
        if !looked_up.is_empty() {
            from.push(DETAILS, &Value::from(looked_up).to_string());
        }
        from.close()
    }

    /// True when all columns were filled by the capitalised twin of their usual member.
    fn is_in_capitals(&self, rules: &[Rule]) -> bool {
        let is_twin = |column: &str, path: &str| {
            let of_column = rules
                .iter()
                .filter(|rule| matches!(rule.to, To::Column(name, _) if name == column));
            let (mut twins, mut usual) = (0, false);
            for rule in of_column {
                twins += usize::from(rule.alternate);
                usual |= !rule.alternate && is_capitalised(path, rule.member);
            }
            twins == 1 && usual
        };
        let mut others = self.filled.iter().map(|cell| match &cell.origin {
            Origin::Other(path) => Some((cell.column, path)),
            Origin::Usual | Origin::LookedUp => None,
        });
        // Most rows have a usual one first.
        !self.filled.is_empty()
            && others.all(|other| other.is_some_and(|(column, path)| is_twin(column, path)))
    }

    fn bytes(&self) -> usize {
        self.filled
            .iter()
            .map(|cell| cell.column.len() + cell.json.len() + 4)
            .sum()
    }

    /// Cuts what is too long for a column, then what is too long for a row of `limit` bytes, and
    /// names it in `truncatedFields`.
    fn shorten(&mut self, limit: usize) -> bool {
        // Room for the list of names itself.
        let limit = limit.saturating_sub(4096);
        let mut names: Vec<&'static str> = Vec::new();
        for cell in &mut self.filled {
            if length(&cell.json) > MAX_VALUE_BYTES {
                cell.json = shorten(&cell.json, MAX_VALUE_BYTES).into_owned().into();
                names.push(cell.column);
            }
        }
        while self.bytes() > limit {
            let Some(cell) = self.filled.iter_mut().max_by_key(|cell| cell.json.len()) else {
                break;
            };
            let half = length(&cell.json) / 2;
            cell.json = shorten(&cell.json, half).into_owned().into();
            if !names.contains(&cell.column) {
                names.push(cell.column);
            }
        }
        if names.is_empty() {
            return false;
        }
        let names = Value::from(names).to_string();
        self.add("truncatedFields", names, Origin::Usual);
        true
    }
}

/// True when the record has the same member itself, or further in.
fn says(record: &Members<'_>, key: &str, value: Raw<'_>) -> bool {
    let same = |members: &Members<'_>| {
        members.get(key).is_some_and(|own| {
            let (own, value) = (own.get().as_bytes(), value.get().as_bytes());
            own == value || canonical_hash(own) == canonical_hash(value)
        })
    };
    same(record)
        || record
            .iter()
            .filter_map(|(_, inner)| Members::of_value(inner))
            .any(|inner| same(&inner))
}

/// True when one of the rules fills the column without a note of its own in [`FROM`].
fn usually_fill(rules: &[Rule], column: &str) -> bool {
    rules.iter().any(|rule| match rule.to {
        To::Column(name, _) => name == column && !rule.alternate,
        To::Members { rest, rules } => rest == Some(column) || usually_fill(rules, column),
    })
}

/// What became of a member.
enum Outcome {
    /// A column holds all of it.
    Taken,
    /// Columns hold some of its members; these are left.
    Partly(String),
    /// It is left over as it is.
    Kept,
}

/// The members of which a record's member is one, outermost last.
#[derive(Clone, Copy, Default)]
struct Path<'p>(Option<(&'p Path<'p>, &'static str)>);

impl Path<'_> {
    /// `context.process.path`.
    fn to(self, member: &str) -> String {
        match self.0 {
            None => member.to_owned(),
            Some((above, name)) => format!("{}.{member}", above.to(name)),
        }
    }
}

/// A JSON object that is being written.
#[derive(Default)]
struct Object(String);

impl Object {
    fn push(&mut self, key: &str, json: &str) {
        let object = &mut self.0;
        object.reserve(key.len() + json.len() + 5);
        object.push(if object.is_empty() { '{' } else { ',' });
        if key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            object.push('"');
            object.push_str(key);
            object.push('"');
        } else {
            object.push_str(&quoted(key));
        }
        object.push(':');
        object.push_str(json);
    }

    /// Its text, unless it is empty.
    fn close(mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.push('}');
        Some(self.0)
    }
}

fn push_cell(row: &mut String, column: &str, json: &str) {
    row.push_str(",\"");
    row.push_str(column);
    row.push_str("\":");
    row.push_str(json);
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
