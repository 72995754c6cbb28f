//! The custom-handler protocol, spoken in raw bytes: a client library would hide what the host
//! really sees.
#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sentinel_connector::{
    config::SETTINGS,
    error::{Error, Kind},
    host::{self, Failure, Functions, Invocation},
    io::clock::SystemClock,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// The timer's body, byte for byte as the host writes it.
const TIMER: &str = r#"{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"2026-11-21T05:15:00.0012345+00:00","Next":"2026-11-21T05:20:00+00:00","LastUpdated":"2026-11-21T05:15:00.0012345+00:00"},"IsPastDue":false}},"Metadata":{"sys":{"MethodName":"EsetTimer","UtcNow":"2026-11-21T05:20:00.004Z","RandGuid":"8b2f6f0e-3d55-4d43-9d39-6a4c3c9a3a10"}}}"#;

/// A queue message that is a JSON object: it comes as text, encoded twice.
const QUEUE: &str = r#"{"Data":{"item":"\"{\\\"connection\\\":\\\"default\\\",\\\"stream\\\":\\\"eset.detections\\\"}\""},"Metadata":{"connection":"\"default\"","stream":"\"eset.detections\"","DequeueCount":"1","Id":"\"0b1c2d3e-0000-4000-8000-000000000001\"","InsertionTime":"2026-11-21T05:20:00+00:00","PopReceipt":"\"AgAAAAMAAAAAAAAA\"","sys":{"MethodName":"Worker","UtcNow":"2026-11-21T05:20:01Z","RandGuid":"x"}}}"#;

/// Functions that do as they are called, and remember what they saw.
#[derive(Default)]
struct Fake {
    seen: Mutex<Vec<Invocation>>,
    finished: Mutex<Vec<String>>,
    started: Semaphore0,
    release: Semaphore0,
}

/// A semaphore without permits.
struct Semaphore0(Semaphore);

impl Default for Semaphore0 {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Semaphore0 {
    fn signal(&self) {
        self.0.add_permits(1);
    }

