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
    azure::{FederatedIdentity, SecretSource},
    defender::DefenderSettings,
    environment::{Environment, scalar_text},
    eset::EsetSettings,
    names::{self, Scope},
    place::ListPlace,
    reader::{Noted, Problem, Problems, Read, Reader},
    streams::StreamSettings,
    values,
};
use crate::{
    core::{
        protocol::{choice::Choices, source_kind::SourceKind},
        spelling::nearest,
    },
    error::Error,
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
    /// Where it is pulled from, and how.
    pub source: Source,
    /// What is pulled.
    pub choices: Choices,
    /// What is set for single streams of it.
    pub streams: StreamSettings,
}

/// A connection of which nothing can be pulled, since what is its own in the settings is wrong. The others
/// go on.
#[derive(Debug, Clone)]
pub struct BrokenConnection {
    /// Its name; `element-3` of one without a name of its own.
    pub name: String,
    /// Its place in the list, from 1 on.
    pub element: usize,
    /// The source that it would be pulled from; none where that can't be read.
    pub kind: Option<SourceKind>,
    /// What would be pulled, as far as that can be read.
    pub choices: Choices,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl BrokenConnection {
    /// What is wrong, as one error.
    pub fn error(&self) -> Error {
        Problems {
            problems: self.problems.clone(),
            warnings: Vec::new(),
        }
        .into()
    }
}

/// A source with its settings.
#[derive(Debug, Clone)]
pub enum Source {
    /// ESET PROTECT Platform.
    Eset(EsetSettings),
    /// Microsoft Defender.
    Defender(DefenderSettings),
}

/// The members of an entry.
const KEYS: [&str; 5] = ["name", "source", "every", "disabled", "settings"];

/// The secrets of connections, by their flat names.
const ESET_PASSWORD: &str = "ESET_PASSWORD";
const DEFENDER_SECRET: &str = "DEFENDER_CLIENT_SECRET";

impl Source {
    /// One match: the settings of a source that the reader stands for, if somebody wants one. `entry` is
    /// the element of `CONNECTIONS`, if it is one.
    fn read(
        kind: SourceKind,
        reader: &mut Reader<'_>,
        entry: Option<&ConnectionEntry>,
    ) -> Option<(Read<Self>, Read<Choices>)> {
        let wanted = match kind {
            _ if entry.is_some() => true,
            SourceKind::Eset => EsetSettings::wanted(reader),
            SourceKind::Defender => DefenderSettings::wanted(reader),
        };
        wanted.then(|| match kind {
            SourceKind::Eset => {
                let (settings, choices) =
                    EsetSettings::read(reader, |reader| password(reader, entry));
                (settings.map(Self::Eset), choices)
            }
            SourceKind::Defender => {
                let (settings, choices) =
                    DefenderSettings::read(reader, |reader| client_secret(reader, entry));
                (settings.map(Self::Defender), choices)
            }
        })
    }

    /// What is pulled from a source unless a flat setting says otherwise.
    fn usual_choices(kind: SourceKind, environment: &Environment) -> Choices {
        let mut noted = Problems::default();
        for environment in [environment, &Environment::default()] {
            let reader = &mut Reader::new(environment, &mut noted);
            let choices = match kind {
                SourceKind::Eset => EsetSettings::read(reader, |_| Err(Noted)).1,
                SourceKind::Defender => DefenderSettings::read(reader, |_| Err(Noted)).1,
            };
            if let Ok(choices) = choices {
                return choices;
            }
        }
        Choices::default()
    }

    /// Where its secret is, if it needs one.
    pub fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::Eset(settings) => Some(&settings.password),
            Self::Defender(settings) => settings.client_secret.as_ref(),
        }
    }

    /// Which source it is.
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Eset(_) => SourceKind::Eset,
            Self::Defender(_) => SourceKind::Defender,
        }
    }
}

