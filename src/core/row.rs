//! Records → rows: tolerant and lossless.
//!
//! A column takes a member only if the member can be restored from it; else the column gets the
//! converted value and the member stays in `additionalFields`, which holds every member that no
//! column took. [`restore`] is the way back, and a property test walks it for every stream.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, value::RawValue};

use super::{
    batch::{self, MAX_ROW_BYTES, ROW_HEAD, ROW_TAIL},
    endpoint::Endpoint,
    mapping::{As, Rule, To},
    record::{Facts, Members, parse_time, text_of, time_text},
    shorten::{MAX_VALUE_BYTES, length, quoted, shorten},
};

/// In `additionalFields`: the columns that were not filled by their usual member, and by what.
pub const FROM: &str = "@from";

/// In `additionalFields`: what was looked up about the record and no column took.
pub const DETAILS: &str = "@details";

/// What all rows of a stream share.
#[derive(Debug, Clone)]
pub struct RowSource {
    /// The columns that name the stream, as JSON members.
    fragment: String,
    rules: &'static [Rule],
    details: &'static [Rule],
    constants: &'static [(&'static str, &'static str)],
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
    /// Rows of the endpoint's stream, of `connection`. With `event_time` their `TimeGenerated` is
    /// the time of the event, as far as the service accepts it.
    pub fn new(endpoint: &Endpoint, connection: &str, event_time: bool) -> Self {
        let fragment = source_cells(endpoint.provider, connection, endpoint.stream);
        Self {
            fragment,
            rules: endpoint.rules,
            details: endpoint.details,
            constants: endpoint.constants,
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
        let mut cells = Cells::default();
        let mut rest = cells.fill(record, self.rules, "");
        cells.look_up(looked, record, self.details, &mut rest);
        cells.set_additional(rest);
        for (column, json) in self.constants {
            if !cells.has(column) {
                cells.add(column, *json, None);
            }
        }

        let generated = facts.time.filter(|time| {
            self.event_time && *time > now - TimeDelta::days(2) && *time < now + TimeDelta::days(1)
        });
        let mut tail = self.fragment.clone();
        for (name, value) in [("recordId", &facts.id), ("recordVersion", &facts.version)] {
            push_cell(&mut tail, name, &shorten(&quoted(value), MAX_VALUE_BYTES));
        }
        if let Some(time) = facts.time {
            push_cell(&mut tail, "eventTime", &quoted(&time_text(time)));
        }
        let shortened = cells.shorten(MAX_ROW_BYTES - tail.len() - ROW_HEAD.len() - ROW_TAIL.len());
        let mut json = Vec::with_capacity(cells.bytes() + tail.len() + 128);
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
        Row { json, shortened }
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
    /// What filled it, when that was not the usual member.
    from: Option<String>,
}

#[derive(Default)]
struct Cells<'a> {
    filled: Vec<Cell<'a>>,
    /// What is filled now was looked up: it need not be restored.
    looked_up: bool,
}

impl<'a> Cells<'a> {
    fn get(&self, column: &str) -> Option<&Cell<'a>> {
        self.filled.iter().find(|cell| cell.column == column)
    }

    fn has(&self, column: &str) -> bool {
        self.get(column).is_some()
    }

    fn add(&mut self, column: &'static str, json: impl Into<Cow<'a, str>>, from: Option<String>) {
        self.filled.push(Cell {
            column,
            json: json.into(),
            from,
        });
    }

