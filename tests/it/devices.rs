//! Devices of ESET, as they are now.

use sentinel_connector::{
    core::mapping::{assets::Kind, row::restore},
    pipeline::Outcome,
    simulator::Target,
    source::eset::DEVICES,
};
use serde_json::{Map, Value, json};

use crate::world::{World, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_land_as_they_are_and_again_only_when_something_has_changed() {
    let mut world = World::new();
    world.streams = vec![&DEVICES];
    let reports = world.run().await;
    let first = &reports[0];
    assert_eq!(first.outcome, Outcome::UpToDate, "{}", told(&reports));
    assert!(first.counts.landed > 0, "{}", told(&reports));
    assert_eq!(first.counts.landed, first.counts.pulled);

    // Each has reported since, and that is no change.
    world.pass(90);
    let reports = world.run().await;
    let counts = &reports[0].counts;
    assert_eq!(counts.pulled, first.counts.pulled, "{}", told(&reports));
    assert_eq!(counts.unchanged, counts.pulled, "{}", told(&reports));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_rebuilt_from_its_row_and_found_by_its_name_and_address() {
    let mut world = World::new();
    world.streams = vec![&DEVICES];
    world.run().await;
    let query = "SELECT deviceUuid, deviceDisplayName, additionalFields FROM IntegrationTable_CL \
                 WHERE streamName = 'eset.devices' AND recordId = deviceUuid LIMIT 5";
    let rows = world.rows(query).await;
    assert_eq!(rows.len(), 5);
    let storage = world.storage();
    for row in rows {
        let [uuid, name, rest] = &row[..] else {
            panic!("{row:?}");
        };
        let rest: Value = serde_json::from_str(rest.as_deref().unwrap()).unwrap();
        let row: Map<String, Value> = [
            ("deviceUuid".to_owned(), json!(uuid)),
            ("deviceDisplayName".to_owned(), json!(name)),
            ("additionalFields".to_owned(), rest),
        ]
        .into_iter()
        .collect();
        let device = restore(&row, DEVICES.rules);
        let uuid = device["uuid"].as_str().unwrap();
        assert!(
            device["operatingSystem"]["displayName"].is_string(),
            "{device}"
        );
        let name = device["displayName"].as_str().unwrap().to_lowercase();
        let address = device["primaryLocalIpAddress"].as_str().unwrap();
        for key in [uuid, &name, address] {
            let found = storage.assets(Kind::Machine, key).await.unwrap();
            let mut ids = found.iter().map(|entry| &*entry.name.id);
            assert!(ids.any(|id| id == uuid), "{key}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_devices_that_breaks_off_is_read_again_and_loses_none() {
    let mut world = World::new();
    world.streams = vec![&DEVICES];
    world.inject("eset.devices:cut");
    let reports = world.run().await;
    assert!(
        world
            .simulator
            .calls()
            .iter()
            .any(|call| call.target == Some(Target::EsetDevices))
    );
    world.run_until_done().await;
    let landed: u64 = world
        .number("SELECT count(DISTINCT recordId) FROM IntegrationTable_CL WHERE streamName = 'eset.devices'")
        .await;
    assert_eq!(landed, 60, "{}", told(&reports));
}
