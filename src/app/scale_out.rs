//! `SCALE_OUT=queue`: the timer plans and puts one message a lane on a queue, a worker pulls what a message
//! names, and the Functions host decides how many workers there are.
//!
//! A message is a wake-up call, as a timer's is: the lease of each stream is what keeps two apart, and the
//! saved states are what a plan goes by. So it may come twice, late or not at all. A note in a table says
//! which lane has a message, so that none is put in twice while one waits; it goes when its message is done
//! with, and counts for nothing once [`LIFE`] is over or the queue is empty.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    App, Function, RunOptions, Stream,
    lanes::{Waiting, lanes},
    plan::{LIFE, LaneFate, LaneMessage, ReadMessage, Standing, fate},
    refuse,
};
use crate::{
    core::{
        metrics::{QUEUE_AGE, QUEUE_MESSAGES, of_app},
        position::cursor::StreamKey,
    },
    error::{Error, Result},
    pipeline::Report,
    storage::azure::{
        AzureStorage,
        queue::{PeekedMessage, Queue},
        table::{Key, Properties, Query, Table, Written},
    },
    telemetry,
};

/// The queue of lanes that are to be pulled; `PullWorker/function.json` names it too.
pub const PULL_QUEUE: &str = "connector-pull";

/// The queue of messages that the Functions host has given up: it adds this ending by itself
/// (learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue-trigger).
pub const POISON_QUEUE: &str = "connector-pull-poison";

/// The table of notes.
pub const NOTES_TABLE: &str = "connectorlanes";

/// How many lanes are put on the queue side by side. Their order is kept but for these.
const PUTS_AT_ONCE: usize = 8;

/// How long a look at the queue may take: what does not answer by then is away.
const LOOK_PATIENCE: Duration = Duration::from_secs(8);

/// When what waits longer says that nobody works: three plans of five minutes.
const LONG: Duration = Duration::from_mins(15);

const PLAN: &str = "Plan";
const PLANNED: &str = "Planned";

/// The queue, and the notes of what waits in it.
pub(super) struct PullQueue {
    queue: Queue,
    poison: Queue,
    notes: Table,
}

/// What a plan has done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LanePlan {
    /// The lanes that were put on the queue, longest waiting first.
    pub queued: Vec<String>,
    /// How many lanes wait in it from an earlier plan.
    pub waiting: usize,
    /// How many lanes somebody works on.
    pub held: usize,
    /// How many lanes have nothing that is due.
    pub not_due: usize,
    /// How many messages were in the queue before.
    pub messages: u64,
    /// Since when the oldest of them has waited for its first try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<DateTime<Utc>>,
    /// The connections that can't be pulled from: no message names them.
    #[serde(rename = "streams")]
    pub refused: Vec<Report>,
    /// Why some lanes could not be put on the queue, or none.
    #[serde(skip)]
    pub error: Option<Error>,
}

/// What came of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pulled {
    /// The runs.
    #[serde(rename = "streams")]
    pub reports: Vec<Report>,
    /// What of the message could not be pulled, and why that does no harm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// How the queue stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// How many messages are in it, those that are being worked on among them.
    pub messages: u64,
    /// Since when the oldest has waited for its first try, as far as its head shows.
    pub oldest: Option<DateTime<Utc>>,
    /// What the Functions host has given up.
    pub poison: Poison,
}

/// Messages that the Functions host has given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Poison {
    /// How many there are.
    pub messages: u64,
    /// How many of the first 32 name each connection.
    pub connections: BTreeMap<String, u64>,
    /// How many of the first 32 can't be read.
    pub unreadable: u64,
}

impl QueueStatus {
    /// True when messages wait so long that nobody seems to work on them.
    pub fn is_stuck(&self, now: DateTime<Utc>) -> bool {
        let waited = self.oldest.and_then(|oldest| (now - oldest).to_std().ok());
        waited.is_some_and(|waited| waited >= LONG)
    }
}

impl PullQueue {
    /// The queue in an account. Nothing is asked of it yet.
    pub(super) fn of(storage: &AzureStorage) -> Result<Self> {
        Ok(Self {
            queue: storage.queue(PULL_QUEUE)?,
            poison: storage.queue(POISON_QUEUE)?,
            notes: storage.table(NOTES_TABLE),
        })
    }

    /// How it stands.
    async fn status(&self) -> Result<QueueStatus> {
        let [queue, poison] = [&self.queue, &self.poison].map(|queue| queue.within(LOOK_PATIENCE));
        let (messages, head, given_up, given) =
            tokio::join!(queue.length(), queue.peek(), poison.length(), poison.peek());
        let mut told = Poison {
            messages: given_up?,
            ..Poison::default()
        };
        for message in given? {
            let text = message
                .text
                .and_then(|text| serde_json::from_str(&text).ok());
            match LaneMessage::read(&text.unwrap_or(Value::Null)) {
                Ok(ReadMessage::Lane(lane)) => {
                    for connection in lane.connections {
                        *told.connections.entry(connection).or_default() += 1;
                    }
                }
                Ok(ReadMessage::OtherVersion(_)) | Err(_) => told.unreadable += 1,
            }
        }
        Ok(QueueStatus {
            messages: messages?,
            oldest: oldest(&head?),
            poison: told,
        })
    }

