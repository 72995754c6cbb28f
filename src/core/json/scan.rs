//! One walk over a JSON text, which is left where it stands: whether it is whole, where an object's
//! members are, and a hash of what it says.
//!
//! A walk only says yes to what surely is JSON. In doubt (an unusual depth, half a surrogate pair) it
//! gives up: whoever asks has a slower way to find out.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

mod names;
mod special;

use names::{KnownName, Names};
use special::{copy, special};

pub(in crate::core) use names::KeyOrder;
pub(in crate::core) use special::is_plain;

/// Deeper than any record is, and no danger to the stack.
const MAX_DEPTH: u32 = 128;

/// A hash of a JSON text that does not depend on white space, on how a string is escaped, or on the
/// order of an object's members. `None` in doubt.
pub(in crate::core) fn hash(text: &[u8]) -> Option<u64> {
    let mut walk = Walk {
        text: whole(text)?,
        walker: &mut Walker::default(),
    };
    let (start, _) = walk.next(0)?;
    let Step { end, hash, .. } = walk.value::<true>(start, MAX_DEPTH)?;
    walk.next(end).is_none().then_some(hash)
}

/// A text whose places can be counted in 32 bits.
fn whole(text: &[u8]) -> Option<&[u8]> {
    u32::try_from(text.len()).is_ok().then_some(text)
}

/// Walks over objects, and keeps from one to the next what it needs for that.
#[derive(Debug, Default)]
pub(in crate::core) struct Walker {
    /// The last string that had to be unescaped.
    scratch: Vec<u8>,
    /// The names of the objects themselves.
    names: Names,
    /// Those of the objects further in.
    inner: Names,
    /// How many bytes were walked over.
    #[cfg(test)]
    pub(in crate::core) walked: usize,
}

/// Where a member stands in the text of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::core) struct Span {
    /// Its name, without the quotes.
    pub(in crate::core) name: Range<u32>,
    pub(in crate::core) value: Range<u32>,
    /// The [`key_of`] its name, as far as that has no escapes.
    pub(in crate::core) key: u64,
    /// The [`hash`] of its value, if that was asked for.
    pub(in crate::core) hash: u64,
    /// The value says nothing: null, `""`, `[]`, `{}`.
    pub(in crate::core) is_empty: bool,
    /// The value is a string that surely has no escapes.
    pub(in crate::core) is_plain: bool,
}

/// An object, as a walk finds it.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Object<'w> {
    /// Where it ends.
    pub(in crate::core) end: usize,
    /// Its [`hash`], if that was asked for.
    pub(in crate::core) hash: Option<u64>,
    /// `None` when the names of its members may not mean what is written, or may not differ.
    pub(in crate::core) outline: Option<&'w KeyOrder>,
}

impl Walker {
    /// One for a single object: it gives no outline.
    pub(in crate::core) fn once() -> Self {
        Self {
            names: Names::unnoticed(),
            ..Self::default()
        }
    }

