//! Where the list of connections is kept: an app setting holds 32 KB at most.

use std::{fmt, path::PathBuf};

use super::environment::Environment;
use crate::error::{Error, Result};

/// A place outside of the settings for the list of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListPlace {
    /// `CONNECTIONS=@connections.json`: a file.
    File(PathBuf),
    /// `CONNECTIONS=@blob:connections.json`: a blob of the storage account.
    Blob(String),
}

impl fmt::Display for ListPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file `{}`", path.display()),
            Self::Blob(name) => write!(f, "blob `{name}` of container `sentinel-connector`"),
        }
    }
}

impl ListPlace {
    /// The place that `CONNECTIONS` names; none when it holds the list itself, or nothing.
    pub fn of(environment: &Environment) -> Result<Option<Self>> {
        let value = environment.get("CONNECTIONS").map(str::trim);
        let Some(named) = value.and_then(|value| value.strip_prefix('@')) else {
            return Ok(None);
        };
        let place = match named.strip_prefix("blob:") {
            Some(name) => Self::Blob(name.to_owned()),
            None => Self::File(PathBuf::from(named)),
        };
        let is_name = |name: &str| {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
            name.chars().all(plain) && !name.starts_with('/') && !name.contains("..")
        };
        match &place {
            _ if named.is_empty() || named == "blob:" => Err(Error::config(
                "`CONNECTIONS` names no file: it must look like `@connections.json` or \
                 `@blob:connections.json`",
            )),
            Self::Blob(name) if !is_name(name) => Err(Error::config(format!(
                "`CONNECTIONS` names the blob `{name}`: a name may hold letters, digits, `.`, `_`, \
                 `-` and `/`"
            ))),
            _ => Ok(Some(place)),
        }
    }
}
