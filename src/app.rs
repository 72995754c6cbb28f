//! The composition root: settings → concrete parts, function name → its streams.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field::Empty};

mod build;
mod connect;
mod function;
mod lanes;
pub mod list;
pub mod live;
pub mod plan;
mod route_table;
pub mod saved;
pub mod scale_out;

use build::Builder;
use connect::{Connected, Refused, Shared, can_filter, connected, filters_of, shared_by};
pub use function::Function;
use lanes::{Waiting, lanes};
pub use route_table::{RouteTable, Tables};
use scale_out::PullQueue;

use crate::{
    config::{self, Settings, SinkSettings},
    core::{
        mapping::{assets::Kind, columns::TABLES},
        metrics::{DEAD_LETTERS, OUTBOX_BATCHES, OUTBOX_SIZE, TRACED, of_app},
        position::{
            cursor::{StreamKey, StreamState},
            window::delta,
        },
        protocol::{endpoint::Endpoint, roles::Beyond, source_kind::SourceKind},
    },
    error::{Error, Result},
    io::{
        clock::SharedClock,
        expiry::Expiring,
        http::{Network, SharedTransport},
        retry::Limits,
        wire::Wire,
    },
    outbox_drain,
    pipeline::{self, Job, Outcome, Parts, Report},
    source::{SharedSource, SourceConnection, switched_on},
    storage::{
        ETag, SharedStorage,
        azure::{self, AzureStorage},
    },
    telemetry,
};

/// Everything that a run needs, built once.
pub struct App {
    parts: Parts,
    /// Where lanes are put instead of being run.
    pull_queue: Option<PullQueue>,
    connections: Vec<Connected>,
    streams: Vec<Stream>,
    refused: Vec<Refused>,
    budget: Duration,
    streams_at_once: usize,
    event_time: bool,
    sink_is_embedded: bool,
    tables: Vec<String>,
}

/// A stream of the settings.
struct Stream {
    kind: SourceKind,
    /// The account or the tenant whose limits it shares with others.
    shares: Arc<str>,
    job: Job,
}

/// An access token that streams need.
pub struct Login {
    /// Who grants it.
    pub issuer: &'static str,
    /// The application whose roles it names, where there are several.
    pub resource: Option<&'static str>,
    /// The streams that it opens.
    pub opens: Vec<&'static str>,
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
    /// The connections whose streams run; all when `None`.
    pub only: Option<Arc<[String]>>,
}

impl RunOptions {
    fn has(&self, connection: &str) -> bool {
        let mut only = self.only.iter().flat_map(|only| only.iter());
        self.only.is_none() || only.any(|name| name == connection)
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            at_once: false,
            progress: Arc::new(|_| {}),
            stop: CancellationToken::new(),
            only: None,
        }
    }
}

impl App {
    /// Builds the parts that the settings name. Opens the embedded file, but no connection.
    pub fn build(settings: &Settings, clock: &SharedClock) -> Result<Self> {
        let network = network(settings)?;
        let network = match settings.telemetry {
            Some(_) => telemetry::observed(network),
            None => network,
        };
        Self::with_transport(settings, clock, &network)
    }

    /// Parts that the settings name, with everything that is sent going through `transport`.
    pub fn with_transport(
        settings: &Settings,
        clock: &SharedClock,
        transport: &SharedTransport,
    ) -> Result<Self> {
        let wire = Wire::new(Arc::clone(transport), Arc::clone(clock));
        let mut builder = Builder::new(settings, wire.clone())?;
        let routed = RouteTable::of(settings)?;
        let parts = Parts {
            storage: builder.storage()?,
            sink: builder.sink(routed.tables().clone())?,
            clock: Arc::clone(clock),
            random: Arc::clone(&wire.random),
            app: settings.app.clone(),
            outbox_max: settings.run.outbox_max_bytes,
            bounds: Arc::default(),
            progress: Arc::new(|_| {}),
        };
        let mut app = Self {
            parts,
            pull_queue: builder.pull_queue.take(),
            connections: Vec::new(),
            streams: Vec::new(),
            refused: settings.broken.iter().map(Refused::of).collect(),
            budget: settings.run.budget,
            streams_at_once: settings.run.streams_at_once,
            event_time: settings.run.time_generated == config::TimeGenerated::Event,
            sink_is_embedded: settings.sink == SinkSettings::Embedded,
            tables: routed.tables().keys().cloned().collect(),
        };
        app.connect(settings, &wire, &builder, &routed)?;
        Ok(app)
    }

