//! Batches → sink: retried, halved, what is refused isolated, and what an outage leaves parked.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::Mutex;
use tracing::{Instrument, field::Empty};

use super::{Parts, lease::GRACE, own_rows};
use crate::{
    core::{mapping::batch::Batch, metrics::TRACED, position::cursor::StreamKey},
    error::{Error, Result},
    io::{
        retry::{Limits, RetryBudget},
        trail::SpanLink,
    },
    sink::{PushError, Room},
    storage::Parked,
};

/// How often a push is tried while the sink asks for patience.
const PATIENCE: u32 = 8;

/// Rows refused alone and alike, before any has landed, from which on the table is at fault and not the
/// rows. Fewer don't tell: a run that has no more makes dead letters of them, which can be tried again.
const ALIKE: usize = 20;

/// Pulling pauses: what is pulled now could not be kept.
pub(crate) fn outbox_is_full(held: u64, most: u64) -> Error {
    Error::transient(format!(
        "the outbox holds {held} of {most} bytes (`OUTBOX_MAX_BYTES`); nothing more is pulled until \
         SentinelPush has brought it to the sink"
    ))
}

/// Puts a batch into the outbox, if it has room for it.
pub(super) async fn park(parts: &Parts, key: &StreamKey, batch: &Batch, why: String) -> Result<()> {
    let (_, held) = parts.storage.outbox_size().await?;
    if held + batch.bytes() as u64 > parts.outbox_max {
        return Err(outbox_is_full(held, parts.outbox_max).context(why));
    }
    let at = parts.clock.now();
    let parked = Parked {
        id: format!("{}-{}", at.format("%Y%m%dT%H%M%S%9f"), batch.id()),
        key: key.clone(),
        table: batch.table().to_owned(),
        at,
        rows: batch.len() as u64,
        bytes: batch.bytes() as u64,
        reason: why,
        body: batch.json().to_vec(),
    };
    parts.storage.park(&parked).await
}

/// What became of a batch's rows: as many as were handled, from its beginning.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Rows that are safe in the sink.
    pub(crate) rows: usize,
    /// Bytes of these, and of those that wait.
    pub(crate) bytes: usize,
    /// Rows that the sink refuses as they are, with its reason.
    pub(crate) dead: Vec<(Vec<u8>, String)>,
    /// Rows that wait in the outbox.
    pub(crate) parked: usize,
    /// Why they do.
    pub(crate) waits_for: Option<String>,
    /// Why the rest is none of these.
    pub(crate) error: Option<Error>,
}

impl Delivery {
    /// How many rows, from the beginning, need not be pushed again.
    pub(crate) fn settled(&self) -> usize {
        self.rows + self.dead.len() + self.parked
    }
}

/// What is known of the sink while it has refused rows alone, and taken none.
#[derive(Debug, Default)]
struct Doubts {
    /// It has taken the row that is surely good.
    probed: bool,
    /// How many rows it has refused, by what it said.
    refused: BTreeMap<String, usize>,
}

/// Pushes the batches that a run has for one stream, and remembers how the sink took them.
pub(crate) struct Deliverer {
    parts: Parts,
    limits: Limits,
    event_time: bool,
    /// The stream that rows are parked for; without one an outage is an error.
    parks_for: Option<StreamKey>,
    /// The sink has taken a row of the stream.
    taken: AtomicBool,
    /// Held while the row that is surely good is tried, so that it is tried once.
    doubts: Mutex<Doubts>,
    /// The sink has not taken a batch in all its patience: the next ones are parked at once.
    outage: AtomicBool,
    /// Held from looking for room until it is filled: pushes go on beside each other.
    room: Mutex<()>,
}

impl Deliverer {
    pub(crate) fn new(
        parts: Parts,
        limits: Limits,
        event_time: bool,
        parks_for: Option<StreamKey>,
    ) -> Self {
        Self {
            parts,
            limits,
            event_time,
            parks_for,
            taken: AtomicBool::new(false),
            doubts: Mutex::default(),
            outage: AtomicBool::new(false),
            room: Mutex::new(()),
        }
    }

    /// Lands a batch: its rows in their order, in halves and quarters where the sink wants it.
    pub(crate) async fn land(&self, batch: Batch, room: Room) -> Delivery {
        let mut landed = Delivery::default();
        landed.error = self.land_into(batch, room, &mut landed).await.err();
        landed
    }

