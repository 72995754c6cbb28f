//! The outside world as one seeded company: a pure function of (seed, start, now).
//!
//! Nothing is stored but the company itself. An event is computed from its number when somebody
//! asks for it, and its number can be found from a time or from its uuid, so a world of any size
//! costs nothing until a page of it is read.

mod company;
pub mod defender;
pub(crate) mod detection;
mod facts;
pub(crate) mod ids;
pub(crate) mod incident;
pub(crate) mod lane;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::{
    company::Company,
    defender::{Defender, Estate},
    facts::Facts,
    ids::{Ids, Kind},
    lane::{DAY, Lane, nanos},
};

pub(crate) use self::company::DEVICES;
pub use self::lane::Finest;

/// How many days of history exist before the start, at least.
pub const HISTORY_DAYS: i64 = 7;

/// The product that a detection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Product {
    /// ESET PROTECT: endpoints.
    Protect,
    /// ESET Inspect: EDR rules.
    Inspect,
    /// ESET Cloud Office Security: mail and cloud drives.
    CloudOffice,
}

impl Product {
    /// All products.
    pub const ALL: [Self; 3] = [Self::Protect, Self::Inspect, Self::CloudOffice];

    fn kind(self) -> Kind {
        match self {
            Self::Protect => Kind::Protect,
            Self::Inspect => Kind::Inspect,
            Self::CloudOffice => Kind::CloudOffice,
        }
    }

    fn per_day(self) -> f64 {
        match self {
            Self::Protect => 900.0,
            Self::Inspect => 350.0,
            Self::CloudOffice => 250.0,
        }
    }
}

const INCIDENTS_PER_DAY: f64 = 25.0;
/// Where the product stands in the number of a late report.
const LATE_SHIFT: u32 = 48;

/// The company and everything that ever happens to it.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) ids: Ids,
    pub(crate) company: Company,
    lanes: [Lane; 3],
    pub(crate) incidents: Lane,
    defender: Defender,
}

impl World {
    /// The world of `seed` whose history begins a week before `start`, with `scale` times the
    /// usual number of events.
    pub fn new(seed: u64, start: DateTime<Utc>, scale: f64) -> Self {
        Self::with_estate(seed, start, scale, &Estate::default(), Finest::Nanos)
    }

    /// That world, with as much for Microsoft Defender to see as `estate` says, and with ESET's
    /// times written as `finest` says, at most.
    pub fn with_estate(
        seed: u64,
        start: DateTime<Utc>,
        scale: f64,
        estate: &Estate,
        finest: Finest,
    ) -> Self {
        let start = nanos(start);
        let origin = start - start.rem_euclid(DAY) - HISTORY_DAYS * DAY;
        let lane = |salt: u64, per_day: f64| {
            Lane::new(super::dice::hash(seed, &[salt]), origin, per_day * scale).written(finest)
        };
        let ids = Ids::new(seed);
        Self {
            seed,
            ids,
            company: Company::new(seed, ids, finest),
            lanes: Product::ALL.map(|product| lane(product as u64, product.per_day())),
            incidents: lane(9, INCIDENTS_PER_DAY),
            defender: Defender::new(seed, ids, origin, start, scale, estate),
        }
    }

    /// The company as Microsoft Defender sees it.
    pub fn defender(&self) -> &Defender {
        &self.defender
    }

    pub(crate) fn lane(&self, product: Product) -> &Lane {
        &self.lanes[product as usize]
    }

    /// How many detections of `product` the service knows at `now`.
    pub fn known(&self, product: Product, now: DateTime<Utc>) -> u64 {
        self.lane(product).known(nanos(now))
    }

    /// The uuid of a detection.
    pub fn detection_id(&self, product: Product, number: u64) -> String {
        self.ids.uuid(product.kind(), number)
    }

