//! Two runs at once over one folder: one works, the other one is out of its way.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_connector::{
    error::Kind,
    io::http::{Request, Response, Transport, TransportError},
    pipeline::{self, Job, Outcome, Parts, Report},
};

use crate::{
    interrupt::{Call, Interrupt, Moment, Trouble},
    world::{DETECTIONS, World},
};

fn world() -> World {
    let mut world = World::with(|options| options.scale = 0.06);
    world
        .streams
        .retain(|endpoint| endpoint.stream == DETECTIONS);
    // The runs of these tests are begun by hand, the first one at once.
    world.looks_from_now(DETECTIONS);
    world
}

/// A run that is held in the middle of a call, until it is told to go on.
struct Held {
    interrupt: Interrupt,
    run: tokio::task::JoinHandle<Report>,
}

impl Held {
    async fn begin(world: &World, parts: Parts, call: Call, number: u64, moment: Moment) -> Self {
        let interrupt = Interrupt::new(call, number, Trouble::Hold(moment));
        let parts = interrupt.wrap(parts);
        let (job, limits) = (job(world), world.limits());
        let run = tokio::spawn(async move { pipeline::run(&job, &parts, &limits).await });
        interrupt.stopped().await;
        Self { interrupt, run }
    }

    async fn end(self) -> (Report, Vec<String>) {
        self.interrupt.go_on();
        let report = self.run.await.unwrap();
        assert!(report.counts.balance(), "{report:?}");
        (report, self.interrupt.unremembered())
    }
}

fn job(world: &World) -> Job {
    world.jobs().remove(0)
}

/// The second run has no reason to ask anybody anything.
struct NobodyAsks;

#[async_trait]
impl Transport for NobodyAsks {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        panic!("a busy run asked for {}", request.uri().path());
    }
}

/// While one run works, another one finds the stream busy and changes nothing.
async fn one_works(same_process: bool, call: Call, number: u64, moment: Moment) {
    let context = format!("same process: {same_process}, held {moment:?} {call:?} {number}");
    let mut world = world();
    let first = world.parts();
    let second = if same_process {
        first.clone()
    } else {
        world.parts()
    };
    let held = Held::begin(&world, first, call, number, moment).await;
    world.transport = Arc::new(NobodyAsks);
    let report = pipeline::run(&job(&world), &second, &world.limits()).await;
    assert_eq!(report.outcome, Outcome::Busy, "{context}: {report:?}");
    assert_eq!(report.counts.pulled, 0, "{context}");
    assert!(report.reason.is_some(), "{context}");
    world.transport = Arc::new(world.simulator.router());
    // Had the second one saved, this one could not.
    let (report, _) = held.end().await;
    assert_eq!(report.outcome, Outcome::UpToDate, "{context}: {report:?}");
    let health = "SELECT count(*) FROM IntegrationTable_CL WHERE streamName = 'connector.health'";
    assert_eq!(
        world.number(health).await,
        1,
        "{context}: a busy run has no health"
    );
    world.reports.push(report);
    world.pass(5);
    world.run_until_done().await;
    world.assert_complete(&context).await;
}

#[tokio::test]
async fn of_two_runs_at_once_one_works_and_the_other_changes_nothing() {
    for same_process in [false, true] {
        for (call, number, moment) in [
            (Call::Save, 1, Moment::After),
            (Call::Recall, 1, Moment::Before),
            (Call::Push, 1, Moment::Before),
            (Call::Push, 1, Moment::After),
            (Call::Remember, 1, Moment::After),
            (Call::Prune, 1, Moment::Before),
        ] {
            one_works(same_process, call, number, moment).await;
        }
    }
}

/// Between its load and its lease, a run may be overtaken by a whole other one.
#[tokio::test]
async fn a_run_that_is_overtaken_before_its_lease_goes_on_from_where_the_other_one_ended() {
    for moment in [Moment::After, Moment::Before] {
        let mut world = world();
        let (call, number) = match moment {
            Moment::After => (Call::Load, 1),
            Moment::Before => (Call::Save, 1),
        };
        let held = Held::begin(&world, world.parts(), call, number, moment).await;
        world.run_until_done().await;
        let (report, _) = held.end().await;
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        assert_eq!(report.counts.pulled, 0, "{report:?}");
        world.assert_complete("overtaken").await;
    }
}

/// A run that outlives its lease is taken over: it may not save any more, and says so.
#[tokio::test]
async fn an_expired_lease_is_taken_over_and_the_late_run_may_not_save() {
    for (call, moment) in [
        (Call::Recall, Moment::Before),
        (Call::Push, Moment::Before),
        (Call::Push, Moment::After),
        (Call::Remember, Moment::Before),
        (Call::Remember, Moment::After),
    ] {
        let context = format!("held {moment:?} {call:?}");
        let mut world = world();
        let held = Held::begin(&world, world.parts(), call, 1, moment).await;
        // Not yet: the lease outlives the deadline.
        world.pass(4);
        let busy = pipeline::run(&job(&world), &world.parts(), &world.limits()).await;
        assert_eq!(busy.outcome, Outcome::Busy, "{context}: {busy:?}");
        world.pass(1);
        world.run_until_done().await;
        let state = world.state(DETECTIONS).await;
        let (late, _) = held.end().await;
        assert_eq!(late.outcome, Outcome::Failed, "{context}: {late:?}");
        assert_eq!(late.error_kind, Some(Kind::Transient), "{context}");
        let reason = late.reason.unwrap();
        assert!(
            reason.contains("another run took the stream over"),
            "{context}: {reason}"
        );
        assert_eq!(world.state(DETECTIONS).await, state, "{context}");
        world.pass(30);
        world.run_until_done().await;
        let difference = world.difference(DETECTIONS).await;
        assert!(difference.missing.is_empty(), "{context}: {difference:?}");
        assert!(difference.strange.is_empty(), "{context}: {difference:?}");
        for (id, times) in &difference.repeated {
            assert_eq!(*times, 2, "{context}: {id}");
        }
        if call == Call::Remember && moment == Moment::After {
            assert!(difference.repeated.is_empty(), "{context}: {difference:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_always_run_together_land_each_record_once() {
    let mut world = world();
    for _ in 0..8 {
        let (one, two) = (world.parts(), world.parts());
        let (job_one, job_two) = (job(&world), job(&world));
        let limits = world.limits();
        let (one, two) = tokio::join!(
            pipeline::run(&job_one, &one, &limits),
            pipeline::run(&job_two, &two, &limits),
        );
        for report in [one, two] {
            let well = matches!(report.outcome, Outcome::UpToDate | Outcome::Busy);
            assert!(well, "{report:?}");
            world.reports.push(report);
        }
        world.pass(30);
    }
    world.run_until_done().await;
    world.assert_complete("together").await;
}
