//! Reads settings one by one and writes down everything that is wrong with them.

use std::{collections::BTreeMap, fmt};

use secrecy::SecretString;

use super::{
    environment::Environment,
    names,
    values::{self, Parsed},
};
use crate::error::Error;

/// What is wrong, or strange, with one setting. It never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name, as it was found.
    pub setting: String,
    /// The connection whose own value it is.
    pub connection: Option<String>,
    /// What to do about it: the rest of a sentence that begins with the setting.
    pub text: String,
}

impl Problem {
    /// True when a secret is not set here.
    pub fn is_missing_secret(&self) -> bool {
        let is_secret = |setting: &&names::Setting| {
            let own = setting.name.trim_start_matches("<CONNECTION>");
            setting.secret && self.setting.ends_with(own)
        };
        self.text.starts_with("is not set") && names::SETTINGS.iter().any(|one| is_secret(&one))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.setting)?;
        if let Some(connection) = &self.connection {
            write!(f, " of connection `{connection}`")?;
        }
        write!(f, " {}", self.text)
    }
}

/// All that is wrong with the settings, and what was strange besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    /// These have to be fixed first.
    pub problems: Vec<Problem>,
    /// These may be meant as they are.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::config(problems.to_string())
    }
}

/// The value is wrong, and that has been written down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted;

/// A value, unless something about it was noted.
pub(super) type Read<T> = Result<T, Noted>;

/// The settings of one connection, or of the app.
pub(super) struct Reader<'a> {
    environment: &'a Environment,
    own: Option<(&'a str, &'a BTreeMap<String, String>)>,
    noted: &'a mut Problems,
}

struct FoundSetting<'a> {
    name: &'a str,
    value: &'a str,
    connection: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// Reads the flat settings.
    pub(super) fn new(environment: &'a Environment, noted: &'a mut Problems) -> Self {
        Self {
            environment,
            own: None,
            noted,
        }
    }

    /// Reads the settings of a connection: `own` first, then the flat ones.
    pub(super) fn of_connection(
        environment: &'a Environment,
        name: &'a str,
        own: &'a BTreeMap<String, String>,
        noted: &'a mut Problems,
    ) -> Self {
        Self {
            environment,
            own: Some((name, own)),
            noted,
        }
    }

    fn find<'n>(&self, name: &'n str) -> Option<FoundSetting<'n>>
    where
        'a: 'n,
    {
        if let Some((connection, own)) = self.own
            && let Some(value) = own.get(name)
        {
            return Some(FoundSetting {
                name,
                value,
                connection: Some(connection),
            });
        }
        let aliases = names::setting(name).map_or(&[][..], |setting| setting.aliases);
        [name]
            .into_iter()
            .chain(aliases.iter().copied())
            .find_map(|name| {
                Some(FoundSetting {
                    name,
                    value: self.environment.get(name)?,
                    connection: None,
                })
            })
    }

    /// True when the setting, or an alias of it, has any value.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A setting that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Read<Option<T>> {
        let Some(found) = self.find(name) else {
            return Ok(None);
        };
        let value = found.value.trim();
        match usable(value).and_then(|()| parse(value)) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(text) => Err(self.note_found(&found, text)),
        }
    }

    /// A setting with a default.
    pub(super) fn or<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Read<T> {
        Ok(self.optional(name, parse)?.unwrap_or(default))
    }

    /// A setting without which the rest makes no sense.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Read<T> {
        match self.optional(name, parse)? {
            Some(value) => Ok(value),
            None => Err(self.missing(name)),
        }
    }

    /// A secret: never trimmed, never shown.
    pub(super) fn secret(&mut self, name: &str) -> Read<Option<SecretString>> {
        let Some(found) = self.find(name) else {
            return Ok(None);
        };
        if let Err(text) = usable(found.value.trim()) {
            return Err(self.note_found(&found, text));
        }
        if found.value.trim() != found.value {
            self.warn(
                name,
                "begins or ends with white space, which is taken as part of the secret",
            );
        }
        Ok(Some(found.value.into()))
    }

    /// Notes that a setting is missing.
    pub(super) fn missing(&mut self, name: &str) -> Noted {
        let about = names::setting(name).map_or("", |setting| setting.about);
        self.problem(name, format!("is not set: {about}"))
    }

    /// Notes a problem with a setting.
    pub(super) fn problem(&mut self, name: &str, text: impl Into<String>) -> Noted {
        let connection = self.own.map(|(connection, _)| connection);
        note(&mut self.noted.problems, name, connection, text.into());
        Noted
    }

    /// Notes something that may be meant as it is.
    pub(super) fn warn(&mut self, name: &str, text: impl Into<String>) {
        let connection = self.own.map(|(connection, _)| connection);
        note(&mut self.noted.warnings, name, connection, text.into());
    }

    fn note_found(&mut self, found: &FoundSetting<'_>, text: String) -> Noted {
        note(&mut self.noted.problems, found.name, found.connection, text);
        Noted
    }
}

/// A flat setting that several connections inherit is noted once.
fn note(problems: &mut Vec<Problem>, name: &str, connection: Option<&str>, text: String) {
    let problem = Problem {
        setting: name.to_owned(),
        connection: connection.map(str::to_owned),
        text,
    };
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// Refuses what stands where a value belongs.
fn usable(value: &str) -> Parsed<()> {
    if value.starts_with("@Microsoft.KeyVault(") {
        return Err(
            "is a Key Vault reference that the platform did not resolve: give the app's \
                    identity the role `Key Vault Secrets User`, and see the reference's status in \
                    the portal"
                .to_owned(),
        );
    }
    if values::is_placeholder(value) {
        return Err(
            "still holds the placeholder of the example: put the real value there".to_owned(),
        );
    }
    Ok(())
}
