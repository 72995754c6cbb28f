//! Storage and sink that come to harm at one chosen call.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use sentinel_connector::{
    core::{
        batch::Batch,
        cursor::{StreamKey, StreamState},
        dedupe::fingerprint,
        endpoint::Sameness,
        record::Facts,
    },
    error::{Error, Result},
    pipeline::Parts,
    sink::{PushError, SharedSink, Sink},
    storage::{
        DeadLetter, DeadLetters, ETag, Fingerprints, Original, Originals, Outbox, Parked,
        SaveError, SharedStorage, StateStore,
    },
};
use tokio::sync::Notify;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Load,
    Save,
    Recall,
    Remember,
    Prune,
    Bury,
    Keep,
    Push,
}

impl Call {
    pub(crate) const ALL: [Self; 8] = [
        Self::Load,
        Self::Save,
        Self::Recall,
        Self::Remember,
        Self::Prune,
        Self::Bury,
        Self::Keep,
        Self::Push,
    ];
}

/// Before the call is done, or after it is done but before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The call never returns.
    Stop(Moment),
    /// The call says that it failed.
    Transient(Moment),
    /// The call waits until it is told to go on.
    Hold(Moment),
    /// Somebody else has saved.
    Conflict,
}

/// What becomes of this call.
enum Fate {
    Well,
    Trouble(Trouble),
}

#[derive(Clone)]
pub(crate) struct Interrupt(Arc<Inner>);

struct Inner {
    /// The call that comes to harm, and which one of its kind.
    plan: Option<(Call, u64, Trouble)>,
    seen: Mutex<BTreeMap<Call, u64>>,
    stopped: Notify,
    go_on: Notify,
    reached: AtomicBool,
    /// Rows that may have landed and are not remembered yet, by fingerprint.
    pushed: Mutex<HashMap<u64, String>>,
}

impl Interrupt {
    pub(crate) fn new(call: Call, number: u64, trouble: Trouble) -> Self {
        Self::with(Some((call, number, trouble)))
    }

    /// No harm: only counts.
    pub(crate) fn none() -> Self {
        Self::with(None)
    }

    fn with(plan: Option<(Call, u64, Trouble)>) -> Self {
        Self(Arc::new(Inner {
            plan,
            seen: Mutex::default(),
            stopped: Notify::new(),
            go_on: Notify::new(),
            reached: AtomicBool::new(false),
            pushed: Mutex::default(),
        }))
    }

    pub(crate) fn wrap(&self, parts: Parts) -> Parts {
        Parts {
            storage: Arc::new(Fragile {
                interrupt: self.clone(),
                inner: parts.storage,
            }),
            sink: Arc::new(Fragile {
                interrupt: self.clone(),
                inner: parts.sink,
            }),
            ..parts
        }
    }

    pub(crate) fn seen(&self, call: Call) -> u64 {
        let seen = self.0.seen.lock().unwrap();
        seen.get(&call).copied().unwrap_or_default()
    }

    /// Comes back when a call has stopped, or is held.
    pub(crate) async fn stopped(&self) {
        self.0.stopped.notified().await;
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.0.reached.load(Ordering::Relaxed)
    }

    /// The records whose rows may have landed and are not remembered.
    pub(crate) fn unremembered(&self) -> Vec<String> {
        self.0.pushed.lock().unwrap().values().cloned().collect()
    }

    fn next(&self, call: Call) -> Fate {
        let mut seen = self.0.seen.lock().unwrap();
        let number = seen.entry(call).or_default();
        *number += 1;
        match self.0.plan {
            Some((planned, at, trouble)) if planned == call && at == *number => {
                self.0.reached.store(true, Ordering::Relaxed);
                Fate::Trouble(trouble)
            }
            _ => Fate::Well,
        }
    }

    async fn hold(&self) {
        self.0.stopped.notify_one();
        self.0.go_on.notified().await;
    }

    /// Lets the call that is held go on.
    pub(crate) fn go_on(&self) {
        self.0.go_on.notify_one();
    }

    async fn stop<T>(&self) -> T {
        self.0.stopped.notify_one();
        pending().await
    }

    /// Does `work`, unless this is the call that comes to harm.
    async fn around<T, E: From<Error>>(
        &self,
        call: Call,
        work: impl Future<Output = std::result::Result<T, E>>,
    ) -> std::result::Result<T, E> {
        self.meet(self.next(call), work).await
    }

    async fn meet<T, E: From<Error>>(
        &self,
        fate: Fate,
        work: impl Future<Output = std::result::Result<T, E>>,
    ) -> std::result::Result<T, E> {
        let failed = || Err(Error::transient("the disk is gone").into());
        match fate {
            Fate::Well | Fate::Trouble(Trouble::Conflict) => work.await,
            Fate::Trouble(Trouble::Stop(Moment::Before)) => self.stop().await,
            Fate::Trouble(Trouble::Stop(Moment::After)) => {
                drop(work.await);
                self.stop().await
            }
            Fate::Trouble(Trouble::Hold(Moment::Before)) => {
                self.hold().await;
                work.await
            }
            Fate::Trouble(Trouble::Hold(Moment::After)) => {
                let done = work.await;
                self.hold().await;
                done
            }
            Fate::Trouble(Trouble::Transient(Moment::Before)) => failed(),
            Fate::Trouble(Trouble::Transient(Moment::After)) => {
                drop(work.await);
                failed()
            }
        }
    }
}

struct Fragile<T> {
    interrupt: Interrupt,
    inner: T,
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

    async fn states(&self) -> Result<Vec<(StreamKey, StreamState)>> {
        self.inner.states().await
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
impl Outbox for Fragile<SharedStorage> {
    async fn park(&self, parked: &Parked) -> Result<()> {
        self.inner.park(parked).await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>> {
        self.inner.parked(limit).await
    }

    async fn parked_rows(&self, id: &str) -> Result<Option<Parked>> {
        self.inner.parked_rows(id).await
    }

    async fn drop_parked(&self, id: &str) -> Result<()> {
        self.inner.drop_parked(id).await
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
}

/// The fingerprints and ids of a batch's rows, but for those about health.
fn rows(batch: &Batch) -> Vec<(u64, String)> {
    let sameness = if batch.table().contains("Incidents") {
        Sameness::IdAndVersion
    } else {
        Sameness::Id
    };
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    batch
        .rows()
        .map(|row| serde_json::from_slice::<serde_json::Value>(row).unwrap())
        .filter(|row| row["providerName"] == "ESET")
        .map(|row| {
            let facts = Facts {
                id: text(&row, "recordId"),
                version: text(&row, "recordVersion"),
                time: None,
            };
            (fingerprint(&facts, sameness), facts.id)
        })
        .collect()
}
