//! As many records as somebody wants to measure with, at next to no cost: some of the company's
//! are written once, and repeated under other ids and times.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{options::BulkOf, sync::lock, world::World};

mod detections;
mod export;
mod hunting;
mod machines;
mod pattern;

use self::{
    detections::Detections, export::Export, hunting::Hunting, machines::Machines, pattern::Pattern,
};

pub(crate) use hunting::TABLE as HUNTING_TABLE;

/// How many different records there are.
const PATTERNS: usize = 1_000;

/// The records, and which of them have arrived.
#[derive(Debug)]
pub(crate) struct Bulk {
    rows: u64,
    made: Made,
    /// One bit for each record.
    arrived: Mutex<Vec<u64>>,
}

/// What makes the records.
#[derive(Debug)]
pub(crate) enum Made {
    Detections(Detections),
    Export(Arc<Export>),
    Hunting(Arc<Hunting>),
    Machines(Arc<Machines>),
}

impl Bulk {
    pub(crate) fn new(world: &World, start: DateTime<Utc>, of: BulkOf, rows: u64) -> Self {
        let made = match of {
            BulkOf::Detections => Made::Detections(Detections::new(world, start, rows)),
            BulkOf::Export => Made::Export(Arc::new(Export::new(world, start, rows))),
            BulkOf::Hunting => Made::Hunting(Arc::new(Hunting::new(world, start, rows))),
            BulkOf::Machines => Made::Machines(Arc::new(Machines::new(world, rows))),
        };
        Self {
            rows,
            made,
            arrived: Mutex::default(),
        }
    }

    /// What answers in place of the company.
    pub(crate) fn made(&self) -> &Made {
        &self.made
    }

    /// Counts the rows of a call, and remembers which records they are of: by `recordId`, or by
    /// the id of a record that was passed on as it was.
    pub(super) fn take(&self, body: &[u8]) -> serde_json::Result<usize> {
        let rows: Vec<Row<'_>> = serde_json::from_slice(body)?;
        let mut arrived = lock(&self.arrived);
        arrived.resize(slot(self.rows).0 + 1, 0);
        let numbers = rows.iter().filter_map(|row| self.number(row));
        for number in numbers.filter(|number| *number < self.rows) {
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

    fn number(&self, row: &Row<'_>) -> Option<u64> {
        let id = row.id.as_deref();
        match &self.made {
            Made::Detections(detections) => detections.number(id?),
            Made::Export(export) => export.number(id?),
            Made::Machines(machines) => machines.number(id?),
            Made::Hunting(_) => {
                let report = row.report.or_else(|| id?.split('|').nth(1)?.parse().ok());
                Hunting::number(report?)
            }
        }
    }
}

/// What tells a row of the table, or a record, from the others.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(
        borrow,
        rename = "recordId",
        alias = "uuid",
        alias = "id",
        alias = "Id"
    )]
    id: Option<Cow<'a, str>>,
    #[serde(rename = "ReportId")]
    report: Option<u64>,
}

/// The word and the bit of a record.
fn slot(number: u64) -> (usize, u64) {
    (
        usize::try_from(number / 64).unwrap_or(0),
        1 << (number % 64),
    )
}

/// Writes a record after the pattern whose turn it is.
fn write(patterns: &[Pattern], number: u64, values: &[&str], text: &mut Vec<u8>) {
    let at = usize::try_from(number).unwrap_or(0) % patterns.len().max(1);
    if let Some(pattern) = patterns.get(at) {
        pattern.write(values, text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn records(bulk: &Bulk, numbers: std::ops::Range<u64>) -> Vec<Value> {
        let Made::Detections(detections) = bulk.made() else {
            return Vec::new();
        };
        numbers
            .map(|number| {
                let mut text = Vec::new();
                detections.write(number, &mut text);
                serde_json::from_slice(&text).unwrap()
            })
            .collect()
    }

    fn bulk(of: BulkOf, rows: u64) -> Bulk {
        let start = "2026-01-02T00:00:00Z".parse().unwrap();
        Bulk::new(&World::new(1, start, 1.0), start, of, rows)
    }

    #[test]
    fn a_record_arrives_once_however_often_it_is_brought() {
        let bulk = bulk(BulkOf::Detections, 100);
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

    #[test]
    fn a_row_of_hunting_is_known_by_its_report() {
        let bulk = bulk(BulkOf::Hunting, 10);
        let rows = json!([
            {"ReportId": 1_000_000_003},
            {"recordId": "d|1000000004|2026-01-01T00:00:00Z|ProcessCreated"},
            {"recordId": "d|1000000010|later than all"},
            {"recordId": "of health"},
        ]);
        bulk.take(rows.to_string().as_bytes()).unwrap();
        assert_eq!(bulk.arrived(), 2);
    }
}
