//! Connections: one tenant each, and how often its streams are read.
//!
//! Without `CONNECTIONS` the flat settings are one connection, `default`. With it, each entry
//! inherits the flat settings and may set its own. Secrets don't belong in an entry, which people
//! paste into tickets: the password of a connection `contoso` is the setting
//! `CONTOSO_ESET_PASSWORD`, or `CONTOSO_DEFENDER_CLIENT_SECRET`, i.e. its name in upper case, `_` for
//! `-`, in front of the flat name.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{
    azure::SecretSource,
    defender::DefenderSettings,
    environment::{Environment, scalar_text},
    eset::EsetSettings,
    names::{self, Scope},
    pace::Paces,
    reader::{Problems, Read, Reader},
    values,
};

/// The name of the one connection of the flat settings.
pub const DEFAULT_CONNECTION: &str = "default";

/// The longest name: it becomes a part of keys in the storage.
const MAX_NAME: usize = 63;

/// One named set of settings for a source.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its name: lower case letters, digits and `-`.
    pub name: String,
    /// What is pulled, and how.
    pub source: Source,
    /// How often and how far its streams are read.
    pub paces: Paces,
}

/// A source with its settings.
#[derive(Debug, Clone)]
pub enum Source {
    /// ESET PROTECT Platform.
    Eset(EsetSettings),
    /// Microsoft Defender.
    Defender(DefenderSettings),
}

/// What a connection may be to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionKind {
    Eset,
    Defender,
}

const KINDS: &[(&str, ConnectionKind)] = &[
    ("eset", ConnectionKind::Eset),
    ("defender", ConnectionKind::Defender),
];

/// The secrets of connections, by their flat names.
const ESET_PASSWORD: &str = "ESET_PASSWORD";
const DEFENDER_SECRET: &str = "DEFENDER_CLIENT_SECRET";

/// An element of `CONNECTIONS`.
struct ConnectionEntry {
    name: String,
    kind: ConnectionKind,
    every: Option<Duration>,
    own: BTreeMap<String, String>,
}

/// All connections; none when nothing about a source is set.
pub(super) fn read(environment: &Environment, noted: &mut Problems) -> Vec<Connection> {
    let mut reader = Reader::new(environment, noted);
    if !reader.is_set("CONNECTIONS") {
        let wants = (
            EsetSettings::wanted(&reader),
            DefenderSettings::wanted(&reader),
        );
        if wants == (false, false) {
            return Vec::new();
        }
        let paces = Paces::read(&mut reader, environment, None, &BTreeMap::new());
        let mut sources = Vec::new();
        if wants.0 {
            let eset = EsetSettings::read(&mut reader, |reader| {
                match reader.secret(ESET_PASSWORD)? {
                    Some(password) => Ok(SecretSource::Given(password)),
                    None if reader.is_set("KEY_VAULT_URL") => {
                        Ok(SecretSource::in_vault(ESET_PASSWORD, None))
                    }
                    None => Err(reader.missing(ESET_PASSWORD)),
                }
            });
            sources.extend(eset.map(Source::Eset));
        }
        if wants.1 {
            let defender =
                DefenderSettings::read(&mut reader, |reader| client_secret(reader, None));
            sources.extend(defender.map(Source::Defender));
        }
        let connection = |source| Connection {
            name: DEFAULT_CONNECTION.to_owned(),
            source,
            paces: paces.clone(),
        };
        return sources.into_iter().map(connection).collect();
    }

    let list = reader.required("CONNECTIONS", |text| {
        serde_json::from_str::<Vec<Value>>(text).map_err(|error| {
            format!(
                "is not a JSON array: line {}, column {}",
                error.line(),
                error.column()
            )
        })
    });
    let Ok(list) = list else { return Vec::new() };
    let mut names_so_far: Vec<String> = Vec::new();
    let mut connections = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let Ok(entry) = entry(index, value, &mut Reader::new(environment, noted)) else {
            continue;
        };
        let mut reader = Reader::of_connection(environment, &entry.name, &entry.own, noted);
        if names_so_far.contains(&entry.name) {
            reader.problem("CONNECTIONS", "names the connection twice");
            continue;
        }
        names_so_far.push(entry.name.clone());
        let paces = Paces::read(&mut reader, environment, entry.every, &entry.own);
        let source = match entry.kind {
            ConnectionKind::Eset => {
                let own_login = entry.own.contains_key("ESET_LOGIN");
                EsetSettings::read(&mut reader, |reader| {
                    password(reader, &entry.name, own_login)
                })
                .map(Source::Eset)
            }
            ConnectionKind::Defender => {
                let own_app = entry.own.contains_key("DEFENDER_CLIENT_ID");
                DefenderSettings::read(&mut reader, |reader| {
                    client_secret(reader, Some((&entry.name, own_app)))
                })
                .map(Source::Defender)
            }
        };
        if let Ok(source) = source {
            connections.push(Connection {
                name: entry.name.clone(),
                source,
                paces,
            });
        }
    }
    connections
}

/// The names of settings that exist because a connection has that name.
pub(super) fn secret_names(connections: &[Connection]) -> Vec<String> {
    connections
        .iter()
        .flat_map(|connection| {
            [ESET_PASSWORD, DEFENDER_SECRET].map(|setting| secret_name(&connection.name, setting))
        })
        .collect()
}

fn secret_name(connection: &str, setting: &str) -> String {
    format!("{}_{setting}", names::in_capitals(connection))
}

