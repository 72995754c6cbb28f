//! Every fault of the catalogue that strikes Defender, in the first run and in a later one.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use sentinel_connector::simulator::{Entry, Fault, Target};

use super::{Tenant, days::assert_hunted};
use crate::world::each;

/// The faults of Defender, for as far as a stream asks there, and of its login.
fn striking() -> Vec<Entry> {
    let asked = |target: Target| {
        let is_list = target.name().starts_with("defender.")
            && !matches!(target, Target::DefenderMachine | Target::DefenderSoftware);
        is_list || target == Target::EntraToken
    };
    let mut entries = Fault::catalogue();
    // A table is bunched from the beginning or never: that is told of with the large windows.
    entries.retain(|entry| asked(entry.target) && entry.kind != "bunched=3");
    assert!(entries.len() > 150, "{}", entries.len());
    entries
}

/// The tenant whose stream asks there, in pages that are small enough for there to be several.
fn struck(entry: &Entry) -> Tenant {
    let target = entry.target;
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
        let estate = &mut options.defender.estate;
        estate.machines = 30;
        estate.findings = 10;
        estate.catalogue = 100;
        estate.events = 500.0;
        // A page and a half a day, where records are not asked for one by one.
        let each_day = if entry.kind == "skip-wall" {
            40.0
        } else {
            120.0
        };
        (estate.alerts, estate.incidents) = (each_day, each_day);
    });
    match target {
        Target::DefenderMdeAlerts => tenant.set("DEFENDER_ALERTS_API", "mde"),
        Target::DefenderXdrIncidents => tenant.set("DEFENDER_INCIDENTS_API", "xdr"),
        Target::DefenderHunting => tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents"),
        Target::DefenderChanges => tenant.inject("defender.software.changes:page-size=2x*"),
        _ => {}
    }
    match entry.kind {
        "expand-500" => tenant.set("DEFENDER_INCIDENT_ALERTS", "yes"),
        // More rows than it gives, and than are asked for.
        "row-cap=20" => tenant.set("DEFENDER_HUNTING_DEVICEEVENTS_STEP", "24h"),
        _ => {}
    }
    tenant
}

/// How many records are asked for at a time.
fn page(tenant: &Tenant, entry: &Entry) -> Option<u32> {
    let world = tenant.simulator.world().defender();
    let now = tenant.now();
    Some(match (entry.kind, entry.target) {
        // It strikes a page that asks for many.
        ("top-limit=10", _) => return None,
        // Records are skipped within an instant, when it fills a page.
        ("skip-wall", _) => 1,
        // Only a full page is followed by an empty one.
        ("empty-404", Target::DefenderMachines) => count(&world.machine_ids(now)),
        ("empty-404", Target::DefenderVulnerabilities) => count(&world.vulnerability_ids(now)),
        ("empty-404", _) => count(&world.catalogue_versions(now)),
        (_, Target::DefenderMachines) => 10,
        (_, Target::DefenderHunting) => 20,
        (_, Target::DefenderVulnerabilities) => 80,
        (_, Target::DefenderCatalogue) => 40,
        // Fewer records of a list in no order may be in one by chance.
        _ => 8,
    })
}

fn count<T>(records: &BTreeSet<T>) -> u32 {
    records.len().try_into().unwrap()
}

/// Nothing is told to be gone that is there.
async fn assert_gone(tenant: &Tenant, stream: &str, there: &BTreeSet<String>, context: &str) {
    let landed = tenant.landed(stream).await.into_keys();
    let gone = landed.filter(|(_, version)| version.starts_with("gone "));
    let wrong: Vec<_> = gone.filter(|(id, _)| there.contains(id)).collect();
    assert!(wrong.is_empty(), "{context}: {stream} is there: {wrong:?}");
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
            assert_gone(
                tenant,
                "defender.machines",
                &world.machine_ids(ended),
                context,
            )
            .await;
        }
        Target::DefenderVulnerabilities => {
            let stream = "defender.vulnerabilities";
            let passed = tenant.state(stream).await.last_pass.unwrap();
            let may = tenant.ever(|at| world.vulnerability_ids(at));
            let must = world.vulnerability_ids(passed);
            tenant.assert_is(stream, &must, &may, context).await;
            assert_gone(tenant, stream, &world.vulnerability_ids(ended), context).await;
        }
        Target::DefenderCatalogue => {
            let stream = "defender.vulnerability-catalogue";
            let passed = tenant.state(stream).await.last_pass.unwrap();
            let may = tenant.ever(|at| world.exposed_ids(at));
            let must = world.exposed_ids(passed);
            tenant.assert_is(stream, &must, &may, context).await;
            assert_gone(tenant, stream, &world.exposed_ids(ended), context).await;
        }
        Target::DefenderExport | Target::DefenderFile | Target::DefenderChanges => {
            let changed = world.software_changes(began - TimeDelta::hours(6), ended);
            let mut may = tenant.ever(|at| world.software_ids(at).0);
            may.extend(changed.into_iter().map(|(id, ..)| id));
            let (must, _) = world.software_ids(began);
            tenant
                .assert_is("defender.software-vulnerabilities", &must, &may, context)
                .await;
            tenant.assert_software_complete(context).await;
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

/// A kind that hides for once whether a record is wanted, which time a table goes by, or a record
/// that moves: the next day mends that.
fn hides(entry: &Entry) -> bool {
    matches!(entry.kind, "null-fields" | "null-ingestion-time" | "moving")
}

async fn heals(mut tenant: Tenant, entry: Entry, often: &str) {
    let fault = format!("{}:{}{often}", entry.target.name(), entry.kind);
    tenant.page = page(&tenant, &entry);
    if (entry.target, often) == (Target::DefenderExport, "@2") {
        // Then the links are asked for twice.
        tenant.inject("defender.software.file:sas-expired");
    }
    tenant.inject(&fault);
    tenant.run_until_done(&fault).await;
    let later: &[u64] = if hides(&entry) { &[7, 25] } else { &[7] };
    for hours in later {
        tenant.pass(hours * 60);
        tenant.run_until_done(&fault).await;
    }
    assert_complete(&tenant, entry.target, &fault).await;
    let unplayed = tenant.simulator.unplayed();
    assert!(unplayed.is_empty(), "{fault}: never struck: {unplayed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_the_first_run_costs_nothing() {
    let cases = striking().into_iter();
    each(cases.map(|entry| heals(struck(&entry), entry, ""))).await;
}

/// Such as a token that expires while pages are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_on_a_later_page_of_the_first_run_costs_nothing() {
    let mut cases = striking();
    // There is one empty page. One answer without a time of ingestion is like one without rows.
    cases.retain(|entry| !matches!(entry.kind, "empty-404" | "null-ingestion-time"));
    let cases = cases.into_iter();
    each(cases.map(|entry| heals(struck(&entry), entry, "@2"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_a_later_run_costs_nothing() {
    let cases = striking().into_iter().map(|entry| async move {
        let mut tenant = struck(&entry);
        tenant.run_well().await;
        let days = match entry.target {
            // A new baseline is due.
            Target::DefenderExport | Target::DefenderFile => 14,
            _ => 1,
        };
        tenant.pass(days * 24 * 60 + 60);
        heals(tenant, entry, "x2").await;
    });
    each(cases).await;
}
