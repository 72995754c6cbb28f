//! The composition root: settings → concrete parts, function name → its streams.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

mod build;
mod defender_streams;
mod route_table;
pub mod saved;

use build::Builder;
pub use route_table::{RouteTable, Tables};

use crate::{
    config::{self, Enrich, EsetSettings, Product, Settings, SinkSettings},
    core::{
        mapping::{columns::TABLES, filter::Filter},
        position::{cursor::StreamKey, window::delta},
        protocol::{endpoint::Endpoint, roles::Beyond},
    },
    error::{Error, Result},
    io::{
        clock::SharedClock,
        exchange::{Limits, Random},
        expiry::Expiring,
        http::{Network, SharedTransport},
        password::Password,
    },
    outbox_drain,
    pipeline::{self, Job, Outcome, Parts, Report},
    source::{
        SharedSource,
        defender::{self, Quotas, Wire},
        eset::{self, Account, Eset, LookUps},
        hunting,
    },
    storage::{
        SharedStorage,
        azure::{self, AzureStorage},
    },
};

/// The functions that there are; each has a folder of its name with a `function.json`.
pub const FUNCTIONS: &[&str] = &["EsetTimer", DEFENDER, PUSH];

/// The function that pulls the streams of Defender.
const DEFENDER: &str = "DefenderTimer";

/// The function that drains the outbox.
pub const PUSH: &str = "SentinelPush";

/// Everything that a run needs, built once.
pub struct App {
    parts: Parts,
    connections: Vec<(String, Arc<eset::Connection>)>,
    defenders: Vec<(String, Arc<defender::Connection>)>,
    quotas: Quotas,
    jobs: Vec<(&'static str, Job)>,
    budget: Duration,
    event_time: bool,
    sink_is_embedded: bool,
    tables: Vec<String>,
}

/// An access token that streams of Defender need.
pub struct DefenderLogin {
    /// Their connection.
    pub connection: String,
    /// The application whose roles it names.
    pub resource: &'static str,
    /// The application roles in it that none of them needs, or why there is no token.
    pub beyond: Result<Vec<Beyond>>,
}

/// Told of every step of every stream.
pub type Progress = Arc<dyn Fn(&Report) + Send + Sync>;

/// How a function is run.
#[derive(Clone)]
pub struct RunOptions {
    /// Streams run even if their last run was a moment ago.
    pub at_once: bool,
    /// Told of every step.
    pub progress: Progress,
    /// Ends the run early.
    pub stop: CancellationToken,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            at_once: false,
            progress: Arc::new(|_| {}),
            stop: CancellationToken::new(),
        }
    }
}

impl App {
    /// Builds the parts that the settings name. Opens the embedded file, but no connection.
    pub fn build(settings: &Settings, clock: &SharedClock) -> Result<Self> {
        Self::with_transport(settings, clock, &network(settings)?)
    }

    /// Parts that the settings name, with everything that is sent going through `transport`.
    pub fn with_transport(
        settings: &Settings,
        clock: &SharedClock,
        transport: &SharedTransport,
    ) -> Result<Self> {
        let mut builder = Builder::new(settings, clock, transport)?;
        let routed = RouteTable::of(settings)?;
        let parts = Parts {
            storage: builder.storage()?,
            sink: builder.sink(routed.tables().clone())?,
            clock: Arc::clone(clock),
            random: random(),
            outbox_max: settings.run.outbox_max_bytes,
            progress: Arc::new(|_| {}),
        };
        let mut app = Self {
            parts,
            connections: Vec::new(),
            defenders: Vec::new(),
            quotas: Quotas::default(),
            jobs: Vec::new(),
            budget: settings.run.budget,
            event_time: settings.run.time_generated == config::TimeGenerated::Event,
            sink_is_embedded: settings.sink == SinkSettings::Embedded,
            tables: routed.tables().keys().cloned().collect(),
        };
        app.connect(settings, transport, &builder, &routed)?;
        Ok(app)
    }

