//! How many calls an app may make: by API, for a minute and for an hour.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use chrono::{DateTime, Utc};

use super::errors;
use crate::simulator::{answer::Answer, entra::App, sync::lock, target::Target};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// (calls, seconds)
type Quota = (u64, i64);

/// The quotas of the API that `target` belongs to, and a name for what shares them.
fn quotas(target: Target) -> (&'static str, &'static [Quota]) {
    match target {
        Target::DefenderExport => ("export", &[(5, MINUTE), (20, HOUR)]),
        Target::DefenderSoftware => ("software", &[(30, MINUTE), (1000, HOUR)]),
        Target::DefenderChanges => ("changes", &[(30, MINUTE), (1000, HOUR)]),
        Target::DefenderXdrIncidents => ("xdr", &[(50, MINUTE), (1500, HOUR)]),
        Target::DefenderHunting => ("hunting", &[(45, MINUTE)]),
        Target::DefenderAlerts | Target::DefenderIncidents => ("graph", &[(150, MINUTE)]),
        Target::DefenderMdeAlerts => ("alerts", &[(100, MINUTE), (1500, HOUR)]),
        Target::DefenderCatalogue | Target::DefenderVulnerabilities => {
            ("vulnerabilities", &[(100, MINUTE), (1500, HOUR)])
        }
        _ => ("machines", &[(100, MINUTE), (1500, HOUR)]),
    }
}

/// The times of the calls of the last hour, by what shares a quota.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Quotas(Mutex<HashMap<(&'static str, u64), VecDeque<i64>>>);

impl Quotas {
    /// Counts one more call, or refuses it in the words of the service.
    pub(super) fn admit(
        &self,
        enforced: bool,
        target: Target,
        app: App,
        now: DateTime<Utc>,
    ) -> Result<(), Answer> {
        if !enforced {
            return Ok(());
        }
        let now = now.timestamp();
        let (name, quotas) = quotas(target);
        let mut all = lock(&self.0);
        let calls = all.entry((name, app as u64)).or_default();
        while calls.front().is_some_and(|call| *call <= now - HOUR) {
            calls.pop_front();
        }
        for (limit, window) in quotas {
            let first = calls.partition_point(|call| *call <= now - window);
            if (calls.len() - first) as u64 >= *limit {
                let wait = calls.get(first).map_or(1, |call| call + window - now);
                let wait = wait.max(1).unsigned_abs();
                let answer = if target.is_graph() {
                    errors::graph_quota()
                } else {
                    let shown = if *window == HOUR {
                        "01:00:00"
                    } else {
                        "00:01:00"
                    };
                    errors::quota(*limit, shown, Some(wait))
                };
                return Err(answer.with_header("retry-after", wait.to_string()));
            }
        }
        calls.push_back(now);
        Ok(())
    }
}
