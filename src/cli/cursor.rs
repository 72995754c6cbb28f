//! `cursor`: where each stream stands, and moving it.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

use super::screen::{line, named};
use crate::{
    app,
    config::{DEFAULT_CONNECTION, Environment, Settings},
    core::{
        json::time::parse_time,
        position::{
            cursor::{StreamKey, StreamState},
            dedupe,
            window::delta,
        },
    },
    error::{Error, Result},
    io::clock::{Clock, SharedClock},
    status::{sentences, utc},
    storage::{SaveError, Storage},
};

mod import;

#[derive(clap::Subcommand)]
pub(super) enum CursorCommand {
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
    /// Leave a stream alone until it is resumed; its position stays
    Pause {
        /// The stream, such as eset.detections
        stream: String,
        /// Its connection
        #[arg(long, default_value = DEFAULT_CONNECTION)]
        connection: String,
    },
    /// Read a paused stream again, from where it stood
    Resume {
        /// The stream, such as eset.detections
        stream: String,
        /// Its connection
        #[arg(long, default_value = DEFAULT_CONNECTION)]
        connection: String,
    },
    /// Forget a stream's position: the next run is a first run. Gaps and a pause stay
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
    /// Go on where the stock ESET connector stopped, from its tables in the storage account
    Import(import::ImportArguments),
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
    command: CursorCommand,
    environment: &Environment,
    settings: &Settings,
    clock: SharedClock,
) -> Result<()> {
    let storage = app::storage(settings, &clock)?;
    let storage = &*storage;
    match command {
        CursorCommand::Show { stream } => show(storage, stream.as_deref(), clock.now()).await,
        CursorCommand::Set {
            stream,
            from,
            connection,
        } => {
            let key = key(&connection, &stream, storage).await?;
            let now = clock.now();
            let from = match from {
                When::At(from) => from,
                When::Ago(age) => now - delta(age),
            };
            if from > now {
                return Err(Error::config(format!("{from} lies in the future")));
            }
            change(storage, &key, &*clock, |state| state.rewind(from)).await?;
            line(format!(
                "{}: the next run reads from {} on",
                named(&key),
                utc(from)
            ));
            Ok(())
        }
        CursorCommand::Pause { stream, connection } => {
            let key = key(&connection, &stream, storage).await?;
            let now = clock.now();
            change(storage, &key, &*clock, |state| state.paused = Some(now)).await?;
            line(format!("{}: paused", named(&key)));
            Ok(())
        }
        CursorCommand::Resume { stream, connection } => {
            let key = key(&connection, &stream, storage).await?;
            change(storage, &key, &*clock, |state| state.paused = None).await?;
            line(format!("{}: goes on with the next run", named(&key)));
            Ok(())
        }
        CursorCommand::Reset {
            stream,
            connection,
            again,
        } => {
            let key = key(&connection, &stream, storage).await?;
            let mut paused = false;
            change(storage, &key, &*clock, |state| {
                state.reset();
                paused = state.paused.is_some();
            })
            .await?;
            if again {
                forget(storage, &key).await?;
            }
            let when = if paused { ", once it is resumed" } else { "" };
            line(format!(
                "{}: forgotten; the next run is a first run{when}",
                named(&key)
            ));
            Ok(())
        }
        CursorCommand::Import(arguments) => {
            import::import(&arguments, environment, settings, &clock, storage).await
        }
    }
}

/// The key of a stream that exists, or has a state.
async fn key(connection: &str, stream: &str, storage: &dyn Storage) -> Result<StreamKey> {
    let key = StreamKey::new(connection, stream);
    let known: Vec<&str> = app::endpoints().map(|endpoint| endpoint.stream).collect();
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
    storage: &dyn Storage,
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
        && !storage.is_gone(lease.process()).await
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
async fn forget(storage: &dyn Storage, key: &StreamKey) -> Result<()> {
    let endpoints = app::endpoints().filter(|endpoint| endpoint.stream == key.stream);
    for endpoint in endpoints {
        for set in dedupe::sets(&key.connection, endpoint.fingerprints) {
            storage.prune_fingerprints(&set, i64::MAX).await?;
        }
    }
    Ok(())
}

async fn show(storage: &dyn Storage, stream: Option<&str>, now: DateTime<Utc>) -> Result<()> {
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
