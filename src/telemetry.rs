//! Traces and metrics, sent by OTLP to who collects them: in batches, from threads of their own, so that no
//! run waits for it. Without settings nothing of it is built.
//!
//! What is traced are the spans of the target [`TRACED`]; log lines know nothing of them. The export goes
//! through a transport that is not observed: it would trace itself on and on.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, MeterProvider},
    trace::TracerProvider,
};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider, Stream},
    trace::{Sampler, SdkTracerProvider},
};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tracing_subscriber::{Layer, Registry, filter::Targets};

use crate::{
    config::TelemetrySettings,
    core::metrics::{Amount, METRICS, Measure, Metric, MetricKind, TRACED},
    error::{Error, Result},
    io::{
        clock::{Elapsed, SharedClock, timeout},
        http::SharedTransport,
    },
};

mod collector;
mod observed;

use collector::Collector;
pub use observed::observed;

const SCOPE: &str = env!("CARGO_PKG_NAME");

/// Bounds of durations in seconds: those of `http.client.request.duration`
/// (`opentelemetry.io/docs/specs/semconv/http/http-metrics`), and some more for runs.
const BOUNDS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    120.0, 240.0,
];

/// Series of one metric: a thousand connections of nine streams, by what records became. Above it the
/// SDK adds up what it can't tell apart.
const SERIES: usize = 100_000;

