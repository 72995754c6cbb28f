//! Alerts and incidents in three APIs.

use super::*;

const ALERTS: &str = "/graph/v1.0/security/alerts_v2";
const INCIDENTS: &str = "/graph/v1.0/security/incidents";
const MDE_ALERTS: &str = "/defender/api/alerts";
const XDR_INCIDENTS: &str = "/defender/api/incidents";
const PREFER: [(&str, &str); 1] = [("prefer", "include-unknown-enum-members")];

fn versions(records: &[Value], time: &str) -> BTreeSet<(String, String)> {
    let ids = ids(records).into_iter();
    let times = records
        .iter()
        .map(|record| record[time].as_str().unwrap().to_owned());
    ids.zip(times).collect()
}

#[tokio::test]
async fn every_api_tells_the_same_alerts_and_incidents() {
    let bench = Bench::new().await;
    let from = ago(30);
    let since = |name: &str| format!("$filter={name} ge {}", text(from));
    let graph = since("lastUpdateDateTime");
    let (alerts, _) = bench
        .linked(&format!("{ALERTS}?{graph}&$orderby=lastUpdateDateTime asc"))
        .await;
    let (incidents, pages) = bench.linked(&format!("{INCIDENTS}?{graph}&$top=10")).await;
    assert!(pages > 2);
    let mde = since("lastUpdateTime");
    let mde_alerts = bench
        .values(&format!("{MDE_ALERTS}?{mde}&$expand=evidence"))
        .await;
    let xdr = bench
        .values(&format!("{XDR_INCIDENTS}?{mde}&$top=100"))
        .await;
    let defender = bench.defender();
    let now = start();
    let all = versions(&alerts, "lastUpdateDateTime");
    assert_eq!(all, defender.alert_versions(false, from, now));
    let endpoint = versions(&mde_alerts, "lastUpdateTime");
    assert_eq!(endpoint, defender.alert_versions(true, from, now));
    assert!(endpoint.is_subset(&all) && endpoint.len() < all.len());
    let both = defender.incident_versions(from, now);
    assert_eq!(versions(&incidents, "lastUpdateDateTime"), both);
    assert_eq!(versions(&xdr, "lastUpdateTime"), both);
    assert!(
        all.len() > 100 && both.len() > 25,
        "{} {}",
        all.len(),
        both.len()
    );
    // Sorted as asked for; the alerts of an incident are those that name it.
    let times: Vec<&str> = alerts
        .iter()
        .map(|alert| alert["lastUpdateDateTime"].as_str().unwrap())
        .collect();
    let parsed: Vec<DateTime<Utc>> = times.iter().map(|time| time.parse().unwrap()).collect();
    assert!(parsed.is_sorted());
    assert!(
        mde_alerts
            .iter()
            .any(|alert| !alert["evidence"].as_array().unwrap().is_empty())
    );
    for incident in &xdr {
        for alert in incident["alerts"].as_array().unwrap() {
            assert_eq!(alert["incidentId"], incident["incidentId"]);
        }
    }
}

