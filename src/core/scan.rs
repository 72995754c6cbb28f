//! One walk over a JSON text, which is left where it stands: whether it is whole, where an object's
//! members are, and a hash of what it says.
//!
//! A walk only says yes to what surely is JSON. In doubt (an unusual depth, half a surrogate pair) it
//! gives up: whoever asks has a slower way to find out.

use std::{borrow::Cow, ops::Range};

use xxhash_rust::xxh3::xxh3_64;

/// Deeper than any record is, and no danger to the stack.
const MAX_DEPTH: u32 = 128;

/// A hash of a JSON text that does not depend on white space, on how a string is escaped, or on the
/// order of an object's members. `None` in doubt.
pub(super) fn hash(text: &[u8]) -> Option<u64> {
    let mut walk = Walk::new(text, true);
    let hash = walk.value::<true>(MAX_DEPTH)?;
    walk.next().is_none().then_some(hash)
}

/// Goes over an object, hands each of its members to `each`, and gives back its [`hash`] when `HASH`
/// asks for it. `None` in doubt, perhaps after some members.
pub(super) fn members<'a, const HASH: bool>(
    text: &'a str,
    mut each: impl FnMut(Cow<'a, str>, &'a str),
) -> Option<u64> {
    let mut walk = Walk::new(text.as_bytes(), HASH);
    if walk.next()? != b'{' {
        return None;
    }
    let hash = walk.object::<HASH>(MAX_DEPTH, |key, value| {
        let quoted = text.get(key)?;
        let key = if quoted.contains('\\') {
            serde_json::from_str::<String>(quoted).ok()?.into()
        } else {
            quoted.get(1..quoted.len() - 1)?.into()
        };
        each(key, text.get(value)?);
        Some(())
    })?;
    walk.next().is_none().then_some(hash)
}

