//! One walk over a JSON text, which is left where it stands: whether it is whole, where an object's
//! members are, and a hash of what it says.
//!
//! A walk only says yes to what surely is JSON. In doubt (an unusual depth, half a surrogate pair) it
//! gives up: whoever asks has a slower way to find out.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

mod names;

use names::{Met, Names};

/// Deeper than any record is, and no danger to the stack.
const MAX_DEPTH: u32 = 128;

/// A hash of a JSON text that does not depend on white space, on how a string is escaped, or on the
/// order of an object's members. `None` in doubt.
pub(super) fn hash(text: &[u8]) -> Option<u64> {
    let mut walker = Walker::default();
    let mut walk = Walk::new(text, &mut walker);
    let hash = walk.value::<true>(MAX_DEPTH)?;
    walk.next().is_none().then_some(hash)
}

/// Walks over objects, and keeps from one to the next what it needs for that.
#[derive(Debug, Default)]
pub(super) struct Walker {
    /// The last string that had to be unescaped.
    scratch: Vec<u8>,
    /// The names of the objects themselves.
    names: Names,
    /// Those of the objects further in.
    inner: Names,
    /// How many bytes were walked over.
    #[cfg(test)]
    pub(super) walked: usize,
}

/// A member, as a walk finds it.
#[derive(Debug)]
pub(super) struct Found {
    /// Where its name stands, without the quotes.
    pub(super) name: Range<usize>,
    /// The [`key_of`] its name, as far as that has no escapes.
    pub(super) key: u64,
    pub(super) value: Range<usize>,
    /// The [`hash`] of its value, if that was asked for.
    pub(super) hash: u64,
}

/// An object, as a walk finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    /// Where it ends.
    pub(super) end: usize,
    /// Its [`hash`], if that was asked for.
    pub(super) hash: Option<u64>,
    /// The names of its members mean what is written, and surely differ.
    pub(super) plain: bool,
}

impl Walker {
    /// Goes over the object that `text` begins with, and tells `each` of its members; with hashes if
    /// `HASH`. `None` in doubt, perhaps after some members.
    pub(super) fn object<const HASH: bool>(
        &mut self,
        text: &[u8],
        each: impl FnMut(Found),
    ) -> Option<Object> {
        let mut walk = Walk::new(text, self);
        let hash = match walk.next() {
            Some(b'{') => walk.object::<HASH, true>(MAX_DEPTH, each),
            _ => None,
        };
        let end = walk.at;
        #[cfg(test)]
        {
            self.walked += end;
        }
        Some(Object {
            end,
            hash: HASH.then_some(hash?),
            plain: self.names.plain,
        })
    }

    /// The names of the objects themselves, or of those further in.
    fn names<const OUTER: bool>(&mut self) -> &mut Names {
        if OUTER {
            &mut self.names
        } else {
            &mut self.inner
        }
    }
}