    /// Connects to all sources that can be connected to. Who can't is refused alone.
    fn connect(
        &mut self,
        settings: &Settings,
        wire: &Wire,
        builder: &Builder<'_>,
        routed: &RouteTable,
    ) -> Result<()> {
        let mut shared = Shared::default();
        for one in &settings.connections {
            let kind = one.source.kind();
            let connected = switched_on(kind, &one.choices).and_then(|endpoints| {
                can_filter(one, &endpoints)?;
                Ok((endpoints, connected(one, wire, builder, &mut shared)?))
            });
            let (endpoints, (connection, expiring)) = match connected {
                Ok(connected) => connected,
                Err(error) if settings.connections.len() == 1 => return Err(error),
                Err(error) => {
                    let refused = Refused::new(&one.name, Some(kind), &one.choices, error);
                    self.refused.push(refused);
                    continue;
                }
            };
            let shares: Arc<str> = shared_by(&one.source).into();
            for endpoint in endpoints {
                let source = Arc::clone(&connection).stream(endpoint);
                self.streams.push(Stream {
                    kind,
                    shares: Arc::clone(&shares),
                    job: self.job(one, routed, source, &expiring),
                });
            }
            self.connections.push(Connected {
                name: one.name.clone(),
                kind,
                connection,
            });
        }
        Ok(())
    }

    fn job(
        &self,
        connection: &config::Connection,
        routed: &RouteTable,
        source: SharedSource,
        expiring: &Arc<[Expiring]>,
    ) -> Job {
        let endpoint = source.endpoint();
        let (table, layout) = routed.table(endpoint);
        Job {
            key: StreamKey::new(&connection.name, endpoint.stream),
            table,
            layout,
            pace: connection.streams.pace(endpoint.stream, endpoint.pace),
            source,
            event_time: self.event_time,
            expiring: Arc::clone(expiring),
            at_once: false,
            filters: filters_of(connection, endpoint).into(),
        }
    }

    /// Names and kinds of the connections, in the order of the settings.
    pub fn connected(&self) -> impl Iterator<Item = (&str, SourceKind)> {
        let connections = self.connections.iter();
        connections.map(|one| (&*one.name, one.kind))
    }

    /// Streams of one connection.
    pub fn jobs_of_connection(&self, name: &str, kind: SourceKind) -> Vec<&Job> {
        let jobs = self.jobs_of(Function::Pull(kind));
        jobs.filter(|job| job.key.connection == name).collect()
    }

    /// Access tokens that the streams of a connection need, each asked for once and for so long at
    /// most.
    pub async fn logins(&self, name: &str, kind: SourceKind, patience: Duration) -> Vec<Login> {
        let mut logins = Vec::new();
        let mut connections = self.connections.iter();
        let Some(one) = connections.find(|one| one.name == name && one.kind == kind) else {
            return logins;
        };
        let mut tokens: BTreeMap<Option<&str>, Vec<&Endpoint>> = BTreeMap::new();
        for job in self.jobs_of_connection(name, kind) {
            let endpoint = job.source.endpoint();
            let resource = one.connection.resource(endpoint);
            tokens.entry(resource).or_default().push(endpoint);
        }
        let all: Vec<&str> = tokens.values().flatten().map(|one| one.stream).collect();
        for (resource, endpoints) in tokens {
            let limits = self.limits_of(patience, CancellationToken::new());
            let beyond = one.connection.log_in(&endpoints, &limits).await;
            // Who can't be reached grants no other token either, and is not asked for one.
            let is_away = matches!(&beyond, Err(error) if error.is_unanswered());
            logins.push(Login {
                issuer: one.connection.issuer(),
                resource,
                opens: if is_away {
                    all.clone()
                } else {
                    endpoints.iter().map(|endpoint| endpoint.stream).collect()
                },
                beyond,
            });
            if is_away {
                break;
            }
        }
        logins
    }

