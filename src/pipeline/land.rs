//! Batches → sink: retried, halved, and what is refused isolated.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use chrono::TimeDelta;

use super::{Parts, lease::GRACE};
use crate::{
    core::{batch::Batch, retry::backoff},
    error::{Error, Result},
    io::exchange::Limits,
    sink::PushError,
};

/// When so many isolated rows are refused and none was taken, it is our mistake or the collection
/// rule's, not the rows'.
const REFUSED_ALIKE: u32 = 20;

/// How often a push is tried while the sink asks for patience.
const PATIENCE: u32 = 8;

/// What became of a batch's rows: as many as were handled, from its beginning.
#[derive(Debug, Default)]
pub(super) struct Landed {
    /// Rows that are safe in the sink.
    pub(super) rows: usize,
    /// Rows that the sink refuses as they are, with its reason.
    pub(super) dead: Vec<(Vec<u8>, String)>,
    /// Why the rest is neither.
    pub(super) error: Option<Error>,
}

impl Landed {
    /// How many rows, from the beginning, need not be pushed again.
    pub(super) fn settled(&self) -> usize {
        self.rows + self.dead.len()
    }
}

/// Pushes a run's batches, and remembers how the sink took them.
pub(super) struct Lander {
    parts: Parts,
    limits: Limits,
    event_time: bool,
    refused: AtomicU32,
    taken: AtomicBool,
}

impl Lander {
    pub(super) fn new(parts: Parts, limits: Limits, event_time: bool) -> Self {
        let (refused, taken) = (AtomicU32::new(0), AtomicBool::new(false));
        Self {
            parts,
            limits,
            event_time,
            refused,
            taken,
        }
    }

    /// Lands a batch: its rows in their order, in halves and quarters where the sink wants it.
    pub(super) async fn land(&self, batch: Batch) -> Landed {
        let mut landed = Landed::default();
        landed.error = self.land_into(batch, &mut landed).await.err();
        landed
    }

    async fn land_into(&self, batch: Batch, landed: &mut Landed) -> Result<()> {
        let mut open = vec![batch];
        while let Some(mut batch) = open.pop() {
            match self.push(&mut batch).await {
                Ok(()) => {
                    self.taken.store(true, Ordering::Relaxed);
                    landed.rows += batch.len();
                }
                Err(PushError::Refused(reason) | PushError::TooLarge(reason)) => {
                    if let Some((first, second)) = batch.halves() {
                        open.push(second);
                        open.push(first);
                        continue;
                    }
                    let refused = 1 + self.refused.fetch_add(1, Ordering::Relaxed);
                    if refused >= REFUSED_ALIKE && !self.taken.load(Ordering::Relaxed) {
                        // Rows that are refused for our mistake are not dead.
                        landed.dead.clear();
                        return Err(Error::contract(format!(
                            "{}: each of the first {REFUSED_ALIKE} rows is refused alone ({reason}); \
                             compare the table's columns with those of this version",
                            batch.table()
                        )));
                    }
                    landed
                        .dead
                        .extend(batch.rows().map(|row| (row.to_vec(), reason.clone())));
                }
                Err(PushError::Later { why, .. }) => return Err(Error::transient(why)),
                Err(PushError::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// One batch, tried until the sink answers for good or the time is up.
    async fn push(&self, batch: &mut Batch) -> std::result::Result<(), PushError> {
        let end = self.limits.deadline + GRACE / 2;
        let mut tries = 0;
        loop {
            let now = self.parts.clock.now();
            let id = self.batch_id();
            if self.event_time {
                batch.stamp_with_own_times(&id);
            } else {
                batch.stamp(now, &id);
            }
            let (after, why) = match self.parts.sink.push(batch).await {
                Err(PushError::Later { after, why }) => (after, why),
                end => return end,
            };
            tries += 1;
            let wait = after.unwrap_or_else(|| backoff(tries, (self.parts.random)()));
            let fits = TimeDelta::from_std(wait).is_ok_and(|wait| now + wait < end);
            if tries >= PATIENCE || !fits || self.limits.stop.is_cancelled() {
                return Err(PushError::Later { after, why });
            }
            tracing::debug!(%why, ?wait, "pushing again");
            self.parts.clock.sleep(wait).await;
        }
    }

    /// 16 hex digits that name one push attempt.
    fn batch_id(&self) -> String {
        let half =
            || (self.parts.random)().to_bits().rotate_left(20) ^ (self.parts.random)().to_bits();
        format!("{:016x}", half())
    }
}