/// The secret of an app registration. Without one there may be a certificate, or an identity. An app
/// of a connection's own has a secret of its own.
fn client_secret(
    reader: &mut Reader<'_>,
    connection: Option<(&str, bool)>,
) -> Read<Option<SecretSource>> {
    let own_app = connection.is_some_and(|(_, own_app)| own_app);
    if let Some((name, _)) = connection
        && let Some(secret) = reader.secret(&secret_name(name, DEFENDER_SECRET))?
    {
        return Ok(Some(SecretSource::Given(secret)));
    }
    if !own_app && let Some(secret) = reader.secret(DEFENDER_SECRET)? {
        return Ok(Some(SecretSource::Given(secret)));
    }
    let is_app =
        reader.is_set("DEFENDER_CLIENT_ID") && !reader.is_set("DEFENDER_CLIENT_CERTIFICATE_PATH");
    if is_app && reader.is_set("KEY_VAULT_URL") {
        let own = connection.filter(|_| own_app).map(|(name, _)| name);
        return Ok(Some(SecretSource::in_vault(DEFENDER_SECRET, own)));
    }
    Ok(None)
}

/// A login of its own with a password of somebody else would lock an account.
fn password(reader: &mut Reader<'_>, connection: &str, own_login: bool) -> Read<SecretSource> {
    let name = secret_name(connection, ESET_PASSWORD);
    if let Some(password) = reader.secret(&name)? {
        return Ok(SecretSource::Given(password));
    }
    if !own_login && let Some(password) = reader.secret(ESET_PASSWORD)? {
        return Ok(SecretSource::Given(password));
    }
    if reader.is_set("KEY_VAULT_URL") {
        let own = own_login.then_some(connection);
        return Ok(SecretSource::in_vault(ESET_PASSWORD, own));
    }
    Err(reader.problem(
        &name,
        "is not set: password of the connection's ESET API user",
    ))
}

fn entry(index: usize, value: &Value, reader: &mut Reader<'_>) -> Read<ConnectionEntry> {
    let whose = format!("element {}", index + 1);
    let mut wrong = |text: String| reader.problem("CONNECTIONS", format!("{whose}: {text}"));
    let Some(object) = value.as_object() else {
        return Err(wrong("is not an object".to_owned()));
    };
    let name = match object.get("name").and_then(Value::as_str) {
        Some(name) if is_name(name) => name,
        _ => {
            return Err(wrong(format!(
                "`name` must begin with a lower case letter or a digit and hold only those and `-`, at most {MAX_NAME}"
            )));
        }
    };
    let mut result = Ok(());
    if let Some(key) = object
        .keys()
        .find(|key| !["name", "source", "every", "settings"].contains(&key.as_str()))
    {
        result = Err(wrong(format!(
            "`{key}` is unknown; there are `name`, `source`, `every`, `settings`"
        )));
    }
    let source = object.get("source").and_then(Value::as_str);
    let kind = KINDS.iter().find(|(name, _)| source == Some(*name));
    if kind.is_none() {
        result = Err(wrong("`source` must be `eset` or `defender`".to_owned()));
    }
    let every = match object.get("every") {
        None => Ok(None),
        Some(every) => values::duration(every.as_str().unwrap_or_default())
            .map(Some)
            .map_err(|text| wrong(format!("`every` {text}"))),
    };
    let none = Map::new();
    let own = match object.get("settings") {
        None => own(name, &none, reader),
        Some(Value::Object(settings)) => own(name, settings, reader),
        Some(_) => Err(wrong("`settings` must be an object".to_owned())),
    };
    result?;
    Ok(ConnectionEntry {
        name: name.to_owned(),
        kind: kind.map_or(ConnectionKind::Eset, |(_, kind)| *kind),
        every: every?,
        own: own?,
    })
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && !name.starts_with('-')
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The settings of an entry under their proper names.
fn own(
    connection: &str,
    settings: &Map<String, Value>,
    reader: &mut Reader<'_>,
) -> Read<BTreeMap<String, String>> {
    let mut own = BTreeMap::new();
    let mut result = Ok(());
    for (name, value) in settings {
        let setting = names::setting(name);
        let is_secret =
            |setting: &names::Setting| setting.secret && setting.scope == Scope::Connection;
        let refusal = if setting.is_some_and(is_secret) {
            Some(format!(
                "is a secret, which `CONNECTIONS` must not hold: put it into the setting `{}`",
                secret_name(connection, setting.map_or(name, |setting| setting.name))
            ))
        } else if names::stream_of(name).is_some() {
            None
        } else {
            match setting.map(|setting| setting.scope) {
                Some(Scope::Connection) => None,
                Some(_) => Some(
                    "applies to the whole app, not to a connection: set it outside `CONNECTIONS`"
                        .to_owned(),
                ),
                None => Some(unknown(name)),
            }
        };
        let text = scalar_text(value);
        let problem = refusal.or_else(|| {
            text.is_none()
                .then(|| "must be a text, a number, true or false".to_owned())
        });
        match (problem, text) {
            (None, Some(text)) if !text.trim().is_empty() => {
                let name = setting.map_or(name.as_str(), |setting| setting.name);
                own.insert(name.to_owned(), text);
            }
            (None, _) => {}
            (Some(problem), _) => {
                let place = format!("connection `{connection}`: `{name}` {problem}");
                result = Err(reader.problem("CONNECTIONS", place));
            }
        }
    }
    result.map(|()| own)
}

fn unknown(name: &str) -> String {
    let candidates = names::SETTINGS
        .iter()
        .filter(|setting| setting.scope == Scope::Connection)
        .map(|setting| setting.name);
    match names::nearest(name, candidates) {
        Some(near) => format!("is unknown; did you mean `{near}`?"),
        None => "is unknown".to_owned(),
    }
}
