//! The process is stopped at every point at which it puts something into the outbox or takes it out,
//! and every such call fails once: nothing is lost, and only what was not remembered comes twice.

use std::collections::BTreeSet;

use sentinel_connector::{outbox_drain, pipeline::Outcome, simulator::Options};

use super::Cloud;
use crate::{
    interrupt::{Call, Interrupt, Moment, Trouble},
    world::each,
};

/// What may happen to a call.
const TROUBLES: [Trouble; 4] = [
    Trouble::Stop(Moment::Before),
    Trouble::Stop(Moment::After),
    Trouble::Transient(Moment::Before),
    Trouble::Transient(Moment::After),
];

/// What is kept is kept in memory, for tests that need many worlds, or in the emulator.
#[derive(Debug, Clone, Copy)]
enum Kept {
    InMemory,
    InEmulator,
}

/// Four hours of records, and a sink that is away.
async fn in_outage(kept: Kept, scale: f64) -> Cloud {
    let scaled = |options: &mut Options| options.scale = scale;
    let mut cloud = match kept {
        Kept::InMemory => Cloud::in_memory(scaled),
        Kept::InEmulator => Cloud::new(scaled),
    };
    cloud.run_until_done().await;
    cloud.world.pass(240);
    cloud.world.inject("ingestion:503x*");
    cloud
}

/// Two entries of each stream wait for a sink that is back, and takes a half of one of them.
async fn after_outage(kept: Kept) -> Cloud {
    let mut cloud = in_outage(kept, 0.1).await;
    for _ in 0..2 {
        for report in cloud.run().await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        }
        cloud.world.pass(240);
    }
    cloud.world.simulator.heal();
    let parked = cloud.storage.parked(100).await.unwrap();
    let halved = parked.iter().position(|entry| entry.rows > 3).unwrap() + 1;
    cloud.world.inject(&format!("ingestion:413@{halved}"));
    cloud.world.inject(&format!("ingestion:403@{}", halved + 2));
    cloud
}

/// All that is known has landed, at most twice, and twice only what was pushed or parked and not
/// remembered, under the same name.
async fn assert_bounded(
    mut cloud: Cloud,
    unremembered: impl FnOnce() -> Vec<String>,
    context: &str,
) {
    cloud.world.simulator.heal();
    // Leases end.
    cloud.world.pass(5);
    cloud.run_until_done().await;
    // What was on its way beside the call that stopped may have come through by now.
    let unremembered = unremembered();
    cloud.assert_nothing_lost(&BTreeSet::new(), context);
    assert_eq!(cloud.storage.outbox_size().await.unwrap(), (0, 0));
    for stream in cloud.streams() {
        for (name, times) in cloud.landed(stream) {
            let id = name.split(' ').next().unwrap();
            let may_repeat = unremembered
                .iter()
                .any(|known| *known == id || *known == name);
            let well = times == 1 || times == 2 && may_repeat;
            assert!(well, "{context}: {name} landed {times} times");
        }
    }
}

async fn parking(kept: Kept, call: Call, number: u64, trouble: Trouble) {
    let context = format!("{kept:?}: {trouble:?} at {call:?} {number} of an outage");
    let mut cloud = in_outage(kept, 0.05).await;
    let interrupt = Interrupt::new(call, number, trouble);
    let parts = interrupt.wrap(cloud.parts());
    tokio::select! {
        biased;
        () = interrupt.stopped() => {}
        _ = cloud.world.run_with(&parts) => {}
    }
    assert!(interrupt.is_reached() || number > 6, "{context}");
    drop(parts);
    assert_bounded(cloud, || interrupt.unremembered(), &context).await;
}

async fn draining(kept: Kept, call: Call, number: u64, trouble: Trouble) {
    let context = format!("{kept:?}: {trouble:?} at {call:?} {number} of a drain");
    let cloud = after_outage(kept).await;
    let before = landed(&cloud);
    let interrupt = Interrupt::new(call, number, trouble);
    let parts = interrupt.wrap(cloud.parts());
    let limits = cloud.world.limits();
    tokio::select! {
        biased;
        () = interrupt.stopped() => {}
        report = outbox_drain::drain(&parts, false, &limits) => assert!(report.counts.balance(), "{report:?}"),
    }
    assert!(interrupt.is_reached() || number > 2, "{context}");
    drop(parts);
    // At most what this drain has landed.
    let landed = landed(&cloud);
    let own: Vec<String> = landed.difference(&before).cloned().collect();
    assert_bounded(cloud, || own, &context).await;
}

fn landed(cloud: &Cloud) -> BTreeSet<String> {
    let streams = cloud.streams().into_iter();
    streams
        .flat_map(|stream| cloud.landed(stream).into_keys())
        .collect()
}

fn cases(calls: [(Call, u64); 4]) -> impl Iterator<Item = (Call, u64, Trouble)> {
    calls.into_iter().flat_map(|(call, times)| {
        assert!(times > 0, "{call:?} never happens here");
        (1..=times).flat_map(move |number| TROUBLES.map(|trouble| (call, number, trouble)))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_comes_to_harm_while_it_parks_rows_loses_nothing() {
    let kept = Kept::InMemory;
    let mut cloud = in_outage(kept, 0.05).await;
    let interrupt = Interrupt::none();
    let parts = interrupt.wrap(cloud.parts());
    let reports = cloud.world.run_with(&parts).await;
    assert!(reports.iter().any(|report| report.counts.waiting > 0));
    // Pushes that come to harm are tested without an outage.
    let calls = [Call::Recall, Call::Park, Call::Remember, Call::Save];
    let calls = calls.map(|call| (call, interrupt.seen(call)));
    each(cases(calls).map(|(call, number, trouble)| parking(kept, call, number, trouble))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_comes_to_harm_loses_nothing_and_repeats_what_it_has_landed_at_most() {
    let kept = Kept::InMemory;
    let cloud = after_outage(kept).await;
    let interrupt = Interrupt::none();
    let parts = interrupt.wrap(cloud.parts());
    let limits = cloud.world.limits();
    let report = outbox_drain::drain(&parts, false, &limits).await;
    assert!(report.counts.landed > 0, "{report:?}");
    let calls = [Call::Push, Call::Park, Call::Unpark, Call::Save];
    let calls = calls.map(|call| (call, interrupt.seen(call)));
    each(cases(calls).map(|(call, number, trouble)| draining(kept, call, number, trouble))).await;
}

/// A few of the same with what is kept in the emulator: there a save is a round trip, and the rows of
/// an entry lie apart from its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_over_the_emulator_loses_nothing_either() {
    let kept = Kept::InEmulator;
    let (before, after) = (Trouble::Stop(Moment::Before), Trouble::Stop(Moment::After));
    let parked = [
        (Call::Park, 1, before),
        (Call::Park, 2, after),
        (Call::Remember, 1, after),
        (Call::Save, 2, before),
        (Call::Save, 3, after),
    ];
    let parked = parked.map(|(call, number, trouble)| parking(kept, call, number, trouble));
    Box::pin(each(parked.into_iter())).await;
    let drained = [
        (Call::Push, 2, after),
        (Call::Park, 1, after),
        (Call::Unpark, 1, before),
        (Call::Unpark, 2, after),
        (Call::Save, 2, before),
    ];
    let drained = drained.map(|(call, number, trouble)| draining(kept, call, number, trouble));
    Box::pin(each(drained.into_iter())).await;
}
