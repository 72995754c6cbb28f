//! Days of timers, without faults.

use std::collections::BTreeSet;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sentinel_connector::{
    core::position::{
        cursor::{Basis, OpenSlice, Position, Slice, StreamKey},
        paging::Page,
        window::Window,
    },
    error::Kind,
    pipeline::{Outcome, Report},
    simulator::{DefenderOptions, Options, Target},
    source::defender::hunting,
};
use serde_json::Value;

use super::Tenant;
use crate::world::told;

const ALL: &str = "machines,vulnerabilities,software-vulnerabilities,alerts,incidents";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_days_of_timers_land_every_stream() {
    let mut tenant = Tenant::new(ALL);
    tenant.set(
        "DEFENDER_HUNTING_TABLES",
        "DeviceEvents,EmailEvents,AlertEvidence",
    );
    let first = tenant.run_well().await;
    for report in &first {
        assert!(report.counts.landed > 0, "{report:?}");
    }
    for _ in 0..16 {
        tenant.pass(180);
        tenant.run_well().await;
    }
    let (began, _) = *tenant.looks.last().unwrap();
    let world = tenant.simulator.world().defender();
    let context = "two days";
    tenant
        .assert_updates_complete("defender.alerts", false, context)
        .await;
    tenant
        .assert_updates_complete("defender.incidents", false, context)
        .await;
    tenant
        .assert_has("defender.machines", &world.machine_ids(began), context)
        .await;
    for table in ["DeviceEvents", "EmailEvents", "AlertEvidence"] {
        assert_hunted(&tenant, table, context).await;
    }
    let passed = tenant
        .state("defender.vulnerabilities")
        .await
        .last_pass
        .unwrap();
    let vulnerabilities = world.vulnerability_ids(passed);
    tenant
        .assert_has("defender.vulnerabilities", &vulnerabilities, context)
        .await;
    tenant.assert_software_complete(context).await;
    let fixed = tenant
        .rows(
            "SELECT 1 FROM IntegrationTable_CL WHERE resolved = 1 \
             AND streamName = 'defender.software-vulnerabilities'",
        )
        .await;
    assert!(!fixed.is_empty(), "something is fixed in two days");
    let refused: Vec<_> = tenant
        .simulator
        .calls()
        .into_iter()
        .filter(|call| call.status != 200)
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// The service keeps changes for two weeks.
#[tokio::test]
async fn a_stream_that_is_two_weeks_behind_begins_anew_and_says_what_may_be_missing() {
    let stream = "defender.software-vulnerabilities";
    let mut tenant = Tenant::new("software-vulnerabilities");
    tenant.run_well().await;
    let asked = |tenant: &Tenant, target| {
        let calls = tenant.simulator.calls();
        let calls = calls.iter().filter(|call| call.target == Some(target));
        calls.count()
    };
    let before = tenant.state(stream).await.position;
    let files = asked(&tenant, Target::DefenderFile);
    tenant.pass(15 * 24 * 60);
    let report = tenant.run_well().await.remove(0);
    let (began, _) = *tenant.looks.last().unwrap();
    let [gap] = report.gaps.as_slice() else {
        panic!("one gap: {report:?}");
    };
    assert_eq!(Some(Position::Time(gap.from)), before);
    assert_eq!(gap.to, began);
    assert_eq!(asked(&tenant, Target::DefenderExport), 2);
    assert_eq!(asked(&tenant, Target::DefenderFile), 2 * files);

    // All of it lands again, as it is now, and then changes follow.
    let world = tenant.simulator.world().defender();
    let (now, _) = world.software_ids(began);
    assert!(report.counts.landed >= now.len() as u64, "{report:?}");
    assert_eq!(tenant.state(stream).await.last_pass, Some(began));
    for _ in 0..4 {
        tenant.pass(6 * 60);
        let report = tenant.run_well().await.remove(0);
        assert_eq!(report.gaps.len(), 1, "{report:?}");
    }
    assert_eq!(asked(&tenant, Target::DefenderExport), 2);
    tenant.assert_software_complete("two weeks behind").await;
}

/// Every row that is wanted is there, once, and no other.
pub(super) async fn assert_hunted(tenant: &Tenant, table: &str, context: &str) {
    let stream = format!("defender.hunting.{table}");
    let world = tenant.simulator.world().defender();
    let start = tenant.first_done.unwrap().1 - TimeDelta::hours(24);
    let (last, ended) = *tenant.looks.last().unwrap();
    let state = tenant.state(&stream).await;
    // By the time of the event, what is late comes by the next sweep.
    let (by_ingestion, known) = match state.basis {
        Some(Basis::Event) => (false, state.full_lookback_at.unwrap()),
        _ => (true, last),
    };
    let mut until = known - TimeDelta::minutes(6);
    if context.contains("bunched") {
        // What is ingested at the end of three hours is not there before.
        until = until.duration_trunc(TimeDelta::hours(3)).unwrap();
    }
    let rows = world.hunting_rows(table, by_ingestion, start, until, known);
    // What Sentinel itself has raised is left out.
    let rows = rows.filter(|row| row["ServiceSource"] != "Microsoft Sentinel");
    // While a table goes by the other time, what happened before the first run's history is not
    // read, however late it comes.
    let both = context.contains("null-ingestion-time");
    let must = rows.filter(|row| !both || happened(row) >= start);
    let must: Vec<Option<String>> = must.map(|row| row_id(table, &row)).collect();
    let landed = tenant.landed(&stream).await;
    let repeated: Vec<_> = landed.iter().filter(|(_, times)| **times > 1).collect();
    assert!(repeated.is_empty(), "{context}: {table}: {repeated:?}");
    assert!(!must.is_empty(), "{context}: {table} had nothing to prove");
    let (there, all) = (landed.len(), must.len());
    assert!(there >= all, "{context}: {table}: {there} of {all}");
    tenant.assert_accounts(&stream, context).await;

    // Rows of some tables have no id.
    let Some(must) = must.into_iter().collect::<Option<BTreeSet<String>>>() else {
        return;
    };
    let ids: BTreeSet<String> = landed.into_keys().map(|(id, _)| id).collect();
    let missing: Vec<_> = must.difference(&ids).take(5).collect();
    assert!(missing.is_empty(), "{context}: {table} lacks {missing:?}");
    let earliest = tenant.looks[0].0 - TimeDelta::days(6);
    let may = world.hunting_rows(table, true, earliest, ended, ended);
    let may: BTreeSet<String> = may.filter_map(|row| row_id(table, &row)).collect();
    let strange: Vec<_> = ids.difference(&may).take(5).collect();
    // Rows that the fault has added are in no world, and have landed.
    let added = context.contains("late-row") || context.contains("future-row");
    assert_eq!(
        !strange.is_empty(),
        added,
        "{context}: {table}: {strange:?}"
    );
}

fn happened(row: &Value) -> DateTime<Utc> {
    row["Timestamp"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_of_hunting_lands() {
    let mut tenant = Tenant::with("none", |options| {
        options.scale = 0.5;
        options.defender.estate.events = 3_000.0;
    });
    let names: Vec<&str> = hunting::tables().iter().map(|table| table.name).collect();
    tenant.set("DEFENDER_HUNTING_TABLES", &names.join(","));
    tenant.run_until_done("all tables").await;
    for _ in 0..3 {
        tenant.pass(120);
        tenant.run_until_done("all tables").await;
    }
    for name in names {
        assert_hunted(&tenant, name, "all tables").await;
    }
}

/// What a row is known by; nothing in tables where that is all it says.
fn row_id(table: &str, row: &Value) -> Option<String> {
    let identity = &hunting::table(table).unwrap().endpoint.identity;
    let text = |member: &&str| match &row[*member] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let members = [&[identity.id], identity.also].concat();
    let texts: Vec<String> = members.iter().map(text).collect();
    (!identity.id.is_empty()).then(|| texts.join("|"))
}

/// Devices keep what they report for days, and a sweep comes once a day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_time_of_the_event_no_late_row_is_missed() {
    let mut tenant = Tenant::with("machines", |options| {
        options.scale = 1.0;
        options.defender.estate.events = 1500.0;
    });
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceLogonEvents");
    tenant.inject("defender.hunting:null-ingestion-timex*");
    tenant.run_until_done("by event").await;
    for _ in 0..24 {
        tenant.pass(6 * 60);
        tenant.run_well().await;
    }
    let state = tenant.state("defender.hunting.DeviceLogonEvents").await;
    assert_eq!(state.basis, Some(Basis::Event));
    assert_hunted(&tenant, "DeviceLogonEvents", "null-ingestion-time").await;
}

/// The other APIs, for apps that hold only their roles.
#[tokio::test]
async fn alerts_and_incidents_come_from_either_api() {
    let mut tenant = Tenant::with("alerts,incidents", |options| {
        let roles = ["Alert.Read.All", "Incident.Read.All"];
        options.defender.roles = roles.map(str::to_owned).into();
    });
    tenant.set("DEFENDER_ALERTS_API", "mde");
    tenant.set("DEFENDER_INCIDENTS_API", "xdr");
    for _ in 0..8 {
        tenant.run_well().await;
        tenant.pass(180);
    }
    tenant
        .assert_updates_complete("defender.alerts", true, "mde")
        .await;
    tenant
        .assert_updates_complete("defender.incidents", false, "xdr")
        .await;
}

#[tokio::test]
async fn a_missing_role_is_named_and_stops_nobody_else() {
    let mut tenant = Tenant::with("machines,alerts,incidents", |options| {
        options.defender.roles.remove("SecurityIncident.Read.All");
    });
    let reports = tenant.run().await;
    for report in &reports {
        if report.key.stream == "defender.incidents" {
            assert_eq!(report.outcome, Outcome::Failed, "{}", told(&reports));
            let reason = report.reason.as_deref().unwrap();
            assert!(
                reason.contains("lacks the role SecurityIncident.Read.All"),
                "{reason}"
            );
            assert!(reason.contains("Microsoft Graph"), "{reason}");
        } else {
            assert_eq!(report.outcome, Outcome::UpToDate, "{}", told(&reports));
        }
    }
}

#[tokio::test]
async fn a_closing_lands_for_incidents_that_were_sent_and_for_no_other() {
    let mut all = Tenant::new("incidents");
    let mut some = Tenant::new("incidents");
    some.set("DEFENDER_IGNORE_RESOLVED_INCIDENTS", "yes");
    for tenant in [&mut all, &mut some] {
        for _ in 0..16 {
            tenant.run_well().await;
            tenant.pass(180);
        }
    }
    let by_status = |resolved: bool| {
        let is = if resolved { "=" } else { "<>" };
        format!(
            "SELECT DISTINCT recordId FROM IntegrationTableIncidents_CL WHERE status {is} 'resolved'"
        )
    };
    let ids = |rows: Vec<Vec<Option<String>>>| -> BTreeSet<String> {
        rows.into_iter()
            .map(|mut row| row[0].take().unwrap())
            .collect()
    };
    let open = ids(some.rows(&by_status(false)).await);
    let closed = ids(some.rows(&by_status(true)).await);
    assert!(!closed.is_empty());
    assert!(closed.is_subset(&open), "{:?}", closed.difference(&open));
    let everything = ids(all.rows(&by_status(true)).await);
    assert!(everything.len() > closed.len(), "some were resolved before");
    // Some are opened once more: the newest version tells.
    let newest = "SELECT recordId FROM (SELECT recordId, status, max(updateTime) \
                  FROM IntegrationTableIncidents_CL GROUP BY recordId) WHERE status = 'resolved'";
    let now = ids(all.rows(newest).await);
    let wanted: BTreeSet<String> = now.intersection(&open).cloned().collect();
    assert!(
        wanted.is_subset(&closed),
        "{:?}",
        wanted.difference(&closed)
    );
    let filtered: u64 = some
        .reports
        .iter()
        .map(|report| report.counts.filtered)
        .sum();
    assert!(filtered > 0);
}

#[tokio::test]
async fn what_sentinel_itself_has_raised_lands_where_it_is_asked_for() {
    let mut tenant = Tenant::new("alerts");
    tenant.run_well().await;
    let own = (tenant.simulator.world().defender()).alerts_of_sentinel(tenant.now());
    let landed = tenant.ids("defender.alerts").await;
    assert!(!own.is_empty() && landed.is_disjoint(&own));

    let mut tenant = Tenant::new("alerts");
    tenant.set("DEFENDER_SENTINEL_ALERTS", "yes");
    tenant.run_well().await;
    let all = tenant.ids("defender.alerts").await;
    assert!(landed.is_subset(&all));
    let further: BTreeSet<String> = all.difference(&landed).cloned().collect();
    assert!(
        !further.is_empty() && further.is_subset(&own),
        "{further:?}"
    );
}

/// Tables of hunting and incidents spell it in ways of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sentinel_itself_has_raised_comes_back_by_no_other_way() {
    for (also, sql) in [
        (
            &[("DEFENDER_HUNTING_TABLES", "AlertInfo,AlertEvidence")],
            "SELECT count(*) FROM IntegrationTable_CL \
             WHERE json_extract(additionalFields, '$.ServiceSource') = 'Microsoft Sentinel'",
        ),
        (
            &[("DEFENDER_INCIDENTS_API", "xdr")],
            "SELECT count(*) FROM IntegrationTableIncidents_CL \
             WHERE json_array_length(additionalFields, '$.alerts') > 0 AND NOT EXISTS \
             (SELECT 1 FROM json_each(additionalFields, '$.alerts') \
             WHERE json_extract(value, '$.serviceSource') <> 'MicrosoftSentinel')",
        ),
        (
            &[("DEFENDER_INCIDENT_ALERTS", "yes")],
            "SELECT count(*) FROM IntegrationTableIncidents_CL \
             WHERE json_array_length(additionalFields, '$.alerts') > 0 AND NOT EXISTS \
             (SELECT 1 FROM json_each(additionalFields, '$.alerts') \
             WHERE json_extract(value, '$.serviceSource') <> 'microsoftSentinel')",
        ),
    ] {
        for wanted in [false, true] {
            let mut tenant = Tenant::with("incidents", |options| {
                options.scale = 1.0;
                options.defender.estate.alerts = 40.0;
            });
            for (name, value) in also {
                tenant.set(name, value);
            }
            if wanted {
                tenant.set("DEFENDER_SENTINEL_ALERTS", "yes");
            }
            tenant.run_well().await;
            let landed = tenant.rows(sql).await[0][0].clone();
            let reports = tenant.reports.iter();
            let filtered: u64 = reports.map(|report| report.counts.filtered).sum();
            assert_eq!(
                landed.as_deref() != Some("0"),
                wanted,
                "{also:?}: {landed:?}"
            );
            assert_eq!(filtered > 0, !wanted, "{also:?}");
        }
    }
}

/// Incidents that come without their alerts are told by the alerts of the same incident, as far as
/// those were read.
#[tokio::test]
async fn what_sentinel_itself_has_raised_is_told_by_alerts_that_are_read_beside() {
    for (streams, is_told) in [("alerts,incidents", true), ("incidents", false)] {
        let mut tenant = Tenant::with(streams, |options| {
            options.scale = 1.0;
            options.defender.estate.alerts = 40.0;
        });
        for _ in 0..4 {
            tenant.run_well().await;
            tenant.pass(60);
        }
        let begun = tenant.looks[0].0 - TimeDelta::hours(24);
        let own = own_versions(&tenant, begun);
        let landed: BTreeSet<_> = opened_since(&tenant, begun).await;
        assert!(landed.difference(&own).count() > 0);
        assert_eq!(landed.is_disjoint(&own), is_told, "{streams}");
        let of_incidents = |report: &&Report| report.key.stream == "defender.incidents";
        let reports = tenant.reports.iter().filter(of_incidents);
        let filtered: u64 = reports.map(|report| report.counts.filtered).sum();
        assert_eq!(filtered > 0, is_told, "{streams}");
        let context = format!("told by {streams}");
        tenant.pass(60);
        tenant.run_well().await;
        tenant
            .assert_updates_complete("defender.incidents", false, &context)
            .await;
    }
}

/// What nobody can tell goes on, and is counted.
#[tokio::test]
async fn incidents_whose_alerts_were_not_read_yet_land() {
    let mut tenant = Tenant::with("alerts,incidents", |options| {
        options.scale = 1.0;
        options.defender.estate.alerts = 40.0;
    });
    tenant.run_well().await;
    let since = tenant.now();
    let key = StreamKey::new("default", "defender.alerts");
    let app = tenant.app();
    let storage = &app.parts().storage;
    let (mut state, etag) = storage.load(&key).await.unwrap().unwrap();
    state.paused = Some(since);
    storage.save(&key, &state, Some(&etag)).await.unwrap();
    tenant.pass(12 * 60);
    let untold: u64 = tenant.run().await.iter().map(|report| report.untold).sum();
    let landed = opened_since(&tenant, since).await;
    assert!(!landed.is_disjoint(&own_versions(&tenant, since)));
    assert!(landed.len() as u64 <= untold, "{untold} of {landed:?}");
}

type Versions = BTreeSet<(String, DateTime<Utc>)>;

/// Versions of incidents since then, of which Sentinel raised all alerts.
fn own_versions(tenant: &Tenant, since: DateTime<Utc>) -> Versions {
    let world = tenant.simulator.world().defender();
    let own = world.incident_history_of_sentinel(since, tenant.now());
    own.into_iter()
        .map(|(id, version)| (id, version.parse().unwrap()))
        .collect()
}

/// Versions that have landed of incidents that were opened since.
async fn opened_since(tenant: &Tenant, since: DateTime<Utc>) -> Versions {
    let sql = format!(
        "SELECT recordId, recordVersion FROM IntegrationTableIncidents_CL WHERE createTime >= '{}'",
        since.format("%FT%T")
    );
    let rows = tenant.rows(&sql).await.into_iter();
    rows.map(|mut row| {
        (
            row[0].take().unwrap(),
            row[1].take().unwrap().parse().unwrap(),
        )
    })
    .collect()
}

/// Whoever leaves resolved incidents out from some day on still hears of the closing of those that
/// were sent until then.
#[tokio::test]
async fn a_closing_lands_for_incidents_that_were_sent_before_it_was_asked_for() {
    for api in ["graph", "xdr"] {
        let mut all = Tenant::new("incidents");
        let mut some = Tenant::new("incidents");
        for tenant in [&mut all, &mut some] {
            tenant.set("DEFENDER_INCIDENTS_API", api);
            tenant.run_well().await;
        }
        let newest = |is: &str| {
            format!(
                "SELECT recordId FROM (SELECT recordId, status, max(updateTime) \
                 FROM IntegrationTableIncidents_CL GROUP BY recordId) \
                 WHERE lower(status) {is} 'resolved'"
            )
        };
        let open: BTreeSet<_> = some.rows(&newest("<>")).await.into_iter().collect();
        some.set("DEFENDER_IGNORE_RESOLVED_INCIDENTS", "yes");
        for tenant in [&mut all, &mut some] {
            for _ in 0..16 {
                tenant.pass(180);
                tenant.run_well().await;
            }
        }
        let closed: BTreeSet<_> = all.rows(&newest("=")).await.into_iter().collect();
        let landed: BTreeSet<_> = some.rows(&newest("=")).await.into_iter().collect();
        let wanted: Vec<_> = closed.intersection(&open).collect();
        assert!(!wanted.is_empty(), "{api}");
        for id in wanted {
            assert!(landed.contains(id), "{api}: {id:?}");
        }
        let filtered = some.reports.iter().map(|report| report.counts.filtered);
        assert!(filtered.sum::<u64>() > 0, "{api}");
    }
}

/// One that became part of another says so, and is not resolved.
#[tokio::test]
async fn an_incident_that_was_merged_is_kept_and_names_the_other() {
    for api in ["graph", "xdr"] {
        let mut tenant = Tenant::with("incidents", |options| {
            options.defender.estate.incidents = 60.0;
        });
        tenant.set("DEFENDER_INCIDENTS_API", api);
        tenant.set("DEFENDER_IGNORE_RESOLVED_INCIDENTS", "yes");
        tenant.run_well().await;
        let merged = "SELECT json_extract(additionalFields, '$.redirectIncidentId') \
                      FROM IntegrationTableIncidents_CL WHERE lower(status) = 'redirected'";
        let others = tenant.rows(merged).await;
        assert!(!others.is_empty(), "{api}");
        assert!(
            others.iter().all(|row| row[0].is_some()),
            "{api}: {others:?}"
        );
    }
}

/// Of other products' incidents nothing lands where they come with their alerts; one without any,
/// such as one that was merged, is kept.
#[tokio::test]
async fn endpoint_only_leaves_out_incidents_of_other_products() {
    for also in [
        &[("DEFENDER_INCIDENTS_API", "xdr")] as &[_],
        &[("DEFENDER_INCIDENT_ALERTS", "yes")],
        &[("DEFENDER_INCIDENTS_API", "graph")],
    ] {
        let busy = |options: &mut Options| {
            options.scale = 1.0;
            options.defender.estate.alerts = 40.0;
        };
        let mut all = Tenant::with("incidents", busy);
        let mut some = Tenant::with("incidents", busy);
        some.set("DEFENDER_ENDPOINT_ONLY", "yes");
        for tenant in [&mut all, &mut some] {
            for (name, value) in also {
                tenant.set(name, value);
            }
            tenant.run_well().await;
            tenant.pass(300);
            tenant.run_well().await;
        }
        let filter = "AND (coalesce(json_array_length(additionalFields, '$.alerts'), 0) = 0 OR EXISTS \
                      (SELECT 1 FROM json_each(additionalFields, '$.alerts') \
                      WHERE json_extract(value, '$.serviceSource') \
                      IN ('microsoftDefenderForEndpoint', 'MicrosoftDefenderATP')))";
        let versions = |filter: &str| {
            format!(
                "SELECT recordId, recordVersion FROM IntegrationTableIncidents_CL \
                 WHERE streamName = 'defender.incidents' {filter} ORDER BY 1, 2"
            )
        };
        let told = all
            .rows(
                "SELECT 1 FROM IntegrationTableIncidents_CL \
             WHERE json_array_length(additionalFields, '$.alerts') > 0",
            )
            .await;
        let landed = some.rows(&versions("")).await;
        if told.is_empty() {
            assert_eq!(
                landed,
                all.rows(&versions("")).await,
                "they do not say: {also:?}"
            );
            continue;
        }
        assert_eq!(landed, all.rows(&versions(filter)).await, "{also:?}");
        let filtered: u64 = some
            .reports
            .iter()
            .map(|report| report.counts.filtered)
            .sum();
        assert!(filtered > 0, "{also:?}");
    }
}

#[tokio::test]
async fn what_is_expanded_is_given_up_where_it_breaks() {
    let mut tenant = Tenant::new("incidents");
    tenant.set("DEFENDER_INCIDENT_ALERTS", "yes");
    tenant.inject("defender.incidents:expand-500x*");
    tenant.run_well().await;
    tenant.pass(60);
    tenant.run_well().await;
    tenant
        .assert_updates_complete("defender.incidents", false, "expand")
        .await;
}

/// Answers are cut without a word; shares by time bring all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_window_of_hunting_comes_through_whole() {
    let mut tenant = Tenant::with("machines", |options| {
        options.scale = 1.0;
        options.defender.estate.events = 210_000.0;
        options.defender.quotas = false;
    });
    tenant.set("DEFENDER_STREAMS", "none");
    tenant.set("DEFENDER_HUNTING_TABLES", "EmailUrlInfo");
    tenant.set("DEFENDER_HUNTING_EMAILURLINFO_STEP", "24h");
    // The service gives no more than is asked for.
    tenant.inject(&format!("defender.hunting:row-cap={}x*", hunting::CAP));
    let reports = tenant.run_well().await;
    assert_hunted(&tenant, "EmailUrlInfo", "200,000 rows").await;
    // One window, since there is one run.
    let rows = tenant.landed("defender.hunting.EmailUrlInfo").await.len();
    assert!(rows >= 200_000, "{rows}: {reports:?}");
    assert!(tenant.queries.lock().unwrap().len() < 60);
    assert!(tenant.simulator.unplayed().is_empty(), "nothing was cut");
}

