//! Streams with tables of their own, and what is said before a stream is switched on.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    check::{estimate, volume::Estimate},
    core::mapping::{layout::Layout, row::restore},
    io::http::{Request, Response, SharedTransport, Transport, TransportError},
    source::endpoints,
};
use serde_json::{Map, Value};

use super::Tenant;

const ALL: &str = "machines,vulnerabilities,software-vulnerabilities,alerts,incidents";

const TABLES: [(&str, &str); 8] = [
    ("defender.machines", "Machines_CL"),
    ("defender.vulnerabilities", "Vulnerabilities_CL"),
    ("defender.vulnerability-catalogue", "Catalogue_CL"),
    ("defender.software-vulnerabilities", "Software_CL"),
    ("defender.alerts", "Alerts_CL"),
    ("defender.incidents", "Incidents_CL"),
    ("defender.hunting.DeviceProcessEvents", "Processes_CL"),
    ("defender.hunting.UrlClickEvents", "UrlClickEvents_CL"),
];

fn routed() -> Tenant {
    let mut tenant = Tenant::new(ALL);
    let routes = TABLES.map(|(stream, table)| format!("{stream}=Custom-{table}"));
    tenant.set("ROUTES", &routes.join(","));
    tenant.set(
        "DEFENDER_HUNTING_TABLES",
        "DeviceProcessEvents,UrlClickEvents",
    );
    tenant
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routed_streams_land_in_the_columns_of_their_source() {
    let mut tenant = routed();
    let reports = tenant.run_well().await;
    for (stream, table) in TABLES {
        let landed = reports.iter().find(|one| one.key.stream == stream);
        let landed = landed.unwrap().counts.landed;
        assert!(landed > 0, "{stream}");
        let rows = tenant.rows(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows[0][0], Some(landed.to_string()), "{stream}");
    }
    let elsewhere = "SELECT count(*) FROM IntegrationTable_CL WHERE streamName LIKE 'defender.%'";
    assert_eq!(tenant.rows(elsewhere).await[0][0].as_deref(), Some("0"));

    // What users filter by is a column of its type, named as in the portal.
    let world = tenant.simulator.world().defender();
    let (began, ended) = tenant.looks[0];
    let ids = tenant
        .rows("SELECT id_, deviceValue FROM Machines_CL")
        .await;
    let ids: BTreeSet<String> = ids
        .into_iter()
        .filter_map(|mut row| row[0].take())
        .collect();
    assert_eq!(ids, world.machine_ids(began));
    let sql = "SELECT DeviceId, Timestamp, ProcessId FROM Processes_CL";
    let landed: BTreeSet<Process> = tenant.rows(sql).await.into_iter().map(process).collect();
    let taken_in = |to| -> BTreeSet<Process> {
        world
            .hunting_rows("DeviceProcessEvents", true, began - DAY, to, ended)
            .map(|row| process(["DeviceId", "Timestamp", "ProcessId"].map(|name| word(&row[name]))))
            .collect()
    };
    let missing: Vec<_> = taken_in(began - DELAY)
        .difference(&landed)
        .cloned()
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let all = taken_in(ended);
    let strange: Vec<_> = landed.difference(&all).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let types = "SELECT DISTINCT typeof(ProcessId) FROM Processes_CL WHERE ProcessId IS NOT NULL";
    assert_eq!(tenant.rows(types).await, [[Some("integer".to_owned())]]);
}

/// What a first run reads of the past.
const DAY: TimeDelta = TimeDelta::hours(24);

/// What was taken in shortly before is left to the next run.
const DELAY: TimeDelta = TimeDelta::minutes(6);

/// Device, time and process: a time has many spellings.
type Process = (String, DateTime<Utc>, String);

fn process(columns: impl IntoIterator<Item = Option<String>>) -> Process {
    let mut columns = columns.into_iter().map(Option::unwrap_or_default);
    let mut next = || columns.next().unwrap();
    (next(), next().parse().unwrap(), next())
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_can_be_rebuilt_from_its_routed_row() {
    let mut tenant = routed();
    tenant.run_well().await;
    let (began, _) = tenant.looks[0];
    let endpoint = endpoints()
        .find(|one| one.stream == "defender.machines")
        .unwrap();
    let layout = Layout::own(endpoint);
    let world = tenant.simulator.world().defender();
    let names: Vec<String> = layout
        .columns
        .iter()
        .map(|one| one.name.to_owned())
        .collect();
    let sql = format!(
        "SELECT \"{}\" FROM Machines_CL LIMIT 50",
        names.join("\", \"")
    );
    for row in tenant.rows(&sql).await {
        let columns: Map<String, Value> = layout
            .columns
            .iter()
            .zip(row)
            .filter_map(|(column, text)| {
                Some((column.name.to_owned(), typed(column.kind.name(), &text?)))
            })
            .collect();
        let record = restore(&columns, layout.rules);
        let id = record["id"].as_str().unwrap();
        let mut expected = world.machine_record(id, began).unwrap();
        expected
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null() && *value != "" && *value != serde_json::json!([]));
        assert_eq!(record, expected);
    }
}

/// A value as it was before `SQLite` held it.
fn typed(kind: &str, text: &str) -> Value {
    match kind {
        "boolean" => Value::from(text == "1"),
        "string" | "datetime" => Value::from(text),
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
    }
}

/// Counts what is asked of the simulator, but for tokens.
struct Counting {
    inner: SharedTransport,
    calls: AtomicU64,
}

#[async_trait]
impl Transport for Counting {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if !request.uri().path().contains("oauth2") {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.send(request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_estimate_is_near_the_truth_takes_three_calls_a_stream_and_moves_nothing() {
    let mut tenant = Tenant::new(ALL);
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents,EmailEvents");
    let counting = Arc::new(Counting {
        inner: Arc::new(tenant.simulator.router()),
        calls: AtomicU64::new(0),
    });
    let transport: SharedTransport = Arc::<Counting>::clone(&counting);
    let app = tenant.app_through(&transport);
    let now = tenant.now();
    let found = estimate::estimates(&app).await;
    let calls = counting.calls.load(Ordering::Relaxed);
    assert!(calls <= 3 * found.len() as u64, "{calls} calls");
    assert_eq!(app.parts().storage.states().await.unwrap().len(), 0);
    let rows = tenant
        .rows("SELECT count(*) FROM IntegrationTable_CL")
        .await;
    assert_eq!(rows[0][0].as_deref(), Some("0"));

    let of = |stream: &str| -> &Estimate {
        let one = found.iter().find(|(key, _)| key.stream == stream);
        one.unwrap().1.as_ref().unwrap()
    };
    let world = tenant.simulator.world().defender();
    let day = now - TimeDelta::hours(24);
    let machines = of("defender.machines");
    assert_eq!(machines.at_first, Some(world.machine_ids(now).len() as u64));
    assert_eq!(machines.rows, machines.at_first.unwrap() / 7);
    let vulnerabilities = of("defender.vulnerabilities").at_first;
    assert_eq!(
        vulnerabilities,
        Some(world.vulnerability_ids(now).len() as u64)
    );
    let software = of("defender.software-vulnerabilities");
    let baseline = world.software_ids(now).0.len() as u64;
    let first = software.at_first.unwrap();
    assert!(
        first.abs_diff(baseline) <= baseline / 4,
        "{first} of {baseline}: {}",
        software.how
    );
    assert!(software.rows < baseline / 4, "{} a day", software.rows);
    assert!(software.how.ends_with("from the first of 2 files"));
    let incidents = world.incident_versions(day, now).len() as u64;
    assert!(of("defender.incidents").rows.abs_diff(incidents) <= incidents / 2 + 2);
    for table in ["DeviceEvents", "EmailEvents"] {
        let rows = world.hunting_rows(table, false, day, now, now).count() as u64;
        let estimate = of(&format!("defender.hunting.{table}"));
        assert_eq!(estimate.rows, rows, "{table}");
        let bytes = estimate.bytes / rows.max(1);
        assert!(
            (300..6_000).contains(&bytes),
            "{table}: {bytes} bytes a row"
        );
    }
    for (key, estimate) in &found {
        assert!(!estimate.as_ref().unwrap().how.is_empty(), "{key}");
    }
}
