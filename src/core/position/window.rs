//! Half-open windows of time, and how a cursor becomes the next one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A [`chrono::TimeDelta`] for a [`Duration`]; a duration too long to add is cut to 100 years.
pub fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration)
        .ok()
        .filter(|delta| *delta < TimeDelta::days(36_500))
        .unwrap_or_else(|| TimeDelta::days(36_500))
}

/// `[from, to)` on the time that the endpoint filters by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first instant that belongs to it.
    pub from: DateTime<Utc>,
    /// The first instant that does not.
    pub to: DateTime<Utc>,
}

/// How a stream is read in time. Every value is a setting with a default per stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The least time between two runs of the stream.
    pub every: Duration,
    /// How long after an instant a window may first end there.
    pub delay: Duration,
    /// How much is read again before the cursor, for records that became visible late.
    pub lookback: Duration,
    /// How much is read again once a day, for records that became visible later than that; no more
    /// than the lookback for none.
    pub sweep: Duration,
    /// The longest window.
    pub step: Duration,
    /// How far back the first run reads.
    pub history: Duration,
    /// When all records are read as a whole.
    pub passes: Passes,
    /// How often a pass writes every record, changed or not.
    pub rewrite: Duration,
}

/// [`Pace::rewrite`], unless a setting says otherwise.
pub const REWRITE: Duration = Duration::from_hours(7 * 24);

/// When a stream is read as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Passes {
    /// Never: windows tell everything.
    #[default]
    None,
    /// So often, and no other way.
    Only(Duration),
    /// So often; in between windows bring what changed.
    Beside(Duration),
    /// At first, and when the cursor is older than windows reach.
    Behind(Duration),
}

impl Window {
    /// True when it holds no instant.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// Its beginning, `step` long at most.
    #[must_use]
    pub fn first(self, step: Duration) -> Self {
        Self {
            to: self.to.min(self.from + delta(step)),
            ..self
        }
    }
}

/// The window after `cursor`: `[cursor − lookback, min(now − delay, cursor + step))`, but never
/// from before `floor`. `None` when it would not pass the cursor.
///
/// The lookback belongs to the first window of a run; later ones follow within minutes and pass
/// zero.
///
/// ```
/// use std::time::Duration;
/// use sentinel_connector::core::position::window::{Pace, next_window};
/// let hour = Duration::from_secs(3600);
/// let pace = Pace {
///     every: hour, delay: hour, lookback: hour, sweep: hour, step: 24 * hour, history: hour,
///     passes: Default::default(), rewrite: hour,
/// };
/// let at = |text: &str| text.parse().unwrap();
/// let window =
///     next_window(at("2026-01-02T00:00:00Z"), None, &pace, hour, at("2026-01-02T09:00:00Z"));
/// assert_eq!(window.unwrap().from, at("2026-01-01T23:00:00Z"));
/// assert_eq!(window.unwrap().to, at("2026-01-02T08:00:00Z"));
/// ```
pub fn next_window(
    cursor: DateTime<Utc>,
    floor: Option<DateTime<Utc>>,
    pace: &Pace,
    lookback: Duration,
    now: DateTime<Utc>,
) -> Option<Window> {
    let to = (now - delta(pace.delay)).min(cursor + delta(pace.step));
    let from = cursor - delta(lookback);
    // A floor above the cursor (a cursor that was set back by hand) must not open a hole.
    let from = floor.map_or(from, |floor| from.max(floor.min(cursor)));
    (to > cursor).then_some(Window { from, to })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    #[test]
    fn a_delta_of_any_length_can_be_added() {
        assert_eq!(delta(Duration::from_secs(61)), TimeDelta::seconds(61));
        assert_eq!(delta(Duration::MAX), TimeDelta::days(36_500));
    }

    proptest! {
        #[test]
        fn windows_tile_without_hole_or_overlap(
            start in 0i64..1_000_000,
            delay in 0u64..100_000,
            lookback in 0u64..100_000,
            step in 1u64..100_000,
            waits in prop::collection::vec(0i64..300_000, 1..30),
        ) {
            let pace = Pace {
                every: Duration::ZERO,
                delay: Duration::from_secs(delay),
                lookback: Duration::from_secs(lookback),
                sweep: Duration::ZERO,
                step: Duration::from_secs(step),
                history: Duration::ZERO,
                passes: Passes::None,
                rewrite: REWRITE,
            };
            let floor = at(start);
            let mut cursor = floor;
            let mut now = floor;
            for wait in waits {
                now += chrono::TimeDelta::seconds(wait);
                let mut lookback = pace.lookback;
                for _ in 0..5 {
                    let Some(window) = next_window(cursor, Some(floor), &pace, lookback, now) else {
                        break;
                    };
                    prop_assert_eq!(window.from, (cursor - delta(lookback)).max(floor));
                    prop_assert!(window.to > cursor, "the cursor never goes back");
                    prop_assert!(window.to <= now - delta(pace.delay));
                    prop_assert!(window.to - cursor <= delta(pace.step));
                    cursor = window.to;
                    lookback = Duration::ZERO;
                }
            }
        }

        #[test]
        fn a_window_cut_by_steps_is_whole(length in 0i64..1_000_000, step in 1u64..500_000) {
            let whole = Window { from: at(0), to: at(length) };
            let mut rest = whole;
            let mut parts = 0;
            while !rest.is_empty() {
                let part = rest.first(Duration::from_secs(step));
                prop_assert_eq!(part.from, rest.from);
                prop_assert!(part.to > part.from && part.to <= whole.to);
                rest.from = part.to;
                parts += 1;
                prop_assume!(parts < 5_000);
            }
            prop_assert_eq!(rest.from, whole.to);
        }
    }
}
