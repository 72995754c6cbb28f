//! Traces and metrics of the binary, as a collector gets them.

use std::{collections::BTreeMap, fmt::Write, net::TcpListener};

use opentelemetry_proto::tonic::{
    metrics::v1::Metric,
    trace::v1::{Span, span::SpanKind},
};
use serde_json::Value;

use crate::tenant::{BECAME, Served, Tenant, body};

mod receiver;

use receiver::{Receiver, attribute, durations, sum};

const HEADER: &str = "canary-of-the-header";

/// What the host would hand over.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

const TIMER: &str = r#"{"Data":{"timer":{"IsPastDue":false}},"Metadata":{}}"#;

/// A tenant whose rows go to the simulated service, and whose telemetry goes to this address. Nothing is
/// sent there before the end, unless a test says so.
async fn watched(endpoint: &str) -> Tenant {
    let mut tenant = Tenant::new(|options| options.calls_per_second = None).await;
    let data = tenant.folder.path().join("data");
    tenant.set("CONNECTOR_DATA", data.to_str().unwrap());
    tenant.set("STORAGE", "embedded");
    tenant.set("SINK", "logs-ingestion");
    tenant.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    tenant.set("OTEL_EXPORTER_OTLP_HEADERS", &format!("api-key={HEADER}"));
    tenant.set("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    tenant.set("OTEL_METRIC_EXPORT_INTERVAL", "3600000");
    tenant.secrets.push(HEADER.to_owned());
    tenant
}

/// A call of the timer, within a trace of the host's.
async fn timer(served: &Served) -> Vec<Value> {
    let head = format!("POST /EsetTimer HTTP/1.1\r\ntraceparent: 00-{TRACE}-{CALLER}-01\r\n");
    let answer = served.exchange(&head, TIMER).await;
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "{answer}\n{}",
        served.printed()
    );
    let streams = body(&answer)["ReturnValue"]["streams"].clone();
    streams.as_array().unwrap().clone()
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Spans of this name.
fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The span that this one is a part of.
fn parent<'a>(spans: &'a [Span], of: &Span) -> &'a Span {
    let parent = spans.iter().find(|span| span.span_id == of.parent_span_id);
    parent.unwrap_or_else(|| panic!("no parent: {of:?}"))
}

/// What a span says in an attribute.
fn said(span: &Span, name: &str) -> String {
    attribute(&span.attributes, name).unwrap_or_else(|| panic!("no {name}: {span:?}"))
}

fn assert_no_secret(tenant: &Tenant, receiver: &Receiver) {
    let requests = receiver.requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.headers["api-key"], HEADER);
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        let text = String::from_utf8_lossy(&request.body).into_owned();
        tenant.assert_no_secret(&text);
        // Queries hold tokens of pages, and signatures.
        assert!(!text.contains("api-version"), "{text}");
    }
}

