//! Storage and sink that come to harm at one chosen call.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use sentinel_connector::{error::Error, pipeline::Parts};
use tokio::sync::Notify;

mod fragile;

use fragile::Fragile;

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
    Park,
    Unpark,
    /// Only sources of machines file them.
    File,
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
