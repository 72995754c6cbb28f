//! A part of a window, as one page asks for it.

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::{Next, Page, Tally, may_be_cut};
use crate::core::position::window::Window;

/// Windows are not halved below this.
const SHORTEST: TimeDelta = TimeDelta::seconds(1);

/// The smallest step of time that the services count in.
const TICK: TimeDelta = TimeDelta::nanoseconds(100);

/// One second that still is too much is split so often at most.
const MOST_SHARES: u32 = 1 << 12;

/// Fewer records than this are in the order of time by chance, now and then.
const TELLING: u64 = 8;

/// The part of a list that a page asks for. As text: `from/to`, and behind it those that are set of
/// `+skip`, `*top`, `#share/shares`, and `!` for a page without its heavy member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    /// The time that is asked for.
    pub window: Window,
    /// Records of it that come before the page.
    pub skip: u64,
    /// Fewer records than usual.
    pub top: Option<u32>,
    /// Of those whose hash, divided by the second, leaves the first.
    pub share: Option<(u32, u32)>,
    /// Without what is expanded.
    pub bare: bool,
}

impl Part {
    /// All of a window.
    pub fn whole(window: Window) -> Self {
        Self {
            window,
            skip: 0,
            top: None,
            share: None,
            bare: false,
        }
    }

