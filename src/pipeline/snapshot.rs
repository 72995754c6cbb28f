//! Sightings between storage and the snapshot of a stream: what passes have seen, and what vanished.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::{
    core::position::{
        cursor::{Slice, StreamKey, StreamState},
        snapshot::{Index, PassView, Sighting, SnapshotTracker, confirms, hash_of, is_doubtful},
    },
    error::Result,
    storage::SharedStorage,
};

/// So many sightings are written at once.
const TOGETHER: usize = 5_000;

/// What a pass says about the records that it has not seen.
#[derive(Default)]
pub(super) struct Vanished {
    /// The ids of those that are gone.
    pub(super) gone: Vec<String>,
    /// How many it missed, of how many, when that is not believed.
    pub(super) missed: Option<(u64, u64)>,
}

/// The logs of a stream's passes.
pub(super) struct PassLogs {
    set: String,
    storage: SharedStorage,
}

impl PassLogs {
    pub(super) fn new(key: &StreamKey, storage: &SharedStorage) -> Self {
        Self {
            set: key.to_string(),
            storage: SharedStorage::clone(storage),
        }
    }

    /// Reads what is known, unless it was read for the same pass.
    pub(super) async fn open(&self, known: &mut SnapshotTracker, view: PassView) -> Result<()> {
        if known.follow(view) {
            return Ok(());
        }
        self.write(known).await?;
        let mut index = Index::default();
        if let Some(last) = view.last {
            self.each(last, |sighting| index.known(&sighting)).await?;
        }
        if view.is_pass() {
            self.each(view.log, |sighting| index.seen(&sighting))
                .await?;
        }
        known.begin(view, index);
        Ok(())
    }

    /// Writes the sightings whose rows are safe: before a cursor passes them.
    pub(super) async fn write(&self, known: &mut SnapshotTracker) -> Result<()> {
        let made = known.take_made();
        let Some(PassView { log, .. }) = known.view() else {
            return Ok(());
        };
        for some in made.chunks(TOGETHER) {
            self.storage
                .add_sightings(&self.set, name(log), some)
                .await?;
        }
        Ok(())
    }

    /// The end of a pass: which records of the last one it has not seen. Those that were missed for
    /// the first time are carried over, since data moves between pages; those that were missed
    /// before are gone. Of a pass that misses too much to be believed all are carried over;
    /// `doubted` is when the first such pass began of those before it.
    pub(super) async fn vanished(
        &self,
        known: &mut SnapshotTracker,
        doubted: Option<DateTime<Utc>>,
    ) -> Result<Vanished> {
        let Some(PassView {
            log,
            last: Some(last),
            ..
        }) = known.view().filter(PassView::is_pass)
        else {
            return Ok(Vanished::default());
        };
        let mut unseen: HashMap<u64, (u64, bool)> = HashMap::new();
        let mut all = HashSet::new();
        self.each(last, |sighting| {
            let hash = hash_of(&sighting.id);
            all.insert(hash);
            if !known.has_seen(hash) {
                unseen.insert(hash, (sighting.content, sighting.missed));
            }
        })
        .await?;
        let (missed, there) = (unseen.len() as u64, all.len() as u64);
        drop(all);
        let newly = unseen.values().filter(|(_, before)| !before).count() as u64;
        let is_doubted = is_doubtful(missed, there) && !confirms(doubted, log, newly, there);
        let mut gone = Vec::new();
        let mut carried = Vec::new();
        // Once more for their names, which are not held for all records.
        self.each(last, |sighting| {
            match unseen.remove(&hash_of(&sighting.id)) {
                Some((_, true)) if !is_doubted => {
                    known.forget(hash_of(&sighting.id));
                    gone.push(sighting.id);
                }
                Some((content, _)) => carried.push(Sighting {
                    id: sighting.id,
                    content,
                    missed: true,
                }),
                None => {}
            }
        })
        .await?;
        known.carry(&mut carried);
        self.write(known).await?;
        Ok(Vanished {
            gone,
            missed: is_doubted.then_some((missed, there)),
        })
    }

    /// Drops the logs of passes that nobody compares with any more.
    pub(super) async fn prune(&self, state: &StreamState) -> Result<()> {
        let open = state
            .open
            .as_ref()
            .filter(|open| open.slice == Slice::Pass)
            .map(|open| open.began);
        let but: Vec<i64> = open.into_iter().chain(state.last_pass).map(name).collect();
        self.storage.drop_sightings(&self.set, &but).await
    }

    /// Goes through a log.
    async fn each(&self, pass: DateTime<Utc>, mut take: impl FnMut(Sighting)) -> Result<()> {
        let mut from = Some(0);
        while let Some(place) = from {
            let read = self.storage.sightings(&self.set, name(pass), place).await?;
            read.sightings.into_iter().for_each(&mut take);
            from = read.next;
        }
        Ok(())
    }
}

/// A pass as the storage names it.
fn name(began: DateTime<Utc>) -> i64 {
    began.timestamp_millis()
}
