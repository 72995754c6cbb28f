//! The process is stopped at every point at which it keeps something, and every call to storage and
//! sink fails once: nothing is lost, and only what the invariant allows comes twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sentinel_connector::{
    error::Kind,
    pipeline::{Outcome, Parts},
};

use crate::{
    interrupt::{Call, Interrupt, Moment, Trouble},
    world::{CLOUD_OFFICE, DETECTIONS, INCIDENTS, START, World, at, each},
};

/// A world whose first day holds a record that is too long for its column.
const SEED: u64 = 16;

/// Small pages, a long record to keep, something to bury, and several batches.
fn eventful() -> World {
    let mut world = World::with(|options| {
        options.scale = 0.03;
        options.seed = SEED;
    });
    world.step = Some(Duration::from_hours(6));
    for target in ["eset.detections.window", "eset.cloud-office.window"] {
        world.inject(&format!("{target}:page-size=8x*"));
        world.inject(&format!("{target}:bad-record@2"));
    }
    world
}

/// What a world does until it is up to date, with all calls counted.
async fn calls_of(world: &mut World) -> Vec<(Call, u64)> {
    let interrupt = Interrupt::none();
    let parts = interrupt.wrap(world.parts());
    for report in world.run_with(&parts).await {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    }
    Call::ALL.map(|call| (call, interrupt.seen(call))).into()
}

/// Runs all streams until one stops in the middle, or all are through. True when one has stopped.
async fn run_until_stopped(world: &mut World, parts: &Parts, interrupt: &Interrupt) -> bool {
    tokio::select! {
        biased;
        () = interrupt.stopped() => true,
        _ = world.run_with(parts) => false,
    }
}

async fn stopped(mut world: World, call: Call, number: u64, moment: Moment) {
    let context = format!("stopped {moment:?} {call:?} {number}");
    let interrupt = Interrupt::new(call, number, Trouble::Stop(moment));
    let parts = interrupt.wrap(world.parts());
    let was_stopped = run_until_stopped(&mut world, &parts, &interrupt).await;
    // How many moves one save holds depends on how fast reader and writer are.
    assert!(was_stopped || number > 6, "{context}");
    drop(parts);
    world.simulator.heal();
    world.pass(5);
    world.run_until_done().await;
    // A batch that was pushed is remembered afterwards: in between its rows may come again. What was
    // on its way beside the call that stopped may have come through since then.
    assert_nothing_lost(&world, &interrupt.unremembered(), &context).await;
}

async fn assert_nothing_lost(world: &World, unremembered: &[String], context: &str) {
    for stream in [DETECTIONS, CLOUD_OFFICE, INCIDENTS] {
        let difference = world.difference(stream).await;
        assert!(
            difference.missing.is_empty(),
            "{context}: {stream}: {difference:?}"
        );
        // The record without a name, which a fault has added.
        assert!(
            difference.strange.iter().all(|id| id.len() == 16),
            "{context}: {difference:?}"
        );
        for (id, times) in &difference.repeated {
            let id = id.split(' ').next().unwrap();
            assert!(
                *times == 2,
                "{context}: {stream}: {id} landed {times} times"
            );
            assert!(
                unremembered.iter().any(|known| known == id),
                "{context}: {stream}: {id} was remembered and landed twice"
            );
        }
    }
}

