//! What Defender's part of the world promises.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::*;
use crate::{
    core::mapping::schema,
    simulator::world::{
        World,
        lane::DAY,
        tests::{ESET, Words},
    },
};

fn start() -> DateTime<Utc> {
    "2026-03-04T10:00:00Z".parse().unwrap()
}

fn world(seed: u64) -> World {
    World::new(seed, start(), 1.0)
}

#[test]
fn a_seed_is_a_world() {
    let told = |seed| {
        let world = world(seed);
        let defender = world.defender();
        let now = defender.start;
        let machines = defender.machines(now).map(|one| defender.machine(one, now));
        let alerts = defender.alerts_since(now - HOUR, now);
        let alerts = alerts.map(|one| defender.alert_graph(one, false));
        let hour = (start() - TimeDelta::hours(1), start());
        let rows = defender.hunting_rows("DeviceEvents", true, hour.0, hour.1, hour.1);
        machines.chain(alerts).chain(rows).collect::<Vec<_>>()
    };
    assert_eq!(told(1), told(1));
    assert_ne!(told(1), told(2));
}

#[test]
fn steps_follow_each_other_and_end_in_time() {
    let world = world(3);
    let defender = world.defender();
    let ordered = |times: &[i64], life: i64| {
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert!(times.last().unwrap() - times[0] < life, "{times:?}");
    };
    for number in 0..3000 {
        let alerts: Vec<i64> = defender
            .alert_steps(number)
            .iter()
            .map(|one| one.updated)
            .collect();
        ordered(&alerts, alert::LIFE);
        let incidents: Vec<i64> = defender
            .incident_steps(number)
            .iter()
            .map(|one| one.updated)
            .collect();
        ordered(&incidents, incident::LIFE);
    }
}

#[test]
fn an_alert_is_told_by_the_incident_that_it_names() {
    let world = world(4);
    let defender = world.defender();
    let now = defender.start;
    let told: usize = defender
        .incidents_since(i64::MIN / 2, now)
        .map(|incident| defender.alerts_of(incident.number, now).count())
        .sum();
    let alerts = defender.alerts_since(i64::MIN / 2, now).count();
    assert_eq!(told, alerts);
}

#[test]
fn an_alert_that_joins_an_incident_gives_it_a_new_version() {
    let world = world(4);
    let defender = world.defender();
    for number in 0..200 {
        let joined = |now: i64| defender.alerts_of(number, now).count();
        let steps = defender.incident_steps(number);
        for pair in steps.windows(2) {
            assert_eq!(joined(pair[0].updated), joined(pair[1].updated - 1));
        }
        let last = steps.last().unwrap().updated;
        assert_eq!(joined(last), joined(i64::MAX / 2), "{number}");
    }
}

#[test]
fn every_word_that_a_service_chooses_stands_in_the_contract_and_none_is_there_in_vain() {
    let (world, mut words) = (world(6), Words::of(|api| !ESET.contains(&api)));
    let defender = world.defender();
    let now = defender.start;
    let mut hold = |api: &str, record: &Value| words.hold(api, record);
    for alert in defender.alerts_since(now - 9 * DAY, now) {
        hold("graph", &defender.alert_graph(alert, false));
        if defender.is_endpoint_alert(alert.number) {
            hold("mde", &defender.alert_mde(alert, true));
        }
    }
    for incident in defender.incidents_since(now - 9 * DAY, now) {
        for step in defender.incident_steps(incident.number) {
            hold("graph", &defender.incident_graph(step, now, false, false));
            let mut record = defender.incident_xdr(step, now);
            // Devices stand in it as machines do.
            for alert in record["alerts"].as_array_mut().unwrap() {
                alert["devices"] = Value::Null;
            }
            hold("xdr", &record);
        }
    }
    for machine in defender.machines(now) {
        hold("machine", &defender.machine(machine, now));
    }
    for table in ["AlertInfo", "AlertEvidence"] {
        let (from, to) = (start() - TimeDelta::days(9), start());
        for row in defender.hunting_rows(table, true, from, to, to) {
            hold("hunting", &row);
        }
    }
    words.compare();
}

/// Where the simulator spells a member in a way of its own, so do the rules that read it, and no test
/// would tell.
#[test]
fn every_member_of_a_record_stands_in_the_schema_of_its_source() {
    let world = world(6);
    let defender = world.defender();
    let now = defender.start;
    let mut held = BTreeSet::new();
    let mut hold = |schema: &'static str, record: &Value| {
        let members = schema::named(schema).unwrap().members;
        for name in record.as_object().unwrap().keys() {
            assert!(members.contains(&name.as_str()), "{schema}: {name}");
        }
        held.insert(schema);
    };
    for alert in defender.alerts_since(now - 3 * DAY, now) {
        hold("alerts", &defender.alert_graph(alert, false));
        if defender.is_endpoint_alert(alert.number) {
            hold("mde-alerts", &defender.alert_mde(alert, true));
        }
    }
    for incident in defender.incidents_since(now - 3 * DAY, now) {
        hold(
            "incidents",
            &defender.incident_graph(incident, now, false, true),
        );
        hold("xdr-incidents", &defender.incident_xdr(incident, now));
    }
    for machine in defender.machines(now) {
        hold("machines", &defender.machine(machine, now));
    }
    let snapshot = published(now);
    for finding in defender.findings(0..20, snapshot) {
        hold(
            "software-vulnerabilities",
            &defender.finding_record(finding, snapshot),
        );
        if let Some(record) = defender.machine_vulnerability(finding) {
            hold("machine-vulnerabilities", &record);
        }
    }
    for number in 0..20 {
        hold(
            "vulnerability-catalogue",
            &defender.catalogue_entry(number, now),
        );
    }
    assert_eq!(held.len(), 8);
}

#[test]
fn a_machine_has_each_vulnerability_once_and_one_version_of_a_product() {
    let world = world(5);
    let defender = world.defender();
    for snapshot in [published(defender.start), published(defender.start) + 30] {
        let findings: Vec<Finding> = defender.findings(0..60, snapshot).collect();
        let ids: BTreeSet<String> = findings
            .iter()
            .map(|one| defender.finding_id(*one))
            .collect();
        assert_eq!(ids.len(), findings.len());
        let product = |one: &Finding| {
            let record = defender.finding_record(*one, snapshot);
            format!("{} {}", record["deviceId"], record["softwareName"])
        };
        let version = |one: &Finding| {
            let record = defender.finding_record(*one, snapshot);
            format!("{} {}", product(one), record["softwareVersion"])
        };
        let products: BTreeSet<String> = findings.iter().map(product).collect();
        let versions: BTreeSet<String> = findings.iter().map(version).collect();
        assert_eq!(products.len(), versions.len());
    }
}
