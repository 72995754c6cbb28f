//! `cursor import`: from the stock connector's positions to ours.

use std::time::Duration;

use super::{CHANGES, Screen, StreamChange, change, named};
use crate::{
    app,
    config::{self, DEFAULT_CONNECTION, Environment, Settings, StorageSettings},
    core::{
        position::{cursor::StreamKey, window::Pace},
        protocol::{endpoint::Endpoint, source_kind::SourceKind},
        spelling::hint,
    },
    error::{Error, Result},
    import::{Resume, has_position, usual_lookback},
    io::clock::SharedClock,
    source::{eset, switched_on},
    storage::{Storage, azure},
};

/// Where the stock connector finds its storage account (`utils_sentinel.py`), and where a Function
/// App without a content share has it.
const SETTINGS: [&str; 2] = [
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "AzureWebJobsStorage",
];

#[derive(clap::Args)]
pub(in crate::cli) struct ImportArguments {
    /// The setting that names the stock connector's storage account; by default
    /// `WEBSITE_CONTENTAZUREFILECONNECTIONSTRING`, then `AzureWebJobsStorage`
    #[arg(long, value_name = "SETTING")]
    from: Option<String>,
    /// The connection that takes over
    #[arg(long, default_value = DEFAULT_CONNECTION)]
    connection: String,
    /// How much is read again before the stock connector's position, of all streams (`48h`) or of one
    /// (`eset.incidents=400d`); by default the stream's own, 72h for detections, and of incidents all
    /// since the stock connector's first landing
    #[arg(long, value_name = "[STREAM=]TIME", value_parser = lookback)]
    lookback: Vec<Lookback>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace positions that there are already
    #[arg(long)]
    force: bool,
}

/// A lookback, of one stream or of all.
#[derive(Debug, Clone)]
struct Lookback {
    stream: Option<String>,
    time: Duration,
}

fn lookback(text: &str) -> std::result::Result<Lookback, String> {
    let (stream, time) = match text.split_once('=') {
        Some((stream, time)) => (Some(stream.trim()), time),
        None => (None, text),
    };
    let known: Vec<&str> = known_to_stock(eset::STREAMS.to_vec())
        .map(|endpoint| endpoint.stream)
        .collect();
    if let Some(stream) = stream.filter(|stream| !known.contains(stream)) {
        return Err(format!(
            "there is no stream `{stream}`; there are {}{}",
            known.join(", "),
            hint(stream, known.iter().copied())
        ));
    }
    let time = humantime::parse_duration(time.trim()).map_err(|error| error.to_string())?;
    Ok(Lookback {
        stream: stream.map(str::to_owned),
        time,
    })
}

/// The one of the stream itself, else the one of all.
fn given(all: &[Lookback], stream: &str) -> Option<Duration> {
    let of = |name: Option<&str>| {
        let mut found = all.iter().filter(|one| one.stream.as_deref() == name);
        found.next_back().map(|one| one.time)
    };
    of(Some(stream)).or_else(|| of(None))
}

pub(super) async fn import(
    arguments: &ImportArguments,
    environment: &Environment,
    settings: &Settings,
    clock: &SharedClock,
    storage: &dyn Storage,
    screen: Screen,
) -> Result<()> {
    let mut changes = Vec::new();
    let end = take_over(
        arguments,
        environment,
        settings,
        clock,
        storage,
        screen,
        &mut changes,
    );
    let end = end.await;
    screen.data(&CHANGES, &changes)?;
    end
}

