//! Records that are as they are now: which of a chunk are worth a row, which vanished with a pass.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::{
    Parts,
    receipt::{NO_RECEIPT, Receipt},
};
use crate::{
    core::{
        position::{
            cursor::{OpenSlice, Slice, StreamKey, StreamState},
            snapshot::{Index, Sighting, Since, confirms, gone_row, hash_of, is_doubtful},
            window::Pace,
        },
        protocol::endpoint::Endpoint,
    },
    error::Result,
};

/// What a chunk's records are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DedupMode {
    /// With the fingerprints of what was handled before.
    Fingerprints,
    /// With nothing: all of it is wanted.
    Plain,
    /// With what the last pass has seen.
    Snapshot(PassView),
}

/// A pass, or what comes between two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassView {
    /// The pass whose log this adds to, by when it began.
    log: DateTime<Utc>,
    /// The last pass that came to its end.
    last: Option<DateTime<Utc>>,
    /// Every record is written, changed or not.
    rewrite: bool,
}

impl PassView {
    /// True in a pass, false between two of them.
    pub(super) fn is_pass(&self) -> bool {
        self.last != Some(self.log)
    }
}

impl DedupMode {
    /// How the records of a slice are told from those that were handled before.
    pub(super) fn of(
        endpoint: &Endpoint,
        state: &StreamState,
        open: &OpenSlice,
        pace: &Pace,
    ) -> Self {
        match (endpoint.snapshot, &open.slice, state.last_pass) {
            (Some(_), Slice::Pass, last) => Self::Snapshot(PassView {
                log: open.began,
                last,
                rewrite: state.rewrites(open.began, pace),
            }),
            (Some(_), _, Some(passed)) => Self::Snapshot(PassView {
                log: passed,
                last: Some(passed),
                rewrite: false,
            }),
            (None, Slice::Pass, _) | (Some(_), _, None) => Self::Plain,
            (None, ..) => Self::Fingerprints,
        }
    }

    /// True when a hash of each record is needed: it is its version, or tells whether it changed.
    pub(super) fn hashes(self, endpoint: &Endpoint) -> bool {
        endpoint.identity.takes_hash() || self != Self::Fingerprints
    }
}

/// Marks of this bucket stand for sightings.
const SIGHTED: i64 = i64::MIN + 1;

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

/// What is known of a stream's records, while a run goes through them.
pub(super) struct SnapshotTracker {
    set: String,
    seeing: Option<PassView>,
    index: Index,
    /// Sightings whose rows are under way, by the hash of their id.
    under_way: HashMap<u64, Sighting>,
    /// Sightings to write.
    made: Vec<Sighting>,
}

impl SnapshotTracker {
    pub(super) fn new(key: &StreamKey) -> Self {
        Self {
            set: key.to_string(),
            seeing: None,
            index: Index::default(),
            under_way: HashMap::new(),
            made: Vec::new(),
        }
    }

    /// Reads what is known, unless it was read for the same pass.
    pub(super) async fn open(&mut self, seeing: PassView, parts: &Parts) -> Result<()> {
        if self.seeing.is_some_and(|known| known.log == seeing.log) {
            // The pass may have ended: what it has seen is what comes next is compared with.
            self.seeing = Some(seeing);
            return Ok(());
        }
        self.write(parts).await?;
        let mut index = Index::default();
        if let Some(last) = seeing.last {
            each(parts, &self.set, last, |sighting| index.known(&sighting)).await?;
        }
        if seeing.last != Some(seeing.log) {
            each(parts, &self.set, seeing.log, |sighting| {
                index.seen(&sighting);
            })
            .await?;
        }
        self.index = index;
        self.seeing = Some(seeing);
        Ok(())
    }

