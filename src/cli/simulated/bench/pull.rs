//! The measured part: one run of the stream, as the timer would start it.

use std::{num::NonZeroU32, sync::Arc, time::Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Done, Of, Usage};
use crate::{
    app::App,
    cli::{LAST_SENT, end_telemetry, start_telemetry},
    config::{Settings, Source},
    core::position::window::delta,
    error::{Error, Result},
    io::{
        clock::{Clock, SharedClock},
        retry::Limits,
    },
    logging,
    pipeline::{self, Outcome},
};

/// No run of the bench takes longer.
const BUDGET: std::time::Duration = std::time::Duration::from_hours(24);

/// A clock that is a day and an hour late: what is read by it is due again.
struct Yesterday(SharedClock);

#[async_trait]
impl Clock for Yesterday {
    fn now(&self) -> DateTime<Utc> {
        self.0.now() - TimeDelta::hours(25)
    }

    async fn sleep(&self, duration: std::time::Duration) {
        self.0.sleep(duration).await;
    }
}

/// What the timer did a day before.
pub(super) async fn fill(of: Of, settings: Settings, clock: SharedClock) -> Result<Done> {
    pull(of, false, settings, Arc::new(Yesterday(clock))).await
}

/// Runs the stream once, within the limits of calls if it is `limited`.
pub(super) async fn pull(
    of: Of,
    limited: bool,
    mut settings: Settings,
    clock: SharedClock,
) -> Result<Done> {
    for connection in &mut settings.connections {
        if let (Source::Eset(eset), false) = (&mut connection.source, limited) {
            eset.max_calls_per_second = NonZeroU32::MAX;
        }
    }
    let (telemetry, spans) = start_telemetry(
        settings.telemetry.as_ref(),
        settings.extra_ca.as_deref(),
        &clock,
    )?;
    if spans.is_some() {
        logging::init(settings.log.format, settings.log.level, spans)?;
    }
    let app = App::build(&settings, &clock)?;
    let stream = of.stream();
    let missing = || Error::contract(format!("the bench has no stream `{stream}`"));
    let job = app
        .jobs()
        .find(|job| job.source.endpoint().is_named(&stream))
        .ok_or_else(missing)?;
    let limits = Limits::until(clock.now() + delta(BUDGET));
    let began = Instant::now();
    let report = pipeline::run(job, app.parts(), &limits).await;
    let seconds = began.elapsed().as_secs_f64();
    // What it costs to send the rest is a cost, too.
    end_telemetry(telemetry, LAST_SENT, &clock).await;
    if report.outcome != Outcome::UpToDate {
        let reason = report.reason.unwrap_or_default();
        return Err(Error::transient(format!(
            "the run did not end well: {reason}"
        )));
    }
    Ok(Done {
        records: report.counts.pulled,
        bytes: report.bytes,
        seconds,
        usage: Usage::of_this_process()?,
    })
}
