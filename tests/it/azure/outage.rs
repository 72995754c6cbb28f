//! An outage of the sink for hours: rows wait, pulling pauses when there is no more room, and then
//! everything lands in its order.

use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    app,
    error::Kind,
    pipeline::{Outcome, Report, health},
};
use serde_json::Value;

use super::{Cloud, name_of, small};

/// Names of the rows that wait, oldest first.
async fn waiting(cloud: &Cloud) -> Vec<String> {
    let mut names = Vec::new();
    for entry in cloud.storage.parked(10_000).await.unwrap() {
        if entry.key.stream == health::STREAM {
            continue;
        }
        let whole = cloud.storage.parked_rows(&entry.id).await.unwrap().unwrap();
        let rows: Vec<serde_json::Map<_, _>> = serde_json::from_slice(&whole.body).unwrap();
        assert_eq!(rows.len() as u64, whole.rows);
        let names_of_entry = rows.iter().map(|row| name_of(&entry.key.stream, row));
        names.extend(names_of_entry);
    }
    names
}

fn is_full(report: &Report) -> bool {
    let reason = report.reason.as_deref().unwrap_or_default();
    report.error_kind == Some(Kind::Transient) && reason.contains("OUTBOX_MAX_BYTES")
}

fn eset_calls(cloud: &Cloud) -> usize {
    let calls = cloud.world.simulator.calls();
    let eset = |target: &sentinel_connector::simulator::Target| target.name().starts_with("eset.");
    calls
        .iter()
        .filter(|call| call.target.as_ref().is_some_and(eset))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_hours_fills_the_outbox_pauses_pulling_and_then_all_lands_in_order() {
    let mut cloud = Cloud::new(|_| {});
    cloud.run_until_done().await;
    let before = cloud.rows().len();
    cloud.outbox_max = 150_000;
    cloud.world.inject("ingestion:503x*");
    let mut rounds = 0;
    loop {
        cloud.world.pass(30);
        rounds += 1;
        assert!(rounds < 96, "the outbox never fills");
        let reports = cloud.run().await;
        let failed = |report: &&Report| report.outcome == Outcome::Failed;
        let failed: Vec<&Report> = reports.iter().filter(failed).collect();
        assert!(failed.iter().all(|report| is_full(report)), "{reports:#?}");
        if !failed.is_empty() {
            break;
        }
        // Every report of rows that wait says why, and so does the run as a whole.
        for report in &reports {
            let waits = report.counts.waiting > 0;
            assert_eq!(report.waits_for.is_some(), waits, "{report:?}");
        }
        let error = app::waiting(&reports, &cloud.parts()).await;
        let parked: u64 = reports.iter().map(|report| report.counts.waiting).sum();
        assert_eq!(error.is_some(), parked > 0);
        if let Some(error) = error {
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("{parked} rows of this run wait"))
            );
        }
        let drained = cloud.drain().await;
        assert_eq!(drained.counts.landed, 0, "{drained:?}");
    }
    assert!(rounds > 2, "{rounds}");
    let (_, held) = cloud.storage.outbox_size().await.unwrap();
    assert!(held > 50_000 && held <= cloud.outbox_max, "{held}");
    cloud.assert_accounts("in the outage").await;

    // Not even asked for.
    cloud.outbox_max = held;
    let calls = eset_calls(&cloud);
    for report in cloud.run().await {
        assert!(is_full(&report), "{report:?}");
        assert_eq!(report.pages, 0, "{report:?}");
    }
    assert_eq!(eset_calls(&cloud), calls);

    let order = waiting(&cloud).await;
    assert_eq!(cloud.rows().len(), before);
    cloud.world.simulator.heal();
    let began = cloud.world.now();
    let drained = cloud.drain().await;
    assert_eq!(drained.outcome, Outcome::UpToDate, "{drained:?}");
    assert_eq!(drained.counts.landed, order.len() as u64);
    assert!(
        drained.lag_seconds.is_some_and(|lag| lag > 3600),
        "{drained:?}"
    );
    assert_eq!(cloud.storage.outbox_size().await.unwrap(), (0, 0));

    // Each table has them in the order of the outbox.
    let (mut detections, mut incidents) = (Vec::new(), Vec::new());
    for name in order {
        let incident = name.contains(' ');
        if incident {
            &mut incidents
        } else {
            &mut detections
        }
        .push(name);
    }
    for (stream, order) in [
        (sentinel_connector::simulator::STREAM, detections),
        (sentinel_connector::simulator::STREAM_INCIDENTS, incidents),
    ] {
        let rows = cloud
            .world
            .simulator
            .received()
            .remove(stream)
            .unwrap()
            .rows;
        let rows = rows.iter().filter(|row| row["providerName"] == "ESET");
        let (names, stamps): (Vec<String>, Vec<DateTime<Utc>>) = rows
            .map(|row| {
                let text = |column: &str| row[column].as_str().unwrap();
                let stamp = text("TimeGenerated").parse::<DateTime<Utc>>().unwrap();
                (name_of(text("streamName"), row), stamp)
            })
            .unzip();
        let drained = names.len() - order.len();
        assert_eq!(names[drained..], order, "{stream}");
        // They are stamped anew: Sentinel's rules look at what was generated of late.
        let oldest = stamps[drained..].iter().min();
        // In whole milliseconds.
        let began = began - TimeDelta::milliseconds(1);
        assert!(
            oldest >= Some(&began),
            "{stream}: {oldest:?} before {began}"
        );
    }

    cloud.outbox_max = 1 << 30;
    cloud.run_until_done().await;
    cloud.assert_complete("after the outage").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_rows_of_an_outage_wait_for_its_end() {
    let mut cloud = Cloud::in_memory(small);
    cloud.world.inject("ingestion:503x*");
    for _ in 0..3 {
        cloud.run().await;
        cloud.drain().await;
        cloud.world.pass(30);
    }
    assert!(cloud.health().is_empty());
    cloud.world.simulator.heal();
    cloud.run_until_done().await;
    cloud.assert_complete("after the outage").await;
    let told = |report: &Report| serde_json::to_value(report).unwrap();
    let mut expected: Vec<String> = cloud
        .world
        .reports
        .iter()
        .map(told)
        .map(|run| run.to_string())
        .collect();
    let mut landed: Vec<String> = cloud.health().iter().map(Value::to_string).collect();
    expected.sort();
    landed.sort();
    assert_eq!(landed, expected);
}

/// Several pushes of a run find at once that the sink is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outbox_never_holds_more_than_it_may() {
    let mut cloud = Cloud::new(|options| options.scale = 4.0);
    cloud.outbox_max = 1_500_000;
    cloud.world.inject("ingestion:503x*");
    let reports = cloud.run().await;
    assert!(reports.iter().any(is_full), "{reports:#?}");
    let (entries, held) = cloud.storage.outbox_size().await.unwrap();
    assert!(entries > 0 && held <= cloud.outbox_max, "{entries}: {held}");
    cloud.assert_accounts("the outbox is full").await;
}
