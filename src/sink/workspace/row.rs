//! One row of JSON → the values of its columns, borrowed wherever the text can stay as it is.

use std::{borrow::Cow, collections::HashMap, fmt};

use chrono::DateTime;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::core::mapping::columns::{Column, Type};

/// The values of `row` in the order of `columns`, or why it is refused.
pub(super) fn values<'r>(
    row: &'r [u8],
    columns: &[Column],
    positions: &HashMap<&str, usize>,
) -> Result<Vec<ToSqlOutput<'r>>, String> {
    // Not left to the parser, whose text would quote the value.
    if !row.trim_ascii_start().starts_with(b"{") {
        return Err("it is not an object".to_owned());
    }
    let mut parser = serde_json::Deserializer::from_slice(row);
    let members = parser
        .deserialize_map(ColumnValues { columns, positions })
        .and_then(|members| parser.end().map(|()| members))
        .map_err(|error| error.to_string())?;
    members
        .into_iter()
        .zip(columns)
        .map(|(member, column)| match member {
            None => Ok(ToSqlOutput::Borrowed(ValueRef::Null)),
            Some(json) => value(json.get(), column.kind).ok_or_else(|| {
                format!(
                    "`{}` holds no value of type {}",
                    column.name,
                    column.kind.name()
                )
            }),
        })
        .collect()
}

/// The column's value, or `None` when the JSON is not of its type.
fn value(json: &str, kind: Type) -> Option<ToSqlOutput<'_>> {
    if json == "null" {
        return Some(ToSqlOutput::Borrowed(ValueRef::Null));
    }
    match kind {
        Type::String => string(json).map(text),
        Type::Datetime => string(json)
            .filter(|time| DateTime::parse_from_rfc3339(time).is_ok())
            .map(text),
        Type::Int => serde_json::from_str::<i32>(json)
            .ok()
            .map(|number| integer(number.into())),
        Type::Long => serde_json::from_str(json).ok().map(integer),
        Type::Real => serde_json::from_str(json)
            .ok()
            .map(|number| ToSqlOutput::Borrowed(ValueRef::Real(number))),
        Type::Boolean => serde_json::from_str::<bool>(json)
            .ok()
            .map(|is| integer(i64::from(is))),
        // A string of a dynamic column is compared and joined as text, in KQL as in SQL.
        Type::Dynamic if json.starts_with('"') => string(json).map(text),
        Type::Dynamic => Some(text(Cow::Borrowed(json))),
    }
}

fn string(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"')?.strip_suffix('"') {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

fn text(text: Cow<'_, str>) -> ToSqlOutput<'_> {
    match text {
        Cow::Borrowed(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Cow::Owned(text) => ToSqlOutput::Owned(Value::Text(text)),
    }
}

fn integer(number: i64) -> ToSqlOutput<'static> {
    ToSqlOutput::Borrowed(ValueRef::Integer(number))
}

/// The members of a row by the position of their column.
#[derive(Clone, Copy)]
struct ColumnValues<'c> {
    columns: &'c [Column],
    positions: &'c HashMap<&'c str, usize>,
}

impl<'r> Visitor<'r> for ColumnValues<'_> {
    type Value = Vec<Option<&'r RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = vec![None; self.columns.len()];
        while let Some(at) = map.next_key_seed(ColumnPosition(self.positions))? {
            if members[at].replace(map.next_value()?).is_some() {
                let name = self.columns[at].name;
                return Err(A::Error::custom(format_args!("`{name}` is there twice")));
            }
        }
        Ok(members)
    }
}

/// The position of the column that a key names.
struct ColumnPosition<'c>(&'c HashMap<&'c str, usize>);

