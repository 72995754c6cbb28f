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

/// More small rows of a bucket than this become one row at the next addition.
const MAX_ROWS: i64 = 64;

/// A row of so many bytes stays as it is: to write a large bucket anew time and again would take the
/// memory and the time that it is large by.
const LARGE: i64 = 64 << 10;

#[async_trait]
impl Fingerprints for SqliteStorage {
    async fn fingerprints(&self, set: &str, bucket: i64) -> Result<Vec<u64>> {
        let set = set.to_owned();
        self.file
            .with(move |connection| hashes(connection, &set, bucket, i64::MAX))
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

/// The fingerprints of the rows that are shorter than so many bytes.
fn hashes(
    connection: &Connection,
    set: &str,
    bucket: i64,
    shorter_than: i64,
) -> rusqlite::Result<Vec<u64>> {
    let mut statement = connection.prepare_cached(
        "SELECT hashes FROM connector_fingerprints
         WHERE name = ?1 AND bucket = ?2 AND length(hashes) < ?3",
    )?;
    let mut rows = statement.query(params![set, bucket, shorter_than])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let Ok(bytes) = row.get_ref(0)?.as_blob() else {
            tracing::warn!(
                set,
                bucket,
                "fingerprints were changed by somebody else; records of that time may land once more"
            );
            continue;
        };
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
            "SELECT count(*) FROM connector_fingerprints
             WHERE name = ?1 AND bucket = ?2 AND length(hashes) < ?3",
        )?
        .query_row(params![set, bucket, LARGE], |row| row.get(0))?;
    if rows <= MAX_ROWS {
        return Ok(());
    }
    let mut all = hashes(connection, set, bucket, LARGE)?;
    all.sort_unstable();
    all.dedup();
    connection.execute(
        "DELETE FROM connector_fingerprints
         WHERE name = ?1 AND bucket = ?2 AND length(hashes) < ?3",
        params![set, bucket, LARGE],
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
        let (rows, _) = added(1).await;
        assert!(rows <= MAX_ROWS, "{rows}");
    }

    #[tokio::test]
    async fn a_large_bucket_is_not_written_anew() {
        let (rows, longest) = added(100).await;
        assert!(rows <= MAX_ROWS, "{rows}");
        assert!(longest < 2 * LARGE, "{longest}");
    }

    /// How many rows a bucket has, and how long the longest is, when so many pairs of fingerprints
    /// were added 200 times.
    async fn added(pairs: u64) -> (i64, i64) {
        let folder = tempfile::tempdir().unwrap();
        let file = EmbeddedFile::open(folder.path()).unwrap();
        let storage = SqliteStorage::new(Arc::clone(&file)).unwrap();
        for first in (0..200).map(|at| at * pairs) {
            let hashes = (first..first + pairs).flat_map(|hash| [hash, u64::MAX - hash]);
            let added = [(7, hashes.collect())];
            storage.add_fingerprints("set", &added).await.unwrap();
        }
        let mut found = storage.fingerprints("set", 7).await.unwrap();
        found.sort_unstable();
        let all = 200 * pairs;
        let expected: Vec<u64> = (0..all).chain(u64::MAX - (all - 1)..=u64::MAX).collect();
        assert_eq!(found, expected);
        file.with(|connection| {
            let sql = "SELECT count(*), max(length(hashes)) FROM connector_fingerprints";
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
        .unwrap()
    }
}
