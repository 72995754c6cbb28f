//! Assets: what of a record is kept of a machine, what it is found by, and the answer about it.
//!
//! A record becomes a [`Change`] by the [`Asset`] of its endpoint: an entry that is found by its
//! keys, or the end of one. A store keeps the entries; [`answer`] puts them together.

use ::core::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::core::json::record::{JsonObject, JsonSlice};

pub mod answer;
mod key;

pub use key::{Sought, address, host_keys};

/// What an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A machine.
    Machine,
    /// An open alert of one or more machines.
    Alert,
    /// A vulnerability of a piece of software on a machine.
    Vulnerability,
    /// What is known of a vulnerability, wherever it was found.
    Catalogue,
}

impl Kind {
    /// Its name in stores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Alert => "alert",
            Self::Vulnerability => "vulnerability",
            Self::Catalogue => "catalogue",
        }
    }

    /// The one key of an entry, where that follows from its id: a store need not remember by what
    /// such an entry was found.
    pub fn key_of(self, id: &str) -> Option<String> {
        match self {
            Self::Machine | Self::Alert => None,
            // {machineId}-_-{cve}-_-{vendor}-_-…
            Self::Vulnerability => Some(plain(id.split("-_-").next().unwrap_or(id))),
            Self::Catalogue => Some(plain(id)),
        }
    }
}

/// Names an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The connection that it came by.
    pub connection: String,
    /// What it tells of.
    pub kind: Kind,
    /// The `recordId`.
    pub id: String,
}

/// What is kept of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; an entry of the same name is replaced, its keys included.
    pub name: Name,
    /// What it is found by, each once.
    pub keys: Vec<String>,
    /// What is known, a JSON object of less than 32,000 characters.
    pub body: String,
}

/// What a record means for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is how it is now.
    Kept(Entry),
    /// There is nothing to tell of it any more.
    Gone(Name),
}

impl Change {
    /// What it is about.
    pub fn name(&self) -> &Name {
        match self {
            Self::Kept(entry) => &entry.name,
            Self::Gone(name) => name,
        }
    }
}

/// What of a stream's records is an asset, or belongs to one.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// What a record tells of.
    pub kind: Kind,
    /// What it is found by; nothing for kinds whose key follows from the id.
    pub keys: &'static [Key],
    /// What is kept: their name, our name, and in which form.
    pub members: &'static [(&'static str, &'static str, Form)],
    /// The member and the value of a record that there is nothing to tell of any more.
    pub closed: Option<(&'static str, &'static str)>,
}

