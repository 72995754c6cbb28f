//! Sums over the runs of a stream.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::{Deserialize, Serialize};

/// What the records of a run became. Each record is counted once:
/// `pulled = landed + waiting + dead + duplicate + filtered + unchanged + again`; the rows of
/// records that are `gone` come on top of what was pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

    /// What each record became, by its word in reports.
    pub fn became(&self) -> [(&'static str, u64); 7] {
        [
            ("landed", self.landed),
            ("waiting", self.waiting),
            ("dead", self.dead),
            ("duplicate", self.duplicate),
            ("filtered", self.filtered),
            ("unchanged", self.unchanged),
            ("again", self.again),
        ]
    }

    /// Records that need not be read again.
    pub fn settled(&self) -> u64 {
        self.landed + self.waiting + self.dead + self.duplicate + self.filtered + self.unchanged
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.pulled += other.pulled;
        self.landed += other.landed;
        self.waiting += other.waiting;
        self.dead += other.dead;
        self.duplicate += other.duplicate;
        self.filtered += other.filtered;
        self.unchanged += other.unchanged;
        self.gone += other.gone;
        self.again += other.again;
    }
}

/// Sums over runs, or what one run adds to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Runs, by how they ended.
    pub runs: BTreeMap<String, u64>,
    /// Time that they took until these sums were saved.
    pub milliseconds: u64,
    /// Pages that were read.
    pub pages: u64,
    /// Bytes of records that were read.
    pub bytes: u64,
    /// Calls to the source.
    pub calls: u64,
    /// Calls that were made again after a failure; they are among the calls.
    pub retries: u64,
    /// What the records became.
    #[serde(flatten)]
    pub counts: Counts,
}

impl AddAssign<&Totals> for Totals {
    fn add_assign(&mut self, other: &Self) {
        for (outcome, runs) in &other.runs {
            *self.runs.entry(outcome.clone()).or_default() += runs;
        }
        self.milliseconds += other.milliseconds;
        self.pages += other.pages;
        self.bytes += other.bytes;
        self.calls += other.calls;
        self.retries += other.retries;
        self.counts += other.counts;
    }
}