/// Streams are parts of the run, pages and batches of their stream, pushes of their batch, which is linked to
/// its pages; and each says what the report says.
fn assert_nested(spans: &[Span], invocation: &Span, reports: &[Value]) {
    let [run] = named(spans, "run")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(parent(spans, run), invocation);
    let streams = named(spans, "stream");
    assert_eq!(streams.len(), reports.len());
    for stream in &streams {
        assert_eq!(parent(spans, stream), run);
        let report = reports
            .iter()
            .find(|one| one["stream"] == said(stream, "stream"));
        let report = report.unwrap();
        for name in ["pages", "pulled", "landed", "dead", "duplicate", "again"] {
            assert_eq!(said(stream, name), report[name].to_string(), "{report}");
        }
        assert_eq!(said(stream, "outcome"), report["outcome"].as_str().unwrap());
    }
    let pages = named(spans, "page");
    let read: u64 = reports
        .iter()
        .map(|one| one["pages"].as_u64().unwrap())
        .sum();
    assert!(pages.len() as u64 >= read, "{pages:#?}");
    for page in &pages {
        assert_eq!(parent(spans, page).name, "stream");
    }
    let pushes = named(spans, "push");
    assert!(!pushes.is_empty());
    for push in &pushes {
        let above = parent(spans, push);
        // A health row is pushed without a delivery of records.
        assert_eq!(above.name, "deliver");
        assert_eq!(parent(spans, above).name, "stream");
        assert!(!above.links.is_empty(), "{above:?}");
        for link in &above.links {
            assert!(pages.iter().any(|page| page.span_id == link.span_id));
        }
    }
    // The exchange of each push, and of each page.
    let exchanges = spans.iter().filter(|span| span.kind() == SpanKind::Client);
    let below = |name: &str| {
        let below = exchanges.clone().filter(|one| {
            spans
                .iter()
                .any(|span| span.span_id == one.parent_span_id && span.name == name)
        });
        below.count()
    };
    assert!(below("push") >= pushes.len(), "{spans:#?}");
    assert!(below("page") >= pages.len(), "{spans:#?}");
    for exchange in exchanges {
        assert!(!said(exchange, "url.full").contains('?'));
        let host = said(exchange, "server.address");
        assert!(host.ends_with("localhost") || host == "127.0.0.1", "{host}");
    }
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

/// Each number of the reports is a metric.
fn assert_measured(metrics: &[Metric], reports: &[Value]) {
    for report in reports {
        let stream = report["stream"].as_str().unwrap();
        let of = |name: &str, more: &[(&str, &str)]| {
            let with = [&[("connection", "default"), ("stream", stream)], more].concat();
            sum(metrics, &format!("sentinel_connector.{name}"), &with)
        };
        let count = |name: &str| report[name].as_i64();
        for became in BECAME {
            assert_eq!(
                of("records", &[("became", became)]),
                count(became),
                "{stream}"
            );
        }
        assert_eq!(of("pulled", &[]), count("pulled"));
        assert_eq!(of("read", &[]), count("bytes"));
        assert_eq!(of("pages", &[]), count("pages"));
        assert_eq!(of("lag", &[]), count("lagSeconds"));
        let outcome = report["outcome"].as_str().unwrap();
        assert_eq!(of("runs", &[("outcome", outcome)]), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_sent_when_the_platform_ends_the_process_and_equals_the_reports() {
    let receiver = Receiver::start().await;
    let tenant = watched(&receiver.url).await;
    let served = Served::start(&tenant).await;
    let reports = timer(&served).await;
    let printed = served.printed();
    served.signal("-TERM");
    assert!(served.ended().await.success(), "{printed}");

    let spans = receiver.spans();
    let [invocation] = named(&spans, "EsetTimer")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(invocation.kind(), SpanKind::Server);
    assert_eq!(hex(&invocation.trace_id), TRACE);
    assert_eq!(hex(&invocation.parent_span_id), CALLER);
    assert_eq!(said(invocation, "faas.trigger"), "timer");
    assert_eq!(
        said(invocation, "faas.invocation_id"),
        "6f1c4d3e-0000-4000-8000-00000000beef"
    );
    assert_nested(&spans, invocation, &reports);
    let (resource, metrics) = receiver.metrics();
    let name = attribute(&resource.attributes, "service.name");
    assert_eq!(name.as_deref(), Some("sentinel-connector"));
    assert_measured(&metrics, &reports);
    assert_eq!(
        sum(&metrics, "sentinel_connector.outbox.batches", &[]),
        Some(0)
    );
    let runs = durations(&metrics, "sentinel_connector.run.duration");
    assert_eq!(runs, reports.len() as u64);
    assert_eq!(durations(&metrics, "faas.invoke_duration"), 1);
    let asked = spans.iter().filter(|span| span.kind() == SpanKind::Client);
    assert_eq!(
        durations(&metrics, "http.client.request.duration"),
        asked.count() as u64
    );
    assert_no_secret(&tenant, &receiver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_is_linked_to_the_try_that_failed() {
    let receiver = Receiver::start().await;
    let tenant = watched(&receiver.url).await;
    for fault in ["eset.detections:500x2", "ingestion:503x1"] {
        tenant.simulator.inject(fault.parse().unwrap());
    }
    let output = tenant.run(&["run", "EsetTimer", "--once"]);
    assert!(output.status.success(), "{output:?}");
    let spans = receiver.spans();
    let by_id: BTreeMap<&[u8], &Span> = spans.iter().map(|one| (&*one.span_id, one)).collect();
    let again = spans
        .iter()
        .filter(|span| attribute(&span.attributes, "http.request.resend_count").is_some());
    let mut failed = 0;
    for span in again {
        let [cause] = &span.links[..] else {
            panic!("{span:?}");
        };
        let cause = by_id[&*cause.span_id];
        if said(cause, "http.response.status_code") == "500" {
            failed += 1;
            assert_eq!(said(cause, "error.type"), "500");
            assert_eq!(said(cause, "url.full"), said(span, "url.full"));
        }
    }
    assert_eq!(failed, 2, "{spans:#?}");
    let pushed_again = named(&spans, "push").into_iter().filter(|push| {
        let mut causes = push.links.iter().map(|link| by_id[&*link.span_id]);
        causes.any(|cause| cause.name == "push" && cause.status.is_some())
    });
    assert_eq!(pushed_again.count(), 1, "{spans:#?}");
    let (_, metrics) = receiver.metrics();
    assert_eq!(sum(&metrics, "sentinel_connector.retries", &[]), Some(2));
    assert_no_secret(&tenant, &receiver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_up_neither_a_run_nor_the_end() {
    let receiver = Receiver::silent().await;
    let mut tenant = watched(&receiver.url).await;
    tenant.set("OTEL_BSP_SCHEDULE_DELAY", "1");
    tenant.set("OTEL_METRIC_EXPORT_INTERVAL", "1");
    let served = Served::start(&tenant).await;
    served.ok("Status").await;
    receiver.has_come().await;
    // It holds an export, and whatever comes.
    let reports = timer(&served).await;
    assert!(
        reports.iter().all(|one| one["outcome"] == "up-to-date"),
        "{reports:?}"
    );
    served.signal("-TERM");
    assert!(served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_is_one_warning_however_often_it_is_asked() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let tenant = watched(&nobody).await;
    let output = tenant.run(&["run", "EsetTimer", "--once"]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stderr).unwrap();
    // Traces and metrics are both sent at the end, each more than once.
    let warnings = printed
        .lines()
        .filter(|line| line.contains("are not taken"));
    assert_eq!(warnings.count(), 1, "{printed}");
    assert!(printed.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_find_no_room_are_dropped_and_counted_and_the_run_goes_on() {
    let receiver = Receiver::silent().await;
    let mut tenant = watched(&receiver.url).await;
    tenant.set("OTEL_BSP_MAX_QUEUE_SIZE", "1");
    tenant.set("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1");
    tenant.set("LOG_FORMAT", "json");
    let output = tenant.run(&["run", "EsetTimer", "--once"]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = printed
        .lines()
        .filter(|line| line.contains("SpanDroppingStarted"));
    assert_eq!(said.count(), 1, "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_called_where_it_is_switched_off_or_can_not_be_spoken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ] {
        let mut tenant = watched(&endpoint).await;
        tenant.set(name, value);
        let output = tenant.run(&["run", "EsetTimer", "--once"]);
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            printed.contains("http/protobuf"),
            value == "grpc",
            "{printed}"
        );
        let called = listener.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(called, Err(std::io::ErrorKind::WouldBlock));
    }
}
