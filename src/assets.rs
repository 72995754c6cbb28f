//! The machine behind an address, a name or an id: from what was pulled, and who uses it, asked in
//! this moment.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    core::{
        mapping::assets::{
            Entry, Kind, Sought,
            answer::{self, Answer, Found, Known, Machine, Synced, User, Vulnerability},
        },
        position::{
            cursor::{Position, StreamKey},
            window::delta,
        },
        protocol::endpoint::Endpoint,
    },
    error::{Kind as Whose, Result},
    io::retry::Limits,
    source::endpoints,
    storage::{SharedStorage, Storage},
};

/// How long the users of all machines may be waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The service is asked for the users of so many machines, those that were seen most recently: each
/// is a call, and a tenant has 100 a minute.
const ASKED: usize = 10;

/// How many questions are under way together.
const AT_ONCE: usize = 8;

/// What came of a search.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// These machines.
    Found(Answer),
    /// None: it says so, and what to do when nothing was pulled.
    Unknown(String),
    /// Nothing was asked that has an answer.
    Unclear(String),
}

/// The machines that `sought`, an address, a host name or an id, stands for.
///
/// # Errors
/// Those of the storage. That the service can't be asked for users is part of the answer.
pub async fn find(app: &App, sought: &str, stop: &CancellationToken) -> Result<Lookup> {
    let key = match Sought::of(sought) {
        Sought::Key(key) => key,
        Sought::Nothing => {
            let why = "say what to find: an address, a host name or a device id";
            return Ok(Lookup::Unclear(why.to_owned()));
        }
        Sought::NoOnes(address) => {
            return Ok(Lookup::Unclear(format!(
                "{address} is an address that says nothing about which machine has it"
            )));
        }
    };
    let parts = app.parts();
    let entries = parts.storage.assets(Kind::Machine, &key).await?;
    let mut machines: Vec<(String, Machine)> = entries.into_iter().filter_map(read).collect();
    if machines.is_empty() {
        return unknown(app, sought.trim()).await.map(Lookup::Unknown);
    }
    answer::order(&mut machines);
    let limits = Limits {
        stop: stop.clone(),
        ..Limits::until(parts.clock.now() + delta(PATIENCE))
    };
    let found = machines.into_iter().enumerate().map(|(at, machine)| {
        let limits = limits.clone();
        async move { described(app, machine, at < ASKED, &limits).await }
    });
    let machines = stream::iter(found).buffered(AT_ONCE).try_collect().await?;
    Ok(Lookup::Found(Answer {
        find: sought.trim().to_owned(),
        machines,
    }))
}

