//! One record as it came: its members, borrowed, and what identifies it.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Range};

use chrono::{DateTime, Datelike, NaiveDateTime, SecondsFormat, Timelike, Utc};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    chunk::Span,
    scan::{Found, Walker, is_plain},
};

pub use super::canonical::canonical_hash;

/// A JSON value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self(value.get())
    }
}

impl<'a> Raw<'a> {
    /// Its text, which is valid JSON.
    pub fn get(self) -> &'a str {
        self.0
    }
}

/// The members of a JSON object, borrowed from its text and in its order. Of members with the same
/// name the last counts, as in every common parser.
#[derive(Debug, Default)]
pub struct Members<'a> {
    named: Vec<Member<'a>>,
    /// The [`canonical_hash`] of the object, when it was asked for.
    hash: Option<u64>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: Raw<'a>,
    /// Name, colon and value as they are written, where they stand in one text.
    pub(super) written: Option<&'a str>,
    is_empty: bool,
    /// The [`canonical_hash`] of the value, when the object's was asked for.
    hash: u64,
}

impl<'a> Members<'a> {
    /// The members of the object `text`. Anything but an object is an error.
    pub fn of(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        // One look at the whole text is cheaper than one at each of its values.
        match simdutf8::basic::from_utf8(text) {
            Ok(text) => Self::of_text(text),
            Err(_) => serde_json::from_slice(text),
        }
    }

    /// The members of `value`, when it is an object.
    pub fn of_value(value: impl Into<Raw<'a>>) -> Option<Self> {
        let text = value.into().get();
        text.starts_with('{')
            .then(|| Self::of_text(text).ok())
            .flatten()
    }

    fn of_text(text: &'a str) -> Result<Self, serde_json::Error> {
        match Self::walked(text) {
            Some(members) => Ok(members),
            None => serde_json::from_str(text),
        }
    }

    /// `None` in doubt.
    fn walked(text: &'a str) -> Option<Self> {
        let mut members = Self {
            named: Vec::with_capacity(24),
            hash: None,
        };
        let mut sure = true;
        let object = Walker::default().object::<false>(text.as_bytes(), |found: Found| {
            sure &= members.push(text, found.name, found.value, 0);
        })?;
        let rest = text.get(object.end..)?;
        sure &= rest.trim_start_matches([' ', '\n', '\r', '\t']).is_empty();
        (sure && (object.plain || members.tidy())).then_some(members)
    }

    /// Takes the members of the object `text` in the place of others. False in doubt.
    pub(super) fn fill(
        &mut self,
        text: &'a str,
        spans: &[Span],
        hash: Option<u64>,
        plain: bool,
    ) -> bool {
        self.named.clear();
        self.hash = hash;
        let mut spans = spans.iter();
        spans.all(|span| self.push(text, span.name(), span.value(), span.hash))
            && (plain || self.tidy())
    }

    fn push(&mut self, text: &'a str, name: Range<usize>, value: Range<usize>, hash: u64) -> bool {
        let with_quote = name.start.saturating_sub(1);
        let written = text.get(with_quote..value.end);
        let (Some(name), Some(value)) = (text.get(name), text.get(value)) else {
            return false;
        };
        let value = Raw(value);
        self.named.push(Member {
            name: name.into(),
            value,
            written,
            is_empty: is_empty(value),
            hash,
        });
        true
    }

    /// Makes names of what is written, of which the last ones of each count. False in doubt.
    fn tidy(&mut self) -> bool {
        for member in &mut self.named {
            if member.name.contains('\\') {
                let Ok(name) = serde_json::from_str(&format!("\"{}\"", member.name)) else {
                    return false;
                };
                member.name = Cow::Owned(name);
            }
        }
        self.keep_last();
        true
    }

    /// Keeps the last of the members with the same name.
    fn keep_last(&mut self) {
        let mut hashes: Vec<u64> = self.named.iter().map(Member::print).collect();
        hashes.sort_unstable();
        if hashes.windows(2).all(|two| two[0] != two[1]) {
            return;
        }
        let mut seen: HashSet<String> = HashSet::with_capacity(self.named.len());
        self.named.reverse();
        self.named
            .retain(|member| seen.insert(member.name.clone().into_owned()));
        self.named.reverse();
    }

