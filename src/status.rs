//! Where everything stands, for people without a console: in words, and as JSON without secrets.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    app::App,
    check::{self, Finding, Found},
    config::Environment,
    core::position::{
        cursor::{Position, Slice, StreamState},
        window::Window,
    },
    error::Error,
};

pub mod metrics;

/// What the function `Status` answers, from what the last runs left: no source and no sink is asked.
///
/// `{version, now, well, check: [{found, what, text}], streams: [{connection, stream, says,
/// goodUntil, gaps, error}], outbox: {batches, bytes, oldest: {at, rows, table, why}},
/// deadLetters}`, and `queue: {messages, oldest, poison: {messages, connections, unreadable}}` where timers
/// plan for one; without an app (wrong settings)
/// only the settings are checked.
pub async fn status(
    app: Result<&App, Error>,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Value {
    let mut findings: Vec<Finding> = Vec::new();
    let mut tell = |finding| findings.push(finding);
    check::settings(environment, crate::config::Mode::Host, &mut tell);
    let mut streams = Vec::new();
    let mut dead = Value::Null;
    let mut outbox = Value::Null;
    let mut queue = None;
    match app {
        Err(error) => tell(Finding {
            found: Found::Bad,
            what: "parts".to_owned(),
            text: error.to_string(),
        }),
        Ok(app) => {
            let parts = app.parts();
            let left = check::left_by_runs(app, &mut tell).await;
            for (key, state) in left.states {
                streams.push(match state {
                    Ok(state) => json!({
                        "connection": key.connection,
                        "stream": key.stream,
                        "says": sentences(&state, now),
                        "goodUntil": state.complete_until,
                        "gaps": state.gaps,
                        "error": state.error,
                    }),
                    Err(error) => json!({
                        "connection": key.connection,
                        "stream": key.stream,
                        "says": ["has a saved state that cannot be read"],
                        "goodUntil": null,
                        "gaps": [],
                        "error": error.to_string(),
                    }),
                });
            }
            if let Some((batches, bytes)) = left.waiting.outbox {
                outbox = json!({ "batches": batches, "bytes": bytes });
                let oldest = parts.storage.parked(1).await.unwrap_or_default();
                if let Some(oldest) = oldest.into_iter().next() {
                    outbox["oldest"] = json!({
                        "at": oldest.at,
                        "rows": oldest.rows,
                        "table": oldest.table,
                        "why": oldest.reason,
                    });
                }
            }
            queue = check::queue(app, &mut tell).await;
            dead = left.waiting.dead_letters.into();
        }
    }
    let well = findings.iter().all(|finding| finding.found != Found::Bad);
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": now,
        "well": well,
        "check": findings,
        "streams": streams,
        "outbox": outbox,
        "deadLetters": dead,
    });
    if let Some(queue) = queue {
        status["queue"] = json!(queue);
    }
    status
}

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
