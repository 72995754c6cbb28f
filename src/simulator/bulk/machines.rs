//! Machines that report, and otherwise stay as they are.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::pattern::{Pattern, list};
use crate::simulator::{
    listing::Written,
    world::{
        World,
        defender::{Machine, exact},
        ids::{Ids, Kind},
        lane::{DAY, HOUR},
    },
};

/// When what is said of them was found out: they are the same in every world of one seed.
const SINCE: i64 = 20_000 * DAY;

/// The machines, by number.
#[derive(Debug)]
pub(crate) struct Machines {
    ids: Ids,
    rows: u64,
    patterns: Vec<Pattern>,
}

impl Machines {
    pub(super) fn new(world: &World, rows: u64) -> Self {
        let defender = world.defender();
        let id = "#".repeat(40);
        let last_seen = exact(0);
        let patterns = (0..super::PATTERNS as u64)
            .map(|number| {
                let machine = Machine {
                    number,
                    last_seen: SINCE,
                };
                let mut record = defender.machine(machine, SINCE);
                record["id"] = id.as_str().into();
                record["lastSeen"] = last_seen.as_str().into();
                Pattern::of(record.to_string(), &[&id, &last_seen])
            })
            .collect();
        Self {
            ids: world.ids,
            rows,
            patterns,
        }
    }

    /// A page of the list; none of them has reported in the last hour.
    pub(crate) fn page(
        self: &Arc<Self>,
        before: &Map<String, Value>,
        skip: usize,
        top: usize,
        now: i64,
    ) -> Written {
        let from = (skip as u64).min(self.rows);
        let to = from.saturating_add(top as u64).min(self.rows);
        let machines = Arc::clone(self);
        list(before, "value", from..to, move |number, text| {
            machines.write(number, now, text);
        })
    }

    pub(super) fn number(&self, id: &str) -> Option<u64> {
        self.ids.parse_hex(Kind::Machine, id)
    }

    fn write(&self, number: u64, now: i64, text: &mut Vec<u8>) {
        let id = self.ids.hex(Kind::Machine, number);
        let spread = (DAY - 2 * HOUR) / i64::try_from(self.rows.max(1)).unwrap_or(i64::MAX);
        let last_seen = exact(now - HOUR - spread * number.cast_signed());
        super::write(&self.patterns, number, &[&id, &last_seen], text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(start: &str, skip: usize) -> Vec<Value> {
        let start = start.parse().unwrap();
        let world = World::new(1, start, 1.0);
        let machines = Arc::new(Machines::new(&world, 2_500));
        let now = crate::simulator::world::lane::nanos(start);
        let page = machines.page(&Map::new(), skip, 2_000, now);
        let text = page.pieces.collect::<Vec<_>>().concat();
        let mut body: Value = serde_json::from_slice(&text).unwrap();
        let records: Vec<Value> = serde_json::from_value(body["value"].take()).unwrap();
        for (record, number) in records.iter().zip(skip as u64..) {
            assert_eq!(
                machines.number(record["id"].as_str().unwrap()),
                Some(number)
            );
        }
        records
    }

    #[test]
    fn machines_differ_from_day_to_day_by_their_last_report_alone() {
        let (mut before, mut after) = (
            page("2026-01-02T00:00:00Z", 0),
            page("2026-01-03T01:02:03Z", 0),
        );
        assert_eq!(before.len(), 2_000);
        assert_ne!(before, after);
        for record in before.iter_mut().chain(&mut after) {
            record["lastSeen"].take();
        }
        assert_eq!(before, after);
        assert_eq!(page("2026-01-02T00:00:00Z", 2_000).len(), 500);
    }
}
