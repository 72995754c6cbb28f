//! Incidents: each is opened, worked on, closed and sometimes opened again. What one says is a
//! function of the time that has passed.

use serde_json::{Value, json};

use super::{
    Product, World,
    facts::device_of,
    ids::Kind,
    lane::{DAY, HOUR, MINUTE, Moment},
};
use crate::simulator::dice::{Dice, hash};

/// No incident changes later than this after its creation.
pub(crate) const LIFE: i64 = 8 * DAY;

/// How long the first, second, … update takes, at least and at most.
const GAPS: [(i64, i64); 5] = [
    (2 * MINUTE, 90 * MINUTE),
    (20 * MINUTE, 10 * HOUR),
    (HOUR, 36 * HOUR),
    (2 * HOUR, 48 * HOUR),
    (HOUR, 72 * HOUR),
];

/// The states of an incident with 2, 3, 4 and 5 updates.
const PATHS: [&[&str]; 4] = [
    &["OPEN", "IN_PROGRESS", "CLOSED"],
    &["OPEN", "IN_PROGRESS", "WAITING_FOR_INPUT", "CLOSED"],
    &["OPEN", "IN_PROGRESS", "CLOSED", "OPEN", "CLOSED"],
    &[
        "OPEN",
        "IN_PROGRESS",
        "CLOSED",
        "IN_PROGRESS",
        "WAITING_FOR_INPUT",
        "CLOSED",
    ],
];

const NAMES: [&str; 6] = [
    "Script chain from a mail client",
    "Repeated blocked connections",
    "Credential access on a server",
    "Unsigned driver installed",
    "Lateral movement suspected",
    "Phishing campaign against finance",
];

/// One incident as it stands at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) created: Moment,
    pub(crate) updated: Moment,
    step: usize,
}

impl World {
    /// The steps of an incident: one time for its creation, one for each update.
    pub(crate) fn incident_steps(&self, number: u64) -> impl Iterator<Item = Version> + use<> {
        let (seed, finest) = (self.seed, self.incidents.finest());
        let created = self.incidents.created(number);
        let path = path(seed, number);
        let mut updated = created;
        (0..path.len()).map(move |step| {
            if let Some((low, high)) = step.checked_sub(1).and_then(|at| GAPS.get(at)) {
                let mut dice = Dice::new(seed, &[0x16c, number, step as u64]);
                let gap = dice
                    .range(low.unsigned_abs(), high.unsigned_abs())
                    .cast_signed();
                updated = Moment::new(updated.nanos + gap, dice.next(), finest);
            }
            Version {
                number,
                created,
                updated,
                step,
            }
        })
    }

    /// The incident as it stands at `now`, when it exists.
    pub(crate) fn incident_at(&self, number: u64, now: i64) -> Option<Version> {
        if self.incidents.arrival(number) > now {
            return None;
        }
        self.incident_steps(number)
            .take_while(|version| version.updated.nanos <= now)
            .last()
    }

    /// Every incident that exists at `now` and may have been updated at `from` or later.
    pub(crate) fn incidents_since(&self, from: i64, now: i64) -> impl Iterator<Item = Version> {
        let first = self.incidents.arriving(from.saturating_sub(LIFE));
        (first..self.incidents.known(now)).filter_map(move |number| self.incident_at(number, now))
    }

    /// The record of an incident; the list of incidents leaves the uuids out.
    pub(crate) fn incident(&self, version: Version, uuids: bool) -> Value {
        let Version {
            number,
            created,
            updated,
            step,
        } = version;
        let mut dice = Dice::new(self.seed, &[0x16d, number]);
        let path = path(self.seed, number);
        let status = path.get(step).copied().unwrap_or("UNSPECIFIED");
        let reason = match status {
            "CLOSED" => *dice.pick(&["TRUE_POSITIVE", "FALSE_POSITIVE", "SUSPICIOUS"]),
            _ => "UNSPECIFIED",
        };
        let detections = self.incident_detections(version);
        let mut devices: Vec<u64> = detections
            .iter()
            .map(|(product, number)| device_of(self.seed, *product, *number))
            .collect();
        devices.sort_unstable();
        devices.dedup();
        let name = *dice.pick(&NAMES);
        let seconds = |time: Moment| (time.nanos - created.nanos) / 1_000_000_000;
        let mut record = json!({
            "uuid": self.ids.uuid(Kind::Incident, number),
            "displayName": format!("{name} #{number}"),
            "description": if dice.one_in(5) { String::new() } else { super::words::prose(&mut dice, 160) },
            "assigneeUuid": if step > 0 { self.ids.uuid(Kind::User, dice.below(6)) } else { String::new() },
            "createTime": created.text(),
            "updateTime": updated.text(),
            "metrics": if dice.one_in(25) { Value::Null } else {
                json!({"deviceCount": devices.len(), "executableCount": dice.below(5), "processCount": dice.range(1, 30)})
            },
            "resolveReason": format!("INCIDENT_RESOLVE_REASON_{reason}"),
            "responseDuration": if status == "CLOSED" { json!(format!("{}s", seconds(updated))) } else { Value::Null },
            "triageDuration": if step > 0 { json!(format!("{}s", seconds(updated).min(4000))) } else { Value::Null },
            "severity": format!("INCIDENT_SEVERITY_LEVEL_{}", dice.pick(&["LOW", "MEDIUM", "HIGH", "HIGH", "UNSPECIFIED"])),
            "status": format!("INCIDENT_STATUS_{status}"),
            "tags": if step > 1 { json!(["triaged", name.split(' ').next()]) } else { json!([]) },
        });
        if let (true, Value::Object(members)) = (uuids, &mut record) {
            let ids = detections
                .iter()
                .map(|(product, number)| self.detection_id(*product, *number));
            members.insert("detectionUuids".to_owned(), ids.collect());
            let ids = devices
                .iter()
                .map(|number| self.ids.uuid(Kind::Device, *number));
            members.insert("deviceUuids".to_owned(), ids.collect());
        }
        record
    }

    /// The detections that belong to the incident by now; an update may add some.
    fn incident_detections(&self, version: Version) -> Vec<(Product, u64)> {
        let mut found = Vec::new();
        for step in self.incident_steps(version.number).take(version.step + 1) {
            let mut dice = Dice::new(self.seed, &[0x16e, version.number, step.step as u64]);
            let count = if step.step == 0 {
                dice.range(1, 7)
            } else {
                dice.below(3)
            };
            for _ in 0..count {
                let product = if dice.one_in(4) {
                    Product::Protect
                } else {
                    Product::Inspect
                };
                let known = self.lane(product).known(step.updated.nanos);
                let detection = (product, known.saturating_sub(1 + dice.below(25)));
                if known > 0 && !found.contains(&detection) {
                    found.push(detection);
                }
            }
        }
        found
    }
}

fn path(seed: u64, number: u64) -> &'static [&'static str] {
    let bits = hash(seed, &[0x9a7, number]);
    let path = PATHS[usize::try_from(bits % 4).unwrap_or(0)];
    // One in ten is never closed.
    let open = usize::from((bits >> 8).is_multiple_of(10));
    path.get(..path.len() - open).unwrap_or(path)
}
