//! The stock connector's tables in the storage emulator, and what lands after an import from them.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sentinel_connector::{
    import::{Resume, Stored},
    pipeline::Outcome,
    simulator::{Product, Target},
    storage::azure::{
        AzureStorage,
        table::{Properties, Written},
    },
};
use serde_json::{Value, json};

use crate::{
    azurite::Azurite,
    world::{CLOUD_OFFICE, DETECTIONS, INCIDENTS, World, told},
};

mod command;

const PRODUCTS: [Product; 3] = [Product::Protect, Product::Inspect, Product::CloudOffice];

/// An entity as the stock connector writes it: its keys are the table's name.
async fn write(storage: &AzureStorage, table: &str, more: Value) {
    let mut properties = Properties::new();
    for key in ["PartitionKey", "RowKey"] {
        properties.insert(key.to_owned(), table.into());
    }
    properties.insert("TimeGenerated".to_owned(), "2026-03-02 08:00:00".into());
    properties.extend(more.as_object().unwrap().clone());
    let written = storage.table(table).insert(&properties).await.unwrap();
    assert!(matches!(written, Written::Done(_)), "{table}: {written:?}");
}

/// The login's tokens, beside the positions and none of our business.
async fn write_tokens(storage: &AzureStorage) {
    let tokens = json!({
        "access_token": "Z0FBQUFBQm4=",
        "access_token@odata.type": "Edm.Binary",
        "refresh_token": "Z0FBQUFBQm4=",
        "refresh_token@odata.type": "Edm.Binary",
        "expiration_time": "2026-03-02T09:00:00Z",
        "expiration_time@odata.type": "Edm.DateTime",
    });
    write(storage, "TokenParams", tokens).await;
}

