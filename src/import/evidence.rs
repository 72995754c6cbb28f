//! One entity of the stock connector, read as far as it can be.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::core::json::time::parse_time;

/// What tables of versions up to 3.2 begin with.
const TIMES: &str = "lastdetectiontime";

/// What tables of version 3.3 begin with.
const DATA: &str = "lastdata";

/// Properties of every entity; they say nothing about a position.
const COMMON: [&str; 4] = ["partitionkey", "rowkey", "timestamp", "timegenerated"];

/// An entity as Table Storage has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its table.
    pub table: String,
    /// Its properties, the service's `Timestamp` among them.
    pub properties: Map<String, Value>,
}

/// True for the tables in which the stock connector keeps positions. Names of tables are the same in
/// any case (learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model).
pub fn is_stock_table(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(TIMES) || name.starts_with(DATA)
}

/// Which versions of the stock connector write such a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    UpTo3_2,
    From3_3,
}

/// What an entity says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) table: String,
    pub(super) version: Version,
    /// Our streams that carry the source's records; empty when the source is unknown.
    pub(super) streams: &'static [&'static str],
    /// The time that it holds, when one can be read.
    pub(super) time: Option<DateTime<Utc>>,
    /// When it was saved.
    pub(super) saved: Option<DateTime<Utc>>,
    /// It holds something that may be a token.
    pub(super) has_token: bool,
    /// It was saved between two pages.
    pub(super) is_between_pages: bool,
}

impl Evidence {
    /// What `stored` says; `None` when it is of a table that holds no position.
    pub(super) fn of(stored: &Stored) -> Option<Self> {
        let table = stored.table.to_ascii_lowercase();
        let (version, source) = match (table.strip_prefix(TIMES), table.strip_prefix(DATA)) {
            (Some(source), _) => (Version::UpTo3_2, source),
            (None, Some(source)) => (Version::From3_3, source),
            (None, None) => return None,
        };
        let texts = stored.properties.iter().filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let text = value.as_str()?.trim();
            let counts = !COMMON.contains(&name.as_str()) && !name.contains("odata.");
            (counts && !text.is_empty()).then_some((name, text))
        });
        let mut evidence = Self {
            table: stored.table.clone(),
            version,
            streams: streams(source),
            time: None,
            saved: stored
                .properties
                .get("Timestamp")
                .and_then(Value::as_str)
                .and_then(time),
            has_token: false,
            is_between_pages: false,
        };
        for (name, text) in texts {
            match time(text) {
                // Of several, the earliest proves the least.
                Some(time) => {
                    evidence.time = Some(evidence.time.map_or(time, |other| other.min(time)));
                }
                None if name.contains("page") => evidence.is_between_pages = true,
                None => evidence.has_token = version == Version::From3_3,
            }
        }
        Some(evidence)
    }

    /// Everything before this was read.
    pub(super) fn proven(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // A device whose clock is ahead pushes the saved time into the future: nothing that was not
        // there when it was saved was read.
        let time = self.time.map(|time| time - TimeDelta::seconds(1));
        [time, self.saved]
            .into_iter()
            .flatten()
            .min()
            .map(|proven| proven.min(now))
    }

    /// Nothing after this was landed. The time that it holds does not say so: up to 3.2 it is the
    /// latest of the last page alone, and pages are in no order.
    pub(super) fn landed(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.time.max(self.saved).map(|landed| landed.min(now))
    }

    /// The time that it holds is later than the one at which it was saved.
    pub(super) fn is_ahead(&self) -> bool {
        // A second was added to it.
        matches!((self.time, self.saved), (Some(time), Some(saved)) if time - TimeDelta::seconds(1) > saved)
    }
}

/// Which streams of ours carry what a source of the stock connector does: `EP` and `EI` are in one
/// list here, and 3.3 reads `EI` and `ECOS` as one.
fn streams(source: &str) -> &'static [&'static str] {
    if source.contains("incident") {
        return &["eset.incidents"];
    }
    let without = source.replace("ecos", "");
    let endpoint = without.contains("ep") || without.contains("ei");
    match (endpoint, without.len() < source.len()) {
        (true, true) => &["eset.detections", "eset.cloud-office"],
        (true, false) => &["eset.detections"],
        (false, true) => &["eset.cloud-office"],
        (false, false) => &[],
    }
}

/// A time as sources write it, or as Python does: without an offset it is UTC.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let naive = |format| {
        let time = NaiveDateTime::parse_from_str(text, format).ok()?;
        parse_time(&time.and_utc().to_rfc3339())
    };
    parse_time(text)
        .or_else(|| naive("%Y-%m-%dT%H:%M:%S%.f"))
        .or_else(|| naive("%Y-%m-%d %H:%M:%S%.f"))
}
