//! Entra and the Logs Ingestion API.

use std::io::Write as _;

use chrono::TimeDelta;
use serde_json::{Map, json};

use super::*;

const SECRET: &str = "simulated%7Esecret.of%2Bthe/app";

impl Bench {
    async fn entra(&self, secret: &str, scope: &str) -> Got {
        let Options {
            tenant_id,
            client_id,
            ..
        } = options();
        let form = format!(
            "grant_type=client_credentials&client_id={client_id}&client_secret={secret}&scope={scope}"
        );
        self.form(&format!("/{tenant_id}/oauth2/v2.0/token"), &form)
            .await
    }

    async fn bearer(&self) -> String {
        let got = self
            .entra(SECRET, "https%3A%2F%2Fmonitor.azure.com%2F.default")
            .await
            .json();
        format!("Bearer {}", got["access_token"].as_str().unwrap())
    }

    async fn push(&self, body: impl Into<Bytes>, more: &[(&str, &str)]) -> Got {
        let bearer = self.bearer().await;
        let mut headers = vec![
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        headers.extend(more);
        self.send("POST", &path(STREAM), &headers, body).await
    }

    fn rows(&self) -> Vec<Map<String, Value>> {
        self.simulator
            .received()
            .remove(STREAM)
            .unwrap_or_default()
            .rows
    }

    pub(super) async fn entra_probe(&self) -> Vec<String> {
        let got = self
            .entra(SECRET, "https://monitor.azure.com/.default")
            .await;
        // What a token is good for shows when it is used.
        vec![self.shown_probe(&got)]
    }

    pub(super) async fn ingestion_probe(&self) -> String {
        let got = self.push("[{\"a\":1}]", &[]).await;
        self.shown_probe(&got)
    }

    async fn identity(&self, query: &str, header: &str) -> Got {
        let path = format!("/msi/token?api-version=2019-08-01&{query}");
        self.send("GET", &path, &[("x-identity-header", header)], "")
            .await
    }

    pub(super) async fn identity_probe(&self) -> String {
        let got = self
            .identity("resource=https://a.b", &options().identity_header)
            .await;
        self.shown_probe(&got)
    }

    async fn secret(&self, name: &str, bearer: Option<&str>) -> Got {
        let path = format!("https://v.vault.azure.net/secrets/{name}/?api-version=7.6");
        let headers: Vec<_> = bearer
            .into_iter()
            .map(|bearer| ("authorization", bearer))
            .collect();
        self.send("GET", &path, &headers, "").await
    }

    async fn vault_bearer(&self) -> String {
        let got = self
            .identity(
                "resource=https://vault.azure.net",
                &options().identity_header,
            )
            .await
            .json();
        format!("Bearer {}", got["access_token"].as_str().unwrap())
    }

    pub(super) async fn vault_probe(&self) -> String {
        let bearer = self.vault_bearer().await;
        let got = self.secret("eset-password", Some(&bearer)).await;
        self.shown_probe(&got)
    }

    fn shown_probe(&self, got: &Got) -> String {
        format!(
            "{} {} {:?} {:?}",
            self.clock.now(),
            got.status,
            got.headers.keys().collect::<Vec<_>>(),
            got.body
        )
    }
}

fn path(stream: &str) -> String {
    let dcr = options().dcr;
    format!("/dataCollectionRules/{dcr}/streams/{stream}?api-version=2023-01-01")
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn entra_gives_a_token_for_the_right_secret_only() {
    let bench = Bench::new().await;
    let good = bench
        .entra(SECRET, "https://monitor.azure.com//.default")
        .await
        .json();
    assert_eq!(
        (&good["token_type"], &good["expires_in"]),
        (&json!("Bearer"), &json!(3599))
    );
    let got = bench
        .entra("wrong", "https://monitor.azure.com/.default")
        .await;
    assert_eq!(
        (got.status, &got.json()["error"]),
        (401, &json!("invalid_client"))
    );
    assert!(
        got.json()["error_description"]
            .as_str()
            .unwrap()
            .starts_with("AADSTS7000215")
    );
    assert_eq!(bench.entra(SECRET, "rubbish").await.status, 400);
}

#[tokio::test]
async fn only_a_living_token_for_the_right_audience_may_ingest() {
    let bench = Bench::new().await;
    let push = async |bearer: &str| {
        let headers = [
            ("authorization", bearer),
            ("content-type", "application/json"),
        ];
        bench
            .send("POST", &path(STREAM), &headers, "[]")
            .await
            .status
    };
    assert_eq!(push("Bearer rubbish").await, 401);
    assert_eq!(push(&format!("Bearer {}", bench.token)).await, 401);
    let other = bench
        .entra(SECRET, "https://vault.azure.net/.default")
        .await
        .json();
    assert_eq!(
        push(&format!(
            "Bearer {}",
            other["access_token"].as_str().unwrap()
        ))
        .await,
        403
    );
    let bearer = bench.bearer().await;
    assert_eq!(push(&bearer).await, 204);
    bench.advance(3600);
    assert_eq!(push(&bearer).await, 401);
}

#[tokio::test]
async fn rows_lose_in_silence_what_the_table_cannot_hold() {
    let columns = ["TimeGenerated", "displayName", "context"]
        .map(str::to_owned)
        .to_vec();
    let streams = [(STREAM.to_owned(), Some(columns))].into();
    let bench = Bench::with(Options {
        streams,
        ..options()
    })
    .await;
    let time = |hours| text(start() + TimeDelta::hours(hours));
    let body = json!([
        {"TimeGenerated": time(-47), "displayName": "x".repeat(70_000), "stranger": 1},
        {"TimeGenerated": time(-49), "context": {"a": 1}},
        {"TimeGenerated": time(23)},
        {"TimeGenerated": time(25)},
        {"displayName": format!("{}é", "x".repeat(65_535))},
    ]);
    let got = bench.push(body.to_string(), &[]).await;
    assert!(got.status == 204 && got.is_empty());
    let rows = bench.rows();
    let now = json!("2026-03-04T10:00:00.000000Z");
    let times: Vec<&Value> = rows.iter().map(|row| &row["TimeGenerated"]).collect();
    assert_eq!(
        times,
        [&json!(time(-47)), &now, &json!(time(23)), &now, &now]
    );
    assert_eq!(rows[0]["displayName"].as_str().unwrap().len(), MAX_FIELD);
    assert_eq!(rows[0].get("stranger"), None);
    assert_eq!(rows[1]["context"], json!({"a": 1}));
    assert_eq!(rows[4]["displayName"].as_str().unwrap().len(), 65_535);
}

#[tokio::test]
async fn a_call_has_a_limit_and_it_is_measured_as_told() {
    // One row of exactly the limit.
    let body = |length: usize| format!("[{{\"a\":\"{}\"}}]", "x".repeat(length - 10));
    let bench = Bench::new().await;
    assert_eq!(bench.push(body(MAX_CALL), &[]).await.status, 204);
    let got = bench.push(body(MAX_CALL + 1), &[]).await;
    assert_eq!(got.status, 413);
    assert_eq!(got.json()["error"]["code"], "ContentLengthLimitExceeded");
    let message = "Maximum allowed content length: 1048576 bytes (1 MB). Provided content length: \
                   1048577 bytes.";
    assert_eq!(got.json()["error"]["message"], message);

    let zip = gzip(body(MAX_CALL + 1).as_bytes());
    let gzipped = [("content-encoding", "gzip")];
    for (limit, expected) in [
        (SizeLimit::Both, 413),
        (SizeLimit::Uncompressed, 413),
        (SizeLimit::AsSent, 204),
    ] {
        let bench = Bench::with(Options {
            size_limit: limit,
            ..options()
        })
        .await;
        assert_eq!(
            bench.push(zip.clone(), &gzipped).await.status,
            expected,
            "{limit:?}"
        );
    }
}

#[tokio::test]
async fn gzip_is_undone_and_counted() {
    let bench = Bench::new().await;
    let body = json!([{"a": 1}, {"a": 2}]).to_string();
    let zip = gzip(body.as_bytes());
    assert_eq!(
        bench
            .push(zip.clone(), &[("content-encoding", "gzip")])
            .await
            .status,
        204
    );
    let received = bench.simulator.received().remove(STREAM).unwrap();
    assert_eq!((received.count, received.calls), (2, 1));
    assert_eq!(
        (received.bytes, received.sent_bytes),
        (body.len() as u64, zip.len() as u64)
    );
    assert_eq!(received.rows[1]["a"], 2);
    assert_eq!(
        bench
            .push("rubbish", &[("content-encoding", "gzip")])
            .await
            .status,
        400
    );

    let bench = Bench::with(Options {
        keep_rows: false,
        ..options()
    })
    .await;
    bench.push(body, &[]).await;
    let received = bench.simulator.received().remove(STREAM).unwrap();
    assert_eq!((received.count, received.rows.len()), (2, 0));
}

#[tokio::test]
async fn what_is_not_an_array_of_objects_is_refused() {
    let bench = Bench::new().await;
    for body in ["{}", "[1]", "[{\"a\":1}", ""] {
        let got = bench.push(body, &[]).await;
        assert_eq!(got.status, 400, "{body}");
        assert_eq!(got.json()["error"]["code"], "InvalidPayload");
        assert_eq!(got.headers["x-ms-error-code"], "InvalidPayload");
    }
    let bearer = bench.bearer().await;
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    assert_eq!(
        bench
            .send("POST", &path("Custom-Other_CL"), &headers, "[]")
            .await
            .status,
        404
    );
    let other = path(STREAM).replace("dcr-0", "dcr-1");
    assert_eq!(bench.send("POST", &other, &headers, "[]").await.status, 404);
    assert!(bench.rows().is_empty());
}

#[tokio::test]
async fn a_lost_answer_has_taken_the_rows() {
    let bench = Bench::new().await;
    bench.fault("ingestion:lost-answer");
    let got = bench.push("[{\"a\":1}]", &[]).await;
    assert!(got.status == 504 && got.body.is_err());
    assert_eq!(bench.rows().len(), 1);
}

#[tokio::test]
async fn identities_have_tokens_for_those_inside_the_app() {
    let bench = Bench::new().await;
    let Options {
        user_identity,
        identity_header,
        ..
    } = options();
    let got = bench
        .identity("resource=https://a.b", &identity_header)
        .await
        .json();
    assert_eq!(
        got["expires_on"],
        json!((start() + TimeDelta::days(1)).timestamp().to_string())
    );
    let user = format!("resource=https://a.b&client_id={user_identity}");
    assert_eq!(bench.identity(&user, &identity_header).await.status, 200);
    let other = "resource=https://a.b&client_id=other";
    assert_eq!(bench.identity(other, &identity_header).await.status, 400);
    assert_eq!(bench.identity("", &identity_header).await.status, 400);
    assert_eq!(bench.identity(&user, "wrong").await.status, 401);
}

#[tokio::test]
async fn the_vault_challenges_and_then_answers() {
    let bench = Bench::new().await;
    let got = bench.secret("eset-password", None).await;
    assert_eq!(got.status, 401);
    let challenge = got.headers["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains("resource=\"https://vault.azure.net\""),
        "{challenge}"
    );
    let bearer = bench.vault_bearer().await;
    let got = bench.secret("eset-password", Some(&bearer)).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.json()["value"], json!(options().password));
    let expiry = start() + TimeDelta::days(180);
    assert_eq!(got.json()["attributes"]["exp"], json!(expiry.timestamp()));
    assert_eq!(bench.secret("other", Some(&bearer)).await.status, 404);
    let monitor = bench.bearer().await;
    assert_eq!(
        bench.secret("eset-password", Some(&monitor)).await.status,
        403
    );
}

