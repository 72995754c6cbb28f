//! One record as it came: its members, borrowed, and what identifies it.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    scan::{KeyOrder, Span, Walker, is_plain, key_of},
    span::{position, within},
};

pub use super::canonical::canonical_hash;

/// A JSON value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonSlice<'a> {
    text: &'a str,
    /// It is a string that surely has no escapes.
    is_plain: bool,
}

impl<'a> From<&'a RawValue> for JsonSlice<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self {
            text: value.get(),
            is_plain: false,
        }
    }
}

impl<'a> JsonSlice<'a> {
    /// Its text, which is valid JSON.
    pub fn get(self) -> &'a str {
        self.text
    }
}

/// The members of a JSON object, borrowed from its text and in its order. Of members with the same
/// name the last counts, as in every common parser.
#[derive(Debug, Default)]
pub struct JsonObject<'a> {
    text: &'a str,
    spans: Cow<'a, [Span]>,
    /// What names with escapes mean, by where their values begin, in that order.
    meant: Vec<(u32, String)>,
    /// The [`canonical_hash`] of the object, when it was asked for.
    hash: Option<u64>,
    /// What its names share with those of other objects.
    outline: Option<Cow<'a, KeyOrder>>,
}

/// The names of the last object: what was found out about them holds for the next one that has them.
#[derive(Debug, Default)]
pub(in crate::core) struct KeyOrderCache(Option<KeyOrder>);

impl KeyOrderCache {
    /// True when these members surely have the names of those before.
    pub(in crate::core) fn are_those_of(&mut self, members: &JsonObject<'_>) -> bool {
        let outline = members.outline.as_deref();
        let same = (self.0.as_ref().zip(outline)).is_some_and(|(last, this)| last.is(this));
        if !same {
            self.0 = outline.cloned();
        }
        same
    }
}

/// What alike objects have in common: the names, and which of them say something.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct RecordShape<'m> {
    pub(in crate::core) outline: &'m KeyOrder,
    /// The members that say nothing, a bit each by its place.
    pub(in crate::core) empty: u64,
}

/// A member.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Member<'m, 'a> {
    members: &'m JsonObject<'a>,
    span: &'m Span,
}

impl<'m, 'a> Member<'m, 'a> {
    pub(in crate::core) fn name(self) -> &'m str {
        self.members.name(self.span)
    }

    /// False when its value is null or empty.
    pub(in crate::core) fn says(self) -> bool {
        !self.span.is_empty
    }

    pub(in crate::core) fn value(self) -> JsonSlice<'a> {
        self.members.value(self.span)
    }

    /// Where its name, colon and value stand as they are written, if they do.
    pub(in crate::core) fn written(self) -> Option<Range<usize>> {
        let start = self.span.name.start.checked_sub(1)?;
        let is_plain = self.members.meant.is_empty();
        is_plain.then(|| within(&(start..self.span.value.end)))
    }
}

impl<'a> JsonObject<'a> {
    /// The members of the object `text`. Anything but an object is an error.
    pub fn of(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        // One look at the whole text is cheaper than one at each of its values.
        match simdutf8::basic::from_utf8(text) {
            Ok(text) => Self::of_text(text, &mut Walker::once()),
            Err(error) => Err(serde_json::from_slice::<&RawValue>(text)
                .err()
                .unwrap_or_else(|| serde::de::Error::custom(error))),
        }
    }

