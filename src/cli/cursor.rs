//! `cursor`: where each stream stands, and moving it.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::screen::{self, Screen, SheetColumn, line, named};
use crate::{
    app::{self, saved},
    config::{DEFAULT_CONNECTION, Environment, Settings, StorageSettings},
    core::{
        json::time::parse_time,
        position::{
            cursor::{Gap, StreamKey, StreamState},
            dedupe,
            window::delta,
        },
        spelling::hint,
    },
    error::{Error, Kind, Result},
    io::clock::{Clock, SharedClock},
    source,
    status::{sentences, utc},
    storage::{DeadLetter, ETag, SaveError, Storage, dead_letter, sqlite::SqliteStorage},
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
    screen: Screen,
) -> Result<()> {
    if let CursorCommand::Show { stream } = &command {
        let stored = stored_states(settings, &clock).await?;
        return show(stored, stream.as_deref(), clock.now(), screen);
    }
    let storage = app::storage(settings, &clock)?;
    let storage = &*storage;
    match command {
        CursorCommand::Show { .. } => Ok(()),
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
            let says = format!("the next run reads from {} on", utc(from));
            changed(screen, &[StreamChange::new(&key, says)])
        }
        CursorCommand::Pause { stream, connection } => {
            let key = key(&connection, &stream, storage).await?;
            let now = clock.now();
            change(storage, &key, &*clock, |state| state.paused = Some(now)).await?;
            changed(screen, &[StreamChange::new(&key, "paused")])
        }
        CursorCommand::Resume { stream, connection } => {
            let key = key(&connection, &stream, storage).await?;
            change(storage, &key, &*clock, |state| state.paused = None).await?;
            changed(
                screen,
                &[StreamChange::new(&key, "goes on with the next run")],
            )
        }
        CursorCommand::Reset {
            stream,
            connection,
            again,
        } => {
            let key = key(&connection, &stream, storage).await?;
            let (paused, kept) = reset(storage, &key, &*clock).await?;
            if again {
                forget(storage, &key).await?;
            }
            let mut says = Vec::new();
            if let Some(letter) = kept {
                says.push(format!(
                    "the saved state could not be read; its text is kept as dead letter {letter}"
                ));
            }
            let when = if paused { ", once it is resumed" } else { "" };
            says.push(format!("forgotten; the next run is a first run{when}"));
            let change = says.into_iter().map(|says| StreamChange::new(&key, says));
            changed(screen, &change.collect::<Vec<_>>())
        }
        CursorCommand::Import(arguments) => {
            import::import(&arguments, environment, settings, &clock, storage, screen).await
        }
    }
}

/// What was done to a stream, or what the next run makes of it.
#[derive(Serialize)]
struct StreamChange {
    connection: String,
    stream: String,
    says: String,
}

/// Of a change, in a list.
const CHANGES: [SheetColumn<StreamChange>; 3] = [
    SheetColumn::data("connection"),
    SheetColumn::data("stream"),
    SheetColumn::data("says"),
];

impl StreamChange {
    fn new(key: &StreamKey, says: impl Into<String>) -> Self {
        Self {
            connection: key.connection.clone(),
            stream: key.stream.clone(),
            says: says.into(),
        }
    }
}

fn changed(screen: Screen, changes: &[StreamChange]) -> Result<()> {
    for StreamChange {
        connection,
        stream,
        says,
    } in changes
    {
        screen.say(format!(
            "{}: {says}",
            named(&StreamKey::new(connection, stream))
        ));
    }
    screen.data(&CHANGES, changes).map(drop)
}

/// The key of a stream that exists, or has a state.
async fn key(connection: &str, stream: &str, storage: &dyn Storage) -> Result<StreamKey> {
    let key = StreamKey::new(connection, stream);
    let known: Vec<&str> = source::endpoints()
        .map(|endpoint| endpoint.stream)
        .collect();
    if known.contains(&stream) || storage.saved_text(&key).await?.is_some() {
        return Ok(key);
    }
    Err(Error::config(format!(
        "there is no stream `{stream}`; there are {}{}",
        known.join(", "),
        hint(stream, known.iter().copied())
    )))
}

/// Makes the next run a first run. Says whether the stream is paused, and as which dead letter a text
/// is kept that was no state: whatever it says that this version can't read is not lost with it.
async fn reset(
    storage: &dyn Storage,
    key: &StreamKey,
    clock: &dyn Clock,
) -> Result<(bool, Option<String>)> {
    let loaded = storage.load(key).await.and_then(|loaded| {
        let read = |(state, etag)| Ok((saved::with_page_read(key, state)?, etag));
        loaded.map(read).transpose()
    });
    let saved = match &loaded {
        Err(error) if error.kind() == Kind::Config => storage.saved_text(key).await?,
        _ => None,
    };
    let ((Err(error), Some((text, etag))), now) = ((&loaded, saved), clock.now()) else {
        let mut state = change_loaded(storage, key, clock, loaded?, StreamState::reset).await?;
        return Ok((state.paused.take().is_some(), None));
    };
    let letter = DeadLetter {
        id: dead_letter::id(key, text.as_bytes()),
        key: key.clone(),
        table: String::new(),
        at: now,
        reason: format!("no row but the saved state of a stream, which was reset: {error}"),
        body: text.clone().into_bytes(),
    };
    let id = letter.id.clone();
    storage.bury(&[letter]).await?;
    let state = StreamState::salvaged(&text, now);
    let state = change_loaded(storage, key, clock, Some((state, etag)), |_| {}).await?;
    Ok((state.paused.is_some(), Some(id)))
}

