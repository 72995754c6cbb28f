//! The state of each stream: one entity with its lease and cursor.
//!
//! A save is one conditional request, so two runs can't both save. When its answer is lost, the
//! request is asked again and meets its own work; the entity then bears the mark of this save.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::Value;

use super::{
    AzureStorage,
    name::{escaped, original},
    table::{Entity, Key, Properties, Query, Table, Written},
};
use crate::{
    core::position::cursor::{StreamKey, StreamState},
    error::{Error, Result},
    storage::{ETag, SaveError, StateStore, json},
};

/// A property has 64 KiB at most, in UTF-16
/// (learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model).
const PART_UNITS: usize = 32_000;

/// An entity has 1 MiB at most, its other properties included, likewise in UTF-16.
const MAX_UNITS: usize = 500_000;

/// How long a check may take: what does not answer by then is away.
const CHECK_PATIENCE: Duration = Duration::from_secs(8);

/// The most comparisons of a filter
/// (learn.microsoft.com/rest/api/storageservices/querying-tables-and-entities).
const MOST_COMPARED: usize = 15;

/// The name of no entity and no blob.
const PROBE: &str = "may-be-written";

const CONNECTION: &str = "Connection";
const STREAM: &str = "Stream";
/// Names one save.
const MARK: &str = "Mark";
/// How many parts the state has.
const PARTS: &str = "Parts";

#[async_trait]
impl StateStore for AzureStorage {
    async fn load(&self, key: &StreamKey) -> Result<Option<(StreamState, ETag)>> {
        let entity = self.state.get(&entity_key(key)).await?;
        entity
            .map(|entity| {
                Ok((
                    decoded(&self.state, key, &entity.properties)?,
                    ETag(entity.etag),
                ))
            })
            .transpose()
    }

    /// Lists the table, which holds nothing else: one question for a thousand streams. A worker that has
    /// the streams of one lane asks for those of its connections, or a thousand lanes would list it each.
    async fn load_all(&self, keys: &[StreamKey]) -> Vec<Result<Option<(StreamState, ETag)>>> {
        if keys.len() < 2 {
            return join_all(keys.iter().map(|key| self.load(key))).await;
        }
        let mut listed = match self.state.entities(&query_for(keys)).await {
            Ok(listed) => by_key(listed),
            Err(error) => return keys.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut loaded = Vec::with_capacity(keys.len());
        for key in keys {
            let place = entity_key(key);
            loaded.push(match listed.remove(&(place.partition, place.row)) {
                None => Ok(None),
                // A save has to name the version that it is over.
                Some(entity) if entity.etag.is_empty() => self.load(key).await,
                Some(entity) => decoded(&self.state, key, &entity.properties)
                    .map(|state| Some((state, ETag(entity.etag)))),
            });
        }
        loaded
    }

    async fn save(
        &self,
        key: &StreamKey,
        state: &StreamState,
        expected: Option<&ETag>,
    ) -> std::result::Result<ETag, SaveError> {
        let place = entity_key(key);
        // Not from the injected randomness: two saves must never have the same mark.
        let mark = format!("{:032x}", rand::random::<u128>());
        let properties = encoded(key, state, &mark)?;
        let written = match expected {
            None => self.state.insert(&properties).await?,
            // No version of the service's: whatever it names, it is not what is there.
            Some(ETag(etag)) if !etag.starts_with("W/\"") => return Err(SaveError::Conflict),
            Some(ETag(etag)) => self.state.replace(&place, &properties, etag).await?,
        };
        match written {
            Written::Done(etag) if !etag.is_empty() => Ok(ETag(etag)),
            Written::Missing => Err(SaveError::Conflict),
            // Somebody else's save, or ours whose answer was lost.
            Written::Done(_) | Written::Conflict => match self.state.get(&place).await? {
                Some(found) if text(&found.properties, MARK) == mark => Ok(ETag(found.etag)),
                _ => Err(SaveError::Conflict),
            },
        }
    }

    async fn forget(&self, key: &StreamKey) -> Result<()> {
        self.state.delete(&entity_key(key), "*").await.map(drop)
    }

    async fn saved_text(&self, key: &StreamKey) -> Result<Option<(String, ETag)>> {
        let entity = self.state.get(&entity_key(key)).await?;
        Ok(entity.map(|entity| (json_of(&entity.properties), ETag(entity.etag))))
    }

    async fn stored_states(&self) -> Result<Vec<(StreamKey, Result<StreamState>)>> {
        let mut states = Vec::new();
        for properties in self.state.query(&Query::default()).await? {
            // The entity's own keys name it, whatever somebody has made of its properties.
            let name =
                |key, property| original(text(&properties, key), text(&properties, property));
            let key = StreamKey::new(&name("PartitionKey", CONNECTION), &name("RowKey", STREAM));
            let state = decoded(&self.state, &key, &properties);
            states.push((key, state));
        }
        states.sort_by(|(one, _), (two, _)| one.cmp(two));
        Ok(states)
    }

    async fn check(&self) -> Result<()> {
        let state = self.state.within(CHECK_PATIENCE);
        state.query(&Query::default()).await.map(drop)
    }

    /// Deletes what is not there: a role is looked at before that.
    async fn refused_writes(&self) -> Vec<Error> {
        let nothing = Key {
            partition: PROBE.to_owned(),
            row: PROBE.to_owned(),
        };
        let (entity, blob) =
            tokio::join!(self.state.delete(&nothing, "*"), self.blobs.delete(PROBE));
        [entity.map(drop), blob]
            .into_iter()
            .filter_map(Result::err)
            .collect()
    }

    fn owner(&self) -> String {
        self.owner.clone()
    }

    /// Nobody in the cloud knows: a lease ends by its time.
    async fn is_gone(&self, _owner: &str) -> bool {
        false
    }
}

/// Those of a few connections, or all.
fn query_for(keys: &[StreamKey]) -> Query {
    let partitions: BTreeSet<String> = keys.iter().map(|key| escaped(&key.connection)).collect();
    if partitions.len() > MOST_COMPARED {
        return Query::default();
    }
    let compared = partitions.iter();
    let compared: Vec<String> = compared
        .map(|partition| format!("PartitionKey eq '{partition}'"))
        .collect();
    Query {
        filter: compared.join(" or "),
        ..Query::default()
    }
}

fn entity_key(key: &StreamKey) -> Key {
    Key {
        partition: escaped(&key.connection),
        row: escaped(&key.stream),
    }
}

fn by_key(entities: Vec<Entity>) -> HashMap<(String, String), Entity> {
    let named = |entity: Entity| {
        let key = |name| text(&entity.properties, name).to_owned();
        ((key("PartitionKey"), key("RowKey")), entity)
    };
    entities.into_iter().map(named).collect()
}

fn text<'a>(properties: &'a Properties, name: &str) -> &'a str {
    properties.get(name).and_then(Value::as_str).unwrap_or("")
}

