//! How long and how often something is tried.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;

/// Until when, and unless what.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Nothing is begun after it, and no wait goes beyond it.
    pub deadline: DateTime<Utc>,
    /// The program has been asked to stop.
    pub stop: CancellationToken,
}

impl Limits {
    /// Limits of something that ends at `deadline`, whether the program goes on or not.
    pub fn until(deadline: DateTime<Utc>) -> Self {
        Self {
            deadline,
            stop: CancellationToken::new(),
        }
    }

    /// The time that is left.
    pub fn left(&self, clock: &dyn Clock) -> Duration {
        (self.deadline - clock.now()).to_std().unwrap_or_default()
    }
}
