//! The snapshot of a stream, while a run goes through its records: which are worth a row.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{Index, Sighting, Since, hash_of};

/// A pass, or what comes between two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassView {
    /// The pass whose log this adds to, by when it began.
    pub log: DateTime<Utc>,
    /// The last pass that came to its end.
    pub last: Option<DateTime<Utc>>,
    /// Every record is written, changed or not.
    pub rewrite: bool,
}

impl PassView {
    /// True in a pass, false between two of them.
    pub fn is_pass(&self) -> bool {
        self.last != Some(self.log)
    }
}

/// What is known of a stream's records, while a run goes through them.
#[derive(Debug, Default)]
pub struct SnapshotTracker {
    view: Option<PassView>,
    index: Index,
    /// Sightings whose rows are under way, by the hash of their id.
    under_way: HashMap<u64, Sighting>,
    /// Sightings to write.
    made: Vec<Sighting>,
}

impl SnapshotTracker {
    /// What it compares with.
    pub fn view(&self) -> Option<PassView> {
        self.view
    }

    /// True when it knows what this is compared with. The pass may have ended since: then what it has
    /// seen is what comes next is compared with.
    pub fn follow(&mut self, view: PassView) -> bool {
        let knows = self.view.is_some_and(|known| known.log == view.log);
        if knows {
            self.view = Some(view);
        }
        knows
    }

    /// Begins to compare with what was read for this.
    pub fn begin(&mut self, view: PassView, index: Index) {
        self.view = Some(view);
        self.index = index;
    }

    /// What became of a record, and the hash of its id.
    pub fn judge(&mut self, id: &str, content: u64) -> (Since, u64) {
        let hash = hash_of(id);
        let pass = self.view.filter(PassView::is_pass);
        let since = match pass {
            Some(PassView { rewrite, .. }) => self.index.pass(hash, content, rewrite),
            None => self.index.between(hash, content),
        };
        let sighting = || Sighting {
            id: id.to_owned(),
            content,
            missed: false,
        };
        match since {
            Since::Changed => drop(self.under_way.insert(hash, sighting())),
            Since::Unchanged if pass.is_some() => self.made.push(sighting()),
            Since::Unchanged | Since::Repeated => {}
        }
        (since, hash)
    }

    /// True when the record was there in the last pass, or was met since.
    pub fn holds(&self, id: &str) -> bool {
        self.index.holds(hash_of(id))
    }

    /// The row of the record with this hash of its id is safe.
    pub fn is_safe(&mut self, id: u64) {
        self.made.extend(self.under_way.remove(&id));
    }

    /// True when this pass has seen the record with this hash of its id.
    pub fn has_seen(&self, id: u64) -> bool {
        self.index.has_seen(id)
    }

    /// Forgets a record that is gone: when it comes back, it is new.
    pub fn forget(&mut self, id: u64) {
        self.index.forget(id);
    }

    /// Carries over what this pass has missed.
    pub fn carry(&mut self, missed: &mut Vec<Sighting>) {
        self.made.append(missed);
    }

    /// The sightings to write, before a cursor passes them.
    pub fn take_made(&mut self) -> Vec<Sighting> {
        std::mem::take(&mut self.made)
    }
}
