//! As many detections as somebody wants to measure with, at next to no cost: one page of the
//! company's detections is written once, and repeated under other ids and times.

use std::{borrow::Cow, sync::Mutex};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    answer::{Answer, Content},
    dice::Dice,
    eset::{
        Outcome,
        query::{Page, Query},
    },
    script::lock,
    world::{
        Product, World,
        detection::lengthened,
        ids::{Ids, Kind},
        lane::{HOUR, nanos},
    },
};

/// How long a record is: most of a live tenant's are around it.
const RECORD_BYTES: usize = 2_500;

/// How many different records there are.
const RECORDS: usize = 1_000;

/// The time that the records are spread over. An hour less than the history of a first run, so that
/// it finds them all.
const SPREAD: i64 = 23 * HOUR;

/// A record, and where what differs stands in it.
#[derive(Debug)]
struct Pattern {
    text: Vec<u8>,
    uuid: usize,
    time: usize,
}

/// The detections, by number, and which of them have arrived.
#[derive(Debug)]
pub(crate) struct Bulk {
    ids: Ids,
    rows: u64,
    first: i64,
    patterns: Vec<Pattern>,
    /// One bit for each record.
    arrived: Mutex<Vec<u64>>,
}

impl Bulk {
    pub(crate) fn new(world: &World, start: DateTime<Utc>, rows: u64) -> Self {
        let numbers = (0..).map(|number| world.detection_v1(Product::Protect, number));
        let patterns = numbers
            .filter(|record| record.to_string().len() <= RECORD_BYTES)
            .zip(0..)
            .filter_map(|(record, salt)| pattern(record, Dice::new(world.seed, &[0xb01c, salt])))
            .take(RECORDS)
            .collect();
        Self {
            ids: world.ids,
            rows,
            first: nanos(start) - SPREAD,
            patterns,
            arrived: Mutex::default(),
        }
    }

