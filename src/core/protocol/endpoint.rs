//! The constants that describe a stream's API as data.

use std::time::Duration;

use super::choice::{Choice, Choices, Switch};
use crate::core::{
    json::if_absent::IfAbsent,
    mapping::{
        assets::Asset,
        columns::Table,
        filter::Filter,
        from_list::{CollectList, FromList},
        rule::Rule,
        wanted::{Field, Teller},
    },
    position::{cursor::Slice, paging::Paging, record_key::KeyRule, window::Pace},
};

/// One stream: what to ask, what comes back, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// The stream's name, such as `eset.detections`.
    pub stream: &'static str,
    /// `providerName` of its rows.
    pub provider: &'static str,
    /// What the settings say when it is read.
    pub switch: Switch,
    /// The part of the host name that differs between the source's services.
    pub domain: &'static str,
    /// The feed of new records behind an opaque token, when there is one.
    pub feed: Option<Feed>,
    /// The list of records in a window of time.
    pub list: ListQuery,
    /// The list of all records, when the stream is also, or only, read as a whole.
    pub full_list: Option<ListQuery>,
    /// The member that the severities which are wanted narrow a list down by.
    pub narrow: Option<&'static str>,
    /// What its records leave out, and the source is asked for.
    pub enrich: Enrich,
    /// Which records are left out, each as far as all of these choices were made.
    pub filters: &'static [(&'static [Choice], Filter)],
    /// Members that tell what people filter by.
    pub tellers: &'static [(Field, Teller)],
    /// The member with the time that a record was opened, where its later versions are told: by it what was
    /// sent is remembered, so that no filter loses its closing.
    pub opened: Option<&'static str>,
    /// What a pass over all records is compared with.
    pub snapshot: Option<Snapshot>,
    /// The application roles of which one opens it, the one that is enough first.
    pub roles: &'static [&'static str],
    /// Such roles of something that is read beside it.
    pub extra_roles: &'static [&'static [&'static str]],
    /// How the account gets to see it: the end of a sentence.
    pub fix: &'static str,
    /// What to do when the source does not offer it: the end of a sentence.
    pub off_fix: &'static str,
    /// How long a stream rests that the source does not offer.
    pub retry_off_after: Duration,
    /// The table of its rows.
    pub table: &'static Table,
    /// The schema of its records ([`crate::core::mapping::schema`]): the columns of a table of its own.
    pub schema: Option<&'static str>,
    /// The members that identify a record.
    pub identity: KeyRule,
    /// What makes a record one that was handled before.
    pub dedup_key: DedupKey,
    /// The set of fingerprints, which streams that carry the same records share.
    pub fingerprints: &'static str,
    /// Which member goes to which column.
    pub rules: &'static [Rule],
    /// Which member of what is looked up about a record goes to which column.
    pub details: &'static [Rule],
    /// Columns that say the same in every row, as JSON, unless a record fills them.
    pub constants: &'static [(&'static str, &'static str)],
    /// Columns that an element of a list fills as well.
    pub from_list: Option<FromList>,
    /// Columns that all elements of a list fill as well.
    pub collect: &'static [CollectList],
    /// What of its records is an asset, or belongs to one.
    pub asset: Option<Asset>,
    /// How it is read in time, unless settings say otherwise.
    pub pace: Pace,
}

impl Endpoint {
    /// True for an endpoint of the stream of this name: several APIs may bring the same stream.
    pub fn is_named(&self, stream: &str) -> bool {
        self.stream == stream
    }

    /// The list that a slice is read from, unless it is the feed.
    pub fn list_of(&self, slice: &Slice) -> &ListQuery {
        match (slice, &self.full_list) {
            (Slice::Pass, Some(full)) => full,
            _ => &self.list,
        }
    }

    /// How a slice is read page by page.
    pub fn paging(&self, slice: &Slice) -> Paging {
        match slice {
            Slice::Token(_) | Slice::Latest => Paging::Token,
            _ => self.list_of(slice).paging,
        }
    }

    /// The filters that these choices call for.
    pub fn filters_for(&self, choices: &Choices) -> Vec<Filter> {
        let wanted = self.filters.iter().filter(|(all, _)| choices.have(all));
        wanted.map(|(_, filter)| filter.clone()).collect()
    }
}

/// What records of a list leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrich {
    /// Nothing.
    Nothing,
    /// The names of devices.
    Devices,
    /// The names of devices, and details that a list of another version has.
    Detections,
    /// Which detections and devices they are about.
    Incidents,
}

/// When a record counts as handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DedupKey {
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
pub struct ListQuery {
    /// Path below the domain.
    pub path: &'static str,
    /// The member that holds the records.
    pub records: &'static str,
    /// What an answer without that member is.
    pub if_absent: IfAbsent,
    /// How the window is asked for.
    pub filter: TimeFilter,
    /// What else is asked for, always.
    pub parameters: &'static [(&'static str, &'static str)],
    /// The parameter of these that is left out where it is too much for the service.
    pub droppable: Option<&'static str>,
    /// How it is read page by page.
    pub paging: Paging,
}

/// A stream whose records are as they are now: only a change is worth a row.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    /// Members that change without anything having changed.
    pub ignored: &'static [&'static str],
}

/// How an API takes a window of time.
#[derive(Debug, Clone, Copy)]
pub enum TimeFilter {
    /// Two parameters: the first instant that belongs to it, the first that does not.
    Parameters(&'static str, &'static str),
    /// An `OData` expression on this member: from the first instant, up to the first that does not
    /// belong to it.
    OData(&'static str),
    /// A parameter for the beginning of the bucket of so many hours that the window begins in; there
    /// is no end.
    Since(&'static str, u32),
    /// A KQL query of this table.
    Kql(&'static str),
    /// Time plays no part.
    None,
    /// A CEL expression on this member. The documented operators know no `<`, so that the end
    /// belongs to it as well; the fingerprints drop what that repeats.
    Cel(&'static str),
}

/// How far the daily sweep over a list by update time reaches, unless a setting says otherwise.
pub const LATE_UPDATES: Duration = Duration::from_hours(72);

/// The default lookback of a window on event time: devices report late.
pub const LATE_DEVICES: Duration = Duration::from_hours(72);
