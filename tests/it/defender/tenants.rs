//! Two tenants side by side: one app, one transport, two worlds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use axum::Router;
use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    app::{App, RunOptions},
    check::{self, Found},
    config::{Mode, Settings},
    core::position::cursor::StreamKey,
    error::Kind,
    io::{
        clock::SharedClock,
        http::{Request, Response, SharedTransport, Transport, TransportError},
        token::Certificate,
    },
    pipeline::{Outcome, Report},
    simulator::{Fault, Options, Simulator, Target},
};

use super::{FUNCTION, Tenant};
use crate::world::{START, at};

/// The second tenant's id.
const OTHER: &str = "9d2c7f10-1b34-4c5d-8e6f-7a8b9c0d1e2f";

/// Sends what concerns the second tenant to its own world.
struct Both {
    first: Router,
    second: Router,
}

#[async_trait]
impl Transport for Both {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let is_second =
            request.uri().host() == Some("other") || request.uri().path().contains(OTHER);
        let world = if is_second { &self.second } else { &self.first };
        world.send(request).await
    }
}

/// What has landed of a connection's stream: (id, version).
async fn landed(tenant: &Tenant, connection: &str, stream: &str) -> BTreeSet<(String, String)> {
    let sql = format!(
        "SELECT recordId, recordVersion FROM IntegrationTable_CL \
         WHERE connectionName = '{connection}' AND streamName = '{stream}'"
    );
    let rows = tenant.rows(&sql).await.into_iter();
    let all: Vec<(String, String)> = rows
        .map(|mut row| (row[0].take().unwrap(), row[1].take().unwrap()))
        .collect();
    let once: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(
        once.len(),
        all.len(),
        "{connection}: {stream}: one landed twice"
    );
    once
}

fn ids(versions: &BTreeSet<(String, String)>) -> BTreeSet<String> {
    versions.iter().map(|(id, _)| id.clone()).collect()
}

/// The tables hold what a tenant has, and nothing of the other.
async fn assert_own(first: &Tenant, connection: &str, simulator: &Simulator) {
    let world = simulator.world().defender();
    let now = first.now();
    let machines = landed(first, connection, "defender.machines").await;
    assert_eq!(ids(&machines), world.machine_ids(now), "{connection}");
    let alerts = landed(first, connection, "defender.alerts").await;
    let own = world.alerts_of_sentinel(now);
    let began = at(START);
    let versions = |versions: BTreeSet<(String, String)>| -> BTreeSet<String> {
        let spelled = |(id, version): (String, String)| {
            let version: DateTime<Utc> = version.parse().unwrap();
            (!own.contains(&id)).then(|| format!("{id} {version}"))
        };
        versions.into_iter().filter_map(spelled).collect()
    };
    let must = versions(world.alert_versions(
        false,
        began - TimeDelta::hours(23),
        now - TimeDelta::minutes(1),
    ));
    let may = versions(world.alert_history(false, began - TimeDelta::hours(25), now));
    let alerts = versions(alerts);
    assert!(!must.is_empty() && must.is_subset(&alerts), "{connection}");
    assert!(alerts.is_subset(&may), "{connection}");
}

/// The ids that a connection has landed, of every stream; those of incidents, which every tenant
/// counts for itself, with their versions.
async fn all_ids(tenant: &Tenant, connection: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for table in ["IntegrationTable_CL", "IntegrationTableIncidents_CL"] {
        let sql = format!(
            "SELECT streamName, \
             iif(streamName = 'defender.incidents', recordId || recordVersion, recordId) \
             FROM {table} WHERE connectionName = '{connection}' AND streamName LIKE 'defender.%'"
        );
        for mut row in tenant.rows(&sql).await {
            let (stream, id) = (row[0].take().unwrap(), row[1].take().unwrap());
            all.entry(stream).or_default().insert(id);
        }
    }
    all
}

