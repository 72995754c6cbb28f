//! A drain that is stopped, cut off, overtaken, or finds what nobody can read.

use std::sync::Arc;

use sentinel_connector::{
    core::position::cursor::StreamKey,
    error::Kind,
    io::{clock::Clock, retry::Limits},
    outbox_drain,
    pipeline::{Outcome, Parts, health},
    storage::Parked,
};

use super::Cloud;
use crate::interrupt::{Call, Interrupt, Moment, Trouble};

/// After an outage that has left entries of several hours.
async fn after_outage() -> Cloud {
    let mut cloud = Cloud::new(|options| options.scale = 0.1);
    cloud.run_until_done().await;
    cloud.world.inject("ingestion:503x*");
    for _ in 0..4 {
        cloud.world.pass(120);
        for report in cloud.run().await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        }
    }
    cloud.world.simulator.heal();
    let (entries, _) = cloud.storage.outbox_size().await.unwrap();
    assert!(entries >= 4, "{entries}");
    cloud
}

async fn finish(mut cloud: Cloud, context: &str) {
    let report = cloud.drain().await;
    assert_eq!(report.outcome, Outcome::UpToDate, "{context}: {report:?}");
    assert_eq!(cloud.storage.outbox_size().await.unwrap(), (0, 0));
    cloud.run_until_done().await;
    cloud.assert_complete(context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_asked_to_stop_goes_on_later() {
    let mut cloud = after_outage().await;
    let (entries, _) = cloud.storage.outbox_size().await.unwrap();
    let limits = cloud.world.limits();
    let stop = limits.stop.clone();
    let parts = Parts {
        progress: Arc::new(move |report| {
            if report.pages == 1 {
                stop.cancel();
            }
        }),
        ..cloud.parts()
    };
    let report = outbox_drain::drain(&parts, false, &limits).await;
    assert_eq!(report.outcome, Outcome::Behind, "{report:?}");
    assert_eq!(report.pages, 1, "{report:?}");
    let (left, _) = cloud.storage.outbox_size().await.unwrap();
    assert_eq!(left, entries - 1);
    cloud.drains.push(report);
    cloud.world.stop = tokio_util::sync::CancellationToken::new();
    finish(cloud, "stopped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_whose_time_is_up_goes_on_later() {
    let mut cloud = after_outage().await;
    let (entries, _) = cloud.storage.outbox_size().await.unwrap();
    let limits = Limits {
        deadline: cloud.world.clock.now() + chrono::TimeDelta::seconds(60),
        ..cloud.world.limits()
    };
    cloud.world.inject("ingestion:slow=25x*");
    let report = outbox_drain::drain(&cloud.parts(), false, &limits).await;
    assert_eq!(report.outcome, Outcome::Behind, "{report:?}");
    assert_eq!(report.pages, 3, "{report:?}");
    let (left, _) = cloud.storage.outbox_size().await.unwrap();
    assert_eq!(left, entries - 3);
    cloud.drains.push(report);
    cloud.world.simulator.heal();
    finish(cloud, "late").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_drains_at_once_one_is_busy() {
    let mut cloud = after_outage().await;
    let hold = Interrupt::new(Call::Push, 1, Trouble::Hold(Moment::Before));
    let (parts, limits) = (hold.wrap(cloud.parts()), cloud.world.limits());
    let first = tokio::spawn(async move { outbox_drain::drain(&parts, false, &limits).await });
    hold.stopped().await;
    let second = cloud.drain().await;
    assert_eq!(second.outcome, Outcome::Busy, "{second:?}");
    assert_eq!(second.counts.pulled, 0);
    hold.go_on();
    let first = first.await.unwrap();
    assert_eq!(first.outcome, Outcome::UpToDate, "{first:?}");
    cloud.drains.push(first);
    finish(cloud, "two drains").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_dies_between_push_and_removal_repeats_that_entry_only() {
    let mut cloud = after_outage().await;
    let parked = cloud.storage.parked(100).await.unwrap();
    let is_of_records = |entry: &Parked| entry.key.stream != health::STREAM;
    let at = parked.iter().skip(1).position(is_of_records).unwrap() + 1;
    let second = parked[at].clone();
    let cut = Interrupt::new(Call::Unpark, at as u64 + 1, Trouble::Stop(Moment::Before));
    let (parts, limits) = (cut.wrap(cloud.parts()), cloud.world.limits());
    let died = tokio::spawn(async move { outbox_drain::drain(&parts, false, &limits).await });
    cut.stopped().await;
    died.abort();
    assert!(died.await.unwrap_err().is_cancelled());

    // Its lease is still there, and ends by itself.
    let busy = cloud.drain().await;
    assert_eq!(busy.outcome, Outcome::Busy, "{busy:?}");
    cloud.world.pass(5);
    let report = cloud.drain().await;
    assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    cloud.run_until_done().await;
    cloud.assert_nothing_lost(&std::collections::BTreeSet::new(), "died");
    let mut repeated = 0;
    for stream in cloud.streams() {
        for (name, times) in cloud.landed(stream) {
            assert!(
                times == 1 || times == 2 && stream == second.key.stream,
                "{name}"
            );
            repeated += times - 1;
        }
    }
    assert_eq!(repeated, second.rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_fails_in_the_middle_keeps_the_rest() {
    let mut cloud = after_outage().await;
    let (entries, _) = cloud.storage.outbox_size().await.unwrap();
    cloud.world.inject("ingestion:403x*@2");
    let report = cloud.drain().await;
    assert_eq!(report.error_kind, Some(Kind::Config), "{report:?}");
    let (left, _) = cloud.storage.outbox_size().await.unwrap();
    assert_eq!(left, entries - 1);
    // One entry is cut in half, and the second half has to wait.
    cloud.world.simulator.heal();
    let parked = cloud.storage.parked(100).await.unwrap();
    let before = parked.iter().position(|entry| entry.rows > 3).unwrap();
    cloud.world.inject(&format!("ingestion:413@{}", before + 1));
    cloud
        .world
        .inject(&format!("ingestion:403x*@{}", before + 3));
    let report = cloud.drain().await;
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    let (held, _) = cloud.storage.outbox_size().await.unwrap();
    assert_eq!(held, left - before as u64);
    cloud.world.simulator.heal();
    finish(cloud, "failed").await;
}

/// The incidents' table is missing: what waits for it waits on, and the rest lands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_somebody_has_to_act_for_does_not_hold_up_other_tables() {
    let mut cloud = after_outage().await;
    let parked = cloud.storage.parked(100).await.unwrap();
    let blocked = |entry: &&Parked| entry.table == "IntegrationTableIncidents_CL";
    let incidents = parked.iter().filter(blocked).count();
    assert!(incidents > 1 && incidents < parked.len(), "{parked:?}");
    cloud
        .tables
        .retain(|table| table != "IntegrationTableIncidents_CL");
    let report = cloud.drain().await;
    assert_eq!(report.error_kind, Some(Kind::Config), "{report:?}");
    let reason = report.reason.as_deref().unwrap();
    assert!(reason.contains("IntegrationTableIncidents_CL"), "{reason}");
    let left = cloud.storage.parked(100).await.unwrap();
    assert_eq!(left.iter().filter(blocked).count(), incidents);
    assert_eq!(left.len(), incidents);
    // The first of them was tried, the others had no chance.
    let tried = parked.len() - incidents + 1;
    assert_eq!(report.pages, tried as u64);
    cloud.tables = Cloud::tables();
    finish(cloud, "blocked").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_entry_is_kept_as_a_dead_letter_and_the_others_land() {
    let mut cloud = after_outage().await;
    let body = br#"[{"half":"#.to_vec();
    let damaged = Parked {
        id: "00000000T000000000000000-damaged".to_owned(),
        key: StreamKey::new("default", "eset.detections"),
        table: "IntegrationTable_CL".to_owned(),
        at: cloud.world.clock.now(),
        rows: 3,
        bytes: body.len() as u64,
        reason: "an outage".to_owned(),
        body: body.clone(),
    };
    cloud.storage.park(&damaged).await.unwrap();
    let report = cloud.drain().await;
    assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    assert_eq!(report.counts.dead, 3, "{report:?}");
    let letters = cloud.storage.dead_letters(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].body, body);
    assert!(
        letters[0].reason.contains("damaged"),
        "{}",
        letters[0].reason
    );
    assert_eq!(cloud.storage.outbox_size().await.unwrap(), (0, 0));
    cloud.run_until_done().await;
    cloud.assert_nothing_lost(&std::collections::BTreeSet::new(), "damaged");
}