    /// When the last message of each lane was planned, of those that nobody has settled.
    async fn notes(&self, function: &str) -> Result<HashMap<String, DateTime<Utc>>> {
        let query = Query {
            filter: format!("PartitionKey eq '{function}'"),
            ..Query::default()
        };
        let mut notes = HashMap::new();
        for properties in self.notes.query(&query).await? {
            let text = |name| properties.get(name).and_then(Value::as_str);
            let planned = text(PLANNED).and_then(|planned| planned.parse().ok());
            // One that can't be read is no reason to leave a lane alone.
            if let Some((lane, planned)) = text("RowKey").zip(planned) {
                notes.insert(lane.to_owned(), planned);
            }
        }
        Ok(notes)
    }

    /// Notes a lane and puts its message in: whoever dies in between leaves a note that ends by its time,
    /// and no message of which nobody knows.
    async fn put(&self, message: &LaneMessage) -> Result<()> {
        let key = note_key(message);
        let note = properties([
            ("PartitionKey", key.partition.clone()),
            ("RowKey", key.row.clone()),
            (PLAN, message.plan.clone()),
            (PLANNED, message.planned.to_rfc3339()),
        ]);
        self.notes.put(&key, &note).await?;
        let put = self.queue.put(&json!(message).to_string(), LIFE).await;
        if put.is_err() {
            self.settle(message).await;
        }
        put
    }

    /// Takes the note of a message away, unless the lane has got another one since. A note that stays
    /// ends by its time.
    async fn settle(&self, message: &LaneMessage) {
        let key = note_key(message);
        let settled = async {
            let Some(note) = self.notes.get(&key).await? else {
                return Ok(Written::Missing);
            };
            if note.properties.get(PLAN).and_then(Value::as_str) != Some(&message.plan) {
                return Ok(Written::Conflict);
            }
            self.notes.delete(&key, &note.etag).await
        };
        if let Err(error) = settled.await {
            tracing::warn!(lane = message.lane(), "the note of a lane stays: {error}");
        }
    }
}

/// Connections are named in lower case letters, digits and `-`: what keys may hold.
fn note_key(message: &LaneMessage) -> Key {
    Key {
        partition: message.function.clone(),
        row: message.lane().to_owned(),
    }
}