    /// The value of a member, unless it is absent, null or empty.
    pub fn get(&self, name: &str) -> Option<Raw<'a>> {
        let named = self.named.iter().find(|member| member.name == name)?;
        (!named.is_empty).then_some(named.value)
    }

    /// The value of a member, whatever it says.
    pub fn raw(&self, name: &str) -> Option<Raw<'a>> {
        let named = self.named.iter().find(|member| member.name == name);
        named.map(|member| member.value)
    }

    /// A member's text: a string's content, or a number as it is written.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text_of(self.get(name)?)
    }

    /// The members that say something.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.saying().map(|member| (&*member.name, member.value))
    }

    /// The same with the [`canonical_hash`] of each value.
    pub(super) fn hashes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.saying().map(|member| {
            let hash = match self.hash {
                Some(_) => member.hash,
                None => canonical_hash(member.value.get().as_bytes()),
            };
            (&*member.name, hash)
        })
    }

    /// The same, as they are written.
    pub(super) fn saying(&self) -> impl Iterator<Item = &Member<'a>> {
        self.named.iter().filter(|member| !member.is_empty)
    }

    /// Leaves out what `OData` says about other members; `text` is the record's.
    pub fn leave_out_annotations(&mut self, text: &[u8]) {
        const SIGN: &str = "@odata.";
        let escaped = |member: &Member<'_>| matches!(member.name, Cow::Owned(_));
        // One look at the whole text is cheaper than one at each name, and finds hardly ever anything.
        let found = memchr::memmem::find(text, SIGN.as_bytes()).is_some();
        if found || self.named.iter().any(escaped) {
            self.named.retain(|member| !member.name.contains(SIGN));
        }
    }
}

impl Member<'_> {
    fn print(&self) -> u64 {
        xxh3_64(self.name.as_bytes())
    }
}

/// A string's content, or a number as it is written; nothing for other values.
pub fn text_of(value: Raw<'_>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
    match value.get().as_bytes().first()? {
        b'"' => {
            let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
            if is_plain(inner) {
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
fn is_empty(value: Raw<'_>) -> bool {
    let text = value.get();
    match text.as_bytes() {
        b"null" | b"\"\"" | b"[]" | b"{}" => true,
        [b'[', inner @ .., b']'] | [b'{', inner @ .., b'}'] => {
            inner.iter().all(u8::is_ascii_whitespace)
        }
        _ => false,
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct Key<'k>(#[serde(borrow)] Cow<'k, str>);

                let mut members = Members::default();
                while let Some((Key(name), value)) = map.next_entry::<_, &RawValue>()? {
                    let value = value.into();
                    members.named.push(Member {
                        name,
                        value,
                        written: None,
                        is_empty: is_empty(value),
                        hash: 0,
                    });
                }
                members.keep_last();
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Which members of a stream's records say what they are.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The member that names the record.
    pub id: &'static str,
    /// The member that says when it was changed last, when there is one.
    pub version: Option<&'static str>,
    /// The member that says when it happened.
    pub time: &'static str,
    /// Further members that name it: the `recordId` joins them by `|`.
    pub also: &'static [&'static str],
    /// A further member that tells versions of one time apart.
    pub version_also: Option<&'static str>,
    /// Members may begin with a capital, too.
    pub capitals: bool,
}

impl Identity {
    /// No further members.
    pub const PLAIN: Self = Self {
        id: "",
        version: None,
        time: "",
        also: &[],
        version_also: None,
        capitals: false,
    };
}

impl Identity {
    /// True when every record's [`Facts`] take a hash of it, which its walk may then find as well.
    pub fn takes_hash(&self) -> bool {
        self.version.is_none()
    }

    /// A member's text, under either spelling when the source has two.
    fn text<'a>(&self, members: &Members<'a>, name: &str) -> Option<Cow<'a, str>> {
        members.text(name).or_else(|| {
            // Names of another length need no closer look.
            let mut others = members.named.iter().filter(|_| self.capitals);
            let is_other = |key: &str| key.len() == name.len() && is_capitalised(key, name);
            let found = others.find(|member| is_other(&member.name))?;
            text_of(found.value).filter(|_| !found.is_empty)
        })
    }
}

/// `deviceId` → `DeviceId`.
pub fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// True when `text` is `name` with a capital.
pub fn is_capitalised(text: &str, name: &str) -> bool {
    match (text.as_bytes(), name.as_bytes()) {
        ([first, rest @ ..], [small, others @ ..]) => {
            *first == small.to_ascii_uppercase() && rest == others
        }
        (text, name) => text == name,
    }
}

/// What identifies a record, taken from it before anything is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `recordId`: the source's id, else a hash of the record.
    pub id: String,
    /// `recordVersion`: the update time where there is one, else a hash of the record.
    pub version: String,
    /// `eventTime`.
    pub time: Option<DateTime<Utc>>,
}

