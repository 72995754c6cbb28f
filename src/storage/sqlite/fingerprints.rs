//! Fingerprints in the embedded file: appended, and put together now and then.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::SqliteStorage;
use crate::{error::Result, storage::Fingerprints};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS connector_fingerprints (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    hashes BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS connector_fingerprints_bucket
    ON connector_fingerprints (name, bucket);
";

/// A bucket of more rows than this becomes one row at the next addition.
const MAX_ROWS: i64 = 64;

#[async_trait]
impl Fingerprints for SqliteStorage {
    async fn fingerprints(&self, set: &str, bucket: i64) -> Result<Vec<u64>> {
        let set = set.to_owned();
        self.file
            .with(move |connection| hashes(connection, &set, bucket))
            .await
    }

    async fn add_fingerprints(&self, set: &str, added: &[(i64, Vec<u64>)]) -> Result<()> {
        let set = set.to_owned();
        let added: Vec<(i64, Vec<u8>)> = added
            .iter()
            .filter(|(_, hashes)| !hashes.is_empty())
            .map(|(bucket, hashes)| (*bucket, to_bytes(hashes)))
            .collect();
        if added.is_empty() {
            return Ok(());
        }
        self.change(move |change| {
            for (bucket, bytes) in &added {
                insert(change, &set, *bucket, bytes)?;
                compact(change, &set, *bucket)?;
            }
            Ok(())
        })
        .await
    }

    async fn prune_fingerprints(&self, set: &str, bucket: i64) -> Result<()> {
        let set = set.to_owned();
        self.change(move |change| {
            change.execute(
                "DELETE FROM connector_fingerprints WHERE name = ?1 AND bucket < ?2",
                params![set, bucket],
            )
        })
        .await
        .map(drop)
    }
}

fn hashes(connection: &Connection, set: &str, bucket: i64) -> rusqlite::Result<Vec<u64>> {
    let mut statement = connection.prepare_cached(
        "SELECT hashes FROM connector_fingerprints WHERE name = ?1 AND bucket = ?2",
    )?;
    let mut rows = statement.query(params![set, bucket])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(0)?.as_blob()?;
        all.extend(bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes));
    }
    Ok(all)
}

fn insert(connection: &Connection, set: &str, bucket: i64, bytes: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO connector_fingerprints (name, bucket, hashes) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![set, bucket, bytes])
        .map(drop)
}

fn compact(connection: &Connection, set: &str, bucket: i64) -> rusqlite::Result<()> {
    let rows: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM connector_fingerprints WHERE name = ?1 AND bucket = ?2",
        )?
        .query_row(params![set, bucket], |row| row.get(0))?;
    if rows <= MAX_ROWS {
        return Ok(());
    }
    let mut all = hashes(connection, set, bucket)?;
    all.sort_unstable();
    all.dedup();
    connection.execute(
        "DELETE FROM connector_fingerprints WHERE name = ?1 AND bucket = ?2",
        params![set, bucket],
    )?;
    insert(connection, set, bucket, &to_bytes(&all))
}

fn to_bytes(hashes: &[u64]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::embedded::EmbeddedFile;

    #[tokio::test]
    async fn a_bucket_stays_in_few_rows_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = EmbeddedFile::open(folder.path()).unwrap();
        let storage = SqliteStorage::new(Arc::clone(&file)).unwrap();
        for hash in 0..200 {
            let added = [(7, vec![hash, u64::MAX - hash])];
            storage.add_fingerprints("set", &added).await.unwrap();
        }
        let mut found = storage.fingerprints("set", 7).await.unwrap();
        found.sort_unstable();
        let expected: Vec<u64> = (0..200).chain(u64::MAX - 199..=u64::MAX).collect();
        assert_eq!(found, expected);
        let rows: i64 = file
            .with(|connection| {
                let sql = "SELECT count(*) FROM connector_fingerprints";
                connection.query_row(sql, [], |row| row.get(0))
            })
            .await
            .unwrap();
        assert!(rows <= MAX_ROWS, "{rows}");
    }
}
