//! Numbers for whoever watches: one list of metrics, whether they are asked for in Prometheus' text
//! form or sent by OTLP.
//!
//! Names and units are OpenTelemetry's (`opentelemetry.io/docs/specs/semconv/general/metrics`); those of
//! Prometheus follow from them (`opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics`).

use std::fmt::{self, Write};

use chrono::{DateTime, Utc};

use super::{
    position::cursor::{StreamKey, StreamState},
    totals::Totals,
};

/// The target of spans that are sent; log lines leave them out.
pub const TRACED: &str = "telemetry";

/// How the values of a metric go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// They are added up.
    Counter,
    /// The last one counts.
    Gauge,
    /// Durations: how many there were, and their sum.
    Duration,
}

/// What is measured.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit, as UCUM writes it.
    pub unit: &'static str,
    /// What it says.
    pub help: &'static str,
    /// How its values go together.
    pub kind: MetricKind,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal in $unit:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                unit: $unit,
                help: $help,
                kind: MetricKind::$kind,
            };
        )*

        /// Every metric that there is.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    RUNS: Counter "sentinel_connector.runs" in "{run}",
        "Runs of a stream, by outcome.";
    RUN_DURATION: Duration "sentinel_connector.run.duration" in "s",
        "Time that runs of a stream took.";
    PULLED: Counter "sentinel_connector.pulled" in "{record}",
        "Records that the source gave.";
    RECORDS: Counter "sentinel_connector.records" in "{record}",
        "Records that were pulled or are gone, by what they became.";
    GONE: Counter "sentinel_connector.gone" in "{record}",
        "Records of a snapshot that are there no longer.";
    READ: Counter "sentinel_connector.read" in "By",
        "Bytes of records that were read.";
    PAGES: Counter "sentinel_connector.pages" in "{page}",
        "Pages that were read.";
    CALLS: Counter "sentinel_connector.calls" in "{call}",
        "Calls to the source, retries among them.";
    RETRIES: Counter "sentinel_connector.retries" in "{call}",
        "Calls to the source that were made again after a failure.";
    LAG: Gauge "sentinel_connector.lag" in "s",
        "Time since the instant up to which everything is proven to be read.";
    GAPS: Gauge "sentinel_connector.gaps" in "{gap}",
        "Spans of a stream that can't be proven complete.";
    FAILED: Gauge "sentinel_connector.failed" in "1",
        "1 when the last run of a stream failed, else 0.";
    OUTBOX_BATCHES: Gauge "sentinel_connector.outbox.batches" in "{batch}",
        "Batches that wait for the sink.";
    OUTBOX_SIZE: Gauge "sentinel_connector.outbox.size" in "By",
        "Bytes of the batches that wait for the sink.";
    DEAD_LETTERS: Gauge "sentinel_connector.dead_letters" in "{record}",
        "Records and rows that nobody takes.";
    QUEUE_MESSAGES: Gauge "sentinel_connector.queue.messages" in "{message}",
        "Messages of the queue of lanes, those that are worked on among them.";
    QUEUE_AGE: Gauge "sentinel_connector.queue.age" in "s",
        "Time that the oldest message has waited for its first try.";
    QUEUE_POISON: Gauge "sentinel_connector.queue.poison" in "{message}",
        "Messages that the Functions host has given up.";
    EXCHANGE_DURATION: Duration "http.client.request.duration" in "s",
        "Time until an HTTP request was answered.";
    INVOCATION_DURATION: Duration "faas.invoke_duration" in "s",
        "Time that invocations of a function took.";
}

/// How much it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many.
    Count(u64),
    /// So many durations, with their sum.
    Durations {
        /// How many.
        count: u64,
        /// Their sum in seconds.
        seconds: f64,
    },
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What is measured.
    pub metric: &'static Metric,
    /// Of what, by name.
    pub labels: Vec<(&'static str, String)>,
    /// How much it is.
    pub amount: Amount,
}

fn of(key: &StreamKey) -> Vec<(&'static str, String)> {
    vec![
        ("connection", key.connection.clone()),
        ("stream", key.stream.clone()),
    ]
}

/// What runs of a stream add up to.
pub fn of_totals(key: &StreamKey, totals: &Totals) -> Vec<Measure> {
    let Totals {
        runs,
        milliseconds,
        pages,
        bytes,
        calls,
        retries,
        counts,
    } = totals;
    let of_stream = |metric, amount| Measure {
        metric,
        labels: of(key),
        amount,
    };
    let by = |metric, name, value: &str, count| {
        let mut measure = of_stream(metric, Amount::Count(count));
        measure.labels.push((name, value.to_owned()));
        measure
    };
    let mut measures: Vec<Measure> = runs
        .iter()
        .map(|(outcome, runs)| by(&RUNS, "outcome", outcome, *runs))
        .collect();
    let seconds = Amount::Durations {
        count: runs.values().sum(),
        seconds: std::time::Duration::from_millis(*milliseconds).as_secs_f64(),
    };
    measures.push(of_stream(&RUN_DURATION, seconds));
    for (became, count) in counts.became() {
        measures.push(by(&RECORDS, "became", became, count));
    }
    for (metric, count) in [
        (&PULLED, counts.pulled),
        (&GONE, counts.gone),
        (&READ, *bytes),
        (&PAGES, *pages),
        (&CALLS, *calls),
        (&RETRIES, *retries),
    ] {
        measures.push(of_stream(metric, Amount::Count(count)));
    }
    measures
}

