//! Many tenants with few records each: one run of all of them as the timer starts it, side by side, and
//! one of a tenth of them one by one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use indicatif::HumanBytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    BenchArguments, BenchProcess, Folder, Of, Usage,
    child::{self, Child, Named},
    screen::{self, Screen, SheetColumn},
    world::World,
};
use crate::{
    app::{self, App, Function, RunOptions},
    check::{self, Found},
    config::{Environment, Mode, Settings, Source},
    core::protocol::source_kind::SourceKind,
    error::{Error, Result},
    io::{
        clock::SharedClock,
        http::{Request, Response, SharedTransport, Transport, TransportError},
    },
    pipeline::Outcome,
    simulator::Options,
    status::Overview,
};

/// Streams of each tenant, of which the first so many are read.
const STREAMS: [&str; 3] = ["detections", "incidents", "devices"];

/// Where state is kept, if it is set: an emulator of its own, or whoever keeps state there gets it mixed
/// with that of the bench.
const STORAGE: &str = "AzureWebJobsStorage";

/// What a run of many tenants was like.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct TenantsDone {
    streams: u32,
    records: u64,
    seconds: f64,
    /// Seconds until the last stream was begun.
    begun: f64,
    usage: Usage,
    /// Seconds that `check` and `Status` took then.
    check: f64,
    status: f64,
}

/// One run of many tenants, in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TenantsPart {
    part: &'static str,
    tenants: u64,
    streams: u32,
    records: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_bytes: u64,
    begun_seconds: f64,
    check_seconds: f64,
    status_seconds: f64,
}

impl TenantsPart {
    fn new(part: &'static str, tenants: u64, done: &TenantsDone) -> Self {
        Self {
            part,
            tenants,
            streams: done.streams,
            records: done.records,
            seconds: done.seconds,
            cpu_seconds: done.usage.cpu_seconds,
            peak_bytes: done.usage.peak_bytes,
            begun_seconds: done.begun,
            check_seconds: done.check,
            status_seconds: done.status,
        }
    }
}

/// Of such a run, in a list.
const TENANTS: [SheetColumn<TenantsPart>; 10] = [
    SheetColumn::data("part"),
    SheetColumn::data("tenants"),
    SheetColumn::data("streams"),
    SheetColumn::data("records"),
    SheetColumn::data("seconds"),
    SheetColumn::data("cpuSeconds"),
    SheetColumn::data("peakBytes"),
    SheetColumn::data("begunSeconds"),
    SheetColumn::data("checkSeconds"),
    SheetColumn::data("statusSeconds"),
];

/// A network on which all but the simulator, which has a latency of its own, is farther away.
struct Far {
    network: SharedTransport,
    clock: SharedClock,
    near: String,
    latency: Duration,
}

#[async_trait]
impl Transport for Far {
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        let authority = request.uri().authority();
        if authority.is_none_or(|authority| authority.as_str() != self.near) {
            self.clock.sleep(self.latency).await;
        }
        self.network.send(request).await
    }
}

/// Measures both, and shows them.
pub(super) fn compare(arguments: &BenchArguments, screen: Screen) -> Result<()> {
    Usage::of_this_process()?;
    let folder = Folder::new()?;
    let few = (arguments.tenants / 10).max(1);
    let one_by_one = measure(arguments, &folder, "one", few, Some(1))?;
    let together = measure(arguments, &folder, "all", arguments.tenants, None)?;
    let parts = [
        TenantsPart::new("side by side", arguments.tenants, &together),
        TenantsPart::new("one by one", few, &one_by_one),
    ];
    if screen.data(&TENANTS, &parts)? {
        return Ok(());
    }
    let storage = match storage() {
        Some(_) => "state in Table and Blob storage, as far away",
        None => "state in the embedded file, at no distance",
    };
    let per_stream = |done: &TenantsDone, seconds: f64| seconds * 1e3 / f64::from(done.streams);
    let line = |name: &str, tenants: u64, done: &TenantsDone| {
        format!(
            "{name:<13} {tenants} tenants in {:.2} s, {:.1} ms and {:.2} ms of CPU a stream, peak {}; \
             the last stream begun after {:.1} s; {} records",
            done.seconds,
            per_stream(done, done.seconds),
            per_stream(done, done.usage.cpu_seconds),
            HumanBytes(done.usage.peak_bytes),
            done.begun,
            done.records,
        )
    };
    let ratio = |of: &dyn Fn(&TenantsDone) -> f64| {
        per_stream(&together, of(&together)) / per_stream(&one_by_one, of(&one_by_one))
    };
    let lines = [
        format!(
            "{} tenants with {} streams each, {} ms of latency a call; {storage}",
            arguments.tenants,
            arguments.streams,
            arguments.latency(),
        ),
        line("side by side", arguments.tenants, &together),
        line("one by one", few, &one_by_one),
        format!(
            "ratio         {:.3} x the time a stream, {:.2} x the CPU",
            ratio(&|done| done.seconds),
            ratio(&|done| done.usage.cpu_seconds)
        ),
        format!(
            "look          check {:.2} s, Status {:.2} s over {} tenants",
            together.check, together.status, arguments.tenants
        ),
    ];
    screen::line(lines.join("\n"));
    Ok(())
}

