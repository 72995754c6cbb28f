//! Runs end to end: simulator, pipeline, embedded file.

use std::sync::Arc;

use sentinel_connector::{
    pipeline::{Bounds, Outcome, Parts},
    simulator::{Options, PageEnd, V2Carries},
};

use crate::world::{CLOUD_OFFICE, DETECTIONS, INCIDENTS, World, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_timers_lands_each_record_once() {
    let mut world = World::new();
    let first = world.run().await;
    for report in &first {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        assert!(report.counts.landed > 0, "{report:?}");
    }
    world.assert_complete("first run").await;
    for _ in 0..48 {
        world.pass(30);
        for report in world.run().await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        }
    }
    world.assert_complete("after a day").await;
    assert_no_refusal(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_batches_are_sent_early_while_all_of_them_hold_too_much() {
    let mut batches = Vec::new();
    for bounds in [Bounds::default(), Bounds::of_open(0)] {
        let mut world = World::with(|options| options.scale = 2.0);
        world
            .streams
            .retain(|endpoint| endpoint.stream == DETECTIONS);
        let parts = Parts {
            bounds: Arc::new(bounds),
            ..world.parts()
        };
        let reports = world.run_with(&parts).await;
        assert_eq!(reports[0].outcome, Outcome::UpToDate, "{}", told(&reports));
        let count = |what: &str| {
            format!(
                "SELECT count({what}) FROM IntegrationTable_CL WHERE streamName = '{DETECTIONS}'"
            )
        };
        let rows = world.number(&count("*")).await;
        assert_eq!(rows, reports[0].counts.landed);
        assert_eq!(rows, world.number(&count("DISTINCT recordId")).await);
        batches.push(world.number(&count("DISTINCT batchId")).await);
    }
    assert!(batches[0] < batches[1], "{batches:?}");
}

/// Our own limiter keeps below the service's: it never has to say 429.
fn assert_no_refusal(world: &World) {
    let refused: Vec<_> = world
        .simulator
        .calls()
        .into_iter()
        .filter(|call| call.status != 200)
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Two runs, three hours apart, in a world of another kind.
async fn two_runs(name: &str, fault: Option<&str>, change: impl FnOnce(&mut Options)) -> World {
    let mut world = World::with(|options| {
        options.scale = 0.05;
        change(options);
    });
    if let Some(fault) = fault {
        world.inject(fault);
    }
    for _ in 0..2 {
        let reports = world.run().await;
        for report in &reports {
            assert_eq!(
                report.outcome,
                Outcome::UpToDate,
                "{name}: {}",
                told(&reports)
            );
        }
        world.pass(180);
    }
    world.assert_complete(name).await;
    assert_no_refusal(&world);
    world
}

#[tokio::test]
async fn every_end_of_a_page_is_understood() {
    for end in [PageEnd::Empty, PageEnd::Null, PageEnd::Absent] {
        let name = format!("{end:?}");
        two_runs(&name, None, |options| options.page_end = end).await;
    }
}

#[tokio::test]
async fn pages_may_be_smaller_than_was_asked_for() {
    for target in [
        "eset.detections",
        "eset.detections.window",
        "eset.cloud-office",
        "eset.cloud-office.window",
        "eset.incidents",
    ] {
        for size in [1, 7] {
            let fault = format!("{target}:page-size={size}x*");
            two_runs(&fault, Some(&fault), |_| {}).await;
        }
    }
}

#[tokio::test]
async fn a_login_without_refresh_tokens_goes_on_with_the_password() {
    two_runs("no refresh tokens", None, |options| {
        options.refresh_tokens = false;
    })
    .await;
}

#[tokio::test]
async fn a_token_may_live_shorter_than_a_run() {
    for (lifetime, refresh_tokens) in [(30, true), (62, true), (62, false)] {
        let fault = "eset.incidents:slow=40x*";
        let world = two_runs("short lives", Some(fault), |options| {
            options.token_lifetime = lifetime;
            options.refresh_tokens = refresh_tokens;
        })
        .await;
        assert!(world.answered(sentinel_connector::simulator::Target::EsetToken, 200) > 2);
    }
}

/// When both feeds carry the detections of PROTECT and Inspect, each lands once, by one of them.
#[tokio::test]
async fn detections_that_two_feeds_carry_land_once() {
    let mut world = World::with(|options| {
        options.scale = 0.1;
        options.v2_carries = V2Carries::AlsoInspect;
    });
    for _ in 0..3 {
        let reports = world.run().await;
        for report in &reports {
            assert_eq!(report.outcome, Outcome::UpToDate, "{}", told(&reports));
        }
        world.pass(120);
    }
    world.assert_accounts("both feeds").await;
    world.assert_stream_complete(INCIDENTS, "both feeds").await;
    let first = world.landed(DETECTIONS).await;
    let second = world.landed(CLOUD_OFFICE).await;
    let both: Vec<_> = first.keys().filter(|id| second.contains_key(*id)).collect();
    assert!(both.is_empty(), "{both:?}");
    let landed = first.into_keys().chain(second.into_keys()).collect();
    assert_eq!(world.expected_of_all_products(), landed);
    assert!(
        world
            .reports_of(CLOUD_OFFICE)
            .any(|report| report.counts.duplicate > 100)
    );
}
