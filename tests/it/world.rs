//! One simulated company, one connector, one embedded file: in process and in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    core::{cursor::StreamKey, endpoint::Endpoint},
    embedded::EmbeddedFile,
    io::{
        clock::{Clock, VirtualClock},
        exchange::Limits,
    },
    pipeline::{self, Job, Outcome, Parts, Report},
    simulator::{Fault, Options, Product, Simulator},
    sink::workspace::Workspace,
    source::eset::{self, Account, Connection, Eset, LookUps},
    storage::{SharedStorage, sqlite::SqliteStorage},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// When every simulated world begins.
pub(crate) const START: &str = "2026-03-02T08:00:00Z";

/// How far back a first run reads.
pub(crate) const HISTORY: TimeDelta = TimeDelta::hours(24);

pub(crate) struct World {
    pub(crate) clock: VirtualClock,
    pub(crate) simulator: Simulator,
    pub(crate) folder: TempDir,
    pub(crate) look_ups: LookUps,
    pub(crate) password: String,
    pub(crate) budget: Duration,
    /// When the runs so far began: the instants of which the connector has seen the world.
    pub(crate) looked_at: Vec<DateTime<Utc>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let clock = VirtualClock::new(START.parse().unwrap());
        let mut options = Options::new(7, clock.now());
        // A small company: every test pulls a day of it.
        options.scale = 0.2;
        change(&mut options);
        let password = options.password.clone();
        Self {
            simulator: Simulator::new(options, Arc::new(clock.clone())),
            clock,
            folder: tempfile::tempdir().unwrap(),
            look_ups: LookUps::default(),
            password,
            budget: Duration::from_mins(4),
            looked_at: Vec::new(),
        }
    }

    pub(crate) fn inject(&self, fault: &str) {
        self.simulator.inject(Fault::parse(fault).unwrap());
    }

    pub(crate) fn pass(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(60 * minutes));
    }

    pub(crate) fn file(&self) -> Arc<EmbeddedFile> {
        EmbeddedFile::open(self.folder.path()).unwrap()
    }

    pub(crate) fn parts(&self) -> Parts {
        let file = self.file();
        Parts {
            storage: Arc::new(SqliteStorage::new(Arc::clone(&file)).unwrap()),
            sink: Arc::new(Workspace::new(file).unwrap()),
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(|| 0.5),
            progress: Arc::new(|_| {}),
        }
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        let options = self.simulator.options();
        let account = Account {
            url_template: format!("https://sim/eset/{}/{{domain}}", options.region),
            login: options.login.clone(),
            password: self.password.clone().into(),
            calls_per_second: NonZeroU32::new(9).unwrap(),
            look_ups: self.look_ups,
        };
        let connection = Connection::new(
            account,
            Arc::new(self.simulator.router()),
            Arc::new(self.clock.clone()),
            Arc::new(rand::random::<f64>),
        );
        eset::STREAMS
            .iter()
            .map(|endpoint: &&'static Endpoint| Job {
                key: StreamKey::new("default", endpoint.stream),
                source: Arc::new(Eset::new(Arc::clone(&connection), endpoint)),
                pace: endpoint.pace,
                event_time: false,
                at_once: true,
            })
            .collect()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            deadline: self.clock.now() + self.budget,
            stop: CancellationToken::new(),
        }
    }

    /// All streams once, with parts of their own, as a new process would.
    pub(crate) async fn run(&mut self) -> Vec<Report> {
        let parts = self.parts();
        self.run_with(&parts).await
    }

    pub(crate) async fn run_with(&mut self, parts: &Parts) -> Vec<Report> {
        let mut reports = Vec::new();
        for job in self.jobs() {
            self.looked_at.push(self.clock.now());
            let report = pipeline::run(&job, parts, &self.limits()).await;
            assert!(report.counts.balance(), "{report:?}");
            reports.push(report);
        }
        reports
    }

    /// Runs until every stream is up to date: at most a day of timers.
    pub(crate) async fn run_until_done(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        for _ in 0..20 {
            let round = self.run().await;
            let done = round
                .iter()
                .all(|report| matches!(report.outcome, Outcome::UpToDate | Outcome::Off));
            reports.extend(round);
            if done {
                return reports;
            }
            self.pass(5);
        }
        panic!("never up to date: {:#?}", reports.last());
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let workspace = Workspace::new(self.file()).unwrap();
        workspace.query(sql).await.unwrap().rows
    }

    /// How often each record of a stream has landed.
    pub(crate) async fn landed(&self, stream: &str) -> BTreeMap<String, u64> {
        let table = if stream == "eset.incidents" {
            "IntegrationTableIncidents_CL"
        } else {
            "IntegrationTable_CL"
        };
        let id = if stream == "eset.incidents" {
            "recordId || ' ' || recordVersion"
        } else {
            "recordId"
        };
        self.rows(&format!(
            "SELECT {id}, count(*) FROM {table} WHERE streamName = '{stream}' GROUP BY 1"
        ))
        .await
        .into_iter()
        .map(|row| {
            (
                row[0].clone().unwrap(),
                row[1].as_deref().unwrap().parse().unwrap(),
            )
        })
        .collect()
    }

    /// The detections that the connector must have: the history before the first run, and all that
    /// arrived from then until the last one.
    pub(crate) fn expected_detections(&self, products: &[Product]) -> BTreeSet<String> {
        let (first, last) = (self.looked_at[0], *self.looked_at.last().unwrap());
        let world = self.simulator.world();
        products
            .iter()
            .flat_map(|product| {
                let history = world.detection_ids(*product, first - HISTORY, last, last);
                history
                    .into_iter()
                    .chain(world.arrivals(*product, first, last))
            })
            .collect()
    }

    /// Versions of incidents that must have landed, and those that may have.
    pub(crate) fn expected_incidents(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (first, last) = (self.looked_at[0], *self.looked_at.last().unwrap());
        let world = self.simulator.world();
        let name = |(id, version): (String, String)| format!("{id} {version}");
        let from = first - HISTORY;
        // What the last run asked for ends half a minute before it began.
        let settled = last - TimeDelta::seconds(30);
        let must = world.incident_versions(from, last).into_iter();
        let may = world
            .incident_history(from, last)
            .into_iter()
            .map(name)
            .collect();
        let must = must
            .filter(|(_, version)| version.parse::<DateTime<Utc>>().unwrap() < settled)
            .map(name)
            .collect();
        (must, may)
    }

    /// The tables hold what the world knows: nothing less, nothing more, nothing twice.
    pub(crate) async fn assert_complete(&self, context: &str) {
        let detections = self.landed("eset.detections").await;
        let mail = self.landed("eset.cloud-office").await;
        let incidents = self.landed("eset.incidents").await;
        for (id, times) in detections.iter().chain(&mail).chain(&incidents) {
            assert_eq!(*times, 1, "{context}: {id} landed {times} times");
        }
        let expected = self.expected_detections(&[Product::Protect, Product::Inspect]);
        assert_same(
            &expected,
            &detections,
            &format!("{context}: eset.detections"),
        );
        let expected = self.expected_detections(&[Product::CloudOffice]);
        assert_same(&expected, &mail, &format!("{context}: eset.cloud-office"));
        let (must, may) = self.expected_incidents();
        let landed: BTreeSet<String> = incidents.into_keys().collect();
        let missing: Vec<_> = must.difference(&landed).collect();
        let strange: Vec<_> = landed.difference(&may).collect();
        assert!(
            missing.is_empty(),
            "{context}: incidents missing: {missing:?}"
        );
        assert!(
            strange.is_empty(),
            "{context}: incidents of no world: {strange:?}"
        );
    }

    pub(crate) fn storage(&self) -> SharedStorage {
        self.parts().storage
    }
}

fn assert_same(expected: &BTreeSet<String>, landed: &BTreeMap<String, u64>, context: &str) {
    let landed: BTreeSet<String> = landed.keys().cloned().collect();
    let missing: Vec<_> = expected.difference(&landed).take(5).collect();
    let strange: Vec<_> = landed.difference(expected).take(5).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "{context}: of {} expected, {} landed; missing {missing:?}, strange {strange:?}",
        expected.len(),
        landed.len(),
    );
}
