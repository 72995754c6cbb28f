//! What comes after a page: one pure decision for every way of paging.
//!
//! A saved state holds a [`Page`] as text, so that a later run can go on from it. The empty text is
//! the first page of every slice.
//!
//! | paging | page | text |
//! |---|---|---|
//! | [`Paging::Token`] | [`Page::Token`] | what the service named, as it is |
//! | [`Paging::Link`] | [`Page::Link`] | what the service named, as it is |
//! | [`Paging::Skip`] | [`Page::Skip`] | how many records come before it |
//! | [`Paging::Boundary`], [`Paging::Whole`] | [`Page::Part`] of the slice's window | a [`Part`] |
//! | [`Paging::Files`] | [`Page::File`] | a [`FilePage`] |
//!
//! An answer may have no records and still name a next page: the filter comes after the page is cut.
//! The records behind it can't be asked for by their times or by how many came, so its link is
//! followed, to the end of the links: such a page is the one it followed, and the link, with `@`
//! between them in its text.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, de::IgnoredAny};

use super::window::Window;

mod files;
mod page;
mod part;

pub use files::FilePage;
pub use page::Page;
pub use part::Part;

/// How a list is read page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    /// The answer names the next page.
    Token,
    /// A full page goes on at its greatest time: `ge`, never `gt`, since records share times.
    Boundary {
        /// The most records of a page.
        top: u32,
        /// The list was asked for in the order of time. One that was not may look like it: the
        /// newest records come first, and somebody has closed them from the top.
        ordered: bool,
    },
    /// `$top` and `$skip` under the same filter, until a page is not full. Links are followed where
    /// nothing else leads on: they loop, and lose the filter (`docs/contracts/defender.md`, *Lists*).
    Skip {
        /// The most records of a page.
        top: u32,
    },
    /// The answer holds the next page's URL, which is followed as it is.
    Link,
    /// The answer names files of lines.
    Files,
    /// The answer has no pages: one with `cap` records is cut, and its window is halved.
    Whole {
        /// The most records that are asked for.
        cap: u32,
    },
}

/// What stands around the records of an answer. Every member may be absent, null or empty.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// The next page of this slice, as ESET names it.
    #[serde(rename = "nextPageToken")]
    next_page_token: Option<String>,
    /// The next token of the feed, on the last page.
    #[serde(rename = "nextDeltaToken")]
    next_delta_token: Option<String>,
    /// The URL of the next page.
    #[serde(rename = "@odata.nextLink", alias = "odata.nextLink")]
    next_link: Option<String>,
    /// When the files were written.
    #[serde(rename = "generatedTime")]
    generated: Option<String>,
    /// The files. They hold a secret: nobody but the source looks at them.
    #[serde(rename = "exportFiles")]
    files: Option<Vec<IgnoredAny>>,
}

impl Frame {
    /// The feed's next token, when it gave one.
    pub fn next_token(&self) -> Option<&str> {
        said(self.next_delta_token.as_deref())
    }

    /// The next page as the service names it.
    pub fn next_page(&self) -> Option<&str> {
        said(self.next_page_token.as_deref())
    }

    /// The URL of the next page, when there is one.
    pub fn link(&self) -> Option<&str> {
        said(self.next_link.as_deref())
    }
}

/// `""`, null and absent all mean that there is none.
fn said(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// What the records of a page say about where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    count: u64,
    least: Option<DateTime<Utc>>,
    greatest: Option<DateTime<Utc>>,
    /// Every record has a time, and none comes before the one above it.
    sorted: bool,
    /// Records of a time that was not asked for, and the oldest of it.
    outside: u64,
    stray: Option<DateTime<Utc>>,
    /// A hash of the first record.
    first: Option<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            count: 0,
            least: None,
            greatest: None,
            sorted: true,
            outside: 0,
            stray: None,
            first: None,
        }
    }
}

/// A record counts as of another time than was asked for when it is off by more: services round.
const ROUNDED: TimeDelta = TimeDelta::seconds(1);

impl Tally {
    /// Takes in a record of this time.
    pub fn see(&mut self, time: Option<DateTime<Utc>>) {
        self.count += 1;
        self.sorted &= time.is_some() && time >= self.greatest;
        self.least = match (self.least, time) {
            (Some(least), Some(time)) => Some(least.min(time)),
            (least, time) => least.or(time),
        };
        self.greatest = self.greatest.max(time);
    }

    /// Takes in a record of this time of an answer to `asked`.
    pub fn see_within(&mut self, time: Option<DateTime<Utc>>, asked: Window) {
        self.see(time);
        if let Some(time) = time
            && (time < asked.from - ROUNDED || time > asked.to + ROUNDED)
        {
            self.outside += 1;
            self.stray = Some(self.stray.map_or(time, |stray| stray.min(time)));
        }
    }

    /// Takes in the hash of a record that may be the first.
    pub fn begin(&mut self, hash: u64) {
        self.first.get_or_insert(hash);
    }

    /// True when another page began with the same record.
    pub fn begins_like(&self, other: &Self) -> bool {
        self.first.is_some() && self.first == other.first
    }

    /// How many records were of a time that was not asked for, and the oldest of their times.
    pub fn outside(&self) -> Option<(u64, DateTime<Utc>)> {
        self.stray.map(|oldest| (self.outside, oldest))
    }

