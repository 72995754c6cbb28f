//! What the stock ESET connector has saved, and where a stream of ours goes on from it.
//!
//! The stock connector keeps its state in Table Storage, one table per source, one entity in each,
//! whose keys are the table's name; every entity has the string `TimeGenerated` beside it, which says
//! when it was written (up to 3.2: `utils_sentinel.py` of `Solutions/ESET Protect Platform` in
//! github.com/Azure/Azure-Sentinel; 3.3: seen in no public file, so that only the names' beginning is
//! gone by).
//!
//! | version | table | what it holds | what it proves |
//! |---|---|---|---|
//! | up to 3.2 | `LastDetectionTime` + `EP` `EI` `ECOS` `INCIDENTS` | a property of the table's name: the latest event time that was landed, cut to seconds, plus 1 s | all up to that time, less 1 s |
//! | 3.3 | `LastData` + a source | a delta token, or a time and a page token; the names are not public | all until it was saved, or until that time |
//!
//! No token is used again: it belongs to one feed, and which one cannot be known for sure. Whatever
//! can't be read counts as of the time at which it was saved, the service's own `Timestamp`.

use std::{sync::LazyLock, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::core::position::{
    cursor::{Gap, StreamState},
    window::delta,
};

mod evidence;
mod words;

pub use evidence::{Stored, is_stock_table};

use evidence::{Evidence, Version};

/// The stream that windows read by the time of an update, not of the event.
const INCIDENTS: &str = "eset.incidents";

/// The stock connector landed nothing before: its solution was published on 29 October 2024
/// (`SolutionMetadata.json` in github.com/Azure/Azure-Sentinel), and its first run read hours.
static FIRST_LANDING: LazyLock<DateTime<Utc>> =
    LazyLock::new(|| DateTime::from_timestamp(1_727_740_800, 0).unwrap_or_default());

/// True for the stream that the stock connector lands once for each record, as it is created.
fn are_incidents(stream: &str) -> bool {
    stream == INCIDENTS
}

/// How much is read again before the stock connector's position, unless somebody says otherwise:
/// the lookback of the stream; of incidents all since its first landing. It lands an incident once,
/// and what became of it since is found by the time of its last update alone.
pub fn usual_lookback(stream: &str, lookback: Duration, now: DateTime<Utc>) -> Duration {
    if are_incidents(stream) {
        let all = (now - *FIRST_LANDING).to_std().unwrap_or_default();
        return lookback.max(all);
    }
    lookback
}

/// Where a stream goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The stream.
    pub stream: String,
    /// What the stock connector has read, as far as its state proves it.
    pub proven: DateTime<Utc>,
    /// What is asked for first: `proven` minus the lookback.
    pub from: DateTime<Utc>,
    /// Records from `from` until then may have been landed by the stock connector, and land again.
    pub repeats_until: DateTime<Utc>,
    /// What windows can't prove, when the stock connector followed a token.
    pub gap: Option<Gap>,
    /// All of it in words: what was found, where the stream goes on, what repeats.
    pub says: Vec<String>,
}

impl Resume {
    /// Where `stream` goes on, from all that the stock connector has saved. `None` when it has saved
    /// nothing of this stream from which anything follows.
    pub fn of(
        stream: &str,
        stored: &[Stored],
        lookback: Duration,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let (used, left_over) = chosen(stream, stored);
        // The earliest: a stream that carries two sources may miss nothing of either.
        let proven: Option<Vec<_>> = used.iter().map(|one| one.proven(now)).collect();
        let first = proven?.into_iter().min()?;
        let last = used.iter().filter_map(|one| one.landed(now)).max();
        let from = first - delta(lookback);
        // Incidents are found by the time of their last update: nothing is out of a window's reach.
        let by_token = |one: &Evidence| one.version == Version::From3_3 && one.time.is_none();
        let followed_a_token = stream != INCIDENTS && used.iter().any(by_token);
        let mut resume = Self {
            stream: stream.to_owned(),
            proven: first,
            from,
            repeats_until: last.unwrap_or(first).max(first),
            gap: followed_a_token.then(|| words::gap(first, from, now)),
            says: Vec::new(),
        };
        resume.says = words::told(&resume, &used, &left_over, lookback, now);
        Some(resume)
    }

    /// How many hours of what the stock connector has landed may land again, rounded up.
    pub fn hours(&self) -> i64 {
        let length = self.repeats_until - self.from;
        (length + TimeDelta::hours(1) - TimeDelta::nanoseconds(1)).num_hours()
    }

    /// Makes the next run of the stream read from there on. A stream that follows a feed takes its
    /// token first, then reads the time between by window. That it is paused, and its gaps, stay.
    pub fn apply(&self, state: &mut StreamState) {
        // A stream without a floor reads from the position itself: the lookback is in it.
        state.reset();
        if let Some(gap) = &self.gap {
            state.add_gap(gap.clone());
        }
        state.rewind(self.from);
    }
}

/// True when a stream has a position that an import would replace.
pub fn has_position(state: &StreamState) -> bool {
    state.position.is_some() || state.backlog.is_some() || state.complete_until.is_some()
}

/// What counts for a stream, and what an update of the stock connector has left behind.
fn chosen(stream: &str, stored: &[Stored]) -> (Vec<Evidence>, Vec<Evidence>) {
    let all: Vec<Evidence> = stored.iter().filter_map(Evidence::of).collect();
    let named = |one: &&Evidence| one.streams.contains(&stream);
    let of_version = |version| {
        all.iter()
            .filter(named)
            .filter(move |one| one.version == version)
    };
    let newest = |version| of_version(version).filter_map(|one| one.saved).max();
    let (times, data) = (newest(Version::UpTo3_2), newest(Version::From3_3));
    let (mut used, mut left_over) = (Vec::new(), Vec::new());
    for one in all.iter().filter(named) {
        // An update writes to tables of other names, and leaves the old ones as they are.
        let is_old = match (one.version, times, data) {
            (Version::UpTo3_2, Some(times), Some(data)) => times < data,
            (Version::From3_3, Some(times), Some(data)) => data < times,
            _ => false,
        };
        let list = if is_old { &mut left_over } else { &mut used };
        list.push(one.clone());
    }
    if of_version(Version::From3_3).next().is_none() {
        // Of which stream such a table is, nobody knows: it counts beside the others.
        used.extend(all.iter().filter(|one| one.streams.is_empty()).cloned());
    }
    (used, left_over)
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
