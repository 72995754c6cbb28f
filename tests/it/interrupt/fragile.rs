//! The doubles themselves.

use async_trait::async_trait;
use sentinel_connector::{
    core::{
        mapping::{
            assets::{Change, Entry, Kind},
            batch::Batch,
            original::Original,
        },
        position::{
            cursor::{StreamKey, StreamState},
            dedupe::fingerprint,
            record_key::RecordMeta,
            snapshot::Sighting,
        },
        protocol::endpoint::DedupKey,
    },
    error::Result,
    sink::{PushError, Room, SharedSink, Sink},
    storage::{
        Assets, DeadLetter, DeadLetters, ETag, Fingerprints, Originals, Outbox, Parked, SaveError,
        SharedStorage, Sightings, Snapshots, StateStore,
    },
};

use super::{Call, Fate, Interrupt, Trouble};

pub(super) struct Fragile<T> {
    pub(super) interrupt: Interrupt,
    pub(super) inner: T,
}

#[async_trait]
impl StateStore for Fragile<SharedStorage> {
    async fn load(&self, key: &StreamKey) -> Result<Option<(StreamState, ETag)>> {
        let work = self.inner.load(key);
        self.interrupt.around(Call::Load, work).await
    }

    async fn save(
        &self,
        key: &StreamKey,
        state: &StreamState,
        expected: Option<&ETag>,
    ) -> std::result::Result<ETag, SaveError> {
        match self.interrupt.next(Call::Save) {
            Fate::Trouble(Trouble::Conflict) => Err(SaveError::Conflict),
            fate => {
                let work = self.inner.save(key, state, expected);
                self.interrupt.meet(fate, work).await
            }
        }
    }

    async fn forget(&self, key: &StreamKey) -> Result<()> {
        self.inner.forget(key).await
    }

    async fn saved_text(&self, key: &StreamKey) -> Result<Option<(String, ETag)>> {
        self.inner.saved_text(key).await
    }

    async fn stored_states(&self) -> Result<Vec<(StreamKey, Result<StreamState>)>> {
        self.inner.stored_states().await
    }

    fn owner(&self) -> String {
        self.inner.owner()
    }

    async fn is_gone(&self, owner: &str) -> bool {
        self.inner.is_gone(owner).await
    }
}

#[async_trait]
impl Fingerprints for Fragile<SharedStorage> {
    async fn fingerprints(&self, set: &str, bucket: i64) -> Result<Vec<u64>> {
        let work = self.inner.fingerprints(set, bucket);
        self.interrupt.around(Call::Recall, work).await
    }

    async fn add_fingerprints(&self, set: &str, added: &[(i64, Vec<u64>)]) -> Result<()> {
        let work = async {
            self.inner.add_fingerprints(set, added).await?;
            let mut pushed = self.interrupt.0.pushed.lock().unwrap();
            for print in added.iter().flat_map(|(_, prints)| prints) {
                pushed.remove(print);
            }
            Ok(())
        };
        self.interrupt.around(Call::Remember, work).await
    }

    async fn prune_fingerprints(&self, set: &str, bucket: i64) -> Result<()> {
        let work = self.inner.prune_fingerprints(set, bucket);
        self.interrupt.around(Call::Prune, work).await
    }
}

#[async_trait]
impl DeadLetters for Fragile<SharedStorage> {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<()> {
        let work = self.inner.bury(letters);
        self.interrupt.around(Call::Bury, work).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        self.inner.dead_letters(limit).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        self.inner.dead_letter(id).await
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<()> {
        self.inner.drop_dead_letter(id).await
    }

    async fn count_dead_letters(&self) -> Result<u64> {
        self.inner.count_dead_letters().await
    }
}

#[async_trait]
impl Snapshots for Fragile<SharedStorage> {
    async fn add_sightings(&self, set: &str, pass: i64, sightings: &[Sighting]) -> Result<()> {
        self.inner.add_sightings(set, pass, sightings).await
    }

    async fn sightings(&self, set: &str, pass: i64, from: u64) -> Result<Sightings> {
        self.inner.sightings(set, pass, from).await
    }

    async fn drop_sightings(&self, set: &str, but: &[i64]) -> Result<()> {
        self.inner.drop_sightings(set, but).await
    }
}

#[async_trait]
impl Assets for Fragile<SharedStorage> {
    async fn file_assets(&self, changes: &[Change]) -> Result<()> {
        let work = self.inner.file_assets(changes);
        self.interrupt.around(Call::File, work).await
    }

    async fn assets(&self, kind: Kind, key: &str) -> Result<Vec<Entry>> {
        self.inner.assets(kind, key).await
    }
}

#[async_trait]
impl Outbox for Fragile<SharedStorage> {
    async fn park(&self, parked: &Parked) -> Result<()> {
        let work = self.inner.park(parked);
        self.interrupt.around(Call::Park, work).await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>> {
        self.inner.parked(limit).await
    }

    async fn parked_rows(&self, id: &str) -> Result<Option<Parked>> {
        self.inner.parked_rows(id).await
    }

    async fn drop_parked(&self, id: &str) -> Result<()> {
        let work = self.inner.drop_parked(id);
        self.interrupt.around(Call::Unpark, work).await
    }

    async fn outbox_size(&self) -> Result<(u64, u64)> {
        self.inner.outbox_size().await
    }
}

#[async_trait]
impl Originals for Fragile<SharedStorage> {
    async fn keep(&self, originals: &[Original]) -> Result<()> {
        let work = self.inner.keep(originals);
        self.interrupt.around(Call::Keep, work).await
    }

    async fn original(&self, key: &StreamKey, id: &str, version: &str) -> Result<Option<Original>> {
        self.inner.original(key, id, version).await
    }
}

#[async_trait]
impl Sink for Fragile<SharedSink> {
    async fn push(&self, batch: &Batch) -> std::result::Result<(), PushError> {
        let work = async {
            // Noted first: a push that is dropped on its way may land all the same.
            self.interrupt.0.pushed.lock().unwrap().extend(rows(batch));
            self.inner.push(batch).await
        };
        self.interrupt.around(Call::Push, work).await
    }

    /// What a run and a drain do: the batch is compressed and let go before it is sent.
    async fn push_away(&self, batch: &mut Batch, room: Room) -> std::result::Result<(), PushError> {
        let before = batch.clone();
        let mut landed = false;
        let work = async {
            self.interrupt.0.pushed.lock().unwrap().extend(rows(batch));
            let pushed = self.inner.push_away(batch, room).await;
            landed = pushed.is_ok();
            pushed
        };
        let pushed = self.interrupt.around(Call::Push, work).await;
        if landed && pushed.is_err() {
            // An answer that is lost: then the batch is as it was.
            *batch = before;
        }
        pushed
    }
}

/// The fingerprints and ids of a batch's rows, but for those about health.
fn rows(batch: &Batch) -> Vec<(u64, String)> {
    let sameness = if batch.table().contains("Incidents") {
        DedupKey::IdAndVersion
    } else {
        DedupKey::Id
    };
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    batch
        .rows()
        .map(|row| serde_json::from_slice::<serde_json::Value>(row).unwrap())
        .filter(|row| row["providerName"] == "ESET")
        .map(|row| {
            let facts = RecordMeta {
                id: text(&row, "recordId"),
                version: text(&row, "recordVersion"),
                time: None,
            };
            (fingerprint(&facts, sameness), facts.id)
        })
        .collect()
}