#[tokio::test]
async fn two_tenants_never_mix() {
    let mut first =
        Tenant::new("machines,vulnerabilities,software-vulnerabilities,alerts,incidents");
    first.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    let mut options = Options::new(12, first.now());
    options.scale = 0.2;
    options.tenant_id = OTHER.to_owned();
    let second = Simulator::new(options, Arc::new(first.clock.clone()));
    let connections = format!(
        r#"[{{"name":"one","source":"defender"}},
            {{"name":"two","source":"defender","settings":{{"DEFENDER_TENANT_ID":"{OTHER}",
              "DEFENDER_API_URL":"https://other/defender","GRAPH_URL":"https://other/graph"}}}}]"#
    );
    first.set("CONNECTIONS", &connections);
    let both: SharedTransport = Arc::new(Both {
        first: first.simulator.router(),
        second: second.router(),
    });
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    let run = async || first.app_through(&both).run(FUNCTION, &options).await;
    let state = async |connection: &str, stream: &str| {
        let key = StreamKey::new(connection, stream);
        let storage = Arc::clone(&first.app_through(&both).parts().storage);
        storage.load(&key).await.unwrap().unwrap().0
    };
    let reports = run().await;
    assert_eq!(reports.len(), 2 * 7);
    for report in &reports {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        assert!(report.counts.landed > 0, "{report:?}");
    }
    assert_own(&first, "one", &first.simulator).await;
    assert_own(&first, "two", &second).await;

    // One goes on while the other is out of reach.
    let stood = state("two", "defender.alerts").await.position;
    second.inject(Fault::parse("defender.alerts:503x*").unwrap());
    first.pass(6 * 60);
    for report in run().await {
        let away = report.key == StreamKey::new("two", "defender.alerts");
        let outcome = if away {
            Outcome::Failed
        } else {
            Outcome::UpToDate
        };
        assert_eq!(report.outcome, outcome, "{report:?}");
    }
    assert_eq!(state("two", "defender.alerts").await.position, stood);
    assert_ne!(state("one", "defender.alerts").await.position, stood);
    second.heal();
    first.pass(20);
    for report in run().await {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    }
    assert_own(&first, "one", &first.simulator).await;
    assert_own(&first, "two", &second).await;
    // Both have vulnerabilities that everybody has; whatever else has an id has one of its own.
    let (one, two) = (all_ids(&first, "one").await, all_ids(&first, "two").await);
    assert_eq!(one.len(), 7);
    for (stream, ids) in &one {
        let both: Vec<_> = ids.intersection(&two[stream]).take(3).collect();
        let shared = stream == "defender.vulnerability-catalogue";
        assert!(shared || both.is_empty(), "{stream}: {both:?}");
    }
}

/// Each stream has its pace, and each connection its own.
#[tokio::test]
async fn a_stream_is_asked_for_when_it_is_due_and_not_before() {
    let mut tenant = Tenant::new("machines,alerts");
    let connections = r#"[{"name":"often","source":"defender"},
                          {"name":"seldom","source":"defender","every":"30m"}]"#;
    tenant.set("CONNECTIONS", connections);
    let run = async |tenant: &Tenant| {
        let reports = tenant.app().run(FUNCTION, &RunOptions::default()).await;
        let told = reports.into_iter().map(|report| {
            let stream = report.key.stream.rsplit('.').next().unwrap().to_owned();
            (
                format!("{} {stream}", report.key.connection),
                report.outcome,
            )
        });
        told.collect::<BTreeMap<_, _>>()
    };
    let names = [
        "often machines",
        "often alerts",
        "seldom machines",
        "seldom alerts",
    ];
    for (minutes, due) in [
        (0, [true, true, true, true]),
        (10, [false, true, false, false]),
        (20, [false, true, true, true]),
        (31, [true, true, true, true]),
    ] {
        tenant.pass(minutes);
        let calls = tenant.simulator.calls().len();
        let outcomes = run(&tenant).await;
        for (name, due) in names.into_iter().zip(due) {
            let outcome = if due {
                Outcome::UpToDate
            } else {
                Outcome::NotDue
            };
            assert_eq!(outcomes[name], outcome, "{name} after {minutes} minutes");
        }
        assert!(tenant.simulator.calls().len() > calls);
    }
    let calls = tenant.simulator.calls().len();
    let outcomes = run(&tenant).await;
    assert!(outcomes.values().all(|outcome| *outcome == Outcome::NotDue));
    assert_eq!(tenant.simulator.calls().len(), calls, "nobody is asked");
}

