//! Where a stream stands, what it asks for next, and how an answer moves it: pure, so that every
//! case is a test.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    paging::{Page, Paging},
    trend::Trend,
    window::{Pace, Passes, Window, delta},
};
use crate::{
    core::totals::Totals,
    error::{Error, Result},
};

mod future;
mod next;
mod parts;
mod salvage;

pub use future::CLOCKS_DIFFER;
pub use salvage::damaged;

pub use parts::{
    Basis, Gap, Lease, Listed, OpenSlice, Outside, Position, RunProgress, Slice, StreamKey,
    Transition,
};

/// The schema of [`StreamState`]. A state of a newer schema is refused.
pub const STATE_VERSION: u32 = 1;

/// How far windows on the time of the event look back where another time was hoped for, and how
/// often they look back all the way.
const EVENT_LOOKBACK: Duration = Duration::from_hours(2);
const SWEEP: Duration = Duration::from_hours(24);

/// How long an export may have been on its way when it does not say of when it is.
const EXPORT_AGE: Duration = Duration::from_hours(12);

/// The most gaps that a state names; the oldest go first.
const MAX_GAPS: usize = 50;

/// Refused tokens that are no further apart are one gap: a source that refuses every token must not
/// push older gaps off the list.
const ONE_GAP: Duration = Duration::from_hours(1);

/// How the reason of a gap begins that the next whole pass closes.
const PASS_MISSED: &str = "a pass over all records missed";

/// How the reason of such a gap begins.
const TOKEN_REFUSED: &str = "the source refused the delta token";

/// Everything that is kept of a stream from one run to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamState {
    /// [`STATE_VERSION`] of the writer.
    pub version: u32,
    /// The cursor; `None` before the first run, and after a token was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// What is still to be read by window before the feed goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Window>,
    /// The slice that was read in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenSlice>,
    /// Nothing before this time is ever asked for: where the first run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "floor")]
    pub history_start: Option<DateTime<Utc>>,
    /// Everything that the source knew at this time was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "good")]
    pub complete_until: Option<DateTime<Utc>>,
    /// When the windows behind a time cursor were last read again; `None` while that is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_back: Option<DateTime<Utc>>,
    /// When the source last said that it has no token feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_feed: Option<DateTime<Utc>>,
    /// Since when the source says that it does not offer this stream (501).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<DateTime<Utc>>,
    /// Until when it need not be asked whether it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_until: Option<DateTime<Utc>>,
    /// How the source said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_why: Option<String>,
    /// When the last pass over all records began that came to its end: the name of its sightings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "passed")]
    pub last_pass: Option<DateTime<Utc>>,
    /// When the last pass began that wrote every record, changed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<DateTime<Utc>>,
    /// Which time windows go by, where there is a choice and it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// When the source last said which time that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "probed")]
    pub basis_checked_at: Option<DateTime<Utc>>,
    /// When windows on the time of the event last looked back all the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "swept")]
    pub full_lookback_at: Option<DateTime<Utc>>,
    /// When the first of the last passes in a row began that missed much of what was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted: Option<DateTime<Utc>>,
    /// Records that the source gave though it was asked for another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
    /// Whether another list carries the details of its records, once that was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listed>,
    /// Since when somebody wants it not to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<DateTime<Utc>>,
    /// What could not be proven complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The last run ended before everything was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
    /// When a run of it last ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<DateTime<Utc>>,
    /// When a run of it last began in which its source could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "turn")]
    pub last_turn: Option<DateTime<Utc>>,
    /// What ended the last run, when it was an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the runs of the last week brought.
    #[serde(
        default,
        deserialize_with = "Trend::read",
        skip_serializing_if = "Trend::is_empty"
    )]
    pub trend: Trend,
    /// What its runs add up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

impl Default for StreamState {
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            position: None,
            backlog: None,
            open: None,
            history_start: None,
            complete_until: None,
            looked_back: None,
            no_feed: None,
            off: None,
            off_until: None,
            off_why: None,
            last_pass: None,
            rewritten: None,
            basis: None,
            basis_checked_at: None,
            full_lookback_at: None,
            doubted: None,
            outside: None,
            listed: None,
            paused: None,
            gaps: Vec::new(),
            lease: None,
            behind: false,
            finished: None,
            last_turn: None,
            error: None,
            trend: Trend::default(),
            totals: None,
        }
    }
}