/// Spans as a part of what logs.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What sends, until it is ended.
#[derive(Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Where measures go, once somebody wants them.
static INSTRUMENTS: OnceLock<Vec<(&'static Metric, Instrument)>> = OnceLock::new();

enum Instrument {
    Counter(Counter<u64>),
    Gauge(Gauge<u64>),
    Histogram(Histogram<f64>),
}

/// True when metrics are sent.
pub fn is_measured() -> bool {
    INSTRUMENTS.get().is_some()
}

/// Takes measures, if anybody wants them: counts are added, levels replace what they were.
pub fn record(measures: &[Measure]) {
    let Some(instruments) = INSTRUMENTS.get() else {
        return;
    };
    for Measure {
        metric,
        labels,
        amount,
    } in measures
    {
        let mut instruments = instruments.iter();
        let Some((_, instrument)) = instruments.find(|(of, _)| of == metric) else {
            continue;
        };
        let attributes: Vec<KeyValue> = labels.iter().map(attribute).collect();
        match (instrument, amount) {
            (Instrument::Counter(counter), Amount::Count(count)) => {
                counter.add(*count, &attributes);
            }
            (Instrument::Gauge(gauge), Amount::Count(count)) => gauge.record(*count, &attributes),
            // Of one at a time: sums of many are no histogram.
            (Instrument::Histogram(histogram), Amount::Durations { seconds, .. }) => {
                histogram.record(*seconds, &attributes);
            }
            _ => {}
        }
    }
}

/// Numbers where the conventions have numbers.
fn attribute((name, value): &(&'static str, String)) -> KeyValue {
    if matches!(*name, "server.port" | "http.response.status_code")
        && let Ok(number) = value.parse::<i64>()
    {
        return KeyValue::new(*name, number);
    }
    KeyValue::new(*name, value.clone())
}

impl Telemetry {
    /// Begins to send, over a transport that nobody observes. Gives back what makes spans of what is
    /// traced, for whoever logs.
    ///
    /// # Errors
    /// `Config` when an endpoint or a header is none.
    pub fn start(
        settings: &TelemetrySettings,
        transport: SharedTransport,
        clock: &SharedClock,
    ) -> Result<(Self, Option<SpanLayer>)> {
        let collector: Arc<dyn opentelemetry_http::HttpClient> = Arc::new(Collector::new(
            transport,
            Arc::clone(clock),
            settings.patience,
        ));
        let headers = || {
            let headers = settings.headers.iter();
            headers
                .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
                .collect()
        };
        let wrong = |error: opentelemetry_otlp::ExporterBuildError| {
            Error::config(format!("`OTEL_EXPORTER_OTLP_ENDPOINT`: {error}"))
        };
        let resource = resource(settings);
        let mut telemetry = Self::default();
        let mut layer = None;
        if let Some(endpoint) = &settings.traces {
            let exporter = SpanExporter::builder()
                .with_http()
                .with_shared_http_client(Arc::clone(&collector))
                .with_endpoint(endpoint)
                .with_headers(headers())
                .with_timeout(settings.patience)
                .build()
                .map_err(wrong)?;
            let provider = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_sampler(sampler(settings))
                .with_resource(resource.clone())
                .build();
            let spans = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(SCOPE))
                .with_location(false)
                .with_threads(false)
                .with_level(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_filter(Targets::new().with_target(TRACED, tracing::Level::INFO));
            layer = Some(spans.boxed());
            telemetry.traces = Some(provider);
        }
        if let Some(endpoint) = &settings.metrics {
            let exporter = MetricExporter::builder()
                .with_http()
                .with_shared_http_client(collector)
                .with_endpoint(endpoint)
                .with_headers(headers())
                .with_timeout(settings.patience)
                .build()
                .map_err(wrong)?;
            let reader = PeriodicReader::builder(exporter)
                .with_interval(settings.every)
                .build();
            let provider = SdkMeterProvider::builder()
                .with_reader(reader)
                .with_view(|_: &opentelemetry_sdk::metrics::Instrument| {
                    Stream::builder()
                        .with_cardinality_limit(SERIES)
                        .build()
                        .ok()
                })
                .with_resource(resource)
                .build();
            INSTRUMENTS.get_or_init(|| instruments(&provider));
            telemetry.metrics = Some(provider);
        }
        Ok((telemetry, layer))
    }

    /// Sends what is still here, but for no longer than this.
    pub async fn end(self, patience: Duration, clock: &SharedClock) {
        let (ended, mut all) = mpsc::channel::<()>(1);
        let Self { traces, metrics } = self;
        // Both wait for exchanges that this thread has to drive; the threads end with the process.
        if let Some(traces) = traces {
            let ended = ended.clone();
            std::thread::spawn(move || {
                drop(traces.shutdown_with_timeout(patience));
                drop(ended);
            });
        }
        if let Some(metrics) = metrics {
            let ended = ended.clone();
            std::thread::spawn(move || {
                drop(metrics.shutdown_with_timeout(patience));
                drop(ended);
            });
        }
        drop(ended);
        if timeout(&**clock, patience, all.recv()).await == Err(Elapsed) {
            tracing::warn!("the last traces and metrics were not taken in time, and are lost");
        }
    }
}

fn resource(settings: &TelemetrySettings) -> Resource {
    let own = settings.resource.iter();
    let own = own.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new(
                "service.instance.id",
                format!("{:032x}", rand::random::<u128>()),
            ),
        ])
        .with_attributes(own)
        .build()
}

fn sampler(settings: &TelemetrySettings) -> Sampler {
    // A ratio of all keeps all, and one of nothing none.
    let root = Sampler::TraceIdRatioBased(settings.sampler.ratio);
    if settings.sampler.parent_based {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    }
}

fn instruments(provider: &SdkMeterProvider) -> Vec<(&'static Metric, Instrument)> {
    let meter = provider.meter(SCOPE);
    let made = METRICS.iter().map(|metric| {
        let Metric {
            name,
            unit,
            help,
            kind,
        } = *metric;
        let instrument = match kind {
            MetricKind::Counter => {
                let counter = meter.u64_counter(name).with_unit(unit);
                Instrument::Counter(counter.with_description(help).build())
            }
            MetricKind::Gauge => {
                let gauge = meter.u64_gauge(name).with_unit(unit);
                Instrument::Gauge(gauge.with_description(help).build())
            }
            MetricKind::Duration => {
                let histogram = meter.f64_histogram(name).with_unit(unit);
                let histogram = histogram.with_boundaries(BOUNDS.to_vec());
                Instrument::Histogram(histogram.with_description(help).build())
            }
        };
        (metric, instrument)
    });
    made.collect()
}
