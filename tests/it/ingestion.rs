//! The Logs Ingestion sink: what every sink promises, then every answer of the service.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode};
use rand::{Rng, SeedableRng, distr::Alphanumeric, rngs::StdRng};
use sentinel_connector::{
    core::mapping::{
        batch::{Batch, MAX_BATCH_BYTES},
        columns::{DETECTIONS, INCIDENTS},
    },
    error::Kind,
    io::{
        clock::{Clock, SystemClock},
        http::{Network, SharedTransport},
        token::{Credential, Proof, SharedTokens, TokenCache},
        wire::Wire,
    },
    simulator::{
        Options, Received, STREAM, STREAM_INCIDENTS, Simulator, SizeLimit, Target as Struck,
        tls::{Authority, serve},
    },
    sink::{
        PushError, Sink,
        logs_ingestion::{LogsIngestion, Places, Target},
    },
};

use crate::{
    identity::{Azure, SCOPE},
    sink::{batch, conforms, detections, row},
};

fn places(endpoint: &str, dcr: &str) -> Places {
    let target = |stream: &str| Target {
        endpoint: endpoint.to_owned(),
        dcr: dcr.to_owned(),
        stream: stream.to_owned(),
    };
    let tables = [
        (DETECTIONS.name.to_owned(), target(STREAM)),
        (INCIDENTS.name.to_owned(), target(STREAM_INCIDENTS)),
    ];
    Places {
        scope: SCOPE.to_owned(),
        tables: tables.into(),
    }
}

pub(crate) fn sink_with(
    azure: &Azure,
    tokens: SharedTokens,
    transport: SharedTransport,
) -> LogsIngestion {
    let places = places("https://sim", &azure.simulator.options().dcr);
    LogsIngestion::new(places, tokens, azure.wire_to(transport))
}

fn sink(azure: &Azure) -> LogsIngestion {
    sink_with(azure, azure.tokens(), azure.transport())
}

fn received(simulator: &Simulator, stream: &str) -> Received {
    simulator.received().remove(stream).unwrap_or_default()
}

#[tokio::test]
async fn the_sink_conforms_however_the_limit_is_measured() {
    for limit in [SizeLimit::AsSent, SizeLimit::Uncompressed, SizeLimit::Both] {
        let azure = Azure::with(|options| options.size_limit = limit);
        let sink = sink(&azure);
        conforms(&sink, &row("not JSON,"), async |table| {
            received(&azure.simulator, &format!("Custom-{table}")).count
        })
        .await;
    }
}

