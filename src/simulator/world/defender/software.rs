//! Vulnerable software by machine. Every six hours a snapshot is made; what changed between two of
//! them is the delta.

use serde_json::{Value, json};

use super::{Defender, ticks, vulnerability::PRODUCTS};
use crate::simulator::world::lane::{DAY, HOUR, MINUTE};

/// The time between two snapshots.
const PERIOD: i64 = 6 * HOUR;
/// How long a snapshot is in the making.
const MAKING: i64 = 7 * MINUTE;
/// How many snapshots one round of a vulnerability that comes and goes takes, and how many of
/// them it is there.
const ROUND: (i64, i64) = (40, 26);
/// How many snapshots pass between two changes of a record.
const REVISION: i64 = 24;

/// The number of the latest snapshot that is published at `now`.
pub(crate) fn published(now: i64) -> i64 {
    (now - MAKING).div_euclid(PERIOD)
}

/// When a snapshot was made (`generatedTime`).
pub(crate) fn snapshot_time(snapshot: i64) -> i64 {
    snapshot * PERIOD + MAKING
}

/// The snapshot whose changes include what happened at `time`.
pub(crate) fn snapshot_of(time: i64) -> i64 {
    time.div_euclid(PERIOD) + 1
}

/// Something that was found on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) machine: u64,
    pub(crate) slot: u64,
    /// None for software without a known vulnerability.
    pub(crate) vulnerability: Option<u64>,
    product: usize,
    group: (u64, &'static str),
    revision: i64,
}

/// How a finding differs from the snapshot before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) finding: Finding,
    pub(crate) status: &'static str,
    pub(crate) time: i64,
}

impl Defender {
    /// The finding in a slot of a machine, as a snapshot has it.
    fn finding(&self, machine: u64, slot: u64, snapshot: i64) -> Option<Finding> {
        let time = snapshot * PERIOD;
        if !self.machine_exists(machine, time) {
            return None;
        }
        let bits = self.hash(&[0x50f0, machine, slot]);
        let phase = (bits >> 32).cast_signed() % ROUND.0;
        let revision = match bits % 20 {
            0 if (snapshot + phase).rem_euclid(ROUND.0) >= ROUND.1 => return None,
            1 => (snapshot + phase).div_euclid(REVISION),
            _ => 0,
        };
        let found = self.found_vulnerabilities();
        let first = self.hash(&[0x50f1, machine]) % found;
        let vulnerability = (slot > 0).then(|| (first + slot * 7919) % found);
        let product = match vulnerability {
            Some(number) => self.product_of(number),
            None => usize::try_from(bits >> 8).unwrap_or(0) % PRODUCTS.len(),
        };
        Some(Finding {
            machine,
            slot,
            vulnerability,
            product,
            group: self.machine_group(machine, time.div_euclid(7 * DAY)),
            revision,
        })
    }

