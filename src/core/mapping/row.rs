//! Records → rows: tolerant and lossless.
//!
//! A column takes a member only if the member can be restored from it; else the column gets the
//! converted value and the member stays in `additionalFields`, which holds every member that no
//! column took. [`restore`] is the way back, and a property test walks it for every stream.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    batch::{self, MAX_ROW_BYTES, ROW_HEAD, ROW_TAIL, UNSTAMPED},
    layout::Layout,
    rule::Rule,
    shorten::{MAX_VALUE_BYTES, quoted, shorten},
};
use crate::core::{
    json::{
        record::JsonObject,
        time::{parse_time, time_text},
    },
    position::{cursor::StreamKey, record_key::RecordMeta},
    protocol::endpoint::Endpoint,
};

mod cells;
mod convert;
mod gathered;
mod left;
mod object;
mod picked;
mod plan;
mod restore;
mod template;
mod truncate;

pub use restore::restore;

use cells::{Cell, Cells, Filled, Origin, push_origins, usually_fill};
use gathered::gathered;
use object::{ObjectWriter, push_text};
use picked::Picker;
use plan::{Plan, PlanCache, Slot, Slots};
use template::{RowWriter, Templates};

/// In `additionalFields`: the columns that were not filled by their usual member, and by what; the
/// ones that were looked up are a list, [`DETAILS`].
pub const FROM: &str = "@from";

/// In place of the columns in [`FROM`]: each was filled by its usual member, spelt with a capital.
const CAPITALS: &str = "capitals";

/// In `additionalFields`: what was looked up about the record and no column took.
pub const DETAILS: &str = "@details";

/// The column for the name of a device that was looked up by itself.
const DEVICE_NAME: &str = "deviceDisplayName";

/// The column for what names a record.
const RECORD_ID: &str = "recordId";

/// The column for what no other one took.
const ADDITIONAL: &str = "additionalFields";

/// The column that names the columns that were cut.
const TRUNCATED: &str = "truncatedFields";

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
    plan: Plan,
    details: Plan,
    constants: Vec<(Slot, &'static str)>,
    /// What stands before the value of a column, by its place.
    heads: Vec<String>,
    picker: Option<Picker>,
    gathers: Vec<(Slot, &'static [&'static str])>,
    /// What a record says alone, and not further in, decides on its row.
    is_flat: bool,
    /// Where the name of a device goes, if the table has a column for it.
    device_name: Option<Slot>,
    /// Where what names a record goes, if a rule takes it there.
    record_id: Option<Slot>,
    additional: Slot,
    truncated: Slot,
    /// Rows carry the time of the event as `TimeGenerated`, within what the service accepts.
    event_time: bool,
}

/// What was looked up about a record beside the record itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Enriched<'a> {
    /// The record in a richer shape.
    pub details: Option<&'a JsonObject<'a>>,
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

/// A row that is being written, and what is kept from one to the next.
#[derive(Debug, Default)]
pub struct Draft {
    /// The row.
    pub json: String,
    shape: PlanCache,
    details: PlanCache,
    templates: Templates,
}

impl RowSource {
    /// Rows of the endpoint's stream, of `connection`, in this form. With `event_time` their `TimeGenerated` is
    /// the time of the event, as far as the service accepts it.
    pub fn new(endpoint: &Endpoint, layout: &Layout, connection: &str, event_time: bool) -> Self {
        let mut slots = Slots::default();
        let constants = layout.constants.iter();
        let device_name = layout.column(DEVICE_NAME);
        let mut source = Self {
            fragment: source_cells(endpoint.provider, connection, endpoint.stream),
            rules: layout.rules,
            plan: Plan::new(layout.rules, &mut slots),
            details: Plan::new(layout.details, &mut slots),
            constants: constants
                .map(|(column, json)| (slots.of(column), *json))
                .collect(),
            heads: Vec::new(),
            picker: (layout.from_list.as_ref())
                .map(|picks| Picker::new(picks, layout.rules, &mut slots)),
            gathers: (layout.collect.iter())
                .map(|gather| (slots.of(gather.column), gather.path))
                .collect(),
            is_flat: false,
            device_name: device_name.map(|column| slots.of(column.name)),
            record_id: usually_fill(layout.rules, RECORD_ID).then(|| slots.of(RECORD_ID)),
            additional: slots.of(ADDITIONAL),
            truncated: slots.of(TRUNCATED),
            event_time,
        };
        source.heads = slots.heads();
        let looks_further_in = source.picker.is_some() || !source.gathers.is_empty();
        source.is_flat = source.plan.is_flat() && !looks_further_in;
        source
    }