    /// The event tables that each connection names although it keeps to data of endpoints.
    pub fn left_out(settings: &Settings) -> Vec<(&str, Vec<&'static str>)> {
        let mut left_out = Vec::new();
        for connection in &settings.connections {
            if let config::Source::Defender(settings) = &connection.source {
                left_out.push((
                    connection.name.as_str(),
                    defender_streams::left_out(settings),
                ));
            }
        }
        left_out.retain(|(_, tables)| !tables.is_empty());
        left_out
    }

    /// The connections whose incidents come without their alerts, so that those that Sentinel itself has
    /// raised land as well.
    pub fn hides_own_incidents(settings: &Settings) -> Vec<&str> {
        let connections = settings.connections.iter();
        connections
            .filter(|connection| match &connection.source {
                config::Source::Defender(settings) => {
                    defender_streams::hides_own_incidents(settings)
                }
                config::Source::Eset(_) => false,
            })
            .map(|connection| connection.name.as_str())
            .collect()
    }

    /// One match: which streams a source has, and which function runs them.
    fn connect(
        &mut self,
        settings: &Settings,
        transport: &SharedTransport,
        builder: &Builder<'_>,
        routed: &RouteTable,
    ) -> Result<()> {
        for connection in &settings.connections {
            match &connection.source {
                config::Source::Eset(settings) => {
                    let password = builder.password(&settings.password)?;
                    let expiring = builder.expiring(&settings.password, &password);
                    let shared = self.eset(account(settings, password), transport);
                    for endpoint in eset_streams(settings) {
                        let source = Arc::new(Eset::new(Arc::clone(&shared), endpoint));
                        let job = self.job(connection, routed, source, &[], &expiring);
                        self.jobs.push(("EsetTimer", job));
                    }
                    self.connections.push((connection.name.clone(), shared));
                }
                config::Source::Defender(settings) => {
                    let (tokens, expiring) = builder.defender(settings)?;
                    let wire = Wire {
                        transport: Arc::clone(transport),
                        clock: Arc::clone(&self.parts.clock),
                        random: Arc::clone(&self.parts.random),
                    };
                    let account = defender_streams::account(settings);
                    let shared = defender::Connection::new(account, &tokens, &self.quotas, &wire);
                    for (source, filters) in defender_streams::streams(settings, &shared)? {
                        let job = self.job(connection, routed, source, filters, &expiring);
                        self.jobs.push((DEFENDER, job));
                    }
                    self.defenders.push((connection.name.clone(), shared));
                }
            }
        }
        Ok(())
    }

    fn job(
        &self,
        connection: &config::Connection,
        routed: &RouteTable,
        source: SharedSource,
        filters: &'static [Filter],
        expiring: &Arc<[Expiring]>,
    ) -> Job {
        let endpoint = source.endpoint();
        let (table, layout) = routed.table(endpoint);
        Job {
            key: StreamKey::new(&connection.name, endpoint.stream),
            table,
            layout,
            pace: connection.paces.of(endpoint.stream, endpoint.pace),
            source,
            event_time: self.event_time,
            expiring: Arc::clone(expiring),
            at_once: false,
            filters,
        }
    }

    /// Asks for the access tokens that the streams of Defender need, each once.
    pub async fn defender_logins(&self) -> Vec<DefenderLogin> {
        let mut logins = Vec::new();
        for (name, connection) in &self.defenders {
            let mut tokens: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
            let jobs = self
                .jobs(DEFENDER)
                .filter(|job| job.key.connection == *name);
            for endpoint in jobs.map(|job| job.source.endpoint()) {
                let opened = tokens.entry(connection.scope(endpoint)).or_default();
                opened.push(endpoint);
            }
            for endpoints in tokens.values() {
                logins.push(DefenderLogin {
                    connection: name.clone(),
                    resource: endpoints
                        .first()
                        .map_or("", |first| defender::resource(first)),
                    beyond: connection.roles_beyond(endpoints).await,
                });
            }
        }
        logins
    }

