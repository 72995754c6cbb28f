//! Answers that a service may give, and that are easily taken for something else: pages without
//! records, short pages, parts of an answer, a 404 out of the blue, a filter that is not honoured.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use axum::Router;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sentinel_connector::{
    app::RunOptions,
    check::{self, Found},
    error::Kind,
    io::http::{Request, Response, SharedTransport, Transport, TransportError},
    pipeline::{Outcome, Report},
};
use serde_json::{Value, json};

use super::{FUNCTION, Tenant};

/// A status, headers and a body.
type Said = (u16, Vec<(&'static str, &'static str)>, String);

/// What is answered to a path and query, if it is not left to the simulator.
type Instead = Arc<dyn Fn(&str) -> Option<Said> + Send + Sync>;

/// The simulator, but for some answers.
struct Odd {
    simulator: Router,
    instead: Instead,
}

#[async_trait]
impl Transport for Odd {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let asked = request.uri().path_and_query().unwrap().as_str().to_owned();
        let Some((status, said, body)) = (self.instead)(&asked) else {
            return self.simulator.send(request).await;
        };
        let mut headers = HeaderMap::new();
        for (name, value) in said {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        Ok(Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Box::pin(stream::once(async { Ok(body.into()) })),
        })
    }
}

/// One run of all streams, with these answers.
async fn run(tenant: &Tenant, instead: Instead) -> Report {
    let transport: SharedTransport = Arc::new(Odd {
        simulator: tenant.simulator.router(),
        instead,
    });
    let app = tenant.app_through(&transport);
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    let report = app.run(FUNCTION, &options).await.remove(0);
    assert!(report.counts.balance(), "{report:?}");
    report
}

async fn run_well(tenant: &Tenant, instead: Instead) -> Report {
    let report = run(tenant, instead).await;
    assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    report
}

/// These answers to a list whose path ends so.
fn to(list: &'static str, answer: impl Fn(&str) -> Said + Send + Sync + 'static) -> Instead {
    Arc::new(move |asked| {
        let path = asked.split('?').next().unwrap_or_default();
        path.ends_with(list).then(|| answer(asked))
    })
}

fn ok(body: &Value) -> Said {
    (200, Vec::new(), body.to_string())
}

const ALERTS: &str = "/security/alerts_v2";
const MACHINES: &str = "/api/machines";

fn alert(id: &str, at: DateTime<Utc>) -> Value {
    let time = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "id": id, "createdDateTime": time, "lastUpdateDateTime": time, "title": "t",
        "severity": "high", "serviceSource": "microsoftDefenderForEndpoint",
    })
}

/// Those of these alerts that a query asks for.
fn within<'a>(asked: &str, alerts: &'a [Value]) -> Vec<&'a Value> {
    let decoded = percent_encoding::percent_decode_str(asked)
        .decode_utf8()
        .unwrap();
    let bound = |word: &str| {
        let (_, rest) = decoded.split_once(word).unwrap();
        let end = rest.find([' ', '&']).unwrap_or(rest.len());
        rest.get(..end).unwrap().parse::<DateTime<Utc>>().unwrap()
    };
    let (from, to) = (
        bound("lastUpdateDateTime ge "),
        bound("lastUpdateDateTime lt "),
    );
    let is_asked_for = |alert: &&Value| {
        let time = alert["lastUpdateDateTime"].as_str().unwrap();
        let time: DateTime<Utc> = time.parse().unwrap();
        time >= from && time < to
    };
    alerts.iter().filter(is_asked_for).collect()
}

async fn landed(tenant: &Tenant, stream: &str) -> (usize, u64) {
    let landed = tenant.landed(stream).await;
    let rows = landed.values().sum();
    (landed.len(), rows)
}

