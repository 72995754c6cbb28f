//! What the tables must hold, from what the world and the simulator know.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::{
    pipeline::{Outcome, Report},
    simulator::{Product, Target},
};

use super::{CLOUD_OFFICE, DETECTIONS, HISTORY, INCIDENTS, World};

/// One run of a stream, as far as it saw the world.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) began: DateTime<Utc>,
    pub(crate) ended: DateTime<Utc>,
    /// None when the run was stopped.
    pub(crate) outcome: Option<Outcome>,
}

impl Look {
    pub(super) fn begin(began: DateTime<Utc>) -> Self {
        Self {
            began,
            ended: began,
            outcome: None,
        }
    }

    pub(super) fn end(&mut self, ended: DateTime<Utc>, outcome: Outcome) {
        self.ended = ended;
        self.outcome = Some(outcome);
    }
}

/// How the tables differ from the world.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) missing: BTreeSet<String>,
    pub(crate) strange: BTreeSet<String>,
    pub(crate) repeated: BTreeMap<String, u64>,
}

impl World {
    /// How often each record of a stream has landed, by id, and for incidents by version.
    pub(crate) async fn landed(&self, stream: &str) -> BTreeMap<String, u64> {
        let (table, id) = if stream == INCIDENTS {
            (
                "IntegrationTableIncidents_CL",
                "recordId || ' ' || recordVersion",
            )
        } else {
            ("IntegrationTable_CL", "recordId")
        };
        let sql = format!(
            "SELECT {id}, count(*) FROM {table} WHERE providerName = 'ESET' \
             AND streamName = '{stream}' GROUP BY 1"
        );
        let rows = self.rows(&sql).await.into_iter();
        rows.map(|row| {
            let times = row[1].as_deref().unwrap().parse().unwrap();
            (row[0].clone().unwrap(), times)
        })
        .collect()
    }

    /// What must have landed of a stream, and what may have: a run sees the world somewhere between
    /// its beginning and its end.
    pub(crate) fn expected(&self, stream: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let looks = &self.looks[stream];
        let done = |look: &&Look| matches!(look.outcome, Some(Outcome::UpToDate));
        let (first, last) = (&looks[0], looks.last().unwrap());
        let first_end = looks.iter().find(done).unwrap_or(last).ended;
        let last_done = looks.iter().rev().find(done).unwrap_or(first).began;
        if stream == INCIDENTS {
            let settled = last_done - TimeDelta::seconds(30);
            return self.incidents((first.began, first_end), settled, last);
        }
        let products: &[Product] = match stream {
            DETECTIONS => &[Product::Protect, Product::Inspect],
            _ => &[Product::CloudOffice],
        };
        let world = self.simulator.world();
        let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
        for product in products {
            let history =
                |from: DateTime<Utc>, to| world.detection_ids(*product, from - HISTORY, to, to);
            must.extend(history(first_end, last_done));
            must.extend(world.arrivals(*product, first_end, last_done));
            may.extend(history(first.began, last.ended));
            may.extend(world.arrivals(*product, first.began, last.ended));
        }
        (must, may)
    }

    /// Which versions come by depends on when one asks: the current one of the last question must
    /// be there, and none that never was.
    fn incidents(
        &self,
        (first, first_end): (DateTime<Utc>, DateTime<Utc>),
        settled: DateTime<Utc>,
        last: &Look,
    ) -> (BTreeSet<String>, BTreeSet<String>) {
        let world = self.simulator.world();
        let name = |(id, version): (String, String)| {
            let version = version.parse::<DateTime<Utc>>().unwrap();
            // Seven digits of a second are what a column takes.
            let ticks = version.timestamp_subsec_nanos() / 100;
            format!("{id} {}.{ticks:07}Z", version.format("%Y-%m-%dT%H:%M:%S"))
        };
        let current = world.incident_versions(first_end - HISTORY, last.ended);
        let must = current
            .into_iter()
            .filter(|(_, version)| version.parse::<DateTime<Utc>>().unwrap() < settled);
        let may = world.incident_history(first - HISTORY, last.ended);
        (
            must.map(name).collect(),
            may.into_iter().map(name).collect(),
        )
    }