/// A time has many spellings; a version that is one must not become another one by its digits.
fn one_spelling(version: &str) -> String {
    parse_time(version).map_or_else(
        || version.to_owned(),
        |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    )
}

impl Facts {
    /// The facts of the record `text`, whose members are `members`.
    pub fn of(text: &[u8], members: &Members<'_>, identity: &Identity) -> Self {
        let hash = || {
            let hash = members.hash.unwrap_or_else(|| canonical_hash(text));
            format!("{hash:016x}")
        };
        let named = |member: &str| identity.text(members, member).map(Cow::into_owned);
        let mut id = named(identity.id).unwrap_or_else(hash);
        for member in identity.also {
            id.push('|');
            id.push_str(&identity.text(members, member).unwrap_or_default());
        }
        let mut version = identity
            .version
            .and_then(named)
            .map_or_else(hash, |version| one_spelling(&version));
        if let Some(also) = identity.version_also.and_then(named) {
            version.push('|');
            version.push_str(&also);
        }
        Self {
            id,
            version,
            time: identity
                .text(members, identity.time)
                .and_then(|text| parse_time(&text)),
        }
    }
}

/// A time as the sources write it: RFC 3339 with any offset, up to nine digits of a second, and
/// with the seconds left out.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%#z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z"))
        .map(|time| time.to_utc())
        // Microsoft's exports leave out that it is UTC.
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map(|time| time.and_utc())
        })
        .ok()?;
    // A leap second is the next one: no column takes `:60`.
    let time = match time.nanosecond().checked_sub(1_000_000_000) {
        None => time,
        Some(nanos) => DateTime::from_timestamp(time.timestamp() + 1, nanos)?,
    };
    // What a `datetime` column can hold.
    (1..=9999).contains(&time.year()).then_some(time)
}

