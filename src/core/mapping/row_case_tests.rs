//! Records as services write them, and what an analyst reads of them.

use serde_json::json;

use super::{properties::pruned, *};
use crate::{
    core::mapping::filter::{Decision, decide},
    source::{
        defender::{
            ALERTS, ENDPOINTS, INCIDENTS as DEFENDER_INCIDENTS, MDE_ALERTS,
            SOFTWARE_VULNERABILITIES, WITHOUT_SENTINEL, hunting,
        },
        eset::STREAMS,
    },
};

fn columns_of(endpoint: &Endpoint, record: &Value) -> Map<String, Value> {
    columns_in(endpoint, &Layout::shared(endpoint), record)
}

fn columns_in(endpoint: &Endpoint, layout: &Layout, record: &Value) -> Map<String, Value> {
    let row = row_in(
        endpoint,
        layout,
        &record.to_string(),
        Enriched::default(),
        false,
    );
    let columns = checked_in(layout, &row);
    assert_eq!(&restore(&columns, layout.rules), record);
    columns
}

fn hunted(table: &str, record: &Value) -> Map<String, Value> {
    columns_of(&hunting::table(table).unwrap().endpoint, record)
}

/// The columns that a row has of those that are `wanted`, null where there is none.
fn assert_says(columns: &Map<String, Value>, wanted: &Value) {
    for (name, value) in wanted.as_object().unwrap() {
        let column = columns.get(name).unwrap_or(&Value::Null);
        assert_eq!(column, value, "{name} of {}", json!(columns));
    }
}

#[test]
fn an_alert_with_more_evidence_than_fits_keeps_what_fits_and_counts_the_others() {
    let entry = |at: usize| {
        json!({
            "@odata.type": "#microsoft.graph.security.processEvidence",
            "processId": 4000 + at,
            "processCommandLine": "x".repeat(2_000),
        })
    };
    let evidence: Vec<Value> = (0..40).map(entry).collect();
    let alert = json!({"id": "da40", "title": "Alert 40", "evidence": evidence});
    for layout in [Layout::shared(&ALERTS), Layout::own(&ALERTS)] {
        let row = row_in(
            &ALERTS,
            &layout,
            &alert.to_string(),
            Enriched::default(),
            false,
        );
        assert!(row.shortened);
        let columns = checked_in(&layout, &row);
        let (name, list, path) = match columns.get("context") {
            Some(context) => ("context", &context["evidence"], "context.evidence"),
            None => ("evidence", &columns["evidence"], "evidence"),
        };
        let kept = list.as_array().unwrap();
        assert!((25..40).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().all(|kept| evidence.contains(kept)));
        let left_out = json!({path: 40 - kept.len()});
        assert_eq!(
            columns["truncatedFields"],
            json!([name, {"leftOut": left_out}])
        );
    }
}

#[test]
fn members_that_no_column_takes_keep_what_fits_as_well() {
    let list: Vec<Value> = (0..100)
        .map(|at| json!({"at": at, "text": "x".repeat(1_000)}))
        .collect();
    let record = json!({"id": "da1", "more": {"list": list}, "small": 1});
    let row = row_of(&ALERTS, &record.to_string(), Enriched::default(), false);
    let columns = checked(&ALERTS, &row);
    let rest = &columns["additionalFields"];
    let kept = rest["more"]["list"].as_array().unwrap().len();
    assert!(kept > 50 && rest["small"] == 1, "{kept}");
    let left_out = json!({"additionalFields.more.list": 100 - kept});
    assert_eq!(
        columns["truncatedFields"],
        json!(["additionalFields", {"leftOut": left_out}])
    );
}

