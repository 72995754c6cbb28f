//! Advanced hunting.

use super::*;

fn literal(time: DateTime<Utc>) -> String {
    format!(
        "datetime({})",
        time.format("%Y-%m-%dT%H:%M:%S%.9fZ")
            .to_string()
            .replace("00Z", "Z")
    )
}

fn by_ingestion(
    table: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    split: &str,
    take: usize,
) -> String {
    format!(
        "{table} | where ingestion_time() >= {} and ingestion_time() < {}{split} \
         | take {take}",
        literal(from),
        literal(to)
    )
}

fn by_event(
    table: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    split: &str,
    take: usize,
) -> String {
    format!(
        "{table} | where Timestamp >= {} and Timestamp < {}{split} | take {take}",
        literal(from),
        literal(to)
    )
}

fn probe(table: &str, from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    format!(
        "{table} | where Timestamp > {} and Timestamp <= {} | extend it=ingestion_time() \
         | summarize n=count(), ok=countif(isnotnull(it))",
        literal(from),
        literal(to)
    )
}

fn texts(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut texts: Vec<String> = rows.into_iter().map(|row| row.to_string()).collect();
    texts.sort();
    texts
}

impl Bench {
    async fn hunted(&self, query: &str) -> Vec<Value> {
        let got = self.hunt(query).await;
        assert_eq!(got.status, 200, "{query} {:?}", got.body);
        got.json()["results"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn every_table_answers_by_both_times_and_by_shares() {
    let bench = Bench::new().await;
    let (from, to) = (ago(10), ago(8));
    let tables: Vec<String> = bench.defender().table_names().map(str::to_owned).collect();
    assert_eq!(tables.len(), 21);
    for table in &tables {
        let now = bench.clock.now();
        let truth = |ingested| {
            texts(
                bench
                    .defender()
                    .hunting_rows(table, ingested, from, to, now),
            )
        };
        let (ingested, happened) = (truth(true), truth(false));
        assert!(!ingested.is_empty() && !happened.is_empty(), "{table}");
        let rows = bench
            .hunted(&by_ingestion(table, from, to, "", 30_000))
            .await;
        assert_eq!(texts(rows), ingested, "{table}");
        let rows = bench.hunted(&by_event(table, from, to, "", 30_000)).await;
        assert_eq!(texts(rows.clone()), happened, "{table}");
        let column = if rows[0].get("DeviceId").is_some() {
            "DeviceId"
        } else {
            "tostring(pack_all())"
        };
        let mut shares = Vec::new();
        for share in 0..3 {
            let split = format!(" | where hash({column}, 3) == {share}");
            let rows = bench
                .hunted(&by_event(table, from, to, &split, 30_000))
                .await;
            assert!(rows.len() < happened.len(), "{table}");
            shares.extend(rows);
        }
        assert_eq!(texts(shares), happened, "{table}");
    }
}

#[tokio::test]
async fn the_schema_stands_before_the_rows_and_types_are_loose() {
    let bench = Bench::new().await;
    let query = by_ingestion("DeviceProcessEvents", ago(6), ago(0), "", 500);
    let got = bench.hunt(&query).await.json();
    let schema: BTreeMap<&str, &str> = got["schema"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            (
                column["name"].as_str().unwrap(),
                column["type"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(schema.len(), 69);
    for (name, kind) in [
        ("Timestamp", "DateTime"),
        ("ReportId", "Int64"),
        ("IsProcessRemoteSession", "SByte"),
    ] {
        assert_eq!(schema[name], kind);
    }
    let rows = got["results"].as_array().unwrap();
    assert!(schema.contains_key("LogonId") && schema.contains_key("LogonID"));
    let kinds: BTreeSet<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{:?}",
                std::mem::discriminant(&row["IsProcessRemoteSession"])
            )
        })
        .collect();
    assert!(kinds.len() > 3, "{kinds:?}");
    for row in rows {
        assert!(
            row.as_object()
                .unwrap()
                .keys()
                .all(|name| schema.contains_key(name.as_str()))
        );
    }
}

#[tokio::test]
async fn rows_are_cut_without_a_word_and_large_results_are_refused() {
    let mut options = options();
    options.defender.hunting_rows = 40;
    let bench = Bench::with(options.clone()).await;
    let all = by_event("EmailUrlInfo", ago(24), ago(0), "", 30_000);
    let got = bench.hunt(&all).await.json();
    assert_eq!(got["results"].as_array().unwrap().len(), 40);
    let probe = bench
        .hunted(&probe("EmailUrlInfo", ago(24), ago(0)))
        .await
        .remove(0);
    let count = probe["n"].as_u64().unwrap();
    assert!(count > 1000 && probe["ok"] == probe["n"], "{probe}");

    options.defender.hunting_rows = 100_000;
    options.defender.hunting_bytes = 100_000;
    let bench = Bench::with(options).await;
    let got = bench.hunt(&all).await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (400, &json!("BadRequest"))
    );
    let message = got.json()["error"]["message"].to_string();
    assert!(
        message.contains("exceeded the allowed result size"),
        "{message}"
    );
    assert_eq!(
        bench
            .hunted(&by_event("EmailUrlInfo", ago(24), ago(0), "", 30))
            .await
            .len(),
        30
    );
}

#[tokio::test]
async fn a_large_window_is_answered_whole() {
    let mut options = options();
    options.defender.estate.events = 2_000_000.0;
    let bench = Bench::with(options).await;
    let (from, to) = (ago(2), ago(1));
    let count = bench.hunted(&probe("EmailUrlInfo", from, to)).await[0]["n"]
        .as_u64()
        .unwrap();
    assert!(count > 100_000, "{count}");
    let query = by_event(
        "EmailUrlInfo",
        from,
        from + TimeDelta::minutes(2),
        "",
        100_000,
    );
    let rows = bench.hunted(&query).await;
    assert!((2000..8000).contains(&rows.len()), "{}", rows.len());
}

#[tokio::test]
async fn what_the_connector_does_not_ask_is_an_error() {
    let mut options = options();
    options.defender.missing_tables = ["UrlClickEvents".to_owned()].into();
    let bench = Bench::with(options).await;
    for (query, error) in [
        (
            "DeviceEvents | take 10".to_owned(),
            "A recognition error occurred",
        ),
        (
            by_event("DeviceEvent", ago(2), ago(1), "", 5),
            "named 'DeviceEvent'",
        ),
        (
            by_event("UrlClickEvents", ago(2), ago(1), "", 5),
            "Failed to resolve table",
        ),
        (
            by_event(
                "EmailEvents",
                ago(2),
                ago(1),
                " | where hash(DeviceId, 2) == 0",
                5,
            ),
            "'DeviceId'",
        ),
    ] {
        let got = bench.hunt(&query).await;
        assert_eq!(got.status, 400, "{query}");
        let message = got.json()["error"]["message"].to_string();
        assert!(message.contains(error), "{message}");
    }
}

#[tokio::test]
async fn answers_are_spoilt_as_told() {
    let bench = Bench::new().await;
    let query = by_ingestion("DeviceLogonEvents", ago(3), ago(1), "", 5000);
    let usual = bench.hunted(&query).await;
    let fault = |name: &str| bench.fault(&format!("defender.hunting:{name}"));

    fault("late-row");
    fault("future-row");
    let more = bench.hunted(&query).await;
    assert_eq!(more.len(), usual.len() + 2);
    let time = |row: &Value| {
        row["Timestamp"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap()
    };
    let base = time(&usual[0]);
    assert_eq!(time(&more[usual.len()]), base - TimeDelta::hours(50));
    assert_eq!(time(&more[usual.len() + 1]), base + TimeDelta::hours(3));

    fault("null-ingestion-timex*");
    assert!(bench.hunted(&query).await.is_empty());
    let counted = bench
        .hunted(&probe("DeviceLogonEvents", ago(3), ago(1)))
        .await
        .remove(0);
    assert!(
        counted["n"].as_u64().unwrap() > 50 && counted["ok"] == 0,
        "{counted}"
    );
    assert!(
        !bench
            .hunted(&by_event("DeviceLogonEvents", ago(3), ago(1), "", 9))
            .await
            .is_empty()
    );
    bench.simulator.heal();

    fault("schema-casing");
    let got = bench.hunt(&query).await.json();
    assert_eq!(
        got["schema"][0],
        json!({"Name": "Timestamp", "Type": "DateTime"})
    );
    fault("odata-annotations");
    let rows = bench.hunted(&query).await;
    assert_eq!(rows[0]["ReportId@odata.type"], "#Int64");
    for (name, status, words) in [
        ("too-big", 400, "allowed result size"),
        ("preempted", 400, "preempted"),
        ("timeout", 400, "timeout period"),
        ("unknown-table", 400, "named 'DeviceLogonEvents'"),
        ("cpu-quota", 429, "processing resources"),
        ("504", 504, "UnknownError"),
    ] {
        fault(name);
        let got = bench.hunt(&query).await;
        assert_eq!(got.status, status, "{name}");
        assert!(got.json()["error"].to_string().contains(words), "{name}");
    }
    assert_eq!(bench.hunted(&query).await, usual);
}
