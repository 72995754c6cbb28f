//! Alerts and incidents, which change: those of Graph, of Defender for Endpoint and of Defender XDR.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;

use super::{
    Bends, Outcome, errors, list,
    machines::literal,
    odata::{
        JsonObject,
        Kind::{Number, Text, Time},
        Literal,
    },
    query::{Query, Rules},
};
use crate::simulator::{
    Inner, World,
    answer::{Answer, Incoming},
    dice::hash,
    kind::Kind,
    target::Target,
    world::defender::{Alert, Incident, parse},
};

/// Asks Graph for members of enums that are newer than its first version.
const PREFERENCE: &str = "include-unknown-enum-members";

const GRAPH_FILTER: JsonObject = &[
    ("assignedTo", Text),
    ("classification", Text),
    ("determination", Text),
    ("createdDateTime", Time),
    ("lastUpdateDateTime", Time),
    ("severity", Text),
    ("serviceSource", Text),
    ("status", Text),
];
const GRAPH_ALERTS: Rules = Rules {
    target: Target::DefenderAlerts,
    also: &["$orderby", "$count", "$skiptoken"],
    filter: GRAPH_FILTER,
    top: 1000,
    skip: 500,
    clamps: true,
};
const GRAPH_INCIDENTS: Rules = Rules {
    target: Target::DefenderIncidents,
    also: &["$orderby", "$count", "$expand", "$skiptoken"],
    top: 50,
    ..GRAPH_ALERTS
};
const MDE_ALERTS: Rules = Rules {
    target: Target::DefenderMdeAlerts,
    also: &["$orderby", "$expand"],
    filter: &[
        ("alertCreationTime", Time),
        ("lastUpdateTime", Time),
        ("incidentId", Number),
        ("investigationId", Number),
        ("id", Text),
        ("assignedTo", Text),
        ("detectionSource", Text),
        ("lastEventTime", Time),
        ("status", Text),
        ("severity", Text),
        ("category", Text),
    ],
    top: 10_000,
    skip: u64::MAX,
    clamps: false,
};
const XDR_INCIDENTS: Rules = Rules {
    target: Target::DefenderXdrIncidents,
    also: &[],
    filter: &[
        ("lastUpdateTime", Time),
        ("createdTime", Time),
        ("status", Text),
        ("assignedTo", Text),
    ],
    top: 100,
    skip: u64::MAX,
    clamps: false,
};

/// Something with a number that was created and updated.
trait Item: Copy + Send + 'static {
    fn times(&self) -> (u64, i64, i64);
}

impl Item for Alert {
    fn times(&self) -> (u64, i64, i64) {
        (self.number, self.created, self.updated)
    }
}

impl Item for Incident {
    fn times(&self) -> (u64, i64, i64) {
        (self.number, self.created, self.updated)
    }
}

/// Puts something into the words of an API.
type Told<T> = Box<dyn Fn(&World, T) -> Value + Send>;

/// One of the four lists.
struct List<T> {
    rules: Rules,
    /// What the times are called: of creation, of the last update.
    names: (&'static str, &'static str),
    /// The order without `$orderby`: by creation, the newest first or last.
    newest_first: bool,
    /// How the context names the records.
    kind: &'static str,
    record: Told<T>,
}

impl Inner {
    /// `GET /v1.0/security/alerts_v2`.
    pub(super) fn graph_alerts(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let gated = gated(incoming, bends);
        let list = List {
            rules: GRAPH_ALERTS,
            names: ("createdDateTime", "lastUpdateDateTime"),
            newest_first: true,
            kind: "security/alerts_v2",
            record: Box::new(move |world, alert| world.defender().alert_graph(alert, gated)),
        };
        self.updates(incoming, bends, list, |from| {
            self.world.defender().alerts_since(from, now).collect()
        })
    }

    /// `GET /v1.0/security/incidents`.
    pub(super) fn graph_incidents(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let gated = gated(incoming, bends);
        let expanded = match incoming.parameter("$expand") {
            None => false,
            Some("alerts") => true,
            Some(_) => {
                let message = "Could not find a property of this name to expand.";
                return Err(errors::bad_query(Target::DefenderIncidents, message));
            }
        };
        let most = self.options.defender.expanded_alerts.filter(|_| expanded);
        let list = List {
            rules: GRAPH_INCIDENTS,
            names: ("createdDateTime", "lastUpdateDateTime"),
            newest_first: true,
            kind: if expanded {
                "security/incidents(alerts())"
            } else {
                "security/incidents"
            },
            record: Box::new(move |world: &World, incident| {
                world
                    .defender()
                    .incident_graph(incident, now, gated, expanded)
            }),
        };
        let answer = self.updates(incoming, bends, list, |from| {
            self.world.defender().incidents_since(from, now).collect()
        })?;
        match (most, answer) {
            (Some(most), mut answer) => {
                let records = answer.content.value().map(|value| value["value"].clone());
                let alerts: usize = records
                    .iter()
                    .flat_map(|list| list.as_array().into_iter().flatten())
                    .map(|incident| incident["alerts"].as_array().map_or(0, Vec::len))
                    .sum();
                if alerts > most {
                    Err(broken())
                } else {
                    Ok(answer)
                }
            }
            (None, answer) => Ok(answer),
        }
    }

