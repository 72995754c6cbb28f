//! Devices: the list, some of them, one of them.

use serde_json::{Value, json};

use super::{
    Outcome,
    query::{Page, Query},
};
use crate::simulator::{Inner, answer::Answer, world::DEVICES};

impl Inner {
    /// `GET /v1/devices`.
    pub(super) fn devices(&self, query: &Query, now: i64) -> Answer {
        let snapshot = query.page.map_or(now, |page| page.snapshot);
        let start = query.page.map_or(0, |page| page.index);
        let end = start.saturating_add(query.size as u64).min(DEVICES);
        let records: Vec<Value> = (start..end)
            .map(|number| self.world.company.device(number, snapshot))
            .collect();
        let next = (end < DEVICES).then_some(Page {
            snapshot,
            lane: 0,
            index: end,
            total: 0,
        });
        Answer::ok(json!({"devices": records, "nextPageToken": query.next(next)}))
    }

    /// `GET /v1/devices:batchGet`: all or nothing.
    pub(super) fn devices_batch(&self, query: &Query, now: i64) -> Outcome {
        let uuids: Vec<&str> = query.all("devicesUuids").collect();
        if uuids.is_empty() {
            return Err(Answer::bad_request());
        }
        let find = |uuid: &&str| self.world.company.device_number(uuid);
        let numbers: Option<Vec<u64>> = uuids.iter().map(find).collect();
        let records: Vec<Value> = numbers
            .ok_or_else(Answer::not_found)?
            .into_iter()
            .map(|number| self.world.company.device(number, now))
            .collect();
        Ok(Answer::ok(json!({"devices": records})))
    }

    /// `GET /v1/devices/{uuid}`.
    pub(super) fn one_device(&self, uuid: &str, now: i64) -> Outcome {
        let number = self
            .world
            .company
            .device_number(uuid)
            .ok_or_else(Answer::not_found)?;
        Ok(Answer::ok(
            json!({"device": self.world.company.device(number, now)}),
        ))
    }
}
