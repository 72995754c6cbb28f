//! The constants that describe a stream's API as data.

use std::time::Duration;

use super::{columns::Table, mapping::Rule, record::Identity, window::Pace};

/// One stream: what to ask, what comes back, and where it goes.
#[derive(Debug)]
pub struct Endpoint {
    /// The stream's name, such as `eset.detections`.
    pub stream: &'static str,
    /// `providerName` of its rows.
    pub provider: &'static str,
    /// The part of the host name that differs between the source's services.
    pub domain: &'static str,
    /// The feed of new records behind an opaque token, when there is one.
    pub feed: Option<Feed>,
    /// The list of records in a window of time.
    pub window: WindowQuery,
    /// The table of its rows.
    pub table: &'static Table,
    /// The members that identify a record.
    pub identity: Identity,
    /// What makes a record one that was handled before.
    pub sameness: Sameness,
    /// The set of fingerprints, which streams that carry the same records share.
    pub fingerprints: &'static str,
    /// Which member goes to which column.
    pub rules: &'static [Rule],
    /// The same for what is looked up about a record.
    pub details: &'static [Rule],
    /// Columns that say the same in every row, as JSON, unless a record fills them.
    pub constants: &'static [(&'static str, &'static str)],
    /// How it is read in time, unless settings say otherwise.
    pub pace: Pace,
}

/// When a record counts as handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// Its id was seen: the source never changes it.
    Id,
    /// Its id and version were seen: each version is a record.
    IdAndVersion,
}

/// A feed of new records.
#[derive(Debug, Clone, Copy)]
pub struct Feed {
    /// Path below the domain.
    pub path: &'static str,
    /// The member that holds the records.
    pub records: &'static str,
}

/// A list of the records of a window.
#[derive(Debug, Clone, Copy)]
pub struct WindowQuery {
    /// Path below the domain.
    pub path: &'static str,
    /// The member that holds the records.
    pub records: &'static str,
    /// How the window is asked for.
    pub filter: TimeFilter,
}

/// How an API takes a window of time.
#[derive(Debug, Clone, Copy)]
pub enum TimeFilter {
    /// Two parameters: the first instant that belongs to it, the first that does not.
    Parameters(&'static str, &'static str),
    /// A CEL expression on this member. The documented operators know no `<`, so that the end
    /// belongs to it as well; the fingerprints drop what that repeats.
    Cel(&'static str),
}

/// The default lookback of a window on event time: devices report late.
pub const LATE_DEVICES: Duration = Duration::from_hours(72);
