//! A simulated tenant over HTTPS, and the binary as the Functions host and as people start it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
};

use axum::Router;
use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    io::clock::{Clock, SystemClock},
    simulator::{Options, Product, Simulator, tls},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The timer's body, as the host writes it.
const TIMER: &str = r#"{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":false}},"Metadata":{"sys":{"MethodName":"EsetTimer","UtcNow":"2026-11-21T05:20:00.004Z","RandGuid":"8b2f6f0e-3d55-4d43-9d39-6a4c3c9a3a10"}}}"#;

/// The body of an HTTP trigger.
const HTTP: &str = r#"{"Data":{"req":{"Url":"https://app.example/api/Status","Method":"GET","Query":{},"Headers":{},"Params":{},"Identities":[],"Body":null}},"Metadata":{}}"#;

/// A simulated tenant, a folder to start the binary in, and the settings that point from there here.
pub(crate) struct Tenant {
    pub(crate) simulator: Simulator,
    pub(crate) folder: TempDir,
    pub(crate) began: DateTime<Utc>,
    pub(crate) settings: BTreeMap<String, String>,
    /// What nobody may print.
    pub(crate) secrets: Vec<String>,
    _server: tls::Server,
}

impl Tenant {
    pub(crate) async fn new(change: impl FnOnce(&mut Options)) -> Self {
        Self::behind(change, |services| services).await
    }

    /// One whose services are reached through what `before` puts before them.
    pub(crate) async fn behind(
        change: impl FnOnce(&mut Options),
        before: impl FnOnce(Router) -> Router,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let began = clock.now();
        let mut options = Options::new(11, began);
        options.scale = 0.1;
        change(&mut options);
        let secrets = vec![
            options.password.clone(),
            options.client_secret.clone(),
            options.identity_header.clone(),
            "Bearer ".to_owned(),
        ];
        let simulator = Simulator::new(options, clock);
        let authority = tls::Authority::generate(began).unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let server = tls::serve(before(simulator.router()), address, &authority);
        let server = server.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("ca.pem");
        fs::write(&root, authority.pem()).unwrap();
        let mut tenant = Self {
            settings: simulator.settings(&server.base_url).into_iter().collect(),
            simulator,
            folder,
            began,
            secrets,
            _server: server,
        };
        tenant.set("EXTRA_CA_FILE", root.to_str().unwrap());
        tenant.set("LOG_LEVEL", "trace");
        tenant
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Takes away the settings whose names begin so.
    pub(crate) fn unset(&mut self, prefix: &str) {
        self.settings.retain(|name, _| !name.starts_with(prefix));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel-connector"));
        command
            .args(arguments)
            .env_clear()
            .envs(&self.settings)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        for printed in [&output.stdout, &output.stderr] {
            self.assert_no_secret(&String::from_utf8_lossy(printed));
        }
        output
    }

    pub(crate) fn assert_no_secret(&self, printed: &str) {
        for secret in &self.secrets {
            let held = printed.contains(secret.as_str());
            assert!(!held, "a secret was printed: {printed}");
        }
    }

    /// Every detection of the day before the first run is there, and none twice.
    pub(crate) fn assert_all_once(&self, landed: &BTreeMap<String, u64>) {
        let world = self.simulator.world();
        // The run was before now, however long it was in coming: its day began no later than this.
        let from = SystemClock.now() - TimeDelta::hours(24);
        let history = |product| world.detection_ids(product, from, self.began, self.began);
        let expected: BTreeSet<String> = Product::ALL.into_iter().flat_map(history).collect();
        assert!(!expected.is_empty());
        let missing: Vec<_> = expected
            .iter()
            .filter(|id| !landed.contains_key(*id))
            .collect();
        assert!(missing.is_empty(), "missing: {missing:?}");
        let twice: Vec<_> = landed.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "twice: {twice:?}");
    }
}

/// A `serve` process, as the host starts it.
pub(crate) struct Served {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Served {
    pub(crate) async fn start(tenant: &Tenant) -> Self {
        // The host picks an unused port in the same way.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = tenant.folder.path().join(format!("log-{port}"));
        let file = fs::File::create(&log).unwrap();
        let child = tenant
            .command(&["serve"])
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "w-1")
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut served = Self { child, port, log };
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = served.child.try_wait().unwrap();
            assert_eq!(ended, None, "{}", served.printed());
            tokio::task::yield_now().await;
        }
        let pong = served.exchange("GET / HTTP/1.1\r\n", "").await;
        assert!(pong.starts_with("HTTP/1.1 200"), "{pong}");
        served
    }

    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Raw bytes in, raw bytes out.
    pub(crate) async fn exchange(&self, head: &str, body: &str) -> String {
        self.try_exchange(head, body).await.unwrap()
    }

    /// An exchange with a process that may be dead, or die meanwhile.
    pub(crate) async fn try_exchange(&self, head: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!(
            "{head}Host: 127.0.0.1\r\nConnection: close\r\n\
             X-Azure-Functions-InvocationId: 6f1c4d3e-0000-4000-8000-00000000beef\r\n\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // A process that is killed resets the connection: what came until then is the answer.
        drop(stream.read_to_end(&mut answer).await);
        Ok(String::from_utf8(answer).unwrap())
    }

    pub(crate) async fn invoke(&self, function: &str) -> String {
        let body = if function == "Status" { HTTP } else { TIMER };
        let head = format!("POST /{function} HTTP/1.1\r\n");
        self.exchange(&head, body).await
    }

    /// The body of an answer that is well.
    pub(crate) async fn ok(&self, function: &str) -> Value {
        let answer = self.invoke(function).await;
        let well = answer.starts_with("HTTP/1.1 200");
        assert!(well, "{function}: {answer}\n{}", self.printed());
        body(&answer)
    }

    /// What `Status` says, as it says it.
    pub(crate) async fn status(&self) -> String {
        let response = &self.ok("Status").await["Outputs"]["res"];
        assert_eq!(response["statusCode"], 200);
        response["body"].as_str().unwrap().to_owned()
    }

    /// How each stream of a function ended.
    pub(crate) async fn outcomes(&self, function: &str) -> Vec<String> {
        let answer = self.ok(function).await;
        let streams = answer["ReturnValue"]["streams"].as_array().unwrap().clone();
        let outcome = |stream: &Value| stream["outcome"].as_str().unwrap().to_owned();
        streams.iter().map(outcome).collect()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    pub(crate) async fn ended(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap())
            .await
            .unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The JSON of an answer.
pub(crate) fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// What a record of a run may become, in the words of reports.
pub(crate) const BECAME: [&str; 7] = [
    "landed",
    "waiting",
    "dead",
    "duplicate",
    "filtered",
    "unchanged",
    "again",
];

/// Every record of a run, as JSON tells it, is counted once.
pub(crate) fn assert_adds_up(run: &Value) {
    let sum = |names: &[&str]| -> u64 {
        let counts = names.iter().map(|name| run[name].as_u64().unwrap());
        counts.sum()
    };
    let became = sum(&BECAME);
    assert_eq!(sum(&["pulled", "gone"]), became, "{run:#}");
}
