//! `Status` as a browser and as a program ask for it: under the Functions host, and by `run --watch`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use sentinel_connector::{core::position::trend::TrendPoint, pipeline::Outcome};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    tenant::{Served, Tenant, body},
    world::{DETECTIONS, World},
};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn tenant() -> Tenant {
    let mut tenant = Tenant::new(|options| options.calls_per_second = None).await;
    let data = tenant.folder.path().join("data");
    for (name, value) in [
        ("CONNECTOR_DATA", data.to_str().unwrap()),
        ("STORAGE", "embedded"),
        ("SINK", "embedded"),
        ("ESET_STREAMS", "incidents"),
        ("LOG_LEVEL", "error"),
    ] {
        tenant.set(name, value);
    }
    for prefix in ["KEY_VAULT_URL", "DEFENDER_"] {
        tenant.unset(prefix);
    }
    tenant
}

/// What `Status` answers a request of this query and these headers.
async fn asked(served: &Served, query: Value, headers: Value) -> Value {
    let data = json!({"Data": {"req": {
        "Url": "https://app.example/api/Status?code=canary-key", "Method": "GET",
        "Query": query, "Headers": headers, "Params": {}, "Identities": [], "Body": null,
    }}, "Metadata": {}});
    let answer = served
        .exchange("POST /Status HTTP/1.1\r\n", &data.to_string())
        .await;
    body(&answer)["Outputs"]["res"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_shown_a_page_that_runs_nothing_and_a_program_is_told_json() {
    let tenant = tenant().await;
    let served = Served::start(&tenant).await;
    served.ok("EsetTimer").await;
    let browser = json!({"accept": [BROWSER], "Host": ["app.example"]});
    let query = json!({"code": "canary-key"});
    let page = asked(&served, query, browser.clone()).await;
    assert_eq!(page["statusCode"], 200);
    let header = |name: &str| {
        page["headers"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(header("Content-Type"), "text/html; charset=utf-8");
    let policy = header("Content-Security-Policy");
    for part in [
        "default-src 'none'",
        "style-src 'sha256-",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ] {
        assert_eq!(header(name), value);
    }
    let html = page["body"].as_str().unwrap();
    assert!(html.starts_with("<!DOCTYPE html>"), "{html}");
    assert!(
        html.contains("<th scope=\"row\">eset.incidents</th>"),
        "{html}"
    );
    assert!(html.contains("All is well"), "{html}");
    // The key of the address, and whatever else is secret.
    assert!(!html.contains("canary-key"));
    tenant.assert_no_secret(html);

    for (query, headers) in [
        (json!({}), json!({})),
        (json!({}), json!({"Accept": ["application/json"]})),
        (json!({}), json!({"Accept": ["*/*"]})),
        (json!({"format": "json"}), browser.clone()),
    ] {
        let told = asked(&served, query, headers).await;
        assert_eq!(told["headers"], json!({"Content-Type": "application/json"}));
        let told: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
        let members: Vec<&String> = told.as_object().unwrap().keys().collect();
        let expected = [
            "check",
            "deadLetters",
            "now",
            "outbox",
            "streams",
            "version",
            "well",
        ];
        assert_eq!(members, expected);
        let members: Vec<&String> = told["streams"][0].as_object().unwrap().keys().collect();
        let expected = ["connection", "error", "gaps", "goodUntil", "says", "stream"];
        assert_eq!(members, expected);
    }
    let refused = asked(&served, json!({"format": "<svg>"}), browser).await;
    assert_eq!(refused["statusCode"], 400);
    assert_eq!(refused["headers"]["Content-Type"], "application/json");
}

/// A `run --watch` with a status page.
struct Watched {
    child: Child,
    address: String,
}

impl Watched {
    async fn start(tenant: &Tenant) -> Self {
        let mut command = tenant.command(&["run", "--watch", "--status", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Read to its end in the background, so that it never waits for a reader.
        let (told, address) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut told = Some(told);
            while let Some(Ok(line)) = lines.next() {
                let address = line.strip_prefix("The status page is at http://");
                if let (Some(address), Some(_)) = (address, &told) {
                    let told = told.take().unwrap();
                    told.send(address.trim_end_matches('/').to_owned()).ok();
                }
            }
        });
        let address = address.await.unwrap();
        Self { child, address }
    }

    /// The answer to a request line and headers, whole.
    async fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_shows_the_page_to_this_machine_and_to_no_name_that_leads_here() {
    let tenant = tenant().await;
    let watched = Watched::start(&tenant).await;
    let local = format!("Host: {}", watched.address);
    let page = watched
        .ask(&format!("GET / HTTP/1.1\r\n{local}\r\nAccept: {BROWSER}"))
        .await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("\r\ncontent-security-policy: default-src 'none'"),
        "{page}"
    );
    assert!(page.contains("<!DOCTYPE html>"), "{page}");
    tenant.assert_no_secret(&page);
    for path in ["/?format=json", "/api/Status?format=json"] {
        let head = format!("GET {path} HTTP/1.1\r\n{local}\r\nAccept: {BROWSER}");
        let json = body(&watched.ask(&head).await);
        assert!(json["check"].is_array(), "{json}");
    }
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example".to_owned(), "421"),
        (format!("GET /api/EsetTimer HTTP/1.1\r\n{local}"), "404"),
        (
            format!("POST / HTTP/1.1\r\n{local}\r\nContent-Length: 0"),
            "405",
        ),
    ] {
        let answer = watched.ask(&head).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_for_everybody_is_refused_with_words() {
    let tenant = tenant().await;
    let output = tenant.run(&["run", "--watch", "--status", "0.0.0.0:8070"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("`0.0.0.0:8070` is reached from other machines"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trend_of_a_stream_is_what_its_runs_brought_and_how_often_they_failed() {
    let mut world = World::new();
    world.streams.retain(|one| one.stream == DETECTIONS);
    for _ in 0..4 {
        world.run().await;
        world.pass(30);
    }
    world.inject("eset.detections:500x*");
    let failed = world.run().await;
    assert_eq!(failed[0].outcome, Outcome::Failed, "{failed:?}");
    let state = world.state(DETECTIONS).await;
    for spans in [state.trend.day(world.now()), state.trend.week(world.now())] {
        let points = spans.iter().filter_map(|(_, point)| *point);
        let sum = points.reduce(TrendPoint::and).unwrap();
        let landed: u64 = world
            .reports_of(DETECTIONS)
            .map(|it| it.counts.landed)
            .sum();
        assert_eq!((sum.rows, sum.failed), (landed, 1));
        // A row of a detection is some hundred bytes to some thousand.
        assert!((100..10_000).contains(&(sum.bytes / landed)), "{sum:?}");
        assert!(sum.lag_minutes.is_some_and(|lag| lag >= 30), "{sum:?}");
    }
    assert!(
        state
            .trend
            .day(world.now())
            .iter()
            .filter(|it| it.1.is_some())
            .count()
            > 1
    );
}
