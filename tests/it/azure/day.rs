//! Healthy days.

use sentinel_connector::{pipeline::Outcome, simulator::Target};

use super::Cloud;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_timers_lands_each_record_once_in_the_cloud() {
    let mut cloud = Cloud::new(|_| {});
    for hour in 0..25 {
        for report in cloud.run().await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{hour}: {report:?}");
            assert_eq!(report.counts.waiting, 0, "{report:?}");
        }
        let drained = cloud.drain().await;
        assert_eq!(drained.outcome, Outcome::UpToDate, "{drained:?}");
        assert_eq!(drained.pages, 0, "{drained:?}");
        cloud.world.pass(60);
    }
    cloud.assert_complete("a day").await;
    // A token of an hour is asked for once an hour, not once a push, for each of two services.
    let logins = cloud.world.answered(Target::EntraToken, 200);
    assert!((40..=60).contains(&logins), "{logins}");
}
