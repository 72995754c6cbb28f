//! What rows mean for what is known of machines: filed when they are safe, like fingerprints.

use std::collections::VecDeque;

use super::Parts;
use crate::{
    core::assets::Change,
    error::{Kind, Result},
};

/// Changes that wait for their rows.
#[derive(Default)]
pub(super) struct Filing {
    /// Those of the open batch.
    open: Sealed,
    /// Those of the batches under way, in their order.
    under_way: VecDeque<Sealed>,
}

/// The changes of a batch, each with the place of its row.
#[derive(Default)]
pub(super) struct Sealed(Vec<(usize, Change)>);

impl Filing {
    /// What the row at this place of the open batch means.
    pub(super) fn add(&mut self, row: usize, change: Option<Change>) {
        self.open.0.extend(change.map(|change| (row, change)));
    }

    /// The open batch is on its way.
    pub(super) fn seal(&mut self) {
        self.under_way.push_back(std::mem::take(&mut self.open));
    }

    /// The first of the batches under way has come back.
    pub(super) fn first(&mut self) -> Sealed {
        self.under_way.pop_front().unwrap_or_default()
    }
}

impl Sealed {
    /// The changes of so many rows, from the beginning.
    pub(super) fn of_rows(self, rows: usize) -> Vec<Change> {
        let safe = self.0.into_iter().take_while(|(row, _)| *row < rows);
        safe.map(|(_, change)| change).collect()
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
