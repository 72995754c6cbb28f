//! The binary as the Functions host starts it: state in the emulator, rows over HTTPS to the
//! simulated service, and the password in the vault only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    io::clock::{Clock, SystemClock},
    simulator::{Options, Product, Simulator, Target, tls},
    storage::{StateStore, azure::AzureStorage},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::azurite::{Azurite, parsed, signed_in, wire};

/// A simulated tenant over HTTPS, an account of the emulator's, and a folder.
struct Tenant {
    simulator: Simulator,
    server: tls::Server,
    account: String,
    folder: TempDir,
    began: DateTime<Utc>,
}

impl Tenant {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let began = clock.now();
        let mut options = Options::new(11, began);
        options.scale = 0.1;
        options.calls_per_second = None;
        let simulator = Simulator::new(options, clock);
        let authority = tls::Authority::generate(began).unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let server = tls::serve(simulator.router(), address, &authority);
        let server = server.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self {
            simulator,
            server,
            account: Azurite::shared().fresh(),
            folder,
            began,
        }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let root = self.folder.path().join("ca.pem");
        let own = [
            ("EXTRA_CA_FILE", root.to_str().unwrap()),
            ("STORAGE", "azure"),
            ("SINK", "logs-ingestion"),
            ("AzureWebJobsStorage", &self.account),
            ("LOG_LEVEL", "trace"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = self.simulator.settings(&self.server.base_url);
        let settings = settings.into_iter().chain(own);
        settings
            .filter(|(name, _)| name != "ESET_PASSWORD")
            .collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel-connector"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.settings())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn storage(&self) -> AzureStorage {
        AzureStorage::new(signed_in(parsed(&self.account)), wire())
    }

    /// As if so much time had passed that every lease is over. Says how many there were.
    async fn outlive_leases(&self) -> usize {
        let storage = self.storage();
        let mut leases = 0;
        for (key, _) in storage.states().await.unwrap() {
            let (mut state, etag) = storage.load(&key).await.unwrap().unwrap();
            if let Some(lease) = &mut state.lease {
                leases += 1;
                lease.until = self.began;
                storage.save(&key, &state, Some(&etag)).await.unwrap();
            }
        }
        leases
    }

    fn assert_no_secret(&self, printed: &str) {
        let options = self.simulator.options();
        let key = self
            .account
            .split(';')
            .find(|part| part.starts_with("AccountKey="));
        let key = key.unwrap().split_once('=').unwrap().1;
        for secret in [&options.password, &options.client_secret, key] {
            assert!(!printed.contains(secret), "a secret was printed: {printed}");
        }
        assert!(
            !printed.contains("Bearer "),
            "a token was printed: {printed}"
        );
    }

    /// Every detection of the day before the first run has landed, and none twice.
    fn assert_complete(&self) {
        let mut landed: BTreeMap<String, u64> = BTreeMap::new();
        for row in self
            .simulator
            .received()
            .into_values()
            .flat_map(|stream| stream.rows)
        {
            if row["providerName"] == "ESET" {
                let identity = ["connectionName", "streamName", "recordId", "recordVersion"];
                assert!(identity.iter().all(|name| row[*name] != ""), "{row:?}");
                let text = |name: &str| row[name].as_str().unwrap();
                let name = format!("{} {}", text("recordId"), text("recordVersion"));
                *landed.entry(name).or_default() += 1;
            }
        }
        let twice: Vec<_> = landed.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "twice: {twice:?}");
        let ids: BTreeSet<&str> = landed
            .keys()
            .filter_map(|name| name.split(' ').next())
            .collect();
        let world = self.simulator.world();
        let from = self.began - TimeDelta::hours(24) + TimeDelta::minutes(1);
        let history = |product| world.detection_ids(product, from, self.began, self.began);
        let expected: BTreeSet<String> = Product::ALL.into_iter().flat_map(history).collect();
        assert!(!expected.is_empty());
        let missing: Vec<_> = expected
            .iter()
            .filter(|id| !ids.contains(id.as_str()))
            .collect();
        assert!(missing.is_empty(), "missing: {missing:?}");
    }
}

