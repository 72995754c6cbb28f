//! State in the embedded file.

use std::{collections::HashMap, path::Path, sync::Arc};

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, Transaction, params, types::ValueRef};

use super::{ETag, SaveError, StateStore, json};
use crate::{
    core::position::cursor::{StreamKey, StreamState},
    embedded::EmbeddedFile,
    error::Result,
};

mod assets;
mod dead_letters;
mod fingerprints;
mod outbox;
mod owners;
mod snapshots;

/// A forgotten stream keeps its row without a state, so that its version never comes again and an
/// `ETag` from before can't match.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS connector_state (
    connection TEXT NOT NULL,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT,
    PRIMARY KEY (connection, stream)
) WITHOUT ROWID;
";

/// All that the pipeline remembers, in the embedded file.
#[derive(Debug)]
pub struct SqliteStorage {
    file: Arc<EmbeddedFile>,
    /// None where the file is only read.
    owner: Option<Arc<owners::Owner>>,
}

impl SqliteStorage {
    /// A store in `file`, whose tables are created when they are missing. Blocks.
    pub fn new(file: Arc<EmbeddedFile>) -> Result<Self> {
        let owner = Some(Arc::new(owners::Owner::new(&file.folder().join("owners"))?));
        file.with_blocking(|connection| {
            let change = connection.transaction()?;
            for schema in [
                SCHEMA,
                fingerprints::SCHEMA,
                dead_letters::SCHEMA,
                snapshots::SCHEMA,
                outbox::SCHEMA,
                assets::SCHEMA,
            ] {
                change.execute_batch(schema)?;
            }
            change.commit()
        })?;
        Ok(Self { file, owner })
    }

    /// A store to be read alone, which creates nothing; `None` when `folder` has none. Blocks.
    pub fn read_only(folder: &Path) -> Result<Option<Self>> {
        let Some(file) = EmbeddedFile::read_only(folder)? else {
            return Ok(None);
        };
        let tables: i64 = file.with_blocking(|connection| {
            let sql = "SELECT count(*) FROM sqlite_master WHERE name = 'connector_state'";
            connection.query_row(sql, [], |row| row.get(0))
        })?;
        Ok((tables > 0).then_some(Self { file, owner: None }))
    }

    /// Runs `f` in a transaction, and commits what it did when it returns `Ok`.
    async fn change<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.file
            .with(|connection| {
                let change = connection.transaction()?;
                let result = f(&change)?;
                change.commit()?;
                Ok(result)
            })
            .await
    }

    fn decode(&self, key: &StreamKey, json: &str) -> Result<StreamState> {
        json::decode(key, json, &self.file.path().display())
    }
}

#[async_trait]
impl StateStore for SqliteStorage {
    async fn load(&self, key: &StreamKey) -> Result<Option<(StreamState, ETag)>> {
        let saved = self.saved_text(key).await?;
        saved
            .map(|(json, etag)| Ok((self.decode(key, &json)?, etag)))
            .transpose()
    }

    async fn load_all(&self, keys: &[StreamKey]) -> Vec<Result<Option<(StreamState, ETag)>>> {
        let found: Result<HashMap<StreamKey, (String, ETag)>> = self
            .file
            .with(|connection| {
                connection
                    .prepare_cached(
                        "SELECT connection, stream, state, version FROM connector_state
                         WHERE state IS NOT NULL",
                    )?
                    .query_map([], |row| {
                        let (connection, stream) = (row.get(0)?, row.get(1)?);
                        let key = StreamKey { connection, stream };
                        Ok((key, (text_at(row, 2)?, etag(row.get(3)?))))
                    })?
                    .collect()
            })
            .await;
        let one = |key| {
            let Some((json, etag)) = found.as_ref().map_err(Clone::clone)?.get(key) else {
                return Ok(None);
            };
            Ok(Some((self.decode(key, json)?, etag.clone())))
        };
        keys.iter().map(one).collect()
    }

