//! `<STREAM>_FILTER`: what is not wanted does not land, what was sent is followed to its end, and `check`
//! tells both amounts.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_connector::{
    check::{self, Finding, Found, estimate},
    config::Mode,
    pipeline::Outcome,
    source::eset,
};

use super::Tenant;
use crate::world::World;

/// Each version of each record, in their order: what the filter asks for.
type Versions = BTreeMap<String, BTreeMap<String, (String, bool)>>;

fn versions(rows: Vec<Vec<Option<String>>>) -> Versions {
    let mut versions = Versions::new();
    for row in rows {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || row.next().unwrap();
        let (id, version, severity, closed) = (next(), next(), next(), next());
        let told = (severity.to_ascii_lowercase(), closed == "1");
        versions.entry(id).or_default().insert(version, told);
    }
    versions
}

/// Ids with the versions that land under `severity>=medium; status` open, `before` which all were sent.
fn wanted(all: &Versions, before: &BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    let mut wanted = BTreeSet::new();
    for (id, versions) in all {
        let mut sent = versions
            .keys()
            .any(|version| before.contains(&(id.clone(), version.clone())));
        for (version, (severity, closed)) in versions {
            let low = ["low", "informational", "diagnostic"].map(|word| severity.ends_with(word));
            let key = (id.clone(), version.clone());
            sent |= !low.contains(&true) && !closed;
            if sent || before.contains(&key) {
                wanted.insert(key);
            }
        }
    }
    wanted
}

fn keys(all: &Versions) -> BTreeSet<(String, String)> {
    let each = all
        .iter()
        .flat_map(|(id, versions)| versions.keys().map(|version| (id.clone(), version.clone())));
    each.collect()
}

