//! What Microsoft Defender sees of the company: its machines, their vulnerabilities, alerts and
//! incidents, and the tables of advanced hunting. Everything is a function of a number and a time,
//! at any size.

mod alert;
mod event;
mod evidence;
mod incident;
mod machine;
mod software;
mod table;
#[cfg(test)]
mod tests;
mod ticks;
mod told;
mod truth;
mod vulnerability;

use super::{
    company::{self, Device},
    ids::{Ids, Kind},
    lane::{HOUR, Lane},
};
use crate::simulator::dice::hash;

pub use self::truth::Version;
pub(crate) use self::{
    alert::Alert,
    incident::Incident,
    machine::Machine,
    software::{Finding, published, snapshot_of, snapshot_time},
    table::{Basis, Table},
    ticks::{exact, parse},
};

/// How large the part of the company is that Defender sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Estate {
    /// How many machines there are; the first 60 are the devices that ESET sees.
    pub machines: u64,
    /// How many pieces of software, most with a vulnerability, are found on a machine.
    pub findings: u64,
    /// How many vulnerabilities the catalogue knows; two of five are found somewhere.
    pub catalogue: u64,
    /// Alerts of a day.
    pub alerts: f64,
    /// Incidents of a day.
    pub incidents: f64,
    /// Events of a day in each table of advanced hunting.
    pub events: f64,
    /// The most machines that one file of an export speaks of.
    pub machines_per_file: u64,
}

impl Default for Estate {
    fn default() -> Self {
        Self {
            machines: super::DEVICES,
            findings: 12,
            catalogue: 600,
            alerts: 140.0,
            incidents: 30.0,
            events: 1500.0,
            machines_per_file: 5000,
        }
    }
}

/// The company as Defender sees it.
#[derive(Debug, Clone)]
pub struct Defender {
    seed: u64,
    ids: Ids,
    start: i64,
    estate: Estate,
    tenant: String,
    alerts: Lane,
    incidents: Lane,
    tables: Vec<Table>,
}

impl Defender {
    /// Its history begins at `origin`; machines come and go around `start`. `scale` multiplies the
    /// number of events.
    pub(crate) fn new(
        seed: u64,
        ids: Ids,
        origin: i64,
        start: i64,
        scale: f64,
        estate: &Estate,
    ) -> Self {
        let lane = |salt: u64, per_day: f64| {
            Lane::new(hash(seed, &[0xdef, salt]), origin, per_day * scale)
        };
        let alerts = lane(1, estate.alerts);
        Self {
            seed,
            ids,
            start,
            estate: estate.clone(),
            tenant: ids.uuid(Kind::Tenant, 1),
            incidents: lane(2, estate.incidents),
            tables: table::all(&alerts, |salt| lane(salt, estate.events)),
            alerts,
        }
    }

    /// How large it is.
    pub fn estate(&self) -> &Estate {
        &self.estate
    }

    /// The tables of advanced hunting.
    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The names of the tables of advanced hunting.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.name.as_str())
    }

    fn device(&self, number: u64) -> Device {
        Device::new(self.seed, self.ids, number)
    }

    /// A name for logons: there is a user and a half for each machine.
    fn user(&self, bits: u64) -> String {
        let users = self.estate.machines.max(1) * 3 / 2;
        company::user(self.seed, bits.checked_rem(users).unwrap_or(0))
    }

    fn hash(&self, words: &[u64]) -> u64 {
        hash(self.seed, words)
    }
}

/// How often what does not depend on events is thought over.
const EPOCH: i64 = 36 * HOUR;
