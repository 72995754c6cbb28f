//! Log lines: under the Functions host one JSON object a line, for a person text.
//!
//! The host knows a line's level only by where it was written (stdout is Information, stderr is
//! Error) and never which invocation it belongs to. So errors, and nothing else, go to stderr, and
//! each line carries the fields of its spans: `invocation_id`, `function`, `connection`, `stream`.

use std::{fmt, io};

use serde::Serializer;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, Targets, filter_fn},
    fmt::{
        FmtContext, FormattedFields, MakeWriter,
        format::{FormatEvent, JsonFields, Writer},
        time::{FormatTime, SystemTime},
        writer::MakeWriterExt,
    },
    layer::{Filter, SubscriberExt},
    registry::{LookupSpan, Scope},
    util::SubscriberInitExt,
};

use crate::error::{Error, Result};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person, on stderr, so that stdout is left to what a command prints.
    Text,
    /// For the host: one object a line, errors on stderr and everything else on stdout.
    Json,
}

/// Logs from now on, panics included; `beside` sees what it wants of the same spans. Fails when
/// something logs already.
pub fn init(
    format: Format,
    level: LevelFilter,
    beside: Option<Box<dyn Layer<Registry> + Send + Sync>>,
) -> Result<()> {
    let filter = filter(level);
    let lines = match format {
        // Colours are not compiled in: to ask for them prints a complaint before all else.
        Format::Text => tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(io::stderr)
            .with_filter(filter)
            .boxed(),
        Format::Json => json(io::stdout, io::stderr).with_filter(filter).boxed(),
    };
    // No empty place among them: a layer that is `None` is interested in everything.
    let layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> =
        beside.into_iter().chain([lines]).collect();
    let started = tracing_subscriber::registry().with(layers).try_init();
    started.map_err(|error| Error::config(format!("logging can't start: {error}")))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// What the OpenTelemetry SDK may say: that it drops spans, once, and at the end how many. Of a collector
/// that is away it would tell at each export.
const DROPS: [&str; 2] = [
    "BatchSpanProcessor.SpanDroppingStarted",
    "BatchSpanProcessor.SpansDropped",
];

/// Libraries are quieter than we: at `debug` they would log what they send.
fn filter<S: Subscriber>(level: LevelFilter) -> impl Filter<S> {
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("sentinel_connector", level);
    let drops = filter_fn(|metadata| {
        !metadata.target().starts_with("opentelemetry") || DROPS.contains(&metadata.name())
    });
    // Without a hint of its own, everything down to `trace` would be looked at, and left out one by one.
    targets.and(drops.with_max_level_hint(LevelFilter::TRACE))
}

/// The default hook prints several lines without an invocation; the host shows each as an error.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let said = text
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(place, "panic: {said}");
}

/// The layer for the host, with the places it writes to.
fn json<S, O, E>(out: O, err: E) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    O: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    E: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine)
        .with_writer(err.with_max_level(Level::ERROR).or_else(out))
}

/// One object a line. The formatter of `tracing_subscriber` nests the spans' fields; queries want
/// them at the top.
struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let mut line = Line::default();
        line.set("timestamp", timestamp.into());
        line.set("level", metadata.level().as_str().into());
        line.set("message", "".into());
        line.set("target", metadata.target().into());
        // From the outermost span inwards, so that the inner one wins.
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let fields = extensions
                .get::<FormattedFields<JsonFields>>()
                .and_then(|fields| serde_json::from_str::<Map<String, Value>>(&fields.fields).ok());
            for (name, value) in fields.into_iter().flatten() {
                line.set(&name, value);
            }
        }
        event.record(&mut line);
        writeln!(writer, "{}", line.json())
    }
}

/// Fields in the order in which they are read.
#[derive(Default)]
struct Line(Vec<(String, Value)>);

impl Line {
    fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(present, _)| present == name) {
            Some((_, present)) => *present = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn json(&self) -> String {
        let mut bytes = Vec::new();
        let fields = self.0.iter().map(|(name, value)| (name, value));
        // Text and values can always be written to memory.
        let written = serde_json::Serializer::new(&mut bytes).collect_map(fields);
        debug_assert!(written.is_ok());
        String::from_utf8(bytes).unwrap_or_default()
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn lines(&self) -> Vec<Value> {
            self.text()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn logged(level: LevelFilter, log: impl FnOnce()) -> (Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let (to_out, to_err) = (out.clone(), err.clone());
        let lines = json(move || to_out.clone(), move || to_err.clone());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter(level)));
        tracing::subscriber::with_default(subscriber, log);
        (out, err)
    }

    /// Each `trace!` of a library would be looked at otherwise: a tenth of a run's CPU.
    #[test]
    fn what_is_below_the_level_is_not_looked_at() {
        let hint = Filter::<Registry>::max_level_hint(&filter(LevelFilter::WARN));
        assert_eq!(hint, Some(LevelFilter::WARN));
    }

    #[test]
    fn a_line_is_one_object_with_the_fields_of_its_spans_at_the_top() {
        let (out, err) = logged(LevelFilter::INFO, || {
            let outer =
                tracing::info_span!("invocation", invocation_id = %"a\"b", function = "EsetTimer");
            let _outer = outer.enter();
            let inner = tracing::info_span!("stream", connection = "c", stream = "eset.detections");
            let _inner = inner.enter();
            tracing::info!(rows = 3, gzip = true, "pulled\nall");
        });
        assert_eq!(err.text(), "");
        let lines = out.lines();
        assert_eq!(lines.len(), 1);
        let expected = [
            ("level", Value::from("INFO")),
            ("message", "pulled\nall".into()),
            ("invocation_id", "a\"b".into()),
            ("function", "EsetTimer".into()),
            ("connection", "c".into()),
            ("stream", "eset.detections".into()),
            ("rows", 3.into()),
            ("gzip", true.into()),
        ];
        for (name, value) in expected {
            assert_eq!(lines[0][name], value, "{name}");
        }
        assert!(
            out.text().starts_with("{\"timestamp\":\"20"),
            "{}",
            out.text()
        );
    }

    #[test]
    fn errors_and_nothing_else_go_to_stderr() {
        let (out, err) = logged(LevelFilter::INFO, || {
            tracing::warn!("slow");
            tracing::error!(kind = "config", "failed");
            tracing::debug!("hidden");
        });
        assert_eq!(out.lines().len(), 1);
        assert_eq!(out.lines()[0]["level"], "WARN");
        assert_eq!(err.lines()[0]["level"], "ERROR");
        assert_eq!(err.lines()[0]["kind"], "config");
        // The host takes a line of stderr that holds this word for a mere warning.
        assert!(!err.text().to_ascii_lowercase().contains("warn"));
    }

    #[test]
    fn libraries_stay_quiet_at_debug() {
        let (out, _) = logged(LevelFilter::DEBUG, || {
            tracing::debug!("ours");
            tracing::debug!(target: "hyper", "theirs");
        });
        assert_eq!(out.lines().len(), 1);
    }
}
