//! Vulnerabilities: the catalogue of all that are known, and where they were found.

use std::sync::Arc;

use super::{
    Bends, Outcome, list,
    machines::{literal, page},
    odata::{
        JsonObject,
        Kind::{Number, Text, Time},
        Literal,
    },
    query::{Query, Rules},
};
use crate::simulator::{
    Inner,
    answer::Incoming,
    target::Target,
    world::defender::{Finding, parse, published},
};

const CATALOGUE_FILTER: JsonObject = &[
    ("id", Text),
    ("name", Text),
    ("description", Text),
    ("cvssV3", Number),
    ("publishedOn", Time),
    ("severity", Text),
    ("updatedOn", Time),
];
const CATALOGUE: Rules = Rules {
    target: Target::DefenderCatalogue,
    also: &[],
    filter: CATALOGUE_FILTER,
    top: 8000,
    skip: u64::MAX,
    clamps: false,
};

const FOUND_FILTER: JsonObject = &[
    ("id", Text),
    ("cveId", Text),
    ("machineId", Text),
    ("fixingKbId", Text),
    ("productName", Text),
    ("productVersion", Text),
    ("severity", Text),
    ("productVendor", Text),
];
const FOUND: Rules = Rules {
    target: Target::DefenderVulnerabilities,
    also: &[],
    filter: FOUND_FILTER,
    top: 10_000,
    skip: u64::MAX,
    clamps: false,
};

impl Inner {
    /// `GET /api/vulnerabilities`.
    pub(super) fn catalogue(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let query = Query::parse(self.options.seed, incoming, &CATALOGUE, bends)?;
        let defender = self.world.defender();
        let admitted = |number: &u64| {
            query.filter.admits(&|member| match member {
                "updatedOn" => Literal::Time(defender.catalogue_updated(*number, now)),
                "publishedOn" => {
                    let entry = defender.catalogue_entry(*number, now);
                    let time = entry[member].as_str().and_then(parse);
                    time.map_or(Literal::Null, Literal::Time)
                }
                member => literal(&defender.catalogue_entry(*number, now)[member]),
            })
        };
        let all = (0..defender.catalogue_size()).filter(admitted);
        let (page, _) = page(all, &query, bends);
        let world = Arc::clone(&self.world);
        let count = page.len();
        let records = page
            .into_iter()
            .map(move |number| world.defender().catalogue_entry(number, now));
        Ok(list::value(
            incoming,
            "Vulnerabilities",
            count,
            Box::new(records),
            None,
        ))
    }

    /// `GET /api/vulnerabilities/machinesVulnerabilities`.
    pub(super) fn machine_vulnerabilities(
        &self,
        incoming: &Incoming,
        now: i64,
        bends: &Bends,
    ) -> Outcome {
        let query = Query::parse(self.options.seed, incoming, &FOUND, bends)?;
        let defender = self.world.defender();
        let admitted = |finding: &Finding| {
            query.filter.admits(&|member| match member {
                "severity" => {
                    let severity = defender.finding_severity(*finding);
                    severity.map_or(Literal::Null, |text| Literal::Text(text.to_owned()))
                }
                member => {
                    let record = defender.machine_vulnerability(*finding).unwrap_or_default();
                    literal(&record[member])
                }
            })
        };
        let machines = 0..defender.estate().machines;
        let all = defender
            .findings(machines, published(now))
            .filter(|finding| finding.vulnerability.is_some() && admitted(finding));
        let (page, _) = page(all, &query, bends);
        let world = Arc::clone(&self.world);
        let count = page.len();
        let records = page
            .into_iter()
            .filter_map(move |finding| world.defender().machine_vulnerability(finding));
        let kind = "Collection(microsoft.windowsDefenderATP.api.PublicAssetVulnerabilityDto)";
        Ok(list::value(incoming, kind, count, Box::new(records), None))
    }
}
