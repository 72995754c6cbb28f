//! Every fault of the catalogue that strikes Defender, in the first run and in a later one.

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

async fn assert_complete(tenant: &Tenant, target: Target, context: &str) {
    let world = tenant.simulator.world().defender();
    let began = tenant.looks[0].0;
    match target {
        Target::DefenderMachines => {
            let must = world.machine_ids(began);
            tenant.assert_has("defender.machines", &must, context).await;
        }
        Target::DefenderVulnerabilities => {
            let passed = tenant
                .state("defender.vulnerabilities")
                .await
                .passed
                .unwrap();
            let must = world.vulnerability_ids(passed);
            tenant
                .assert_has("defender.vulnerabilities", &must, context)
                .await;
        }
        Target::DefenderCatalogue => {
            let ids = tenant.ids("defender.vulnerability-catalogue").await;
            assert!(!ids.is_empty(), "{context}");
        }
        Target::DefenderExport | Target::DefenderFile | Target::DefenderChanges => {
            let (must, _) = world.software_ids(began);
            tenant
                .assert_has("defender.software-vulnerabilities", &must, context)
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

/// A kind that changes what is true, so that the tables hold what the world does not: or that hides
/// whose an alert is, or when a row was taken in, so that other rows are wanted.
fn adds(entry: &Entry) -> bool {
    let name = entry.kind.split('=').next().unwrap();
    matches!(
        name,
        "nine-digits" | "null-fields" | "late" | "gated-enums" | "null-ingestion-time"
    )
}

async fn heals(mut tenant: Tenant, entry: Entry, often: &str) {
    let fault = format!("{}:{}{often}", entry.target.name(), entry.kind);
    tenant.inject(&fault);
    tenant.run_until_done(&fault).await;
    tenant.pass(7 * 60);
    tenant.run_until_done(&fault).await;
    if !adds(&entry) {
        assert_complete(&tenant, entry.target, &fault).await;
    }
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
