//! A member as a column's value, and the way back.

use std::{borrow::Cow, collections::HashSet};

use serde_json::{Map, Value, value::RawValue};

use super::object::ObjectWriter;
use crate::core::{
    json::{
        record::{JsonObject, JsonSlice, text_of},
        time::{parse_time, time_text},
    },
    mapping::{rule::As, shorten::quoted},
};

/// Writes a member as a column's value. Says whether the member can be restored from it; nothing,
/// when the column can't take it, and then nothing is written.
pub(super) fn convert(value: JsonSlice<'_>, how: As, json: &mut String) -> Option<bool> {
    let text = value.get();
    let is_string = text.starts_with('"');
    let exact = match how {
        As::Json => {
            json.push_str(text);
            true
        }
        As::Inside(name) => {
            push_all(json, &["{\"", name, "\":", text, "}"]);
            true
        }
        As::Text if is_string && is_placeholder(text) => return None,
        As::Text | As::Verbatim if is_string => {
            json.push_str(text);
            true
        }
        As::Text | As::Verbatim => {
            json.push_str(&quoted(text));
            false
        }
        As::Name => {
            let name = text_of(value)?;
            if is_string {
                json.push_str(text);
            } else {
                json.push_str(&quoted(&name));
            }
            is_string
        }
        As::Boolean if matches!(text, "true" | "false") => {
            json.push_str(text);
            true
        }
        // Some services write 0 and 1, and some put their values into quotes.
        As::Boolean => {
            json.push_str(match &*text_of(value)?.to_ascii_lowercase() {
                "true" | "1" => "true",
                "false" | "0" => "false",
                _ => return None,
            });
            false
        }
        As::NumberText | As::Integer | As::Long | As::Real | As::TextInteger => {
            return convert_number(value, how, json);
        }
        As::Time => {
            let written = text_of(value).filter(|_| is_string)?;
            let time = time_text(parse_time(&written)?);
            json.push_str(&quoted(&time));
            time == written
        }
        As::BareTime => {
            let written = text_of(value).filter(|_| is_string)?;
            let time = time_text(parse_time(&written)?);
            json.push_str(&quoted(&time));
            bare(&time) == written
        }
        As::Is(wanted) => {
            let text = text_of(value).filter(|_| is_string)?;
            let is = text.eq_ignore_ascii_case(wanted);
            json.push_str(if is { "true" } else { "false" });
            false
        }
        As::Renamed(names) => return rename(value, names, json),
        As::Member(name) => {
            push_all(json, &["{", &quoted(name), ":", text, "}"]);
            true
        }
        // Without what stands beside them they are what they are.
        As::Account(_) | As::Path(_) => return convert(value, As::Text, json),
        As::Texts(_) => return convert_texts(value, None, json),
    };
    Some(exact)
}

/// [`convert`]ed value of a member beside the others of `record`.
pub(super) fn convert_beside(
    value: JsonSlice<'_>,
    how: As,
    record: &JsonObject<'_>,
    json: &mut String,
) -> Option<bool> {
    let beside = |member: &str| {
        let text = record.get(member).filter(|value| !stands_for_none(*value));
        text.and_then(text_of)
    };
    let own = || text_of(value).filter(|_| value.get().starts_with('"') && !stands_for_none(value));
    let (own, whole) = match how {
        As::Account(domain) => {
            let name = own()?;
            let is_whole = name.contains(['\\', '@']);
            let domain = beside(domain).filter(|_| !is_whole);
            let whole = domain.map(|domain| format!("{domain}\\{name}"));
            (name, whole)
        }
        As::Path(path) => {
            let is_refused = |member: &str, wanted: bool| {
                !member.is_empty() && record.get(member).is_some() != wanted
            };
            if is_refused(path.with, true) || is_refused(path.without, false) {
                return None;
            }
            let folder = own()?;
            let whole = beside(path.file).map(|name| joined(&folder, &name));
            (folder, whole)
        }
        As::Texts(more) => return convert_texts(value, record.get(more), json),
        _ => return convert(value, how, json),
    };
    if let Some(whole) = whole.filter(|whole| *whole != own) {
        json.push_str(&quoted(&whole));
        return Some(false);
    }
    json.push_str(value.get());
    Some(true)
}

/// Texts of a list, with those of another one, as an array. True when the list itself says no more.
fn convert_texts(
    value: JsonSlice<'_>,
    more: Option<JsonSlice<'_>>,
    json: &mut String,
) -> Option<bool> {
    let (own, more) = (elements(value), more.map(elements).unwrap_or_default());
    let texts = telling(own.iter().copied());
    if texts.is_empty() {
        return None;
    }
    let all = telling(own.iter().chain(&more).copied());
    push_all(json, &["[", &all.join(","), "]"]);
    Some(all.len() == own.len() && texts.len() == own.len())
}

