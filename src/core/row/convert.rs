//! A member as a column's value, and the way back.

use std::borrow::Cow;

use serde_json::{Map, Value, value::RawValue};

use super::Object;
use crate::core::{
    mapping::As,
    record::{Members, parse_time, text_of, time_text},
    shorten::quoted,
};

/// A member as a column's value, and whether it can be restored from it.
pub(super) fn convert(value: &RawValue, how: As) -> Option<(Cow<'_, str>, bool)> {
    let text = value.get();
    let is_string = text.starts_with('"');
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match how {
        As::Json => Some((text.into(), true)),
        As::Inside(name) => Some((format!("{{\"{name}\":{text}}}").into(), true)),
        As::Text if is_string => Some((text.into(), true)),
        As::Text => Some((quoted(text).into(), false)),
        As::NumberText if is_number => Some((format!("\"{text}\"").into(), true)),
        // A number that came as text could not be told from one that came as a number.
        As::NumberText if is_string => Some((text.into(), !is_number_text(&text_of(value)?))),
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
            let mut renamed = Object::default();
            for (key, value) in members.iter() {
                let name = names
                    .iter()
                    .find(|(theirs, _)| *theirs == key)
                    .map_or(key, |name| name.1);
                renamed.push(name, value.get());
            }
            let renamed = renamed.close();
            Some((renamed.map_or("{}".into(), Cow::from), true))
        }
    }
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
