//! What must have been read, for who wants to know whether it was.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Alert, Basis, Defender, Incident, software, ticks};
use crate::simulator::world::lane::nanos;

/// A record and the version it stood at: (id, time of the update as the API spells it).
pub type Version = (String, String);

impl Defender {
    /// The ids of the machines that are known at `now`.
    pub fn machine_ids(&self, now: DateTime<Utc>) -> BTreeSet<String> {
        let machines = self.machines(nanos(now));
        machines
            .map(|machine| self.machine_id(machine.number))
            .collect()
    }

    /// The ids of the machines whose last report, as of `now`, lies in `[from, now]`.
    pub fn machines_seen(&self, from: DateTime<Utc>, now: DateTime<Utc>) -> BTreeSet<String> {
        let machines = self.machines(nanos(now));
        machines
            .filter(|machine| machine.last_seen >= nanos(from))
            .map(|machine| self.machine_id(machine.number))
            .collect()
    }

    /// The record of a machine at `now`, when it is known.
    pub fn machine_record(&self, id: &str, now: DateTime<Utc>) -> Option<Value> {
        let machine = self.machine_at(self.machine_number(id)?, nanos(now))?;
        Some(self.machine(machine, nanos(now)))
    }

    /// The ids of `machinesVulnerabilities` at `now`.
    pub fn vulnerability_ids(&self, now: DateTime<Utc>) -> BTreeSet<String> {
        let snapshot = software::published(nanos(now));
        self.findings(0..self.estate.machines, snapshot)
            .filter_map(|finding| self.machine_vulnerability_id(finding))
            .collect()
    }

    /// (id, `updatedOn`) of the entries of the catalogue at `now`.
    pub fn catalogue_versions(&self, now: DateTime<Utc>) -> BTreeSet<Version> {
        (0..self.catalogue_size())
            .map(|number| {
                let updated = self.catalogue_updated(number, nanos(now));
                (self.cve(number), ticks::text(updated))
            })
            .collect()
    }

    /// The ids of the entries of the catalogue that machines are exposed to at `now`.
    pub fn exposed_ids(&self, now: DateTime<Utc>) -> BTreeSet<String> {
        (0..self.catalogue_size())
            .filter(|number| {
                let entry = self.catalogue_entry(*number, nanos(now));
                entry["exposedMachines"].as_u64() > Some(0)
            })
            .map(|number| self.cve(number))
            .collect()
    }

    /// The ids of vulnerable software by machine in the snapshot that is published at `now`, and
    /// when that was generated.
    pub fn software_ids(&self, now: DateTime<Utc>) -> (BTreeSet<String>, DateTime<Utc>) {
        let snapshot = software::published(nanos(now));
        let findings = self.findings(0..self.estate.machines, snapshot);
        (
            findings.map(|finding| self.finding_id(finding)).collect(),
            DateTime::from_timestamp_nanos(software::snapshot_time(snapshot)),
        )
    }