    fn eset(&self, account: Account, transport: &SharedTransport) -> Arc<eset::Connection> {
        let transport = Arc::clone(transport);
        let clock = Arc::clone(&self.parts.clock);
        let random = Arc::clone(&self.parts.random);
        match self
            .connections
            .iter()
            .find(|(_, other)| other.is_account(&account))
        {
            Some((_, other)) => eset::Connection::beside(other, account, transport, clock, random),
            None => eset::Connection::new(account, transport, clock, random),
        }
    }

    /// The connections, by name.
    pub fn connections(&self) -> impl Iterator<Item = (&str, &eset::Connection)> {
        self.connections
            .iter()
            .map(|(name, connection)| (name.as_str(), &**connection))
    }

    /// The tables that rows go to, those of `ROUTES` last.
    pub fn tables(&self) -> Vec<&str> {
        let routed = self.tables.iter().map(String::as_str);
        let shared = TABLES.map(|table| table.name);
        let own = routed.filter(|name| !shared.contains(name));
        shared.into_iter().chain(own).collect()
    }

    /// A connection to Defender.
    pub fn defender(&self, name: &str) -> Option<&Arc<defender::Connection>> {
        let found = self.defenders.iter().find(|(known, _)| known == name);
        found.map(|(_, connection)| connection)
    }

    /// The connections that are set to pull devices.
    pub fn pulls_machines(&self) -> impl Iterator<Item = &str> {
        self.jobs(DEFENDER)
            .filter(|job| job.key.stream == defender::MACHINES.stream)
            .map(|job| job.key.connection.as_str())
    }

    /// What runs work with.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The streams of a function, as they are configured.
    pub fn jobs<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a Job> {
        self.jobs
            .iter()
            .filter(move |(name, _)| *name == function)
            .map(|(_, job)| job)
    }

    /// Until when a run that begins now may go on.
    pub fn limits(&self, stop: CancellationToken) -> Limits {
        self.limits_of(self.budget, stop)
    }

    /// Until when something that begins now and has this long may go on.
    pub fn limits_of(&self, patience: Duration, stop: CancellationToken) -> Limits {
        Limits {
            deadline: self.parts.clock.now() + delta(patience),
            stop,
        }
    }

    /// Runs the streams of a function one after the other, first the one whose turn was the longest
    /// ago, so that none starves behind one that is slow or uses up what they share.
    pub async fn run(&self, function: &str, options: &RunOptions) -> Vec<Report> {
        let limits = self.limits(options.stop.clone());
        let parts = Parts {
            progress: Arc::clone(&options.progress),
            ..self.parts.clone()
        };
        if function == PUSH {
            // The embedded sink is never out of reach: only what somebody put back waits for it.
            let nothing_waits = matches!(parts.storage.outbox_size().await, Ok((0, _)));
            if self.sink_is_embedded && nothing_waits {
                return Vec::new();
            }
            let report = outbox_drain::drain(&parts, self.event_time, &limits).await;
            log(&report);
            return vec![report];
        }
        let mut jobs = Vec::new();
        for job in self.jobs(function) {
            // A state that can't be read is reported by the run of its stream.
            let saved = parts.storage.load(&job.key).await;
            let turn = saved.as_ref().ok().and_then(Option::as_ref);
            jobs.push((turn.and_then(|(state, _)| state.last_turn), saved, job));
        }
        jobs.sort_by_key(|(turn, ..)| *turn);
        let mut reports = Vec::new();
        for (_, saved, job) in jobs {
            let job = Job {
                at_once: options.at_once,
                ..job.clone()
            };
            let span = tracing::info_span!(
                "stream",
                connection = job.key.connection,
                stream = job.key.stream
            );
            let report = async {
                let report = pipeline::run_from(saved, &job, &parts, &limits).await;
                log(&report);
                report
            };
            reports.push(report.instrument(span).await);
        }
        reports
    }
}

/// Every endpoint of every source.
pub fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    let tables = hunting::tables().iter().map(|table| &table.endpoint);
    let all = eset::STREAMS.into_iter().chain(defender::ENDPOINTS);
    all.chain(tables)
}

