//! The Azure parts end to end: simulated ESET with its password in the simulated vault, outbox and
//! state in the storage emulator, and the simulated Logs Ingestion API behind a simulated Entra, in
//! virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sentinel_connector::{
    core::mapping::columns,
    io::token::{Credential, Proof, Registration, SharedTokens, TokenCache},
    outbox_drain,
    pipeline::{Counts, Outcome, Parts, Report, health},
    secret::{SharedSecrets, key_vault::KeyVault, password},
    simulator::{Options, STREAM, STREAM_INCIDENTS},
    sink::logs_ingestion::{LogsIngestion, Places, Target},
    storage::{SharedStorage, memory::MemoryStorage},
};
use serde_json::{Map, Value};

use crate::{
    azurite::Azurite,
    identity::SCOPE,
    world::{INCIDENTS, World},
};

mod calls;
mod catalogue;
mod crash;
mod day;
mod drain;
mod faults;
mod lease;
mod outage;
mod served;
mod skew;
mod storm;

/// A simulated company whose rows go to the simulated service.
struct Cloud {
    world: World,
    storage: SharedStorage,
    tokens: SharedTokens,
    outbox_max: u64,
    /// The tables that the sink has a place for.
    tables: Vec<String>,
    /// All drains that ran to their end.
    drains: Vec<Report>,
}

impl Cloud {
    /// State in the emulator, in an account of its own.
    fn new(change: impl FnOnce(&mut Options)) -> Self {
        let [storage, _] = Azurite::shared().storage();
        Self::over(Arc::new(storage), change)
    }

    /// State in memory, for tests that need many worlds.
    fn in_memory(change: impl FnOnce(&mut Options)) -> Self {
        Self::over(Arc::new(MemoryStorage::new()), change)
    }

    fn over(storage: SharedStorage, change: impl FnOnce(&mut Options)) -> Self {
        let mut world = World::with(change);
        let options = world.simulator.options();
        let registration = Registration {
            authority: "https://login.example".to_owned(),
            tenant_id: options.tenant_id.clone(),
            client_id: options.client_id.clone(),
            proof: Proof::Secret(options.client_secret.clone().into()),
        };
        let credential = Credential::Registration(registration);
        let tokens: SharedTokens = TokenCache::new(credential, world.wire());
        let url = "https://contoso.vault.azure.net";
        let vault: SharedSecrets = Arc::new(KeyVault::new(url, Arc::clone(&tokens), world.wire()));
        world.password = password(&vault, "eset-password", "ESET_PASSWORD");
        Self {
            world,
            storage,
            tokens,
            outbox_max: 1 << 30,
            tables: Self::tables(),
            drains: Vec::new(),
        }
    }

    /// All tables.
    fn tables() -> Vec<String> {
        columns::TABLES.map(|table| table.name.to_owned()).into()
    }

    /// What a new process of the app works with.
    fn parts(&self) -> Parts {
        let dcr = &self.world.simulator.options().dcr;
        let target = |stream: &str| Target {
            endpoint: "https://sim".to_owned(),
            dcr: dcr.clone(),
            stream: stream.to_owned(),
        };
        let mut tables = BTreeMap::from([
            (columns::DETECTIONS.name.to_owned(), target(STREAM)),
            (columns::INCIDENTS.name.to_owned(), target(STREAM_INCIDENTS)),
        ]);
        tables.retain(|table, _| self.tables.contains(table));
        let places = Places {
            scope: SCOPE.to_owned(),
            tables,
        };
        Parts {
            storage: Arc::clone(&self.storage),
            sink: Arc::new(LogsIngestion::new(
                places,
                Arc::clone(&self.tokens),
                self.world.wire(),
            )),
            outbox_max: self.outbox_max,
            ..self.world.parts()
        }
    }

    async fn run(&mut self) -> Vec<Report> {
        let parts = self.parts();
        self.world.run_with(&parts).await
    }

    async fn drain(&mut self) -> Report {
        let report = outbox_drain::drain(&self.parts(), false, &self.world.limits()).await;
        assert!(report.counts.balance(), "{report:?}");
        self.drains.push(report.clone());
        report
    }

