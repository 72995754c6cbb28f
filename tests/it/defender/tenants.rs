//! Two tenants side by side: one app, one transport, two worlds.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use sentinel_connector::{
    app::RunOptions,
    io::http::{Request, Response, SharedTransport, Transport, TransportError},
    pipeline::Outcome,
};

use super::{FUNCTION, Tenant};

/// The second tenant's id.
const OTHER: &str = "9d2c7f10-1b34-4c5d-8e6f-7a8b9c0d1e2f";

/// Sends what concerns the second tenant to its own world.
struct Both {
    first: Router,
    second: Router,
}

#[async_trait]
impl Transport for Both {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let is_second =
            request.uri().host() == Some("other") || request.uri().path().contains(OTHER);
        let world = if is_second { &self.second } else { &self.first };
        world.send(request).await
    }
}

#[tokio::test]
async fn two_tenants_never_mix() {
    let mut first = Tenant::new("machines,alerts");
    let second = Tenant::with("", |options| {
        options.seed = 12;
        options.tenant_id = OTHER.to_owned();
    });
    let connections = format!(
        r#"[{{"name":"one","source":"defender"}},
            {{"name":"two","source":"defender","settings":{{"DEFENDER_TENANT_ID":"{OTHER}",
              "DEFENDER_API_URL":"https://other/defender","GRAPH_URL":"https://other/graph"}}}}]"#
    );
    first.set("CONNECTIONS", &connections);
    let both: SharedTransport = Arc::new(Both {
        first: first.simulator.router(),
        second: second.simulator.router(),
    });
    // The second world lives on a clock of its own; both stand at the same time.
    let app = first.app_through(&both);
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    let reports = app.run(FUNCTION, &options).await;
    assert_eq!(reports.len(), 4);
    for report in &reports {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        assert!(report.counts.landed > 0, "{report:?}");
    }
    for (connection, tenant) in [("one", &first), ("two", &second)] {
        let sql = format!(
            "SELECT recordId FROM IntegrationTable_CL WHERE connectionName = '{connection}' \
             AND streamName = 'defender.machines'"
        );
        let rows = first.rows(&sql).await.into_iter();
        let landed: std::collections::BTreeSet<String> =
            rows.map(|mut row| row[0].take().unwrap()).collect();
        let world = tenant.simulator.world().defender();
        assert_eq!(landed, world.machine_ids(tenant.now()), "{connection}");
    }
}

#[tokio::test]
async fn without_an_app_of_its_own_the_identity_that_pushes_rows_reads_defender() {
    let mut tenant = Tenant::with("machines", |options| options.system_identity = false);
    let options = tenant.simulator.options();
    let (identity, header) = (
        options.user_identity.clone(),
        options.identity_header.clone(),
    );
    tenant.unset("DEFENDER_CLIENT_ID");
    tenant.unset("DEFENDER_CLIENT_SECRET");
    tenant.set("AZURE_CLIENT_ID", &identity);
    tenant.set("IDENTITY_ENDPOINT", "http://169.254.129.2:8081/msi/token");
    tenant.set("IDENTITY_HEADER", &header);
    tenant.run_well().await;
}

#[tokio::test]
async fn no_streams_leave_it_at_the_hunting_tables() {
    let mut tenant = Tenant::new("none");
    tenant.set("DEFENDER_HUNTING_TABLES", "AlertInfo");
    let reports = tenant.run_well().await;
    let streams: Vec<&str> = reports
        .iter()
        .map(|report| report.key.stream.as_str())
        .collect();
    assert_eq!(streams, ["defender.hunting.AlertInfo"]);
}
