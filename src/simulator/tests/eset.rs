//! ESET Connect.

use chrono::TimeDelta;
use serde_json::json;

use super::*;
use crate::simulator::{IncidentUuids, world::Finest};

#[tokio::test]
async fn the_pages_of_a_window_add_up_to_the_window() {
    let bench = Bench::new().await;
    let (from, to) = (start() - TimeDelta::days(2), start() - TimeDelta::hours(3));
    let window = format!("startTime={}&endTime={}", text(from), text(to));
    let (pages, last) = bench
        .pages(&format!("{V1}?{window}&pageSize=100"), "detections")
        .await;
    assert!(pages.len() > 10);
    assert!(
        pages[..pages.len() - 1]
            .iter()
            .all(|page| page.len() == 100)
    );
    let mut expected = bench
        .world()
        .detection_ids(Product::Protect, from, to, start());
    expected.extend(
        bench
            .world()
            .detection_ids(Product::Inspect, from, to, start()),
    );
    assert_eq!(last["totalSize"], expected.len());
    assert_eq!(union(pages), expected);

    let (pages, last) = bench
        .pages(&format!("{V2}?{window}&page_size=70"), "detections")
        .await;
    let expected = bench
        .world()
        .detection_ids(Product::CloudOffice, from, to, start());
    assert_eq!(union(pages), expected);
    assert_eq!(last.get("totalSize"), None);
}

#[tokio::test]
async fn a_delta_feed_brings_every_arrival_once() {
    let bench = Bench::new().await;
    let feed = format!("{V1}:listDelta");
    let got = bench.get(&format!("{feed}?deltaToken=latest")).await.json();
    let began = bench.clock.now();
    assert_eq!(got["createdDetections"], json!([]));
    assert_eq!(got["nextPageToken"], "");
    let mut delta = got["nextDeltaToken"].as_str().unwrap().to_owned();
    let (mut all, mut ended) = (Vec::new(), began);
    for hours in [1, 7, 40, 0, 30] {
        bench.advance(hours * 3600);
        ended = bench.clock.now() + TimeDelta::milliseconds(500);
        let path = format!("{feed}?deltaToken={delta}&pageSize=100");
        let mut page = String::new();
        loop {
            let got = match page.as_str() {
                "" => bench.get_renewed(&path).await,
                page => bench.get_renewed(&format!("{path}&pageToken={page}")).await,
            };
            all.push(got.uuids("createdDetections"));
            got.json()["nextPageToken"]
                .as_str()
                .unwrap()
                .clone_into(&mut page);
            let next = got.json()["nextDeltaToken"].as_str().unwrap().to_owned();
            assert_eq!(next.is_empty(), !page.is_empty());
            if page.is_empty() {
                delta = next;
                break;
            }
        }
    }
    let mut expected = bench.world().arrivals(Product::Protect, began, ended);
    expected.extend(bench.world().arrivals(Product::Inspect, began, ended));
    assert!(expected.len() > 3000);
    assert_eq!(union(all), expected);
}

impl Bench {
    async fn get_renewed(&self, path: &str) -> Got {
        let token = self.login().await["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        let clone = Self {
            simulator: self.simulator.clone(),
            clock: self.clock.clone(),
            token,
        };
        clone.get(path).await
    }
}

