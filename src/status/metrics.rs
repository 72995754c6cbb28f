//! The numbers that runs have left, for whoever watches.

use crate::{
    app::{App, saved::stored_states},
    core::metrics::{
        DEAD_LETTERS, Measure, OUTBOX_BATCHES, OUTBOX_SIZE, QUEUE_AGE, QUEUE_MESSAGES,
        QUEUE_POISON, of_app, of_state,
    },
    error::Result,
};

/// All numbers, as the last runs left them: no source and no sink is asked.
pub async fn measures(app: &App) -> Result<Vec<Measure>> {
    let parts = app.parts();
    let storage = &*parts.storage;
    let now = parts.clock.now();
    let mut measures = Vec::new();
    for (key, state) in stored_states(storage).await? {
        // One that can't be read has no numbers; `check` says why.
        if let Ok(state) = state {
            measures.extend(of_state(&key, &state, now));
        }
    }
    let (batches, bytes) = storage.outbox_size().await?;
    measures.push(of_app(&OUTBOX_BATCHES, batches));
    measures.push(of_app(&OUTBOX_SIZE, bytes));
    let dead_letters = storage.count_dead_letters().await?;
    measures.push(of_app(&DEAD_LETTERS, dead_letters));
    if let Some(queue) = app.queue_status().await {
        let queue = queue?;
        let age = queue
            .oldest
            .map_or(0, |oldest| (now - oldest).num_seconds());
        measures.push(of_app(&QUEUE_MESSAGES, queue.messages));
        measures.push(of_app(&QUEUE_AGE, u64::try_from(age).unwrap_or_default()));
        measures.push(of_app(&QUEUE_POISON, queue.poison.messages));
    }
    Ok(measures)
}