/// What no shorter time makes less is split by hash: by device where rows have one, else by all that
/// a row says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_of_one_instant_than_an_answer_holds_come_in_shares() {
    let mut tenant = Tenant::with("none", |options| {
        options.scale = 1.0;
        options.defender.estate.events = 1500.0;
        options.defender.quotas = false;
    });
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceLogonEvents,EmailUrlInfo");
    // Some 180 rows have one time of ingestion.
    tenant.inject("defender.hunting:bunched=3x*");
    tenant.inject("defender.hunting:row-cap=50x*");
    tenant.page = Some(50);
    tenant.run_until_done("bunched").await;
    tenant.pass(4 * 60);
    tenant.run_until_done("bunched").await;
    for (table, share) in [
        ("DeviceLogonEvents", "hash(DeviceId, 4) == 3"),
        ("EmailUrlInfo", "hash(tostring(pack_all()), 4) == 3"),
    ] {
        assert_hunted(&tenant, table, "bunched").await;
        let state = tenant.state(&format!("defender.hunting.{table}")).await;
        assert_eq!(state.gaps, [], "{table}");
        let queries = tenant.queries.lock().unwrap();
        let mut queries = queries.iter().filter(|query| query.contains(table));
        assert!(queries.any(|query| query.contains(share)), "{table}");
    }
}

