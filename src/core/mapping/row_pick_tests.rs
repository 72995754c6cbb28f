//! What the evidence of alerts fills.

use serde_json::json;

use super::*;
use crate::source::defender::{
    ALERTS, ENDPOINTS, INCIDENTS_WITH_ALERTS, MDE_ALERTS, XDR_INCIDENTS,
};

fn graph(kind: &str, mut members: Value) -> Value {
    members["@odata.type"] = json!(format!("#microsoft.graph.security.{kind}"));
    members
}

fn columns_of(endpoint: &Endpoint, record: &Value) -> Map<String, Value> {
    let row = row_of(endpoint, &record.to_string(), Enriched::default(), false);
    let columns = checked(endpoint, &row);
    assert_eq!(&restore(&columns, endpoint.rules), record);
    columns
}

#[test]
fn an_alert_of_graph_with_its_evidence() {
    let alert = json!({
        "id": "da1",
        "title": "A tool was run",
        "severity": "medium",
        "lastUpdateDateTime": "2026-03-05T11:00:00Z",
        "evidence": [
            graph("ipEvidence", json!({"ipAddress": "10.0.0.7"})),
            graph("ipEvidence", json!({"ipAddress": "203.0.113.9"})),
            graph("deviceEvidence", json!({"mdeDeviceId": "m1", "deviceDnsName": "pc-1.example.org"})),
            graph("deviceEvidence", json!({"mdeDeviceId": "m2", "deviceDnsName": "pc-2.example.org"})),
            graph("userEvidence", json!({"userAccount": {"accountName": "SYSTEM", "domainName": "NT AUTHORITY", "userPrincipalName": null}})),
            graph("userEvidence", json!({"userAccount": {"accountName": "ann", "userPrincipalName": "ann@example.org"}})),
            graph("processEvidence", json!({
                "processCommandLine": "tool -x",
                "imageFile": {"sha1": "aa", "fileName": "tool.exe", "filePath": "C:\\Tools"},
            })),
            graph("fileEvidence", json!({
                "fileDetails": {"sha1": "bb", "fileName": "x.dll", "filePath": "C:\\Temp", "fileSize": 4096},
            })),
            graph("urlEvidence", json!({"url": "https://example.org/x"})),
        ],
    });
    let row = lines(&ALERTS, &alert, Enriched::default());
    columns_of(&ALERTS, &alert);
    insta::assert_snapshot!(row, @r##"
    TimeGenerated = "0001-01-01T00:00:00.000Z"
    detectionUuid = "da1"
    displayName = "A tool was run"
    severityLevel = "medium"
    context = {"evidence":[{"@odata.type":"#microsoft.graph.security.ipEvidence","ipAddress":"10.0.0.7"},{"@odata.type":"#microsoft.graph.security.ipEvidence","ipAddress":"203.0.113.9"},{"@odata.type":"#microsoft.graph.security.deviceEvidence","deviceDnsName":"pc-1.example.org","mdeDeviceId":"m1"},{"@odata.type":"#microsoft.graph.security.deviceEvidence","deviceDnsName":"pc-2.example.org","mdeDeviceId":"m2"},{"@odata.type":"#microsoft.graph.security.userEvidence","userAccount":{"accountName":"SYSTEM","domainName":"NT AUTHORITY","userPrincipalName":null}},{"@odata.type":"#microsoft.graph.security.userEvidence","userAccount":{"accountName":"ann","userPrincipalName":"ann@example.org"}},{"@odata.type":"#microsoft.graph.security.processEvidence","imageFile":{"fileName":"tool.exe","filePath":"C:\\Tools","sha1":"aa"},"processCommandLine":"tool -x"},{"@odata.type":"#microsoft.graph.security.fileEvidence","fileDetails":{"fileName":"x.dll","filePath":"C:\\Temp","fileSize":4096,"sha1":"bb"}},{"@odata.type":"#microsoft.graph.security.urlEvidence","url":"https://example.org/x"}]}
    deviceUuid = "m1"
    deviceDisplayName = "pc-1.example.org"
    userNameBase = "NT AUTHORITY\\SYSTEM"
    processPath = "C:\\Tools\\tool.exe"
    processCommandline = "tool -x"
    objectName = "C:\\Temp\\x.dll"
    objectHashSha1 = "bb"
    objectSizeBytes = 4096
    objectTypeName = "File"
    objectUrl = "https://example.org/x"
    networkCommunication = {"remoteIpAddress":"203.0.113.9"}
    additionalFields = {"lastUpdateDateTime":"2026-03-05T11:00:00Z"}
    providerName = "Microsoft Defender"
    connectionName = "default"
    streamName = "defender.alerts"
    recordId = "da1"
    recordVersion = "2026-03-05T11:00:00.0000000Z"
    eventTime = "2026-03-05T11:00:00Z"
    batchId = "0000000000000000"
    "##);
}

#[test]
fn an_alert_of_defender_for_endpoint_with_its_evidence() {
    let alert = json!({
        "id": "da1",
        "machineId": "m1",
        "computerDnsName": "pc-1",
        "lastUpdateTime": "2026-03-05T11:00:00Z",
        "evidence": [
            {"entityType": "User", "accountName": "ann", "domainName": "LAB", "userPrincipalName": null},
            {"entityType": "Process", "sha1": "aa", "fileName": "tool", "filePath": "/opt", "processCommandLine": "tool -x"},
            {"entityType": "Url", "url": "https://example.org/x"},
            {"entityType": "Ip", "ipAddress": "203.0.113.9"},
        ],
    });
    let row = lines(&MDE_ALERTS, &alert, Enriched::default());
    columns_of(&MDE_ALERTS, &alert);
    insta::assert_snapshot!(row, @r##"
    TimeGenerated = "0001-01-01T00:00:00.000Z"
    detectionUuid = "da1"
    deviceUuid = "m1"
    deviceDisplayName = "pc-1"
    context = {"evidence":[{"accountName":"ann","domainName":"LAB","entityType":"User","userPrincipalName":null},{"entityType":"Process","fileName":"tool","filePath":"/opt","processCommandLine":"tool -x","sha1":"aa"},{"entityType":"Url","url":"https://example.org/x"},{"entityType":"Ip","ipAddress":"203.0.113.9"}]}
    userNameBase = "LAB\\ann"
    processPath = "/opt/tool"
    processCommandline = "tool -x"
    objectName = "/opt/tool"
    objectHashSha1 = "aa"
    objectTypeName = "Process"
    objectUrl = "https://example.org/x"
    networkCommunication = {"remoteIpAddress":"203.0.113.9"}
    additionalFields = {"lastUpdateTime":"2026-03-05T11:00:00Z","@from":{"userNameBase":"evidence"}}
    providerName = "Microsoft Defender"
    connectionName = "default"
    streamName = "defender.alerts"
    recordId = "da1"
    recordVersion = "2026-03-05T11:00:00.0000000Z"
    eventTime = "2026-03-05T11:00:00Z"
    batchId = "0000000000000000"
    "##);
}

#[test]
fn what_the_alert_says_itself_wins_over_its_evidence() {
    let alert = json!({
        "id": "da1",
        "relatedUser": {"userName": "ben"},
        "evidence": [{"entityType": "User", "accountName": "ann"}],
    });
    let columns = columns_of(&MDE_ALERTS, &alert);
    assert_eq!(columns["userNameBase"], "ben");
    assert!(!columns.contains_key("additionalFields"));
}

#[test]
fn columns_of_one_thing_come_from_one_element() {
    let alert = |evidence: Value| columns_of(&ALERTS, &json!({"id": "da1", "evidence": evidence}));
    // The device of the file is perhaps not the one that has a name.
    let columns = alert(json!([
        graph(
            "fileEvidence",
            json!({"mdeDeviceId": "m2", "fileDetails": {"fileName": "x"}})
        ),
        graph("deviceEvidence", json!({"hostName": "pc-1"})),
    ]));
    assert_eq!(columns["deviceDisplayName"], "pc-1");
    assert!(!columns.contains_key("deviceUuid"));
    // Nor is the hash of a process one of the file's.
    let columns = alert(json!([
        graph(
            "processEvidence",
            json!({"imageFile": {"fileName": "tool", "sha1": "aa"}})
        ),
        graph(
            "fileEvidence",
            json!({"fileDetails": {"fileName": "x.dll"}})
        ),
    ]));
    assert_eq!(
        (&columns["objectName"], &columns["objectTypeName"]),
        (&json!("x.dll"), &json!("File"))
    );
    assert!(!columns.contains_key("objectHashSha1"));
    assert_eq!(columns["processPath"], "tool");
}

#[test]
fn evidence_that_says_nothing_fills_nothing() {
    let bare = columns_of(&ALERTS, &json!({"id": "da1"})).len();
    for evidence in [
        json!("text"),
        json!([1, ["a"], {"kind": "fileEvidence"}]),
        // No path without a name, no hash that is none, no type of nothing.
        json!([graph(
            "fileEvidence",
            json!({"fileDetails": {"filePath": "C:\\", "sha1": 5}})
        )]),
        json!([graph("ipEvidence", json!({"ipAddress": "somewhere"}))]),
        json!([graph(
            "userEvidence",
            json!({"userAccount": {"domainName": "LAB"}})
        )]),
        json!([graph(
            "mailboxEvidence",
            json!({"url": "https://example.org", "mdeDeviceId": "m1"})
        )]),
    ] {
        let columns = columns_of(&ALERTS, &json!({"id": "da1", "evidence": evidence}));
        // `context` alone.
        assert_eq!(columns.len(), bare + 1, "{evidence}");
    }
}

#[test]
fn an_incident_names_the_alerts_and_devices_that_come_with_it() {
    let xdr = json!({
        "incidentId": 7,
        "alerts": [
            {"alertId": "da1", "devices": [{"mdatpDeviceId": "m2"}, {"mdatpDeviceId": "m1"}]},
            {"alertId": "da2", "devices": [{"mdatpDeviceId": "m2"}, {"mdatpDeviceId": null}, 5]},
            {"alertId": "da3", "devices": "none"},
        ],
    });
    let graph = json!({
        "id": "7",
        "alerts": [
            {"id": "da1", "evidence": [{"mdeDeviceId": "m2"}, {"mdeDeviceId": "m1"}]},
            {"id": "da2", "evidence": [{"mdeDeviceId": "m2"}, {"url": "https://example.org"}]},
            {"id": "da3"},
        ],
    });
    for (endpoint, record) in [(&XDR_INCIDENTS, xdr), (&INCIDENTS_WITH_ALERTS, graph)] {
        let columns = columns_of(endpoint, &record);
        assert_eq!(columns["detectionUuids"], json!(["da1", "da2", "da3"]));
        assert_eq!(columns["deviceUuids"], json!(["m2", "m1"]));
        assert_eq!(
            columns["additionalFields"],
            json!({"alerts": record["alerts"]})
        );
    }
    let columns = columns_of(&XDR_INCIDENTS, &json!({"incidentId": 7, "alerts": [{}]}));
    assert!(!columns.contains_key("detectionUuids") && !columns.contains_key("deviceUuids"));
}

#[test]
fn each_column_that_is_gathered_is_one_of_its_table_that_no_member_fills() {
    let mut gathers = 0;
    for endpoint in ENDPOINTS {
        for gather in endpoint.collect {
            assert!(endpoint.table.column(gather.column).is_some());
            assert!(!usually_fill(endpoint.rules, gather.column));
            gathers += 1;
        }
    }
    assert_eq!(gathers, 4);
}

#[test]
fn each_column_that_is_picked_is_one_of_its_table() {
    let endpoints = ENDPOINTS
        .iter()
        .filter_map(|one| Some((one, one.from_list?)));
    let mut fills = 0;
    for (endpoint, picks) in endpoints {
        for fill in picks
            .things
            .iter()
            .copied()
            .flatten()
            .flat_map(|kind| kind.fills)
        {
            let column = endpoint.table.column(fill.column);
            assert!(
                column.is_some(),
                "{} has no {}",
                endpoint.stream,
                fill.column
            );
            fills += 1;
        }
    }
    assert!(fills > 20);
}