    /// The part that a text names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let marks = ['+', '*', '#', '!'];
        let end = text.find(marks).unwrap_or(text.len());
        let (times, mut rest) = text.split_at_checked(end)?;
        let (from, to) = times.split_once('/')?;
        let mut part = Self::whole(Window {
            from: from.parse().ok()?,
            to: to.parse().ok()?,
        });
        while let Some(mark) = rest.chars().next() {
            let inner = rest.get(1..)?;
            let end = inner.find(marks).unwrap_or(inner.len());
            let (value, after) = inner.split_at_checked(end)?;
            match mark {
                '+' => part.skip = value.parse().ok()?,
                '*' => part.top = Some(value.parse().ok()?),
                '!' => part.bare = true,
                _ => {
                    let (share, shares) = value.split_once('/')?;
                    part.share = Some((share.parse().ok()?, shares.parse().ok()?));
                }
            }
            rest = after;
        }
        Some(part)
    }

    fn from(self, from: DateTime<Utc>) -> Self {
        Self::whole(Window {
            from,
            ..self.window
        })
    }

    fn len(&self) -> TimeDelta {
        self.window.to - self.window.from
    }

    /// The next part of the window when this one is read: twice as long, if there is room in it.
    fn following(&self, window: Window, has_room: bool) -> Option<Self> {
        let from = self.window.to;
        let length = self.len().max(SHORTEST) * if has_room { 2 } else { 1 };
        let to = window.to.min(from + length);
        (from < to).then(|| Self::whole(Window { from, to }))
    }

    /// What follows when this part is read.
    pub(super) fn after(&self, window: Window, has_room: bool) -> Next {
        self.following(window, has_room)
            .map_or(Next::Done, |part| Next::Page(part.into()))
    }

    /// A part of half the length, unless it would be shorter than a second.
    fn half(&self) -> Option<Self> {
        let half = self.len() / 2;
        (self.len() > SHORTEST).then(|| {
            Self::whole(Window {
                to: self.window.from + half.max(SHORTEST),
                ..self.window
            })
        })
    }

    /// A smaller part for an answer that was too big: a shorter one, then shares by hash.
    pub(super) fn narrower(&self) -> Option<Self> {
        if self.share.is_none()
            && let Some(half) = self.half()
        {
            return Some(half);
        }
        let (share, shares) = self.share.unwrap_or((0, 1));
        (shares < MOST_SHARES).then(|| Self {
            share: Some((share, shares * 2)),
            ..*self
        })
    }

    /// A page of fewer records, in the end of one; then without what is expanded.
    pub(super) fn with_less(&self, most: u32) -> Option<Self> {
        let top = self.top.unwrap_or(most);
        match (self.bare, top) {
            (true, _) => None,
            (false, 0 | 1) => Some(Self {
                top: None,
                bare: true,
                ..*self
            }),
            (false, _) => Some(Self {
                top: Some(top / 2),
                ..*self
            }),
        }
    }

    /// What follows a page that ends at a boundary of time.
    pub(super) fn after_boundary(
        &self,
        window: Window,
        (top, ordered): (u32, bool),
        linked: bool,
        tally: &Tally,
    ) -> Next {
        let asked = self.top.unwrap_or(top);
        let within =
            tally.least >= Some(floor(self.window.from)) && tally.greatest < Some(self.window.to);
        // Who skips nothing gives the same again for ever: only a page that is surely full is believed.
        let cut = within && self.skip == 0 && may_be_cut(tally.count);
        if tally.count < u64::from(asked) && !linked && !cut {
            return self.after(window, tally.count * 2 < u64::from(asked));
        }
        // A page that was made smaller and came through may be larger next time.
        let top = self
            .top
            .and_then(|asked| asked.checked_mul(2))
            .filter(|more| *more < top);
        // Of one instant nobody can tell which way the list is sorted.
        let rises =
            ordered && tally.sorted && tally.least < tally.greatest && tally.count >= TELLING;
        let next = match tally.greatest.map(floor) {
            Some(greatest) if rises && within && greatest > self.window.from => self.from(greatest),
            // All of the first instant: only here `$skip` is safe enough, and the lookback reads it
            // again.
            Some(greatest) if tally.sorted && within && greatest <= self.window.from => {
                self.skipping(tally.count)
            }
            // A set, not a list: what follows its greatest time is not known.
            _ => self.half().unwrap_or_else(|| self.skipping(tally.count)),
        };
        Next::Page(Self { top, ..next }.into())
    }

    fn skipping(&self, count: u64) -> Self {
        Self {
            skip: self.skip + count,
            bare: false,
            ..*self
        }
    }

    /// What follows an answer that is whole when it has fewer records than were asked for.
    pub(super) fn after_whole(
        &self,
        window: Window,
        cap: u32,
        linked: bool,
        tally: &Tally,
    ) -> Next {
        // A shorter time is no way to what stands behind nothing, and a query has no link to follow.
        let narrower = self.narrower().filter(|_| tally.count > 0);
        if tally.count >= u64::from(cap) || linked {
            return match narrower {
                Some(part) => Next::Page(part.into()),
                None => Next::Full(self.window, self.next_share(window, false).map(Page::from)),
            };
        }
        let has_room = self.share.is_none() && tally.count * 2 < u64::from(cap);
        match self.next_share(window, has_room) {
            Some(part) => Next::Page(part.into()),
            None => Next::Done,
        }
    }

    /// The next share of the same time, else the time after it.
    ///
    /// Share `k` of `m` is split into `k` and `k + m` of `2m`: the shares are walked as that tree.
    fn next_share(&self, window: Window, has_room: bool) -> Option<Self> {
        let mut share = self.share;
        while let Some((one, shares)) = share {
            let half = shares / 2;
            if one < half {
                return Some(Self {
                    share: Some((one + half, shares)),
                    ..*self
                });
            }
            share = (half > 1).then_some((one - half, half));
        }
        self.following(window, has_room)
    }

    /// What of this part is left out when no more of it can be had, and where it goes on.
    pub(super) fn beyond(&self, window: Window) -> Option<(Window, Option<Page>)> {
        if self.skip == 0 {
            return None;
        }
        // Skipped inside an instant when that is all there was; else inside the shortest part.
        let to = if self.len() <= SHORTEST {
            self.window.to
        } else {
            self.window.from + TICK
        };
        let left_out = Window { to, ..self.window };
        let next = if to < self.window.to {
            Some(self.from(to))
        } else {
            self.following(window, false)
        };
        Some((left_out, next.map(Page::from)))
    }
}

impl From<Part> for Page {
    fn from(part: Part) -> Self {
        Self::Part(part, None)
    }
}

/// To the tick that a query can name.
fn floor(time: DateTime<Utc>) -> DateTime<Utc> {
    time - TimeDelta::nanoseconds(i64::from(time.timestamp_subsec_nanos() % 100))
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        write!(f, "{}/{}", text(self.window.from), text(self.window.to))?;
        if self.skip > 0 {
            write!(f, "+{}", self.skip)?;
        }
        if let Some(top) = self.top {
            write!(f, "*{top}")?;
        }
        if let Some((share, shares)) = self.share {
            write!(f, "#{share}/{shares}")?;
        }
        if self.bare {
            write!(f, "!")?;
        }
        Ok(())
    }
}
