use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, de::MapAccess};
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    core::{
        json::{chunk::Chunk, time::parse_time},
        mapping::{
            columns::Type,
            rule::{As, To},
            shorten::length,
        },
    },
    source::{
        defender::VULNERABILITIES,
        eset::{CLOUD_OFFICE, DETECTIONS, INCIDENTS},
    },
};

#[path = "row_case_tests.rs"]
mod cases;

#[path = "row_pick_tests.rs"]
mod picks;

#[path = "row_property_tests.rs"]
mod properties;

/// The members of an object in their order, repeats and all.
struct Pairs(Vec<(String, Box<serde_json::value::RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

const NOW: &str = "2026-03-05T12:00:00Z";

fn row_of(endpoint: &Endpoint, record: &str, looked: Enriched<'_>, event_time: bool) -> Row {
    row_in(
        endpoint,
        &Layout::shared(endpoint),
        record,
        looked,
        event_time,
    )
}

fn row_in(
    endpoint: &Endpoint,
    layout: &Layout,
    record: &str,
    looked: Enriched<'_>,
    event_time: bool,
) -> Row {
    let members = JsonObject::of(record.as_bytes()).unwrap();
    let facts = RecordMeta::of(&members, &endpoint.identity);
    RowSource::new(endpoint, layout, "default", event_time).row(&members, &facts, looked, at(NOW))
}

/// What every row keeps, whatever the record; gives back the row.
fn checked(endpoint: &Endpoint, row: &Row) -> Map<String, Value> {
    checked_in(&Layout::shared(endpoint), row)
}

fn checked_in(layout: &Layout, row: &Row) -> Map<String, Value> {
    assert!(row.json.starts_with(ROW_HEAD.as_bytes()) && row.json.ends_with(ROW_TAIL.as_bytes()));
    assert!(row.json.len() <= MAX_ROW_BYTES, "{} bytes", row.json.len());
    let Pairs(pairs) = serde_json::from_slice(&row.json).expect("a JSON object");
    let mut columns = Map::new();
    for (name, json) in pairs {
        let column = layout
            .column(&name)
            .unwrap_or_else(|| panic!("the table has no `{name}`"));
        assert!(length(json.get()) <= MAX_VALUE_BYTES, "{name} is too long");
        let value: Value = serde_json::from_str(json.get()).unwrap();
        let fits = match column.kind {
            Type::String => value.is_string(),
            Type::Int => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Type::Long => value.is_i64(),
            Type::Real => value.is_number(),
            Type::Boolean => value.is_boolean(),
            Type::Datetime => value.as_str().is_some_and(|text| {
                text.ends_with('Z') && text.len() <= 28 && parse_time(text).is_some()
            }),
            Type::Dynamic => !value.is_null(),
        };
        assert!(fits, "`{name}` is no {}: {value}", column.kind.name());
        if name == "additionalFields" {
            let Pairs(rest) = serde_json::from_str(json.get()).unwrap();
            let count = rest.len();
            let names: Map<String, Value> = rest
                .into_iter()
                .map(|(key, _)| (key, Value::Null))
                .collect();
            assert_eq!(names.len(), count, "a member is twice in {json}");
        }
        assert!(
            columns.insert(name.clone(), value).is_none(),
            "{name} twice"
        );
    }
    columns
}

/// A row with one column a line.
fn lines(endpoint: &Endpoint, record: &Value, looked: Enriched<'_>) -> String {
    let row = row_of(endpoint, &record.to_string(), looked, false);
    checked(endpoint, &row);
    let Pairs(pairs) = serde_json::from_slice(&row.json).unwrap();
    pairs.iter().fold(String::new(), |mut lines, (name, json)| {
        writeln!(lines, "{name} = {json}").unwrap();
        lines
    })
}

fn v1() -> Value {
    json!({
        "uuid": "0b6c1c1e-0000-4000-8000-000000000001",
        "category": "DETECTION_CATEGORY_ANTIVIRUS",
        "context": {
            "circumstances": "Event occurred on a file that was modified.",
            "deviceUuid": "d1000000-0000-4000-8000-000000000001",
            "process": {"path": "C:\\Tools\\unpack.exe"},
            "userName": "LAB\\tester",
        },
        "displayName": "Eicar",
        "networkCommunication": null,
        "objectHashSha1": "3395856CE81F2B7382DEE72602F798B642F14140",
        "objectName": "file:///C:/Temp/eicar.com",
        "objectTypeName": "File",
        "objectUrl": "",
        "occurTime": "2026-03-05T11:58:12.5Z",
        "responses": [{"displayName": "Cleaned", "description": "", "deviceRestartRequired": false}],
        "severityLevel": "SEVERITY_LEVEL_MEDIUM",
        "typeName": "Test file",
        "newMember": [1, null],
    })
}

fn v2() -> Value {
    json!({
        "uuid": "0b6c1c1e-0000-4000-8000-000000000002",
        "category": "DETECTION_CATEGORY_ANTIVIRUS",
        "circumstances": "A message was scanned.",
        "cloudOfficeTenantUuid": "c0000000-0000-4000-8000-000000000001",
        "device": {"uuid": "d1000000-0000-4000-8000-000000000002", "displayName": "mx-lab"},
        "displayName": "HTML/Sample.A",
        "email": {"subject": "Sample", "to": "lab@example.org", "cc": ""},
        "networkTraffic": {"protocolKeyword": "TCP", "remoteIpAddress": "192.0.2.7", "remotePort": 443},
        "objectSizeBytes": "4096",
        "occurTime": "2026-03-05T11:58:12Z",
        "process": {"path": "/usr/bin/scan", "commandLine": "scan -q", "uuid": "", "pid": 7},
        "resolved": false,
        "severityScore": 55,
        "userName": "lab",
    })
}

#[test]
fn a_v1_detection() {
    insta::assert_snapshot!(lines(&DETECTIONS, &v1(), Enriched::default()), @r#"
    TimeGenerated = "0001-01-01T00:00:00.000Z"
    detectionUuid = "0b6c1c1e-0000-4000-8000-000000000001"
    typeName = "Test file"
    objectName = "file:///C:/Temp/eicar.com"
    objectTypeName = "File"
    objectHashSha1 = "3395856CE81F2B7382DEE72602F798B642F14140"
    occurTime = "2026-03-05T11:58:12.5Z"
    displayName = "Eicar"
    responses = [{"description":"","deviceRestartRequired":false,"displayName":"Cleaned"}]
    severityLevel = "SEVERITY_LEVEL_MEDIUM"
    category = "DETECTION_CATEGORY_ANTIVIRUS"
    deviceUuid = "d1000000-0000-4000-8000-000000000001"
    userNameBase = "LAB\\tester"
    processPath = "C:\\Tools\\unpack.exe"
    context = {"circumstances":"Event occurred on a file that was modified."}
    additionalFields = {"newMember":[1,null]}
    groupSize = 1
    providerName = "ESET"
    connectionName = "default"
    streamName = "eset.detections"
    recordId = "0b6c1c1e-0000-4000-8000-000000000001"
    recordVersion = "db72c3ac95fd168c"
    eventTime = "2026-03-05T11:58:12.500Z"
    batchId = "0000000000000000"
    "#);
}

#[test]
fn a_v1_detection_with_details_pays_for_nothing_twice() {
    let details = json!({
        "uuid": "0b6c1c1e-0000-4000-8000-000000000001",
        "category": "DETECTION_CATEGORY_ANTIVIRUS",
        "circumstances": "Event occurred on a file that was modified.",
        "device": {"uuid": "d1000000-0000-4000-8000-000000000001", "displayName": "ws-17"},
        "edrRuleUuid": "e0000000-0000-4000-8000-000000000009",
        "objectName": "file:///C:/Temp/eicar.com",
        "occurTime": "2026-03-05T11:58:12.5Z",
        "process": {"path": "C:\\Tools\\unpack.exe", "commandLine": "unpack a.zip", "uuid": "p-1"},
        "resolved": true,
        "responses": [{"displayName": "Cleaned", "actionType": "OBJECT_ACTION_TYPE_CLEAN"}],
        "severityScore": 55,
        "triggeringEvent": {"type": "TRIGGERING_EVENT_TYPE_FILE_RENAMED", "data": {"a": 1}},
        "userName": "LAB\\tester",
    })
    .to_string();
    let details = JsonObject::of(details.as_bytes()).unwrap();
    let looked = Enriched {
        details: Some(&details),
        device_name: Some("not asked for"),
    };
    insta::assert_snapshot!(lines(&DETECTIONS, &v1(), looked), @r#"
    TimeGenerated = "0001-01-01T00:00:00.000Z"
    detectionUuid = "0b6c1c1e-0000-4000-8000-000000000001"
    typeName = "Test file"
    objectName = "file:///C:/Temp/eicar.com"
    objectTypeName = "File"
    objectHashSha1 = "3395856CE81F2B7382DEE72602F798B642F14140"
    occurTime = "2026-03-05T11:58:12.5Z"
    displayName = "Eicar"
    responses = [{"description":"","deviceRestartRequired":false,"displayName":"Cleaned"}]
    severityLevel = "SEVERITY_LEVEL_MEDIUM"
    category = "DETECTION_CATEGORY_ANTIVIRUS"
    deviceUuid = "d1000000-0000-4000-8000-000000000001"
    userNameBase = "LAB\\tester"
    processPath = "C:\\Tools\\unpack.exe"
    context = {"circumstances":"Event occurred on a file that was modified."}
    severityScore = "55"
    edrRuleUuid = "e0000000-0000-4000-8000-000000000009"
    resolved = true
    triggeringEvent = {"data":{"a":1},"type":"TRIGGERING_EVENT_TYPE_FILE_RENAMED"}
    deviceDisplayName = "ws-17"
    processUuid = "p-1"
    processCommandline = "unpack a.zip"
    additionalFields = {"newMember":[1,null],"@details":{"responses":[{"actionType":"OBJECT_ACTION_TYPE_CLEAN","displayName":"Cleaned"}]},"@from":{"@details":["severityScore","edrRuleUuid","resolved","triggeringEvent","deviceDisplayName"]}}
    groupSize = 1
    providerName = "ESET"
    connectionName = "default"
    streamName = "eset.detections"
    recordId = "0b6c1c1e-0000-4000-8000-000000000001"
    recordVersion = "db72c3ac95fd168c"
    eventTime = "2026-03-05T11:58:12.500Z"
    batchId = "0000000000000000"
    "#);
}

#[test]
fn a_v2_detection_with_email_and_traffic() {
    insta::assert_snapshot!(lines(&CLOUD_OFFICE, &v2(), Enriched::default()), @r#"
    TimeGenerated = "0001-01-01T00:00:00.000Z"
    detectionUuid = "0b6c1c1e-0000-4000-8000-000000000002"
    objectSizeBytes = 4096
    occurTime = "2026-03-05T11:58:12Z"
    displayName = "HTML/Sample.A"
    severityScore = "55"
    category = "DETECTION_CATEGORY_ANTIVIRUS"
    resolved = false
    cloudOfficeTenantUuid = "c0000000-0000-4000-8000-000000000001"
    networkCommunication = {"protocolName":"TCP","remoteIpAddress":"192.0.2.7","remotePort":443}
    context = {"circumstances":"A message was scanned."}
    userNameBase = "lab"
    deviceUuid = "d1000000-0000-4000-8000-000000000002"
    deviceDisplayName = "mx-lab"
    processPath = "/usr/bin/scan"
    processCommandline = "scan -q"
    additionalFields = {"email":{"cc":"","subject":"Sample","to":"lab@example.org"},"process":{"pid":7}}
    groupSize = 1
    providerName = "ESET"
    connectionName = "default"
    streamName = "eset.cloud-office"
    recordId = "0b6c1c1e-0000-4000-8000-000000000002"
    recordVersion = "f3edfd3d1404a8d5"
    eventTime = "2026-03-05T11:58:12Z"
    batchId = "0000000000000000"
    "#);
}

#[test]
fn an_incident_with_what_the_list_leaves_out() {
    let incident = json!({
        "uuid": "1c000000-0000-4000-8000-000000000001",
        "assigneeUuid": "",
        "createTime": "2026-03-05T10:00:00.123456789Z",
        "description": "Made in a laboratory",
        "displayName": "Sample incident",
        "metrics": {"deviceCount": 2, "executableCount": 0, "processCount": 1},
        "resolveReason": "INCIDENT_RESOLVE_REASON_UNSPECIFIED",
        "responseDuration": "120s",
        "severity": "INCIDENT_SEVERITY_LEVEL_HIGH",
        "status": "INCIDENT_STATUS_OPEN",
        "tags": [],
        "triageDuration": "60s",
        "updateTime": "2026-03-05T11:00:00Z",
    });
    let mut details = incident.clone();
    details["detectionUuids"] = json!(["0b6c1c1e-0000-4000-8000-000000000001"]);
    details["deviceUuids"] = json!(["d1000000-0000-4000-8000-000000000001"]);
    let details = details.to_string();
    let details = JsonObject::of(details.as_bytes()).unwrap();
    let looked = Enriched {
        details: Some(&details),
        device_name: None,
    };
    insta::assert_snapshot!(lines(&INCIDENTS, &incident, looked), @r#"
    TimeGenerated = "0001-01-01T00:00:00.000Z"
    uuid = "1c000000-0000-4000-8000-000000000001"
    displayName = "Sample incident"
    description = "Made in a laboratory"
    severity = "INCIDENT_SEVERITY_LEVEL_HIGH"
    triageDuration = "60s"
    status = "INCIDENT_STATUS_OPEN"
    createTime = "2026-03-05T10:00:00.1234567Z"
    updateTime = "2026-03-05T11:00:00Z"
    resolveReason = "INCIDENT_RESOLVE_REASON_UNSPECIFIED"
    metrics = {"deviceCount":2,"executableCount":0,"processCount":1}
    detectionUuids = ["0b6c1c1e-0000-4000-8000-000000000001"]
    deviceUuids = ["d1000000-0000-4000-8000-000000000001"]
    additionalFields = {"createTime":"2026-03-05T10:00:00.123456789Z","responseDuration":"120s","@from":{"@details":["detectionUuids","deviceUuids"]}}
    providerName = "ESET"
    connectionName = "default"
    streamName = "eset.incidents"
    recordId = "1c000000-0000-4000-8000-000000000001"
    recordVersion = "2026-03-05T11:00:00.0000000Z"
    eventTime = "2026-03-05T11:00:00Z"
    batchId = "0000000000000000"
    "#);
}

#[test]
fn a_device_of_its_own_wins_over_the_contexts() {
    let record = json!({
        "uuid": "u",
        "device": {"uuid": "own", "displayName": "name"},
        "context": {"deviceUuid": "context's", "userName": "inner"},
        "userName": "outer",
        "@from": "theirs",
        "@@details": 1,
    });
    insta::assert_snapshot!(lines(&DETECTIONS, &record, Enriched::default()), @r#"
    TimeGenerated = "0001-01-01T00:00:00.000Z"
    detectionUuid = "u"
    deviceUuid = "own"
    deviceDisplayName = "name"
    userNameBase = "inner"
    context = {"deviceUuid":"context's"}
    additionalFields = {"@@@details":1,"@@from":"theirs","userName":"outer","@from":{"deviceUuid":"device.uuid"}}
    groupSize = 1
    providerName = "ESET"
    connectionName = "default"
    streamName = "eset.detections"
    recordId = "u"
    recordVersion = "83101f21fb5298b7"
    batchId = "0000000000000000"
    "#);
}

#[test]
fn a_value_over_64_kb_is_cut_and_named() {
    let long = "é".repeat(40_000);
    let mut record = v2();
    record["objectName"] = json!(long);
    record["triggeringEvent"] = json!({"small": 1, "large": long});
    record["unknown"] = json!([long, "kept"]);
    record["alone"] = json!(2);
    let row = row_of(
        &CLOUD_OFFICE,
        &record.to_string(),
        Enriched::default(),
        false,
    );
    assert!(row.shortened);
    let columns = checked(&CLOUD_OFFICE, &row);
    let left_out = json!({"triggeringEvent": 1, "additionalFields.unknown": 1});
    let cut = json!(["objectName", "triggeringEvent", "additionalFields", {"leftOut": left_out}]);
    assert_eq!(columns["truncatedFields"], cut);
    assert_eq!(
        columns["objectName"],
        json!("é".repeat(MAX_VALUE_BYTES / 2))
    );
    assert_eq!(columns["triggeringEvent"], json!({"small": 1}));
    assert_eq!(columns["additionalFields"]["alone"], 2);
    assert_eq!(columns["additionalFields"]["unknown"], json!(["kept"]));
    assert_eq!(columns["displayName"], "HTML/Sample.A");
}

#[test]
fn the_limit_of_a_value_is_exact() {
    let mut record = v1();
    record["objectName"] = json!("x".repeat(MAX_VALUE_BYTES));
    assert!(!row_of(&DETECTIONS, &record.to_string(), Enriched::default(), false).shortened);
    record["objectName"] = json!("x".repeat(MAX_VALUE_BYTES + 1));
    assert!(row_of(&DETECTIONS, &record.to_string(), Enriched::default(), false).shortened);
}

#[test]
fn a_record_of_many_long_values_fits_a_row() {
    let plain = "x".repeat(MAX_VALUE_BYTES);
    let escaped = "\u{1}\"".repeat(20_000);
    for (endpoint, sample, long) in [(&DETECTIONS, v1(), &plain), (&CLOUD_OFFICE, v2(), &escaped)] {
        let mut record = sample.clone();
        for rule in endpoint.rules {
            record[rule.member] = match rule.to {
                To::Column(_, As::Renamed(_)) => json!({"a": long}),
                To::Column(..) => json!(long),
                To::JsonObject { rules, .. } => rules
                    .iter()
                    .map(|rule| (rule.member.to_owned(), json!(long)))
                    .collect::<Map<_, _>>()
                    .into(),
            };
        }
        assert!(record.to_string().len() > MAX_ROW_BYTES);
        let row = row_of(endpoint, &record.to_string(), Enriched::default(), false);
        assert!(row.shortened);
        checked(endpoint, &row);
    }
}

#[test]
fn a_record_of_any_depth_has_a_row() {
    let deep = format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000));
    let record = format!(r#"{{"uuid":"u","responses":{deep},"unknown":{deep}}}"#);
    let row = row_of(&DETECTIONS, &record, Enriched::default(), false);
    let Pairs(pairs) = serde_json::from_slice(&row.json).unwrap();
    let responses = pairs.iter().find(|(name, _)| name == "responses").unwrap();
    assert_eq!(responses.1.get(), deep);
}

#[test]
fn the_time_of_a_row_is_the_events_only_where_the_service_takes_it() {
    let generated = |event_time: bool, occurred: &str| {
        let record = json!({"uuid": "u", "occurTime": occurred}).to_string();
        let row = row_of(&DETECTIONS, &record, Enriched::default(), event_time);
        checked(&DETECTIONS, &row)["TimeGenerated"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let now = "2026-03-05T12:00:00.000Z";
    assert_eq!(generated(false, "2026-03-05T11:00:00Z"), UNSTAMPED);
    assert_eq!(
        generated(true, "2026-03-05T11:00:00.1239Z"),
        "2026-03-05T11:00:00.123Z"
    );
    assert_eq!(
        generated(true, "2026-03-03T12:00:01Z"),
        "2026-03-03T12:00:01.000Z"
    );
    assert_eq!(generated(true, "2026-03-03T12:00:00Z"), now);
    assert_eq!(
        generated(true, "2026-03-06T11:59:59Z"),
        "2026-03-06T11:59:59.000Z"
    );
    assert_eq!(generated(true, "2026-03-06T12:00:00Z"), now);
    assert_eq!(generated(true, "soon"), now);
}

#[test]
fn a_health_row_is_a_row_of_the_detections_table() {
    let fields = json!({"run": {"landed": 3}}).to_string();
    let facts = RecordMeta {
        id: "id".to_owned(),
        version: "id".to_owned(),
        time: Some(at(NOW)),
    };
    let json = own_row("p\"", &StreamKey::new("c", "s"), &facts, &fields, at(NOW));
    let row = Row {
        json,
        shortened: false,
    };
    let columns = checked(&DETECTIONS, &row);
    assert_eq!(columns["additionalFields"], json!({"run": {"landed": 3}}));
    assert_eq!(
        (&columns["providerName"], &columns["recordId"]),
        (&json!("p\""), &json!("id"))
    );
    assert_eq!(columns["eventTime"], "2026-03-05T12:00:00Z");
}

#[test]
fn records_that_look_alike_and_have_no_id_are_named_one_by_one() {
    let layout = Layout::shared(&VULNERABILITIES);
    let source = RowSource::new(&VULNERABILITIES, &layout, "default", false);
    let records: Vec<String> = (0..4)
        .map(|cve| format!(r#"{{"machineId":"m","cveId":"CVE-2026-{cve}"}}"#))
        .collect();
    let (chunk, mut draft) = (Chunk::of(&records), Draft::default());
    for place in 0..records.len() {
        let members = chunk.members(place).unwrap();
        let facts = RecordMeta::of(&members, &VULNERABILITIES.identity);
        let looked = Enriched::default();
        source.write(&members, &facts, looked, at(NOW), &mut draft);
        let row: Value = serde_json::from_str(&draft.json).unwrap();
        assert_eq!(row["recordId"], facts.id);
    }
}