/// One step of a hash over ordered parts.
fn mix(state: u64, part: u64) -> u64 {
    (state.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Each method that goes over something begins at its first byte, and gives back its hash if `HASH`,
/// else anything.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    /// The last string that had to be unescaped.
    scratch: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8], hash: bool) -> Self {
        Self {
            text,
            at: 0,
            scratch: Vec::with_capacity(if hash { text.len() / 2 } else { 0 }),
        }
    }

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

    fn value<const HASH: bool>(&mut self, depth: u32) -> Option<u64> {
        match self.next()? {
            b'"' => self.string::<HASH>(),
            b'{' => self.object::<HASH>(depth.checked_sub(1)?, |_, _| Some(())),
            b'[' => self.array::<HASH>(depth.checked_sub(1)?),
            b'-' | b'0'..=b'9' => self.number::<HASH>(),
            _ => self.word(),
        }
    }

    /// An object. `each` is told where every key (with its quotes) and its value stand.
    fn object<const HASH: bool>(
        &mut self,
        depth: u32,
        mut each: impl FnMut(Range<usize>, Range<usize>) -> Option<()>,
    ) -> Option<u64> {
        let mut sum = 9_u64;
        self.at += 1;
        if self.next()? == b'}' {
            self.at += 1;
            return Some(mix(sum, 11));
        }
        loop {
            if self.next()? != b'"' {
                return None;
            }
            let start = self.at;
            let key = self.string::<HASH>()?;
            let name = start..self.at;
            if self.take()? != b':' {
                return None;
            }
            self.next()?;
            let start = self.at;
            let value = self.value::<HASH>(depth)?;
            each(name, start..self.at)?;
            if HASH {
                // A sum, so that the order of the members does not matter.
                sum = sum.wrapping_add(mix(mix(10, key), value));
            }
            match self.take()? {
                b',' => {}
                b'}' => return Some(mix(sum, 11)),
                _ => return None,
            }
        }
    }

    fn array<const HASH: bool>(&mut self, depth: u32) -> Option<u64> {
        let mut hash = 7;
        self.at += 1;
        if self.next()? == b']' {
            self.at += 1;
            return Some(mix(hash, 8));
        }
        loop {
            let element = self.value::<HASH>(depth)?;
            if HASH {
                hash = mix(hash, element);
            }
            match self.take()? {
                b',' => {}
                b']' => return Some(mix(hash, 8)),
                _ => return None,
            }
        }
    }

    fn string<const HASH: bool>(&mut self) -> Option<u64> {
        let start = self.at;
        let mut rest: &'a [u8] = self.text.get(start + 1..)?;
        // Whether there are escapes, and ones of more than a letter: few are.
        let (mut escaped, mut coded) = (false, false);
        self.scratch.clear();
        let last = loop {
            let (plain, special) = rest.split_at(special(rest)?);
            let (letter, after) = match special {
                [b'"', after @ ..] => {
                    rest = after;
                    break plain;
                }
                [b'\\', letter, after @ ..] => (*letter, after),
                // A control character.
                _ => return None,
            };
            rest = after;
            let meant = match letter {
                b'"' | b'\\' | b'/' => letter,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                b'u' => {
                    let (digits, after) = rest.split_at_checked(4)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    (rest, coded) = (after, true);
                    0
                }
                _ => return None,
            };
            escaped = true;
            if HASH {
                self.scratch.extend_from_slice(plain);
                self.scratch.push(meant);
            }
        };
        self.at = self.text.len() - rest.len();
        if !HASH {
            return Some(0);
        }
        if coded {
            let text: String = serde_json::from_slice(self.text.get(start..self.at)?).ok()?;
            return Some(mix(6, xxh3_64(text.as_bytes())));
        }
        if !escaped {
            return Some(mix(6, xxh3_64(last)));
        }
        self.scratch.extend_from_slice(last);
        Some(mix(6, xxh3_64(&self.scratch)))
    }

    fn number<const HASH: bool>(&mut self) -> Option<u64> {
        let start = self.at;
        if self.is_at(b"-") {
            self.at += 1;
        }
        let whole = self.digits()?;
        if whole.len() > 1 && whole.first() == Some(&b'0') {
            return None;
        }
        if self.is_at(b".") {
            self.at += 1;
            self.digits()?;
        }
        if self.is_at(b"eE") {
            self.at += 1;
            if self.is_at(b"+-") {
                self.at += 1;
            }
            self.digits()?;
        }
        if !HASH {
            return Some(0);
        }
        let text = std::str::from_utf8(self.text.get(start..self.at)?).ok()?;
        if let Ok(number) = text.parse::<u64>() {
            return Some(mix(4, number));
        }
        if let Ok(number) = text.parse::<i64>() {
            return Some(mix(12, number.cast_unsigned()));
        }
        // One that no double holds is no number for everybody.
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.map(|number| mix(5, number.to_bits()))
    }

    /// True when one of these bytes is the next one.
    fn is_at(&self, bytes: &[u8]) -> bool {
        let next = self.text.get(self.at);
        next.is_some_and(|byte| bytes.contains(byte))
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<&'a [u8]> {
        let rest: &'a [u8] = self.text.get(self.at..)?;
        let end = rest.iter().position(|byte| !byte.is_ascii_digit());
        let digits = rest.get(..end.unwrap_or(rest.len()))?;
        self.at += digits.len();
        (!digits.is_empty()).then_some(digits)
    }

    /// `null`, `false` or `true`.
    fn word(&mut self) -> Option<u64> {
        let rest = self.text.get(self.at..)?;
        let words: [(&[u8], u64); 3] = [(b"null", 1), (b"false", 2), (b"true", 3)];
        let (word, hash) = words.into_iter().find(|(word, _)| rest.starts_with(word))?;
        self.at += word.len();
        Some(hash)
    }
}

/// True when `text` stands in JSON as it is.
pub(super) fn is_plain(text: &str) -> bool {
    special(text.as_bytes()).is_none()
}

/// Where the first byte stands that means something in a string: `"`, `\`, or a control character,
/// which must not be there. Eight bytes at a time: most strings are too short for a search that has
/// to be set up.
fn special(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let found = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    found.map(|at| words.len() * 8 + at)
}