    /// Goes over the object that `text` begins with, and notes its members; with hashes if `HASH`.
    /// `None` in doubt, perhaps after some members.
    pub(in crate::core) fn object<const HASH: bool>(
        &mut self,
        text: &[u8],
        spans: &mut Vec<Span>,
    ) -> Option<Object<'_>> {
        let mut walk = Walk {
            text: whole(text)?,
            walker: self,
        };
        let (start, b'{') = walk.next(0)? else {
            return None;
        };
        let Step { end, hash, .. } = walk.object::<HASH, true>(start, MAX_DEPTH, spans)?;
        #[cfg(test)]
        {
            self.walked += end;
        }
        Some(Object {
            end,
            hash: HASH.then_some(hash),
            outline: self.names.outline(),
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

/// A place in a [`whole`] text.
#[expect(clippy::cast_possible_truncation, reason = "it is shorter than that")]
fn place(at: usize) -> u32 {
    at as u32
}

/// One step of a hash over ordered parts.
fn mix(state: u64, part: u64) -> u64 {
    (state.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash of a name by what it means.
pub(in crate::core) fn key_of(name: &str) -> u64 {
    text_hash(name.as_bytes())
}

/// The hash of a string by what it means.
fn text_hash(text: &[u8]) -> u64 {
    mix(6, xxh3_64(text))
}

/// Something that was walked over.
struct Step {
    /// Where it ends.
    end: usize,
    /// Its hash if `HASH`, else anything.
    hash: u64,
    /// It says nothing: null, `""`, `[]`, `{}`.
    is_empty: bool,
    /// It is a string without escapes.
    is_plain: bool,
}

impl Step {
    /// Over something that says something, and is no string without escapes.
    fn to(end: usize, hash: u64) -> Self {
        Self {
            end,
            hash,
            is_empty: false,
            is_plain: false,
        }
    }

    /// This step, over a value that may say nothing.
    fn or_empty(self, is_empty: bool) -> Self {
        Self { is_empty, ..self }
    }
}

/// What comes next in an object.
enum Next {
    Name(KnownName),
    /// The object has come to its end, which is here; true when it has no member.
    End(usize, bool),
}

/// Each method that goes over something is told where its first byte is.
struct Walk<'a> {
    text: &'a [u8],
    walker: &'a mut Walker,
}

impl<'a> Walk<'a> {
    /// The next byte from `at` on that is no white space, and where it is.
    #[inline]
    fn next(&self, mut at: usize) -> Option<(usize, u8)> {
        loop {
            let byte = *self.text.get(at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some((at, byte));
            }
            at += 1;
        }
    }

    #[expect(
        clippy::inline_always,
        reason = "what most values are is told by a byte"
    )]
    #[inline(always)]
    fn value<const HASH: bool>(&mut self, at: usize, depth: u32) -> Option<Step> {
        let first = *self.text.get(at)?;
        if first == b'"' {
            self.string::<HASH>(at)
        } else if first.is_ascii_lowercase() {
            self.word(at)
        } else {
            self.other_value::<HASH>(at, first, depth)
        }
    }

    #[inline(never)]
    fn other_value<const HASH: bool>(&mut self, at: usize, first: u8, depth: u32) -> Option<Step> {
        match first {
            b'{' => self.object::<HASH, false>(at, depth.checked_sub(1)?, &mut Vec::new()),
            b'[' => self.array::<HASH>(at, depth.checked_sub(1)?),
            b'-' | b'0'..=b'9' => self.number::<HASH>(at),
            _ => None,
        }
    }

    /// An object, which is no member of another if `OUTER`: then its members are noted.
    fn object<const HASH: bool, const OUTER: bool>(
        &mut self,
        start: usize,
        depth: u32,
        spans: &mut Vec<Span>,
    ) -> Option<Step> {
        let mut sum = 9_u64;
        let mut at = start;
        if OUTER {
            self.walker.names.begin();
            self.walker.inner.begin();
        }
        loop {
            let expected = self.walker.names::<OUTER>().expected(self.text, at);
            let KnownName { name, key, value } = match expected {
                Some(met) => met,
                None => match self.other_name::<HASH, OUTER>(at, at == start)? {
                    Next::Name(met) => met,
                    Next::End(end, is_empty) => {
                        return Some(Step::to(end, mix(sum, 11)).or_empty(is_empty));
                    }
                },
            };
            let (value, step) = match self.value::<HASH>(value, depth) {
                Some(step) => (value, step),
                None => self.late_value::<HASH>(value, depth)?,
            };
            if HASH {
                // A sum, so that the order of the members does not matter.
                sum = sum.wrapping_add(mix(mix(10, key), step.hash));
            }
            if OUTER {
                spans.push(Span {
                    name: place(name.start)..place(name.end),
                    value: place(value)..place(step.end),
                    key,
                    hash: step.hash,
                    is_empty: step.is_empty,
                    is_plain: step.is_plain,
                });
            }
            at = step.end;
        }
    }

    /// A value behind white space that was not there the last time, and where it begins.
    #[cold]
    fn late_value<const HASH: bool>(&mut self, at: usize, depth: u32) -> Option<(usize, Step)> {
        let (value, _) = self.next(at)?;
        // Where there is none, it was looked at.
        let step = (value > at).then(|| self.value::<HASH>(value, depth))??;
        Some((value, step))
    }

    /// What follows behind an object's beginning or one of its values, when that was not expected.
    #[inline(never)]
    fn other_name<const HASH: bool, const OUTER: bool>(
        &mut self,
        at: usize,
        is_first: bool,
    ) -> Option<Next> {
        let start = match self.next(at)? {
            (bracket, b'{') if is_first => match self.next(bracket + 1)? {
                (end, b'}') => return Some(Next::End(end + 1, true)),
                (start, _) => start,
            },
            (comma, b',') => self.next(comma + 1)?.0,
            (end, b'}') => return Some(Next::End(end + 1, false)),
            _ => return None,
        };
        if self.text.get(start) != Some(&b'"') {
            return None;
        }
        let step = self.string::<HASH>(start)?;
        let name = start + 1..step.end - 1;
        let key = if HASH {
            step.hash
        } else {
            text_hash(self.text.get(name.clone())?)
        };
        let (colon, b':') = self.next(step.end)? else {
            return None;
        };
        let (value, _) = self.next(colon + 1)?;
        let written = self.text.get(at..value)?;
        let met = KnownName { name, key, value };
        let names = self.walker.names::<OUTER>();
        names.learn(&met, written, !step.is_plain);
        Some(Next::Name(met))
    }

    fn array<const HASH: bool>(&mut self, at: usize, depth: u32) -> Option<Step> {
        let mut hash = 7;
        let (mut at, first) = self.next(at + 1)?;
        if first == b']' {
            return Some(Step::to(at + 1, mix(hash, 8)).or_empty(true));
        }
        loop {
            let element = self.value::<HASH>(at, depth)?;
            if HASH {
                hash = mix(hash, element.hash);
            }
            match self.next(element.end)? {
                (end, b',') => at = self.next(end + 1)?.0,
                (end, b']') => return Some(Step::to(end + 1, mix(hash, 8))),
                _ => return None,
            }
        }
    }

    #[expect(clippy::inline_always, reason = "what most values are")]
    #[inline(always)]
    fn string<const HASH: bool>(&mut self, at: usize) -> Option<Step> {
        let inner: &'a [u8] = self.text.get(at + 1..)?;
        let (plain, special) = inner.split_at(special(inner)?);
        if special.first() != Some(&b'"') {
            return self.escaped::<HASH>(at, inner, plain.len());
        }
        Some(Step {
            end: at + plain.len() + 2,
            hash: if HASH { text_hash(plain) } else { 0 },
            is_empty: plain.is_empty(),
            is_plain: true,
        })
    }

    /// The string at `start`, whose inside is the beginning of `inner`, with the first escape at `at`.
    #[inline(never)]
    fn escaped<const HASH: bool>(
        &mut self,
        start: usize,
        inner: &'a [u8],
        mut at: usize,
    ) -> Option<Step> {
        // Escapes of more than a letter: few are.
        let mut coded = false;
        let scratch = &mut self.walker.scratch;
        scratch.clear();
        if HASH {
            scratch.extend_from_slice(inner.get(..at)?);
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
                scratch.push(meant);
                at += copy(inner.get(at..)?, scratch)?;
            } else {
                at += special(inner.get(at..)?)?;
            }
        }
        let end = start + at + 2;
        let hash = match HASH {
            false => 0,
            true if coded => {
                let text = self.text.get(start..end)?;
                text_hash(serde_json::from_slice::<String>(text).ok()?.as_bytes())
            }
            true => text_hash(scratch),
        };
        Some(Step::to(end, hash))
    }

    fn number<const HASH: bool>(&self, at: usize) -> Option<Step> {
        let is_minus = self.text.get(at) == Some(&b'-');
        let start = at + usize::from(is_minus);
        let mut end = self.digits(start)?;
        if end - start > 1 && self.text.get(start) == Some(&b'0') {
            return None;
        }
        let whole = end;
        if self.is_at(end, b".") {
            end = self.digits(end + 1)?;
        }
        if self.is_at(end, b"eE") {
            let is_signed = self.is_at(end + 1, b"+-");
            end = self.digits(end + 1 + usize::from(is_signed))?;
        }
        if !HASH {
            return Some(Step::to(end, 0));
        }
        let text = std::str::from_utf8(self.text.get(at..end)?).ok()?;
        let unsigned = (end == whole).then(|| text.parse().ok()).flatten();
        let signed = || (end == whole).then(|| text.parse::<i64>().ok()).flatten();
        let hash = if let Some(number) = unsigned {
            mix(4, number)
        } else if let Some(number) = signed() {
            mix(12, number.cast_unsigned())
        } else {
            // One that no double holds is no number for everybody.
            let number: f64 = text.parse().ok()?;
            mix(
                5,
                Some(number).filter(|number| number.is_finite())?.to_bits(),
            )
        };
        Some(Step::to(end, hash))
    }

    /// True when one of these bytes is there.
    fn is_at(&self, at: usize, bytes: &[u8]) -> bool {
        let next = self.text.get(at);
        next.is_some_and(|byte| bytes.contains(byte))
    }

    /// The end of one digit or more.
    fn digits(&self, at: usize) -> Option<usize> {
        let rest = self.text.get(at..)?;
        let end = rest.iter().position(|byte| !byte.is_ascii_digit());
        let digits = end.unwrap_or(rest.len());
        (digits > 0).then_some(at + digits)
    }

    /// `null`, `false` or `true`.
    #[inline]
    fn word(&self, at: usize) -> Option<Step> {
        let rest = self.text.get(at..)?;
        let (length, hash) = match rest.first_chunk()? {
            b"null" => (4, 1),
            b"true" => (4, 3),
            b"fals" if rest.get(4) == Some(&b'e') => (5, 2),
            _ => return None,
        };
        Some(Step::to(at + length, hash).or_empty(hash == 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::core::json::canonical::tests::{any_json, respelled};
    use crate::core::json::span::within;

    /// What a walk finds, when it says yes.
    fn walked(text: &str) -> Option<Vec<(String, String)>> {
        let mut members = Vec::new();
        let mut walker = Walker::default();
        let mut spans = Vec::new();
        let object = walker.object::<false>(text.as_bytes(), &mut spans)?;
        for span in spans {
            let name = format!("\"{}\"", text.get(within(&span.name)).unwrap());
            let value = text.get(within(&span.value)).unwrap().to_owned();
            assert_eq!(span.is_empty, says_nothing(&value), "{value}");
            members.push((serde_json::from_str(&name), value));
        }
        let (object_text, rest) = text.split_at(object.end);
        assert!(object_text.ends_with('}'));
        let names: HashSet<&String> = members.iter().flat_map(|(name, _)| name).collect();
        assert!(object.outline.is_none() || names.len() == members.len());
        let all = rest.trim_start_matches([' ', '\n', '\r', '\t']).is_empty();
        let named = members
            .into_iter()
            .map(|(name, value)| Some((name.ok()?, value)));
        named.collect::<Option<_>>().filter(|_| all)
    }

    /// True for null, `""`, `[]` and `{}`, however they are written.
    fn says_nothing(value: &str) -> bool {
        use serde_json::Value;
        match serde_json::from_str(value) {
            Ok(Value::Null) => true,
            Ok(Value::String(text)) => text.is_empty(),
            Ok(Value::Array(list)) => list.is_empty(),
            Ok(Value::Object(members)) => members.is_empty(),
            _ => false,
        }
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
                    let mut spans = Vec::new();
                    let mut walker = Walker::default();
                    let object = walker.object::<true>(text.as_bytes(), &mut spans);
                    for span in spans {
                        let value = &text.as_bytes()[within(&span.value)];
                        prop_assert_eq!(Some(span.hash), hash(value));
                    }
                    prop_assert_eq!(object.and_then(|object| object.hash), hash(text.as_bytes()));
                }
            }
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
