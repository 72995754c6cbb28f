//! Microsoft Defender end to end: settings, app, pipeline, embedded file, against the simulator.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::Router;
use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    app::{App, Function, RunOptions},
    config::{Environment, Mode, Settings},
    core::{
        position::{
            cursor::{StreamKey, StreamState},
            paging::Paging,
        },
        protocol::{
            endpoint::{Endpoint, ListQuery},
            source_kind::SourceKind,
        },
    },
    embedded::EmbeddedFile,
    error::{Error, Kind},
    io::{
        clock::{Clock, SharedClock, VirtualClock},
        http::{Request, Response, SharedTransport, Transport, TransportError},
    },
    pipeline::{self, Job, Outcome, Report},
    simulator::{Fault, Options, Simulator, Target},
    sink::workspace::Workspace,
};
use tempfile::TempDir;

use crate::world::{START, folder, told};

mod ahead;
mod checked;
mod days;
mod faults;
mod filters;
mod odd;
mod paused;
mod routed;
mod snapshots;
mod tenants;

pub(crate) const FUNCTION: Function = Function::Pull(SourceKind::Defender);

/// True for the id of a record that came without one: a hash of it.
fn is_nameless(id: &str, context: &str) -> bool {
    context.contains("bad-record") && id.len() == 16
}

/// The stream that asks there for its records.
fn stream_of(target: Target) -> Option<&'static str> {
    Some(match target {
        Target::DefenderMachines => "defender.machines",
        Target::DefenderVulnerabilities => "defender.vulnerabilities",
        Target::DefenderCatalogue => "defender.vulnerability-catalogue",
        Target::DefenderFile | Target::DefenderChanges => "defender.software-vulnerabilities",
        Target::DefenderAlerts | Target::DefenderMdeAlerts => "defender.alerts",
        Target::DefenderIncidents | Target::DefenderXdrIncidents => "defender.incidents",
        _ => return None,
    })
}

/// The simulator, as long as no token goes to a host that is not its.
struct AtHome {
    simulator: Router,
    /// The queries of advanced hunting.
    queries: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Transport for AtHome {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let bears = request.headers().contains_key("authorization");
        let host = request.uri().host();
        assert!(!bears || host == Some("sim"), "a token went to {host:?}");
        if request.uri().path().ends_with("/runHuntingQuery") {
            let query = String::from_utf8(request.body().to_vec()).unwrap();
            self.queries.lock().unwrap().push(query);
        }
        self.simulator.send(request).await
    }
}

/// All lists once, in pages of so many records: no tenant that tests can wait for fills those of the
/// lists.
async fn run_in_pages(app: &App, most: u32) -> Vec<Report> {
    let limits = app.limits(RunOptions::default().stop);
    let mut reports = Vec::new();
    for job in app.jobs() {
        let mut job = Job {
            at_once: true,
            ..job.clone()
        };
        let connection = app.connections(&job.key.connection).next().unwrap();
        let endpoint = in_pages(job.source.endpoint(), most);
        job.source = Arc::clone(connection).stream(Box::leak(Box::new(endpoint)));
        reports.push(pipeline::run(&job, app.parts(), &limits).await);
    }
    reports
}

fn in_pages(endpoint: &Endpoint, most: u32) -> Endpoint {
    let list = |list: ListQuery| ListQuery {
        paging: match list.paging {
            Paging::Skip { .. } => Paging::Skip { top: most },
            Paging::Boundary { ordered, .. } => Paging::Boundary { top: most, ordered },
            Paging::Whole { .. } => Paging::Whole { cap: most },
            other => other,
        },
        ..list
    };
    Endpoint {
        list: list(endpoint.list),
        full_list: endpoint.full_list.map(list),
        ..*endpoint
    }
}

