//! The faults of ESET once more, with the Azure parts: what fails there must not depend on where
//! rows and state are kept. Of each kind of fault the catalogue's first target is struck; the whole
//! catalogue runs over the embedded parts.

use std::collections::BTreeSet;

use sentinel_connector::simulator::{Entry, Fault, Target};

use super::{Cloud, small};
use crate::world::{each, stream_of};

/// One entry of each kind, those that are about pages on lists that have some.
fn kinds() -> Vec<Entry> {
    let mut known = BTreeSet::new();
    let mut entries = Fault::catalogue();
    entries.retain(|entry| {
        let eset = entry.target.name().starts_with("eset.");
        let looked_up = matches!(entry.target, Target::EsetDetails | Target::EsetDevices);
        eset && !looked_up && known.insert(entry.kind)
    });
    assert!(entries.len() > 25, "{}", entries.len());
    entries
}

/// Struck in a first run, and again for the whole of a later one.
async fn costs_nothing(entry: Entry) {
    let mut cloud = Cloud::new(small);
    let target = entry.target.name();
    let fault = format!("{target}:{}", entry.kind);
    if stream_of(entry.target).is_some() {
        cloud.world.inject(&format!("{target}:page-size=5x*"));
    }
    cloud.world.inject(&fault);
    cloud.run().await;
    cloud.drain().await;
    cloud.world.pass(120);
    cloud.world.inject(&format!("{fault}x*"));
    cloud.run().await;
    cloud.world.simulator.heal();
    cloud.world.pass(5);
    cloud.run_until_done().await;

    for stream in cloud.streams() {
        let (must, may) = cloud.world.expected(stream);
        let landed = cloud.landed(stream);
        let missing: Vec<_> = must
            .iter()
            .filter(|name| !landed.contains_key(*name))
            .collect();
        assert!(missing.is_empty(), "{fault}: {stream} lacks {missing:?}");
        // What a fault adds itself has a name of its own.
        let adds = ["late", "bad-record", "duplicate"];
        let adds = adds.iter().any(|kind| entry.kind.starts_with(kind));
        for (name, times) in landed {
            assert_eq!(times, 1, "{fault}: {name}");
            assert!(adds || may.contains(&name), "{fault}: {stream} has {name}");
        }
    }
    cloud.assert_accounts(&fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_fault_costs_nothing_with_the_azure_parts_either() {
    each(kinds().into_iter().map(costs_nothing)).await;
}
