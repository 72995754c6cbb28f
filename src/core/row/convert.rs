//! A member as a column's value, and the way back.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::object::Object;
use crate::core::{
    mapping::As,
    record::{Members, Raw, parse_time, text_of, time_text},
    shorten::quoted,
};

/// A member as a column's value, and whether it can be restored from it.
pub(super) fn convert(value: Raw<'_>, how: As) -> Option<(Cow<'_, str>, bool)> {
    let text = value.get();
    let first = text.as_bytes().first();
    let is_string = first == Some(&b'"');
    let is_number = first.is_some_and(|first| matches!(first, b'-' | b'0'..=b'9'));
    match how {
        As::Json => Some((text.into(), true)),
        As::Inside(name) => Some((format!("{{\"{name}\":{text}}}").into(), true)),
        As::Text if is_string => Some((text.into(), true)),
        As::Text => Some((quoted(text).into(), false)),
        As::Name => text_of(value).map(|name| {
            if is_string {
                (text.into(), true)
            } else {
                (quoted(&name).into(), false)
            }
        }),
        As::NumberText if is_number => Some((["\"", text, "\""].concat().into(), true)),
        // A number that came as text could not be told from one that came as a number.
        As::NumberText if is_string => Some((text.into(), !is_number_text(&text_of(value)?))),
        As::NumberText => None,
        As::Boolean if matches!(text, "true" | "false") => Some((text.into(), true)),
        // Some services write 0 and 1, and some put their values into quotes.
        As::Boolean => match &*text_of(value)?.to_ascii_lowercase() {
            "true" | "1" => Some(("true".into(), false)),
            "false" | "0" => Some(("false".into(), false)),
            _ => None,
        },
        As::Integer => number(value, is_string, |text| text.parse::<i32>().is_ok()),
        As::Long => number(value, is_string, |text| text.parse::<i64>().is_ok()),
        As::Real => {
            let finite = |text: &str| text.parse().is_ok_and(f64::is_finite);
            let (text, exact) = number(value, is_string, finite)?;
            // What a double holds of it.
            let held = format!("{:e}", text.parse::<f64>().ok()?);
            if digits(&text) == digits(&held) {
                Some((text, exact))
            } else {
                Some((held.into(), false))
            }
        }
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
        As::BareTime => {
            let written = text_of(value).filter(|_| is_string)?;
            let time = time_text(parse_time(&written)?);
            let exact = bare(&time) == written;
            Some((quoted(&time).into(), exact))
        }
        As::Is(wanted) => {
            let text = text_of(value).filter(|_| is_string)?;
            let is = text.eq_ignore_ascii_case(wanted);
            Some((if is { "true" } else { "false" }.into(), false))
        }
        As::Renamed(names) => {
            let members = Members::of_value(value)?;
            // A member that already has one of our names could not be told from a renamed one.
            let clash = names.iter().any(|(_, ours)| members.get(ours).is_some());
            if clash {
                return Some((text.into(), false));
            }
            let mut text = String::with_capacity(text.len() + 16);
            let mut renamed = Object::new(&mut text);
            for (key, value) in members.iter() {
                let name = names
                    .iter()
                    .find(|(theirs, _)| *theirs == key)
                    .map_or(key, |name| name.1);
                renamed.push(name, value.get());
            }
            Some(if renamed.close() {
                (text.into(), true)
            } else {
                ("{}".into(), true)
            })
        }
    }
}

/// A number, or text that holds one.
fn number(
    value: Raw<'_>,
    is_string: bool,
    fits: impl Fn(&str) -> bool,
) -> Option<(Cow<'_, str>, bool)> {
    let text = text_of(value)?;
    (is_number_text(&text) && fits(&text)).then_some((text, !is_string))
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
        (As::Inside(name), Value::Object(members)) => {
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
