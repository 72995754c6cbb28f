//! One detection in the words of v1 and of v2. The two tell the same facts in different shapes,
//! and both leave out what they don't know in every way the contract allows.

use serde_json::{Map, Value, json};

use super::{
    Product,
    company::{Company, DOMAIN},
    facts::{Bulk, Facts},
    ids::{Ids, Kind},
    words,
};
use crate::simulator::dice::Dice;

/// The record of `/v1/detections`.
pub(crate) fn v1(facts: &Facts, uuid: &str, company: &Company) -> Value {
    let mut dice = facts.dice.clone();
    let device = device(facts, company);
    let mut context = json!({
        "circumstances": facts.circumstances,
        "deviceUuid": device.map(|device| device.uuid.as_str()),
        "process": {"path": facts.program},
        "userName": user(facts, company),
    });
    fray(&mut context, &mut dice);
    let mut record = json!({
        "category": facts.category("CORRELATION_RULE"),
        "context": context,
        "displayName": facts.name,
        "networkCommunication": network(facts, company, false),
        "objectHashSha1": facts.dice.clone().hex(20).to_ascii_uppercase(),
        "objectName": object_name(facts),
        "objectTypeName": facts.scenario.object,
        "objectUrl": facts.object_url,
        "responses": responses(facts, false),
        "severityLevel": facts.severity(),
        "typeName": facts.scenario.type_name,
    });
    fray(&mut record, &mut dice);
    if dice.one_in(150) {
        set(
            &mut record,
            "sensorBuild",
            json!({"channel": "preview", "number": dice.below(9000)}),
        );
    }
    finish(record, facts, uuid)
}

/// The record of the v2 endpoints.
pub(crate) fn v2(facts: &Facts, uuid: &str, company: &Company, ids: Ids) -> Value {
    let mut dice = Dice::new(facts.dice.clone().next(), &[2]);
    let edr = facts.product == Product::Inspect;
    let cloud = facts.product == Product::CloudOffice;
    let mut record = json!({
        "category": facts.category("EDR_RULE"),
        "circumstances": facts.circumstances,
        "cloudOfficeTenantUuid": if cloud { json!(ids.uuid(Kind::Tenant, 0)) } else { json!("") },
        "device": device(facts, company).map(|device| json!({"displayName": device.name, "uuid": device.uuid})),
        "displayName": facts.name,
        "edrRuleUuid": if edr { json!(ids.uuid(Kind::Rule, facts.rule)) } else { json!("") },
        "email": if cloud && facts.scenario.object == "Email" { email(facts, company, ids) } else { Value::Null },
        "file": file(facts, &mut dice),
        "networkTraffic": network(facts, company, true),
        "note": if dice.one_in(15) { words::prose(&mut dice, 90) } else { String::new() },
        "objectHashSha1": facts.dice.clone().hex(20).to_ascii_uppercase(),
        "objectName": object_name(facts),
        "objectSizeBytes": object_size(&mut dice),
        "objectTypeName": facts.scenario.object,
        "objectUrl": facts.object_url,
        "process": if cloud { Value::Null } else { json!({"commandLine": facts.command_line, "path": facts.program, "uuid": ids.uuid(Kind::Process, facts.number)}) },
        "resolved": dice.one_in(4),
        "responses": responses(facts, true),
        "scanUuid": if dice.one_in(9) { json!(ids.uuid(Kind::Group, 5000 + facts.number / 50)) } else { json!("") },
        "severityLevel": facts.severity(),
        "severityScore": facts.score,
        "triggeringEvent": if edr { triggering_event(&mut dice) } else { Value::Null },
        "typeName": facts.scenario.type_name,
        "userName": user(facts, company),
    });
    fray(&mut record, &mut dice);
    if dice.one_in(150) {
        set(
            &mut record,
            "mitreTechniques",
            json!(["T1059", "T1204.002"]),
        );
    }
    finish(record, facts, uuid)
}

fn device<'a>(facts: &Facts, company: &'a Company) -> Option<&'a super::company::Device> {
    if facts.product == Product::CloudOffice {
        return None;
    }
    usize::try_from(facts.device)
        .ok()
        .and_then(|at| company.devices.get(at))
}

fn user(facts: &Facts, company: &Company) -> String {
    let name = usize::try_from(facts.user)
        .ok()
        .and_then(|at| company.users.get(at));
    match (name, facts.number % 6) {
        (_, 0) => "NT AUTHORITY\\SYSTEM".to_owned(),
        (Some(name), 1..=4) => format!("FENNBRIDGE\\{name}"),
        (Some(name), _) => name.clone(),
        (None, _) => String::new(),
    }
}

