//! Rows of a table of advanced hunting, in answers as large as anybody takes them whole.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::pattern::{Pattern, first_at, list};
use crate::simulator::{
    listing::Written,
    world::{
        World,
        defender::exact,
        lane::{HOUR, MINUTE, nanos},
    },
};

/// The table.
pub(crate) const TABLE: &str = "DeviceProcessEvents";

/// The longest record: a few of a live tenant's are far longer.
const RECORD_BYTES: usize = 4_000;

/// The most rows of an hour: one more, and the connector takes the answer for one that was cut.
const HOURLY: u64 = 29_999;

/// The most bytes of an hour: the service refuses a larger answer.
const HOURLY_BYTES: u64 = 49_000_000;

/// In how many of the last hours there are rows, and in which part of each: windows of an hour that
/// begin a little later than this world hold each hour's rows whole.
const HOURS: u64 = 22;
const AT: i64 = 30 * MINUTE;
const FOR: i64 = 20 * MINUTE;

/// The report of the first row: all are as long.
const FIRST_REPORT: u64 = 1_000_000_000;

const DAY: i64 = 24 * HOUR;

/// The rows, by number.
#[derive(Debug)]
pub(crate) struct Hunting {
    rows: u64,
    hourly: u64,
    first: i64,
    patterns: Vec<Pattern>,
}

impl Hunting {
    pub(super) fn new(world: &World, start: DateTime<Utc>, rows: u64) -> Self {
        let defender = world.defender();
        let time = exact(0);
        let report = FIRST_REPORT.to_string();
        let rows_of_world = defender.table(TABLE).into_iter().flat_map(|table| {
            (0..8 * super::PATTERNS as u64).map(move |number| defender.event(table, number))
        });
        let patterns: Vec<Pattern> = rows_of_world
            .filter(|row| row.to_string().len() <= RECORD_BYTES)
            .take(super::PATTERNS)
            .map(|mut row| {
                row["Timestamp"] = time.as_str().into();
                row["ReportId"] = FIRST_REPORT.into();
                Pattern::of(row.to_string(), &[&time, &report])
            })
            .collect();
        let bytes: usize = patterns.iter().map(Pattern::len).sum();
        let whole = HOURLY_BYTES * patterns.len() as u64 / (bytes.max(1) as u64);
        let hours = rows.div_ceil(whole.clamp(1, HOURLY)).clamp(1, HOURS);
        Self {
            rows,
            hourly: rows.div_ceil(hours).max(1),
            first: nanos(start) - DAY + AT,
            patterns,
        }
    }

    /// How many rows there are in `[from, to)`.
    pub(crate) fn count(&self, from: i64, to: i64) -> u64 {
        let [from, to] = [from, to].map(|time| self.numbered(time));
        to.saturating_sub(from)
    }

    /// The answer with the rows of `[from, to)`, `take` of them at most.
    pub(crate) fn answer(
        self: &Arc<Self>,
        before: &Map<String, Value>,
        (from, to): (i64, i64),
        take: usize,
    ) -> Written {
        let from = self.numbered(from);
        let to = self.numbered(to).min(from.saturating_add(take as u64));
        let rows = Arc::clone(self);
        list(before, "results", from..to, move |number, text| {
            rows.write(number, text);
        })
    }

    /// The number of the row with this report.
    pub(super) fn number(report: u64) -> Option<u64> {
        report.checked_sub(FIRST_REPORT)
    }

    fn numbered(&self, time: i64) -> u64 {
        first_at(self.rows, time, |number| self.time(number))
    }

    fn write(&self, number: u64, text: &mut Vec<u8>) {
        let time = exact(self.time(number));
        let report = (FIRST_REPORT + number).to_string();
        super::write(&self.patterns, number, &[&time, &report], text);
    }

    /// When a row happened and was ingested, in whole ticks.
    fn time(&self, number: u64) -> i64 {
        let (hour, place) = (number / self.hourly, number % self.hourly);
        let within = i128::from(FOR) * i128::from(place) / i128::from(self.hourly);
        let within = i64::try_from(within).unwrap_or(FOR);
        let time = self.first + hour.cast_signed() * HOUR + within;
        time - time.rem_euclid(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunting(rows: u64) -> (Arc<Hunting>, i64) {
        let start: DateTime<Utc> = "2026-01-02T00:00:00Z".parse().unwrap();
        let hunting = Hunting::new(&World::new(1, start, 1.0), start, rows);
        (Arc::new(hunting), nanos(start))
    }

    #[test]
    fn windows_of_an_hour_hold_all_rows_once_and_as_many_as_are_taken() {
        for rows in [1, 12_000, 30_000, 100_000, 250_000] {
            let (hunting, start) = hunting(rows);
            // A world that was started a little before the windows were made.
            let later = start + 5 * MINUTE;
            let counts: Vec<u64> = (1..=24)
                .rev()
                .map(|hour| hunting.count(later - hour * HOUR, later - (hour - 1) * HOUR))
                .collect();
            assert_eq!(counts.iter().sum::<u64>(), rows);
            let most = counts.iter().max().unwrap();
            assert!(*most <= 16_000, "{counts:?}");
            assert!(*most >= rows.min(10_000), "{counts:?}");
        }
    }

    #[test]
    fn an_answer_holds_the_rows_of_its_window() {
        let (hunting, start) = hunting(2_000);
        let window = (start - DAY, start);
        let answer = hunting.answer(&Map::new(), window, 1_500);
        let text = answer.pieces.collect::<Vec<_>>().concat();
        let body: Value = serde_json::from_slice(&text).unwrap();
        let rows = body["results"].as_array().unwrap();
        assert_eq!(rows.len(), 1_500);
        for (row, number) in rows.iter().zip(0..) {
            let report = row["ReportId"].as_u64().unwrap();
            assert_eq!(Hunting::number(report), Some(number));
            assert!(row["ProcessCommandLine"].is_string());
        }
        let mean = text.len() / rows.len();
        assert!((3_000..4_000).contains(&mean), "{mean} bytes");
    }
}
