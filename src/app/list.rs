//! The list of connections, where `CONNECTIONS` names a file or a blob.

use std::{fs, io::ErrorKind, path::Path};

use crate::{
    config::{Environment, ListPlace, Mode, Settings},
    error::{Error, Result},
    io::clock::SharedClock,
    storage::azure::{AzureStorage, Changed},
};

/// A list of connections outside of the settings.
pub struct ConnectionList {
    place: ListPlace,
    /// Where blobs are; none for a file.
    account: Option<AzureStorage>,
}

/// The text of a list, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListVersion {
    /// The JSON array.
    pub text: String,
    /// The `ETag` of a blob.
    etag: Option<String>,
}

impl ConnectionList {
    /// The list that `CONNECTIONS` names; none when it holds the list itself, or nothing. Asks nobody.
    pub fn open(
        environment: &Environment,
        mode: Mode,
        clock: &SharedClock,
    ) -> Result<Option<Self>> {
        let Some(place) = ListPlace::of(environment)? else {
            return Ok(None);
        };
        let account = match &place {
            ListPlace::File(_) => None,
            ListPlace::Blob(_) => {
                let flat = environment.without_connections();
                let settings = Settings::load(&flat, mode).map_err(|problems| {
                    let what =
                        format!("`CONNECTIONS` names {place}, which waits for other settings");
                    Error::from(problems).context(what)
                })?;
                let account = super::own_account(&settings, clock)?.ok_or_else(|| {
                    Error::config(format!(
                        "`CONNECTIONS` names {place}, and there is no storage account: set \
                         `STORAGE=azure` and `AzureWebJobsStorage`, or name a file \
                         (`@connections.json`)"
                    ))
                })?;
                Some(account)
            }
        };
        Ok(Some(Self { place, account }))
    }

    /// Where it is kept.
    pub fn place(&self) -> &ListPlace {
        &self.place
    }

    /// The list, unless it is as it was; it is an error when there is none.
    pub async fn read(&self, known: Option<&ListVersion>) -> Result<Option<ListVersion>> {
        match self.look(known).await? {
            Changed::No => Ok(None),
            Changed::To(Some(version)) => Ok(Some(version)),
            Changed::To(None) => Err(Error::config(format!(
                "`CONNECTIONS` names {}, which is missing: put it there, or `connections add` makes it",
                self.place
            ))),
        }
    }

    /// The list, if there is one.
    pub async fn current(&self) -> Result<Option<ListVersion>> {
        match self.look(None).await? {
            Changed::No => Ok(None),
            Changed::To(version) => Ok(version),
        }
    }

    async fn look(&self, known: Option<&ListVersion>) -> Result<Changed<Option<ListVersion>>> {
        let failed = |error: Error| {
            error.context(format!(
                "`CONNECTIONS` names {}, which can't be read",
                self.place
            ))
        };
        match (&self.place, &self.account) {
            (ListPlace::Blob(name), Some(account)) => {
                let etag = known.and_then(|known| known.etag.as_deref());
                let read = account.connections(name, etag).await.map_err(failed)?;
                let Changed::To(found) = read else {
                    return Ok(Changed::No);
                };
                let version = found.map(|(bytes, etag)| {
                    let text = String::from_utf8(bytes.into()).map_err(|_| no_text())?;
                    let etag = Some(etag);
                    Ok(ListVersion { text, etag })
                });
                version.transpose().map(Changed::To).map_err(failed)
            }
            (ListPlace::File(path), _) => {
                let text = read_file(path.clone()).await.map_err(failed)?;
                if text.as_ref() == known.map(|known| &known.text) && known.is_some() {
                    return Ok(Changed::No);
                }
                Ok(Changed::To(
                    text.map(|text| ListVersion { text, etag: None }),
                ))
            }
            (ListPlace::Blob(_), None) => Err(failed(Error::config("there is no storage account"))),
        }
    }

    /// Writes the list over the version that was read, or where there was none.
    pub async fn write(&self, text: String, over: Option<&ListVersion>) -> Result<()> {
        let failed = |error: Error| error.context(format!("{} can't be written", self.place));
        match (&self.place, &self.account) {
            (ListPlace::Blob(name), Some(account)) => {
                let etag = over.and_then(|over| over.etag.as_deref());
                let written = account.set_connections(name, text, etag).await;
                if written.map_err(failed)? {
                    return Ok(());
                }
                Err(failed(Error::transient(
                    "somebody else has changed it meanwhile: try again",
                )))
            }
            (ListPlace::File(path), _) => write_file(path, &text).map_err(failed),
            (ListPlace::Blob(_), None) => Err(failed(Error::config("there is no storage account"))),
        }
    }
}

/// The environment with the list that `CONNECTIONS` names, read once; what is wrong with it is told with
/// the settings.
pub async fn with_list(environment: Environment, mode: Mode, clock: &SharedClock) -> Environment {
    let list = match ConnectionList::open(&environment, mode, clock) {
        Ok(None) => return environment,
        Ok(Some(list)) => list.read(None).await,
        Err(error) => Err(error),
    };
    let text = list.map(|version| version.map(|version| version.text).unwrap_or_default());
    environment.with_connections(text, None)
}

fn no_text() -> Error {
    Error::config("it is not UTF-8 text")
}

async fn read_file(path: std::path::PathBuf) -> Result<Option<String>> {
    let read = tokio::task::spawn_blocking(move || match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| no_text()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::config(error.to_string())),
    });
    read.await
        .unwrap_or_else(|_| Err(Error::transient("the reader has ended")))
}

/// Whole or not at all: somebody may read it at any time.
fn write_file(path: &Path, text: &str) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| Error::config(error.to_string()))
}
