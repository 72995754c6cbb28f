//! Machines: the list, one of them, its users, and who had an address.

use std::{cell::OnceCell, sync::Arc};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Bends, Outcome, errors, list,
    odata::{
        JsonObject,
        Kind::{Number, Text, Time},
        Literal,
    },
    query::{Query, Rules},
};
use crate::simulator::{
    Inner,
    answer::{Answer, Incoming},
    bulk::Made,
    kind::Kind,
    target::Target,
    world::{
        defender::{Machine, parse},
        lane::DAY,
    },
};

const FILTER: JsonObject = &[
    ("id", Text),
    ("computerDnsName", Text),
    ("version", Text),
    ("deviceValue", Text),
    ("aadDeviceId", Text),
    ("lastSeen", Time),
    ("exposureLevel", Text),
    ("onboardingStatus", Text),
    ("lastIpAddress", Text),
    ("healthStatus", Text),
    ("osPlatform", Text),
    ("riskScore", Text),
    ("rbacGroupId", Number),
];

const RULES: Rules = Rules {
    target: Target::DefenderMachines,
    also: &[],
    filter: FILTER,
    top: 10_000,
    skip: u64::MAX,
    clamps: false,
};

/// What `$skip` and `$top` leave of all records, and whether there are more.
pub(super) fn page<T>(
    mut all: impl Iterator<Item = T>,
    query: &Query,
    bends: &Bends,
) -> (Vec<T>, bool) {
    let moved = (query.skip > 0 && bends.has(Kind::Moving))
        .then(|| all.next())
        .flatten();
    let mut rest = all.chain(moved).skip(query.skip);
    let page = rest.by_ref().take(query.size).collect();
    (page, rest.next().is_some())
}

impl Inner {
    /// `GET /api/machines`.
    pub(super) fn machines(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let query = Query::parse(self.options.seed, incoming, &RULES, bends)?;
        if let Some(Made::Machines(bulk)) = self.made() {
            // None of them has reported since any time that is asked for.
            let top = if query.filter.is_empty() {
                query.size
            } else {
                0
            };
            let head = list::head(incoming, "Machines");
            let page = bulk.page(&head, query.skip, top, now);
            return Ok(Answer::written(page));
        }
        let defender = self.world.defender();
        let admitted = |machine: &Machine| {
            let record = OnceCell::new();
            query.filter.admits(&|member| match member {
                "lastSeen" => Literal::Time(machine.last_seen),
                member => {
                    let record = record.get_or_init(|| defender.machine(*machine, now));
                    literal(&record[member])
                }
            })
        };
        let all = defender.machines(now).filter(admitted);
        let (page, more) = page(all, &query, bends);
        let next = query.skip + page.len();
        // With `$top` there is no link; without it, that of a filtered list has lost its names.
        let link = (!query.has_top && more).then(|| {
            let base = format!("{}{}", incoming.origin, incoming.path);
            if query.filter.is_empty() {
                format!("{base}?$skip={next}")
            } else {
                format!(
                    "{base}?={}&={}&$skip={next}",
                    query.get("$filter").unwrap_or_default(),
                    query.size
                )
            }
        });
        let world = Arc::clone(&self.world);
        let count = page.len();
        let records = page
            .into_iter()
            .map(move |machine| world.defender().machine(machine, now));
        Ok(list::value(
            incoming,
            "Machines",
            count,
            Box::new(records),
            link,
        ))
    }

    /// `GET /api/machines/{id}`.
    pub(super) fn machine(&self, id: &str, now: i64) -> Outcome {
        let machine = self.known_machine(id, now)?;
        let mut record = self.world.defender().machine(machine, now);
        record["@odata.context"] = json!("#Machines/$entity");
        Ok(Answer::ok(record))
    }

    /// `GET /api/machines/{id}/logonusers`.
    pub(super) fn logon_users(&self, id: &str, now: i64) -> Outcome {
        let machine = self.known_machine(id, now)?;
        let users = self.world.defender().logon_users(machine.number, now);
        Ok(Answer::ok(
            json!({"@odata.context": "#Users", "value": users}),
        ))
    }

    /// `GET /api/machines/findbyip(ip='…',timestamp=…)`.
    pub(super) fn find_by_address(&self, arguments: &str, now: i64) -> Outcome {
        let argument = |name: &str| {
            let found = arguments
                .split(',')
                .find_map(|part| part.trim().strip_prefix(name));
            found.unwrap_or_default()
        };
        let bad = |message: &str| {
            Err(errors::api(
                StatusCode::BAD_REQUEST,
                "InvalidInput",
                message,
            ))
        };
        let address = argument("ip=")
            .strip_prefix('\'')
            .and_then(|text| text.strip_suffix('\''));
        let (Some(address), Some(time)) = (address, parse(argument("timestamp="))) else {
            return bad("The address or the timestamp is not valid.");
        };
        if time > now || time < now - 30 * DAY {
            return bad("The timestamp must lie within the last 30 days.");
        }
        let defender = self.world.defender();
        let found: Vec<Value> = defender
            .machines_at_address(address, time)
            .into_iter()
            .map(|machine| defender.machine(machine, now))
            .collect();
        Ok(Answer::ok(
            json!({"@odata.context": "#Machines", "value": found}),
        ))
    }

    fn known_machine(&self, id: &str, now: i64) -> Result<Machine, Answer> {
        let defender = self.world.defender();
        defender
            .machine_number(id)
            .and_then(|number| defender.machine_at(number, now))
            .ok_or_else(|| {
                let message = format!("Machine {id} was not found");
                errors::api(StatusCode::NOT_FOUND, "ResourceNotFound", message)
            })
    }
}

/// A member of a record for a filter to compare.
pub(super) fn literal(value: &Value) -> Literal {
    match value {
        Value::String(text) => Literal::Text(text.clone()),
        Value::Number(number) => number.as_f64().map_or(Literal::Null, Literal::Number),
        _ => Literal::Null,
    }
}
