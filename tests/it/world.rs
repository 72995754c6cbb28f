//! One simulated company, one connector, one embedded file: in process and in virtual time.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use sentinel_connector::{
    core::{
        mapping::{filter::Filter, layout::Layout},
        position::{
            cursor::{StreamKey, StreamState},
            window::Pace,
        },
        protocol::endpoint::Endpoint,
    },
    embedded::EmbeddedFile,
    io::{
        clock::{Clock, VirtualClock},
        http::SharedTransport,
        password::Password,
        retry::Limits,
        wire::{Random, Wire},
    },
    pipeline::{self, Job, Outcome, Parts, Report},
    simulator::{Fault, Options, Simulator},
    sink::workspace::Workspace,
    source::eset::{self, Account, Connection, Eset, LookUps},
    storage::{SharedStorage, sqlite::SqliteStorage},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

mod expected;

pub(crate) use expected::{Look, stream_of};

/// When every simulated world begins.
pub(crate) const START: &str = "2026-03-02T08:00:00Z";

/// How far back a first run reads.
pub(crate) const HISTORY: TimeDelta = TimeDelta::hours(24);

pub(crate) const DETECTIONS: &str = "eset.detections";
pub(crate) const CLOUD_OFFICE: &str = "eset.cloud-office";
pub(crate) const INCIDENTS: &str = "eset.incidents";

pub(crate) struct World {
    /// The connector's.
    pub(crate) clock: VirtualClock,
    /// How far the others' clocks are behind it.
    behind: Arc<Mutex<TimeDelta>>,
    pub(crate) simulator: Simulator,
    pub(crate) transport: SharedTransport,
    pub(crate) folder: TempDir,
    pub(crate) look_ups: LookUps,
    pub(crate) password: Password,
    pub(crate) budget: Duration,
    /// The longest window, when it is not the streams' own.
    pub(crate) step: Option<Duration>,
    pub(crate) stop: CancellationToken,
    /// Which streams are run.
    pub(crate) streams: Vec<&'static Endpoint>,
    /// What of them is wanted; all, unless it is said.
    pub(crate) filter: Option<&'static str>,
    /// All that ran to its end, in this order.
    pub(crate) reports: Vec<Report>,
    /// When each stream has looked at the world.
    pub(crate) looks: BTreeMap<String, Vec<Look>>,
    /// What the simulators before this one have served, by stream.
    served_before: BTreeMap<String, u64>,
    /// For questions about the tables.
    workspace: OnceLock<Workspace>,
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
        Self::of(options, clock)
    }

    fn of(options: Options, clock: VirtualClock) -> Self {
        let password = options.password.clone().into();
        let behind = Arc::new(Mutex::new(TimeDelta::zero()));
        let others = Behind {
            clock: clock.clone(),
            by: Arc::clone(&behind),
        };
        let simulator = Simulator::new(options, Arc::new(others));
        Self {
            password,
            transport: Arc::new(simulator.router()),
            simulator,
            clock,
            behind,
            folder: folder(),
            look_ups: LookUps::default(),
            budget: Duration::from_mins(4),
            step: None,
            stop: CancellationToken::new(),
            streams: vec![&eset::DETECTIONS, &eset::CLOUD_OFFICE, &eset::INCIDENTS],
            filter: None,
            reports: Vec::new(),
            looks: BTreeMap::new(),
            served_before: BTreeMap::new(),
            workspace: OnceLock::new(),
        }
    }

    /// The same world once more, from where it stands now. Nobody may be writing.
    pub(crate) fn branch(&self) -> Self {
        let clock = VirtualClock::new(self.clock.now());
        let mut branch = Self::of(self.simulator.options().clone(), clock);
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            // The index of the log is built anew.
            if entry.file_type().unwrap().is_file() && !is_index(&entry.path()) {
                std::fs::copy(entry.path(), branch.folder.path().join(entry.file_name())).unwrap();
            }
        }
        branch.look_ups = self.look_ups;
        branch.password = self.password.clone();
        branch.budget = self.budget;
        branch.step = self.step;
        branch.streams.clone_from(&self.streams);
        branch.filter = self.filter;
        branch.reports.clone_from(&self.reports);
        branch.looks.clone_from(&self.looks);
        branch.served_before = self.served();
        branch
    }

    pub(crate) fn inject(&self, fault: &str) {
        self.simulator.inject(Fault::parse(fault).unwrap());
    }

    pub(crate) fn pass(&self, minutes: u64) {
        self.clock.advance(Duration::from_mins(minutes));
    }

    /// Sets the connector's clock so far ahead of everybody else's.
    pub(crate) fn set_ahead(&self, by: TimeDelta) {
        let now = self.now();
        *self.behind.lock().unwrap() = by;
        self.clock.set(now + by);
    }

    /// The time of everybody but the connector.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now() - *self.behind.lock().unwrap()
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
            random: random(),
            app: Some("connector".to_owned()),
            outbox_max: 1 << 30,
            bounds: Arc::default(),
            progress: Arc::new(|_| {}),
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire {
            transport: Arc::clone(&self.transport),
            clock: Arc::new(self.clock.clone()),
            random: random(),
        }
    }

    /// The streams of one process: they share a login and a rate limit.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let options = self.simulator.options();
        let account = Account {
            url_template: format!("https://sim/eset/{}/{{domain}}", options.region),
            login: options.login.clone(),
            password: self.password.clone(),
            calls_per_second: NonZeroU32::new(9).unwrap(),
            look_ups: self.look_ups,
        };
        let connection = Connection::new(account, self.wire());
        self.streams
            .iter()
            .map(|endpoint| Job {
                table: endpoint.table.name.to_owned(),
                layout: Layout::shared(endpoint),
                key: StreamKey::new("default", endpoint.stream),
                source: Arc::new(Eset::new(Arc::clone(&connection), endpoint)),
                pace: Pace {
                    step: self.step.unwrap_or(endpoint.pace.step),
                    ..endpoint.pace
                },
                event_time: false,
                expiring: Arc::new([]),
                at_once: true,
                filters: self
                    .filter
                    .map(|wanted| Filter::Unwanted(wanted.parse().unwrap(), endpoint.tellers))
                    .into_iter()
                    .collect(),
            })
            .collect()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            stop: self.stop.clone(),
            ..Limits::until(self.clock.now() + self.budget)
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
            reports.push(self.run_one(&job, parts).await);
        }
        reports
    }

    /// A stream is read from now on, by whomever.
    pub(crate) fn looks_from_now(&mut self, stream: &str) {
        let look = Look::begin(self.now());
        self.looks.entry(stream.to_owned()).or_default().push(look);
    }

    pub(crate) async fn run_one(&mut self, job: &Job, parts: &Parts) -> Report {
        self.looks_from_now(&job.key.stream);
        let report = pipeline::run(job, parts, &self.limits()).await;
        assert!(report.counts.balance(), "{report:?}");
        if report.outcome != Outcome::Failed {
            assert_eq!(report.counts.again, 0, "{report:?}");
        }
        let now = self.now();
        if let Some(look) = self.looks.get_mut(&job.key.stream).unwrap().last_mut() {
            look.end(now, report.outcome);
        }
        self.reports.push(report.clone());
        report
    }

    /// Runs until every stream is up to date: at most an afternoon of timers.
    pub(crate) async fn run_until_done(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        for _ in 0..20 {
            let round = self.run().await;
            let done = round
                .iter()
                .all(|report| matches!(report.outcome, Outcome::UpToDate));
            reports.extend(round);
            if done {
                return reports;
            }
            self.pass(5);
        }
        panic!("never up to date: {:#?}", reports.last());
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let open = || Workspace::new(self.file()).unwrap();
        let workspace = self.workspace.get_or_init(open);
        workspace.query(sql).await.unwrap().rows
    }

    pub(crate) async fn number(&self, sql: &str) -> u64 {
        let rows = self.rows(sql).await;
        rows[0][0].as_deref().unwrap().parse().unwrap()
    }

    pub(crate) fn storage(&self) -> SharedStorage {
        self.parts().storage
    }

    pub(crate) async fn state(&self, stream: &str) -> StreamState {
        let key = StreamKey::new("default", stream);
        let found = self.storage().load(&key).await.unwrap();
        found.map(|(state, _)| state).unwrap_or_default()
    }

    /// The reports of one stream, oldest first.
    pub(crate) fn reports_of(&self, stream: &str) -> impl Iterator<Item = &Report> {
        self.reports
            .iter()
            .filter(move |report| report.key.stream == stream)
    }
}

