//! What a fault does to an answer that the service has already made.

use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Content, End, Incoming},
    defender,
    dice::Dice,
    kind::Kind,
    options::PageEnd,
    target::Target,
    world::World,
};

/// The members of an answer that hold its records.
const LISTS: [&str; 6] = [
    "createdDetections",
    "detections",
    "incidents",
    "devices",
    "value",
    "results",
];
/// The members that name a record.
const NAMES: [&str; 4] = ["uuid", "id", "incidentId", "cveId"];
const SINGLES: [&str; 3] = ["detection", "incident", "device"];

/// The answer of the service itself to a status that a fault asks for.
pub(crate) fn refusal(target: Target, status: u16, retry_after: Option<u64>) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answer = match target {
        _ if target.is_defender() => defender::refusal(target, status, retry_after),
        Target::EsetToken if status == StatusCode::BAD_REQUEST => {
            Answer::json(status, json!({"error": "invalid_grant"}))
        }
        Target::EntraToken => Answer::json(
            status,
            json!({
                "error": if status.is_client_error() { "invalid_request" } else { "temporarily_unavailable" },
                "error_description": "AADSTS90033: A transient error has occurred. Please try again.",
            }),
        ),
        Target::Identity => Answer::json(
            status,
            json!({"statusCode": status.as_u16(), "message": "An unexpected error occured."}),
        ),
        Target::Ingestion | Target::KeyVault => Answer::json(
            status,
            json!({
                "error": {"code": code(status), "message": "The request could not be processed."},
            }),
        ),
        _ => Answer::status(status),
    };
    match retry_after {
        Some(seconds) => answer.with_header("retry-after", seconds.to_string()),
        None => answer,
    }
}

fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "InvalidToken",
        403 => "OperationFailed",
        404 => "NotFound",
        413 => "ContentLengthLimitExceeded",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        400..=499 => "InvalidRequest",
        _ => "InternalServerError",
    }
}

/// True when `kind` has something to change in this answer.
pub(crate) fn meets(kind: Kind, incoming: &Incoming, answer: &Answer) -> bool {
    if !answer.status.is_success() {
        return false;
    }
    if let Some(count) = answer.content.count() {
        return defender::meets(kind, incoming, answer, count);
    }
    let Content::Json(value) = &answer.content else {
        return kind == Kind::LostAnswer;
    };
    let list = LISTS.iter().find_map(|key| value[*key].as_array());
    match kind {
        Kind::EndNull | Kind::EndAbsent | Kind::EndEmpty => value["nextPageToken"] == "",
        Kind::TokenRepeated => incoming.parameter("pageToken").is_some(),
        Kind::BadRecord | Kind::Duplicate | Kind::Late => list.is_some_and(|list| !list.is_empty()),
        Kind::NineDigits | Kind::NullFields => {
            list.is_some_and(|list| !list.is_empty())
                || SINGLES.iter().any(|key| value[*key].is_object())
        }
        Kind::NoRefreshToken => value.get("refresh_token").is_some(),
        Kind::Truncated | Kind::Cut | Kind::Stalled | Kind::SlowBody(_) => true,
        _ => false,
    }
}