#[test]
fn a_row_of_a_created_process_tells_of_that_one_and_has_the_other_in_its_context() {
    let record = json!({
        "Timestamp": "2026-01-04T14:15:10.4684522Z", "DeviceId": "d1", "DeviceName": "pc-1.example",
        "ActionType": "ProcessCreated", "ReportId": 1, "FileName": "child.exe",
        "FolderPath": "C:\\dir\\child.exe", "SHA1": "aa", "ProcessCommandLine": "child.exe --x",
        "AccountDomain": "EXAMPLE", "AccountName": "ann",
        "InitiatingProcessFolderPath": "c:\\dir\\parent.exe",
        "InitiatingProcessCommandLine": "parent.exe",
    });
    let columns = hunted("DeviceProcessEvents", &record);
    assert_says(
        &columns,
        &json!({
            "processPath": "C:\\dir\\child.exe",
            "processCommandline": "child.exe --x",
            "objectName": "C:\\dir\\child.exe",
            "userNameBase": "EXAMPLE\\ann",
            "context": {
                "InitiatingProcessFolderPath": "c:\\dir\\parent.exe",
                "InitiatingProcessCommandLine": "parent.exe",
            },
        }),
    );
    // Without its own command line it is still not the parent's.
    let record = json!({
        "FileName": "child.exe", "FolderPath": "C:\\dir",
        "InitiatingProcessFolderPath": "c:\\dir\\parent.exe", "InitiatingProcessCommandLine": "parent.exe",
        "InitiatingProcessAccountUpn": "ben@example.com",
    });
    assert_says(
        &hunted("DeviceProcessEvents", &record),
        &json!({
            "processPath": "C:\\dir\\child.exe",
            "processCommandline": null,
            "userNameBase": "ben@example.com",
        }),
    );
}

#[test]
fn an_event_names_the_process_that_did_it_where_there_is_no_other() {
    let record = |more: Value| {
        let mut record = json!({
            "DeviceId": "d1", "FileName": "x.dll", "FolderPath": "C:\\dir",
            "InitiatingProcessFileName": "parent.exe",
            "InitiatingProcessFolderPath": "c:\\dir",
            "InitiatingProcessCommandLine": "parent.exe -y",
        });
        record
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        record
    };
    assert_says(
        &hunted("DeviceEvents", &record(json!({}))),
        &json!({
            "processPath": "c:\\dir\\parent.exe",
            "processCommandline": "parent.exe -y",
            "objectName": "C:\\dir\\x.dll",
        }),
    );
    let other = record(json!({"ProcessCommandLine": "x.dll -z"}));
    assert_says(
        &hunted("DeviceEvents", &other),
        &json!({
            "processPath": "C:\\dir\\x.dll",
            "processCommandline": "x.dll -z",
        }),
    );
    assert_says(
        &hunted("DeviceImageLoadEvents", &record(json!({}))),
        &json!({
            "processPath": "c:\\dir\\parent.exe",
            "processCommandline": "parent.exe -y",
            "objectName": "C:\\dir\\x.dll",
        }),
    );
}

#[test]
fn a_row_of_a_connection_has_both_ends_and_the_user_of_the_process() {
    let record = json!({
        "Timestamp": "2026-01-04T14:05:32.3148625Z", "DeviceId": "d1", "ReportId": 2,
        "ActionType": "ConnectionSuccess", "RemoteIP": "203.0.113.9", "RemotePort": 443,
        "LocalIP": "10.1.2.3", "LocalPort": 50000, "Protocol": "Tcp",
        "InitiatingProcessAccountDomain": "EXAMPLE", "InitiatingProcessAccountName": "ann",
        "InitiatingProcessAccountUpn": "ann@example.com",
    });
    let columns = hunted("DeviceNetworkEvents", &record);
    assert_says(
        &columns,
        &json!({
            "networkCommunication": {
                "remoteIpAddress": "203.0.113.9", "remotePort": 443, "localIpAddress": "10.1.2.3",
                "localPort": 50000, "protocolName": "Tcp",
            },
            "userNameBase": "ann@example.com",
        }),
    );
    // The ends of a connection are not there twice.
    assert!(columns["additionalFields"].get("RemoteIP").is_none());
}

