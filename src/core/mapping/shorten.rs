//! Values that are too long for a column, cut by us before the service cuts them behind our back.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BinaryHeap},
};

use serde_json::value::RawValue;

use crate::core::json::record::{JsonObject, JsonSlice};

/// The most bytes of a value. A longer one is cut by the service without a word
/// (`learn.microsoft.com/azure/azure-monitor/service-limits#log-analytics-workspaces`).
pub const MAX_VALUE_BYTES: usize = 64 << 10;

/// Containers as deep as this lose their parts whole.
const DEEPEST: usize = 32;

/// Elements and members that were left out of a value, by the path to what held them: `a.b`, and
/// nothing for the value itself.
pub type LeftOut = BTreeMap<String, usize>;

/// The JSON value `json`, at most `limit` bytes long (without a string's quotes).
///
/// A string loses its end, an array its largest elements, an object its largest members: as many as
/// fit are kept whole, and of a member that is a large container itself as many of its elements as
/// fit. Nothing but a part of one is kept where none fits whole. What comes back is valid JSON of the
/// same type.
pub fn shorten(json: &str, limit: usize) -> Cow<'_, str> {
    shorten_and_count(json, limit, &mut LeftOut::new())
}

/// [`shorten`]ed JSON, with what was left out counted in `left_out`.
pub fn shorten_and_count<'a>(json: &'a str, limit: usize, left_out: &mut LeftOut) -> Cow<'a, str> {
    cut(json, limit, 0, "", left_out)
}

fn cut<'a>(
    json: &'a str,
    limit: usize,
    depth: usize,
    path: &str,
    left_out: &mut LeftOut,
) -> Cow<'a, str> {
    if length(json) <= limit {
        return json.into();
    }
    let cut = match json.as_bytes().first() {
        Some(b'"') => return cut_string(json, limit).into(),
        Some(b'{') => Container::object(json, depth, path),
        Some(b'[') => Container::array(json, depth, path),
        // A number of 64 KB: nothing of it is worth keeping.
        _ => return "null".into(),
    };
    cut.within(limit, left_out).into()
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

/// One element of an array, or one member of an object.
struct Part<'a> {
    /// Of a member: its name.
    name: Option<String>,
    json: Cow<'a, str>,
    /// What it lost itself.
    left_out: LeftOut,
    kept: bool,
}

impl<'a> Part<'a> {
    fn new(name: Option<String>, json: &'a str) -> Self {
        Self {
            name,
            json: json.into(),
            left_out: LeftOut::new(),
            kept: true,
        }
    }

    /// What stands before its value.
    fn head(&self) -> String {
        let name = self.name.as_deref();
        name.map_or_else(String::new, |name| format!("{}:", quoted(name)))
    }

    /// Its bytes, with the comma behind it.
    fn bytes(&self) -> usize {
        self.head().len() + self.json.len() + 1
    }

    fn is_container(&self) -> bool {
        self.json.starts_with(['{', '['])
    }
}

/// An array or an object that is too long.
struct Container<'a> {
    parts: Vec<Part<'a>>,
    brackets: [char; 2],
    depth: usize,
    path: &'a str,
}

