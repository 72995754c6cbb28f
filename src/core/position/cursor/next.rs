//! Which slice is next.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Basis, CLOCKS_DIFFER, EVENT_LOOKBACK, OpenSlice, Outside, Position, RunProgress, SWEEP, Slice,
    StreamState,
};
use crate::core::position::window::{Pace, Passes, delta, next_window};

/// How long a stream without its token feed reads windows before it asks for the feed again.
const FEED_RETRY: Duration = Duration::from_hours(24);

/// How far the source's clock may be ahead of ours: a window that meets a token reaches this much
/// beyond it, and the fingerprints drop what both bring.
pub(super) const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(15);

/// How far windows on the time of ingestion look back: rows become visible a little out of order.
const INGESTION_LOOKBACK: Duration = Duration::from_mins(5);

/// How often it is asked again which time there is to go by: a table may lose one.
const PROBE: Duration = Duration::from_hours(24);

impl StreamState {
    /// The next step of a run that began at `now`, and the page it goes on from. `None` when the
    /// stream is up to date: what happens during a run is for the next one, or no run would end.
    pub fn next(
        &self,
        has_feed: bool,
        pace: &Pace,
        steps: RunProgress,
        now: DateTime<Utc>,
    ) -> Option<OpenSlice> {
        if let Some(open) = &self.open {
            return Some(open.clone());
        }
        let first_page = |slice| Some(OpenSlice::new(slice, now));
        if self.pass_is_due(pace, now) {
            return first_page(Slice::Pass);
        }
        if let Passes::Only(_) = pace.passes {
            return None;
        }
        let feed_first = steps.feed_first && self.has_token();
        if let Some(backlog) = self.backlog.filter(|_| !feed_first) {
            let mut window = backlog.first(pace.step);
            // What came before the feed's token by the source's clock and after it by ours is in
            // neither, unless the last window reaches beyond it; the fingerprints drop what both bring.
            if window.to == backlog.to {
                window.to += CLOCK_SKEW;
            }
            return first_page(Slice::Window(window));
        }
        let feed_is_due = has_feed && self.no_feed.is_none_or(|at| now - at >= delta(FEED_RETRY));
        match &self.position {
            None | Some(Position::Time(_)) if feed_is_due => first_page(Slice::Latest),
            Some(Position::Token(_)) if has_feed && steps.feed => None,
            Some(Position::Token(token)) if has_feed => first_page(Slice::Token(token.clone())),
            Some(Position::Time(cursor)) => self.window_after(*cursor, pace, steps, now),
            None | Some(Position::Token(_)) => {
                // A history that is all delay would never make a first window.
                let history = pace.history.max(pace.delay + Duration::from_secs(1));
                let start = self.known().unwrap_or_else(|| now - delta(history));
                self.window_after(start, pace, steps, now)
            }
        }
    }

    fn window_after(
        &self,
        cursor: DateTime<Utc>,
        pace: &Pace,
        steps: RunProgress,
        now: DateTime<Utc>,
    ) -> Option<OpenSlice> {
        let lookback = if steps.window && self.looked_back.is_some() {
            Duration::ZERO
        } else {
            let lookback = cursor - self.lookback_from(cursor, &self.paced(pace, now));
            lookback.to_std().unwrap_or_default()
        };
        let window = next_window(cursor, None, pace, lookback, now)?;
        let slice = match self.basis {
            Some(Basis::Ingestion) => Slice::Ingested(window),
            Some(Basis::Event) | None => Slice::Window(window),
        };
        Some(OpenSlice::new(slice, now))
    }

    /// The pace for the time that windows go by.
    pub(super) fn paced(&self, pace: &Pace, now: DateTime<Utc>) -> Pace {
        let most = match (self.basis, self.full_lookback_at) {
            (None, swept) => return swept_by(pace, swept, now),
            (Some(Basis::Event), None) => return *pace,
            (Some(Basis::Ingestion), _) => INGESTION_LOOKBACK,
            (Some(Basis::Event), Some(at)) if now - at >= delta(SWEEP) => {
                // From where the last one could see: what came since then may be as late.
                let since = (now - at).to_std().unwrap_or_default();
                return Pace {
                    lookback: pace.lookback + since,
                    ..*pace
                };
            }
            (Some(Basis::Event), Some(_)) => EVENT_LOOKBACK,
        };
        Pace {
            lookback: pace.lookback.min(most),
            ..*pace
        }
    }

    /// The source gave this one record or more of a time that it was not asked for.
    pub(super) fn strayed(&mut self, oldest: DateTime<Utc>, at: DateTime<Utc>) {
        let before = self.outside.map_or(oldest, |outside| outside.oldest);
        self.outside = Some(Outside {
            oldest: oldest.min(before),
            last: at,
        });
    }

    /// True when the source has to say which time windows go by.
    pub fn basis_is_due(&self, now: DateTime<Utc>) -> bool {
        self.basis.is_none()
            || self
                .basis_checked_at
                .is_none_or(|at| now - at >= delta(PROBE))
    }

    /// True when all records are to be read as a whole.
    fn pass_is_due(&self, pace: &Pace, now: DateTime<Utc>) -> bool {
        match pace.passes {
            Passes::None => false,
            Passes::Only(every) | Passes::Beside(every) => {
                // A pass of the future belongs to a clock that was wrong.
                self.last_pass
                    .is_none_or(|at| now - at >= delta(every) || at - now >= CLOCKS_DIFFER)
            }
            Passes::Behind(reach) => match &self.position {
                Some(Position::Time(cursor)) => now - *cursor > delta(reach),
                Some(Position::Token(_)) | None => true,
            },
        }
    }
}

/// The pace of a list by update time: once a day it reaches as far back as the last sweep could see,
/// since what has come in between may be as late.
fn swept_by(pace: &Pace, swept: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Pace {
    let since = match swept {
        _ if pace.sweep <= pace.lookback => return *pace,
        None => Duration::ZERO,
        Some(at) if (now - at).abs() < delta(SWEEP) => return *pace,
        Some(at) => (now - at).to_std().unwrap_or_default(),
    };
    Pace {
        lookback: pace.sweep + since,
        ..*pace
    }
}
