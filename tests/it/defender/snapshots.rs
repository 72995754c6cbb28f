//! Devices and vulnerabilities as they are now: changes, disappearances, and data that moves.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use sentinel_connector::{
    app::RunOptions,
    io::http::{Request, Response, SharedTransport, Transport, TransportError},
    pipeline::Outcome,
};

use super::{FUNCTION, Tenant};
use crate::azurite::{Azurite, network};

#[tokio::test]
async fn what_is_as_it_was_is_counted_and_not_written() {
    let mut tenant = Tenant::new("vulnerabilities");
    let first = tenant.run_well().await;
    // A day later there is another snapshot, of which most is the same.
    tenant.pass(24 * 60 + 5);
    let second = tenant.run_well().await;
    for (one, two) in first.iter().zip(&second) {
        assert_eq!(one.key, two.key);
        assert_eq!(one.counts.unchanged, 0, "{one:?}");
        assert!(two.counts.unchanged > two.counts.landed, "{two:?}");
        assert_eq!(two.counts.duplicate, 0, "{two:?}");
    }
    // In between nobody asks.
    tenant.pass(60);
    for report in tenant.run_well().await {
        assert_eq!(report.counts.pulled, 0, "{report:?}");
    }
    // After a week everything is written again.
    tenant.pass(6 * 24 * 60);
    for report in tenant.run_well().await {
        assert_eq!(report.counts.unchanged, 0, "{report:?}");
        assert!(report.counts.landed > 0, "{report:?}");
    }
}

#[tokio::test]
async fn what_two_passes_miss_is_gone_once() {
    let mut tenant = Tenant::new("vulnerabilities");
    tenant.run_well().await;
    let before = tenant
        .simulator
        .world()
        .defender()
        .vulnerability_ids(tenant.looks[0].0);
    for _ in 0..4 {
        tenant.pass(24 * 60 + 5);
        tenant.run_well().await;
    }
    let stream = "defender.vulnerabilities";
    let gone: Vec<(String, u64)> = tenant
        .landed(stream)
        .await
        .into_iter()
        .filter(|((_, version), _)| version.starts_with("gone "))
        .map(|((id, _), times)| (id, times))
        .collect();
    assert!(!gone.is_empty(), "something is fixed in four days");
    let world = tenant.simulator.world().defender();
    let now = world.vulnerability_ids(tenant.looks.last().unwrap().0);
    for (id, times) in &gone {
        assert_eq!(*times, 1, "{id}");
        assert!(!now.contains(id), "{id} is there");
    }
    // What vanished before the last pass but one is gone.
    let third = world.vulnerability_ids(tenant.looks[3].0);
    let vanished = before
        .iter()
        .filter(|id| !third.contains(*id) && !now.contains(*id));
    for id in vanished {
        assert!(gone.iter().any(|(known, _)| known == id), "{id} has no row");
    }
    let counted: u64 = tenant.reports.iter().map(|report| report.counts.gone).sum();
    assert!(counted >= gone.len() as u64);
}

/// Devices report while they are listed, and so move from page to page.
#[tokio::test]
async fn data_that_moves_under_the_pages_loses_nothing_over_two_passes() {
    let mut tenant = Tenant::with("machines", |options| {
        options.defender.estate.machines = 10_400;
    });
    tenant.inject("defender.machines:movingx*");
    tenant.run_well().await;
    tenant.pass(24 * 60 + 5);
    tenant.run_well().await;
    let world = tenant.simulator.world().defender();
    let must = world.machine_ids(tenant.looks[0].0);
    tenant
        .assert_has("defender.machines", &must, "moving")
        .await;
    let gone: u64 = tenant.reports.iter().map(|report| report.counts.gone).sum();
    assert_eq!(gone, 0, "nothing that moved is gone");
}

/// The simulator, and the storage account beside it.
struct WithAccount {
    simulator: Router,
    account: SharedTransport,
}

#[async_trait]
impl Transport for WithAccount {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if request.uri().host() == Some("sim") {
            self.simulator.send(request).await
        } else {
            self.account.send(request).await
        }
    }
}

/// What the pass before has seen is read from where it ends in the account: to the service that is no
/// range, which the emulator alone would not say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_compared_with_those_of_the_day_before_in_azure_too() {
    let mut tenant = Tenant::new("machines,vulnerabilities");
    tenant.set("STORAGE", "azure");
    tenant.set("AzureWebJobsStorage", &Azurite::shared().fresh());
    tenant.set("SINK", "logs-ingestion");
    for (name, value) in tenant.simulator.settings("https://sim") {
        if ["AZURE_", "LOGS_", "DCR_"]
            .iter()
            .any(|part| name.starts_with(part))
        {
            tenant.set(&name, &value);
        }
    }
    let transport: SharedTransport = Arc::new(WithAccount {
        simulator: tenant.simulator.router(),
        account: network(),
    });
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    for day in 0..3 {
        let app = tenant.app_through(&transport);
        for report in app.run(FUNCTION, &options).await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{day}: {report:?}");
            assert!(report.counts.pulled > 0, "{day}: {report:?}");
            assert_eq!(report.counts.unchanged > 0, day > 0, "{day}: {report:?}");
        }
        tenant.pass(24 * 60 + 5);
    }
}