    /// All detections, whichever stream brings them.
    pub(crate) fn expected_of_all_products(&self) -> BTreeSet<String> {
        let streams = [DETECTIONS, CLOUD_OFFICE];
        streams
            .iter()
            .flat_map(|stream| self.expected(stream).0)
            .collect()
    }

    /// True when this is the one more, late report of a detection that may have landed.
    pub(crate) fn is_late(&self, stream: &str, id: &str) -> bool {
        let world = self.simulator.world();
        let (_, may) = self.expected(stream);
        may.iter()
            .any(|known| world.late_id(known).as_deref() == Some(id))
    }

    pub(crate) async fn difference(&self, stream: &str) -> Difference {
        let (must, may) = self.expected(stream);
        let landed = self.landed(stream).await;
        let ids: BTreeSet<String> = landed.keys().cloned().collect();
        Difference {
            missing: must.difference(&ids).cloned().collect(),
            strange: ids.difference(&may).cloned().collect(),
            repeated: landed.into_iter().filter(|(_, times)| *times > 1).collect(),
        }
    }

    /// The tables hold what the world knows: nothing less, nothing more, nothing twice; and so say
    /// the reports.
    pub(crate) async fn assert_complete(&self, context: &str) {
        for endpoint in &self.streams {
            self.assert_stream_complete(endpoint.stream, context).await;
        }
        self.assert_accounts(context).await;
    }

    pub(crate) async fn assert_stream_complete(&self, stream: &str, context: &str) {
        let difference = self.difference(stream).await;
        assert_eq!(
            difference,
            Difference::default(),
            "{context}: {stream}: {:#?}",
            self.looks[stream]
        );
    }

    /// What the simulator served, what the reports say, and what the tables hold, are one number
    /// each.
    pub(crate) async fn assert_accounts(&self, context: &str) {
        let served = self.served();
        for endpoint in &self.streams {
            let stream = endpoint.stream;
            let sum = |count: fn(&Report) -> u64| self.reports_of(stream).map(count).sum::<u64>();
            let rows = self.landed(stream).await.into_values().sum::<u64>();
            assert_eq!(
                sum(|report| report.counts.landed),
                rows,
                "{context}: {stream}"
            );
            let letters =
                format!("SELECT count(*) FROM connector_dead_letters WHERE stream = '{stream}'");
            assert_eq!(
                sum(|report| report.counts.dead),
                self.number(&letters).await,
                "{context}: {stream}: dead letters"
            );
            let (pulled, served) = (
                sum(|report| report.counts.pulled),
                served.get(stream).copied().unwrap_or_default(),
            );
            // A writer that fails leaves what was read ahead of it, a run that is stopped what it was
            // about to read.
            let cut = |report: &Report| matches!(report.outcome, Outcome::Failed | Outcome::Behind);
            let same = pulled == served || pulled < served && self.reports_of(stream).any(cut);
            assert!(
                same,
                "{context}: {stream}: served {served}, pulled {pulled}"
            );
        }
    }

    /// How many records the simulator has served to each stream.
    pub(crate) fn served(&self) -> BTreeMap<String, u64> {
        let mut served = self.served_before.clone();
        for call in self.simulator.calls() {
            if let Some(stream) = call.target.and_then(stream_of) {
                *served.entry(stream.to_owned()).or_default() += call.records as u64;
            }
        }
        served
    }

    /// True when this simulator has served records of a target.
    pub(crate) fn was_served(&self, target: Target) -> bool {
        let calls = self.simulator.calls();
        calls
            .iter()
            .any(|call| call.target == Some(target) && call.records > 0)
    }

    /// How many calls of a target were answered with a status.
    pub(crate) fn answered(&self, target: Target, status: u16) -> usize {
        let calls = self.simulator.calls();
        let hits = |call: &&sentinel_connector::simulator::Call| {
            call.target == Some(target) && call.status == status
        };
        calls.iter().filter(hits).count()
    }
}

/// The stream whose records a target lists.
pub(crate) fn stream_of(target: Target) -> Option<&'static str> {
    match target {
        Target::EsetDetections | Target::EsetDetectionsWindow => Some(DETECTIONS),
        Target::EsetCloudOffice | Target::EsetCloudOfficeWindow => Some(CLOUD_OFFICE),
        Target::EsetIncidents => Some(INCIDENTS),
        _ => None,
    }
}
