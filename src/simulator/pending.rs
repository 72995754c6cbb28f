//! Answers that were not ready: `202` with a `response-id`, good for one answer within ten
//! minutes, then dead.

use std::{collections::HashMap, sync::Mutex};

use chrono::{DateTime, TimeDelta, Utc};

use super::sync::lock;

/// How a pending answer goes on when it is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Ready,
    Dead,
    Never,
}

/// What asking again gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumed {
    Answer,
    Pending,
    Gone,
}

#[derive(Debug)]
struct Waiting {
    request: String,
    since: DateTime<Utc>,
    fate: Fate,
}

/// All answers that somebody may still ask for.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<String, Waiting>>);

impl Pending {
    /// Remembers that `request` waits under `id`.
    pub(crate) fn add(&self, id: String, request: String, fate: Fate, now: DateTime<Utc>) {
        lock(&self.0).insert(
            id,
            Waiting {
                request,
                since: now,
                fate,
            },
        );
    }

    /// `request` was sent again with `id`.
    pub(crate) fn resume(&self, id: &str, request: &str, now: DateTime<Utc>) -> Resumed {
        let mut all = lock(&self.0);
        all.retain(|_, waiting| now - waiting.since < TimeDelta::minutes(10));
        match all.get(id) {
            Some(waiting) if waiting.request != request => Resumed::Gone,
            Some(Waiting {
                fate: Fate::Never, ..
            }) => Resumed::Pending,
            Some(Waiting {
                fate: Fate::Ready, ..
            }) => {
                all.remove(id);
                Resumed::Answer
            }
            Some(Waiting {
                fate: Fate::Dead, ..
            })
            | None => Resumed::Gone,
        }
    }
}
