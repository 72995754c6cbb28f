//! Assets in the embedded file: entries, and an index of their keys.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};

use super::SqliteStorage;
use crate::{
    core::assets::{Change, Entry, Kind, Name},
    error::Result,
    storage::Assets,
};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS connector_assets (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    connection TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, connection, id)
);
CREATE TABLE IF NOT EXISTS connector_asset_keys (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    asset INTEGER NOT NULL,
    PRIMARY KEY (kind, key, asset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS connector_asset_keys_asset ON connector_asset_keys (asset);
";

const FIND: &str = "
    SELECT a.connection, a.id, a.body, a.seq FROM connector_asset_keys k
    JOIN connector_assets a ON a.seq = k.asset
    WHERE k.kind = ?1 AND k.key = ?2 ORDER BY a.connection, a.id";
const KEYS: &str = "SELECT key FROM connector_asset_keys WHERE asset = ?1";
const NUMBER: &str =
    "SELECT seq FROM connector_assets WHERE kind = ?1 AND connection = ?2 AND id = ?3";
const KEEP: &str = "
    INSERT INTO connector_assets (kind, connection, id, body) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (kind, connection, id) DO UPDATE SET body = excluded.body RETURNING seq";
const ADD_KEY: &str =
    "INSERT OR IGNORE INTO connector_asset_keys (kind, key, asset) VALUES (?1, ?2, ?3)";
const DROP_KEYS: &str = "DELETE FROM connector_asset_keys WHERE asset = ?1";
const DROP: &str = "DELETE FROM connector_assets WHERE seq = ?1";

#[async_trait]
impl Assets for SqliteStorage {
    async fn file_assets(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let changes = changes.to_vec();
        self.change(move |change| {
            changes.iter().try_for_each(|one| match one {
                Change::Kept(entry) => keep(change, entry),
                Change::Gone(name) => drop_entry(change, name),
            })
        })
        .await
    }

    async fn assets(&self, kind: Kind, key: &str) -> Result<Vec<Entry>> {
        let key = key.to_owned();
        self.file
            .with(move |connection| {
                let mut keys = connection.prepare_cached(KEYS)?;
                connection
                    .prepare_cached(FIND)?
                    .query_map(params![kind.name(), key], |row| {
                        let name = Name {
                            connection: row.get(0)?,
                            kind,
                            id: row.get(1)?,
                        };
                        let keys = keys.query_map([row.get::<_, i64>(3)?], |row| row.get(0))?;
                        Ok(Entry {
                            name,
                            keys: keys.collect::<rusqlite::Result<_>>()?,
                            body: row.get(2)?,
                        })
                    })?
                    .collect()
            })
            .await
    }
}

fn keep(change: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let Name {
        connection,
        kind,
        id,
    } = &entry.name;
    let asset: i64 = change
        .prepare_cached(KEEP)?
        .query_row(params![kind.name(), connection, id, entry.body], |row| {
            row.get(0)
        })?;
    change.prepare_cached(DROP_KEYS)?.execute([asset])?;
    let mut add = change.prepare_cached(ADD_KEY)?;
    for key in &entry.keys {
        add.execute(params![kind.name(), key, asset])?;
    }
    Ok(())
}

fn drop_entry(change: &Transaction<'_>, name: &Name) -> rusqlite::Result<()> {
    let asset: Option<i64> = change
        .prepare_cached(NUMBER)?
        .query_row(params![name.kind.name(), name.connection, name.id], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(asset) = asset {
        change.prepare_cached(DROP_KEYS)?.execute([asset])?;
        change.prepare_cached(DROP)?.execute([asset])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedFile;

    #[tokio::test]
    async fn no_question_goes_through_a_whole_table() {
        let folder = tempfile::tempdir().unwrap();
        let file = EmbeddedFile::open(folder.path()).unwrap();
        SqliteStorage::new(std::sync::Arc::clone(&file)).unwrap();
        for sql in [FIND, KEYS, NUMBER, DROP_KEYS, DROP] {
            let plan: Vec<String> = file
                .with(move |connection| {
                    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                    // What is asked for is left open: the plan does not depend on it.
                    let mut rows = statement.raw_query();
                    let mut plan = Vec::new();
                    while let Some(row) = rows.next()? {
                        plan.push(row.get(3)?);
                    }
                    Ok(plan)
                })
                .await
                .unwrap();
            assert!(!plan.is_empty(), "{sql}");
            for step in &plan {
                let by_key = step.starts_with("SEARCH") || step.starts_with("USE TEMP B-TREE");
                assert!(by_key, "{sql}: {plan:?}");
            }
        }
    }
}
