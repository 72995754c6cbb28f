//! What alerts say of incidents, kept from the run of one stream to that of the other.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Job, Parts};
use crate::{
    core::{
        json::chunk::Chunk,
        mapping::raised::{AlertMembers, IncidentMembers, Raised},
        position::{
            cursor::StreamKey,
            dedupe::{BUCKET_SECONDS, generations},
        },
    },
    error::Result,
};

/// The set of what is kept: one to two months.
fn set(connection: &str, alerts: &str) -> String {
    format!("{connection}/{alerts}/incidents")
}

/// Alerts as they pass by.
pub(super) struct Noted {
    set: String,
    members: AlertMembers,
    /// The generation that is written, and the one before.
    generations: [i64; 2],
    known: HashSet<u64>,
}

impl Noted {
    /// What there is of this generation; none for a stream of which nobody asks it.
    pub(super) async fn of(job: &Job, parts: &Parts, began: DateTime<Utc>) -> Result<Option<Self>> {
        let Some(members) = AlertMembers::of(&job.filters) else {
            return Ok(None);
        };
        let set = set(&job.key.connection, &job.key.stream);
        let generations = generations(began);
        let known = parts.storage.fingerprints(&set, generations[0]).await?;
        Ok(Some(Self {
            set,
            members,
            generations,
            known: known.into_iter().collect(),
        }))
    }

    /// Keeps what the alerts of a chunk say.
    pub(super) async fn note(&mut self, chunk: &Chunk, parts: &Parts) -> Result<()> {
        let news = self.members.news(chunk, &mut self.known);
        if news.is_empty() {
            return Ok(());
        }
        let [current, oldest] = self.generations;
        let storage = &parts.storage;
        storage
            .add_fingerprints(&self.set, &[(current, news)])
            .await?;
        storage.prune_fingerprints(&self.set, oldest).await
    }
}

/// What alerts have said until now; none for a stream of which it is not asked.
pub(super) async fn of_alerts(
    job: &Job,
    parts: &Parts,
    began: DateTime<Utc>,
) -> Result<Option<Raised>> {
    let Some(members) = IncidentMembers::of(&job.filters) else {
        return Ok(None);
    };
    let [current, oldest] = generations(began);
    let set = set(&job.key.connection, members.alerts);
    let mut known = HashSet::new();
    for generation in [current, oldest] {
        known.extend(parts.storage.fingerprints(&set, generation).await?);
    }
    // A state that can't be read is reported by the run of its own stream.
    let key = StreamKey::new(&job.key.connection, members.alerts);
    let state = parts.storage.load(&key).await.ok().flatten();
    let state = state.map(|(state, _)| state);
    let begun = state.as_ref().and_then(|state| state.history_start);
    let kept = DateTime::UNIX_EPOCH + TimeDelta::seconds(oldest * BUCKET_SECONDS);
    Ok(Some(Raised {
        members,
        since: begun.map_or(DateTime::<Utc>::MAX_UTC, |begun| begun.max(kept)),
        read_until: state
            .and_then(|state| state.complete_until)
            .unwrap_or(DateTime::UNIX_EPOCH),
        known,
    }))
}
