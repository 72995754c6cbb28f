//! Every fault of the catalogue that strikes ESET: whatever happens, in the end the tables hold what
//! the world knows, and the reports have counted it.

use sentinel_connector::{
    pipeline::Outcome,
    simulator::{Entry, Fault, Target},
};

use crate::world::{CLOUD_OFFICE, DETECTIONS, INCIDENTS, World, each, stream_of, told};

mod lasting;
mod look_ups;
mod named;

/// A company so small that hundreds of them can be run, but with an incident now and then.
fn small() -> World {
    World::with(|options| options.scale = 0.05)
}

/// The same after a healthy run of all streams.
async fn healthy() -> World {
    let mut world = small();
    let reports = world.run().await;
    for report in &reports {
        assert_eq!(report.outcome, Outcome::UpToDate, "{}", told(&reports));
    }
    world
}

/// The streams that a fault of this target can strike.
fn struck(target: Target) -> Vec<&'static str> {
    match target {
        Target::EsetToken => vec![DETECTIONS, CLOUD_OFFICE, INCIDENTS],
        Target::EsetIncidentsGet => vec![INCIDENTS],
        Target::EsetDetails | Target::EsetDevices => Vec::new(),
        target => vec![stream_of(target).unwrap()],
    }
}

/// A kind without the example of its value.
fn name(entry: &Entry) -> &'static str {
    entry.kind.split('=').next().unwrap()
}

/// Windows are only asked for when there is no token.
fn is_window(target: Target) -> bool {
    matches!(
        target,
        Target::EsetDetectionsWindow | Target::EsetCloudOfficeWindow
    )
}

/// The faults that strike a stream. What becomes of look-ups is tested with them.
fn striking() -> impl Iterator<Item = Entry> {
    let catalogue = eset_catalogue().into_iter();
    catalogue.filter(|entry| !struck(entry.target).is_empty())
}

fn eset_catalogue() -> Vec<Entry> {
    let mut entries = Fault::catalogue();
    entries.retain(|entry| entry.target.name().starts_with("eset."));
    assert!(entries.len() > 200, "{}", entries.len());
    entries
}

/// Some faults only strike a page that is not the first, so all lists are cut into small ones.
fn inject(world: &World, entry: &Entry, often: &str) -> String {
    if stream_of(entry.target).is_some() {
        let size = if entry.target == Target::EsetIncidents {
            2
        } else {
            5
        };
        world.inject(&format!("{}:page-size={size}x*", entry.target.name()));
    }
    let fault = format!("{}:{}{often}", entry.target.name(), entry.kind);
    world.inject(&fault);
    fault
}

/// The tables hold what the world knows, and what the fault itself has added.
async fn assert_complete_but_for(world: &World, entry: &Entry, fault: &str) {
    for endpoint in &world.streams {
        let stream = endpoint.stream;
        if stream_of(entry.target) != Some(stream) {
            world.assert_stream_complete(stream, fault).await;
            continue;
        }
        let difference = world.difference(stream).await;
        assert!(difference.missing.is_empty(), "{fault}: {difference:?}");
        assert!(difference.repeated.is_empty(), "{fault}: {difference:?}");
        let added = |id: &&String| match name(entry) {
            "late" => world.is_late(stream, id),
            // A record without a name is known by its content.
            "bad-record" => id.split(' ').next().is_some_and(|id| id.len() == 16),
            _ => false,
        };
        let explained = difference.strange.iter().filter(added).count();
        let strange = difference.strange.len();
        assert_eq!(explained, strange, "{fault}: {difference:?}");
    }
    world.assert_accounts(fault).await;
}

/// What a fault adds is there.
async fn assert_played(world: &World, entry: &Entry, fault: &str) {
    let adds = matches!(name(entry), "late" | "bad-record") && world.was_served(entry.target);
    if let (true, Some(stream)) = (adds, stream_of(entry.target)) {
        let difference = world.difference(stream).await;
        assert!(!difference.strange.is_empty(), "{fault}");
    }
}

/// Under the fault until all is well again, where only the streams that it strikes matter.
async fn heals(mut world: World, entry: Entry, often: &str) {
    let struck = struck(entry.target);
    world
        .streams
        .retain(|endpoint| struck.contains(&endpoint.stream));
    let fault = inject(&world, &entry, often);
    world.run_until_done().await;
    assert_complete_but_for(&world, &entry, &fault).await;
    assert_played(&world, &entry, &fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_the_first_run_costs_nothing() {
    each(striking().map(|entry| heals(small(), entry, ""))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_on_a_later_page_of_the_first_run_costs_nothing() {
    let lists = striking().filter(|entry| stream_of(entry.target).is_some());
    each(lists.map(|entry| heals(small(), entry, "@2"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_after_a_healthy_run_costs_nothing() {
    let healthy = healthy().await;
    for often in ["", "x3"] {
        let cases = striking().filter(|entry| !is_window(entry.target));
        let cases = cases.map(|entry| {
            let world = healthy.branch();
            world.pass(24 * 60);
            heals(world, entry, often)
        });
        each(cases).await;
    }
}
