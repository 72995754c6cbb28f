//! Sightings in the embedded file: a row for each addition.

use async_trait::async_trait;
use rusqlite::params;

use super::{SqliteStorage, bytes_at};
use crate::{
    core::position::snapshot::{Sighting, decode, encode},
    error::Result,
    storage::{Sightings, Snapshots, damaged},
};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS connector_sightings (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    pass INTEGER NOT NULL,
    sightings BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS connector_sightings_pass ON connector_sightings (name, pass, id);
";

/// How many additions are read at once.
const TOGETHER: u32 = 16;

#[async_trait]
impl Snapshots for SqliteStorage {
    async fn add_sightings(&self, set: &str, pass: i64, sightings: &[Sighting]) -> Result<()> {
        if sightings.is_empty() {
            return Ok(());
        }
        let (set, bytes) = (set.to_owned(), encode(sightings));
        self.change(move |change| {
            change
                .prepare_cached(
                    "INSERT INTO connector_sightings (name, pass, sightings) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![set, pass, bytes])
        })
        .await
        .map(drop)
    }

    async fn sightings(&self, set: &str, pass: i64, from: u64) -> Result<Sightings> {
        let name = set.to_owned();
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let rows: Vec<(i64, Vec<u8>)> = self
            .file
            .with(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT id, sightings FROM connector_sightings
                         WHERE name = ?1 AND pass = ?2 AND id > ?3 ORDER BY id LIMIT ?4",
                    )?
                    .query_map(params![name, pass, from, TOGETHER], |row| {
                        Ok((row.get(0)?, bytes_at(row, 1)?))
                    })?
                    .collect()
            })
            .await?;
        let more = rows.len() == TOGETHER as usize;
        let last = rows.last().and_then(|(id, _)| u64::try_from(*id).ok());
        let mut sightings = Vec::new();
        for (_, bytes) in &rows {
            let (some, used) = decode(bytes);
            if used < bytes.len() {
                return Err(damaged(set, pass, &self.file.path().display()));
            }
            sightings.extend(some);
        }
        Ok(Sightings {
            sightings,
            next: last.filter(|_| more),
        })
    }

    async fn drop_sightings(&self, set: &str, but: &[i64]) -> Result<()> {
        let (set, but) = (set.to_owned(), but.to_vec());
        self.change(move |change| {
            let passes: Vec<i64> = change
                .prepare_cached("SELECT DISTINCT pass FROM connector_sightings WHERE name = ?1")?
                .query_map([&set], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for pass in passes.iter().filter(|pass| !but.contains(pass)) {
                change.execute(
                    "DELETE FROM connector_sightings WHERE name = ?1 AND pass = ?2",
                    params![set, pass],
                )?;
            }
            Ok(())
        })
        .await
    }
}