/// Where a stream stands.
pub fn of_standing(
    key: &StreamKey,
    lag_seconds: Option<i64>,
    gaps: usize,
    failed: bool,
) -> Vec<Measure> {
    let lag = lag_seconds.map(|lag| (&LAG, u64::try_from(lag).unwrap_or_default()));
    let gaps = (&GAPS, u64::try_from(gaps).unwrap_or(u64::MAX));
    let all = lag.into_iter().chain([gaps, (&FAILED, u64::from(failed))]);
    all.map(|(metric, count)| Measure {
        metric,
        labels: of(key),
        amount: Amount::Count(count),
    })
    .collect()
}

/// What is saved of a stream: its sums, and where it stands now.
pub fn of_state(key: &StreamKey, state: &StreamState, now: DateTime<Utc>) -> Vec<Measure> {
    let lag = state.complete_until.map(|good| (now - good).num_seconds());
    let mut measures = state
        .totals
        .as_ref()
        .map(|totals| of_totals(key, totals))
        .unwrap_or_default();
    let standing = of_standing(key, lag, state.gaps.len(), state.error.is_some());
    measures.extend(standing);
    measures
}

/// A value that is of the whole app.
pub fn of_app(metric: &'static Metric, count: u64) -> Measure {
    Measure {
        metric,
        labels: Vec::new(),
        amount: Amount::Count(count),
    }
}

/// The content type of [`prometheus`]
/// (`prometheus.io/docs/instrumenting/exposition_formats/#text-based-format`).
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Measures in Prometheus' text form, by metric in the order of the list.
pub fn prometheus(measures: &[Measure]) -> String {
    Exposition(measures).to_string()
}

struct Exposition<'a>(&'a [Measure]);

impl fmt::Display for Exposition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for metric in METRICS {
            let of_metric = self.0.iter().filter(|one| one.metric == metric);
            let mut of_metric = of_metric.peekable();
            if of_metric.peek().is_none() {
                continue;
            }
            let name = PrometheusName(metric);
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Duration => "summary",
            };
            writeln!(f, "# HELP {name} {}", metric.help)?;
            writeln!(f, "# TYPE {name} {kind}")?;
            for Measure { labels, amount, .. } in of_metric {
                let labels = Labels(labels);
                match amount {
                    Amount::Count(count) => writeln!(f, "{name}{labels} {count}")?,
                    Amount::Durations { count, seconds } => {
                        writeln!(f, "{name}_sum{labels} {seconds}")?;
                        writeln!(f, "{name}_count{labels} {count}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The name of a metric as Prometheus has it.
struct PrometheusName<'a>(&'a Metric);

impl fmt::Display for PrometheusName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Metric {
            name, unit, kind, ..
        } = self.0;
        f.write_str(&name.replace('.', "_"))?;
        f.write_str(match *unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        })?;
        match kind {
            MetricKind::Counter => f.write_str("_total"),
            MetricKind::Gauge | MetricKind::Duration => Ok(()),
        }
    }
}

struct Labels<'a>(&'a [(&'static str, String)]);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            write!(f, "{before}{name}=\"")?;
            for character in value.chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    other => f.write_char(other)?,
                }
            }
            f.write_char('"')?;
        }
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_char('}')
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::totals::Counts;

    #[test]
    fn each_metric_has_a_name_of_its_own_that_says_no_unit() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for name in names {
            let plain = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_');
            assert!(name.bytes().all(plain), "{name}");
            assert!(
                !name.contains("seconds") && !name.contains("bytes"),
                "{name}"
            );
            assert!(!name.ends_with("total"), "{name}");
        }
    }

    #[test]
    fn what_records_became_adds_up_to_what_was_pulled_and_what_is_gone() {
        let counts = Counts {
            pulled: 29,
            landed: 3,
            waiting: 5,
            dead: 7,
            duplicate: 11,
            filtered: 2,
            unchanged: 1,
            gone: 4,
            again: 4,
        };
        assert!(counts.balance());
        let totals = Totals {
            counts,
            ..Totals::default()
        };
        let measures = of_totals(&StreamKey::new("a", "b"), &totals);
        let sum = |metric: &Metric| -> u64 {
            let measures = measures.iter().filter(|one| one.metric == metric);
            let counts = measures.map(|one| match one.amount {
                Amount::Count(count) => count,
                Amount::Durations { .. } => 0,
            });
            counts.sum()
        };
        assert_eq!(sum(&RECORDS), sum(&PULLED) + sum(&GONE));
    }

    #[test]
    fn the_text_form_names_each_metric_once_and_escapes_values() {
        let key = StreamKey::new("a\"b\\c\nd", "eset.detections");
        let totals = Totals {
            runs: [("up-to-date".to_owned(), 2)].into(),
            milliseconds: 1500,
            bytes: 7,
            ..Totals::default()
        };
        let mut measures = of_standing(&key, Some(-3), 1, true);
        measures.extend(of_totals(&key, &totals));
        measures.push(of_app(&OUTBOX_SIZE, 9));
        let text = prometheus(&measures);
        let labels = r#"{connection="a\"b\\c\nd",stream="eset.detections""#;
        for line in [
            "# TYPE sentinel_connector_runs_total counter".to_owned(),
            format!(r#"sentinel_connector_runs_total{labels},outcome="up-to-date"}} 2"#),
            "# TYPE sentinel_connector_run_duration_seconds summary".to_owned(),
            format!("sentinel_connector_run_duration_seconds_sum{labels}}} 1.5"),
            format!("sentinel_connector_run_duration_seconds_count{labels}}} 2"),
            format!("sentinel_connector_read_bytes_total{labels}}} 7"),
            format!("sentinel_connector_lag_seconds{labels}}} 0"),
            format!("sentinel_connector_failed{labels}}} 1"),
            "sentinel_connector_outbox_size_bytes 9".to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        let types: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        let once: BTreeSet<&&str> = types.iter().collect();
        assert_eq!(once.len(), types.len(), "{text}");
    }
}
