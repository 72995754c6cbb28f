//! A clock of ours that runs ahead of Microsoft's by days, and what it has left behind.

use std::sync::Arc;

use chrono::TimeDelta;
use sentinel_connector::{
    app::RunOptions,
    core::position::cursor::{CLOCKS_DIFFER, Lease, Position, StreamState},
    io::{
        clock::{Clock, VirtualClock},
        http::SharedTransport,
    },
    pipeline::Outcome,
};

use super::{AtHome, FUNCTION, Tenant};

fn tenant() -> Tenant {
    let mut tenant = Tenant::new("machines,alerts,incidents");
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    tenant.set("DEFENDER_HUNTING_DEVICEEVENTS_STEP", "12h");
    tenant
}

/// All streams once, by a clock that is two days ahead.
async fn run_ahead(tenant: &Tenant) {
    let transport: SharedTransport = Arc::new(AtHome {
        simulator: tenant.simulator.router(),
        queries: Arc::clone(&tenant.queries),
    });
    let clock = VirtualClock::new(tenant.now() + TimeDelta::days(2));
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    let app = tenant.app_by(&clock, &transport);
    for report in app.run(FUNCTION, &options).await {
        assert_ne!(report.outcome, Outcome::Failed, "{report:?}");
    }
}

/// No cursor is later than Microsoft's time.
async fn assert_none_ahead(tenant: &Tenant) {
    let states = tenant.app().parts().storage.states().await.unwrap();
    assert!(!states.is_empty());
    for (key, state) in states {
        let passed = state.last_pass;
        let cursor = match state.position {
            Some(Position::Time(cursor)) => Some(cursor),
            _ => None,
        };
        for time in [cursor, passed, state.complete_until].into_iter().flatten() {
            assert!(time - tenant.now() < CLOCKS_DIFFER, "{key}: {time}");
        }
    }
}

#[tokio::test]
async fn a_run_by_a_clock_that_is_days_ahead_leaves_no_cursor_in_the_future() {
    for from_the_beginning in [false, true] {
        let mut tenant = tenant();
        if !from_the_beginning {
            tenant.run_well().await;
            tenant.pass(60);
        }
        run_ahead(&tenant).await;
        assert_none_ahead(&tenant).await;
        tenant.pass(360);
        let reports = tenant.run_well().await;
        let hunting = reports
            .iter()
            .find(|report| report.key.stream.starts_with("defender.hunting."))
            .unwrap();
        assert!(
            hunting.counts.landed > 0,
            "{from_the_beginning}: {hunting:?}"
        );
        assert!(hunting.gaps.is_empty(), "{hunting:?}");
    }
}

/// Changes what is saved of each stream.
async fn change(tenant: &Tenant, change: impl Fn(&str, &mut StreamState)) {
    let app = tenant.app();
    let storage = &app.parts().storage;
    for (key, _) in storage.states().await.unwrap() {
        let (mut state, etag) = storage.load(&key).await.unwrap().unwrap();
        change(&key.stream, &mut state);
        storage.save(&key, &state, Some(&etag)).await.unwrap();
    }
}

/// A process by such a clock was cut off, and nobody in the cloud knows that it is gone.
#[tokio::test]
async fn a_lease_that_a_clock_days_ahead_has_left_holds_nobody_back() {
    let mut tenant = tenant();
    tenant.run_well().await;
    tenant.pass(60);
    let until = tenant.now() + TimeDelta::days(2);
    change(&tenant, |_, state| {
        let owner = Lease::owner_of("another machine", 1);
        state.lease = Some(Lease { owner, until });
    })
    .await;
    let landed: u64 = tenant
        .run_well()
        .await
        .iter()
        .map(|report| report.counts.landed)
        .sum();
    assert!(landed > 0);
}

#[tokio::test]
async fn a_stream_whose_last_turn_lies_in_the_future_is_not_the_last_one_for_days() {
    let mut tenant = tenant();
    tenant.run_well().await;
    tenant.pass(60);
    let later = tenant.now() + TimeDelta::days(2);
    change(&tenant, |stream, state| {
        if stream == "defender.incidents" {
            state.last_turn = Some(later);
        }
    })
    .await;
    let reports = tenant.run_well().await;
    assert_eq!(reports[0].key.stream, "defender.incidents");
}

#[tokio::test]
async fn a_cursor_that_stands_in_the_future_is_drawn_back_and_what_came_in_lands() {
    let mut tenant = tenant();
    tenant.run_well().await;
    let later = tenant.clock.now() + TimeDelta::days(2);
    change(&tenant, |_, state| {
        if state.position.is_some() {
            state.position = Some(Position::Time(later));
            state.complete_until = Some(later);
            state.last_pass = state.last_pass.map(|_| later);
        }
    })
    .await;
    tenant.pass(360);
    let reports = tenant.run_well().await;
    assert_none_ahead(&tenant).await;
    for report in &reports {
        let by_window = report.key.stream != "defender.machines";
        assert_eq!(report.gaps.len(), usize::from(by_window), "{report:?}");
        if report.key.stream.starts_with("defender.hunting.") {
            assert!(report.counts.landed > 0, "{report:?}");
        }
    }
}
