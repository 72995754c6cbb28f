//! A lease that was lost.

use std::sync::Arc;

use sentinel_connector::{
    core::position::cursor::StreamKey,
    error::Kind,
    pipeline::{self, Outcome},
};

use super::Cloud;
use crate::{
    interrupt::{Call, Interrupt, Moment, Trouble},
    world::DETECTIONS,
};

/// The first run is held before it saves its cursor, until its lease is over and another run has
/// taken the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_lease_was_taken_over_cannot_save() {
    let mut cloud = Cloud::new(|options| options.scale = 0.1);
    let job = cloud.world.jobs().remove(0);
    assert_eq!(job.key.stream, DETECTIONS);
    // The first save takes the lease.
    let hold = Interrupt::new(Call::Save, 2, Trouble::Hold(Moment::Before));
    let (parts, limits) = (hold.wrap(cloud.parts()), cloud.world.limits());
    let late = Arc::new(job.clone());
    let held = tokio::spawn(async move { pipeline::run(&late, &parts, &limits).await });
    hold.stopped().await;

    let parts = cloud.parts();
    let busy = cloud.world.run_one(&job, &parts).await;
    assert_eq!(busy.outcome, Outcome::Busy, "{busy:?}");
    cloud.world.pass(10);
    let second = cloud.world.run_one(&job, &parts).await;
    assert_eq!(second.outcome, Outcome::UpToDate, "{second:?}");
    let key = StreamKey::new("default", DETECTIONS);
    let saved = cloud.storage.load(&key).await.unwrap();

    hold.go_on();
    let first = held.await.unwrap();
    assert_eq!(first.outcome, Outcome::Failed, "{first:?}");
    assert_eq!(first.error_kind, Some(Kind::Transient));
    let reason = first.reason.unwrap();
    assert!(reason.contains("took the stream over"), "{reason}");
    assert_eq!(cloud.storage.load(&key).await.unwrap(), saved);
}
