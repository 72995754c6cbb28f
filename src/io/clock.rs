//! Time, passed in: every `now`, sleep and timeout of the program goes through a [`Clock`].

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::core::position::window::delta;

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
/// In virtual time a sleep passes at once, so that there is nothing to race: a sleep of the same
/// task that would go beyond the limit ends there and does not come back, and whoever used up the
/// time otherwise is judged by it afterwards.
pub async fn timeout<F: Future>(
    clock: &dyn Clock,
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    if !clock.is_virtual() {
        return tokio::select! {
            output = future => Ok(output),
            () = clock.sleep(limit) => Err(Elapsed),
        };
    }
    let own = clock.now() + delta(limit);
    let until = UNTIL.try_with(|outer| outer.at.min(own)).unwrap_or(own);
    let passed = Arc::new(AtomicBool::new(false));
    let scope = Until {
        at: until,
        passed: Arc::clone(&passed),
    };
    let mut future = pin!(UNTIL.scope(scope, future));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) if clock.now() <= own => Poll::Ready(Ok(output)),
        Poll::Pending if !passed.load(Ordering::Relaxed) => Poll::Pending,
        Poll::Ready(_) | Poll::Pending => Poll::Ready(Err(Elapsed)),
    })
    .await
}

/// The end of the innermost [`timeout`] that a task of virtual time is in.
struct Until {
    at: DateTime<Utc>,
    /// A sleep went beyond it.
    passed: Arc<AtomicBool>,
}

tokio::task_local! {
    static UNTIL: Until;
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

    /// Sets the clock, which may turn it back.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
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
        let now = self.now();
        let too_long = UNTIL.try_with(|until| {
            let left = until.at - now;
            let too_long = delta(duration) > left;
            if too_long {
                until.passed.store(true, Ordering::Relaxed);
                self.advance(left.to_std().unwrap_or_default());
            }
            too_long
        });
        if too_long == Ok(true) {
            return pending().await;
        }
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
        assert_eq!(clock.now().to_rfc3339(), "2026-01-01T00:00:20+00:00");
    }

    #[tokio::test]
    async fn of_two_timeouts_the_shorter_one_ends_a_virtual_sleep() {
        let clock = clock();
        let seconds = Duration::from_secs;
        let inner = timeout(&clock, seconds(10), clock.sleep(seconds(3600)));
        let outer = timeout(&clock, seconds(60), inner);
        assert_eq!(outer.await, Ok(Err(Elapsed)));
        assert_eq!(clock.now().to_rfc3339(), "2026-01-01T00:00:10+00:00");
        let inner = timeout(&clock, seconds(60), clock.sleep(seconds(3600)));
        let outer = timeout(&clock, seconds(10), inner);
        assert!(outer.await.is_ok_and(|inner| inner == Err(Elapsed)));
        assert_eq!(clock.now().to_rfc3339(), "2026-01-01T00:00:20+00:00");
    }
}
