//! `SentinelPush`: brings the outbox to the sink, oldest first, under a lease of its own.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{mapping::batch::Batch, position::cursor::StreamKey},
    error::{Error, Kind, Result},
    io::retry::Limits,
    pipeline::{Counts, Deliverer, Held, Outcome, Parts, Report, Taken, health},
    storage::{DeadLetter, Parked, dead_letter},
};

/// How many entries are listed at once.
const LISTED: usize = 100;

/// Sorts what is left of an entry right behind it.
const REST: char = '~';

/// Stands in the id of an entry before the id of the dead letter that it was.
const RETRIED: &str = "-dead-";

/// The id of the entry in which a dead letter is tried again: should it be refused again, it is the
/// same letter.
pub(crate) fn retried(letter: &str, at: DateTime<Utc>) -> String {
    format!("{}{RETRIED}{letter}", at.format("%Y%m%dT%H%M%S%9f"))
}

/// The dead letter that an entry was.
fn was_letter(entry: &Parked) -> Option<&str> {
    let (_, letter) = entry.id.split_once(RETRIED)?;
    Some(letter.trim_end_matches(REST))
}

/// The name of the lease.
pub fn key() -> StreamKey {
    StreamKey::new("all", "connector.push")
}

/// Drains the outbox until it is empty, the sink fails, or the time is up.
///
/// A record lands twice only when the process dies between a push and the removal of its entry, or
/// an answer of the sink is lost.
pub async fn drain(parts: &Parts, event_time: bool, limits: &Limits) -> Report {
    let key = key();
    let mut report = Report::new(key.clone(), parts.clock.now());
    let end = leased(&key, parts, event_time, limits, &mut report).await;
    report.end(end, parts.clock.now());
    (parts.progress)(&report);
    report
}

async fn leased(
    key: &StreamKey,
    parts: &Parts,
    event_time: bool,
    limits: &Limits,
    report: &mut Report,
) -> Result<Outcome> {
    let mut held = match Held::load(parts, key).await?.take(limits).await? {
        Taken::Held(held) => held,
        Taken::Busy(lease) => {
            report.reason = Some(format!("{} holds it until {}", lease.owner, lease.until));
            return Ok(Outcome::Busy);
        }
    };
    let landers = Landers {
        parts,
        event_time,
        limits,
        known: BTreeMap::new(),
    };
    let end = entries(parts, landers, limits, report).await;
    let released = held.release(&end, report).await;
    end.and_then(|outcome| released.map(|()| outcome))
}

async fn entries(
    parts: &Parts,
    mut landers: Landers<'_>,
    limits: &Limits,
    report: &mut Report,
) -> Result<Outcome> {
    let mut blocked = Blocked::default();
    loop {
        let waiting = parts.storage.parked(LISTED + blocked.entries.len()).await?;
        // Not by one whose time somebody has taken away.
        let mut timed = waiting.iter();
        if let Some(oldest) = timed.find(|entry| entry.at > DateTime::UNIX_EPOCH) {
            report.lag_seconds = Some(age(parts, oldest));
        }
        let listed = waiting.into_iter();
        let waiting: Vec<Parked> = listed.filter(|entry| !blocked.holds(entry)).collect();
        if waiting.is_empty() {
            return blocked.error.map_or(Ok(Outcome::UpToDate), Err);
        }
        let rests: BTreeSet<String> = waiting.iter().filter_map(rest_of).collect();
        for entry in waiting {
            // A drain died when its rest was safe, and before it was taken out.
            if rests.contains(&entry.id) {
                parts.storage.drop_parked(&entry.id).await?;
                continue;
            }
            if blocked.holds_back(&entry) {
                continue;
            }
            if limits.stop.is_cancelled() || parts.clock.now() >= limits.deadline {
                return blocked.error.map_or(Ok(Outcome::Behind), Err);
            }
            match push(parts, landers.of(&entry), &entry.id, report).await {
                Err(error) if error.kind() != Kind::Transient => blocked.add(&entry, error),
                end => end?,
            }
            (parts.progress)(report);
        }
    }
}