/// The storage account that is to be used, if one is.
fn storage() -> Option<String> {
    let environment = Environment::from_process();
    environment.get(STORAGE).map(str::to_owned)
}

fn measure(
    arguments: &BenchArguments,
    folder: &Folder,
    name: &str,
    tenants: u64,
    at_once: Option<u32>,
) -> Result<TenantsDone> {
    let mut world = World::start(arguments, &folder.0.join(name))?;
    let mut settings = world.settings().clone();
    settings.extend(own(&settings, arguments, name, tenants));
    settings.extend(at_once.map(|most| ("STREAMS_AT_ONCE".to_owned(), most.to_string())));
    let latency = ["--latency".to_owned(), arguments.latency().to_string()];
    let mut child = Child::start(BenchProcess::Tenants, Of::Tenants, &latency)?;
    child.tell(&settings)?;
    let done = child.hear()?;
    child.end()?;
    world.end()?;
    Ok(done)
}

/// Settings of so many connections, and of where their state is kept.
fn own(settings: &Named, arguments: &BenchArguments, name: &str, tenants: u64) -> Named {
    let login = settings.get("ESET_LOGIN").map_or("", String::as_str);
    let connection = |number| {
        json!({
            "name": format!("{name}{number}"),
            "source": "eset",
            "settings": { "ESET_LOGIN": Options::login_of(number, login) },
        })
    };
    let connections: Vec<_> = (1..=tenants).map(connection).collect();
    let password = settings.get("ESET_PASSWORD").map_or("", String::as_str);
    let passwords = (1..=tenants).map(|number| {
        let setting = format!("{}{number}_ESET_PASSWORD", name.to_uppercase());
        (setting, password.to_owned())
    });
    let streams = STREAMS.iter().take(arguments.streams as usize);
    let mut own: Named = passwords.collect();
    own.insert("CONNECTIONS".to_owned(), json!(connections).to_string());
    let streams: Vec<&str> = streams.copied().collect();
    own.insert("ESET_STREAMS".to_owned(), streams.join(","));
    if let Some(storage) = storage() {
        own.insert(STORAGE.to_owned(), storage);
        own.insert("STORAGE".to_owned(), "azure".to_owned());
    }
    own
}

/// Runs all streams once.
pub(super) async fn run(arguments: &BenchArguments, clock: SharedClock) -> Result<()> {
    let environment = child::environment()?;
    let settings = Settings::load(&environment, Mode::Local)?;
    let near = settings
        .connections
        .iter()
        .find_map(|one| match &one.source {
            Source::Eset(eset) => eset.base_url("").parse::<http::Uri>().ok(),
            Source::Defender(_) => None,
        });
    let near = near.and_then(|uri| Some(uri.authority()?.to_string()));
    let transport: SharedTransport = Arc::new(Far {
        network: app::network(&settings)?,
        clock: Arc::clone(&clock),
        near: near.unwrap_or_default(),
        latency: Duration::from_millis(arguments.latency()),
    });
    let app = App::with_transport(&settings, &clock, &transport)?;
    let began = clock.now();
    let options = RunOptions::default();
    let reports = app.run(Function::Pull(SourceKind::Eset), &options).await;
    let seconds = (clock.now() - began).as_seconds_f64();
    if let Some(report) = reports.iter().find(|one| one.outcome != Outcome::UpToDate) {
        let reason = report.reason.as_deref().unwrap_or_default();
        return Err(Error::transient(format!(
            "{}: the run did not end well: {:?} {reason}",
            report.key, report.outcome
        )));
    }
    let begun = reports.iter().map(|report| report.began).max();
    let usage = Usage::of_this_process()?;
    let asked = clock.now();
    let mut bad = None;
    check::dependencies(&app, &mut |finding| {
        if finding.found == Found::Bad {
            bad = Some(finding.text);
        }
    })
    .await;
    if let Some(text) = bad {
        return Err(Error::transient(format!("`check` says BAD: {text}")));
    }
    let checked = clock.now();
    let overview = Overview::look(Ok(&app), &environment, Mode::Host, checked).await;
    drop(overview.json());
    let told = clock.now();
    child::report(&TenantsDone {
        streams: u32::try_from(reports.len()).unwrap_or(u32::MAX),
        records: reports.iter().map(|report| report.counts.pulled).sum(),
        seconds,
        begun: begun.map_or(0.0, |last| (last - began).as_seconds_f64()),
        usage,
        check: (checked - asked).as_seconds_f64(),
        status: (told - checked).as_seconds_f64(),
    })
}
