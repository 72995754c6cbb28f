//! The disk of the embedded file is full in the middle of a run.

use std::sync::Arc;

use sentinel_connector::{
    error::Kind,
    pipeline::{Outcome, Parts},
    sink::workspace::Workspace,
    storage::sqlite::SqliteStorage,
};

use crate::world::{World, told};

/// A disk with room for so many pages more.
async fn full_after(pages: i64) {
    let context = format!("{pages} pages");
    let mut world = World::with(|options| options.scale = 0.2);
    world.run_until_done().await;
    world.pass(6 * 60);
    let file = world.file();
    let limit = |most: Option<i64>| {
        file.with(move |connection| {
            let used: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let most = most.map_or(1 << 30, |more| used + more);
            connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(()))
        })
    };
    limit(Some(pages)).await.unwrap();
    let parts = Parts {
        storage: Arc::new(SqliteStorage::new(Arc::clone(&file)).unwrap()),
        sink: Arc::new(Workspace::new(Arc::clone(&file)).unwrap()),
        ..world.parts()
    };
    let reports = world.run_with(&parts).await;
    let failed = reports.iter();
    let failed: Vec<_> = failed
        .filter(|report| report.outcome == Outcome::Failed)
        .collect();
    assert!(!failed.is_empty(), "{context}: {}", told(&reports));
    for report in failed {
        assert_eq!(
            report.error_kind,
            Some(Kind::Transient),
            "{context}: {report:?}"
        );
        let reason = report.reason.as_deref().unwrap();
        assert!(reason.contains("free space"), "{context}: {reason}");
    }

    limit(None).await.unwrap();
    // Leases end.
    world.pass(5);
    world.run_until_done().await;
    for endpoint in world.streams.clone() {
        let difference = world.difference(endpoint.stream).await;
        assert!(difference.missing.is_empty(), "{context}: {difference:?}");
        assert!(difference.strange.is_empty(), "{context}: {difference:?}");
        let twice = |times: &u64| *times == 2;
        assert!(
            difference.repeated.values().all(twice),
            "{context}: {difference:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_fails_runs_with_the_fix_and_loses_nothing() {
    for pages in [0, 2, 5, 12, 20] {
        full_after(pages).await;
    }
}
