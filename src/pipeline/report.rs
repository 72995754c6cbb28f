//! What a run did, counted.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use crate::{
    core::{
        metrics::{self, Measure},
        position::cursor::{Gap, StreamKey},
        totals::{Counts, Totals},
    },
    error::{Attempt, Kind, Result},
};

/// How a stream's run ended, if it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    Running,
    /// Everything that the source had is safe.
    UpToDate,
    /// The time was up first, or a part was not to be had; the next run goes on.
    Behind,
    /// The last run ended less than the stream's frequency ago.
    NotDue,
    /// Another run works on the stream.
    Busy,
    /// Somebody has paused the stream.
    Paused,
    /// The source does not offer the stream to this account.
    Off,
    /// An error ended it.
    Failed,
}

impl Outcome {
    /// The word for it, in reports and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::UpToDate => "up-to-date",
            Self::Behind => "behind",
            Self::NotDue => "not-due",
            Self::Busy => "busy",
            Self::Paused => "paused",
            Self::Off => "off",
            Self::Failed => "failed",
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What one run of one stream did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The stream.
    #[serde(flatten)]
    pub key: StreamKey,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    pub began: DateTime<Utc>,
    /// How long it took.
    pub seconds: f64,
    /// Pages that were read.
    pub pages: u64,
    /// Bytes of records that were read.
    pub bytes: u64,
    /// Bytes of rows that landed or wait.
    #[serde(skip)]
    pub row_bytes: u64,
    /// What the records became.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why rows wait in the outbox, when some do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Rows that lack what is looked up beside the record.
    pub without_details: u64,
    /// Records of a time that the source was not asked for: it ignores the filter. Each is among
    /// those that landed, or has landed before.
    #[serde(skip_serializing_if = "is_zero")]
    pub outside: u64,
    /// Incidents without alerts of which can't be told whether Sentinel itself has raised them: they
    /// go on.
    #[serde(skip_serializing_if = "is_zero")]
    pub untold: u64,
    /// Seconds between now and the time up to which everything is proven to be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
    /// How much time is still to be read, while the run goes on and that can be told.
    #[serde(skip)]
    pub unread: Option<TimeDelta>,
    /// What could not be proven complete, from this and earlier runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Who must act, when it failed, or is off though it was read before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<Kind>,
    /// What failed, or why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request that failed, for logs: what is kept of a run says it in words.
    #[serde(skip)]
    pub attempt: Option<Attempt>,
    /// Calls to the source, retries among them; told by metrics alone.
    #[serde(skip)]
    pub calls: u64,
    /// Calls to the source that were made again after a failure.
    #[serde(skip)]
    pub retries: u64,
}

impl Report {
    /// An empty report.
    pub fn new(key: StreamKey, began: DateTime<Utc>) -> Self {
        Self {
            key,
            outcome: Outcome::Running,
            began,
            seconds: 0.0,
            pages: 0,
            bytes: 0,
            row_bytes: 0,
            counts: Counts::default(),
            waits_for: None,
            without_details: 0,
            outside: 0,
            untold: 0,
            lag_seconds: None,
            unread: None,
            gaps: Vec::new(),
            error_kind: None,
            reason: None,
            attempt: None,
            calls: 0,
            retries: 0,
        }
    }

    /// True when the stream was worked on.
    pub fn has_run(&self) -> bool {
        !matches!(self.outcome, Outcome::NotDue | Outcome::Busy)
    }

    /// Ends the report: how the run went, how long it took, and what it leaves to the next one.
    pub(crate) fn end(&mut self, end: Result<Outcome>, now: DateTime<Utc>) {
        match end {
            Ok(outcome) => self.outcome = outcome,
            Err(error) => {
                self.outcome = Outcome::Failed;
                self.error_kind = Some(error.kind());
                self.reason = Some(error.to_string());
                self.attempt = error.attempt().cloned();
            }
        }
        self.measure(now);
    }

    /// Says how long the run took until now, and which records it would leave to the next one.
    fn measure(&mut self, now: DateTime<Utc>) {
        // Milliseconds: what is finer is read back as another number than was written.
        let milliseconds = (now - self.began).num_milliseconds();
        self.seconds = f64::from(i32::try_from(milliseconds).unwrap_or(i32::MAX)) / 1e3;
        let all = self.counts.pulled + self.counts.gone;
        self.counts.again = all.saturating_sub(self.counts.settled());
    }

    /// What the run adds to the sums of its stream, if it ends so.
    pub(crate) fn totals_at(&mut self, end: &Result<Outcome>, now: DateTime<Utc>) -> Totals {
        self.measure(now);
        self.totals(end.as_ref().map_or(Outcome::Failed, |outcome| *outcome))
    }

    fn totals(&self, outcome: Outcome) -> Totals {
        let took = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        Totals {
            runs: [(outcome.word().to_owned(), 1)].into(),
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            pages: self.pages,
            bytes: self.bytes,
            calls: self.calls,
            retries: self.retries,
            counts: self.counts,
        }
    }

    /// The run in numbers, once it has ended; none when the stream was not worked on.
    pub fn measures(&self) -> Vec<Measure> {
        if !self.has_run() {
            return Vec::new();
        }
        let failed = self.outcome == Outcome::Failed;
        let mut measures = metrics::of_totals(&self.key, &self.totals(self.outcome));
        let standing = metrics::of_standing(&self.key, self.lag_seconds, self.gaps.len(), failed);
        measures.extend(standing);
        measures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_stream_that_was_not_worked_on_has_no_numbers() {
        let mut report = Report::new(StreamKey::new("a", "b"), DateTime::UNIX_EPOCH);
        for (outcome, counts) in [
            (Outcome::Busy, false),
            (Outcome::NotDue, false),
            (Outcome::Paused, true),
            (Outcome::UpToDate, true),
        ] {
            report.end(Ok(outcome), DateTime::UNIX_EPOCH);
            assert_eq!(!report.measures().is_empty(), counts, "{outcome:?}");
        }
    }

    #[test]
    fn what_a_run_adds_before_its_end_is_what_it_tells_behind_it() {
        let mut report = Report::new(StreamKey::new("a", "b"), DateTime::UNIX_EPOCH);
        report.counts.pulled = 7;
        report.counts.landed = 3;
        let later = DateTime::UNIX_EPOCH + chrono::TimeDelta::milliseconds(12_345);
        let end = Err(Error::transient("away"));
        let added = report.totals_at(&end, later);
        assert_eq!((added.milliseconds, added.counts.again), (12_345, 4));
        report.end(end, later);
        assert_eq!(added, report.totals(Outcome::Failed));
    }
}
