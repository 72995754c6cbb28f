//! Changes of what is known of machines, handed to the store.

use super::Parts;
use crate::{
    core::mapping::assets::Change,
    error::{Kind, Result},
};

/// Changes of what is known of machines, applied. What the store refuses as it is stops nobody: rows matter more than what is said
/// about them.
///
/// # Errors
/// `Transient` when the store can't be reached.
pub(super) async fn apply(changes: Vec<Change>, parts: &Parts) -> Result<()> {
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