/// A clock that is behind another one.
struct Behind {
    clock: VirtualClock,
    by: Arc<Mutex<TimeDelta>>,
}

#[async_trait]
impl Clock for Behind {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() - *self.by.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    fn is_virtual(&self) -> bool {
        true
    }
}

/// Runs a few worlds at a time, all of them, and then says how many have failed.
pub(crate) async fn each<F: Future<Output = ()> + Send + 'static>(cases: impl Iterator<Item = F>) {
    let ended: Vec<_> = stream::iter(cases.map(tokio::spawn))
        .buffer_unordered(4)
        .collect()
        .await;
    let failed = ended.iter().filter(|case| case.is_err()).count();
    assert_eq!(failed, 0, "of {} cases", ended.len());
}

/// In memory where that is to be had: nobody needs these files after a crash of the machine.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Numbers in `0.0..1.0`, the same in each test run.
pub(crate) fn random() -> Random {
    /// No two runs of this process may draw the same name for their lease.
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    Arc::new(|| {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
        let mixed = drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        f64::from(u32::try_from(mixed).unwrap()) / f64::from(1 << 24)
    })
}

fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-shm")
}

/// The end of a run in words, for messages.
pub(crate) fn told(reports: &[Report]) -> String {
    let told = reports.iter().map(|report| {
        let reason = report.reason.as_deref().unwrap_or("");
        format!("{} {:?} {reason}", report.key.stream, report.outcome)
    });
    told.collect::<Vec<_>>().join("\n")
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
