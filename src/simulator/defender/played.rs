//! What the faults of Microsoft Defender do: in place of an answer, and to one.

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{errors, exports, hunting, place::Call, updates};
use crate::simulator::{
    Inner,
    answer::{Answer, Content, Incoming},
    effect::change_list,
    kind::Kind,
};

impl Inner {
    /// What the service answers in place of what was asked for.
    pub(in crate::simulator) fn defender_fault(
        &self,
        kind: Kind,
        call: &Call,
        incoming: &Incoming,
    ) -> Option<Answer> {
        let target = call.target();
        Some(match kind {
            Kind::DeadToken => {
                self.kill_tokens();
                errors::refusal(target, StatusCode::UNAUTHORIZED, None)
            }
            Kind::Quota(seconds) => errors::quota(100, "00:01:00", Some(seconds)),
            Kind::NoLicence => {
                let reason = if target.needs_tvm() {
                    "No Tvm license"
                } else {
                    "Account mode is inactive"
                };
                let message = format!("Unauthorized request - reason of failure: {reason}");
                errors::api(StatusCode::UNAUTHORIZED, "Unauthorized", message)
            }
            Kind::MissingRole => errors::missing_roles(target, call.roles(), &["Policy.Read.All"]),
            Kind::NotProvisioned => {
                let message = "Unauthorized request - Account is not provisioned.";
                errors::graph(StatusCode::FORBIDDEN, "Forbidden", message)
            }
            Kind::SkipWall => {
                errors::bad_query(target, "The limit of '0' for Skip query has been exceeded.")
            }
            Kind::TopLimit(limit) => errors::bad_query(
                target,
                format!("The limit of '{limit}' for Top query has been exceeded."),
            ),
            Kind::ExpandBreaks => updates::broken(),
            Kind::SinceRefused => exports::too_old(),
            Kind::SasExpired => errors::expired_link(),
            Kind::TooBig => hunting::too_big(),
            Kind::Preempted => hunting::preempted(),
            Kind::Timeout => hunting::timed_out(),
            Kind::CpuQuota => hunting::out_of_cpu(),
            Kind::UnknownTable => {
                let query = asked(incoming);
                hunting::unknown_table(query.split(' ').next().unwrap_or_default())
            }
            _ => return None,
        })
    }
}

/// The query of a question to advanced hunting.
fn asked(incoming: &Incoming) -> String {
    let body: Value = serde_json::from_slice(&incoming.body).unwrap_or_default();
    body["Query"].as_str().unwrap_or_default().to_owned()
}

/// True when `kind` could answer in place of the service.
pub(in crate::simulator) fn could_refuse(kind: Kind, incoming: &Incoming) -> bool {
    let number = |name: &str| {
        incoming
            .parameter(name)
            .and_then(|text| text.parse::<u64>().ok())
    };
    match kind {
        Kind::SkipWall => number("$skip").is_some_and(|skip| skip > 0),
        Kind::TopLimit(limit) => number("$top").is_some_and(|top| top > limit),
        Kind::ExpandBreaks => incoming.parameter("$expand").is_some(),
        Kind::Moving => number("$skip").is_some_and(|skip| skip > 0),
        Kind::NullIngestion => asked(incoming).contains("ingestion_time()"),
        Kind::Bunched(_) => asked(incoming).contains("| where ingestion_time()"),
        Kind::RowCap(most) => {
            let query = asked(incoming);
            let take = query.rsplit_once("| take ");
            take.and_then(|(_, take)| take.parse::<u64>().ok()) >= Some(most)
        }
        _ => true,
    }
}

/// True when `kind` has something to change in this answer of `count` records.
pub(in crate::simulator) fn meets(
    kind: Kind,
    incoming: &Incoming,
    answer: &Answer,
    count: usize,
) -> bool {
    let Content::List(listing) = &answer.content else {
        return matches!(
            kind,
            Kind::Truncated | Kind::Cut | Kind::Stalled | Kind::SlowBody(_)
        );
    };
    match kind {
        Kind::Truncated
        | Kind::Cut
        | Kind::Stalled
        | Kind::SlowBody(_)
        | Kind::LinkMalformed
        | Kind::SchemaCasing => true,
        Kind::EmptyNotFound => count == 0,
        Kind::LinkLoop | Kind::LinkForeign => listing.after.contains_key("@odata.nextLink"),
        Kind::BadRecord
        | Kind::Duplicate
        | Kind::NullFields
        | Kind::RbacMove
        | Kind::Annotations => count > 0,
        Kind::LateRow | Kind::FutureRow => {
            count > 0 && asked(incoming).contains("| where ingestion_time()")
        }
        _ => false,
    }
}