fn object_name(facts: &Facts) -> String {
    match facts.scenario.object {
        "File" | "Email" => facts
            .object_url
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned(),
        "" => String::new(),
        _ => facts.program.to_owned(),
    }
}

fn object_size(dice: &mut Dice) -> String {
    // An int32 column can't hold every size.
    let size = if dice.one_in(20) {
        dice.range(1 << 31, 1 << 40)
    } else {
        dice.below(9_000_000)
    };
    size.to_string()
}

fn responses(facts: &Facts, v2: bool) -> Value {
    let mut dice = facts.dice.clone();
    let responses: Vec<Value> = (0..dice.below(3))
        .map(|_| response(facts.scenario.protection, v2, &mut dice))
        .collect();
    responses.into()
}

fn response(protection: &str, v2: bool, dice: &mut Dice) -> Value {
    let (action, text) = *dice.pick(&[
        ("DELETE", "Cleaned by deleting"),
        ("TERMINATE", "Connection terminated"),
        ("QUARANTINE", "Moved to quarantine"),
        ("NO_ACTION", "Retained"),
    ]);
    let mut response = json!({
        "description": words::prose(dice, 90),
        "deviceRestartRequired": dice.one_in(10),
        "displayName": text,
        "protectionName": protection,
    });
    if v2 {
        set(
            &mut response,
            "actionType",
            json!(format!("OBJECT_ACTION_TYPE_{action}")),
        );
    }
    response
}

/// A v1 record brought to `length` bytes: by more responses, as far as they fit, then by more words.
/// Nothing when it is longer already.
pub(crate) fn lengthened(mut record: Value, length: usize, dice: &mut Dice) -> Option<Value> {
    if !record["responses"].is_array() {
        record["responses"] = json!([]);
    }
    if !record["context"]["circumstances"].is_string() {
        record["context"] = json!({"circumstances": ""});
    }
    let room = |record: &Value| length.checked_sub(record.to_string().len());
    loop {
        let response = response("Real-time file system protection", false, dice);
        let fits = response.to_string().len() < room(&record)?;
        match record["responses"].as_array_mut() {
            Some(responses) if fits => responses.push(response),
            _ => break,
        }
    }
    let words = words::prose(dice, room(&record)?);
    let text = record["context"]["circumstances"].as_str()?;
    record["context"]["circumstances"] = json!(format!("{text}{words}"));
    Some(record)
}

fn network(facts: &Facts, company: &Company, v2: bool) -> Value {
    let Some(device) = device(facts, company).filter(|_| facts.scenario.network) else {
        return Value::Null;
    };
    let mut dice = facts.dice.clone();
    let prefix = if v2 {
        "NETWORK_TRAFFIC"
    } else {
        "NETWORK_COMMUNICATION"
    };
    let direction = if dice.one_in(3) {
        "INBOUND"
    } else {
        "OUTBOUND"
    };
    let remote = match dice.below(4) {
        0 => format!(
            "2001:db8::{:x}:{:x}",
            dice.below(65_536),
            dice.below(65_536)
        ),
        _ => format!("203.0.113.{}", dice.below(256)),
    };
    let mut traffic = json!({
        "direction": format!("{prefix}_DIRECTION_{direction}"),
        "localIpAddress": device.address,
        "localPort": dice.range(1024, 65_536),
        "remoteIpAddress": remote,
        "remotePort": dice.pick(&[443, 80, 445, 53, 8443]),
    });
    if v2 {
        set(&mut traffic, "protocolKeyword", json!("TCP"));
        set(&mut traffic, "localMacAddress", json!(device.mac));
        set(&mut traffic, "remoteMacAddress", json!(""));
    } else {
        set(&mut traffic, "protocolName", json!("TCP"));
    }
    traffic
}

fn file(facts: &Facts, dice: &mut Dice) -> Value {
    if facts.scenario.object != "File" {
        return Value::Null;
    }
    json!({
        "containedFiles": [],
        "hashSha1": facts.dice.clone().hex(20),
        "hashSha2256": dice.hex(32),
        "isReadOnly": false,
        "lastEditor": null,
        "origin": if facts.product == Product::CloudOffice { "OBJECT_ORIGIN_MS_OFFICE365" } else { "OBJECT_ORIGIN_DEVICE" },
        "path": facts.object_url.replacen("file:///", "", 1),
        "sizeBytes": object_size(dice),
        "storages": [],
    })
}