#[test]
fn rows_of_mail_clouds_and_identities_say_who_and_where() {
    for (table, record, wanted) in [
        (
            "EmailEvents",
            json!({
                "RecipientEmailAddress": "ann@example.com", "SenderFromAddress": "x@bad.example",
                "SenderIPv4": "198.51.100.7", "Subject": "Invoice", "ThreatTypes": "Phish",
                "DeliveryAction": "Blocked",
            }),
            json!({
                "displayName": "Invoice", "userNameBase": "ann@example.com", "category": "Phish",
                "networkCommunication": {"remoteIpAddress": "198.51.100.7"}, "typeName": "Blocked",
                "objectName": "x@bad.example",
            }),
        ),
        (
            "EmailEvents",
            json!({"SenderIPv6": "2001:db8::7"}),
            json!({"networkCommunication": {"remoteIpAddress": "2001:db8::7"}}),
        ),
        (
            "UrlClickEvents",
            json!({"Url": "https://bad.example/x", "AccountUpn": "ann@example.com", "IPAddress": "203.0.113.4"}),
            json!({
                "objectUrl": "https://bad.example/x", "userNameBase": "ann@example.com",
                "networkCommunication": {"localIpAddress": "203.0.113.4"},
            }),
        ),
        (
            "CloudAppEvents",
            json!({
                "AccountDisplayName": "Ann", "IPAddress": "203.0.113.4", "ObjectName": "plan.xlsx",
                "ObjectType": "File", "ActionType": "FileDownloaded",
            }),
            json!({
                "userNameBase": "Ann", "objectName": "plan.xlsx", "objectTypeName": "File",
                "typeName": "FileDownloaded", "networkCommunication": {"remoteIpAddress": "203.0.113.4"},
            }),
        ),
        (
            "IdentityLogonEvents",
            json!({
                "AccountUpn": "ann@example.com", "AccountName": "ann", "AccountDomain": "example.com",
                "IPAddress": "10.0.0.4", "Port": 50001, "DestinationIPAddress": "10.0.0.9",
                "DestinationPort": 88, "Protocol": "Kerberos",
            }),
            json!({
                "userNameBase": "ann@example.com",
                "networkCommunication": {
                    "remoteIpAddress": "10.0.0.9", "remotePort": 88, "localIpAddress": "10.0.0.4",
                    "localPort": 50001, "protocolName": "Kerberos",
                },
            }),
        ),
        (
            "DeviceLogonEvents",
            json!({"AccountDomain": "EXAMPLE", "AccountName": "ann", "RemoteIP": "203.0.113.9"}),
            json!({
                "userNameBase": "EXAMPLE\\ann",
                "networkCommunication": {"remoteIpAddress": "203.0.113.9"},
            }),
        ),
        (
            "DeviceRegistryEvents",
            json!({"RegistryKey": "HKEY_LOCAL_MACHINE\\Run", "RegistryValueName": "start"}),
            json!({"objectName": "HKEY_LOCAL_MACHINE\\Run\\start"}),
        ),
    ] {
        assert_says(&hunted(table, &record), &wanted);
    }
}

#[test]
fn a_file_of_the_export_fills_the_columns_of_the_system_in_a_table_of_its_own() {
    let record = json!({
        "Id": "m1_vendor_kernel_1_CVE-2026-0001", "DeviceId": "m1", "CveId": "CVE-2026-0001",
        "OSArchitecture": "x64", "OSPlatform": "Linux", "OSVersion": "enterprise_linux_9.4",
        "EventTimestamp": "2026-10-06 12:00:00",
    });
    let layout = Layout::own(&SOFTWARE_VULNERABILITIES);
    let columns = columns_in(&SOFTWARE_VULNERABILITIES, &layout, &record);
    assert_says(
        &columns,
        &json!({
            "osPlatform": "Linux", "osVersion": "enterprise_linux_9.4", "osArchitecture": "x64",
            "additionalFields": {"@from": "capitals"},
        }),
    );
}

