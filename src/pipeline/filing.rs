//! What rows mean for what is known of machines: filed when they are safe, like fingerprints.

use super::{Parts, map::Receipt};
use crate::{
    core::mapping::assets::Change,
    error::{Kind, Result},
};

/// What is remembered of a batch's rows once they are safe.
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

/// Files changes. What the store refuses as it is stops nobody: rows matter more than what is said
/// about them.
///
/// # Errors
/// `Transient` when the store can't be reached.
pub(super) async fn file(changes: Vec<Change>, parts: &Parts) -> Result<()> {
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
