//! Detections of ESET PROTECT, in pages.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::pattern::{Pattern, first_at};
use crate::simulator::{
    answer::Answer,
    dice::Dice,
    eset::{
        Outcome, Shape,
        query::{Page, Query},
    },
    listing::Written,
    world::{
        Product, World,
        detection::lengthened,
        ids::{Ids, Kind},
        lane::{HOUR, nanos},
    },
};

/// How long a record is: most of a live tenant's are around it.
const RECORD_BYTES: usize = 2_500;

/// The time that the records are spread over. An hour less than the history of a first run, so that
/// it finds them all.
const SPREAD: i64 = 23 * HOUR;

const UUID: &str = "00000000-0000-4000-8000-000000000000";

/// The detections, by number.
#[derive(Debug)]
pub(crate) struct Detections {
    ids: Ids,
    rows: u64,
    first: i64,
    patterns: Vec<Pattern>,
    /// What v2 says about them.
    details: Vec<Pattern>,
}

impl Detections {
    pub(super) fn new(world: &World, start: DateTime<Utc>, rows: u64) -> Self {
        let numbers = (0..).map(|number| world.detection_v1(Product::Protect, number));
        let patterns = numbers
            .filter(|record| record.to_string().len() <= RECORD_BYTES)
            .zip(0..)
            .filter_map(|(record, salt)| pattern(record, Dice::new(world.seed, &[0xb01c, salt])))
            .take(super::PATTERNS)
            .collect();
        let richer = (0..).map(|number| world.detection_v2(Product::Protect, number));
        let details = richer
            .filter(|record| record["device"]["displayName"].is_string())
            .filter(|record| record.to_string().len() <= RECORD_BYTES)
            .take(super::PATTERNS)
            .map(|mut record| marked(&mut record))
            .collect();
        Self {
            ids: world.ids,
            rows,
            first: nanos(start) - SPREAD,
            patterns,
            details,
        }
    }

    /// `GET /v{1,2}/detections`.
    pub(in crate::simulator) fn window(&self, shape: Shape, query: &Query, now: i64) -> Outcome {
        let numbered = |time| first_at(self.rows, time, |number| self.time(number));
        let from = numbered(query.time("startTime")?.unwrap_or(i64::MIN / 2));
        let to = numbered(query.time("endTime")?.unwrap_or(i64::MAX / 2));
        let page = query.page.unwrap_or(Page {
            snapshot: now,
            lane: 0,
            index: from,
            total: to.saturating_sub(from),
        });
        let end = to.min(page.index.saturating_add(query.size as u64));
        let next = (end < to).then_some(Page { index: end, ..page });
        let rest = json!({"nextPageToken": query.next(next), "totalSize": page.total}).to_string();
        let tail = format!("],{}", rest.get(1..).unwrap_or_default());
        let mut text = Vec::with_capacity((RECORD_BYTES + 1) * query.size + 256);
        text.extend_from_slice(br#"{"detections":["#);
        for number in page.index..end {
            if number > page.index {
                text.push(b',');
            }
            self.write_shape(shape, number, &mut text);
        }
        text.extend_from_slice(tail.as_bytes());
        Ok(Answer::written(Written::json(text)))
    }

    /// `POST /v2/detections:batchGet`: all or nothing.
    pub(in crate::simulator) fn batch(&self, uuids: &[Value]) -> Outcome {
        let mut text = br#"{"detections":["#.to_vec();
        for (at, uuid) in uuids.iter().enumerate() {
            let uuid = uuid.as_str().ok_or_else(Answer::bad_request)?;
            let number = self.number(uuid).filter(|number| *number < self.rows);
            if at > 0 {
                text.push(b',');
            }
            let number = number.ok_or_else(Answer::not_found)?;
            self.write_shape(Shape::V2, number, &mut text);
        }
        text.extend_from_slice(b"]}");
        Ok(Answer::written(Written::json(text)))
    }

    /// `GET /v1/detections:listDelta`: nothing more happens.
    pub(in crate::simulator) fn delta(&self, query: &Query) -> Outcome {
        let positions = [self.rows; 3];
        let known = query
            .get("deltaToken")
            .is_some_and(|token| token == "latest" || query.open_delta(token) == Some(positions));
        if !known {
            return Err(Answer::bad_request());
        }
        Ok(Answer::ok(json!({
            "createdDetections": [],
            "nextPageToken": "",
            "nextDeltaToken": query.seal_delta(positions),
        })))
    }

    pub(super) fn number(&self, uuid: &str) -> Option<u64> {
        let (kind, number) = self.ids.parse(uuid)?;
        (kind == Kind::Protect).then_some(number)
    }

    #[cfg(test)]
    pub(super) fn write(&self, number: u64, text: &mut Vec<u8>) {
        self.write_shape(Shape::V1, number, text);
    }

    fn write_shape(&self, shape: Shape, number: u64, text: &mut Vec<u8>) {
        let uuid = self.ids.uuid(Kind::Protect, number);
        let time = time_text(self.time(number));
        let patterns = match shape {
            Shape::V1 => &self.patterns,
            Shape::V2 => &self.details,
        };
        super::write(patterns, number, &[&uuid, &time], text);
    }

    /// When a record happened.
    fn time(&self, number: u64) -> i64 {
        let since = i128::from(SPREAD) * i128::from(number) / i128::from(self.rows.max(1));
        self.first + i64::try_from(since).unwrap_or(SPREAD)
    }
}

fn time_text(nanos: i64) -> String {
    DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn marked(record: &mut Value) -> Pattern {
    let time = time_text(0);
    record["uuid"] = UUID.into();
    record["occurTime"] = time.as_str().into();
    Pattern::of(record.to_string(), &[UUID, &time])
}

fn pattern(mut record: Value, mut dice: Dice) -> Option<Pattern> {
    let time = time_text(0);
    record["uuid"] = UUID.into();
    record["occurTime"] = time.as_str().into();
    let text = lengthened(record, RECORD_BYTES, &mut dice)?.to_string();
    Some(Pattern::of(text, &[UUID, &time]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn detections(rows: u64) -> Detections {
        let start = "2026-01-02T00:00:00Z".parse().unwrap();
        Detections::new(&World::new(1, start, 1.0), start, rows)
    }

    #[test]
    fn records_differ_by_id_and_are_in_the_order_of_their_times() {
        let detections = detections(1_500);
        let records: Vec<Value> = (0..1_500)
            .map(|number| {
                let mut text = Vec::new();
                detections.write(number, &mut text);
                let length = text.len().abs_diff(RECORD_BYTES);
                assert!(length < 64, "{} bytes", text.len());
                serde_json::from_slice(&text).unwrap()
            })
            .collect();
        let ids: BTreeSet<&str> = records
            .iter()
            .filter_map(|one| one["uuid"].as_str())
            .collect();
        assert_eq!(ids.len(), 1_500);
        for (number, id) in records.iter().zip(0..) {
            assert_eq!(
                detections.number(number["uuid"].as_str().unwrap()),
                Some(id)
            );
        }
        let times: Vec<&str> = records
            .iter()
            .filter_map(|one| one["occurTime"].as_str())
            .collect();
        assert!(times.is_sorted());
        assert_eq!(times[0], "2026-01-01T01:00:00.000Z");
    }
}
