//! What comes after a page: one pure decision for every way of paging.
//!
//! A page is a string, so that a state can hold it and a later run can go on from it. The empty
//! string is the first page of every slice.
//!
//! | paging | page |
//! |---|---|
//! | [`Paging::Token`], [`Paging::Link`] | what the service named, as it is |
//! | [`Paging::Skip`] | how many records come before it |
//! | [`Paging::Boundary`], [`Paging::Whole`] | a [`Part`] of the slice's window |
//! | [`Paging::Files`] | a [`FilePage`] |

use chrono::{DateTime, Utc};
use serde::{Deserialize, de::IgnoredAny};

use super::window::Window;

mod files;
mod part;

pub use files::FilePage;
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
    /// `$top` and `$skip` under the same filter, until a page is not full. Links are not followed:
    /// they loop, and lose the filter (defender.md 2.1).
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
    /// The records of a list, which were cut out.
    value: Option<IgnoredAny>,
    /// The rows of a query, which were cut out.
    results: Option<IgnoredAny>,
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

    /// True when the answer had this member for its records.
    pub fn has(&self, records: &str) -> bool {
        match records {
            "value" => self.value.is_some(),
            "results" => self.results.is_some(),
            _ => true,
        }
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
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            count: 0,
            least: None,
            greatest: None,
            sorted: true,
        }
    }
}

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
    Page(String),
    /// More records of one instant than the service gives: what is left of it can't be read. The
    /// slice goes on behind it.
    Full(Window, Option<String>),
}

/// What comes after the page `page` of a slice over `window` (none for a slice without one).
pub fn next(
    paging: Paging,
    window: Option<Window>,
    page: &str,
    frame: &Frame,
    tally: &Tally,
) -> Next {
    let named = |page: Option<&str>| page.map_or(Next::Done, |page| Next::Page(page.to_owned()));
    match (paging, window) {
        (Paging::Token, _) => named(frame.next_page()),
        (Paging::Link, _) => named(said(frame.next_link.as_deref())),
        (Paging::Files, _) => FilePage::after(page, frame.generated.as_deref(), frame.file_count()),
        (Paging::Boundary { top, ordered }, Some(window)) => {
            let linked = said(frame.next_link.as_deref()).is_some();
            let part = Part::of(window, page);
            part.after_boundary(window, (top, ordered), linked, tally)
        }
        (Paging::Whole { cap }, Some(window)) => {
            Part::of(window, page).after_whole(window, cap, tally)
        }
        (Paging::Skip { top } | Paging::Boundary { top, .. } | Paging::Whole { cap: top }, _) => {
            if tally.count() < u64::from(top) {
                return Next::Done;
            }
            // Not by what came: a page that repeats a record holds more than was asked for.
            Next::Page((skipped(page) + u64::from(top)).to_string())
        }
    }
}

impl Frame {
    fn file_count(&self) -> usize {
        self.files.as_ref().map_or(0, Vec::len)
    }
}

/// The records that come before a page of [`Paging::Skip`].
pub fn skipped(page: &str) -> u64 {
    page.parse().unwrap_or_default()
}

/// The page to ask for in place of one that is too much for the service; `None` when it can't be
/// made smaller.
pub fn smaller(paging: Paging, window: Option<Window>, page: &str) -> Option<String> {
    let part = Part::of(window?, page);
    match paging {
        Paging::Boundary { top, .. } => part.with_less(top),
        Paging::Whole { .. } => part.narrower(),
        _ => None,
    }
    .map(|part| part.to_string())
}

/// Where a slice goes on behind an instant of which the service gives no more, and what is left
/// out then.
pub fn beyond(
    paging: Paging,
    window: Option<Window>,
    page: &str,
) -> Option<(Window, Option<String>)> {
    match (paging, window) {
        (Paging::Boundary { .. }, Some(window)) => Part::of(window, page).beyond(window),
        _ => None,
    }
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
