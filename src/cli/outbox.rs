//! `outbox` and `dead`: what waits for the sink, and what it refused. Nothing is dropped unnamed.

use chrono::{DateTime, Utc};
use indicatif::HumanBytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{
    run::once,
    screen::{self, Screen, SheetColumn},
};
use crate::{
    app::{self, App, Function, failed},
    config::Settings,
    core::{count::counted, mapping::batch::Batch, position::cursor::StreamKey},
    error::{Error, Result},
    io::clock::{Clock, SharedClock},
    outbox_drain,
    sink::workspace::Answer,
    status::utc,
    storage::{DeadLetter, Parked, Storage},
};

/// The most entries of a listing.
const LISTED: usize = 1000;

#[derive(clap::Subcommand)]
pub(super) enum OutboxCommand {
    /// List what waits for the sink, oldest first
    List,
    /// Print the rows of an entry, as JSON
    Show {
        /// The entry, as `outbox list` names it
        id: String,
    },
    /// Push everything now, as `SentinelPush` does
    Retry,
    /// Drop entries for good
    Drop {
        /// The entries, as `outbox list` names them
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(clap::Subcommand)]
pub(super) enum DeadCommand {
    /// List records and rows that were refused, with the reason
    List,
    /// Print a letter, whole
    Show {
        /// The letter, as `dead list` names it
        id: String,
    },
    /// Put rows into the outbox again, for the next push
    Retry {
        /// The letters, as `dead list` names them
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Drop letters for good
    Drop {
        /// The letters, as `dead list` names them
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// An entry of the outbox, or a dead letter, in a list.
#[derive(Serialize)]
struct ListedEntry {
    id: String,
    since: DateTime<Utc>,
    connection: String,
    stream: String,
    table: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    bytes: u64,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl ListedEntry {
    fn stream(&self) -> String {
        format!("{}/{}", self.connection, self.stream)
    }
}

impl From<Parked> for ListedEntry {
    fn from(parked: Parked) -> Self {
        Self {
            id: parked.id,
            since: parked.at,
            connection: parked.key.connection,
            stream: parked.key.stream,
            table: parked.table,
            rows: Some(parked.rows),
            bytes: parked.bytes,
            why: parked.reason,
            body: None,
        }
    }
}

impl From<DeadLetter> for ListedEntry {
    fn from(letter: DeadLetter) -> Self {
        Self {
            id: letter.id,
            since: letter.at,
            connection: letter.key.connection,
            stream: letter.key.stream,
            table: letter.table,
            rows: None,
            bytes: letter.body.len() as u64,
            why: letter.reason,
            body: None,
        }
    }
}

/// Of an entry, in a list.
const ENTRIES: [SheetColumn<ListedEntry>; 8] = [
    SheetColumn::text("id", "id", |kept| kept.id.clone()),
    SheetColumn::text("since", "since", |kept| utc(kept.since)),
    SheetColumn::data("connection"),
    SheetColumn::text("stream", "stream", ListedEntry::stream),
    SheetColumn::text("table", "table", |kept| kept.table.clone()),
    SheetColumn::number("rows", "rows", |kept| {
        kept.rows.unwrap_or_default().to_string()
    }),
    SheetColumn::number("bytes", "bytes", |kept| HumanBytes(kept.bytes).to_string()),
    SheetColumn::text("why", "why", |kept| kept.why.clone()),
];

/// Of a letter, in a list.
const LETTERS: [SheetColumn<ListedEntry>; 7] = [
    SheetColumn::text("id", "id", |kept| kept.id.clone()),
    SheetColumn::text("since", "since", |kept| utc(kept.since)),
    SheetColumn::data("connection"),
    SheetColumn::text("stream", "stream", ListedEntry::stream),
    SheetColumn::data("table"),
    SheetColumn::number("bytes", "bytes", |kept| HumanBytes(kept.bytes).to_string()),
    SheetColumn::text("why", "why", |kept| kept.why.clone()),
];

/// Of a letter that is shown whole.
const LETTER: [SheetColumn<ListedEntry>; 8] = [
    SheetColumn::data("id"),
    SheetColumn::data("since"),
    SheetColumn::data("connection"),
    SheetColumn::data("stream"),
    SheetColumn::data("table"),
    SheetColumn::data("bytes"),
    SheetColumn::data("why"),
    SheetColumn::data("body"),
];

/// What became of an entry or a letter.
#[derive(Serialize)]
struct EntryChange {
    id: String,
    connection: String,
    stream: String,
    state: EntryState,
}

/// Where an entry or a letter is by now.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum EntryState {
    Dropped,
    /// In the outbox, for the next push.
    Waiting,
}

/// Of a change, in a list.
const CHANGES: [SheetColumn<EntryChange>; 4] = [
    SheetColumn::data("id"),
    SheetColumn::data("connection"),
    SheetColumn::data("stream"),
    SheetColumn::data("state"),
];

/// Changes one after the other; what was done before an error is told as well.
struct EntryChanges {
    screen: Screen,
    done: Vec<EntryChange>,
}

impl EntryChanges {
    fn new(screen: Screen) -> Self {
        let done = Vec::new();
        Self { screen, done }
    }

    fn tell(&mut self, id: String, key: StreamKey, state: EntryState, text: &str) {
        self.screen.say(format!("{id}: {text}"));
        self.done.push(EntryChange {
            id,
            connection: key.connection,
            stream: key.stream,
            state,
        });
    }

    fn end(self, end: Result<()>) -> Result<()> {
        self.screen.data(&CHANGES, &self.done)?;
        end
    }
}

pub(super) async fn outbox(
    command: OutboxCommand,
    settings: &Settings,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    if let OutboxCommand::Retry = command {
        let app = App::build(settings, &clock)?;
        let push = [Function::Push];
        let reports = once(&app, &push, true, &CancellationToken::new(), screen).await;
        screen.summary(&reports)?;
        return failed(&reports).map_or(Ok(()), Err);
    }
    let storage = app::storage(settings, &clock)?;
    let storage = &*storage;
    match command {
        OutboxCommand::List => {
            let waiting = storage.parked(LISTED).await?.into_iter();
            let waiting: Vec<ListedEntry> = waiting.map(ListedEntry::from).collect();
            screen.list(&ENTRIES, &waiting, "nothing waits")
        }
        OutboxCommand::Show { id } => {
            let parked = parked(storage, &id).await?;
            if screen.is_for_people() || screen.is_json() {
                screen::line(String::from_utf8_lossy(&parked.body));
                return Ok(());
            }
            screen.rows(&records(&parked.body)?)
        }
        OutboxCommand::Drop { ids } => {
            let mut changes = EntryChanges::new(screen);
            let end = drop_entries(storage, ids, &mut changes).await;
            changes.end(end)
        }
        OutboxCommand::Retry => Ok(()),
    }
}

async fn parked(storage: &dyn Storage, id: &str) -> Result<Parked> {
    let parked = storage.parked_rows(id).await?;
    parked.ok_or_else(|| missing("outbox", id))
}

async fn drop_entries(
    storage: &dyn Storage,
    ids: Vec<String>,
    changes: &mut EntryChanges,
) -> Result<()> {
    for id in ids {
        let parked = parked(storage, &id).await?;
        storage.drop_parked(&id).await?;
        let text = format!("{} of {} dropped", counted(parked.rows, "row"), parked.key);
        changes.tell(id, parked.key, EntryState::Dropped, &text);
    }
    Ok(())
}

/// Rows as they wait, under the names of all their members.
fn records(body: &[u8]) -> Result<Answer> {
    let rows: Vec<Map<String, Value>> = serde_json::from_slice(body)
        .map_err(|error| Error::contract(format!("the entry holds no rows: {error}")))?;
    let mut columns: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(Map::keys) {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    let rows = rows.iter().map(|row| {
        let values = columns.iter().map(|name| row.get(name).map(screen::scalar));
        values.collect()
    });
    let rows = rows.collect();
    Ok(Answer { columns, rows })
}

pub(super) async fn dead(
    command: DeadCommand,
    settings: &Settings,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    let storage = app::storage(settings, &clock)?;
    let storage = &*storage;
    match command {
        DeadCommand::List => {
            let letters = storage.dead_letters(LISTED).await?.into_iter();
            let letters: Vec<ListedEntry> = letters.map(ListedEntry::from).collect();
            screen.list(&LETTERS, &letters, "there are none")
        }
        DeadCommand::Show { id } => {
            let letter = letter(storage, &id).await?;
            let body = String::from_utf8_lossy(&letter.body).into_owned();
            let mut kept = ListedEntry::from(letter);
            if screen.is_for_people() {
                screen::line(body);
                return Ok(());
            }
            kept.body = Some(body);
            if screen.is_json() {
                return screen::json(&kept);
            }
            screen.data(&LETTER, &[kept]).map(drop)
        }
        DeadCommand::Retry { ids } => {
            let mut changes = EntryChanges::new(screen);
            let mut end = Ok(());
            for id in ids {
                end = retry(storage, &id, &*clock, &mut changes).await;
                if end.is_err() {
                    break;
                }
            }
            changes.end(end)
        }
        DeadCommand::Drop { ids } => {
            let mut changes = EntryChanges::new(screen);
            let end = drop_letters(storage, ids, &mut changes).await;
            changes.end(end)
        }
    }
}

async fn letter(storage: &dyn Storage, id: &str) -> Result<DeadLetter> {
    let letter = storage.dead_letter(id).await?;
    letter.ok_or_else(|| missing("letter", id))
}

async fn drop_letters(
    storage: &dyn Storage,
    ids: Vec<String>,
    changes: &mut EntryChanges,
) -> Result<()> {
    for id in ids {
        let letter = letter(storage, &id).await?;
        storage.drop_dead_letter(&id).await?;
        let text = format!("a letter of {} dropped", letter.key);
        changes.tell(id, letter.key, EntryState::Dropped, &text);
    }
    Ok(())
}

/// A row goes back into the outbox; the letter goes when it is safe there.
async fn retry(
    storage: &dyn Storage,
    id: &str,
    clock: &dyn Clock,
    changes: &mut EntryChanges,
) -> Result<()> {
    let letter = letter(storage, id).await?;
    let body = [b"[", letter.body.as_slice(), b"]"].concat();
    let batch = Batch::from_json(&letter.table, &body).ok_or_else(|| {
        Error::config(format!(
            "{id} is no row but what came in the place of a record ({}); there is nothing to push \
             again",
            letter.reason
        ))
    })?;
    let at = clock.now();
    let parked = Parked {
        id: outbox_drain::retried(id, at),
        key: letter.key.clone(),
        table: letter.table.clone(),
        at,
        rows: batch.len() as u64,
        bytes: batch.bytes() as u64,
        reason: format!("a dead letter that is tried again ({})", letter.reason),
        body,
    };
    storage.park(&parked).await?;
    storage.drop_dead_letter(id).await?;
    let text = "waits in the outbox for the next push";
    changes.tell(id.to_owned(), letter.key, EntryState::Waiting, text);
    Ok(())
}

fn missing(what: &str, id: &str) -> Error {
    Error::config(format!(
        "there is no {what} entry `{id}`; `list` names those there are"
    ))
}