#[test]
fn an_alert_of_defender_for_endpoint_names_its_user_with_the_domain_or_better() {
    let alert = |evidence: Value| {
        json!({
            "id": "a1",
            "relatedUser": {"domainName": "EXAMPLE", "userName": "ann"},
            "evidence": evidence,
        })
    };
    let ann = json!({
        "entityType": "User", "userPrincipalName": "ann@example.com", "accountName": "Ann",
    });
    let ben = json!({
        "entityType": "User", "userPrincipalName": "ben@example.com", "accountName": "ben",
    });
    for (evidence, user) in [
        (json!([ben, ann]), "ann@example.com"),
        // The evidence tells of somebody else.
        (json!([ben]), "EXAMPLE\\ann"),
        (json!([]), "EXAMPLE\\ann"),
    ] {
        let mut alert = alert(evidence);
        if alert["evidence"] == json!([]) {
            alert.as_object_mut().unwrap().remove("evidence");
        }
        let columns = columns_of(&MDE_ALERTS, &alert);
        assert_eq!(columns["userNameBase"], user);
    }
}

#[test]
fn the_evidence_of_a_mail_gives_user_sender_address_and_url() {
    let alert = json!({
        "id": "o1",
        "createdDateTime": "2026-06-25T08:00:00Z",
        "evidence": [
            {
                "@odata.type": "#microsoft.graph.security.analyzedMessageEvidence",
                "recipientEmailAddress": "ann@example.com",
                "p2Sender": {"emailAddress": "x@bad.example"},
                "senderIp": "198.51.100.7",
                "urls": ["https://bad.example/x"],
            },
            {
                "@odata.type": "#microsoft.graph.security.mailboxEvidence",
                "primaryAddress": "ben@example.com",
                "upn": "None",
            },
        ],
    });
    assert_says(
        &columns_of(&ALERTS, &alert),
        &json!({
            "userNameBase": "ben@example.com",
            "networkCommunication": {"remoteIpAddress": "198.51.100.7"},
            "objectUrl": "https://bad.example/x",
            "objectName": "x@bad.example",
            "objectTypeName": "Email",
            // When nothing says when it happened first.
            "occurTime": "2026-06-25T08:00:00Z",
        }),
    );
}

#[test]
fn what_stands_for_no_value_fills_no_column() {
    for none in ["nil", "None", "null", "0"] {
        let record =
            json!({"uuid": "d1", "typeName": none, "objectName": none, "displayName": "x"});
        let columns = columns_of(&DETECTIONS, &record);
        assert_says(
            &columns,
            &json!({"typeName": null, "objectName": null, "displayName": "x"}),
        );
        let record = json!({"RemoteIP": none, "RemotePort": 443, "AccountName": "ann", "AccountDomain": none});
        assert_says(
            &hunted("DeviceLogonEvents", &record),
            &json!({
                "networkCommunication": {"remotePort": 443},
                "userNameBase": "ann",
            }),
        );
        // A table of its own holds what its source says.
        let layout = Layout::own(&DEFENDER_INCIDENTS);
        let record = json!({"id": "7", "classification": none});
        let columns = columns_in(&DEFENDER_INCIDENTS, &layout, &record);
        assert_says(&columns, &json!({"classification": none}));
    }
}

#[test]
fn versions_sort_as_the_times_that_they_are() {
    let version = |time: &str| {
        let columns = columns_of(&ALERTS, &json!({"id": "a", "lastUpdateDateTime": time}));
        columns["recordVersion"].as_str().unwrap().to_owned()
    };
    let versions = [
        "2026-01-26T20:33:59Z",
        "2026-01-26T20:33:59.2Z",
        "2026-01-26T20:33:59.25Z",
        "2026-01-26T20:33:59.2500001Z",
        "2026-01-26T20:34:00Z",
    ];
    let versions = versions.map(version);
    assert!(versions.is_sorted(), "{versions:?}");
    assert_eq!(versions[1], "2026-01-26T20:33:59.2000000Z");
    assert_eq!(
        version("2026-01-26T20:33:59.123456789Z"),
        "2026-01-26T20:33:59.1234567Z"
    );
    assert_eq!(version("a version"), "a version");
    let record = json!({"id": "s", "eventTimestamp": "2020-11-03 10:13:34.84", "status": "New"});
    let columns = columns_of(&SOFTWARE_VULNERABILITIES, &record);
    assert_eq!(columns["recordVersion"], "2020-11-03T10:13:34.8400000Z|New");
}