/// To read the whole window in its place would be the same in the next run, and in each one after it.
#[tokio::test]
async fn a_page_that_is_none_of_its_streams_stops_it_until_somebody_looks() {
    let mut tenant = Tenant::new("incidents");
    tenant.run_well().await;
    let key = StreamKey::new("default", "defender.incidents");
    let app = tenant.app();
    let storage = &app.parts().storage;
    let (mut state, etag) = storage.load(&key).await.unwrap().unwrap();
    state.open = Some(OpenSlice {
        slice: Slice::Window(Window {
            from: tenant.now() - TimeDelta::hours(1),
            to: tenant.now(),
        }),
        page: Page::Token("30".to_owned()),
        began: tenant.now(),
    });
    storage.save(&key, &state, Some(&etag)).await.unwrap();
    let reports = tenant.run().await;
    let [report] = &reports[..] else {
        panic!("{reports:?}")
    };
    assert_eq!(report.error_kind, Some(Kind::Config), "{report:?}");
    let why = report.reason.as_deref().unwrap();
    assert!(why.contains("cursor reset defender.incidents"), "{why}");
    assert!(!why.contains("30"), "a page may be a token: {why}");
    let (left, _) = storage.load(&key).await.unwrap().unwrap();
    assert_eq!(left, state, "nothing moves it");
}

/// An answer that the service cuts below what was asked for would look whole.
#[test]
fn less_is_asked_of_hunting_than_the_service_gives() {
    let given = DefenderOptions::default().hunting_rows;
    assert!(usize::try_from(hunting::CAP).unwrap() < given, "{given}");
}