    /// Fills columns by `rules`, and gives back what no column took, as the members of a JSON
    /// object: `"a":1,"b":2`.
    fn fill(&mut self, record: &Members<'a>, rules: &'static [Rule], path: &str) -> String {
        // Rules in their order, not the members in theirs: the first rule of a column wins.
        let mut outcomes: Vec<(&str, Outcome)> = Vec::with_capacity(rules.len());
        for rule in rules {
            if let Some(value) = record.get(rule.member) {
                outcomes.push((rule.member, self.follow(rule, value, path)));
            }
        }
        let mut rest = String::new();
        for (key, value) in record.iter() {
            match outcomes
                .iter()
                .find(|(member, _)| *member == key)
                .map(|(_, outcome)| outcome)
            {
                Some(Outcome::Taken) => {}
                Some(Outcome::Partly(left)) => push_member(&mut rest, key, &format!("{{{left}}}")),
                Some(Outcome::Kept) | None => push_member(&mut rest, key, value.get()),
            }
        }
        rest
    }

    fn follow(&mut self, rule: &Rule, value: &'a RawValue, path: &str) -> Outcome {
        match rule.to {
            To::Column(column, _) if self.has(column) => Outcome::Kept,
            To::Column(column, how) => {
                let Some((json, exact)) = convert(value, how) else {
                    return Outcome::Kept;
                };
                let from = rule.alternate.then(|| format!("{path}{}", rule.member));
                self.add(column, json, from);
                if exact { Outcome::Taken } else { Outcome::Kept }
            }
            To::Members { rest, rules } => {
                let Some(members) = Members::of_value(value) else {
                    return Outcome::Kept;
                };
                let left = self.fill(&members, rules, &format!("{path}{}.", rule.member));
                match rest {
                    _ if left.is_empty() => Outcome::Taken,
                    Some(column) if !self.has(column) => {
                        self.add(column, format!("{{{left}}}"), None);
                        Outcome::Taken
                    }
                    _ => Outcome::Partly(left),
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
        rest: &mut String,
    ) {
        self.looked_up = true;
        if let Some(details) = looked.details.and_then(|text| Members::of(text).ok()) {
            let left = self.fill(&details, rules, "");
            // What the record says itself is not paid for twice.
            let mut new = String::new();
            if let Ok(left) = Members::of(format!("{{{left}}}").as_bytes()) {
                for (key, value) in left.iter().filter(|(key, value)| !says(record, key, value)) {
                    push_member(&mut new, key, value.get());
                }
            }
            if !new.is_empty() {
                push_member(rest, DETAILS, &format!("{{{new}}}"));
            }
        }
        if let Some(name) = looked.device_name
            && !self.has("deviceDisplayName")
        {
            self.add("deviceDisplayName", quoted(name), None);
        }
        self.looked_up = false;
    }

    fn set_additional(&mut self, mut rest: String) {
        let mut from = String::new();
        for cell in &self.filled {
            if let Some(path) = &cell.from {
                push_member(&mut from, cell.column, &quoted(path));
            }
        }
        if !from.is_empty() {
            push_member(&mut rest, FROM, &format!("{{{from}}}"));
        }
        if !rest.is_empty() {
            self.add("additionalFields", format!("{{{rest}}}"), None);
        }
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
        self.add("truncatedFields", Value::from(names).to_string(), None);
        true
    }
}

/// True when the record has this member itself, or has the same further in.
fn says(record: &Members<'_>, key: &str, value: &RawValue) -> bool {
    record.get(key).is_some()
        || record
            .iter()
            .filter_map(|(_, inner)| Members::of_value(inner))
            .any(|inner| inner.get(key).is_some_and(|same| same.get() == value.get()))
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

/// A member as a column's value, and whether it can be restored from it.
fn convert(value: &RawValue, how: As) -> Option<(Cow<'_, str>, bool)> {
    let text = value.get();
    let is_string = text.starts_with('"');
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match how {
        As::Json => Some((text.into(), true)),
        As::Inside(name) => Some((format!("{{\"{name}\":{text}}}").into(), true)),
        As::Text if is_string => Some((text.into(), true)),
        As::Text => Some((quoted(text).into(), false)),
        As::NumberText if is_number => Some((format!("\"{text}\"").into(), true)),
        As::NumberText if is_string => Some((text.into(), false)),
        As::NumberText => None,
        As::Boolean => matches!(text, "true" | "false").then(|| (text.into(), true)),
        As::Integer => text.parse::<i32>().ok().map(|_| (text.into(), true)),
        As::TextInteger => {
            let written = text_of(value)?;
            let number: i32 = written.parse().ok()?;
            let exact = is_string && number.to_string() == written;
            Some((number.to_string().into(), exact))
        }
        As::Time => {
            let written = text_of(value).filter(|_| is_string)?;
            let time = time_text(parse_time(&written)?);
            let exact = time == written;
            Some((quoted(&time).into(), exact))
        }
        As::Renamed(names) => {
            let members = Members::of_value(value)?;
            // A member that already has one of our names could not be told from a renamed one.
            let clash = names.iter().any(|(_, ours)| members.get(ours).is_some());
            if clash {
                return Some((text.into(), false));
            }
            let mut renamed = String::new();
            for (key, value) in members.iter() {
                let name = names
                    .iter()
                    .find(|(theirs, _)| *theirs == key)
                    .map_or(key, |name| name.1);
                push_member(&mut renamed, name, value.get());
            }
            Some((format!("{{{renamed}}}").into(), true))
        }
    }
}

fn push_member(object: &mut String, key: &str, json: &str) {
    if !object.is_empty() {
        object.push(',');
    }
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

fn push_cell(row: &mut String, column: &str, json: &str) {
    row.push_str(",\"");
    row.push_str(column);
    row.push_str("\":");
    row.push_str(json);
}

/// The record of a row: equal to the one that came, but for null and empty members, and for values
/// that were cut.
pub fn restore(row: &Map<String, Value>, rules: &'static [Rule]) -> Value {
    let mut record = match row.get("additionalFields") {
        Some(Value::Object(rest)) => rest.clone(),
        _ => Map::new(),
    };
    record.remove(DETAILS);
    let from = record.remove(FROM).unwrap_or_default();
    restore_members(row, rules, &from, "", &mut record);
    Value::Object(record)
}

fn restore_members(
    row: &Map<String, Value>,
    rules: &'static [Rule],
    from: &Value,
    path: &str,
    record: &mut Map<String, Value>,
) {
    for rule in rules {
        let here = format!("{path}{}", rule.member);
        match rule.to {
            // A member that stayed is the truth; its column holds a conversion.
            To::Column(..) if record.contains_key(rule.member) => {}
            To::Column(column, how) => {
                let filled_here = match from.get(column) {
                    Some(other) => *other == here.as_str(),
                    None => !rule.alternate,
                };
                if let Some(value) = row.get(column).filter(|_| filled_here) {
                    record.insert(rule.member.to_owned(), revert(value, how));
                }
            }
            To::Members { rest, rules } => {
                let mut inner = match record.get(rule.member) {
                    Some(Value::Object(inner)) => inner.clone(),
                    Some(_) => continue,
                    None => rest
                        .and_then(|column| row.get(column)?.as_object().cloned())
                        .unwrap_or_default(),
                };
                restore_members(row, rules, from, &format!("{here}."), &mut inner);
                if !inner.is_empty() {
                    record.insert(rule.member.to_owned(), Value::Object(inner));
                }
            }
        }
    }
}

fn revert(value: &Value, how: As) -> Value {
    match (how, value) {
        (As::NumberText, Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        (As::Inside(name), Value::Object(members)) => {
            members.get(name).cloned().unwrap_or_default()
        }
        (As::TextInteger, Value::Number(number)) => number.to_string().into(),
        (As::Renamed(names), Value::Object(members)) => members
            .iter()
            .map(|(key, value)| {
                let name = names
                    .iter()
                    .find(|(_, ours)| ours == key)
                    .map_or(key.as_str(), |n| n.0);
                (name.to_owned(), value.clone())
            })
            .collect::<Map<_, _>>()
            .into(),
        _ => value.clone(),
    }
}