#[test]
fn tags_of_an_incident_are_its_own_and_those_of_the_system_each_once() {
    let tags = |custom: Value, system: Value| {
        let mut record = json!({"id": "7"});
        for (name, list) in [("customTags", custom), ("systemTags", system)] {
            if list != json!([]) {
                record[name] = list;
            }
        }
        let columns = columns_of(&DEFENDER_INCIDENTS, &record);
        let part = |name: &str| columns.get(name).cloned().unwrap_or_default();
        (part("tags"), part("additionalFields"))
    };
    let (all, rest) = tags(
        json!(["Demo", "", "Both"]),
        json!(["Defender Experts", "Both", "nil"]),
    );
    assert_eq!(all, json!(["Demo", "Both", "Defender Experts"]));
    assert_eq!(
        rest,
        json!({
            "customTags": ["Demo", "", "Both"],
            "systemTags": ["Defender Experts", "Both", "nil"],
        })
    );
    // One that says all of it is not kept twice.
    assert_eq!(
        tags(json!(["Demo"]), json!([])),
        (json!(["Demo"]), json!(null))
    );
    assert_eq!(
        tags(json!([]), json!(["Experts"])),
        (json!(["Experts"]), json!({FROM: {"tags": "systemTags"}}))
    );
    let (all, rest) = tags(json!(["None"]), json!(["Experts"]));
    assert_eq!(all, json!(["Experts"]));
    assert_eq!(rest["customTags"], json!(["None"]));
    let (all, rest) = tags(json!([""]), json!(["nil"]));
    assert_eq!(all, json!(null));
    assert_eq!(rest, json!({"customTags": [""], "systemTags": ["nil"]}));
}

/// The endpoint of a stream; of one that two APIs have, by the path of its list.
fn endpoint_of(stream: &str, path: &Value) -> &'static Endpoint {
    let table = stream.strip_prefix("defender.hunting.");
    if let Some(table) = table.and_then(hunting::table) {
        return &table.endpoint;
    }
    let is_it =
        |one: &&&Endpoint| one.is_named(stream) && (path.is_null() || path == one.list.path);
    ENDPOINTS.iter().chain(&STREAMS).find(is_it).unwrap()
}

/// The row of a case, but for the time of sending; nothing, when its record is left out by default.
fn row_of_case(case: &Value) -> Value {
    let (stream, record) = (case["stream"].as_str().unwrap(), &case["record"]);
    let endpoint = endpoint_of(stream, &case["path"]);
    let text = record.to_string();
    let members = JsonObject::of(text.as_bytes()).unwrap();
    let by_default = endpoint.filters.iter();
    let by_default = by_default.filter(|(choices, _)| *choices == [WITHOUT_SENTINEL]);
    let filters: Vec<_> = by_default.map(|(_, filter)| filter.clone()).collect();
    if decide(&filters, &members) == Decision::Drop {
        return Value::Null;
    }
    let layout = if case["own"] == true {
        Layout::own(endpoint)
    } else {
        Layout::shared(endpoint)
    };
    let row = row_in(endpoint, &layout, &text, Enriched::default(), false);
    let mut columns = checked_in(&layout, &row);
    let restored = restore(&columns, layout.rules);
    assert_eq!(pruned(restored), pruned(record.clone()));
    columns.remove("TimeGenerated");
    columns.remove("batchId");
    columns.into()
}

/// The parsers of `sentinel/` are tested over these rows.
#[test]
fn records_that_once_fell_short_become_the_rows_of_the_fixture() {
    let cases = include_str!("../../../tests/fixtures/cases.json");
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let rows: Vec<Value> = cases.iter().map(row_of_case).collect();
    let kept: Vec<Value> = cases.iter().map(|case| case["row"].clone()).collect();
    assert_eq!(rows, kept, "{}", Value::from(rows.clone()));
}
