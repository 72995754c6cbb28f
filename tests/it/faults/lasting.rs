//! Faults that do not end: what becomes of the stream that is struck, that the others go on, and
//! that nothing is lost when all is well again.

use sentinel_connector::{
    error::Kind,
    pipeline::{Outcome, Report},
    simulator::{Entry, Target},
};

use super::{assert_complete_but_for, healthy, inject, is_window, name, small, striking, struck};
use crate::world::{World, each, stream_of};

/// What a fault that does not end makes of the stream that it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Works,
    /// Its feed works, and its windows wait.
    FeedOnly,
    /// It is off, which is no error.
    Off,
    /// It fails, and this one must act.
    Fails(Kind),
}
use Fate::{Fails, FeedOnly, Off, Works};

/// Whether the stream has been read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    First,
    Later,
}

fn is_delta(target: Target) -> bool {
    matches!(target, Target::EsetDetections | Target::EsetCloudOffice)
}

#[allow(
    clippy::match_same_arms,
    reason = "one arm a reason reads better than one arm a fate"
)]
fn fate(entry: &Entry, when: When) -> Fate {
    let target = entry.target;
    let gone = matches!(name(entry), "400" | "403" | "404" | "410" | "501");
    match name(entry) {
        _ if gone && target == Target::EsetToken => Fails(Kind::Config),
        // The service says for good that there is no more about this incident.
        _ if gone && target == Target::EsetIncidentsGet => Works,
        "401" | "403" => Fails(Kind::Config),
        // A feed that does not begin is no feed, and what a token stood for can be read by window.
        "400" | "404" | "410" | "501" | "no-delta" | "expired-page" if is_delta(target) => Works,
        // A new token has no second page.
        "page-token-repeated" if is_delta(target) && when == When::First => Works,
        "404" | "501" if is_window(target) => FeedOnly,
        // What worked before is no more off than any other that fails.
        "404" | "501" if when == When::Later => Fails(Kind::Transient),
        "404" | "501" => Off,
        "fair-use" | "429" | "429-retry-after" | "500" | "502" | "503" | "503-retry-after"
        // A web page, which is a proxy's doing.
        | "rubbish" | "504" | "never" | "cut" | "stalled" | "202-dead" | "202-forever" | "202-no-id" => {
            Fails(Kind::Transient)
        }
        "400"
        | "410"
        | "empty-200"
        | "truncated"
        | "expired-delta"
        | "expired-page"
        | "page-token-repeated" => Fails(Kind::Contract),
        "202" | "slow" | "no-refresh-token" | "page-token-empty" | "page-token-null"
        | "page-token-absent" | "page-size" | "nine-digits" | "null-fields" | "bad-record"
        | "duplicate" | "late" => Works,
        unknown => panic!("say what becomes of a stream under `{unknown}`"),
    }
}

fn assert_fate(report: &Report, fate: Fate, fault: &str) {
    match fate {
        Works => assert_eq!(report.outcome, Outcome::UpToDate, "{fault}: {report:?}"),
        FeedOnly => {
            assert_eq!(report.outcome, Outcome::Behind, "{fault}: {report:?}");
            let reason = report.reason.as_deref().unwrap_or_default();
            assert!(
                reason.contains("does not offer windows"),
                "{fault}: {reason}"
            );
        }
        Off => assert_eq!(report.outcome, Outcome::Off, "{fault}: {report:?}"),
        Fails(kind) => {
            assert_eq!(report.outcome, Outcome::Failed, "{fault}: {report:?}");
            assert_eq!(report.error_kind, Some(kind), "{fault}: {report:?}");
            let reason = report.reason.as_deref().unwrap_or_default();
            assert!(
                reason.contains(&report.key.stream) || reason.contains("eset login"),
                "{fault}: the error does not name the stream: {reason}"
            );
        }
    }
}

async fn lasts(mut world: World, entry: Entry, when: When) {
    let fault = inject(&world, &entry, "x*");
    let struck = struck(entry.target);
    let fate = fate(&entry, when);
    for round in 1..=2 {
        let asked = world.answered(entry.target, 501);
        for report in world.run().await {
            if struck.contains(&report.key.stream.as_str()) {
                assert_fate(&report, fate, &format!("{fault}, round {round}"));
            } else {
                assert_fate(&report, Works, &fault);
                world
                    .assert_stream_complete(&report.key.stream, &fault)
                    .await;
            }
            assert!(
                report.seconds <= world.budget.as_secs_f64() + 1.0,
                "{fault}: {report:?}"
            );
        }
        if name(&entry) == "501" && stream_of(entry.target).is_some() {
            let asked = world.answered(entry.target, 501) - asked;
            assert!(asked <= 1, "{fault}: asked {asked} times in one run");
        }
        world
            .streams
            .retain(|endpoint| struck.contains(&endpoint.stream));
        world.pass(30);
    }
    world.simulator.heal();
    world.run_until_done().await;
    assert_complete_but_for(&world, &entry, &fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_lasts_from_the_beginning_has_its_fate_and_costs_nothing_in_the_end() {
    let cases = striking().map(|entry| {
        let mut world = small();
        let struck = struck(entry.target);
        // The others are the next test's.
        world
            .streams
            .retain(|endpoint| struck.contains(&endpoint.stream));
        lasts(world, entry, When::First)
    });
    each(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_begins_to_last_has_its_fate_and_costs_nothing_in_the_end() {
    let healthy = healthy().await;
    let cases = striking().filter(|entry| !is_window(entry.target));
    let cases = cases.map(|entry| {
        let world = healthy.branch();
        world.pass(24 * 60);
        lasts(world, entry, When::Later)
    });
    each(cases).await;
}
