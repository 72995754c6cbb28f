//! What is looked up beside a record is there when it can be had, and costs no row when it can't.

use std::{collections::BTreeMap, time::Duration};

use sentinel_connector::{
    pipeline::{Outcome, Report},
    simulator::{BulkOf, IncidentUuids, Product, Target, V2Carries},
    source::eset::LookUps,
};
use serde_json::Value;

use super::{eset_catalogue, inject, name};
use crate::world::{DETECTIONS, INCIDENTS, World, each, told};

const ALL: LookUps = LookUps {
    details: true,
    devices: true,
};

fn curious() -> World {
    let mut world = World::with(|options| options.scale = 0.05);
    world.look_ups = ALL;
    world
}

/// The columns that only a look-up can fill, by record.
async fn filled(world: &World) -> BTreeMap<String, (Option<String>, Option<String>)> {
    let sql = format!(
        "SELECT recordId, deviceDisplayName, processCommandline FROM IntegrationTable_CL \
         WHERE streamName = '{DETECTIONS}'"
    );
    let rows = world.rows(&sql).await.into_iter();
    rows.map(|row| (row[0].clone().unwrap(), (row[1].clone(), row[2].clone())))
        .collect()
}

#[tokio::test]
async fn details_fill_the_names_of_devices_and_the_command_lines() {
    let mut world = curious();
    for _ in 0..2 {
        for report in world.run().await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
            assert_eq!(report.without_details, 0, "{report:?}");
        }
        world.pass(300);
    }
    world.assert_complete("with look-ups").await;
    let known = world.simulator.world();
    let names = known.device_names();
    let (mut named, mut commands) = (0, 0);
    for (id, (device, command)) in filled(&world).await {
        let (product, number) = known.find_detection(&id).unwrap();
        assert_ne!(product, Product::CloudOffice);
        let truth = known.detection_v2(product, number);
        let text = |value: &Value| {
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        // Some records name the device only by its uuid, in one shape or the other.
        let listed = known.detection_v1(product, number);
        let uuid = truth["device"]["uuid"]
            .as_str()
            .or(listed["context"]["deviceUuid"].as_str());
        let by_uuid = || names.get(uuid?).cloned();
        let expected = text(&truth["device"]["displayName"]).or_else(by_uuid);
        assert_eq!(device, expected, "{id}");
        named += usize::from(device.is_some());
        // A very long one is cut, and kept whole elsewhere.
        let whole = text(&truth["process"]["commandLine"]);
        let same = command == whole || whole.is_some_and(|whole| whole.len() > 60_000);
        assert!(same, "{id}: {command:?}");
        commands += usize::from(command.is_some());
    }
    assert!(
        named > 50 && commands > 20,
        "{named} names, {commands} command lines"
    );
}

#[tokio::test]
async fn names_of_devices_alone_are_enough_for_a_name() {
    let mut world = curious();
    world.look_ups.details = false;
    world.run_until_done().await;
    world.assert_complete("devices only").await;
    let names = world.simulator.world().device_names();
    let rows = world
        .rows(&format!(
            "SELECT deviceUuid, deviceDisplayName FROM IntegrationTable_CL \
             WHERE streamName = '{DETECTIONS}' AND deviceUuid IS NOT NULL"
        ))
        .await;
    assert!(rows.len() > 50, "{}", rows.len());
    for row in rows {
        let device = row[0].as_deref().unwrap();
        assert_eq!(row[1].as_ref(), names.get(device), "{device}");
    }
}

