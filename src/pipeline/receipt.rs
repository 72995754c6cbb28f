//! Receipts: what is remembered of rows once they are safe, and of the machines that they tell of.

use super::Parts;
use crate::{
    core::mapping::assets::Change,
    error::{Kind, Result},
};

/// A record's bucket and fingerprint.
pub(super) type Receipt = (i64, u64);

/// The receipt of a row that nothing is remembered of.
pub(super) const NO_RECEIPT: Receipt = (i64::MIN, 0);

/// Receipts of a batch's rows.
#[derive(Default)]
pub(super) struct BatchReceipt {
    /// One mark for each row.
    pub(super) marks: Vec<Receipt>,
    /// What rows mean for what is known of machines, each with the place of its row.
    changes: Vec<(usize, Change)>,
}

impl BatchReceipt {
    /// The batch has another row.
    pub(super) fn add(&mut self, mark: Receipt, change: Option<Change>) {
        if let Some(change) = change {
            self.changes.push((self.marks.len(), change));
        }
        self.marks.push(mark);
    }

    /// The changes of so many rows, from the beginning.
    pub(super) fn changes_of(&mut self, rows: usize) -> Vec<Change> {
        let safe = std::mem::take(&mut self.changes).into_iter();
        safe.take_while(|(row, _)| *row < rows)
            .map(|(_, change)| change)
            .collect()
    }
}

/// Changes of what is known of machines, applied. What the store refuses as it is stops nobody: rows matter more than what is said
/// about them.
///
/// # Errors
/// `Transient` when the store can't be reached.
pub(super) async fn apply_asset_changes(changes: Vec<Change>, parts: &Parts) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    match parts.storage.file_assets(&changes).await {
        // One of them is at fault: the others shall be known.
        Err(error) if error.kind() != Kind::Transient => {}
        end => return end,
    }
    for change in changes {
        let one = parts
            .storage
            .file_assets(std::slice::from_ref(&change))
            .await;
        match one {
            Err(error) if error.kind() != Kind::Transient => {
                let id = &change.name().id;
                tracing::warn!(%error, id, "refused; `assets find` does not know it");
            }
            end => end?,
        }
    }
    Ok(())
}