/// Elements of a list, as they are written.
fn elements(list: JsonSlice<'_>) -> Vec<&str> {
    let all: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
    all.into_iter().map(RawValue::get).collect()
}

/// The texts among JSON values, as they are written, that say something: each once.
pub(super) fn telling<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let values = values.into_iter();
    values
        .filter(|text| text.starts_with('"') && *text != "\"\"" && !is_placeholder(text))
        .filter(|text| seen.insert(*text))
        .collect()
}

/// True for a string, as it is written, that some services write where there is no value.
pub(super) fn is_placeholder(text: &str) -> bool {
    const NONE: [&str; 4] = ["nil", "none", "null", "0"];
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.is_some_and(|inner| NONE.iter().any(|none| inner.eq_ignore_ascii_case(none)))
}

/// True for such a string as a value.
pub(super) fn stands_for_none(value: JsonSlice<'_>) -> bool {
    is_placeholder(value.get())
}

/// A folder and a name in it as one path. Some folders have the name already.
pub(super) fn joined(folder: &str, name: &str) -> String {
    let is_sign = |letter: char| letter == '\\' || letter == '/';
    let last = folder.rsplit(is_sign).next().unwrap_or_default();
    if folder.is_empty() || last.eq_ignore_ascii_case(name) {
        let whole = if folder.is_empty() { name } else { folder };
        return whole.to_owned();
    }
    let sign = if folder.starts_with('/') { '/' } else { '\\' };
    format!("{}{sign}{name}", folder.trim_end_matches(is_sign))
}

/// The same of columns that take a number, or text that is one.
fn convert_number(value: JsonSlice<'_>, how: As, json: &mut String) -> Option<bool> {
    let text = value.get();
    let is_string = text.starts_with('"');
    let is_number = matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9'));
    let exact = match how {
        As::NumberText if is_number => {
            push_all(json, &["\"", text, "\""]);
            true
        }
        // A number that came as text could not be told from one that came as a number.
        As::NumberText if is_string => {
            let exact = !is_number_text(&text_of(value)?);
            json.push_str(text);
            exact
        }
        As::Integer => {
            json.push_str(&number(value, |text| text.parse::<i32>().is_ok())?);
            !is_string
        }
        As::Long => {
            json.push_str(&number(value, |text| text.parse::<i64>().is_ok())?);
            !is_string
        }
        As::Real => {
            let finite = |text: &str| text.parse().is_ok_and(f64::is_finite);
            let text = number(value, finite)?;
            // What a double holds of it.
            let held = format!("{:e}", text.parse::<f64>().ok()?);
            let is_held = digits(&text) == digits(&held);
            json.push_str(if is_held { &text } else { &held });
            is_held && !is_string
        }
        As::TextInteger => {
            let written = text_of(value)?;
            let number: i32 = written.parse().ok()?;
            let number = number.to_string();
            json.push_str(&number);
            is_string && number == written
        }
        _ => return None,
    };
    Some(exact)
}

/// The same of an object, some members of which have names of ours.
fn rename(value: JsonSlice<'_>, names: &[(&str, &str)], json: &mut String) -> Option<bool> {
    let members = JsonObject::of_value(value)?;
    // A member that already has one of our names could not be told from a renamed one.
    let clash = names.iter().any(|(_, ours)| members.get(ours).is_some());
    if clash {
        json.push_str(value.get());
        return Some(false);
    }
    let mut renamed = ObjectWriter::new(json);
    for (key, value) in members.iter() {
        let known = names.iter().find(|(theirs, _)| *theirs == key);
        renamed.push(known.map_or(key, |name| name.1), value.get());
    }
    if !renamed.close() {
        json.push_str("{}");
    }
    Some(true)
}

fn push_all(json: &mut String, parts: &[&str]) {
    for part in parts {
        json.push_str(part);
    }
}

/// A number, or text that holds one.
fn number(value: JsonSlice<'_>, fits: impl Fn(&str) -> bool) -> Option<Cow<'_, str>> {
    text_of(value).filter(|text| is_number_text(text) && fits(text))
}

/// The digits of a number that count.
fn digits(number: &str) -> String {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}

/// A time as Microsoft's exports write it.
fn bare(time: &str) -> String {
    time.trim_end_matches('Z').replace('T', " ")
}

/// What [`convert`] was given, when it said that this is the way back.
pub(super) fn revert(value: &Value, how: As) -> Value {
    match (how, value) {
        (As::NumberText, Value::String(text)) if is_number_text(text) => {
            serde_json::from_str(text).unwrap_or_default()
        }
        (As::Inside(name) | As::Member(name), Value::Object(members)) => {
            members.get(name).cloned().unwrap_or_default()
        }
        (As::TextInteger, Value::Number(number)) => number.to_string().into(),
        (As::BareTime, Value::String(time)) => bare(time).into(),
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

fn is_number_text(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}
