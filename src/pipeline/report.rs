//! What a run did, counted.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::{
    core::position::cursor::{Gap, StreamKey},
    error::{Attempt, Kind, Result},
};

/// How a stream's run ended, if it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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

/// What the records of a run became. Each record is counted once:
/// `pulled = landed + waiting + dead + duplicate + filtered + unchanged + again`; the rows of
/// records that are `gone` come on top of what was pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records that the source gave.
    pub pulled: u64,
    /// Rows that the sink holds.
    pub landed: u64,
    /// Rows that wait in the outbox.
    pub waiting: u64,
    /// Records or rows that were refused, and are kept as dead letters.
    pub dead: u64,
    /// Records that were handled before.
    pub duplicate: u64,
    /// Records that a setting leaves out.
    pub filtered: u64,
    /// Records of a snapshot that are as they were.
    pub unchanged: u64,
    /// Records of a snapshot that are there no longer: each has a row of its own, which is among
    /// those that landed, wait or are dead.
    pub gone: u64,
    /// Records that an error cut off: the cursor has not passed them, the next run reads them again.
    pub again: u64,
}

impl Counts {
    /// True when every record that was pulled is accounted for.
    pub fn balance(&self) -> bool {
        self.pulled + self.gone == self.settled() + self.again
    }

    /// Records that need not be read again.
    pub fn settled(&self) -> u64 {
        self.landed + self.waiting + self.dead + self.duplicate + self.filtered + self.unchanged
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
        // Milliseconds: what is finer is read back as another number than was written.
        let milliseconds = (now - self.began).num_milliseconds();
        self.seconds = f64::from(i32::try_from(milliseconds).unwrap_or(i32::MAX)) / 1e3;
        let all = self.counts.pulled + self.counts.gone;
        self.counts.again = all.saturating_sub(self.counts.settled());
    }
}
