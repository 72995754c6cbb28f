//! `check` where an address leads nowhere: a line for each thing that is away, with host and fix, soon.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use chrono::TimeDelta;
use sentinel_connector::{
    app::App,
    check::{self, Found},
    config::{Environment, Mode, Settings},
    io::{
        clock::{Clock, SharedClock, SystemClock, VirtualClock},
        http::{Network, SharedTransport},
    },
    simulator::{Options, Simulator},
};

use crate::world::folder;

/// What is away by this address and what is said of it, each in time.
async fn away(address: &str) -> BTreeMap<String, String> {
    let clock = VirtualClock::new(SystemClock.now());
    let simulator = Simulator::new(Options::new(1, clock.now()), Arc::new(clock.clone()));
    let url = format!("https://{address}");
    let mut settings: BTreeMap<String, String> = simulator.settings(&url).into_iter().collect();
    let folder = folder();
    let storage = format!(
        "AccountName=acct;AccountKey=c2VjcmV0;TableEndpoint={url}/table;BlobEndpoint={url}/blob"
    );
    for (name, value) in [
        ("CONNECTOR_DATA", folder.path().to_str().unwrap()),
        ("DEFENDER_STREAMS", "machines,alerts"),
        ("STORAGE", "azure"),
        ("SINK", "logs-ingestion"),
        ("AzureWebJobsStorage", storage.as_str()),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    let environment: Environment = settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let settings = Settings::load(&environment, Mode::Local).unwrap();
    let root = include_bytes!("../fixtures/app-certificate.crt");
    let network: SharedTransport = Arc::new(Network::loopback(root).unwrap());
    let shared: SharedClock = Arc::new(clock.clone());
    let app = App::with_transport(&settings, &shared, &network).unwrap();
    let told = Mutex::new((clock.now(), BTreeMap::new()));
    let mut tell = |finding: check::Finding| {
        let (last, told) = &mut *told.lock().unwrap();
        let passed = clock.now() - *last;
        assert!(passed <= TimeDelta::seconds(10), "{passed}: {finding:?}");
        *last = clock.now();
        if finding.found == Found::Bad {
            let twice = told.insert(finding.what, finding.text);
            assert_eq!(twice, None);
        }
    };
    check::dependencies(&app, &mut tell).await;
    told.into_inner().unwrap().1
}

#[tokio::test]
async fn what_is_away_is_told_in_one_line_with_host_and_fix() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let plain = axum::serve(listener, axum::Router::new());
    let plain = tokio::spawn(plain.into_future());
    let no_tls = away(&address).await;
    plain.abort();
    drop(plain.await);
    let nobody = away(&address).await;
    let no_name = away("nobody.invalid").await;
    for (told, words, host) in [
        (no_tls, "speaks no TLS", address.as_str()),
        (nobody, "nobody listens", &address),
        (no_name, "does not resolve", "nobody.invalid"),
    ] {
        let whats: BTreeSet<&str> = told.keys().map(String::as_str).collect();
        let logins = whats.iter().filter(|what| what.contains("login"));
        assert_eq!(logins.count(), 2, "{told:#?}");
        let others = whats.iter().filter(|what| !what.contains("login"));
        let others: Vec<_> = others.collect();
        assert_eq!(
            others,
            [&"sink: IntegrationTable_CL", &"storage"],
            "{told:#?}"
        );
        for text in told.values() {
            assert!(text.contains(words) && text.contains(host), "{text}");
            assert!(text.contains("in the settings"), "{text}");
            assert!(text.len() < 300 && !text.contains("next run"), "{text}");
        }
    }
}
