//! Microsoft Defender: lists, exports and advanced hunting, for those who may.

mod exports;
mod faults;
mod hunting;
mod lists;
mod updates;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::json;

use super::*;
use crate::simulator::world::defender::Defender;

const GRAPH: &str = "https://graph.microsoft.com";
const MDE: &str = "https://api.securitycenter.microsoft.com";
const XDR: &str = "https://api.security.microsoft.com";

/// What a path costs in tokens.
fn scope(path: &str) -> &'static str {
    match path {
        _ if path.starts_with("/graph") => GRAPH,
        _ if path.starts_with("/defender/api/incidents") => XDR,
        _ => MDE,
    }
}

/// A path with a filter, spelled as a URL needs it.
fn url(path: &str) -> String {
    path.replace(' ', "%20").replace('\'', "%27")
}

impl Bench {
    fn defender(&self) -> &Defender {
        self.world().defender()
    }

    async fn defender_token(&self, version: &str, audience: &str) -> Value {
        let Options {
            tenant_id,
            defender,
            ..
        } = options();
        let secret = defender
            .client_secret
            .replace('+', "%2B")
            .replace('~', "%7E");
        let asked = match version {
            "" => format!("resource={audience}"),
            _ => format!("scope={audience}/.default"),
        };
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={secret}&{asked}",
            defender.client_id
        );
        let path = format!("/{tenant_id}/oauth2{version}/token");
        self.form(&path, &form).await.json()
    }

    async fn bearer_for(&self, audience: &str) -> String {
        let token = self.defender_token("/v2.0", audience).await;
        format!("Bearer {}", token["access_token"].as_str().unwrap())
    }

    /// A GET to Defender or Graph with a fresh token, a second after the last one.
    pub(super) async fn ask(&self, path: &str) -> Got {
        self.ask_with(path, &[]).await
    }

    pub(super) async fn ask_with(&self, path: &str, more: &[(&str, &str)]) -> Got {
        self.advance(1);
        let bearer = self.bearer_for(scope(path)).await;
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(more);
        self.send("GET", &url(path), &headers, "").await
    }

    async fn hunt(&self, query: &str) -> Got {
        self.advance(2);
        let bearer = self.bearer_for(GRAPH).await;
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json; charset=utf-8"),
        ];
        let body = json!({"Query": query}).to_string();
        let path = "/graph/v1.0/security/runHuntingQuery";
        self.send("POST", path, &headers, body).await
    }

    /// The records of a page that must have been answered.
    async fn values(&self, path: &str) -> Vec<Value> {
        let got = self.ask(path).await;
        assert_eq!(got.status, 200, "{path} {:?}", got.body);
        got.json()["value"].as_array().unwrap().clone()
    }

    /// The body of a long answer, as text.
    async fn long(&self, path: &str) -> String {
        use futures_util::TryStreamExt;
        let bearer = self.bearer_for(scope(path)).await;
        let request = axum::http::Request::get(url(path)).header("authorization", bearer);
        let request = request.body(Bytes::new()).unwrap();
        let response = self.simulator.router().send(request).await.unwrap();
        let body: Vec<Bytes> = response.body.try_collect().await.unwrap();
        String::from_utf8(body.concat()).unwrap()
    }

    /// All pages by `@odata.nextLink`, and how many there were.
    async fn linked(&self, path: &str) -> (Vec<Value>, usize) {
        let (mut all, mut pages, mut path) = (Vec::new(), 0, path.to_owned());
        loop {
            let got = self.ask(&path).await;
            assert_eq!(got.status, 200, "{path} {:?}", got.body);
            let page = got.json();
            all.extend(page["value"].as_array().unwrap().clone());
            pages += 1;
            match page["@odata.nextLink"].as_str() {
                None => return (all, pages),
                Some(next) => next.strip_prefix("https://").unwrap().clone_into(&mut path),
            }
            assert!(pages < 500, "pages without end");
        }
    }
}

fn ids(records: &[Value]) -> Vec<String> {
    let id = |record: &Value| match &record["id"] {
        Value::Null => record["incidentId"].to_string(),
        id => id.as_str().unwrap().to_owned(),
    };
    records.iter().map(id).collect()
}

fn once(records: &[Value]) -> BTreeSet<String> {
    let all = ids(records);
    let set: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "a record came twice");
    set
}

fn ago(hours: i64) -> DateTime<Utc> {
    start() - TimeDelta::hours(hours)
}

