//! The embedded tables: those of a Log Analytics workspace, by name and column, for SQL.
//!
//! Stricter than Azure, which drops an unknown column and empties a value of the wrong type in
//! silence: here the row is refused, so that a mistake of ours shows before it is deployed. What is
//! the same: a batch that is pushed twice lands twice.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, params_from_iter, types::ValueRef};

use super::{PushError, Sink};
use crate::{
    core::mapping::{
        batch::Batch,
        columns::{Column, TABLES, Type},
    },
    embedded::EmbeddedFile,
    error::{Error, Result},
};

mod row;

/// The answer to a query, as text; `None` is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Option<String>>>,
}

/// The embedded sink.
#[derive(Debug)]
pub struct Workspace {
    file: Arc<EmbeddedFile>,
    /// The columns of each table, by its name.
    tables: BTreeMap<String, &'static [Column]>,
}

impl Workspace {
    /// The shared tables in `file`: created when they are missing, and given the columns that they
    /// lack. Columns that we don't know are left alone. Blocks.
    pub fn new(file: Arc<EmbeddedFile>) -> Result<Self> {
        Self::with_tables(file, BTreeMap::new())
    }

    /// Tables of the connector, and further ones.
    pub fn with_tables(
        file: Arc<EmbeddedFile>,
        mut tables: BTreeMap<String, &'static [Column]>,
    ) -> Result<Self> {
        tables.extend(TABLES.map(|table| (table.name.to_owned(), table.columns())));
        file.with_blocking(|connection| {
            let change = connection.transaction()?;
            for (name, columns) in &tables {
                create(&change, name, columns)?;
            }
            change.commit()
        })?;
        Ok(Self { file, tables })
    }

    /// The tables that are in a file, which is only read.
    pub fn read_only(file: Arc<EmbeddedFile>) -> Self {
        let tables = TABLES.map(|table| (table.name.to_owned(), table.columns()));
        Self {
            file,
            tables: tables.into(),
        }
    }

    fn columns(&self, table: &str) -> Result<&'static [Column]> {
        self.tables.get(table).copied().ok_or_else(|| {
            let names: Vec<String> = self.tables.keys().map(|name| format!("`{name}`")).collect();
            Error::config(format!(
                "the embedded sink has no table `{table}`, only {}: correct `ROUTES`",
                names.join(", ")
            ))
        })
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> Result<u64> {
        self.columns(table)?;
        let sql = format!("SELECT count(*) FROM {}", quoted(table));
        self.file
            .read(move |connection| connection.query_row(&sql, [], |row| row.get::<_, i64>(0)))
            .await
            .map(i64::cast_unsigned)
    }

    /// The answer to one SQL statement, which cannot write.
    pub async fn query(&self, sql: &str) -> Result<Answer> {
        let sql = sql.to_owned();
        let answer = self
            .file
            .read(move |connection| match answer(connection, &sql) {
                // The statement is at fault, and whoever wrote it has to hear why.
                Err(error) if is_about_sql(&error) => Ok(Err(error.to_string())),
                other => other.map(Ok),
            })
            .await?;
        answer.map_err(|error| Error::config(format!("the query failed: {error}")))
    }
}

#[async_trait]
impl Sink for Workspace {
    async fn push(&self, batch: &Batch) -> std::result::Result<(), PushError> {
        let columns = self.columns(batch.table())?;
        let batch = batch.clone();
        self.file
            .with(move |connection| {
                let change = connection.transaction()?;
                // Dropped without a commit, the transaction takes its rows back.
                if let Err(refused) = insert(&change, columns, &batch)? {
                    return Ok(Err(PushError::Refused(refused)));
                }
                change.commit().map(Ok)
            })
            .await?
    }
}

/// Outer: the file failed. Inner: a row is refused.
fn insert(
    change: &Transaction<'_>,
    columns: &[Column],
    batch: &Batch,
) -> rusqlite::Result<std::result::Result<(), String>> {
    let table = batch.table();
    let positions: HashMap<&str, usize> =
        columns.iter().map(|column| column.name).zip(0..).collect();
    let mut statement = change.prepare_cached(&insert_sql(table, columns))?;
    for (at, row) in batch.rows().enumerate() {
        match row::values(row, columns, &positions) {
            Ok(values) => statement.execute(params_from_iter(values))?,
            Err(why) => return Ok(Err(format!("row {at} for `{table}`: {why}"))),
        };
    }
    Ok(Ok(()))
}

fn insert_sql(table: &str, columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(column.name)).collect();
    let marks = vec!["?"; names.len()].join(",");
    format!(
        "INSERT INTO {} ({}) VALUES ({marks})",
        quoted(table),
        names.join(",")
    )
}

fn create(change: &Transaction<'_>, table: &str, columns: &[Column]) -> rusqlite::Result<()> {
    let name = quoted(table);
    let definitions: Vec<String> = columns.iter().map(definition).collect();
    let definitions = definitions.join(",");
    change.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {name} ({definitions})"
    ))?;
    let present = columns_of(change, table)?;
    for column in columns {
        if !present
            .iter()
            .any(|there| there.eq_ignore_ascii_case(column.name))
        {
            change.execute_batch(&format!(
                "ALTER TABLE {name} ADD COLUMN {}",
                definition(column)
            ))?;
        }
    }
    for (index, columns) in [
        ("record", "connectionName, streamName, recordId"),
        ("eventTime", "eventTime"),
    ] {
        let index = quoted(&format!("{table}_{index}"));
        change.execute_batch(&format!(
            "CREATE INDEX IF NOT EXISTS {index} ON {name} ({columns})"
        ))?;
    }
    Ok(())
}

fn columns_of(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get(0))?
        .collect()
}

fn definition(column: &Column) -> String {
    let kind = match column.kind {
        Type::String | Type::Datetime | Type::Dynamic => "TEXT",
        Type::Int | Type::Long | Type::Boolean => "INTEGER",
        Type::Real => "REAL",
    };
    format!("{} {kind}", quoted(column.name))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn answer(connection: &Connection, sql: &str) -> rusqlite::Result<Answer> {
    let mut statement = connection.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement
        .query_map([], |row| {
            (0..columns.len())
                .map(|at| Ok(text(row.get_ref(at)?)))
                .collect()
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Answer { columns, rows })
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        // The bodies of dead letters and originals are JSON.
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            Some(String::from_utf8_lossy(text).into_owned())
        }
    }
}

fn is_about_sql(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ReadOnly, Unknown};
    matches!(error.sqlite_error_code(), None | Some(Unknown | ReadOnly))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_the_column_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = EmbeddedFile::open(folder.path()).unwrap();
        // The second finds everything there and leaves it alone.
        for _ in 0..2 {
            Workspace::new(Arc::clone(&file)).unwrap();
            for table in TABLES {
                let expected: Vec<_> = table.columns().iter().map(|column| column.name).collect();
                let found = file.with_blocking(|connection| columns_of(connection, table.name));
                assert_eq!(found.unwrap(), expected);
            }
        }
    }
}
