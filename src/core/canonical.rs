//! A hash of what a JSON text says, whatever it looks like.
//!
//! One walk over the text, which is hashed where it stands: nothing is built, since this is done for
//! each record that has no version of its own.

use memchr::{memchr, memchr2};
use xxhash_rust::xxh3::xxh3_64;

/// Deeper than any record is, and no danger to the stack.
const MAX_DEPTH: u32 = 128;

/// A hash of a JSON text that does not depend on white space, on how a string is escaped, or on the
/// order of an object's members. Of what is no JSON, or is nested too deeply, the bytes count.
pub fn canonical_hash(text: &[u8]) -> u64 {
    let mut walk = Walk {
        text,
        at: 0,
        scratch: Vec::new(),
    };
    let hash = walk.value(MAX_DEPTH).filter(|_| walk.next().is_none());
    hash.unwrap_or_else(|| xxh3_64(text))
}

/// One step of a hash over ordered parts.
fn mix(state: u64, part: u64) -> u64 {
    (state.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    /// The last string that had to be unescaped.
    scratch: Vec<u8>,
}

impl<'a> Walk<'a> {
    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// The same, and goes beyond it.
    fn take(&mut self) -> Option<u8> {
        let byte = self.next()?;
        self.at += 1;
        Some(byte)
    }

    fn value(&mut self, depth: u32) -> Option<u64> {
        match self.next()? {
            b'"' => self.string(),
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: u32) -> Option<u64> {
        self.at += 1;
        let mut sum = 9_u64;
        if self.next()? == b'}' {
            self.at += 1;
            return Some(mix(sum, 11));
        }
        loop {
            let key = (self.next()? == b'"').then(|| self.string())??;
            let value = (self.take()? == b':').then(|| self.value(depth))??;
            // A sum, so that the order of the members does not matter.
            sum = sum.wrapping_add(mix(mix(10, key), value));
            match self.take()? {
                b',' => {}
                b'}' => return Some(mix(sum, 11)),
                _ => return None,
            }
        }
    }

    fn array(&mut self, depth: u32) -> Option<u64> {
        self.at += 1;
        let mut hash = 7;
        if self.next()? == b']' {
            self.at += 1;
            return Some(mix(hash, 8));
        }
        loop {
            hash = mix(hash, self.value(depth)?);
            match self.take()? {
                b',' => {}
                b']' => return Some(mix(hash, 8)),
                _ => return None,
            }
        }
    }

    /// A string, which begins here.
    fn string(&mut self) -> Option<u64> {
        let start = self.at;
        let mut at = start + 1;
        let mut escaped = false;
        loop {
            at += memchr2(b'"', b'\\', self.text.get(at..)?)?;
            if self.text.get(at) == Some(&b'"') {
                break;
            }
            escaped = true;
            at += 2;
        }
        self.at = at + 1;
        let content = self.text.get(start + 1..at)?;
        if escaped && !self.unescape(content) {
            let text: String = serde_json::from_slice(self.text.get(start..=at)?).ok()?;
            return Some(mix(6, xxh3_64(text.as_bytes())));
        }
        let content = if escaped { &self.scratch } else { content };
        Some(mix(6, xxh3_64(content)))
    }

    /// Writes what a string says to `scratch`. False when it takes more than escapes of one letter,
    /// which are nearly all there are.
    fn unescape(&mut self, content: &[u8]) -> bool {
        self.scratch.clear();
        let mut rest = content;
        while let Some(at) = memchr(b'\\', rest) {
            let (before, after) = rest.split_at(at);
            self.scratch.extend_from_slice(before);
            let Some((letter, after)) = after.get(1..).and_then(<[u8]>::split_first) else {
                return false;
            };
            self.scratch.push(match letter {
                b'"' | b'\\' | b'/' => *letter,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                _ => return false,
            });
            rest = after;
        }
        self.scratch.extend_from_slice(rest);
        true
    }

    /// A number, or a word such as `null`.
    fn word(&mut self) -> Option<u64> {
        let rest: &'a [u8] = self.text.get(self.at..)?;
        let ends = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',' | b']' | b'}');
        let word = rest.get(..rest.iter().position(ends).unwrap_or(rest.len()))?;
        self.at += word.len();
        match word {
            b"null" => return Some(1),
            b"false" => return Some(2),
            b"true" => return Some(3),
            _ => {}
        }
        let text = std::str::from_utf8(word).ok()?;
        if let Ok(number) = text.parse::<u64>() {
            return Some(mix(4, number));
        }
        if let Ok(number) = text.parse::<i64>() {
            return Some(mix(12, number.cast_unsigned()));
        }
        // Words such as `inf` are numbers for Rust, but not for JSON.
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.map(|number| mix(5, number.to_bits()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn hash(text: &str) -> u64 {
        canonical_hash(text.as_bytes())
    }

    #[test]
    fn the_hash_sees_content_and_not_form() {
        assert_eq!(
            hash(r#"{"a":1,"b":["x/é\n",{}]}"#),
            hash(r#" { "b" : [ "\u0078\/\u00e9\u000A" , { } ] , "\u0061" : 1 } "#)
        );
        let different = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"b":1}"#,
            r#"{"a":{"a":1}}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":true}"#,
            r#"{"a":false}"#,
            r#"{"a":null}"#,
            r#"{"a":1.5}"#,
            r#"{"a":-1}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":"\\"}"#,
            "{}",
            "[]",
        ];
        for (at, one) in different.iter().enumerate() {
            for other in &different[at + 1..] {
                assert_ne!(hash(one), hash(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_json_counts_as_it_is() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        for text in [
            "", " ", "{", "{\"a\"}", "[1", "[1;2]", "\"x", "\"x\\", "nul", "1 2", "inf", &deep,
        ] {
            assert_eq!(hash(text), xxh3_64(text.as_bytes()), "{text}");
        }
        // Half a surrogate pair is no text.
        assert_eq!(hash(r#""\ud83d""#), xxh3_64(br#""\ud83d""#));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            r#"[a-c"\\/\n\u{1}é😀]{0,6}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(r#"[a-c"\\é]{0,3}"#, inner, 0..4)
                    .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The same value, written as differently as JSON allows.
    fn respelled(value: &Value) -> String {
        let text = |text: &str| -> String {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
            format!("\"{}\"", units.collect::<String>())
        };
        match value {
            Value::String(content) => text(content),
            Value::Array(elements) => {
                let elements: Vec<String> = elements.iter().map(respelled).collect();
                format!("[ {} ]", elements.join("\t, "))
            }
            Value::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .rev()
                    .map(|(key, value)| format!("{}\n:{}", text(key), respelled(value)))
                    .collect();
                format!("{{\r{}}}", members.join(" ,"))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn any_spelling_has_the_same_hash(value in any_json()) {
            prop_assert_eq!(hash(&value.to_string()), hash(&respelled(&value)));
        }

        #[test]
        fn another_value_has_another_hash(one in any_json(), other in any_json()) {
            prop_assume!(one != other);
            prop_assert_ne!(hash(&one.to_string()), hash(&json!(other).to_string()));
        }

        #[test]
        fn any_bytes_have_a_hash(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            canonical_hash(&bytes);
        }
    }
}
