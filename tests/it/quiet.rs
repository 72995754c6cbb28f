//! Time: a tenant where nothing happens, a budget that is too small, and a stop in the middle.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::Router;
use sentinel_connector::{
    app::App,
    check::{self, Found},
    config::{Environment, Mode, Settings},
    core::position::cursor::Position,
    io::{
        clock::{Clock, VirtualClock},
        http::{Request, Response, SharedTransport, Transport, TransportError},
    },
    pipeline::{Outcome, Parts, Report, health},
    simulator::{Options, Simulator},
};
use serde_json::{Value, json};

use crate::world::{CLOUD_OFFICE, DETECTIONS, INCIDENTS, START, World, folder, told};

/// The simulator, of which lists at these places hold nothing.
struct Without {
    simulator: Router,
    empty: &'static [&'static str],
}

#[async_trait]
impl Transport for Without {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let path = request.uri().path().to_owned();
        let answer = self.simulator.send(request).await?;
        if !self.empty.iter().any(|list| path.ends_with(list)) {
            return Ok(answer);
        }
        let none = json!({"incidents": [], "detections": [], "nextPageToken": ""}).to_string();
        let body = futures_util::stream::once(async { Ok(none.into()) });
        Ok(Response {
            body: Box::pin(body),
            ..answer
        })
    }
}

/// What `check` notes of an ESET tenant of that size.
async fn noted(scale: f64, empty: &'static [&'static str]) -> Vec<String> {
    let clock = VirtualClock::new(START.parse().unwrap());
    let mut options = Options::new(11, clock.now());
    options.scale = scale;
    let simulator = Simulator::new(options, Arc::new(clock.clone()));
    let folder = folder();
    let data = folder.path().to_str().unwrap().to_owned();
    let settings = simulator.settings("https://sim").into_iter();
    let environment: Environment = settings
        .filter(|(name, _)| name.starts_with("ESET_"))
        .chain([("CONNECTOR_DATA".to_owned(), data)])
        .collect();
    let settings = Settings::load(&environment, Mode::Local).unwrap();
    let transport: SharedTransport = Arc::new(Without {
        simulator: simulator.router(),
        empty,
    });
    let app = App::with_transport(&settings, &(Arc::new(clock) as _), &transport).unwrap();
    let mut notes = Vec::new();
    check::dependencies(&app, &mut |finding| {
        assert_ne!(finding.found, Found::Bad, "{finding:?}");
        if finding.found == Found::Note && finding.text != "has not run yet" {
            notes.push(format!("{}: {}", finding.what, finding.text));
        }
    })
    .await;
    notes
}

#[tokio::test]
async fn check_says_that_a_user_who_sees_nothing_may_have_no_rights() {
    let notes = noted(0.0, &[]).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("the API user may see nothing"),
        "{notes:?}"
    );
    assert_eq!(noted(0.2, &[]).await, Vec::<String>::new());
}

#[tokio::test]
async fn check_names_old_inspect_connectors_where_many_detections_make_no_incident() {
    let notes = noted(0.2, &["/v2/incidents"]).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("default/eset.incidents: ") && notes[0].contains("older than 3.0"),
        "{notes:?}"
    );
    // Of few detections none need be an incident.
    let few = noted(0.02, &["/v2/incidents", "/v1/detections"]).await;
    assert_eq!(few, Vec::<String>::new());
}

/// What the health rows say, oldest first: version and app of the connector, and the report of the run.
async fn health_rows(world: &World) -> Vec<Value> {
    let sql = format!(
        "SELECT additionalFields FROM IntegrationTable_CL WHERE providerName = '{}' AND \
         streamName = '{}' ORDER BY rowid",
        health::PROVIDER,
        health::STREAM
    );
    let rows = world.rows(&sql).await.into_iter();
    rows.map(|row| serde_json::from_str(row[0].as_deref().unwrap()).unwrap())
        .collect()
}

async fn assert_health(world: &World) {
    let expected: Vec<Value> = world
        .reports
        .iter()
        .map(|report| json!({"version": env!("CARGO_PKG_VERSION"), "app": "connector", "run": report}))
        .collect();
    assert_eq!(health_rows(world).await, expected);
}

/// Outside of Azure nothing names an app, and no name is made up.
#[tokio::test]
async fn a_connector_without_an_app_names_none() {
    let mut world = World::with(|options| options.scale = 0.0);
    let parts = Parts {
        app: None,
        ..world.parts()
    };
    world.run_with(&parts).await;
    let rows = health_rows(&world).await;
    assert!(!rows.is_empty());
    assert!(rows.iter().all(|row| row["app"].is_null()), "{rows:?}");
}