/// A member that a record is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Its text.
    Text(&'static str),
    /// A host name: whole, and without its domain.
    Host(&'static str),
    /// An address.
    Address(&'static str),
    /// The addresses in the second member of each object of a list.
    Addresses(&'static str, &'static str),
    /// The texts in the second member of each object of a list.
    Each(&'static str, &'static str),
}

/// How a member is kept. What has another form is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text, or a number as it is written.
    Text,
    /// A list of texts.
    Texts,
    /// The addresses of a record's keys, in place of the member.
    Addresses,
    /// A number.
    Number,
    /// True or false.
    Flag,
}

/// Longer texts are cut: an entry has to fit a property of Table Storage (32,000 characters).
const MAX_TEXT: usize = 300;

/// Of longer lists the beginning is kept.
const MAX_LIST: usize = 40;

/// A longer id is not one of the source's.
const MAX_ID: usize = 1_000;

impl Asset {
    /// What a record means. Nothing when it says of no machine that it is about it.
    pub fn change(&self, connection: &str, id: &str, record: &JsonObject<'_>) -> Option<Change> {
        if id.len() > MAX_ID {
            return None;
        }
        let keys = match self.kind.key_of(id) {
            Some(key) => vec![key],
            None => self.keys(record),
        };
        if keys.is_empty() {
            return None;
        }
        let name = self.name(connection, id);
        let closed = self.closed.is_some_and(|(member, value)| {
            let text = record.text(member);
            text.is_some_and(|text| text.eq_ignore_ascii_case(value))
        });
        if closed {
            return Some(Change::Gone(name));
        }
        let mut body = kept(record, self.members, &keys);
        body.insert("id".to_owned(), cut(id).into());
        Some(Change::Kept(Entry {
            name,
            keys,
            body: Value::Object(body).to_string(),
        }))
    }

    /// What it means that a record has vanished.
    pub fn gone(&self, connection: &str, id: &str) -> Change {
        Change::Gone(self.name(connection, id))
    }

    fn name(&self, connection: &str, id: &str) -> Name {
        Name {
            connection: connection.to_owned(),
            kind: self.kind,
            id: id.to_owned(),
        }
    }

    fn keys(&self, record: &JsonObject<'_>) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for key in self.keys {
            let found = match *key {
                Key::Text(member) => texts(record, member, None)
                    .map(|text| plain(&text))
                    .collect(),
                Key::Host(member) => record.text(member).map_or_else(Vec::new, |t| host_keys(&t)),
                Key::Address(member) => addresses(texts(record, member, None)),
                Key::Addresses(list, member) => addresses(texts(record, list, Some(member))),
                Key::Each(list, member) => {
                    let texts = texts(record, list, Some(member));
                    texts.map(|text| plain(&text)).collect()
                }
            };
            for key in found {
                // A key that nobody who looks for it would find is none.
                let is_sought = Sought::of(&key) == Sought::Key(key.clone());
                if is_sought && key.len() <= MAX_TEXT && !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        // The first ones say more than the last ones: an id comes before the fortieth address.
        keys.truncate(MAX_LIST);
        keys
    }
}

/// The members of a record that are kept, under our names. `keys` are what it is found by.
pub fn kept(
    record: &JsonObject<'_>,
    members: &[(&str, &str, Form)],
    keys: &[String],
) -> Map<String, Value> {
    let mut kept = Map::new();
    for (theirs, ours, form) in members {
        let text = || record.text(theirs);
        let value = match form {
            Form::Text => text().map(|text| cut(&text).into()),
            Form::Number => text()
                .and_then(|text| text.parse::<f64>().ok())
                .filter(|number| number.is_finite())
                .map(Value::from),
            Form::Flag => match record.get(theirs).map(JsonSlice::get) {
                Some("true") => Some(true.into()),
                Some("false") => Some(false.into()),
                _ => None,
            },
            Form::Texts => {
                let texts = texts(record, theirs, None).take(MAX_LIST);
                let texts: Vec<String> = texts.map(|text| cut(&text)).collect();
                (!texts.is_empty()).then(|| json!(texts))
            }
            Form::Addresses => {
                let is_address = |key: &&String| key.parse::<IpAddr>().is_ok();
                let addresses: Vec<&String> = keys.iter().filter(is_address).collect();
                (!addresses.is_empty()).then(|| json!(addresses))
            }
        };
        kept.extend(value.map(|value| ((*ours).to_owned(), value)));
    }
    kept
}

/// The texts of a member that is one or a list of them; with `inner`, of that member of each object
/// of the list.
fn texts(
    record: &JsonObject<'_>,
    member: &str,
    inner: Option<&str>,
) -> impl Iterator<Item = String> {
    let value = record.get(member);
    let value: Value = value
        .and_then(|value| serde_json::from_str(value.get()).ok())
        .unwrap_or_default();
    let all = match value {
        Value::Array(all) => all,
        one => vec![one],
    };
    let pick = |mut value: Value| match inner {
        None => value,
        Some(inner) => value.get_mut(inner).map(Value::take).unwrap_or_default(),
    };
    let picked: Vec<String> = all
        .into_iter()
        .filter_map(|value| match pick(value) {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        })
        .collect();
    picked.into_iter()
}

fn addresses(texts: impl Iterator<Item = String>) -> Vec<String> {
    texts
        .filter_map(|text| address(&text))
        .filter(key::tells_apart)
        .map(|address| address.to_string())
        .collect()
}

/// A text as a key: ids are the same in capitals, and names with the dot of the root.
fn plain(text: &str) -> String {
    let is_outside = |letter: char| letter == '.' || letter.is_whitespace();
    let text = text.trim_start().trim_end_matches(is_outside);
    text.to_lowercase()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
#[path = "assets_tests.rs"]
mod tests;
