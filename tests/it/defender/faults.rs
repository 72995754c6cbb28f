//! Every fault of the catalogue that strikes Defender, in the first run and in a later one.

use chrono::TimeDelta;
use sentinel_connector::simulator::{Entry, Fault, Target};

use super::{Tenant, days::assert_hunted};
use crate::world::each;

/// The faults of Defender, for as far as a stream asks there.
fn striking() -> Vec<Entry> {
    let asked = |target: Target| {
        target.name().starts_with("defender.")
            && !matches!(target, Target::DefenderMachine | Target::DefenderSoftware)
    };
    let mut entries = Fault::catalogue();
    entries.retain(|entry| asked(entry.target));
    assert!(entries.len() > 150, "{}", entries.len());
    entries
}

/// The tenant whose stream asks there.
fn struck(target: Target) -> Tenant {
    let streams = match target {
        Target::DefenderMachines | Target::DefenderHunting => "machines",
        Target::DefenderVulnerabilities | Target::DefenderCatalogue => "vulnerabilities",
        Target::DefenderExport | Target::DefenderFile | Target::DefenderChanges => {
            "software-vulnerabilities"
        }
        Target::DefenderAlerts | Target::DefenderMdeAlerts => "alerts",
        _ => "incidents",
    };
    let mut tenant = Tenant::with(streams, |options| {
        // Hundreds of them are run.
        options.scale = 0.1;
        options.defender.estate.findings = 5;
        options.defender.estate.catalogue = 200;
    });
    match target {
        Target::DefenderMdeAlerts => tenant.set("DEFENDER_ALERTS_API", "mde"),
        Target::DefenderXdrIncidents => tenant.set("DEFENDER_INCIDENTS_API", "xdr"),
        Target::DefenderHunting => tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents"),
        _ => {}
    }
    tenant
}

/// The ids in the simulated world and in the tables are the same.
async fn assert_complete(tenant: &Tenant, target: Target, context: &str) {
    let world = tenant.simulator.world().defender();
    let (began, _) = tenant.looks[0];
    let (_, ended) = *tenant.looks.last().unwrap();
    match target {
        Target::DefenderMachines => {
            let may = tenant.ever(|at| world.machine_ids(at));
            let must = world.machine_ids(began);
            tenant
                .assert_is("defender.machines", &must, &may, context)
                .await;
        }
        Target::DefenderVulnerabilities => {
            let stream = "defender.vulnerabilities";
            let passed = tenant.state(stream).await.passed.unwrap();
            let may = tenant.ever(|at| world.vulnerability_ids(at));
            let must = world.vulnerability_ids(passed);
            tenant.assert_is(stream, &must, &may, context).await;
        }
        Target::DefenderCatalogue => {
            let stream = "defender.vulnerability-catalogue";
            let passed = tenant.state(stream).await.passed.unwrap();
            let may = tenant.ever(|at| world.exposed_ids(at));
            let must = world.exposed_ids(passed);
            tenant.assert_is(stream, &must, &may, context).await;
        }
        Target::DefenderExport | Target::DefenderFile | Target::DefenderChanges => {
            let changed = world.software_changes(began - TimeDelta::hours(6), ended);
            let mut may = tenant.ever(|at| world.software_ids(at).0);
            may.extend(changed.into_iter().map(|(id, ..)| id));
            let (must, _) = world.software_ids(began);
            tenant
                .assert_is("defender.software-vulnerabilities", &must, &may, context)
                .await;
        }
        Target::DefenderAlerts => {
            tenant
                .assert_updates_complete("defender.alerts", false, context)
                .await;
        }
        Target::DefenderMdeAlerts => {
            tenant
                .assert_updates_complete("defender.alerts", true, context)
                .await;
        }
        Target::DefenderHunting => assert_hunted(tenant, "DeviceEvents", context).await,
        _ => {
            tenant
                .assert_updates_complete("defender.incidents", false, context)
                .await;
        }
    }
}

/// A kind that hides for once whether a record is wanted, or which time a table goes by: the next
/// day mends that.
fn hides(entry: &Entry) -> bool {
    matches!(entry.kind, "null-fields" | "null-ingestion-time")
}

async fn heals(mut tenant: Tenant, entry: Entry, often: &str) {
    let fault = format!("{}:{}{often}", entry.target.name(), entry.kind);
    tenant.inject(&fault);
    tenant.run_until_done(&fault).await;
    let later: &[u64] = if hides(&entry) { &[7, 25] } else { &[7] };
    for hours in later {
        tenant.pass(hours * 60);
        tenant.run_until_done(&fault).await;
    }
    assert_complete(&tenant, entry.target, &fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_the_first_run_costs_nothing() {
    let cases = striking().into_iter();
    each(cases.map(|entry| heals(struck(entry.target), entry, ""))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_a_later_run_costs_nothing() {
    let cases = striking().into_iter().map(|entry| async move {
        let mut tenant = struck(entry.target);
        tenant.run_well().await;
        tenant.pass(25 * 60);
        heals(tenant, entry, "x2").await;
    });
    each(cases).await;
}
