//! Scripted faults.

use serde_json::json;

use super::*;

fn latest() -> String {
    format!("{V1}:listDelta?deltaToken=latest")
}

#[tokio::test]
async fn a_fault_strikes_its_target_as_often_as_it_says() {
    let bench = Bench::new().await;
    bench.fault("eset.detections:429-retry-after=7x2@2");
    let mut states = Vec::new();
    for _ in 0..5 {
        states.push(bench.get(&latest()).await.status);
    }
    assert_eq!(states, [200, 429, 429, 200, 200]);
    bench.fault("eset.detections:503-retry-after=7");
    assert_eq!(bench.get(V1).await.status, 200);
    let got = bench.get(&latest()).await;
    assert_eq!(
        (got.status, &got.headers["retry-after"]),
        (503, &"7".parse().unwrap())
    );
    assert!(got.is_empty());
}

#[tokio::test]
async fn a_pending_answer_is_given_once() {
    let bench = Bench::new().await;
    bench.fault("eset.detections.window:202x3");
    let ask = async |id: &str| bench.get_with(V1, &[("response-id", id)]).await;
    let pending = async || {
        let got = bench.get(V1).await;
        assert!(got.status == 202 && got.is_empty());
        got.headers["response-id"].to_str().unwrap().to_owned()
    };
    let id = pending().await;
    assert_eq!(ask(&id).await.status, 200);
    assert_eq!(ask(&id).await.status, 404);
    let id = pending().await;
    let other = bench.get_with(DEVICES, &[("response-id", &id)]).await;
    assert_eq!(other.status, 404);
    bench.advance(600);
    assert_eq!(ask(&id).await.status, 404);

    bench.fault("eset.detections.window:202-no-id@2");
    pending().await;
    assert!(!bench.get(V1).await.headers.contains_key("response-id"));
    bench.fault("eset.detections.window:202-dead");
    assert_eq!(ask(&pending().await).await.status, 404);
    bench.fault("eset.detections.window:202-forever");
    let id = pending().await;
    for _ in 0..3 {
        assert_eq!(ask(&id).await.status, 202);
    }
    assert_eq!(bench.get(V1).await.status, 200);
}

#[tokio::test]
async fn the_last_page_ends_as_told() {
    for (end, fault, expected) in [
        (PageEnd::Empty, "page-token-null", Some(Value::Null)),
        (PageEnd::Null, "page-token-absent", None),
        (PageEnd::Absent, "page-token-empty", Some(json!(""))),
    ] {
        let bench = Bench::with(Options {
            page_end: end,
            ..options()
        })
        .await;
        bench.fault(&format!("eset.devices:{fault}"));
        let first = bench.get(&format!("{DEVICES}?pageSize=40")).await.json();
        let token = first["nextPageToken"].as_str().unwrap();
        let path = format!("{DEVICES}?pageSize=40&pageToken={token}");
        assert_eq!(
            bench.get(&path).await.json().get("nextPageToken"),
            expected.as_ref()
        );
        let usual = bench.get(&path).await.json();
        let expected = match end {
            PageEnd::Empty => Some(json!("")),
            PageEnd::Null => Some(Value::Null),
            PageEnd::Absent => None,
        };
        assert_eq!(usual.get("nextPageToken"), expected.as_ref());
    }
}

#[tokio::test]
async fn tokens_expire_and_pages_repeat_or_shrink() {
    let bench = Bench::new().await;
    let delta = bench.get(&latest()).await.json()["nextDeltaToken"]
        .as_str()
        .unwrap()
        .to_owned();
    bench.advance(600);
    let path = format!("{V1}:listDelta?deltaToken={delta}&pageSize=3");
    bench.fault("eset.detections:expired-delta");
    assert_eq!(bench.get(&latest()).await.status, 200);
    assert_eq!(bench.get(&path).await.status, 400);
    let got = bench.get(&path).await.json();
    let page = got["nextPageToken"].as_str().unwrap();
    bench.fault("eset.detections:expired-page");
    let next = format!("{path}&pageToken={page}");
    assert_eq!(bench.get(&path).await.status, 200);
    assert_eq!(bench.get(&next).await.status, 400);
    bench.fault("eset.detections:page-token-repeated");
    assert_eq!(bench.get(&next).await.json()["nextPageToken"], page);
    assert_ne!(bench.get(&next).await.json()["nextPageToken"], page);
    bench.fault("eset.detections:page-size=2");
    assert_eq!(bench.get(&path).await.uuids("createdDetections").len(), 2);
    bench.fault("eset.detections:no-deltax*");
    assert_eq!(bench.get(&latest()).await.status, 404);
}