/// Plays `kind` on the JSON of an answer.
pub(in crate::simulator) fn play(kind: Kind, incoming: &Incoming, value: &mut Value) {
    const NEXT: &str = "@odata.nextLink";
    match kind {
        Kind::LinkLoop => value[NEXT] = json!(own_link(incoming)),
        Kind::LinkForeign => {
            let link = value[NEXT].as_str().unwrap_or_default();
            let foreign = link.replacen(&incoming.origin, "https://collector.example", 1);
            value[NEXT] = json!(foreign);
        }
        Kind::LinkMalformed => {
            let link = format!("{}{}?=&=10000&$skip=10000", incoming.origin, incoming.path);
            value[NEXT] = json!(link);
        }
        Kind::RbacMove => change_list(value, |list| {
            let Some(first) = list.first().cloned() else {
                return;
            };
            let moved = |status: &str, group: &str| {
                let mut record = first.clone();
                record["status"] = json!(status);
                record["rbacGroupName"] = json!(group);
                // Both happen at one time, on a tick of their own.
                record["eventTimestamp"] = json!(shifted(&record["eventTimestamp"]));
                record
            };
            list.extend([moved("Fixed", "Before"), moved("New", "Behind")]);
        }),
        Kind::SchemaCasing => {
            let schema = value.get_mut("schema").and_then(Value::as_array_mut);
            for column in schema.into_iter().flatten() {
                *column = json!({"Name": column["name"], "Type": column["type"]});
            }
        }
        Kind::Annotations => change_list(value, |list| {
            for row in list.iter_mut().filter_map(Value::as_object_mut) {
                let whole = row
                    .iter()
                    .filter(|(_, value)| value.is_i64() || value.is_u64());
                let whole: Vec<String> = whole.map(|(name, _)| name.clone()).collect();
                row.extend(
                    whole
                        .into_iter()
                        .map(|name| (format!("{name}@odata.type"), json!("#Int64"))),
                );
            }
        }),
        Kind::LateRow => another_row(value, TimeDelta::hours(-50)),
        Kind::FutureRow => another_row(value, TimeDelta::hours(3)),
        _ => {}
    }
}

/// One more row like the first, from another time.
fn another_row(value: &mut Value, away: TimeDelta) {
    change_list(value, |list| {
        let Some(mut row) = list.first().cloned() else {
            return;
        };
        let time = row["Timestamp"]
            .as_str()
            .and_then(|text| text.parse::<DateTime<Utc>>().ok());
        let Some(time) = time else { return };
        let text = (time + away).to_rfc3339_opts(SecondsFormat::Nanos, true);
        row["Timestamp"] = json!(text.replace("00Z", "Z"));
        for name in ["ReportId", "AlertId", "NetworkMessageId"] {
            let id = match &row[name] {
                Value::Number(number) => json!(number.as_u64().unwrap_or(0) + 1_000_000),
                Value::String(id) => json!(format!("{id}-{}", away.num_hours())),
                _ => continue,
            };
            row[name] = id;
        }
        list.push(row);
    });
}

/// A time within the same microsecond.
fn shifted(time: &Value) -> String {
    let text = time.as_str().unwrap_or_default();
    let last = text.chars().last().and_then(|digit| digit.to_digit(10));
    let digit = last.map_or(0, |digit| (digit + 9) % 10);
    let start = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    format!("{start}{digit}")
}

fn own_link(incoming: &Incoming) -> String {
    let query: Vec<String> = incoming
        .query
        .iter()
        .map(|(name, value)| format!("{name}={}", value.replace(' ', "%20")))
        .collect();
    format!("{}{}?{}", incoming.origin, incoming.path, query.join("&"))
}