/// One tenant, one connector.
pub(crate) struct Tenant {
    pub(crate) clock: VirtualClock,
    pub(crate) simulator: Simulator,
    folder: TempDir,
    settings: BTreeMap<String, String>,
    /// The most records that are asked for at a time, when it is not the lists' own.
    pub(crate) page: Option<u32>,
    /// What advanced hunting was asked.
    pub(crate) queries: Arc<Mutex<Vec<String>>>,
    pub(crate) reports: Vec<Report>,
    /// When each run began and ended.
    pub(crate) looks: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// The first run after which every stream was up to date.
    pub(crate) first_done: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

impl Tenant {
    /// A small company, of which these streams are read.
    pub(crate) fn new(streams: &str) -> Self {
        Self::with(streams, |_| {})
    }

    pub(crate) fn with(streams: &str, change: impl FnOnce(&mut Options)) -> Self {
        let clock = VirtualClock::new(START.parse().unwrap());
        let mut options = Options::new(11, clock.now());
        options.scale = 0.2;
        change(&mut options);
        let simulator = Simulator::new(options, Arc::new(clock.clone()));
        let folder = folder();
        let mut settings: BTreeMap<String, String> = simulator
            .settings("https://sim")
            .into_iter()
            .filter(|(name, _)| {
                name.starts_with("DEFENDER_")
                    || name == "GRAPH_URL"
                    || name == "AZURE_AUTHORITY_HOST"
            })
            .collect();
        let data = folder.path().to_str().unwrap().to_owned();
        settings.insert("CONNECTOR_DATA".to_owned(), data);
        settings.insert("DEFENDER_STREAMS".to_owned(), streams.to_owned());
        Self {
            clock,
            simulator,
            folder,
            settings,
            page: None,
            queries: Arc::default(),
            reports: Vec::new(),
            looks: Vec::new(),
            first_done: None,
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    fn says(&self, name: &str, value: &str) -> bool {
        self.settings.get(name).is_some_and(|said| said == value)
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.settings.remove(name);
    }

    pub(crate) fn inject(&self, fault: &str) {
        self.simulator.inject(Fault::parse(fault).unwrap());
    }

    pub(crate) fn pass(&self, minutes: u64) {
        self.clock.advance(Duration::from_mins(minutes));
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// What a new process builds.
    pub(crate) fn app(&self) -> App {
        let transport: SharedTransport = Arc::new(AtHome {
            simulator: self.simulator.router(),
            queries: Arc::clone(&self.queries),
        });
        self.app_through(&transport)
    }

    fn environment(&self) -> Environment {
        let settings = self.settings.iter();
        settings
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    pub(crate) fn app_through(&self, transport: &SharedTransport) -> App {
        self.app_by(&self.clock, transport)
    }

    /// The same, by a clock that need not be everybody's.
    fn app_by(&self, clock: &VirtualClock, transport: &SharedTransport) -> App {
        let settings = Settings::load(&self.environment(), Mode::Local).unwrap();
        let clock: SharedClock = Arc::new(clock.clone());
        App::with_transport(&settings, &clock, transport).unwrap()
    }

    /// Why nothing is pulled with these settings.
    fn refused(&self) -> String {
        let clock: SharedClock = Arc::new(self.clock.clone());
        let transport: SharedTransport = Arc::new(self.simulator.router());
        let settings = Settings::load(&self.environment(), Mode::Local).map_err(Error::from);
        let app = settings.and_then(|settings| App::with_transport(&settings, &clock, &transport));
        let error = app.err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        error.to_string()
    }

    /// All streams once, as a new process would.
    pub(crate) async fn run(&mut self) -> Vec<Report> {
        let app = self.app();
        let began = self.now();
        let options = RunOptions {
            at_once: true,
            ..RunOptions::default()
        };
        let reports = match self.page {
            None => app.run(FUNCTION, &options).await,
            Some(most) => run_in_pages(&app, most).await,
        };
        for report in &reports {
            assert!(report.counts.balance(), "{report:?}");
            if report.outcome != Outcome::Failed {
                assert_eq!(report.counts.again, 0, "{report:?}");
            }
        }
        self.looks.push((began, self.now()));
        let done = |report: &Report| report.outcome == Outcome::UpToDate;
        if self.first_done.is_none() && reports.iter().all(done) {
            self.first_done = self.looks.last().copied();
        }
        self.reports.extend(reports.clone());
        reports
    }

    /// All streams once; each is up to date then.
    pub(crate) async fn run_well(&mut self) -> Vec<Report> {
        let reports = self.run().await;
        for report in &reports {
            assert_eq!(report.outcome, Outcome::UpToDate, "{}", told(&reports));
        }
        reports
    }

    /// Runs until every stream is up to date: at most an afternoon of timers.
    pub(crate) async fn run_until_done(&mut self, context: &str) {
        for _ in 0..30 {
            let round = self.run().await;
            if round
                .iter()
                .all(|report| report.outcome == Outcome::UpToDate)
            {
                return;
            }
            self.pass(10);
        }
        panic!("{context}: never up to date: {:#?}", self.reports.last());
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let file = EmbeddedFile::open(self.folder.path()).unwrap();
        Workspace::new(file).unwrap().query(sql).await.unwrap().rows
    }

    /// How often each version of each record of a stream has landed; the gone ones apart.
    pub(crate) async fn landed(&self, stream: &str) -> BTreeMap<(String, String), u64> {
        let table = if stream.ends_with("incidents") {
            "IntegrationTableIncidents_CL"
        } else {
            "IntegrationTable_CL"
        };
        let sql = format!(
            "SELECT recordId, recordVersion, count(*) FROM {table} \
             WHERE streamName = '{stream}' GROUP BY 1, 2"
        );
        let rows = self.rows(&sql).await.into_iter();
        rows.map(|mut row| {
            let times = row[2].as_deref().unwrap().parse().unwrap();
            ((row[0].take().unwrap(), row[1].take().unwrap()), times)
        })
        .collect()
    }

    /// The ids of a stream that have landed.
    pub(crate) async fn ids(&self, stream: &str) -> BTreeSet<String> {
        let landed = self.landed(stream).await.into_keys();
        landed.map(|(id, _)| id).collect()
    }

    pub(crate) async fn state(&self, stream: &str) -> StreamState {
        let key = StreamKey::new("default", stream);
        let found = self.app().parts().storage.load(&key).await.unwrap();
        found.map(|(state, _)| state).unwrap_or_default()
    }

    /// What the simulator served of a stream, what the reports say, and what the tables hold, are one
    /// number each.
    pub(crate) async fn assert_accounts(&self, stream: &str, context: &str) {
        let own = self.reports.iter();
        let own: Vec<&Report> = own.filter(|report| report.key.stream == stream).collect();
        let sum = |count: fn(&Report) -> u64| own.iter().map(|report| count(report)).sum::<u64>();
        let rows: u64 = self.landed(stream).await.into_values().sum();
        let landed = sum(|report| report.counts.landed);
        assert_eq!(rows, landed, "{context}: {stream}");
        let letters = format!("SELECT 1 FROM connector_dead_letters WHERE stream = '{stream}'");
        let letters = self.rows(&letters).await.len() as u64;
        let dead = sum(|report| report.counts.dead);
        assert_eq!(letters, dead, "{context}: {stream}: dead letters");
        // Which table was hunted, its calls do not tell.
        if stream.starts_with("defender.hunting.") {
            return;
        }
        let calls = self.simulator.calls();
        let calls = calls
            .iter()
            .filter(|call| call.target.and_then(stream_of) == Some(stream));
        let served: u64 = calls.map(|call| call.records as u64).sum();
        let pulled = sum(|report| report.counts.pulled);
        // A writer that fails leaves what was read ahead of it.
        let failed = own.iter().any(|report| report.outcome == Outcome::Failed);
        assert!(
            pulled == served || pulled < served && failed,
            "{context}: {stream}: served {served}, pulled {pulled}"
        );
    }

    /// Alerts or incidents: the newest version of each that changed in the history or since must be
    /// there, and none that never was.
    pub(crate) async fn assert_updates_complete(
        &self,
        stream: &str,
        endpoint_only: bool,
        context: &str,
    ) {
        let world = self.simulator.world().defender();
        let (first, last) = (self.first_done.unwrap(), *self.looks.last().unwrap());
        let history = TimeDelta::hours(24);
        let settled = last.0 - TimeDelta::seconds(31);
        let (must, may) = if stream == "defender.alerts" {
            (
                world.alert_versions(endpoint_only, first.1 - history, settled),
                world.alert_history(endpoint_only, self.looks[0].0 - history - history, last.1),
            )
        } else {
            (
                world.incident_versions(first.1 - history, settled),
                world.incident_history(self.looks[0].0 - history - history, last.1),
            )
        };
        // Whose an alert is, these faults hide: then those of Sentinel itself are not left out.
        let hidden = ["null-fields", "gated-enums", "expand-500"]
            .iter()
            .any(|fault| context.contains(fault));
        let alerts_come_with = self.says("DEFENDER_INCIDENT_ALERTS", "yes")
            || self.says("DEFENDER_INCIDENTS_API", "xdr");
        let is_told = !endpoint_only && !hidden;
        let versions = |all: BTreeSet<(String, String)>, without: &BTreeSet<String>| {
            all.into_iter()
                .filter(|(id, _)| !without.contains(id))
                .map(|(id, version)| (id, version.parse().unwrap()))
                .collect::<BTreeSet<(String, DateTime<Utc>)>>()
        };
        let none = BTreeSet::new();
        let (must, may) = if stream == "defender.alerts" {
            let own = world.alerts_of_sentinel(last.1);
            let left_out = |is_left_out| if is_left_out { &own } else { &none };
            (
                versions(must, left_out(!endpoint_only)),
                versions(may, left_out(is_told)),
            )
        } else {
            // What was nobody's yet may be Sentinel's by the time of the last look.
            let mut own = world.incidents_of_sentinel(settled);
            own.extend(world.incidents_of_sentinel(last.1));
            let left_out =
                world.incident_history_of_sentinel(self.looks[0].0 - history - history, last.1);
            let told = |version: &(String, String)| {
                !(is_told && alerts_come_with && left_out.contains(version))
            };
            let by_alerts = self.settings["DEFENDER_STREAMS"].contains("alerts")
                && !self.says("DEFENDER_ALERTS_API", "mde");
            let excluded = if alerts_come_with || by_alerts {
                &own
            } else {
                &none
            };
            (
                versions(must, excluded),
                versions(may.into_iter().filter(told).collect(), &none),
            )
        };
        let landed = self.landed(stream).await;
        let repeated: Vec<_> = landed.iter().filter(|(_, times)| **times > 1).collect();
        assert!(repeated.is_empty(), "{context}: {stream}: {repeated:?}");
        // A record without an id is known by its content, and has landed as well.
        let ids: BTreeSet<(String, DateTime<Utc>)> = landed
            .into_keys()
            .filter_map(|(id, version)| Some((id, version.parse().ok()?)))
            .collect();
        // What moved on between two questions comes by its next version.
        let newer = |id: &str, than: DateTime<Utc>| {
            ids.iter()
                .any(|(other, version)| other == id && *version > than)
        };
        let missing: Vec<_> = must
            .difference(&ids)
            .filter(|(id, version)| !newer(id, *version))
            .collect();
        assert!(missing.is_empty(), "{context}: {stream} lacks {missing:?}");
        let strange: Vec<_> = ids
            .difference(&may)
            .filter(|(id, _)| !is_nameless(id, context))
            .collect();
        assert!(strange.is_empty(), "{context}: {stream} has {strange:?}");
        assert!(!must.is_empty(), "{context}: {stream} had nothing to prove");
        self.assert_accounts(stream, context).await;
    }

    /// What was vulnerable at the last baseline, and each change since then: which it was and when.
    pub(crate) async fn assert_software_complete(&self, context: &str) {
        let stream = "defender.software-vulnerabilities";
        let world = self.simulator.world().defender();
        let (last, ended) = *self.looks.last().unwrap();
        let passed = self.state(stream).await.last_pass.unwrap();
        let (ids, written) = world.software_ids(passed);
        self.assert_has(stream, &ids, context).await;

        let rows = "SELECT recordId, json_extract(additionalFields, '$.status'), occurTime \
                    FROM IntegrationTable_CL WHERE streamName = 'defender.software-vulnerabilities' \
                    AND json_extract(additionalFields, '$.status') IS NOT NULL";
        let rows = self.rows(rows).await.into_iter();
        let landed: Vec<(String, String, String)> = rows
            .map(|mut row| {
                let mut take = |at: usize| row[at].take().unwrap();
                (take(0), take(1), take(2))
            })
            .collect();
        let changes: BTreeSet<_> = landed.iter().cloned().collect();
        assert_eq!(
            changes.len(),
            landed.len(),
            "{context}: a change landed twice"
        );
        let must = world.software_changes(written, last);
        let missing: Vec<_> = must.difference(&changes).collect();
        assert!(missing.is_empty(), "{context}: changes lack {missing:?}");
        assert!(!must.is_empty(), "{context}: nothing has changed");
        let history = TimeDelta::hours(12);
        let may = world.software_changes(self.looks[0].0 - history, ended);
        let strange: Vec<_> = changes
            .difference(&may)
            .filter(|(id, ..)| !is_nameless(id, context))
            .collect();
        // One that moved is both.
        let both = |id: &str| {
            let of = |status| {
                strange
                    .iter()
                    .any(|change| change.0 == id && change.1 == status)
            };
            context.contains("rbac-move") && of("Fixed") && of("New")
        };
        let well = strange.iter().all(|(id, ..)| both(id));
        assert!(well, "{context}: changes have {strange:?}");
        let moved = context.contains("rbac-move");
        assert!(!moved || !strange.is_empty(), "{context}: nothing moved");
    }

    /// What of a stream was true at one of the looks.
    pub(crate) fn ever(&self, ids: impl Fn(DateTime<Utc>) -> BTreeSet<String>) -> BTreeSet<String> {
        let looks = self.looks.iter().flat_map(|(began, ended)| [began, ended]);
        looks.flat_map(|at| ids(*at)).collect()
    }

    /// Every record that a pass must have seen has landed, and nothing that never was.
    pub(crate) async fn assert_is(
        &self,
        stream: &str,
        must: &BTreeSet<String>,
        may: &BTreeSet<String>,
        context: &str,
    ) {
        self.assert_has(stream, must, context).await;
        let ids = self.ids(stream).await;
        let strange: Vec<_> = ids
            .difference(may)
            .filter(|id| !is_nameless(id, context))
            .collect();
        assert!(strange.is_empty(), "{context}: {stream} has {strange:?}");
    }

    /// Every record that a pass must have seen has landed.
    pub(crate) async fn assert_has(&self, stream: &str, must: &BTreeSet<String>, context: &str) {
        let ids = self.ids(stream).await;
        let missing: Vec<_> = must.difference(&ids).collect();
        let (count, all, there) = (missing.len(), must.len(), ids.len());
        let some: Vec<_> = missing.into_iter().take(5).collect();
        assert!(
            some.is_empty(),
            "{context}: {stream} has {there}, lacks {count} of {all}: {some:?}"
        );
        assert!(!must.is_empty(), "{context}: {stream} had nothing to prove");
        self.assert_accounts(stream, context).await;
    }
}
