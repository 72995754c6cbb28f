//! What identifies a record.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::core::json::{
    record::{JsonObject, KeyOrderCache, text_of},
    scan::key_of,
    time::parse_time,
};

/// Which members of a stream's records say what they are.
#[derive(Debug, Clone, Copy)]
pub struct KeyRule {
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

impl KeyRule {
    /// No further members.
    pub const PLAIN: Self = Self {
        id: "",
        version: None,
        time: "",
        also: &[],
        version_also: None,
        capitals: false,
    };

    /// True when every record's [`RecordMeta`] take a hash of it, which its walk may then find as well.
    pub fn takes_hash(&self) -> bool {
        self.version.is_none()
    }
}

/// `deviceId` → `DeviceId`, and `osVersion` → `OSVersion`, as the service writes it.
pub fn capitalised(name: &str) -> String {
    if let Some(rest) = after_os(name) {
        return format!("OS{rest}");
    }
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// What stands behind the `os` of a name that has this word first.
fn after_os(name: &str) -> Option<&str> {
    let is_word = |rest: &&str| rest.starts_with(|letter: char| letter.is_ascii_uppercase());
    name.strip_prefix("os").filter(is_word)
}

/// True when `text` is `name` with a capital.
pub fn is_capitalised(text: &str, name: &str) -> bool {
    if let Some(rest) = after_os(name) {
        return text.strip_prefix("OS") == Some(rest);
    }
    match (text.as_bytes(), name.as_bytes()) {
        ([first, rest @ ..], [small, others @ ..]) => {
            *first == small.to_ascii_uppercase() && rest == others
        }
        (text, name) => text == name,
    }
}

/// What identifies a record, taken from it before anything is added.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RecordMeta {
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

impl RecordMeta {
    /// The facts of the record whose members are `members`.
    pub fn of(members: &JsonObject<'_>, identity: &KeyRule) -> Self {
        let mut facts = Self::default();
        MetaReader::new(identity).find(members, &mut MetaIndex::default(), &mut facts);
        facts
    }
}

/// Finds the [`RecordMeta`] of a stream's records by one look at each of their members.
#[derive(Debug, Clone)]
pub struct MetaReader {
    names: Vec<WantedName>,
    id: Wanted,
    version: Option<Wanted>,
    time: Wanted,
    also: Vec<Wanted>,
    version_also: Option<Wanted>,
}

#[derive(Debug, Clone)]
struct WantedName {
    key: u64,
    text: String,
}

/// The places of a name's spellings among the names.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    plain: usize,
    /// Nothing, where there is one spelling.
    capital: Option<usize>,
}

/// Where the members of a record stand that have the names of an [`MetaReader`].
#[derive(Debug, Default)]
pub struct MetaIndex {
    at: Vec<Option<u32>>,
    last: KeyOrderCache,
}

impl MetaIndex {
    fn find(&mut self, names: &[WantedName], members: &JsonObject<'_>) {
        if !self.last.are_those_of(members) {
            self.at.clear();
            let place = |name: &WantedName| members.place(&name.text, name.key);
            self.at.extend(names.iter().map(place));
        }
    }

    /// The text of a member, under either spelling.
    fn text<'a>(&self, wanted: Wanted, members: &JsonObject<'a>) -> Option<Cow<'a, str>> {
        let text = |place: usize| {
            let at = self.at.get(place).copied().flatten()?;
            text_of(members.at(at)?.value())
        };
        text(wanted.plain).or_else(|| text(wanted.capital?))
    }
}

impl MetaReader {
    /// Finds what `identity` names.
    pub fn new(identity: &KeyRule) -> Self {
        let mut names: Vec<WantedName> = Vec::new();
        let mut place = |text: String| {
            let known = names.iter().position(|name| name.text == text);
            known.unwrap_or_else(|| {
                let key = key_of(&text);
                names.push(WantedName { key, text });
                names.len() - 1
            })
        };
        let mut wanted = |name: &str| Wanted {
            plain: place(name.to_owned()),
            capital: identity.capitals.then(|| place(capitalised(name))),
        };
        let id = wanted(identity.id);
        let version = identity.version.map(&mut wanted);
        let time = wanted(identity.time);
        let also = identity.also.iter().map(|name| wanted(name)).collect();
        let version_also = identity.version_also.map(&mut wanted);
        Self {
            names,
            id,
            version,
            time,
            also,
            version_also,
        }
    }