fn part_name(at: u64) -> String {
    format!("State{at}")
}

fn encoded(key: &StreamKey, state: &StreamState, mark: &str) -> Result<Properties> {
    let json = json::encode(state)?;
    let units = json.encode_utf16().count();
    if units > MAX_UNITS {
        return Err(Error::contract(format!(
            "the state of `{key}` has {units} characters, an entity of table storage holds \
             {MAX_UNITS}: please report this with the output of `cursor`"
        )));
    }
    let Key { partition, row } = entity_key(key);
    let mut properties = Properties::new();
    for (name, value) in [
        ("PartitionKey", partition.as_str()),
        ("RowKey", &row),
        (CONNECTION, &key.connection),
        (STREAM, &key.stream),
        (MARK, mark),
    ] {
        properties.insert(name.to_owned(), value.into());
    }
    let mut count: u64 = 0;
    for part in parts(&json) {
        properties.insert(part_name(count), part.into());
        count += 1;
    }
    properties.insert(PARTS.to_owned(), count.into());
    Ok(properties)
}

fn decoded(table: &Table, key: &StreamKey, properties: &Properties) -> Result<StreamState> {
    json::decode(key, &json_of(properties), &table.place())
}

fn json_of(properties: &Properties) -> String {
    let count = properties.get(PARTS).and_then(Value::as_u64).unwrap_or(0);
    // More than an entity has of properties are damage.
    (0..count.min(252))
        .map(|at| text(properties, &part_name(at)))
        .collect()
}

/// Pieces that fit a property each.
fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut units = 0;
    for letter in text.chars() {
        if units + letter.len_utf16() > PART_UNITS {
            parts.push(std::mem::take(&mut part));
            units = 0;
        }
        units += letter.len_utf16();
        part.push(letter);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_fit_and_add_up(text in "(a|ü|💚){0,40}", times in 1usize..4_000) {
            let text = text.repeat(times);
            let parts = parts(&text);
            prop_assert_eq!(parts.concat(), text);
            for part in parts {
                prop_assert!(part.encode_utf16().count() <= PART_UNITS);
            }
        }
    }

    #[test]
    fn a_state_that_no_entity_holds_is_refused() {
        let key = StreamKey::new("default", "eset.detections");
        let state = StreamState {
            error: Some("x".repeat(MAX_UNITS)),
            ..StreamState::default()
        };
        let error = encoded(&key, &state, "mark").unwrap_err();
        assert!(
            error.to_string().contains("default/eset.detections"),
            "{error}"
        );
    }
}
