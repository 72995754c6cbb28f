//! What Defender's part of the world promises.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::simulator::world::World;

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
