//! The measured part: one run of the stream of detections, as the timer would start it.

use std::{num::NonZeroU32, time::Instant};

use tokio_util::sync::CancellationToken;

use super::{Done, Usage};
use crate::{
    app::App,
    config::{Settings, Source},
    core::window::delta,
    error::{Error, Result},
    io::{clock::SharedClock, exchange::Limits},
    pipeline::{self, Outcome},
    source::eset::DETECTIONS,
};

/// No run of the bench takes longer.
const BUDGET: std::time::Duration = std::time::Duration::from_hours(24);

pub(super) async fn pull(mut settings: Settings, clock: SharedClock) -> Result<Done> {
    for connection in &mut settings.connections {
        if let Source::Eset(eset) = &mut connection.source {
            eset.max_calls_per_second = NonZeroU32::MAX;
        }
    }
    let app = App::build(&settings, &clock)?;
    let missing = || Error::contract("the bench has no stream of detections");
    let job = app
        .jobs("EsetTimer")
        .find(|job| job.key.stream == DETECTIONS.stream)
        .ok_or_else(missing)?;
    let limits = Limits {
        deadline: clock.now() + delta(BUDGET),
        stop: CancellationToken::new(),
    };
    let began = Instant::now();
    let report = pipeline::run(job, app.parts(), &limits).await;
    let seconds = began.elapsed().as_secs_f64();
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
