//! `cursor`: where each stream stands, and moving it.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

use super::screen::{line, named, span};
use crate::{
    config::{DEFAULT_CONNECTION, Settings},
    core::{
        cursor::{Position, Slice, StreamKey, StreamState},
        record::parse_time,
        window::{Window, delta},
    },
    embedded::EmbeddedFile,
    error::{Error, Result},
    io::clock::{Clock, SharedClock},
    source::eset,
    storage::{Fingerprints, SaveError, StateStore, sqlite::SqliteStorage},
};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Say where streams stand
    Show {
        /// Only this stream
        stream: Option<String>,
    },
    /// Make the next run read from a time on; what has landed already is dropped as a duplicate
    Set {
        /// The stream, such as eset.detections
        stream: String,
        /// 2026-11-20, 2026-11-20T08:00:00Z, or an age such as 36h or 3d
        #[arg(value_parser = time)]
        from: When,
        /// Its connection
        #[arg(long, default_value = DEFAULT_CONNECTION)]
        connection: String,
    },
    /// Forget a stream's position: the next run is a first run
    Reset {
        /// The stream, such as eset.detections
        stream: String,
        /// Its connection
        #[arg(long, default_value = DEFAULT_CONNECTION)]
        connection: String,
        /// Forget what has landed as well, so that it lands again
        #[arg(long)]
        again: bool,
    },
}

/// A time, or an age.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    At(DateTime<Utc>),
    Ago(Duration),
}

fn time(text: &str) -> std::result::Result<When, String> {
    let midnight = || {
        Some(
            text.parse::<NaiveDate>()
                .ok()?
                .and_hms_opt(0, 0, 0)?
                .and_utc(),
        )
    };
    let age = || humantime::parse_duration(text).ok().map(When::Ago);
    parse_time(text)
        .or_else(midnight)
        .map(When::At)
        .or_else(age)
        .ok_or_else(|| {
            "expected a time such as 2026-11-20 or 2026-11-20T08:00:00Z, or an age such as 36h"
                .to_owned()
        })
}

pub(super) async fn cursor(
    command: Command,
    settings: &Settings,
    clock: SharedClock,
) -> Result<()> {
    let storage = SqliteStorage::new(EmbeddedFile::open(&settings.data)?)?;
    match command {
        Command::Show { stream } => show(&storage, stream.as_deref(), clock.now()).await,
        Command::Set {
            stream,
            from,
            connection,
        } => {
            let key = key(&connection, &stream, &storage).await?;
            let now = clock.now();
            let from = match from {
                When::At(from) => from,
                When::Ago(age) => now - delta(age),
            };
            if from > now {
                return Err(Error::config(format!("{from} lies in the future")));
            }
            change(&storage, &key, &*clock, |state| state.rewind(from)).await?;
            line(format!(
                "{}: the next run reads from {} on",
                named(&key),
                utc(from)
            ));
            Ok(())
        }
        Command::Reset {
            stream,
            connection,
            again,
        } => {
            let key = key(&connection, &stream, &storage).await?;
            change(&storage, &key, &*clock, |state| {
                *state = StreamState::default();
            })
            .await?;
            if again {
                forget(&storage, &key).await?;
            }
            line(format!(
                "{}: forgotten; the next run is a first run",
                named(&key)
            ));
            Ok(())
        }
    }
}

/// The key of a stream that exists, or has a state.
async fn key(connection: &str, stream: &str, storage: &SqliteStorage) -> Result<StreamKey> {
    let key = StreamKey::new(connection, stream);
    let known: Vec<&str> = eset::STREAMS
        .iter()
        .map(|endpoint| endpoint.stream)
        .collect();
    if known.contains(&stream) || storage.load(&key).await?.is_some() {
        return Ok(key);
    }
    Err(Error::config(format!(
        "there is no stream `{stream}`; there are {}",
        known.join(", ")
    )))
}

/// Changes a state that nobody works on.
async fn change(
    storage: &SqliteStorage,
    key: &StreamKey,
    clock: &dyn Clock,
    change: impl FnOnce(&mut StreamState),
) -> Result<()> {
    let (mut state, etag) = match storage.load(key).await? {
        Some((state, etag)) => (state, Some(etag)),
        None => (StreamState::default(), None),
    };
    if let Some(lease) = &state.lease
        && lease.until > clock.now()
        && !storage
            .is_gone(lease.owner.split('#').next().unwrap_or_default())
            .await
    {
        return Err(Error::transient(format!(
            "{key}: a run works on it until {} at the latest; try again then",
            utc(lease.until)
        )));
    }
    change(&mut state);
    state.lease = None;
    match storage.save(key, &state, etag.as_ref()).await {
        Ok(_) => Ok(()),
        Err(SaveError::Failed(error)) => Err(error),
        Err(SaveError::Conflict) => Err(Error::transient(format!(
            "{key}: a run saved it in this moment; try again"
        ))),
    }
}

/// Drops the fingerprints that the stream goes by.
async fn forget(storage: &SqliteStorage, key: &StreamKey) -> Result<()> {
    let endpoints = eset::STREAMS
        .iter()
        .filter(|endpoint| endpoint.stream == key.stream);
    for endpoint in endpoints {
        let set = format!("{}/{}", key.connection, endpoint.fingerprints);
        storage.prune_fingerprints(&set, i64::MAX).await?;
    }
    Ok(())
}

async fn show(storage: &SqliteStorage, stream: Option<&str>, now: DateTime<Utc>) -> Result<()> {
    let states = storage.states().await?;
    let mut shown = 0;
    for (key, state) in &states {
        if stream.is_none_or(|stream| stream == key.stream) {
            shown += 1;
            line(named(key));
            for sentence in sentences(state, now) {
                line(format!("  {sentence}"));
            }
        }
    }
    match (shown, stream) {
        (0, Some(stream)) => Err(Error::config(format!(
            "no run of `{stream}` has been saved yet"
        ))),
        (0, None) => {
            line("no run has been saved yet");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Where a stream stands, in words.
fn sentences(state: &StreamState, now: DateTime<Utc>) -> Vec<String> {
    let ago =
        |time: DateTime<Utc>| format!("{} ({} ago)", utc(time), span((now - time).num_seconds()));
    let mut say = Vec::new();
    say.push(match (&state.position, state.good) {
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
            Slice::Window(window) => format!("{} to {}", utc(window.from), utc(window.to)),
            Slice::Token(_) | Slice::Latest => "the feed".to_owned(),
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
    if let Some(since) = state.off {
        say.push(format!(
            "is off: not offered by the source since {}",
            ago(since)
        ));
    }
    if let Some(lease) = state.lease.as_ref().filter(|lease| lease.until > now) {
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

fn utc(time: DateTime<Utc>) -> String {
    time.format("%F %T UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages_are_understood() {
        assert!(
            matches!(time("2026-11-20"), Ok(When::At(at)) if utc(at) == "2026-11-20 00:00:00 UTC")
        );
        assert!(
            matches!(time("2026-11-20T10:00+02:00"), Ok(When::At(at)) if utc(at) == "2026-11-20 08:00:00 UTC")
        );
        assert!(matches!(time("36h"), Ok(When::Ago(age)) if age == Duration::from_hours(36)));
        assert!(time("yesterday").is_err());
    }
}