/// Does it, and says of each stream what becomes of it; before an error as well.
async fn take_over(
    arguments: &ImportArguments,
    environment: &Environment,
    settings: &Settings,
    clock: &SharedClock,
    storage: &dyn Storage,
    screen: Screen,
    changes: &mut Vec<StreamChange>,
) -> Result<()> {
    let streams = streams(settings, &arguments.connection)?;
    let (setting, account) = account(arguments, environment, settings, clock)?;
    let stored = account.stock_state().await;
    let stored = stored
        .map_err(|error| error.context(format!("the stock connector's state, by `{setting}`")))?;
    if stored.is_empty() {
        return Err(Error::config(format!(
            "the storage account of `{setting}` has no table of the stock connector \
             (`LastDetectionTime…`, `LastData…`): name the setting of its account with `--from`"
        )));
    }
    let now = clock.now();
    let mut found = Vec::new();
    let mut taken = Vec::new();
    for (endpoint, pace) in streams {
        let key = StreamKey::new(&arguments.connection, endpoint.stream);
        let lookback = given(&arguments.lookback, endpoint.stream)
            .unwrap_or_else(|| usual_lookback(endpoint.stream, pace.lookback, now));
        screen.say(named(&key));
        let mut tell = |sentence: &str| {
            screen.say(format!("  {sentence}"));
            changes.push(StreamChange::new(&key, sentence));
        };
        let Some(resume) = Resume::of(endpoint.stream, &stored, lookback, now) else {
            tell(
                "the stock connector has saved nothing of it that can be read; its position stays",
            );
            continue;
        };
        for sentence in &resume.says {
            tell(sentence);
        }
        if storage
            .load(&key)
            .await?
            .is_some_and(|(state, _)| has_position(&state))
        {
            tell("it has a position of its own already");
            taken.push(named(&key));
        }
        found.push((key, resume));
    }
    if matches!(settings.storage, StorageSettings::Embedded) {
        screen.say(format!(
            "positions are kept in `{}`, for runs on this machine; `STORAGE=azure` keeps them where \
             the Function App looks",
            settings.data.display()
        ));
    }
    if !taken.is_empty() && !arguments.force {
        return Err(Error::config(format!(
            "nothing was changed: there is a position of {} already; `--force` replaces it",
            taken.join(", ")
        )));
    }
    if arguments.dry_run {
        screen.say("nothing was changed (--dry-run)");
        return Ok(());
    }
    for (key, resume) in &found {
        change(storage, key, &**clock, |state| resume.apply(state)).await?;
        let saved = "saved; the next run goes on from there";
        screen.say(format!("{}: {saved}", named(key)));
        changes.push(StreamChange::new(key, saved));
    }
    Ok(())
}

/// Those that the stock connector reads as well: it knows no list without a time.
fn known_to_stock(endpoints: Vec<&'static Endpoint>) -> impl Iterator<Item = &'static Endpoint> {
    let mut endpoints = endpoints;
    endpoints.retain(|endpoint| endpoint.snapshot.is_none());
    endpoints.into_iter()
}

/// The streams of a connection, and how each is read.
fn streams(settings: &Settings, name: &str) -> Result<Vec<(&'static Endpoint, Pace)>> {
    if settings.connections.is_empty() {
        let all = known_to_stock(eset::STREAMS.to_vec());
        return Ok(all.map(|endpoint| (endpoint, endpoint.pace)).collect());
    }
    let is_eset = |one: &&config::Connection| one.source.kind() == SourceKind::Eset;
    let named = || settings.connections.iter().filter(|one| one.name == name);
    let found = named().find(is_eset).or_else(|| named().next());
    let Some(connection) = found else {
        let names: Vec<&str> = settings
            .connections
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        return Err(Error::config(format!(
            "there is no connection `{name}`; there are {}: choose one with `--connection`",
            names.join(", ")
        )));
    };
    if !is_eset(&connection) {
        return Err(Error::config(format!(
            "the connection `{name}` is not one to ESET: choose one with `--connection`"
        )));
    }
    let streams = known_to_stock(switched_on(SourceKind::Eset, &connection.choices)?);
    Ok(streams
        .map(|endpoint| {
            (
                endpoint,
                connection.streams.pace(endpoint.stream, endpoint.pace),
            )
        })
        .collect())
}

/// The stock connector's storage account, and the setting that names it.
fn account(
    arguments: &ImportArguments,
    environment: &Environment,
    settings: &Settings,
    clock: &SharedClock,
) -> Result<(String, azure::AzureStorage)> {
    let names = match &arguments.from {
        Some(name) => vec![name.as_str()],
        None => SETTINGS.to_vec(),
    };
    for name in &names {
        let part = |ending: &str| environment.get(&format!("{name}__{ending}"));
        let given = azure::StorageSettings {
            setting: Some(name),
            connection_string: environment.get(name),
            account_name: part("accountName"),
            table_service_uri: part("tableServiceUri"),
            queue_service_uri: None,
            blob_service_uri: part("blobServiceUri"),
            client_id: part("clientId"),
        };
        if let Some(account) = app::azure_account(settings, &given, clock)? {
            return Ok(((*name).to_owned(), account));
        }
    }
    Err(Error::config(format!(
        "{} not set: set it to the connection string of the stock connector's storage account, or \
         name another setting with `--from`",
        match names.as_slice() {
            [one] => format!("`{one}` is"),
            _ => format!("`{}` are", names.join("` and `")),
        }
    )))
}