/// One step of a hash over ordered parts.
fn mix(state: u64, part: u64) -> u64 {
    (state.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash of a name by what it means.
pub(super) fn key_of(name: &str) -> u64 {
    text_hash(name.as_bytes())
}

/// The keys of some names: most other names are told from them by a bit alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys(u64);

impl Keys {
    /// False when `key` is surely none of them.
    pub(super) fn may_hold(self, key: u64) -> bool {
        self.0 & Self::bit(key) != 0
    }

    fn bit(key: u64) -> u64 {
        1 << (key >> 58)
    }
}

impl FromIterator<u64> for Keys {
    fn from_iter<I: IntoIterator<Item = u64>>(keys: I) -> Self {
        Self(keys.into_iter().fold(0, |bits, key| bits | Self::bit(key)))
    }
}

/// The hash of a string by what it means.
fn text_hash(text: &[u8]) -> u64 {
    mix(6, xxh3_64(text))
}

/// Each method that goes over something begins at its first byte, and gives back its hash if `HASH`,
/// else anything.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    /// The last string had escapes.
    escaped: bool,
    walker: &'a mut Walker,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8], walker: &'a mut Walker) -> Self {
        Self {
            text,
            at: 0,
            escaped: false,
            walker,
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
            b'{' => self.object::<HASH, false>(depth.checked_sub(1)?, |_| ()),
            b'[' => self.array::<HASH>(depth.checked_sub(1)?),
            b'-' | b'0'..=b'9' => self.number::<HASH>(),
            _ => self.word(),
        }
    }

    /// An object, which is no member of another if `OUTER`. `each` is told of every member.
    fn object<const HASH: bool, const OUTER: bool>(
        &mut self,
        depth: u32,
        mut each: impl FnMut(Found),
    ) -> Option<u64> {
        let mut sum = 9_u64;
        self.at += 1;
        if OUTER {
            self.walker.names.begin();
            self.walker.inner.begin();
        }
        if self.next()? == b'}' {
            self.at += 1;
            return Some(mix(sum, 11));
        }
        loop {
            let Met { name, key, value } = self.name::<HASH, OUTER>()?;
            self.at = value;
            let hash = self.value::<HASH>(depth)?;
            if HASH {
                // A sum, so that the order of the members does not matter.
                sum = sum.wrapping_add(mix(mix(10, key), hash));
            }
            let value = value..self.at;
            each(Found {
                name,
                key,
                value,
                hash,
            });
            match self.take()? {
                b',' => {}
                b'}' => return Some(mix(sum, 11)),
                _ => return None,
            }
        }
    }

    /// A name and its colon.
    #[inline]
    fn name<const HASH: bool, const OUTER: bool>(&mut self) -> Option<Met> {
        if let Some(met) = self.walker.names::<OUTER>().expected(self.text, self.at) {
            return Some(met);
        }
        if self.next()? != b'"' {
            return None;
        }
        let start = self.at;
        let hash = self.string::<HASH>()?;
        let (name, escaped) = (start + 1..self.at - 1, self.escaped);
        let key = if HASH {
            hash
        } else {
            text_hash(self.text.get(name.clone())?)
        };
        if self.take()? != b':' {
            return None;
        }
        self.next()?;
        let value = self.at;
        let met = Met { name, key, value };
        self.walker.names::<OUTER>().learn(&met, self.text, escaped);
        Some(met)
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
        let inner: &'a [u8] = self.text.get(self.at + 1..)?;
        let (plain, special) = inner.split_at(special(inner)?);
        self.escaped = special.first() != Some(&b'"');
        if self.escaped {
            return self.escaped::<HASH>(inner, plain.len());
        }
        self.at += plain.len() + 2;
        Some(if HASH { text_hash(plain) } else { 0 })
    }

    /// A string whose inside is the beginning of `inner`, with the first escape at `at`.
    fn escaped<const HASH: bool>(&mut self, inner: &'a [u8], mut at: usize) -> Option<u64> {
        // Escapes of more than a letter: few are.
        let mut coded = false;
        self.walker.scratch.clear();
        if HASH {
            self.walker.scratch.extend_from_slice(inner.get(..at)?);
        }
        loop {
            let meant = match *inner.get(at)? {
                b'"' => break,
                b'\\' => match *inner.get(at + 1)? {
                    letter @ (b'"' | b'\\' | b'/') => letter,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'f' => 12,
                    b'u' => {
                        let digits = inner.get(at + 2..at + 6)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        (at, coded) = (at + 4, true);
                        0
                    }
                    _ => return None,
                },
                // A control character.
                _ => return None,
            };
            at += 2;
            if HASH {
                self.walker.scratch.push(meant);
                at += self.copy(inner.get(at..)?)?;
            } else {
                at += special(inner.get(at..)?)?;
            }
        }
        let text = self.text.get(self.at..self.at + at + 2)?;
        self.at += text.len();
        Some(match HASH {
            false => 0,
            true if coded => text_hash(serde_json::from_slice::<String>(text).ok()?.as_bytes()),
            true => text_hash(&self.walker.scratch),
        })
    }

    /// Copies the bytes up to the next [`special`] one, and tells how many they are. Eight at a time,
    /// since from one escape to the next it is often not far.
    fn copy(&mut self, text: &[u8]) -> Option<usize> {
        let (words, rest) = text.as_chunks::<8>();
        let before = self.walker.scratch.len();
        for (at, word) in words.iter().enumerate() {
            self.walker.scratch.extend_from_slice(word);
            let found = specials(u64::from_le_bytes(*word));
            if found != 0 {
                let length = at * 8 + found.trailing_zeros() as usize / 8;
                self.walker.scratch.truncate(before + length);
                return Some(length);
            }
        }
        let length = special(rest)?;
        self.walker.scratch.extend_from_slice(rest.get(..length)?);
        Some(words.len() * 8 + length)
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
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::core::canonical::tests::{any_json, respelled};

    /// What a walk finds, when it says yes.
    fn walked(text: &str) -> Option<Vec<(String, String)>> {
        let mut members = Vec::new();
        let mut walker = Walker::default();
        let object = walker.object::<false>(text.as_bytes(), |found| {
            let name = format!("\"{}\"", text.get(found.name).unwrap());
            let value = text.get(found.value).unwrap().to_owned();
            members.push((serde_json::from_str(&name), value));
        })?;
        let (object_text, rest) = text.split_at(object.end);
        assert!(object_text.ends_with('}'));
        let names: HashSet<&String> = members.iter().flat_map(|(name, _)| name).collect();
        assert!(!object.plain || names.len() == members.len());
        let all = rest.trim_start_matches([' ', '\n', '\r', '\t']).is_empty();
        let named = members
            .into_iter()
            .map(|(name, value)| Some((name.ok()?, value)));
        named.collect::<Option<_>>().filter(|_| all)
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
                    let object = Walker::default().object::<true>(text.as_bytes(), |found| {
                        let value = &text.as_bytes()[found.value];
                        assert_eq!(Some(found.hash), hash(value));
                    });
                    prop_assert_eq!(object.and_then(|object| object.hash), hash(text.as_bytes()));
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