/// A full batch of rows that can't be compressed well.
fn full() -> Batch {
    let mut random = StdRng::seed_from_u64(1);
    let mut batch = Batch::new(DETECTIONS.name);
    loop {
        let room = (MAX_BATCH_BYTES - batch.bytes()).saturating_sub(1);
        let empty = row(r#""note":"","#).len();
        if room < empty {
            break;
        }
        let length = random.random_range(1..50_000).min(room - empty);
        let note: String = (0..length)
            .map(|_| char::from(random.sample(Alphanumeric)))
            .collect();
        let row = row(&format!(r#""note":"{note}","#));
        if !batch.has_room_for(row.len()) {
            break;
        }
        batch.add(&row);
    }
    batch.stamp("2026-03-02T08:00:00Z".parse().unwrap(), "0123456789abcdef");
    batch
}

#[tokio::test]
async fn no_body_is_over_the_limit_and_every_byte_is_counted() {
    for limit in [SizeLimit::AsSent, SizeLimit::Uncompressed, SizeLimit::Both] {
        let azure = Azure::with(|options| options.size_limit = limit);
        let sink = sink(&azure);
        let full = full();
        assert!(full.bytes() > MAX_BATCH_BYTES - 200 && full.bytes() <= MAX_BATCH_BYTES);
        sink.push(&full).await.unwrap();
        let got = received(&azure.simulator, STREAM);
        assert_eq!((got.calls, got.count), (1, full.len() as u64));
        assert_eq!(got.bytes, full.bytes() as u64);
        assert!(got.sent_bytes < got.bytes);
        assert_eq!(got.rows[0]["batchId"], "0123456789abcdef");
    }
}

#[tokio::test]
async fn what_does_not_shrink_is_sent_as_it_is() {
    let azure = Azure::new();
    let tiny = batch(DETECTIONS.name, &[row("")]);
    sink(&azure).push(&tiny).await.unwrap();
    let got = received(&azure.simulator, STREAM);
    assert_eq!(
        (got.bytes, got.sent_bytes),
        (tiny.bytes() as u64, tiny.bytes() as u64)
    );
}

async fn struck(fault: &str) -> (Azure, Result<(), PushError>) {
    let azure = Azure::new();
    azure.inject(&format!("ingestion:{fault}"));
    let rows: Vec<_> = (0..3)
        .map(|_| row(r#""note":"canary","detectionUuid":"canary","#))
        .collect();
    let pushed = sink(&azure).push(&batch(DETECTIONS.name, &rows)).await;
    let shown = format!("{pushed:?}");
    assert!(
        !shown.contains("canary") && !shown.contains("Bearer"),
        "{fault}: {shown}"
    );
    (azure, pushed)
}

#[tokio::test]
async fn an_outage_is_for_later() {
    for (fault, after) in [
        ("429-retry-after=7", Some(7)),
        ("503-retry-after=30", Some(30)),
        ("429", None),
        ("500", None),
        ("502", None),
        ("503", None),
        ("504", None),
        ("never", None),
    ] {
        let (_, pushed) = struck(fault).await;
        let Err(PushError::Later(error)) = pushed else {
            panic!("{fault}: {pushed:?}")
        };
        assert_eq!(error.after(), after.map(Duration::from_secs), "{fault}");
        assert!(error.to_string().starts_with("logs ingestion"), "{error}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_for_later_though_the_rows_have_landed() {
    let (azure, pushed) = struck("lost-answer").await;
    assert!(matches!(pushed, Err(PushError::Later(_))), "{pushed:?}");
    assert_eq!(received(&azure.simulator, STREAM).count, 3);
}

#[tokio::test]
async fn rows_and_sizes_are_refused_by_their_codes() {
    let (_, pushed) = struck("400").await;
    let Err(PushError::Refused(why)) = pushed else {
        panic!("{pushed:?}")
    };
    assert_eq!(why, "logs ingestion answered 400 (InvalidRequest)");
    let (_, pushed) = struck("413").await;
    assert!(matches!(pushed, Err(PushError::TooLarge(_))), "{pushed:?}");
}

#[tokio::test]
async fn a_refused_token_is_replaced_within_the_push() {
    let (azure, pushed) = struck("401").await;
    pushed.unwrap();
    assert_eq!(azure.calls(Struck::Ingestion), 2);
    assert_eq!(azure.calls(Struck::EntraToken), 2);
    assert_eq!(received(&azure.simulator, STREAM).count, 3);

    let (azure, pushed) = struck("401x*").await;
    let Err(PushError::Failed(error)) = pushed else {
        panic!("{pushed:?}")
    };
    assert_eq!(error.kind(), Kind::Config);
    assert!(
        error.to_string().contains("LOGS_INGESTION_SCOPE"),
        "{error}"
    );
    assert_eq!(azure.calls(Struck::Ingestion), 2);
}

#[tokio::test]
async fn what_somebody_has_to_mend_is_named() {
    for (fault, parts) in [
        (
            "403",
            ["`Monitoring Metrics Publisher`", "`dcr-0123", "30 minutes"],
        ),
        (
            "404",
            [
                "`dcr-0123",
                "`Custom-IntegrationTable_CL`",
                "`LOGS_INGESTION_ENDPOINT`",
            ],
        ),
        ("rubbish", ["200", "proxy", "`LOGS_INGESTION_ENDPOINT`"]),
    ] {
        let (_, pushed) = struck(fault).await;
        let Err(PushError::Failed(error)) = pushed else {
            panic!("{fault}: {pushed:?}")
        };
        assert_eq!(error.kind(), Kind::Config, "{fault}");
        for part in parts {
            assert!(error.to_string().contains(part), "{fault}: {error}");
        }
    }
    let (_, pushed) = struck("410").await;
    let Err(PushError::Failed(error)) = pushed else {
        panic!("{pushed:?}")
    };
    assert_eq!(error.kind(), Kind::Contract);
    let text = error.to_string();
    assert!(text.contains("proxy") && !text.contains("report"), "{text}");
}

#[tokio::test]
async fn whether_rows_would_be_taken_is_asked_without_any() {
    let azure = Azure::new();
    sink(&azure).check(DETECTIONS.name).await.unwrap();
    assert_eq!(azure.calls(Struck::Ingestion), 1);
    assert_eq!(received(&azure.simulator, STREAM).count, 0);
    for fault in ["403", "404", "rubbish"] {
        azure.inject(&format!("ingestion:{fault}"));
        let checked = sink(&azure).check(DETECTIONS.name).await;
        let Err(PushError::Failed(error)) = checked else {
            panic!("{fault}: {checked:?}")
        };
        assert_eq!(error.kind(), Kind::Config, "{fault}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let azure = Azure::new();
    azure.inject("entra.token:503x*");
    let pushed = sink(&azure).push(&detections(1)).await;
    assert!(
        matches!(&pushed, Err(PushError::Later(error)) if error.after().is_none()),
        "{pushed:?}"
    );

    let azure = Azure::new();
    let mut registration = azure.registration();
    registration.proof = Proof::Secret("wrong".to_owned().into());
    let tokens = azure.identity(Credential::Registration(registration));
    let pushed = sink_with(&azure, tokens, azure.transport())
        .push(&detections(1))
        .await;
    let Err(PushError::Failed(error)) = pushed else {
        panic!("{pushed:?}")
    };
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("AADSTS7000215"), "{error}");
    assert_eq!(azure.calls(Struck::Ingestion), 0);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let azure = Azure::new();
    let sink = sink(&azure);
    for _ in 0..12 {
        sink.push(&detections(1)).await.unwrap();
        azure.clock.advance(Duration::from_mins(20));
    }
    assert_eq!(azure.calls(Struck::Ingestion), 12, "never refused");
    assert_eq!(azure.calls(Struck::EntraToken), 4);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let azure = Azure::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let router = Router::new().fallback(move || async move {
        counted.fetch_add(1, Ordering::Relaxed);
        (
            StatusCode::FOUND,
            [("location", "https://attacker.example/")],
        )
    });
    let sink = sink_with(&azure, azure.tokens(), Arc::new(router));
    let pushed = sink.push(&detections(1)).await;
    assert!(matches!(pushed, Err(PushError::Failed(_))), "{pushed:?}");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn over_https_rows_land_and_a_dead_connection_is_for_later() {
    let now = SystemClock.now();
    let simulator = Simulator::new(Options::new(1, now), Arc::new(SystemClock));
    let authority = Authority::generate(now).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = serve(simulator.router(), address, &authority)
        .await
        .unwrap();
    let settings: BTreeMap<String, String> =
        simulator.settings(&server.base_url).into_iter().collect();
    let network = Network::loopback(authority.pem().as_bytes()).unwrap();
    let wire = Wire::new(Arc::new(network), Arc::new(SystemClock));
    let registration = sentinel_connector::io::token::Registration {
        authority: settings["AZURE_AUTHORITY_HOST"].clone(),
        tenant_id: settings["AZURE_TENANT_ID"].clone(),
        client_id: settings["AZURE_CLIENT_ID"].clone(),
        proof: Proof::Secret(settings["AZURE_CLIENT_SECRET"].clone().into()),
    };
    let credential = Credential::choose(Some(registration), None, None);
    let tokens = TokenCache::new(credential, wire.clone());
    let places = places(&server.base_url, &settings["DCR_IMMUTABLE_ID"]);
    let sink = LogsIngestion::new(places, tokens, wire);
    sink.push(&full()).await.unwrap();
    simulator.inject("ingestion:lost-answer".parse().unwrap());
    let pushed = sink.push(&detections(3)).await;
    assert!(matches!(pushed, Err(PushError::Later(_))), "{pushed:?}");
    assert_eq!(received(&simulator, STREAM).count, 3 + full().len() as u64);
    server.stop().await;
    let pushed = sink.push(&detections(3)).await;
    assert!(matches!(pushed, Err(PushError::Later(_))), "{pushed:?}");
}
