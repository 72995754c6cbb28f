//! `outbox` and `dead`: what waits for the sink, and what it refused. Nothing is dropped unnamed.

use indicatif::HumanBytes;
use tokio_util::sync::CancellationToken;

use super::{run::once, screen};
use crate::{
    app::{self, App, Function, failed},
    config::Settings,
    core::mapping::batch::Batch,
    error::{Error, Result},
    io::clock::{Clock, SharedClock},
    outbox_drain,
    status::utc,
    storage::{Parked, Storage},
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

pub(super) async fn outbox(
    command: OutboxCommand,
    settings: &Settings,
    clock: SharedClock,
) -> Result<()> {
    if let OutboxCommand::Retry = command {
        let app = App::build(settings, &clock)?;
        let reports = once(&app, &[Function::Push], true, &CancellationToken::new()).await;
        screen::line(screen::summary(&reports));
        return failed(&reports).map_or(Ok(()), Err);
    }
    let storage = app::storage(settings, &clock)?;
    match command {
        OutboxCommand::List => list_outbox(&*storage).await,
        OutboxCommand::Show { id } => {
            let parked = storage
                .parked_rows(&id)
                .await?
                .ok_or_else(|| missing("outbox", &id))?;
            screen::line(String::from_utf8_lossy(&parked.body));
            Ok(())
        }
        OutboxCommand::Drop { ids } => {
            for id in ids {
                let parked = storage
                    .parked_rows(&id)
                    .await?
                    .ok_or_else(|| missing("outbox", &id))?;
                storage.drop_parked(&id).await?;
                screen::line(format!(
                    "{id}: {} rows of {} dropped",
                    parked.rows, parked.key
                ));
            }
            Ok(())
        }
        OutboxCommand::Retry => Ok(()),
    }
}

async fn list_outbox(storage: &dyn Storage) -> Result<()> {
    let waiting = storage.parked(LISTED).await?;
    if waiting.is_empty() {
        screen::line("nothing waits");
        return Ok(());
    }
    let columns = ["id", "since", "stream", "table", "rows", "bytes", "why"].map(str::to_owned);
    let row = |parked: Parked| {
        [
            parked.id,
            utc(parked.at),
            parked.key.to_string(),
            parked.table,
            parked.rows.to_string(),
            HumanBytes(parked.bytes).to_string(),
            parked.reason,
        ]
        .map(Some)
        .into()
    };
    screen::line(screen::rows(
        &columns,
        waiting.into_iter().map(row).collect(),
    ));
    Ok(())
}

pub(super) async fn dead(
    command: DeadCommand,
    settings: &Settings,
    clock: SharedClock,
) -> Result<()> {
    let storage = app::storage(settings, &clock)?;
    match command {
        DeadCommand::List => list_dead(&*storage).await,
        DeadCommand::Show { id } => {
            let letter = storage
                .dead_letter(&id)
                .await?
                .ok_or_else(|| missing("letter", &id))?;
            screen::line(String::from_utf8_lossy(&letter.body));
            Ok(())
        }
        DeadCommand::Retry { ids } => {
            for id in ids {
                retry(&*storage, &id, &*clock).await?;
            }
            Ok(())
        }
        DeadCommand::Drop { ids } => {
            for id in ids {
                let letter = storage
                    .dead_letter(&id)
                    .await?
                    .ok_or_else(|| missing("letter", &id))?;
                storage.drop_dead_letter(&id).await?;
                screen::line(format!("{id}: a letter of {} dropped", letter.key));
            }
            Ok(())
        }
    }
}

async fn list_dead(storage: &dyn Storage) -> Result<()> {
    let letters = storage.dead_letters(LISTED).await?;
    if letters.is_empty() {
        screen::line("there are none");
        return Ok(());
    }
    let columns = ["id", "since", "stream", "bytes", "why"].map(str::to_owned);
    let row = |letter: crate::storage::DeadLetter| {
        let bytes = HumanBytes(letter.body.len() as u64).to_string();
        [
            letter.id,
            utc(letter.at),
            letter.key.to_string(),
            bytes,
            letter.reason,
        ]
        .map(Some)
        .into()
    };
    screen::line(screen::rows(
        &columns,
        letters.into_iter().map(row).collect(),
    ));
    Ok(())
}

/// A row goes back into the outbox; the letter goes when it is safe there.
async fn retry(storage: &dyn Storage, id: &str, clock: &dyn Clock) -> Result<()> {
    let letter = storage
        .dead_letter(id)
        .await?
        .ok_or_else(|| missing("letter", id))?;
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
    screen::line(format!("{id}: waits in the outbox for the next push"));
    Ok(())
}

fn missing(what: &str, id: &str) -> Error {
    Error::config(format!(
        "there is no {what} entry `{id}`; `list` names those there are"
    ))
}