impl StreamState {
    /// Moves the stream.
    pub fn apply(&mut self, change: &Transition, pace: &Pace) {
        match change {
            Transition::Page { slice, next, began } => self.page_done(slice, next, *began),
            Transition::Slice {
                slice,
                token,
                began,
            } => {
                self.slice_done(slice, token.clone(), *began, pace);
            }
            Transition::PageRefused => self.open = None,
            Transition::TokenRefused { reason, at } => self.token_refused(reason, pace, *at),
            Transition::FeedMissing { at } => self.feed_missing(pace, *at),
            Transition::Off { at, until, why } => {
                self.off = self.off.or(Some(*at));
                self.off_until = Some(*until);
                self.off_why = Some(why.clone());
            }
            Transition::Gap(gap) => self.add_gap(gap.clone()),
            Transition::DrawnBack { now } => self.drawn_back(pace, *now),
            Transition::Basis { basis, at } => self.goes_by(*basis, *at),
            Transition::Outside { oldest, at, .. } => self.strayed(*oldest, *at),
            Transition::PassMissed {
                missed,
                there,
                began,
            } => self.pass_missed(*missed, *there, *began),
            Transition::PassWhole => {
                self.doubted = None;
                self.gaps.retain(|gap| !gap.why.starts_with(PASS_MISSED));
            }
        }
    }

    /// How much time is still to be read, where the stream reads by time.
    pub fn unread(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        match (self.backlog, &self.position) {
            (Some(Window { from, to }), _) => Some(to - from),
            (None, Some(Position::Time(cursor))) => Some(now - *cursor),
            (None, _) => None,
        }
    }

    /// Refuses a state that a newer version wrote.
    pub fn checked(self) -> Result<Self> {
        if self.version > STATE_VERSION {
            return Err(Error::config(format!(
                "the saved state has schema {}, this version knows {STATE_VERSION}: deploy the \
                 version that wrote it, or a newer one",
                self.version
            )));
        }
        Ok(self)
    }

    /// The state with its page read as those of its stream are. As text it may be of any paging.
    ///
    /// # Errors
    /// `Config` for a page that is none of the stream's: to read something else in its place might
    /// pass over records, or over those of a whole window once more in each run.
    pub fn with_page_read(
        mut self,
        key: &StreamKey,
        paging: impl FnOnce(&Slice) -> Paging,
    ) -> Result<Self> {
        if let Some(open) = &mut self.open {
            let read = open.page.read_as(paging(&open.slice), open.slice.window());
            open.page = read.ok_or_else(|| {
                // Not its text, which may be a token.
                damaged(
                    key,
                    "is damaged: the page that it goes on from is none of its stream's",
                )
            })?;
        }
        Ok(self)
    }

    /// True when the last run ended less than `every` ago, with nothing left to do.
    pub fn is_fresh(&self, every: Duration, now: DateTime<Utc>) -> bool {
        if self.behind || self.open.is_some() || self.error.is_some() {
            return false;
        }
        // Timers fire a little early or late; a tenth of slack keeps a 5-minute stream on them.
        // A run that ended in the future belongs to a clock that was wrong.
        self.finished
            .is_some_and(|finished| (now - finished).abs() < delta(every.mul_f64(0.9)))
    }

    /// True when the source has given something of this stream, or said that there was nothing.
    pub fn has_worked(&self) -> bool {
        self.complete_until.is_some() || self.last_pass.is_some() || self.has_token()
    }

    /// True when the stream follows its feed.
    pub fn has_token(&self) -> bool {
        matches!(self.position, Some(Position::Token(_)))
    }