/// Changes a state that nobody works on.
async fn change(
    storage: &dyn Storage,
    key: &StreamKey,
    clock: &dyn Clock,
    change: impl FnOnce(&mut StreamState),
) -> Result<()> {
    let loaded = storage.load(key).await?;
    change_loaded(storage, key, clock, loaded, change)
        .await
        .map(drop)
}

/// Changes this state, if nobody works on it. Gives back what was saved.
async fn change_loaded(
    storage: &dyn Storage,
    key: &StreamKey,
    clock: &dyn Clock,
    loaded: Option<(StreamState, ETag)>,
    change: impl FnOnce(&mut StreamState),
) -> Result<StreamState> {
    let (mut state, etag) = match loaded {
        Some((state, etag)) => (state, Some(etag)),
        None => (StreamState::default(), None),
    };
    if let Some(lease) = &state.lease
        && lease.holds(clock.now())
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
        Ok(_) => Ok(state),
        Err(SaveError::Failed(error)) => Err(error),
        Err(SaveError::Conflict) => Err(Error::transient(format!(
            "{key}: a run saved it in this moment; try again"
        ))),
    }
}

/// Drops the fingerprints that the stream goes by.
async fn forget(storage: &dyn Storage, key: &StreamKey) -> Result<()> {
    let endpoints = source::endpoints().filter(|endpoint| endpoint.is_named(&key.stream));
    for endpoint in endpoints {
        for set in dedupe::sets(&key.connection, endpoint.fingerprints) {
            storage.prune_fingerprints(&set, i64::MAX).await?;
        }
    }
    Ok(())
}

/// All states, each with its key.
type Stored = Vec<(StreamKey, Result<StreamState>)>;

/// The states, out of a folder that may only be read where they are kept in one.
async fn stored_states(settings: &Settings, clock: &SharedClock) -> Result<Stored> {
    if !matches!(settings.storage, StorageSettings::Embedded) {
        return saved::stored_states(&*app::storage(settings, clock)?).await;
    }
    match SqliteStorage::read_only(&settings.data)? {
        Some(storage) => saved::stored_states(&storage).await,
        None => Ok(Vec::new()),
    }
}

/// Where a stream stands, as `Status` says it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StreamStand {
    connection: String,
    stream: String,
    says: Vec<String>,
    good_until: Option<DateTime<Utc>>,
    gaps: Vec<Gap>,
    error: Option<String>,
}

/// Of a stream, in a list.
const STREAMS: [SheetColumn<StreamStand>; 6] = [
    SheetColumn::data("connection"),
    SheetColumn::data("stream"),
    SheetColumn::data("goodUntil"),
    SheetColumn::data("says"),
    SheetColumn::data("gaps"),
    SheetColumn::data("error"),
];

fn show(states: Stored, stream: Option<&str>, now: DateTime<Utc>, screen: Screen) -> Result<()> {
    let mut shown = Vec::new();
    let mut damaged = Vec::new();
    for (key, state) in states {
        if stream.is_some_and(|stream| stream != key.stream) {
            continue;
        }
        let StreamKey { connection, stream } = key.clone();
        // One that can't be read hides none of the others.
        shown.push(match state {
            Ok(state) => StreamStand {
                connection,
                stream,
                says: sentences(&state, now),
                good_until: state.complete_until,
                gaps: state.gaps,
                error: state.error,
            },
            Err(error) => {
                damaged.push(format!("`{key}`"));
                StreamStand {
                    connection,
                    stream,
                    says: vec![error.to_string()],
                    good_until: None,
                    gaps: Vec::new(),
                    error: Some(error.to_string()),
                }
            }
        });
    }
    if !screen.data(&STREAMS, &shown)? {
        for StreamStand {
            connection,
            stream,
            says,
            ..
        } in &shown
        {
            line(named(&StreamKey::new(connection, stream)));
            for says in says {
                screen::sentence(says);
            }
        }
        if shown.is_empty() && stream.is_none() {
            line("no run has been saved yet");
        }
    }
    if !damaged.is_empty() {
        return Err(Error::config(format!(
            "the saved state of {} can't be read; what mends it stands above",
            damaged.join(", ")
        )));
    }
    match stream {
        Some(stream) if shown.is_empty() => Err(Error::config(format!(
            "no run of `{stream}` has been saved yet"
        ))),
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