#[tokio::test]
async fn pages_show_the_world_of_the_first_page() {
    let bench = Bench::new().await;
    let path = format!(
        "{V1}?startTime={}&pageSize=20",
        text(start() - TimeDelta::hours(1))
    );
    let first = bench.get(&path).await;
    let token = first.json()["nextPageToken"].as_str().unwrap().to_owned();
    let rest = bench.get(&format!("{path}&pageToken={token}")).await.json();
    bench.advance(1800);
    let later = bench.get(&format!("{path}&pageToken={token}")).await.json();
    assert_eq!(rest, later);
    let other = path.replace("startTime", "endTime");
    assert_eq!(
        bench
            .get(&format!("{other}&pageToken={token}"))
            .await
            .status,
        400
    );
    assert_eq!(
        bench
            .get(&format!("{path}&pageToken=x{token}"))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_page_is_not_in_order_and_not_larger_than_a_thousand() {
    let bench = Bench::new().await;
    let got = bench.get(&format!("{V1}?pageSize=5000")).await;
    assert_eq!(got.uuids("detections").len(), 1000);
    assert!(got.headers.contains_key("request-id"));
    let json = got.json();
    let times: Vec<&str> = json["detections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["occurTime"].as_str().unwrap())
        .collect();
    assert!(!times.is_sorted());
    assert_eq!(bench.get(V1).await.uuids("detections").len(), 50);
}

#[tokio::test]
async fn v2_carries_what_the_options_say() {
    let kinds = |bench: &Bench, got: &Got| -> BTreeSet<Product> {
        let uuids = got.uuids("detections");
        uuids
            .iter()
            .map(|uuid| bench.world().find_detection(uuid).unwrap().0)
            .collect()
    };
    let path = format!(
        "{V2}?startTime={}&pageSize=1000",
        text(start() - TimeDelta::hours(4))
    );
    let bench = Bench::new().await;
    let got = bench.get(&path).await;
    assert_eq!(kinds(&bench, &got), [Product::CloudOffice].into());
    let bench = Bench::with(Options {
        v2_carries: V2Carries::AlsoInspect,
        ..options()
    })
    .await;
    let got = bench.get(&path).await;
    assert_eq!(kinds(&bench, &got), Product::ALL.into());
}

#[tokio::test]
async fn details_are_all_or_nothing() {
    let bench = Bench::new().await;
    let uuids = bench
        .get(&format!("{V1}?pageSize=101"))
        .await
        .uuids("detections");
    let one = bench.get(&format!("{V2}/{}", uuids[0])).await.json();
    assert_eq!(one["detection"]["uuid"], uuids[0]);
    let bearer = format!("Bearer {}", bench.token);
    let ask = async |uuids: &[String]| {
        bench.advance(1);
        let body = json!({"detectionUuids": uuids}).to_string();
        let path = format!("/eset/eu/{V2}:batchGet");
        bench
            .send("POST", &path, &[("authorization", &bearer)], body)
            .await
    };
    let got = ask(&uuids[..100]).await;
    assert_eq!(
        union(vec![got.uuids("detections")]),
        uuids[..100].iter().cloned().collect()
    );
    assert_eq!(ask(&uuids).await.status, 500);
    assert_eq!(ask(&vec![uuids[0].clone(); 1001]).await.status, 400);
    let unknown = [
        uuids[0].clone(),
        "6c0f6d2e-0000-4000-8000-000000000000".to_owned(),
    ];
    assert_eq!(ask(&unknown).await.status, 404);
    assert_eq!(ask(&[]).await.status, 400);
}

#[tokio::test]
async fn incidents_are_found_by_update_time_and_listed_without_uuids() {
    let bench = Bench::new().await;
    let from = start() - TimeDelta::days(1);
    let filter = format!(
        "incident.update_time%20%3E%3D%20timestamp(%22{}%22)",
        text(from)
    );
    let path = format!("{INCIDENTS}?filter={filter}&orderBy=update_time%20desc&pageSize=20");
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let got = bench.get(&format!("{path}&pageToken={token}")).await.json();
        pages.extend(got["incidents"].as_array().unwrap().clone());
        got["nextPageToken"]
            .as_str()
            .unwrap()
            .clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    let member = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    let found: BTreeSet<_> = pages
        .iter()
        .map(|r| (member(r, "uuid"), member(r, "updateTime")))
        .collect();
    let now = start() + TimeDelta::milliseconds(500);
    assert_eq!(found, bench.world().incident_versions(from, now));
    assert_eq!(found.len(), pages.len());
    let times: Vec<DateTime<Utc>> = pages
        .iter()
        .map(|r| member(r, "updateTime").parse().unwrap())
        .collect();
    assert!(times.is_sorted_by(|one, two| one >= two));
    for record in &pages {
        assert_eq!(record.get("detectionUuids"), None);
        assert_eq!(record.get("deviceUuids"), None);
    }
    let one = bench
        .get(&format!("{INCIDENTS}/{}", member(&pages[0], "uuid")))
        .await
        .json();
    assert!(
        !one["incident"]["detectionUuids"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        bench
            .get(&format!("{INCIDENTS}?filter=rubbish"))
            .await
            .status,
        400
    );
    assert_eq!(
        bench
            .get(&format!("{INCIDENTS}?orderBy=colour"))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn every_update_of_an_incident_can_be_followed() {
    let bench = Bench::new().await;
    let mut seen = BTreeSet::new();
    let began = bench.clock.now();
    // Ten minutes a step: hardly an incident has two updates in one.
    for _ in 0..144 {
        bench.advance(600);
        seen.extend(bench.world().incident_versions(began, bench.clock.now()));
    }
    let all = bench.world().incident_history(began, bench.clock.now());
    assert!(all.len() > 60 && seen.is_subset(&all));
    assert!(
        all.len() - seen.len() < all.len() / 10,
        "{} of {}",
        seen.len(),
        all.len()
    );
}

#[tokio::test]
async fn devices_can_be_listed_and_named() {
    let bench = Bench::new().await;
    let (pages, _) = bench
        .pages(&format!("{DEVICES}?pageSize=25"), "devices")
        .await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [25, 25, 10]);
    let (one, two) = (&pages[0][0], &pages[2][3]);
    let got = bench
        .get(&format!(
            "{DEVICES}:batchGet?devicesUuids={one}&devicesUuids={two}"
        ))
        .await;
    assert_eq!(got.uuids("devices"), [one.clone(), two.clone()]);
    let got = bench.get(&format!("{DEVICES}/{one}")).await.json();
    assert_eq!(got["device"]["uuid"], *one);
    assert_eq!(bench.get(&format!("{DEVICES}/rubbish")).await.status, 404);
}

#[tokio::test]
async fn a_bad_request_gets_an_empty_400() {
    let bench = Bench::new().await;
    for path in [
        format!("{V1}?orderBy=occurTime"),
        format!("{V1}?startTime=yesterday"),
        format!("{V1}?pageSize=many"),
        format!("{V1}:listDelta?pageSize=10"),
        format!("{V1}:listDelta?deltaToken=rubbish"),
        format!("{DEVICES}?filter=x"),
    ] {
        let got = bench.get(&path).await;
        assert_eq!(got.status, 400, "{path}");
        assert!(got.is_empty() && got.headers.contains_key("request-id"));
    }
    let ok = "incident-management/v1/detections:listDelta?delta_token=latest&page_size=10";
    assert_eq!(bench.get(ok).await.status, 200);
    assert_eq!(
        bench.get("incident-management/v3/detections").await.status,
        404
    );
}

#[tokio::test]
async fn tokens_expire_rotate_and_are_refused() {
    let bench = Bench::new().await;
    assert_eq!(
        bench
            .send("POST", TOKEN, &[], "grant_type=password")
            .await
            .status,
        415
    );
    let got = bench
        .form(TOKEN, "grant_type=password&username=x&password=y")
        .await;
    assert_eq!(
        (got.status, got.json()),
        (400, json!({"error": "invalid_grant"}))
    );

    let first = bench.login().await;
    assert_eq!(first["expires_in"], 3600);
    let refresh = |token: &Value| {
        format!(
            "grant_type=refresh_token&refresh_token={}",
            token["refresh_token"].as_str().unwrap()
        )
    };
    let second = bench.form(TOKEN, &refresh(&first)).await.json();
    assert_ne!(first["access_token"], second["access_token"]);
    assert_eq!(
        bench.form(TOKEN, &refresh(&first)).await.json()["error"],
        "invalid_grant"
    );
    assert_eq!(bench.form(TOKEN, &refresh(&second)).await.status, 200);

    assert_eq!(bench.get(V1).await.status, 200);
    bench.advance(3600);
    let got = bench.get(V1).await;
    assert!(got.status == 401 && got.is_empty());
    let nobody = bench.send("GET", &format!("/eset/eu/{V1}"), &[], "").await;
    assert_eq!(nobody.status, 401);
}

#[tokio::test]
async fn a_restart_goes_on_with_what_was_given_out() {
    let before = Bench::new().await;
    let path = format!("{V1}:listDelta?deltaToken=latest");
    let delta = before.get(&path).await.json()["nextDeltaToken"]
        .as_str()
        .unwrap()
        .to_owned();
    let refresh = before.login().await["refresh_token"]
        .as_str()
        .unwrap()
        .to_owned();
    before.advance(1800);

    let simulator = Simulator::new(options(), Arc::new(before.clock.clone()));
    let after = Bench {
        simulator,
        clock: before.clock.clone(),
        token: before.token.clone(),
    };
    let path = format!("{V1}:listDelta?deltaToken={delta}&pageSize=1000");
    let got = after.get(&path).await;
    assert_eq!(got.status, 200);
    assert!(!got.uuids("createdDetections").is_empty());
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    assert_eq!(after.form(TOKEN, &form).await.status, 200);

    let other = Simulator::new(
        Options {
            seed: 12,
            ..options()
        },
        Arc::new(before.clock.clone()),
    );
    let other = Bench {
        simulator: other,
        clock: before.clock.clone(),
        token: before.token.clone(),
    };
    assert_eq!(other.get(V1).await.status, 401);
}

#[tokio::test]
async fn the_eleventh_call_of_a_second_is_refused() {
    let bench = Bench::new().await;
    let bearer = format!("Bearer {}", bench.token);
    let call = async || {
        let path = format!("/eset/eu/{DEVICES}?pageSize=1");
        bench
            .send("GET", &path, &[("authorization", &bearer)], "")
            .await
            .status
    };
    for _ in 0..10 {
        assert_eq!(call().await, 200);
    }
    assert_eq!(call().await, 429);
    bench.advance(1);
    assert_eq!(call().await, 200);
}

#[tokio::test]
async fn a_large_world_costs_no_more_than_its_page() {
    let bench = Bench::with(Options {
        scale: 1000.0,
        ..options()
    })
    .await;
    let path = format!(
        "{V2}?startTime={}&pageSize=100",
        text(start() - TimeDelta::days(5))
    );
    assert_eq!(bench.get(&path).await.uuids("detections").len(), 100);
    assert!(bench.world().known(Product::Protect, start()) > 6_000_000);
}

#[tokio::test]
async fn times_have_nine_digits_unless_told_otherwise() {
    for (finest, most) in [(Finest::Nanos, 9), (Finest::Micros, 6)] {
        let bench = Bench::with(Options {
            finest_time: finest,
            ..options()
        })
        .await;
        let mut digits = BTreeSet::new();
        for (list, path) in [
            ("detections", format!("{V1}?pageSize=200")),
            ("incidents", format!("{INCIDENTS}?pageSize=100")),
            ("devices", format!("{DEVICES}?pageSize=100")),
        ] {
            let page = bench.get(&path).await.json();
            for record in page[list].as_array().unwrap() {
                let times = record.as_object().unwrap().iter();
                for (_, time) in times.filter(|(name, _)| name.ends_with("Time")) {
                    let fraction = time.as_str().unwrap().split_once('.');
                    digits.insert(fraction.map_or(0, |(_, fraction)| fraction.len() - 1));
                }
            }
        }
        assert_eq!(digits.last(), Some(&most));
    }
}

#[tokio::test]
async fn a_list_of_incidents_says_of_uuids_what_the_options_say() {
    for uuids in [
        IncidentUuids::Absent,
        IncidentUuids::Empty,
        IncidentUuids::Listed,
    ] {
        let bench = Bench::with(Options {
            incident_uuids: uuids,
            ..options()
        })
        .await;
        let page = bench.get(&format!("{INCIDENTS}?pageSize=20")).await.json();
        let record = &page["incidents"][0];
        let path = format!("{INCIDENTS}/{}", record["uuid"].as_str().unwrap());
        let one = bench.get(&path).await.json();
        for member in ["detectionUuids", "deviceUuids"] {
            let expected = match uuids {
                IncidentUuids::Absent => None,
                IncidentUuids::Empty => Some(json!([])),
                IncidentUuids::Listed => Some(one["incident"][member].clone()),
            };
            assert_eq!(record.get(member), expected.as_ref(), "{uuids:?}");
            assert_ne!(one["incident"][member], json!([]));
        }
    }
}