    async fn saved_text(&self, key: &StreamKey) -> Result<Option<(String, ETag)>> {
        let wanted = key.clone();
        self.file
            .with(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT state, version FROM connector_state
                         WHERE connection = ?1 AND stream = ?2 AND state IS NOT NULL",
                    )?
                    .query_row([wanted.connection, wanted.stream], |row| {
                        Ok((text_at(row, 0)?, etag(row.get(1)?)))
                    })
                    .optional()
            })
            .await
    }

    async fn save(
        &self,
        key: &StreamKey,
        state: &StreamState,
        expected: Option<&ETag>,
    ) -> std::result::Result<ETag, SaveError> {
        let expected: Option<i64> = match expected {
            None => None,
            // No version of ours: whatever it names, it is not what is there.
            Some(ETag(text)) => Some(text.parse().map_err(|_| SaveError::Conflict)?),
        };
        let key = key.clone();
        let json = json::encode(state)?;
        let saved: Option<i64> = self
            .change(move |change| {
                let StreamKey { connection, stream } = key;
                let version = |row: &rusqlite::Row<'_>| row.get(0);
                match expected {
                    Some(expected) => change
                        .prepare_cached(
                            "UPDATE connector_state SET state = ?3, version = version + 1
                             WHERE connection = ?1 AND stream = ?2 AND version = ?4
                             AND state IS NOT NULL RETURNING version",
                        )?
                        .query_row(params![connection, stream, json, expected], version),
                    None => change
                        .prepare_cached(
                            "INSERT INTO connector_state (connection, stream, state, version)
                             VALUES (?1, ?2, ?3, 1)
                             ON CONFLICT DO UPDATE
                             SET state = excluded.state, version = version + 1
                             WHERE state IS NULL RETURNING version",
                        )?
                        .query_row(params![connection, stream, json], version),
                }
                .optional()
            })
            .await?;
        saved.map(etag).ok_or(SaveError::Conflict)
    }

    async fn forget(&self, key: &StreamKey) -> Result<()> {
        let key = key.clone();
        self.change(move |change| {
            change.execute(
                "UPDATE connector_state SET state = NULL, version = version + 1
                 WHERE connection = ?1 AND stream = ?2 AND state IS NOT NULL",
                [key.connection, key.stream],
            )
        })
        .await
        .map(drop)
    }

    async fn stored_states(&self) -> Result<Vec<(StreamKey, Result<StreamState>)>> {
        let found: Vec<(StreamKey, String)> = self
            .file
            .with(|connection| {
                connection
                    .prepare_cached(
                        "SELECT connection, stream, state FROM connector_state
                         WHERE state IS NOT NULL ORDER BY connection, stream",
                    )?
                    .query_map([], |row| {
                        let (connection, stream) = (row.get(0)?, row.get(1)?);
                        Ok((StreamKey { connection, stream }, text_at(row, 2)?))
                    })?
                    .collect()
            })
            .await?;
        let found = found.into_iter();
        Ok(found
            .map(|(key, json)| {
                let state = self.decode(&key, &json);
                (key, state)
            })
            .collect())
    }

    fn owner(&self) -> String {
        let owner = self.owner.as_ref();
        owner.map_or_else(|| "a reader".to_owned(), |owner| owner.name().to_owned())
    }

    async fn is_gone(&self, owner: &str) -> bool {
        let (Some(us), owner) = (self.owner.clone(), owner.to_owned()) else {
            return false;
        };
        let gone = tokio::task::spawn_blocking(move || us.is_gone(&owner)).await;
        gone.unwrap_or(false)
    }
}

/// A text as far as it is one: whoever changes the file by hand may leave any type in a column.
fn text_at(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(&bytes_at(row, column)?).into_owned())
}

/// Bytes, or those of the text that somebody has put in their place.
fn bytes_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Vec::new(),
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) => number.to_string().into_bytes(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
    })
}

fn etag(version: i64) -> ETag {
    ETag(version.to_string())
}