    /// The text that they are members of.
    pub fn text_of(&self) -> &'a str {
        self.text
    }

    /// The members of `value`, when it is an object.
    pub fn of_value(value: impl Into<JsonSlice<'a>>) -> Option<Self> {
        Self::walked_value(value.into(), &mut Walker::once())
    }

    /// Members of an object, by a walker that has been over objects like it.
    pub(in crate::core) fn walked_value(value: JsonSlice<'a>, walker: &mut Walker) -> Option<Self> {
        let text = value.get();
        text.starts_with('{')
            .then(|| Self::of_text(text, walker).ok())
            .flatten()
    }

    fn of_text(text: &'a str, walker: &mut Walker) -> Result<Self, serde_json::Error> {
        match Self::walked(text, walker) {
            Some(members) => Ok(members),
            None => Self::parsed(text),
        }
    }

    /// `None` in doubt.
    fn walked(text: &'a str, walker: &mut Walker) -> Option<Self> {
        let mut spans = Vec::with_capacity(24);
        let bytes = text.as_bytes();
        let object = walker.object::<false>(bytes, &mut spans)?;
        let rest = text.get(object.end..)?;
        let is_all = rest.trim_start_matches([' ', '\n', '\r', '\t']).is_empty();
        let members = Self {
            text,
            outline: object.outline.cloned().map(Cow::Owned),
            spans: spans.into(),
            ..Self::default()
        };
        members.sure().filter(|_| is_all)
    }

    /// The members of the object `text`, where a walk has found them. `None` in doubt.
    pub(in crate::core) fn noted(
        text: &'a str,
        spans: &'a [Span],
        hash: Option<u64>,
        outline: Option<&'a KeyOrder>,
    ) -> Option<Self> {
        let members = Self {
            text,
            spans: spans.into(),
            meant: Vec::new(),
            hash,
            outline: outline.map(Cow::Borrowed),
        };
        members.sure()
    }

    /// The slow way, which is never in doubt.
    fn parsed(text: &'a str) -> Result<Self, serde_json::Error> {
        let Pairs(pairs) = serde_json::from_str(text)?;
        let range = |part: &str| {
            let start = part.as_ptr().addr() - text.as_ptr().addr();
            position(start)..position(start + part.len())
        };
        let mut members = Self {
            text,
            ..Self::default()
        };
        for (name, raw) in pairs {
            let value = range(raw.get());
            let key = key_of(&name);
            let name = match name {
                Cow::Borrowed(name) => range(name),
                Cow::Owned(name) => {
                    members.meant.push((value.start, name));
                    0..0
                }
            };
            members.spans.to_mut().push(Span {
                name,
                value,
                key,
                hash: 0,
                is_empty: is_empty(raw.get().as_bytes()),
                is_plain: false,
            });
        }
        members.keep_last();
        Ok(members)
    }

    /// Members that are surely those of the record: with escapes in names resolved, and of a name that
    /// comes twice the last one. `None` in doubt.
    fn sure(mut self) -> Option<Self> {
        if self.outline.is_some() {
            return Some(self);
        }
        for span in self.spans.to_mut() {
            let name = self.text.get(within(&span.name))?;
            if name.contains('\\') {
                let name: String = serde_json::from_str(&format!("\"{name}\"")).ok()?;
                span.key = key_of(&name);
                self.meant.push((span.value.start, name));
            }
        }
        self.keep_last();
        Some(self)
    }

    /// Keeps the last of the members with the same name.
    fn keep_last(&mut self) {
        let mut keys: Vec<u64> = self.spans.iter().map(|span| span.key).collect();
        keys.sort_unstable();
        if keys.windows(2).all(|two| two[0] != two[1]) {
            return;
        }
        let mut seen: HashSet<&str> = HashSet::with_capacity(self.spans.len());
        let spans = self.spans.iter().rev();
        let mut kept: Vec<Span> = spans
            .filter(|span| seen.insert(self.name(span)))
            .cloned()
            .collect();
        kept.reverse();
        self.spans = kept.into();
    }

    fn name<'m>(&'m self, span: &Span) -> &'m str {
        let meant = self
            .meant
            .binary_search_by_key(&span.value.start, |(value, _)| *value);
        match meant.ok().and_then(|at| self.meant.get(at)) {
            Some((_, name)) => name,
            None => self.text.get(within(&span.name)).unwrap_or_default(),
        }
    }

    fn value(&self, span: &Span) -> JsonSlice<'a> {
        JsonSlice {
            text: self.text.get(within(&span.value)).unwrap_or("null"),
            is_plain: span.is_plain,
        }
    }

    fn find(&self, name: &str) -> Option<&Span> {
        let at = self.place(name, key_of(name))?;
        self.spans.get(at as usize)
    }

    /// The value of a member, unless it is absent, null or empty.
    pub fn get(&self, name: &str) -> Option<JsonSlice<'a>> {
        let span = self.find(name).filter(|span| !span.is_empty)?;
        Some(self.value(span))
    }

    /// The value of a member, whatever it says.
    pub fn raw(&self, name: &str) -> Option<JsonSlice<'a>> {
        self.find(name).map(|span| self.value(span))
    }

    /// A member's text: a string's content, or a number as it is written.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text_of(self.get(name)?)
    }

    /// The members that say something.
    pub fn iter(&self) -> impl Iterator<Item = (&str, JsonSlice<'a>)> {
        self.saying().map(|member| (member.name(), member.value()))
    }

    /// Names of members that say something, each with the [`canonical_hash`] of its value.
    pub(in crate::core) fn hashes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.saying().map(|member| {
            let hash = match self.hash {
                Some(_) => member.span.hash,
                None => canonical_hash(member.value().get().as_bytes()),
            };
            (member.name(), hash)
        })
    }

    /// All of them, whatever they say.
    pub(in crate::core) fn members(&self) -> impl Iterator<Item = Member<'_, 'a>> {
        let members = self;
        self.spans.iter().map(move |span| Member { members, span })
    }

    /// Those that say something.
    pub(in crate::core) fn saying(&self) -> impl Iterator<Item = Member<'_, 'a>> {
        self.members().filter(|member| member.says())
    }

    /// How many places of members there are.
    pub(in crate::core) fn places(&self) -> usize {
        self.spans.len()
    }

    /// The member at a place, if it says something.
    pub(in crate::core) fn at(&self, place: u32) -> Option<Member<'_, 'a>> {
        let span = self.spans.get(place as usize)?;
        let members = self;
        (!span.is_empty).then_some(Member { members, span })
    }

    /// The place of a member, whatever it says, by its name and the [`key_of`] that.
    pub(in crate::core) fn place(&self, name: &str, key: u64) -> Option<u32> {
        let mut spans = self.spans.iter();
        let at = spans.position(|span| span.key == key && self.name(span) == name)?;
        Some(position(at))
    }

    /// What it has in common with objects like it. `None` for many members, and for names in doubt.
    pub(in crate::core) fn form(&self) -> Option<RecordShape<'_>> {
        let outline = self.outline.as_deref()?;
        let spans = Some(&self.spans).filter(|spans| spans.len() <= 64)?;
        let empty = (spans.iter().rev()).fold(0, |all, span| all << 1 | u64::from(span.is_empty));
        Some(RecordShape { outline, empty })
    }

    /// The members from the one at `first` to the one at `last`, as they are written.
    pub(in crate::core) fn written(&self, first: u32, last: u32) -> Option<&'a str> {
        let start = self.spans.get(first as usize)?.name.start.checked_sub(1)?;
        let end = self.spans.get(last as usize)?.value.end;
        self.text.get(within(&(start..end)))
    }

    /// The [`canonical_hash`] of the object.
    pub(in crate::core) fn hash(&self) -> u64 {
        self.hash
            .unwrap_or_else(|| canonical_hash(self.text.as_bytes()))
    }

    /// The text of the object.
    pub(in crate::core) fn as_written(&self) -> &'a str {
        self.text
    }

    /// Leaves out what `OData` says about other members.
    pub fn leave_out_annotations(&mut self) {
        const SIGN: &str = "@odata.";
        // One look at the whole text is cheaper than one at each name, and finds hardly ever anything.
        let found = memchr::memmem::find(self.text.as_bytes(), SIGN.as_bytes()).is_some();
        if found || !self.meant.is_empty() {
            let spans = self.spans.iter();
            let kept: Vec<Span> = spans
                .filter(|span| !self.name(span).contains(SIGN))
                .cloned()
                .collect();
            self.spans = kept.into();
            self.outline = None;
        }
    }
}

