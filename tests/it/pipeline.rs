//! Runs end to end: simulator, pipeline, embedded file.

use sentinel_connector::pipeline::Outcome;

use crate::world::World;

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
}