#[tokio::test]
async fn what_stands_behind_a_page_without_records_lands() {
    let tenant = Tenant::new("alerts");
    let at = tenant.now() - TimeDelta::hours(3);
    let answer = move |asked: &str| {
        let link = |page: &str| {
            format!(
                "https://sim{}?$skiptoken={page}",
                asked.split('?').next().unwrap()
            )
        };
        match asked.rsplit_once("skiptoken=").map(|(_, page)| page) {
            None => ok(&json!({"value": [], "@odata.nextLink": link("1")})),
            Some("1") => ok(&json!({"value": [], "@odata.nextLink": link("2")})),
            Some("2") => ok(&json!({"value": [alert("a", at)], "@odata.nextLink": link("3")})),
            Some(_) => ok(&json!({"value": [alert("b", at), alert("c", at)]})),
        }
    };
    let report = run_well(&tenant, to(ALERTS, answer)).await;
    assert_eq!(landed(&tenant, "defender.alerts").await, (3, 3));
    assert!(report.gaps.is_empty(), "{report:?}");
}

/// A service that names a next page of each empty one, which is itself, holds nothing more.
#[tokio::test]
async fn an_empty_page_that_names_itself_ends() {
    let tenant = Tenant::new("alerts");
    let answer = |asked: &str| {
        let path = asked.split('?').next().unwrap();
        ok(&json!({"value": [], "@odata.nextLink": format!("https://sim{path}?=&$skip=10000")}))
    };
    let report = run_well(&tenant, to(ALERTS, answer)).await;
    assert!(report.gaps.is_empty(), "{report:?}");
    assert!(report.pages < 10, "{report:?}");
}

/// A link that leads nowhere is told, and the stream goes on.
#[tokio::test]
async fn a_link_behind_nothing_that_is_refused_is_a_gap() {
    let tenant = Tenant::new("alerts");
    let answer = |asked: &str| {
        if asked.contains("skiptoken") {
            return (400, Vec::new(), String::new());
        }
        let link = "https://sim/security/alerts_v2?$skiptoken=1";
        ok(&json!({"value": [], "@odata.nextLink": link}))
    };
    let report = run_well(&tenant, to(ALERTS, answer)).await;
    assert_eq!(report.gaps.len(), 1, "{report:?}");
}

/// Devices from `from` to `to`.
fn machines(from: u64, to: u64) -> Vec<Value> {
    (from..to)
        .map(|id| json!({"id": format!("m-{id}"), "computerDnsName": format!("pc-{id}"), "lastSeen": "2026-01-01T00:00:00Z"}))
        .collect()
}

/// A service that has so many devices, and gives so many a page at most.
fn estate(count: u64, most: u64, links: bool) -> Instead {
    to(MACHINES, move |asked| {
        let number = |name: &str| {
            let rest = asked.split(&format!("{name}=")).nth(1);
            let digits = rest.and_then(|rest| rest.split('&').next());
            digits.and_then(|digits| digits.parse::<u64>().ok())
        };
        let encoded = asked.replace("%24", "$");
        assert!(encoded.contains("$top="), "{asked}");
        let (skip, top) = (number("skip").unwrap_or(0), number("top").unwrap());
        let end = count.min(skip + top.min(most));
        let mut body = json!({ "value": machines(skip.min(end), end) });
        if links && end < count {
            body["@odata.nextLink"] =
                json!(format!("https://sim{MACHINES}?$top={most}&$skip={end}"));
        }
        ok(&body)
    })
}

/// As many devices as before, on pages that are shorter than was asked for.
#[tokio::test]
async fn pages_that_are_clamped_make_no_device_gone() {
    for links in [true, false] {
        let tenant = Tenant::new("machines");
        let stream = "defender.machines";
        run_well(&tenant, estate(450, 10_000, false)).await;
        for _ in 0..3 {
            tenant.pass(24 * 60 + 5);
            let report = run_well(&tenant, estate(450, 200, links)).await;
            assert_eq!(report.counts.gone, 0, "{report:?}");
            assert!(report.gaps.is_empty(), "{report:?}");
        }
        let landed = tenant.landed(stream).await;
        let gone = landed
            .keys()
            .filter(|(_, version)| version.starts_with("gone"));
        assert_eq!(gone.count(), 0, "links: {links}");
    }
}

