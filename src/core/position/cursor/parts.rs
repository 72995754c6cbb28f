//! What a stream's state is made of, and what moves it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::core::position::{paging::Page, window::Window};

/// The name of one stream of one connection: the key of its state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamKey {
    /// The connection, `default` without `CONNECTIONS`.
    pub connection: String,
    /// The stream, such as `eset.detections`.
    pub stream: String,
}

impl StreamKey {
    /// The key of `stream` of `connection`.
    pub fn new(connection: &str, stream: &str) -> Self {
        Self {
            connection: connection.to_owned(),
            stream: stream.to_owned(),
        }
    }
}

impl std::fmt::Display for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.connection, self.stream)
    }
}

/// A saved position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Position {
    /// Everything before this time was read.
    Time(DateTime<Utc>),
    /// Everything before this opaque token was read.
    Token(String),
}

/// What one step of a run asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Slice {
    /// The records of a window.
    Window(Window),
    /// What came after a token.
    Token(String),
    /// A first token, and no records.
    Latest,
    /// The records that the source took in within a window, whenever they happened.
    Ingested(Window),
    /// All records, as they are now.
    Pass,
}

impl Slice {
    /// The word for its kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Window(_) => "window",
            Self::Ingested(_) => "ingested",
            Self::Token(_) | Self::Latest => "feed",
            Self::Pass => "pass",
        }
    }

    /// Its window, when it has one.
    pub fn window(&self) -> Option<Window> {
        match self {
            Self::Window(window) | Self::Ingested(window) => Some(*window),
            Self::Token(_) | Self::Latest | Self::Pass => None,
        }
    }
}

/// Which of a record's times windows go by, where the source knows two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// When the source took it in: nothing is ever late.
    Ingestion,
    /// When it happened.
    Event,
}

/// A slice that was read in part: it goes on from a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSlice {
    /// The slice, frozen as it was first asked for.
    pub slice: Slice,
    /// The page that comes next.
    pub page: Page,
    /// When the slice was first asked for.
    pub began: DateTime<Utc>,
}

impl OpenSlice {
    /// A pass that began then.
    pub fn of_pass(began: DateTime<Utc>) -> Self {
        Self::new(Slice::Pass, began)
    }

    /// A slice that is asked for from its first page.
    pub fn new(slice: Slice, began: DateTime<Utc>) -> Self {
        Self {
            slice,
            page: Page::First,
            began,
        }
    }
}

/// A range that could not be proven complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its beginning.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// What happened, and what may be missing.
    pub why: String,
}

/// Records that a source gave though it was asked for another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// The time of the oldest.
    pub oldest: DateTime<Utc>,
    /// When one came last.
    pub last: DateTime<Utc>,
}

/// Who works on the stream, and until when nobody else may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// One run of one process.
    pub owner: String,
    /// From then on it is anybody's.
    pub until: DateTime<Utc>,
}

impl Lease {
    /// Longer than any run may hold a stream: `RUN_BUDGET_SECONDS` is at most 540.
    pub const LONGEST: TimeDelta = TimeDelta::minutes(15);

    /// True while nobody else may work on the stream. A lease that ends later than any run does was
    /// taken by a clock that ran ahead: who waited for its end would wait for days, and the `ETag` of the
    /// state keeps two runs from saving as well.
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        now < self.until && self.until - now <= Self::LONGEST
    }

    /// Separates the process from the run in the name of an owner.
    const RUN_MARK: char = '#';

    /// The name of a run as an owner: two runs of one process are two owners.
    pub fn owner_of(process: &str, run: u64) -> String {
        format!("{process}{}{run:016x}", Self::RUN_MARK)
    }

    /// The process of the run that holds it.
    pub fn process(&self) -> &str {
        self.owner.split(Self::RUN_MARK).next().unwrap_or_default()
    }
}

/// Whether another list carries the details of a stream's records, a thousand a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// It does, and as much of each as can be asked for by id.
    pub carried: bool,
    /// When that was found out.
    pub at: DateTime<Utc>,
}

/// What a run has done so far, as far as the next step depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunProgress {
    /// A window was read, so the next one needs no lookback.
    pub window: bool,
    /// The feed was read to its end.
    pub feed: bool,
    /// Windows are not offered, so the feed goes on before the backlog is read.
    pub feed_first: bool,
}

/// What happened at the source, as far as it moves the stream. The reader moves its plan by it at
/// once; the writer moves the saved state by it when everything before it is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// A page was read, and another follows.
    Page {
        /// The slice it belongs to.
        slice: Slice,
        /// The page that follows.
        next: Page,
        /// When the slice was first asked for.
        began: DateTime<Utc>,
    },
    /// The last page of a slice was read.
    Slice {
        /// The slice.
        slice: Slice,
        /// The feed's next token, when it gave one.
        token: Option<String>,
        /// When the slice was first asked for; of [`Slice::Latest`], when it was answered.
        began: DateTime<Utc>,
    },
    /// The page that the slice should go on from is refused.
    PageRefused,
    /// The cursor's token is refused.
    TokenRefused {
        /// How.
        reason: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The source has no token feed.
    FeedMissing {
        /// When it said so.
        at: DateTime<Utc>,
    },
    /// The source does not offer the stream at all.
    Off {
        /// When it said so.
        at: DateTime<Utc>,
        /// Until when it need not be asked again.
        until: DateTime<Utc>,
        /// How it said so.
        why: String,
    },
    /// Something can't be read.
    Gap(Gap),
    /// The source gave records of a time that it was not asked for.
    Outside {
        /// How many.
        count: u64,
        /// The time of the oldest.
        oldest: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// A pass missed so much of what was there that it is not believed.
    PassMissed {
        /// Records that it did not see.
        missed: u64,
        /// Records that were there before.
        there: u64,
        /// When it began.
        began: DateTime<Utc>,
    },
    /// A pass is believed, whatever those before it missed.
    PassWhole,
    /// What lies in the source's future goes back.
    DrawnBack {
        /// The source's own time.
        now: DateTime<Utc>,
    },
    /// Windows go by this time from now on, says the source.
    Basis {
        /// The time.
        basis: Basis,
        /// When the source said so.
        at: DateTime<Utc>,
    },
}
