//! Faults of lists and exports.

use super::*;

const MACHINES: &str = "/defender/api/machines";
const ALERTS: &str = "/graph/v1.0/security/alerts_v2";
const CHANGES: &str = "/defender/api/machines/SoftwareVulnerabilityChangesByMachine";

#[tokio::test]
async fn a_machine_that_moves_under_skip_is_missed_once_and_seen_twice() {
    let bench = Bench::new().await;
    let pass = async || {
        let mut all = Vec::new();
        for skip in (0..60).step_by(20) {
            all.extend(ids(&bench
                .values(&format!("{MACHINES}?$top=20&$skip={skip}"))
                .await));
        }
        all
    };
    let usual = pass().await;
    bench.fault("defender.machines:moving");
    let moved = pass().await;
    assert_eq!(moved.len(), usual.len());
    let set: BTreeSet<&String> = moved.iter().collect();
    assert_eq!(set.len(), usual.len() - 1);
    let missed: Vec<&String> = usual.iter().filter(|id| !set.contains(id)).collect();
    assert_eq!(missed, [&usual[20]]);
    assert_eq!(pass().await, usual);
}

#[tokio::test]
async fn links_are_spoilt_as_told() {
    let bench = Bench::new().await;
    let link = async |path: &str| {
        let got = bench.ask(path).await.json();
        got["@odata.nextLink"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let path = format!("{ALERTS}?$top=5");
    let usual = link(&path).await;
    bench.fault("defender.alerts:next-link-foreign");
    let foreign = link(&path).await;
    assert!(
        foreign.starts_with("https://collector.example/graph/v1.0/"),
        "{foreign}"
    );
    let next = usual.strip_prefix("https://").unwrap();
    bench.fault("defender.alerts:next-link-loop");
    let looping = link(next).await;
    assert_eq!(looping, usual);
    bench.fault("defender.machines:next-link-malformed");
    let malformed = link(&format!("{MACHINES}?$top=5")).await;
    assert!(malformed.contains("?=&=10000"), "{malformed}");
    bench.fault("defender.alerts:page-size=2");
    assert_eq!(bench.values(&path).await.len(), 2);
}

#[tokio::test]
async fn refusals_have_the_words_of_the_service() {
    let bench = Bench::new().await;
    let since = text(ago(20));
    let changes = format!("{CHANGES}?sinceTime={since}");
    let nothing = format!("{MACHINES}?$skip=1000");
    for (fault, path, status, words) in [
        (
            "defender.machines:quota=8",
            MACHINES,
            429,
            "send requests again in 8 seconds",
        ),
        (
            "defender.machines:429",
            MACHINES,
            429,
            "maximum allowed 100 per 00:01:00",
        ),
        (
            "defender.machines:no-licence",
            MACHINES,
            401,
            "Account mode is inactive",
        ),
        (
            "defender.machines:missing-role",
            MACHINES,
            403,
            "API required roles: Machine.Read.All",
        ),
        (
            "defender.machines:500",
            MACHINES,
            500,
            "InternalServerError",
        ),
        (
            "defender.machines:empty-404",
            &nothing,
            404,
            "ResourceNotFound",
        ),
        (
            "defender.software.changes:no-licence",
            &changes,
            401,
            "No Tvm license",
        ),
        (
            "defender.software.changes:since-refused",
            &changes,
            400,
            "14 days",
        ),
        (
            "defender.alerts:429-retry-after=7",
            ALERTS,
            429,
            "Please retry again later",
        ),
        (
            "defender.alerts:not-provisioned",
            ALERTS,
            403,
            "Account is not provisioned",
        ),
        (
            "defender.alerts:skip-wall",
            &format!("{ALERTS}?$skip=1"),
            400,
            "Skip",
        ),
        (
            "defender.alerts:top-limit=10",
            &format!("{ALERTS}?$top=11"),
            400,
            "The limit of '10' for Top",
        ),
    ] {
        bench.fault(fault);
        let got = bench.ask(path).await;
        assert_eq!(got.status, status, "{fault}");
        let body = got.json()["error"].to_string();
        assert!(body.contains(words), "{fault}: {body}");
        let waits = fault.contains("retry-after");
        assert_eq!(got.headers.contains_key("retry-after"), waits, "{fault}");
        assert_eq!(bench.ask(path).await.status, 200, "{fault} lasts");
    }
}

#[tokio::test]
async fn a_dead_token_has_to_be_renewed() {
    let bench = Bench::new().await;
    let bearer = bench.bearer_for(MDE).await;
    let headers = [("authorization", bearer.as_str())];
    let get =
        async |headers: &[(&str, &str)]| bench.send("GET", MACHINES, headers, "").await.status;
    bench.fault("defender.machines:dead-token@2");
    assert_eq!(get(&headers).await, 200);
    assert_eq!(get(&headers).await, 401);
    assert_eq!(get(&headers).await, 401);
    assert_eq!(bench.ask(MACHINES).await.status, 200);
}

#[tokio::test]
async fn a_slow_body_takes_its_time() {
    let bench = Bench::new().await;
    bench.fault("defender.machines:slow-body=20");
    let before = bench.clock.now();
    let got = bench.ask(MACHINES).await;
    assert!(!got.json()["value"].as_array().unwrap().is_empty());
    assert_eq!((bench.clock.now() - before).num_seconds(), 21);
}

#[tokio::test]
async fn a_move_between_groups_is_added_to_the_changes() {
    let bench = Bench::new().await;
    let path = format!("{CHANGES}?sinceTime={}", text(ago(20)));
    let usual = bench.values(&path).await;
    bench.fault("defender.software.changes:rbac-move");
    let moved = bench.values(&path).await;
    let [fixed, new] = &moved[usual.len()..] else {
        panic!("{}", moved.len())
    };
    assert_eq!(
        (&fixed["id"], &fixed["status"]),
        (&usual[0]["id"], &json!("Fixed"))
    );
    assert_eq!(
        (&new["id"], &new["status"]),
        (&usual[0]["id"], &json!("New"))
    );
    assert_eq!(new["eventTimestamp"], fixed["eventTimestamp"]);
    assert!(
        !usual
            .iter()
            .any(|record| record["eventTimestamp"] == new["eventTimestamp"])
    );
}

impl Bench {
    /// What a few calls to `target` look like from outside.
    pub(in crate::simulator::tests) async fn defender_probe(&self, target: Target) -> Vec<Got> {
        let since = text(ago(20));
        let software = "/defender/api/machines/SoftwareVulnerabilitiesByMachine?pageSize=300";
        let graph = |path: &str| format!("/graph/v1.0/security/{path}");
        let vulnerabilities = "/defender/api/vulnerabilities";
        let order = "$orderby=lastUpdateDateTime asc";
        let paths: Vec<String> = match target {
            Target::DefenderMachines => skipped(MACHINES),
            Target::DefenderMachine => {
                vec![format!("{MACHINES}/{}", self.defender().machine_id(2))]
            }
            Target::DefenderCatalogue => skipped(vulnerabilities),
            Target::DefenderVulnerabilities => {
                skipped(&format!("{vulnerabilities}/machinesVulnerabilities"))
            }
            Target::DefenderSoftware => vec![software.to_owned()],
            Target::DefenderExport => {
                vec!["/defender/api/machines/SoftwareVulnerabilitiesExport".to_owned()]
            }
            Target::DefenderChanges => vec![format!("{CHANGES}?sinceTime={since}&pageSize=3")],
            Target::DefenderMdeAlerts => vec!["/defender/api/alerts?$top=20".to_owned()],
            Target::DefenderXdrIncidents => vec!["/defender/api/incidents?$top=20".to_owned()],
            Target::DefenderAlerts => {
                let path = graph("alerts_v2");
                vec![
                    format!("{path}?{order}&$top=350"),
                    format!("{path}?{order}&$skip=3"),
                ]
            }
            Target::DefenderIncidents => {
                let path = graph("incidents");
                vec![
                    format!("{path}?{order}&$top=50&$expand=alerts"),
                    format!("{path}?{order}&$skip=3"),
                ]
            }
            Target::DefenderFile => return self.file_probe().await,
            _ => return self.hunting_probe().await,
        };
        let mut seen = Vec::new();
        for path in paths {
            let headers = [("prefer", "include-unknown-enum-members")];
            seen.push(self.ask_with(&path, &headers).await);
        }
        seen
    }

    async fn file_probe(&self) -> Vec<Got> {
        let export = "/defender/api/machines/SoftwareVulnerabilitiesExport";
        let links = self.ask(export).await.json()["exportFiles"].clone();
        let link = links[0].as_str().unwrap().strip_prefix("https://").unwrap();
        vec![self.send("GET", link, &[], "").await]
    }

    async fn hunting_probe(&self) -> Vec<Got> {
        let window = "ingestion_time() >= datetime(2026-03-04T08:00:00.0000000Z) and \
                      ingestion_time() < datetime(2026-03-04T09:00:00.0000000Z)";
        let query = format!("DeviceEvents | where {window} | take 500");
        vec![self.hunt(&query).await]
    }
}

/// The first page, a later one, and one behind the end.
fn skipped(path: &str) -> Vec<String> {
    [0, 20, 100_000]
        .map(|skip| format!("{path}?$top=20&$skip={skip}"))
        .into()
}
