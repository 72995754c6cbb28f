//! A stream's state, held under its lease.

use chrono::TimeDelta;

use super::{Outcome, Parts, Report};
use crate::{
    core::position::cursor::{Lease, StreamKey, StreamState},
    error::{Error, Result},
    io::retry::Limits,
    storage::{ETag, SaveError},
};

/// How long a lease outlives its run's deadline: what is under way by then may still be saved.
pub(crate) const GRACE: TimeDelta = TimeDelta::seconds(30);

/// The state of a stream that this run may change.
pub(crate) struct Held<'a> {
    parts: &'a Parts,
    key: &'a StreamKey,
    /// What is saved next.
    pub(crate) state: StreamState,
    etag: Option<ETag>,
}

/// What came of trying to hold a stream.
pub(crate) enum Taken<'a> {
    /// It is ours until the lease ends.
    Held(Box<Held<'a>>),
    /// Another run has it.
    Busy(Lease),
}

impl<'a> Held<'a> {
    /// The saved state, before anything is taken.
    pub(crate) async fn load(parts: &'a Parts, key: &'a StreamKey) -> Result<Self> {
        Self::of(parts, key, parts.storage.load(key).await?)
    }

    /// The state as it was loaded, before anything is taken.
    pub(crate) fn of(
        parts: &'a Parts,
        key: &'a StreamKey,
        saved: Option<(StreamState, ETag)>,
    ) -> Result<Self> {
        let (state, etag) = match saved {
            Some((state, etag)) => (state.checked()?, Some(etag)),
            None => (StreamState::default(), None),
        };
        Ok(Self {
            parts,
            key,
            state,
            etag,
        })
    }

    /// Takes the lease.
    ///
    /// A lease outlives every wait of its run, so that it needs no renewal; one whose process is
    /// known to have ended is free at once.
    pub(crate) async fn take(mut self, limits: &Limits) -> Result<Taken<'a>> {
        let run = (self.parts.random)().to_bits();
        let owner = Lease::owner_of(&self.parts.storage.owner(), run);
        if let Some(lease) = &self.state.lease
            && self.parts.storage.is_gone(lease.process()).await
        {
            tracing::info!(
                owner = lease.owner,
                "taking over from a run that was cut off"
            );
            self.state.lease = None;
        }
        let now = self.parts.clock.now();
        if let Err(lease) = self.state.take_lease(&owner, limits.deadline + GRACE, now) {
            return Ok(Taken::Busy(lease));
        }
        match self.save().await {
            Ok(()) => Ok(Taken::Held(Box::new(self))),
            Err(SaveError::Failed(error)) => Err(error),
            // Somebody was faster; the state that we hold does not say who.
            Err(SaveError::Conflict) => Ok(Taken::Busy(Lease {
                owner: "another run".to_owned(),
                until: now,
            })),
        }
    }

    async fn save(&mut self) -> std::result::Result<(), SaveError> {
        let saved = self
            .parts
            .storage
            .save(self.key, &self.state, self.etag.as_ref())
            .await?;
        self.etag = Some(saved);
        Ok(())
    }

    /// Saves the state, if this run still holds it.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.save().await.map_err(|error| match error {
            SaveError::Failed(error) => error,
            SaveError::Conflict => Error::transient(format!(
                "{}: another run took the stream over, so this one may not save; what it pushed may \
                 be repeated",
                self.key
            )),
        })
    }

    /// Gives the stream back, with what the run adds to its sums.
    pub(crate) async fn release(
        &mut self,
        end: &Result<Outcome>,
        report: &mut Report,
    ) -> Result<()> {
        let now = self.parts.clock.now();
        self.state.lease = None;
        self.state.finished = Some(now);
        self.state.error = end.as_ref().err().map(ToString::to_string);
        *self.state.totals.get_or_insert_default() += &report.totals_at(end, now);
        self.commit().await
    }
}