/// An element of `CONNECTIONS`.
struct ConnectionEntry {
    name: String,
    kind: SourceKind,
    disabled: bool,
    every: Option<Duration>,
    own: BTreeMap<String, String>,
}

/// All connections; none when nothing about a source is set. What is wrong with one alone is told with it.
/// Last are the names of those that are disabled.
pub(super) fn read(
    environment: &Environment,
    noted: &mut Problems,
) -> (Vec<Connection>, Vec<BrokenConnection>, Vec<String>) {
    let mut reader = Reader::new(environment, noted);
    if !reader.is_set("CONNECTIONS") {
        let wanted = SourceKind::ALL.map(|kind| Source::read(kind, &mut reader, None));
        if wanted.iter().all(Option::is_none) {
            return Default::default();
        }
        let streams = StreamSettings::read(&mut reader, environment, None, &BTreeMap::new());
        let connection = |(source, choices): (Read<Source>, Read<Choices>)| {
            Some(Connection {
                name: DEFAULT_CONNECTION.to_owned(),
                source: source.ok()?,
                choices: choices.ok()?,
                streams: streams.clone(),
            })
        };
        let read = wanted.into_iter().flatten().filter_map(connection);
        return (read.collect(), Vec::new(), Vec::new());
    }
    let Ok(list) = list(environment, &mut reader) else {
        return Default::default();
    };
    let mut names_so_far: Vec<String> = Vec::new();
    let mut connections = Vec::new();
    let mut broken = Vec::new();
    let mut disabled = Vec::new();
    for (element, value) in (1..).zip(&list) {
        let so_far = noted.problems.len();
        let mut reader = Reader::new(environment, noted);
        let read = match entry(element, value, &mut reader) {
            Ok(entry) if names_so_far.contains(&entry.name) => {
                let twice = format!("names the connection `{}` twice", entry.name);
                reader.problem("CONNECTIONS", format!("{}: {twice}", whose(element)));
                Err(WrongEntry {
                    name: None,
                    kind: Some(entry.kind),
                })
            }
            read => read,
        };
        let entry = match read {
            Ok(entry) => entry,
            Err(WrongEntry { name, kind }) => {
                // Its name must not be another one's.
                let name = name.filter(|name| !names_so_far.contains(name));
                let name = name.unwrap_or_else(|| format!("element-{element}"));
                names_so_far.push(name.clone());
                let usual = |kind| Source::usual_choices(kind, environment);
                broken.push(BrokenConnection {
                    choices: kind.map(usual).unwrap_or_default(),
                    name,
                    element,
                    kind,
                    problems: placed(element, noted.problems.split_off(so_far)),
                });
                continue;
            }
        };
        names_so_far.push(entry.name.clone());
        if entry.disabled {
            disabled.push(entry.name);
            continue;
        }
        let mut reader = Reader::of_connection(environment, &entry.name, &entry.own, noted);
        let streams = StreamSettings::read(&mut reader, environment, entry.every, &entry.own);
        let Some((source, choices)) = Source::read(entry.kind, &mut reader, Some(&entry)) else {
            continue;
        };
        // What is wrong with a flat setting is everybody's.
        let all = noted.problems.split_off(so_far).into_iter();
        let (problems, shared): (Vec<_>, Vec<_>) =
            all.partition(|problem| problem.connection.as_ref() == Some(&entry.name));
        noted.problems.extend(shared);
        match (source, choices) {
            (Ok(source), Ok(choices)) if problems.is_empty() => connections.push(Connection {
                name: entry.name,
                source,
                choices,
                streams,
            }),
            (_, choices) if !problems.is_empty() => broken.push(BrokenConnection {
                choices: choices.unwrap_or_else(|_| Source::usual_choices(entry.kind, environment)),
                name: entry.name,
                element,
                kind: Some(entry.kind),
                problems: placed(element, problems),
            }),
            _ => {}
        }
    }
    (connections, broken, disabled)
}