#[tokio::test]
async fn a_quiet_tenant_is_not_a_dead_connector() {
    let mut world = World::with(|options| options.scale = 0.0);
    let mut last = None;
    for _ in 0..5 {
        let reports = world.run().await;
        for report in &reports {
            assert_eq!(report.outcome, Outcome::UpToDate, "{}", told(&reports));
            assert_eq!(report.counts.pulled, 0, "{report:?}");
            let lag = report.lag_seconds.unwrap();
            // Incidents are read up to half a minute ago.
            assert!((0..=31).contains(&lag), "{report:?}");
        }
        let position = world.state(INCIDENTS).await.position;
        let Some(Position::Time(read)) = position else {
            panic!("{position:?}");
        };
        assert!(
            last.is_none_or(|last| read > last),
            "the cursor stands still"
        );
        last = Some(read);
        world.pass(15);
    }
    assert_eq!(health_rows(&world).await.len(), 15);
    assert_health(&world).await;
}

#[tokio::test]
async fn each_run_writes_a_health_row_that_says_what_its_report_says() {
    let mut world = World::with(|options| options.scale = 0.05);
    world.run().await;
    world.pass(60);
    world.inject("eset.detections:403x*");
    world.inject("eset.cloud-office:expired-delta");
    world.inject("eset.incidents:501x*");
    world.run().await;
    assert_health(&world).await;
    let rows = health_rows(&world).await;
    assert_eq!(rows[3]["run"]["outcome"], "failed");
    assert_eq!(rows[3]["run"]["errorKind"], "config");
    assert!(
        rows[3]["run"]["lagSeconds"].as_i64() > Some(3600),
        "{}",
        rows[3]
    );
    assert_eq!(rows[4]["run"]["gaps"].as_array().unwrap().len(), 1);
    // It was read before: without words, 501 does not switch it off.
    assert_eq!(rows[5]["run"]["outcome"], "failed");
    assert_eq!(rows[5]["run"]["errorKind"], "transient");
}

/// Slow answers, small pages, and a budget for a few of them.
fn slow_backlog() -> World {
    let mut world = World::with(|options| options.scale = 0.1);
    for target in [
        "eset.detections.window",
        "eset.cloud-office.window",
        "eset.incidents",
    ] {
        world.inject(&format!("{target}:page-size=4x*"));
        world.inject(&format!("{target}:slow=5x*"));
    }
    world.budget = Duration::from_secs(32);
    world
}

#[tokio::test]
async fn a_backlog_longer_than_the_budget_is_read_in_many_runs() {
    let mut world = slow_backlog();
    let mut behind = 0;
    let landed = |reports: &[Report]| {
        reports
            .iter()
            .map(|report| report.counts.landed)
            .sum::<u64>()
    };
    loop {
        let reports = world.run().await;
        for report in &reports {
            let well = matches!(report.outcome, Outcome::UpToDate | Outcome::Behind);
            assert!(well, "{}", told(&reports));
            assert!(report.seconds <= 33.0, "{report:?}");
        }
        if reports
            .iter()
            .all(|report| report.outcome == Outcome::UpToDate)
        {
            break;
        }
        assert!(landed(&reports) > 0, "no run gets on: {}", told(&reports));
        behind += 1;
        assert!(behind < 100, "{}", told(&reports));
        world.pass(1);
    }
    assert!(behind > 2, "the budget was large enough");
    world.assert_complete("small budget").await;
    assert_health(&world).await;
}

/// Stopped at each of its pages, a run ends at once with all that it read, and the next one goes on.
#[tokio::test]
async fn a_stop_ends_the_run_at_once_and_repeats_nothing() {
    for page in 1..=6 {
        let mut world = slow_backlog();
        world.budget = Duration::from_mins(4);
        let stop = world.stop.clone();
        let mut parts = world.parts();
        parts.progress = std::sync::Arc::new(move |report| {
            if report.pages == page {
                stop.cancel();
            }
        });
        let stopped = world.clock.now();
        for report in world.run_with(&parts).await {
            assert_eq!(report.outcome, Outcome::Behind, "{report:?}");
            assert!(report.pages <= page + 2, "{report:?}");
        }
        let took = world.clock.now() - stopped;
        assert!(
            took.num_seconds() < 5 * (i64::try_from(page).unwrap() + 4),
            "{took}"
        );
        drop(parts);
        world.stop = tokio_util::sync::CancellationToken::new();
        world.pass(5);
        world.run_until_done().await;
        for stream in [DETECTIONS, CLOUD_OFFICE, INCIDENTS] {
            let read = world.reports_of(stream).map(|report| report.counts.again);
            assert_eq!(read.sum::<u64>(), 0, "{stream}");
        }
        world.assert_complete("stopped").await;
    }
}

/// A service that never answers holds nobody up after a stop.
#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer() {
    let mut world = World::with(|options| options.scale = 0.05);
    world.inject("eset.detections:neverx*");
    world.stop.cancel();
    let began = world.clock.now();
    for report in world.run().await {
        assert_eq!(report.outcome, Outcome::Behind, "{report:?}");
        assert_eq!(report.counts.pulled, 0, "{report:?}");
    }
    assert_eq!(world.clock.now(), began);
}
