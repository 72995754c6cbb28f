//! State in memory: for tests, with the same conflicts as a store that others share.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    Assets, DeadLetter, DeadLetters, ETag, Fingerprints, Originals, Outbox, Parked, SaveError,
    Sightings, Snapshots, StateStore, json,
};
use crate::{
    core::{
        mapping::{
            assets::{Change, Entry, Kind, Name},
            original::Original,
        },
        position::{
            cursor::{StreamKey, StreamState},
            snapshot::Sighting,
        },
    },
    error::Result,
};

#[derive(Debug, Default)]
struct Data {
    /// Counts saves of any stream, so that no version comes twice.
    version: u64,
    states: BTreeMap<StreamKey, (StreamState, u64)>,
    fingerprints: HashMap<String, BTreeMap<i64, Vec<u64>>>,
    sightings: BTreeMap<(String, i64), Vec<Sighting>>,
    letters: Vec<DeadLetter>,
    outbox: BTreeMap<String, Parked>,
    originals: HashMap<(StreamKey, String, String), Vec<u8>>,
    assets: BTreeMap<Name, Entry>,
    gone: HashSet<String>,
}

/// All that the pipeline remembers, until the process ends.
#[derive(Debug)]
pub struct MemoryStorage {
    owner: String,
    data: Arc<Mutex<Data>>,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::over(Arc::default())
    }

    /// The data as another process sees it, under another owner's name.
    #[must_use]
    pub fn peer(&self) -> Self {
        Self::over(Arc::clone(&self.data))
    }

    /// Says that the process of this owner has ended.
    pub fn mark_gone(&self, owner: &str) {
        self.data().gone.insert(owner.to_owned());
    }

    fn over(data: Arc<Mutex<Data>>) -> Self {
        Self {
            owner: format!("memory-{:016x}", rand::random::<u64>()),
            data,
        }
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checked(key: &StreamKey, state: &StreamState) -> Result<StreamState> {
    let state = state.clone().checked();
    state.map_err(|error| error.context(format_args!("`{key}`")))
}

#[async_trait]
impl StateStore for MemoryStorage {
    async fn load(&self, key: &StreamKey) -> Result<Option<(StreamState, ETag)>> {
        let data = self.data();
        data.states
            .get(key)
            .map(|(state, version)| Ok((checked(key, state)?, ETag(version.to_string()))))
            .transpose()
    }

    async fn save(
        &self,
        key: &StreamKey,
        state: &StreamState,
        expected: Option<&ETag>,
    ) -> std::result::Result<ETag, SaveError> {
        let mut data = self.data();
        let found = data.states.get(key);
        let found = found.map(|(_, version)| ETag(version.to_string()));
        if found.as_ref() != expected {
            return Err(SaveError::Conflict);
        }
        data.version += 1;
        let version = data.version;
        data.states.insert(key.clone(), (state.clone(), version));
        Ok(ETag(version.to_string()))
    }

    async fn forget(&self, key: &StreamKey) -> Result<()> {
        self.data().states.remove(key);
        Ok(())
    }

    async fn saved_text(&self, key: &StreamKey) -> Result<Option<(String, ETag)>> {
        let data = self.data();
        data.states
            .get(key)
            .map(|(state, version)| Ok((json::encode(state)?, ETag(version.to_string()))))
            .transpose()
    }

    async fn stored_states(&self) -> Result<Vec<(StreamKey, Result<StreamState>)>> {
        let data = self.data();
        let states = data.states.iter();
        Ok(states
            .map(|(key, (state, _))| (key.clone(), checked(key, state)))
            .collect())
    }

    fn owner(&self) -> String {
        self.owner.clone()
    }

    async fn is_gone(&self, owner: &str) -> bool {
        self.data().gone.contains(owner)
    }
}

#[async_trait]
impl Fingerprints for MemoryStorage {
    async fn fingerprints(&self, set: &str, bucket: i64) -> Result<Vec<u64>> {
        let data = self.data();
        let found = data.fingerprints.get(set).and_then(|set| set.get(&bucket));
        Ok(found.cloned().unwrap_or_default())
    }

    async fn add_fingerprints(&self, set: &str, added: &[(i64, Vec<u64>)]) -> Result<()> {
        let mut data = self.data();
        let buckets = data.fingerprints.entry(set.to_owned()).or_default();
        for (bucket, hashes) in added {
            buckets.entry(*bucket).or_default().extend(hashes);
        }
        Ok(())
    }

    async fn prune_fingerprints(&self, set: &str, bucket: i64) -> Result<()> {
        if let Some(buckets) = self.data().fingerprints.get_mut(set) {
            *buckets = buckets.split_off(&bucket);
        }
        Ok(())
    }
}

#[async_trait]
impl Snapshots for MemoryStorage {
    async fn add_sightings(&self, set: &str, pass: i64, sightings: &[Sighting]) -> Result<()> {
        let mut data = self.data();
        let log = data.sightings.entry((set.to_owned(), pass)).or_default();
        log.extend_from_slice(sightings);
        Ok(())
    }

    async fn sightings(&self, set: &str, pass: i64, from: u64) -> Result<Sightings> {
        /// So that whoever reads a long log has to go on.
        const TOGETHER: usize = 100;
        let data = self.data();
        let log = data.sightings.get(&(set.to_owned(), pass));
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = log.and_then(|log| log.get(from..)).unwrap_or_default();
        let sightings: Vec<Sighting> = rest.iter().take(TOGETHER).cloned().collect();
        let next = (sightings.len() < rest.len()).then(|| (from + sightings.len()) as u64);
        Ok(Sightings { sightings, next })
    }

    async fn drop_sightings(&self, set: &str, but: &[i64]) -> Result<()> {
        let gone = |name: &str, pass: &i64| name == set && !but.contains(pass);
        self.data()
            .sightings
            .retain(|(name, pass), _| !gone(name, pass));
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for MemoryStorage {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<()> {
        let mut data = self.data();
        for letter in letters {
            if data.letters.iter().all(|known| known.id != letter.id) {
                data.letters.push(letter.clone());
            }
        }
        data.letters.sort_by_key(|letter| letter.at);
        Ok(())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        Ok(self.data().letters.iter().take(limit).cloned().collect())
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        let data = self.data();
        Ok(data.letters.iter().find(|letter| letter.id == id).cloned())
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<()> {
        self.data().letters.retain(|letter| letter.id != id);
        Ok(())
    }

    async fn count_dead_letters(&self) -> Result<u64> {
        Ok(self.data().letters.len() as u64)
    }
}

#[async_trait]
impl Outbox for MemoryStorage {
    async fn park(&self, parked: &Parked) -> Result<()> {
        let mut data = self.data();
        let entry = data.outbox.entry(parked.id.clone());
        entry.or_insert_with(|| Parked {
            bytes: parked.body.len() as u64,
            ..parked.clone()
        });
        Ok(())
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>> {
        let data = self.data();
        let entries = data.outbox.values().take(limit).cloned();
        let without_body = |parked| Parked {
            body: Vec::new(),
            ..parked
        };
        Ok(entries.map(without_body).collect())
    }

    async fn parked_rows(&self, id: &str) -> Result<Option<Parked>> {
        Ok(self.data().outbox.get(id).cloned())
    }

    async fn drop_parked(&self, id: &str) -> Result<()> {
        self.data().outbox.remove(id);
        Ok(())
    }

    async fn outbox_size(&self) -> Result<(u64, u64)> {
        let data = self.data();
        let bytes = data.outbox.values().map(|parked| parked.bytes).sum();
        Ok((data.outbox.len() as u64, bytes))
    }
}

#[async_trait]
impl Originals for MemoryStorage {
    async fn keep(&self, originals: &[Original]) -> Result<()> {
        let mut data = self.data();
        for Original {
            key,
            record_id,
            record_version,
            body,
        } in originals.iter().cloned()
        {
            data.originals
                .insert((key, record_id, record_version), body);
        }
        Ok(())
    }

    async fn original(&self, key: &StreamKey, id: &str, version: &str) -> Result<Option<Original>> {
        let identity = (key.clone(), id.to_owned(), version.to_owned());
        let body = self.data().originals.get(&identity).cloned();
        let (key, record_id, record_version) = identity;
        Ok(body.map(|body| Original {
            key,
            record_id,
            record_version,
            body,
        }))
    }
}

#[async_trait]
impl Assets for MemoryStorage {
    async fn file_assets(&self, changes: &[Change]) -> Result<()> {
        let mut data = self.data();
        for change in changes {
            match change {
                Change::Kept(entry) => {
                    data.assets.insert(entry.name.clone(), entry.clone());
                }
                Change::Gone(name) => {
                    data.assets.remove(name);
                }
            }
        }
        Ok(())
    }

    async fn assets(&self, kind: Kind, key: &str) -> Result<Vec<Entry>> {
        let data = self.data();
        let found = data
            .assets
            .values()
            .filter(|entry| entry.name.kind == kind && entry.keys.iter().any(|one| one == key));
        Ok(found.cloned().collect())
    }
}