    /// What a snapshot says of some machines.
    pub(crate) fn findings(
        &self,
        machines: std::ops::Range<u64>,
        snapshot: i64,
    ) -> impl Iterator<Item = Finding> + use<'_> {
        let slots = self.estate.findings;
        machines.flat_map(move |machine| {
            (0..slots).filter_map(move |slot| self.finding(machine, slot, snapshot))
        })
    }

    /// How a slot of a machine changed: up to two changes, when the machine moved.
    fn changes_of(&self, machine: u64, slot: u64, snapshot: i64) -> [Option<Change>; 2] {
        let before = self.finding(machine, slot, snapshot - 1);
        let after = self.finding(machine, slot, snapshot);
        let bits = self.hash(&[0x50f2, machine, slot, snapshot.unsigned_abs()]);
        let within = (bits % PERIOD.unsigned_abs()).cast_signed();
        let time = snapshot * PERIOD - 100 - within;
        let time = time - time.rem_euclid(100);
        let change = |finding, status| {
            Some(Change {
                finding,
                status,
                time,
            })
        };
        match (before, after) {
            (None, Some(after)) => [change(after, "New"), None],
            (Some(before), None) => [change(before, "Fixed"), None],
            (Some(before), Some(after)) if before.group != after.group => {
                [change(before, "Fixed"), change(after, "New")]
            }
            (Some(before), Some(after)) if before.revision != after.revision => {
                [change(after, "Updated"), None]
            }
            _ => [None, None],
        }
    }

    /// Everything that changed from the snapshot before to this one.
    pub(crate) fn changes(&self, snapshot: i64) -> impl Iterator<Item = Change> + use<'_> {
        let machines = 0..self.estate.machines;
        machines.flat_map(move |machine| self.changes_of_machine(machine, snapshot))
    }

    /// What changed on one machine.
    pub(crate) fn changes_of_machine(
        &self,
        machine: u64,
        snapshot: i64,
    ) -> impl Iterator<Item = Change> + use<'_> {
        let slots = 0..self.estate.findings;
        slots.flat_map(move |slot| {
            self.changes_of(machine, slot, snapshot)
                .into_iter()
                .flatten()
        })
    }

    /// `product`'s version on a machine: all that is found in it lies in this one.
    fn version(&self, finding: Finding) -> String {
        let bits = self.hash(&[0x50f3, finding.machine, finding.product as u64]);
        format!(
            "{}.{}.{}.0",
            3 + bits % 9,
            (bits >> 8) % 20,
            (bits >> 16) % 900
        )
    }

    /// The id of a finding in the exports.
    pub(crate) fn finding_id(&self, finding: Finding) -> String {
        let (_, name, _) = PRODUCTS[finding.product];
        let cve = finding.vulnerability.map(|number| self.cve(number));
        format!(
            "{}_{name}_{}_{}_",
            self.machine_id(finding.machine),
            self.version(finding),
            cve.unwrap_or_default()
        )
    }

    /// The id of a finding in the list of vulnerabilities by machine and software.
    pub(crate) fn machine_vulnerability_id(&self, finding: Finding) -> Option<String> {
        let (vendor, name, _) = PRODUCTS[finding.product];
        let cve = self.cve(finding.vulnerability?);
        let update = self.update(finding).unwrap_or_default();
        Some(format!(
            "{}-_-{cve}-_-{vendor}-_-{name}-_-{}-_-{update}",
            self.machine_id(finding.machine),
            self.version(finding)
        ))
    }

    /// Its record in that list.
    pub(crate) fn machine_vulnerability(&self, finding: Finding) -> Option<Value> {
        let (vendor, name, _) = PRODUCTS[finding.product];
        let number = finding.vulnerability?;
        Some(json!({
            "id": self.machine_vulnerability_id(finding),
            "cveId": self.cve(number),
            "machineId": self.machine_id(finding.machine),
            "fixingKbId": self.update(finding),
            "productName": name,
            "productVendor": vendor,
            "productVersion": self.version(finding),
            "severity": self.severity(number),
        }))
    }

    /// The severity of the vulnerability, when there is one.
    pub(crate) fn finding_severity(&self, finding: Finding) -> Option<&'static str> {
        finding.vulnerability.map(|number| self.severity(number))
    }

    /// The number of the update that mends it; it never changes.
    fn update(&self, finding: Finding) -> Option<String> {
        let bits = self.hash(&[0x50f4, finding.vulnerability?]);
        bits.is_multiple_of(3)
            .then(|| (5_000_000 + bits % 90_000).to_string())
    }

    /// Its record in the exports, with camelCase members.
    pub(crate) fn finding_record(&self, finding: Finding, snapshot: i64) -> Value {
        let (vendor, name, path) = PRODUCTS[finding.product];
        let number = finding.vulnerability;
        let update = self.update(finding);
        let bits = self.hash(&[0x50f5, finding.machine, finding.slot]);
        let first_seen = self.start - (20 + (bits % 300).cast_signed()) * DAY;
        let last_seen =
            snapshot * PERIOD - (bits >> 20).rem_euclid(DAY.unsigned_abs()).cast_signed();
        let platform = self.machine_platform(finding.machine);
        let link = update
            .as_ref()
            .map(|update| format!("https://updates.example/{update}"));
        json!({
            "id": self.finding_id(finding),
            "deviceId": self.machine_id(finding.machine),
            "rbacGroupId": finding.group.0,
            "rbacGroupName": finding.group.1,
            "deviceName": self.machine_name(finding.machine),
            "osPlatform": platform,
            "osVersion": crate::simulator::world::company::Device::system(self.seed, finding.machine).1,
            "osArchitecture": "x64",
            "softwareVendor": vendor,
            "softwareName": name,
            "softwareVersion": self.version(finding),
            "cveId": number.map(|number| self.cve(number)),
            "cvssScore": number.map(|number| self.score(number)),
            "vulnerabilitySeverityLevel": number.map(|number| self.severity(number)),
            "recommendedSecurityUpdate": update.as_ref().map(|update| format!("Update {update}, revision {}", finding.revision)),
            "recommendedSecurityUpdateId": update,
            "recommendedSecurityUpdateUrl": link,
            "diskPaths": [format!("C:\\Program Files\\{path}")],
            "registryPaths": if bits.is_multiple_of(3) { json!([]) } else { json!([format!("HKEY_LOCAL_MACHINE\\SOFTWARE\\Uninstall\\{name}")]) },
            "lastSeenTimestamp": ticks::bare(last_seen),
            "firstSeenTimestamp": if bits.is_multiple_of(7) { ticks::bare_exact(first_seen) } else { ticks::bare(first_seen) },
            "exploitabilityLevel": number.map_or("NoExploit", |number| self.exploit(number)),
            "recommendationReference": format!("va-_-{vendor}-_-{name}"),
            "securityUpdateAvailable": update.is_some(),
            "isOnboarded": true,
            "cveBatchTitle": null,
            "cveBatchUrl": null,
        })
    }

    /// The record of a change.
    pub(crate) fn change_record(&self, change: Change, snapshot: i64) -> Value {
        let mut record = self.finding_record(change.finding, snapshot);
        record["status"] = json!(change.status);
        record["eventTimestamp"] = json!(ticks::bare_exact(change.time));
        record
    }
}