async fn failed(mut world: World, call: Call, number: u64, trouble: Trouble) {
    let context = format!("{trouble:?} at {call:?} {number}");
    let interrupt = Interrupt::new(call, number, trouble);
    let parts = interrupt.wrap(world.parts());
    let reports = world.run_with(&parts).await;
    if !interrupt.is_reached() {
        assert!(number > 6, "{context}");
        return;
    }
    let failed = reports
        .iter()
        .filter(|report| report.outcome == Outcome::Failed);
    let failed: Vec<_> = failed.collect();
    // The lander pushes again by itself, and a health row is not worth an error.
    if call != Call::Push {
        assert_eq!(failed.len(), 1, "{context}: {reports:?}");
        assert_eq!(failed[0].error_kind, Some(Kind::Transient), "{context}");
    }
    drop(parts);
    world.simulator.heal();
    world.pass(5);
    world.run_until_done().await;
    assert_nothing_lost(&world, &interrupt.unremembered(), &context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_stopped_anywhere_loses_nothing_and_repeats_only_what_was_not_remembered()
{
    let calls = calls_of(&mut eventful()).await;
    for (call, times) in &calls {
        assert!(*times > 0, "{call:?} never happens in this world");
    }
    let cases = calls.into_iter().flat_map(|(call, times)| {
        (1..=times).flat_map(move |number| {
            [Moment::Before, Moment::After]
                .map(|moment| Box::pin(stopped(eventful(), call, number, moment)))
        })
    });
    Box::pin(each(cases)).await;
}

/// Azure ends what runs by force at each change of an app setting (docs/contracts/azure.md, Custom handlers), and the next process
/// reads in other steps: once in the middle of each kind of call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_is_changed_while_streams_run_costs_a_repeat_at_most() {
    let calls = calls_of(&mut eventful()).await;
    let cases = calls.into_iter().flat_map(|(call, times)| {
        // Before the first call is done, and after one in the middle.
        let middle = times.div_ceil(2).min(6);
        [(1, Moment::Before), (middle, Moment::After)].map(|(number, moment)| async move {
            let mut world = eventful();
            let context = format!("a setting changed {moment:?} {call:?} {number}");
            let interrupt = Interrupt::new(call, number, Trouble::Stop(moment));
            let parts = interrupt.wrap(world.parts());
            assert!(
                run_until_stopped(&mut world, &parts, &interrupt).await,
                "{context}"
            );
            drop(parts);
            let before = world.step.replace(Duration::from_mins(150));
            assert_ne!(before, world.step, "{context}");
            world.simulator.heal();
            world.pass(5);
            world.run_until_done().await;
            assert_nothing_lost(&world, &interrupt.unremembered(), &context).await;
        })
    });
    Box::pin(each(cases)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_once_fails_the_run_and_the_next_one_is_complete() {
    let calls = calls_of(&mut eventful()).await;
    let cases = calls.into_iter().flat_map(|(call, times)| {
        (1..=times).flat_map(move |number| {
            let troubles = [
                Trouble::Transient(Moment::Before),
                Trouble::Transient(Moment::After),
            ];
            troubles.map(|trouble| Box::pin(failed(eventful(), call, number, trouble)))
        })
    });
    Box::pin(each(cases)).await;
}

/// Somebody else has saved: whatever this run still does, it may not save, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_fails_the_run_or_finds_it_busy_and_the_next_one_is_complete() {
    let saves = calls_of(&mut eventful()).await;
    let saves = saves
        .iter()
        .find(|(call, _)| *call == Call::Save)
        .unwrap()
        .1;
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)].map(Arc::new);
    let cases = (1..=saves).map(|number| {
        let [taken_anew, failed] = counts.clone();
        async move {
            let mut world = eventful();
            let context = format!("conflict at save {number}");
            let interrupt = Interrupt::new(Call::Save, number, Trouble::Conflict);
            let parts = interrupt.wrap(world.parts());
            let reports = world.run_with(&parts).await;
            if !interrupt.is_reached() {
                assert!(number > 6, "{context}");
                return;
            }
            let hit: Vec<_> = reports
                .iter()
                .filter(|report| report.outcome != Outcome::UpToDate)
                .collect();
            match hit[..] {
                // Whoever meets a conflict when it takes a stream reads anew who holds it: nobody did.
                [] => drop(taken_anew.fetch_add(1, Ordering::Relaxed)),
                [hit] if hit.outcome == Outcome::Busy => {
                    assert_eq!(hit.counts.pulled, 0, "{context}");
                }
                [hit] => {
                    assert_eq!(hit.error_kind, Some(Kind::Transient), "{context}");
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                _ => panic!("{context}: {reports:?}"),
            }
            drop(parts);
            world.simulator.heal();
            world.pass(5);
            world.run_until_done().await;
            assert_nothing_lost(&world, &[], &context).await;
        }
    });
    Box::pin(each(cases)).await;
    // The first save of a world takes its first stream, and the second one is made while it is held;
    // where those of the others stand depends on how fast reader and writer are, in each world anew.
    let [taken_anew, failed] = counts.map(|count| count.load(Ordering::Relaxed));
    assert!(taken_anew >= 1, "a stream that nobody holds is taken");
    assert!(
        failed >= 1,
        "a conflict while a stream is held fails its run"
    );
}

/// Run after run dies in the middle, each stream in its turn, and still the work gets done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_again_and_again_gets_on() {
    let mut world = eventful();
    let mut died = Vec::new();
    for _ in 0..30 {
        let interrupt = Interrupt::new(Call::Save, 3, Trouble::Stop(Moment::After));
        let parts = interrupt.wrap(world.parts());
        assert!(run_until_stopped(&mut world, &parts, &interrupt).await);
        drop(parts);
        died.push(interrupt);
        world.pass(1);
        world.streams.rotate_left(1);
    }
    for stream in [DETECTIONS, CLOUD_OFFICE, INCIDENTS] {
        let read = world.state(stream).await.complete_until.unwrap();
        assert!(read > at(START), "{stream} has only come to {read}");
    }
    world.simulator.heal();
    world.run_until_done().await;
    let unremembered: Vec<String> = died.iter().flat_map(Interrupt::unremembered).collect();
    assert_nothing_lost(&world, &unremembered, "again and again").await;
}