/// A `serve` process.
struct Served {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Served {
    async fn start(tenant: &Tenant) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = tenant.folder.path().join(format!("log-{port}"));
        let file = fs::File::create(&log).unwrap();
        let mut child = tenant
            .command(&["serve"])
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = child.try_wait().unwrap();
            assert_eq!(ended, None, "{}", fs::read_to_string(&log).unwrap());
            tokio::task::yield_now().await;
        }
        Self { child, port, log }
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The answer as it comes, or what came of it until the process died.
    async fn invoke(&self, function: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let data = match function {
            "Status" => json!({"req": {"Url": "https://app.example/api/Status", "Method": "GET",
                "Query": {}, "Headers": {}, "Params": {}, "Identities": [], "Body": null}}),
            _ => json!({"timer": {"ScheduleStatus": null, "IsPastDue": false}}),
        };
        let body = json!({"Data": data, "Metadata": {}}).to_string();
        let request = format!(
            "POST /{function} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             X-Azure-Functions-InvocationId: 6f1c4d3e-0000-4000-8000-00000000beef\r\n\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    }

    /// The body of an answer that is well.
    async fn ok(&self, function: &str) -> Value {
        let answer = self.invoke(function).await;
        let well = answer.starts_with("HTTP/1.1 200");
        assert!(well, "{function}: {answer}\n{}", self.printed());
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// How each stream of a function ended.
    async fn outcomes(&self, function: &str) -> Vec<String> {
        let answer = self.ok(function).await;
        let streams = answer["ReturnValue"]["streams"].as_array().unwrap().clone();
        let outcome = |stream: &Value| stream["outcome"].as_str().unwrap().to_owned();
        streams.iter().map(outcome).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_azure_the_timer_lands_rows_and_everything_is_well() {
    let tenant = Tenant::new().await;
    let served = Served::start(&tenant).await;
    assert_eq!(served.outcomes("EsetTimer").await, ["up-to-date"; 3]);
    tenant.assert_complete();
    let calls = tenant.simulator.calls();
    assert!(
        calls
            .iter()
            .any(|call| call.target == Some(Target::KeyVault))
    );
    assert_eq!(served.outcomes("SentinelPush").await, ["up-to-date"]);

    let answer = served.ok("Status").await;
    let text = answer["Outputs"]["res"]["body"].as_str().unwrap();
    let status: Value = serde_json::from_str(text).unwrap();
    assert_eq!(status["well"], true, "{status:#}");
    assert_eq!(status["deadLetters"], 0);
    tenant.assert_no_secret(text);
    tenant.assert_no_secret(&served.printed());

    let output = tenant.command(&["check"]).output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(!printed.contains("BAD"), "{printed}");
    assert!(printed.contains("default: login"), "{printed}");
    tenant.assert_no_secret(&printed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_leaves_a_lease_and_loses_nothing() {
    for fault in ["ingestion:never", "eset.incidents.get:never@3"] {
        let tenant = Tenant::new().await;
        tenant.simulator.inject(fault.parse().unwrap());
        let mut served = Served::start(&tenant).await;
        tokio::select! {
            answer = served.invoke("EsetTimer") => panic!("{fault} did not hang: {answer}"),
            () = tenant.simulator.kept_waiting(1) => {}
        }
        // SIGKILL.
        served.child.kill().unwrap();
        served.child.wait().unwrap();
        tenant.simulator.heal();

        let served = Served::start(&tenant).await;
        let outcomes = served.outcomes("EsetTimer").await;
        let busy = outcomes.iter().filter(|outcome| *outcome == "busy").count();
        assert_eq!(busy, 1, "{fault}: {outcomes:?}");
        assert_eq!(tenant.outlive_leases().await, 1, "{fault}");
        let outcomes = served.outcomes("EsetTimer").await;
        let done = |outcome: &String| outcome == "up-to-date" || outcome == "not-due";
        assert!(outcomes.iter().all(done), "{fault}: {outcomes:?}");
        tenant.assert_complete();
    }
}