#[tokio::test]
async fn records_are_spoilt_as_told() {
    let bench = Bench::new().await;
    let path = format!("{V1}?pageSize=9");
    let list = async || {
        bench.get(&path).await.json()["detections"]
            .as_array()
            .unwrap()
            .clone()
    };
    let usual = list().await;
    assert_eq!(usual.len(), 9);

    bench.fault("eset.detections.window:bad-record");
    let bad = list().await;
    assert_eq!(bad.iter().filter(|record| !record.is_object()).count(), 1);
    assert_eq!(
        bad.iter()
            .filter(|r| r.is_object() && r.get("uuid").is_none())
            .count(),
        1
    );
    assert!(usual.iter().all(|record| bad.contains(record)));

    bench.fault("eset.detections.window:duplicate");
    let twice = list().await;
    assert_eq!(twice.len(), 12);
    assert_eq!(twice[9..], twice[..3]);

    bench.fault("eset.detections.window:nine-digits");
    assert!(
        list()
            .await
            .iter()
            .all(|r| r["occurTime"].as_str().unwrap().len() == 30)
    );

    bench.fault("eset.detections.window:null-fields");
    let nulls = |records: &[Value]| {
        let members = records
            .iter()
            .flat_map(|record| record.as_object().unwrap().values());
        members.filter(|value| value.is_null()).count()
    };
    assert!(nulls(&list().await) > nulls(&usual) + 5);

    bench.fault("eset.detections.window:late");
    let late = list().await.pop().unwrap();
    assert!(!usual.contains(&late));
    let detail = bench
        .get(&format!("{V2}/{}", late["uuid"].as_str().unwrap()))
        .await;
    assert_eq!(detail.json()["detection"]["uuid"], late["uuid"]);
    assert_eq!(list().await, usual);
}

#[tokio::test]
async fn answers_are_spoilt_as_told() {
    let bench = Bench::new().await;
    let whole = bench.get(V1).await.body.unwrap().len();
    bench.fault("eset.detections.window:truncated");
    let half = bench.get(V1).await;
    assert_eq!((half.status, half.body.unwrap().len()), (200, whole / 2));
    bench.fault("eset.detections.window:cut");
    let got = bench.get(V1).await;
    assert!(got.status == 200 && got.body.is_err());
    bench.fault("eset.detections.window:rubbish");
    let got = bench.get(V1).await;
    assert!(got.status == 200 && got.headers["content-type"] == "text/html; charset=utf-8");
    bench.fault("eset.detections.window:empty-200");
    let got = bench.get(V1).await;
    assert!(got.status == 200 && got.is_empty());
    bench.fault("eset.token:no-refresh-token");
    assert_eq!(bench.login().await.get("refresh_token"), None);
    assert!(bench.login().await.get("refresh_token").is_some());
}

#[tokio::test]
async fn slow_answers_take_their_time() {
    let bench = Bench::new().await;
    bench.fault("eset.devices:slow=30");
    bench.fault("eset.devices:never@2");
    let before = bench.clock.now();
    assert_eq!(bench.get(DEVICES).await.status, 200);
    assert_eq!((bench.clock.now() - before).num_seconds(), 30);
    assert_eq!(bench.get(DEVICES).await.status, 200);
    assert_eq!((bench.clock.now() - before).num_seconds(), 3631);
    assert_eq!(bench.get(DEVICES).await.status, 401);
}