    /// The choice of a time, which the other one may have gone before.
    ///
    /// To ingestion: what was taken in since the last sweep (or in the last day, before there was an
    /// answer) may be dated long before the cursor, and rows that were dated ahead may have been taken
    /// in before it. To the event: rows may have had no time of ingestion since the last answer, so
    /// the next sweep looks back from there.
    fn goes_by(&mut self, basis: Basis, at: DateTime<Utc>) {
        let before = self.basis_checked_at.replace(at);
        if self.basis == Some(basis) {
            return;
        }
        match (basis, &mut self.position) {
            (Basis::Ingestion, Some(Position::Time(cursor))) => {
                let read = match self.basis {
                    None => self
                        .history_start
                        .map(|floor| floor.max(*cursor - delta(SWEEP))),
                    Some(_) => self.full_lookback_at,
                };
                *cursor = read.map_or(*cursor, |read| read.min(*cursor)) - delta(EVENT_LOOKBACK);
            }
            (Basis::Event, _) => self.full_lookback_at = before,
            (Basis::Ingestion, _) => {}
        }
        self.open = None;
        self.basis = Some(basis);
    }

    /// True when a pass that began then writes every record, changed or not.
    pub fn rewrites(&self, began: DateTime<Utc>, pace: &Pace) -> bool {
        self.rewritten
            .is_none_or(|at| began - at >= delta(pace.rewrite))
    }

    /// A page of a slice is safe, and another follows.
    fn page_done(&mut self, slice: &Slice, next_page: &Page, began: DateTime<Utc>) {
        self.set_floor(slice);
        self.open = Some(OpenSlice {
            slice: slice.clone(),
            page: next_page.clone(),
            began,
        });
    }

    /// The last page of a slice is safe. `token` is the feed's next token, when it gave one.
    ///
    /// | slice | what moves |
    /// |---|---|
    /// | window of the backlog | the backlog begins at the window's end |
    /// | any other window | the cursor goes to the window's end, never back; everything up to the last lookback is good |
    /// | token | the cursor becomes `token` (without one it stays), everything up to `began` is good unless there is a backlog |
    /// | latest | the cursor becomes `token`; what lies before it and was not read is backlog |
    /// | pass | the cursor goes to where it began, or to the time of the export (`token`) |
    fn slice_done(
        &mut self,
        slice: &Slice,
        token: Option<String>,
        began: DateTime<Utc>,
        pace: &Pace,
    ) {
        self.open = None;
        self.off = None;
        self.off_until = None;
        self.off_why = None;
        self.set_floor(slice);
        match slice {
            Slice::Pass => self.pass_read(token.as_deref(), began, pace),
            Slice::Window(window) | Slice::Ingested(window) => match self.backlog {
                Some(backlog) => self.backlog_read(backlog, *window),
                None => self.window_read(*window, began, pace),
            },
            Slice::Token(_) => {
                if let Some(token) = token {
                    self.position = Some(Position::Token(token));
                }
                if self.backlog.is_none() {
                    self.good_until(began);
                }
            }
            Slice::Latest => {
                let from = match self.position {
                    Some(Position::Time(cursor)) => self.lookback_from(cursor, pace),
                    _ => self.resync_from(began, pace),
                };
                // One that could not be read yet is a part of the new one.
                let from = self.backlog.map_or(from, |backlog| from.min(backlog.from));
                self.stretch_gap(began);
                self.position = token.map(Position::Token);
                self.no_feed = None;
                self.looked_back = None;
                self.history_start = Some(self.history_start.map_or(from, |floor| floor.min(from)));
                let backlog = Window { from, to: began };
                self.backlog = Some(backlog).filter(|backlog| !backlog.is_empty());
                if self.backlog.is_none() {
                    self.good_until(began);
                }
            }
        }
    }

    /// Forgets everything but what somebody has to know or has asked for: gaps, and a pause.
    pub fn reset(&mut self) {
        *self = Self {
            paused: self.paused,
            gaps: std::mem::take(&mut self.gaps),
            ..Self::default()
        };
    }

    /// Makes the next run read from a time on, whatever it has read already.
    pub fn rewind(&mut self, to: DateTime<Utc>) {
        self.open = None;
        self.backlog = None;
        self.no_feed = None;
        self.looked_back = None;
        self.full_lookback_at = None;
        self.last_pass = None;
        self.position = Some(Position::Time(to));
        self.history_start = Some(self.history_start.map_or(to, |floor| floor.min(to)));
        self.complete_until = Some(to);
        self.finished = None;
    }

