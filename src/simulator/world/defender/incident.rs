//! Incidents: each is opened, worked on, closed and sometimes opened again, or merged into another.

use serde_json::{Value, json};

use super::{
    Defender, ticks,
    told::{camel, hide},
};
use crate::simulator::{
    dice::Dice,
    world::{
        company::DOMAIN,
        lane::{DAY, HOUR, MINUTE},
        words,
    },
};

/// No incident changes later than this after it was opened.
pub(super) const LIFE: i64 = 9 * DAY;

/// How long the first, second, … update takes, at least and at most.
const GAPS: [(i64, i64); 4] = [
    (2 * MINUTE, 90 * MINUTE),
    (20 * MINUTE, 10 * HOUR),
    (HOUR, 36 * HOUR),
    (2 * HOUR, 48 * HOUR),
];

const PATHS: [&[&str]; 4] = [
    &["Active", "InProgress", "Resolved"],
    &["Active", "AwaitingAction", "Resolved"],
    &["Active", "InProgress", "Resolved", "Active", "Resolved"],
    &[
        "Active",
        "InProgress",
        "AwaitingAction",
        "InProgress",
        "Resolved",
    ],
];
/// Merged into another.
const MERGED: &[&str] = &["Active", "Redirected"];

const NAMES: [&str; 5] = [
    "Multi-stage incident on several machines",
    "Malware on one machine",
    "Prepared messages to the finance team",
    "Lateral movement between servers",
    "Unusual logons of one user",
];

/// An incident as it stands at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incident {
    pub(crate) number: u64,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    /// `Active`, `InProgress`, `AwaitingAction`, `Resolved` or `Redirected`.
    pub(crate) status: &'static str,
    step: usize,
}

impl Incident {
    /// The id of the `number`-th incident.
    pub(crate) fn id(number: u64) -> u64 {
        4000 + number
    }
}

impl Defender {
    /// The versions of an incident: somebody works on it, or an alert joins it.
    pub(super) fn incident_steps(&self, number: u64) -> Vec<Incident> {
        let mut steps: Vec<Incident> = self.worked_on(number).collect();
        let joins = self.joins(number);
        for joined in joins {
            let at = steps.partition_point(|step| step.updated < joined);
            let is_new = steps.get(at).is_none_or(|step| step.updated > joined);
            let before = at.checked_sub(1).and_then(|before| steps.get(before));
            let Some(before) = before.filter(|_| is_new) else {
                continue;
            };
            let step = Incident {
                updated: joined,
                ..*before
            };
            if joined - step.created < LIFE {
                steps.insert(at, step);
            }
        }
        steps
    }

    /// The steps of an incident by the hands of analysts.
    fn worked_on(&self, number: u64) -> impl Iterator<Item = Incident> + use<> {
        let seed = self.seed;
        let bits = self.hash(&[0x1c0, number]);
        let created = ticks::cut(self.incidents.arrival(number), bits >> 40);
        let path = match number % 13 {
            5 => MERGED,
            _ => PATHS[usize::try_from(bits % 4).unwrap_or(0)],
        };
        // One in ten is never closed.
        let open = (bits >> 8).is_multiple_of(10);
        let path = path.get(..path.len() - usize::from(open)).unwrap_or(path);
        let mut updated = created;
        path.iter().enumerate().map(move |(step, status)| {
            if let Some((low, high)) = step.checked_sub(1).and_then(|at| GAPS.get(at)) {
                let mut dice = Dice::new(seed, &[0x1c1, number, step as u64]);
                let gap = dice.range(low.unsigned_abs(), high.unsigned_abs());
                updated = ticks::cut(updated + gap.cast_signed(), dice.next());
                // Some are closed by a rule that runs four times a day.
                if *status == "Resolved" && dice.one_in(3) {
                    let round = 6 * HOUR;
                    updated += round - updated.rem_euclid(round);
                }
            }
            Incident {
                number,
                created,
                updated,
                status,
                step,
            }
        })
    }

    /// When it is closed for good.
    pub(super) fn incident_closed(&self, number: u64) -> Option<i64> {
        let last = self.worked_on(number).last();
        last.filter(|incident| incident.status == "Resolved")
            .map(|incident| incident.updated)
    }