#[tokio::test]
async fn both_versions_of_entra_give_tokens() {
    let bench = Bench::new().await;
    let v2 = bench.defender_token("/v2.0", MDE).await;
    assert_eq!(v2["expires_in"], json!(3599));
    let v1 = bench.defender_token("", MDE).await;
    assert_eq!(v1["expires_in"], json!("3599"));
    for token in [v1, v2] {
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        let headers = [("authorization", bearer.as_str())];
        let got = bench
            .send("GET", "/defender/api/machines", &headers, "")
            .await;
        assert_eq!(got.status, 200);
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_own_audience_while_it_lives() {
    let bench = Bench::new().await;
    let paths = [
        "/graph/v1.0/security/incidents",
        "/defender/api/incidents",
        "/defender/api/machines",
    ];
    for audience in [GRAPH, XDR, MDE] {
        let bearer = bench.bearer_for(audience).await;
        for path in paths {
            let headers = [("authorization", bearer.as_str())];
            let got = bench.send("GET", path, &headers, "").await;
            let expected = if scope(path) == audience { 200 } else { 401 };
            assert_eq!(got.status, expected, "{audience} {path}");
        }
    }
    let bearer = bench.bearer_for(GRAPH).await;
    bench.advance(3599);
    let headers = [("authorization", bearer.as_str())];
    let got = bench.send("GET", paths[0], &headers, "").await;
    assert_eq!(got.json()["error"]["code"], "InvalidAuthenticationToken");
    let got = bench.send("GET", paths[2], &[], "").await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (401, &json!("Unauthorized"))
    );
}

/// The contract leaves open whether the host of two APIs keeps their tokens apart.
#[tokio::test]
async fn the_apis_of_one_host_may_share_their_tokens() {
    let mut options = options();
    options.defender.own_audience = false;
    let bench = Bench::with(options).await;
    for audience in [XDR, MDE] {
        let bearer = bench.bearer_for(audience).await;
        let headers = [("authorization", bearer.as_str())];
        for path in ["/defender/api/incidents", "/defender/api/machines"] {
            let got = bench.send("GET", path, &headers, "").await;
            assert_eq!(got.status, 200, "{audience} {path}");
        }
        let got = bench.send("GET", "/graph/v1.0/security/incidents", &headers, "");
        assert_eq!(got.await.status, 401);
    }
}

#[tokio::test]
async fn without_consent_the_answer_names_the_roles() {
    let mut options = options();
    options.defender.roles = ["Vulnerability.Read.All".to_owned()].into();
    let bench = Bench::with(options).await;
    assert_eq!(
        bench
            .ask("/defender/api/vulnerabilities?$top=1")
            .await
            .status,
        200
    );
    let got = bench.ask("/defender/api/machines").await;
    assert_eq!(got.status, 403);
    let message = "Missing application roles. API required roles: \
                   Machine.Read.All,Machine.ReadWrite.All, application roles: \
                   Vulnerability.Read.All.";
    assert_eq!(got.json()["error"]["message"], message);
    let got = bench.hunt("DeviceEvents").await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (403, &json!("Forbidden"))
    );

    // The token is issued all the same when nobody has consented to anything.
    let bench = Bench::new().await;
    bench.fault("entra.token:no-roles");
    let bearer = bench.bearer_for(MDE).await;
    let headers = [("authorization", bearer.as_str())];
    let got = bench
        .send("GET", "/defender/api/machines", &headers, "")
        .await;
    assert_eq!(got.status, 403);
    let text = got.json()["error"]["message"].to_string();
    assert!(text.contains("application roles: ."), "{text}");
    assert_eq!(bench.ask("/defender/api/machines").await.status, 200);
}

#[tokio::test]
async fn calls_beyond_the_quota_are_told_to_wait() {
    let bench = Bench::new().await;
    let bearer = bench.bearer_for(MDE).await;
    let headers = [("authorization", bearer.as_str())];
    let export = "/defender/api/machines/SoftwareVulnerabilitiesExport";
    let mut states = Vec::new();
    for _ in 0..6 {
        states.push(bench.send("GET", export, &headers, "").await);
        bench.advance(5);
    }
    let states: Vec<u16> = states.iter().map(|got| got.status).collect();
    assert_eq!(states, [200, 200, 200, 200, 200, 429]);
    let got = bench.send("GET", export, &headers, "").await;
    assert_eq!(got.headers["retry-after"], "30");
    let message = "API calls quota exceeded! Maximum allowed 5 per 00:01:00 for the key \
                   Destination+TenantID+AppID. You can send requests again in 30 seconds.";
    assert_eq!(got.json()["error"]["code"], "429");
    assert_eq!(got.json()["error"]["message"], message);
    // Other APIs have quotas of their own, and the minute passes.
    assert_eq!(
        bench
            .send("GET", "/defender/api/machines", &headers, "")
            .await
            .status,
        200
    );
    bench.advance(30);
    assert_eq!(bench.send("GET", export, &headers, "").await.status, 200);

    let bearer = bench.bearer_for(GRAPH).await;
    let headers = [("authorization", bearer.as_str())];
    let path = "/graph/v1.0/security/alerts_v2?$top=1";
    for _ in 0..150 {
        assert_eq!(bench.send("GET", path, &headers, "").await.status, 200);
    }
    let got = bench.send("GET", path, &headers, "").await;
    assert_eq!(
        (got.status, &got.headers["retry-after"]),
        (429, &"60".parse().unwrap())
    );
    assert_eq!(got.json()["error"]["code"], "TooManyRequests");
}

#[tokio::test]
async fn a_thousand_times_the_company_costs_nothing_until_it_is_read() {
    let mut options = options();
    options.defender.estate.machines = 100_000;
    options.defender.estate.findings = 20;
    options.defender.estate.events = 4_800_000.0;
    let bench = Bench::with(options).await;
    let page = bench
        .values("/defender/api/machines?$top=2&$skip=97000")
        .await;
    assert_eq!(page.len(), 2);
    let id = bench.defender().machine_id(99_997);
    let got = bench.ask(&format!("/defender/api/machines/{id}")).await;
    assert_eq!((got.status, &got.json()["id"]), (200, &json!(id)));
}

#[tokio::test]
async fn hunting_has_two_names_and_spells_its_members_either_way() {
    let bench = Bench::new().await;
    let bearer = bench.bearer_for(GRAPH).await;
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let query = "DeviceEvents | where Timestamp >= datetime(2026-03-03T10:00:00.0000000Z) and \
                 Timestamp < datetime(2026-03-04T10:00:00.0000000Z) | take 5";
    for name in [
        "runHuntingQuery",
        "microsoft.graph.security.runHuntingQuery",
    ] {
        for body in [
            json!({"Query": query, "Timespan": "P7D"}),
            json!({"query": query, "timespan": "P7D"}),
        ] {
            let path = format!("/graph/v1.0/security/{name}");
            let got = bench.send("POST", &path, &headers, body.to_string()).await;
            assert_eq!(got.status, 200, "{name} {body}");
            assert_eq!(got.json()["results"].as_array().unwrap().len(), 5);
        }
    }
}
