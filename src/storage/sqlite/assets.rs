//! Assets in the embedded file: entries, and an index of their keys.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};

use super::SqliteStorage;
use crate::{
    core::mapping::assets::{Change, Entry, Kind, Name},
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
    use rusqlite::Connection;

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

    /// The steps that the engine takes to the entries and their keys.
    fn steps(connection: &Connection, key: &str) -> (usize, i32) {
        let mut found = 0;
        let mut find = connection.prepare(FIND).unwrap();
        let mut keys = connection.prepare(KEYS).unwrap();
        let mut entries = find.query(params![Kind::Machine.name(), key]).unwrap();
        while let Some(entry) = entries.next().unwrap() {
            let mut of_entry = keys.query([entry.get::<_, i64>(3).unwrap()]).unwrap();
            while of_entry.next().unwrap().is_some() {
                found += 1;
            }
        }
        drop(entries);
        let step = rusqlite::StatementStatus::VmStep;
        (found, find.get_status(step) + keys.get_status(step))
    }

    #[tokio::test]
    async fn a_machine_among_a_hundred_thousand_takes_no_more_steps_than_one_of_ten() {
        let folder = tempfile::tempdir().unwrap();
        let file = EmbeddedFile::open(folder.path()).unwrap();
        let storage = SqliteStorage::new(std::sync::Arc::clone(&file)).unwrap();
        let name = Name {
            connection: "default".to_owned(),
            kind: Kind::Machine,
            id: "one".to_owned(),
        };
        let one = Entry {
            name,
            keys: ["one", "10.1.2.3", "pc-17"].map(str::to_owned).into(),
            body: "{}".to_owned(),
        };
        storage.file_assets(&[Change::Kept(one)]).await.unwrap();
        let ask = || file.with(|connection| Ok(steps(connection, "10.1.2.3")));
        // Statistics, if anybody takes them, must not lead astray either.
        let fill = |from: u32, to: u32| {
            let more = format!(
                "WITH RECURSIVE n (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM n WHERE n < {to})
                 INSERT INTO connector_assets SELECT n, 'machine', 'default', 'id' || n, '{{}}' FROM n;
                 INSERT INTO connector_asset_keys SELECT kind, prefix || id, seq FROM connector_assets, (
                     SELECT '' AS prefix UNION SELECT '10.' UNION SELECT 'pc-' UNION SELECT 'aad-'
                 ) WHERE seq >= {from};
                 ANALYZE;"
            );
            file.with(move |connection| connection.execute_batch(&more))
        };
        fill(2, 10).await.unwrap();
        let (keys, few) = ask().await.unwrap();
        assert!(keys == 3 && few > 0, "{keys} keys, {few} steps");
        fill(11, 100_000).await.unwrap();
        let count = "SELECT count(*) FROM connector_asset_keys";
        let filled =
            file.with(|connection| connection.query_row(count, [], |row| row.get::<_, i64>(0)));
        assert_eq!(filled.await.unwrap(), 3 + 4 * 99_999);
        assert_eq!(ask().await.unwrap(), (keys, few));
    }
}
