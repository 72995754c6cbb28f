//! Clocks that differ by hours: ours from everybody else's.

use chrono::TimeDelta;
use sentinel_connector::pipeline::Outcome;

use super::{Cloud, small};

/// Half a day with a clock that is wrong, and another after somebody has corrected it.
async fn wrong_for_half_a_day(ahead: TimeDelta, from_the_beginning: bool) {
    let context = format!("ahead by {ahead}, from the beginning: {from_the_beginning}");
    let mut cloud = Cloud::in_memory(|options| options.scale = 0.2);
    if from_the_beginning {
        // What a first run has to reach back to.
        cloud.world.set_ahead(ahead);
    } else {
        cloud.run_until_done().await;
        cloud.world.set_ahead(ahead);
    }
    for _ in 0..24 {
        for report in cloud.run().await {
            assert_ne!(report.outcome, Outcome::Failed, "{context}: {report:?}");
        }
        cloud.drain().await;
        cloud.world.pass(30);
    }
    cloud.world.set_ahead(TimeDelta::zero());
    for _ in 0..24 {
        for report in cloud.run().await {
            assert_ne!(report.outcome, Outcome::Failed, "{context}: {report:?}");
        }
        cloud.world.pass(30);
    }
    cloud.run_until_done().await;
    if !from_the_beginning {
        cloud.assert_complete(&context).await;
        return;
    }
    // The history begins earlier by as much.
    for stream in cloud.streams() {
        let landed = cloud.landed(stream);
        let (must, _) = cloud.world.expected(stream);
        let missing: Vec<_> = must
            .iter()
            .filter(|name| !landed.contains_key(*name))
            .collect();
        assert!(missing.is_empty(), "{context}: {stream} lacks {missing:?}");
        assert!(
            landed.values().all(|times| *times == 1),
            "{context}: {stream}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_by_hours_loses_nothing() {
    wrong_for_half_a_day(TimeDelta::hours(3), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_behind_by_hours_loses_nothing() {
    wrong_for_half_a_day(TimeDelta::hours(-3), false).await;
    wrong_for_half_a_day(TimeDelta::hours(-3), true).await;
}

/// Whoever is right: a token that is refused is replaced, and one that we take for good too long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_changes_in_the_middle_of_a_day_costs_tokens_only() {
    let mut cloud = Cloud::in_memory(small);
    for ahead in [0, 30, -30, 26, 0] {
        cloud.world.set_ahead(TimeDelta::hours(ahead));
        for report in cloud.run().await {
            assert_ne!(report.outcome, Outcome::Failed, "{ahead}: {report:?}");
        }
        cloud.world.pass(60);
    }
    cloud.run_until_done().await;
    cloud.world.pass(31 * 60);
    cloud.run_until_done().await;
    cloud.assert_complete("clocks").await;
}