impl<'a> Container<'a> {
    fn object(json: &'a str, depth: usize, path: &'a str) -> Self {
        let members = JsonObject::of(json.as_bytes()).ok();
        let parts = members.iter().flat_map(JsonObject::iter);
        let part =
            |(name, value): (&str, JsonSlice<'a>)| Part::new(Some(name.to_owned()), value.get());
        Self {
            parts: parts.map(part).collect(),
            brackets: ['{', '}'],
            depth,
            path,
        }
    }

    fn array(json: &'a str, depth: usize, path: &'a str) -> Self {
        let elements = serde_json::from_str::<Vec<&'a RawValue>>(json).unwrap_or_default();
        let part = |element: &'a RawValue| Part::new(None, element.get());
        Self {
            parts: elements.into_iter().map(part).collect(),
            brackets: ['[', ']'],
            depth,
            path,
        }
    }

    /// As much of it as fits, as JSON.
    fn within(mut self, limit: usize, left_out: &mut LeftOut) -> String {
        let mut total = 1 + self.parts.iter().map(Part::bytes).sum::<usize>();
        // Of parts of one size the last goes first.
        let sizes = self.parts.iter().map(Part::bytes).zip(0..);
        let mut largest: BinaryHeap<(usize, usize)> = sizes.collect();
        let mut last_gone = None;
        while total > limit {
            let Some((bytes, at)) = largest.pop() else {
                break;
            };
            total -= bytes;
            // Small parts are left out whole: to cut each of many would spoil them all.
            let worthwhile = self.parts[at].name.is_some() && bytes > limit / 8;
            if worthwhile && self.parts[at].is_container() {
                let wanted = limit.saturating_sub(total).max(bytes / 2);
                if self.shrink(at, wanted) {
                    total += self.parts[at].bytes();
                    largest.push((self.parts[at].bytes(), at));
                    continue;
                }
            }
            self.parts[at].kept = false;
            last_gone = Some(at);
        }
        if let Some(at) = last_gone.filter(|_| self.parts.iter().all(|part| !part.kept)) {
            self.parts[at].kept = self.shrink(at, limit.saturating_sub(1));
        }
        self.count(left_out);
        let kept = self.parts.iter().filter(|part| part.kept);
        let kept: Vec<String> = kept.map(|part| part.head() + &part.json).collect();
        format!("{}{}{}", self.brackets[0], kept.join(","), self.brackets[1])
    }

    /// Cuts a part so that it takes these bytes at most. False when nothing would be left of it.
    fn shrink(&mut self, at: usize, bytes: usize) -> bool {
        let Some(part) = self.parts.get_mut(at).filter(|_| self.depth < DEEPEST) else {
            return false;
        };
        let is_string = part.json.starts_with('"');
        let around = part.head().len() + 1 + if is_string { 2 } else { 0 };
        let Some(room) = bytes.checked_sub(around) else {
            return false;
        };
        let path = match &part.name {
            Some(name) if self.path.is_empty() => name.clone(),
            Some(name) => format!("{}.{name}", self.path),
            None => self.path.to_owned(),
        };
        let json = cut(&part.json, room, self.depth + 1, &path, &mut part.left_out).into_owned();
        let is_left =
            !matches!(&*json, "{}" | "[]" | "\"\"" | "null") && json.len() < part.json.len();
        part.json = json.into();
        is_left
    }

    fn count(&mut self, left_out: &mut LeftOut) {
        for part in &mut self.parts {
            if part.kept {
                for (path, count) in std::mem::take(&mut part.left_out) {
                    *left_out.entry(path).or_default() += count;
                }
            } else {
                *left_out.entry(self.path.to_owned()).or_default() += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

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

    #[test]
    fn a_large_member_keeps_as_many_whole_elements_as_fit_and_the_others_are_counted() {
        let element = |at: usize| json!({"at": at, "text": "x".repeat(2_000)});
        let list: Vec<Value> = (0..40).map(element).collect();
        let json = json!({"evidence": list, "small": 1}).to_string();
        let mut left_out = LeftOut::new();
        let short = shorten_and_count(&json, MAX_VALUE_BYTES, &mut left_out);
        let value: Value = serde_json::from_str(&short).unwrap();
        let kept = value["evidence"].as_array().unwrap();
        assert_eq!((kept.len(), &value["small"]), (32, &json!(1)));
        assert!(
            kept.iter()
                .enumerate()
                .all(|(at, kept)| *kept == element(at))
        );
        assert_eq!(left_out, LeftOut::from([("evidence".to_owned(), 8)]));
        // As many as fit: one more would not.
        assert!(short.len() + element(0).to_string().len() > MAX_VALUE_BYTES);
    }

    #[test]
    fn lists_side_by_side_and_further_in_all_keep_some_elements() {
        let list: Vec<String> = (0..60)
            .map(|at| format!("{at}{}", "x".repeat(1_000)))
            .collect();
        let json = json!({"a": list, "b": {"c": list}, "d": list}).to_string();
        let mut left_out = LeftOut::new();
        let short = shorten_and_count(&json, MAX_VALUE_BYTES, &mut left_out);
        let value: Value = serde_json::from_str(&short).unwrap();
        for (path, list) in [
            ("a", &value["a"]),
            ("b.c", &value["b"]["c"]),
            ("d", &value["d"]),
        ] {
            let kept = list.as_array().unwrap().len();
            assert!(kept > 10, "{path}: {kept}");
            assert_eq!(left_out[path], 60 - kept, "{path}");
        }
        assert!(short.len() > MAX_VALUE_BYTES - 2_000, "{}", short.len());
    }

    #[test]
    fn where_nothing_fits_whole_a_part_of_one_is_kept() {
        insta::assert_snapshot!(shorten(r#"{"text":"abcdefghij"}"#, 16), @r#"{"text":"abcde"}"#);
        insta::assert_snapshot!(shorten(r#"[{"a":1,"b":"xxxxxxxxxx"}]"#, 12), @r#"[{"a":1}]"#);
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