#[tokio::test]
async fn every_fault_of_the_catalogue_strikes() {
    let mut usual = BTreeMap::new();
    for target in Target::ALL {
        usual.insert(target, Bench::new().await.probe(target).await);
    }
    for entry in Fault::catalogue() {
        let fault = format!("{}:{}", entry.target.name(), entry.kind);
        let bench = Bench::new().await;
        bench.fault(&fault);
        let struck = bench.probe(entry.target).await;
        // That end is the default.
        assert!(
            usual[&entry.target] != struck || entry.kind == "page-token-empty",
            "{fault}"
        );
    }
}

impl Bench {
    /// What a few calls to `target` look like from outside.
    async fn probe(&self, target: Target) -> Vec<String> {
        let mut seen = Vec::new();
        let since = text(start() - chrono::TimeDelta::hours(1));
        let earlier = text(start() - chrono::TimeDelta::hours(10));
        let list = |path: &str| vec![format!("{path}pageSize=8"), String::new()];
        let paths = match target {
            Target::EsetToken => {
                let token = self.login_probe().await;
                return vec![token];
            }
            target if target.is_defender() => {
                let seen = self.defender_probe(target).await;
                return seen.iter().map(|got| self.shown(got)).collect();
            }
            Target::EntraToken => return self.entra_probe().await,
            Target::Identity => return vec![self.identity_probe().await],
            Target::KeyVault => return vec![self.vault_probe().await],
            Target::Ingestion => return vec![self.ingestion_probe().await],
            Target::EsetDetections | Target::EsetCloudOffice => {
                let base = if target == Target::EsetDetections {
                    V1
                } else {
                    V2
                };
                let latest = self
                    .get(&format!("{base}:listDelta?deltaToken=latest"))
                    .await;
                seen.push(self.shown(&latest));
                let delta = match &latest.body {
                    Ok(body) => serde_json::from_slice::<Value>(body).unwrap_or_default(),
                    Err(_) => Value::Null,
                };
                let Some(delta) = delta["nextDeltaToken"].as_str() else {
                    return seen;
                };
                self.advance(3000);
                vec![
                    format!("{base}:listDelta?deltaToken={delta}&pageSize=3"),
                    "next".to_owned(),
                ]
            }
            Target::EsetDetectionsWindow => list(&format!("{V1}?startTime={since}&")),
            Target::EsetCloudOfficeWindow => list(&format!("{V2}?startTime={since}&")),
            Target::EsetIncidents => list(&format!(
                "{INCIDENTS}?filter=update_time%3Etimestamp('{earlier}')&"
            )),
            Target::EsetDevices => list(&format!("{DEVICES}?")),
            Target::EsetIncidentsGet => {
                vec![format!(
                    "{INCIDENTS}/{}",
                    self.world().ids.uuid(ids::Kind::Incident, 3)
                )]
            }
            Target::EsetDetails => {
                vec![format!(
                    "{V2}/{}",
                    self.world().detection_id(Product::Inspect, 3)
                )]
            }
            other => panic!("{other:?}"),
        };
        // The first page, then to the end.
        let mut token = String::new();
        for _ in 0..60 {
            let path = match (token.as_str(), paths.len()) {
                ("", _) => paths[0].clone(),
                (token, _) => format!("{}&pageToken={token}", paths[0]),
            };
            let got = self.get(&path).await;
            seen.push(self.shown(&got));
            let next = match &got.body {
                Ok(body) => serde_json::from_slice::<Value>(body).unwrap_or_default(),
                Err(_) => Value::Null,
            };
            match next["nextPageToken"].as_str() {
                Some(next) if !next.is_empty() && next != token => next.clone_into(&mut token),
                _ => break,
            }
        }
        seen
    }

    fn shown(&self, got: &Got) -> String {
        let names: Vec<_> = got
            .headers
            .keys()
            .filter(|name| *name != "request-id")
            .collect();
        format!(
            "{} {} {names:?} {:?}",
            self.clock.now(),
            got.status,
            got.body
        )
    }

    async fn login_probe(&self) -> String {
        let form = "grant_type=password&username=sentinel%40fennbridge.example\
                    &password=correct%20horse+%26+battery%2Bstaple";
        let got = self.form(TOKEN, form).await;
        self.shown(&got)
    }
}
