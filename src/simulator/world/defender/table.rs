//! The tables of advanced hunting: their columns, and when their rows happened and were ingested.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::simulator::{
    dice::{Dice, hash_text},
    world::lane::{Lane, MINUTE, SECOND},
};

/// Every 64th row has a time ahead of its ingestion: the clock of its device is fast.
const SKEW_STRIDE: u64 = 64;
const SKEW_AT: u64 = 11;
const SKEW: i64 = 29 * MINUTE;

#[derive(Deserialize)]
struct File {
    tables: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    columns: Vec<String>,
}

/// The file that the connector reads too.
static SCHEMA: LazyLock<BTreeMap<String, Entry>> = LazyLock::new(|| {
    let text = include_str!("../../../../schemas/defender-xdr.json");
    // Whether it can be read is a test's business.
    serde_json::from_str(text).map_or_else(|_| BTreeMap::new(), |file: File| file.tables)
});

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Time,
    Long,
    Int,
    Bool,
    Dynamic,
}

impl Type {
    /// As the schema of an answer spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "String",
            Self::Time => "DateTime",
            Self::Long => "Int64",
            Self::Int => "Int32",
            Self::Bool => "SByte",
            Self::Dynamic => "Object",
        }
    }
}

/// Which time of a row a window is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// `ingestion_time()`.
    Ingested,
    /// `Timestamp`.
    Happened,
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<(String, Type)>,
    pub(super) salt: u64,
    lane: Lane,
}

/// All tables; that of alerts has one row for each alert.
pub(super) fn all(alerts: &Lane, lane: impl Fn(u64) -> Lane) -> Vec<Table> {
    let table = |(name, entry): (&String, &Entry)| {
        let salt = hash_text(0x7ab, name);
        let column = |text: &String| {
            let (name, kind) = text.split_once(':').unwrap_or((text, "string"));
            let kind = match kind {
                "datetime" => Type::Time,
                "long" => Type::Long,
                "int" => Type::Int,
                "bool" => Type::Bool,
                "dynamic" => Type::Dynamic,
                _ => Type::Text,
            };
            (name.to_owned(), kind)
        };
        Table {
            name: name.clone(),
            columns: entry.columns.iter().map(column).collect(),
            salt,
            lane: if name == "AlertInfo" {
                alerts.clone()
            } else {
                lane(salt)
            },
        }
    };
    SCHEMA.iter().map(table).collect()
}

impl Table {
    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, _)| name == column)
    }

    /// When a row was ingested, in whole ticks.
    pub(crate) fn ingested(&self, number: u64) -> i64 {
        whole(self.lane.arrival(number))
    }

    /// `Timestamp`, in whole ticks.
    pub(crate) fn happened(&self, number: u64) -> i64 {
        if number % SKEW_STRIDE == SKEW_AT {
            let ahead = Dice::new(self.salt, &[1, number])
                .range(SECOND.unsigned_abs(), SKEW.unsigned_abs());
            return whole(self.lane.arrival(number) + ahead.cast_signed());
        }
        whole(self.lane.occurred(number).nanos)
    }

    /// The rows of `[from, to)` that are there at `now`; in no order by time of the event.
    pub(crate) fn numbers(
        &self,
        basis: Basis,
        from: i64,
        to: i64,
        now: i64,
    ) -> Box<dyn Iterator<Item = u64> + Send + '_> {
        let end = self.lane.known(now);
        match basis {
            Basis::Ingested => {
                let to = self.lane.arriving(to).min(end);
                Box::new(self.lane.arriving(from)..to)
            }
            Basis::Happened => {
                let skewed = |number: &u64| number % SKEW_STRIDE == SKEW_AT;
                let first = self.lane.arriving(from.saturating_sub(SKEW));
                let first = first + (SKEW_AT + SKEW_STRIDE - first % SKEW_STRIDE) % SKEW_STRIDE;
                let ahead = (first..self.lane.arriving(to).min(end))
                    .step_by(64)
                    .filter(move |number| (from..to).contains(&self.happened(*number)));
                let usual = self.lane.occurring(from, to, 0, end);
                Box::new(usual.filter(move |number| !skewed(number)).chain(ahead))
            }
        }
    }
}

fn whole(time: i64) -> i64 {
    time - time.rem_euclid(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::world::lane::{DAY, HOUR};

    fn tables() -> Vec<Table> {
        let lane = |salt| Lane::new(salt, 0, 2000.0);
        all(&lane(1), lane)
    }

    #[test]
    fn the_schema_names_the_tables_of_the_guide() {
        let tables = tables();
        assert_eq!(tables.len(), 21);
        let columns: usize = tables.iter().map(|table| table.columns.len()).sum();
        assert_eq!(columns, 711);
        for table in &tables {
            assert!(
                table
                    .columns
                    .contains(&("Timestamp".to_owned(), Type::Time)),
                "{}",
                table.name
            );
            let names: std::collections::BTreeSet<_> = table.columns.iter().map(|c| &c.0).collect();
            assert_eq!(names.len(), table.columns.len(), "{}", table.name);
        }
    }

    #[test]
    fn a_window_finds_what_a_full_scan_finds() {
        let table = &tables()[4];
        let now = 6 * DAY;
        let known = table.lane.known(now);
        for (from, to) in [
            (2 * DAY, 3 * DAY),
            (4 * DAY + 500, 4 * DAY + HOUR),
            (0, 9 * DAY),
        ] {
            for (basis, time) in [
                (Basis::Ingested, Table::ingested as fn(&Table, u64) -> i64),
                (Basis::Happened, Table::happened),
            ] {
                let mut found: Vec<u64> = table.numbers(basis, from, to, now).collect();
                found.sort_unstable();
                let scan: Vec<u64> = (0..known)
                    .filter(|number| (from..to).contains(&time(table, *number)))
                    .collect();
                assert_eq!(found, scan, "{basis:?}");
                assert!(!found.is_empty());
            }
        }
    }

    #[test]
    fn some_rows_come_late_and_some_come_from_the_future() {
        let table = &tables()[4];
        let lags: Vec<i64> = (0..20_000)
            .map(|number| table.ingested(number) - table.happened(number))
            .collect();
        assert!(lags.iter().any(|lag| *lag > 24 * HOUR));
        let ahead = lags.iter().filter(|lag| **lag < 0).count();
        assert_eq!(ahead, 20_000 / 64 + 1);
        assert!(lags.iter().all(|lag| *lag >= -SKEW));
    }
}