/// The storage that the settings name, alone: for those who look after what is kept there.
pub fn storage(settings: &Settings, clock: &SharedClock) -> Result<SharedStorage> {
    Builder::new(settings, clock, &network(settings)?)?.storage()
}

/// The storage account that these settings name, which need not be ours.
pub fn azure_account(
    settings: &Settings,
    account: &azure::StorageSettings<'_>,
    clock: &SharedClock,
) -> Result<Option<AzureStorage>> {
    Builder::new(settings, clock, &network(settings)?)?.azure_account(account)
}

/// Random numbers of the operating system's quality.
fn random() -> Random {
    Arc::new(rand::random::<f64>)
}

/// The network, trusting what the settings say.
pub fn network(settings: &Settings) -> Result<SharedTransport> {
    let roots = match &settings.extra_ca {
        None => None,
        Some(path) => Some(fs::read(path).map_err(|error| {
            Error::config(format!(
                "`EXTRA_CA_FILE`: `{}` can't be read: {error}",
                path.display()
            ))
        })?),
    };
    Ok(Arc::new(Network::new(roots.as_deref())?))
}

fn account(settings: &EsetSettings, password: Password) -> Account {
    Account {
        url_template: settings.base_url("{domain}"),
        login: settings.login.clone(),
        password,
        calls_per_second: settings.max_calls_per_second,
        look_ups: LookUps {
            details: matches!(settings.enrich, Enrich::Details | Enrich::All),
            devices: matches!(settings.enrich, Enrich::Hosts | Enrich::All),
        },
    }
}

/// The streams that a tenant's products feed.
pub fn eset_streams(settings: &EsetSettings) -> Vec<&'static Endpoint> {
    let has = |product| settings.products.contains(&product);
    let endpoint = has(Product::Protect) || has(Product::Inspect);
    let mut streams = Vec::new();
    if endpoint {
        streams.push(&eset::DETECTIONS);
    }
    if has(Product::CloudOffice) {
        streams.push(&eset::CLOUD_OFFICE);
    }
    if endpoint {
        streams.push(&eset::INCIDENTS);
    }
    streams
}

fn log(report: &Report) {
    let counts = &report.counts;
    tracing::info!(
        outcome = ?report.outcome,
        pages = report.pages,
        pulled = counts.pulled,
        landed = counts.landed,
        waiting = counts.waiting,
        dead = counts.dead,
        duplicate = counts.duplicate,
        filtered = counts.filtered,
        unchanged = counts.unchanged,
        gone = counts.gone,
        again = counts.again,
        waits_for = report.waits_for,
        lag_seconds = report.lag_seconds,
        reason = report.reason,
        "stream done"
    );
}

/// What runs have left in the outbox, as an error of the sink: the rows are safe, and are not where
/// they are looked for. `None` when a push has brought them there since.
pub async fn waiting(reports: &[Report], parts: &Parts) -> Option<Error> {
    let parked: u64 = reports.iter().map(|report| report.counts.waiting).sum();
    if parked == 0 || matches!(parts.storage.outbox_size().await, Ok((0, _))) {
        return None;
    }
    let why = reports
        .iter()
        .find_map(|report| report.waits_for.as_deref());
    Some(Error::transient(format!(
        "{parked} rows of this run wait in the outbox, and are pushed again by each run of \
         SentinelPush: {}",
        why.unwrap_or("the sink takes nothing")
    )))
}

/// The errors of a function's streams as one, of the kind that has to be acted on first.
pub fn failed(reports: &[Report]) -> Option<Error> {
    use crate::error::Kind;

    let failed: Vec<&Report> = reports
        .iter()
        .filter(|report| report.outcome == Outcome::Failed)
        .collect();
    let reasons: Vec<&str> = failed
        .iter()
        .filter_map(|report| report.reason.as_deref())
        .collect();
    let has = |kind| failed.iter().any(|report| report.error_kind == Some(kind));
    let text = reasons.join("; ");
    match () {
        () if failed.is_empty() => None,
        () if has(Kind::Config) => Some(Error::config(text)),
        () if has(Kind::Contract) => Some(Error::contract(text)),
        () => Some(Error::transient(text)),
    }
}