/// The highest bit of the lowest byte that [`special`] looks for, and perhaps of higher ones: what is
/// subtracted from a byte borrows from the next one only when that byte is one of them.
fn specials(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word;
    let quotes = below(word ^ (EACH * u64::from(b'"')), 1);
    let slashes = below(word ^ (EACH * u64::from(b'\\')), 1);
    (quotes | slashes | below(word, 0x20)) & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::core::canonical::tests::{any_json, respelled};

    /// What a walk finds, when it says yes.
    fn walked(text: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let mut note = |key: Cow<'_, str>, value: &str| {
            found.push((key.into_owned(), value.to_owned()));
        };
        members::<false>(text, &mut note)?;
        Some(found)
    }

    /// What everybody else finds: the judge.
    fn parsed(text: &str) -> Option<Vec<(String, String)>> {
        struct Pairs(Vec<(String, String)>);

        impl<'de> serde::Deserialize<'de> for Pairs {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object;

                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = Pairs;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<Pairs, A::Error> {
                        let mut pairs = Vec::new();
                        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                            pairs.push((key, value.get().to_owned()));
                        }
                        Ok(Pairs(pairs))
                    }
                }

                deserializer.deserialize_map(Object)
            }
        }

        serde_json::from_str::<Pairs>(text)
            .ok()
            .map(|pairs| pairs.0)
    }

    /// Bytes that may break a text anywhere, or leave it whole.
    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![
            prop::sample::select(&b"{}[]\",:\\0123456789.eE+-truefalsn /bu\n\t\x01\x1f "[..]),
            0u8..128,
        ]
    }

    proptest! {
        #[test]
        fn an_object_has_the_members_that_everybody_finds(value in any_json()) {
            for text in [value.to_string(), respelled(&value)] {
                prop_assert_eq!(walked(&text).is_some(), value.is_object(), "{}", text);
                prop_assert_eq!(walked(&text), parsed(&text), "{}", text);
            }
        }

        #[test]
        fn what_is_broken_is_never_taken_for_whole(
            value in any_json(),
            spelled in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4, any_byte()), 1..4),
        ) {
            let text = if spelled { respelled(&value) } else { format!(r#"{{"a":{value},"b":-1.5e3}}"#) };
            let mut bytes = text.into_bytes();
            for (at, how, byte) in changes {
                let at = at.index(bytes.len() + 1);
                match how {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => bytes[at] = byte,
                    2 if at < bytes.len() => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
            }
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let found = walked(text);
                if found.is_some() {
                    prop_assert_eq!(found, parsed(text), "{}", text);
                }
            }
        }

        #[test]
        fn the_hash_on_the_way_is_the_hash(value in any_json()) {
            for text in [value.to_string(), respelled(&value)] {
                if value.is_object() {
                    prop_assert_eq!(members::<true>(&text, |_, _| ()), hash(text.as_bytes()));
                }
            }
        }

        #[test]
        fn what_means_something_in_a_string_is_found(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            plain in 0usize..40,
        ) {
            let text = [&b"\x7f\x80\xff !#[]~"[..].repeat(5)[..plain], &bytes].concat();
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(special(&text), expected);
        }
    }

    #[test]
    fn numbers_are_those_of_json() {
        for (number, is_one) in [
            ("0", true),
            ("-0", true),
            ("-0.0e-0", true),
            ("10", true),
            ("1.50", true),
            ("1E+5", true),
            ("01", false),
            ("-", false),
            ("1.", false),
            (".5", false),
            ("1e", false),
            ("+1", false),
            ("--1", false),
            ("1.e5", false),
            ("0x1", false),
            ("inf", false),
            ("NaN", false),
            ("1_000", false),
            ("-01", false),
        ] {
            let text = format!(r#"{{"n":{number}}}"#);
            assert_eq!(walked(&text).is_some(), is_one, "{number}");
            assert_eq!(parsed(&text).is_some(), is_one, "{number}");
        }
    }
}
