//! Who has raised an incident that comes without its alerts, by what the stream of alerts has read.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use xxhash_rust::xxh3::xxh3_64;

use super::filter::{Filter, is_sentinel};
use crate::core::json::{chunk::Chunk, record::JsonObject, time::parse_time};

/// Stands for an incident that has an alert of Sentinel's own, or one of others.
fn mark(incident: &str, is_own: bool) -> u64 {
    let whose: &[u8] = if is_own { b"\0own" } else { b"\0other" };
    xxh3_64(&[incident.as_bytes(), whose].concat())
}

/// The members of alerts that name their incident and their source, where that is to be noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertMembers {
    incident: &'static str,
    source: &'static str,
}

impl AlertMembers {
    /// Those that the filters of a stream of alerts name.
    pub fn of(filters: &[Filter]) -> Option<Self> {
        filters.iter().find_map(|filter| match filter {
            Filter::TellsIncident(incident, source) => Some(Self { incident, source }),
            _ => None,
        })
    }

    /// What the alerts of a chunk say and is not `known` yet. An alert without a source counts as one
    /// of others.
    pub fn news(self, chunk: &Chunk, known: &mut HashSet<u64>) -> Vec<u64> {
        let mut news = Vec::new();
        for at in 0..chunk.handy() {
            let Ok(members) = chunk.members(at) else {
                continue;
            };
            let Some(incident) = members.text(self.incident) else {
                continue;
            };
            let source = members.text(self.source);
            let mark = mark(&incident, source.is_some_and(|source| is_sentinel(&source)));
            if known.insert(mark) {
                news.push(mark);
            }
        }
        news
    }
}

/// The members of incidents that name them and their times, and the stream of their alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncidentMembers {
    /// The stream that reads alerts.
    pub alerts: &'static str,
    id: &'static str,
    opened: &'static str,
    changed: &'static str,
}

impl IncidentMembers {
    /// Those that the filters of a stream of incidents name.
    pub fn of(filters: &[Filter]) -> Option<Self> {
        filters.iter().find_map(|filter| match *filter {
            Filter::OwnByAlerts {
                alerts,
                id,
                opened,
                changed,
            } => Some(Self {
                alerts,
                id,
                opened,
                changed,
            }),
            _ => None,
        })
    }
}

/// What is known of the alerts of incidents.
#[derive(Debug)]
pub struct Raised {
    /// Where an incident says what is asked of it.
    pub members: IncidentMembers,
    /// All alerts are known of incidents that were opened since.
    pub since: DateTime<Utc>,
    /// Up to when alerts were read.
    pub read_until: DateTime<Utc>,
    /// What alerts have said.
    pub known: HashSet<u64>,
}

impl Raised {
    /// Whether Sentinel raised all alerts of an incident. One that was opened before the first alert
    /// that was read, or has changed since the last one, can't be told.
    pub fn is_own(&self, incident: &JsonObject<'_>) -> Option<bool> {
        let time = |member| incident.text(member).and_then(|text| parse_time(&text));
        let id = incident.text(self.members.id)?;
        if self.known.contains(&mark(&id, false)) {
            return Some(false);
        }
        let is_told = self.known.contains(&mark(&id, true))
            && time(self.members.opened)? >= self.since
            && time(self.members.changed)? <= self.read_until;
        is_told.then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INCIDENT: Filter = Filter::OwnByAlerts {
        alerts: "alerts",
        id: "id",
        opened: "opened",
        changed: "changed",
    };

    #[test]
    fn an_incident_is_sentinels_when_all_its_alerts_are_and_all_of_them_were_read() {
        let alerts = AlertMembers::of(&[Filter::TellsIncident("of", "by")]).unwrap();
        let alert = |of: &str, by: &str| format!(r#"{{"of":"{of}","by":"{by}"}}"#);
        let chunk = Chunk::of(&[
            alert("1", "microsoftSentinel"),
            alert("2", "microsoftSentinel"),
            alert("2", "microsoft365Defender"),
            r#"{"of":"3"}"#.to_owned(),
        ]);
        let mut known = HashSet::new();
        assert_eq!(alerts.news(&chunk, &mut known).len(), 4);
        assert_eq!(alerts.news(&chunk, &mut known), [0; 0]);
        let raised = Raised {
            members: IncidentMembers::of(&[INCIDENT]).unwrap(),
            since: "2026-01-02T00:00:00Z".parse().unwrap(),
            read_until: "2026-01-05T00:00:00Z".parse().unwrap(),
            known,
        };
        let is_own = |id: &str, opened: u32, changed: u32| {
            let incident = format!(
                r#"{{"id":"{id}","opened":"2026-01-0{opened}T00:00:00Z","changed":"2026-01-0{changed}T00:00:00Z"}}"#
            );
            raised.is_own(&JsonObject::of(incident.as_bytes()).unwrap())
        };
        assert_eq!(is_own("1", 2, 5), Some(true));
        assert_eq!(is_own("1", 1, 5), None, "an alert may be older");
        assert_eq!(is_own("1", 2, 6), None, "an alert may be newer");
        assert_eq!(is_own("2", 2, 5), Some(false));
        assert_eq!(is_own("3", 2, 5), Some(false), "it does not say whose");
        assert_eq!(is_own("4", 2, 5), None, "none was read");
    }
}
