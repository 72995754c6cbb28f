//! Values that are too long for a column, cut by us before the service cuts them behind our back.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::core::json::record::JsonObject;

/// The most bytes of a value. A longer one is cut by the service without a word
/// (`learn.microsoft.com/azure/azure-monitor/service-limits#log-analytics-workspaces`).
pub const MAX_VALUE_BYTES: usize = 64 << 10;

/// The JSON value `json`, at most `limit` bytes long (without a string's quotes).
///
/// A string loses its end, an object its largest members, an array its largest elements. What comes
/// back is valid JSON of the same type.
pub fn shorten(json: &str, limit: usize) -> Cow<'_, str> {
    if length(json) <= limit {
        return json.into();
    }
    match json.as_bytes().first() {
        Some(b'"') => cut_string(json, limit).into(),
        Some(b'{') => without_largest(&object_parts(json), limit, ['{', '}']).into(),
        Some(b'[') => without_largest(&array_parts(json), limit, ['[', ']']).into(),
        // A number of 64 KB: nothing of it is worth keeping.
        _ => "null".into(),
    }
}

/// What counts against the limit: a string's quotes are not part of its value.
pub fn length(json: &str) -> usize {
    if json.starts_with('"') {
        json.len().saturating_sub(2)
    } else {
        json.len()
    }
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> String {
    // Text always has a JSON form.
    serde_json::to_string(text).unwrap_or_default()
}

fn cut_string(json: &str, limit: usize) -> String {
    let inner = json.get(1..json.len() - 1).unwrap_or_default();
    let (mut end, mut before_half) = (0, None);
    let mut rest = inner.char_indices().peekable();
    while let Some((at, char)) = rest.next() {
        let mut next = at + char.len_utf8();
        if char == '\\' {
            // An escape is kept whole: `\n`, or `\u` with four digits.
            let digits = if rest.next().is_some_and(|(_, kind)| kind == 'u') {
                4
            } else {
                0
            };
            for _ in 0..digits {
                rest.next();
            }
            next = rest.peek().map_or(inner.len(), |(at, _)| *at);
        }
        if next > limit {
            break;
        }
        // The first half of a surrogate pair means nothing without the second.
        let is_half = char == '\\'
            && matches!(
                inner.as_bytes().get(at + 1..at + 4),
                Some([b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B'])
            );
        before_half = is_half.then_some(end);
        end = next;
    }
    let kept = inner.get(..before_half.unwrap_or(end)).unwrap_or_default();
    format!("\"{kept}\"")
}

fn object_parts(json: &str) -> Vec<Cow<'_, str>> {
    let Ok(members) = JsonObject::of(json.as_bytes()) else {
        return Vec::new();
    };
    members
        .iter()
        .map(|(key, value)| format!("{}:{}", quoted(key), value.get()).into())
        .collect()
}

fn array_parts(json: &str) -> Vec<Cow<'_, str>> {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(json) else {
        return Vec::new();
    };
    elements
        .into_iter()
        .map(|element| element.get().into())
        .collect()
}

fn without_largest(parts: &[Cow<'_, str>], limit: usize, brackets: [char; 2]) -> String {
    let mut total = 1 + parts.iter().map(|part| part.len() + 1).sum::<usize>();
    let mut by_size: Vec<usize> = (0..parts.len()).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(parts[*at].len()));
    let mut kept = vec![true; parts.len()];
    for at in by_size {
        if total <= limit {
            break;
        }
        kept[at] = false;
        total -= parts[at].len() + 1;
    }
    let left: Vec<&str> = parts
        .iter()
        .zip(kept)
        .filter(|(_, kept)| *kept)
        .map(|(part, _)| &**part)
        .collect();
    format!("{}{}{}", brackets[0], left.join(","), brackets[1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn objects_and_arrays_lose_their_largest_parts() {
        insta::assert_snapshot!(shorten(r#"{"a":"xxxxxxxxxx","b":1,"c":"yyyy"}"#, 20), @r#"{"b":1,"c":"yyyy"}"#);
        insta::assert_snapshot!(shorten("[1,[2,2,2,2,2,2],3]", 8), @"[1,3]");
        insta::assert_snapshot!(shorten(r#"{"a":"xxxxxxxxxx"}"#, 8), @"{}");
    }

    #[test]
    fn a_string_is_cut_between_characters() {
        assert_eq!(shorten(r#""abcdef""#, 3), r#""abc""#);
        assert_eq!(shorten(r#""ab\n\ncd""#, 3), r#""ab""#);
        assert_eq!(shorten(r#""éé""#, 3), r#""é""#);
        assert_eq!(shorten(r#""\ud83d\ude00x""#, 8), r#""""#);
        assert_eq!(shorten(r#""\ud83d\ude00x""#, 12), r#""\ud83d\ude00""#);
        assert_eq!(shorten(r#""abc""#, 3), r#""abc""#);
        // A backslash, then letters that look like half a pair.
        assert_eq!(shorten(r#""\\ud83dxyz""#, 7), r#""\\ud83d""#);
    }

    proptest! {
        #[test]
        fn what_is_left_is_valid_and_short_and_a_beginning(
            text in r#"[a-z"\\\n\u{1}é😀]{0,60}"#,
            ascii in any::<bool>(),
            limit in 0usize..80,
        ) {
            let mut json = Value::from(text.as_str()).to_string();
            if ascii {
                json = json.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                    {
                        let units = c.encode_utf16(&mut [0; 2]).to_vec();
                        units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat()
                    }
                }).collect();
            }
            let short = shorten(&json, limit);
            prop_assert!(length(&short) <= limit);
            let short: String = serde_json::from_str(&short).unwrap();
            prop_assert!(text.starts_with(&short));
        }

        #[test]
        fn containers_stay_valid(sizes in prop::collection::vec(0usize..30, 0..8), limit in 2usize..120) {
            let array = Value::from(sizes.iter().map(|size| "x".repeat(*size)).collect::<Vec<_>>());
            let object: serde_json::Map<String, Value> = sizes.iter().enumerate()
                .map(|(at, size)| (format!("k{at}"), Value::from("x".repeat(size + 1)))).collect();
            for value in [array, Value::from(object)] {
                let json = value.to_string();
                let short = shorten(&json, limit);
                prop_assert!(length(&short) <= limit);
                let short: Value = serde_json::from_str(&short).unwrap();
                prop_assert_eq!(short.is_array(), value.is_array());
            }
        }
    }
}