/// The elements of `CONNECTIONS`, or of what it names.
fn list(environment: &Environment, reader: &mut Reader<'_>) -> Read<Vec<Value>> {
    let Some(listed) = environment.listed() else {
        return match ListPlace::of(environment) {
            Ok(None) => reader.required("CONNECTIONS", elements),
            Ok(Some(place)) => {
                let text = format!("names {place}, which was not read");
                Err(reader.problem("CONNECTIONS", text))
            }
            Err(error) => {
                let text = error.to_string();
                let text = text.strip_prefix("`CONNECTIONS` ").unwrap_or(&text);
                Err(reader.problem("CONNECTIONS", text))
            }
        };
    };
    if let Some(why) = &listed.stale {
        reader.warn(
            "CONNECTIONS",
            format!("is in force as it was read before, since it can't be read again: {why}"),
        );
    }
    let named = environment.get("CONNECTIONS").unwrap_or_default();
    let list = match &listed.text {
        Ok(text) => elements(text).map_err(|text| format!("names `{named}`, which {text}")),
        Err(text) => Err(text.clone()),
    };
    list.map_err(|text| reader.problem("CONNECTIONS", text))
}

/// The elements of a list of connections.
pub(crate) fn elements(text: &str) -> values::Parsed<Vec<Value>> {
    // Editors on Windows like to begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("is empty: a list without connections is `[]`".to_owned());
    }
    serde_json::from_str::<Vec<Value>>(text).map_err(|error| {
        format!(
            "is not a JSON array: line {}, column {}",
            error.line(),
            error.column()
        )
    })
}

/// The names of settings that exist because a connection has that name.
pub(super) fn secret_names<'a>(connections: impl Iterator<Item = &'a String>) -> Vec<String> {
    connections
        .flat_map(|name| [ESET_PASSWORD, DEFENDER_SECRET].map(|setting| secret_name(name, setting)))
        .collect()
}

fn secret_name(connection: &str, setting: &str) -> String {
    format!("{}_{setting}", names::in_capitals(connection))
}

/// The secret of an app registration. Without one there may be a certificate, or an identity. An app
/// of a connection's own has a secret of its own.
fn client_secret(
    reader: &mut Reader<'_>,
    entry: Option<&ConnectionEntry>,
) -> Read<Option<SecretSource>> {
    if FederatedIdentity::wanted(reader)? {
        // Beside connections that have one, it may be the others'.
        for name in [DEFENDER_SECRET, "DEFENDER_CLIENT_CERTIFICATE_PATH"] {
            if entry.is_none() && reader.is_set(name) {
                let text =
                    "is not used, since `DEFENDER_CLIENT_FEDERATED` is yes: remove one of them";
                reader.warn(name, text);
            }
        }
        return Ok(None);
    }
    let own_app = entry.is_some_and(|entry| entry.own.contains_key("DEFENDER_CLIENT_ID"));
    if let Some(entry) = entry
        && let Some(secret) = reader.secret(&secret_name(&entry.name, DEFENDER_SECRET))?
    {
        return Ok(Some(SecretSource::Given(secret)));
    }
    if !own_app && let Some(secret) = reader.secret(DEFENDER_SECRET)? {
        return Ok(Some(SecretSource::Given(secret)));
    }
    let is_app =
        reader.is_set("DEFENDER_CLIENT_ID") && !reader.is_set("DEFENDER_CLIENT_CERTIFICATE_PATH");
    if !is_app {
        return Ok(None);
    }
    in_vault(reader, DEFENDER_SECRET, entry.filter(|_| own_app))
}

/// The secret in the vault, if there is one. The secret of a connection of its own has the connection's name
/// in front, but in a vault that is the connection's own as well.
fn in_vault(
    reader: &mut Reader<'_>,
    setting: &str,
    own: Option<&ConnectionEntry>,
) -> Read<Option<SecretSource>> {
    let url = reader.optional("KEY_VAULT_URL", values::https_url)?;
    let own = own.filter(|entry| !entry.own.contains_key("KEY_VAULT_URL"));
    let own = own.map(|entry| &*entry.name);
    Ok(url.map(|url| SecretSource::in_vault(url, setting, own)))
}