    /// Finds the facts of the record whose members are `members`, in the place of those of another one.
    pub fn find(&self, members: &JsonObject<'_>, places: &mut MetaIndex, facts: &mut RecordMeta) {
        places.find(&self.names, members);
        let text = |wanted: Wanted| places.text(wanted, members);
        facts.id.clear();
        match text(self.id) {
            Some(id) => facts.id.push_str(&id),
            None => push_hexadecimal(&mut facts.id, members.hash()),
        }
        for wanted in &self.also {
            facts.id.push('|');
            facts.id.push_str(&text(*wanted).unwrap_or_default());
        }
        facts.version.clear();
        match self.version.and_then(text) {
            Some(version) => facts.version.push_str(&one_spelling(&version)),
            None => push_hexadecimal(&mut facts.version, members.hash()),
        }
        if let Some(also) = self.version_also.and_then(text) {
            facts.version.push('|');
            facts.version.push_str(&also);
        }
        facts.time = text(self.time).and_then(|text| parse_time(&text));
    }
}

/// Sixteen digits.
fn push_hexadecimal(text: &mut String, hash: u64) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits: [u8; 16] = std::array::from_fn(|at| DIGITS[(hash >> (60 - 4 * at) & 15) as usize]);
    text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const IDENTITY: KeyRule = KeyRule {
        id: "uuid",
        version: Some("updateTime"),
        time: "t",
        ..KeyRule::PLAIN
    };

    fn facts(value: &Value) -> RecordMeta {
        let text = value.to_string();
        RecordMeta::of(&JsonObject::of(text.as_bytes()).unwrap(), &IDENTITY)
    }

    #[test]
    fn facts_come_from_the_named_members() {
        let facts =
            facts(&json!({"uuid": "u-1", "updateTime": "v", "t": "2026-01-01T10:00+02:00"}));
        assert_eq!((facts.id.as_str(), facts.version.as_str()), ("u-1", "v"));
        assert_eq!(facts.time, parse_time("2026-01-01T08:00:00Z"));
    }

    #[test]
    fn a_capital_makes_another_spelling() {
        for name in [
            "",
            "d",
            "os",
            "osVersion",
            "oscar",
            "deviceId",
            "DeviceId",
            "ähnlich",
        ] {
            assert!(is_capitalised(&capitalised(name), name), "{name}");
        }
        for text in ["deviceId", "Deviceid", "DeviceIds", "DeviceI", ""] {
            assert!(!is_capitalised(text, "deviceId"), "{text}");
        }
        assert_eq!(capitalised("osVersion"), "OSVersion");
        assert!(!is_capitalised("OsVersion", "osVersion"));
        assert_eq!(capitalised("oscar"), "Oscar");
    }

    #[test]
    fn a_record_without_an_id_is_named_by_its_content() {
        let one = facts(&json!({"uuid": null, "a": 1}));
        assert_eq!(one.id.len(), 16);
        assert_eq!(one.id, one.version);
        assert_ne!(one, facts(&json!({"uuid": "", "a": 2})));
    }

    #[test]
    fn a_member_with_a_capital_stands_in_for_one_that_says_nothing() {
        let identity = KeyRule {
            version_also: Some("status"),
            also: &["part"],
            capitals: true,
            ..IDENTITY
        };
        let facts =
            |text: &str| RecordMeta::of(&JsonObject::of(text.as_bytes()).unwrap(), &identity);
        let both = facts(r#"{"Uuid":"B","uuid":"a","Status":"New","part":"","Part":7}"#);
        assert_eq!(both.id, "a|7");
        assert!(both.version.ends_with("|New"));
        assert_eq!(facts(r#"{"Uuid":"B","uuid":null}"#).id, "B|");
        assert_eq!(facts(r#"{"UUID":"B","UpdateTime":"v"}"#).version, "v");
    }
}