#[tokio::test]
async fn a_pass_that_misses_much_is_a_gap_until_a_whole_one() {
    let tenant = Tenant::new("machines");
    run_well(&tenant, estate(450, 10_000, false)).await;
    tenant.pass(24 * 60 + 5);
    let report = run_well(&tenant, estate(203, 10_000, false)).await;
    assert_eq!(report.counts.gone, 0, "{report:?}");
    let whys: Vec<&str> = report.gaps.iter().map(|gap| gap.why.as_str()).collect();
    assert_eq!(whys.len(), 1, "{report:?}");
    assert!(whys[0].contains("missed 247 of 450"), "{whys:?}");
    tenant.pass(24 * 60 + 5);
    let report = run_well(&tenant, estate(450, 10_000, false)).await;
    assert_eq!(report.counts.gone, 0, "{report:?}");
    assert!(report.gaps.is_empty(), "the pass was whole: {report:?}");
    // As if nothing had been: what is missing next is missing for the first time.
    tenant.pass(24 * 60 + 5);
    let report = run_well(&tenant, estate(203, 10_000, false)).await;
    assert_eq!(
        (report.counts.gone, report.gaps.len()),
        (0, 1),
        "{report:?}"
    );
}

#[tokio::test]
async fn two_passes_that_agree_over_a_day_are_believed() {
    let tenant = Tenant::new("machines");
    run_well(&tenant, estate(450, 10_000, false)).await;
    tenant.pass(24 * 60 + 5);
    run_well(&tenant, estate(203, 10_000, false)).await;
    tenant.pass(24 * 60 + 5);
    let report = run_well(&tenant, estate(203, 10_000, false)).await;
    assert_eq!(report.counts.gone, 247, "{report:?}");
    assert!(report.gaps.is_empty(), "{report:?}");
}

/// A service that skips nothing gives the same page whatever it is asked for: that ends as well.
#[tokio::test]
async fn a_list_that_skips_nothing_is_read_once() {
    let tenant = Tenant::new("machines");
    let same = || to(MACHINES, |_| ok(&json!({ "value": machines(0, 200) })));
    let report = run_well(&tenant, same()).await;
    assert!(report.pages < 10, "{report:?}");
    assert_eq!(landed(&tenant, "defender.machines").await, (200, 200));
    tenant.pass(24 * 60 + 5);
    let report = run_well(&tenant, same()).await;
    assert_eq!(
        (report.counts.gone, report.gaps.len()),
        (0, 0),
        "{report:?}"
    );
}

/// Alerts of one instant behind a filter that is not honoured and a `$skip` that is not: what may be
/// left out is told, and the run ends.
#[tokio::test]
async fn alerts_that_nothing_skips_end_with_a_gap() {
    let tenant = Tenant::new("alerts");
    let at = tenant.now() - TimeDelta::hours(3);
    let alerts: Vec<Value> = (0..1_000).map(|id| alert(&format!("a-{id}"), at)).collect();
    let answer = move |asked: &str| ok(&json!({ "value": within(asked, &alerts) }));
    let report = run_well(&tenant, to(ALERTS, answer)).await;
    assert_eq!(landed(&tenant, "defender.alerts").await, (1_000, 1_000));
    assert!(!report.gaps.is_empty(), "{report:?}");
}