    /// The row of a record.
    pub fn row(
        &self,
        record: &JsonObject<'_>,
        facts: &RecordMeta,
        looked: Enriched<'_>,
        now: DateTime<Utc>,
    ) -> Row {
        let mut draft = Draft::default();
        let shortened = self.write(record, facts, looked, now, &mut draft);
        Row {
            json: draft.json.into_bytes(),
            shortened,
        }
    }

    /// Writes the row of a record in the place of another one. True when a value was cut: then the
    /// record has to be kept whole elsewhere.
    pub fn write(
        &self,
        record: &JsonObject<'_>,
        facts: &RecordMeta,
        looked: Enriched<'_>,
        now: DateTime<Utc>,
        draft: &mut Draft,
    ) -> bool {
        let is_alone = looked.details.is_none() && looked.device_name.is_none();
        let form = (self.is_flat && is_alone).then(|| record.form()).flatten();
        draft.json.clear();
        self.open(facts, now, &mut draft.json);
        let start = draft.json.len();
        if form.is_some_and(|form| draft.templates.write(form, record, &mut draft.json)) {
            self.close(facts, &mut draft.json);
            if draft.json.len() <= MAX_VALUE_BYTES {
                return false;
            }
        }
        draft.json.truncate(start);
        let filled = self.fill(record, facts, looked, draft);
        if let Some((form, row)) = form.zip(draft.json.get(start..))
            && filled.iter().all(Cell::is_of_record)
        {
            let written = RowWriter {
                plan: &self.plan,
                shape: &draft.shape,
                heads: &self.heads,
                rest: self.additional,
            };
            draft.templates.learn(form, record, row, written);
        }
        let json = &mut draft.json;
        self.close(facts, json);
        // What is shorter than the longest value has no value that is too long.
        if json.len() <= MAX_VALUE_BYTES {
            return false;
        }
        let value = |cell: &Cell<'_>| json.get(cell.value.clone()).unwrap_or("null").to_owned();
        let cells = filled.iter().map(|cell| (cell.slot, value(cell))).collect();
        self.write_long(cells, facts, now, json)
    }

    /// Writes the columns of a record, and gives them back.
    fn fill<'a>(
        &'a self,
        record: &JsonObject<'a>,
        facts: &RecordMeta,
        looked: Enriched<'a>,
        draft: &mut Draft,
    ) -> Filled<'a> {
        let mut cells = Cells::new(&self.heads, &mut draft.json);
        if let Some(picker) = &self.picker {
            picker.fill_better(record, &mut cells);
        }
        cells.fill(record, &self.plan, &mut draft.shape);
        let details = cells.fill_details(looked, record, &self.details, &mut draft.details);
        if let Some((slot, name)) = self.device_name.zip(looked.device_name)
            && !cells.has(slot)
        {
            cells.add(slot, &quoted(name), Origin::Enrichment);
        }
        if let Some(picker) = &self.picker {
            picker.fill(record, &mut cells);
        }
        for (slot, path) in &self.gathers {
            if !cells.has(*slot)
                && let Some(json) = gathered(record, path)
            {
                cells.add(*slot, &json, Origin::Usual);
            }
        }
        // Named by something else than the member that usually does.
        if let Some(slot) = self.record_id.filter(|slot| !cells.has(*slot)) {
            cells.add(slot, &quoted(&facts.id), Origin::Enrichment);
        }
        cells.fill_in(self.additional, Origin::Usual, |json, filled| {
            let mut object = ObjectWriter::new(json);
            draft.shape.left.write(record, &mut object);
            if let Some(details) = &details {
                object.push(DETAILS, details);
            }
            push_origins(filled, self.rules, &mut object);
            object.close().then_some(())
        });
        for (slot, constant) in &self.constants {
            if !cells.has(*slot) {
                cells.add(*slot, constant, Origin::Usual);
            }
        }
        cells.filled
    }

    /// The same of a row in which something may be too long.
    fn write_long(
        &self,
        mut cells: Vec<(Slot, String)>,
        facts: &RecordMeta,
        now: DateTime<Utc>,
        json: &mut String,
    ) -> bool {
        json.clear();
        self.open(facts, now, json);
        self.close(facts, json);
        let cut = truncate::cut(&mut cells, MAX_ROW_BYTES - json.len());
        if !cut.is_empty() {
            cells.push((self.truncated, cut.json()));
        }
        json.clear();
        self.open(facts, now, json);
        for (slot, value) in &cells {
            json.push_str(self.heads.get(slot.place).map_or("", String::as_str));
            json.push_str(value);
        }
        self.close(facts, json);
        !cut.is_empty()
    }

    /// Begins a row.
    fn open(&self, facts: &RecordMeta, now: DateTime<Utc>, json: &mut String) {
        json.push_str(ROW_HEAD);
        if self.event_time {
            let (oldest, newest) = (now - TimeDelta::days(2), now + TimeDelta::days(1));
            let own = facts.time.filter(|time| *time > oldest && *time < newest);
            json.push_str(&batch::time_text(own.unwrap_or(now)));
        } else {
            json.push_str(UNSTAMPED);
        }
        json.push('"');
    }

    /// Ends it with what names its stream and its record.
    fn close(&self, facts: &RecordMeta, json: &mut String) {
        json.push_str(&self.fragment);
        if self.record_id.is_none() {
            push_long(json, RECORD_ID, &facts.id);
        }
        push_version(json, facts);
        json.push(',');
        json.push_str(ROW_TAIL);
    }
}

