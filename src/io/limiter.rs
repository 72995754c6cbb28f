//! At most so many calls a second, over everything that shares a credential.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock as GovernorClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::clock::SharedClock;

/// Lets calls through one by one, evenly spaced.
///
/// There is no burst: the service counts in windows that we don't see, so a burst beside a steady
/// flow could put twice the number into one of them.
#[derive(Debug)]
pub struct Limiter {
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>,
    ticks: Ticks,
}

/// The program's clock, as governor reads it.
#[derive(Clone)]
struct Ticks(SharedClock);

impl std::fmt::Debug for Ticks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticks")
    }
}

impl GovernorClock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let since = self.0.now().timestamp_nanos_opt().unwrap_or_default();
        Duration::from_nanos(since.try_into().unwrap_or_default())
    }
}

impl Limiter {
    /// At most `calls` a second.
    pub fn per_second(calls: NonZeroU32, clock: SharedClock) -> Self {
        let ticks = Ticks(clock);
        let quota = Quota::per_second(calls).allow_burst(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, ticks.clone()),
            ticks,
        }
    }

    /// Comes back when the next call may be made.
    pub async fn ready(&self) {
        while let Err(not_until) = self.limiter.check() {
            let wait = not_until.wait_time_from(self.ticks.now());
            self.ticks.0.sleep(wait.max(Duration::from_millis(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::io::clock::{Clock, VirtualClock};

    #[tokio::test]
    async fn no_second_sees_more_calls_than_allowed() {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let limiter = Limiter::per_second(NonZeroU32::new(9).unwrap(), Arc::new(clock.clone()));
        let mut calls = Vec::new();
        for _ in 0..40 {
            limiter.ready().await;
            calls.push(clock.now());
        }
        for (at, first) in calls.iter().enumerate() {
            let within = calls[at..]
                .iter()
                .filter(|call| **call - *first < chrono::TimeDelta::milliseconds(999))
                .count();
            assert!(within <= 9, "{within} calls in the second after call {at}");
        }
        let all = calls[39] - calls[0];
        assert!(all.num_milliseconds() < 4600, "40 calls took {all}");
    }
}
