//! Detections: by window, by delta token, by uuid.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Outcome, Shape,
    query::{Page, Query},
};
use crate::simulator::{
    Inner,
    answer::Answer,
    bulk::Made,
    dice::Dice,
    options::V2Carries,
    world::{Product, lane::HOUR},
};

/// Above this the service breaks…
const BATCH_BREAKS: usize = 100;
/// …and above this it refuses.
const BATCH_MAX: usize = 1000;

/// So much later lists show what they show late.
const LATER: i64 = HOUR / 2;

/// What a page takes of each product.
enum Take {
    /// Events of a time.
    Window {
        from: i64,
        to: i64,
        device: Option<u64>,
    },
    /// Arrivals since these positions.
    Since([u64; 3]),
}

impl Inner {
    fn products(&self, shape: Shape) -> &'static [Product] {
        match (shape, self.options.v2_carries) {
            (Shape::V1, _) => &[Product::Protect, Product::Inspect],
            (Shape::V2, V2Carries::OnlyCloudOffice) => &[Product::CloudOffice],
            (Shape::V2, _) => &Product::ALL,
        }
    }

    /// `GET /v{1,2}/detections`.
    pub(super) fn window(&self, shape: Shape, query: &Query, now: i64) -> Outcome {
        let carries = self.options.v2_carries;
        if let Some(Made::Detections(bulk)) = self.made()
            && (shape == Shape::V1 || carries != V2Carries::OnlyCloudOffice)
        {
            return bulk.window(shape, query, now);
        }
        // An unknown device has no detections.
        let device = query
            .get("deviceUuid")
            .map(|uuid| self.world.company.device_number(uuid).unwrap_or(u64::MAX));
        let take = Take::Window {
            from: query.time("startTime")?.unwrap_or(i64::MIN / 2),
            to: query.time("endTime")?.unwrap_or(i64::MAX / 2),
            device,
        };
        let now = match (shape, carries) {
            (Shape::V2, V2Carries::Later) => now - LATER,
            _ => now,
        };
        let snapshot = query.page.map_or(now, |page| page.snapshot);
        let total = match query.page {
            Some(page) => page.total,
            None if shape == Shape::V1 => self
                .products(shape)
                .iter()
                .map(|product| self.numbers(&take, *product, 0, snapshot).count() as u64)
                .sum(),
            None => 0,
        };
        let (records, next) = self.page(shape, &take, query, snapshot, total);
        let mut page = json!({"detections": records, "nextPageToken": query.next(next)});
        if shape == Shape::V1 {
            page["totalSize"] = json!(total);
        }
        Ok(Answer::ok(page))
    }

    /// `GET /v{1,2}/detections:listDelta`.
    pub(super) fn delta(&self, shape: Shape, query: &Query, now: i64) -> Outcome {
        if let (Some(Made::Detections(bulk)), Shape::V1) = (self.made(), shape) {
            return bulk.delta(query);
        }
        let snapshot = query.page.map_or(now, |page| page.snapshot);
        let end = Product::ALL.map(|product| self.world.lane(product).known(snapshot));
        let since = match query.get("deltaToken") {
            Some("latest") => end,
            Some(token) => query.open_delta(token).ok_or_else(Answer::bad_request)?,
            None => return Err(Answer::bad_request()),
        };
        let (records, next) = self.page(shape, &Take::Since(since), query, snapshot, 0);
        Ok(Answer::ok(json!({
            "createdDetections": records,
            "nextPageToken": query.next(next),
            "nextDeltaToken": if next.is_some() { String::new() } else { query.seal_delta(end) },
        })))
    }

    /// The detections to take of one product, from number `start` on.
    fn numbers<'a>(
        &'a self,
        take: &Take,
        product: Product,
        start: u64,
        snapshot: i64,
    ) -> Box<dyn Iterator<Item = u64> + 'a> {
        let lane = self.world.lane(product);
        let end = lane.known(snapshot);
        match *take {
            Take::Since(positions) => Box::new(start.max(positions[product as usize])..end),
            Take::Window {
                from,
                to,
                device: None,
            } => Box::new(lane.occurring(from, to, start, end)),
            Take::Window {
                from,
                to,
                device: Some(device),
            } => {
                let of_device =
                    move |number: &u64| self.world.device_of(product, *number) == device;
                Box::new(lane.occurring(from, to, start, end).filter(of_device))
            }
        }
    }

    /// One page of records, in no order, and where the next one begins.
    fn page(
        &self,
        shape: Shape,
        take: &Take,
        query: &Query,
        snapshot: i64,
        total: u64,
    ) -> (Vec<Value>, Option<Page>) {
        let (first, index) = query.page.map_or((0, 0), |page| (page.lane, page.index));
        let mut found = Vec::with_capacity(query.size);
        let mut next = None;
        'products: for (lane, product) in self.products(shape).iter().enumerate().skip(first) {
            let start = if lane == first { index } else { 0 };
            for number in self.numbers(take, *product, start, snapshot) {
                if found.len() == query.size {
                    next = Some(Page {
                        snapshot,
                        lane,
                        index: number,
                        total,
                    });
                    break 'products;
                }
                found.push((*product, number));
            }
        }
        let salt = found.first().map_or(0, |(_, number)| *number);
        Dice::new(self.options.seed, &[0x0bde5, salt]).shuffle(&mut found);
        let records = found.into_iter().map(|(product, number)| match shape {
            Shape::V1 => self.world.detection_v1(product, number),
            Shape::V2 => self.in_list(product, number),
        });
        (records.collect(), next)
    }

    /// A record as the lists of v2 tell it.
    fn in_list(&self, product: Product, number: u64) -> Value {
        let mut record = self.world.detection_v2(product, number);
        if product == Product::CloudOffice {
            return record;
        }
        match self.options.v2_carries {
            V2Carries::OtherIds => {
                let other = record["uuid"].as_str().map(|uuid| match uuid.split_at(1) {
                    ("0", rest) => format!("1{rest}"),
                    (_, rest) => format!("0{rest}"),
                });
                record["uuid"] = json!(other);
            }
            V2Carries::FewerMembers => {
                if let Some(members) = record.as_object_mut() {
                    members.remove("process");
                }
            }
            V2Carries::OnlyCloudOffice | V2Carries::AlsoInspect | V2Carries::Later => {}
        }
        record
    }

    /// `GET /v{1,2}/detections/{uuid}`.
    pub(super) fn detection(&self, shape: Shape, uuid: &str, now: i64) -> Outcome {
        let record = self
            .detail(shape, uuid, now)
            .ok_or_else(Answer::not_found)?;
        Ok(Answer::ok(json!({"detection": record})))
    }

    /// `POST /v2/detections:batchGet`: all or nothing.
    pub(super) fn detections_batch(&self, body: &[u8], now: i64) -> Outcome {
        let body: Value = serde_json::from_slice(body).map_err(|_| Answer::bad_request())?;
        let uuids = body["detectionUuids"]
            .as_array()
            .ok_or_else(Answer::bad_request)?;
        match uuids.len() {
            0 => return Err(Answer::bad_request()),
            count if count > BATCH_MAX => return Err(Answer::bad_request()),
            count if count > BATCH_BREAKS => {
                return Err(Answer::status(StatusCode::INTERNAL_SERVER_ERROR));
            }
            _ => {}
        }
        if let Some(Made::Detections(bulk)) = self.made() {
            return bulk.batch(uuids);
        }
        let mut records = Vec::with_capacity(uuids.len());
        for uuid in uuids {
            let uuid = uuid.as_str().ok_or_else(Answer::bad_request)?;
            records.push(
                self.detail(Shape::V2, uuid, now)
                    .ok_or_else(Answer::not_found)?,
            );
        }
        let salt = records.len() as u64;
        Dice::new(self.options.seed, &[0x0ba7c, salt]).shuffle(&mut records);
        Ok(Answer::ok(json!({"detections": records})))
    }

    fn detail(&self, shape: Shape, uuid: &str, now: i64) -> Option<Value> {
        let (product, number) = self.world.find_detection(uuid)?;
        if number >= self.world.lane(product).known(now) {
            return None;
        }
        let mut record = match (shape, product) {
            (Shape::V1, Product::CloudOffice) => return None,
            (Shape::V1, _) => self.world.detection_v1(product, number),
            (Shape::V2, _) => self.world.detection_v2(product, number),
        };
        // A late report of an event has a uuid of its own.
        record["uuid"] = json!(uuid);
        Some(record)
    }
}