/// A login of its own with a password of somebody else would lock an account.
fn password(reader: &mut Reader<'_>, entry: Option<&ConnectionEntry>) -> Read<SecretSource> {
    let own = entry.map(|entry| secret_name(&entry.name, ESET_PASSWORD));
    if let Some(name) = &own
        && let Some(password) = reader.secret(name)?
    {
        return Ok(SecretSource::Given(password));
    }
    let own_login = entry.filter(|entry| entry.own.contains_key("ESET_LOGIN"));
    if own_login.is_none()
        && let Some(password) = reader.secret(ESET_PASSWORD)?
    {
        return Ok(SecretSource::Given(password));
    }
    if let Some(kept) = in_vault(reader, ESET_PASSWORD, own_login)? {
        return Ok(kept);
    }
    Err(match own {
        None => reader.missing(ESET_PASSWORD),
        Some(name) => reader.problem(
            &name,
            "is not set: password of the connection's ESET API user",
        ),
    })
}

/// The problems of an element, each with its place in the list.
fn placed(element: usize, mut problems: Vec<Problem>) -> Vec<Problem> {
    let whose = whose(element);
    for problem in &mut problems {
        if !problem.text.starts_with(&whose) {
            problem.text = format!("{} ({whose} of `CONNECTIONS`)", problem.text);
        }
    }
    problems
}

fn whose(element: usize) -> String {
    format!("element {element}")
}

/// An element that is wrong: name and source, where these are right.
struct WrongEntry {
    name: Option<String>,
    kind: Option<SourceKind>,
}

/// An element of the list.
fn entry(
    element: usize,
    value: &Value,
    reader: &mut Reader<'_>,
) -> Result<ConnectionEntry, WrongEntry> {
    let whose = whose(element);
    let source = value.get("source").and_then(Value::as_str);
    let kind = SourceKind::ALL
        .into_iter()
        .find(|kind| source == Some(kind.word()));
    let mut wrong = |text: String| reader.problem("CONNECTIONS", format!("{whose}: {text}"));
    let Some(object) = value.as_object() else {
        wrong("is not an object".to_owned());
        return Err(WrongEntry { name: None, kind });
    };
    let name = match object.get("name").and_then(Value::as_str) {
        Some(name) if is_name(name) => name,
        _ => {
            wrong(format!(
                "`name` must begin with a lower case letter or a digit and hold only those and `-`, at most {MAX_NAME}"
            ));
            return Err(WrongEntry { name: None, kind });
        }
    };
    let mut result = Ok(());
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let known = KEYS.map(|key| format!("`{key}`")).join(", ");
        result = Err(wrong(format!("`{key}` is unknown; there are {known}")));
    }
    if kind.is_none() {
        let words = SourceKind::ALL.map(|kind| format!("`{}`", kind.word()));
        result = Err(wrong(format!("`source` must be {}", words.join(" or "))));
    }
    let disabled = match object.get("disabled") {
        None => Ok(false),
        Some(Value::Bool(disabled)) => Ok(*disabled),
        Some(_) => Err(wrong("`disabled` must be true or false".to_owned())),
    };
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
    let name = name.to_owned();
    match (result, kind, disabled, every, own) {
        (Ok(()), Some(kind), Ok(disabled), Ok(every), Ok(own)) => Ok(ConnectionEntry {
            name,
            kind,
            disabled,
            every,
            own,
        }),
        _ => Err(WrongEntry {
            name: Some(name),
            kind,
        }),
    }
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
    match nearest(name, candidates) {
        Some(near) => format!("is unknown; did you mean `{near}`?"),
        None => "is unknown".to_owned(),
    }
}