    /// All records were read. What changed since the export was written, or since the pass began, is
    /// for the windows behind it.
    fn pass_read(&mut self, token: Option<&str>, began: DateTime<Utc>, pace: &Pace) {
        if self.rewrites(began, pace) {
            self.rewritten = Some(began);
        }
        self.last_pass = Some(began);
        let before = match self.position {
            Some(Position::Time(cursor)) => Some(cursor),
            _ => None,
        };
        let reached = match pace.passes {
            Passes::Behind(reach) => {
                if let Some(from) = before.filter(|from| began - *from > delta(reach)) {
                    self.add_gap(Gap {
                        from,
                        to: began,
                        why: "the cursor was older than the source keeps changes; everything was \
                              read again as it is now, and what came and went in between is missing"
                            .to_owned(),
                    });
                }
                let written = token.and_then(|text| text.parse().ok());
                written.unwrap_or_else(|| began - delta(EXPORT_AGE))
            }
            _ => before.map_or(began, |before| before.max(began)),
        };
        self.position = Some(Position::Time(reached));
        self.good_until(began);
    }

    /// A pass that began then has missed much of what was there: one gap, until a whole one.
    fn pass_missed(&mut self, missed: u64, there: u64, began: DateTime<Utc>) {
        let first = *self.doubted.get_or_insert(began);
        let mut from = self.last_pass.unwrap_or(first);
        self.gaps.retain(|gap| {
            let is_ours = gap.why.starts_with(PASS_MISSED);
            if is_ours {
                from = from.min(gap.from);
            }
            !is_ours
        });
        self.add_gap(Gap {
            from,
            to: began,
            why: format!(
                "{PASS_MISSED} {missed} of {there} records; none of them is called gone before \
                 another pass, a day later, misses them as well"
            ),
        });
    }

    fn backlog_read(&mut self, backlog: Window, window: Window) {
        let rest = Window {
            from: window.to,
            ..backlog
        };
        self.backlog = Some(rest).filter(|rest| !rest.is_empty());
        if self.backlog.is_none() {
            // Not to the window's end: what came since the token was taken is the feed's.
            self.good_until(backlog.to);
        }
    }

    fn window_read(&mut self, window: Window, began: DateTime<Utc>, pace: &Pace) {
        let before = match self.position {
            Some(Position::Time(cursor)) => cursor,
            _ => self.known().unwrap_or(window.from),
        };
        if window.from <= self.lookback_from(before, &self.paced(pace, began)) {
            self.looked_back = Some(began);
        }
        let sweep = Pace {
            lookback: pace.lookback.max(pace.sweep),
            ..*pace
        };
        let sweeps = match self.basis {
            Some(basis) => basis == Basis::Event,
            None => pace.sweep > pace.lookback,
        };
        if sweeps && window.from <= self.lookback_from(before, &sweep) {
            self.full_lookback_at = Some(began);
        }
        if window.from > before {
            self.add_gap(Gap {
                from: before,
                to: window.from,
                why: "a window began behind what had been read; nothing was asked for in between"
                    .to_owned(),
            });
        }
        let cursor = before.max(window.to);
        self.position = Some(Position::Time(cursor));
        // What became visible behind the cursor since the last lookback is still to be read, however
        // long ago that was: a window that was cut off goes on hours later.
        if let Some(looked_back) = self.looked_back {
            self.complete_until = Some(cursor.min(looked_back));
        }
    }

    fn good_until(&mut self, time: DateTime<Utc>) {
        self.complete_until = Some(self.complete_until.map_or(time, |good| good.max(time)));
    }

    /// Where windows begin when there is no time cursor.
    fn known(&self) -> Option<DateTime<Utc>> {
        self.complete_until.or(self.history_start)
    }

    /// Where the window after `cursor` has to begin so that it finds what became visible late.
    fn lookback_from(&self, cursor: DateTime<Utc>, pace: &Pace) -> DateTime<Utc> {
        // Before the first window there is nothing to look back to.
        let Some(known) = self.known() else {
            return cursor;
        };
        let from = known.min(cursor) - delta(pace.lookback);
        // A floor above the cursor (a cursor that was set back by hand) must not open a hole.
        self.history_start
            .map_or(from, |floor| from.max(floor.min(cursor)))
    }