fn properties<const N: usize>(pairs: [(&str, String); N]) -> Properties {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

/// Since when the oldest message waits for its first try: one that failed waits for another reason.
fn oldest(head: &[PeekedMessage]) -> Option<DateTime<Utc>> {
    let untried = head.iter().filter(|message| message.taken == 0);
    untried.map(|message| message.at).min()
}

impl App {
    /// True when timers plan, and workers pull.
    pub fn scales_out(&self) -> bool {
        self.pull_queue.is_some()
    }

    /// How the queue stands; `None` where there is none.
    pub async fn queue_status(&self) -> Option<Result<QueueStatus>> {
        Some(self.pull_queue.as_ref()?.status().await)
    }

    /// Puts the lanes of a function on the queue that have something due, longest waiting first.
    ///
    /// # Errors
    /// When queue or notes can't be read: then nothing is put in. What goes wrong later is in the plan.
    pub async fn plan(&self, function: Function) -> Result<LanePlan> {
        let pull_queue = self.pull_queue.as_ref().ok_or_else(|| {
            Error::config("`SCALE_OUT` is not `queue`: there is no queue to plan for")
        })?;
        let folder = function.folder();
        let refused = self.refused.iter();
        let refused = refused.filter(|one| one.is_of(function));
        let refused = refuse(refused.collect(), 0, &self.parts).await;
        let (messages, head, notes) = tokio::join!(
            pull_queue.queue.length(),
            pull_queue.queue.peek(),
            pull_queue.notes(folder)
        );
        let messages = messages?;
        let waited = oldest(&head?);
        let now = self.parts.clock.now();
        let age = waited.map_or(0, |oldest| (now - oldest).num_seconds());
        telemetry::record(&[
            of_app(&QUEUE_MESSAGES, messages),
            of_app(&QUEUE_AGE, u64::try_from(age).unwrap_or_default()),
        ]);
        let mut plan = LanePlan {
            queued: Vec::new(),
            waiting: 0,
            held: 0,
            not_due: 0,
            messages,
            oldest: waited,
            refused: refused.into_iter().map(|(_, report)| report).collect(),
            error: None,
        };
        let notes = notes?;
        let (lanes, resting) = self.lanes_of(function, now).await;
        plan.not_due = resting;
        let mut messages = Vec::new();
        for Lane {
            connections,
            streams,
        } in lanes
        {
            let lane = connections.first().cloned().unwrap_or_default();
            let planned = notes.get(&lane).copied();
            match fate(&streams, planned, plan.messages == 0, now) {
                LaneFate::NotDue => plan.not_due += 1,
                LaneFate::Held => plan.held += 1,
                LaneFate::Waits => plan.waiting += 1,
                LaneFate::Queued => {
                    // Not from the injected randomness: no two plans may have the same name.
                    let name = format!("{:032x}", rand::random::<u128>());
                    messages.push(LaneMessage::new(folder, connections, now, name));
                }
            }
        }
        let wanted = messages.len();
        // Whoever refuses one refuses all: each would be asked for as long.
        let failed = &AtomicBool::new(false);
        let puts = messages.iter().map(|message| async move {
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            let put = pull_queue.put(message).await;
            failed.fetch_or(put.is_err(), Ordering::Relaxed);
            Some(put.map(|()| message.lane().to_owned()))
        });
        let puts: Vec<_> = puts.collect();
        let mut puts = stream::iter(puts).buffered(PUTS_AT_ONCE);
        while let Some(put) = puts.next().await {
            match put {
                Some(Ok(lane)) => plan.queued.push(lane),
                Some(Err(error)) => plan.error = plan.error.or(Some(error)),
                None => {}
            }
        }
        plan.error = plan.error.map(|error| {
            let rest = wanted - plan.queued.len();
            error.context(format!("{rest} of {wanted} lanes are not on the queue"))
        });
        Ok(plan)
    }

    /// The lanes of a function with something due, longest waiting first, and how many have nothing.
    async fn lanes_of(&self, function: Function, now: DateTime<Utc>) -> (Vec<Lane>, usize) {
        let streams: Vec<&Stream> = self.streams_of(function).collect();
        let mut connections: HashMap<&str, Vec<String>> = HashMap::new();
        for stream in &streams {
            let known = connections.entry(&stream.shares).or_default();
            if known.last() != Some(&stream.job.key.connection) {
                known.push(stream.job.key.connection.clone());
            }
        }
        let keys: Vec<StreamKey> = streams.iter().map(|one| one.job.key.clone()).collect();
        let states = self.parts.storage.load_all(&keys).await;
        let mut waiting = Vec::new();
        for (stream, saved) in streams.into_iter().zip(states) {
            // One that can't be read is reported by the run of its stream.
            let state = saved.ok().flatten().map(|(state, _)| state);
            let every = stream.job.pace.every;
            let standing = Standing {
                is_due: state
                    .as_ref()
                    .is_none_or(|state| !state.is_fresh(every, now)),
                is_held: state.as_ref().is_some_and(|state| {
                    let lease = state.lease.as_ref();
                    lease.is_some_and(|lease| lease.holds(now))
                }),
            };
            let turn = state.and_then(|state| state.last_turn);
            waiting.push(Waiting {
                turn: turn.filter(|turn| *turn <= now),
                shares: &stream.shares,
                stream: (&*stream.shares, standing),
            });
        }
        // Those that rest don't bring their lane forward; a lease counts whosever it is.
        waiting.retain(|one| one.stream.1.is_due || one.stream.1.is_held);
        let lanes: Vec<Lane> = lanes(waiting)
            .into_iter()
            .filter_map(|lane| {
                let (_, (shares, _)) = lane.first()?;
                Some(Lane {
                    connections: connections.remove(shares).unwrap_or_default(),
                    streams: lane
                        .into_iter()
                        .map(|(_, (_, standing))| standing)
                        .collect(),
                })
            })
            .collect();
        (lanes, connections.len())
    }

    /// Runs the streams of the connections that a message names, as far as there are such.
    pub async fn pull(&self, message: &LaneMessage, options: &RunOptions) -> Pulled {
        let mut left = Vec::new();
        let Some(function @ Function::Pull(kind)) = Function::in_folder(&message.function) else {
            left.push(format!(
                "there is no function `{}` that pulls, as of a plan of another version: the next \
                 plan goes by the functions that there are",
                message.function
            ));
            return Pulled {
                reports: Vec::new(),
                left,
            };
        };
        let is_there = |name: &&String| {
            let mut connections = self.connections.iter();
            connections.any(|one| one.kind == kind && one.name == **name)
        };
        let (there, gone): (Vec<&String>, Vec<&String>) =
            message.connections.iter().partition(is_there);
        left.extend(gone.into_iter().map(|name| {
            format!("`{name}` is no connection that can be pulled from, or is none any more")
        }));
        let options = RunOptions {
            only: Some(there.into_iter().cloned().collect::<Arc<[String]>>()),
            ..options.clone()
        };
        let reports = self.run(function, &options).await;
        Pulled { reports, left }
    }

    /// Notes that a message is done with: its lane may be planned again.
    pub async fn settle(&self, message: &LaneMessage) {
        if let Some(pull_queue) = &self.pull_queue {
            pull_queue.settle(message).await;
        }
    }
}

/// A lane, as a plan sees it.
struct Lane {
    /// All its connections, in the order of the settings.
    connections: Vec<String>,
    /// Its streams that are due, or held.
    streams: Vec<Standing>,
}