    async fn land_into(&self, batch: Batch, mut room: Room, landed: &mut Delivery) -> Result<()> {
        let mut open = vec![batch];
        while let Some(mut batch) = open.pop() {
            match self.push(&mut batch, room.take()).await {
                Ok(()) => {
                    self.taken.store(true, Ordering::Relaxed);
                    landed.rows += batch.len();
                    landed.bytes += batch.bytes();
                }
                Err(PushError::Refused(reason) | PushError::TooLarge(reason)) => {
                    if let Some((first, second)) = batch.halves() {
                        open.push(second);
                        open.push(first);
                        continue;
                    }
                    if let Err(error) = self.doubt(batch.table(), &reason).await {
                        // Rows that are refused for our mistake are not dead; but those before
                        // parked rows are settled with them, since rows settle in their order.
                        if landed.parked == 0 {
                            landed.dead.clear();
                        }
                        return Err(error);
                    }
                    landed
                        .dead
                        .extend(batch.rows().map(|row| (row.to_vec(), reason.clone())));
                }
                Err(PushError::Later(error)) => {
                    let why = error.to_string();
                    self.park(&batch, error).await?;
                    landed.parked += batch.len();
                    landed.bytes += batch.bytes();
                    landed.waits_for.get_or_insert(why);
                }
                Err(PushError::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whose mistake is a row that is refused alone? Once a row of the stream has been taken, the
    /// row's own. Before, a row that is surely good is tried: when that is refused as well, or when
    /// so many are refused alike, the table or the rule is not as this version knows it, and no row
    /// is at fault. One column of another type refuses all rows but the one that leaves it out.
    async fn doubt(&self, table: &str, reason: &str) -> Result<()> {
        let mut doubts = self.doubts.lock().await;
        if self.taken.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !doubts.probed {
            self.probe(table, reason).await?;
            doubts.probed = true;
        }
        let alike = doubts.refused.entry(reason.to_owned()).or_default();
        *alike += 1;
        if *alike < ALIKE {
            return Ok(());
        }
        Err(Error::contract(format!(
            "{table}: {ALIKE} rows are refused alike ({reason}), and none of this stream has been \
             taken in this run; compare the columns of the table and of the rule, and their types, \
             with those of this version"
        )))
    }

    /// Tries a row that is surely good.
    async fn probe(&self, table: &str, reason: &str) -> Result<()> {
        let mut probe = Batch::new(table);
        probe.add(&own_rows::probe(self.parts.clock.now()));
        match self.push(&mut probe, None).await {
            Ok(()) => Ok(()),
            Err(PushError::Refused(_) | PushError::TooLarge(_)) => Err(Error::contract(format!(
                "{table}: rows are refused alone ({reason}), and so is one that holds nothing but \
                 its own name; compare the table's columns with those of this version"
            ))),
            Err(PushError::Later(error) | PushError::Failed(error)) => Err(error),
        }
    }

    /// Keeps the rows of an outage, as far as the outbox has room for them.
    async fn park(&self, batch: &Batch, why: Error) -> Result<()> {
        let Some(key) = &self.parks_for else {
            return Err(why);
        };
        self.outage.store(true, Ordering::Relaxed);
        let _room = self.room.lock().await;
        park(&self.parts, key, batch, why.to_string()).await
    }

    /// One batch, tried until the sink answers for good or the time is up.
    async fn push(&self, batch: &mut Batch, mut room: Room) -> std::result::Result<(), PushError> {
        let Parts { clock, random, .. } = &self.parts;
        let end = self.limits.deadline + GRACE / 2;
        let mut budget = RetryBudget::new(&**clock, random, end, PATIENCE);
        let mut before = SpanLink::default();
        loop {
            budget.attempt();
            let id = self.batch_id();
            if self.event_time {
                batch.stamp_with_own_times(&id);
            } else {
                batch.stamp(clock.now(), &id);
            }
            let span = tracing::info_span!(
                target: TRACED,
                "push",
                table = batch.table(),
                rows = batch.len(),
                otel.status_code = Empty,
            );
            before.link(&span);
            before = SpanLink::of(&span);
            let pushed = self.parts.sink.push_away(batch, room.take());
            let pushed = pushed.instrument(span.clone()).await;
            if pushed.is_err() {
                span.record("otel.status_code", "ERROR");
            }
            let error = match pushed {
                Err(PushError::Later(error)) => error,
                end => return end,
            };
            let no_patience = self.outage.load(Ordering::Relaxed);
            match budget.failed(error.after()) {
                Ok(wait) if !no_patience && !self.limits.stop.is_cancelled() => {
                    tracing::debug!(%error, ?wait, "pushing again");
                    clock.sleep(wait).await;
                }
                Ok(_) | Err(_) => return Err(PushError::Later(budget.counted(error))),
            }
        }
    }

    /// 16 hex digits that name one push attempt.
    fn batch_id(&self) -> String {
        let half =
            || (self.parts.random)().to_bits().rotate_left(20) ^ (self.parts.random)().to_bits();
        format!("{:016x}", half())
    }
}