    /// (id, `status`, `eventTimestamp`) of what changed from the snapshot that includes `since` to
    /// the one that is published at `now`.
    pub fn software_changes(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> BTreeSet<(String, String, String)> {
        let mut found = BTreeSet::new();
        for snapshot in software::snapshot_of(nanos(since))..=software::published(nanos(now)) {
            for change in self.changes(snapshot) {
                found.insert((
                    self.finding_id(change.finding),
                    change.status.to_owned(),
                    ticks::bare_exact(change.time),
                ));
            }
        }
        found
    }

    /// (id, update time) of every alert whose version at `now` is of `[from, now]`; those of
    /// endpoints only, as the API of Defender for Endpoint knows them, or all.
    pub fn alert_versions(
        &self,
        endpoint_only: bool,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> BTreeSet<Version> {
        self.alerts_since(nanos(from), nanos(now))
            .filter(|alert| alert.updated >= nanos(from))
            .filter(|alert| !endpoint_only || self.is_endpoint_alert(alert.number))
            .map(|alert| (self.alert_id(alert.number), ticks::text(alert.updated)))
            .collect()
    }

    /// (id, update time) of every version of an alert, current or overtaken, of `[from, to]`.
    pub fn alert_history(
        &self,
        endpoint_only: bool,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> BTreeSet<Version> {
        let (from, to) = (nanos(from), nanos(to));
        self.alerts_since(from, to)
            .filter(|alert| !endpoint_only || self.is_endpoint_alert(alert.number))
            .flat_map(|alert| self.alert_steps(alert.number))
            .filter(|alert| from <= alert.updated && alert.updated <= to)
            .map(|alert| (self.alert_id(alert.number), ticks::text(alert.updated)))
            .collect()
    }

    /// The ids of the alerts that Sentinel itself has raised until `now`.
    pub fn alerts_of_sentinel(&self, now: DateTime<Utc>) -> BTreeSet<String> {
        (0..self.alerts.known(nanos(now)))
            .filter(|number| self.alert_header(*number)[3] == "MicrosoftSentinel")
            .map(|number| self.alert_id(number))
            .collect()
    }

    /// The ids of the incidents that have alerts until `now`, all of them of Sentinel itself.
    pub fn incidents_of_sentinel(&self, now: DateTime<Utc>) -> BTreeSet<String> {
        let is_own = |alert: &Alert| self.alert_header(alert.number)[3] == "MicrosoftSentinel";
        (0..self.incidents.known(nanos(now)))
            .filter(|number| {
                let alerts: Vec<Alert> = self.alerts_of(*number, nanos(now)).collect();
                !alerts.is_empty() && alerts.iter().all(is_own)
            })
            .map(|number| Incident::id(number).to_string())
            .collect()
    }

    /// (id, update time) of every version of an incident of `[from, to]` that has alerts then, all of
    /// them of Sentinel itself.
    pub fn incident_history_of_sentinel(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> BTreeSet<Version> {
        let is_own = |alert: &Alert| self.alert_header(alert.number)[3] == "MicrosoftSentinel";
        self.incident_steps_within(from, to)
            .filter(|incident| {
                let mut alerts = self.alerts_of(incident.number, incident.updated).peekable();
                alerts.peek().is_some() && alerts.all(|alert| is_own(&alert))
            })
            .map(key)
            .collect()
    }

    /// (id, update time) of every incident whose version at `now` is of `[from, now]`.
    pub fn incident_versions(&self, from: DateTime<Utc>, now: DateTime<Utc>) -> BTreeSet<Version> {
        self.incidents_since(nanos(from), nanos(now))
            .filter(|incident| incident.updated >= nanos(from))
            .map(key)
            .collect()
    }

    /// (id, update time) of every version of an incident, current or overtaken, of `[from, to]`.
    pub fn incident_history(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> BTreeSet<Version> {
        self.incident_steps_within(from, to).map(key).collect()
    }

    fn incident_steps_within(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> impl Iterator<Item = Incident> {
        let (from, to) = (nanos(from), nanos(to));
        self.incidents_since(from, to)
            .flat_map(|incident| self.incident_steps(incident.number))
            .filter(move |incident| from <= incident.updated && incident.updated <= to)
    }

    /// The rows of a table of advanced hunting that were ingested (else: that happened) in
    /// `[from, to)` and are there at `now`. Empty for a table that is none.
    pub fn hunting_rows<'a>(
        &'a self,
        table: &str,
        ingested: bool,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = Value> + 'a {
        let basis = if ingested {
            Basis::Ingested
        } else {
            Basis::Happened
        };
        let window = (nanos(from), nanos(to));
        self.table(table).into_iter().flat_map(move |table| {
            table
                .numbers(basis, window.0, window.1, nanos(now))
                .map(move |number| self.event(table, number))
        })
    }
}

fn key(incident: Incident) -> Version {
    (
        Incident::id(incident.number).to_string(),
        ticks::text(incident.updated),
    )
}