/// The latest event time plus a second, without fractions, as the stock connector writes it.
fn plus_one(time: DateTime<Utc>) -> String {
    (time + TimeDelta::seconds(1)).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// State of a version up to 3.2.
async fn write_times(storage: &AzureStorage, time: DateTime<Utc>) {
    for source in ["EP", "EI", "ECOS", "INCIDENTS"] {
        let table = format!("LastDetectionTime{source}");
        write(storage, &table, json!({ table.as_str(): plus_one(time) })).await;
    }
    write_tokens(storage).await;
}

/// Imports into the state of `world`, as `cursor import` does.
async fn import(world: &World, stored: &[Stored], lookback: Duration) -> Vec<Resume> {
    let storage = world.storage();
    let mut resumes = Vec::new();
    for job in world.jobs() {
        let resume = Resume::of(&job.key.stream, stored, lookback, world.now()).unwrap();
        let mut state = world.state(&job.key.stream).await;
        resume.apply(&mut state);
        storage.save(&job.key, &state, None).await.unwrap();
        resumes.push(resume);
    }
    resumes
}

/// What happened in a time and is known now.
fn detections(world: &World, from: DateTime<Utc>) -> BTreeSet<String> {
    let ids = PRODUCTS.map(|product| {
        let now = world.now();
        world
            .simulator
            .world()
            .detection_ids(product, from, now, now)
    });
    ids.into_iter().flatten().collect()
}

async fn landed_detections(world: &World) -> BTreeSet<String> {
    let mut landed = BTreeSet::new();
    for stream in [DETECTIONS, CLOUD_OFFICE] {
        for (id, times) in world.landed(stream).await {
            assert_eq!(times, 1, "{stream} {id}");
            landed.insert(id);
        }
    }
    landed
}

/// Runs until all is read, and then through three hours of timers: all since the lookback before what
/// the stock connector has proven lands once, and nothing from before it.
async fn takes_over(world: &mut World, proven: DateTime<Utc>, lookback: Duration) {
    let from = proven - lookback;
    let incidents_since = |world: &World, from| {
        let versions = world.simulator.world().incident_versions(from, world.now());
        versions
            .into_iter()
            .map(|(id, _)| id)
            .collect::<BTreeSet<_>>()
    };
    let first = world.run_until_done().await;
    let began = world.now();
    let landed = landed_detections(world).await;
    let expected = detections(world, from);
    let missing: Vec<_> = expected.difference(&landed).collect();
    assert!(missing.is_empty(), "{missing:?}\n{}", told(&first));
    let strange: Vec<_> = landed.difference(&expected).collect();
    assert!(strange.is_empty(), "from before the lookback: {strange:?}");
    let unproven = detections(world, proven).len();
    assert!(unproven > 20, "{unproven}");
    assert!(
        lookback.is_zero() || landed.len() > unproven,
        "the lookback is read"
    );

    for _ in 0..6 {
        world.pass(30);
        for report in world.run().await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        }
    }
    let landed = landed_detections(world).await;
    for product in PRODUCTS {
        let arrived = world
            .simulator
            .world()
            .arrivals(product, began, world.now());
        let missing: Vec<_> = arrived.difference(&landed).collect();
        assert!(missing.is_empty(), "{product:?}: {missing:?}");
    }
    let incidents = world.landed(INCIDENTS).await;
    let landed: BTreeSet<String> = incidents
        .into_keys()
        .map(|key| key.split(' ').next().unwrap().to_owned())
        .collect();
    // The newest half minute is left to the next run.
    let settled = incidents_since(world, world.now() - TimeDelta::minutes(5));
    let missing: Vec<_> = incidents_since(world, proven)
        .difference(&settled)
        .filter(|id| !landed.contains(*id))
        .cloned()
        .collect();
    assert!(missing.is_empty(), "incidents: {missing:?}");
    assert!(!landed.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_import_of_times_nothing_is_missing_and_repeats_are_bounded() {
    for hours in [0, 5, 72] {
        let lookback = Duration::from_hours(hours);
        let [storage, _] = Azurite::shared().storage();
        let mut world = World::new();
        let proven = world.now() - TimeDelta::hours(30);
        write_times(&storage, proven).await;
        let stored = storage.stock_state().await.unwrap();
        assert_eq!(stored.len(), 4, "{stored:?}");
        for resume in import(&world, &stored, lookback).await {
            assert_eq!((resume.proven, resume.gap), (proven, None));
        }
        takes_over(&mut world, proven, lookback).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_import_of_tokens_nothing_is_missing_since_they_were_saved() {
    let lookback = Duration::from_hours(72);
    let [storage, _] = Azurite::shared().storage();
    for table in ["LastDataEP", "LastDataEIECOS"] {
        let token = json!({"last_data": "CAESBgjAhYDEBhABGgQIAxAB", "next_page_token": ""});
        write(&storage, table, token).await;
    }
    let mut world = World::new();
    let proven = world.now() - TimeDelta::hours(4);
    let time = json!({"last_data": plus_one(proven), "next_page_token": ""});
    write(&storage, "LastDataINCIDENTS", time).await;
    write_tokens(&storage).await;
    let mut stored = storage.stock_state().await.unwrap();
    assert_eq!(stored.len(), 3, "{stored:?}");
    for one in &mut stored {
        // The emulator's clock is the real one.
        let saved = one.properties["Timestamp"].as_str().unwrap();
        assert!(
            saved.parse::<DateTime<Utc>>().unwrap() > world.now(),
            "{saved}"
        );
        one.properties
            .insert("Timestamp".to_owned(), proven.to_rfc3339().into());
    }
    let resumes = import(&world, &stored, lookback).await;
    assert!(
        resumes.iter().all(|resume| resume.proven == proven),
        "{resumes:?}"
    );
    assert_eq!(
        resumes.iter().filter(|resume| resume.gap.is_some()).count(),
        2
    );
    takes_over(&mut world, proven, lookback).await;
    assert_eq!(world.state(DETECTIONS).await.gaps.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_a_feed_is_read_by_window_from_the_stock_time() {
    let lookback = Duration::from_hours(72);
    let [storage, _] = Azurite::shared().storage();
    let mut world = World::new();
    for feed in ["eset.detections", "eset.cloud-office"] {
        world.inject(&format!("{feed}:404x*"));
    }
    let proven = world.now() - TimeDelta::hours(30);
    write_times(&storage, proven).await;
    let stored = storage.stock_state().await.unwrap();
    import(&world, &stored, lookback).await;
    takes_over(&mut world, proven, lookback).await;
    for target in [Target::EsetDetections, Target::EsetCloudOffice] {
        assert!(world.answered(target, 404) > 0 && !world.was_served(target));
    }
}

#[tokio::test]
async fn an_account_without_such_tables_has_no_state() {
    let [storage, _] = Azurite::shared().storage();
    assert_eq!(storage.stock_state().await.unwrap(), []);
    write_tokens(&storage).await;
    assert_eq!(storage.stock_state().await.unwrap(), []);
}