fn email(facts: &Facts, company: &Company, ids: Ids) -> Value {
    let mut dice = facts.dice.clone();
    let to = format!("{}@{DOMAIN}", dice.pick(&company.users));
    // Long mails are long by their links and headers; no part of a mail has its text.
    let links = match facts.bulk {
        Some((Bulk::CommandLine, length)) => length / 160,
        _ => dice.size(0, 4),
    };
    let part = |dice: &mut Dice, path: &str| {
        json!({
            "hashSha1": dice.hex(20), "hashSha2256": dice.hex(32), "isReadOnly": false,
            "origin": "OBJECT_ORIGIN_MS_OFFICE365", "path": path,
            "sizeBytes": object_size(dice), "containedFiles": [], "storages": [],
        })
    };
    json!({
        "attachments": (0..dice.below(3)).map(|at| part(&mut dice, &format!("scan_{at}.js"))).collect::<Vec<_>>(),
        "bodyParts": [part(&mut dice, "body.html")],
        "cc": "",
        "containedUrls": (0..links).map(|_| words::link(&mut dice, 150)).collect::<Vec<_>>(),
        "from": format!("billing@{}.example", dice.hex(4)),
        "headers": (0..dice.below(4)).map(|at| format!("X-Hop-{at}: {}", dice.hex(16))).collect::<Vec<_>>(),
        "internetMessageId": format!("<{}@mail.example>", dice.hex(12)),
        "isReadOnly": false,
        "mailboxUuid": ids.uuid(Kind::User, facts.user),
        "mailboxUserUuid": ids.uuid(Kind::User, facts.user),
        "mtaSmtpDetails": {"hello": "mail.example", "recipients": [to], "sender": "bounce@mail.example", "senderIpAddress": "192.0.2.25"},
        "origin": "OBJECT_ORIGIN_MS_OFFICE365",
        "senderIpAddress": "192.0.2.25",
        "subject": words::prose(&mut dice, 40),
        "to": to,
        "uuid": ids.uuid(Kind::Mail, facts.number),
    })
}

fn triggering_event(dice: &mut Dice) -> Value {
    let kind = *dice.pick(&[
        "PROCESS_STARTED",
        "FILE_RENAMED",
        "TCP_IP_CONNECTED",
        "DNS_RESOLVED",
        "AMSI_TRIGGERED",
        "UNSPECIFIED",
    ]);
    let data = match kind {
        "DNS_RESOLVED" => {
            json!({"hostName": "cdn.example", "addresses": ["203.0.113.9"], "ttl": dice.below(3600)})
        }
        "UNSPECIFIED" => Value::Null,
        _ => {
            json!({"path": format!("%TEMP%\\{}.dat", dice.hex(5)), "depth": dice.below(9), "signed": dice.one_in(2)})
        }
    };
    json!({"type": format!("TRIGGERING_EVENT_TYPE_{kind}"), "data": data})
}

fn set(record: &mut Value, key: &str, value: Value) {
    if let Value::Object(members) = record {
        members.insert(key.to_owned(), value);
    }
}

/// Takes members away at random, in each of the ways that mean "not known".
fn fray(record: &mut Value, dice: &mut Dice) {
    let Value::Object(members) = record else {
        return;
    };
    let keys: Vec<String> = members.keys().cloned().collect();
    for key in keys {
        let empty = match (dice.below(60), members.get(&key)) {
            (0, _) => {
                members.remove(&key);
                continue;
            }
            (1, _) => Value::Null,
            (2, Some(Value::String(_))) => json!(match key.as_str() {
                "severityLevel" => "SEVERITY_LEVEL_UNSPECIFIED",
                "category" => "DETECTION_CATEGORY_UNSPECIFIED",
                _ => "",
            }),
            (2, Some(Value::Array(_))) => json!([]),
            (2, Some(Value::Object(_))) => json!({}),
            _ => continue,
        };
        members.insert(key, empty);
    }
}

/// Adds what every record has, whatever else it lost.
fn finish(mut record: Value, facts: &Facts, uuid: &str) -> Value {
    if let Value::Object(members) = &mut record {
        let always: Map<String, Value> = Map::from_iter([
            ("uuid".to_owned(), json!(uuid)),
            ("occurTime".to_owned(), json!(facts.occurred.text())),
        ]);
        members.extend(always);
    }
    record
}