/// Plays `kind` on `answer`.
pub(crate) fn play(
    kind: Kind,
    target: Target,
    incoming: &Incoming,
    answer: &mut Answer,
    world: &World,
    dice: &mut Dice,
) {
    match kind {
        Kind::EmptyNotFound => *answer = refusal(target, 404, None),
        Kind::Truncated => answer.end = End::Truncated,
        Kind::Cut => answer.end = End::Cut,
        Kind::Stalled => answer.end = End::Stalled(Duration::from_hours(1)),
        Kind::SlowBody(seconds) => answer.end = End::Stalled(Duration::from_secs(seconds)),
        Kind::LostAnswer => answer.end = End::Lost,
        _ => {}
    }
    if !kind.changes_content() {
        return;
    }
    let Some(value) = answer.content.value() else {
        return;
    };
    match kind {
        Kind::EndNull => end_page(value, PageEnd::Null),
        Kind::EndAbsent => end_page(value, PageEnd::Absent),
        Kind::TokenRepeated => value["nextPageToken"] = json!(incoming.parameter("pageToken")),
        Kind::NoRefreshToken => {
            value
                .as_object_mut()
                .and_then(|members| members.remove("refresh_token"));
        }
        Kind::BadRecord => change_list(value, |list| {
            let mut nameless = list.first().cloned().unwrap_or_default();
            if let Some(members) = nameless.as_object_mut() {
                members.retain(|name, _| !NAMES.contains(&name.as_str()));
            }
            list.insert(list.len() / 2, json!(7));
            list.push(nameless);
        }),
        Kind::Duplicate => change_list(value, |list| {
            list.extend_from_within(..list.len().div_ceil(3));
        }),
        Kind::Late => change_list(value, |list| {
            let late = list.first().and_then(|record| late(record, world));
            list.extend(late);
        }),
        Kind::NullFields => each_record(value, &mut |record| {
            for (key, member) in record.iter_mut() {
                if !NAMES.contains(&key.as_str()) && !is_time(key) && dice.one_in(4) {
                    *member = Value::Null;
                }
            }
        }),
        Kind::NineDigits => each_record(value, &mut |record| {
            for (key, member) in record.iter_mut() {
                let time = member
                    .as_str()
                    .and_then(|text| text.parse::<DateTime<Utc>>().ok());
                if let Some(time) = time.filter(|_| key.ends_with("Time")) {
                    *member = json!(time.to_rfc3339_opts(SecondsFormat::Nanos, true));
                }
            }
        }),
        _ => defender::play(kind, incoming, value),
    }
}

/// Writes the end of a last page in another way.
pub(crate) fn end_page(value: &mut Value, end: PageEnd) {
    if value["nextPageToken"] != "" {
        return;
    }
    match end {
        PageEnd::Empty => {}
        PageEnd::Null => value["nextPageToken"] = Value::Null,
        PageEnd::Absent => {
            value
                .as_object_mut()
                .and_then(|members| members.remove("nextPageToken"));
        }
    }
}

/// How many records an answer holds that arrives whole.
pub(crate) fn records(answer: &Answer) -> usize {
    let arrives = match answer.end {
        End::Whole => true,
        End::Stalled(time) => time < Duration::from_mins(1),
        _ => false,
    };
    if answer.status != StatusCode::OK || !arrives {
        return 0;
    }
    if let Content::Json(value) = &answer.content {
        let list = LISTS.iter().find_map(|key| value[*key].as_array());
        return list.map_or(0, Vec::len);
    }
    answer.content.count().unwrap_or(0)
}

/// The same event, reported by another device 50 hours after it saw it.
fn late(record: &Value, world: &World) -> Option<Value> {
    let mut late = record.clone();
    let members = late.as_object_mut()?;
    let uuid = world.late_id(members.get("uuid")?.as_str()?)?;
    let time: DateTime<Utc> = members.get("occurTime")?.as_str()?.parse().ok()?;
    let time = time - TimeDelta::hours(50);
    members.insert("uuid".to_owned(), uuid.into());
    members.insert(
        "occurTime".to_owned(),
        time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into(),
    );
    Some(late)
}

/// Times stay: cursors stand on them.
fn is_time(member: &str) -> bool {
    [
        "Time",
        "time",
        "Timestamp",
        "timestamp",
        "lastSeen",
        "updatedOn",
    ]
    .iter()
    .any(|part| member.contains(part))
}

pub(super) fn change_list(value: &mut Value, change: impl FnOnce(&mut Vec<Value>)) {
    let key = LISTS.iter().find(|key| value[**key].is_array());
    if let Some(list) = key.and_then(|key| value[*key].as_array_mut()) {
        change(list);
    }
}

fn each_record(value: &mut Value, change: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    change_list(value, |list| {
        list.iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(&mut *change);
    });
    for key in SINGLES {
        if let Some(record) = value.get_mut(key).and_then(Value::as_object_mut) {
            change(record);
        }
    }
}