#[tokio::test]
async fn the_port_of_a_vault_is_part_of_its_challenge() {
    let bench = Bench::new().await;
    for host in ["vault.localhost:7443", "127.0.0.1:7443"] {
        let path = format!("https://{host}/secrets/eset-password/?api-version=7.6");
        let got = bench.send("GET", &path, &[], "").await;
        let challenge = got.headers["www-authenticate"].to_str().unwrap();
        let (_, resource) = host.split_once('.').unwrap();
        assert!(
            challenge.ends_with(&format!("resource=\"https://{resource}\"")),
            "{challenge}"
        );
        let token = bench.simulator.token_for(&format!("https://{resource}"));
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let got = bench.send("GET", &path, &headers, "").await;
        let id = format!("https://{host}/secrets/eset-password/1");
        assert_eq!(got.json()["id"], json!(id));
    }
}

#[tokio::test]
async fn both_versions_of_entra_tell_where_their_tokens_are() {
    let bench = Bench::new().await;
    let tenant = options().tenant_id;
    for (path, endpoint) in [("v2.0/", "oauth2/v2.0/token"), ("", "oauth2/token")] {
        let of = |tenant: &str| {
            format!("https://localhost:7443/{tenant}/{path}.well-known/openid-configuration")
        };
        let got = bench.send("GET", &of(&tenant), &[], "").await;
        assert_eq!(got.status, 200);
        assert_eq!(
            got.json()["token_endpoint"],
            json!(format!("https://localhost:7443/{tenant}/{endpoint}"))
        );
        let got = bench.send("GET", &of("nobody"), &[], "").await;
        assert_eq!(got.status, 400);
        assert_eq!(got.json()["error"], "invalid_tenant");
    }
}
