//! A stream that somebody pauses: the app leaves it alone, and goes on from there afterwards.

use std::process::Command;

use sentinel_connector::pipeline::Outcome;

use super::Tenant;
use crate::world::told;

const ALERTS: &str = "defender.alerts";

/// `cursor …` over the tenant's file, as somebody types it.
fn cursor(tenant: &Tenant, command: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
        .args(["cursor", command, ALERTS])
        .env_clear()
        .env("CONNECTOR_DATA", tenant.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

#[tokio::test]
async fn a_paused_stream_stays_where_it_is_and_goes_on_without_loss() {
    let mut tenant = Tenant::new("alerts,incidents");
    tenant.run_well().await;
    let before = tenant.state(ALERTS).await;
    let landed = tenant.landed(ALERTS).await;

    cursor(&tenant, "pause");
    for _ in 0..4 {
        tenant.pass(180);
        let reports = tenant.run().await;
        for report in &reports {
            if report.key.stream == ALERTS {
                assert_eq!(report.outcome, Outcome::Paused, "{}", told(&reports));
                assert_eq!((report.pages, report.counts.pulled), (0, 0), "{report:?}");
            } else {
                // Nobody else is held up.
                assert_eq!(report.outcome, Outcome::UpToDate, "{}", told(&reports));
            }
        }
    }
    let paused = tenant.state(ALERTS).await;
    assert!(paused.paused.is_some());
    assert_eq!(
        (
            paused.position,
            paused.open,
            paused.backlog,
            paused.complete_until
        ),
        (
            before.position,
            before.open,
            before.backlog,
            before.complete_until
        )
    );
    assert_eq!(tenant.landed(ALERTS).await, landed);

    cursor(&tenant, "resume");
    tenant.run_well().await;
    let all = tenant.landed(ALERTS).await;
    assert!(all.len() > landed.len(), "what came meanwhile has landed");
    assert!(tenant.state(ALERTS).await.gaps.is_empty());
    tenant
        .assert_updates_complete(ALERTS, false, "paused")
        .await;
    let others = "defender.incidents";
    tenant
        .assert_updates_complete(others, false, "paused")
        .await;
}
