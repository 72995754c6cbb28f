//! How long and how often something is tried: the counting. How long a wait is and what an answer
//! calls for is decided by [`core::protocol::retry`](crate::core::protocol::retry).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{clock::Clock, wire::Random};
use crate::{
    core::protocol::retry::backoff,
    error::{Error, Kind, Result},
};

/// Until when, and unless what.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Nothing is begun after it, and no wait goes beyond it.
    pub deadline: DateTime<Utc>,
    /// The program has been asked to stop.
    pub stop: CancellationToken,
    /// What is asked within them is counted.
    pub calls: Calls,
}

/// Calls to a source, counted by all that hold a clone.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<[AtomicU64; 2]>);

impl Calls {
    /// Counts a call.
    pub(super) fn called(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that the next call is one that failed before.
    pub(super) fn retried(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }

    /// All calls, and those of them that had failed before.
    pub fn counted(&self) -> (u64, u64) {
        let [calls, retries] = &*self.0;
        (
            calls.load(Ordering::Relaxed),
            retries.load(Ordering::Relaxed),
        )
    }
}

impl Limits {
    /// Limits of something that ends at `deadline`, whether the program goes on or not.
    pub fn until(deadline: DateTime<Utc>) -> Self {
        Self {
            deadline,
            stop: CancellationToken::new(),
            calls: Calls::default(),
        }
    }

    /// These limits, with a count of their own.
    #[must_use]
    pub fn counted_apart(&self) -> Self {
        Self {
            calls: Calls::default(),
            ..self.clone()
        }
    }

    /// The time that is left.
    pub fn left(&self, clock: &dyn Clock) -> Duration {
        (self.deadline - clock.now()).to_std().unwrap_or_default()
    }
}

/// The failures and the time that something tried again and again has left.
pub struct RetryBudget<'a> {
    clock: &'a dyn Clock,
    random: &'a Random,
    began: DateTime<Utc>,
    deadline: DateTime<Utc>,
    most: u32,
    failures: u32,
    attempts: u32,
}

/// Why nothing is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// It failed often enough.
    Often,
    /// The wait before the next try would go beyond the deadline.
    NoTime(Duration),
}

impl<'a> RetryBudget<'a> {
    /// A budget that ends at `deadline`, or when it has failed `most` times.
    pub fn new(
        clock: &'a dyn Clock,
        random: &'a Random,
        deadline: DateTime<Utc>,
        most: u32,
    ) -> Self {
        Self {
            clock,
            random,
            began: clock.now(),
            deadline,
            most,
            failures: 0,
            attempts: 0,
        }
    }

    /// Counts a try that begins now.
    pub fn attempt(&mut self) {
        self.attempts += 1;
    }

    /// Counts a failure: how long to wait before the next try, which is what whoever answered has
    /// asked for, if anything.
    pub fn failed(&mut self, asked_for: Option<Duration>) -> std::result::Result<Duration, Spent> {
        self.failures += 1;
        if self.failures >= self.most {
            return Err(Spent::Often);
        }
        self.fits(asked_for.unwrap_or_else(|| backoff(self.failures, (self.random)())))
    }

    /// The wait, when there is time for it.
    pub fn fits(&self, wait: Duration) -> std::result::Result<Duration, Spent> {
        let left = self.deadline - self.clock.now();
        if wait >= left.to_std().unwrap_or_default() {
            return Err(Spent::NoTime(wait));
        }
        Ok(wait)
    }

    /// Tries until it works, an error is not [`Transient`](Kind::Transient), or the budget is spent.
    pub async fn retry<T, F: Future<Output = Result<T>>>(
        &mut self,
        what: &str,
        mut work: impl FnMut() -> F,
    ) -> Result<T> {
        loop {
            self.attempt();
            let error = match work().await {
                Err(error) if error.kind() == Kind::Transient => error,
                end => return end.map_err(|error| self.counted(error)),
            };
            let Ok(wait) = self.failed(error.after()) else {
                return Err(self.counted(error));
            };
            tracing::debug!(%error, ?wait, "{what}: trying again");
            self.clock.sleep(wait).await;
        }
    }

    /// An error of the last try, with its number and the time that is used up.
    #[must_use]
    pub fn counted(&self, error: Error) -> Error {
        error.tried(self.attempts, self.elapsed())
    }

    /// How many tries there were.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The time that is used up.
    pub fn elapsed(&self) -> Duration {
        let elapsed = self.clock.now() - self.began;
        elapsed.to_std().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::io::script::{Peer, start};

    #[tokio::test]
    async fn a_budget_ends_by_failures_or_by_time_and_counts_both() {
        let peer = Peer::new([], []);
        let wire = peer.wire();
        let deadline = start() + chrono::TimeDelta::seconds(10);
        let seconds = Duration::from_secs;
        let mut budget = RetryBudget::new(&*wire.clock, &wire.random, deadline, 4);
        assert_eq!(budget.failed(None), Ok(seconds(1)));
        assert_eq!(budget.failed(Some(seconds(9))), Ok(seconds(9)));
        assert_eq!(
            budget.failed(Some(seconds(10))),
            Err(Spent::NoTime(seconds(10)))
        );
        assert_eq!(budget.failed(None), Err(Spent::Often));

        let tries = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let mut budget = RetryBudget::new(&*wire.clock, &wire.random, deadline, 3);
        let attempt = crate::error::Attempt::new(http::Method::GET, "/it");
        let error = budget.retry("it", || async {
            tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Err::<(), _>(Error::transient("no").of(attempt.clone()))
        });
        let error = error.await.unwrap_err();
        let attempt = error.attempt().unwrap();
        assert_eq!((attempt.attempts, attempt.elapsed), (3, seconds(3)));
        assert_eq!(tries.load(std::sync::atomic::Ordering::Relaxed), 3);
    }
}