/// Nothing that happens to a look-up costs a row, fails a run, or holds it beyond its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_a_look_up_costs_a_row_or_fails_a_run() {
    let cases = eset_catalogue()
        .into_iter()
        .filter(|entry| matches!(entry.target, Target::EsetDetails | Target::EsetDevices))
        .flat_map(|entry| ["", "x3", "x*"].map(|often| (entry.clone(), often)));
    let cases = cases.map(|(entry, often)| async move {
        let mut world = curious();
        world.look_ups.details = entry.target == Target::EsetDetails;
        world
            .streams
            .retain(|endpoint| endpoint.stream == DETECTIONS);
        let fault = inject(&world, &entry, often);
        for _ in 0..2 {
            let reports = world.run().await;
            for report in &reports {
                let well = matches!(report.outcome, Outcome::UpToDate | Outcome::Behind);
                assert!(well, "{fault}: {}", told(&reports));
                assert!(report.seconds <= 241.0, "{fault}: {report:?}");
            }
            world.pass(60);
        }
        world.simulator.heal();
        world.run_until_done().await;
        world.assert_complete(&fault).await;
        let without: u64 = world
            .reports
            .iter()
            .map(|report| report.without_details)
            .sum();
        let passes = matches!(
            name(&entry),
            "202"
                | "slow"
                | "nine-digits"
                | "null-fields"
                | "page-size"
                | "bad-record"
                | "duplicate"
        );
        let ends_pages = name(&entry).contains("page");
        if often == "x*" && !passes && !ends_pages && entry.target == Target::EsetDetails {
            assert!(without > 0, "{fault} has not been played");
        }
    });
    each(cases).await;
}

/// A service that does not answer takes its share of a run once, and not of every hundred rows.
#[tokio::test]
async fn a_look_up_that_is_not_answered_is_left_alone_for_the_rest_of_the_run() {
    for (target, fault) in [
        (Target::EsetDetails, "eset.details:neverx*"),
        (Target::EsetDevices, "eset.devices:neverx*"),
    ] {
        let mut world = World::with(|options| options.scale = 1.0);
        world.look_ups.details = target == Target::EsetDetails;
        world.look_ups.devices = target == Target::EsetDevices;
        world
            .streams
            .retain(|endpoint| endpoint.stream == DETECTIONS);
        let job = world.jobs().remove(0);
        let parts = world.parts();
        world.inject(fault);
        let report = world.run_one(&job, &parts).await;
        assert_eq!(report.outcome, Outcome::UpToDate, "{fault}: {report:?}");
        assert!(report.counts.landed > 300, "{fault}: {report:?}");
        assert!(report.without_details > 100, "{fault}: {report:?}");
        assert!(report.seconds < 200.0, "{fault}: {report:?}");
        let calls = |world: &World| {
            let calls = world.simulator.calls();
            calls
                .iter()
                .filter(|call| call.target == Some(target))
                .count()
        };
        let asked = calls(&world);

        // The next run asks again.
        world.simulator.heal();
        world.pass(120);
        let report = world.run_one(&job, &parts).await;
        assert_eq!(report.without_details, 0, "{fault}: {report:?}");
        assert!(calls(&world) > asked, "{fault}");
    }
}

#[tokio::test]
async fn a_look_up_that_is_refused_is_asked_for_again_some_hours_later() {
    for (target, fault) in [
        (Target::EsetDetails, "eset.details:403x*"),
        (Target::EsetDevices, "eset.devices:403x*"),
    ] {
        let mut world = curious();
        world.look_ups.details = target == Target::EsetDetails;
        world.look_ups.devices = target == Target::EsetDevices;
        world
            .streams
            .retain(|endpoint| endpoint.stream == DETECTIONS);
        let job = world.jobs().remove(0);
        let parts = world.parts();
        world.inject(fault);
        for _ in 0..3 {
            let report = world.run_one(&job, &parts).await;
            assert!(report.without_details > 0, "{fault}: {report:?}");
            world.pass(115);
        }
        assert_eq!(world.answered(target, 403), 1, "{fault}");
        world.simulator.heal();
        world.pass(60);
        let report = world.run_one(&job, &parts).await;
        assert!(report.counts.landed > 0, "{fault}: {report:?}");
        assert_eq!(report.without_details, 0, "{fault}: {report:?}");
    }
}

#[tokio::test]
async fn incidents_carry_what_they_are_about() {
    // Whatever the list says of it.
    for uuids in [
        IncidentUuids::Absent,
        IncidentUuids::Empty,
        IncidentUuids::Listed,
    ] {
        carried(uuids).await;
    }
}

