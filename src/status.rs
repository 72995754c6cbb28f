//! Where everything stands, for people without a console: as JSON and as a page, without secrets.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    app::{App, scale_out::QueueStatus},
    check::{self, Finding, Found, SavedStates},
    config::{Environment, Mode, Price},
    core::position::{
        cursor::{Position, Slice, StreamKey, StreamState},
        window::Window,
    },
    error::Error,
    io::expiry::Lasts,
    storage::Parked,
};

mod chart;
pub mod metrics;
mod number;
mod page;
mod view;

pub use page::{PAGE_POLICY, html};
pub use view::{Condition, StatusView};

/// What the last runs left: no source and no sink is asked.
#[derive(Default)]
pub struct Overview {
    /// When it was looked at.
    pub now: DateTime<Utc>,
    /// What was looked at, and how it was found.
    pub findings: Vec<Finding>,
    /// The streams of the settings, each with the least time between two of its runs.
    pub streams: Vec<(StreamKey, Duration)>,
    /// Where streams stand, those among them that no setting switches on any longer.
    pub states: SavedStates,
    /// What waits for the sink, if that can be told.
    pub outbox: Option<OutboxOverview>,
    /// How many records were refused, if that can be told.
    pub dead_letters: Option<u64>,
    /// The queue, where timers plan for one.
    pub queue: Option<QueueStatus>,
    /// What ends one day, the first to end at the beginning.
    pub secrets: Vec<Lasts>,
    /// What rows cost, if somebody has said so.
    pub price: Option<Price>,
}

/// What waits for the sink.
pub struct OutboxOverview {
    /// Entries.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most bytes: above it nothing is pulled.
    pub most: u64,
    /// The entry that has waited longest.
    pub oldest: Option<Parked>,
}

impl Overview {
    /// Looks at what the last runs left; without an app (wrong settings) at the settings alone.
    pub async fn look(
        app: Result<&App, Error>,
        environment: &Environment,
        mode: Mode,
        now: DateTime<Utc>,
    ) -> Self {
        let mut findings: Vec<Finding> = Vec::new();
        let mut tell = |finding| findings.push(finding);
        let settings = check::settings(environment, mode, &mut tell);
        let mut overview = Self {
            now,
            price: settings.and_then(|settings| settings.run.price),
            ..Self::default()
        };
        match app {
            Err(error) => tell(Finding {
                found: Found::Bad,
                what: "parts".to_owned(),
                text: error.to_string(),
            }),
            Ok(app) => {
                let parts = app.parts();
                let left = check::left_by_runs(app, &mut tell).await;
                let jobs = app.jobs();
                overview.streams = jobs.map(|job| (job.key.clone(), job.pace.every)).collect();
                overview.states = left.states;
                overview.secrets = left.secrets;
                overview.dead_letters = left.waiting.dead_letters;
                if let Some((batches, bytes)) = left.waiting.outbox {
                    let oldest = parts.storage.parked(1).await.unwrap_or_default();
                    overview.outbox = Some(OutboxOverview {
                        batches,
                        bytes,
                        most: parts.outbox_max,
                        oldest: oldest.into_iter().next(),
                    });
                }
                overview.queue = check::queue(app, &mut tell).await;
            }
        }
        overview.findings = findings;
        overview
    }

    /// True when nothing has to be mended.
    pub fn is_well(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.all(|finding| finding.found != Found::Bad)
    }

