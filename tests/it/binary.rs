//! The binary, started as the Functions host and as people start it, over real HTTPS.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    embedded::EmbeddedFile,
    io::clock::{Clock, SystemClock},
    simulator::{Fault, Options, Product, Simulator, tls},
    sink::workspace::Workspace,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The timer's body, as the host writes it.
const TIMER: &str = r#"{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":false}},"Metadata":{"sys":{"MethodName":"EsetTimer","UtcNow":"2026-11-21T05:20:00.004Z","RandGuid":"8b2f6f0e-3d55-4d43-9d39-6a4c3c9a3a10"}}}"#;

/// A simulated tenant over HTTPS, and a folder for the connector.
struct Tenant {
    simulator: Simulator,
    server: tls::Server,
    folder: TempDir,
    began: DateTime<Utc>,
}

impl Tenant {
    async fn new(change: impl FnOnce(&mut Options)) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let began = clock.now();
        let mut options = Options::new(11, began);
        options.scale = 0.1;
        change(&mut options);
        let simulator = Simulator::new(options, Arc::clone(&clock));
        let authority = tls::Authority::generate(began).unwrap();
        let server = tls::serve(simulator.router(), ([127, 0, 0, 1], 0).into(), &authority)
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self {
            simulator,
            server,
            folder,
            began,
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Nothing but the settings that point here, and what the host gives.
    fn settings(&self) -> BTreeMap<String, String> {
        let own = [
            (
                "EXTRA_CA_FILE",
                self.folder.path().join("ca.pem").display().to_string(),
            ),
            ("CONNECTOR_DATA", self.data().display().to_string()),
            ("STORAGE", "embedded".to_owned()),
            ("SINK", "embedded".to_owned()),
            ("LOG_LEVEL", "trace".to_owned()),
        ];
        self.simulator
            .settings(&self.server.base_url)
            .into_iter()
            .filter(|(name, _)| name.starts_with("ESET_"))
            .chain(own.map(|(name, value)| (name.to_owned(), value)))
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

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        self.assert_no_secret(&output.stdout);
        self.assert_no_secret(&output.stderr);
        output
    }

    fn assert_no_secret(&self, printed: &[u8]) {
        let text = String::from_utf8_lossy(printed);
        let options = self.simulator.options();
        for secret in [&options.password, &options.client_secret] {
            assert!(
                !text.contains(secret.as_str()),
                "a secret was printed: {text}"
            );
        }
        assert!(!text.contains("Bearer "), "a token was printed: {text}");
    }

    async fn landed(&self, table: &str) -> BTreeMap<String, u64> {
        let workspace = Workspace::new(EmbeddedFile::open(&self.data()).unwrap()).unwrap();
        let sql = format!(
            "SELECT recordId, count(*) FROM {table} WHERE providerName = 'ESET' GROUP BY 1"
        );
        let rows = workspace.query(&sql).await.unwrap().rows;
        rows.into_iter()
            .map(|row| {
                (
                    row[0].clone().unwrap(),
                    row[1].as_deref().unwrap().parse().unwrap(),
                )
            })
            .collect()
    }

    /// Every detection of the day before the first run, and none twice.
    async fn assert_complete(&self) {
        let landed = self.landed("IntegrationTable_CL").await;
        let world = self.simulator.world();
        let from = self.began - TimeDelta::hours(24) + TimeDelta::minutes(1);
        let expected: BTreeSet<String> = Product::ALL
            .into_iter()
            .flat_map(|product| world.detection_ids(product, from, self.began, self.began))
            .collect();
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
struct Served {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Served {
    async fn start(tenant: &Tenant) -> Self {
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
        loop {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                break;
            }
            assert_eq!(
                served.child.try_wait().unwrap(),
                None,
                "{}",
                served.printed()
            );
            tokio::task::yield_now().await;
        }
        assert!(
            served
                .exchange("GET / HTTP/1.1\r\n", "")
                .await
                .starts_with("HTTP/1.1 200")
        );
        served
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Raw bytes in, raw bytes out.
    async fn exchange(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!(
            "{head}Host: 127.0.0.1\r\nConnection: close\r\n\
             X-Azure-Functions-InvocationId: 6f1c4d3e-0000-4000-8000-00000000beef\r\n\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A process that is killed resets the connection: what came until then is the answer.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    }

    async fn invoke(&self) -> String {
        self.exchange("POST /EsetTimer HTTP/1.1\r\n", TIMER).await
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    async fn ended(mut self) -> ExitStatus {
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

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_gets_a_report_and_the_tables_their_rows() {
    let tenant = Tenant::new(|_| {}).await;
    let served = Served::start(&tenant).await;
    let answer = served.invoke().await;
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "{answer}\n{}",
        served.printed()
    );
    let report = body(&answer);
    assert_eq!(report["Outputs"], serde_json::json!({}));
    let streams = report["ReturnValue"]["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 3);
    assert!(
        streams
            .iter()
            .all(|stream| stream["outcome"] == "up-to-date"),
        "{report}"
    );
    tenant.assert_complete().await;

    let lines: Vec<serde_json::Value> = served
        .printed()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let done: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "stream done")
        .collect();
    assert_eq!(done.len(), 3);
    for line in done {
        assert_eq!(
            line["invocation_id"],
            "6f1c4d3e-0000-4000-8000-00000000beef"
        );
        assert_eq!(line["function"], "EsetTimer");
        assert_eq!(line["connection"], "default");
        assert!(line["stream"].as_str().unwrap().starts_with("eset."));
    }
    tenant.assert_no_secret(served.printed().as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_where_everything_stands() {
    let tenant = Tenant::new(|_| {}).await;
    let served = Served::start(&tenant).await;
    assert!(served.invoke().await.starts_with("HTTP/1.1 200"));
    let request = r#"{"Data":{"req":{"Url":"https://app.example/api/Status","Method":"GET","Query":{},"Headers":{},"Params":{},"Identities":[],"Body":null}},"Metadata":{}}"#;
    let answer = served.exchange("POST /Status HTTP/1.1\r\n", request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    tenant.assert_no_secret(answer.as_bytes());
    let res = body(&answer)["Outputs"]["res"].clone();
    assert_eq!(res["statusCode"], 200);
    let status: serde_json::Value = serde_json::from_str(res["body"].as_str().unwrap()).unwrap();
    assert_eq!(status["well"], true, "{status:#}");
    let streams = status["streams"].as_array().unwrap();
    let said = |name: &str| {
        streams
            .iter()
            .find(|stream| stream["stream"] == name)
            .unwrap()["says"]
            .to_string()
    };
    assert!(
        said("eset.detections").contains("follows the feed"),
        "{status:#}"
    );
    assert!(
        said("eset.incidents").contains("has read everything until"),
        "{status:#}"
    );
    assert_eq!(status["deadLetters"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_loses_nothing_and_repeats_nothing() {
    let tenant = Tenant::new(|options| options.calls_per_second = None).await;
    let mut killed = 0;
    // One stream after the other hangs in the middle, and is killed there.
    for fault in [
        "eset.detections.window:never@1",
        "eset.cloud-office:never@2",
        "eset.incidents.get:never@3",
    ] {
        tenant.simulator.inject(Fault::parse(fault).unwrap());
        killed += 1;
        let served = Served::start(&tenant).await;
        let invoke = served.invoke();
        tokio::select! {
            answer = invoke => panic!("{fault} did not hang: {answer}"),
            () = tenant.simulator.kept_waiting(killed) => served.signal("-9"),
        }
        assert!(!served.ended().await.success());
    }
    let served = Served::start(&tenant).await;
    let answer = served.invoke().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    tenant.assert_complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_run_saves_and_exits_with_zero() {
    let tenant = Tenant::new(|_| {}).await;
    let served = Served::start(&tenant).await;
    tenant
        .simulator
        .inject(Fault::parse("eset.incidents:never").unwrap());
    let done = async {
        tenant.simulator.kept_waiting(1).await;
        served.signal("-TERM");
    };
    let (answer, ()) = tokio::join!(served.invoke(), done);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("behind"), "{answer}");
    assert!(answer.contains("asked to stop"), "{answer}");
    assert_eq!(served.ended().await.code(), Some(0));

    let served = Served::start(&tenant).await;
    assert!(served.invoke().await.starts_with("HTTP/1.1 200"));
    tenant.assert_complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_are_the_answer_to_each_call() {
    let tenant = Tenant::new(|_| {}).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let log = tenant.folder.path().join("log");
    let mut child = tenant
        .command(&["serve"])
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("ESET_REGION", "mars")
        .stderr(fs::File::create(&log).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert_eq!(child.try_wait().unwrap(), None);
        tokio::task::yield_now().await;
    }
    let served = Served { child, port, log };
    let answer = served.invoke().await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("ESET_REGION"), "{answer}");
    assert!(
        served.printed().contains("ESET_REGION"),
        "{}",
        served.printed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_is_well_and_says_what_is_not() {
    let tenant = Tenant::new(|_| {}).await;
    let output = tenant.run(&["check"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("default: login"), "{printed}");
    assert!(!printed.contains("BAD"), "{printed}");

    tenant
        .simulator
        .inject(Fault::parse("eset.cloud-office.window:501x*").unwrap());
    let output = tenant.run(&["check"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let bad: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("BAD"))
        .collect();
    assert_eq!(bad.len(), 1, "{printed}");
    assert!(
        bad[0].contains("eset.cloud-office") && bad[0].contains("ESET_PRODUCTS"),
        "{}",
        bad[0]
    );

    let output = tenant
        .command(&["check"])
        .env("ESET_PASSWORD", "wrong")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let login = printed
        .lines()
        .find(|line| line.contains("default: login"))
        .unwrap();
    assert!(
        login.starts_with("BAD") && login.contains("password"),
        "{login}"
    );

    let before = tenant.simulator.calls().len();
    let output = tenant.run(&["check", "--offline"]);
    assert!(output.status.success());
    assert_eq!(
        tenant.simulator.calls().len(),
        before,
        "offline asks nobody"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_and_cursor_work_from_local_settings() {
    let tenant = Tenant::new(|_| {}).await;
    let file = tenant.folder.path().join("local.settings.json");
    let settings = serde_json::json!({ "Values": tenant.settings() });
    fs::write(&file, settings.to_string()).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = tenant.command(arguments);
        command.env_clear();
        let output = command.output().unwrap();
        tenant.assert_no_secret(&output.stdout);
        tenant.assert_no_secret(&output.stderr);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, printed, errors) = command(&["run", "EsetTimer", "--once"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    tenant.assert_complete().await;

    let (code, printed, _) = command(&["cursor", "show"]);
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("eset.detections\n  follows the feed; has read everything"),
        "{printed}"
    );

    let (code, printed, _) = command(&["cursor", "set", "eset.detections", "24h"]);
    assert_eq!(code, Some(0), "{printed}");
    let (code, _, _) = command(&["run"]);
    assert_eq!(code, Some(0));
    tenant.assert_complete().await;

    let landed = tenant.landed("IntegrationTable_CL").await.len();
    let (code, ..) = command(&["cursor", "reset", "eset.detections", "--again"]);
    assert_eq!(code, Some(0));
    let (code, ..) = command(&["run"]);
    assert_eq!(code, Some(0));
    let again = tenant.landed("IntegrationTable_CL").await;
    assert!(
        again.values().any(|times| *times == 2),
        "asked to land again"
    );
    assert!(again.len() >= landed);

    let (code, _, errors) = command(&["cursor", "set", "eset.nothing", "24h"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("there is no stream `eset.nothing`; there are eset.detections"),
        "{errors}"
    );
    let (code, _, errors) = command(&["run", "esettimer"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("there is no function `esettimer`; there are EsetTimer"),
        "{errors}"
    );
}

fn plain(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_demo_needs_nothing_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let first = plain(folder.path(), &["demo"]);
    let printed = String::from_utf8(first.stdout).unwrap();
    assert!(
        first.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&first.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&first.stderr), "");
    assert_eq!(
        printed
            .matches("sqlite3 ./connector-data/connector.sqlite \"SELECT")
            .count(),
        3
    );

    let count = || {
        let sql = "SELECT count(*) AS n, count(DISTINCT recordId) AS ids FROM IntegrationTable_CL \
                   WHERE providerName = 'ESET'";
        String::from_utf8(plain(folder.path(), &["query", sql]).stdout).unwrap()
    };
    let numbers = |table: &str| -> Vec<u64> {
        table
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let before = numbers(&count());
    assert!(before[0] > 1000, "{before:?}");
    assert_eq!(before[0], before[1]);
    // The queries that it prints work.
    for line in printed.lines().filter(|line| line.contains("sqlite3 ./")) {
        let sql = line.split('"').nth(1).unwrap();
        let answer = plain(folder.path(), &["query", sql]);
        assert!(
            answer.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
        assert!(
            String::from_utf8(answer.stdout).unwrap().lines().count() > 4,
            "{sql}"
        );
    }

    assert!(plain(folder.path(), &["demo"]).status.success());
    let after = numbers(&count());
    assert_eq!(after[0], after[1], "nothing lands twice");
    assert!(
        after[0] >= before[0] && after[0] < before[0] + 100,
        "{before:?} then {after:?}"
    );
}

#[test]
fn wrong_use_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["fly"] as &[&str],
        &[],
        &["run", "--nope"],
        &["cursor", "set", "eset.detections", "yesterday"],
        &["simulate", "--listen", "0.0.0.0:7443"],
        &["simulate", "--fault", "eset.detections:9000"],
    ] {
        let output = plain(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            errors.trim_end().lines().count(),
            1,
            "{arguments:?}: {errors}"
        );
        assert!(output.stdout.is_empty());
    }
    let help = plain(folder.path(), &["--help"]);
    assert!(help.status.success());
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("Examples:")
    );
}

#[test]
fn without_settings_everything_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["run"] as &[&str], &["check"]] {
        let output = plain(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1));
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("ESET_LOGIN"), "{printed}");
    }
    let output = plain(folder.path(), &["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("FUNCTIONS_CUSTOMHANDLER_PORT"), "{errors}");
}
