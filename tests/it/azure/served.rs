//! The binary as the Functions host starts it: state in the emulator, rows over HTTPS to the
//! simulated service, and the password in the vault only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use sentinel_connector::{
    app::{self, App, Function, RunOptions},
    config::{Environment, Mode, Settings},
    core::protocol::source_kind::SourceKind,
    io::{
        clock::SystemClock,
        http::{Request, Response, SharedTransport, Transport, TransportError},
    },
    simulator::Target,
    storage::{StateStore, azure::AzureStorage},
};
use serde_json::Value;

use crate::{
    azurite::{Azurite, parsed, signed_in, wire},
    tenant::{Served, Tenant},
};

mod identity;
mod vault;

/// A tenant whose state is kept in an account of the emulator's, and whose rows go to the simulated
/// service.
async fn in_azure() -> Tenant {
    let mut tenant = Tenant::new(|options| options.calls_per_second = None).await;
    let account = Azurite::shared().fresh();
    let key = account
        .split(';')
        .find(|part| part.starts_with("AccountKey="));
    let key = key.unwrap().split_once('=').unwrap().1;
    tenant.secrets.push(key.to_owned());
    tenant.set("STORAGE", "azure");
    tenant.set("SINK", "logs-ingestion");
    tenant.set("AzureWebJobsStorage", &account);
    tenant.unset("ESET_PASSWORD");
    tenant
}

/// As if so much time had passed that every lease is over. Says how many there were.
async fn outlive_leases(tenant: &Tenant) -> usize {
    let account = &tenant.settings["AzureWebJobsStorage"];
    let storage = AzureStorage::new(signed_in(parsed(account)), wire());
    let mut leases = 0;
    for (key, _) in storage.states().await.unwrap() {
        let (mut state, etag) = storage.load(&key).await.unwrap().unwrap();
        if let Some(lease) = &mut state.lease {
            leases += 1;
            lease.until = tenant.began;
            storage.save(&key, &state, Some(&etag)).await.unwrap();
        }
    }
    leases
}

/// As if the last run of each stream had ended so long ago that it is due.
async fn make_due(tenant: &Tenant) {
    let account = &tenant.settings["AzureWebJobsStorage"];
    let storage = AzureStorage::new(signed_in(parsed(account)), wire());
    for (key, _) in storage.states().await.unwrap() {
        let (mut state, etag) = storage.load(&key).await.unwrap().unwrap();
        state.finished = None;
        storage.save(&key, &state, Some(&etag)).await.unwrap();
    }
}

/// The rows that the service has taken.
fn rows(tenant: &Tenant) -> impl Iterator<Item = serde_json::Map<String, Value>> {
    let received = tenant.simulator.received();
    received.into_values().flat_map(|stream| stream.rows)
}

/// Every detection of the day before the first run has landed, and no version of a record twice.
fn assert_complete(tenant: &Tenant) {
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for row in rows(tenant).filter(|row| row["providerName"] == "ESET") {
        let identity = ["connectionName", "streamName", "recordId", "recordVersion"];
        assert!(identity.iter().all(|name| row[*name] != ""), "{row:?}");
        let text = |name: &str| row[name].as_str().unwrap();
        ids.insert(text("recordId").to_owned(), 1);
        let name = format!("{} {}", text("recordId"), text("recordVersion"));
        *versions.entry(name).or_default() += 1;
    }
    let twice: Vec<_> = versions.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
    tenant.assert_all_once(&ids);
}

/// What `check` prints.
fn check(tenant: &Tenant, well: bool) -> String {
    let output = tenant.run(&["check"]);
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.success(), well, "{printed}");
    printed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_azure_the_timer_lands_rows_and_everything_is_well() {
    let tenant = in_azure().await;
    let served = Served::start(&tenant).await;
    assert_eq!(served.outcomes("EsetTimer").await, ["up-to-date"; 3]);
    assert_complete(&tenant);
    let calls = tenant.simulator.calls();
    assert!(
        calls
            .iter()
            .any(|call| call.target == Some(Target::KeyVault))
    );
    assert_eq!(served.outcomes("SentinelPush").await, ["up-to-date"]);

    let text = served.status().await;
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["well"], true, "{status:#}");
    assert_eq!(status["deadLetters"], 0);
    tenant.assert_no_secret(&text);
    tenant.assert_no_secret(&served.printed());

    let printed = check(&tenant, true);
    assert!(!printed.contains("BAD"), "{printed}");
    assert!(printed.contains("default: login"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_leaves_a_lease_and_loses_nothing() {
    for fault in ["ingestion:never", "eset.incidents.get:never@3"] {
        let tenant = in_azure().await;
        tenant.simulator.inject(fault.parse().unwrap());
        let served = Served::start(&tenant).await;
        tokio::select! {
            answer = served.invoke("EsetTimer") => panic!("{fault} did not hang: {answer}"),
            () = tenant.simulator.kept_waiting(1) => {}
        }
        served.signal("-KILL");
        served.ended().await;
        tenant.simulator.heal();

        let served = Served::start(&tenant).await;
        let outcomes = served.outcomes("EsetTimer").await;
        let busy = outcomes.iter().filter(|outcome| *outcome == "busy").count();
        assert_eq!(busy, 1, "{fault}: {outcomes:?}");
        assert_eq!(outlive_leases(&tenant).await, 1, "{fault}");
        let outcomes = served.outcomes("EsetTimer").await;
        let done = |outcome: &String| outcome == "up-to-date" || outcome == "not-due";
        assert!(outcomes.iter().all(done), "{fault}: {outcomes:?}");
        assert_complete(&tenant);
    }
}

/// Writes down which states are read.
struct Counting {
    network: SharedTransport,
    read: Mutex<BTreeMap<String, usize>>,
}

#[async_trait]
impl Transport for Counting {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let path = request.uri().path();
        if request.method() == "GET" && path.contains("connectorstate(") {
            *self
                .read
                .lock()
                .unwrap()
                .entry(path.to_owned())
                .or_default() += 1;
        }
        self.network.send(request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_reads_the_states_of_all_streams_in_one_question() {
    let tenant = in_azure().await;
    let environment: Environment = tenant.settings.clone().into_iter().collect();
    let settings = Settings::load(&environment, Mode::Host).unwrap();
    let counting = Arc::new(Counting {
        network: app::network(&settings).unwrap(),
        read: Mutex::default(),
    });
    let transport = Arc::clone(&counting) as SharedTransport;
    let app = App::with_transport(&settings, &(Arc::new(SystemClock) as _), &transport).unwrap();
    // The first reads and writes, the second is not due.
    for _ in 0..2 {
        let reports = app
            .run(Function::Pull(SourceKind::Eset), &RunOptions::default())
            .await;
        let read = std::mem::take(&mut *counting.read.lock().unwrap());
        assert!(reports.len() > 1, "{reports:?}");
        let questions: Vec<_> = read.into_iter().collect();
        let [(path, 1)] = &questions[..] else {
            panic!("{questions:?}")
        };
        assert!(path.ends_with("/connectorstate()"), "{path}");
    }
}
