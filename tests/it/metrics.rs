//! The numbers that runs leave, as Prometheus reads them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    binary::embedded,
    tenant::{BECAME, Served, Tenant, body},
};

/// `Status` with `?format=prometheus`.
const SCRAPE: &str = r#"{"Data":{"req":{"Url":"https://app.example/api/Status?format=prometheus","Method":"GET","Query":{"format":"prometheus"},"Headers":{},"Params":{},"Identities":[],"Body":null}},"Metadata":{}}"#;

/// Samples by name and labels. A line that is neither a comment nor `name{label="value",…} number`
/// fails, as does a sample whose name no comment of its own has announced.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut announced = Vec::new();
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').unwrap();
            assert!(["counter", "gauge", "summary"].contains(&kind), "{line}");
            announced.push(name);
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, number) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(labels.ends_with('}'), "{line}");
        let base = announced.last().unwrap();
        let is_of = [base, &&*format!("{base}_sum"), &&*format!("{base}_count")].contains(&&name);
        assert!(is_of, "{line} below {base}");
        let before = samples.insert(series.to_owned(), number.parse().unwrap());
        assert_eq!(before, None, "twice: {line}");
    }
    samples
}

async fn scrape(served: &Served) -> String {
    let answer = served.exchange("POST /Status HTTP/1.1\r\n", SCRAPE).await;
    let response = body(&answer)["Outputs"]["res"].clone();
    assert_eq!(response["statusCode"], 200, "{response}");
    let kind = response["headers"]["Content-Type"].as_str().unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    response["body"].as_str().unwrap().to_owned()
}

fn printed(tenant: &Tenant) -> String {
    let output = tenant.run(&["metrics"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the runs of a stream add up to, by the name that a report has for it.
fn summed(reports: &[Value], stream: &str, count: &str) -> f64 {
    let of_stream = reports.iter().filter(|one| one["stream"] == stream);
    of_stream.map(|one| one[count].as_f64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_the_sums_of_the_reports_on_the_command_line_and_in_status() {
    let mut tenant = embedded(|_| {}).await;
    for stream in ["DETECTIONS", "INCIDENTS"] {
        tenant.set(&format!("ESET_{stream}_EVERY"), "0s");
    }
    let served = Served::start(&tenant).await;
    let mut reports = Vec::new();
    for _ in 0..2 {
        let answer = served.ok("EsetTimer").await;
        let streams = answer["ReturnValue"]["streams"].as_array().unwrap();
        reports.extend(streams.clone());
    }
    let asked = tenant.simulator.calls().len();
    let text = scrape(&served).await;
    let scraped = samples(&text);
    let mut streams: Vec<&str> = reports
        .iter()
        .map(|one| one["stream"].as_str().unwrap())
        .collect();
    streams.sort_unstable();
    streams.dedup();
    let ran = |stream: &str| {
        let ran = reports.iter().filter(|one| one["stream"] == stream);
        ran.filter(|one| one["outcome"] == "up-to-date").count()
    };
    assert!(streams.iter().any(|stream| ran(stream) == 2), "{reports:?}");
    let sample = |name: &str, stream: &str, more: &str| {
        let series = format!(
            "sentinel_connector_{name}{{connection=\"default\",stream=\"{stream}\"{more}}}"
        );
        let found = scraped.get(&series).copied();
        found.unwrap_or_else(|| panic!("{series} is missing:\n{text}"))
    };
    for stream in &streams {
        let sum = |count| summed(&reports, stream, count);
        let runs = f64::from(u8::try_from(ran(stream)).unwrap());
        let is = |name: &str, more: &str, count: f64| {
            let found = sample(name, stream, more);
            assert!(
                (found - count).abs() < 1e-6,
                "{stream} {name}{more}: {found} {count}"
            );
        };
        for became in BECAME {
            is(
                "records_total",
                &format!(",became=\"{became}\""),
                sum(became),
            );
        }
        is("pulled_total", "", sum("pulled"));
        is("gone_total", "", sum("gone"));
        is("pages_total", "", sum("pages"));
        is("read_bytes_total", "", sum("bytes"));
        // A report also tells the time in which the sums were saved.
        let took = sample("run_duration_seconds_sum", stream, "");
        assert!(took > 0.0 && took <= sum("seconds") + 1e-6, "{took}");
        is("run_duration_seconds_count", "", runs);
        is("runs_total", ",outcome=\"up-to-date\"", runs);
        is("retries_total", "", 0.0);
        is("failed", "", 0.0);
        assert!(sample("calls_total", stream, "") >= sum("pages"), "{text}");
    }
    let landed: f64 = streams
        .iter()
        .map(|one| summed(&reports, one, "landed"))
        .sum();
    assert!(landed > 0.0, "{reports:?}");
    assert_eq!(
        tenant.simulator.calls().len(),
        asked,
        "a scrape asks nobody"
    );
    drop(served);

    // But for what time changes.
    let still = |text: &str| -> BTreeMap<String, f64> {
        let mut samples = samples(text);
        samples.retain(|series, _| !series.starts_with("sentinel_connector_lag_seconds"));
        samples
    };
    assert_eq!(still(&printed(&tenant)), still(&text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_again_is_counted_as_a_retry_and_as_a_call() {
    let tenant = embedded(|_| {}).await;
    tenant
        .simulator
        .inject("eset.detections:500x2".parse().unwrap());
    let output = tenant.run(&["run", "EsetTimer", "--once"]);
    assert!(output.status.success(), "{output:?}");
    let text = printed(&tenant);
    let of_metric = |name: &str| -> f64 {
        let samples = samples(&text).into_iter();
        let of_metric = samples.filter(|(series, _)| series.starts_with(name));
        of_metric.map(|(_, count)| count).sum()
    };
    let retries = of_metric("sentinel_connector_retries_total");
    assert!((retries - 2.0).abs() < f64::EPSILON, "{text}");
    let calls = of_metric("sentinel_connector_calls_total");
    assert!(
        calls >= of_metric("sentinel_connector_pages_total") + 2.0,
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_fails_where_the_numbers_are_not_to_be_had() {
    let mut tenant = embedded(|_| {}).await;
    tenant.set("ESET_REGION", "mars");
    let served = Served::start(&tenant).await;
    let answer = served.exchange("POST /Status HTTP/1.1\r\n", SCRAPE).await;
    let response = body(&answer)["Outputs"]["res"].clone();
    assert_eq!(response["statusCode"], 503, "{response}");
    let why = response["body"].as_str().unwrap();
    assert!(why.contains("ESET_REGION"), "{why}");
}