#[tokio::test]
async fn a_closing_is_seen_and_what_it_closes_has_its_time() {
    let bench = Bench::new().await;
    bench.advance(5 * 24 * 3600);
    let closed = "$filter=status eq 'resolved'";
    let (incidents, _) = bench.linked(&format!("{INCIDENTS}?{closed}&$top=50")).await;
    let (alerts, _) = bench.linked(&format!("{ALERTS}?{closed}")).await;
    let mut together = 0;
    for incident in &incidents {
        let mine = alerts
            .iter()
            .filter(|alert| alert["incidentId"] == incident["id"]);
        let tied = mine
            .filter(|alert| alert["lastUpdateDateTime"] == incident["lastUpdateDateTime"])
            .count();
        together += usize::from(tied > 1);
    }
    assert!(together > 3, "{together}");
    let merged = bench
        .linked(&format!("{INCIDENTS}?$filter=status eq 'redirected'"))
        .await
        .0;
    assert!(!merged.is_empty());
    for incident in merged {
        let into: u64 = incident["redirectIncidentId"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(
            incident["id"].as_str().unwrap().parse::<u64>().unwrap(),
            into + 1
        );
    }
    // Every version that ever was is in the history, the current one among them.
    let now = bench.clock.now();
    let history = bench.defender().incident_history(ago(24), now);
    assert!(
        bench
            .defender()
            .incident_versions(ago(24), now)
            .is_subset(&history)
    );
    let overtaken = history.len() - bench.defender().incident_versions(ago(24), now).len();
    assert!(overtaken > 20, "{overtaken}");
}

#[tokio::test]
async fn new_members_of_enums_are_shown_to_those_who_ask() {
    let bench = Bench::new().await;
    let path = format!("{ALERTS}?$top=1000");
    let services = |got: &Got| -> BTreeSet<String> {
        let json = got.json();
        let alerts = json["value"].as_array().unwrap().iter();
        alerts
            .map(|alert| alert["serviceSource"].as_str().unwrap().to_owned())
            .collect()
    };
    let plain = services(&bench.ask(&path).await);
    let asked = services(&bench.ask_with(&path, &PREFER).await);
    assert!(plain.contains("unknownFutureValue") && !plain.contains("microsoftSentinel"));
    assert!(!asked.contains("unknownFutureValue") && asked.contains("microsoftSentinel"));
    bench.fault("defender.alerts:gated-enums");
    assert_eq!(services(&bench.ask_with(&path, &PREFER).await), plain);
    let now = bench.clock.now();
    assert!(!bench.defender().alerts_of_sentinel(now).is_empty());
}

#[tokio::test]
async fn pages_have_their_limits() {
    let bench = Bench::new().await;
    assert_eq!(
        bench.values(&format!("{INCIDENTS}?$top=2000")).await.len(),
        50
    );
    assert!(bench.values(&format!("{ALERTS}?$top=2000")).await.len() > 500);
    for (path, status) in [
        (format!("{ALERTS}?$skip=500&$top=5"), 200),
        (format!("{ALERTS}?$skip=501&$top=5"), 400),
        (
            format!("{ALERTS}?$filter=investigationState eq 'queued'"),
            400,
        ),
        (format!("{ALERTS}?$skiptoken=rubbish"), 400),
        (format!("{INCIDENTS}?$expand=comments"), 400),
        (format!("{MDE_ALERTS}?$top=10001"), 400),
        (format!("{XDR_INCIDENTS}?$top=101"), 400),
        (format!("{XDR_INCIDENTS}?$filter=severity eq 'High'"), 400),
    ] {
        assert_eq!(bench.ask(&path).await.status, status, "{path}");
    }
    // A token belongs to its query.
    let got = bench.ask(&format!("{ALERTS}?$top=5")).await.json();
    let next = got["@odata.nextLink"].as_str().unwrap();
    let path = next.strip_prefix("https://").unwrap();
    assert_eq!(bench.ask(path).await.status, 200);
    assert_eq!(bench.ask(&path.replace("top=5", "top=6")).await.status, 400);
}

#[tokio::test]
async fn expanding_brings_the_alerts_until_there_are_too_many() {
    let mut options = options();
    options.defender.expanded_alerts = Some(20);
    let bench = Bench::with(options).await;
    let few = bench
        .values(&format!("{INCIDENTS}?$expand=alerts&$top=1"))
        .await;
    assert!(few[0]["alerts"].is_array());
    assert_eq!(few[0]["alerts"][0]["incidentId"], few[0]["id"]);
    let got = bench
        .ask(&format!("{INCIDENTS}?$expand=alerts&$top=50"))
        .await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (500, &json!("InternalServerError"))
    );
    assert_eq!(bench.ask(&format!("{INCIDENTS}?$top=50")).await.status, 200);
}

#[tokio::test]
async fn order_and_edges_are_spoilt_as_told() {
    let bench = Bench::new().await;
    bench.advance(3 * 24 * 3600);
    let path = format!("{ALERTS}?$orderby=lastUpdateDateTime asc&$top=60");
    let times = async || -> Vec<DateTime<Utc>> {
        let page = bench.values(&path).await;
        page.iter()
            .map(|alert| {
                alert["lastUpdateDateTime"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect()
    };
    assert!(times().await.is_sorted());
    bench.fault("defender.alerts:unsorted");
    assert!(!times().await.is_sorted());

    bench.fault("defender.alerts:tiesx*");
    let first = bench.ask(&path).await.json();
    let next = first["@odata.nextLink"]
        .as_str()
        .unwrap()
        .strip_prefix("https://")
        .unwrap();
    let second = bench.values(next).await;
    let last = first["value"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["lastUpdateDateTime"], second[0]["lastUpdateDateTime"]);
    let (all, _) = bench.linked(&path).await;
    let now = bench.clock.now();
    let everything = bench.defender().alert_versions(false, ago(24 * 30), now);
    assert_eq!(versions(&all, "lastUpdateDateTime"), everything);
}