    /// Connections that go side by side at most.
    pub fn streams_at_once(&self) -> usize {
        self.streams_at_once
    }

    /// The tables that rows go to, those of `ROUTES` last.
    pub fn tables(&self) -> Vec<&str> {
        let routed = self.tables.iter().map(String::as_str);
        let shared = TABLES.map(|table| table.name);
        let own = routed.filter(|name| !shared.contains(name));
        shared.into_iter().chain(own).collect()
    }

    /// The connections of this name: one to each source at most.
    pub fn connections<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Arc<dyn SourceConnection>> {
        let named = self.connections.iter().filter(move |one| one.name == name);
        named.map(|one| &one.connection)
    }

    /// The streams that tell which machines there are.
    pub fn machines(&self) -> impl Iterator<Item = &Job> {
        self.jobs().filter(|job| {
            let asset = job.source.endpoint().asset;
            asset.is_some_and(|asset| asset.kind == Kind::Machine)
        })
    }

    /// Connections that could not be connected to, each with what has to be done, but for those whose
    /// settings tell it.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &Error)> {
        let refused = self.refused.iter().filter(|one| !one.by_settings);
        refused.filter_map(|one| Some((&*one.streams.first()?.connection, &one.error)))
    }

    /// What runs work with.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The streams, as they are configured.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.streams.iter().map(|stream| &stream.job)
    }

    /// The streams of a function.
    pub fn jobs_of(&self, function: Function) -> impl Iterator<Item = &Job> {
        self.streams_of(function).map(|stream| &stream.job)
    }

    fn streams_of(&self, function: Function) -> impl Iterator<Item = &Stream> {
        let streams = self.streams.iter();
        streams.filter(move |stream| function == Function::Pull(stream.kind))
    }

    /// Until when a run that begins now may go on.
    pub fn limits(&self, stop: CancellationToken) -> Limits {
        self.limits_of(self.budget, stop)
    }

    /// Until when something that begins now and has this long may go on.
    pub fn limits_of(&self, patience: Duration, stop: CancellationToken) -> Limits {
        Limits {
            stop,
            ..Limits::until(self.parts.clock.now() + delta(patience))
        }
    }

    /// Runs the streams of a function. Those that share an account or a tenant one after the other, all
    /// others side by side, `STREAMS_AT_ONCE` of them at most, first whose turn was the longest ago.
    /// Reports are in the order of turns; behind them are those of connections that are refused, unless
    /// `only` some are asked for.
    pub async fn run(&self, function: Function, options: &RunOptions) -> Vec<Report> {
        let limits = self.limits(options.stop.clone());
        let parts = Parts {
            progress: Arc::clone(&options.progress),
            ..self.parts.clone()
        };
        if function == Function::Push {
            // The embedded sink is never out of reach: only what somebody put back waits for it.
            let nothing_waits = matches!(parts.storage.outbox_size().await, Ok((0, _)));
            if self.sink_is_embedded && nothing_waits {
                return Vec::new();
            }
            let drain = outbox_drain::drain(&parts, self.event_time, &limits);
            let report = drain.instrument(traced_run(function)).await;
            tell(&report);
            measure_waiting(&parts).await;
            return vec![report];
        }
        let mut waiting = Vec::new();
        let now = parts.clock.now();
        let streams = self.streams_of(function);
        let streams: Vec<&Stream> = streams
            .filter(|stream| options.has(&stream.job.key.connection))
            .collect();
        let keys: Vec<StreamKey> = streams.iter().map(|one| one.job.key.clone()).collect();
        let states = parts.storage.load_all(&keys).await;
        let mut run = Span::none();
        // A state that can't be read is reported by the run of its stream.
        for (stream, saved) in streams.into_iter().zip(states) {
            let state = saved.as_ref().ok().and_then(Option::as_ref);
            let every = stream.job.pace.every;
            let rests = state.is_some_and(|(state, _)| state.is_fresh(every, now));
            // Whoever looks every few seconds whether something is due makes no trace of that.
            if run.is_none() && (options.at_once || !rests) {
                run = traced_run(function);
            }
            let turn = state.and_then(|(state, _)| state.last_turn);
            waiting.push(Waiting {
                // By a clock that ran ahead it would be the last one for days.
                turn: turn.filter(|turn| *turn <= now),
                shares: &stream.shares,
                stream: (saved, &stream.job),
            });
        }
        let lanes = lanes(waiting).into_iter();
        let mut lanes: Vec<BoxFuture<'_, _>> = lanes
            .map(|lane| {
                let lane = run_lane(lane, &parts, &limits, options.at_once);
                lane.instrument(run.clone()).boxed()
            })
            .collect();
        // Behind all others: whoever can be run need not wait for them.
        let refused = self.refused.iter();
        let refused = refused.filter(|one| options.only.is_none() && one.is_of(function));
        lanes.push(refuse(refused.collect(), keys.len(), &parts).boxed());
        let mut reports: Vec<(usize, Report)> = stream::iter(lanes)
            .buffer_unordered(self.streams_at_once)
            .concat()
            .await;
        reports.sort_by_key(|(place, _)| *place);
        if reports.iter().any(|(_, report)| report.has_run()) {
            measure_waiting(&parts).await;
        }
        reports.into_iter().map(|(_, report)| report).collect()
    }
}