/// Others are missing than before: neither pass was whole.
#[tokio::test]
async fn two_passes_that_miss_others_are_not_believed() {
    let tenant = Tenant::new("machines");
    run_well(&tenant, estate(450, 10_000, false)).await;
    tenant.pass(24 * 60 + 5);
    run_well(&tenant, estate(203, 10_000, false)).await;
    tenant.pass(24 * 60 + 5);
    let others = to(MACHINES, |_| ok(&json!({ "value": machines(240, 449) })));
    let report = run_well(&tenant, others).await;
    assert_eq!(
        (report.counts.gone, report.gaps.len()),
        (0, 1),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_part_of_an_answer_moves_no_cursor() {
    const WARNING: &str = "199 - \"Microsoft/WDATP/401/228\"";
    for status in [201, 203, 206, 207] {
        let tenant = Tenant::new("alerts");
        let nothing = json!({"@odata.context": "x", "value": []}).to_string();
        let partial = to(ALERTS, move |_| {
            (status, vec![("warning", WARNING)], nothing.clone())
        });
        let report = run(&tenant, partial).await;
        assert_eq!(report.outcome, Outcome::Failed, "{status}: {report:?}");
        assert_eq!(report.error_kind, Some(Kind::Transient), "{report:?}");
        let reason = report.reason.unwrap();
        assert!(reason.contains(WARNING), "{status}: {reason}");
        let now = tenant.now();
        let alerts =
            [2, 3].map(|hours| alert(&format!("a-{hours}"), now - TimeDelta::hours(hours)));
        tenant.pass(5);
        run_well(
            &tenant,
            to(ALERTS, move |asked| {
                ok(&json!({"value": within(asked, &alerts)}))
            }),
        )
        .await;
        assert_eq!(landed(&tenant, "defender.alerts").await, (2, 2), "{status}");
    }
}

#[tokio::test]
async fn a_404_switches_nothing_off_that_was_read_before() {
    let bodies = [
        json!({"error": {"code": "UnknownError", "message": "", "innerError": {"request-id": "0"}}})
            .to_string(),
        "<html><h1>404 Not Found</h1></html>".to_owned(),
        String::new(),
        json!({"error": {"code": "NotFound", "message": null}}).to_string(),
        json!({"error": null}).to_string(),
    ];
    for (status, body) in bodies
        .iter()
        .map(|body| (404, body))
        .chain([(501, &bodies[2])])
    {
        let tenant = Tenant::new("alerts");
        let early = alert("early", tenant.now() - TimeDelta::hours(1));
        let late = alert("late", tenant.now() + TimeDelta::minutes(2));
        let both = [early.clone(), late];
        run_well(&tenant, to(ALERTS, move |_| ok(&json!({"value": [early]})))).await;
        tenant.pass(5);
        let said = body.clone();
        let report = run(
            &tenant,
            to(ALERTS, move |_| (status, Vec::new(), said.clone())),
        )
        .await;
        assert_eq!(report.outcome, Outcome::Failed, "{body}: {report:?}");
        assert_eq!(
            report.error_kind,
            Some(Kind::Transient),
            "{body}: {report:?}"
        );
        let state = tenant.state("defender.alerts").await;
        assert_eq!((state.off, state.off_until), (None, None), "{body}");
        tenant.pass(2);
        run_well(
            &tenant,
            to(ALERTS, move |asked| {
                ok(&json!({"value": within(asked, &both)}))
            }),
        )
        .await;
        assert_eq!(landed(&tenant, "defender.alerts").await, (2, 2), "{body}");
    }
}

/// What never worked rests, and whoever has lost a licence hears of it.
#[tokio::test]
async fn off_is_a_matter_of_words_or_of_never_having_worked() {
    let never = Tenant::new("alerts");
    let report = run(&never, to(ALERTS, |_| (404, Vec::new(), String::new()))).await;
    assert_eq!((report.outcome, report.error_kind), (Outcome::Off, None));

    let lost = Tenant::new("alerts");
    run_well(&lost, to(ALERTS, |_| ok(&json!({"value": []})))).await;
    lost.pass(5);
    let words = json!({"error": {"code": null, "message": "Account is not provisioned.", "innerError": null}});
    let report = run(
        &lost,
        to(ALERTS, move |_| (403, Vec::new(), words.to_string())),
    )
    .await;
    assert_eq!(report.outcome, Outcome::Off, "{report:?}");
    assert_eq!(report.error_kind, Some(Kind::Config), "{report:?}");

    let mut said = Vec::new();
    let mut tell = |finding: check::Finding| {
        if finding.found == Found::Note && finding.what.ends_with("defender.alerts") {
            said.push(finding.text);
        }
    };
    check::dependencies(&lost.app(), &mut tell).await;
    let said = said.join("; ");
    assert!(said.contains("is off since"), "{said}");
    assert!(said.contains("though it was read before"), "{said}");
    assert!(said.contains("not set up"), "{said}");
}

#[tokio::test]
async fn a_source_that_ignores_the_filter_is_told_and_lands_each_record_once() {
    let tenant = Tenant::new("alerts");
    let now = tenant.now();
    let alerts: Vec<Value> = (0..41)
        .map(|age| {
            alert(
                &format!("a-{age}"),
                now - TimeDelta::days(age) - TimeDelta::hours(1),
            )
        })
        .collect();
    for round in 0..4 {
        let all = alerts.clone();
        let report = run_well(&tenant, to(ALERTS, move |_| ok(&json!({"value": all})))).await;
        assert!(report.outside >= 40, "round {round}: {report:?}");
        assert_eq!(
            landed(&tenant, "defender.alerts").await,
            (41, 41),
            "round {round}"
        );
        tenant.pass(30);
    }
    // A run that it honours in between forgets none of them.
    run_well(&tenant, to(ALERTS, |_| ok(&json!({"value": []})))).await;
    tenant.pass(30);
    let report = run_well(&tenant, to(ALERTS, move |_| ok(&json!({"value": alerts})))).await;
    assert_eq!(report.counts.landed, 0, "{report:?}");
}

#[tokio::test]
async fn a_table_that_gives_rows_of_another_time_is_told_and_lands_each_row_once() {
    let mut tenant = Tenant::new("none");
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    let now = tenant.now();
    // Each row answers the probe as well: of none is the time of ingestion known.
    let rows: Vec<Value> = (0..41)
        .map(|age| {
            let time = now - TimeDelta::days(age) - TimeDelta::hours(1);
            json!({"n": 41, "ok": 0, "Timestamp": time.to_rfc3339(), "DeviceId": "d", "ReportId": age})
        })
        .collect();
    let hunting = "/v1.0/security/runHuntingQuery";
    for round in 0..3 {
        let rows = rows.clone();
        let report = run_well(&tenant, to(hunting, move |_| ok(&json!({"results": rows})))).await;
        assert!(report.outside >= 40, "round {round}: {report:?}");
        let landed = landed(&tenant, "defender.hunting.DeviceEvents").await;
        assert_eq!(landed, (41, 41), "round {round}");
        tenant.pass(30);
    }
}

/// An alert that becomes visible two days after it was written lands with the sweep of that day, and
/// sweeps are a day apart.
#[tokio::test]
async fn an_alert_that_is_days_late_lands() {
    let tenant = Tenant::new("alerts");
    let since = tenant.now();
    let late = alert("late", since + TimeDelta::hours(6));
    let sweeps = Arc::new(AtomicU64::new(0));
    let asked_last = Arc::new(Mutex::new(String::new()));
    for hour in 0..80 {
        let (late, sweeps, last) = (late.clone(), Arc::clone(&sweeps), Arc::clone(&asked_last));
        let now = tenant.now();
        let answer = move |asked: &str| {
            asked.clone_into(&mut last.lock().unwrap());
            let day_ago = [alert("probe", now - TimeDelta::hours(20))];
            if !within(asked, &day_ago).is_empty() {
                sweeps.fetch_add(1, Ordering::Relaxed);
            }
            let known: &[Value] = if hour >= 54 {
                std::slice::from_ref(&late)
            } else {
                &[]
            };
            ok(&json!({"value": within(asked, known)}))
        };
        run_well(&tenant, to(ALERTS, answer)).await;
        tenant.pass(60);
    }
    assert_eq!(landed(&tenant, "defender.alerts").await, (1, 1));
    let sweeps = sweeps.load(Ordering::Relaxed);
    assert!((3..=5).contains(&sweeps), "{sweeps} sweeps");
}