/// One for each stream and table: that the rows of one stream are taken says nothing of another's.
struct Landers<'a> {
    parts: &'a Parts,
    event_time: bool,
    limits: &'a Limits,
    known: BTreeMap<(StreamKey, String), Deliverer>,
}

impl Landers<'_> {
    fn of(&mut self, entry: &Parked) -> &Deliverer {
        let rows = (entry.key.clone(), entry.table.clone());
        self.known.entry(rows).or_insert_with(|| {
            Deliverer::new(
                self.parts.clone(),
                self.limits.clone(),
                self.event_time,
                None,
            )
        })
    }
}

/// Tables that take nothing until somebody acts. Their entries wait, those of the others go on.
#[derive(Default)]
struct Blocked {
    tables: BTreeSet<String>,
    /// The entries that were found to wait for them.
    entries: BTreeSet<String>,
    /// Why the first of them takes nothing.
    error: Option<Error>,
}

impl Blocked {
    fn add(&mut self, entry: &Parked, error: Error) {
        self.tables.insert(entry.table.clone());
        self.entries.insert(entry.id.clone());
        self.error.get_or_insert(error);
    }

    fn holds(&self, entry: &Parked) -> bool {
        self.entries.contains(&entry.id)
    }

    fn holds_back(&mut self, entry: &Parked) -> bool {
        let waits = self.tables.contains(&entry.table);
        if waits {
            self.entries.insert(entry.id.clone());
        }
        waits
    }
}

/// The entry that this one is the rest of.
fn rest_of(entry: &Parked) -> Option<String> {
    entry.id.strip_suffix(REST).map(str::to_owned)
}

fn age(parts: &Parts, parked: &Parked) -> i64 {
    (parts.clock.now() - parked.at)
        .max(TimeDelta::zero())
        .num_seconds()
}

/// One entry: gone from the outbox when this returns well.
async fn push(parts: &Parts, lander: &Deliverer, id: &str, report: &mut Report) -> Result<()> {
    // Somebody may have dropped it by hand.
    let Some(parked) = parts.storage.parked_rows(id).await? else {
        return Ok(());
    };
    report.pages += 1;
    report.bytes += parked.bytes;
    // Rows about runs are no records.
    let mut uncounted = Counts::default();
    let counts = if health::is_health(&parked.key.stream) {
        &mut uncounted
    } else {
        &mut report.counts
    };
    let batch = Batch::from_json(&parked.table, &parked.body);
    // No table is called nothing: somebody has changed the entry.
    let Some(batch) = batch.filter(|_| !parked.table.is_empty()) else {
        let reason = "this entry of the outbox is damaged".to_owned();
        let rows = parked.rows.max(1);
        counts.pulled += rows;
        counts.dead += rows;
        bury(parts, &parked, vec![(parked.body.clone(), reason)]).await?;
        return parts.storage.drop_parked(id).await;
    };
    counts.pulled += parked.rows;
    let landed = lander.land(batch.clone(), None).await;
    let settled = landed.settled();
    counts.landed += landed.rows as u64;
    counts.dead += landed.dead.len() as u64;
    bury(parts, &parked, landed.dead).await?;
    if settled == batch.len() {
        return parts.storage.drop_parked(id).await;
    }
    if settled > 0 {
        let rest = batch.without_first(settled);
        let rest = Parked {
            id: format!("{id}{REST}"),
            rows: rest.len() as u64,
            bytes: rest.bytes() as u64,
            body: rest.json().to_vec(),
            ..parked
        };
        parts.storage.park(&rest).await?;
        parts.storage.drop_parked(id).await?;
    }
    landed.error.map_or(Ok(()), Err)
}

async fn bury(parts: &Parts, parked: &Parked, dead: Vec<(Vec<u8>, String)>) -> Result<()> {
    if dead.is_empty() {
        return Ok(());
    }
    let at = parts.clock.now();
    let letter = |(body, reason): (Vec<u8>, String)| DeadLetter {
        id: was_letter(parked).map_or_else(|| dead_letter::id(&parked.key, &body), str::to_owned),
        key: parked.key.clone(),
        table: parked.table.clone(),
        at,
        reason,
        body,
    };
    let letters: Vec<DeadLetter> = dead.into_iter().map(letter).collect();
    parts.storage.bury(&letters).await
}