/// A row that comes from no record: `facts` name it, and `fields` (a JSON object) is what it says.
pub fn own_row(
    provider: &str,
    key: &StreamKey,
    facts: &RecordMeta,
    fields: &str,
    now: DateTime<Utc>,
) -> Vec<u8> {
    let mut cells = source_cells(provider, &key.connection, &key.stream);
    push_long(&mut cells, RECORD_ID, &facts.id);
    push_version(&mut cells, facts);
    push_cell(&mut cells, ADDITIONAL, &shorten(fields, MAX_VALUE_BYTES));
    let time = batch::time_text(now);
    [ROW_HEAD, &time, "\"", &cells, ",", ROW_TAIL]
        .concat()
        .into_bytes()
}

/// The columns that name a stream, as JSON members with a comma before each.
fn source_cells(provider: &str, connection: &str, stream: &str) -> String {
    let mut cells = String::new();
    push_cell(&mut cells, "providerName", &quoted(provider));
    push_cell(&mut cells, "connectionName", &quoted(connection));
    push_cell(&mut cells, "streamName", &quoted(stream));
    cells
}

/// The columns that say which version of a record it is, and of when.
fn push_version(row: &mut String, facts: &RecordMeta) {
    push_long(row, "recordVersion", &version_text(&facts.version));
    if let Some(time) = facts.time {
        push_name(row, "eventTime");
        push_text(row, &time_text(time));
    }
}

/// A version as the column takes it: a time has seven digits of a second, always, or versions would
/// sort by how many each has.
pub fn version_text(version: &str) -> Cow<'_, str> {
    let (time, more) = version.split_at(version.find('|').unwrap_or(version.len()));
    let is_time = time.ends_with('Z') && time.as_bytes().get(10) == Some(&b'T');
    let whole = time.get(..19).filter(|_| is_time);
    let Some(whole) = whole.filter(|_| parse_time(time).is_some()) else {
        return version.into();
    };
    let digits = time.get(19..time.len() - 1).unwrap_or_default();
    let digits = digits.trim_start_matches('.');
    let digits = digits.get(..7).unwrap_or(digits);
    format!("{whole}.{digits:0<7}Z{more}").into()
}

/// A column with a text that may be too long.
fn push_long(row: &mut String, column: &str, text: &str) {
    push_name(row, column);
    let start = row.len();
    push_text(row, text);
    if row.len() - start > MAX_VALUE_BYTES {
        row.truncate(start);
        row.push_str(&shorten(&quoted(text), MAX_VALUE_BYTES));
    }
}

fn push_cell(row: &mut String, column: &str, json: &str) {
    push_name(row, column);
    row.push_str(json);
}

fn push_name(row: &mut String, column: &str) {
    row.push_str(",\"");
    row.push_str(column);
    row.push_str("\":");
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