    /// The detection that a uuid names, whether or not it is known yet.
    pub fn find_detection(&self, uuid: &str) -> Option<(Product, u64)> {
        let (kind, number) = match self.ids.parse(uuid)? {
            // A late report names the event that it reports.
            (Kind::Late, packed) => {
                let product = usize::try_from(packed >> LATE_SHIFT).ok()?;
                (
                    Product::ALL.get(product)?.kind(),
                    packed & ((1 << LATE_SHIFT) - 1),
                )
            }
            found => found,
        };
        Product::ALL
            .into_iter()
            .find(|product| product.kind() == kind)
            .map(|found| (found, number))
    }

    /// The uuid of one more, late report of a detection.
    pub fn late_id(&self, uuid: &str) -> Option<String> {
        let (product, number) = self.find_detection(uuid)?;
        Some(
            self.ids
                .uuid(Kind::Late, (product as u64) << LATE_SHIFT | number),
        )
    }

    pub(crate) fn device_of(&self, product: Product, number: u64) -> u64 {
        facts::device_of(self.seed, product, number)
    }

    /// The v1 record of a detection.
    pub fn detection_v1(&self, product: Product, number: u64) -> Value {
        let facts = Facts::new(self.seed, product, self.lane(product), number);
        detection::v1(&facts, &self.detection_id(product, number), &self.company)
    }

    /// The v2 record of a detection.
    pub fn detection_v2(&self, product: Product, number: u64) -> Value {
        let facts = Facts::new(self.seed, product, self.lane(product), number);
        detection::v2(
            &facts,
            &self.detection_id(product, number),
            &self.company,
            self.ids,
        )
    }

    /// The detections that happened in `[from, to)` and are known at `now`.
    pub fn detection_ids(
        &self,
        product: Product,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> BTreeSet<String> {
        let lane = self.lane(product);
        lane.occurring(nanos(from), nanos(to), 0, lane.known(nanos(now)))
            .map(|number| self.detection_id(product, number))
            .collect()
    }

    /// The detections that arrived in `(after, to]`: what a delta token of `after` brings at `to`.
    pub fn arrivals(
        &self,
        product: Product,
        after: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> BTreeSet<String> {
        (self.known(product, after)..self.known(product, to))
            .map(|number| self.detection_id(product, number))
            .collect()
    }

    /// (uuid, `updateTime`) of every incident whose current version at `now` was updated in
    /// `[from, now]`. The time is spelled as the API spells it.
    pub fn incident_versions(
        &self,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> BTreeSet<(String, String)> {
        self.incidents_since(nanos(from), nanos(now))
            .filter(|version| version.updated.nanos >= nanos(from))
            .map(|version| self.version_key(version))
            .collect()
    }

    /// (uuid, `updateTime`) of every version, current or overtaken, that came to be in
    /// `[from, to]`.
    pub fn incident_history(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> BTreeSet<(String, String)> {
        let (from, to) = (nanos(from), nanos(to));
        self.incidents_since(from, to)
            .flat_map(|current| self.incident_steps(current.number))
            .filter(|version| from <= version.updated.nanos && version.updated.nanos <= to)
            .map(|version| self.version_key(version))
            .collect()
    }

    /// The record of an incident as it stands at `now`, with its uuids.
    pub fn incident_record(&self, uuid: &str, now: DateTime<Utc>) -> Option<Value> {
        match self.ids.parse(uuid)? {
            (Kind::Incident, number) => {
                Some(self.incident(self.incident_at(number, nanos(now))?, true))
            }
            _ => None,
        }
    }

    /// The names of all devices by uuid.
    pub fn device_names(&self) -> BTreeMap<String, String> {
        let devices = self.company.devices.iter();
        devices
            .map(|device| (device.uuid.clone(), device.name.clone()))
            .collect()
    }

    fn version_key(&self, version: incident::Version) -> (String, String) {
        (
            self.ids.uuid(Kind::Incident, version.number),
            version.updated.text(),
        )
    }
}