    /// The incident as it stands at `now`, when it was opened.
    pub(crate) fn incident_at(&self, number: u64, now: i64) -> Option<Incident> {
        let steps = self.incident_steps(number).into_iter();
        steps.take_while(|incident| incident.updated <= now).last()
    }

    /// Every incident that was opened by `now` and may have been updated at `from` or later.
    pub(crate) fn incidents_since(&self, from: i64, now: i64) -> impl Iterator<Item = Incident> {
        let first = self.incidents.arriving(from.saturating_sub(LIFE));
        (first..self.incidents.known(now)).filter_map(move |number| self.incident_at(number, now))
    }

    fn incident_facts(&self, incident: Incident) -> (Dice, String, &'static str, Option<u64>) {
        let mut dice = Dice::new(self.seed, &[0x1c2, incident.number]);
        let name = format!("{} #{}", dice.pick(&NAMES), incident.number);
        let severity = *dice.pick(&["Low", "Medium", "Medium", "High", "Informational"]);
        let merged = (incident.status == "Redirected").then(|| Incident::id(incident.number - 1));
        (dice, name, severity, merged)
    }

    /// The record of Graph; `gated` hides what a client has to ask for, `expanded` adds the alerts.
    pub(crate) fn incident_graph(
        &self,
        incident: Incident,
        now: i64,
        gated: bool,
        expanded: bool,
    ) -> Value {
        let (mut dice, name, severity, merged) = self.incident_facts(incident);
        let closed = incident.status == "Resolved";
        let id = Incident::id(incident.number);
        let shown = |name: &'static str| if gated { hide(name) } else { name };
        let status = match incident.status {
            "AwaitingAction" => shown("awaitingAction").to_owned(),
            status => camel(status),
        };
        let mut record = json!({
            "id": id.to_string(),
            "incidentWebUrl": format!("https://security.example/incidents/{id}?tid={}", self.tenant),
            "redirectIncidentId": merged.map(|id| id.to_string()),
            "tenantId": self.tenant,
            "displayName": name,
            "createdDateTime": ticks::text(incident.created),
            "lastUpdateDateTime": ticks::text(incident.updated),
            "assignedTo": (incident.step > 0).then(|| format!("analyst.{}@{DOMAIN}", dice.below(6))),
            "classification": if closed { "truePositive" } else { "unknown" },
            "determination": if closed { "multiStagedAttack" } else { "unknown" },
            "status": status,
            "severity": camel(severity),
            "customTags": if incident.step > 1 { json!(["triaged"]) } else { json!([]) },
            "systemTags": [],
            "description": words::prose(&mut dice, 120),
            "summary": null,
            "resolvingComment": closed.then_some("Contained."),
            "lastModifiedBy": "analyst.1",
            "priorityScore": dice.below(100),
            "comments": [],
        });
        if expanded {
            record["alerts"] = self
                .alerts_of(incident.number, now)
                .map(|alert| self.alert_graph(alert, gated))
                .collect();
        }
        record
    }

    /// The record of Defender XDR.
    pub(crate) fn incident_xdr(&self, incident: Incident, now: i64) -> Value {
        let (mut dice, name, severity, merged) = self.incident_facts(incident);
        let closed = incident.status == "Resolved";
        let id = Incident::id(incident.number);
        json!({
            "incidentId": id,
            "redirectIncidentId": merged,
            "incidentName": name,
            "createdTime": ticks::text(incident.created),
            "lastUpdateTime": ticks::text(incident.updated),
            "assignedTo": (incident.step > 0).then(|| format!("analyst.{}@{DOMAIN}", dice.below(6))),
            "classification": if closed { "TruePositive" } else { "Unknown" },
            "determination": if closed { "MultiStagedAttack" } else { "NotAvailable" },
            // It has no word for waiting.
            "status": if incident.status == "AwaitingAction" { "InProgress" } else { incident.status },
            "severity": severity,
            "tags": if incident.step > 1 { json!(["triaged"]) } else { json!([]) },
            "comments": [],
            "incidentUri": format!("https://security.example/incidents/{id}?tid={}", self.tenant),
            "alerts": self.alerts_of(incident.number, now).map(|alert| self.alert_xdr(alert, now)).collect::<Vec<_>>(),
        })
    }
}