impl<'r> DeserializeSeed<'r> for ColumnPosition<'_> {
    type Value = usize;

    fn deserialize<D: serde::Deserializer<'r>>(self, key: D) -> Result<usize, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for ColumnPosition<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        let found = self.0.get(name).copied();
        found.ok_or_else(|| E::custom(format_args!("the table has no column `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column {
            name: "s",
            kind: Type::String,
        },
        Column {
            name: "i",
            kind: Type::Int,
        },
        Column {
            name: "b",
            kind: Type::Boolean,
        },
        Column {
            name: "t",
            kind: Type::Datetime,
        },
        Column {
            name: "d",
            kind: Type::Dynamic,
        },
    ];

    fn read(row: &str) -> Result<Vec<Value>, String> {
        let positions = COLUMNS.iter().map(|column| column.name).zip(0..).collect();
        let values = values(row.as_bytes(), COLUMNS, &positions)?;
        Ok(values
            .into_iter()
            .map(|value| match value {
                ToSqlOutput::Borrowed(value) => value.try_into().unwrap(),
                ToSqlOutput::Owned(value) => value,
                other => panic!("{other:?}"),
            })
            .collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn each_type_has_its_form() {
        let (null, one) = (Value::Null, Value::Integer(1));
        for (row, expected) in [
            (
                "{}",
                [
                    null.clone(),
                    null.clone(),
                    null.clone(),
                    null.clone(),
                    null.clone(),
                ],
            ),
            (
                r#"{"s":null,"i":null,"b":null,"t":null,"d":null}"#,
                [
                    null.clone(),
                    null.clone(),
                    null.clone(),
                    null.clone(),
                    null.clone(),
                ],
            ),
            (
                r#" {"s":"a","i":1,"b":true,"t":"2026-01-01T00:00:00.1234567Z","d":{"a":[1, "x"]}} "#,
                [
                    text("a"),
                    one.clone(),
                    one,
                    text("2026-01-01T00:00:00.1234567Z"),
                    text(r#"{"a":[1, "x"]}"#),
                ],
            ),
            (
                r#"{"d":"say \"hü\"\n","b":false,"s":"\"\\\u00fc\ud83d\ude00","i":-2147483648}"#,
                [
                    text("\"\\ü😀"),
                    Value::Integer(-2_147_483_648),
                    Value::Integer(0),
                    null.clone(),
                    text("say \"hü\"\n"),
                ],
            ),
            (
                r#"{"d":1.50,"s":"","\u0069":2,"t":"2026-01-01T00:00:00\u002b01:00"}"#,
                [
                    text(""),
                    Value::Integer(2),
                    null.clone(),
                    text("2026-01-01T00:00:00+01:00"),
                    text("1.50"),
                ],
            ),
        ] {
            assert_eq!(read(row).unwrap(), expected, "{row}");
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_by_name() {
        for (row, why) in [
            ("[]", "not an object"),
            (r#""secret""#, "not an object"),
            (r#"{"s":"a"} {}"#, "trailing"),
            (r#"{"s":"a""#, "EOF"),
            (r#"{"s":"a","S":"a"}"#, "no column `S`"),
            (r#"{"s":"a","s":"b"}"#, "`s` is there twice"),
            (r#"{"s":1}"#, "`s` holds no value of type string"),
            (r#"{"s":"\ud800"}"#, "`s` holds no value of type string"),
            (r#"{"i":2147483648}"#, "`i` holds no value of type int"),
            (r#"{"i":"1"}"#, "`i` holds no value of type int"),
            (r#"{"i":1.5}"#, "`i` holds no value of type int"),
            (r#"{"b":1}"#, "`b` holds no value of type boolean"),
            (
                r#"{"t":"yesterday"}"#,
                "`t` holds no value of type datetime",
            ),
            (
                r#"{"t":"2026-01-01T00:00:00"}"#,
                "`t` holds no value of type datetime",
            ),
            (r#"{"t":1}"#, "`t` holds no value of type datetime"),
        ] {
            let error = read(row).unwrap_err();
            assert!(error.contains(why), "{row}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(read("{\"s\":\"\u{1}\"}").is_err());
        let positions = HashMap::from([("s", 0)]);
        assert!(values(b"{\"s\":\"\xff\"}", &COLUMNS[..1], &positions).is_err());
    }
}