/// Eight connections of one app in one tenant.
fn eight_of_one_app() -> Tenant {
    let mut tenant = Tenant::new("software-vulnerabilities");
    let connections: Vec<String> = (1..=8)
        .map(|number| format!(r#"{{"name":"c{number}","source":"defender"}}"#))
        .collect();
    tenant.set("CONNECTIONS", &format!("[{}]", connections.join(",")));
    tenant
}

/// The quota of an API is one of tenant and app: two connections never have it exceeded.
#[tokio::test]
async fn two_connections_of_one_app_share_its_quotas() {
    let mut tenant = eight_of_one_app();
    let began = tenant.now();
    let reports = tenant.run_well().await;
    assert_eq!(reports.len(), 8);
    let calls = tenant.simulator.calls();
    assert!(calls.iter().all(|call| call.status == 200), "{calls:#?}");
    // An export may be asked for five times a minute.
    let waited = tenant.now() - began;
    assert!(waited > TimeDelta::minutes(1), "{waited}");
}

/// The share of processor time is the tenant's: whoever has used it up, all tables wait.
#[tokio::test]
async fn a_table_that_uses_up_the_share_of_hunting_lets_the_others_rest() {
    let mut tenant = Tenant::new("none");
    tenant.set(
        "DEFENDER_HUNTING_TABLES",
        "DeviceEvents,EmailEvents,AlertInfo",
    );
    tenant.inject("defender.hunting:cpu-quota");
    let app = tenant.app();
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    for round in ["used up", "still"] {
        for report in app.run(FUNCTION, &options).await {
            // Nobody failed: the rest is asked for when there is a share again.
            assert_eq!(report.outcome, Outcome::Behind, "{round}: {report:?}");
            let reason = report.reason.as_deref().unwrap();
            assert!(reason.contains("used up until 08:15 UTC"), "{reason}");
            assert_eq!(report.error_kind, None);
        }
        // One question has told it.
        let asked = tenant.queries.lock().unwrap().len();
        assert_eq!(asked, 1, "{round}");
        tenant.pass(7);
    }
    tenant.pass(1);
    for report in app.run(FUNCTION, &options).await {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        assert!(report.counts.landed > 0, "{report:?}");
    }
}

/// Each list takes longer than a run may: none of them takes all runs.
#[tokio::test]
async fn a_stream_that_finds_the_time_used_up_goes_first_the_next_time() {
    let mut tenant = Tenant::with("alerts,incidents", |options| {
        let estate = &mut options.defender.estate;
        (estate.alerts, estate.incidents) = (1_000.0, 1_000.0);
    });
    tenant.set("RUN_BUDGET_SECONDS", "60");
    for target in ["alerts", "incidents"] {
        tenant.inject(&format!("defender.{target}:page-size=10x*"));
        tenant.inject(&format!("defender.{target}:slow=9x*"));
    }
    let mut first = Vec::new();
    for _ in 0..4 {
        let reports = tenant.run().await;
        let behind = |report: &Report| report.outcome == Outcome::Behind;
        assert!(reports.iter().all(behind), "{reports:#?}");
        assert!(reports[0].counts.landed > 0, "{reports:#?}");
        first.push(reports[0].key.stream.clone());
        tenant.pass(1);
    }
    assert_eq!(first[0], first[2]);
    assert_eq!(first[1], first[3]);
    assert_ne!(first[0], first[1]);
}

/// Where the share is enough for one or two of three tables at a time, each has its turn.
#[tokio::test]
async fn no_table_takes_the_share_of_hunting_for_itself() {
    let tables = ["DeviceEvents", "EmailEvents", "AlertInfo"];
    let mut most = 0;
    for table in tables {
        let mut alone = Tenant::new("none");
        alone.set("DEFENDER_HUNTING_TABLES", table);
        alone.run_well().await;
        most = most.max(alone.queries.lock().unwrap().len());
    }
    let mut tenant = Tenant::new("none");
    tenant.set("DEFENDER_HUNTING_TABLES", &tables.join(","));
    let app = tenant.app();
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    let mut served = BTreeSet::new();
    for _ in tables {
        tenant.inject(&format!("defender.hunting:cpu-quota@{}", most + 1));
        let reports = app.run(FUNCTION, &options).await;
        let done = |report: &&Report| report.outcome == Outcome::UpToDate;
        let done: Vec<_> = reports.iter().filter(done).collect();
        assert!((1..3).contains(&done.len()), "{reports:#?}");
        served.extend(done.iter().map(|report| report.key.stream.clone()));
        tenant.simulator.heal();
        tenant.pass(15);
    }
    assert_eq!(served.len(), tables.len(), "{served:?}");
}

/// Connections of one tenant share its seconds of hunting, and where these are enough for one or two of
/// three at a time, each has its turn.
#[tokio::test]
async fn no_connection_takes_the_share_of_hunting_of_its_tenant_for_itself() {
    let mut alone = Tenant::new("none");
    alone.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    alone.run_well().await;
    let most = alone.queries.lock().unwrap().len();
    let mut tenant = Tenant::new("none");
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    let entry = |name| format!(r#"{{"name":"{name}","source":"defender"}}"#);
    let list = ["a", "b", "c"].map(entry).join(",");
    tenant.set("CONNECTIONS", &format!("[{list}]"));
    let app = tenant.app();
    let options = RunOptions {
        at_once: true,
        ..RunOptions::default()
    };
    let mut served = BTreeSet::new();
    for _ in 0..3 {
        tenant.inject(&format!("defender.hunting:cpu-quota@{}", most + 1));
        let reports = app.run(FUNCTION, &options).await;
        let done = |report: &&Report| report.outcome == Outcome::UpToDate;
        let done: Vec<_> = reports.iter().filter(done).collect();
        assert!((1..3).contains(&done.len()), "{reports:#?}");
        served.extend(done.iter().map(|report| report.key.connection.clone()));
        tenant.simulator.heal();
        tenant.pass(15);
    }
    assert_eq!(served.len(), 3, "{served:?}");
}

/// The service is asked for these severities alone, of both lists.
#[tokio::test]
async fn vulnerabilities_of_other_severities_are_not_asked_for() {
    let mut all = Tenant::new("vulnerabilities");
    let mut some = Tenant::new("vulnerabilities");
    some.set("DEFENDER_VULNERABILITY_SEVERITIES", "high,Critical");
    all.run_well().await;
    some.run_well().await;
    for stream in ["vulnerabilities", "vulnerability-catalogue"] {
        let rows = |also: &str| {
            format!(
                "SELECT recordId FROM IntegrationTable_CL WHERE streamName = 'defender.{stream}' \
                 {also} ORDER BY 1"
            )
        };
        let pulled = |tenant: &Tenant| {
            let mut reports = tenant.reports.iter();
            let own = reports.find(|report| report.key.stream.ends_with(stream));
            own.unwrap().counts.pulled
        };
        let wanted = all
            .rows(&rows("AND severityLevel IN ('High', 'Critical')"))
            .await;
        let others = all
            .rows(&rows("AND severityLevel IN ('Low', 'Medium')"))
            .await;
        assert!(!wanted.is_empty() && !others.is_empty(), "{stream}");
        assert_eq!(some.rows(&rows("")).await, wanted, "{stream}");
        assert!(pulled(&some) < pulled(&all), "{stream}: they were pulled");
    }
}

#[tokio::test]
async fn a_certificate_reads_defender_without_a_secret() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/app-certificate.crt"
    );
    let pem = std::fs::read(path).unwrap();
    let known = Certificate::from_pem(&pem).unwrap().thumbprint().to_owned();
    for (known, outcome) in [(Some(known), Outcome::UpToDate), (None, Outcome::Failed)] {
        let mut tenant = Tenant::with("machines", |options| {
            options.defender.certificate.clone_from(&known);
        });
        tenant.unset("DEFENDER_CLIENT_SECRET");
        tenant.set("DEFENDER_CLIENT_CERTIFICATE_PATH", path);
        let report = tenant.run().await.remove(0);
        assert_eq!(report.outcome, outcome, "{report:?}");
        if known.is_none() {
            let reason = report.reason.unwrap();
            assert!(reason.contains("AADSTS700027"), "{reason}");
        }
    }
}

/// Settings by which the app's identity is the proof of the app that reads.
pub(super) fn federate(tenant: &mut Tenant) {
    let options = tenant.simulator.options();
    let (identity, header) = (
        options.user_identity.clone(),
        options.identity_header.clone(),
    );
    tenant.unset("DEFENDER_CLIENT_SECRET");
    tenant.set("DEFENDER_CLIENT_FEDERATED", "yes");
    tenant.set("AZURE_CLIENT_ID", &identity);
    tenant.set("IDENTITY_ENDPOINT", "http://169.254.129.2:8081/msi/token");
    tenant.set("IDENTITY_HEADER", &header);
}

#[tokio::test]
async fn an_identity_that_the_app_trusts_reads_every_connection_without_a_secret() {
    let mut tenant = Tenant::with("machines,incidents", |options| {
        options.defender.federated = Some(options.federated());
    });
    federate(&mut tenant);
    let entry = |name| format!(r#"{{"name":"{name}","source":"defender"}}"#);
    let list = format!("[{},{}]", entry("contoso"), entry("fabrikam"));
    tenant.set("CONNECTIONS", &list);
    let reports = tenant.run().await;
    let well = |report: &Report| report.outcome == Outcome::UpToDate;
    assert!(
        reports.len() == 4 && reports.iter().all(well),
        "{reports:?}"
    );
    let calls = tenant.simulator.calls();
    let asked = calls
        .iter()
        .filter(|call| call.target == Some(Target::Identity));
    assert_eq!(asked.count(), 1, "the platform is asked once for all");
}

#[tokio::test]
async fn a_connection_whose_app_trusts_no_identity_says_what_to_trust() {
    let mut tenant = Tenant::with("machines", |_| {});
    federate(&mut tenant);
    let report = tenant.run().await.remove(0);
    let reason = report.reason.unwrap();
    let subject = &tenant.simulator.options().user_identity_object;
    assert!(
        reason.contains("AADSTS700211") && reason.contains(subject),
        "{reason}"
    );

    // On a laptop there is no such identity.
    tenant.unset("IDENTITY_ENDPOINT");
    let settings = Settings::load(&tenant.environment(), Mode::Local).unwrap();
    let clock: SharedClock = Arc::new(tenant.clock.clone());
    let error = App::build(&settings, &clock).err().unwrap().to_string();
    assert!(
        error.contains("DEFENDER_CLIENT_FEDERATED") && error.contains("in Azure only"),
        "{error}"
    );
}

#[tokio::test]
async fn without_an_app_of_its_own_an_identity_reads_defender() {
    // The one that pushes rows, or another one.
    for name in ["AZURE_CLIENT_ID", "DEFENDER_CLIENT_ID"] {
        let mut tenant = Tenant::with("machines", |options| options.system_identity = false);
        let options = tenant.simulator.options();
        let (identity, header) = (
            options.user_identity.clone(),
            options.identity_header.clone(),
        );
        tenant.unset("DEFENDER_CLIENT_ID");
        tenant.unset("DEFENDER_CLIENT_SECRET");
        tenant.set(name, &identity);
        tenant.set("IDENTITY_ENDPOINT", "http://169.254.129.2:8081/msi/token");
        tenant.set("IDENTITY_HEADER", &header);
        tenant.run_well().await;
    }
}

#[tokio::test]
async fn no_streams_leave_it_at_the_hunting_tables() {
    let mut tenant = Tenant::new("none");
    tenant.set("DEFENDER_HUNTING_TABLES", "AlertInfo");
    let reports = tenant.run_well().await;
    let streams: Vec<&str> = reports
        .iter()
        .map(|report| report.key.stream.as_str())
        .collect();
    assert_eq!(streams, ["defender.hunting.AlertInfo"]);
}

/// What one stream of a tenant leaves no time for is behind, whatever it would ask first.
#[tokio::test]
async fn a_stream_whose_turn_comes_after_the_time_is_behind_and_asks_nothing() {
    let mut tenant = Tenant::with("alerts", |options| {
        options.defender.estate.alerts = 1_000.0;
    });
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    tenant.set("RUN_BUDGET_SECONDS", "60");
    tenant.inject("defender.alerts:page-size=10x*");
    tenant.inject("defender.alerts:slow=9x*");
    let reports = tenant.run().await;
    assert_eq!(reports.len(), 2);
    for report in &reports {
        assert_eq!(report.outcome, Outcome::Behind, "{report:?}");
        assert_eq!(report.error_kind, None, "{report:?}");
    }
    assert_eq!(reports[1].key.stream, "defender.hunting.DeviceEvents");
    assert!(tenant.queries.lock().unwrap().is_empty());
    tenant.simulator.heal();
    tenant.pass(1);
    let reports = tenant.run().await;
    assert_eq!(reports[0].key.stream, "defender.hunting.DeviceEvents");
    assert_eq!(reports[0].outcome, Outcome::UpToDate, "{reports:?}");
}

/// Eight connections in a quota of five calls a minute, and less than a minute.
#[tokio::test]
async fn who_waits_for_a_quota_until_the_time_is_up_is_behind_and_goes_first_the_next_time() {
    let mut tenant = eight_of_one_app();
    tenant.set("RUN_BUDGET_SECONDS", "5");
    let app = tenant.app();
    let mut done = BTreeSet::new();
    for round in 0..20 {
        let reports = app.run(FUNCTION, &RunOptions::default()).await;
        let behind = reports
            .iter()
            .filter(|report| report.outcome == Outcome::Behind)
            .count();
        assert!(round > 0 || (1..8).contains(&behind), "{reports:#?}");
        for report in reports {
            assert!(report.counts.balance(), "{report:?}");
            assert_ne!(report.outcome, Outcome::Failed, "{report:?}");
            if report.outcome == Outcome::UpToDate {
                done.insert(report.key.connection);
            }
        }
        if done.len() == 8 {
            return;
        }
        tenant.pass(1);
    }
    panic!("not all had their turn: {done:?}");
}

/// A file that is missing is noticed when the parts are built: it is that connection's alone.
#[tokio::test]
async fn a_certificate_that_is_missing_stops_its_own_connection_alone() {
    let mut tenant = Tenant::new("machines,alerts");
    let connections = r#"[{"name":"whole","source":"defender"},
        {"name":"broken","source":"defender","settings":{
            "DEFENDER_CLIENT_ID":"11111111-2222-4333-8444-555555555555",
            "DEFENDER_CLIENT_CERTIFICATE_PATH":"/no/such.pem"}}]"#;
    tenant.set("CONNECTIONS", connections);
    let reports = tenant.run().await;
    assert_eq!(reports.len(), 4);
    for report in &reports {
        if report.key.connection == "whole" {
            assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        } else {
            assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
            assert_eq!(report.error_kind, Some(Kind::Config), "{report:?}");
            assert!(report.reason.as_deref().unwrap().contains("/no/such.pem"));
        }
    }
    let mut bad = Vec::new();
    check::dependencies(&tenant.app(), &mut |finding| {
        if finding.found == Found::Bad {
            bad.push((finding.what, finding.text));
        }
    })
    .await;
    let [(what, text)] = &bad[..] else {
        panic!("{bad:#?}");
    };
    assert_eq!(what, "broken: login");
    assert!(text.contains("/no/such.pem"), "{text}");
}