/// Among them are some that a filter alone would have left out.
fn assert_followed(wanted: &BTreeSet<(String, String)>, all: &Versions, context: &str) {
    let closings = wanted.iter().filter(|(id, version)| all[id][version].1);
    assert!(
        closings.count() > 0,
        "{context}: nothing that was sent has closed"
    );
    assert!(wanted.len() < keys(all).len(), "{context}: all is wanted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_is_followed_whatever_a_filter_says_of_it_later() {
    for (stream, api, table, closed) in [
        (
            "alerts",
            ("DEFENDER_ALERTS_API", "graph"),
            "IntegrationTable_CL",
            "resolved",
        ),
        (
            "alerts",
            ("DEFENDER_ALERTS_API", "mde"),
            "IntegrationTable_CL",
            "resolved",
        ),
        (
            "incidents",
            ("DEFENDER_INCIDENTS_API", "graph"),
            "IntegrationTableIncidents_CL",
            "lower(status) = 'resolved'",
        ),
        (
            "incidents",
            ("DEFENDER_INCIDENTS_API", "xdr"),
            "IntegrationTableIncidents_CL",
            "lower(status) = 'resolved'",
        ),
    ] {
        let severity = if stream == "alerts" {
            "severityLevel"
        } else {
            "severity"
        };
        let sql = format!(
            "SELECT recordId, recordVersion, {severity}, {closed} FROM {table} \
             WHERE streamName = 'defender.{stream}'"
        );
        let setting = format!("DEFENDER_{}_FILTER", stream.to_ascii_uppercase());
        // From the beginning, and from the second run on.
        for late in [false, true] {
            let context = format!("{stream} {api:?} {late}");
            let mut all = Tenant::new(stream);
            let mut some = Tenant::new(stream);
            for tenant in [&mut all, &mut some] {
                tenant.set(api.0, api.1);
            }
            let mut before = BTreeSet::new();
            for run in 0..10 {
                if run == usize::from(late) {
                    some.set(&setting, "severity>=medium; status!=resolved");
                    before = keys(&versions(some.rows(&sql).await));
                }
                for tenant in [&mut all, &mut some] {
                    tenant.run_well().await;
                    tenant.pass(180);
                }
            }
            let all = versions(all.rows(&sql).await);
            let expected = wanted(&all, &before);
            assert_followed(&expected, &all, &context);
            let landed = keys(&versions(some.rows(&sql).await));
            let missing: Vec<_> = expected.difference(&landed).collect();
            assert!(missing.is_empty(), "{context}: {missing:?}");
            let beyond: Vec<_> = landed.difference(&expected).collect();
            assert!(beyond.is_empty(), "{context}: {beyond:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incidents_of_eset_are_followed_as_well() {
    let sql = "SELECT recordId, recordVersion, severity, status = 'INCIDENT_STATUS_CLOSED' \
               FROM IntegrationTableIncidents_CL WHERE streamName = 'eset.incidents'";
    let mut worlds = [None, Some("severity>=medium; status!=closed")].map(|filter| {
        let mut world = World::with(|options| options.scale = 1.0);
        world.streams = vec![&eset::INCIDENTS];
        world.filter = filter;
        world
    });
    for world in &mut worlds {
        for _ in 0..10 {
            for report in world.run().await {
                assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
            }
            world.pass(180);
        }
    }
    let [all, some] = worlds;
    let all = versions(all.rows(sql).await);
    let expected = wanted(&all, &BTreeSet::new());
    assert_followed(&expected, &all, "eset");
    assert_eq!(keys(&versions(some.rows(sql).await)), expected);
}

/// A record that was written is not gone because its group is not wanted any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_are_not_wanted_are_neither_written_nor_gone() {
    let mut all = Tenant::new("machines");
    let mut some = Tenant::new("machines");
    let groups = "SELECT DISTINCT recordId, json_extract(additionalFields, '$.rbacGroupName') \
                  FROM IntegrationTable_CL WHERE streamName = 'defender.machines'";
    all.run_well().await;
    let group = all.rows(groups).await[0][1].clone().unwrap();
    some.set(
        "DEFENDER_MACHINES_FILTER",
        &format!("device-group!={group}"),
    );
    some.run_well().await;
    let other = |rows: Vec<Vec<Option<String>>>| -> BTreeSet<String> {
        let others = rows
            .into_iter()
            .filter(|row| row[1].as_ref() != Some(&group));
        others.map(|mut row| row[0].take().unwrap()).collect()
    };
    let everything = all.rows(groups).await;
    let wanted = other(everything.clone());
    assert!(!wanted.is_empty() && wanted.len() < everything.len());
    assert_eq!(some.ids("defender.machines").await, wanted);
    // Then all is sent once, and the filter comes back.
    some.unset("DEFENDER_MACHINES_FILTER");
    some.pass(26 * 60);
    some.run_well().await;
    some.set(
        "DEFENDER_MACHINES_FILTER",
        &format!("device-group!={group}"),
    );
    for _ in 0..3 {
        some.pass(26 * 60);
        some.run_well().await;
    }
    let world = some.simulator.world().defender();
    let there = world.machine_ids(some.now());
    let landed = some.landed("defender.machines").await.into_keys();
    let gone = landed.filter(|(_, version)| version.starts_with("gone "));
    let wrong: Vec<_> = gone.filter(|(id, _)| there.contains(id)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Rows of a first run are a day's, or all that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_estimate_tells_what_lands_with_a_filter_and_without() {
    let filters = [
        ("DEFENDER_ALERTS_FILTER", "severity>=medium"),
        ("DEFENDER_INCIDENTS_FILTER", "status!=resolved"),
        ("DEFENDER_VULNERABILITIES_FILTER", "severity=high,critical"),
        (
            "DEFENDER_HUNTING_DEVICEEVENTS_FILTER",
            "category!=UsbDriveMounted",
        ),
    ];
    let tenant = |filtered: bool| {
        let mut tenant = Tenant::with("alerts,incidents,vulnerabilities", |options| {
            options.scale = 1.0;
        });
        tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
        for (name, filter) in filters.iter().filter(|_| filtered) {
            tenant.set(name, filter);
        }
        tenant
    };
    let (mut all, mut some) = (tenant(false), tenant(true));
    let found = estimate::estimates(&some.app()).await;
    all.run_well().await;
    some.run_well().await;
    let near =
        |estimated: u64, landed: usize| estimated.abs_diff(landed as u64) * 10 <= landed as u64;
    for stream in [
        "defender.alerts",
        "defender.incidents",
        "defender.vulnerabilities",
        "defender.hunting.DeviceEvents",
    ] {
        let estimate = found.iter().find(|(key, _)| key.stream == stream);
        let estimate = estimate.unwrap().1.as_ref().unwrap();
        let (before, _) = estimate.unfiltered.unwrap();
        let (few, many) = (
            some.landed(stream).await.len(),
            all.landed(stream).await.len(),
        );
        assert!(few < many, "{stream}: {few} of {many}");
        if let Some(first) = estimate.at_first {
            assert!(near(first, few), "{stream}: {first} and {few}");
            assert!(estimate.rows < before, "{stream}");
        } else {
            assert!(
                near(estimate.rows, few),
                "{stream}: {} and {few}",
                estimate.rows
            );
            assert!(near(before, many), "{stream}: {before} and {many}");
        }
    }
}

#[tokio::test]
async fn a_filter_that_cannot_be_kept_stops_its_connection_and_says_why() {
    for (setting, filter, says) in [
        (
            "DEFENDER_ALERTS_FILTER",
            "severty>=low",
            "`DEFENDER_ALERTS_FILTER` asks for `severty`, which is no field",
        ),
        (
            "DEFENDER_ALERT_FILTER",
            "severity>=low",
            "`DEFENDER_ALERT_FILTER` belongs to no stream; did you mean `DEFENDER_ALERTS`?",
        ),
        (
            "DEFENDER_INCIDENTS_FILTER",
            "product=x",
            "`DEFENDER_INCIDENTS_FILTER` asks for `product`, which records of `defender.incidents` do \
             not tell: they tell severity, status",
        ),
    ] {
        let mut tenant = Tenant::new("alerts,incidents");
        tenant.set(setting, filter);
        let error = tenant.refused();
        assert!(error.contains(says), "{error}");
    }
}

/// Such a setting does nothing, and nobody would notice.
#[test]
fn a_setting_of_a_stream_that_there_is_not_is_noted() {
    let mut tenant = Tenant::new("alerts");
    tenant.set("DEFENDER_ALERT_EVERY", "10m");
    let mut notes = Vec::new();
    let mut tell = |one: Finding| {
        if one.found == Found::Note && one.what == "DEFENDER_ALERT_EVERY" {
            notes.push(one.text);
        }
    };
    check::settings(&tenant.environment(), Mode::Local, &mut tell).unwrap();
    let note = "`DEFENDER_ALERT_EVERY` belongs to no stream; did you mean `DEFENDER_ALERTS`?";
    assert_eq!(notes, [note]);
}