    /// The earliest and the latest time of a record.
    pub fn span(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        self.least.zip(self.greatest)
    }

    /// Takes in records whose times do not matter.
    pub fn add(&mut self, count: u64) {
        self.count += count;
    }

    /// How many records there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// What comes after a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the slice is read.
    Done,
    /// Another page of the slice.
    Page(Page),
    /// More records of one instant than the service gives: what is left of it can't be read. The
    /// slice goes on behind it.
    Full(Window, Option<Page>),
}

/// What comes after the page `page` of a slice over `window` (none for a slice without one).
pub fn next(
    paging: Paging,
    window: Option<Window>,
    page: &Page,
    frame: &Frame,
    tally: &Tally,
) -> Next {
    let named = |text: Option<&str>, page: fn(String) -> Page| {
        text.map_or(Next::Done, |text| Next::Page(page(text.to_owned())))
    };
    let is_followed = page.link().is_some();
    match (paging, window) {
        (Paging::Token, _) => named(frame.next_page(), Page::Token),
        (Paging::Link, _) => named(frame.link(), Page::Link),
        (Paging::Files, _) => FilePage::after(page, frame.generated.as_deref(), frame.file_count()),
        (Paging::Boundary { .. }, Some(window)) if is_followed || tally.count() == 0 => {
            let part = page.part(window);
            match frame.link() {
                Some(link) => Next::Page(Page::Part(part, Some(link.to_owned()))),
                None => part.after(window, !is_followed),
            }
        }
        (Paging::Boundary { top, ordered }, Some(window)) => {
            let linked = frame.link().is_some();
            page.part(window)
                .after_boundary(window, (top, ordered), linked, tally)
        }
        (Paging::Whole { cap }, Some(window)) => {
            let linked = frame.link().is_some();
            page.part(window).after_whole(window, cap, linked, tally)
        }
        (Paging::Skip { top } | Paging::Boundary { top, .. } | Paging::Whole { cap: top }, _) => {
            let (skipped, count) = (page.skipped(), tally.count());
            match frame.link() {
                Some(link) if is_followed || count == 0 => {
                    Next::Page(Page::Skip(skipped, Some(link.to_owned())))
                }
                None if is_followed || count == 0 => Next::Done,
                // Not by what came: a page that repeats a record holds more than was asked for.
                _ if count >= u64::from(top) => {
                    Next::Page(Page::Skip(skipped + u64::from(top), None))
                }
                linked if linked.is_some() || may_be_cut(count) => {
                    Next::Page(Page::Skip(skipped + count, None))
                }
                _ => Next::Done,
            }
        }
    }
}

/// What comes after a link that leads in a circle: nothing is behind it when no page of the circle
/// held a record; else it is told which time is not whole. `None` where no time can be told.
pub fn circled(paging: Paging, window: Option<Window>, page: &Page, came: bool) -> Option<Next> {
    if paging == Paging::Link || page.link().is_none() {
        return None;
    }
    let next = match (paging, window) {
        (Paging::Boundary { .. }, Some(window)) => {
            let part = page.part(window);
            match part.after(window, false) {
                next if !came => next,
                Next::Page(next) => Next::Full(part.window, Some(next)),
                _ => Next::Full(part.window, None),
            }
        }
        _ if came => return None,
        _ => Next::Done,
    };
    Some(next)
}

/// True for as many records as a service may give at most, whatever it is asked for: such limits
/// are round. The end of a list is so by chance, and costs one more question.
fn may_be_cut(count: u64) -> bool {
    count > 0 && count.is_multiple_of(10)
}

impl Frame {
    fn file_count(&self) -> usize {
        self.files.as_ref().map_or(0, Vec::len)
    }
}

/// What comes after a page that skipped records and began like the one before it: whoever skips
/// nothing gives it again for ever. `None` for a page that skipped none, or that can't be the end.
pub fn unskipped(
    paging: Paging,
    window: Option<Window>,
    page: &Page,
    frame: &Frame,
    tally: &Tally,
) -> Option<Next> {
    if page.link().is_some() {
        return None;
    }
    match (paging, window) {
        (Paging::Boundary { .. }, Some(_)) => {
            let (left_out, next) = beyond(paging, window, page)?;
            Some(Next::Full(left_out, next))
        }
        (Paging::Skip { top }, _) => {
            let may_end = tally.count() < u64::from(top) && frame.link().is_none();
            (page.skipped() > 0 && may_end).then_some(Next::Done)
        }
        _ => None,
    }
}

/// The page to ask for in place of one that is too much for the service; `None` when it can't be
/// made smaller.
pub fn smaller(paging: Paging, window: Option<Window>, page: &Page) -> Option<Page> {
    let part = page.part(window?);
    match paging {
        // Its link says how much comes.
        _ if page.link().is_some() => None,
        Paging::Boundary { top, .. } => part.with_less(top),
        Paging::Whole { .. } => part.narrower(),
        _ => None,
    }
    .map(|part| Page::Part(part, None))
}

/// Where a slice goes on behind an instant of which the service gives no more, and what is left
/// out then.
pub fn beyond(
    paging: Paging,
    window: Option<Window>,
    page: &Page,
) -> Option<(Window, Option<Page>)> {
    match (paging, window) {
        (Paging::Boundary { .. }, Some(window)) => page.part(window).beyond(window),
        _ => None,
    }
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
