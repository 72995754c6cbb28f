//! Assets: a table whose partitions are keys.
//!
//! | partition | row | what |
//! |---|---|---|
//! | `{kind}.{key}` | `{connection} {id}` | the entry, where its key follows from its id; else where to find it |
//! | `entry.{kind}.{connection}` | `{id}` | an entry whose keys may change, and its keys |
//!
//! An entry says itself by what it is found: who points at it by another key is not believed. So a
//! change needs no transaction: whatever it leaves behind half way is never shown, and to make it
//! once more makes it whole.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use serde_json::Value;

use super::{
    AzureStorage,
    name::escaped,
    table::{Key, Properties, Query},
};
use crate::{
    core::mapping::assets::{Change, Entry, Kind, Name},
    error::Result,
    storage::Assets,
};

/// How many requests are under way together: a baseline has millions of entries, and a table takes
/// thousands of small ones a second.
const AT_ONCE: usize = 32;

const CONNECTION: &str = "Connection";
const ID: &str = "Id";
const KEYS: &str = "Keys";
const BODY: &str = "Body";

#[async_trait]
impl Assets for AzureStorage {
    async fn file_assets(&self, changes: &[Change]) -> Result<()> {
        // Side by side, so only the last one about each entry.
        let last: HashMap<&Name, &Change> = changes.iter().map(|one| (one.name(), one)).collect();
        let last: Vec<&Change> = last.into_values().collect();
        for some in last.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|one| self.file(one))).await?;
        }
        Ok(())
    }

    async fn assets(&self, kind: Kind, key: &str) -> Result<Vec<Entry>> {
        let query = Query {
            filter: format!("PartitionKey eq '{}'", partition(kind, key)),
            ..Query::default()
        };
        let found = self.assets.query(&query).await?;
        let mut entries = Vec::with_capacity(found.len());
        for some in found.chunks(AT_ONCE) {
            let some = some
                .iter()
                .map(|properties| self.pointed_at(kind, properties));
            entries.extend(try_join_all(some).await?.into_iter().flatten());
        }
        entries.retain(|entry| entry.keys.iter().any(|one| one == key));
        entries.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(entries)
    }
}

impl AzureStorage {
    /// The entry that an entity holds, or points at.
    async fn pointed_at(&self, kind: Kind, properties: &Properties) -> Result<Option<Entry>> {
        if let Some(entry) = entry(kind, properties) {
            return Ok(Some(entry));
        }
        let entity = self.assets.get(&place(&name(kind, properties))).await?;
        Ok(entity.and_then(|entity| entry(kind, &entity.properties)))
    }

    async fn file(&self, change: &Change) -> Result<()> {
        let name = change.name();
        if let Some(key) = name.kind.key_of(&name.id) {
            let place = pointer(name, &key);
            return match change {
                Change::Kept(entry) => self.assets.put(&place, &whole(&place, entry)).await,
                Change::Gone(_) => self.assets.delete(&place, "*").await.map(drop),
            };
        }
        let place = place(name);
        let old = self.assets.get(&place).await?;
        let old = old.and_then(|entity| entry(name.kind, &entity.properties));
        let old = old.map_or_else(Vec::new, |entry| entry.keys);
        let new: &[String] = match change {
            Change::Kept(entry) => &entry.keys,
            Change::Gone(_) => &[],
        };
        // First what will be found, then where it stands, then what is not found any more.
        for key in new.iter().filter(|key| !old.contains(key)) {
            let pointer = pointer(name, key);
            self.assets.put(&pointer, &named(&pointer, name)).await?;
        }
        match change {
            Change::Kept(entry) => self.assets.put(&place, &whole(&place, entry)).await?,
            // Its keys are still known, should this end here.
            Change::Gone(_) => {}
        }
        for key in old.iter().filter(|key| !new.contains(key)) {
            self.assets.delete(&pointer(name, key), "*").await?;
        }
        if let (Change::Gone(_), false) = (change, old.is_empty()) {
            self.assets.delete(&place, "*").await?;
        }
        Ok(())
    }
}

fn partition(kind: Kind, key: &str) -> String {
    format!("{}.{}", kind.name(), escaped(key))
}

/// Where an entry is found by a key.
fn pointer(name: &Name, key: &str) -> Key {
    Key {
        partition: partition(name.kind, key),
        row: escaped(&format!("{} {}", name.connection, name.id)),
    }
}

/// Where an entry stands whose keys may change.
fn place(name: &Name) -> Key {
    Key {
        partition: format!("entry.{}.{}", name.kind.name(), escaped(&name.connection)),
        row: escaped(&name.id),
    }
}

fn named(place: &Key, name: &Name) -> Properties {
    let mut properties = Properties::new();
    for (property, value) in [
        ("PartitionKey", &place.partition),
        ("RowKey", &place.row),
        (CONNECTION, &name.connection),
        (ID, &name.id),
    ] {
        properties.insert(property.to_owned(), value.as_str().into());
    }
    properties
}

fn whole(place: &Key, entry: &Entry) -> Properties {
    let mut properties = named(place, &entry.name);
    let keys = Value::from(entry.keys.clone()).to_string();
    properties.insert(KEYS.to_owned(), keys.into());
    properties.insert(BODY.to_owned(), entry.body.as_str().into());
    properties
}

fn text(properties: &Properties, name: &str) -> Option<String> {
    properties.get(name)?.as_str().map(str::to_owned)
}

fn name(kind: Kind, properties: &Properties) -> Name {
    Name {
        connection: text(properties, CONNECTION).unwrap_or_default(),
        kind,
        id: text(properties, ID).unwrap_or_default(),
    }
}

/// The entry of an entity that holds one.
fn entry(kind: Kind, properties: &Properties) -> Option<Entry> {
    Some(Entry {
        name: name(kind, properties),
        keys: serde_json::from_str(&text(properties, KEYS)?).ok()?,
        body: text(properties, BODY)?,
    })
}