    /// What the function `Status` answers to a program.
    ///
    /// `{version, now, well, check: [{found, what, text}], streams: [{connection, stream, says,
    /// goodUntil, gaps, error}], outbox: {batches, bytes, oldest: {at, rows, table, why}},
    /// deadLetters}`, and `queue: {messages, oldest, poison: {messages, connections, unreadable}}` where
    /// timers plan for one.
    pub fn json(&self) -> Value {
        let states = self.states.iter();
        let streams = states.map(|(key, state)| match state {
            Ok(state) => json!({
                "connection": key.connection,
                "stream": key.stream,
                "says": sentences(state, self.now),
                "goodUntil": state.complete_until,
                "gaps": state.gaps,
                "error": state.error,
            }),
            Err(error) => json!({
                "connection": key.connection,
                "stream": key.stream,
                "says": [UNREADABLE],
                "goodUntil": null,
                "gaps": [],
                "error": error.to_string(),
            }),
        });
        let streams: Vec<Value> = streams.collect();
        let outbox = self.outbox.as_ref().map(|outbox| {
            let mut told = json!({ "batches": outbox.batches, "bytes": outbox.bytes });
            if let Some(oldest) = &outbox.oldest {
                told["oldest"] = json!({
                    "at": oldest.at,
                    "rows": oldest.rows,
                    "table": oldest.table,
                    "why": oldest.reason,
                });
            }
            told
        });
        let mut status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": self.now,
            "well": self.is_well(),
            "check": self.findings,
            "streams": streams,
            "outbox": outbox,
            "deadLetters": self.dead_letters,
        });
        if let Some(queue) = &self.queue {
            status["queue"] = json!(queue);
        }
        status
    }
}

/// What is said of a stream whose saved state can't be read.
const UNREADABLE: &str = "has a saved state that cannot be read";

/// Where a stream stands, in words.
pub fn sentences(state: &StreamState, now: DateTime<Utc>) -> Vec<String> {
    let ago =
        |time: DateTime<Utc>| format!("{} ({} ago)", utc(time), span((now - time).num_seconds()));
    let mut say = Vec::new();
    say.push(match (&state.position, state.complete_until) {
        (None, None) => "has not read anything yet".to_owned(),
        (None, Some(good)) => format!(
            "takes a new token in the next run; good until {}",
            ago(good)
        ),
        (Some(Position::Time(cursor)), _) => format!("has read everything until {}", ago(*cursor)),
        (Some(Position::Token(_)), Some(good)) => {
            format!(
                "follows the feed; has read everything the source knew at {}",
                ago(good)
            )
        }
        (Some(Position::Token(_)), None) => "follows the feed from its first token on".to_owned(),
    });
    if let Some(Window { from, to }) = state.backlog {
        say.push(format!(
            "still has to read {} to {} by window",
            utc(from),
            utc(to)
        ));
    }
    if let Some(open) = &state.open {
        let what = match &open.slice {
            Slice::Window(window) | Slice::Ingested(window) => {
                format!("{} to {}", utc(window.from), utc(window.to))
            }
            Slice::Token(_) | Slice::Latest => "the feed".to_owned(),
            Slice::Pass => "a pass over all records".to_owned(),
        };
        say.push(format!(
            "is in the middle of {what}, begun {}",
            ago(open.began)
        ));
    }
    if let Some(at) = state.no_feed {
        say.push(format!(
            "reads windows: the source had no feed at {}",
            ago(at)
        ));
    }
    if let Some(since) = state.paused {
        say.push(format!("is paused since {}", ago(since)));
    }
    if let Some(since) = state.off {
        let why = state.off_why.as_ref();
        say.push(format!(
            "is off: not offered by the source since {}{}",
            ago(since),
            why.map_or_else(String::new, |why| format!(": {why}"))
        ));
    }
    if let Some(passed) = state.last_pass {
        say.push(format!("has read all records as of {}", ago(passed)));
    }
    if let Some(lease) = state.lease.as_ref().filter(|lease| lease.holds(now)) {
        say.push(format!(
            "is being worked on by {} until {} at most",
            lease.owner,
            utc(lease.until)
        ));
    }
    if let Some(finished) = state.finished {
        let how = match &state.error {
            None => "well".to_owned(),
            Some(error) => format!("with an error: {error}"),
        };
        say.push(format!("last run ended {} {how}", ago(finished)));
    }
    for gap in &state.gaps {
        say.push(format!(
            "gap {} to {}: {}",
            utc(gap.from),
            utc(gap.to),
            gap.why
        ));
    }
    say
}

/// A time as people read it.
pub fn utc(time: DateTime<Utc>) -> String {
    time.format("%F %T UTC").to_string()
}

/// A number of seconds, in words.
pub fn span(seconds: i64) -> String {
    let duration = Duration::from_secs(seconds.max(0).unsigned_abs());
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests;