    /// `GET /api/alerts`.
    pub(super) fn mde_alerts(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let expanded = incoming.parameter("$expand") == Some("evidence");
        let list = List {
            rules: MDE_ALERTS,
            names: ("alertCreationTime", "lastUpdateTime"),
            newest_first: false,
            kind: "Alerts",
            record: Box::new(move |world: &World, alert| {
                world.defender().alert_mde(alert, expanded)
            }),
        };
        self.updates(incoming, bends, list, |from| {
            let defender = self.world.defender();
            let all = defender.alerts_since(from, now);
            all.filter(|alert| defender.is_endpoint_alert(alert.number))
                .collect()
        })
    }

    /// `GET /api/incidents`.
    pub(super) fn xdr_incidents(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let list = List {
            rules: XDR_INCIDENTS,
            names: ("createdTime", "lastUpdateTime"),
            newest_first: true,
            kind: "Incidents",
            record: Box::new(move |world: &World, incident| {
                world.defender().incident_xdr(incident, now)
            }),
        };
        self.updates(incoming, bends, list, |from| {
            self.world.defender().incidents_since(from, now).collect()
        })
    }

    /// A page of one of the lists; `since` finds what may have been updated at a time or later.
    fn updates<T: Item>(
        &self,
        incoming: &Incoming,
        bends: &Bends,
        list: List<T>,
        since: impl Fn(i64) -> Vec<T>,
    ) -> Outcome {
        let List {
            rules,
            names: (created_name, updated_name),
            newest_first,
            kind,
            record,
        } = list;
        let query = Query::parse(self.options.seed, incoming, &rules, bends)?;
        let order = match query.get("$orderby") {
            None => (created_name, newest_first),
            Some(text) => {
                let (name, direction) = text.trim().split_once(' ').unwrap_or((text, "asc"));
                let name = [created_name, updated_name]
                    .into_iter()
                    .find(|known| *known == name);
                match (name, direction.trim()) {
                    (Some(name), "asc") => (name, false),
                    (Some(name), "desc") => (name, true),
                    _ => {
                        let message = format!("Can't order by '{text}'.");
                        return Err(errors::bad_query(rules.target, message));
                    }
                }
            }
        };
        let earliest = query.filter.earliest(created_name);
        let earliest = earliest.max(query.filter.earliest(updated_name));
        let mut found = since(earliest);
        found.retain(|item| {
            let (_, created, updated) = item.times();
            let whole = std::cell::OnceCell::new();
            query.filter.admits(&|member| {
                if member == created_name {
                    Literal::Time(created)
                } else if member == updated_name {
                    Literal::Time(updated)
                } else {
                    let whole = whole.get_or_init(|| record(&self.world, *item));
                    time_or_value(&rules, member, &whole[member])
                }
            })
        });
        if bends.has(Kind::Unsorted) {
            found.sort_by_key(|item| hash(self.options.seed, &[0x0dd, item.times().0]));
        } else {
            found.sort_by_key(|item| {
                let (number, created, updated) = item.times();
                let time = if order.0 == created_name {
                    created
                } else {
                    updated
                };
                (if order.1 { -time } else { time }, number)
            });
        }
        let start = match query.position::<1>() {
            Ok(None) => query.skip,
            Ok(Some([start])) => usize::try_from(start).unwrap_or(usize::MAX),
            Err(()) => return Err(errors::bad_query(rules.target, "Invalid $skiptoken.")),
        };
        let total = found.len();
        let mut page: Vec<T> = found.split_off(start.min(total));
        let rest = page.len();
        let mut size = query.size.min(rest);
        if bends.has(Kind::Ties) {
            let tie = |at: &usize| page[at - 1].times().2 == page[*at].times().2;
            size = (1..=size.min(rest.saturating_sub(1)))
                .rev()
                .find(tie)
                .unwrap_or(size);
        }
        page.truncate(size);
        let end = start + size;
        // Only Graph links to the next page.
        let next = (rules.clamps && end < total)
            .then(|| list::next_link(incoming, &query.token(&[end as u64])));
        let world = Arc::clone(&self.world);
        let count = page.len();
        let records = page.into_iter().map(move |item| record(&world, item));
        Ok(list::value(incoming, kind, count, Box::new(records), next))
    }
}

/// 500 for ever, as for a large tenant.
pub(super) fn broken() -> Answer {
    errors::graph(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "")
}

/// Whether the client must not see newer members of enums.
fn gated(incoming: &Incoming, bends: &Bends) -> bool {
    let asked = incoming
        .header("prefer")
        .is_some_and(|prefer| prefer.contains(PREFERENCE));
    !asked || bends.has(Kind::Gated)
}

fn time_or_value(rules: &Rules, member: &str, value: &Value) -> Literal {
    let is_time = rules.filter.contains(&(member, Time));
    match value.as_str().filter(|_| is_time) {
        Some(text) => parse(text).map_or(Literal::Null, Literal::Time),
        None => literal(value),
    }
}
