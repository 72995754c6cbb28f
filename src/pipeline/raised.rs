//! Who has raised an incident that comes without its alerts, by what the stream of alerts has read.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use xxhash_rust::xxh3::xxh3_64;

use super::{Job, Parts};
use crate::{
    core::{
        json::{chunk::Chunk, record::JsonObject, time::parse_time},
        mapping::filter::{Filter, is_sentinel},
        position::{
            cursor::StreamKey,
            dedupe::{BUCKET_SECONDS, generations},
        },
    },
    error::Result,
};

/// Stands for an incident that has an alert of Sentinel's own, or one of others.
fn mark(incident: &str, is_own: bool) -> u64 {
    let whose: &[u8] = if is_own { b"\0own" } else { b"\0other" };
    xxh3_64(&[incident.as_bytes(), whose].concat())
}

/// What is remembered of alerts for incidents: one to two months.
fn set(connection: &str, alerts: &str) -> String {
    format!("{connection}/{alerts}/incidents")
}

/// Alerts as they pass by: whose each is, for its incident.
pub(super) struct Noted {
    set: String,
    incident: &'static str,
    source: &'static str,
    /// The generation that is written, and the one before.
    generations: [i64; 2],
    known: HashSet<u64>,
}

impl Noted {
    /// What there is of this generation; none for a stream of which nobody asks it.
    pub(super) async fn of(job: &Job, parts: &Parts, began: DateTime<Utc>) -> Result<Option<Self>> {
        let names = job.filters.iter().find_map(|filter| match filter {
            Filter::TellsIncident(incident, source) => Some((*incident, *source)),
            _ => None,
        });
        let Some((incident, source)) = names else {
            return Ok(None);
        };
        let set = set(&job.key.connection, &job.key.stream);
        let generations = generations(began);
        let known = parts.storage.fingerprints(&set, generations[0]).await?;
        Ok(Some(Self {
            set,
            incident,
            source,
            generations,
            known: known.into_iter().collect(),
        }))
    }

    /// Remembers what the alerts of a chunk say. An alert without a source counts as one of others.
    pub(super) async fn note(&mut self, chunk: &Chunk, parts: &Parts) -> Result<()> {
        let mut new = Vec::new();
        for at in 0..chunk.handy() {
            let Ok(members) = chunk.members(at) else {
                continue;
            };
            let Some(incident) = members.text(self.incident) else {
                continue;
            };
            let source = members.text(self.source);
            let mark = mark(&incident, source.is_some_and(|source| is_sentinel(&source)));
            if self.known.insert(mark) {
                new.push(mark);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let [current, oldest] = self.generations;
        let storage = &parts.storage;
        storage
            .add_fingerprints(&self.set, &[(current, new)])
            .await?;
        storage.prune_fingerprints(&self.set, oldest).await
    }
}

/// Incidents, judged by what was noted of their alerts.
pub(super) struct Raised {
    id: &'static str,
    opened: &'static str,
    changed: &'static str,
    /// The alerts of incidents that were opened since are all known, as far as they were read.
    since: DateTime<Utc>,
    read_until: DateTime<Utc>,
    known: HashSet<u64>,
}

impl Raised {
    /// What was noted until now; none for a stream of which it is not asked.
    pub(super) async fn of(job: &Job, parts: &Parts, began: DateTime<Utc>) -> Result<Option<Self>> {
        let names = job.filters.iter().find_map(|filter| match filter {
            Filter::OwnByAlerts {
                alerts,
                id,
                opened,
                changed,
            } => Some((*alerts, *id, *opened, *changed)),
            _ => None,
        });
        let Some((alerts, id, opened, changed)) = names else {
            return Ok(None);
        };
        let [current, oldest] = generations(began);
        let set = set(&job.key.connection, alerts);
        let mut known = HashSet::new();
        for generation in [current, oldest] {
            known.extend(parts.storage.fingerprints(&set, generation).await?);
        }
        // A state that can't be read is reported by the run of its own stream.
        let key = StreamKey::new(&job.key.connection, alerts);
        let state = parts.storage.load(&key).await.ok().flatten();
        let state = state.map(|(state, _)| state);
        let begun = state.as_ref().and_then(|state| state.history_start);
        let kept = DateTime::UNIX_EPOCH + TimeDelta::seconds(oldest * BUCKET_SECONDS);
        Ok(Some(Self {
            id,
            opened,
            changed,
            since: begun.map_or(DateTime::<Utc>::MAX_UTC, |begun| begun.max(kept)),
            read_until: state
                .and_then(|state| state.complete_until)
                .unwrap_or(DateTime::UNIX_EPOCH),
            known,
        }))
    }

    /// Whether Sentinel raised all alerts of an incident. One that was opened before the first alert
    /// that was read, or has changed since the last one, can't be told.
    pub(super) fn is_own(&self, incident: &JsonObject<'_>) -> Option<bool> {
        let time = |member| incident.text(member).and_then(|text| parse_time(&text));
        let id = incident.text(self.id)?;
        if self.known.contains(&mark(&id, false)) {
            return Some(false);
        }
        let is_told = self.known.contains(&mark(&id, true))
            && time(self.opened)? >= self.since
            && time(self.changed)? <= self.read_until;
        is_told.then_some(true)
    }
}
