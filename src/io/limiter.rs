//! At most so many calls a second, over everything that shares a credential.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock as GovernorClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::clock::SharedClock;

/// Lets calls through one by one, within every quota of the service. Those who share it have turns one
/// after the other, however many calls each of them has waiting.
#[derive(Debug)]
pub struct Limiter {
    shared: Arc<Rate>,
    /// Held by the one call that waits among the others'. First come, first served, as are turns.
    own: tokio::sync::Mutex<()>,
}

/// The quotas of whoever shares them.
#[derive(Debug)]
struct Rate {
    quotas: Vec<RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>>,
    ticks: Ticks,
    turn: tokio::sync::Mutex<()>,
}

/// The program's clock, as governor reads it: it never goes back, else every call would wait for
/// the clock to come to where it was.
#[derive(Clone)]
struct Ticks {
    clock: SharedClock,
    last: Arc<Mutex<Last>>,
}

#[derive(Default)]
struct Last {
    tick: Duration,
    /// By how much the clock went back so far.
    behind: Duration,
}

impl std::fmt::Debug for Ticks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticks")
    }
}

impl GovernorClock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let since = self.clock.now().timestamp_nanos_opt().unwrap_or_default();
        let since = Duration::from_nanos(since.try_into().unwrap_or_default());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.behind = last.behind.max(last.tick.saturating_sub(since));
        last.tick = since + last.behind;
        last.tick
    }
}

impl Limiter {
    /// At most `calls` a second, evenly spaced.
    ///
    /// There is no burst: the service counts in windows that we don't see, so a burst beside a
    /// steady flow could put twice the number into one of them.
    pub fn per_second(calls: NonZeroU32, clock: SharedClock) -> Self {
        let quota = Quota::per_second(calls).allow_burst(NonZeroU32::MIN);
        Self::of([quota], clock)
    }

    /// At most so many calls in every period of each length, however it is laid.
    ///
    /// Half of a quota may be used at once, and the other half evenly over its period: together
    /// they never are more than all of it.
    pub fn per_period(quotas: &[(u32, Duration)], clock: SharedClock) -> Self {
        let quota = |(calls, period): &(u32, Duration)| {
            let half = NonZeroU32::new(calls / 2).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::with_period(*period / half.get())?;
            Some(quota.allow_burst(half))
        };
        Self::of(quotas.iter().filter_map(quota), clock)
    }

    fn of(quotas: impl IntoIterator<Item = Quota>, clock: SharedClock) -> Self {
        let last = Arc::default();
        let ticks = Ticks { clock, last };
        let limiter = |quota| RateLimiter::direct_with_clock(quota, ticks.clone());
        let rate = Rate {
            quotas: quotas.into_iter().map(limiter).collect(),
            ticks,
            turn: tokio::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(rate),
            own: tokio::sync::Mutex::default(),
        }
    }

    /// The same quotas for somebody else, who has as many turns.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            own: tokio::sync::Mutex::default(),
        }
    }

    /// True when both have the same quotas.
    pub fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Comes back when the next call may be made.
    pub async fn ready(&self) {
        let _own = self.own.lock().await;
        let rate = &*self.shared;
        let _turn = rate.turn.lock().await;
        for quota in &rate.quotas {
            while let Err(not_until) = quota.check() {
                let wait = not_until.wait_time_from(rate.ticks.now());
                rate.ticks
                    .clock
                    .sleep(wait.max(Duration::from_millis(1)))
                    .await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use chrono::{DateTime, TimeDelta, Utc};

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
                .filter(|call| **call - *first < TimeDelta::milliseconds(999))
                .count();
            assert!(within <= 9, "{within} calls in the second after call {at}");
        }
        let all = calls[39] - calls[0];
        assert!(all.num_milliseconds() < 4600, "40 calls took {all}");
    }

    #[tokio::test]
    async fn no_period_sees_more_calls_than_its_quota() {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let quotas = [(20, Duration::from_mins(1)), (100, Duration::from_hours(1))];
        let limiter = Limiter::per_period(&quotas, Arc::new(clock.clone()));
        let mut calls = Vec::new();
        for _ in 0..250 {
            limiter.ready().await;
            calls.push(clock.now());
        }
        for (most, period) in quotas {
            let period = TimeDelta::from_std(period).unwrap();
            for (at, first) in calls.iter().enumerate() {
                let within = calls[at..]
                    .iter()
                    .filter(|call| **call - *first < period)
                    .count();
                assert!(within <= most as usize, "{within} in {period}");
            }
        }
        assert_eq!(calls[0], calls[9], "half of it at once");
    }

    /// A clock that is put back by an hour once.
    struct PutBack(VirtualClock, DateTime<Utc>);

    #[async_trait]
    impl Clock for PutBack {
        fn now(&self) -> DateTime<Utc> {
            let now = self.0.now();
            if now < self.1 {
                now
            } else {
                now - TimeDelta::hours(1)
            }
        }

        async fn sleep(&self, duration: Duration) {
            self.0.sleep(duration).await;
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_put_back_holds_nobody_up() {
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = VirtualClock::new(start);
        let put_back = PutBack(clock.clone(), start + TimeDelta::seconds(1));
        let limiter = Limiter::per_second(NonZeroU32::new(9).unwrap(), Arc::new(put_back));
        for _ in 0..40 {
            limiter.ready().await;
        }
        let all = clock.now() - start;
        assert!(all.num_milliseconds() < 4700, "40 calls took {all}");
    }

    #[tokio::test]
    async fn who_has_many_calls_waiting_takes_no_turn_of_the_others() {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let greedy = Limiter::per_second(NonZeroU32::new(9).unwrap(), Arc::new(clock));
        let modest = [greedy.beside(), greedy.beside()];
        let made = Mutex::new(Vec::new());
        let calls = async |limiter: &Limiter, who: usize, calls: usize| {
            for _ in 0..calls {
                limiter.ready().await;
                made.lock().unwrap().push(who);
            }
        };
        let many = futures_util::future::join_all((0..50).map(|_| calls(&greedy, 0, 20)));
        let others = async {
            tokio::join!(calls(&modest[0], 1, 30), calls(&modest[1], 2, 30));
            made.lock().unwrap().len()
        };
        let (_, until) = tokio::join!(many, others);
        let made = made.into_inner().unwrap();
        assert_eq!(made.len(), 50 * 20 + 2 * 30);
        // As long as all three ask, each has a third.
        let count = |who| made[..until].iter().filter(|one| **one == who).count();
        let shares = [count(0), count(1), count(2)];
        assert!(
            shares[1..] == [30, 30] && shares[0].abs_diff(30) <= 2,
            "{shares:?}"
        );
    }

    #[tokio::test]
    async fn many_who_wait_share_the_rate() {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let start = clock.now();
        let limiter = Limiter::per_second(NonZeroU32::new(10).unwrap(), Arc::new(clock.clone()));
        futures_util::future::join_all((0..21).map(|_| limiter.ready())).await;
        assert!(clock.now() - start >= TimeDelta::milliseconds(1999));
    }
}