    fn set_floor(&mut self, slice: &Slice) {
        if let (Some(window), None) = (slice.window(), self.history_start) {
            self.history_start = Some(window.from);
        }
    }

    /// Where a time window has to begin so that it covers what a lost token stood for.
    fn resync_from(&self, now: DateTime<Utc>, pace: &Pace) -> DateTime<Utc> {
        self.complete_until.map_or_else(
            || now - delta(pace.history),
            |good| self.lookback_from(good, pace),
        )
    }

    /// The source refused the cursor's token: a new one is taken, and what the old one stood for is
    /// read again by window.
    ///
    /// A window finds records by event time, so one that occurred before it and was reported after
    /// `good` is out of reach: that is a gap. A backlog that is not finished needs no token; it is
    /// read on first, and what follows it again. There is no gap then if that reaches back to the
    /// floor: the token never carried anything.
    fn token_refused(&mut self, reason: &str, pace: &Pace, now: DateTime<Utc>) {
        self.open = None;
        self.position = None;
        let Some(good) = self
            .backlog
            .map(|backlog| backlog.to)
            .or(self.complete_until)
        else {
            return;
        };
        let from = good - delta(pace.lookback);
        let from = self
            .history_start
            .map_or(from, |floor| from.max(floor.min(good)));
        if self.backlog.is_some() && self.history_start == Some(from) {
            return;
        }
        let why = format!(
            "{TOKEN_REFUSED} ({reason}); records that occurred since {} are read again by window, \
             older ones that were reported in this time may be missing",
            from.format("%Y-%m-%d %H:%M UTC")
        );
        match self.gaps.last_mut() {
            Some(last)
                if last.why.starts_with(TOKEN_REFUSED) && good - last.to < delta(ONE_GAP) =>
            {
                last.to = last.to.max(now);
                last.why = why;
            }
            _ => self.add_gap(Gap {
                from: good,
                to: now,
                why,
            }),
        }
    }

    /// Until something takes the place of a refused token, its gap grows.
    fn stretch_gap(&mut self, until: DateTime<Utc>) {
        if let (None, Some(good), Some(gap)) =
            (&self.position, self.complete_until, self.gaps.last_mut())
            && gap.to >= good
        {
            gap.to = gap.to.max(until);
        }
    }

    /// The source has no token feed: windows from here on.
    fn feed_missing(&mut self, pace: &Pace, now: DateTime<Utc>) {
        self.open = None;
        self.no_feed = Some(now);
        if matches!(self.position, Some(Position::Time(_))) {
            return;
        }
        self.stretch_gap(now);
        let good = self
            .complete_until
            .or(self.backlog.map(|backlog| backlog.to));
        if let (Some(Position::Token(_)), Some(good)) = (&self.position, good) {
            self.add_gap(Gap {
                from: good,
                to: now,
                why:
                    "the source no longer has its token feed; windows take its place, and records \
                      that were reported in this time longer after they occurred than the lookback \
                      may be missing"
                        .to_owned(),
            });
        }
        let start = good.unwrap_or_else(|| now - delta(pace.history));
        self.history_start = Some(self.history_start.map_or(start, |floor| floor.min(start)));
        self.position = Some(Position::Time(start));
        // The first window looks back, even if windows of a backlog were read in this run.
        self.looked_back = None;
    }

    /// Writes down what could not be proven complete.
    pub fn add_gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
        let excess = self.gaps.len().saturating_sub(MAX_GAPS);
        self.gaps.drain(..excess);
    }

    /// Takes the lease for `owner`, or says who holds it.
    pub fn take_lease(
        &mut self,
        owner: &str,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> std::result::Result<(), Lease> {
        match &self.lease {
            Some(lease) if lease.holds(now) && lease.owner != owner => Err(lease.clone()),
            _ => {
                self.lease = Some(Lease {
                    owner: owner.to_owned(),
                    until,
                });
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
