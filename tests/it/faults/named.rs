//! Faults whose consequences have a name: gaps, dead letters, a wrong password.

use sentinel_connector::{
    core::position::dedupe::{BUCKET_SECONDS, generations, sets},
    error::Kind,
    pipeline::Outcome,
    simulator::Target,
};

use super::{healthy, small};
use crate::world::{CLOUD_OFFICE, DETECTIONS, INCIDENTS, told};

#[tokio::test]
async fn a_refused_token_that_was_in_use_leaves_a_gap_from_the_last_good_time() {
    let mut world = healthy().await;
    world.pass(120);
    world.run_until_done().await;
    let good = world.state(DETECTIONS).await.complete_until.unwrap();
    world.pass(60);
    world.inject("eset.detections:expired-delta");
    let reports = world.run().await;
    assert_eq!(reports[0].outcome, Outcome::UpToDate, "{}", told(&reports));
    let [gap] = reports[0].gaps.as_slice() else {
        panic!("{:?}", reports[0].gaps);
    };
    assert_eq!(gap.from, good);
    assert!(gap.to > gap.from && gap.to <= world.looks[DETECTIONS].last().unwrap().ended);
    assert!(gap.why.contains("delta token"), "{}", gap.why);
    assert!(reports[1].gaps.is_empty() && reports[2].gaps.is_empty());
    // It stays known.
    world.pass(5);
    assert_eq!(
        world.run().await[0].gaps.as_slice(),
        std::slice::from_ref(gap)
    );
    world.assert_complete("gap").await;
}

/// Its history was read by window a moment ago: what could be missing is a moment long.
#[tokio::test]
async fn a_token_that_is_refused_at_its_first_use_leaves_no_gap_longer_than_the_run() {
    let mut world = small();
    world.inject("eset.detections:expired-delta");
    let report = world.run().await.remove(0);
    assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    let look = &world.looks[DETECTIONS][0];
    for gap in &report.gaps {
        let within = look.began <= gap.from && gap.to <= look.ended;
        assert!(within, "{gap:?} reaches beyond {look:?}");
    }
    world.pass(60);
    world.run_until_done().await;
    world.assert_complete("unused token").await;
}

#[tokio::test]
async fn a_wrong_password_is_the_operators_to_mend_and_is_tried_once_in_a_run() {
    let mut world = small();
    world.password = "wrong".to_owned().into();
    for report in world.run().await {
        assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
        assert_eq!(report.error_kind, Some(Kind::Config), "{report:?}");
        let reason = report.reason.unwrap();
        assert!(
            reason.contains("password") && reason.contains("eset login"),
            "{reason}"
        );
    }
    assert_eq!(
        world.answered(Target::EsetToken, 400),
        1,
        "a wrong password may lock the account"
    );
    world.password = world.simulator.options().password.clone().into();
    world.run_until_done().await;
    world.assert_complete("password mended").await;
}

#[tokio::test]
async fn a_forbidden_stream_names_itself_and_the_others_go_on() {
    let mut world = healthy().await;
    world.pass(60);
    world.inject("eset.cloud-office:403x*");
    let reports = world.run().await;
    assert_eq!(reports[0].outcome, Outcome::UpToDate, "{}", told(&reports));
    assert_eq!(reports[2].outcome, Outcome::UpToDate, "{}", told(&reports));
    assert_eq!(reports[1].error_kind, Some(Kind::Config));
    assert!(reports[1].reason.as_deref().unwrap().contains(CLOUD_OFFICE));
    assert_eq!(
        world.answered(Target::EsetCloudOffice, 403),
        1,
        "it was asked again"
    );
    world
        .assert_stream_complete(DETECTIONS, "beside a forbidden one")
        .await;
    world
        .assert_stream_complete(INCIDENTS, "beside a forbidden one")
        .await;
}

/// The history waits for the windows; what is new comes by the feed.
#[tokio::test]
async fn a_feed_that_works_beside_windows_that_are_not_offered_is_read() {
    let mut world = small();
    world
        .streams
        .retain(|endpoint| endpoint.stream == DETECTIONS);
    world.inject("eset.detections.window:501x*");
    let began = world.now();
    world.run().await;
    world.pass(12 * 60);
    let report = world.run().await.remove(0);
    assert_eq!(report.outcome, Outcome::Behind, "{report:?}");
    assert!(report.counts.landed > 0, "{report:?}");
    let state = world.state(DETECTIONS).await;
    assert!(state.off.is_none() && state.gaps.is_empty(), "{state:?}");
    // A lookback does not reach what is still to be read.
    assert!(
        state.complete_until.is_none_or(|good| good <= began),
        "{state:?}"
    );

    // The token is refused before the windows are back: the history is still to be read.
    world.inject("eset.detections:expired-delta");
    world.pass(60);
    world.run().await;
    world.simulator.heal();
    world.run_until_done().await;
    world.assert_complete("windows are back").await;
}

#[tokio::test]
async fn what_has_no_time_is_known_again_for_a_month_and_then_forgotten() {
    let mut world = small();
    world
        .streams
        .retain(|endpoint| endpoint.stream == DETECTIONS);
    world.inject("eset.detections:no-deltax*");
    world.inject("eset.detections.window:bad-recordx*");
    let [_, undated] = sets("default", world.streams[0].fingerprints);
    let storage = world.storage();
    let kept = async |generation| {
        storage
            .fingerprints(&undated, generation)
            .await
            .unwrap()
            .len()
    };
    let [first, _] = generations(world.now());
    for _ in 0..3 {
        let report = world.run().await.remove(0);
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        world.pass(60);
    }
    assert_eq!(kept(first).await, 1);
    let letters = storage.count_dead_letters().await.unwrap();
    assert_eq!(letters, 1, "the same bytes again");
    assert!(world.reports[1].counts.duplicate > 0);

    // Within the next generation it is known still; the one after that drops it.
    for generation in [1, 2] {
        world.pass(30 * 24 * 60);
        world.run_until_done().await;
        let [current, _] = generations(world.now());
        let buckets = 30 * 24 * 60 * 60 / BUCKET_SECONDS;
        assert_eq!(current, first + generation * buckets);
        let known = generation == 1;
        let dead = world.reports.iter().map(|report| report.counts.dead);
        assert_eq!(dead.sum::<u64>(), if known { 1 } else { 2 });
        assert_eq!(kept(first).await, usize::from(known));
    }
}

/// The same bytes, from two streams: a letter for each, with the stream that they came from.
#[tokio::test]
async fn bad_records_of_two_streams_are_two_letters() {
    let mut world = small();
    world.inject("eset.detections.window:bad-record");
    world.inject("eset.incidents:bad-record");
    world.run_until_done().await;
    let rows = world
        .rows("SELECT stream, CAST(body AS TEXT) FROM connector_dead_letters ORDER BY stream")
        .await;
    let letter = |stream: &str| vec![Some(stream.to_owned()), Some("7".to_owned())];
    assert_eq!(rows, [letter(DETECTIONS), letter(INCIDENTS)]);
    world.assert_accounts("two letters").await;
}