async fn carried(uuids: IncidentUuids) {
    let mut world = World::with(|options| {
        options.scale = 0.2;
        options.incident_uuids = uuids;
    });
    for _ in 0..4 {
        world.run_until_done().await;
        let now = world.looks[INCIDENTS].last().unwrap().ended;
        let rows = world
            .rows(
                "SELECT recordId, recordVersion, detectionUuids, deviceUuids \
                 FROM IntegrationTableIncidents_CL",
            )
            .await;
        assert!(rows.len() > 4, "{}", rows.len());
        let mut current = 0;
        for row in rows {
            let id = row[0].as_deref().unwrap();
            let truth = world.simulator.world().incident_record(id, now).unwrap();
            let version = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
            for (column, member) in [(&row[2], "detectionUuids"), (&row[3], "deviceUuids")] {
                let links: Value = serde_json::from_str(column.as_deref().unwrap()).unwrap();
                assert!(!links.as_array().unwrap().is_empty(), "{id}: {member}");
                if version(row[1].as_deref().unwrap())
                    == version(truth["updateTime"].as_str().unwrap())
                {
                    assert_eq!(links, truth[member], "{id}: {member}");
                    current += 1;
                }
            }
        }
        assert!(current > 4, "{current}");
        world.pass(180);
    }
}

/// More incidents than a run has calls for: what was looked up lands, the rest is the next run's, and
/// no version of an incident is looked up twice.
#[tokio::test]
async fn a_backlog_of_incidents_is_behind_and_what_was_looked_up_lands_as_it_comes() {
    let mut world = World::with(|options| options.scale = 4.0);
    world
        .streams
        .retain(|endpoint| endpoint.stream == INCIDENTS);
    world.budget = Duration::from_secs(8);
    let mut landed = 0;
    let mut behind = 0;
    loop {
        let report = world.run().await.remove(0);
        landed += report.counts.landed;
        match report.outcome {
            Outcome::UpToDate => break,
            Outcome::Behind => behind += 1,
            _ => panic!("{report:?}"),
        }
        assert!(report.counts.landed > 20, "{report:?}");
        assert!(behind < 20, "{report:?}");
    }
    assert!(behind >= 2, "{behind} runs were too short");
    let calls = world.simulator.calls().into_iter();
    let gets = calls.filter(|call| call.target == Some(Target::EsetIncidentsGet));
    let gets = gets.filter(|call| call.status == 200).count() as u64;
    assert!(
        gets >= landed && gets <= landed + 8 * behind,
        "{gets} calls for {landed} rows"
    );

    // Read again by the lookback, and none is looked up again.
    let before = world.simulator.calls().len();
    world.run_until_done().await;
    let calls = world.simulator.calls();
    let again = calls.iter().skip(before);
    let again = again.filter(|call| call.target == Some(Target::EsetIncidentsGet));
    assert_eq!(again.count(), 0);
    world.assert_complete("a backlog of incidents").await;
}

#[tokio::test]
async fn the_closing_of_an_incident_lands() {
    let mut world = World::with(|options| options.scale = 0.2);
    let closed_at = |world: &World, id: &str, now| {
        let record = world.simulator.world().incident_record(id, now)?;
        let closed = record["status"] == "INCIDENT_STATUS_CLOSED";
        closed.then(|| record["updateTime"].as_str().unwrap().to_owned())
    };
    let mut seen_open: BTreeMap<String, Option<String>> = BTreeMap::new();
    for _ in 0..24 {
        world.run_until_done().await;
        let now = world.looks[INCIDENTS].last().unwrap().began;
        for key in world.landed(INCIDENTS).await.into_keys() {
            let id = key.split(' ').next().unwrap().to_owned();
            let closed = closed_at(&world, &id, now);
            match seen_open.get_mut(&id) {
                None if closed.is_none() => drop(seen_open.insert(id, None)),
                Some(closing @ None) => *closing = closed,
                _ => {}
            }
        }
        world.pass(60);
    }
    world.pass(60);
    world.run_until_done().await;
    let closings: Vec<_> = seen_open
        .into_iter()
        .filter_map(|(id, closing)| Some((id, closing?)))
        .collect();
    assert!(!closings.is_empty(), "nothing was closed in this day");
    for (id, version) in closings {
        let count = format!(
            "SELECT count(*) FROM IntegrationTableIncidents_CL WHERE recordId = '{id}' \
             AND status = 'INCIDENT_STATUS_CLOSED' AND julianday(recordVersion) = julianday('{version}')"
        );
        assert_eq!(world.number(&count).await, 1, "{id} {version}");
    }
}

