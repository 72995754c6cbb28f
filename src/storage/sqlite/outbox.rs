//! The outbox in the embedded file.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    SqliteStorage, bytes_at,
    dead_letters::{text_of, time_at},
    text_at,
};
use crate::{
    core::position::cursor::StreamKey,
    error::Result,
    storage::{Outbox, Parked, with_damage},
};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS connector_outbox (
    id TEXT PRIMARY KEY,
    connection TEXT NOT NULL,
    stream TEXT NOT NULL,
    table_name TEXT NOT NULL,
    at TEXT NOT NULL,
    rows INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
);
";

#[async_trait]
impl Outbox for SqliteStorage {
    async fn park(&self, parked: &Parked) -> Result<()> {
        let parked = parked.clone();
        self.change(move |change| {
            change
                .prepare_cached(
                    "INSERT INTO connector_outbox
                         (id, connection, stream, table_name, at, rows, reason, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
                )?
                .execute(params![
                    parked.id,
                    parked.key.connection,
                    parked.key.stream,
                    parked.table,
                    text_of(parked.at),
                    parked.rows.cast_signed(),
                    parked.reason,
                    parked.body
                ])
        })
        .await
        .map(drop)
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.file
            .with(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT id, connection, stream, table_name, at, rows, reason,
                             length(body), x''
                         FROM connector_outbox ORDER BY id LIMIT ?1",
                    )?
                    .query_map([limit], entry)?
                    .collect()
            })
            .await
    }

    async fn parked_rows(&self, id: &str) -> Result<Option<Parked>> {
        let id = id.to_owned();
        self.file
            .with(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT id, connection, stream, table_name, at, rows, reason,
                             length(body), body
                         FROM connector_outbox WHERE id = ?1",
                    )?
                    .query_row([id], entry)
                    .optional()
            })
            .await
    }

    async fn drop_parked(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.change(move |change| {
            change.execute("DELETE FROM connector_outbox WHERE id = ?1", [id])
        })
        .await
        .map(drop)
    }

    async fn outbox_size(&self) -> Result<(u64, u64)> {
        self.file
            .with(|connection| {
                let sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM connector_outbox";
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .await
            .map(|(entries, bytes): (i64, i64)| (entries.cast_unsigned(), bytes.cast_unsigned()))
    }
}

/// An entry, as far as it can still be read: one that is damaged hides none of the others, and blocks
/// nothing.
fn entry(row: &Row<'_>) -> rusqlite::Result<Parked> {
    let at = time_at(row, 4)?;
    let rows = text_at(row, 5)?.parse().ok();
    let damage = [
        (at.is_none(), "its time is missing"),
        (rows.is_none(), "its size is missing"),
    ];
    Ok(Parked {
        id: text_at(row, 0)?,
        key: StreamKey {
            connection: text_at(row, 1)?,
            stream: text_at(row, 2)?,
        },
        table: text_at(row, 3)?,
        at: at.unwrap_or_default(),
        rows: rows.unwrap_or_default(),
        reason: with_damage(text_at(row, 6)?, &damage),
        bytes: row
            .get::<_, Option<i64>>(7)?
            .unwrap_or_default()
            .cast_unsigned(),
        body: bytes_at(row, 8)?,
    })
}