    /// What became of a record, and the mark of its row if it is worth one.
    pub(super) fn judge(&mut self, id: &str, content: u64) -> (Since, Receipt) {
        let hash = hash_of(id);
        let since = match self.seeing {
            Some(PassView { log, last, rewrite }) if last != Some(log) => {
                self.index.pass(hash, content, rewrite)
            }
            _ => self.index.between(hash, content),
        };
        let sighting = || Sighting {
            id: id.to_owned(),
            content,
            missed: false,
        };
        match since {
            Since::Changed => drop(self.under_way.insert(hash, sighting())),
            Since::Unchanged if self.is_pass() => self.made.push(sighting()),
            Since::Unchanged | Since::Repeated => {}
        }
        (since, (SIGHTED, hash))
    }

    fn is_pass(&self) -> bool {
        self.seeing.is_some_and(|seeing| seeing.is_pass())
    }

    /// The rows of these marks are safe. Gives back the marks that are none of ours.
    pub(super) fn are_safe(&mut self, marks: &[Receipt]) -> Vec<Receipt> {
        let mut others = Vec::with_capacity(marks.len());
        for mark in marks {
            if mark.0 == SIGHTED {
                self.made.extend(self.under_way.remove(&mark.1));
            } else if *mark != NO_RECEIPT {
                others.push(*mark);
            }
        }
        others
    }

    /// Writes the sightings whose rows are safe: before a cursor passes them.
    pub(super) async fn write(&mut self, parts: &Parts) -> Result<()> {
        let made = std::mem::take(&mut self.made);
        let Some(PassView { log, .. }) = self.seeing else {
            return Ok(());
        };
        for some in made.chunks(TOGETHER) {
            let storage = &parts.storage;
            storage.add_sightings(&self.set, name(log), some).await?;
        }
        Ok(())
    }

    /// The end of a pass: which records of the last one it has not seen. Those that were missed for
    /// the first time are carried over, since data moves between pages; those that were missed
    /// before are gone. Of a pass that misses too much to be believed all are carried over;
    /// `doubted` is when the first such pass began of those before it.
    pub(super) async fn vanished(
        &mut self,
        doubted: Option<DateTime<Utc>>,
        parts: &Parts,
    ) -> Result<Vanished> {
        let Some(PassView {
            log,
            last: Some(last),
            ..
        }) = self.seeing.filter(|_| self.is_pass())
        else {
            return Ok(Vanished::default());
        };
        let mut unseen: HashMap<u64, (u64, bool)> = HashMap::new();
        let mut all = HashSet::new();
        each(parts, &self.set, last, |sighting| {
            let hash = hash_of(&sighting.id);
            all.insert(hash);
            if !self.index.has_seen(hash) {
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
        each(parts, &self.set, last, |sighting| {
            match unseen.remove(&hash_of(&sighting.id)) {
                Some((_, true)) if !is_doubted => {
                    self.index.forget(hash_of(&sighting.id));
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
        self.made.append(&mut carried);
        self.write(parts).await?;
        Ok(Vanished {
            gone,
            missed: is_doubted.then_some((missed, there)),
        })
    }

    /// Drops the logs of passes that nobody compares with any more.
    pub(super) async fn prune(&self, state: &StreamState, parts: &Parts) -> Result<()> {
        let open = state
            .open
            .as_ref()
            .filter(|open| open.slice == Slice::Pass)
            .map(|open| open.began);
        let but: Vec<i64> = open.into_iter().chain(state.last_pass).map(name).collect();
        parts.storage.drop_sightings(&self.set, &but).await
    }
}

/// A pass as the storage names it.
fn name(began: DateTime<Utc>) -> i64 {
    began.timestamp_millis()
}

/// Goes through a log.
async fn each(
    parts: &Parts,
    set: &str,
    pass: DateTime<Utc>,
    mut take: impl FnMut(Sighting),
) -> Result<()> {
    let mut from = Some(0);
    while let Some(place) = from {
        let read = parts.storage.sightings(set, name(pass), place).await?;
        read.sightings.into_iter().for_each(&mut take);
        from = read.next;
    }
    Ok(())
}

/// The rows of records that are gone.
pub(super) fn gone_rows(
    endpoint: &Endpoint,
    key: &StreamKey,
    gone: &[String],
    began: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<Vec<u8>> {
    gone.iter()
        .map(|id| gone_row(endpoint.provider, key, id, began, now))
        .collect()
}
