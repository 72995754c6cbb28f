//! ESET Connect: tokens, detections, incidents and devices of one tenant.

mod detections;
mod devices;
mod filter;
mod incidents;
pub(super) mod query;
mod token;

use std::{collections::VecDeque, sync::Mutex};

use chrono::{DateTime, TimeDelta, Utc};

use self::query::Query;
pub(crate) use self::token::Logins;
use super::{
    Inner,
    answer::{Answer, Incoming},
    sync::lock,
    world::lane::nanos,
};

/// The version of the API that a detection is told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    V1 = 1,
    V2,
}

/// A call that needs an access token.
#[derive(Debug)]
pub(crate) enum Call {
    Feed { shape: Shape, delta: bool },
    Detection { shape: Shape, uuid: String },
    DetectionsBatch,
    Incidents,
    Incident { uuid: String },
    Devices,
    DevicesBatch,
    Device { uuid: String },
}

/// An answer, or the refusal of one.
pub(super) type Outcome = Result<Answer, Answer>;

impl Inner {
    /// Everything but tokens, for a caller who was let in; `page_size` caps what the client asks for.
    pub(crate) fn eset(&self, call: &Call, incoming: &Incoming, page_size: u64) -> Answer {
        let query =
            |allowed: &[&str]| Query::parse(self.options.seed, incoming, allowed, page_size);
        let now = nanos(self.clock.now());
        let outcome = match call {
            Call::Feed {
                shape: Shape::V1,
                delta: false,
            } => query(&[
                "deviceUuid",
                "startTime",
                "endTime",
                "pageSize",
                "pageToken",
            ])
            .and_then(|query| self.window(Shape::V1, &query, now)),
            Call::Feed {
                shape: Shape::V2,
                delta: false,
            } => query(&[
                "cloudOfficeTenantUuid",
                "startTime",
                "endTime",
                "pageSize",
                "pageToken",
            ])
            .and_then(|query| self.window(Shape::V2, &query, now)),
            Call::Feed { shape, delta: true } => query(&["deltaToken", "pageSize", "pageToken"])
                .and_then(|query| self.delta(*shape, &query, now)),
            Call::Detection { shape, uuid } => {
                query(&[]).and_then(|_| self.detection(*shape, uuid, now))
            }
            Call::DetectionsBatch => {
                query(&[]).and_then(|_| self.detections_batch(&incoming.body, now))
            }
            Call::Incidents => query(&["filter", "orderBy", "pageSize", "pageToken"])
                .and_then(|query| self.incidents(&query, now)),
            Call::Incident { uuid } => query(&[]).and_then(|_| self.one_incident(uuid, now)),
            Call::Devices => {
                query(&["pageSize", "pageToken"]).map(|query| self.devices(&query, now))
            }
            Call::DevicesBatch => {
                query(&["devicesUuids"]).and_then(|query| self.devices_batch(&query, now))
            }
            Call::Device { uuid } => query(&[]).and_then(|_| self.one_device(uuid, now)),
        };
        outcome.unwrap_or_else(|refused| refused)
    }
}

/// Counts the calls of the last second.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<VecDeque<DateTime<Utc>>>);

impl Limiter {
    /// Whether one more call may pass.
    pub(crate) fn admits(&self, limit: Option<usize>, now: DateTime<Utc>) -> bool {
        let Some(limit) = limit else { return true };
        let mut calls = lock(&self.0);
        while calls
            .front()
            .is_some_and(|call| *call <= now - TimeDelta::seconds(1))
        {
            calls.pop_front();
        }
        let admitted = calls.len() < limit;
        if admitted {
            calls.push_back(now);
        }
        admitted
    }
}
