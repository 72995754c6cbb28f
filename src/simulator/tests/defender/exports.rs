//! Vulnerable software by machine: the whole, the files, and the changes.

use std::io::Read as _;

use super::*;

const SOFTWARE: &str = "/defender/api/machines/SoftwareVulnerabilitiesByMachine";
const EXPORT: &str = "/defender/api/machines/SoftwareVulnerabilitiesExport";
const CHANGES: &str = "/defender/api/machines/SoftwareVulnerabilityChangesByMachine";

impl Bench {
    /// The links of an export, as paths, and when it was generated.
    async fn files(&self) -> (Vec<String>, String) {
        let got = self.ask(EXPORT).await.json();
        let links = got["exportFiles"].as_array().unwrap().iter();
        let path = |link: &Value| {
            let link = link.as_str().unwrap();
            link.strip_prefix("https://").unwrap().to_owned()
        };
        (
            links.map(path).collect(),
            got["generatedTime"].as_str().unwrap().to_owned(),
        )
    }

    async fn file_lines(&self, path: &str) -> Vec<Value> {
        let got = self.send("GET", path, &[], "").await;
        assert_eq!(got.status, 200);
        let mut text = String::new();
        let zip = got.body.unwrap();
        flate2::read::GzDecoder::new(&zip[..])
            .read_to_string(&mut text)
            .unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn files_hold_what_the_list_holds() {
    let bench = Bench::new().await;
    let (truth, generated) = bench.defender().software_ids(start());
    let (list, pages) = bench.linked(&format!("{SOFTWARE}?pageSize=100")).await;
    assert_eq!(once(&list), truth);
    assert!(pages > 4);
    assert!(list.iter().any(|record| record["cveId"].is_null()));
    let (links, time) = bench.files().await;
    assert_eq!(time, text(generated));
    assert!(links.len() > 1);
    let mut found = BTreeSet::new();
    for link in &links {
        for record in bench.file_lines(link).await {
            // As captures of the service have it.
            for name in ["OSPlatform", "OSVersion", "OSArchitecture"] {
                assert!(record[name].is_string(), "{name} of {record}");
            }
            let id = record["Id"].as_str().unwrap().to_owned();
            let same = list.iter().find(|one| one["id"] == record["Id"]).unwrap();
            assert_eq!(record["SoftwareVersion"], same["softwareVersion"]);
            assert_eq!(record["DiskPaths"], same["diskPaths"]);
            assert!(found.insert(id));
        }
    }
    assert_eq!(found, truth);
    for bad in ["?sasValidHours=7", "?sasValidHours=0"] {
        assert_eq!(bench.ask(&format!("{EXPORT}{bad}")).await.status, 400);
    }
    assert_eq!(
        bench
            .ask(&format!("{SOFTWARE}?pageSize=200001"))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_link_is_good_for_its_file_and_its_hour() {
    let bench = Bench::new().await;
    let (links, _) = bench.files().await;
    let link = links[0].as_str();
    let bearer = bench.bearer_for(MDE).await;
    let got = bench
        .send("GET", link, &[("authorization", &bearer)], "")
        .await;
    assert_eq!(
        (got.status, &got.headers["content-type"]),
        (403, &"application/xml".parse().unwrap())
    );
    let other = link.replace("part-00000", "part-00001");
    assert_eq!(bench.send("GET", &other, &[], "").await.status, 403);
    bench.advance(3590);
    assert_eq!(bench.send("GET", link, &[], "").await.status, 200);
    bench.advance(10);
    let got = bench.send("GET", link, &[], "").await;
    assert_eq!(got.status, 403);
    let body = String::from_utf8(got.body.unwrap().to_vec()).unwrap();
    assert!(body.contains("<Code>AuthenticationFailed</Code>"), "{body}");
    assert!(
        body.contains("Signature not valid in the specified key time frame"),
        "{body}"
    );
    // The signature is a secret.
    let calls = bench.simulator.calls();
    let call = calls
        .iter()
        .rfind(|call| call.target == Some(Target::DefenderFile))
        .unwrap();
    assert!(call.path.ends_with("sig=…"), "{}", call.path);
}

#[tokio::test]
async fn a_snapshot_is_made_every_six_hours_and_the_changes_lead_to_it() {
    let bench = Bench::new().await;
    let key = |record: &Value| {
        let member = |name: &str| record[name].as_str().unwrap().to_owned();
        (member("id"), member("status"), member("eventTimestamp"))
    };
    let (mut known, first) = bench.defender().software_ids(start());
    bench.advance(40 * 3600);
    let now = bench.clock.now();
    let since = text(first);
    let path = format!("{CHANGES}?sinceTime={since}&pageSize=9");
    let (changes, pages) = bench.linked(&path).await;
    let keys: BTreeSet<_> = changes.iter().map(key).collect();
    assert_eq!(keys.len(), changes.len());
    assert_eq!(keys, bench.defender().software_changes(first, now));
    assert!(pages > 3, "{pages}");
    let mut ordered: Vec<&Value> = changes.iter().collect();
    // Of two at one time the one that goes comes first.
    ordered.sort_by_key(|record| {
        let (_, status, time) = key(record);
        (time, status == "New")
    });
    for record in &ordered {
        let (id, status, _) = key(record);
        match status.as_str() {
            "New" => assert!(known.insert(id)),
            "Fixed" => assert!(known.remove(&id)),
            _ => assert!(known.contains(&id)),
        }
    }
    let (then, later) = bench.defender().software_ids(now);
    assert_eq!(known, then);
    assert_eq!(later - first, TimeDelta::hours(42));
    let count = |status: &str| {
        changes
            .iter()
            .filter(|record| record["status"] == status)
            .count()
    };
    assert!(count("New") > 0 && count("Fixed") > 0 && count("Updated") > 0);
}

#[tokio::test]
async fn changes_come_in_whole_buckets_of_two_weeks_at_most() {
    let bench = Bench::new().await;
    let get = async |since: DateTime<Utc>| {
        let path = format!("{CHANGES}?sinceTime={}", text(since));
        bench.ask(&path).await
    };
    // 00:00 and 05:59 lie in one bucket, 06:00 in the next.
    let day = ago(34);
    let early = get(day).await.json()["value"].clone();
    let late = get(day + TimeDelta::minutes(359)).await.json()["value"].clone();
    assert_eq!(early, late);
    let next = get(day + TimeDelta::minutes(360)).await.json()["value"].clone();
    assert!(next.as_array().unwrap().len() < early.as_array().unwrap().len());
    assert_eq!(get(ago(24 * 14) + TimeDelta::hours(1)).await.status, 200);
    let got = get(ago(24 * 14) - TimeDelta::hours(1)).await;
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (400, &json!("InvalidInput"))
    );
    let got = bench.ask(CHANGES).await;
    assert_eq!(got.json()["error"]["code"], "MissingRequiredParameter");
    assert_eq!(
        get(start() + TimeDelta::hours(9)).await.json()["value"],
        json!([])
    );
}

#[tokio::test]
async fn a_bucket_that_is_late_is_there_the_next_time() {
    let bench = Bench::new().await;
    let path = format!("{CHANGES}?sinceTime={}", text(ago(34)));
    let all = bench.values(&path).await;
    bench.fault("defender.software.changes:late-bucket");
    let early = bench.values(&path).await;
    assert!(early.len() < all.len() && all.starts_with(&early));
    assert_eq!(bench.values(&path).await, all);
}

#[tokio::test]
async fn a_machine_that_changes_its_group_is_fixed_and_new_at_once() {
    let bench = Bench::new().await;
    bench.advance(6 * 24 * 3600);
    let path = format!("{CHANGES}?sinceTime={}", text(start()));
    let changes = bench.values(&path).await;
    let mut moved = 0;
    for fixed in changes.iter().filter(|record| record["status"] == "Fixed") {
        let new = changes.iter().find(|record| {
            record["id"] == fixed["id"]
                && record["status"] == "New"
                && record["eventTimestamp"] == fixed["eventTimestamp"]
        });
        if let Some(new) = new {
            assert_ne!(new["rbacGroupName"], fixed["rbacGroupName"]);
            moved += 1;
        }
    }
    assert!(moved > 5, "{moved}");
}
