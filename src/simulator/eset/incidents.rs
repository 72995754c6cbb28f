//! Incidents: the list, without the uuids of devices and detections, and one with them.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{
    Outcome,
    filter::{Field, Filter},
    query::{Page, Query},
};
use crate::simulator::{
    Inner,
    answer::Answer,
    dice::Dice,
    options::IncidentUuids,
    world::{ids::Kind, incident::Version},
};

const MAX_ORDER: usize = 100;

impl Inner {
    /// `GET /v2/incidents`.
    pub(super) fn incidents(&self, query: &Query, now: i64) -> Outcome {
        let filter = Filter::parse(query.get("filter").unwrap_or_default())
            .ok_or_else(Answer::bad_request)?;
        let order = parse_order(query.get("orderBy").unwrap_or_default())
            .ok_or_else(Answer::bad_request)?;
        let snapshot = query.page.map_or(now, |page| page.snapshot);
        let mut found: Vec<Version> = self
            .world
            .incidents_since(filter.earliest(), snapshot)
            .filter(|version| filter.admits(version.created.nanos, version.updated.nanos))
            .collect();
        found.sort_by(|one, two| compare(&order, one, two).then(one.number.cmp(&two.number)));
        let index = query.page.map_or(0, |page| page.index);
        let start = usize::try_from(index)
            .unwrap_or(usize::MAX)
            .min(found.len());
        let end = start.saturating_add(query.size).min(found.len());
        let more = end < found.len();
        let page = found.get_mut(start..end).unwrap_or_default();
        if order.is_empty() {
            Dice::new(self.options.seed, &[0x16c1, index]).shuffle(page);
        }
        let records: Vec<Value> = page
            .iter()
            .map(|version| match self.options.incident_uuids {
                IncidentUuids::Absent => self.world.incident(*version, false),
                IncidentUuids::Listed => self.world.incident(*version, true),
                IncidentUuids::Empty => {
                    let mut record = self.world.incident(*version, false);
                    record["detectionUuids"] = json!([]);
                    record["deviceUuids"] = json!([]);
                    record
                }
            })
            .collect();
        let next = more.then_some(Page {
            snapshot,
            lane: 0,
            index: end as u64,
            total: 0,
        });
        Ok(Answer::ok(
            json!({"incidents": records, "nextPageToken": query.next(next)}),
        ))
    }

    /// `GET /v2/incidents/{uuid}`.
    pub(super) fn one_incident(&self, uuid: &str, now: i64) -> Outcome {
        let version = match self.world.ids.parse(uuid) {
            Some((Kind::Incident, number)) => self.world.incident_at(number, now),
            _ => None,
        };
        let version = version.ok_or_else(Answer::not_found)?;
        Ok(Answer::ok(
            json!({"incident": self.world.incident(version, true)}),
        ))
    }
}

fn compare(order: &[(Field, bool)], one: &Version, two: &Version) -> Ordering {
    order
        .iter()
        .fold(Ordering::Equal, |so_far, (field, descending)| {
            let key = |version: &Version| field.of(version.created.nanos, version.updated.nanos);
            let next = key(one).cmp(&key(two));
            so_far.then(if *descending { next.reverse() } else { next })
        })
}

/// `update_time desc, create_time`.
fn parse_order(text: &str) -> Option<Vec<(Field, bool)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let part = |part: &str| {
        let mut words = part.split_whitespace();
        let field = Field::parse(words.next()?)?;
        let descending = match (words.next(), words.next()) {
            (None, _) => false,
            (Some("desc"), None) => true,
            _ => return None,
        };
        Some((field, descending))
    };
    text.split(',')
        .map(part)
        .collect::<Option<_>>()
        .filter(|_| text.len() <= MAX_ORDER)
}
