//! Time, passed in: every `now`, sleep and timeout of the program goes through a [`Clock`].

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::core::window::delta;

/// The time, and waiting for it to pass.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The present.
    fn now(&self) -> DateTime<Utc>;

    /// Comes back after `duration`.
    async fn sleep(&self, duration: Duration);

    /// True when waiting takes no real time, so that a [`timeout`] has to be judged afterwards.
    fn is_virtual(&self) -> bool {
        false
    }
}

/// A clock that can be shared.
pub type SharedClock = Arc<dyn Clock>;

/// What [`timeout`] returns when time ran out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Runs `future`, for `limit` at most.
///
/// In virtual time a sleep passes at once, so the future runs to its end and is judged by how much
/// time it used; a peer that "never" answers is one that sleeps for longer than the limit.
pub async fn timeout<F: Future>(
    clock: &dyn Clock,
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    if clock.is_virtual() {
        let started = clock.now();
        let output = future.await;
        let used = (clock.now() - started).to_std().unwrap_or_default();
        return if used > limit {
            Err(Elapsed)
        } else {
            Ok(output)
        };
    }
    tokio::select! {
        output = future => Ok(output),
        () = clock.sleep(limit) => Err(Elapsed),
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the machine"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that sleeps"
    )]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that stands still until somebody sleeps on it, which moves it on at once.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    now: Arc<Mutex<DateTime<Utc>>>,
}

impl VirtualClock {
    /// A clock that shows `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            now: Arc::new(Mutex::new(now)),
        }
    }

    /// Moves the clock on.
    pub fn advance(&self, duration: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now += delta(duration);
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }

    fn is_virtual(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> VirtualClock {
        VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[tokio::test]
    async fn a_virtual_sleep_moves_the_clock() {
        let clock = clock();
        clock.sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_rfc3339(), "2026-01-01T00:01:30+00:00");
    }

    #[tokio::test]
    async fn a_virtual_timeout_is_judged_by_the_time_that_was_used() {
        let clock = clock();
        let slow = timeout(
            &clock,
            Duration::from_secs(10),
            clock.sleep(Duration::from_secs(11)),
        );
        assert_eq!(slow.await, Err(Elapsed));
        let quick = timeout(
            &clock,
            Duration::from_secs(10),
            clock.sleep(Duration::from_secs(10)),
        );
        assert_eq!(quick.await, Ok(()));
    }
}
