//! Faults of the sink and of its login: whatever happens, nothing is lost.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sentinel_connector::{
    core::position::cursor::{Position, StreamKey},
    error::Kind,
    pipeline::{Outcome, Report},
    simulator::{Entry, Fault, Target},
};

use super::{Cloud, name_of, small};
use crate::world::{DETECTIONS, each};

fn catalogue() -> Vec<Entry> {
    let mut entries = Fault::catalogue();
    entries.retain(|entry| {
        matches!(
            entry.target,
            Target::Ingestion | Target::EntraToken | Target::KeyVault
        )
    });
    assert!(entries.len() > 45, "{}", entries.len());
    entries
}

async fn heals(mut cloud: Cloud, entry: Entry, often: &str) {
    let fault = format!("{}:{}{often}", entry.target.name(), entry.kind);
    cloud.world.inject(&fault);
    cloud.run_until_done().await;
    cloud.world.pass(60);
    cloud.run_until_done().await;
    if entry.kind == "lost-answer" {
        // The only case of repeats: they bear the same identity.
        cloud.assert_nothing_lost(&BTreeSet::new(), &fault);
        let streams = cloud.streams();
        let all = streams.iter().flat_map(|stream| cloud.landed(stream));
        let repeated = all.filter(|(_, times)| *times > 1).count();
        assert!(repeated > 0, "{fault}: played");
    } else {
        cloud.assert_complete(&fault).await;
    }
    let letters = cloud.storage.count_dead_letters().await.unwrap();
    assert_eq!(letters, 0, "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fault_of_the_sink_or_its_login_loses_nothing() {
    let cases = catalogue().into_iter();
    each(cases.map(|entry| heals(Cloud::in_memory(small), entry, ""))).await;
}

/// Those of the sink that decide what is kept, with what is kept in the emulator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_sink_over_the_emulator_loses_nothing() {
    let kinds = ["400", "413", "503", "lost-answer"];
    let mut cases = catalogue();
    cases.retain(|entry| entry.target == Target::Ingestion && kinds.contains(&entry.kind));
    assert_eq!(cases.len(), kinds.len());
    let cases = cases.into_iter().map(|entry| {
        let often = if entry.kind == "503" { "x9" } else { "" };
        heals(Cloud::new(small), entry, often)
    });
    each(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_faults_of_the_sink_or_its_login_lose_nothing() {
    // Three 400 are told of below: they may single out a row.
    let singles_out = ["400", "wrong-type"];
    let entries = catalogue().into_iter();
    let entries = entries
        .filter(|entry| entry.target != Target::Ingestion || !singles_out.contains(&entry.kind));
    each(entries.map(|entry| heals(Cloud::in_memory(small), entry, "x3"))).await;
}

/// Where the stream stands, without what each run writes.
async fn position(cloud: &Cloud) -> (Option<Position>, Option<DateTime<Utc>>) {
    let key = StreamKey::new("default", DETECTIONS);
    let (state, _) = cloud.storage.load(&key).await.unwrap().unwrap();
    (state.position, state.complete_until)
}

async fn everything_stays(fault: &str, kind: Kind, says: &str) {
    let mut cloud = Cloud::in_memory(|options| options.scale = 0.2);
    let streams = &mut cloud.world.streams;
    streams.retain(|endpoint| endpoint.stream == DETECTIONS);
    cloud.run_until_done().await;
    let before = (position(&cloud).await, cloud.rows().len());
    cloud.world.pass(12 * 60);
    cloud.world.inject(fault);
    for _ in 0..2 {
        let reports = cloud.run().await;
        let failed: Vec<&Report> = reports
            .iter()
            .filter(|report| report.outcome == Outcome::Failed)
            .collect();
        assert!(!failed.is_empty(), "{fault}: {reports:?}");
        for report in failed {
            assert_eq!(report.error_kind, Some(kind), "{fault}: {report:?}");
            let reason = report.reason.as_deref().unwrap();
            assert!(reason.contains(says), "{fault}: {reason}");
            assert_eq!(report.counts.waiting, 0, "{fault}: {report:?}");
        }
        cloud.world.pass(5);
    }
    assert_eq!(before.0, position(&cloud).await, "{fault}");
    assert_eq!(before.1, cloud.rows().len(), "{fault}");
    assert_eq!(
        cloud.storage.outbox_size().await.unwrap(),
        (0, 0),
        "{fault}"
    );
    let letters = cloud.storage.count_dead_letters().await.unwrap();
    assert_eq!(letters, 0, "{fault}");
    cloud.world.simulator.heal();
    cloud.run_until_done().await;
    cloud.assert_complete(fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_access_moves_nothing_until_somebody_acts() {
    for (fault, says) in [
        ("ingestion:401x*", "LOGS_INGESTION_SCOPE"),
        ("ingestion:403x*", "30 minutes after deployment"),
        ("ingestion:404x*", "DCR_IMMUTABLE_ID"),
        ("ingestion:rubbishx*", "LOGS_INGESTION_ENDPOINT"),
    ] {
        everything_stays(fault, Kind::Config, says).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_all_refused_alike_are_not_dead() {
    everything_stays("ingestion:400x*", Kind::Contract, "rows are refused alone").await;
}

/// One column has another type: records are refused, and a row that holds next to nothing is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_refused_alike_beside_a_row_that_is_taken_are_not_dead() {
    everything_stays(
        "ingestion:wrong-typex*",
        Kind::Contract,
        "are refused alike",
    )
    .await;
}

/// What waits has met such a rule: it waits on, and no row is given up for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_gives_up_no_rows_that_are_refused_alike() {
    let mut cloud = Cloud::in_memory(|options| options.scale = 0.2);
    let streams = &mut cloud.world.streams;
    streams.retain(|endpoint| endpoint.stream == DETECTIONS);
    cloud.world.inject("ingestion:503x*");
    cloud.run().await;
    let (waiting, _) = cloud.storage.outbox_size().await.unwrap();
    assert!(waiting > 0);
    cloud.world.simulator.heal();
    cloud.world.inject("ingestion:wrong-typex*");
    // Rows about runs land meanwhile, and prove nothing of records.
    let report = cloud.drain().await;
    assert_eq!(report.error_kind, Some(Kind::Contract), "{report:?}");
    let letters = cloud.storage.count_dead_letters().await.unwrap();
    assert_eq!(letters, 0, "{report:?}");
    cloud.world.simulator.heal();
    cloud.run_until_done().await;
    cloud.assert_complete("a rule of another type").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_rows_that_are_refused_alone_are_kept_and_the_others_land() {
    let mut cloud = Cloud::in_memory(|options| options.scale = 0.2);
    // Halves down to one row, which is refused as well; the row that is surely good is taken.
    cloud.world.inject("ingestion:400x8");
    cloud.run_until_done().await;
    let letters = cloud.storage.dead_letters(100).await.unwrap();
    assert!((1..19).contains(&letters.len()), "{}", letters.len());
    let dead: BTreeSet<String> = letters
        .iter()
        .map(|letter| {
            assert!(letter.reason.contains("400"), "{}", letter.reason);
            let row = serde_json::from_slice(&letter.body).unwrap();
            name_of(&letter.key.stream, &row)
        })
        .collect();
    assert_eq!(dead.len(), letters.len());
    cloud.assert_nothing_lost(&dead, "but for the dead");
    for stream in cloud.streams() {
        let landed = cloud.landed(stream);
        assert!(landed.values().all(|times| *times == 1));
        assert!(dead.iter().all(|name| !landed.contains_key(name)));
    }
    cloud.assert_accounts("some are dead").await;
}

/// Refused, then out of reach, then refused again: what is dead and what waits is told apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_refused_around_an_outage_are_settled_in_their_order() {
    let mut cloud = Cloud::in_memory(|options| options.scale = 0.2);
    let streams = &mut cloud.world.streams;
    streams.retain(|endpoint| endpoint.stream == DETECTIONS);
    for fault in ["400x8", "503x8@11", "400x3@19"] {
        cloud.world.inject(&format!("ingestion:{fault}"));
    }
    let reports = cloud.run().await;
    assert!(reports[0].counts.waiting > 0, "{reports:?}");
    assert!(reports[0].counts.dead > 0, "{reports:?}");
    cloud.world.simulator.heal();
    cloud.run_until_done().await;
    let letters = cloud.storage.dead_letters(100).await.unwrap();
    let name = |body: &[u8]| name_of(DETECTIONS, &serde_json::from_slice(body).unwrap());
    let dead: BTreeSet<String> = letters.iter().map(|letter| name(&letter.body)).collect();
    cloud.assert_nothing_lost(&dead, "around an outage");
    let landed = cloud.landed(DETECTIONS);
    assert!(landed.values().all(|times| *times == 1), "{landed:?}");
    cloud.assert_accounts("around an outage").await;
}
