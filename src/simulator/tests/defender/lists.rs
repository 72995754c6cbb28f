//! Machines and vulnerabilities.

use super::*;

const MACHINES: &str = "/defender/api/machines";
const CATALOGUE: &str = "/defender/api/vulnerabilities";
const FOUND: &str = "/defender/api/vulnerabilities/machinesVulnerabilities";

#[tokio::test]
async fn pages_by_skip_hold_every_machine_once() {
    let bench = Bench::new().await;
    let (mut all, mut skip) = (Vec::new(), 0);
    loop {
        let got = bench
            .ask(&format!("{MACHINES}?$top=7&$skip={skip}"))
            .await
            .json();
        assert_eq!(got.get("@odata.nextLink"), None);
        let page = got["value"].as_array().unwrap().clone();
        skip += page.len();
        let last = page.len() < 7;
        all.extend(page);
        if last {
            break;
        }
    }
    assert_eq!(once(&all), bench.defender().machine_ids(start()));
    assert!(all.len() > 50, "{}", all.len());
    // The same company as ESET's.
    let names: BTreeSet<String> = bench.world().device_names().into_values().collect();
    for machine in &all {
        let name = machine["computerDnsName"].as_str().unwrap();
        let short = name.split('.').next().unwrap().to_ascii_uppercase();
        assert!(names.contains(&short), "{name}");
    }
}

#[tokio::test]
async fn machines_are_filtered_by_time_and_by_enum() {
    let bench = Bench::new().await;
    let from = ago(24);
    let filter = format!(
        "$filter=lastSeen ge {} and lastSeen le {}",
        text(from),
        text(ago(0))
    );
    let seen = bench.values(&format!("{MACHINES}?{filter}&$top=100")).await;
    assert_eq!(once(&seen), bench.defender().machines_seen(from, start()));
    assert!((20..60).contains(&seen.len()), "{}", seen.len());
    let risky = bench
        .values(&format!(
            "{MACHINES}?$filter=riskScore eq 'High' or riskScore eq 'Medium'"
        ))
        .await;
    assert!(!risky.is_empty());
    for machine in risky {
        assert!(["High", "Medium"].contains(&machine["riskScore"].as_str().unwrap()));
    }
    for bad in [
        "$filter=managedBy eq 'Intune'",
        "$top=10001",
        "$orderby=lastSeen",
        "$filter=lastSeen ge '2026-01-01T00:00:00Z'",
        "$skip=1e+06",
    ] {
        let got = bench.ask(&format!("{MACHINES}?{bad}")).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (400, &json!("ODataError")),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn machines_come_and_go_and_change_between_reports() {
    let bench = Bench::new().await;
    let before = bench.values(MACHINES).await;
    bench.advance(2 * 24 * 3600);
    let after = bench.values(MACHINES).await;
    let (old, new) = (once(&before), once(&after));
    assert!(old.difference(&new).count() > 0 && new.difference(&old).count() > 0);
    assert_eq!(new, bench.defender().machine_ids(bench.clock.now()));
    let changed = |name: &str| {
        let pairs = before.iter().filter_map(|before| {
            let after = after.iter().find(|after| after["id"] == before["id"])?;
            Some(before[name] != after[name])
        });
        pairs.filter(|changed| *changed).count()
    };
    assert_eq!(changed("computerDnsName"), 0);
    assert!(changed("lastSeen") > 30 && changed("riskScore") > 10 && changed("machineTags") > 0);
}

#[tokio::test]
async fn one_machine_tells_its_users_and_an_address_tells_its_machine() {
    let bench = Bench::new().await;
    let machine = bench.values(&format!("{MACHINES}?$top=1")).await.remove(0);
    let id = machine["id"].as_str().unwrap();
    let one = bench.ask(&format!("{MACHINES}/{id}")).await.json();
    assert_eq!(one["computerDnsName"], machine["computerDnsName"]);
    let users = bench.values(&format!("{MACHINES}/{id}/logonusers")).await;
    assert!(!users.is_empty() && users[0]["accountName"].is_string());
    let address = machine["lastIpAddress"].as_str().unwrap();
    let find = |time: DateTime<Utc>| {
        format!(
            "{MACHINES}/findbyip(ip='{address}',timestamp={})",
            text(time)
        )
    };
    let found = bench.values(&find(ago(1))).await;
    assert!(ids(&found).contains(&id.to_owned()));
    assert_eq!(bench.ask(&find(ago(24 * 31))).await.status, 400);
    let got = bench.ask(&format!("{MACHINES}/{}", "0".repeat(40))).await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (404, &json!("ResourceNotFound"))
    );
}

#[tokio::test]
async fn the_catalogue_knows_more_than_what_is_found() {
    let bench = Bench::new().await;
    let (catalogue, found) = (bench.values(CATALOGUE).await, bench.values(FOUND).await);
    let versions: BTreeSet<(String, String)> = catalogue
        .iter()
        .map(|entry| {
            let member = |name: &str| entry[name].as_str().unwrap().to_owned();
            (member("id"), member("updatedOn"))
        })
        .collect();
    assert_eq!(versions, bench.defender().catalogue_versions(start()));
    assert_eq!(once(&found), bench.defender().vulnerability_ids(start()));
    let known = once(&catalogue);
    let named: BTreeSet<String> = found
        .iter()
        .map(|found| found["cveId"].as_str().unwrap().to_owned())
        .collect();
    assert!(named.is_subset(&known) && named.len() * 2 < known.len());
    for entry in &catalogue {
        let exposed = entry["exposedMachines"].as_u64().unwrap() > 0;
        assert!(
            exposed || !named.contains(entry["id"].as_str().unwrap()),
            "{entry}"
        );
    }
    assert_eq!(
        bench.ask(&format!("{CATALOGUE}?$top=8001")).await.status,
        400
    );
    let critical = bench
        .values(&format!("{FOUND}?$filter=severity eq 'Critical'&$top=9999"))
        .await;
    assert!(!critical.is_empty() && critical.len() < found.len());
    let recent = format!("{CATALOGUE}?$filter=updatedOn ge {}", text(ago(24 * 7)));
    let recent = bench.values(&recent).await.len();
    assert!(recent > 0 && recent < catalogue.len() / 2, "{recent}");
}

#[tokio::test]
async fn without_top_the_link_of_a_filtered_list_is_malformed() {
    let mut options = options();
    options.defender.estate.machines = 10_600;
    let bench = Bench::with(options).await;
    let link = async |path: String| {
        let got: Value = serde_json::from_str(&bench.long(&path).await).unwrap();
        got["@odata.nextLink"].as_str().map(str::to_owned)
    };
    let plain = link(MACHINES.to_owned()).await.unwrap();
    assert!(
        plain.ends_with("/defender/api/machines?$skip=10000"),
        "{plain}"
    );
    let filtered = link(format!(
        "{MACHINES}?$filter=lastSeen ge 2020-01-01T00:00:00Z"
    ))
    .await;
    let filtered = filtered.unwrap();
    assert!(
        filtered.contains("?=lastSeen") && filtered.contains("&=10000&"),
        "{filtered}"
    );
    assert_eq!(link(format!("{MACHINES}?$top=10000")).await, None);
}
