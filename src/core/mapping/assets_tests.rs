use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    answer::{
        Alert, Exploit, Known, MOST, Machine, Vulnerability, WORST, alerts, candidates, order,
        users, worst,
    },
    *,
};

const MACHINE: Asset = Asset {
    kind: Kind::Machine,
    keys: &[
        Key::Text("id"),
        Key::Host("dns"),
        Key::Address("last"),
        Key::Addresses("interfaces", "ip"),
    ],
    members: &[
        ("dns", "name", Form::Text),
        ("interfaces", "addresses", Form::Addresses),
        ("build", "osBuild", Form::Text),
        ("seen", "lastSeen", Form::Text),
        ("labels", "tags", Form::Texts),
    ],
    closed: None,
};

const ALERT: Asset = Asset {
    kind: Kind::Alert,
    keys: &[Key::Text("machineId"), Key::Each("evidence", "device")],
    members: &[("title", "title", Form::Text)],
    closed: Some(("status", "resolved")),
};

fn change(asset: &Asset, id: &str, record: &Value) -> Option<Change> {
    let text = record.to_string();
    asset.change("default", id, &JsonObject::of(text.as_bytes()).unwrap())
}

fn entry(asset: &Asset, id: &str, record: &Value) -> Entry {
    match change(asset, id, record) {
        Some(Change::Kept(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

fn machine(record: &Value) -> (Vec<String>, Machine) {
    let entry = entry(&MACHINE, "M-1", record);
    (entry.keys, serde_json::from_str(&entry.body).unwrap())
}

#[test]
fn a_machine_is_found_by_its_id_its_names_and_the_addresses_that_are_its_own() {
    let (keys, machine) = machine(&json!({
        "id": "M-1", "dns": "PC-17.Contoso.com.", "last": "10.1.2.3", "build": 22631, "seen": "t",
        "labels": ["a", 7, "", "b"],
        "interfaces": [
            {"ip": "10.1.2.3"}, {"ip": ""}, {"ip": null}, {}, 7, {"ip": "127.0.0.1"}, {"ip": "::1"},
            {"ip": "169.254.7.7"}, {"ip": "FE80::1%eth0"}, {"ip": "0.0.0.0"}, {"ip": "224.0.0.1"},
            {"ip": "2001:0DB8:0::7"}, {"ip": "::ffff:192.0.2.9"}, {"ip": "not one"},
        ],
    }));
    let found_by = [
        "m-1",
        "pc-17.contoso.com",
        "pc-17",
        "10.1.2.3",
        "2001:db8::7",
        "192.0.2.9",
    ];
    assert_eq!(keys, found_by);
    assert_eq!(machine.addresses, ["10.1.2.3", "2001:db8::7", "192.0.2.9"]);
    assert_eq!(machine.name.as_deref(), Some("PC-17.Contoso.com."));
    assert_eq!(machine.os_build.as_deref(), Some("22631"));
    assert_eq!(machine.tags, ["a", "b"]);
    assert_eq!(machine.id, "M-1");
}

#[test]
fn a_machine_that_says_little_is_found_by_what_there_is() {
    let (keys, bare) =
        machine(&json!({"id": "M-1", "dns": 7, "interfaces": "no", "labels": {"a": 1}}));
    assert_eq!(keys, ["m-1", "7"]);
    assert_eq!(bare.tags, Vec::<String>::new());
    let (keys, _) = machine(&json!({"id": "M-1", "dns": "10.0.0.1"}));
    assert_eq!(keys, ["m-1"], "an address in the place of a name is none");
    assert_eq!(change(&MACHINE, "M-1", &json!({"dns": ""})), None);
    assert_eq!(
        change(&MACHINE, &"x".repeat(2_000), &json!({"id": "M-1"})),
        None
    );
}

#[test]
fn an_alert_is_open_for_each_of_its_machines_until_it_is_closed() {
    let evidence =
        json!([{"device": "B"}, {"device": null}, {"file": "f"}, {"device": "b"}, {"device": "C"}]);
    let open = json!({"title": "t", "status": "new", "machineId": "A", "evidence": evidence});
    assert_eq!(entry(&ALERT, "x", &open).keys, ["a", "b", "c"]);
    for closed in ["resolved", "Resolved"] {
        let record = json!({"status": closed, "evidence": evidence});
        let gone = change(&ALERT, "x", &record);
        assert_eq!(gone, Some(ALERT.gone("default", "x")));
    }
    let nobody = json!({"status": "new", "evidence": [{"user": "u"}]});
    assert_eq!(change(&ALERT, "x", &nobody), None);
}

#[test]
fn the_key_of_a_vulnerability_follows_from_its_id() {
    let asset = Asset {
        kind: Kind::Vulnerability,
        keys: &[],
        ..ALERT
    };
    let id = "AB12-_-CVE-2026-1-_-vendor-_-product-_-1.0-_-";
    assert_eq!(entry(&asset, id, &json!({})).keys, ["ab12"]);
    let catalogue = Asset {
        kind: Kind::Catalogue,
        ..asset
    };
    assert_eq!(
        entry(&catalogue, "CVE-2026-1", &json!({})).keys,
        ["cve-2026-1"]
    );
}

#[test]
fn what_is_sought_is_understood_in_any_spelling() {
    for (text, key) in [
        (" 10.1.2.3 ", "10.1.2.3"),
        ("::FFFF:10.1.2.3", "10.1.2.3"),
        ("[2001:DB8::0:7]", "2001:db8::7"),
        ("PC-17.contoso.COM.", "pc-17.contoso.com"),
        ("0A1B", "0a1b"),
    ] {
        assert_eq!(Sought::of(text), Sought::Key(key.to_owned()), "{text}");
    }
    for text in [
        "127.0.0.1",
        "::1",
        "fe80::1%3",
        "169.254.1.1",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        assert!(matches!(Sought::of(text), Sought::NoOnes(_)), "{text}");
    }
    for text in ["", "  ", "."] {
        assert_eq!(Sought::of(text), Sought::Nothing);
    }
}

#[test]
fn an_entry_fits_a_property_of_a_table() {
    let long = "💚".repeat(5_000);
    let interfaces: Vec<Value> = (0..5_000)
        .map(|at| json!({"ip": format!("10.{}.{}.1", at / 250, at % 250)}))
        .collect();
    let labels = vec![long.clone(); 1_000];
    let entry = entry(
        &MACHINE,
        "M-1",
        &json!({"id": "M-1", "dns": long, "seen": long, "labels": labels, "interfaces": interfaces}),
    );
    let keys = json!(entry.keys).to_string();
    for text in [&entry.body, &keys] {
        assert!(text.encode_utf16().count() < 32_000, "{}", text.len());
    }
    assert_eq!(entry.keys[0], "m-1");
}

fn vulnerability(cve: usize, severity: &str) -> Vulnerability {
    Vulnerability {
        cve: Some(format!("CVE-{cve}")),
        severity: Some(severity.to_owned()),
        ..Vulnerability::default()
    }
}

fn known(record: &Value) -> Known {
    serde_json::from_value(record.clone()).unwrap()
}

#[test]
fn the_worst_go_by_severity_then_exploit_then_score() {
    let all: Vec<Vulnerability> = ["Low", "High", "Critical", "High", "High", "odd"]
        .iter()
        .enumerate()
        .map(|(at, severity)| vulnerability(at, severity))
        .collect();
    let verified = known(&json!({"cvss": 7.0, "public": true, "verified": true}));
    let scored = known(&json!({"cvss": 8.9}));
    let worse = known(&json!({"cvss": 9.9}));
    let ranked = worst(candidates(all), |cve| match cve {
        "CVE-4" => Some(&verified),
        "CVE-1" => Some(&scored),
        "CVE-3" | "CVE-0" => Some(&worse),
        _ => None,
    });
    let names: Vec<&str> = ranked.iter().filter_map(|one| one.cve.as_deref()).collect();
    assert_eq!(
        names,
        ["CVE-2", "CVE-4", "CVE-3", "CVE-1", "CVE-0", "CVE-5"]
    );
    assert_eq!(ranked[1].exploit, Some(Exploit::Verified));
    assert_eq!(ranked[0].cvss, None);
}

#[test]
fn the_catalogue_is_asked_about_no_more_than_may_be_among_the_worst() {
    let mut all: Vec<Vulnerability> = (0..8).map(|at| vulnerability(at, "critical")).collect();
    all.extend((8..30).map(|at| vulnerability(at, "High")));
    all.extend((30..900).map(|at| vulnerability(at, "Low")));
    let candidates = candidates(all);
    assert_eq!(candidates.len(), 30);
    let kit = known(&json!({"kit": true}));
    let worst = worst(candidates, |cve| (cve == "CVE-29").then_some(&kit));
    assert_eq!(worst.len(), WORST);
    assert!(worst.iter().any(|one| one.cve.as_deref() == Some("CVE-29")));
}

#[test]
fn alerts_and_machines_are_told_in_the_order_that_matters() {
    let alert = |id: usize, severity: &str, updated: &str| Alert {
        id: id.to_string(),
        severity: Some(severity.to_owned()),
        updated: Some(updated.to_owned()),
        ..Alert::default()
    };
    let mut open = vec![
        alert(1, "low", "2026-01-03T00:00:00Z"),
        alert(2, "high", "2026-01-01T00:00:00Z"),
        alert(3, "High", "2026-01-02T00:00:00.5Z"),
    ];
    open.extend((10..40).map(|at| alert(at, "informational", "")));
    let told = alerts(open);
    assert_eq!((told.total, told.open.len()), (33, MOST));
    let first: Vec<&str> = told
        .open
        .iter()
        .take(3)
        .map(|one| one.id.as_str())
        .collect();
    assert_eq!(first, ["3", "2", "1"]);

    let machine = |id: &str, seen: Option<&str>| {
        let machine = Machine {
            id: id.to_owned(),
            last_seen: seen.map(str::to_owned),
            ..Machine::default()
        };
        ("default".to_owned(), machine)
    };
    let mut machines = [
        machine("never", None),
        machine("old", Some("2026-01-01T00:00:00.9999999Z")),
        machine("new", Some("2026-01-01T00:00:01Z")),
    ];
    order(&mut machines);
    assert_eq!(machines.map(|(_, one)| one.id), ["new", "old", "never"]);
}

#[test]
fn users_are_read_as_far_as_they_are_there() {
    let body = json!({"value": [
        {"accountName": "a", "lastSeen": "2026-01-01T00:00:00Z", "isDomainAdmin": false},
        7,
        {"accountName": "b", "accountDomain": "d", "lastSeen": "2026-01-02T00:00:00Z", "isDomainAdmin": "yes"},
    ]});
    let users = users(body.to_string().as_bytes()).unwrap();
    let names: Vec<_> = users
        .iter()
        .map(|user| user.account.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(
        (users[0].is_domain_admin, users[1].is_domain_admin),
        (None, Some(false))
    );
    for odd in ["", "[]", "{}", r#"{"value":7}"#] {
        assert_eq!(super::answer::users(odd.as_bytes()), None, "{odd}");
    }
}

/// Any JSON value, of members that the rules ask for, too.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("10.0.0.1")),
    ];
    let name = prop_oneof![
        Just("id"),
        Just("dns"),
        Just("last"),
        Just("interfaces"),
        Just("ip"),
        Just("labels"),
        Just("build"),
        Just("seen"),
        Just("other"),
    ];
    leaf.prop_recursive(3, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_record_says_its_entry_can_be_read(record in any_value()) {
        if !record.is_object() {
            return Ok(());
        }
        if let Some(Change::Kept(entry)) = change(&MACHINE, "M-1", &record) {
            let machine: Machine = serde_json::from_str(&entry.body).unwrap();
            prop_assert_eq!(machine.id, "M-1");
            let mut keys = entry.keys.clone();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), entry.keys.len());
            // Each key is what somebody who writes it looks for.
            for key in entry.keys {
                prop_assert_eq!(Sought::of(&key), Sought::Key(key.clone()));
            }
        }
    }
}
