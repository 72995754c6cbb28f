//! A state that lies in the future: a clock that ran ahead wrote it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Gap, Position, StreamState};
use crate::core::position::window::{Pace, Passes, Window, delta};

/// Clocks that differ by less are right: every lookback is longer.
pub const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(1);

/// How far a cursor goes back at least. For how long it stood in the future nobody knows: what was
/// taken in meanwhile was never asked for, and repeats are dropped.
const READ_AGAIN: Duration = Duration::from_hours(7 * 24);

impl StreamState {
    /// True when something that decides what is asked for lies in the future: nothing would be asked
    /// for until then, and what comes in meanwhile would never be.
    pub fn lies_ahead(&self, pace: &Pace, now: DateTime<Utc>) -> bool {
        let ahead = |time: DateTime<Utc>| time - now >= CLOCKS_DIFFER;
        let by_window = !matches!(pace.passes, Passes::Only(_));
        let cursor = match self.position {
            Some(Position::Time(cursor)) => Some(cursor),
            _ => None,
        };
        let times = [cursor, self.complete_until, self.history_start];
        (by_window && times.into_iter().flatten().any(ahead))
            || self.last_pass.is_some_and(ahead)
            || self.off.is_some_and(ahead)
            || self.open.as_ref().is_some_and(|open| ahead(open.began))
            || self.backlog.is_some_and(|backlog| ahead(backlog.to))
    }

    /// True when the cursor is a time of the future, so that no window would be asked for.
    pub fn stands_ahead(&self, pace: &Pace, now: DateTime<Utc>) -> bool {
        !matches!(self.position, Some(Position::Token(_))) && self.lies_ahead(pace, now)
    }

    /// Draws back what lies in the future of `now`, the source's time.
    pub(super) fn drawn_back(&mut self, pace: &Pace, now: DateTime<Utc>) {
        let ahead = |time: DateTime<Utc>| time - now >= CLOCKS_DIFFER;
        let first = now - delta(pace.history.max(pace.delay + Duration::from_secs(1)));
        let again = first.min(now - delta(READ_AGAIN));
        if self.history_start.is_some_and(ahead) {
            // Nothing was read but the future: this is the first run still.
            self.history_start = Some(first);
        }
        let back = self.history_start.map_or(again, |floor| again.max(floor));
        for time in [
            &mut self.looked_back,
            &mut self.no_feed,
            &mut self.rewritten,
            &mut self.basis_checked_at,
            &mut self.full_lookback_at,
        ] {
            *time = time.filter(|time| !ahead(*time));
        }
        if self.open.as_ref().is_some_and(|open| ahead(open.began)) {
            self.open = None;
        }
        if self.off.is_some_and(ahead) {
            self.off = None;
            self.off_until = None;
        }
        if let Some(backlog) = &mut self.backlog {
            let from = if ahead(backlog.from) {
                back
            } else {
                backlog.from
            };
            let to = backlog.to.min(now);
            *backlog = Window { from, to };
        }
        self.backlog = self.backlog.filter(|backlog| !backlog.is_empty());
        match self.position {
            Some(Position::Time(cursor)) if ahead(cursor) => {
                self.position = Some(Position::Time(back));
                self.complete_until = self.complete_until.map(|good| good.min(back));
                self.looked_back = None;
                self.full_lookback_at = None;
                // A pass that is due reads all there is.
                if matches!(pace.passes, Passes::None | Passes::Behind(_)) {
                    self.cursor_was_ahead(cursor, back, now);
                }
            }
            Some(Position::Token(_)) => {
                self.complete_until = self.complete_until.map(|good| good.min(now));
            }
            _ => {
                self.complete_until = self
                    .complete_until
                    .filter(|good| !ahead(*good))
                    .or(self.complete_until.map(|good| good.min(back)));
            }
        }
    }

    fn cursor_was_ahead(&mut self, cursor: DateTime<Utc>, back: DateTime<Utc>, now: DateTime<Utc>) {
        let minutes = "%Y-%m-%d %H:%M UTC";
        self.add_gap(Gap {
            from: back,
            to: now,
            why: format!(
                "a clock ran ahead, and the cursor stood at {}; everything since {} is read again, \
                 and what the source took in before that while the cursor stood there may be missing",
                cursor.format(minutes),
                back.format(minutes),
            ),
        });
    }
}