/// The state of a stream as it was loaded, and the stream.
type Loaded<'a> = (Result<Option<(StreamState, ETag)>>, &'a Job);

/// Runs streams one after the other. Each report keeps its place.
async fn run_lane(
    lane: Vec<(usize, Loaded<'_>)>,
    parts: &Parts,
    limits: &Limits,
    at_once: bool,
) -> Vec<(usize, Report)> {
    let mut reports = Vec::new();
    for (place, (saved, job)) in lane {
        let job = Job {
            at_once,
            ..job.clone()
        };
        let loaded = saved.as_ref().ok().and_then(Option::as_ref);
        let now = parts.clock.now();
        let rests = loaded.is_some_and(|(state, _)| state.is_fresh(job.pace.every, now));
        let traced = if at_once || !rests {
            traced_stream(&job.key)
        } else {
            Span::none()
        };
        let span = traced.in_scope(|| {
            tracing::info_span!(
                "stream",
                connection = job.key.connection,
                stream = job.key.stream
            )
        });
        let report = async {
            let run = pipeline::run_from(saved, &job, parts, limits);
            let report = Box::pin(run).await;
            tell(&report);
            report
        };
        let report = report.instrument(span).instrument(traced.clone()).await;
        end_traced(&traced, &report);
        reports.push((place, report));
    }
    reports
}

/// Reports the streams of connections that are refused, behind so many others.
async fn refuse(refused: Vec<&Refused>, others: usize, parts: &Parts) -> Vec<(usize, Report)> {
    let mut reports = Vec::new();
    for one in refused {
        for key in &one.streams {
            let report = pipeline::refuse(key.clone(), one.error.clone(), parts).await;
            tell(&report);
            reports.push((others + reports.len(), report));
        }
    }
    reports
}

/// The storage that the settings name, alone: for those who look after what is kept there.
pub fn storage(settings: &Settings, clock: &SharedClock) -> Result<SharedStorage> {
    Builder::new(settings, wire(settings, clock)?)?.storage()
}

/// The storage account that state is kept in, if it is kept in one.
fn own_account(settings: &Settings, clock: &SharedClock) -> Result<Option<AzureStorage>> {
    Builder::new(settings, wire(settings, clock)?)?.own_account()
}

/// The storage account that these settings name, which need not be ours.
pub fn azure_account(
    settings: &Settings,
    account: &azure::StorageSettings<'_>,
    clock: &SharedClock,
) -> Result<Option<AzureStorage>> {
    Builder::new(settings, wire(settings, clock)?)?.azure_account(account)
}

fn wire(settings: &Settings, clock: &SharedClock) -> Result<Wire> {
    Ok(Wire::new(network(settings)?, Arc::clone(clock)))
}

/// The network, trusting what the settings say.
pub fn network(settings: &Settings) -> Result<SharedTransport> {
    network_trusting(settings.extra_ca.as_deref())
}

/// The network, trusting the roots of this file as well.
pub fn network_trusting(extra_ca: Option<&Path>) -> Result<SharedTransport> {
    let roots = match extra_ca {
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

/// The span of a function's run.
fn traced_run(function: Function) -> Span {
    tracing::info_span!(target: TRACED, "run", function = function.folder())
}

/// The span of a stream's run.
fn traced_stream(key: &StreamKey) -> Span {
    tracing::info_span!(
        target: TRACED,
        "stream",
        connection = key.connection,
        stream = key.stream,
        outcome = Empty,
        pages = Empty,
        calls = Empty,
        retries = Empty,
        pulled = Empty,
        landed = Empty,
        waiting = Empty,
        dead = Empty,
        duplicate = Empty,
        filtered = Empty,
        unchanged = Empty,
        gone = Empty,
        again = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Says in the span of a stream's run how it was, in the words and numbers of the report.
fn end_traced(span: &Span, report: &Report) {
    if span.is_disabled() {
        return;
    }
    let counts = &report.counts;
    span.record("outcome", report.outcome.word());
    let others = [
        ("pages", report.pages),
        ("calls", report.calls),
        ("retries", report.retries),
        ("pulled", counts.pulled),
        ("gone", counts.gone),
    ];
    for (name, count) in others.into_iter().chain(counts.became()) {
        span.record(name, count);
    }
    if report.outcome == Outcome::Failed {
        let kind = report.error_kind.map(|kind| kind.to_string());
        span.record("error.type", kind);
        span.record("otel.status_code", "ERROR");
    }
}

/// How much waits for the sink, and what nobody takes, where somebody measures it.
async fn measure_waiting(parts: &Parts) {
    if !telemetry::is_measured() {
        return;
    }
    let mut measures = Vec::new();
    if let Ok((batches, bytes)) = parts.storage.outbox_size().await {
        measures.push(of_app(&OUTBOX_BATCHES, batches));
        measures.push(of_app(&OUTBOX_SIZE, bytes));
    }
    if let Ok(letters) = parts.storage.count_dead_letters().await {
        measures.push(of_app(&DEAD_LETTERS, letters));
    }
    telemetry::record(&measures);
}

/// Tells of a run that has ended, in the log and in numbers.
fn tell(report: &Report) {
    log(report);
    if telemetry::is_measured() {
        telemetry::record(&report.measures());
    }
}

fn log(report: &Report) {
    let (counts, attempt) = (&report.counts, report.attempt.as_ref());
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
        method = attempt.map(|attempt| attempt.method.as_str()),
        place = attempt.map(|attempt| attempt.place.as_str()),
        status = attempt.and_then(|attempt| Some(attempt.status?.as_u16())),
        attempts = attempt.map(|attempt| attempt.attempts),
        elapsed_seconds = attempt.map(|attempt| attempt.elapsed.as_secs()),
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