    /// `GET /v1/detections`.
    pub(super) fn window(&self, query: &Query, now: i64) -> Outcome {
        let from = self.numbered(query.time("startTime")?.unwrap_or(i64::MIN / 2));
        let to = self.numbered(query.time("endTime")?.unwrap_or(i64::MAX / 2));
        let page = query.page.unwrap_or(Page {
            snapshot: now,
            lane: 0,
            index: from,
            total: to.saturating_sub(from),
        });
        let end = to.min(page.index.saturating_add(query.size as u64));
        let next = (end < to).then_some(Page { index: end, ..page });
        let mut text = Vec::with_capacity((RECORD_BYTES + 1) * query.size + 256);
        text.extend_from_slice(br#"{"detections":["#);
        for number in page.index..end {
            if number > page.index {
                text.push(b',');
            }
            self.write(number, &mut text);
        }
        let rest = json!({"nextPageToken": query.next(next), "totalSize": page.total}).to_string();
        text.extend_from_slice(b"],");
        text.extend_from_slice(rest.as_bytes().get(1..).unwrap_or_default());
        Ok(Answer {
            content: Content::Written(text.into()),
            ..Answer::ok(Value::Null)
        })
    }

    /// `GET /v1/detections:listDelta`: nothing more happens.
    pub(super) fn delta(&self, query: &Query) -> Outcome {
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

    /// Counts the rows of a call, and remembers which records they are of: by `recordId`, or by
    /// the `uuid` of a record that was passed on as it was.
    pub(super) fn take(&self, body: &[u8]) -> serde_json::Result<usize> {
        #[derive(Deserialize)]
        struct Row<'a> {
            #[serde(borrow, alias = "uuid")]
            #[serde(rename = "recordId")]
            id: Option<Cow<'a, str>>,
        }
        let rows: Vec<Row<'_>> = serde_json::from_slice(body)?;
        let mut arrived = lock(&self.arrived);
        arrived.resize(slot(self.rows).0 + 1, 0);
        for number in rows
            .iter()
            .filter_map(|row| self.number(row.id.as_deref()?))
        {
            let (word, bit) = slot(number);
            if let Some(word) = arrived.get_mut(word) {
                *word |= bit;
            }
        }
        Ok(rows.len())
    }

    /// How many different records have arrived.
    pub(super) fn arrived(&self) -> u64 {
        let arrived = lock(&self.arrived);
        arrived
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    fn number(&self, uuid: &str) -> Option<u64> {
        match self.ids.parse(uuid)? {
            (Kind::Protect, number) if number < self.rows => Some(number),
            _ => None,
        }
    }

    fn write(&self, number: u64, text: &mut Vec<u8>) {
        let at = usize::try_from(number).unwrap_or(0) % self.patterns.len().max(1);
        let Some(pattern) = self.patterns.get(at) else {
            return;
        };
        let start = text.len();
        text.extend_from_slice(&pattern.text);
        let uuid = self.ids.uuid(Kind::Protect, number);
        let time = time_text(self.time(number));
        for (at, value) in [(pattern.uuid, uuid), (pattern.time, time)] {
            let at = start + at;
            if let Some(place) = text.get_mut(at..at + value.len()) {
                place.copy_from_slice(value.as_bytes());
            }
        }
    }

    /// When a record happened.
    fn time(&self, number: u64) -> i64 {
        let since = i128::from(SPREAD) * i128::from(number) / i128::from(self.rows.max(1));
        self.first + i64::try_from(since).unwrap_or(SPREAD)
    }

    /// The first record that happened at `time` or later.
    fn numbered(&self, time: i64) -> u64 {
        let since = i128::from(time) - i128::from(self.first);
        let number = (since * i128::from(self.rows)).div_euclid(i128::from(SPREAD));
        let number = u64::try_from(number.max(0))
            .unwrap_or(u64::MAX)
            .min(self.rows);
        // The quotient above may be one too low.
        let later = |number: &u64| *number == self.rows || self.time(*number) >= time;
        (number.saturating_sub(1)..=self.rows)
            .find(later)
            .unwrap_or(self.rows)
    }
}

/// The word and the bit of a record.
fn slot(number: u64) -> (usize, u64) {
    (
        usize::try_from(number / 64).unwrap_or(0),
        1 << (number % 64),
    )
}

fn time_text(nanos: i64) -> String {
    DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn pattern(mut record: Value, mut dice: Dice) -> Option<Pattern> {
    const UUID: &str = "00000000-0000-4000-8000-000000000000";
    let time = time_text(0);
    record["uuid"] = UUID.into();
    record["occurTime"] = time.as_str().into();
    let text = lengthened(record, RECORD_BYTES, &mut dice)?.to_string();
    Some(Pattern {
        uuid: text.find(UUID)?,
        time: text.find(&time)?,
        text: text.into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn bulk(rows: u64) -> Bulk {
        let start = "2026-01-02T00:00:00Z".parse().unwrap();
        Bulk::new(&World::new(1, start, 1.0), start, rows)
    }

    fn records(bulk: &Bulk, numbers: std::ops::Range<u64>) -> Vec<Value> {
        numbers
            .map(|number| {
                let mut text = Vec::new();
                bulk.write(number, &mut text);
                let length = text.len().abs_diff(RECORD_BYTES);
                assert!(length < 64, "{} bytes", text.len());
                serde_json::from_slice(&text).unwrap()
            })
            .collect()
    }

    #[test]
    fn records_differ_by_id_and_are_in_the_order_of_their_times() {
        let bulk = bulk(1_500);
        let records = records(&bulk, 0..1_500);
        let ids: BTreeSet<&str> = records
            .iter()
            .filter_map(|one| one["uuid"].as_str())
            .collect();
        assert_eq!(ids.len(), 1_500);
        let times: Vec<&str> = records
            .iter()
            .filter_map(|one| one["occurTime"].as_str())
            .collect();
        assert!(times.is_sorted());
        assert_eq!(times[0], "2026-01-01T01:00:00.000Z");
    }

    #[test]
    fn a_time_leads_to_the_first_record_that_did_not_happen_before_it() {
        for rows in [1, 7, 1_000, 1_000_003] {
            let bulk = bulk(rows);
            for number in [0, 1, rows / 3, rows - 1] {
                let number = number.min(rows - 1);
                assert_eq!(
                    bulk.numbered(bulk.time(number)),
                    number,
                    "{number} of {rows}"
                );
                assert_eq!(bulk.numbered(bulk.time(number) + 1), number + 1);
            }
            assert_eq!(bulk.numbered(i64::MIN / 2), 0);
            assert_eq!(bulk.numbered(i64::MAX / 2), rows);
        }
    }

    #[test]
    fn a_record_arrives_once_however_often_it_is_brought() {
        let bulk = bulk(100);
        let mut rows = records(&bulk, 0..60);
        let brought = serde_json::to_vec(&rows).unwrap();
        assert_eq!(bulk.take(&brought).unwrap(), 60);
        assert_eq!(bulk.take(&brought).unwrap(), 60);
        assert_eq!(bulk.arrived(), 60);
        rows = records(&bulk, 60..100);
        for row in &mut rows {
            *row = json!({"recordId": row["uuid"], "other": [1]});
        }
        rows.push(json!({"recordId": "0e2a7a2e-9a9f-4d0b-8d3c-3d4f1f1f0a01"}));
        rows.push(json!({"note": "of health"}));
        bulk.take(&serde_json::to_vec(&rows).unwrap()).unwrap();
        assert_eq!(bulk.arrived(), 100);
        assert!(bulk.take(b"{}").is_err());
    }
}