/// A string's content, or a number as it is written; nothing for other values.
pub fn text_of(value: JsonSlice<'_>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
    match value.get().as_bytes().first()? {
        b'"' => {
            let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
            if value.is_plain || is_plain(inner) {
                return Some(inner.into());
            }
            let text = serde_json::from_str(value.get()).ok();
            text.map(|Text(text)| text)
        }
        b'-' | b'0'..=b'9' => Some(value.get().into()),
        _ => None,
    }
}

/// True for the values that say nothing: null, `""`, `[]`, `{}`.
fn is_empty(value: &[u8]) -> bool {
    match value {
        [b'n', ..] | [b'"', b'"'] => true,
        [b'[', inner @ .., b']'] | [b'{', inner @ .., b'}'] => {
            inner.iter().all(u8::is_ascii_whitespace)
        }
        _ => false,
    }
}

/// The names and values of an object.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct MemberName<'k>(#[serde(borrow)] Cow<'k, str>);

                let mut pairs = Vec::new();
                while let Some((MemberName(name), value)) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::position::record_key::{KeyRule, RecordMeta};

    #[test]
    fn what_odata_says_about_members_is_no_member() {
        for text in [
            r#"{"a":1,"a@odata.type":"t","@odata.id":"i","b@x":2}"#,
            r#"{"a":1,"a\u0040odata.type":"t","b@x":2}"#,
            r#"{"a":1,"b@x":2}"#,
        ] {
            let mut members = JsonObject::of(text.as_bytes()).unwrap();
            members.leave_out_annotations();
            let names: Vec<&str> = members.iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["a", "b@x"], "{text}");
        }
    }

    #[test]
    fn only_an_object_has_members() {
        for text in [
            "7",
            "[]",
            "\"x\"",
            "null",
            "{",
            "{\"a\":1}x",
            "{\"a\":1}\u{c}",
            "{\"a\":\u{7}}",
        ] {
            assert!(JsonObject::of(text.as_bytes()).is_err(), "{text}");
        }
        assert!(JsonObject::of(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        let members = JsonObject::of(br#"{"a":1,"b":2,"\u0061":3,"b":""}"#).unwrap();
        let got: Vec<_> = members
            .iter()
            .map(|(key, value)| (key, value.get()))
            .collect();
        assert_eq!(got, [("a", "3")]);
        let many: Vec<String> = (0..200)
            .map(|at| format!("\"k{}\":{at}", at % 100))
            .collect();
        let text = format!("{{{}}}", many.join(","));
        let members = JsonObject::of(text.as_bytes()).unwrap();
        assert_eq!(members.iter().count(), 100);
        assert_eq!(members.text("k7").unwrap(), "107");
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{}1{}", r#"{"a":["#.repeat(5_000), "]}".repeat(5_000));
        let members = JsonObject::of(deep.as_bytes()).unwrap();
        let facts = RecordMeta::of(&members, &KeyRule::PLAIN);
        assert_eq!(facts.id.len(), 16);
    }

    #[test]
    fn control_characters_are_text_only_when_escaped() {
        assert!(JsonObject::of(b"{\"a\":\"\0\"}").is_err());
        assert!(JsonObject::of(b"\xef\xbb\xbf{}").is_err());
        let members = JsonObject::of(br#"{"uuid":"\u0000"}"#).unwrap();
        assert_eq!(members.text("uuid").unwrap(), "\0");
        // Half a surrogate pair is no text: the record is then named by its content.
        let members = JsonObject::of(br#"{"uuid":"\ud83d"}"#).unwrap();
        assert_eq!(members.text("uuid"), None);
    }
}