    async fn wait(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl Functions for Fake {
    fn names(&self) -> Vec<String> {
        [
            "EsetTimer",
            "Worker",
            "Failing",
            "Panicking",
            "Slow",
            "Saving",
            "Deaf",
        ]
        .map(str::to_owned)
        .into()
    }

    async fn run(&self, invocation: Invocation) -> Result<host::Answer, Failure> {
        self.seen.lock().unwrap().push(invocation.clone());
        self.started.signal();
        match invocation.function.as_str() {
            "Failing" => {
                let error = Error::config("`ESET_PASSWORD` is refused by ESET: set the right one");
                return Err(Failure {
                    report: json!({"pulled": 3}),
                    ..error.into()
                });
            }
            "Panicking" => panic!("a bug"),
            "Slow" => self.release.wait().await,
            "Saving" => {
                invocation.stop.cancelled().await;
                self.release.wait().await;
            }
            "Deaf" => std::future::pending().await,
            _ => {}
        }
        self.finished.lock().unwrap().push(invocation.function);
        Ok(json!({"pulled": 2, "landed": 2}).into())
    }
}

struct Server {
    address: SocketAddr,
    fake: Arc<Fake>,
    stop: CancellationToken,
    served: JoinHandle<Result<(), Error>>,
}

impl Server {
    async fn start() -> Self {
        let listener = host::bind(0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Arc::new(Fake::default());
        let stop = CancellationToken::new();
        let functions: Arc<dyn Functions> = Arc::<Fake>::clone(&fake);
        let served = tokio::spawn(host::serve(
            listener,
            functions,
            Arc::new(SystemClock),
            stop.clone(),
        ));
        Self {
            address,
            fake,
            stop,
            served,
        }
    }

    async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn send(&self, request: &str) -> Answer {
        Answer::read(self.connect(request).await).await
    }

    async fn post(&self, function: &str, body: &str) -> Answer {
        self.send(&post(function, body)).await
    }
}

/// A call with the headers that the host sends.
fn post(function: &str, body: &str) -> String {
    format!(
        "POST /{function} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         User-Agent: Azure-Functions-Host/4.1052.200\r\n\
         X-Azure-Functions-HostVersion: 4.1052.200\r\n\
         X-Azure-Functions-InvocationId: 5d1c9d6e-0f6a-4a1e-9d5e-0c6f3e9b7a01\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    async fn read(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// Every answer to a call is JSON and says something: anything else hangs the invocation.
    fn json(&self) -> Value {
        assert!(
            self.head.contains("\r\ncontent-type: application/json"),
            "{}",
            self.head
        );
        let value: Value = serde_json::from_str(&self.body).unwrap();
        assert!(value.is_object(), "{value}");
        value
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn the_ping_is_answered_at_once() {
    let server = Server::start().await;
    let answer = server
        .send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(server.fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_timer_runs_its_function() {
    let server = Server::start().await;
    let answer = server.post("EsetTimer", TIMER).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["Outputs"], json!({}));
    assert_eq!(body["ReturnValue"], json!({"pulled": 2, "landed": 2}));
    let logs = body["Logs"].as_array().unwrap();
    assert_eq!(logs.len(), 1);
    assert!(logs[0].as_str().unwrap().starts_with("EsetTimer done in "));

    let seen = server.fake.seen.lock().unwrap();
    assert_eq!(seen[0].id, "5d1c9d6e-0f6a-4a1e-9d5e-0c6f3e9b7a01");
    assert_eq!(seen[0].function, "EsetTimer");
    assert_eq!(seen[0].data["timer"]["IsPastDue"], json!(false));
    assert_eq!(seen[0].metadata["sys"]["MethodName"], "EsetTimer");
}

#[tokio::test]
async fn a_message_that_is_encoded_twice_is_decoded() {
    let server = Server::start().await;
    assert_eq!(server.post("Worker", QUEUE).await.status, 200);
    let seen = server.fake.seen.lock().unwrap();
    assert_eq!(
        seen[0].data,
        json!({"item": {"connection": "default", "stream": "eset.detections"}})
    );
    assert_eq!(seen[0].metadata["DequeueCount"], 1);
    assert_eq!(seen[0].metadata["stream"], "eset.detections");
}

#[tokio::test]
async fn a_body_may_come_in_chunks_and_without_the_hosts_headers() {
    let server = Server::start().await;
    let (first, second) = TIMER.split_at(17);
    let request = format!(
        "POST /EsetTimer HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    assert_eq!(server.send(&request).await.status, 200);
    let seen = server.fake.seen.lock().unwrap();
    assert_eq!(seen[0].data["timer"]["IsPastDue"], json!(false));
    assert_eq!(seen[0].id.len(), 32, "an id of our own");
}

#[tokio::test]
async fn a_megabyte_fits_and_a_huge_body_does_not() {
    let server = Server::start().await;
    let body = |length| format!(r#"{{"Data":{{"item":"{}"}}}}"#, "x".repeat(length));
    assert_eq!(server.post("Worker", &body(1 << 20)).await.status, 200);

    let head = format!(
        "POST /Worker HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        64 << 20
    );
    let answer = server.send(&head).await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("longer than"));
}

#[tokio::test]
async fn a_body_that_is_no_envelope_is_refused() {
    let server = Server::start().await;
    for body in [
        "",
        "hello",
        "null",
        "[]",
        "{}",
        r#"{"Data":[]}"#,
        r#"{"data":{}}"#,
    ] {
        let answer = server.post("EsetTimer", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.error().starts_with("the body "), "{body}");
    }
    assert!(server.fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_unknown_function_is_answered_with_those_there_are() {
    let server = Server::start().await;
    for name in [
        "DefenderTimer",
        "esettimer",
        "EsetTimer/",
        "api/EsetTimer",
        "",
    ] {
        let answer = server.post(name, TIMER).await;
        assert_eq!(answer.status, 404, "{name}");
        assert!(
            answer.error().contains("there are EsetTimer, Worker"),
            "{}",
            answer.error()
        );
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let server = Server::start().await;
    for (request, allowed) in [
        ("GET /EsetTimer", "post"),
        ("PUT /EsetTimer", "post"),
        ("DELETE /", "get"),
    ] {
        let request = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = server.send(&request).await;
        assert_eq!(answer.status, 405, "{request}");
        assert!(
            answer.head.contains(&format!("\r\nallow: {allowed}")),
            "{}",
            answer.head
        );
        answer.json();
    }
}

#[tokio::test]
async fn a_failed_run_is_a_500_with_reason_and_kind() {
    let server = Server::start().await;
    let answer = server.post("Failing", TIMER).await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.json(),
        json!({
            "error": "`ESET_PASSWORD` is refused by ESET: set the right one",
            "kind": Kind::Config,
            "report": {"pulled": 3},
        })
    );
}

#[tokio::test]
async fn a_panic_fails_its_run_and_no_other() {
    let server = Server::start().await;
    let answer = server.post("Panicking", TIMER).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.error(), "the run panicked");
    assert_eq!(server.post("EsetTimer", TIMER).await.status, 200);
}

#[tokio::test]
async fn runs_go_side_by_side() {
    let server = Server::start().await;
    let slow = server.connect(&post("Slow", TIMER)).await;
    server.fake.started.wait().await;
    assert_eq!(server.post("EsetTimer", TIMER).await.status, 200);
    server.fake.release.signal();
    assert_eq!(Answer::read(slow).await.status, 200);
    assert_eq!(*server.fake.finished.lock().unwrap(), ["EsetTimer", "Slow"]);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_cut_a_run_in_two() {
    let server = Server::start().await;
    let mut slow = server.connect(&post("Slow", TIMER)).await;
    server.fake.started.wait().await;
    slow.shutdown().await.unwrap();
    // Without an answer the server ends the connection only because it has seen that.
    assert_eq!(slow.read(&mut [0; 64]).await.unwrap(), 0);
    assert_eq!(server.post("EsetTimer", TIMER).await.status, 200);
    server.fake.release.signal();
    server.stop.cancel();
    server.served.await.unwrap().unwrap();
    assert_eq!(*server.fake.finished.lock().unwrap(), ["EsetTimer", "Slow"]);
}

#[tokio::test]
async fn a_stop_lets_runs_save_and_takes_no_more() {
    let server = Server::start().await;
    let saving = server.connect(&post("Saving", TIMER)).await;
    server.fake.started.wait().await;
    // The host keeps connections open; an idle one must not hold up the end.
    let idle = server
        .connect("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .await;
    let began = Instant::now();
    server.stop.cancel();

    let refused = server.post("EsetTimer", TIMER).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.error(), "the program is stopping");

    server.fake.release.signal();
    assert_eq!(
        Answer::read(saving).await.status,
        200,
        "what was running is answered"
    );
    server.served.await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    drop(idle);
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn a_run_that_does_not_listen_is_left_behind_within_five_seconds() {
    let server = Server::start().await;
    let deaf = server.connect(&post("Deaf", TIMER)).await;
    server.fake.started.wait().await;
    let began = Instant::now();
    server.stop.cancel();
    server.served.await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(deaf);
}

#[test]
fn each_function_has_a_folder_a_schedule_and_a_place_in_the_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let json = |file: &Path| -> Value {
        serde_json::from_str(&fs::read_to_string(root.join(file)).unwrap()).unwrap()
    };
    let description = &json(Path::new("host.json"))["customHandler"]["description"];
    assert_eq!(description["defaultExecutablePath"], env!("CARGO_PKG_NAME"));
    assert_eq!(description["arguments"], json!(["serve"]));

    let package = fs::read_to_string(root.join(".funcignore")).unwrap();
    let ships = |name: &str| package.lines().any(|line| line == format!("!/{name}"));
    assert!(ships("host.json") && ships(env!("CARGO_PKG_NAME")));
    let mut functions = 0;
    for entry in fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().file_name().into_string().unwrap();
        let file = Path::new(&folder).join("function.json");
        if !root.join(&file).exists() {
            continue;
        }
        functions += 1;
        assert!(ships(&folder), "{folder}");
        let binding = &json(&file)["bindings"][0];
        if binding["type"] == "timerTrigger" {
            let schedule = binding["schedule"].as_str().unwrap().trim_matches('%');
            assert!(
                SETTINGS.iter().any(|setting| setting.name == schedule),
                "{schedule}"
            );
            assert_eq!(
                binding.get("runOnStartup"),
                None,
                "it would run on every scale-out"
            );
        }
    }
    assert!(functions > 0);
}