    /// Timers until every stream is up to date and nothing waits: at most two hours of them.
    async fn run_until_done(&mut self) {
        let mut reports = Vec::new();
        for _ in 0..24 {
            reports = self.run().await;
            reports.push(self.drain().await);
            let (waiting, _) = self.storage.outbox_size().await.unwrap();
            let done = |report: &Report| report.outcome == Outcome::UpToDate;
            if waiting == 0 && reports.iter().all(done) {
                return;
            }
            self.world.pass(5);
        }
        panic!("never up to date: {reports:#?}");
    }

    /// The rows that the service has taken of ESET's records, table by table, oldest first.
    fn rows(&self) -> Vec<Map<String, Value>> {
        let received = self.world.simulator.received();
        let rows = received.into_values().flat_map(|received| received.rows);
        rows.filter(|row| row["providerName"] == "ESET").collect()
    }

    /// How often each record of a stream has landed, named as the world names it.
    fn landed(&self, stream: &str) -> BTreeMap<String, u64> {
        let mut landed = BTreeMap::new();
        for row in self.rows().iter().filter(|row| row["streamName"] == stream) {
            *landed.entry(name_of(stream, row)).or_default() += 1;
        }
        landed
    }

    /// What the health rows say that the service has taken, each the report of a run.
    fn health(&self) -> Vec<Value> {
        let received = self.world.simulator.received();
        let rows = received.into_values().flat_map(|received| received.rows);
        rows.filter(|row| row["streamName"] == health::STREAM)
            .map(|row| row["additionalFields"]["run"].clone())
            .collect()
    }

    fn streams(&self) -> Vec<&'static str> {
        let endpoints = self.world.streams.iter();
        endpoints.map(|endpoint| endpoint.stream).collect()
    }

    /// All that the world knows has landed but `dead`, and nothing that it doesn't know.
    fn assert_nothing_lost(&self, dead: &BTreeSet<String>, context: &str) {
        for stream in self.streams() {
            let (must, may) = self.world.expected(stream);
            let landed: BTreeSet<String> = self.landed(stream).into_keys().collect();
            let settled: BTreeSet<String> = landed.union(dead).cloned().collect();
            let missing: Vec<_> = must.difference(&settled).collect();
            assert!(missing.is_empty(), "{context}: {stream} lacks {missing:?}");
            let strange: Vec<_> = landed.difference(&may).collect();
            assert!(strange.is_empty(), "{context}: {stream} has {strange:?}");
            assert!(!landed.is_empty(), "{context}: {stream}");
        }
    }

    /// The service has what the world knows, each record once, and the reports say so.
    async fn assert_complete(&self, context: &str) {
        self.assert_nothing_lost(&BTreeSet::new(), context);
        for stream in self.streams() {
            let mut landed = self.landed(stream);
            landed.retain(|_, times| *times > 1);
            assert!(landed.is_empty(), "{context}: {stream} repeats {landed:?}");
        }
        self.assert_accounts(context).await;
    }

    /// What the reports have counted is what the service and the storage hold.
    async fn assert_accounts(&self, context: &str) {
        let pulls = total(&self.world.reports);
        let drains = total(&self.drains);
        let rows = self.rows().len() as u64;
        assert_eq!(pulls.landed + drains.landed, rows, "{context}");
        let parked = self.storage.parked(10_000).await.unwrap();
        let records = parked.iter();
        let records = records.filter(|entry| entry.key.stream != health::STREAM);
        let waiting: u64 = records.map(|entry| entry.rows).sum();
        let drained = drains.landed + drains.dead;
        assert_eq!(pulls.waiting, drained + waiting, "{context}");
        let letters = self.storage.count_dead_letters().await.unwrap();
        assert_eq!(pulls.dead + drains.dead, letters, "{context}");
    }
}

fn total(reports: &[Report]) -> Counts {
    let mut total = Counts::default();
    for Report { counts, .. } in reports {
        total.landed += counts.landed;
        total.waiting += counts.waiting;
        total.dead += counts.dead;
    }
    total
}

/// The name of a row's record; of an incident each version is one.
fn name_of(stream: &str, row: &Map<String, Value>) -> String {
    let text = |column: &str| row[column].as_str().unwrap().to_owned();
    if stream == INCIDENTS {
        format!("{} {}", text("recordId"), text("recordVersion"))
    } else {
        text("recordId")
    }
}

fn small(options: &mut Options) {
    options.scale = 0.05;
}