/// One machine, with what belongs to it.
async fn described(
    app: &App,
    (connection, machine): (String, Machine),
    ask: bool,
    limits: &Limits,
) -> Result<Found> {
    let storage = &app.parts().storage;
    let id = machine.id.to_lowercase();
    let of = |kind| {
        let (connection, id) = (&connection, &id);
        async move {
            let mut entries = storage.assets(kind, id).await?;
            entries.retain(|entry| entry.name.connection == *connection);
            Ok::<_, crate::error::Error>(entries)
        }
    };
    let users = async {
        if ask {
            users(app, &connection, &machine.id, limits).await
        } else {
            Err(format!(
                "not asked: only those of the {ASKED} machines that were seen most recently are"
            ))
        }
    };
    let (users, alerts, vulnerabilities, synced) = tokio::join!(
        users,
        of(Kind::Alert),
        of(Kind::Vulnerability),
        synced(&**storage, &connection)
    );
    // Of a product that the settings no longer follow nobody would know that an alert was closed.
    let follows = |alert: &answer::Alert| {
        let product = alert.product.as_deref();
        product.is_none_or(|product| app.connections(&connection).all(|one| one.follows(product)))
    };
    let alerts = alerts?.into_iter().filter_map(read).map(|(_, one)| one);
    let alerts = alerts.filter(follows);
    let vulnerabilities: Vec<Vulnerability> = vulnerabilities?
        .into_iter()
        .filter_map(read)
        .map(|(_, one)| one)
        .collect();
    let total = vulnerabilities.len();
    let candidates = answer::candidates(vulnerabilities);
    let known = catalogue(storage, &connection, &candidates).await?;
    let (users, users_missing) = match users {
        Ok(users) => (Some(users), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Found {
        users,
        users_missing,
        alerts: answer::alerts(alerts.collect()),
        vulnerabilities: answer::Vulnerabilities {
            total,
            worst: answer::worst(candidates, |cve| known.get(cve)),
        },
        synced: synced?,
        connection,
        machine,
    })
}

/// What the catalogue knows of vulnerabilities.
async fn catalogue(
    storage: &SharedStorage,
    connection: &str,
    vulnerabilities: &[Vulnerability],
) -> Result<HashMap<String, Known>> {
    let mut names: Vec<String> = vulnerabilities
        .iter()
        .filter_map(|one| one.cve.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    let known = names.into_iter().map(|name| async move {
        let entries = storage
            .assets(Kind::Catalogue, &name.to_lowercase())
            .await?;
        let mut known = entries.into_iter().filter_map(read::<Known>);
        let known = known.rfind(|(other, _)| other == connection);
        Ok::<_, crate::error::Error>(known.map(|(_, known)| (name, known)))
    });
    let known: Vec<Option<(String, Known)>> =
        stream::iter(known).buffered(AT_ONCE).try_collect().await?;
    Ok(known.into_iter().flatten().collect())
}

/// Who uses a machine, or why that is not known.
async fn users(
    app: &App,
    connection: &str,
    machine: &str,
    limits: &Limits,
) -> std::result::Result<Vec<User>, String> {
    let mut why = format!("not configured: the settings have no connection `{connection}`");
    // Flat settings are one name for two sources, of which one knows the machine.
    for connection in app.connections(connection) {
        why = match connection.logon_users(machine, limits).await {
            Ok(Ok(users)) => return Ok(users),
            Ok(Err(why)) => why,
            Err(error) if error.kind() == Whose::Transient => {
                tracing::info!(%error, "no users");
                "the service gave no answer in time".to_owned()
            }
            Err(error) => error.to_string(),
        };
    }
    Err(why)
}

/// Up to when a connection's streams are known as a whole.
async fn synced(storage: &dyn Storage, connection: &str) -> Result<Synced> {
    let until = |kind: Kind| async move {
        let mut synced = None;
        for stream in streams_of(kind) {
            let key = StreamKey::new(connection, stream);
            let state = storage.load(&key).await?.map(|(state, _)| state);
            let until = state.and_then(|state| {
                let cursor = match state.position {
                    Some(Position::Time(cursor)) => Some(cursor),
                    _ => None,
                };
                cursor.max(state.complete_until).max(state.last_pass)
            });
            // A connection may have two sources: as a whole it is known as far as the slower one.
            synced = [synced, until].into_iter().flatten().min();
        }
        Ok::<Option<DateTime<Utc>>, crate::error::Error>(synced)
    };
    let (machines, alerts, vulnerabilities) = tokio::try_join!(
        until(Kind::Machine),
        until(Kind::Alert),
        until(Kind::Vulnerability)
    )?;
    Ok(Synced {
        machines,
        alerts,
        vulnerabilities,
    })
}

/// The streams that bring assets of a kind.
fn streams_of(kind: Kind) -> BTreeSet<&'static str> {
    let brings = |endpoint: &&Endpoint| endpoint.asset.is_some_and(|asset| asset.kind == kind);
    let endpoints = endpoints().filter(brings);
    endpoints.map(|endpoint| endpoint.stream).collect()
}

/// Why nothing is known by a name.
async fn unknown(app: &App, sought: &str) -> Result<String> {
    let parts = app.parts();
    let states = parts.storage.stored_states().await?;
    let streams = streams_of(Kind::Machine);
    let keys = states.iter().map(|(key, _)| key);
    let connections: BTreeSet<&str> = keys
        .filter(|key| streams.contains(&*key.stream))
        .map(|key| &*key.connection)
        .collect();
    let mut pulled = Vec::new();
    for connection in connections {
        if let Some(until) = synced(&*parts.storage, connection).await?.machines {
            let until = until.format("%F %T UTC");
            pulled.push(format!("connection `{connection}` as of {until}"));
        }
    }
    if !pulled.is_empty() {
        return Ok(format!(
            "no machine is known by `{sought}`: {} has none",
            pulled.join(", ")
        ));
    }
    Ok(if app.machines().next().is_some() {
        "no machines have been pulled yet: `run DefenderTimer` pulls them, as the function does by \
         its schedule"
            .to_owned()
    } else {
        "no machines are pulled: set `DEFENDER_TENANT_ID` and what goes with it, with `machines` in \
         `DEFENDER_STREAMS`, and run `DefenderTimer`"
            .to_owned()
    })
}

/// What an entry holds, with its connection. One that a later version has written may be of another
/// shape.
fn read<T: DeserializeOwned>(entry: Entry) -> Option<(String, T)> {
    let body = serde_json::from_str(&entry.body);
    let body = body.inspect_err(|error| {
        tracing::warn!(
            id = entry.name.id,
            column = error.column(),
            "an asset is not readable"
        );
    });
    body.ok().map(|body| (entry.name.connection, body))
}