/// A day of detections with default settings, when the v2 list answers like this: one run, and what
/// it took of each call.
async fn day_with(carries: V2Carries, fault: Option<&str>) -> (World, Report) {
    let mut world = World::with(|options| {
        options.scale = 2.0;
        options.v2_carries = carries;
    });
    world.look_ups = ALL;
    world
        .streams
        .retain(|endpoint| endpoint.stream == DETECTIONS);
    if let Some(fault) = fault {
        world.inject(fault);
    }
    let report = world.run().await.remove(0);
    assert_eq!(report.outcome, Outcome::UpToDate, "{carries:?}: {report:?}");
    assert!(report.counts.landed > 500, "{carries:?}: {report:?}");
    assert!(report.seconds <= 241.0, "{carries:?}: {report:?}");
    (world, report)
}

fn asked(world: &World, target: Target) -> usize {
    let calls = world.simulator.calls().into_iter();
    calls.filter(|call| call.target == Some(target)).count()
}

/// However the v2 list answers, each detection has the details that it has without the list, and
/// what was found out is remembered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn details_are_the_same_whatever_the_v2_list_carries() {
    let (plain, report) = day_with(V2Carries::OnlyCloudOffice, None).await;
    assert_eq!(report.without_details, 0);
    let expected = filled(&plain).await;
    let state = plain.state(DETECTIONS).await;
    assert!(state.listed.is_some_and(|listed| !listed.carried));
    let by_id = asked(&plain, Target::EsetDetails);
    let window = Target::EsetCloudOfficeWindow;
    let refused = format!("{}:501x*", window.name());
    let broken = format!("{}:500x*", window.name());
    for (carries, fault, carried) in [
        (V2Carries::AlsoInspect, None, true),
        (V2Carries::OtherIds, None, false),
        (V2Carries::FewerMembers, None, false),
        (V2Carries::Later, None, true),
        (V2Carries::AlsoInspect, Some(refused.as_str()), false),
        (V2Carries::AlsoInspect, Some(broken.as_str()), false),
    ] {
        let case = format!("{carries:?} {fault:?}");
        let (mut world, report) = day_with(carries, fault).await;
        assert_eq!(report.without_details, 0, "{case}");
        let mut same = 0;
        for (id, columns) in filled(&world).await {
            // A run that takes longer finds more.
            let Some(expected) = expected.get(&id) else {
                continue;
            };
            assert_eq!(&columns, expected, "{case}: {id}");
            same += 1;
        }
        assert!(same > 500, "{case}: {same}");
        world.assert_complete(&case).await;
        let state = world.state(DETECTIONS).await;
        assert_eq!(
            state.listed.map(|listed| listed.carried),
            Some(carried),
            "{case}"
        );
        if carried {
            let asked = asked(&world, Target::EsetDetails);
            assert!(asked * 2 < by_id, "{case}: {asked} of {by_id}");
        }
        // What the list does not carry is not asked for again within a day.
        if !carried {
            let pages = asked(&world, window);
            world.pass(60);
            world.run_until_done().await;
            assert_eq!(asked(&world, window), pages, "{case}");
        }
    }
}

/// Default settings, where the v2 list carries the details: at most three calls for each thousand.
#[tokio::test]
async fn a_thousand_detections_with_their_details_take_three_calls() {
    let bulk = |rows| {
        let mut world = World::with(|options| {
            options.v2_carries = V2Carries::AlsoInspect;
            options.bulk = Some((BulkOf::Detections, rows));
        });
        world.look_ups = ALL;
        world
            .streams
            .retain(|endpoint| endpoint.stream == DETECTIONS);
        world
    };
    let mut world = bulk(10_000);
    let report = world.run().await.remove(0);
    assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    assert_eq!((report.counts.landed, report.without_details), (10_000, 0));
    let calls = world.simulator.calls().into_iter();
    let calls = calls.filter(|call| call.target != Some(Target::EsetToken));
    let calls: Vec<_> = calls.map(|call| call.path).collect();
    assert!(calls.len() <= 30, "{calls:#?}");
}