/// A time as a `datetime` column takes it: 0, 3, 6 or 7 digits of a second, the fewest that show
/// it, since the service counts in steps of 100 ns.
pub fn time_text(time: DateTime<Utc>) -> String {
    let mut text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    // Nine digits are cut to seven.
    if text.len() == "2026-01-01T00:00:00.123456789Z".len() {
        text.replace_range(text.len() - 3.., "Z");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const IDENTITY: Identity = Identity {
        id: "uuid",
        version: Some("updateTime"),
        time: "t",
        ..Identity::PLAIN
    };

    fn facts(value: &Value) -> Facts {
        let text = value.to_string();
        Facts::of(
            text.as_bytes(),
            &Members::of(text.as_bytes()).unwrap(),
            &IDENTITY,
        )
    }

    #[test]
    fn facts_come_from_the_named_members() {
        let facts =
            facts(&json!({"uuid": "u-1", "updateTime": "v", "t": "2026-01-01T10:00+02:00"}));
        assert_eq!((facts.id.as_str(), facts.version.as_str()), ("u-1", "v"));
        assert_eq!(facts.time, parse_time("2026-01-01T08:00:00Z"));
    }

    #[test]
    fn what_odata_says_about_members_is_no_member() {
        for text in [
            r#"{"a":1,"a@odata.type":"t","@odata.id":"i","b@x":2}"#,
            r#"{"a":1,"a\u0040odata.type":"t","b@x":2}"#,
            r#"{"a":1,"b@x":2}"#,
        ] {
            let mut members = Members::of(text.as_bytes()).unwrap();
            members.leave_out_annotations(text.as_bytes());
            let names: Vec<&str> = members.iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["a", "b@x"], "{text}");
        }
    }

    #[test]
    fn a_capital_makes_another_spelling() {
        for name in ["", "d", "deviceId", "DeviceId", "ähnlich"] {
            assert!(is_capitalised(&capitalised(name), name), "{name}");
        }
        for text in ["deviceId", "Deviceid", "DeviceIds", "DeviceI", ""] {
            assert!(!is_capitalised(text, "deviceId"), "{text}");
        }
    }

    #[test]
    fn a_record_without_an_id_is_named_by_its_content() {
        let one = facts(&json!({"uuid": null, "a": 1}));
        assert_eq!(one.id.len(), 16);
        assert_eq!(one.id, one.version);
        assert_ne!(one, facts(&json!({"uuid": "", "a": 2})));
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
            assert!(Members::of(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Members::of(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        let members = Members::of(br#"{"a":1,"b":2,"\u0061":3,"b":""}"#).unwrap();
        let got: Vec<_> = members
            .iter()
            .map(|(key, value)| (key, value.get()))
            .collect();
        assert_eq!(got, [("a", "3")]);
        let many: Vec<String> = (0..200)
            .map(|at| format!("\"k{}\":{at}", at % 100))
            .collect();
        let text = format!("{{{}}}", many.join(","));
        let members = Members::of(text.as_bytes()).unwrap();
        assert_eq!(members.iter().count(), 100);
        assert_eq!(members.text("k7").unwrap(), "107");
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{}1{}", r#"{"a":["#.repeat(5_000), "]}".repeat(5_000));
        let members = Members::of(deep.as_bytes()).unwrap();
        let facts = Facts::of(deep.as_bytes(), &members, &IDENTITY);
        assert_eq!(facts.id.len(), 16);
    }

    #[test]
    fn control_characters_are_text_only_when_escaped() {
        assert!(Members::of(b"{\"a\":\"\0\"}").is_err());
        assert!(Members::of(b"\xef\xbb\xbf{}").is_err());
        let members = Members::of(br#"{"uuid":"\u0000"}"#).unwrap();
        assert_eq!(members.text("uuid").unwrap(), "\0");
        // Half a surrogate pair is no text: the record is then named by its content.
        let members = Members::of(br#"{"uuid":"\ud83d"}"#).unwrap();
        assert_eq!(members.text("uuid"), None);
    }

    #[test]
    fn times_are_read_as_the_sources_write_them() {
        let text = |text: &str| parse_time(text).map(time_text);
        assert_eq!(
            text("2026-01-01T00:00:00.123456789Z").unwrap(),
            "2026-01-01T00:00:00.1234567Z"
        );
        assert_eq!(
            text("2026-01-01T00:00:00.1Z").unwrap(),
            "2026-01-01T00:00:00.100Z"
        );
        assert_eq!(text("2026-01-01T00:00Z").unwrap(), "2026-01-01T00:00:00Z");
        assert_eq!(
            text("2026-01-01T02:00+02:00").unwrap(),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(
            text("2016-12-31T23:59:60.5Z").unwrap(),
            "2017-01-01T00:00:00.500Z"
        );
        assert_eq!(text("9999-12-31T23:59:59-01:00"), None);
        assert_eq!(text("0000-01-01T00:00:00Z"), None);
        assert_eq!(text("yesterday"), None);
        assert_eq!(text("2026-01-01"), None);
    }

    proptest! {
        #[test]
        fn a_time_that_was_written_is_read_back(seconds in 0i64..4_000_000_000, tick in 0u32..10_000_000) {
            let time = DateTime::from_timestamp(seconds, tick * 100).unwrap();
            prop_assert_eq!(parse_time(&time_text(time)), Some(time));
        }
    }
}
