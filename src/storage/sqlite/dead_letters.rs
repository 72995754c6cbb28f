//! Dead letters and originals in the embedded file.

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{OptionalExtension, Row, params};

use super::{SqliteStorage, bytes_at, text_at};
use crate::{
    core::{mapping::original::Original, position::cursor::StreamKey},
    error::Result,
    storage::{DeadLetter, DeadLetters, Originals, with_damage},
};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS connector_dead_letters (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    connection TEXT NOT NULL,
    stream TEXT NOT NULL,
    table_name TEXT NOT NULL,
    at TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS connector_dead_letters_at ON connector_dead_letters (at);
CREATE TABLE IF NOT EXISTS connector_originals (
    connection TEXT NOT NULL,
    stream TEXT NOT NULL,
    record_id TEXT NOT NULL,
    record_version TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (connection, stream, record_id, record_version)
);
";

#[async_trait]
impl DeadLetters for SqliteStorage {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<()> {
        let letters = letters.to_vec();
        self.change(move |change| {
            let mut insert = change.prepare_cached(
                "INSERT INTO connector_dead_letters
                     (id, connection, stream, table_name, at, reason, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
            )?;
            for letter in letters {
                let at = text_of(letter.at);
                insert.execute(params![
                    letter.id,
                    letter.key.connection,
                    letter.key.stream,
                    letter.table,
                    at,
                    letter.reason,
                    letter.body
                ])?;
            }
            Ok(())
        })
        .await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.file
            .with(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT id, connection, stream, table_name, at, reason, body
                         FROM connector_dead_letters ORDER BY at, seq LIMIT ?1",
                    )?
                    .query_map([limit], letter)?
                    .collect()
            })
            .await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        let id = id.to_owned();
        self.file
            .with(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT id, connection, stream, table_name, at, reason, body
                         FROM connector_dead_letters WHERE id = ?1",
                    )?
                    .query_row([id], letter)
                    .optional()
            })
            .await
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.change(move |change| {
            change.execute("DELETE FROM connector_dead_letters WHERE id = ?1", [id])
        })
        .await
        .map(drop)
    }

    async fn count_dead_letters(&self) -> Result<u64> {
        self.file
            .with(|connection| {
                let sql = "SELECT count(*) FROM connector_dead_letters";
                connection.query_row(sql, [], |row| row.get::<_, i64>(0))
            })
            .await
            .map(i64::cast_unsigned)
    }
}

/// Of fixed width, so that the order of the texts is that of the times.
pub(super) fn text_of(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A time, if it still is one.
pub(super) fn time_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<DateTime<Utc>>> {
    Ok(text_at(row, column)?.parse().ok())
}

/// A letter, as far as it can still be read: one that is damaged hides none of the others.
fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let at = time_at(row, 4)?;
    Ok(DeadLetter {
        id: text_at(row, 0)?,
        key: StreamKey {
            connection: text_at(row, 1)?,
            stream: text_at(row, 2)?,
        },
        table: text_at(row, 3)?,
        at: at.unwrap_or_default(),
        reason: with_damage(text_at(row, 5)?, &[(at.is_none(), "its time is missing")]),
        body: bytes_at(row, 6)?,
    })
}

#[async_trait]
impl Originals for SqliteStorage {
    async fn keep(&self, originals: &[Original]) -> Result<()> {
        let originals = originals.to_vec();
        self.change(move |change| {
            let mut insert = change.prepare_cached(
                "INSERT INTO connector_originals
                     (connection, stream, record_id, record_version, body)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (connection, stream, record_id, record_version)
                 DO UPDATE SET body = excluded.body",
            )?;
            for original in originals {
                insert.execute(params![
                    original.key.connection,
                    original.key.stream,
                    original.record_id,
                    original.record_version,
                    original.body
                ])?;
            }
            Ok(())
        })
        .await
    }

    async fn original(&self, key: &StreamKey, id: &str, version: &str) -> Result<Option<Original>> {
        let (key, id, version) = (key.clone(), id.to_owned(), version.to_owned());
        self.file
            .with(move |connection| {
                let found = connection
                    .prepare_cached(
                        "SELECT body FROM connector_originals WHERE connection = ?1
                         AND stream = ?2 AND record_id = ?3 AND record_version = ?4",
                    )?
                    .query_row(params![key.connection, key.stream, id, version], |row| {
                        row.get(0)
                    })
                    .optional()?;
                Ok(found.map(|body| Original {
                    key,
                    record_id: id,
                    record_version: version,
                    body,
                }))
            })
            .await
    }
}
